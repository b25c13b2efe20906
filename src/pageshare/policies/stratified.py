"""Each page once, in an order that is spread evenly over all memory at any time."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


GOLDEN = (5**0.5 - 1) / 2


class Stratified:
    """Steps of a golden section of all pages, around and around: each page once a pass, from a random first page.

    Any part of the order is spread evenly over address space and owners, more so than random pages (a low-discrepancy
    sequence; L. Kuipers and H. Niederreiter, "Uniform Distribution of Sequences", 1974, chapter 2). As a scan order
    measured here. Needs no memory. Fails to be better than a random permutation, but at the beginning: pairs are found
    as late, since both pages of a pair must be visited, wherever they are.
    """

    def __init__(self, view: View) -> None:
        self._pages = view.pages
        self._generator = np.random.default_rng(view.seed)
        self._stride = max(1, round(view.pages * GOLDEN))
        while gcd(self._stride, view.pages) > 1:  # else it would come around before it was everywhere
            self._stride += 1
        self._begin()

    def _begin(self) -> None:
        self._at = 0
        self._first = int(self._generator.integers(0, max(1, self._pages)))

    def next(self, count: int) -> NDArray[np.uint32]:
        """The next pages, up to the end of the pass."""
        end = min(self._at + count, self._pages)
        steps = np.arange(self._at, end, dtype=np.uint64)
        pages = (np.uint64(self._first) + steps * np.uint64(self._stride)) % np.uint64(self._pages)
        self._at = end
        if end == self._pages:
            self._begin()
        numbers: NDArray[np.uint32] = pages.astype(np.uint32)
        return numbers

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
