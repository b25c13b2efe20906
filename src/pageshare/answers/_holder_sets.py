"""Contents by who holds them: those with the same holders are one, with a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.core import ZERO_CLASS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.inventory import Inventory


@dataclass(frozen=True)
class HolderSets:
    """Which sets of owners hold how many contents, within sharing domains; zeros are a content as any other.

    ``own`` (float64, one an owner): contents that only this owner holds. Set s, of two holders or more, are owners
    ``holders[start[s] : start[s + 1]]``, and ``weights[s]`` (float64) contents are held by just these. The sets of
    owner i are ``sets[first[i] : first[i + 1]]``. Whole numbers all, which float64 holds exactly (up to 2^53).
    """

    own: NDArray[np.float64]
    weights: NDArray[np.float64]
    start: NDArray[np.int64]
    holders: NDArray[np.int32]
    first: NDArray[np.int64]
    sets: NDArray[np.int32]

    @classmethod
    def of(cls, inventory: Inventory) -> HolderSets:
        """Of all that an inventory knows. Takes some 40 bytes a holding of contents with several holders.

        Each owner has 128 random bits, and a set those of its owners put together by exclusive or: that two sets of
        n agree there has a chance below n^2 / 2^129, whatever they are.
        """
        contents, n = inventory.contents, len(inventory.owners)
        records = np.delete(contents.contents, ZERO_CLASS)
        own = contents.owner_pages["unique"].astype(np.float64)
        lone = contents.holdings["owner"][records["start"][records["owners"] == 1]]
        own += np.bincount(lone, minlength=n)
        several = records[records["owners"] > 1]
        starts, lengths = several["start"].astype(np.int64), several["owners"].astype(np.int64)
        chosen, weights = _distinct(contents.holdings["owner"], starts, lengths, n)
        holders = [contents.holdings["owner"][spread(starts[chosen], lengths[chosen])].astype(np.int32)]
        sizes = lengths[chosen].tolist()
        for domain in range(len(inventory.domain_names)):
            zero = np.flatnonzero((np.asarray(inventory.domains) == domain) & (inventory.zeros > 0))
            if len(zero) == 1:
                own[zero] += 1
            elif len(zero):
                holders.append(zero.astype(np.int32))
                sizes.append(len(zero))
        together = np.concatenate(holders)
        start = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        order = np.argsort(together, kind="stable")
        return cls(
            own=own,
            weights=np.concatenate([weights, np.ones(len(sizes) - len(weights))]),
            start=start,
            holders=together,
            first=np.searchsorted(together[order], np.arange(n + 1)).astype(np.int64),
            sets=np.repeat(np.arange(len(sizes), dtype=np.int32), np.diff(start))[order],
        )

    def of_owner(self, owner: int) -> NDArray[np.int32]:
        """The sets that an owner is in."""
        return self.sets[self.first[owner] : self.first[owner + 1]]

    def holders_of(self, sets: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """All holders of some sets, one set behind the other, and how many each has."""
        sizes = self.start[sets + 1] - self.start[sets]
        return self.holders[spread(self.start[sets], sizes)], sizes

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many holders each set has."""
        return np.diff(self.start)

    @property
    def alone(self) -> NDArray[np.float64]:
        """Distinct contents of each owner."""
        of_sets = np.bincount(self.holders, np.repeat(self.weights, self.sizes), len(self.own))
        alone: NDArray[np.float64] = self.own + of_sets
        return alone

    @property
    def distinct(self) -> float:
        """Distinct contents of all owners together."""
        return float(self.own.sum() + self.weights.sum())


def spread(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers starts[i] .. starts[i] + lengths[i] - 1 of each i, one behind the other."""
    before = np.cumsum(lengths) - lengths
    numbers: NDArray[np.int64] = np.repeat(starts - before, lengths) + np.arange(lengths.sum(), dtype=np.int64)
    return numbers


def _distinct(
    owners: NDArray[np.uint32], starts: NDArray[np.int64], lengths: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of sets of owners, one of each kind, and how many are like it; in the order of their random bits."""
    if not len(starts):
        return np.empty(0, np.int64), np.empty(0)
    held = owners[spread(starts, lengths)]
    edges = np.cumsum(lengths) - lengths
    # Any bits will do: the same ones always, so that the same inventory gives the same order.
    words = np.random.default_rng(0).integers(0, 2**64, (2, n), np.uint64)
    high, low = (np.bitwise_xor.reduceat(word[held], edges) for word in words)
    order = np.lexsort((low, high))
    new = np.append(True, (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0))
    firsts = np.flatnonzero(new)
    return order[firsts], np.diff(firsts, append=len(order)).astype(np.float64)
