"""What the guest says of its free pages, block by block."""

from __future__ import annotations

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.view import View


class FreePageReporting:
    """All that the guest has not reported free is taken for active.

    Linux reports blocks of 2 MiB two seconds after they were freed (mm/page_reporting.c, virtio's feature bit 5), so
    what is free in smaller pieces, and all that is allocated and idle, is not seen: the estimate is an upper bound.
    """

    def __init__(self, view: View, rng: np.random.Generator, *, period: float = 2.0) -> None:  # noqa: ARG002
        self.view, self.period = view, _ranges.period("period", period)
        self.next = view.now + self.period
        self.active = 1.0

    def step(self) -> None:
        """Take in what has been reported since the last time."""
        if self.view.now < self.next:
            return
        self.next = self.view.now + self.period
        self.active = 1.0 - float(np.count_nonzero(self.view.reported_free())) / self.view.pages
