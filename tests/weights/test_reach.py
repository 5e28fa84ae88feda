import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch

from synreal.errors import WeightsError
from synreal.weights import create_backbone, reach
from tests.weights.networks import LITE

ask_server = reach._reachable.__wrapped__


def test_offline_setting_is_not_even_probed(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(reach, "_reachable", lambda endpoint: pytest.fail("probed although offline"))
    assert create_backbone(LITE[0], num_classes=3)[1].source == "packaged"
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        create_backbone(LITE[0], num_classes=3, weights="timm")


def test_timm_without_a_network_fails_at_once():
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=r"timm/resnet50\.a1_in1k.*cannot be downloaded"):
        create_backbone("resnet50", num_classes=3, weights="timm")
    assert time.perf_counter() - start < 2


def test_weights_that_timm_keeps_at_a_url(monkeypatch):
    name = "legacy_seresnet18"
    cfg = timm.models.get_pretrained_cfg(name)
    assert not cfg.hf_hub_id, "this test needs a model that timm keeps outside the hub"
    asked = []
    monkeypatch.setattr(reach, "_reachable", asked.append)
    assert reach.cached_file(cfg) is None
    assert not reach.can_download(cfg)
    assert cfg.url.startswith(asked[0] + "/")
    assert asked[0].count("/") == 2
    file = Path(torch.hub.get_dir()) / "checkpoints" / cfg.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert reach.cached_file(cfg) == file
    cfg.url = (cfg.url, "other.pth")
    assert reach.cached_file(cfg) is None


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (urllib.error.HTTPError("", 404, "not found", None, None), True),
        (urllib.error.HTTPError("", 503, "busy", None, None), True),
        (urllib.error.URLError("no such host"), False),
        (TimeoutError(), False),
        (http.client.BadStatusLine(""), False),
        (ValueError("unknown url type"), False),
        (None, True),
    ],
)
def test_any_answer_counts_as_reachable(monkeypatch, outcome, expected):
    class Answer:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    def urlopen(request, timeout):
        assert request.get_method() == "HEAD"
        assert timeout <= 5
        if outcome is not None:
            raise outcome
        return Answer()

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert ask_server("http://server.invalid") is expected


def test_a_name_lookup_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(reach, "_PROBE_SECONDS", 0.05)

    def hang(request, timeout):
        time.sleep(1)
        raise urllib.error.URLError("no such host")

    monkeypatch.setattr(urllib.request, "urlopen", hang)
    start = time.perf_counter()
    assert ask_server("http://server.invalid") is False
    assert time.perf_counter() - start < 0.9
