"""An operating system that boots: Windows clears all memory meanwhile, Linux only takes what it needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.memory import SECOND
from pageshare.lab.programs import RELEASED, WRITTEN, ZERO, Touch
from pageshare.lab.programs._rates import flat, span

CLEARS = 1
"""Number of the thread that clears."""


class Boot:
    """The system takes ``used`` (share of all pages), and then touches ``hot`` of that again and again. With ``zeroes``
    it clears all others meanwhile, and then frees them, as Windows does. It goes over ``speed`` pages a second.

    Of what it takes the share ``same`` is equal in all guests with the same number ``system``: its programs and
    libraries. Hot pages are touched ``rate`` times a second each, and not written.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        zeroes: bool = True,
        speed: float = 20_000.0,
        used: float = 0.3,
        hot: float = 0.5,
        rate: float = 0.2,
        same: float = 0.0,
        system: int = 1,
    ) -> None:
        _ranges.pages(pages)
        _ranges.flags(zeroes=zeroes)
        _ranges.shares(used=used, hot=hot, same=same)
        _ranges.rates(speed=speed, above=True)
        _ranges.rates(rate=rate)
        _ranges.whole("system", system, 0, _ranges.SYSTEMS)
        self.pages, self.speed = pages, speed
        self.used = round(used * pages)
        self.most = pages if zeroes else self.used
        self.gone = 0
        self.contents = fresh(rng, self.used)
        equal = round(same * self.used)
        self.contents[:equal] = of_system(system, equal)
        self.hot = flat(rng, span(0, round(hot * self.used)), rate, written=0.0)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """Clearing is no work: nobody will want the zeros."""
        if self.gone == self.most:
            yield self.hot.touch(begin, end)
            return
        was, self.gone = self.gone, min(self.most, self.gone + max(1, round(self.speed * (end - begin) / SECOND)))
        first, last = (self.used * gone // self.most for gone in (was, self.gone))
        yield Touch(span(first, last), WRITTEN, contents=self.contents[first:last])
        # Those beside what is taken, as far as both have come.
        yield Touch(span(self.used + was - first, self.used + self.gone - last), WRITTEN | ZERO, False, CLEARS)
        if self.gone == self.most:
            yield Touch(span(self.used, self.most), RELEASED)


def of_system(system: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Contents, uint64, that all guests with that system have alike."""
    first = (0xFE << 56) + (system << 32)
    return np.arange(first, first + count, dtype=np.uint64)


def fresh(rng: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Contents, uint64, that nobody else has, as good as certainly: drawn from 2^55."""
    drawn: np.ndarray[tuple[int], np.dtype[np.uint64]] = rng.integers(
        0xFD << 56, 0xFD << 56 | (1 << 55), count, np.uint64
    )
    return drawn
