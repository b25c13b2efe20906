"""A long scan: a large array is read from end to end, over and over, beside a small working set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.programs import WRITTEN, Touch
from pageshare.lab.programs._rates import flat, span
from pageshare.lab.programs._sweep import Sweep


class Streaming:
    """Each of ``base`` (share of all pages) is touched ``rate`` times a second; the next ``size`` are swept at
    ``speed`` pages a second. All of it is work, though most pages are touched once in a long while."""

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        base: float = 0.1,
        size: float = 0.8,
        speed: float = 600.0,
        rate: float = 0.5,
    ) -> None:
        _ranges.pages(pages)
        _ranges.together(base=base, size=size)
        _ranges.rates(speed=speed, rate=rate)
        self.pages = pages
        first, last = round(base * pages), round((base + size) * pages)
        self.base = flat(rng, span(0, first), rate)
        self.sweep = Sweep(first, last - first, speed)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """All pages are written at time 0."""
        if begin == 0:
            yield Touch(span(0, self.pages), WRITTEN)
        yield self.base.touch(begin, end)
        yield self.sweep.touch(begin, end)
