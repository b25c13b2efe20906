"""What was written to since its last visit first, then what was never visited, then the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies._pending import NONE, Bits, Pass, Rest, once

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View


class Generational:
    """Pages written to since they were last visited come first, in order of their writes; then those that were never
    visited; then, once all were, old ones. Within a generation the order is a random permutation.

    After the generations of garbage collectors (Lieberman and Hewitt, "A Real-Time Garbage Collector Based on the
    Lifetimes of Objects", CACM 1983); as a scan order measured here. Without writes each page once a pass. What was
    written to before its first visit is not young: it waits for its turn. Needs two bits for each page, 4 bytes for
    each that waits for another visit, and to know the writes. Pays when all pages were visited once: what can newly be
    shared is what was written to. Fails when more pages are written to than are visited: it comes to nothing else.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._pass = Pass(view.pages)
        self._rest = Rest(view.pages, view.seed)
        self._young = NONE
        self._waiting = Bits(view.pages)
        self._all_visited = False

    def next(self, count: int) -> NDArray[np.uint32]:
        """The next pages, up to the end of the pass."""
        if not self._pass.left:
            self._all_visited = True
            self._pass.begin()
            self._rest.begin()
        self._look_at_writes()
        batch, self._young = self._young[:count], self._young[count:]
        self._waiting.remove(batch)
        self._pass.take(batch)
        if len(batch) == count:
            return batch
        rest = self._pass.take(self._rest.next(count - len(batch), self._pass.given))
        return np.concatenate([batch, rest])

    def _look_at_writes(self) -> None:
        written = self._view.written()
        if not len(written):
            return
        visited = self._all_visited or self._pass.given.has(written)
        young = once(written[visited & ~self._waiting.has(written)])
        self._waiting.add(young)
        self._young = np.concatenate([self._young, young])

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
