"""Networks and caches that the tests of weights share."""

from pathlib import Path

import huggingface_hub
import safetensors.torch
import timm
import torch

LITE = [f"tf_efficientnet_lite{n}" for n in range(3)]
SMALL = "test_resnet.r160_in1k"  # timm's own test model: weights on the hub, half a million parameters


def small_state(num_classes=7, **kwargs):
    torch.manual_seed(0)
    return timm.create_model(SMALL, num_classes=num_classes, **kwargs).state_dict()


def same_tensors(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def put_into_hub_cache(state, repo):
    folder = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / "model.safetensors"
    file.parent.mkdir(parents=True)
    safetensors.torch.save_file(state, file)
    return file
