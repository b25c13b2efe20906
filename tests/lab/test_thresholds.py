"""The four states, and that free memory which moves within the band changes nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageshare.lab.admission import OVERHEAD, admit
from pageshare.lab.thresholds import State, Thresholds


def test_down_below_the_mark_up_only_well_above_the_next_higher_one():
    thresholds = Thresholds()
    course = [
        (0.50, State.HIGH), (0.041, State.HIGH), (0.039, State.SOFT), (0.06, State.SOFT), (0.064, State.SOFT),
        (0.066, State.HIGH), (0.019, State.HARD), (0.041, State.HARD), (0.044, State.HARD), (0.046, State.SOFT),
        (0.009, State.LOW), (0.0, State.LOW), (0.021, State.LOW), (0.023, State.HARD), (0.9, State.HIGH),
        (0.001, State.LOW), (0.05, State.SOFT),
    ]  # fmt: skip
    assert [thresholds.look(free) for free, _state in course] == [state for _free, state in course]
    assert thresholds.changes == 9


@pytest.mark.parametrize(("state", "mark"), [(State.LOW, 0.0225), (State.HARD, 0.045), (State.SOFT, 0.065)])
def test_where_a_state_is_left(state, mark):
    assert Thresholds().leaves(state) == pytest.approx(mark)


@given(st.lists(st.floats(0.0401, 0.0649), min_size=2))
def test_there_is_no_oscillation_within_the_band(course):
    for begin, stays in ((0.5, State.HIGH), (0.03, State.SOFT)):
        thresholds = Thresholds()
        thresholds.look(begin)
        before = thresholds.changes
        assert {thresholds.look(free) for free in course} == {stays}
        assert thresholds.changes == before


def test_without_hysteresis_there_is():
    free = 0.04 + 0.001 * (-1.0) ** np.arange(100)
    with_band, without = Thresholds(), Thresholds(hysteresis=0)
    for share in free:
        with_band.look(share)
        without.look(share)
    assert (with_band.changes, without.changes) == (1, 99)


@given(st.lists(st.floats(0, 1)), st.floats(0, 2), st.lists(st.floats(0, 0.5), min_size=4, max_size=4))
def test_looking_twice_is_looking_once_and_less_free_is_never_a_higher_state(course, hysteresis, marks):
    low, hard, soft, high = sorted(marks)
    thresholds = Thresholds(high, soft, hard, low, hysteresis)
    state = State.HIGH
    for free in course:
        found = thresholds.look(free)
        assert thresholds.look(free) == found
        for lower in State:
            if lower < found and free < thresholds.marks[lower]:
                pytest.fail("it should be in a lower state")
        if found > state:
            assert free >= thresholds.leaves(State(found - 1))
        state = found


def test_marks_that_make_no_sense():
    for marks in ({"low": 0.5}, {"high": 1.0}, {"hysteresis": -0.1}, {"hysteresis": 2.1}, {"soft": 0.01}):
        with pytest.raises(ValueError, match=r"thresholds|hysteresis"):
            Thresholds(**marks)


def test_admission_needs_the_minimum_and_the_overhead_in_memory_and_the_rest_on_disk():
    assert OVERHEAD * 4096 == 32 << 20
    assert admit(least=1000, size=3000, memory=1000 + OVERHEAD, swap=2000).fits
    short = admit(least=1000, size=3000, memory=900, swap=1500)
    assert (short.memory, short.swap, short.fits) == (100 + OVERHEAD, 500, False)
    assert admit(least=3000, size=3000, memory=5000, swap=0, overhead=2000).fits
    for least in -1, 3001:
        with pytest.raises(ValueError, match="from 0 to its size"):
            admit(least=least, size=3000, memory=0, swap=0)
