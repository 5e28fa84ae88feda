import huggingface_hub
import pytest
import torch

from synreal.weights import reach


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """An empty cache and no network, whatever the machine has."""
    monkeypatch.setattr(reach, "_reachable", lambda endpoint: False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
