"""InfoNCE and CSG over several steps, against a float64 recomputation."""

import pytest
import torch

import synreal
from tests.reference.steps import NormToy, close, train_beside_a_shadow
from tests.regularizers.contract import Toy, attached, batch, bits, optimizer_of, same_bits, tiny, train


def attend(name, student=None, **settings):
    return synreal.attach(Toy() if student is None else student, tiny(name, **settings)).train()


def parts(model, name):
    return list(model.terms[name].contrasts.values())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("info_nce", {}),
        ("info_nce", {"pooling": "attentional", "weight": 0.3}),
        ("info_nce", {"teacher": "average", "average_momentum": 0.7}),
        ("info_nce", {"stages": (2,), "temperature": 0.5, "queue_size": 5}),
        ("info_nce", {"patches": 2, "queue_size": 20}),
        ("csg", {}),
        ("csg", {"patches": 2, "stages": (3,), "stage_weights": (0.5,)}),
        ("csg", {"pooling": "gap", "momentum": 0.0}),
        ("csg", {"momentum": 0.5, "stages": (4, 3), "stage_weights": (0.25, 2.0)}),
    ],
)
def test_four_steps_agree_with_the_equations(name, settings):
    shadow = train_beside_a_shadow(name, **settings)
    for part, queue, second in zip(parts(shadow.model, name), shadow.queues, shadow.second_heads, strict=True):
        assert len(part.queue.ordered()) == len(queue)
        close(part.queue.ordered(), torch.stack(list(queue)), 1e-5)
        for held, want in zip(part.key_head.average.layers.parameters(), second.parameters(), strict=True):
            close(held, want, 1e-5)


@pytest.mark.parametrize("norm", ["own", "averaged"])
def test_four_steps_with_batch_norm_agree(norm):
    settings = {"teacher": "average", "average_norm": norm, "average_momentum": 0.7}
    shadow = train_beside_a_shadow("info_nce", NormToy(), tolerance=1e-4, **settings)
    for key, value in shadow.average.blocks.state_dict().items():
        if value.is_floating_point():
            close(shadow.model.averages["0"].network.blocks.state_dict()[key], value, 1e-4)


def test_the_first_step_has_no_negatives_and_the_second_has_those_of_the_first():
    model = attend("info_nce")
    optimizer = optimizer_of(model)
    assert float(train(model, optimizer, 1)["penalty"].detach()) == 0
    for part in parts(model, "info_nce"):
        assert int(part.queue.count) == 4
    assert float(train(model, optimizer, 1, first=1)["penalty"].detach()) > 0
    assert [int(part.queue.count) for part in parts(model, "info_nce")] == [8, 8]


@pytest.mark.parametrize("patches", [1, 2])
def test_each_patch_of_an_image_enters_the_queue_once(patches):
    model, _ = attached("csg", Toy(), steps=2, patches=patches, queue_size=100)
    assert [int(part.queue.count) for part in parts(model, "csg")] == [8 * patches**2] * 2


def test_csg_is_info_nce_with_attention():
    models = []
    for name in ("csg", "info_nce"):
        torch.manual_seed(3)
        models.append(attached(name, Toy(), steps=2, pooling="attentional")[0])
    first, second = models
    assert same_bits({k.replace("terms.csg", "terms.info_nce"): v for k, v in bits(first).items()}, bits(second))
    defaults = {key: field.default for key, field in type(first.specs[0]).model_fields.items()}
    assert defaults == {
        **{key: field.default for key, field in type(second.specs[0]).model_fields.items()},
        "pooling": "attentional",
    }


def test_average_pooling_spares_the_extra_pass():
    for name in ("csg", "info_nce"):
        nets = {run.shared.net for run in attend(name, pooling="gap").extra_runs}
        assert nets == {"reference"}
        assert {run.shared.net for run in attend(name, pooling="attentional").extra_runs} == {"reference", "student"}
    average = attend("info_nce", teacher="average")
    assert {run.shared.net for run in average.extra_runs} == {"average"}
    assert average.reference is None


@pytest.mark.parametrize("name", ["info_nce", "csg", "causal_invariance", "gcisg"])
def test_a_random_queue_is_full_of_unit_vectors_and_the_same_each_time(name):
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        models.append(attend(name, queue_start="random"))
    first, second = ({k: v for k, v in bits(model).items() if ".queue." in k} for model in models)
    assert same_bits(first, second)
    banks = [value for key, value in first.items() if key.endswith("bank")]
    assert len(banks) == 2
    for bank in banks:
        torch.testing.assert_close(bank.norm(dim=1), torch.ones(12))
        assert len(bank.unique(dim=0)) == 12
        assert abs(float(bank.mean())) < 0.2  # directions of all signs
    counts = [int(value) for key, value in first.items() if key.endswith("count")]
    assert counts == [12, 12]
    state = torch.get_rng_state()
    empty = attend(name, Toy(), queue_start="empty")
    after_empty = torch.get_rng_state()
    torch.set_rng_state(state)
    attend(name, Toy(), queue_start="random")
    assert torch.equal(after_empty, torch.get_rng_state())  # heads are drawn alike whatever the queue
    assert [int(v) for k, v in bits(empty).items() if k.endswith("count")] == [0, 0]
    assert float(models[0](*batch(0)[:2])["penalty"].detach()) > 0


def test_micro_batches_all_enter_the_queue():
    model = attend("info_nce", queue_size=100)
    optimizer = optimizer_of(model)
    for micro in range(3):
        output = model(*batch(micro)[:2])
        (output["output"].sum() * 0 + output["penalty"]).backward()
    assert [int(part.queue.count) for part in parts(model, "info_nce")] == [0, 0]
    optimizer.step()
    assert [int(part.queue.count) for part in parts(model, "info_nce")] == [12, 12]
