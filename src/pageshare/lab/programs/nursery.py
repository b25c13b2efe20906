"""A generational collector: new objects go round a nursery, each round ends with a minor collection, which now and then
is a full one, by a thread that does nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.memory import SECOND
from pageshare.lab.programs import READ, WRITTEN, Touch
from pageshare.lab.programs._rates import flat, span
from pageshare.lab.programs._sweep import Sweep

COLLECTS = 1
"""Number of the thread that collects."""


class Nursery:
    """The mutator allocates through a nursery of ``nursery`` (share of all pages) at ``speed`` pages a second, in a
    cycle, and touches each of the ``hot`` first pages of the old generation ``rate`` times a second.

    At the end of each cycle the collector reads the ``survive`` share of the nursery's pages. With ``full`` greater
    than 0 it marks every ``full`` seconds: reads and writes every page of the old generation, ``live`` of all, at
    ``marks`` pages a second.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        nursery: float = 0.1,
        speed: float = 1000.0,
        survive: float = 0.3,
        live: float = 0.6,
        hot: float = 0.15,
        rate: float = 0.5,
        full: float = 20.0,
        marks: float = 40_000.0,
    ) -> None:
        _ranges.pages(pages)
        _ranges.together(nursery=nursery, live=live)
        _ranges.shares(survive=survive, hot=hot)
        _ranges.at_most("hot", hot, "live", live)
        _ranges.rates(speed=speed, rate=rate, marks=marks)
        self.rng, self.pages, self.survive, self.marks = rng, pages, survive, marks
        self.young = round(nursery * pages)
        self.last = min(self.young + round(live * pages), pages)
        self.full = _ranges.time("full", full)
        self.sweep = Sweep(0, self.young, speed, WRITTEN)
        self.hot = flat(rng, span(self.young, min(self.young + round(hot * pages), self.last)), rate)
        self.marked = float(self.last)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """All live pages are written at time 0; the first full collection begins ``full`` seconds later."""
        if begin == 0:
            yield Touch(span(0, self.last), WRITTEN)
        yield self.hot.touch(begin, end)
        rounds = self.sweep.rounds
        yield self.sweep.touch(begin, end)
        if self.sweep.rounds > rounds:
            survivors = self.rng.random(self.young) < self.survive
            yield Touch(np.flatnonzero(survivors).astype(np.uint32), READ, False, COLLECTS)
        if self.full and begin // self.full > (begin - (end - begin)) // self.full and begin:
            self.marked = float(self.young)
        if self.marked < self.last:
            until = min(self.marked + self.marks * (end - begin) / SECOND, float(self.last))
            yield Touch(span(int(self.marked), int(until)), READ | WRITTEN, False, COLLECTS)
            self.marked = until
