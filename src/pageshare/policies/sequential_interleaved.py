"""Page i of each owner in turn, then page i + 1: address order in all owners side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


class SequentialInterleaved:
    """The first page of each owner, the second of each, and so on, pass after pass; a pass has each page once.

    Owners take turns by size, the largest first, so that those that are still there are always the first few; owners of
    one size by number. Measured here, as the simplest order that looks at the same place of several guests at once:
    guests of one image hold much of what they share at the same place. Needs nothing for a page, 16 bytes for an owner.
    Fails where places differ (kernels at random addresses, processes), and where what is shared lies within one owner.
    """

    draws_nothing = True

    def __init__(self, view: View) -> None:
        sizes = np.diff(view.owner_first.astype(np.int64))
        self._owner_first = view.owner_first
        self._by_size = np.argsort(-sizes, kind="stable").astype(np.uint32)
        # From round rounds[k] on alive[k] owners have a page; that round begins with visit begins[k] of the pass.
        steps, counts = np.unique(sizes, return_counts=True)
        self._rounds = np.append(0, steps)[:-1]
        self._alive = view.owners - np.append(0, np.cumsum(counts))[:-1]
        self._begins = np.append(0, np.cumsum(np.diff(np.append(0, steps)) * self._alive))[:-1]
        self._pages = view.pages
        self._at = 0

    def next(self, count: int) -> NDArray[np.uint32]:
        """The next pages, up to the end of the pass."""
        visits = np.arange(self._at, min(self._at + count, self._pages))
        # Where an owner has no pages, several parts begin with the same visit: the last of them is meant.
        part = np.searchsorted(self._begins, visits, side="right") - 1
        alive, into = self._alive[part], visits - self._begins[part]
        owners = self._by_size[into % alive]
        self._at = (self._at + len(visits)) % self._pages
        pages: NDArray[np.uint32] = self._owner_first[owners] + (self._rounds[part] + into // alive).astype(np.uint32)
        return pages

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
