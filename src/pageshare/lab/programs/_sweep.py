"""Pages that are touched one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.memory import SECOND
from pageshare.lab.programs import READ, Touch

if TYPE_CHECKING:
    from numpy.typing import NDArray


def part(pages: NDArray[np.uint32], since: int, until: int, lasts: int) -> NDArray[np.uint32]:
    """Which of ``pages`` are touched from ``since`` until ``until``, microseconds, if all take ``lasts``."""
    low, high = (min(len(pages), len(pages) * time // lasts) for time in (since, until))
    return pages[low:high]


class Sweep:
    """Goes round pages ``first`` to ``first``+``pages``-1 at ``speed`` pages per second."""

    def __init__(self, first: int, pages: int, speed: float, kinds: int = READ) -> None:
        self.first, self.pages, self.speed, self.kinds = first, pages, speed, kinds
        self.gone = 0.0

    def touch(self, begin: int, end: int, *, work: bool = True, thread: int = 0) -> Touch:
        """What it comes by from ``begin`` until ``end``; each page once, were it to go round more than once."""
        was, self.gone = int(self.gone), self.gone + self.speed * (end - begin) / SECOND
        number = min(int(self.gone) - was, self.pages)
        around = max(1, self.pages)
        pages = (self.first + (was % around + np.arange(number)) % around).astype(np.uint32)
        return Touch(pages, self.kinds, work, thread)

    @property
    def rounds(self) -> int:
        """How often it has been all the way round."""
        return int(self.gone) // self.pages if self.pages else 0
