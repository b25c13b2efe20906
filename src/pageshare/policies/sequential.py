"""Address order, owner after owner, pass after pass: what Linux KSM's cursor does (mm/ksm.c, scan_get_next)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


class Sequential:
    """Page numbers 0, 1, .. pages-1, and again."""

    draws_nothing = True

    def __init__(self, view: View) -> None:
        self._pages = view.pages
        self._at = 0

    def next(self, count: int) -> NDArray[np.uint32]:
        """The next pages, up to the end of the pass."""
        end = min(self._at + count, self._pages)
        batch = np.arange(self._at, end, dtype=np.uint32)
        self._at = end % self._pages
        return batch

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
