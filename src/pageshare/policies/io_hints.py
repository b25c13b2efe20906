"""Pages that were just written to, the newest first, in turn with address order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies._pending import NONE, alternate, once
from pageshare.policies.sequential import Sequential

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


class IoHints:
    """Every other page is the newest hint: a page that was written to. The others are visited in address order, as are
    all while there are no hints.

    Miller et al., "XLH: More Effective Memory Deduplication Scanners Through Cross-layer Hints", USENIX ATC 2013: what
    a guest has just read from its virtual disk is likely to be in another guest's page cache too, and soon gone. The
    hints lie in a bounded stack: when it is full the oldest are forgotten; hints and scan take turns, one to one.
    Simplified: every page that is written to is a hint, for it is not known here who wrote; so what programs compute is
    a hint as well. Needs to know the writes, and room for ``capacity`` hints of 4 bytes. Fails where nothing that is
    written can be shared: then every hint is a visit for nothing.
    """

    draws_nothing = True

    def __init__(self, view: View, *, capacity: int = 8192) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity}: there must be room for 1 hint")
        self._view, self._capacity = view, capacity
        self._newest = NONE  # newest first
        self._scan = Sequential(view)
        self._hint_is_next = True

    def next(self, count: int) -> NDArray[np.uint32]:
        """Hints and pages in address order in turn; up to the end of the pass of these."""
        written = self._view.written()
        if len(written):
            self._newest = once(np.concatenate([written[::-1], self._newest]))[: self._capacity]
        turns = (count + self._hint_is_next) // 2
        hints, self._newest = self._newest[:turns], self._newest[turns:]
        if len(hints) == count:
            self._hint_is_next = False
            return hints
        pages = self._scan.next(count - len(hints))
        if not len(hints):
            self._hint_is_next = True
            return pages
        if self._hint_is_next:
            self._hint_is_next = len(hints) <= len(pages)
            return alternate(hints, pages)
        self._hint_is_next = len(hints) < len(pages)
        return alternate(pages, hints)

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
