"""Thompson sampling over regions of memory: visits go where finds are likely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import Outcome
from pageshare.policies._pending import NONE, Pass
from pageshare.policies._regions import Regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View

PRIOR = 0.5, 1.0
"""Finds and misses that a region is thought to have had before the first visit."""
BURST, PART = 4, 16
"""A batch has 4 pages of a region, or more if it would come to more than a sixteenth of all regions otherwise."""


class Bandit:
    """Chooses the pages of a pass by regions: each region's share of finds is drawn from what is known of it (a Beta
    distribution), and the regions with the highest draws are visited.

    A draw stands until the region is visited, or for as many visits as there are regions.
    """

    def __init__(self, view: View, pages: int) -> None:
        self.regions = Regions(view, pages)
        self._generator = np.random.default_rng([view.seed, 1])
        self._with_zero = view.objective == "all"
        self._finds = np.zeros(len(self.regions), np.uint16)
        self._misses = np.zeros(len(self.regions), np.uint16)
        self._draws = np.empty(len(self.regions), np.float32)
        self._draw(np.arange(len(self.regions)))
        self._hand = 0

    def begin(self) -> None:
        """Another pass: what was learnt counts for half from now on."""
        self.regions.begin()
        self._finds //= 2
        self._misses //= 2
        self._draw(np.arange(len(self.regions)))

    def _draw(self, regions: NDArray[np.intp]) -> None:
        finds, misses = PRIOR
        draws = self._generator.beta(self._finds[regions] + finds, self._misses[regions] + misses)
        # A region that is used up never comes again in this pass.
        self._draws[regions] = np.where(self.regions.taken[regions] < self.regions.sizes[regions], draws, -1)

    def next(self, count: int, where: Pass) -> NDArray[np.uint32]:
        """The next ``count`` pages that ``where`` has not given yet; fewer only if these are all."""
        again = (np.arange(min(count, len(self.regions))) + self._hand) % len(self.regions)
        self._hand = int(again[-1]) + 1
        self._draw(again)
        burst = max(BURST, -(-PART * count // len(self.regions)))
        wanted = -(-count // burst)
        parts = [NONE]
        while count > 0 and where.left:
            wanted = min(2 * wanted, len(self.regions))
            best = np.argpartition(self._draws, -wanted)[-wanted:]
            best = best[np.argsort(-self._draws[best])]
            best = best[self._draws[best] >= 0]
            pages, rows = self.regions.ahead(best, min(burst, count))
            fresh = np.flatnonzero(~where.given.has(pages))
            # Whatever lies behind the last page that there is room for, is not taken.
            cut = int(fresh[count - 1]) + 1 if len(fresh) >= count else len(pages)
            self.regions.take(best, rows[:cut])
            self._draws[best[self.regions.taken[best] == self.regions.sizes[best]]] = -1
            parts.append(where.take(pages[fresh[:count]]))
            count -= len(parts[-1])
        return np.concatenate(parts)

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Credit finds to the region of the page, and to that of the hint that it met."""
        found = finds(outcomes, zero=self._with_zero)
        met = partners[outcomes == Outcome.SHARED_NEW]
        regions = self.regions.of(pages)
        credited = self.regions.of(met)
        self._finds += np.bincount(
            np.concatenate([regions[found], credited]), minlength=len(self._finds)
        ).astype(np.uint16)
        self._misses += np.bincount(regions[~found], minlength=len(self._misses)).astype(np.uint16)
        self._draw(np.unique(np.concatenate([regions, credited])))


def finds(outcomes: NDArray[np.uint8], *, zero: bool) -> NDArray[np.bool_]:
    """Which pages were found to be shared just now; ``zero`` says whether zero pages count."""
    found: NDArray[np.bool_] = (outcomes == Outcome.SHARED_NEW) | (outcomes == Outcome.SHARED)
    return found | (outcomes == Outcome.ZERO) if zero else found


class RegionBandit:
    """Thompson sampling over regions of some pages (``pages``): where finds were made, more are looked for.

    W. R. Thompson, "On the Likelihood that One Unknown Probability Exceeds Another in View of the Evidence of Two
    Samples", Biometrika 1933; as a scan order measured here. A find is to the credit of its page's region and of the
    region of the hint that it met: both are likely to go on alike. Each region has a random order. Zero pages count as
    finds only if they are to be saved. Each page once a pass; what was learnt in one counts for half in the next. Needs
    a bit for each page and 15 bytes for each region. Pays where what can be shared lies together, as page caches and
    programs do. Fails where pages lie anywhere: then it is a random permutation.
    """

    takes_objective = True

    def __init__(self, view: View, *, pages: int = 256) -> None:
        self._pass = Pass(view.pages)
        self._bandit = Bandit(view, pages)

    def next(self, count: int) -> NDArray[np.uint32]:
        """The next pages, up to the end of the pass."""
        if not self._pass.left:
            self._pass.begin()
            self._bandit.begin()
        return self._bandit.next(count, self._pass)

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns which regions are rich."""
        self._bandit.feedback(pages, outcomes, partners)
