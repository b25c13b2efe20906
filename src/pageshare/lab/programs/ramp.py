"""Sudden need: every so often much memory is taken within a tenth of a second, used for a while, and given back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.programs import RELEASED, WRITTEN, Touch
from pageshare.lab.programs._rates import flat, span
from pageshare.lab.programs._sweep import part


class Ramp:
    """A steady working set of ``base`` (share of all pages), and a ramp over ``size`` more every ``every`` seconds.

    The ramp writes its pages in order within ``rise`` seconds, touches each ``rate`` times a second until ``hold``
    seconds after its beginning, and releases them.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        base: float = 0.2,
        size: float = 0.5,
        every: float = 120.0,
        rise: float = 0.1,
        hold: float = 40.0,
        rate: float = 0.5,
    ) -> None:
        _ranges.pages(pages)
        _ranges.together(base=base, size=size)
        _ranges.rates(rate=rate)
        self.pages = pages
        n_base, n_ramp = round(base * pages), round(size * pages)
        self.first, self.last = n_base, min(n_base + n_ramp, pages)
        self.every, self.rise = _ranges.period("every", every), _ranges.period("rise", rise)
        self.hold = _ranges.time("hold", hold)
        _ranges.at_most("hold", hold, "every", every)
        self.base = flat(rng, span(0, n_base), rate)
        self.held = flat(rng, span(self.first, self.last), rate)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """The first ramp begins ``every`` seconds after time 0."""
        if begin == 0:
            yield Touch(span(0, self.first), WRITTEN)
        yield self.base.touch(begin, end)
        if begin < self.every:
            return
        since, until = begin % self.every, begin % self.every + end - begin
        if since < self.rise:
            yield Touch(part(span(self.first, self.last), since, until, self.rise), WRITTEN)
        elif since < self.hold:
            yield self.held.touch(begin, end)
        if since < self.hold <= until:
            yield Touch(span(self.first, self.last), RELEASED)
