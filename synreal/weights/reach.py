"""Files of pretrained weights: in the local caches, or at servers that may or may not answer."""

from __future__ import annotations

import hashlib
import http.client
import threading
import urllib.error
import urllib.parse
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import torch

from synreal.errors import WeightsError
from synreal.reading import open_file

_PROBE_SECONDS = 3.0


def cached_file(cfg: Any) -> Path | None:
    """Return timm's weights file if a former download left it on this machine."""
    if cfg.hf_hub_id:
        repo, _, revision = cfg.hf_hub_id.partition("@")
        name = cfg.hf_hub_filename or "model.safetensors"
        found = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision or None)
        # It may also be a marker: "known not to exist". Pickles and archives are left to timm's own readers.
        return Path(found) if isinstance(found, str) and name.endswith(".safetensors") else None
    if isinstance(cfg.url, (list, tuple)):  # (URL, file name)
        name = cfg.url[1]
    else:
        name = Path(urllib.parse.urlparse(cfg.url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    return path if path.is_file() else None


def hub_file(repo: str, name: str, revision: str) -> Path:
    """Return a file of a repository on the hub, from the local cache if it is there."""
    what = f"The weights {repo!r}"
    found = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)
    if isinstance(found, str):
        return Path(found)
    if not hub_answers():
        raise WeightsError(
            f"{out_of_reach(what)} Or give the path of a state dict, or ask for random weights with weights='none'."
        )
    try:
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision))
    except Exception as error:  # the hub client's errors share no base class
        raise load_failed(what, "downloaded", error) from error


def hub_answers() -> bool:
    """Tell whether the hub can be asked."""
    return not huggingface_hub.constants.HF_HUB_OFFLINE and _reachable(huggingface_hub.constants.ENDPOINT)


def can_download(cfg: Any) -> bool:
    """Tell whether the server that timm would download from answers."""
    if cfg.hf_hub_id:
        return hub_answers()
    url = urllib.parse.urlparse(cfg.url[0] if isinstance(cfg.url, (list, tuple)) else cfg.url)
    return _reachable(f"{url.scheme}://{url.netloc}")


@cache
def _reachable(endpoint: str) -> bool:
    """Tell whether anything answers HTTP at ``endpoint`` within 3 s; asked once per process.

    The hub's own client retries for most of a minute before it gives up.
    """
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_PROBE_SECONDS):
                answered.set()
        except urllib.error.HTTPError as error:
            error.close()
            answered.set()
        except (OSError, ValueError, http.client.HTTPException):
            pass

    # In a thread because the timeout of urllib does not cover a name lookup that hangs.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    return answered.is_set()


def out_of_reach(what: str) -> WeightsError:
    """Say that weights are neither here nor to be downloaded."""
    return WeightsError(
        f"{what} are not in the local cache and cannot be downloaded (no answer from their server, or HF_HUB_OFFLINE "
        "is set). Run once with a network, point HF_ENDPOINT at a mirror, or copy the cache from another machine."
    )


def load_failed(what: str, where: str, error: Exception) -> WeightsError:
    """Say that weights could not be read from the cache, or downloaded, though they are there."""
    return WeightsError(
        f"{what} could not be {where}: {type(error).__name__}: {error}. Check network and cache, then try again."
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
