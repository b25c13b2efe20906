"""What holds of every policy: passes, seeds, finding everything, on bytes as on fingerprints; memory and time."""

import time

import numpy as np
import pytest

from pageshare import policies
from pageshare.replay.course import metadata_bytes
from pageshare.replay.pace import PagesPerSecond
from policy_runs import Scan, history, like_guests, replayed, view_of

# Policies of which a pass is something else than each page once; all others, new ones too, must hold to that.
OTHER_PASSES = {"random-with-replacement", "ksm"}
ONCE = [name for name in policies.POLICIES if name not in OTHER_PASSES]
# What these give next depends on what they were told, and so on how visits are cut into batches.
ADAPTIVE = {"peek-first", "peek-runs", "region-ladder", "run-following", "region-bandit", "region-runs"}

MIXED = [0, 1, 2, 3, 0, 4, 5, 5]
MEMORIES = {
    "one page": [[7]],
    "zeros": [[0] * 65, [0] * 3],
    "nothing shared": [range(1, 100), range(200, 207)],
    "sizes": [[1, 2, 3] * 100, [1], [0, 1, 0], [5], list(range(1, 78)) + [0] * 30],
    "no size twice": [MIXED * (k + 1) for k in range(9)],
    "many owners": [[k % 7, k % 2, 1000 + k] for k in range(50)],
    "runs": like_guests(pages=256),
}


def with_objectives(names):
    """Each name with what it can be set to save."""
    both = [(name, "nonzero") for name in names if getattr(policies.find(name), "takes_objective", False)]
    return [(name, "all") for name in names] + both


def create(name, pages, seed):
    """A policy over so many zero pages of one owner."""
    return policies.create(name, view_of([np.zeros(pages, int)], seed=seed))


def one_pass(policy, pages, batch):
    numbers = []
    while sum(map(len, numbers)) < pages:
        part = policy.next(batch)
        assert part.dtype == np.uint32
        assert 1 <= len(part) <= batch
        numbers.append(part)
    return np.concatenate(numbers)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize(("name", "objective"), with_objectives(ONCE))
def test_a_pass_has_each_page_once(name, memory, objective):
    owners = MEMORIES[memory]
    scan = Scan(name, owners, objective=objective)
    every = list(range(scan.view.pages))
    for batch in (1000, 17, 1, 64):
        # Cut at the end of the pass: a batch never reaches beyond it, so this is no help.
        batches = []
        while sum(map(len, batches)) < len(every):
            batches.append(scan.visit(batch)[0])
        assert sorted(np.concatenate(batches).tolist()) == every, batch
    scan.table.check()


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("pages", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_a_pass_has_each_page_once_though_nothing_is_told(name, pages):
    policy = create(name, pages, seed=pages)
    for batch in (1000, 17):
        assert sorted(one_pass(policy, pages, batch).tolist()) == list(range(pages))


@pytest.mark.parametrize("name", policies.POLICIES)
def test_the_seed_decides_and_batches_do_not(name):
    owners = MEMORIES["runs"]
    pages = sum(map(len, owners))

    def order(seed, batch):
        return Scan(name, owners, seed=seed).visit_all(pages, batch)[0].tolist()

    assert order(1, 100) == order(1, 100)
    if name not in ADAPTIVE | {"random-with-replacement"}:  # one draw of many is not many draws of one
        assert order(1, pages) == order(1, 13)
    assert (order(1, 100) == order(2, 100)) == getattr(policies.find(name), "draws_nothing", False)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize(("name", "objective"), with_objectives(policies.POLICIES))
def test_everything_is_found_on_bytes_as_on_fingerprints(name, memory, objective):
    past = history(MEMORIES[memory])
    (course, told), (course_of_fingerprints, told_of_fingerprints) = (
        replayed(past, name, by_bytes=by_bytes, objective=objective, seed=2) for by_bytes in (True, False)
    )
    for ours, theirs in zip(told, told_of_fingerprints, strict=True):
        assert ours.tolist() == theirs.tolist()
    assert (course.last.saved, course.last.saved_nonzero) == (
        course_of_fingerprints.last.saved,
        course_of_fingerprints.last.saved_nonzero,
    )
    assert course.last.saved_nonzero == course.last.possible_nonzero
    if objective == "all":
        assert course.last.saved == course.last.possible


@pytest.mark.parametrize("name", policies.POLICIES)
def test_memory_that_changes_is_scanned_on_bytes_as_on_fingerprints(name):
    before = like_guests(pages=512)
    after = [each.copy() for each in before]
    generator = np.random.default_rng(5)
    for each in after:
        written = generator.choice(512, 100, replace=False)
        each[written] = before[0][generator.choice(512, 100)]
        each[written[:10]] = 5_000_000 + written[:10]
    past = history(before, after)
    told = [
        replayed(past, name, by_bytes=by_bytes, seed=2, pace=lambda: PagesPerSecond(1000.0), duration=20.0)[1]
        for by_bytes in (True, False)
    ]
    for ours, theirs in zip(*told, strict=True):
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("name", policies.POLICIES)
def test_a_space_without_pages_is_no_error(name):
    assert policies.create(name, view_of([])).next


@pytest.mark.parametrize("name", policies.POLICIES)
def test_a_rate_for_each_owner_holds_pages_back(name):
    past = history(like_guests(pages=512))
    course, told = replayed(
        past, name, by_bytes=False, pace=lambda: PagesPerSecond(1000.0), per_owner=100.0, duration=10.0
    )
    # What goes owner by owner is held up by one after the other.
    assert 1300 < course.last.visits <= 4100
    if name in ONCE:
        assert len(np.unique(told[0][:1300])) > 1200


@pytest.mark.parametrize("name", policies.POLICIES)
def test_little_is_kept_and_little_time_taken(name):
    scan = Scan(name, [np.arange(16384) // 3, np.arange(16384) // 3, np.arange(32768)])
    policy_time, visits, most = 0.0, 0, 0
    while visits < scan.view.pages:
        begun = time.thread_time()
        pages = scan.policy.next(500)
        policy_time += time.thread_time() - begun
        result = scan.table.scan(pages)
        begun = time.thread_time()
        scan.policy.feedback(pages, result.outcomes, result.partners)
        policy_time += time.thread_time() - begun
        visits += len(pages)
        most = max(most, metadata_bytes(scan.policy))
    assert policy_time / visits < 10e-6  # far above what it takes, so that a busy machine is no failure
    if name != "oracle" and not name.startswith(("peek", "ksm")):
        assert 8 * most / scan.view.pages < 8


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
    with pytest.raises(ValueError, match="no policy 'best': there are sequential, sequential-interleaved, "):
        create("best", 5, 0)


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("region-bandit:pages=0", "pages 0: a region must have 1 to 65535"),
        ("region-ladder:pages=65536", "pages 65536"),
        ("run-following:slack=-1", "slack -1: must be a whole number from 0 to 127"),
        ("io-hints:capacity=0", "capacity 0: there must be room for 1 hint"),
        ("hash-ranges:ranges=0", "ranges 0: must be from 1 to 2"),
        ("stratified:pages=3", "policy stratified:pages=3: "),
    ],
)
def test_options_out_of_range_are_refused(option, why):
    with pytest.raises(ValueError, match=why):
        create(option, 5, 0)
