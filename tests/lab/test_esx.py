"""ESX's sampling: its error and its response are those of the closed forms."""

import math

import numpy as np
import pytest

from pageshare.lab.estimators.esx import Esx
from pageshare.lab.estimators.filters import NoFilter
from pageshare.lab.memory import SECOND, Memory
from pageshare.lab.view import View

PERIOD = 30 * SECOND


def period(memory, estimator, active, *, steps=1):
    """A period in which these pages are touched."""
    for _ in range(steps):
        memory.now += PERIOD // steps
        memory.touch(active)
        estimator.step()


@pytest.mark.parametrize(("share", "n"), [(0.5, 100), (0.1, 100), (0.5, 400), (0.9, 25)])
def test_the_error_is_that_of_a_sample(share, n):
    memory = Memory(20_000)
    active = np.arange(int(share * 20_000), dtype=np.uint32)
    found = []
    for seed in range(1000):
        estimator = Esx(View(memory), np.random.default_rng(seed), n=n)
        period(memory, estimator, active)
        found.append(estimator.active)
    sd = math.sqrt(share * (1 - share) / n)
    assert np.mean(found) == pytest.approx(share, abs=4 * sd / math.sqrt(1000))
    assert np.std(found) == pytest.approx(sd, rel=4 / math.sqrt(2 * 1000))


def follow(before, after, periods, **options):
    """The estimate at the end of each period since the share of touched pages changed, without sampling error."""
    memory = Memory(100)
    estimator = Esx(View(memory), np.random.default_rng(1), n=100, **options)
    for _ in range(60):
        period(memory, estimator, np.arange(before, dtype=np.uint32))
    course = []
    for _ in range(periods):
        period(memory, estimator, np.arange(after, dtype=np.uint32))
        course.append(estimator.active)
    return np.array(course)


def test_up_fast():
    course = follow(10, 90, 6)
    assert course == pytest.approx(0.1 + 0.8 * (1 - 0.5 ** (np.arange(6) + 1.0)), abs=1e-3)
    assert np.flatnonzero(course >= 0.1 + 0.9 * 0.8)[0] + 1 == 4, "nine tenths within four periods"


def test_down_slowly():
    course = follow(90, 10, 30)
    assert course == pytest.approx(0.1 + 0.8 * (7 / 8) ** (np.arange(30) + 1.0), abs=1e-3)
    assert np.flatnonzero(course <= 0.1 + 0.1 * 0.8)[0] + 1 == 18, "nine minutes"
    assert np.flatnonzero(follow(90, 10, 60, slow=1 / 20, fast=1 / 4) <= 0.18)[0] + 1 == 45


def test_a_rise_is_noticed_within_the_period():
    memory = Memory(1000)
    estimator = Esx(View(memory), np.random.default_rng(1), n=1000)
    period(memory, estimator, np.arange(100, dtype=np.uint32), steps=10)
    assert estimator.active == pytest.approx(0.1)
    memory.now += SECOND
    memory.touch(np.arange(900, dtype=np.uint32))
    estimator.step()
    assert estimator.active == pytest.approx(0.1 + 0.5 * (0.9 - 0.1))


def test_until_a_period_has_passed_all_is_taken_to_be_in_use_and_a_halted_guest_stays_as_it_was():
    memory = Memory(1000)
    estimator = Esx(View(memory), np.random.default_rng(1))
    estimator.step()
    assert estimator.active == 1.0
    period(memory, estimator, np.arange(500, dtype=np.uint32))
    stale = estimator.active
    for _ in range(1000):
        estimator.step()
    assert estimator.active == stale


def test_at_most_n_faults_and_n_visits_a_period():
    memory = Memory(1000)
    view = View(memory)
    estimator = Esx(view, np.random.default_rng(1), n=100)
    for _ in range(10):
        period(memory, estimator, np.arange(1000, dtype=np.uint32), steps=30)
    assert view.costs.faults == 10 * 100
    assert view.costs.visits == 11 * 100
    assert view.costs.tests == view.costs.hypercalls == 0


def test_a_filter_keeps_what_it_learnt_from_one_period_to_the_next():
    made = []

    class Noting(NoFilter):
        def __init__(self, traps, rng):
            super().__init__(traps, rng)
            made.append(traps)

    memory = Memory(1000)
    estimator = Esx(View(memory), np.random.default_rng(1), n=50, period=1.0, through=Noting)
    for second in range(1, 6):
        memory.now = second * SECOND
        estimator.step()
    assert made == [50]
