"""What peek-runs is for: runs wherever they lie, few peeks, and memory that is written to."""

import time

import numpy as np
import pytest

from pageshare import policies
from pageshare.core import Outcome
from pageshare.policies._heat import REGION, CoolPass, Heat
from pageshare.policies._keys import BoundedKeys
from pageshare.policies._pending import Later
from pageshare.policies.peek_runs import LEVELS, _filled
from pageshare.replay.course import metadata_bytes
from pageshare.replay.pace import PagesPerSecond
from policy_runs import Scan, history, like_guests, replayed, view_of

UNIQUE = 1_000_000


def cost(memory, name, objective, share=0.9, seed=1):
    """Visits and peeks until so much is found, a page."""
    course, _ = replayed(memory, name, objective=objective, seed=seed)
    reached = (course.reached if objective == "all" else course.reached_nonzero)[share]
    return reached.cost / course.pages


@pytest.mark.parametrize("objective", ["all", "nonzero"])
def test_most_is_found_at_little_more_than_by_the_oracle(objective):
    memory = history(like_guests(pages=8192))
    best, random = (cost(memory, name, objective) for name in ("oracle", "random-permutation"))
    assert cost(memory, "peek-runs", objective) - best <= 0.15 * (random - best)


@pytest.mark.parametrize(("apart", "row"), LEVELS[:4])
def test_runs_meet_wherever_they_lie(apart, row):
    # One run in two owners, at any distance: some page that is swept in one equals a page that is swept in the other.
    places = np.arange(4 * row)
    swept = (places % apart == 0) | (places % row < apart)
    for shift in range(row):
        both = swept[: 2 * row] & swept[shift : shift + 2 * row]
        assert both.any(), shift


def test_a_run_is_found_without_reading_the_rest():
    pages, length = 32768, 20_000
    owners = [UNIQUE * (owner + 1) + np.arange(pages) for owner in range(2)]
    for owner, at in zip(owners, (77, 901), strict=True):
        owner[at : at + length] = 1 + np.arange(length)
    scan = Scan("peek-runs", owners)
    visited, outcomes = scan.visit_all(2 * length - 64, 256)
    assert np.count_nonzero(outcomes == Outcome.SHARED_NEW) >= length - 64
    assert len(np.unique(visited)) == len(visited)
    assert scan.view.peeks < pages // 2


def test_pages_that_only_begin_alike_are_not_visited_early():
    # Pages below 0 begin with zeros; only the last line tells them apart.
    memory = -1 - np.arange(4096)
    memory[1000:1500] = memory[3000:3500] = 1 + np.arange(500)
    scan = Scan("peek-runs", [memory], objective="nonzero")
    _, outcomes = scan.visit_all(1000, 100)
    assert np.count_nonzero(outcomes == Outcome.SHARED_NEW) >= 450


class AlikeInTwoLines:
    """A view of pages that all seem to be equal."""

    def __init__(self, view):
        self._view = view

    def __getattr__(self, name):
        return getattr(self._view, name)

    def peek(self, pages, _line=0):
        return np.full(len(pages), 7, np.uint32)


def test_what_is_rarely_right_is_given_up():
    view = AlikeInTwoLines(view_of([1 + np.arange(20_000)]))
    policy = policies.create("peek-runs", view)
    order = []
    while sum(map(len, order)) < 20_000:
        pages = policy.next(500)
        order.append(pages)
        policy.feedback(pages, np.full(len(pages), Outcome.HINTED, np.uint8), np.zeros(len(pages), np.uint32))
    order = np.concatenate(order)
    assert len(np.unique(order)) == 20_000
    # Most pages came at random: a step up is as likely as a step down.
    assert 0.4 < np.mean(np.diff(order.astype(np.int64)) > 0) < 0.65


def test_regions_with_more_writes_than_the_mean_are_hot():
    heat = Heat(4 * REGION, calm=5, cool=20)
    pages = np.arange(4 * REGION, dtype=np.uint32)
    assert not heat.is_hot(pages).any()
    heat.notice(np.repeat(pages[:REGION], 3), 1.0)
    heat.notice(pages[REGION : 2 * REGION], 1.0)
    assert heat.is_hot(pages[::REGION]).tolist() == [True, False, False, False]
    # Long after, others are.
    heat.notice(pages[-REGION:], 201.0)
    assert heat.is_hot(pages[::REGION]).tolist() == [False, False, False, True]


def test_pages_left_alone_come_once():
    heat = Heat(1000, calm=5, cool=20)
    heat.notice(np.array([3, 4, 3], np.uint32), 10.0)
    heat.notice(np.array([4, 9], np.uint32), 12.0)
    assert heat.calm(14.9).tolist() == []
    assert heat.calm(15.0).tolist() == [3]
    assert heat.calm(15.0).tolist() == []
    assert heat.calm(17.0).tolist() == [4, 9]
    assert heat.calm(100.0).tolist() == []


def test_hot_pages_are_put_off_not_lost():
    heat = Heat(4 * REGION, calm=5, cool=20)
    heat.notice(np.arange(REGION, dtype=np.uint32), 1.0)
    through = CoolPass(4 * REGION, heat)
    assert through.take(np.array([1, REGION, 2, 2 * REGION], np.uint32)).tolist() == [REGION, 2 * REGION]
    assert through.late.take_all().tolist() == [1, 2]
    assert through.take_any(np.array([1, 2], np.uint32)).tolist() == [1, 2]
    assert through.left == 4 * REGION - 4


def test_what_is_written_to_all_the_time_comes_last():
    owners = like_guests(pages=8192)
    scan = Scan("peek-runs", owners)
    hot = np.arange(8192, dtype=np.uint32)
    scan.view.now = 1.0
    scan.view.tell_written(hot)
    early, _ = scan.visit_all(8192, 256)
    assert np.mean(early < 8192) < 0.02
    rest, _ = scan.visit_all(3 * 8192, 256)
    assert len(np.unique(np.concatenate([early, rest]))) == 4 * 8192


def test_a_page_that_was_changed_and_left_alone_is_visited_again():
    owners = [UNIQUE + np.arange(5000), np.zeros(5000, int)]
    scan = Scan("peek-runs", owners)
    scan.visit_all(5000, 500)
    scan.view.now = 1.0
    scan.view.tell_written(np.array([7000], np.uint32))
    # 5,000 others are left that nothing is known of: they are worth less than what can be foreseen.
    given = []
    for second in range(2, 12):
        scan.view.now = float(second)
        given += scan.visit(20)[0].tolist()
    assert given.count(7000) == 1


def test_between_like_pairs_all_are_filled():
    pages, shifts = _filled(np.array([1, 3, 4, 9], np.uint32), np.array([5, 5, 5, 5]), 2)
    assert pages.tolist() == [1, 2, 3, 4, 9]
    assert shifts.tolist() == [5, 5, 5, 5, 5]
    assert _filled(np.array([1, 3], np.uint32), np.array([5, 6]), 2)[0].tolist() == [1, 3]
    assert _filled(np.array([], np.uint32), np.array([]), 2)[0].tolist() == []


def test_even_writes_make_nothing_hot():
    generator = np.random.default_rng(1)
    heat = Heat(64 * REGION, calm=5, cool=20)
    hot = []
    for second in range(1, 200):
        heat.notice(generator.integers(0, 64 * REGION, 200, dtype=np.uint32), float(second))
        hot.append(np.mean(heat.is_hot(np.arange(64, dtype=np.uint32) * REGION)))
    assert np.mean(hot) < 0.01


def test_a_trickle_of_writes_takes_little_away():
    guests = like_guests(pages=8192)
    numbers = np.concatenate(guests)
    later = numbers.copy()
    changed = np.random.default_rng(2).choice(len(numbers), 200, replace=False)
    later[changed] = 50_000_000 + np.arange(200)
    memory = history(guests, np.split(later, 4))
    pace = {"pace": lambda: PagesPerSecond(4000), "duration": 10.0, "objective": "nonzero"}
    seconds = {}
    for name in ("peek-runs", "random-permutation"):
        course, _ = replayed(memory, name, **pace)
        reached = course.reached_nonzero[0.9]
        seconds[name] = reached.seconds if reached else 10.0
    assert seconds["peek-runs"] < 0.5 * seconds["random-permutation"]


def test_what_is_kept_stays_bounded_whatever_is_written():
    scan = Scan("peek-runs", [UNIQUE + np.arange(4096)])
    generator = np.random.default_rng(3)
    kept = []
    for step in range(600):
        scan.view.now += 0.5
        scan.view.tell_written(generator.integers(0, 4096, 400, dtype=np.uint32))
        scan.visit(20)
        if step in (299, 599):
            kept.append(metadata_bytes(scan.policy))
    assert kept[1] < 1.3 * kept[0]
    assert kept[1] < 100 * 4096


def test_keys_are_forgotten_when_they_were_not_asked_for():
    keys = BoundedKeys(2000)
    first = keys.put(np.array([5], np.uint32), np.array([50], np.uint32))
    assert first.tolist() == [50]
    for block in range(10):
        fresh = np.arange(1000, dtype=np.uint32) + np.uint32(1000 + 1000 * block)
        assert keys.put(fresh, fresh).tolist() == fresh.tolist()
        assert keys.put(np.array([5], np.uint32), np.array([51], np.uint32)).tolist() == [50]
    # 1000 .. 1999 came 10,000 keys ago.
    assert keys.put(np.array([1000], np.uint32), np.array([7], np.uint32)).tolist() == [7]


def test_pages_that_wait_are_held_once_in_order():
    later = Later(10)
    for _ in range(50):
        later.put(np.array([3, 1, 2], np.uint32))
    assert bool(later)
    assert later.take(2).tolist() == [3, 1]
    assert sorted(later.take_all().tolist()) == [1, 2, 3]
    assert not later


@pytest.mark.parametrize("option", ["ahead=0", "calm=-1", "cool=0", "cool=-1", "slack=1.5", "slack=-1"])
def test_options_that_make_no_sense_are_refused(option):
    with pytest.raises(ValueError, match="must be"):
        policies.check(f"peek-runs:{option}")


def test_very_many_owners_cost_no_more():
    owners = [[k % 700] for k in range(3000)]
    scan = Scan("peek-runs", owners)
    begun = time.process_time()
    scan.visit_all(3000, 1000)
    assert time.process_time() - begun < 0.5  # it was one sweep for each owner
