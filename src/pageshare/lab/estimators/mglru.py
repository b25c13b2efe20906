"""Multi-generational ageing: page tables are walked from time to time, and what was accessed goes to a new
generation."""

from __future__ import annotations

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.memory import WINDOW
from pageshare.lab.view import View


class Generations:
    """Linux' multi-gen LRU (mm/vmscan.c), its ageing alone: each ``period`` seconds a generation begins.

    Its walk reads the accessed bits of the pages and moves those accessed to the new generation. At most
    ``generations`` are told apart (MAX_NR_GENS is 4): when there are more the two oldest become one. Regions of 512
    pages, a page table each, in which fewer than ``dense`` pages were accessed at the walk before are left out of a
    walk, except for every fourth: that stands for the kernel's Bloom filter of tables worth walking. Pages of
    generations that began in the last 30 seconds are active.
    """

    REGION = 512

    def __init__(
        self,
        view: View,
        rng: np.random.Generator,  # noqa: ARG002
        *,
        period: float = 10.0,
        generations: int = 4,
        dense: int = 8,
    ) -> None:
        _ranges.whole("generations", generations, 2, 1000)
        _ranges.whole("dense", dense, 0, self.REGION)
        self.view, self.period = view, _ranges.period("period", period)
        self.most, self.dense = generations, dense
        self.pages = np.arange(view.pages, dtype=np.uint32)
        self.generation = np.zeros(view.pages, np.int64)
        """The number of the generation each page is in."""
        self.begun = [view.now]
        self.oldest = 0
        self.cleared = np.full(view.pages, view.now, np.int64)
        self.walk = np.ones(-(-view.pages // self.REGION), np.bool_)
        self.walks = 0
        view.costs.visits += view.pages
        self.active = 1.0

    @property
    def youngest(self) -> int:
        """The number of the newest generation."""
        return self.oldest + len(self.begun) - 1

    def step(self) -> None:
        """Begin a generation, if it is time to."""
        now = self.view.now
        if now - self.begun[-1] < self.period:
            return
        self.begun.append(now)
        everything = self.walks % 4 == 0
        walked = self.pages if everything else self.pages[np.repeat(self.walk, self.REGION)[: self.view.pages]]
        accessed = walked[self.view.accessed(walked, self.cleared[walked])]
        self.cleared[walked] = now
        self.generation[accessed] = self.youngest
        counts = np.bincount(accessed // self.REGION, minlength=len(self.walk))
        self.walk = counts >= self.dense
        self.walks += 1
        while len(self.begun) > self.most:
            self.oldest += 1
            # The two oldest are one now, and it has been there as long as the older of them.
            self.begun[1] = self.begun[0]
            del self.begun[0]
        np.maximum(self.generation, self.oldest, out=self.generation)
        recent = [self.oldest + place for place, begun in enumerate(self.begun) if begun > now - WINDOW]
        self.active = float(np.count_nonzero(self.generation >= recent[0])) / self.view.pages
