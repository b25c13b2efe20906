"""Pages that are touched at random, each at a rate of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.memory import SECOND
from pageshare.lab.programs import READ, WRITTEN, Touch

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANY = 8
"""Touches of a page in a step, on average, from which on it is asked of each page whether it is touched."""


class Rates:
    """A Poisson process for each page: ``pages`` (uint32) and ``rates`` (float64, touches per second): as many, or one
    for all.

    ``written`` is the share of touches that write. The number of touches in a step is drawn for all pages together, and
    then which pages they fall on, in order: so a step costs what is touched in it. Where that is many times all pages
    it is drawn for each page whether it is touched: as likely, and no dearer however high the rates.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        pages: NDArray[np.uint32],
        rates: NDArray[np.float64] | float,
        written: float = 0.3,
    ) -> None:
        self.rng, self.pages, self.written = rng, pages, written
        self.sums = np.cumsum(rates) if isinstance(rates, np.ndarray) else None
        self.total = float(rates.sum()) if isinstance(rates, np.ndarray) else rates * len(pages)

    def touch(self, begin: int, end: int) -> Touch:
        """What is touched from ``begin`` until ``end``, in the order of ``pages``."""
        mean = self.total * (end - begin) / SECOND
        if mean > MANY * len(self.pages):
            rates = self.total / len(self.pages) if self.sums is None else np.diff(self.sums, prepend=0.0)
            touched = self.rng.random(len(self.pages)) < -np.expm1(-rates * ((end - begin) / SECOND))
            return self._of(np.flatnonzero(touched))
        number = int(self.rng.poisson(mean))
        # So many draws from 0 to 1 come in order, unsorted, as sums of exponential gaps, with one beyond the last.
        ends = self.rng.standard_exponential(number + 1).cumsum()
        at = ends[:-1] * ((len(self.pages) if self.sums is None else self.total) / ends[-1])
        places = at.astype(np.intp) if self.sums is None else self.sums.searchsorted(at, side="right")
        another = np.ones(number, np.bool_)
        np.not_equal(places[1:], places[:-1], out=another[1:])
        return self._of(np.minimum(places[another], len(self.pages) - 1))

    def _of(self, places: NDArray[np.intp]) -> Touch:
        kinds = np.where(self.rng.random(len(places)) < self.written, READ | WRITTEN, READ).astype(np.uint8)
        return Touch(self.pages[places], kinds)


def span(begin: int, end: int) -> NDArray[np.uint32]:
    """Pages ``begin`` to ``end``-1, uint32."""
    return np.arange(begin, end, dtype=np.uint32)


def flat(rng: np.random.Generator, pages: NDArray[np.uint32], rate: float, written: float = 0.3) -> Rates:
    """All pages at the same ``rate``, touches per second of each."""
    return Rates(rng, pages, rate, written)
