import itertools
from collections import Counter

import pytest
import torch
from scipy import stats

from synreal.functional import draws

KEY = torch.tensor([20, 7])
MANY = 20_000


def keys(count, key=KEY):
    return [draws.fold_in(key, number) for number in range(count)]


def test_uniform_numbers_are_uniform_and_never_an_end():
    found = draws.uniform(KEY, (10, MANY // 10))
    assert found.shape == (10, MANY // 10)
    assert found.dtype == torch.float32
    assert 0 < float(found.min()) < float(found.max()) < 1
    assert stats.kstest(found.flatten().numpy(), "uniform").pvalue > 0.001
    assert draws.uniform(KEY, ()).shape == ()


def test_normal_numbers_are_normal():
    found = draws.normal(KEY, (MANY,)).double().numpy()
    assert stats.kstest(found, "norm").pvalue > 0.001
    assert abs(found).max() < 5.5


@pytest.mark.parametrize("alpha", [0.05, 0.1, 1.0, 3.0])
def test_beta_numbers_follow_their_distribution(alpha):
    found = draws.symmetric_beta(KEY, alpha, MANY)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    law = stats.beta(alpha, alpha)
    # At a small alpha float32 rounds a part to 1, so shares are compared and not ranks.
    for value in (1e-12, 1e-6, 0.01, 0.2, 0.5, 0.9, 0.999):
        share = float((found.double() < value).double().mean())
        assert abs(share - law.cdf(value)) < 4 * (law.cdf(value) * law.sf(value) / MANY) ** 0.5 + 1e-4


def test_each_order_is_drawn_as_often():
    found = Counter(tuple(draws.permutation(key, 3).tolist()) for key in keys(300))
    assert set(found) == set(itertools.permutations(range(3)))
    assert stats.chisquare(list(found.values())).pvalue > 0.001


def test_a_key_gives_the_same_again_and_every_other_key_something_else():
    assert torch.equal(draws.uniform(KEY, (9,)), draws.uniform(KEY.clone(), (9,)))
    folded = [*keys(300), *keys(100, draws.fold_in(KEY, 1)), *keys(300, KEY.flip(0)), KEY]
    assert len({tuple(key.tolist()) for key in folded}) == len(folded)
    assert torch.equal(draws.fold_in(KEY, torch.tensor(5)), draws.fold_in(KEY, 5))
    first = torch.stack([draws.uniform(key, (2,)) for key in folded])
    assert stats.kstest(first[:, 0].numpy(), "uniform").pvalue > 0.001
    assert abs(torch.corrcoef(first.T)[0, 1]) < 0.15
    assert abs(torch.corrcoef(torch.stack([first[1:, 0], first[:-1, 0]]))[0, 1]) < 0.15


def test_each_bit_of_a_word_turns_with_each_bit_of_what_it_is_made_of():
    words = draws.random_words(KEY, 2000)
    assert int(words.min()) >= 0
    assert int(words.max()) < 2**32
    for bit in range(32):
        turned = draws._mixed(words) ^ draws._mixed(words ^ (1 << bit))
        shares = torch.stack([(turned >> other & 1).float().mean() for other in range(32)])
        assert float(shares.min()) > 0.4
        assert float(shares.max()) < 0.6
    assert len(draws._mixed(torch.arange(2000)).unique()) == 2000
