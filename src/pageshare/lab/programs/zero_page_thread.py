"""Windows' zero page thread: clears each page that a process has freed, once, when there is nothing else to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.memory import SECOND
from pageshare.lab.programs import RELEASED, WRITTEN, ZERO, Touch
from pageshare.lab.programs._rates import Rates, flat, span

CLEARS = 1
"""Number of the thread that clears."""


class Clearing:
    """A queue of freed pages, and the thread that clears them at ``speed`` pages a second in the order freed.

    Each page gets one write of all its bytes and stays on the free list.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.queue: deque[np.uint32] = deque()
        self.due = 0.0

    def free(self, first: int, last: int) -> None:
        """Pages ``first`` to ``last``-1 have been freed."""
        self.queue.extend(span(first, last))

    def touch(self, begin: int, end: int) -> Touch:
        """What it clears from ``begin`` until ``end``."""
        self.due += self.speed * (end - begin) / SECOND
        number = min(int(self.due), len(self.queue))
        self.due -= int(self.due)
        pages = np.array([self.queue.popleft() for _ in range(number)], np.uint32)
        return Touch(pages, WRITTEN | ZERO | RELEASED, False, CLEARS)


class ZeroPageThread:
    """A process with a steady working set of ``base`` (share of all pages) takes ``size`` more every ``every`` seconds,
    uses it for ``hold`` seconds and frees it; the thread clears it after ``idle`` seconds, at ``speed`` pages a second.

    Windows keeps freed pages apart from cleared ones, and clears at priority 0: when no one else runs.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        base: float = 0.2,
        size: float = 0.6,
        every: float = 180.0,
        hold: float = 60.0,
        idle: float = 45.0,
        rate: float = 0.5,
        speed: float = 20_000.0,
    ) -> None:
        _ranges.pages(pages)
        _ranges.together(base=base, size=size)
        _ranges.rates(rate=rate)
        _ranges.rates(speed=speed, above=True)
        self.rng, self.pages, self.rate = rng, pages, rate
        self.first, self.last = round(base * pages), round((base + size) * pages)
        self.every = _ranges.period("every", every)
        self.hold, self.idle = _ranges.time("hold", hold), _ranges.time("idle", idle)
        _ranges.at_most("hold + idle", hold + idle, "every", every)
        self.base = flat(rng, span(0, self.first), rate)
        self.held: Rates = flat(rng, span(self.first, self.last), rate)
        self.clearing = Clearing(speed)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """Memory is taken at time 0, and every ``every`` seconds."""
        if begin == 0:
            yield Touch(span(0, self.first), WRITTEN)
        yield self.base.touch(begin, end)
        since, until = begin % self.every, begin % self.every + end - begin
        if since == 0:
            yield Touch(span(self.first, self.last), WRITTEN)
        if since < self.hold:
            yield self.held.touch(begin, end)
        if since < self.hold <= until:
            yield Touch(span(self.first, self.last), RELEASED)
        if since <= self.hold + self.idle < until:
            self.clearing.free(self.first, self.last)
        yield self.clearing.touch(begin, end)
