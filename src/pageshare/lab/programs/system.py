"""Memory of which a part is the same in other guests: a system and its libraries, read from the same files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.memory import SECOND
from pageshare.lab.programs import WRITTEN, ZERO, Touch
from pageshare.lab.programs._rates import flat, span
from pageshare.lab.programs.boot import fresh, of_system


class System:
    """All pages are written once, ``speed`` a second: the share ``same`` of them holds what every guest with the same
    number ``system`` has there, the share ``zero`` nothing but zeros, the rest what nobody else has.

    Then each of ``hot`` (share of all pages, drawn at random) is touched ``rate`` times a second; a touch writes with
    the probability ``written``, and what is written is like no other page.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        speed: float = 20_000.0,
        same: float = 0.4,
        zero: float = 0.1,
        system: int = 1,
        hot: float = 0.3,
        rate: float = 0.2,
        written: float = 0.01,
    ) -> None:
        _ranges.pages(pages)
        _ranges.rates(speed=speed, above=True)
        _ranges.together(same=same, zero=zero)
        _ranges.whole("system", system, 0, _ranges.SYSTEMS)
        _ranges.shares(hot=hot, written=written)
        _ranges.rates(rate=rate)
        self.pages, self.speed, self.taken = pages, speed, 0
        equal, zeros = round(same * pages), round(zero * pages)
        self.contents = fresh(rng, pages)
        self.contents[:equal] = of_system(system, equal)
        self.kinds = np.full(pages, WRITTEN, np.uint8)
        self.kinds[equal : equal + zeros] = WRITTEN | ZERO
        hottest = rng.permutation(pages)[: round(hot * pages)].astype(np.uint32)
        self.hot = flat(rng, np.sort(hottest), rate, written)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """First all pages, once; then the hot ones."""
        if self.taken < self.pages:
            first = self.taken
            self.taken = min(self.pages, first + max(1, round(self.speed * (end - begin) / SECOND)))
            some = slice(first, self.taken)
            yield Touch(span(first, self.taken), self.kinds[some], contents=self.contents[some])
        else:
            yield self.hot.touch(begin, end)
