"""Orders of visits: each a permutation where it says so, without memory, the same for the same seed."""

import numpy as np
import pytest

from pageshare import policies
from pageshare.space import PageSpace


def create(name, pages, seed):
    """A policy over so many pages of one owner."""
    space = PageSpace.of(np.zeros((pages, 256), np.uint8), page_size=256)
    return policies.create(name, policies.View(space, seed=seed))


PERMUTATIONS = ["sequential", "random-permutation"]


def one_pass(policy, pages, batch):
    numbers = []
    while sum(map(len, numbers)) < pages:
        part = policy.next(batch)
        assert part.dtype == np.uint32
        assert 1 <= len(part) <= batch
        numbers.append(part)
    return np.concatenate(numbers)


@pytest.mark.parametrize("name", PERMUTATIONS)
@pytest.mark.parametrize("pages", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_a_pass_has_each_page_once(name, pages):
    policy = create(name, pages, seed=pages)
    for batch in (1000, 17):
        assert sorted(one_pass(policy, pages, batch).tolist()) == list(range(pages))


@pytest.mark.parametrize("name", policies.POLICIES)
def test_the_seed_decides_and_batches_do_not(name):
    def order(seed, batch):
        return one_pass(create(name, 1000, seed), 1000, batch).tolist()

    assert order(1, 1000) == order(1, 1000)
    if name != "random-with-replacement":  # one draw of many is not many draws of one
        assert order(1, 1000) == order(1, 13)
    assert (order(1, 1000) == order(2, 1000)) == (name == "sequential")


def test_two_passes_of_a_permutation_differ():
    policy = create("random-permutation", 500, 1)
    assert one_pass(policy, 500, 500).tolist() != one_pass(policy, 500, 500).tolist()


def test_a_random_permutation_looks_random():
    pages = 100_000
    order = one_pass(create("random-permutation", pages, 3), pages, 4096).astype(np.int64)
    # Correlation of place and number, neighbours' distance, low bits: each within five standard deviations.
    assert abs(np.corrcoef(np.arange(pages), order)[0, 1]) < 5 / pages**0.5
    assert abs(np.abs(np.diff(order)).mean() / pages - 1 / 3) < 5 * 0.24 / pages**0.5
    assert abs((order[: pages // 2] & 1).mean() - 0.5) < 5 * 0.5 / (pages / 2) ** 0.5


def test_draws_with_replacement_leave_a_share_of_one_over_e():
    pages = 50_000
    seen = np.unique(create("random-with-replacement", pages, 1).next(pages))
    assert abs(1 - len(seen) / pages - np.exp(-1)) < 0.01


def test_random_is_the_permutation_and_others_are_named():
    assert isinstance(create("random", 5, 0), policies.RandomPermutation)
    with pytest.raises(ValueError, match="no policy 'best': there are sequential, random-permutation, "):
        create("best", 5, 0)
