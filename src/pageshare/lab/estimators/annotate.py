"""Explicit annotation: the accessed bits of all pages are read and cleared each period, and each page has its age."""

from __future__ import annotations

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.memory import NEVER, WINDOW
from pageshare.lab.view import View


class Annotate:
    """Scans the accessed bits of all pages each ``period`` seconds: as Linux' idle page tracking lets one do, and
    Google's kstaled did each 120 s (Lagar-Cavilla et al., ASPLOS 2019).

    A page found accessed was so at some time in the period; its age is counted from the scan that found it. With a
    period of at least 30 seconds the estimate is what the last scan found, which is then of a window that is too long.
    """

    def __init__(self, view: View, rng: np.random.Generator, *, period: float = 30.0) -> None:  # noqa: ARG002
        self.view, self.period = view, _ranges.period("period", period)
        self.pages = np.arange(view.pages, dtype=np.uint32)
        self.found = np.full(view.pages, NEVER, np.int64)
        """When each page was last found accessed."""
        self.cleared = view.now
        view.costs.visits += view.pages
        self.active = 1.0

    def step(self) -> None:
        """Scan, if it is time to."""
        now = self.view.now
        if now - self.cleared < self.period:
            return
        self.found[self.view.accessed(self.pages, self.cleared)] = now
        self.cleared = now
        recent = self.found > now - max(WINDOW, self.period)
        self.active = float(np.count_nonzero(recent)) / self.view.pages
