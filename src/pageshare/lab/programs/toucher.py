"""The program of figure 6 of the paper: it touches so and so much memory again and again, more, less, and ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.programs import RELEASED, WRITTEN, Touch
from pageshare.lab.programs._rates import flat, span
from pageshare.lab.programs._sweep import Sweep
from pageshare.lab.programs.zero_page_thread import Clearing


class Toucher:
    """Goes round each of ``sizes`` (MiB) for ``length`` seconds, every page ``rate`` times a second, and then ends.

    Beside it the system touches ``background`` MiB. What the program had is freed at its end; with ``zeroing`` the zero
    page thread then clears it, at ``speed`` pages a second, as under Windows. Sizes and times are what can be read off
    the figure; the guest has 256 MiB. All begins anew after the last of ``sizes`` and as long a rest.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        sizes: Sequence[float] = (50, 100, 150, 200, 100, 50),
        length: float = 300.0,
        rate: float = 0.5,
        background: float = 15.0,
        zeroing: bool = True,
        speed: float = 20_000.0,
    ) -> None:
        _ranges.pages(pages)
        _ranges.numbers("sizes", sizes, 0, _ranges.MOST_PAGES / 256)
        _ranges.number("background", background, 0, _ranges.MOST_PAGES / 256)
        _ranges.rates(rate=rate)
        _ranges.flags(zeroing=zeroing)
        _ranges.rates(speed=speed, above=True)
        self.pages, self.sizes, self.rate = pages, sizes, rate
        self.length = _ranges.period("length", length)
        self.first = round(background * 256)
        if round(max(sizes) * 256) + self.first > pages:
            most, all_pages = f"{max(sizes):g} MiB and background {background:g} MiB", f"pages, {pages / 256:g} MiB"
            raise ValueError(f"sizes are up to {most}: must be at most {all_pages}, together")
        self.background = flat(rng, span(0, self.first), rate)
        self.clearing = Clearing(speed)
        self.zeroing = zeroing
        self.phase = -1
        self.sweep: Sweep | None = None

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """Memory it has once touched stays its own until it ends."""
        if begin == 0:
            yield Touch(span(0, self.first), WRITTEN)
        yield self.background.touch(begin, end)
        if begin // self.length != self.phase:
            self.phase = begin // self.length
            place = self.phase % (len(self.sizes) + 1)
            if place < len(self.sizes):
                size = round(self.sizes[place] * 256)
                self.sweep = Sweep(self.first, size, size * self.rate, WRITTEN)
            else:
                self.sweep = None
                last = self.first + round(max(self.sizes) * 256)
                yield Touch(span(self.first, last), RELEASED)
                if self.zeroing:
                    self.clearing.free(self.first, last)
        if self.sweep:
            yield self.sweep.touch(begin, end)
        yield self.clearing.touch(begin, end)
