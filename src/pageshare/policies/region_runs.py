"""Regions chosen by what was found in them, and every find followed to both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies._pending import Pass
from pageshare.policies._runs import Runs
from pageshare.policies.region_bandit import Bandit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


class RegionRuns:
    """The seeds of ``RunFollowing`` are chosen as ``RegionBandit`` chooses its pages, over smaller regions; all that is
    found along runs teaches it, too.

    Measured here: the fewest visits that an order needs which sees nothing but what the table says. Each page once a
    pass. Needs what both of these need: two bits for each page, 15 bytes for each region. Fails where pages lie
    anywhere: then it is a random permutation.
    """

    takes_objective = True

    def __init__(self, view: View, *, pages: int = 128, slack: int = 2) -> None:
        self._pass = Pass(view.pages)
        self._bandit = Bandit(view, pages)
        self._runs = Runs(view, slack)

    def next(self, count: int) -> NDArray[np.uint32]:
        """Pages of runs, and seeds as there is room; up to the end of the pass."""
        if not self._pass.left and not len(self._runs.ready):
            self._pass.begin()
            self._bandit.begin()
            self._runs.begin()
        batch = self._runs.next(count, self._pass)
        if len(batch) == count:
            return batch
        return np.concatenate([batch, self._bandit.next(count - len(batch), self._pass)])

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns which regions are rich, and where runs go on."""
        self._bandit.feedback(pages, outcomes, partners)
        self._runs.feedback(pages, outcomes, partners, self._pass)
