"""Pages drawn uniformly, each draw for itself: ESX's random scan (Waldspurger, OSDI 2002, section 4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


class RandomWithReplacement:
    """Independent uniform draws; after as many draws as pages, 1/e of the pages were never seen."""

    def __init__(self, view: View) -> None:
        self._pages = view.pages
        self._generator = np.random.default_rng(view.seed)

    def next(self, count: int) -> NDArray[np.uint32]:
        """``count`` draws."""
        return self._generator.integers(0, self._pages, count, dtype=np.uint32)

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
