"""DAMON: regions of pages that are accessed alike, one page of each sampled (Park et al.; Linux, mm/damon/core.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.view import View

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Damon:
    """Each ``sample`` seconds the accessed bit of one page of each region is read; it was cleared one sample before.

    Each ``aggregate`` seconds regions have counts of how often that was set. Then neighbours whose counts differ by no
    more than a tenth of the greatest are merged, unless they would get larger than memory / ``least``. The estimate is
    the size of all regions that have a count, as DAMON's users take it for the working set. Then each region is split
    in two at a random place, in three if the last split changed nothing, as long as there are no more than ``most`` /
    2 (/ 3).

    The kernel's defaults are 5 ms and 100 ms, with 10 to 1000 regions; the sample here is a step of the study's time,
    0.1 s, and the aggregation twenty of it, as the documentation wants. It assumes that a region's pages are alike.
    """

    def __init__(
        self,
        view: View,
        rng: np.random.Generator,
        *,
        sample: float = 0.1,
        aggregate: float = 2.0,
        least: int = 10,
        most: int = 1000,
    ) -> None:
        _ranges.whole("least", least, 1, _ranges.MOST_PAGES)
        _ranges.whole("most", most, 1, _ranges.MOST_PAGES)
        _ranges.at_most("least", least, "most", most)
        self.view, self.rng, self.least, self.most = view, rng, least, most
        self.sample, self.aggregate = _ranges.period("sample", sample), _ranges.period("aggregate", aggregate)
        self.limit = max(1, view.pages // least)
        count = min(least, view.pages)
        self.begins = (np.arange(count, dtype=np.int64) * view.pages) // count
        """The first page of each region; it ends where the next begins."""
        self.hits = np.zeros(count, np.int64)
        self.before = 0
        self.ends = view.now + self.aggregate
        self.active = 1.0
        self._choose()

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many pages each region has."""
        return np.diff(np.append(self.begins, self.view.pages))

    def _choose(self) -> None:
        """A page of each region, whose accessed bit is cleared: a visit each."""
        self.pages = (self.begins + (self.rng.random(len(self.begins)) * self.sizes).astype(np.int64)).astype(np.uint32)
        self.cleared = self.view.now
        self.view.costs.visits += len(self.pages)

    def step(self) -> None:
        """Sample, and at an aggregation's end merge, estimate and split."""
        now = self.view.now
        if now - self.cleared < self.sample:
            return
        self.hits += self.view.accessed(self.pages, self.cleared)
        if now >= self.ends:
            self.ends = now + self.aggregate
            self.active = float(self.sizes[self.hits > 0].sum()) / self.view.pages
            self._merge()
            self._split()
            self.hits[:] = 0
        self._choose()

    def _merge(self) -> None:
        threshold = max(1, int(self.hits.max()) // 10)
        while True:
            kept: list[int] = []
            hits, sizes = self.hits.astype(float), self.sizes
            for place in range(len(self.begins)):
                if kept:
                    into = kept[-1]
                    joint = sizes[into] + sizes[place]
                    if abs(hits[into] - hits[place]) <= threshold and joint <= self.limit:
                        hits[into] = (hits[into] * sizes[into] + hits[place] * sizes[place]) / joint
                        sizes[into] = joint
                        continue
                kept.append(place)
            self.begins, self.hits = self.begins[kept], hits[kept].astype(np.int64)
            if len(kept) <= self.most or threshold > hits.max():  # no larger one would merge more
                return
            threshold *= 2

    def _split(self) -> None:
        count = len(self.begins)
        pieces = 3 if count == self.before and count < self.most // 3 else 2
        self.before = count
        if count > self.most // 2:
            return
        for _ in range(pieces - 1):
            sizes = self.sizes
            cut = np.maximum(1, sizes * self.rng.integers(1, 10, len(sizes)) // 10)
            split = np.flatnonzero(cut < sizes)[:count]
            at = np.append(self.begins, self.begins[split] + cut[split])
            order = np.argsort(at, kind="stable")
            self.hits = np.append(self.hits, self.hits[split])[order]
            self.begins = at[order]
