"""How fast pages are looked at: rates are kept, over time and at any end."""

import numpy as np
import pytest

from pageshare import policies
from pageshare.ksm import KSM_PAGES, KSM_SLEEP
from pageshare.replay.costs import Costs
from pageshare.replay.course import Run, Settings
from pageshare.replay.pace import ESX_RATE, LONGEST, CpuShare, PagesPerSecond, WakeAndSleep
from policy_runs import COSTS, history, like_guests, replayed

DEAR = Costs(read=(1e5, 2e5), found=(2e5, 3e5), zero=(3e4, 5e4), shared=(1e3, 1e3), peek=(3e3, 2e4), fault=1e4)
"""Pages that take so long that a share of a CPU is soon spent."""


@pytest.fixture(scope="module")
def guests():
    return history(like_guests())


def minute(memory, policy, pace, costs=COSTS, **settings):
    settings = {"duration": 60.0, "by_bytes": False, **settings}
    return Run(memory, Settings(policy=policy, seed=1, pace=pace, **settings), costs).go()


def test_defaults_are_those_of_esx_and_of_ksm():
    assert (PagesPerSecond().rate, ESX_RATE) == (200, 200)
    ksm = WakeAndSleep()
    assert (ksm.pages, ksm.sleep) == (KSM_PAGES, KSM_SLEEP) == (100, 0.02)


@pytest.mark.parametrize("rate", [1e-3, 0.3, 1, 7.77, 200, 12_345, 1e6])
def test_pages_per_second(rate):
    pace, pages, seconds = PagesPerSecond(rate), 0, 0.0
    while seconds < max(60, 300 / rate):
        more, passed = pace.step(0.5)  # what they take makes no difference
        assert passed <= max(LONGEST, 1 / rate)
        pages, seconds = pages + more, seconds + passed
        assert pages <= rate * seconds * (1 + 1e-9)
    assert pages == pytest.approx(rate * seconds, rel=0.01)


@pytest.mark.parametrize(
    ("pages", "sleep", "each"), [(100, 0.02, 1e-5), (1, 0.001, 0), (1000, 0.5, 1e-4), (7, 0, 1e-3)]
)
def test_wake_and_sleep_is_ksms(pages, sleep, each):
    """KSM looks at ``pages``, which takes its time, and sleeps: nothing else sets its rate."""
    pace, seen, seconds, spent = WakeAndSleep(pages, sleep), 0, 0.0, 0.0
    for _ in range(1000):
        more, passed = pace.step(spent)
        seen, seconds, spent = seen + more, seconds + passed, more * each
    assert seen / seconds == pytest.approx(pages / (sleep + pages * each), rel=0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PagesPerSecond(0),
        lambda: PagesPerSecond(float("nan")),
        lambda: CpuShare(0),
        lambda: CpuShare(1.1),
        lambda: WakeAndSleep(0),
        lambda: WakeAndSleep(1, -1),
    ],
)
def test_paces_that_make_no_sense(make):
    with pytest.raises(ValueError, match=r"must be|at least"):
        make()


@pytest.mark.parametrize("duration", [60, 0.05, 0.321, 7.7])
@pytest.mark.parametrize("rate", [200.0, 10_000.0])
def test_a_replay_keeps_the_rate_to_its_end(guests, rate, duration):
    course = minute(guests, "random-permutation", lambda: PagesPerSecond(rate), duration=duration)
    assert course.last.seconds == duration
    assert rate * duration - 1 <= course.last.visits + 1e-6
    assert course.last.visits <= rate * duration + 1e-6


@pytest.mark.parametrize("policy", ["zero-first", "peek-runs"])
@pytest.mark.parametrize(("rate", "price"), [(200.0, 0.04), (200.0, 0.5), (5000.0, 1.0)])
def test_peeks_take_their_price_of_the_pages_that_are_allowed(guests, policy, rate, price):
    course = minute(guests, policy, lambda: PagesPerSecond(rate), peek_price=price)
    last, peeked = course.last, 0
    for before, after in zip(course.samples, course.samples[1:], strict=False):
        peeked = max(peeked, after.peeks - before.peeks)
    assert last.peeks > 1000
    assert last.cost == pytest.approx(last.visits + price * last.peeks)
    # The peeks of a single batch may come before there is room for them.
    assert last.cost <= rate * 60 + price * peeked
    if policy == "zero-first" and rate == 200:  # all of them at once, and long ago
        assert last.visits == pytest.approx(rate * 60 - price * last.peeks, abs=2)


def test_ksms_pace_over_a_minute(guests):
    course = minute(guests, "sequential", WakeAndSleep, DEAR)
    last = course.last
    assert last.cpu_seconds > 1
    assert last.visits / KSM_PAGES * KSM_SLEEP + last.cpu_seconds == pytest.approx(60, rel=0.01)


@pytest.mark.parametrize("policy", ["sequential", "random-permutation", "peek-runs", "zero-first"])
@pytest.mark.parametrize("share", [0.001, 0.02, 1.0])
def test_a_share_of_a_cpu_over_a_minute(guests, policy, share):
    course = minute(guests, policy, lambda: CpuShare(share), DEAR)
    sweep = like_guests()[0].size * 4 * 3e3 * 1e-9 if policy == "zero-first" else 0
    # A sweep of peeks beforehand is paid for in time: if that lasts beyond the end, not wholly.
    if sweep < 60 * share:
        assert course.last.cpu_seconds / course.last.seconds == pytest.approx(share, rel=0.01)


def test_a_share_so_small_that_single_pages_wait_for_it(guests):
    course = minute(guests, "random-permutation", lambda: CpuShare(1e-5), DEAR, duration=3600.0)
    assert 0 < course.last.visits < 400
    assert course.last.cpu_seconds <= 1e-5 * 3600 + 3e-4


class Counted:
    """A policy whose visits are counted by owner, and never more than ``rate`` allows."""

    def __init__(self, name, rate, view):
        self.view, self.inner, self.rate = view, policies.create(name, view), rate
        self.next = self.inner.next
        self.seen = np.zeros(view.owners, int)

    def feedback(self, pages, outcomes, partners):
        self.seen += np.bincount(self.view.owner[pages], minlength=self.view.owners)
        assert (self.seen <= self.rate * self.view.now).all()
        self.inner.feedback(pages, outcomes, partners)


@pytest.mark.parametrize("name", ["random-permutation", "random-with-replacement", "stratified"])
def test_each_owner_at_its_own_rate(name):
    """No owner ever above its rate; all of them at it, if the whole rate suffices and they have pages."""
    rate = 20.0
    memory = history([like_guests(seed=3 + i, guests=1, pages=pages)[0] for i, pages in enumerate((1536, 2048))])
    settings = Settings(
        policy=lambda view: Counted(name, rate, view),
        pace=lambda: PagesPerSecond(1000.0),
        per_owner=rate,
        duration=60.0,
        by_bytes=False,
    )
    run = Run(memory, settings, COSTS)
    course = run.go()
    assert run.policy.seen == pytest.approx(np.full(2, rate * 60), rel=0.01)
    assert run.policy.seen.sum() == course.last.visits


def test_an_order_by_owner_waits_for_the_owner_that_it_is_at():
    two = history(like_guests(guests=2))
    _, (pages, _, _) = replayed(
        two, "sequential", by_bytes=False, pace=lambda: PagesPerSecond(1000.0), per_owner=10.0, duration=60.0
    )
    assert len(pages) == 600
    assert pages.max() < 2048


def test_owners_have_no_rate_by_default(guests):
    assert Settings().per_owner is None
    course = minute(guests, "sequential", lambda: PagesPerSecond(1000.0))
    assert course.last.visits == 60_000


def test_a_rate_of_owners_needs_time(guests):
    with pytest.raises(ValueError, match="give a pace"):
        Run(guests, Settings(per_owner=10.0), COSTS)
    with pytest.raises(ValueError, match="above 0"):
        Run(guests, Settings(per_owner=0.0, pace=PagesPerSecond), COSTS)


def test_a_huge_rate_ends_when_all_is_found(guests):
    course = Run(guests, Settings(policy="random", pace=lambda: PagesPerSecond(1e11), by_bytes=False), COSTS).go()
    assert course.last.saved == course.last.possible
    assert course.last.visits <= course.pages
    assert len(course.samples) > 3


def test_without_a_sleep_time_goes_by_from_the_second_page_on():
    pace, seen, seconds, spent = WakeAndSleep(100_000, 0.0), 0, 0.0, 0.0
    for _ in range(10):
        pages, passed = pace.step(spent)
        seconds += passed
        assert seconds == pytest.approx(seen * 1e-6)  # of all pages before these
        assert pages <= seen + 1
        seen, spent = seen + pages, pages * 1e-6
    assert seen == 1023
