"""That what is checked after every event can fail: one step of the engine left out or done wrong at a time, and who
notices it, the invariants that look at the engine's arrays or the model that foresees them."""

import numpy as np
import pytest

from lab.model import Model
from lab.scenes import scene
from lab.scripted import STEP
from pageshare.core import FrameTable
from pageshare.lab import host as host_module
from pageshare.lab.balloon import Driver
from pageshare.lab.disk import Disk
from pageshare.lab.frames import Frames
from pageshare.lab.free_pages import FreePageReporting
from pageshare.lab.guest import Guest
from pageshare.lab.host import Host
from pageshare.lab.invariants import Broken, check
from pageshare.lab.sharing import Sharing
from pageshare.lab.swapping import SwapDaemon
from pageshare.lab.thresholds import Thresholds

MOST = 60
"""Scenes in which a fault has to show."""


FAULTS = []


def instead(of, name, first=0):
    """A fault: what replaces a method, as a function of the method. ``first``: the scene to begin with."""

    def mark(replacement):
        replacement.where, replacement.first = (of, name), first
        FAULTS.append(replacement)
        return replacement

    return mark


@instead(Frames, "take")
def a_frame_is_given_twice(take):
    def takes(self, count):
        taken = take(self, count)
        self._stack[self.free - 1 : self.free] = taken[-1:]
        return taken

    return takes


@instead(Frames, "take")
def a_frame_is_lost(take):
    def takes(self, count):
        taken = take(self, count)
        self.free -= self.free > 150
        return taken

    return takes


@instead(Frames, "take")
def a_frame_is_not_zeroed(take):
    def takes(self, count):
        before = self.content.copy()
        taken = take(self, count)
        self.content[taken] = before[taken]
        return taken

    return takes


@instead(Frames, "drop")
def a_user_is_not_counted_out(drop):
    return lambda self, frames: drop(self, frames[:-1] if len(frames) > 5 else frames)


@instead(Host, "unlock", first=50)
def unlock_is_forgotten(_unlock):
    return lambda _self, _guest, _pages: None


@instead(Host, "lock")
def lock_frees_nothing(_lock):
    def locks(self, guest, pages):
        guest.pmap.ballooned[pages] = True
        self.look()

    return locks


@instead(Host, "lock")
def lock_annotates_nothing(lock):
    def locks(self, guest, pages):
        lock(self, guest, pages)
        guest.pmap.ballooned[pages] = False

    return locks


@instead(Host, "reset", first=15)
def reset_forgets_nothing(_reset):
    return lambda _self, _guest: None


@instead(Host, "_map")
def a_write_gets_no_copy(map_pages):
    return lambda self, guest, pages, _write, after: map_pages(self, guest, pages, None, after)


@instead(Host, "_map")
def pops_go_unnoticed(map_pages):
    def maps(self, guest, pages, write, after):
        guest.pmap.ballooned[pages] = False
        return map_pages(self, guest, pages, write, after)

    return maps


@instead(Host, "swap_out")
def what_goes_to_disk_is_lost(swap_out):
    def swaps(self, guest, pages):
        swap_out(self, guest, pages)
        guest.pmap.stored[pages] = 0

    return swaps


@instead(Host, "make_room")
def room_is_made_that_nobody_needs(make_room):
    return lambda self, need, guest, but, after=0.0: make_room(self, need + 8, guest, but, after)


@instead(SwapDaemon, "victims")
def what_is_being_touched_goes_to_disk(victims):
    return lambda self, guest, count, _but: victims(self, guest, count, None)


@instead(SwapDaemon, "_wanted")
def who_is_below_its_target_gives_too(wanted):
    return lambda self: [(number, excess + 5) for number, excess in wanted(self)]


@instead(Guest, "_reclaim")
def a_guest_pages_out_what_it_is_touching(reclaim):
    return lambda self, count, _but, after: reclaim(self, count, None, after)


@instead(Guest, "_reclaim")
def a_guest_forgets_what_it_paged_out(reclaim):
    def reclaims(self, count, but, after):
        before = self.paged_out.copy()
        result = reclaim(self, count, but, after)
        self.paged_out[:] = before
        return result

    return reclaims


@instead(Guest, "_step")
def a_step_goes_on_however_long_it_has_waited(step):
    def steps(self):
        parts = step(self)

        def all_at_once(after):
            stall = 0.0
            for part in parts:
                stall += part(after + stall)
            return stall

        yield all_at_once

    return steps


@instead(Guest, "_parts")
def the_last_part_of_a_touch_is_left_out(parts):
    return lambda self, touch, offset: iter(list(parts(self, touch, offset))[:-1])


@instead(Guest, "_look")
def looks_take_no_time(look):
    return lambda self: look(self) * 0


@instead(Guest, "give_back")
def a_page_is_freed_that_another_has(give_back):
    def gives(self, own):
        give_back(self, own)
        used = np.flatnonzero(self.holder >= 0)
        if len(used) and self.free < self.pages:
            self.free_list[self.free] = used[0]
            self.free += 1

    return gives


@instead(Driver, "_pop_off", first=22)
def the_balloon_loses_a_page(pop_off):
    return lambda self, count: pop_off(self, count)[: max(1, count - 1)]


@instead(Driver, "restart")
def a_new_driver_knows_what_the_old_one_had(_restart):
    return lambda _self, *_args: None


@instead(FreePageReporting, "_report")
def what_is_not_free_is_reported(_report):
    def reports(self):
        pages = np.flatnonzero(self.guest.pmap.frame >= 0)[:3].astype(np.uint32)
        self.guest.host.leave(self.guest, pages)

    return reports


@instead(FrameTable, "write")
def the_table_is_not_told_of_a_write(_write):
    return lambda _self, pages: np.zeros(len(pages), np.bool_)


@instead(Sharing, "store")
def the_table_compares_what_was_there_before(store):
    return lambda self, guest, pages, contents: store(self, guest, pages, contents // 2)


@instead(Sharing, "_merge")
def a_merged_page_keeps_its_frame(_merge):
    def merges(self, page, _partner):
        self._share(page)

    return merges


@instead(Disk, "_serve")
def the_disk_has_no_queue(serve):
    def serves(self, microseconds, after):
        self.busy_until = 0.0
        return serve(self, microseconds, after)

    return serves


@instead(Disk, "_serve")
def who_waited_waits_for_the_same_again(serve):
    return lambda self, microseconds, _after: serve(self, microseconds, 0.0)


@instead(Thresholds, "leaves")
def a_state_is_left_at_its_own_mark(_leaves):
    return lambda self, state: self.marks[state]


@instead(host_module, "divide")
def targets_are_moved_by_a_few_pages(divide):
    def divides(clients, pages, *, tax):
        targets = divide(clients, pages, tax=tax)
        targets[-1] -= 4
        return targets

    return divides


MODEL_ONLY = [
    a_frame_is_not_zeroed,
    what_is_being_touched_goes_to_disk,
    a_guest_pages_out_what_it_is_touching,
    pops_go_unnoticed,
    room_is_made_that_nobody_needs,
    who_is_below_its_target_gives_too,
    a_guest_forgets_what_it_paged_out,
    the_disk_has_no_queue,
    who_waited_waits_for_the_same_again,
    a_step_goes_on_however_long_it_has_waited,
    the_last_part_of_a_touch_is_left_out,
    looks_take_no_time,
    a_state_is_left_at_its_own_mark,
    targets_are_moved_by_a_few_pages,
]
"""What leaves all pages of programs whole, but is against the rules."""
BOTH = [fault for fault in FAULTS if fault not in MODEL_ONLY]


def run(seed, *, model, invariants):
    """Whether what is asked for finds something wrong in a random run."""
    host, plain = scene(seed)
    oracle = Model(host, whole_scans=plain) if model else None

    def after_each():
        if invariants:
            check(host)
        if oracle is not None:
            oracle.check()
            if host.clock.happened % 16 == 0:
                oracle.check_all()

    host.clock.run(20 * STEP, after_each=after_each)
    if oracle is not None:
        oracle.check_all()


def noticed(fault, monkeypatch, error, **by):
    of, name = fault.where
    monkeypatch.setattr(of, name, fault(getattr(of, name)))
    for seed in range(fault.first, fault.first + MOST):
        try:
            run(seed, **by)
        except error:
            return seed
        except (MemoryError, RuntimeError, IndexError, ValueError):
            continue
    return None


@pytest.mark.parametrize("fault", BOTH, ids=lambda fault: fault.__name__)
def test_invariants_notice(fault, monkeypatch):
    assert noticed(fault, monkeypatch, Broken, model=False, invariants=True) is not None


@pytest.mark.parametrize("fault", MODEL_ONLY, ids=lambda fault: fault.__name__)
def test_the_model_notices(fault, monkeypatch):
    assert noticed(fault, monkeypatch, AssertionError, model=True, invariants=False) is not None

