"""How many pages are looked at in how much (virtual) time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from pageshare.ksm import KSM_PAGES, KSM_SLEEP
from pageshare.replay import checks

ESX_RATE = 200.0
"""Pages a second: ESX's default, system-wide (Mem.ShareScanTotal of ESX 3)."""
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
        checks.rate("rate", self.rate)
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
        checks.whole("pages_to_scan", self.pages, "a whole number from 1", lambda pages: pages >= 1)
        checks.number("sleep", self.sleep, "a number of seconds from 0", lambda sleep: sleep >= 0)
        self._wakes = max(1, round(SHORTEST / self.sleep)) if self.sleep else max(1, 1000 // self.pages)
        # Without a sleep no time but that of the pages goes by, and is known a step later: the first one must be short.
        self._most = math.inf if self.sleep else 0.5

    def step(self, spent: float) -> tuple[int, float]:
        """Several wakes; each takes the time that the last ones took, and the sleep."""
        self._most *= 2
        return int(min(self._wakes * self.pages, self._most)), self._wakes * self.sleep + spent


@dataclass
class CpuShare:
    """As many pages as a share of one CPU has time for, by the measured cost of each look, peeks included."""

    counts_peeks: ClassVar = False
    share: float
    _saved: float = 0.0
    _cost: float = 1e-6

    def __post_init__(self) -> None:
        checks.number("cpu", self.share, "a share of a CPU above 0, at most 1", lambda share: 0 < share <= 1)
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


@dataclass(frozen=True)
class Paced:
    """How fast: what makes a pace, and what it is in words and as JSON has it."""

    make: Callable[[], Pace]
    words: str
    document: dict[str, float | str]


def paced(
    rate: float | None = None,
    pages_to_scan: int | None = None,
    sleep: float | None = None,
    cpu: float | None = None,
) -> Paced:
    """The pace that was asked for: pages a second (``ESX_RATE`` if nothing was); KSM's pages at a time and sleep in
    seconds, one of which may be left out; or a share of a CPU.

    Raises SettingError for two of them, ValueError for numbers that are none.

    >>> paced(pages_to_scan=7).words
    '7 pages, then 20 ms of sleep'
    """
    ksm = pages_to_scan is not None or sleep is not None
    asked = {"rate": rate is not None, "pages_to_scan": ksm, "cpu": cpu is not None}
    given = [f"{{{name}}}" for name, there in asked.items() if there]
    if len(given) > 1:
        raise checks.SettingError(f"{' and '.join(given)}: only one of them says how fast pages are looked at")
    if cpu is not None:
        CpuShare(cpu)  # what is wrong with a number is said at once
        share = cpu
        return Paced(lambda: CpuShare(share), f"{100 * share:g} % of a CPU", {"pace": "cpu", "share": share})
    if ksm:
        pages = KSM_PAGES if pages_to_scan is None else pages_to_scan
        pause = KSM_SLEEP if sleep is None else sleep
        WakeAndSleep(pages, pause)
        return Paced(
            lambda: WakeAndSleep(pages, pause),
            f"{pages:,} pages, then {1000 * pause:g} ms of sleep",
            {"pace": "ksm", "pages_to_scan": pages, "sleep_seconds": pause},
        )
    each = ESX_RATE if rate is None else rate
    PagesPerSecond(each)
    return Paced(lambda: PagesPerSecond(each), f"{each:,.10g} pages/s", {"pace": "rate", "pages_per_second": each})
