"""Several passes, each for a part of all contents: less memory, more visits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies.sequential import Sequential

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View

TAGS = 1 << 32


class HashRanges:
    """Address order; in each pass only pages whose hash is in one of several equal ranges (``ranges``) are looked
    up, the others are passed over. Hints are dropped between passes.

    Gupta et al., "Difference Engine", OSDI 2008: with four passes the table needs room for a quarter of the hints. Each
    page once a pass; everything is found after ``ranges`` passes, zero pages after the first. Needs nothing for a page.
    Fails to be quick: a page is read ``ranges`` times.
    """

    draws_nothing = True

    def __init__(self, view: View, *, ranges: int = 4) -> None:
        if not 1 <= ranges <= TAGS:
            raise ValueError(f"ranges {ranges}: must be from 1 to 2^32")
        self._view, self._ranges = view, ranges
        self._range = 0
        self._left = 0
        self._scan = Sequential(view)

    def next(self, count: int) -> NDArray[np.uint32]:
        """The next pages, up to the end of the pass."""
        if not self._left:
            self._left = self._view.pages
            self._view.drop_hints()
            first, end = (TAGS * edge // self._ranges for edge in (self._range, self._range + 1))
            self._view.accept(first, end - 1)
            self._range = (self._range + 1) % self._ranges
        pages = self._scan.next(count)
        self._left -= len(pages)
        return pages

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
