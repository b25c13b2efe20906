"""The course of a replay, held against what follows from single visits."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pageshare import policies
from pageshare.core import Control
from pageshare.replay.course import MOST_PASSES, SHARES, Run, Settings
from pageshare.replay.history import Writes
from pageshare.replay.pace import PagesPerSecond
from policy_runs import COSTS, Recorder, history, ids, like_guests, replayed
from small_memories import Scripted, base

OWNERS = like_guests(guests=2, pages=512)
HELD = ids(OWNERS)


@pytest.fixture(scope="module")
def guests():
    return history(OWNERS)


class Watched:
    """A policy of which each visit is noted: (page, peeks so far, now)."""

    def __init__(self, name, view):
        self.view, self.inner, self.visits = view, policies.create(name, view), []
        self.table_options = getattr(self.inner, "table_options", {})

    def next(self, count):
        return self.inner.next(count)

    def feedback(self, pages, outcomes, partners):
        self.visits += [(int(page), self.view.peeks, self.view.now) for page in pages]
        self.inner.feedback(pages, outcomes, partners)


def watched(memory, name, **settings):
    run = Run(memory, Settings(policy=lambda view: Watched(name, view), **settings), COSTS)
    return run.go(), run.policy


class Slow:
    """What ESX's table has saved, page by page: pages that were visited, less one for each content among them."""

    def __init__(self, *, zeros):
        self.seen, self.contents, self.zeros = set(), Counter(), zeros

    def visit(self, page):
        if page not in self.seen:
            self.seen.add(page)
            self.contents[int(HELD[page])] += 1

    @property
    def saved(self):
        return sum(count - 1 for content, count in self.contents.items() if self.zeros or content)


@pytest.mark.parametrize(
    "name", ["random-permutation", "random-with-replacement", "sequential", "peek-runs", "zero-first"]
)
@pytest.mark.parametrize("by_bytes", [False, True])
def test_thresholds_and_area_follow_from_single_visits(guests, name, by_bytes):
    price, pages = 0.04, len(HELD)
    course, policy = watched(guests, name, by_bytes=by_bytes, peek_price=price)
    for zeros, reached, area in (
        (True, course.reached, course.area),
        (False, course.reached_nonzero, course.area_nonzero),
    ):
        full = Slow(zeros=zeros)
        for page in range(pages):
            full.visit(page)
        possible, slow = full.saved, Slow(zeros=zeros)
        found, strips, peeks = {}, [], 0
        for number, (page, peeked, _) in enumerate(policy.visits, start=1):
            strips.append((price * (peeked - peeks), slow.saved))
            peeks = peeked
            slow.visit(page)
            strips.append((1.0, slow.saved))
            for share in SHARES:
                if slow.saved >= share * possible:
                    found.setdefault(share, (number, number + price * peeks))
        for share in SHARES:
            if share in found:
                assert (reached[share].visits, reached[share].cost) == (found[share][0], pytest.approx(found[share][1]))
                assert 0 < reached[share].cpu_seconds <= course.last.cpu_seconds
            else:
                assert reached[share] is None
        cost, under = 0.0, 0.0
        for width, height in [*strips, (pages, slow.saved)]:
            under += max(0.0, min(width, pages - cost)) * height
            cost += width
        assert area == pytest.approx(under / possible / pages, abs=2 / pages)
    assert course.last.visits == len(policy.visits)
    assert course.last.peeks == policy.view.peeks


def test_ksm_finds_nothing_on_its_first_pass(guests):
    course, policy = watched(guests, "ksm", by_bytes=False)
    assert course.reached[0.5].visits > len(HELD)
    assert course.area == 0
    assert course.last.saved == course.last.possible
    assert len(policy.visits) <= 2 * len(HELD) + 64


def test_mean_saved_is_over_time(guests):
    rate, duration = 100.0, 7.77
    course, policy = watched(
        guests, "random-permutation", by_bytes=False, pace=lambda: PagesPerSecond(rate), duration=duration
    )
    slow, since, area = Slow(zeros=True), 0.0, 0.0
    for page, _, now in policy.visits:
        area, since = area + slow.saved * (now - since), now
        slow.visit(page)
    area += slow.saved * (duration - since)
    assert course.mean_saved == pytest.approx(area / duration)
    assert course.mean_possible == course.last.possible
    assert course.last.saved == slow.saved


def test_mean_saved_while_memory_changes():
    past = history(OWNERS, [owner[::-1] for owner in OWNERS], like_guests(seed=9, guests=2, pages=512))
    settings = Settings(
        policy="random", by_bytes=False, pace=lambda: PagesPerSecond(500.0), duration=past.duration, seed=2
    )
    course = Run(past, settings, COSTS).go()
    for name in ("saved", "saved_nonzero", "possible", "possible_nonzero"):
        # Each step has a sample.
        area = sum(
            getattr(before, name) * (after.seconds - before.seconds)
            for before, after in zip(course.samples, course.samples[1:], strict=False)
        )
        assert getattr(course, f"mean_{name}") == pytest.approx(area / past.duration)
    assert course.writes > 500
    assert 0 < course.cow_breaks <= course.writes
    assert course.cow_breaks_nonzero <= course.cow_breaks


def test_merges_that_are_soon_broken():
    """Pages 0 and 1, 2 and 3, 4 and 5 are merged at once; a write breaks one after 5, one after 15 s; 6 is alone."""
    still = base({"one": [1, 1, 2, 2, 3, 3, 4]})
    ids = still.contents.new(np.array([11, 12, 13]))
    script = Writes(np.array([5.0, 15.0, 15.0]), np.array([0, 2, 6], np.uint32), ids.astype(np.uint32))
    past = Scripted(still.space, still.contents, still.ids, script, 20.0)
    for by_bytes in (True, False):
        settings = Settings(policy="sequential", pace=lambda: PagesPerSecond(100.0), duration=20.0, by_bytes=by_bytes)
        course = Run(past, settings, COSTS).go()
        assert (course.writes, course.cow_breaks, course.broken_soon) == (3, 2, 1)
        assert course.last.possible == course.last.saved == 1


def test_an_interrupted_run_gives_what_was_found(guests):
    control = Control()

    class Stops(Recorder):
        def feedback(self, pages, outcomes, partners):
            super().feedback(pages, outcomes, partners)
            if len(self.batches) == 5:
                control.stop()

    settings = Settings(policy=lambda view: Stops(policies.create("random", view)), pace=PagesPerSecond, by_bytes=False)
    run = Run(guests, settings, COSTS, control)
    course = run.go()
    assert course.interrupted
    slow = Slow(zeros=True)
    for batch, _, _ in run.policy.batches:
        for page in batch:
            slow.visit(int(page))
    assert len(run.policy.batches) == 5
    assert course.last.visits == sum(len(batch) for batch, _, _ in run.policy.batches) > 0
    assert course.last.saved == slow.saved
    assert not Run(guests, replace(settings, visits=10), COSTS).go().interrupted


@pytest.mark.parametrize("visits", [0, 1, 63, 64, 1000, 5000])
@pytest.mark.parametrize("pace", [None, PagesPerSecond])
def test_no_more_visits_than_asked_for(guests, visits, pace):
    settings = {"visits": visits, "pace": pace, "by_bytes": False, "stop_when_found": False}
    course, policy = watched(guests, "random-with-replacement", **settings)
    assert course.last.visits == len(policy.visits) == visits


class Endless(policies.Sequential):
    """Peeks and peeks before it gives its first page."""

    def __init__(self, view):
        super().__init__(view)
        self.view = view

    def next(self, count):
        del count
        for _ in range(1000):
            self.view.peek(np.arange(8))
        raise AssertionError("nobody stopped it")


def test_a_stop_ends_a_policy_that_peeks_before_it_gives_anything(guests):
    control = Control()
    run = Run(guests, Settings(policy=Endless, pace=PagesPerSecond, by_bytes=False), COSTS, control)
    told = run.memory.peek
    run.memory.peek = lambda pages, line: (run.view.peeks > 100 and control.stop(), told(pages, line))[1]
    course = run.go()
    assert course.interrupted
    assert (course.last.visits, course.last.peeks) == (0, 0)


def quick_writes(writes_a_second, seconds):
    """Two pages that are alike, and the first of them written to, again and again."""
    still = base({"a": [1, 1, 2]})
    times = np.arange(1, seconds * writes_a_second + 1) / writes_a_second
    script = Writes(times, np.zeros(len(times), np.uint32), np.zeros(len(times), np.uint32))
    return Scripted(still.space, still.contents, still.ids, script, float(seconds))


@pytest.mark.parametrize(("rate", "parts"), [(10, 20), (5000, 133)])
def test_long_steps_go_by_in_parts_the_more_the_more_is_written(rate, parts):
    settings = Settings(policy="sequential", pace=lambda: PagesPerSecond(0.01), by_bytes=False)
    counts = []
    for stop_at in (None, 7):
        control, asked = Control(), []
        run = Run(quick_writes(rate, 200), settings, COSTS, control)
        advance = run.memory.advance

        def told(until, *, advance=advance, asked=asked, control=control, stop_at=stop_at):
            asked.append(until)
            if len(asked) == stop_at:
                control.stop()
            return advance(until)

        run.memory.advance = told
        course = run.go()
        counts.append(len(asked))
        assert course.interrupted == bool(stop_at)
        assert course.last.seconds == asked[-1]
        assert course.writes == asked[-1] * rate
    assert counts[0] <= parts + 2
    assert counts[1] == 7
    assert course.last.visits == 0


def test_random_draws_have_seen_a_share_of_all_pages(guests):
    """1 - 1/e of n pages after n draws; its deviation is sqrt((1/e)(1 - 2/e) n)."""
    n = len(HELD)
    seen = []
    for seed in range(20):
        settings = {"visits": n, "by_bytes": False, "stop_when_found": False}
        _, (pages, _, _) = replayed(guests, "random-with-replacement", seed=seed, **settings)
        seen.append(len(np.unique(pages)))
    deviation = np.sqrt(n * np.exp(-1) * (1 - 2 * np.exp(-1)))
    assert np.mean(seen) == pytest.approx(n * (1 - np.exp(-1)), abs=4 * deviation / np.sqrt(20))
    assert np.std(seen) < 2 * deviation


@pytest.mark.parametrize("name", [*policies.POLICIES])
def test_none_claims_more_than_there_is(guests, name):
    course = Run(guests, Settings(policy=name, by_bytes=False), COSTS).go()
    full, nonzero = Slow(zeros=True), Slow(zeros=False)
    for page in range(len(HELD)):
        full.visit(page)
        nonzero.visit(page)
    for sample in course.samples:
        assert 0 <= sample.saved <= sample.possible == full.saved
        assert 0 <= sample.saved_nonzero <= sample.possible_nonzero == nonzero.saved
    assert course.last.visits <= MOST_PASSES * course.pages + 1024
    assert 0 <= course.area <= 1


@pytest.mark.parametrize("owners", [[[5]], [[0]], [[1, 2, 3]], [[0, 0]]])
def test_hardly_any_memory(owners):
    for name in policies.POLICIES:
        course = Run(history(owners), Settings(policy=name), COSTS).go()
        assert course.last.saved == course.last.possible == (1 if owners == [[0, 0]] else 0)


def test_no_time_at_all(guests):
    course = Run(guests, Settings(policy="random", pace=PagesPerSecond, duration=0.0, by_bytes=False), COSTS).go()
    assert (course.last.visits, course.last.seconds, course.mean_saved) == (0, 0.0, 0.0)


def test_how_far_it_has_come(guests):
    def shares(**settings):
        told = []

        class Tells(Recorder):
            def feedback(self, pages, outcomes, partners):
                super().feedback(pages, outcomes, partners)
                told.append(run.share_done)

        making = Settings(policy=lambda view: Tells(policies.create("random", view)), by_bytes=False, **settings)
        run = Run(guests, making, COSTS)
        run.go()
        assert told == sorted(told)
        assert 0 <= told[0] < 1
        return run.share_done

    assert shares() == 1
    assert shares(visits=100) == 1
    assert shares(pace=PagesPerSecond, duration=9.0) == pytest.approx(1)
    assert shares(objective="nonzero") == 1
