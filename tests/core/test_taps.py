import copy
import gc
import pickle
import weakref

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

import synreal
from synreal.core.stages import find_stages, resolve
from synreal.core.taps import FeatureTap, tapped, without_hooks
from synreal.errors import StageError
from tests.regularizers.contract import Toy, batch, hooks, network, optimizer_of, tiny, train

IMAGES = batch(0, rows=2)[0]


def tap_of(model, wanted=(3, 4), entry=""):
    return FeatureTap(model, list(resolve(model, wanted, entry=entry).values()), entry=entry)


def test_a_tap_reads_what_the_module_gave():
    model = Toy().eval()
    tap = tap_of(model)
    with tap.record() as maps:
        model(IMAGES)
    assert list(maps) == ["3", "4"]
    assert torch.equal(maps["4"], model.blocks(IMAGES))
    assert torch.equal(maps["3"], model.blocks[:4](IMAGES))
    maps["4"].sum().backward()
    assert model.blocks[0][0].weight.grad.any()


def test_the_entrys_input_is_taken_once():
    class Normalizing(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Toy()

        def forward(self, images):
            return self.encoder(2 * images)

    model = Normalizing()
    tap = FeatureTap(model, list(find_stages(model, entry="encoder").values()), entry="encoder")
    with tap.record():
        model(IMAGES)
    assert torch.equal(tap.take_input(), 2 * IMAGES)
    with pytest.raises(AttributeError):
        tap.take_input()


def test_taps_do_not_change_the_output():
    model = Toy()
    want = model(IMAGES)
    tap = tap_of(model)
    assert torch.equal(model(IMAGES), want)
    with tap.record():
        assert torch.equal(model(IMAGES), want)


def test_outside_a_recording_nothing_is_kept():
    model = Toy()
    tap = tap_of(model)
    kept = []
    handle = model.blocks[4].register_forward_hook(lambda _module, _args, output: kept.append(weakref.ref(output)))
    model(IMAGES)
    with tap.record() as maps:
        model(IMAGES)
    assert kept[1]() is maps["4"]
    del maps
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
    handle.remove()


def test_a_stage_that_does_not_run_is_named():
    model = Toy()
    tap = tap_of(model)
    with pytest.raises(StageError, match=r"Stage 4 \(blocks\.4\) did not run"), tap.record():
        model.blocks[:4](IMAGES)


def test_a_stage_that_runs_twice_is_named():
    model = Toy()
    tap = tap_of(model)
    with pytest.raises(StageError, match="Stage 3 ran twice"), tap.record():
        [model(IMAGES) for _ in range(2)]


def test_a_student_that_runs_a_stage_twice_is_refused_in_training():
    class Siamese(Toy):
        def forward(self, images):
            return super().forward(images) + (super().forward(images.flip(3)) if self.training else 0)

    model = synreal.attach(Siamese(), tiny("feature_l2")).train()
    with pytest.raises(StageError, match="Stage 4 ran twice"):
        model(IMAGES)
    assert model.eval()(IMAGES)["output"].shape == (2, 3)


def test_after_an_error_the_tap_is_silent_and_usable():
    model = Toy()
    tap = tap_of(model)
    model.fc.register_forward_pre_hook(lambda *_: 1 / 0 if broken else None)
    broken = True
    with pytest.raises(ZeroDivisionError), tap.record():
        model(IMAGES)
    broken = False
    model(IMAGES)
    with tap.record() as maps:
        model(IMAGES)
    assert list(maps) == ["3", "4"]


def test_removing_a_tap_leaves_no_hook_and_no_map():
    student = Toy()
    model = synreal.attach(student, [tiny("csg"), tiny("feature_l2")]).train()
    refs = []
    handle = student.blocks[4].register_forward_hook(lambda _module, _args, output: refs.append(weakref.ref(output)))
    train(model, optimizer_of(model), 2)
    handle.remove()
    assert hooks(student) == 3
    assert refs
    gc.collect()
    assert not any(ref() is not None for ref in refs)
    model.detach()
    assert hooks(student) == 0
    assert not tapped(student)


def test_eval_keeps_nothing_alive():
    student = Toy()
    refs = []
    model = synreal.attach(student, tiny("feature_l2")).eval()
    student.blocks[4].register_forward_hook(lambda _module, _args, output: refs.append(weakref.ref(output)))
    with torch.no_grad():
        output = model(IMAGES)
    gc.collect()
    assert refs[0]() is None
    assert list(output) == ["output"]


def test_removing_leaves_other_hooks_alone():
    model = Toy()
    model.blocks[4].register_forward_hook(lambda *_: None)
    tap = tap_of(model)
    tap.remove()
    tap.remove()
    assert hooks(model) == 1


def test_without_hooks_strips_taps_alone():
    model = Toy()
    model.blocks[4].register_forward_hook(lambda *_: None)
    tap_of(model)
    copied = without_hooks(copy.deepcopy(model))
    assert (hooks(copied), hooks(model)) == (1, 4)
    assert tapped(model)
    assert not tapped(copied)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copied_student_writes_nothing_into_the_originals_recording(way):
    model = Toy()
    tap = tap_of(model)
    copied = way(model)
    with tap.record() as maps:
        model(IMAGES)
        copied(2 * IMAGES)
    assert torch.equal(maps["4"], model.blocks(IMAGES))
    with pytest.raises(StageError, match="did not run"), tap.record():
        copied(IMAGES)


def test_a_map_that_changed_its_layout_is_refused():
    class ChannelsLast(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    model = Toy()
    tap = tap_of(model)
    model.blocks[4].append(ChannelsLast())
    model.fc = nn.Identity()
    with pytest.raises(StageError, match=r"Stage 4 \(blocks\.4\) gave \(2, 2, 2, 16\)"), tap.record():
        model(IMAGES)


def test_a_change_in_place_is_noticed():
    model = Toy()
    tap = tap_of(model)
    model.blocks[4].register_forward_hook(lambda module, args, output: output.mul_(2))
    with pytest.raises(StageError, match="stage 4 was changed in place"), tap.record():
        model(IMAGES)


class InPlace(Toy):
    """Like torchvision's DenseNet: a ReLU in place on the map of the last stage."""

    def forward(self, images):
        return self.fc(F.relu_(self.blocks(images)).mean((2, 3)))


def test_a_student_that_changes_a_map_in_place_is_refused():
    student = InPlace()
    student.blocks[4][2] = nn.Identity()  # the map is signed, so that the ReLU changes it
    with pytest.raises(StageError, match="stage 4 was changed in place"):
        synreal.attach(student, tiny("feature_l2")).train()(IMAGES)


def test_checkpointing_around_a_stage_fails_when_attaching():
    student = timm.create_model("test_resnet")
    student.set_grad_checkpointing(True)
    with pytest.raises(StageError, match=r"No hook fired at stage .*set_grad_checkpointing"):
        synreal.attach(student, tiny("csg"))
    assert hooks(student) == 0


def test_a_detour_taken_later_fails_in_the_first_step():
    student = network()
    model = synreal.attach(student, tiny("feature_l2")).train()
    student.set_grad_checkpointing(True)
    with pytest.raises(StageError, match=r"Stage 4 \(layer4\) did not run"):
        model(IMAGES)


def test_reentrant_checkpointing_is_refused():
    class Reentrant(Toy):
        def forward(self, images):
            run = torch.utils.checkpoint.checkpoint
            return self.fc(run(self.blocks, images.requires_grad_(), use_reentrant=True).mean((2, 3)))

    model = synreal.attach(Reentrant(), tiny("feature_l2", stages=(3, 4))).train()
    with pytest.raises(StageError, match=r"stage 3 carries no gradient .*use_reentrant=False"):
        model(IMAGES.clone())


def test_checkpointing_without_reentrance_gives_the_same_gradient():
    class Checkpointed(Toy):
        def forward(self, images):
            features = torch.utils.checkpoint.checkpoint(self.blocks, images, use_reentrant=False)
            return self.fc(features.mean((2, 3)))

    gradients = []
    for kind in (Toy, Checkpointed):
        torch.manual_seed(0)
        model = synreal.attach(kind(), tiny("feature_l2")).train()
        with torch.no_grad():
            model.student.blocks[0][0].weight.mul_(1.5)
        output = model(IMAGES)
        (output["output"].sum() + output["penalty"]).backward()
        gradients.append(model.student.blocks[0][0].weight.grad)
    assert gradients[0].any()
    assert torch.equal(gradients[0], gradients[1])
