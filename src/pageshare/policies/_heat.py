"""Where memory is written to, and which pages were left alone since."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies._pending import NONE, Later, Pass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies._pending import Pages

REGION = 512
"""Pages, over which writes are taken to come together."""
WARM = REGION / 32
"""Writes, of which a region must have had more to be hot."""
DEVIATIONS = 3
"""By how much more than the mean: as many as chance alone hardly makes of it, in standard deviations."""


class Heat:
    """Counts the writes to each region, those of ``cool`` seconds ago less by a factor e; a region is hot that has
    many, and clearly more than the mean. Pages come ``calm`` seconds after they were last written to. Needs, from the
    first write on, four bytes a page and those that wait."""

    def __init__(self, pages: int, calm: float, cool: float) -> None:
        self._calm, self._cool = calm, cool
        self._pages = pages
        self._now = 0.0
        self._writes = np.zeros(-(-pages // REGION), np.float32)
        self._stamp: NDArray[np.float32] | None = None
        self._waiting: deque[tuple[float, Pages]] = deque()
        self._held = 0
        self._hot: NDArray[np.bool_] | None = None

    def notice(self, written: Pages, now: float) -> None:
        """These pages were written to until now."""
        if not len(written):
            return
        if self._stamp is None:
            self._stamp = np.full(self._pages, -np.inf, np.float32)
        self._writes *= np.exp((self._now - now) / self._cool)
        self._writes += np.bincount(written // REGION, minlength=len(self._writes)).astype(np.float32)
        mean = self._writes.mean()
        self._hot = self._writes > max(WARM, mean + DEVIATIONS * np.sqrt(mean))
        self._now = now
        self._stamp[written] = now
        self._wait(float(np.float32(now)), np.unique(written))

    def _wait(self, time: float, pages: Pages) -> None:
        self._waiting.append((time, pages))
        self._held += len(pages)
        if self._held > 2 * self._pages and self._stamp is not None:
            # Those that were written to again wait twice.
            waiting = [(time, pages[self._stamp[pages] == time]) for time, pages in self._waiting]
            self._waiting = deque((time, pages) for time, pages in waiting if len(pages))
            self._held = sum(len(pages) for _, pages in self._waiting)

    def calm(self, now: float, *, patient: bool = True) -> Pages:
        """Some pages that were left alone for long enough, or, unless ``patient``, for longest; each comes once."""
        until = now - self._calm if patient else now
        while self._waiting and self._waiting[0][0] <= until and self._stamp is not None:
            time, pages = self._waiting.popleft()
            self._held -= len(pages)
            left_alone: Pages = pages[self._stamp[pages] == time]
            if len(left_alone):
                return left_alone
        return NONE

    def is_hot(self, pages: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which of these lie where much is written."""
        if self._hot is None:
            return np.zeros(len(pages), np.bool_)
        hot: NDArray[np.bool_] = self._hot[pages // REGION]
        return hot


class CoolPass(Pass):
    """Puts off the pages that lie where much is written: they are in ``late``, to be taken with ``take_any``."""

    def __init__(self, pages: int, heat: Heat) -> None:
        super().__init__(pages)
        self._heat = heat
        self.late = Later(pages)

    def begin(self) -> None:
        super().begin()
        self.late.clear()

    def take(self, pages: Pages) -> Pages:
        hot = self._heat.is_hot(pages)
        if hot.any():
            self.late.put(pages[hot])
            pages = pages[~hot]
        return super().take(pages)

    def take_any(self, pages: Pages) -> Pages:
        """As ``take``, wherever they lie."""
        return super().take(pages)
