"""Zero pages first, as far as one line of them tells; or last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies._pending import NONE, Bits, Rest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


BLOCK = 4096
"""How many pages are peeked at together."""


class ZeroFirst:
    """Looks at line 0 of all pages in address order, a block at a time, and visits those where it is zero first; then
    the others as a random permutation. Set to save other pages than zero ones, it visits those whose line is zero last.

    Free and zeroed pages first is what Chiang et al. do with the help of the guest's kernel ("Introspection-based
    Memory De-duplication and Migration", VEE 2013); here a peek takes the place of introspection. Each page once a
    pass. Needs a bit and a peek for each page. Fails on pages that begin with zeros and are not zero: they
    are visited with the zero pages.
    """

    takes_objective = True

    def __init__(self, view: View) -> None:
        self._view = view
        self._first = view.objective == "all"
        self._zero = Bits(view.pages)
        self._rest = Rest(view.pages, view.seed)
        self._begin()

    def _begin(self) -> None:
        self._zero.clear()
        self._rest.begin()
        self._left = self._view.pages
        self._swept = self._last = 0
        self._queue = NONE

    def _sweep(self) -> None:
        """Peek at the next block; its zero lines come into the queue."""
        pages = self._view.pages
        block = np.arange(self._swept, min(self._swept + BLOCK, pages), dtype=np.uint32)
        self._swept += len(block)
        zero = block[self._view.peek(block) == 0]
        self._zero.add(zero)
        self._queue = np.concatenate([self._queue, zero])

    def next(self, count: int) -> NDArray[np.uint32]:
        """The next pages, up to the end of the pass."""
        pages = self._view.pages
        if not self._left:
            self._begin()
        while self._swept < pages and not (self._first and len(self._queue) >= count):
            self._sweep()
            if not self._first:
                self._queue = NONE
        batch, self._queue = self._queue[:count], self._queue[count:]
        if len(batch) < count:
            batch = np.concatenate([batch, self._rest.next(count - len(batch), self._zero)])
        while not self._first and len(batch) < count and self._last < pages:
            # Last come the pages of the bitmap again, in address order.
            block = np.arange(self._last, min(self._last + BLOCK, pages), dtype=np.uint32)
            found = block[self._zero.has(block)][: count - len(batch)]
            batch = np.concatenate([batch, found])
            self._last = int(found[-1]) + 1 if len(batch) == count else int(block[-1]) + 1
        self._left -= len(batch)
        return batch

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
