"""Where numbered pages lie: the owner and the frame number of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOWHERE = 2**32 - 1
"""What ``find`` gives where no page is known."""


@dataclass(frozen=True)
class Places:
    """Pages 0 .. pages-1 in runs, each at consecutive frames of an owner: first those that are read, 0 .. readable-1,
    owner by owner, by ascending frame, then in the same order those that are known to be zero.

    ``first`` (uint32) is the number of each run's first page, ``frame`` (uint64) where that lies (address / page size).
    ``owner_first`` (uint64) has, for each owner, the first number of its pages that are read, then for each that of its
    known zeros.
    """

    first: NDArray[np.uint32]
    frame: NDArray[np.uint64]
    owner_first: NDArray[np.uint64]
    readable: int
    pages: int

    @property
    def owners(self) -> int:
        """How many there are."""
        return len(self.owner_first) // 2

    def locate(self, pages: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
        """For an array of page numbers, each one's owner and frame number there."""
        numbers = np.asarray(pages, np.uint32)
        runs = np.searchsorted(self.first, numbers, side="right") - 1
        owners = (np.searchsorted(self.owner_first, numbers, side="right") - 1) % max(1, self.owners)
        return owners.astype(np.uint32), self.frame[runs] + (numbers - self.first[runs])

    def find(self, owner: int, frames: NDArray[Any]) -> NDArray[np.uint32]:
        """The inverse of ``locate``: the numbers of an owner's pages at ``frames``, NOWHERE where none is known."""
        wanted = np.asarray(frames, np.uint64)
        found = np.full(wanted.shape, NOWHERE, np.uint32)
        for zeros in (False, True):
            frame, first, pages = self.runs(owner, zeros=zeros)
            if not len(frame):
                continue
            run = np.searchsorted(frame, wanted, side="right") - 1
            into = wanted - frame[run]
            there = (run >= 0) & (into < pages[run])
            found[there] = (first[run] + into)[there]
        return found

    def runs(
        self, owner: int, *, zeros: bool = False
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint32]]:
        """An owner's runs, of known ``zeros`` or of pages that are read: the frame, the page number, and the number of
        pages of each."""
        part = owner + self.owners * zeros
        # In the type of what they are looked up in, which would be copied in that of both.
        edges = np.append(self.owner_first, np.uint64(self.pages))[part : part + 2].astype(np.uint32)
        low, high = np.searchsorted(self.first, edges)
        first = self.first[low:high]
        return self.frame[low:high], first, np.diff(first, append=edges[1:])

    @property
    def read_first(self) -> NDArray[np.uint32]:
        """The first number of each owner's pages that are read, and ``readable``: owner i has read_first[i] ..
        read_first[i + 1] - 1."""
        return np.append(self.owner_first[: self.owners], np.uint64(self.readable)).astype(np.uint32)
