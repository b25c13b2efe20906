"""Runs that peeks go ahead of: what they come to is looked at before it is visited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies._runs import Runs

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from pageshare.policies._pending import Pages, Pass
    from pageshare.policies.view import View


class PeekedRuns(Runs):
    """Goes on only as far as the first lines of the last pair agree: if they don't, half as far, and so on. Where not
    even the next pair does, up to ``slack`` pairs are passed over, unless the run has just begun.

    While ``begins`` is off no run begins.
    """

    def __init__(self, view: View, slack: int) -> None:
        super().__init__(view, slack)
        self._view = view
        self._missed = slack
        self.begins = True

    def _look_ahead(self, chosen: NDArray[np.intp]) -> NDArray[np.bool_]:
        runs = self._runs[chosen]
        step, room, missed = (runs[name].astype(np.int64) for name in ("ahead", "room", "missed"))
        todo = np.arange(len(runs))
        while len(todo):
            todo = todo[~self._agree(runs[todo], step[todo])]
            step[todo] //= 2
            todo = todo[step[todo] > 0]
        for beyond in range(2, self._slack + 2):
            over = np.flatnonzero((step == 0) & (room >= beyond) & (missed + beyond <= self._slack + 1))
            over = over[self._agree(runs[over], np.full(len(over), beyond))]
            if len(over):
                moved = np.where(runs["back"][over], 1 - beyond, beyond - 1)
                for side in ("page", "partner"):
                    self._runs[side][chosen[over]] = (runs[side][over] + moved).astype(np.uint32)
                self._runs["room"][chosen[over]] -= np.uint32(beyond - 1)
                step[over] = 1
        self._runs["ahead"][chosen] = step
        ended: NDArray[np.bool_] = step == 0
        return ended

    def _agree(self, runs: NDArray[Any], distance: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the pairs at that distance are known to be shared, or begin alike; a zero page, with zeros."""
        offset = np.where(runs["back"], -distance, distance)
        pages, partners = ((runs[side] + offset).astype(np.uint32) for side in ("page", "partner"))
        agree: NDArray[np.bool_] = self._found.has(pages) & self._found.has(partners)
        todo = np.flatnonzero(~agree)
        if len(todo):
            pair = np.flatnonzero(pages[todo] != partners[todo])
            keys = self._view.peek(np.concatenate([pages[todo], partners[todo[pair]]]))
            others = np.zeros(len(todo), np.uint32)
            others[pair] = keys[len(todo) :]
            agree[todo] = keys[: len(todo)] == others
        return agree

    def _is_worth(self, ahead: NDArray[np.int64], hits: NDArray[np.intp]) -> NDArray[np.bool_]:
        # The last pair was seen to agree, and says nothing of those before it.
        worth: NDArray[np.bool_] = (hits - 1) * 4 >= (ahead - 1) * 3
        return worth

    def _spawn(self, pages: Pages, partners: Pages, where: Pass) -> None:
        if self.begins:
            super()._spawn(pages, partners, where)
