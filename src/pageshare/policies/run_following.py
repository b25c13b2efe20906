"""A random permutation, in which every find is followed to both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies._pending import Pass, Rest
from pageshare.policies._runs import Runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


class RunFollowing:
    """Random pages as seeds; where a page was found to equal another one, the pages beside them are visited next, on
    and on to both sides, until more than ``slack`` pairs in a row were not found to be shared.

    Measured here: programs and files lie in memory page after page, alike in every guest that has them. Zero pages are
    followed only if they are to be saved. Each page once a pass. Needs two bits for each page, 19 bytes for each run
    that is being followed, and the guest and page of one member of each shared frame, which ESX does not
    keep. Pays most at the beginning. Fails where pages that are shared lie alone: then it is a random permutation with
    some visits beside every find.
    """

    takes_objective = True

    def __init__(self, view: View, *, slack: int = 4) -> None:
        self._pass = Pass(view.pages)
        self._rest = Rest(view.pages, view.seed)
        self._runs = Runs(view, slack)

    def next(self, count: int) -> NDArray[np.uint32]:
        """Pages of runs, and seeds as there is room; up to the end of the pass."""
        if not self._pass.left and not len(self._runs.ready):
            self._pass.begin()
            self._rest.begin()
            self._runs.begin()
        batch = self._runs.next(count, self._pass)
        seeds = self._rest.next(count - len(batch), self._pass.given)
        return np.concatenate([batch, self._pass.take(seeds)])

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns where runs go on."""
        self._runs.feedback(pages, outcomes, partners, self._pass)
