"""A working set that changes its size and its place from phase to phase."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.programs import WRITTEN, Touch
from pageshare.lab.programs._rates import Rates, flat, span
from pageshare.lab.programs._sweep import part


class Phases:
    """``length`` seconds with a working set of each of ``sizes`` (shares of all pages), over and over.

    A working set is one stretch of the program's pages, at a place drawn anew for each phase if ``moves``, else at its
    beginning; each of its pages is touched ``rate`` times a second. All pages are written once at the start, in the
    first ``fill`` seconds, one after the other.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        sizes: Sequence[float] = (0.2, 0.6, 0.1, 0.8, 0.4),
        length: float = 120.0,
        rate: float = 0.5,
        moves: bool = True,
        fill: float = 0.0,
    ) -> None:
        _ranges.pages(pages)
        _ranges.numbers("sizes", sizes, 0, 1, what="a share")
        _ranges.rates(rate=rate)
        _ranges.flags(moves=moves)
        self.rng, self.pages, self.sizes = rng, pages, sizes
        self.length, self.rate, self.moves = _ranges.period("length", length), rate, moves
        self.fill = max(1, _ranges.time("fill", fill))
        self.phase = -1
        self.rates: Rates

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """All pages at first, and the working set of the phase that ``begin`` is in."""
        if begin < self.fill:
            yield Touch(part(span(0, self.pages), begin, end, self.fill), WRITTEN)
        if begin // self.length != self.phase:
            self.phase = begin // self.length
            size = round(self.sizes[self.phase % len(self.sizes)] * self.pages)
            first = int(self.rng.integers(self.pages - size + 1)) if self.moves else 0
            self.rates = flat(self.rng, span(first, first + size), self.rate)
        yield self.rates.touch(begin, end)
