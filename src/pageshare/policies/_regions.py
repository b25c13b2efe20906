"""Memory in regions of a few pages: where they lie, and an order within each that needs one number to be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies._pending import Pages
    from pageshare.policies.view import View


MOST = 1 << 16
STRIDES = np.array([n for n in range(MOST, MOST + 1000) if all(n % divisor for divisor in range(2, 260))], np.int64)
"""Primes above the size of any region: steps of so many pages around a region come to all of its pages."""


class Regions:
    """Regions of ``pages`` pages of one owner each, the last one of an owner perhaps of fewer; numbered by address.

    Each region has an order of its own, steps of one length from a random page on, around and around: of two regions
    with the same pages as many come early in both as of pages drawn at random. ``taken`` says how many pages of each
    region came already in this pass.
    """

    def __init__(self, view: View, pages: int) -> None:
        if not 1 <= pages < MOST:
            raise ValueError(f"pages {pages}: a region must have 1 to 65535")
        edges = view.owner_first.astype(np.int64)
        counts = -(-np.diff(edges) // pages)
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self._first: Pages = (np.repeat(edges[:-1], counts) + pages * inside).astype(np.uint32)
        self.sizes = np.diff(np.append(self._first, np.uint32(view.pages))).astype(np.uint16)
        self._generator = np.random.default_rng(view.seed)
        self.begin()

    def __len__(self) -> int:
        return len(self._first)

    def begin(self) -> None:
        """Another pass."""
        self.taken = np.zeros(len(self), np.uint16)
        self._start = self._generator.integers(0, MOST, len(self), dtype=np.uint16)
        self._stride = self._generator.integers(0, len(STRIDES), len(self), dtype=np.uint8)

    def of(self, pages: Pages) -> NDArray[np.intp]:
        """The region of each page."""
        return np.searchsorted(self._first, pages, side="right") - 1

    def unfinished(self) -> NDArray[np.bool_]:
        """Which regions have pages left in this pass."""
        return self.taken < self.sizes

    def ahead(self, regions: NDArray[np.intp], most: int) -> tuple[Pages, NDArray[np.intp]]:
        """The next ``most`` pages of each of these regions (each once), or what it has left, region by region; and for
        each page, which of these regions it is of. They count when ``take`` is told."""
        begin = self.taken[regions].astype(np.int64)
        counts = np.minimum(most, self.sizes[regions] - begin)
        rows = np.repeat(np.arange(len(regions)), counts)
        mine = regions[rows]
        size = self.sizes[mine].astype(np.int64)
        place = (self._start[mine] + (begin[rows] + ramps(counts)) * STRIDES[self._stride[mine]]) % size
        return self._first[mine] + place.astype(np.uint32), rows

    def take(self, regions: NDArray[np.intp], rows: NDArray[np.intp]) -> None:
        """Say that pages of these rows were taken."""
        self.taken[regions] += np.bincount(rows, minlength=len(regions)).astype(np.uint16)


def ramps(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """0, 1, .. up to each of these counts, one after the other.

    >>> import numpy as np
    >>> ramps(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    ends = np.cumsum(counts, dtype=np.int64)
    steps: NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    return steps

