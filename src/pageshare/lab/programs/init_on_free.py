"""Linux with init_on_free=1: pages are cleared as they are freed, by the thread that frees them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.programs import RELEASED, WRITTEN, ZERO, Touch
from pageshare.lab.programs._rates import flat, span


class InitOnFree:
    """A steady working set of ``base`` (share of all pages); every ``every`` seconds a buffer of ``size`` is filled,
    used for ``hold`` seconds, left alone for ``idle``, and freed: which clears it, page by page, in the thread that
    works.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        base: float = 0.2,
        size: float = 0.5,
        every: float = 150.0,
        hold: float = 30.0,
        idle: float = 60.0,
        rate: float = 0.5,
    ) -> None:
        _ranges.pages(pages)
        _ranges.together(base=base, size=size)
        _ranges.rates(rate=rate)
        self.pages = pages
        self.first, self.last = round(base * pages), round((base + size) * pages)
        self.every = _ranges.period("every", every)
        self.hold, self.idle = _ranges.time("hold", hold), _ranges.time("idle", idle)
        _ranges.at_most("hold + idle", hold + idle, "every", every)
        self.base = flat(rng, span(0, self.first), rate)
        self.held = flat(rng, span(self.first, self.last), rate)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """A buffer is filled at time 0, and every ``every`` seconds."""
        if begin == 0:
            yield Touch(span(0, self.first), WRITTEN)
        yield self.base.touch(begin, end)
        since, until = begin % self.every, begin % self.every + end - begin
        if since == 0:
            yield Touch(span(self.first, self.last), WRITTEN)
        if since < self.hold:
            yield self.held.touch(begin, end)
        if since < self.hold + self.idle <= until:
            yield Touch(span(self.first, self.last), WRITTEN | ZERO | RELEASED, False)
