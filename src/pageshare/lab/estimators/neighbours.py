"""Sweeps in the order of addresses: a filter that looks at the page beside each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.memory import NEVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.view import Traps


class NeighbourFilter:
    """A page that is touched together with the one beside it was swept over, not used.

    Beside each trap there is one on the next page of the guest's memory. A touch is use if the same thread doesn't
    spring that within ``delay`` seconds, before or after; if it does both are armed again. What goes over memory in the
    order of its addresses looks like that, and so does work on whatever is larger than a page.
    """

    def __init__(self, traps: int, rng: np.random.Generator | None = None, *, delay: float = 1.0) -> None:  # noqa: ARG002
        self.delay = _ranges.time("delay", delay)
        self.pending = np.zeros(traps, np.bool_)
        self.beside: Traps | None = None
        self.armed = np.full(traps, NEVER, np.int64)
        """When each trap was armed that has one beside it."""

    def step(self, traps: Traps, new: NDArray[np.intp]) -> NDArray[np.intp]:
        """Set traps beside those that were armed; judge those that were sprung ``delay`` ago."""
        now = traps.view.now
        if self.beside is None:
            self.beside = traps.view.traps(np.zeros(0, np.uint32), room=len(traps.pages))
        self.beside.poll()
        armed = np.flatnonzero((traps.armed != self.armed) & ~traps.sprung)
        if len(armed):
            last = traps.view.pages - 1
            self.beside.arm(armed, np.where(traps.pages[armed] < last, traps.pages[armed] + 1, max(0, last - 1)))
            self.armed[armed] = traps.armed[armed]
        self.pending[new] = True
        due = np.flatnonzero(self.pending & (traps.at <= now - self.delay))
        if not len(due):
            return due
        self.pending[due] = False
        together = self.beside.sprung[due] & (np.abs(self.beside.at[due] - traps.at[due]) <= self.delay)
        swept = due[together & (self.beside.thread[due] == traps.thread[due])]
        if len(swept):
            traps.arm(swept)
        return np.setdiff1d(due, swept)

    def end(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """What is not judged yet is taken for used; no page is looked at any more."""
        used: NDArray[np.bool_] = self.pending[places].copy()
        self.pending[places] = False
        self.armed[places] = NEVER
        if self.beside is not None:
            self.beside.sprung[places] = True
        return used
