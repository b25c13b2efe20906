"""What a hypervisor can see of a guest's memory, and what each look costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.memory import NEVER, NOBODY, SECOND, Memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPORT_AFTER = 2 * SECOND
"""Linux reports free pages so long after they were freed (mm/page_reporting.c)."""
REPORTED_BLOCK = 512
"""It reports blocks of the order of a huge page only, 2 MiB."""


@dataclass(frozen=True)
class Prices:
    """Microseconds of CPU time for each thing that a look at memory needs."""

    visit: float = 0.3
    """Clearing an accessed bit or a mapping, its share of a TLB flush included."""
    fault: float = 3.0
    """A touch of a page without a mapping: exit, bookkeeping, entry."""
    test: float = 0.1
    """Whether a page is all zero: most are not within a line or two, those that are take 4096 bytes."""
    hypercall: float = 2.0
    """A message from the guest."""


@dataclass
class Costs:
    """How often each was done. A page that is looked at in any way is a visit: the unit by which estimators are held
    against each other."""

    visits: float = 0
    faults: float = 0
    tests: float = 0
    hypercalls: float = 0

    def microseconds(self, prices: Prices) -> float:
        """What all of it takes of the CPU."""
        return (
            self.visits * prices.visit
            + self.faults * prices.fault
            + self.tests * prices.test
            + self.hypercalls * prices.hypercall
        )


@dataclass
class View:
    """A guest's memory as one estimator sees it: page by page, for a price; of use and intent it knows nothing.

    Several can look at the same memory: each has accessed bits and traps of its own.
    """

    memory: Memory
    costs: Costs = field(default_factory=Costs)
    _reported: set[int] = field(default_factory=set, repr=False)

    @property
    def pages(self) -> int:
        """How many there are."""
        return self.memory.pages

    @property
    def now(self) -> int:
        """The guest's own time, in microseconds."""
        return self.memory.now

    def accessed(self, pages: NDArray[np.uint32], since: NDArray[np.int64] | int) -> NDArray[np.bool_]:
        """Accessed bits, bool as long as ``pages``, of bits that were cleared at ``since``; they are cleared again. A
        visit each."""
        self.costs.visits += len(pages)
        found: NDArray[np.bool_] = self.memory.touched[pages] > since
        return found

    def zero(self, pages: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Whether each page is all zero. A visit each, and a test."""
        self.costs.visits += len(pages)
        self.costs.tests += len(pages)
        return self.memory.zero[pages]

    def traps(self, pages: NDArray[np.uint32], *, room: int = 0) -> Traps:
        """Traps on pages: their mappings go, and the first touch of each is told. A visit each, and a fault each when
        it is touched. ``room``: how many more to leave room for, which cost nothing until they are armed."""
        return Traps(self, pages, room)

    def statistics(self) -> tuple[int, int]:
        """How many pages the guest says are free, and how many its balloon has: a message."""
        self.costs.hypercalls += 1
        return int(np.count_nonzero(self.memory.free)), self.memory.lent

    def reported_free(self) -> NDArray[np.bool_]:
        """What the guest's free page reporting says, bool of shape (pages,): whole blocks of 2 MiB that have been free
        for two seconds. A message for each block that is newly reported since it was last asked; no visits, for no page
        is looked at."""
        memory = self.memory
        blocks = memory.pages // REPORTED_BLOCK
        ripe = memory.free & (memory.freed <= memory.now - REPORT_AFTER)
        whole = ripe[: blocks * REPORTED_BLOCK].reshape(blocks, REPORTED_BLOCK).all(axis=1)
        now = set(np.flatnonzero(whole).tolist())
        self.costs.hypercalls += len(now - self._reported)
        self._reported = now
        reported = np.zeros(memory.pages, np.bool_)
        reported[: blocks * REPORTED_BLOCK] = np.repeat(whole, REPORTED_BLOCK)
        return reported


class Traps:
    """Pages without a mapping, whose first touch faults.

    Attributes: ``pages`` (uint32), in the order given; ``sprung`` (bool): which have been touched; ``at`` (int64):
    when that was noticed, in microseconds; ``thread`` (uint16): which thread of the guest it was; ``wrote`` (bool):
    whether it was a write. Told rightly if polled at each step of time.
    """

    def __init__(self, view: View, pages: NDArray[np.uint32], room: int = 0) -> None:
        self.view, self.pages = view, np.append(pages, np.zeros(room, np.uint32)).astype(np.uint32)
        number = len(self.pages)
        self.armed = np.full(number, view.now, np.int64)
        self.sprung = np.arange(number) >= len(pages)
        self.at = np.full(number, NEVER, np.int64)
        self.thread = np.full(number, NOBODY, np.uint16)
        self.wrote = np.zeros(number, np.bool_)
        view.costs.visits += len(pages)

    def poll(self) -> NDArray[np.intp]:
        """Places of the traps that were sprung since the last poll, int; each is charged as the fault that it was."""
        memory = self.view.memory
        new: NDArray[np.intp] = np.flatnonzero(~self.sprung & (memory.touched[self.pages] > self.armed))
        if len(new):
            self.sprung[new] = True
            self.at[new] = self.view.now
            self.thread[new] = memory.thread[self.pages[new]]
            self.wrote[new] = memory.wrote[self.pages[new]]
            self.view.costs.faults += len(new)
        return new

    def arm(self, places: NDArray[np.intp], pages: NDArray[np.uint32] | None = None) -> None:
        """Take some mappings away again, perhaps of other pages: a visit each."""
        if pages is not None:
            self.pages[places] = pages
        self.armed[places] = self.view.now
        self.sprung[places] = False
        self.view.costs.visits += len(places)
