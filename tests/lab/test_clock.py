"""Virtual time, and that a run depends on nothing but its seed."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.scenes import scene
from lab.scripted import STEP
from pageshare.lab.clock import Clock


@given(st.lists(st.integers(0, 20)))
def test_events_happen_by_time_and_those_of_one_moment_as_asked_for(times):
    clock, happened = Clock(), []
    for i, time in enumerate(times):
        clock.at(time, lambda time=time, i=i: happened.append((time, i, clock.now)))
    clock.run(100)
    assert [(time, i) for time, i, _now in happened] == sorted((time, i) for i, time in enumerate(times))
    assert all(time == now for time, _i, now in happened)
    assert (clock.now, clock.happened) == (100, len(times))


def test_what_is_cancelled_does_not_happen():
    clock, happened = Clock(), []
    events = [clock.at(i, lambda i=i: happened.append(i)) for i in range(5)]
    clock.at(1, events[3].cancel)
    events[0].cancel()
    clock.run(10)
    assert happened == [1, 2, 4]


def test_what_is_asked_for_in_an_event_at_the_same_moment_still_happens_then():
    clock, happened = Clock(), []
    clock.at(5, lambda: clock.after(0, lambda: happened.append(clock.now)))
    clock.run(5)
    assert happened == [5]


def test_again_and_again_without_drift_until_it_is_cancelled():
    clock, times = Clock(), []

    def call():
        times.append(clock.now)
        if len(times) == 4:
            event.cancel()

    event = clock.every(7, call, first=3)
    clock.run(100)
    assert times == [3, 10, 17, 24]
    with pytest.raises(ValueError, match="positive"):
        clock.every(0, call)


def test_the_past_is_past():
    clock = Clock()
    clock.run(10)
    with pytest.raises(ValueError, match="past"):
        clock.at(9, lambda: None)
    clock.run(5)
    assert clock.now == 10


def everything(seed):
    """A hash of all that a run ends with."""
    host, _plain = scene(seed)
    host.clock.run(20 * STEP)
    state = hashlib.sha256()
    arrays = [host.frames.content, host.frames.users, host.frames.unused(), np.array(host.targets)]
    for guest in host.guests:
        memory, pmap = guest.memory, guest.pmap
        arrays += [pmap.place, pmap.frame, pmap.ballooned, pmap.stored, guest.held, guest.at, guest.free_list]
        arrays += [memory.touched, memory.written, memory.worked, memory.zero, memory.thread, memory.freed]
        state.update(repr((guest.counts, guest.disk.busy_until, guest.rng.bit_generator.state)).encode())
        if guest.estimator is not None:
            state.update(repr(guest.estimator.active).encode())
    for array in arrays:
        state.update(array.tobytes())
    state.update(repr((host.counts, host.in_state, host.disk.busy_until, host.clock.happened)).encode())
    return state.hexdigest()


def test_the_same_seed_gives_the_same_run_to_the_last_bit_and_another_one_another():
    runs = [everything(seed) for seed in (3, 4, 7)]
    assert runs == [everything(seed) for seed in (3, 4, 7)]
    assert len(set(runs)) == 3
