"""A disk's queue, and that who waits for several things one after the other waits for each of them once."""

import numpy as np
import pytest

from lab.scripted import STEP, Script, at_rest, read, written
from pageshare.lab.clock import Clock
from pageshare.lab.disk import Disk
from pageshare.lab.guest import NOWHERE, Guest
from pageshare.lab.host import Host
from pageshare.lab.memory import SECOND
from pageshare.lab.view import View

PAGE = 5000.0 + 1e6 / 25_600
"""A read from anywhere: a seek and a page's transfer."""
FAULT = 3.5


def test_reads_are_one_after_the_other_writes_are_clustered():
    disk = Disk(Clock(), latency=4000, bandwidth=1000)
    assert disk.reads(3) == 3 * 5000
    assert disk.writes(10) == 3 * 5000 + 4000 + 10 * 1000
    assert (disk.read, disk.written) == (3, 10)
    assert disk.reads(0) == disk.writes(0) == 0
    assert disk.busy_until == 29_000


def test_a_queue_empties_as_time_goes_on():
    clock = Clock()
    disk = Disk(clock, latency=4000, bandwidth=1000)
    disk.reads(2)
    clock.run(7000)
    assert disk.reads(1) == 3000 + 5000
    clock.run(20_000)
    assert disk.reads(1) == 5000


def test_who_waited_for_the_disk_does_not_wait_for_the_same_again():
    disk = Disk(Clock(), latency=4000, bandwidth=1000)
    waited = 0.0
    for _ in range(10):
        waited += disk.reads(1, waited)
    assert waited == 10 * 5000


def test_who_asks_later_holds_up_nobody_who_asks_before():
    disk = Disk(Clock(), latency=4000, bandwidth=1000)
    assert disk.reads(1, 1_000_000) == 5000
    assert disk.reads(1) == 2 * 5000


@pytest.mark.parametrize("count", [10, 300])
def test_what_is_swapped_in_takes_the_guest_its_time_on_the_disk_and_no_more(count):
    host = Host(2000)
    guest = at_rest(host, 1000)
    guest.touch(written(range(count)))
    host.swap_out(guest, guest.at[:count].astype(np.uint32))
    assert guest.touch(read(range(count))) == pytest.approx(count * (PAGE + FAULT), rel=1e-3)


def test_touches_of_one_step_wait_one_after_the_other():
    host = Host(2000)
    guest = Guest(host, 1000, [Script(500, [written(range(20))], [read(i) for i in range(20)])])
    host.clock.run(STEP // 2)
    host.swap_out(guest, guest.at[:20].astype(np.uint32))
    before = guest.counts.stalled
    host.clock.run(3 * STEP)
    assert guest.counts.stalled - before == pytest.approx(20 * (PAGE + FAULT), rel=1e-3)


def test_a_step_that_waits_for_longer_than_it_lasts_leaves_the_disk_to_others_in_between():
    host = Host(2000)
    guest = Guest(host, 1000, [Script(1000, [written(range(640))], [read(range(640))], [])])
    host.clock.run(STEP // 2)
    host.swap_out(guest, guest.at[:640].astype(np.uint32))
    waits = []
    host.clock.every(STEP, lambda: waits.append(host.disk.reads(1)))
    host.clock.run(3 * SECOND)
    assert 300_000 < max(waits) < 64 * (PAGE + FAULT) + 5 * PAGE
    # The step is over, and counted, only when all its touches are.
    alone = 640 * (PAGE + FAULT)
    assert guest.counts.ran == STEP
    assert guest.waited() > 2.5 * SECOND
    host.clock.run(round(alone + len(waits) * PAGE + SECOND))
    assert alone < guest.counts.stalled - 640 * FAULT < alone + len(waits) * PAGE
    assert (guest.memory.touched[guest.at[:640]] == 2 * STEP).all()


def test_of_a_step_that_a_reset_comes_into_the_rest_is_left_out():
    host = Host(2000)
    guest = Guest(host, 1000, [Script(1000, [written(range(640))], [read(range(640))], [], [written(700)])])
    host.clock.run(STEP // 2)
    host.swap_out(guest, guest.at[:640].astype(np.uint32))
    host.clock.run(SECOND)
    guest.restart()
    host.clock.run(2 * SECOND)
    assert (guest.at[:640] == NOWHERE).all()
    assert guest.at[700] != NOWHERE


def test_looks_take_the_guest_their_time():
    class Looks:
        active = 1.0

        def __init__(self, view):
            self.view = view
            self.traps = view.traps(np.arange(100, dtype=np.uint32))

        def step(self):
            self.traps.poll()

        def ask(self):
            self.view.statistics()

    host = Host(2000)
    guest = Guest(host, 1000, [Script(1000, [], [written(range(50))], [])])
    view = View(guest.memory)
    looks = Looks(view)
    guest.watch(looks, view)
    host.clock.run(STEP // 2)
    assert guest.counts.stalled == guest.counts.looked == pytest.approx(100 * host.prices.visit)
    looks.ask()
    host.clock.run(2 * STEP)
    assert guest.at[:50].max() < 100
    looked = 100 * host.prices.visit + 50 * host.prices.fault + host.prices.hypercall
    assert guest.counts.looked == pytest.approx(looked)
    assert guest.counts.stalled == pytest.approx(looked + 50 * FAULT)


def test_paging_of_a_guest_by_itself_waits_for_each_transfer_once():
    """A guest of 256 pages sweeps over 512: what it waits is what its disk was busy for."""
    host = Host(2000)
    guest = Guest(host, 256, [Script(512)])
    stalled = guest.touch(written(range(256)))
    for begin in range(256, 512, 64):
        stalled += guest.touch(written(range(begin, begin + 64)), after=stalled)
    stalled += guest.touch(read(range(256)), after=stalled)
    assert guest.counts.paged_in > 0
    faults = stalled - guest.disk.busy_until
    assert 0 <= faults < 3000 * FAULT
