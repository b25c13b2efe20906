"""ESX's statistical sampling (Waldspurger, OSDI 2002, section 5.3)."""

from __future__ import annotations

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.estimators.filters import NoFilter, Through
from pageshare.lab.view import View


class Esx:
    """Traps on pages drawn at random; the share that is touched within a period; the largest of three averages.

    A slow and a fast exponentially weighted moving average take in each period's share; the third is the fast one as
    it would be if the period ended now. So the estimate rises fast and falls slowly. Section 5.3 has 100 pages and
    30 seconds of the guest's own time; the gains are not published: 1/8 and 1/2 are ours. Until a period has passed a
    guest is taken to use all that it has. ``through`` makes a filter (``filters``) that touches have to pass to be
    counted; the paper has none.
    """

    def __init__(
        self,
        view: View,
        rng: np.random.Generator,
        *,
        n: int = 100,
        period: float = 30.0,
        slow: float = 1 / 8,
        fast: float = 1 / 2,
        through: Through = NoFilter,
    ) -> None:
        _ranges.whole("n", n, 1, _ranges.MOST_PAGES)
        _ranges.number("slow", slow, 0, 1, above=True)
        _ranges.number("fast", fast, 0, 1, above=True)
        _ranges.made_by("through", through, "a filter")
        self.view, self.rng = view, rng
        self.n, self.period = min(int(n), view.pages), _ranges.period("period", period)
        # One for all periods: it learns of the guest's threads.
        self.filter = through(self.n, rng)
        self.gains = (slow, fast)
        self.averages: tuple[float, float] | None = None
        self.active = 1.0
        self._begin()

    def _begin(self) -> None:
        self.ends = self.view.now + self.period
        pages = self.rng.choice(self.view.pages, self.n, replace=False, shuffle=False)
        self.traps = self.view.traps(pages.astype(np.uint32))
        self.used = np.zeros(self.n, np.bool_)

    def step(self) -> None:
        """Count the traps that were sprung; at a period's end take the averages on, and draw other pages."""
        self.used[self.filter.step(self.traps, self.traps.poll())] = True
        slow_gain, fast_gain = self.gains
        ended = self.view.now >= self.ends
        if ended:
            self.used |= self.filter.end(np.arange(self.n))
        share = int(np.count_nonzero(self.used)) / self.n
        if self.averages is None:
            if not ended:
                return
            self.averages = (float(share), float(share))
        slow, fast = self.averages
        current = fast + fast_gain * (share - fast)
        if ended:
            self.averages = slow, fast = slow + slow_gain * (share - slow), current
            self._begin()
        self.active = max(slow, fast, current)
