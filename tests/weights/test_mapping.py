import builtins
import pickle

import pytest
import timm
import torch
from torch import nn

from synreal.errors import WeightsError
from synreal.weights import create_backbone
from synreal.weights.mapping import map_by_flat_name, map_by_order
from tests.weights.networks import SMALL, same_tensors, small_state


@pytest.mark.parametrize(
    ("packaged", "complaint"),
    [
        ({"a.weight": (2, 3)}, "carries 1 tensors, timm's network has 2"),
        ({"a.weight": (3, 2), "a.bias": (2,)}, r"a.weight \(3, 2\) stands where timm's network has b.weight \(2, 3\)"),
        ({"a.weight": (2, 3), "a.running_mean": (2,)}, r"a.running_mean \(2,\) stands where .* b.bias"),
    ],
)
def test_mapping_by_order_checks_count_shape_and_kind(packaged, complaint):
    packaged = {name: torch.zeros(shape) for name, shape in packaged.items()}
    with pytest.raises(WeightsError, match=complaint):
        map_by_order(packaged, nn.ModuleDict({"b": nn.Linear(3, 2)}).state_dict(), "pkg")


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        ({"a_0.weight": (2, 3), "extra": (1,)}, r"has a tensor extra \(1,\), the pretrained network none of that name"),
        ({"a_0.weight": (3, 3)}, r"has a tensor a_0.weight \(3, 3\), the pretrained network one of \(2, 3\)"),
        ({"a_0.weight": (2, 3), "b.weight": (1,)}, "lacks tensors from within the pretrained network: pos_embed"),
    ],
)
def test_an_encoder_that_is_not_the_networks(part, complaint):
    whole = {
        name: torch.rand(shape)
        for name, shape in {
            "cls_token": (1,),
            "a.0.weight": (2, 3),
            "pos_embed": (4,),
            "b.weight": (1,),
            "fc.bias": (3,),
        }.items()
    }
    with pytest.raises(WeightsError, match=complaint):
        map_by_flat_name(whole, {name: torch.zeros(shape) for name, shape in part.items()}, "net")
    mapped = map_by_flat_name(whole, {"model.a_0.weight": torch.zeros(2, 3)}, "net")
    assert same_tensors(mapped, {"model.a_0.weight": whole["a.0.weight"]})


def test_names_that_flattening_would_mix_up():
    whole = {"a.b_c": torch.zeros(1), "a_b.c": torch.ones(1)}
    with pytest.raises(WeightsError, match="differ by dots alone"):
        map_by_flat_name(whole, {"a.b_c": torch.zeros(1)}, "net")


@pytest.mark.parametrize("kept", ["both", "none", "weight"])
def test_a_file_for_other_classes_keeps_the_classifier_fresh(tmp_path, kept):
    state = small_state(num_classes=1000)
    for key in {"both": [], "none": ["fc.weight", "fc.bias"], "weight": ["fc.bias"]}[kept]:
        del state[key]
    torch.save(state, tmp_path / "w.pth")
    torch.manual_seed(1)
    fresh = timm.create_model(SMALL, num_classes=3).state_dict()
    torch.manual_seed(1)
    model = create_backbone(SMALL, num_classes=3, weights=str(tmp_path / "w.pth"))[0].state_dict()
    for key, value in model.items():
        assert torch.equal(value, fresh[key] if key.startswith("fc.") else state[key])


def test_a_file_without_the_backbones_tensors_lists_what_is_wrong(tmp_path):
    state = small_state()
    missing = [key for key in state if key.endswith("running_var")][:6]
    for key in missing:
        del state[key]
    first = next(iter(state))
    state[first] = torch.zeros(2, 2)
    state["module.extra"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError) as caught:
        create_backbone(SMALL, num_classes=7, weights=str(tmp_path / "w.pt"))
    message = str(caught.value)
    assert f"6 missing: {missing[0]}, {missing[1]}" in message
    assert missing[5] not in message
    assert "1 unexpected: module.extra" in message
    assert f"1 of another shape: {first} (2, 2) instead of" in message
    assert "w.pt" in message


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return builtins.open, (self.marker, "w")


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickled_payload_is_refused_and_never_run(tmp_path, writer):
    marker, file = tmp_path / "marker", tmp_path / "evil.pth"
    if writer == "torch":
        torch.save({"conv1.weight": torch.zeros(1), "x": Payload(marker)}, file)
    else:
        file.write_bytes(pickle.dumps({"x": Payload(marker)}, protocol=2))
    with pytest.raises(WeightsError, match="unsafe"):
        create_backbone(SMALL, num_classes=7, weights=str(file))
    assert not marker.exists()
    if writer == "pickle":  # the payload does what it says, or this test would prove nothing
        pickle.loads(file.read_bytes())["x"].close()
        assert marker.exists()


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("w.ckpt", b"", "neither one of auto, timm, packaged, none nor the path"),
        ("w.safetensors", b"nonsense", "cannot be read"),
        ("w.pth", b"", "cannot be read"),
        ("w.pth", b"PK\x03\x04 cut short", "cannot be read"),
        ("w.pth", [1, 2], "holds a list without tensors"),
        ("w.pth", {}, "holds a dict without tensors"),
        ("w.pth", {"state_dict": {}}, "holds a dict without tensors"),
        ("w.pth", {"epoch": 3, "model": {"a": 1}}, "not tensors, e.g. 'epoch'"),
    ],
)
def test_unusable_files(tmp_path, name, content, complaint):
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(WeightsError, match=complaint):
        create_backbone(SMALL, num_classes=7, weights=str(file))
