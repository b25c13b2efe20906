"""Address order, without pages that were written to since the last time around."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies._pending import Bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


class NotRecentlyWritten:
    """A clock: a hand goes over all pages in address order, and passes over those that were written to since it came by
    last. A page that was left alone for a whole turn is visited.

    Gupta et al., "Difference Engine", OSDI 2008: of its not-recently-used clock the part that decides what to share. A
    page that was written to will be written to again, and then its merge was for nothing. Without writes it is address
    order, each page once a pass. Needs a bit for each page, and to know the writes (a dirty log, or dirty bits of the
    hardware). Fails where what is shared is new: it comes a turn later than it could.
    """

    draws_nothing = True

    def __init__(self, view: View) -> None:
        self._view = view
        self._written = Bits(view.pages)
        self._hand = 0

    def next(self, count: int) -> NDArray[np.uint32]:
        """Those of the next ``count`` pages, up to the end of a turn, that were left alone; or of some pages more, if
        there are none."""
        self._written.add(self._view.written())
        while True:  # twice around at most, for the hand clears what it passes
            pages = np.arange(self._hand, min(self._hand + count, self._view.pages), dtype=np.uint32)
            self._hand = (self._hand + len(pages)) % self._view.pages
            written = self._written.has(pages)
            self._written.remove(pages[written])
            if not written.all():
                return pages[~written]

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
