"""Scan policies: which pages to look at next. One file each; this one names them and states the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pageshare.policies.random_permutation import RandomPermutation
from pageshare.policies.random_with_replacement import RandomWithReplacement
from pageshare.policies.sequential import Sequential

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Policy(Protocol):
    """An order in which to look at the pages 0 .. pages-1 of a space, without end: pass follows pass."""

    def next(self, count: int) -> NDArray[np.uint32]:
        """Page numbers, uint32 of shape (n,), to look at next; 1 <= n <= count."""
        ...

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """What became of a batch: arrays of one length, as ``FrameTable.scan`` takes and gives them."""
        ...


POLICIES: dict[str, Callable[[int, int], Policy]] = {
    "sequential": Sequential,
    "random-permutation": RandomPermutation,
    "random-with-replacement": RandomWithReplacement,
}
ALIASES = {"random": "random-permutation"}


def create(name: str, pages: int, seed: int) -> Policy:
    """The policy of that name (or alias) for a space of that many pages; ValueError if there is none."""
    policy = POLICIES.get(ALIASES.get(name, name))
    if policy is None:
        raise ValueError(f"no policy {name!r}: there are {', '.join([*POLICIES, *ALIASES])}")
    return policy(pages, seed)


__all__ = ["ALIASES", "POLICIES", "Policy", "RandomPermutation", "RandomWithReplacement", "Sequential", "create"]
