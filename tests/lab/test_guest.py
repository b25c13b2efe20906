"""A guest's own paging, and what is and is not its programs' work."""

import numpy as np
import pytest

from lab.scripted import STEP, Script, at_rest, read, released, written, zeroed
from pageshare.lab.balloon import Driver, Polls
from pageshare.lab.clock import Clock
from pageshare.lab.disk import Disk
from pageshare.lab.frames import Place
from pageshare.lab.guest import Guest
from pageshare.lab.host import Host
from pageshare.lab.invariants import check
from pageshare.lab.memory import SECOND
from pageshare.lab.programs import READ, RELEASED, WRITTEN, ZERO, Touch
from pageshare.lab.thresholds import State


def test_what_is_touched_and_released_at_once_was_touched():
    host = Host(1000)
    guest = at_rest(host, 300)
    guest.touch(Touch(np.arange(100, dtype=np.uint32), WRITTEN | RELEASED))
    assert (host.counts.first_touches, guest.free, guest.memory.active()) == (100, 300, pytest.approx(100 / 300))
    # Zeros by the program's own work are not the guest's free pages that a thread clears.
    guest.touch(Touch(np.arange(200, dtype=np.uint32), WRITTEN | ZERO | RELEASED))
    assert (host.counts.first_touches, guest.free, guest.memory.active()) == (200, 300, pytest.approx(200 / 300))


def test_a_page_that_comes_in_for_a_thread_is_no_more_work_than_its_touch():
    """A collector's thread reads what was never touched: memory is used, but not by the guest's work."""
    host = Host(1000)
    guest = at_rest(host, 500)
    guest.memory.now = SECOND
    threads = np.arange(100, dtype=np.uint16)
    guest.touch(Touch(np.arange(100, dtype=np.uint32), WRITTEN, work=False, thread=threads))
    assert guest.memory.active() == 0
    assert guest.memory.thread[guest.at[:100]].tolist() == threads.tolist()
    guest.touch(Touch(np.arange(100, 200, dtype=np.uint32), READ, work=threads < 30))
    assert guest.memory.active() == 30 / 500


def test_pages_of_files_hold_their_bytes_before_they_are_read_and_after_they_were_dropped():
    host = Host(1000)
    guest = Guest(host, 100, [Script(200, file_pages=100)])
    guest.touch(read(range(100, 180)))
    own = guest.at[100:180]
    contents = host.frames.content[guest.pmap.frame[own]]
    assert len(np.unique(contents)) == 80
    assert contents.all(), "no page of a file is zero"
    assert not guest.memory.zero[own].any()
    guest.touch(released(range(100, 180)))
    guest.touch(read(range(100, 180)))
    assert (host.frames.content[guest.pmap.frame[guest.at[100:180]]] == contents).all()
    assert (guest.counts.read, guest.disk.read, guest.disk.written) == (160, 160, 0)
    guest.restart()
    guest.touch(read(range(100, 180)))
    assert (host.frames.content[guest.pmap.frame[guest.at[100:180]]] == contents).all()


def test_files_are_dropped_for_nothing_before_others_are_paged_out():
    host = Host(1000)
    guest = Guest(host, 128, [Script(300, file_pages=200)])
    guest.touch(written(range(64)))
    guest.memory.now += SECOND
    guest.touch(read(range(200, 264)))
    guest.memory.now += SECOND
    guest.touch(written(range(64)))
    guest.touch(written(range(64, 128)))
    check(host)
    assert (guest.counts.dropped, guest.counts.paged_out, guest.disk.written) == (64, 0, 0)


def test_what_is_paged_out_comes_back_as_it_was():
    host = Host(1000)
    guest = Guest(host, 128, [Script(512)])
    guest.touch(written(range(512), contents=range(1, 513)))
    assert guest.counts.paged_out >= 512 - 128
    guest.touch(read(range(512)))
    check(host)
    assert guest.counts.paged_in >= 512 - 128
    assert guest.held.tolist() == list(range(1, 513))


def test_released_pages_are_zero_when_they_are_touched_again_and_need_no_disk():
    host = Host(1000)
    guest = Guest(host, 128, [Script(256)])
    guest.touch(written(range(256)))
    out = guest.paged_out.sum()
    guest.touch(released(range(256)))
    assert out >= 128
    assert guest.free == 128
    guest.touch(read(range(64)))
    check(host)
    assert guest.disk.read == guest.counts.paged_in == 0
    assert not host.frames.content[guest.pmap.frame[guest.at[:64]]].any()


def test_a_guest_pages_out_what_it_has_not_used_for_longest():
    host = Host(2000)
    guest = Guest(host, 512, [Script(1024)])
    for first in range(0, 512, 64):
        guest.memory.now += SECOND
        guest.touch(written(range(first, first + 64)))
    guest.memory.now += SECOND
    guest.touch(written(range(512, 576)))
    gone = np.flatnonzero(guest.at[:512] < 0)
    assert len(gone) == 64
    assert gone.mean() < 100, "those touched first"


def test_what_the_host_swapped_comes_back_just_to_be_paged_out():
    """Double paging."""
    host = Host(1000)
    guest = Guest(host, 128, [Script(256)])
    guest.touch(written(range(128)))
    host.swap_out(guest, np.arange(128, dtype=np.uint32))
    guest.touch(written(range(128, 192)))
    assert host.counts.swapped_in >= 64
    assert guest.counts.paged_out == 64
    check(host)


def test_a_blocked_guest_runs_again_when_it_is_at_its_target_though_memory_stays_low():
    """Minimums that leave 1.5 % free, which is not enough to leave the low state: a guest that has no more than its
    target is not above it."""
    host = Host(1000)
    one, two = at_rest(host, 700, least=590), at_rest(host, 700, least=395)
    one.touch(written(range(600)))
    two.touch(written(range(395)))
    assert (host.state, host.targets, host.blocks(0), host.blocks(1)) == (State.LOW, [590, 395], True, False)
    host.clock.run(9_999)
    assert (one.blocked, two.blocked) == (True, False)
    host.clock.run(2 * SECOND)
    assert (host.state, host.excess(0), host.counts.swapped_out) == (State.LOW, 0, 10)
    assert not one.blocked
    assert 0 < one.counts.blocked < STEP
    assert one.counts.ran > SECOND


def test_a_blocked_guest_does_nothing_its_balloon_neither():
    """All are over their targets, and the disk is slow: nothing is reclaimed by who does not run."""
    clock = Clock()
    host = Host(1000, clock=clock, disk=Disk(clock, bandwidth=1))
    guest = at_rest(host, 1200, least=100)
    driver = Driver(guest, Polls(STEP))
    host.clock.run(STEP // 2)
    guest.touch(written(range(995)))
    assert host.state == State.LOW
    host.clock.run(STEP - 1)
    assert not guest.blocked
    host.clock.run(4 * SECOND)
    assert guest.blocked
    # All that time it waits, though the wait is not over.
    assert guest.blocked_for() == guest.waited() == 4 * SECOND - STEP
    assert driver.held == 0
    host.swap_out(guest, host.swap.victims(guest, 100, None))
    host.look()
    host.clock.run(host.clock.now + STEP)
    assert not guest.blocked
    assert guest.counts.blocked == guest.blocked_for() == 4 * SECOND - STEP


def test_time_in_each_state_adds_up_at_any_time():
    host = Host(1000)
    guest = Guest(host, 2000, [Script(2000, *[[zeroed(range(i * 20, i * 20 + 20))] for i in range(60)])])
    host.clock.run(3 * SECOND)
    assert sum(host.in_state.values()) == 3 * SECOND
    assert host.in_state[host.state] > 0
    assert guest.pmap.resident == np.count_nonzero(guest.pmap.place == Place.RESIDENT)
    host.clock.run(9 * SECOND + STEP // 3)
    assert sum(host.in_state.values()) == host.clock.now


def test_of_a_step_that_goes_on_only_what_is_over_was_run():
    host = Host(1000)
    guest = Guest(host, 100, [], step=10 * SECOND, start=SECOND)
    for now, ran in (
        (0, 0),
        (SECOND, 0),
        (4 * SECOND, 3 * SECOND),
        (11 * SECOND, 10 * SECOND),
        (12 * SECOND, 11 * SECOND),
    ):
        host.clock.run(now)
        assert (guest.ran(), guest.waited()) == (ran, 0)
