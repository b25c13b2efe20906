"""A copying collector with two halves: each collection copies what lives from one to the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.programs import READ, WRITTEN, Touch
from pageshare.lab.programs._rates import flat, span
from pageshare.lab.programs.nursery import COLLECTS


class Semispace:
    """Two halves of ``half`` (share of all pages) each. ``live`` of a half lives; the mutator touches each of the first
    ``hot`` of what lives ``rate`` times a second, and allocates behind it at ``speed`` pages a second.

    When a half is full the collector, a thread of its own, reads all that lives and writes it to the other half.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        half: float = 0.45,
        live: float = 0.5,
        hot: float = 0.4,
        rate: float = 0.5,
        speed: float = 300.0,
    ) -> None:
        _ranges.pages(pages)
        _ranges.number("half", half, 0, 0.5, what="a share")
        _ranges.shares(live=live, hot=hot)
        _ranges.rates(rate=rate, speed=speed)
        self.rng, self.pages, self.rate, self.speed = rng, pages, rate, speed
        self.half = min(round(half * pages), pages // 2)
        self.live = round(live * self.half)
        self.hot = round(hot * self.live)
        self.base = 0
        self.filled = float(self.live)
        self.rates = flat(rng, span(0, self.hot), rate)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """What lives is written at time 0."""
        if begin == 0:
            yield Touch(span(0, self.live), WRITTEN)
        yield self.rates.touch(begin, end)
        until = min(self.filled + self.speed * (end - begin) / 1e6, float(self.half))
        yield Touch(span(self.base + int(self.filled), self.base + int(until)), WRITTEN)
        self.filled = until
        if until >= self.half:
            survivors = np.sort(self.rng.choice(self.half, self.live, replace=False)).astype(np.uint32)
            yield Touch(np.uint32(self.base) + survivors, READ, False, COLLECTS)
            self.base = self.half - self.base
            yield Touch(span(self.base, self.base + self.live), WRITTEN, False, COLLECTS)
            self.filled = float(self.live)
            self.rates = flat(self.rng, span(self.base, self.base + self.hot), self.rate)
