"""Where a program's pages lie in its guest's memory: the guest hands its pages out at their first touch, in some order.

Estimators that rely on neighbours being alike are to be judged by the order that a real guest gives: free memory in
pieces, each handed out from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOWHERE = 0xFFFFFFFF


class Placement:
    """Gives each page of a program a page of the guest, at its first touch: the next of ``order`` (uint32)."""

    def __init__(self, pages: int, order: NDArray[np.uint32]) -> None:
        if len(order) < pages:
            raise ValueError(f"{pages} pages do not fit in {len(order)}")
        self.order = order
        self.places = np.full(pages, NOWHERE, np.uint32)
        self.given = 0

    def of(self, pages: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Where pages lie, each named once; those never seen before are placed in the order given."""
        places = self.places[pages]
        new = np.flatnonzero(places == NOWHERE)
        if len(new):
            places[new] = self.order[self.given : self.given + len(new)]
            self.places[pages[new]] = places[new]
            self.given += len(new)
        return places


def contiguous(pages: int, rng: np.random.Generator) -> NDArray[np.uint32]:  # noqa: ARG001
    """From the first page to the last."""
    return np.arange(pages, dtype=np.uint32)


def runs(pages: int, rng: np.random.Generator, *, mean: float = 64.0) -> NDArray[np.uint32]:
    """Free runs of random length, geometric with ``mean`` pages, in random order, each from its beginning: about what a
    buddy allocator has to give some time after boot. The mean is ours."""
    lengths = rng.geometric(1 / mean, size=int(2 * pages / mean) + 64)
    ends = np.cumsum(lengths)
    while ends[-1] < pages:
        ends = np.append(ends, ends[-1] + rng.geometric(1 / mean))
    ends = np.append(ends[ends < pages], pages)
    begins = np.append(0, ends[:-1])
    shuffled = rng.permutation(len(ends))
    return np.concatenate([np.arange(begins[run], ends[run], dtype=np.uint32) for run in shuffled])


def scattered(pages: int, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Each page anywhere."""
    return rng.permutation(pages).astype(np.uint32)


PLACEMENTS: dict[str, Callable[[int, np.random.Generator], NDArray[np.uint32]]] = {
    "contiguous": contiguous,
    "runs": runs,
    "scattered": scattered,
}
