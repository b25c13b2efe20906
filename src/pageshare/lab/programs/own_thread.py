"""A collector without a thread of its own: it runs in the thread that works, as CPython's does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.programs import READ, WRITTEN, Touch
from pageshare.lab.programs._rates import flat, span
from pageshare.lab.programs._sweep import part


class OwnThread:
    """Each of ``hot`` (share of all pages) is touched ``rate`` times a second; every ``every`` seconds a collection
    goes over the ``live`` first pages, hot ones included, within ``lasts`` seconds, in the same thread: CPython's
    cyclic collector writes to the head of every object that it looks at."""

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        hot: float = 0.25,
        live: float = 0.8,
        rate: float = 0.5,
        every: float = 25.0,
        lasts: float = 0.5,
    ) -> None:
        _ranges.pages(pages)
        _ranges.shares(hot=hot, live=live)
        _ranges.rates(rate=rate)
        self.pages, self.live = pages, round(live * pages)
        self.every, self.lasts = _ranges.period("every", every), _ranges.period("lasts", lasts)
        _ranges.at_most("lasts", lasts, "every", every)
        self.rates = flat(rng, span(0, round(hot * pages)), rate)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """What lives is written at time 0; the first collection begins ``every`` seconds later."""
        if begin == 0:
            yield Touch(span(0, self.live), WRITTEN)
        yield self.rates.touch(begin, end)
        since, until = begin % self.every, begin % self.every + end - begin
        if begin >= self.every and since < self.lasts:
            yield Touch(part(span(0, self.live), since, until, self.lasts), READ | WRITTEN, False)
