"""Machine pages, and where each guest's pages lie in them."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_FRAME = -1
ZEROS = 0
"""The content of a page that is all zero."""


class Place(IntEnum):
    """Where a guest's page is."""

    ABSENT = 0
    """Nowhere: never touched, or given away; the next touch finds zeros."""
    RESIDENT = 1
    """In a frame of its own."""
    SHARED = 2
    """In a frame that others may use too; a write gets a copy."""
    SWAPPED = 3
    """On the host's disk."""


ABSENT, RESIDENT, SHARED, SWAPPED = (int(place) for place in Place)
"""The same as plain numbers: looking up a member of an enumeration takes longer than what is done with it here."""


class NoFrame(RuntimeError):
    """No frame is free: who takes frames has to make room first."""


class Frames:
    """The machine's pages. ``content`` (uint64, shape (count,)) stands for what each holds: equal numbers are equal
    bytes, 0 is all zero. ``users`` (int32): how many pages of guests lie in it, 0 if it is free."""

    def __init__(self, count: int) -> None:
        if not 0 < count < 1 << 31:
            raise ValueError(f"{count} machine pages: must be from 1 to 2^31 - 1")
        self.count = self.free = count
        self.content = np.zeros(count, np.uint64)
        self.users = np.zeros(count, np.int32)
        self._stack = np.arange(count - 1, -1, -1, dtype=np.int32)

    def take(self, count: int) -> NDArray[np.int32]:
        """So many free frames, zeroed, int32; each has a user from now on. Raises NoFrame."""
        if count > self.free:
            raise NoFrame(f"{count} frames are asked for, {self.free} are free")
        self.free -= count
        taken: NDArray[np.int32] = self._stack[self.free : self.free + count].copy()
        self.users[taken] = 1
        self.content[taken] = ZEROS
        return taken

    def unused(self) -> NDArray[np.int32]:
        """The frames that are free, int32."""
        return self._stack[: self.free]

    def drop(self, frames: NDArray[np.int32]) -> None:
        """So many users leave, one for each time that a frame is named; a frame without users is free."""
        np.subtract.at(self.users, frames, 1)
        gone = np.unique(frames[self.users[frames] == 0])
        self._stack[self.free : self.free + len(gone)] = gone
        self.free += len(gone)


class Pmap:
    """Where the pages of one guest are: its "physical" page numbers to machine pages.

    Arrays of shape (pages,): ``place`` (uint8, a Place each), ``frame`` (int32, or NO_FRAME), ``ballooned`` (bool):
    annotated, since the guest's balloon has it; ``stored`` (uint64): the content of a page that is SWAPPED; ``ever``
    (bool): whether it was touched.
    """

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.place = np.zeros(pages, np.uint8)
        self.frame = np.full(pages, NO_FRAME, np.int32)
        self.ballooned = np.zeros(pages, np.bool_)
        self.stored = np.zeros(pages, np.uint64)
        self.ever = np.zeros(pages, np.bool_)
        self.popped = False
        """Whether a ballooned page was touched since the driver's last reset."""
        self.resident = self.shared = self.swapped = 0

    def allocated(self, frames: Frames) -> float:
        """Machine pages that the guest is charged with: each of its own, and its part of those that it shares."""
        if not self.shared:
            return self.resident
        shared = self.frame[self.place == SHARED]
        return self.resident + float((1 / frames.users[shared]).sum())
