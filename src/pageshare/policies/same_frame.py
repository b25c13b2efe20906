"""The same frame of all owners, one after the other; frames at random."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import NO_PAGE
from pageshare.policies._pending import NONE, Pass, Rest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


class SameFrame:
    """A random frame number, and the pages that all owners have there; then another one. Each page once a pass.

    Frames come in the order in which a random permutation of all pages meets a first page of theirs: those that many
    owners have come earlier, and frame numbers may lie as far apart as they like. Measured here. Needs a bit for each
    page, and the frame of each. Fails where places differ (processes, kernels at random addresses): then it is a random
    permutation that takes more time, since every owner is asked for every frame.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._pass = Pass(view.pages)
        self._rest = Rest(view.pages, view.seed)
        self._ready = NONE
        self._each = 1.0  # how many pages a frame lately had

    def next(self, count: int) -> NDArray[np.uint32]:
        """The next pages, up to the end of the pass."""
        if not self._pass.left and not len(self._ready):
            self._pass.begin()
            self._rest.begin()
        parts = [self._ready]
        have = len(self._ready)
        while have < count and self._pass.left:
            frames = self._rest.next(ceil((count - have) / self._each), self._pass.given)
            fresh = self._pass.take(self._all_at(frames))
            self._each = len(fresh) / len(frames)
            parts.append(fresh)
            have += len(fresh)
        pages = np.concatenate(parts)
        self._ready = pages[count:]
        return pages[:count]

    def _all_at(self, pages: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """The pages of all owners at the frames of these, frame by frame."""
        frames = self._view.frame[pages]
        pages_of = [self._view.page_of(owner, frames) for owner in range(self._view.owners)]
        found = np.stack(pages_of, axis=1).reshape(-1)
        there: NDArray[np.uint32] = found[found != NO_PAGE]
        return there

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
