"""A guest's memory as it is used: who touched which page when. The truth, and the accessed bits and traps over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import Touched

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECOND = 1_000_000
"""Virtual time is counted in microseconds, in int64."""
NEVER = -(1 << 62)
"""The time of what has not happened. Far from the end of int64, so that times can be subtracted."""
READ, WRITTEN, ZERO, RELEASED = 1, 2, 4, 8
"""What was done to a page, bits: ZERO, that what was written left all its bytes zero; RELEASED, that there is no more
use for it. The same as in recorded traces (``lab.trace``)."""
WINDOW = 30 * SECOND
"""A page is active if the guest's own work touched it in a window of so long: ESX's sampling period."""
NOBODY = 0xFFFF


class Memory:
    """The pages of one guest, numbered 0 to pages-1, with the times of what was last done to each.

    Times are the guest's own: they stand still while it does not run, since ESX samples by "virtual machine execution
    time" (Waldspurger, OSDI 2002, section 5.3).

    Attributes, arrays of shape (pages,): ``touched``, ``written`` (int64, microseconds): by anyone; ``worked``: by the
    guest's own work, which threads that clear or collect pages are no part of; ``zero`` (bool): whether all its bytes
    are zero; ``free`` (bool): whether it is on the guest's free list; ``freed`` (int64): since when; ``thread``
    (uint16): the guest's thread that touched it last, and the first to do so at that time; ``wrote`` (bool): whether
    that touch was a write. A page without a mapping faults at the first touch, so those two are what a trap tells.
    """

    def __init__(self, pages: int) -> None:
        if not 0 < pages < 1 << 32:
            raise ValueError(f"{pages} pages: must be from 1 to 2^32 - 1")
        self.pages = pages
        self.now = 0
        self.lent = 0
        """Pages that the guest's balloon has: neither used nor free."""
        self.touched = np.full(pages, NEVER, np.int64)
        self.worked = np.full(pages, NEVER, np.int64)
        self.written = np.full(pages, NEVER, np.int64)
        self.freed = np.full(pages, NEVER, np.int64)
        self.zero = np.ones(pages, np.bool_)
        self.free = np.ones(pages, np.bool_)
        self.thread = np.full(pages, NOBODY, np.uint16)
        self.wrote = np.zeros(pages, np.bool_)
        self.native = Touched(
            touched=self.touched,
            worked=self.worked,
            written=self.written,
            zero=self.zero,
            free=self.free,
            wrote=self.wrote,
            thread=self.thread,
        )

    def touch(
        self,
        pages: NDArray[np.integer],
        kinds: NDArray[np.uint8] | int = READ,
        work: NDArray[np.bool_] | bool = True,
        thread: NDArray[np.uint16] | int = 0,
    ) -> None:
        """Pages are touched now, those whose ``kinds`` have READ or WRITTEN; ``work``: by the guest's own work. Each is
        one for all, or an array as long as ``pages``. Raises IndexError, ValueError."""
        self.native.touch(self.now, pages, kinds, work, thread)

    def release(self, pages: NDArray[np.uint32]) -> None:
        """The guest puts pages on its free list."""
        self.free[pages] = True
        self.freed[pages] = self.now

    def active(self, window: int = WINDOW) -> float:
        """The truth: the share of pages that the guest's own work touched within the last ``window`` microseconds."""
        return float(np.count_nonzero(self.worked > self.now - window)) / self.pages
