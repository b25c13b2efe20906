"""A steady working set: the same pages are hot, warm and cold all the time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.programs import WRITTEN, Touch
from pageshare.lab.programs._rates import Rates, span
from pageshare.lab.programs._sweep import part


class Steady:
    """All pages are written once, in order, in the first ``fill`` seconds; each is touched at its own rate, for ever.

    Hot pages are touched ``hot_rate`` times a second each, warm ones ``warm_rate`` times, the rest never. With ``zipf``
    greater than 0 the hot ones have rates in proportion to rank^-zipf instead, with the same sum.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        hot: float = 0.2,
        warm: float = 0.2,
        hot_rate: float = 1.0,
        warm_rate: float = 1 / 30,
        zipf: float = 0.0,
        fill: float = 0.0,
    ) -> None:
        _ranges.pages(pages)
        _ranges.together(hot=hot, warm=warm)
        _ranges.rates(hot_rate=hot_rate, warm_rate=warm_rate)
        _ranges.number("zipf", zipf, 0, 10)
        self.pages, self.fill = pages, max(1, _ranges.time("fill", fill))
        n_hot = round(hot * pages)
        n_warm = min(round(warm * pages), pages - n_hot)
        weights = np.arange(1, n_hot + 1) ** -float(zipf)
        rates = np.concatenate([weights / max(weights.sum(), 1e-300) * n_hot * hot_rate, np.full(n_warm, warm_rate)])
        self.rates = Rates(rng, span(0, n_hot + n_warm), rates)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """All pages at first, and what its rates draw."""
        if begin < self.fill:
            yield Touch(part(span(0, self.pages), begin, end, self.fill), WRITTEN)
        yield self.rates.touch(begin, end)
