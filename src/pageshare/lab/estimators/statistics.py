"""What the guest says of itself: all that is neither free nor in its balloon is in use."""

from __future__ import annotations

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.view import View


class Statistics:
    """A guest's own statistics, as balloon drivers pass them on (virtio's queue of statistics; Hyper-V's status, once a
    second): asked for every ``period`` seconds.

    No page is looked at. It is exact about free memory and knows nothing of memory that is held and not used: page
    cache, leaks. And the guest has to be believed.
    """

    def __init__(self, view: View, rng: np.random.Generator, *, period: float = 1.0) -> None:
        del rng
        self.view, self.period = view, _ranges.period("period", period)
        self.active, self._next = 1.0, view.now

    def ask(self) -> bool:
        """Ask now; whether anything has changed since the last time."""
        before = self.active
        free, lent = self.view.statistics()
        self.active = 1 - (free + lent) / self.view.pages
        self._next = self.view.now + self.period
        return self.active != before

    def step(self) -> None:
        """Ask, if it is time to."""
        if self.view.now >= self._next:
            self.ask()
