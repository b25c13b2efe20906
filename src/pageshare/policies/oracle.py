"""The best order there is, by knowing the answer: what other orders are measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies._pending import NONE, Pass, once

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View

REPLAN = 64
"""The order is made anew when as many pages were written to as one of so many."""


class Oracle:
    """Only pages that can be shared, those of the content that most pages hold first; then the others.

    After t visits it has saved t pages less one for each content that it came to, and no order saves more. Set to save
    other pages than zero ones, it visits zero pages behind the other ones that can be shared. A page that is written to
    and can be shared now is visited at once. Each page once a pass while nothing is written. Needs the answer, so it is
    no policy for a real host, and does not care for memory: 20 bytes a page.
    """

    takes_objective = True
    draws_nothing = True

    def __init__(self, view: View) -> None:
        self._view = view
        self._pass = Pass(view.pages)
        self._urgent = NONE
        self._plan()

    def _plan(self) -> None:
        """Put the pages that are left in order, by what they hold now."""
        self._holds = self._view.contents().copy()
        self._held = np.bincount(self._holds).astype(np.int32)
        self._changed = 0
        pages = np.arange(self._view.pages, dtype=np.uint32)
        pages = pages[~self._pass.given.has(pages)]
        holds = self._holds[pages]
        rank = 2 * self._held[holds]
        if self._view.objective == "nonzero":
            rank[(holds < self._view.zeros) & (rank > 2)] = 3  # behind all pairs, before what is alone
        self._order = pages[np.lexsort((holds, -rank))]

    def next(self, count: int) -> NDArray[np.uint32]:
        """The next pages, up to the end of the pass."""
        self._look_at_writes()
        batch, self._urgent = self._urgent[:count], self._urgent[count:]
        batch = self._pass.take(batch)
        if not self._pass.left and not len(batch):
            self._pass.begin()
            self._urgent = NONE
            self._plan()
        while len(batch) < count and self._pass.left:
            if not len(self._order):  # what is left was written to after its visit
                self._plan()
            part, self._order = np.split(self._order, [count - len(batch)])
            batch = np.concatenate([batch, self._pass.take(part)])
        return batch

    def _look_at_writes(self) -> None:
        written = once(self._view.written())
        if not len(written):
            return
        now = self._view.contents()[written]
        if now.max() >= len(self._held):
            self._held = np.append(self._held, np.zeros(int(now.max()), np.int32))
        np.subtract.at(self._held, self._holds[written], 1)
        np.add.at(self._held, now, 1)
        self._holds[written] = now
        self._pass.give_back(written)
        self._urgent = once(np.concatenate([self._urgent, written[self._held[now] > 1]]))
        self._changed += len(written)
        if self._changed * REPLAN > self._view.pages:
            self._plan()

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing: it knew."""
