import json

import numpy as np
import pytest
import torch

from synreal.measures import Collection
from synreal.measures.confidence import PIXELS
from tests.measures.test_calibration import Images


def collected(number, *batches, sure=False):
    collection = Collection(["confidence"], Images(range(number)))
    for batch in batches:
        (collection.update_sure if sure else collection.update)(*batch)
    return collection


def kept(collection):
    (content,) = json.loads(json.dumps(collection.files())).values()
    return content


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(1, keepdims=True)


def test_each_image_is_kept_in_order():
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(9) % 4
    collection = collected(9, (logits[:5], targets[:5]), (logits[5:], targets[5:]))
    shares = softmax(logits)
    content = kept(collection)
    assert content["confidence"] == pytest.approx(shares.max(1), abs=1e-6)
    assert content["predicted"] == shares.argmax(1).tolist()
    assert content["right"] == (shares.argmax(1) == targets.numpy()).tolist()
    score = collection.compute()
    assert score.measures == {"confidence": pytest.approx(shares.max(1).mean(), abs=1e-6)}
    said = collected(9, (logits.argmax(1), targets, torch.tensor(shares.max(1))), sure=True)
    assert kept(said)["confidence"] == pytest.approx(content["confidence"], abs=1e-6)


def test_pixels_are_spread_over_an_image_and_ignored_ones_are_left_out():
    said = torch.zeros(1, 64, 32, dtype=torch.uint8)
    sure = torch.linspace(0, 1, 64)[:, None].expand(64, 32)[None]
    target = torch.zeros(1, 64, 32, dtype=torch.int64)
    whole = kept(collected(1, (said, target, sure), sure=True))
    assert len(whole["confidence"]) == PIXELS
    assert np.mean(whole["confidence"]) == pytest.approx(0.5, abs=0.01)
    target[:, :32] = 255
    target[:, 48:] = 1
    half = kept(collected(1, (list(said), list(target), list(sure)), sure=True))
    assert half["confidence"] == whole["confidence"][PIXELS // 2 :]
    assert half["right"] == [True] * (PIXELS // 4) + [False] * (PIXELS // 4)


def test_nothing_to_count_is_not_a_number():
    ignored = torch.full((1, 4, 4), 255)
    assert collected(1, (torch.zeros(1, 3, 4, 4), ignored)).compute().measures == {"confidence": None}
