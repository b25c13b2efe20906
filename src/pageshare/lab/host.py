"""A host: machine memory, guests' pages in it, and what is done when little of it is free."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import store_pages
from pageshare.lab.clock import Clock
from pageshare.lab.disk import Disk
from pageshare.lab.frames import ABSENT, NO_FRAME, RESIDENT, SHARED, SWAPPED, ZEROS, Frames, Pmap
from pageshare.lab.memory import SECOND
from pageshare.lab.shares import TAX, divide
from pageshare.lab.swapping import SwapDaemon
from pageshare.lab.thresholds import State, Thresholds
from pageshare.lab.view import Prices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.guest import Guest
    from pageshare.lab.sharing import Sharing

BALANCE = 15 * SECOND
"""ESX works targets out anew so often (BalancePeriod), and when something happens that changes them."""
AGAIN = SECOND // 10
"""While memory is not plentiful it does so again, at most so often, as guests go on to take more."""
AT_ONCE = 128
"""Faults that room is made for at a time."""
CLUSTER = 32
"""Pages that a guest which finds no free frame has written out at a time."""


@dataclass
class Times:
    """Microseconds that a fault takes the guest, disks aside."""

    fault: float = 3.0
    """Exit, bookkeeping, entry."""
    zero: float = 0.5
    """Clearing a frame, or copying one: 4096 bytes at memory's speed."""


@dataclass
class Counts:
    """What happened, in pages."""

    first_touches: int = 0
    swapped_out: int = 0
    swapped_in: int = 0
    copied: int = 0
    """Copies on write."""
    pops: int = 0
    waited_for_frames: int = 0
    """Pages written out while the guest that needs a frame waits."""


class Host:
    """Machine memory of ``pages`` and its guests.

    ``tax`` is the idle memory tax's rate. ``changed`` are called when targets changed: balloons that are told by
    events listen there.
    """

    def __init__(
        self,
        pages: int,
        *,
        seed: int = 1,
        clock: Clock | None = None,
        thresholds: Thresholds | None = None,
        disk: Disk | None = None,
        tax: float = TAX,
        balance: int = BALANCE,
        times: Times | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.rng = np.random.default_rng([seed, 0])
        self.seed = seed
        self.frames = Frames(pages)
        self.thresholds = thresholds or Thresholds()
        self.disk = disk or Disk(self.clock)
        self.tax = tax
        self.times = times or Times()
        self.prices = Prices(fault=self.times.fault)
        self.counts = Counts()
        self.guests: list[Guest] = []
        self.targets: list[int] = []
        self.changed: list[Callable[[], None]] = []
        self._in_state = dict.fromkeys(State, 0)
        self._since = 0
        self._balanced = 0
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self.sharing: Sharing | None = None
        self.swap = SwapDaemon(self)
        self.clock.every(balance, self.balance)

    @property
    def state(self) -> State:
        """What it does about its free memory."""
        return self.thresholds.state

    @property
    def in_state(self) -> dict[State, int]:
        """Microseconds spent in each state until now."""
        return {**self._in_state, self.state: self._in_state[self.state] + self.clock.now - self._since}

    def add(self, guest: Guest) -> int:
        """Take in a guest; its number."""
        self.guests.append(guest)
        self.targets.append(guest.pages)
        self.balance()
        return len(self.guests) - 1

    # What guests do to their pages.

    def touch(
        self,
        guest: Guest,
        pages: NDArray[np.uint32],
        write: NDArray[np.bool_] | None = None,
        contents: NDArray[np.uint64] | None = None,
        after: float = 0.0,
    ) -> float:
        """A guest touches pages, and writes those where ``write``, which then hold ``contents``; microseconds that it
        waits. It does so ``after`` so many from now, having waited for other things."""
        pmap = guest.pmap
        stall = 0.0
        if guest.in_frames.ready(pages, write):
            self._store(pmap, guest, pages, write, contents)
            return stall
        for begin in range(0, len(pages), AT_ONCE):
            some = slice(begin, begin + AT_ONCE)
            part = None if write is None else write[some]
            stall += self._map(guest, pages[some], part, after + stall)
            self._store(pmap, guest, pages[some], part, None if contents is None else contents[some])
        self.look()
        return stall

    def _store(
        self,
        pmap: Pmap,
        guest: Guest,
        pages: NDArray[np.uint32],
        write: NDArray[np.bool_] | None,
        contents: NDArray[np.uint64] | None,
    ) -> None:
        if write is None or contents is None:
            return
        stand_in = self.sharing.stand_in(guest) if self.sharing is not None else None
        store_pages(pmap.frame, self.frames.content, pages, write, contents, stand_in=stand_in)

    def _map(self, guest: Guest, pages: NDArray[np.uint32], write: NDArray[np.bool_] | None, after: float) -> float:
        """Give each page a frame that it can be touched in; microseconds that it takes."""
        pmap = guest.pmap
        stall = 0.0
        while True:
            place = pmap.place[pages]
            absent, swapped = pages[place == ABSENT], pages[place == SWAPPED]
            shared = pages[(place == SHARED) & write] if write is not None else pages[:0]
            need = len(absent) + len(swapped) + len(shared)
            if need <= self.frames.free:
                break
            # Making room may let a page that is about to be written share its frame: hence looked at again.
            stall += self.make_room(need, guest, pages, after + stall)
            if self.frames.free < need:
                raise MemoryError(f"{need} frames are needed, {self.frames.free} are free, and nothing can be swapped")
        stall += need * (self.times.fault + self.times.zero)
        if len(absent):
            popped = pmap.ballooned[absent]
            if popped.any():
                # What the balloon has was touched: the guest was reset, or it is mad. It gets zeros, as at first.
                pmap.popped = True
                pmap.ballooned[absent] = False
                self.counts.pops += int(popped.sum())
            self._place(guest, absent, self.frames.take(len(absent)))
            self.counts.first_touches += len(absent)
        if len(swapped):
            stall += self.disk.reads(len(swapped), after + stall)
            frames = self.frames.take(len(swapped))
            self.frames.content[frames] = pmap.stored[swapped]
            self._place(guest, swapped, frames)
            pmap.swapped -= len(swapped)
            self.counts.swapped_in += len(swapped)
        if len(shared):
            held = self.frames.content[pmap.frame[shared]]
            self.leave(guest, shared)
            frames = self.frames.take(len(shared))
            self.frames.content[frames] = held
            self._place(guest, shared, frames)
            self.counts.copied += len(shared)
        return stall

    def _place(self, guest: Guest, pages: NDArray[np.uint32], frames: NDArray[np.int32]) -> None:
        pmap = guest.pmap
        pmap.frame[pages] = frames
        pmap.place[pages] = RESIDENT
        pmap.ever[pages] = True
        pmap.resident += len(pages)
        if self.sharing is not None:
            self.sharing.store(guest, pages, self.frames.content[frames])

    def leave(self, guest: Guest, pages: NDArray[np.uint32], place: int = ABSENT) -> None:
        """Pages of a guest leave their frames, if they have any, for ``place``; what was on disk is forgotten."""
        pmap = guest.pmap
        was = pmap.place[pages]
        mapped = pages[(was == RESIDENT) | (was == SHARED)]
        if self.sharing is not None:
            self.sharing.leave(guest, mapped)
        self.frames.drop(pmap.frame[mapped])
        pmap.resident -= int(np.count_nonzero(was == RESIDENT))
        pmap.shared -= int(np.count_nonzero(was == SHARED))
        pmap.swapped -= int(np.count_nonzero(was == SWAPPED))
        pmap.frame[pages] = NO_FRAME
        pmap.place[pages] = place
        pmap.stored[pages] = ZEROS

    def swap_out(self, guest: Guest, pages: NDArray[np.uint32]) -> None:
        """RESIDENT pages go to disk. Who calls it accounts for the disk's time."""
        pmap = guest.pmap
        held = self.frames.content[pmap.frame[pages]]
        self.leave(guest, pages, SWAPPED)
        pmap.stored[pages] = held
        pmap.swapped += len(pages)
        self.counts.swapped_out += len(pages)

    def make_room(self, need: int, guest: Guest, but: NDArray[np.uint32], after: float = 0.0) -> float:
        """See to it that so many frames are free, if need be by writing out pages, but not those that ``guest`` is
        just touching; microseconds that this takes. Fewer may be free where nothing is left to write."""
        stall = 0.0
        while (free := self.frames.free) < need:
            written = self.swap.reclaim(max(need - free, CLUSTER), guest, but)
            if self.frames.free == free:
                break
            self.counts.waited_for_frames += written
            stall += self.disk.writes(written, after + stall)
        return stall

    # What the host does about its memory.

    def look(self) -> None:
        """Look how much is free, and act on it if that is another state."""
        before = self.state
        state = self.thresholds.look(self.frames.free / self.frames.count)
        if state == before:
            self._let_run()
            if state != State.HIGH and self.clock.now - self._balanced >= AGAIN:
                self.balance()
            return
        self._in_state[before] += self.clock.now - self._since
        self._since = self.clock.now
        self.balance()

    def balance(self) -> None:
        """Work out each guest's target anew: pages of machine memory, such that all of them leave the free memory
        that is aimed at, "above the high threshold" by as much as it takes to return to the high state."""
        self._balanced = self.clock.now
        clients = [guest.client() for guest in self.guests]
        pages = self.frames.count - self._aim()
        self.targets = [int(target) for target in divide(clients, pages, tax=self.tax)] if clients else []
        for call in self.changed:
            call()
        self.swap.wake()
        self._let_run()

    def _aim(self) -> int:
        return math.ceil(self.thresholds.leaves(State.SOFT) * self.frames.count)

    def balloon_target(self, number: int) -> int:
        """Pages that the balloon of that guest is to hold: what its target, and what sharing saves, leave of its size,
        where it makes use of more than that. It gives back what is above that at any time, but takes more only while
        memory is not plentiful: in the high state nothing is reclaimed."""
        guest = self.guests[number]
        target = max(self.targets[number], guest.least) + math.floor(guest.saved())
        if target >= guest.demand():
            return 0
        held = guest.driver.held if guest.driver is not None else 0
        reclaims = self.state != State.HIGH and self.excess(number) > 0
        return min(guest.pages - target, guest.most_ballooned if reclaims else held)

    def excess(self, number: int) -> int:
        """Pages that a guest has above its target."""
        return max(0, int(self.guests[number].allocated()) - self.targets[number])

    def blocks(self, number: int) -> bool:
        """Whether a guest may not run: memory is low and it has more than its target."""
        return self.state == State.LOW and self.excess(number) > 0

    def when_it_may_run(self, number: int, call: Callable[[], None]) -> None:
        """Call it as soon as that guest is not blocked any more."""
        self._waiting.append((number, call))

    def _let_run(self) -> None:
        waiting, self._waiting = self._waiting, []
        for number, call in waiting:
            if self.blocks(number):
                self._waiting.append((number, call))
            else:
                self.clock.after(0, call)

    # The balloon's server.

    def lock(self, guest: Guest, pages: NDArray[np.uint32]) -> None:
        """The guest's balloon has these pages: they are annotated, and their frames are free."""
        self.leave(guest, pages)
        guest.pmap.ballooned[pages] = True
        self.look()

    def unlock(self, guest: Guest, pages: NDArray[np.uint32]) -> None:
        """The guest will use these pages again: the next touch of each gets a zeroed frame, not before."""
        guest.pmap.ballooned[pages] = False

    def free_reported(self, guest: Guest, pages: NDArray[np.uint32]) -> None:
        """The guest says that these pages are free: their frames are, too, and it makes no use of them."""
        self.leave(guest, pages)
        guest.pmap.ever[pages] = False
        self.look()

    def reset(self, guest: Guest) -> None:
        """The guest's driver begins anew: nothing is ballooned."""
        guest.pmap.ballooned[:] = False
        guest.pmap.popped = False
