"""Work that looks like a collection: much of memory is read within a moment, and not again for long."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.programs import READ, WRITTEN, Touch
from pageshare.lab.programs._rates import flat, span
from pageshare.lab.programs._sweep import part


class FullScan:
    """Each of ``hot`` (share of all pages) is touched ``rate`` times a second; every ``every`` seconds a query without
    an index reads the next ``size`` in order within ``lasts`` seconds. ``writes``: it is an update, and writes them.
    ``apart``: it is made by a thread of its own."""

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        hot: float = 0.2,
        size: float = 0.6,
        rate: float = 0.5,
        every: float = 60.0,
        lasts: float = 0.8,
        writes: bool = False,
        apart: bool = False,
    ) -> None:
        _ranges.pages(pages)
        _ranges.together(hot=hot, size=size)
        _ranges.rates(rate=rate)
        _ranges.flags(writes=writes, apart=apart)
        self.pages, self.first = pages, round(hot * pages)
        self.table = span(self.first, min(round((hot + size) * pages), pages))
        self.every, self.lasts = _ranges.period("every", every), _ranges.period("lasts", lasts)
        _ranges.at_most("lasts", lasts, "every", every)
        self.kinds = READ | WRITTEN if writes else READ
        self.thread = int(apart)
        self.rates = flat(rng, span(0, self.first), rate)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """All pages are written at time 0; the first query comes ``every`` seconds later."""
        if begin == 0:
            yield Touch(span(0, self.first + len(self.table)), WRITTEN)
        yield self.rates.touch(begin, end)
        since = begin % self.every
        if begin >= self.every and since < self.lasts:
            yield Touch(part(self.table, since, since + end - begin, self.lasts), self.kinds, thread=self.thread)
