"""Pages that are touched at random, each at a rate of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.memory import SECOND
from pageshare.lab.programs import READ, WRITTEN, Touch

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Rates:
    """A Poisson process for each page: ``pages`` (uint32) and ``rates`` (float64, touches per second), equally long.

    ``written`` is the share of touches that write. The number of touches in a step is drawn for all pages together, and
    then which pages they fall on: so a step costs what is touched in it.
    """

    def __init__(
        self, rng: np.random.Generator, pages: NDArray[np.uint32], rates: NDArray[np.float64], written: float = 0.3
    ) -> None:
        self.rng, self.pages, self.written = rng, pages, written
        self.sums = np.cumsum(rates)

    def touch(self, begin: int, end: int) -> Touch:
        """What is touched from ``begin`` until ``end``, in no order."""
        total = float(self.sums[-1]) if len(self.sums) else 0.0
        number = int(self.rng.poisson(total * (end - begin) / SECOND))
        places = np.unique(np.searchsorted(self.sums, self.rng.random(number) * total, side="right"))
        kinds = np.where(self.rng.random(len(places)) < self.written, READ | WRITTEN, READ).astype(np.uint8)
        return Touch(self.pages[places], kinds)


def span(begin: int, end: int) -> NDArray[np.uint32]:
    """Pages ``begin`` to ``end``-1, uint32."""
    return np.arange(begin, end, dtype=np.uint32)


def flat(rng: np.random.Generator, pages: NDArray[np.uint32], rate: float, written: float = 0.3) -> Rates:
    """All pages at the same ``rate``, touches per second of each."""
    return Rates(rng, pages, np.full(len(pages), rate), written)
