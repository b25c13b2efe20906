"""A ladder of rungs that are scanned at different speeds; regions climb by what is found in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import Outcome
from pageshare.policies._pending import NONE, Bits
from pageshare.policies._regions import Regions
from pageshare.policies.region_bandit import finds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View

RUNGS = 4
SAMPLE = 8
"""Pages of a region that are visited between two decisions about it."""
RICH, POOR = 1 / 4, 1 / 16
"""Shares of finds in a sample: from the first on a region climbs a rung, below the second it goes down one."""
THRASHING = 1 / 2
"""A region of whose merges writes have broken so large a share goes to the lowest rung, and stays there."""


class RegionLadder:
    """Regions of some pages (``pages``) stand on one of four rungs; a rung gets twice the visits of the one below it,
    shared evenly by its regions. All begin on the lowest one. Every eight visits a region is judged: rich in finds it
    climbs, poor it goes down. If writes break half of its merges (copy-on-write thrashing), it goes to the lowest rung.

    Xia et al., "UKSM: Swift Memory Deduplication via Hierarchical and Adaptive Memory Region Distilling", FAST 2018:
    rungs, sampling, promotion by duplicates found (to the credit of both regions), demotion of thrashing ones.
    Simplified: regions are of one size, not a process's mappings; rungs differ by their shares of visits, not by how
    long a round takes; whole pages are hashed, not parts of adaptive size. Each region has a random order. Each page
    once a pass. Needs a bit for each page, 16 bytes for each region, and to know the writes. Fails where pages lie
    anywhere: then it is a random permutation; and on small memories, over before regions have climbed.
    """

    takes_objective = True

    def __init__(self, view: View, *, pages: int = 256) -> None:
        self._view = view
        self._regions = Regions(view, pages)
        self._with_zero = view.objective == "all"
        count = len(self._regions)
        self._rung = np.zeros(count, np.uint8)
        self._visits, self._finds = np.zeros(count, np.uint16), np.zeros(count, np.uint16)  # since they were judged
        self._merges, self._broken = np.zeros(count, np.uint16), np.zeros(count, np.uint16)
        self._merged = Bits(view.pages)
        self._hands = [0] * RUNGS
        self._left = view.pages

    def next(self, count: int) -> NDArray[np.uint32]:
        """Some pages of each rung, up to the end of the pass."""
        self._look_at_writes()
        if not self._left:
            self._left = self._view.pages
            self._regions.begin()
            self._merges //= 2
            self._broken //= 2
        parts = [NONE]
        while count > 0 and self._left:
            rungs = [np.flatnonzero((self._rung == rung) & self._regions.unfinished()) for rung in range(RUNGS)]
            shares = [(1 << rung) * (len(rungs[rung]) > 0) for rung in range(RUNGS)]
            budget = count
            for rung in reversed(range(RUNGS)):
                if not shares[rung] or not count:
                    continue
                wanted = min(count, -(-budget * shares[rung] // sum(shares)))
                part = self._visit(rung, rungs[rung], wanted)
                parts.append(part)
                count -= len(part)
                self._left -= len(part)
        return np.concatenate(parts)

    def _visit(self, rung: int, regions: NDArray[np.intp], wanted: int) -> NDArray[np.uint32]:
        """So many pages of a rung's regions, which take turns; fewer if they have no more."""
        regions = np.roll(regions, -int(np.searchsorted(regions, self._hands[rung])))
        most = max(1, -(-wanted // len(regions)))
        chosen = regions[: -(-wanted // most)]
        pages, rows = self._regions.ahead(chosen, most)
        pages, rows = pages[:wanted], rows[:wanted]
        self._regions.take(chosen, rows)
        self._hands[rung] = int(chosen[-1]) + 1
        return pages

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Credit finds to the regions of both pages, and move regions that have been sampled."""
        found = finds(outcomes, zero=self._with_zero)
        met = partners[outcomes == Outcome.SHARED_NEW]
        regions = self._regions.of(pages)
        merged = np.concatenate([regions[found], self._regions.of(met)])
        self._merged.add(pages[found])
        self._merged.add(met)
        count = len(self._rung)
        credit = np.bincount(merged, minlength=count).astype(np.uint16)
        self._finds += credit
        self._merges += credit
        self._visits += np.bincount(regions, minlength=count).astype(np.uint16)
        self._judge(np.unique(regions))

    def _judge(self, regions: NDArray[np.intp]) -> None:
        """Move those that have been sampled."""
        sampled = regions[self._visits[regions] >= SAMPLE]
        share = self._finds[sampled] / self._visits[sampled]
        thrashing = self._thrashing(sampled)
        up = (share >= RICH) & ~thrashing & (self._rung[sampled] < RUNGS - 1)
        down = (share < POOR) & (self._rung[sampled] > 0)
        self._rung[sampled[up]] += np.uint8(1)
        self._rung[sampled[down]] -= np.uint8(1)
        self._visits[sampled] = 0
        self._finds[sampled] = 0

    def _thrashing(self, regions: NDArray[np.intp]) -> NDArray[np.bool_]:
        merges, broken = self._merges[regions], self._broken[regions]
        result: NDArray[np.bool_] = (broken > 0) & (broken >= THRASHING * merges)
        return result

    def _look_at_writes(self) -> None:
        """Demote regions whose merges do not last."""
        written = np.unique(self._view.written())
        broken = written[self._merged.has(written)]
        if not len(broken):
            return
        self._merged.remove(broken)
        regions = self._regions.of(broken)
        self._broken += np.bincount(regions, minlength=len(self._rung)).astype(np.uint16)
        touched = np.unique(regions)
        self._rung[touched[self._thrashing(touched)]] = 0
