import hashlib
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synreal.errors import ConfigError
from synreal.views import MultiView, RandAugment, derive_seed, seeded
from tests.views.images import noise


def test_derive_seed_is_the_same_on_every_machine():
    # The first 63 bits of the SHA-256 of the parts, each with its length: a run can be repeated years later.
    stream = b"".join(len(part).to_bytes(8, "big") + part for part in (b"i0", b"i1", b"sview"))
    assert derive_seed(0, 1, "view") == int(hashlib.sha256(stream).hexdigest()[:16], 16) // 2
    assert derive_seed(0, 1, "view") == 116599350927882797


part = st.one_of(st.integers(), st.text(max_size=5))


@settings(max_examples=100, deadline=None)
@given(st.lists(part, max_size=4), st.lists(part, max_size=4))
def test_derive_seed_tells_parts_apart(a, b):
    assert 0 <= derive_seed(*a) < 2**63
    tagged = [[(type(value), value) for value in parts] for parts in (a, b)]
    assert (derive_seed(*a) == derive_seed(*b)) == (tagged[0] == tagged[1])


def test_derive_seed_takes_numpy_integers_and_nothing_odd():
    assert derive_seed(np.int64(7)) == derive_seed(7) != derive_seed("7")
    for odd in (1.0, None, b"x"):
        with pytest.raises(ConfigError, match="derived"):
            derive_seed(odd)


def draws():
    return torch.rand(3).tolist(), random.random(), np.random.rand(3).tolist()


def test_seeded_fixes_all_three_generators():
    results = []
    for seed in (5, 5, 6, 5 + 2**40, 2**63 - 1):
        with seeded(seed):
            results.append(draws())
    assert results[0] == results[1]
    for kind in range(3):
        assert len({str(result[kind]) for result in results}) == 4  # the high bits of the seed count too
    torch_state = torch.get_rng_state()
    expected = torch.manual_seed(5) and torch.rand(3).tolist()
    torch.set_rng_state(torch_state)
    assert results[0][0] == expected


@pytest.mark.parametrize("raises", [False, True])
def test_seeded_restores_all_three_generators(raises):
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    random.gauss(0, 1), np.random.normal()  # both keep a second draw back
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    try:
        with seeded(9):
            draws(), random.gauss(0, 1), np.random.normal()
            if raises:
                raise KeyError("boom")
    except KeyError:
        assert raises
    else:
        assert not raises
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), str(np.random.get_state())) == states[1:]


def test_seeded_can_be_nested():
    with seeded(1):
        first = draws()
        second = draws()
    with seeded(1):
        assert draws() == first
        with seeded(2):
            draws()
        assert draws() == second


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, "1"])
def test_seeded_refuses(seed):
    with pytest.raises(ConfigError, match="Seed"), seeded(seed):
        pytest.fail("the block ran")


def test_views_does_not_touch_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("CUDA was seeded"))
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA was started"))
    with seeded(1):
        MultiView(RandAugment())(noise())
