"""What each policy is for: the order of its visits on memories made to show it."""

import numpy as np
import pytest

from pageshare import policies
from pageshare.core import Outcome
from policy_runs import Scan, history, ids, like_guests, replayed, view_of

FOUND = [Outcome.SHARED, Outcome.SHARED_NEW]
PLACES = ["run-following", "region-bandit", "region-runs", "region-ladder"]


def tell(scan, pages):
    """Say that pages were written to, to the table as to the policy."""
    written = np.array(pages, np.uint32)
    scan.table.write(written)
    scan.view.tell_written(written)


def visits_to(name, owners, share=0.9, objective="nonzero", seeds=(1, 2)):
    """Visits a page, mean over seeds, until a share of what is possible is saved."""
    past = history(owners)
    courses = [replayed(past, name, by_bytes=False, objective=objective, seed=seed)[0] for seed in seeds]
    reached = [(each.reached_nonzero if objective == "nonzero" else each.reached)[share].visits for each in courses]
    return np.mean(reached) / courses[0].pages


def shuffled(owners, seed=1):
    generator = np.random.default_rng(seed)
    return [generator.permutation(each) for each in owners]


# ---- address orders ----


def test_interleaved_takes_owners_in_turn_the_largest_first():
    scan = Scan("sequential-interleaved", [[1, 2], [3, 4, 5, 6], [7], [8, 9, 10]])
    order = [2, 7, 0, 6, 3, 8, 1, 4, 9, 5]
    for batch in (10, 3, 1):
        assert scan.visit_all(10, batch)[0].tolist() == order


def test_interleaved_leaves_out_owners_without_pages():
    view = view_of([[1, 2, 3]])
    view.owners, view.owner_first = 4, np.array([0, 0, 2, 2, 3], np.uint32)
    assert policies.create("sequential-interleaved", view).next(9).tolist() == [0, 2, 1]


def test_stratified_is_spread_evenly_at_any_time():
    pages = 10_000
    order = policies.create("stratified", view_of([range(pages)])).next(pages)
    for visits in (100, 1000, 5000):
        held = np.bincount(order[:visits] // 100, minlength=100)
        assert abs(held - visits / 100).max() <= 2


def test_the_same_frame_of_all_owners_comes_one_after_the_other():
    owners = [range(1, 101), range(201, 301), range(401, 461)]
    order, _ = Scan("same-frame", owners).visit_all(260, 40)
    owner, frame = np.searchsorted([100, 200], order, side="right"), order % 100
    groups = np.flatnonzero(np.diff(frame, prepend=-1))
    assert len(groups) == 100
    assert owner[groups].tolist() == [0] * 100
    assert np.abs(np.diff(frame[groups].astype(int))).mean() > 20


# ---- peeks ----


@pytest.mark.parametrize("objective", ["all", "nonzero"])
def test_zero_pages_come_first_or_last(objective):
    memory = np.arange(1, 10_001)
    memory[3000:7000] = 0
    memory[7000:7100] *= -1  # only their first line is zero
    scan = Scan("zero-first", [memory], objective=objective)
    order, _ = scan.visit_all(10_000, 512)
    part = slice(0, 4100) if objective == "all" else slice(-4100, None)
    assert order[part].tolist() == list(range(3000, 7100))
    assert scan.view.peeks == 10_000
    assert scan.view.peeks_in_order > 9_990
    others = order[4100:] if objective == "all" else order[:-4100]
    assert np.abs(np.diff(others.astype(int))).mean() > 1000


def test_zero_pages_are_visited_before_all_memory_was_peeked_at():
    scan = Scan("zero-first", [np.zeros(100_000, int)])
    scan.visit(100)
    assert scan.view.peeks < 10_000


# ---- writes ----


def test_pages_written_to_are_passed_over_once():
    scan = Scan("not-recently-written", [range(1, 11)])
    assert scan.visit_all(5, 5)[0].tolist() == [0, 1, 2, 3, 4]
    tell(scan, [7, 8, 1, 7])
    assert scan.visit_all(3, 5)[0].tolist() == [5, 6, 9]
    assert scan.visit_all(9, 10)[0].tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert scan.visit_all(10, 10)[0].tolist() == list(range(10))
    tell(scan, range(10))
    assert scan.visit_all(10, 3)[0].tolist() == list(range(10))


def test_hints_come_newest_first_and_in_turn_with_the_scan():
    scan = Scan("io-hints:capacity=4", [range(1, 101)])
    assert scan.visit(3)[0].tolist() == [0, 1, 2]
    tell(scan, [50, 60, 70, 60, 80, 90])
    assert scan.visit(3)[0].tolist() == [90, 3, 80]
    assert scan.visit(1)[0].tolist() == [4]
    tell(scan, [70, 40])
    assert scan.visit(6)[0].tolist() == [40, 5, 70, 6, 60, 7]
    assert scan.visit(2)[0].tolist() == [8, 9]


def test_hints_are_each_other_page_whatever_the_batches():
    for batch in (1, 2, 3, 10):
        scan = Scan("io-hints", [range(1, 101)])
        tell(scan, range(99, 49, -1))
        assert scan.visit_all(20, batch)[0].tolist() == [p for i in range(10) for p in (50 + i, i)], batch


def test_generations_come_in_order():
    scan = Scan("generational", [range(1, 101)])
    first, _ = scan.visit_all(40, 40)
    unseen = sorted(set(range(100)) - set(first.tolist()))
    tell(scan, [first[5], unseen[0], first[3], first[5]])
    assert scan.visit(2)[0].tolist() == [first[5], first[3]]
    assert sorted(scan.visit_all(60, 7)[0].tolist()) == unseen
    tell(scan, [9, 4])
    after, _ = scan.visit_all(102, 10)
    assert after[:2].tolist() == [9, 4]
    assert sorted(after[:100].tolist()) == list(range(100))


# ---- what was found ----


def test_a_run_is_followed_to_both_sides():
    guest, other = np.arange(1, 20_001), np.arange(100_001, 120_001)
    other[4000:8000] = guest[11_000:15_000]
    scan = Scan("run-following", [guest, other])
    _, outcomes = scan.visit_all(40_000, 40)
    found = np.cumsum(np.isin(outcomes, FOUND))
    assert found[-1] == 4000
    # A permutation needs nearly 40,000 for all. Here it is found soon, and then nearly all visits are along it.
    first, all_found = np.searchsorted(found, [20, 4000])
    assert all_found - first < 1.15 * 8000


def test_slack_is_how_many_pairs_may_differ():
    guest, other = np.arange(1, 5001), np.arange(100_001, 105_001)
    other[:] = guest
    other[::4] += 100_000  # every fourth page is another
    last = {
        slack: visits_to(f"run-following:slack={slack}", [np.append(guest, -guest), np.append(other, -other - 50_000)])
        for slack in (0, 2)
    }
    assert last[2] < 0.8 * last[0]


def test_zero_runs_are_followed_only_if_they_are_to_be_saved():
    memory = np.arange(1, 20_001)
    memory[5000:9000] = 0
    seen = {}
    for objective in ("all", "nonzero"):
        _, outcomes = Scan("run-following", [memory], objective=objective).visit_all(6000, 50)
        seen[objective] = int((outcomes == Outcome.ZERO).sum())
    assert seen["all"] > 3900
    assert seen["nonzero"] < 1500


@pytest.mark.parametrize("name", ["region-bandit", "region-ladder"])
def test_a_rich_region_is_preferred(name):
    memory = np.arange(1, 20_001)
    memory[4096 : 4096 + 1024] = np.arange(1024) % 100 + 1
    order, _ = Scan(name, [memory]).visit_all(6000, 100)
    assert np.isin(order, np.arange(4096, 5120)).sum() > 900


def test_a_find_is_to_the_credit_of_the_hint_too():
    memory = np.arange(1, 5121)
    memory[1024:2048] = memory[3072:4096]
    scan = Scan("region-bandit", [memory])
    order, _ = scan.visit_all(3600, 64)
    for first in (1024, 3072):
        assert np.isin(order, np.arange(first, first + 1024)).sum() > 950


@pytest.mark.parametrize("name", ["region-bandit", "region-ladder"])
def test_zero_regions_are_rich_only_if_zero_pages_are_to_be_saved(name):
    memory = np.arange(1, 10_001)
    memory[2560:5120] = 0
    seen = {}
    for objective in ("all", "nonzero"):
        _, outcomes = Scan(name, [memory], objective=objective).visit_all(4000, 100)
        seen[objective] = int((outcomes == Outcome.ZERO).sum())
    assert seen["all"] > 2000 > 1300 > seen["nonzero"]


def test_regions_whose_merges_are_broken_go_to_the_lowest_rung():
    memory = np.arange(1, 20_481)
    memory[:4096] = np.arange(4096) % 64 + 1
    calm, thrashed = (Scan("region-ladder", [memory]) for _ in range(2))
    for scan in (calm, thrashed):
        scan.visit_all(2500, 50)
    share = {}
    tell(thrashed, range(4096))
    for key, scan in (("calm", calm), ("thrashed", thrashed)):
        order, _ = scan.visit_all(600, 50)
        share[key] = int((order < 4096).sum())
    assert share["thrashed"] < share["calm"] / 2


def test_hash_ranges_find_everything_after_so_many_passes():
    owners = like_guests(pages=512)
    numbers = ids(owners)
    possible = len(numbers) - len(np.unique(numbers))
    for ranges in (1, 3, 4):
        scan = Scan(f"hash-ranges:ranges={ranges}", owners)
        passed_over = 0
        for number in range(ranges):
            assert number == 0 or scan.table.stats().members - scan.table.stats().frames < possible
            _, outcomes = scan.visit_all(len(numbers), 100)
            passed_over += int((outcomes == Outcome.PASSED_OVER).sum())
            assert scan.table.stats().hints <= len(np.unique(numbers)) * (1 if ranges == 1 else 1 / ranges + 0.1)
        stats = scan.table.stats()
        assert stats.members - stats.frames == possible
        assert (passed_over > 0) == (ranges > 1)
        scan.visit_all(len(numbers), 100)  # and from the beginning again
        assert scan.table.stats().members == stats.members


# ---- the oracle ----


@pytest.mark.parametrize("objective", ["all", "nonzero"])
def test_the_oracle_saves_a_page_a_visit_but_the_first_of_each_content(objective):
    owners = like_guests(pages=512)
    numbers = ids(owners)
    held = np.bincount(numbers)
    order, _ = Scan("oracle", owners, objective=objective).visit_all(len(numbers), 77)
    contents = numbers[order]
    first = np.zeros(len(order), bool)
    first[np.unique(contents, return_index=True)[1]] = True
    sizes = held[contents[first]]
    zero_at = int(np.flatnonzero(contents[first] == 0)[0])
    if objective == "nonzero":
        assert set(sizes[zero_at + 1 :]) == {1}
        sizes = np.delete(sizes, zero_at)
    else:
        assert zero_at == 0
    assert (np.diff(sizes) <= 0).all()
    # Contents come whole, so no order has opened fewer after as many visits.
    assert len(np.flatnonzero(np.diff(contents))) + 1 == len(held)


def test_the_oracle_looks_at_once_at_what_was_written():
    numbers = np.arange(1, 1001).astype(np.uint32)
    numbers[500:510] = 500
    view = policies.View(view_of([numbers])._space, contents=lambda: numbers)
    oracle = policies.create("oracle", view)
    assert oracle.next(10).tolist() == [499, *range(500, 509)]
    numbers[[700, 701, 502, 702]] = 500, 9000, 9001, 500
    view.tell_written(np.array([700, 701, 502, 702, 700], np.uint32))
    assert oracle.next(2).tolist() == [700, 702]
    rest = oracle.next(1000).tolist()
    assert rest[0] == 509
    assert sorted(rest) == sorted({*range(1000)} - {*range(499, 510), 700, 702} | {502, 509})
    for changed in range(0, 1000, 100):  # so many that the order is made anew
        numbers[changed : changed + 100] = 1
        view.tell_written(np.arange(changed, changed + 100, dtype=np.uint32))
    assert sorted(oracle.next(1000).tolist()) == list(range(1000))


def test_the_oracle_is_told_when_nobody_knows_the_answer():
    view = policies.View(view_of([[1]])._space)
    with pytest.raises(ValueError, match="know the answer beforehand"):
        policies.create("oracle", view)


# ---- how many visits it takes ----


def test_places_pay_on_memory_like_guests():
    owners = like_guests(pages=3072)
    random = visits_to("random-permutation", owners)
    reached = {name: visits_to(name, owners) for name in [*PLACES, "oracle"]}
    assert reached["oracle"] < reached["run-following"] < 0.6 * random
    assert reached["oracle"] < reached["region-runs"] < 0.6 * random
    assert reached["region-bandit"] < 0.75 * random
    assert reached["region-ladder"] < 0.85 * random


@pytest.mark.parametrize("name", PLACES)
def test_shuffled_memory_leaves_nothing_to_places(name):
    owners = shuffled(like_guests(pages=2048))
    assert visits_to(name, owners) == pytest.approx(visits_to("random-permutation", owners), rel=0.05)
