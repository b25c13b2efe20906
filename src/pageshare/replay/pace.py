"""How many pages are looked at in how much (virtual) time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

ESX_RATE = 200.0
"""Pages a second: ESX's default, system-wide (Mem.ShareScanTotal of ESX 3)."""
KSM_PAGES, KSM_SLEEP = 100, 0.020
"""Linux KSM's pages_to_scan and sleep_millisecs."""
SHORTEST, LONGEST = 0.1, 1.0
"""Bounds of a step, in seconds: writes are seen between steps."""
STEP_PAGES = 64
"""A step is as long as that many pages take, within these bounds."""


class Pace(Protocol):
    """Says, step by step, how much is to be done in what time."""

    @property
    def counts_peeks(self) -> bool:
        """Whether a peek takes its price, a part of a page, of the pages that are allowed."""
        ...

    def step(self, spent: float) -> tuple[int, float]:
        """How many pages to look at next, and how many seconds pass until that is done; ``spent`` is the CPU time that
        the last step took, in seconds."""
        ...


@dataclass
class PagesPerSecond:
    """A fixed rate, as ESX has it."""

    counts_peeks: ClassVar = True
    rate: float = ESX_RATE
    _owed: float = 0.0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"rate {self.rate}: must be above 0 pages a second")
        # Between two pages there is nothing to be seen of writes.
        self._step = max(min(LONGEST, max(SHORTEST, STEP_PAGES / self.rate)), 1 / self.rate)

    def step(self, spent: float) -> tuple[int, float]:
        """So many pages as are owed by now."""
        del spent
        self._owed += self.rate * self._step
        pages = int(self._owed + 1e-9)
        self._owed -= pages
        return pages, self._step


@dataclass
class WakeAndSleep:
    """So many pages at a time, and a sleep after it: Linux KSM's thread. What the pages take comes on top of the
    sleep."""

    counts_peeks: ClassVar = True
    pages: int = KSM_PAGES
    sleep: float = KSM_SLEEP

    def __post_init__(self) -> None:
        if self.pages < 1 or self.sleep < 0:
            raise ValueError("a page at least must be looked at a time, and the sleep be 0 seconds or more")
        self._wakes = max(1, round(SHORTEST / self.sleep)) if self.sleep else max(1, 1000 // self.pages)

    def step(self, spent: float) -> tuple[int, float]:
        """Several wakes; each takes the time that the last ones took, and the sleep."""
        return self._wakes * self.pages, self._wakes * self.sleep + spent


@dataclass
class CpuShare:
    """As many pages as a share of one CPU has time for, by the measured cost of each look, peeks included."""

    counts_peeks: ClassVar = False
    share: float
    _saved: float = 0.0
    _cost: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share {self.share}: must be above 0, and at most 1 CPU")
        self._pages, self._known = 0, False

    def step(self, spent: float) -> tuple[int, float]:
        """As many as the time that is left suffices for, if pages go on to cost what they did."""
        if self._pages:
            cost = spent / self._pages
            self._cost = 0.5 * self._cost + 0.5 * cost if self._known else cost
            self._known = True
        cost = max(self._cost, 1e-9)
        self._saved += SHORTEST * self.share - spent
        # Until there is time for a page at least: a long look at many pages beforehand, such as a policy's sweep of
        # peeks, is paid for in time, too.
        wait = max(0.0, cost - self._saved) / self.share
        self._saved = max(self._saved, cost)
        # The first ones show what a page costs; what they leave is spent later.
        self._pages = int(self._saved / cost) if self._known else 1
        return self._pages, SHORTEST + wait
