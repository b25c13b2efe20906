"""Figures of a study against runs made by hand, and programs against what they say of themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pageshare.lab import study
from pageshare.lab.memory import SECOND, Memory
from pageshare.lab.placement import PLACEMENTS, Placement
from pageshare.lab.programs import READ, RELEASED, WRITTEN, ZERO, Touch
from pageshare.lab.view import Costs, Prices, View


def made_run(truth, estimate, costs=None, step=SECOND):
    truth, estimate = np.array(truth, float), np.array(estimate, float)
    if costs is None:
        costs = np.zeros((1, len(truth), 4), np.int64)
    return study.Run(("it",), np.arange(1, len(truth) + 1) * step, truth, estimate[None, :], costs)


def test_errors_are_those_by_hand_and_the_warm_up_is_left_out():
    run = made_run([0.5, 0.5, 0.5, 0.5], [9.0, 0.6, 0.4, 0.8])
    (found,) = study.figures(run, warm_up=SECOND)
    assert found.bias == pytest.approx((0.1 - 0.1 + 0.3) / 3)
    assert found.mae == pytest.approx(0.5 / 3)
    assert found.rmse == pytest.approx(math.sqrt((0.01 + 0.01 + 0.09) / 3))
    assert math.isnan(found.lag)


def test_costs_are_those_after_the_warm_up_for_each_30_seconds():
    costs = np.array([[[100, 50, 7, 1], [110, 52, 8, 1], [130, 56, 8, 4]]])
    (found,) = study.figures(made_run([0.5] * 3, [0.5] * 3, costs), warm_up=SECOND)
    assert (found.visits, found.faults, found.tests, found.hypercalls) == (450, 90, 15, 45)
    prices = Prices()
    assert found.microseconds == pytest.approx(
        450 * prices.visit + 90 * prices.fault + 15 * prices.test + 45 * prices.hypercall
    )


def test_a_run_of_warm_up_alone_is_refused():
    with pytest.raises(ValueError, match="nothing is left"):
        study.figures(made_run([0.5], [0.5]), warm_up=SECOND)


@pytest.mark.parametrize("late", [0, 7, 40])
def test_the_lag_is_by_how_much_an_estimate_is_late(late):
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.random(60), 20)
    estimate = 0.3 + 0.5 * np.roll(truth, late)
    assert study.lag(truth[100:], estimate[100:], SECOND) == late


def test_a_response_is_measured_from_where_the_truth_moved():
    truth = np.full(400, 0.2)
    truth[100:250] = 0.8
    estimate = np.full(400, 0.2)
    estimate[109:] = 0.6
    estimate[119:] = 0.8
    estimate[254:] = 0.4
    (found,) = study.responses(made_run(truth, estimate), 100 * SECOND, 250 * SECOND)
    assert (found.up_half, found.up_most, found.down_half) == (10, 20, 5)
    assert math.isnan(found.down_most)


class Scripted:
    """Touches as given: a list for each step."""

    def __init__(self, pages, steps):
        self.pages, self.steps = pages, steps

    def run(self, begin, end):  # noqa: ARG002
        return self.steps.get(begin // SECOND, [])


class Counting:
    """Visits two pages a step, and says how often it was called."""

    def __init__(self, view, rng):
        self.view, self.active, self.first = view, 0.0, rng.random()

    def step(self):
        self.view.accessed(np.array([0, 1], np.uint32), 0)
        self.active += 0.001


def test_truth_estimate_and_costs_are_recorded_step_by_step():
    pages = np.arange(4, dtype=np.uint32)
    steps = {0: [Touch(pages[:2])], 1: [Touch(pages[2:], work=False)], 40: [Touch(pages[:1])]}
    found = study.run(Scripted(4, steps), {"a": Counting, "b": Counting}, 1, duration=45, step=SECOND)
    # Touched in the step that ends at 1 s: active until 31 s, not at it.
    assert found.truth[:30].tolist() == [0.5] * 30
    assert found.truth[30:40].tolist() == [0.0] * 10
    assert found.truth[40:].tolist() == [0.25] * 5
    assert found.estimates[0].tolist() == pytest.approx((np.arange(1, 46) * 0.001).tolist())
    assert found.costs[1, :, 0].tolist() == (np.arange(1, 46) * 2).tolist()


def test_a_program_that_began_before_is_looked_at_from_then_on():
    steps = {5: [Touch(np.arange(2, dtype=np.uint32))], 40: [Touch(np.arange(4, dtype=np.uint32))]}
    found = study.run(Scripted(4, steps), {"a": Counting}, 1, duration=33, lead=10.7, step=SECOND)
    assert (found.times[0], found.times[-1]) == (SECOND, 33 * SECOND)
    # What was touched in the step that ends at 6 s is active until 36 s, 26 s after the look began.
    assert found.truth.tolist() == [0.5] * 25 + [0.0] * 5 + [1.0] * 3
    assert found.costs[0, -1, 0] == 33 * 2


def test_what_an_estimator_draws_does_not_depend_on_the_others():
    drawn = []

    class Draws(Counting):
        def __init__(self, view, rng):
            super().__init__(view, rng)
            drawn.append(self.first)

    study.run(Scripted(4, {}), {"one": Draws}, 5, duration=1)
    study.run(Scripted(4, {}), {"other": Counting, "one": Draws}, 5, duration=1)
    study.run(Scripted(4, {}), {"one": Draws}, 6, duration=1)
    assert drawn[0] == drawn[1] != drawn[2]


def test_kinds_of_each_page_are_done_to_the_memory():
    memory = Memory(5)
    memory.now = 10
    pages = np.array([0, 1, 2, 3], np.uint32)
    kinds = np.array([READ, WRITTEN, WRITTEN | ZERO, RELEASED], np.uint8)
    memory.zero[:] = [False] * 5
    study.apply(memory, Touch(pages, kinds, np.array([True, False, True, True]), 3), pages)
    assert (memory.touched == 10).tolist() == [True, True, True, False, False]
    assert (memory.worked == 10).tolist() == [True, False, True, False, False]
    assert memory.zero.tolist() == [False, False, True, False, False]
    assert memory.free.tolist() == [False, False, False, True, True]
    assert memory.thread[:4].tolist() == [3, 3, 3, 0xFFFF]


def test_a_trap_tells_the_first_touch_of_a_step():
    memory = Memory(2)
    traps = View(memory).traps(np.array([0, 1], np.uint32))
    memory.now = 5
    memory.touch(np.array([0], np.uint32), thread=4)
    memory.touch(np.array([0, 1], np.uint32), WRITTEN, thread=6)
    assert traps.poll().tolist() == [0, 1]
    assert traps.thread.tolist() == [4, 6]
    assert traps.wrote.tolist() == [False, True]


@pytest.mark.parametrize("name", list(PLACEMENTS))
@pytest.mark.parametrize("pages", [1, 63, 5000])
def test_a_placement_hands_out_every_page_once(name, pages):
    order = PLACEMENTS[name](pages, np.random.default_rng(3))
    assert np.sort(order).tolist() == list(range(pages))


def test_runs_are_as_long_as_they_say():
    order = PLACEMENTS["runs"](1 << 16, np.random.default_rng(3)).astype(int)
    runs = 1 + np.count_nonzero(np.diff(order) != 1)
    assert (1 << 16) / runs == pytest.approx(64, rel=0.1)


def test_pages_are_placed_at_their_first_touch_and_stay():
    placement = Placement(4, np.array([7, 5, 6, 4], np.uint32))
    assert placement.of(np.array([2, 0], np.uint32)).tolist() == [7, 5]
    assert placement.of(np.array([0, 1, 2], np.uint32)).tolist() == [5, 6, 7]
    with pytest.raises(ValueError, match="do not fit"):
        Placement(4, np.zeros(3, np.uint32))


def test_free_blocks_are_charged_once_when_they_are_new():
    memory = Memory(1024)
    view = View(memory, Costs())
    memory.now = 10 * SECOND
    assert view.reported_free().all()
    memory.now = 11 * SECOND
    assert view.reported_free().all()
    assert view.costs.hypercalls == 2
    memory.touch(np.array([3], np.uint32))
    memory.release(np.array([3], np.uint32))
    assert view.reported_free()[512:].all()
    assert not view.reported_free()[:512].any()
    memory.now = 13 * SECOND
    assert view.reported_free().all()
    assert view.costs.hypercalls == 3
