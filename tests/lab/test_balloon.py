"""The balloon message by message, and what each of its safeguards is there for.

Each sequence here is the shortest that shows what goes wrong; it is played with the safeguard, and without. A message
takes a millisecond each way.
"""

import numpy as np
import pytest

from lab.scripted import STEP, Script, at_rest, read, written
from pageshare.lab.balloon import OOM_PAGES, Driver, Polls, Safeguards
from pageshare.lab.frames import Place
from pageshare.lab.free_pages import FreePageHinting, FreePageReporting
from pageshare.lab.guest import Guest
from pageshare.lab.host import Host
from pageshare.lab.invariants import broken, check
from pageshare.lab.memory import SECOND
from pageshare.lab.thresholds import State

MS = 1000
NEVER = Polls(1 << 50)


class Wanting(Host):
    """A host that wants what it is told to."""

    wanted = 0

    def balloon_target(self, _number):
        return self.wanted


class Late(Wanting):
    """One that frees what is behind ballooned pages some time after it was told of them, if they still are ballooned:
    as one may that unmaps in batches, or in a thread of its own."""

    late = 14 * MS

    def lock(self, guest, pages):
        guest.pmap.ballooned[pages] = True
        self.clock.after(self.late, lambda: self.leave(guest, pages[guest.pmap.ballooned[pages]]))


def ballooned(host, *, pages=90, latency=MS, **options):
    """A guest of 100 pages, so many of which the host wants from now on."""
    guest = at_rest(host, 100, least=10)
    driver = Driver(guest, options.pop("polls", NEVER), latency=latency, page_time=0, **options)
    host.wanted = pages
    driver.wake()
    return guest, driver


def test_inflating_frees_frames_and_deflating_needs_none():
    host = Wanting(1000)
    guest = at_rest(host, 100, least=10)
    guest.touch(written(range(100)))
    assert host.frames.free == 900
    driver = Driver(guest, NEVER, latency=MS, page_time=0)
    host.wanted = 90
    driver.wake()
    host.clock.run(SECOND)
    assert (driver.held, host.frames.free, guest.free, guest.counts.paged_out) == (90, 990, 0, 90)
    host.frames.free, spare = 0, host.frames.free
    host.wanted = 0
    driver.wake()
    host.clock.run(2 * SECOND)
    assert (driver.held, guest.free) == (0, 90), "no frame is needed to deflate"
    host.frames.free = spare
    guest.touch(read(range(100)))
    assert host.frames.free == 900, "but one is for each page, at its first touch"
    check(host)


def test_what_comes_back_from_the_balloon_is_zero():
    host = Wanting(1000)
    guest = at_rest(host, 100, least=10)
    guest.touch(written(range(100)))
    driver = Driver(guest, NEVER, latency=MS)
    host.wanted = 50
    driver.wake()
    host.clock.run(SECOND)
    had = driver.told()
    host.wanted = 0
    driver.wake()
    host.clock.run(2 * SECOND)
    host.touch(guest, had)
    assert not host.frames.content[guest.pmap.frame[had]].any()
    assert host.counts.pops == 0


def test_a_message_takes_its_time_each_way():
    host = Wanting(1000)
    guest, driver = ballooned(host)
    for until, held, on_the_way, annotated, messages in (
        (1 * MS - 1, 0, 0, 0, 1),  # asked
        (2 * MS - 1, 0, 0, 0, 2),  # answered
        (2 * MS, 0, 90, 0, 3),  # LOCK
        (3 * MS, 0, 90, 90, 4),  # served
        (4 * MS, 90, 0, 90, 4),  # known to be
    ):
        host.clock.run(until)
        state = driver.held, len(driver._on_the_way), int(guest.pmap.ballooned.sum()), driver.messages
        assert state == (held, on_the_way, annotated, messages), until
        check(host)


def test_a_batch_a_message_and_no_faster_than_the_rate():
    host = Wanting(1000)
    _guest, driver = ballooned(host, batch=10, rate=1000.0, latency=0)
    host.clock.run(45 * MS)
    assert (driver.held, driver.messages) == (40, 2 + 2 * 4 + 1)
    host.clock.run(SECOND)
    assert (driver.held, driver.messages) == (90, 2 + 2 * 9)


def test_polls_are_on_time_and_adaptive_ones_go_faster_as_long_as_the_target_moves():
    host = Wanting(1000)
    guest = at_rest(host, 100, least=10)
    asked = []
    driver = Driver(guest, Polls(800 * MS, phase=100 * MS, fastest=100 * MS), latency=0)
    wake = driver.wake
    driver.wake = lambda: (asked.append(host.clock.now // MS), wake())
    host.clock.run(2 * SECOND)
    assert asked == [100, 900, 1700]
    for change in range(1, 40):
        host.clock.at(2 * SECOND + change * 90 * MS, lambda change=change: setattr(host, "wanted", change))
    host.clock.run(8 * SECOND)
    gaps = np.diff(asked).tolist()
    assert gaps[2:6] == [800, 400, 200, 100]
    assert set(gaps[5:25]) == {100}
    assert gaps[-5:] == [100, 200, 400, 800, 800]
    plain = Driver(at_rest(host, 100), Polls(300 * MS), latency=0)
    host.clock.run(host.clock.now + 3 * SECOND)
    assert plain.messages == 2 * 10 + 2, "ten polls, one of them with a LOCK"


def test_a_doorbell_is_heard_at_once():
    host = Host(1000)
    guest = Guest(host, 800, [Script(800)], least=0)
    other = Guest(host, 800, [Script(800)], least=0)
    driver = Driver(guest, Polls(1 << 40, doorbell=True), latency=MS)
    guest.touch(written(range(600)))
    other.touch(written(range(370)))
    assert (driver.messages, host.balloon_target(0)) == (1, 235)
    host.clock.run(10 * MS + 10 * MS)
    assert driver.held == 235
    assert driver.messages == 1 + 2 * 2


def test_on_oom_the_guest_takes_pages_unasked():
    host = Wanting(2000)
    guest = at_rest(host, 600, least=10, deflate_on_oom=True)
    driver = Driver(guest, NEVER, latency=MS)
    host.wanted = 590
    driver.wake()
    host.clock.run(SECOND)
    assert driver.held == 590
    guest.touch(written(range(64)))
    assert guest.counts.out_of_memory == 0
    assert driver.held == 590 - OOM_PAGES
    check(host)


def test_without_that_touches_find_no_memory():
    host = Wanting(2000)
    guest = at_rest(host, 600, least=10)
    Driver(guest, NEVER, latency=MS)
    host.wanted = 590
    guest.driver.wake()
    host.clock.run(SECOND)
    guest.touch(written(range(64)))
    assert guest.counts.out_of_memory == 54
    check(host)


def test_after_a_pop_whatever_message_is_next_is_answered_with_reset():
    host = Wanting(1000)
    guest, driver = ballooned(host)
    host.clock.run(10 * MS)
    host.wanted = 40
    driver.wake()
    host.clock.run(12 * MS)
    stray = driver.told()[:3]
    host.touch(guest, stray)
    assert (host.counts.pops, guest.pmap.popped) == (3, True)
    assert not host.frames.content[guest.pmap.frame[stray]].any()
    host.clock.run(13 * MS)
    assert guest.pmap.ballooned.sum() == 87, "UNLOCK was not served"
    host.clock.run(14 * MS)
    assert (driver.held, guest.free, driver.resets, driver.begins) == (0, 100, 1, True)
    host.clock.run(SECOND)
    assert not guest.pmap.popped
    assert not guest.pmap.ballooned.any()
    driver.wake()
    host.clock.run(2 * SECOND)
    assert driver.held == 40
    check(host)


def test_no_page_is_used_before_unlock_was_answered():
    """1. The balloon has pages. 2. The driver frees them, and sends UNLOCK. 3. A program gets one of them, and writes
    it: a pop, and all begins anew for nothing. (4. UNLOCK arrives.)"""
    for tell_first in True, False:
        host = Wanting(1000)
        guest, driver = ballooned(host, safeguards=Safeguards(tell_first=tell_first))
        host.clock.run(10 * MS)
        host.wanted = 0
        driver.wake()
        host.clock.run(12 * MS)
        assert guest.free == (10 if tell_first else 100)
        found = list(broken(host))
        assert found == ([] if tell_first else ["guest1: the host knows what the balloon has not"])
        guest.touch(written(range(20), contents=range(1, 21)))
        host.clock.run(SECOND)
        check(host)
        assert (host.counts.pops, driver.resets) == ((0, 0) if tell_first else (20, 1))


def test_with_a_host_that_frees_late_pages_are_lost_unless_it_is_told_first():
    """1. LOCK; the host is to free the frames in 14 ms. 2. The driver frees the pages, and sends UNLOCK. 3. A program
    gets one, and writes it: the frame is still there, so nothing pops. 4. The host frees it. 5. UNLOCK arrives."""
    for tell_first in True, False:
        host = Late(1000)
        guest = at_rest(host, 100, least=10)
        host.touch(guest, np.arange(100, dtype=np.uint32))  # all pages have frames
        driver = Driver(guest, NEVER, latency=4 * MS, page_time=0, safeguards=Safeguards(tell_first=tell_first))
        host.wanted = 90
        driver.wake()
        host.clock.run(17 * MS)  # LOCK was served at 12 ms, so frames go at 26
        host.wanted = 0
        driver.wake()  # told at 25 ms
        host.clock.run(25 * MS)
        guest.touch(written(range(30), contents=range(1, 31)))
        assert host.counts.pops == 0
        host.clock.run(26 * MS)
        found = list(broken(host))
        if tell_first:
            assert "guest1: a page holds what its program wrote last" not in found
        else:
            assert "guest1: a page holds what its program wrote last" in found
        host.clock.run(SECOND)
        lost = "guest1: a page holds what its program wrote last" in list(broken(host))
        assert lost != tell_first


def test_a_lock_of_before_the_reset_takes_what_a_program_has_by_now():
    """1. LOCK is on its way. 2. The guest is reset. 3. A program writes one of the pages. 4. LOCK arrives: its frame is
    free, and what was written is lost. 5. It reads zeros; a pop."""
    for ignored in True, False:
        host = Wanting(1000)
        guest, _driver = ballooned(host, safeguards=Safeguards(ignore_stale=ignored))
        host.clock.run(2 * MS)
        guest.restart()
        guest.touch(written(range(20), contents=range(1, 21)))
        check(host)
        host.clock.run(3 * MS)
        assert ("guest1: a page holds what its program wrote last" in list(broken(host))) != ignored
        guest.touch(read(range(20)))
        assert host.counts.pops == (0 if ignored else 20)
        held = host.frames.content[guest.pmap.frame[guest.at[:20]]].tolist()
        assert held == (list(range(1, 21)) if ignored else [0] * 20)


def test_without_a_reset_the_host_believes_in_a_balloon_that_nobody_has():
    """1. The balloon has pages. 2. The guest is reset; its new driver knows of nothing. 3. What the host has annotated
    stays so until each page is touched, one pop each: it counts as ballooned what the guest has on its free list."""
    for reset in True, False:
        host = Wanting(1000)
        guest, driver = ballooned(host, pages=50, safeguards=Safeguards(reset=reset))
        host.clock.run(10 * MS)
        guest.restart()
        host.wanted = 0
        driver.wake()
        host.clock.run(SECOND)
        assert driver.held == 0
        assert guest.pmap.ballooned.sum() == (0 if reset else 50)
        assert list(broken(host)) == ([] if reset else ["guest1: the host knows what the balloon has not"])
        guest.touch(written(range(60), contents=range(1, 61)))
        assert host.counts.pops == (0 if reset else 50)
        host.clock.run(2 * SECOND)
        check(host)


@pytest.mark.parametrize("ignored", [True, False])
def test_a_guest_that_is_reset_again_and_again_ends_well(ignored):
    host = Wanting(1000)
    guest, driver = ballooned(host, pages=80, batch=7, safeguards=Safeguards(ignore_stale=ignored))
    for i in range(60):
        host.clock.run(host.clock.now + 1700)
        if i % 7 == 3:
            guest.restart()
            driver.wake()
        if ignored:
            check(host)
    host.clock.run(SECOND)
    driver.wake()
    host.clock.run(2 * SECOND)
    assert driver.held == 80
    check(host)


def test_free_pages_are_reported_in_whole_blocks_and_cost_nothing_to_use_again():
    host = Host(1000)
    guest = Guest(host, 200, [Script(200)])
    reporting = FreePageReporting(guest, after=4 * STEP, block=16)
    guest.touch(written(range(200)))
    assert host.frames.free == 800
    kept = guest.at[:5].copy()
    guest._release(np.arange(5, 200))
    host.clock.run(SECOND)
    assert (guest.pmap.frame[kept] >= 0).all()
    blocks = np.unique(kept // 16)
    assert host.frames.free == 1000 - sum(min(16, 200 - 16 * block) for block in blocks) - 8
    assert reporting.messages == 2
    assert (guest.pmap.place[:8] == Place.ABSENT).all() != (0 in blocks)
    guest.touch(written(range(5, 200)))
    assert host.frames.free == 800
    assert host.counts.pops == 0
    check(host)


def test_free_pages_are_asked_for_while_memory_is_short_and_only_then():
    host = Host(1000)
    guest, other = Guest(host, 600, [Script(600)]), Guest(host, 600, [Script(600)])
    hinting = FreePageHinting(guest, again=2 * SECOND, block=100)
    guest.touch(written(range(550)))
    kept = guest.at[:50].copy()
    guest._release(np.arange(50, 550))
    host.clock.run(SECOND)
    assert (host.state, host.frames.free, hinting.messages) == (State.HIGH, 450, 0)
    other.touch(written(range(425)))
    assert host.state == State.SOFT
    host.clock.run(host.clock.now + STEP)
    # What is kept lies in the first of six blocks, and half of the last was never touched.
    assert set((kept // 100).tolist()) == {0}
    assert (host.frames.free, hinting.messages) == (25 + 450, 1 + 5 + 2)
    assert (guest.pmap.frame[kept] >= 0).all()
    # They are the guest's all the while.
    guest.touch(written(range(100, 200)))
    assert host.counts.pops == 0
    check(host)


def test_hints_are_asked_for_again_only_so_often_and_of_a_guest_that_runs():
    host = Host(195)
    host.swap.wake = lambda: None
    guest = Guest(host, 190, [Script(190)], least=190)
    hinting = FreePageHinting(guest, again=2 * SECOND, block=4)
    guest.touch(written(range(189)))
    host.clock.every(SECOND // 4, host.balance)
    host.clock.run(7 * SECOND)
    assert host.state == State.SOFT
    # Asked, nothing to tell, done: at 0, 2, 4 and 6 seconds.
    assert hinting.messages == 12
    guest.blocked, before = True, hinting.messages
    host.clock.run(13 * SECOND)
    assert hinting.messages - before == 3


def test_in_the_soft_state_the_host_swaps_only_where_balloons_cannot_take():
    def swapped(most, phase):
        host = Host(1000)
        guest = Guest(host, 1000, [Script(1000)], least=100)
        guest.most_ballooned = most
        Driver(guest, Polls(SECOND, phase=phase), latency=MS)
        guest.touch(written(range(970)))
        assert host.state == State.SOFT
        host.clock.run(3 * SECOND)
        assert host.state == State.HIGH
        check(host)
        return host.counts.swapped_out

    assert swapped(650, 5 * MS) == 0
    # At its bound, and not heard of.
    assert swapped(0, 5 * MS) > 0
    assert swapped(650, 100 * SECOND) > 0


def test_the_host_writes_though_guests_keep_the_disk_busy():
    host = Host(1000)
    guest = Guest(host, 1000, [Script(1000)], least=100)
    guest.touch(written(range(970)))
    host.clock.every(STEP, lambda: host.disk.reads(100))
    host.clock.run(10 * SECOND)
    assert host.disk.busy_until > host.clock.now + 10 * SECOND
    assert host.counts.swapped_out > 0
    assert host.state == State.HIGH
