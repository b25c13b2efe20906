"""Known memory in order of owner and address: blocks of a page, and blocks of twice the size made of these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pageshare import limits
from pageshare.core import UNIQUE_CLASS, ZERO_CLASS, Control, paired
from pageshare.inventory import Inventory

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 2 << 20
"""Bytes of the largest blocks: x86-64's and AArch64's huge page."""
BYTES_A_PAGE = 24
"""Memory that is taken for each known page, at the peak; holes of whole blocks take none."""


@dataclass(frozen=True)
class Blocks:
    """Blocks of ``size`` bytes, aligned to it by address, that are wholly known (or of which a page could not be read).

    ``classes`` (uint32) is what each holds, as ``Contents.classes`` has it, 1 .. ``kept`` for what is held more than
    once. They lie in stretches: blocks ``begin`` .. ``end`` - 1 (address / size) of ``owner`` (int64, one a stretch)
    are next to each other in ``classes`` too. ``holes`` (int64, one an owner) are bytes of known zeros that are in no
    stretch, whole blocks of ``LARGEST``.
    """

    size: int
    classes: NDArray[np.uint32]
    kept: int
    owner: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    holes: NDArray[np.int64]

    def doubled(self, seed: int | None, control: Control) -> Blocks:
        """Blocks of twice the size. Raises ``Stopped``."""
        first = np.cumsum(self.end - self.begin) - (self.end - self.begin)
        last = first + (self.end - self.begin) - 1
        # What lies at an end of a stretch may have no other half.
        single = np.concatenate([first[self.begin % 2 == 1], last[self.end % 2 == 1]])
        classes = np.delete(self.classes, single) if len(single) else self.classes
        found = paired(classes, seed=seed, control=control)
        begin, end = (self.begin + 1) // 2, self.end // 2
        left = begin < end
        return replace(
            self,
            size=2 * self.size,
            classes=found.classes,
            kept=found.kept,
            owner=self.owner[left],
            begin=begin[left],
            end=end[left],
        )

    @property
    def known(self) -> int:
        """How many are wholly known."""
        return int(np.count_nonzero(self.classes <= UNIQUE_CLASS)) + int(self.holes.sum()) // self.size

    @property
    def distinct(self) -> int:
        """How many different contents they hold, zeros apart."""
        return int(np.count_nonzero(self.classes == UNIQUE_CLASS)) + self.kept

    def zeros(self) -> NDArray[np.int64]:
        """Blocks of zeros of each owner."""
        zeros = self.holes // self.size
        if len(self.owner):
            first = np.cumsum(self.end - self.begin) - (self.end - self.begin)
            np.add.at(zeros, self.owner, np.add.reduceat(self.classes == ZERO_CLASS, first, dtype=np.int64))
        return zeros


def in_order(inventory: Inventory) -> Blocks:
    """The pages of an inventory. Raises MemoryError where there are too many."""
    places, ratio = inventory.places, LARGEST // inventory.page_size
    parts, holes = [], np.zeros(len(inventory.owners), np.int64)
    for owner in range(len(inventory.owners)):
        frame, _, pages = (each.astype(np.int64) for each in places.runs(owner))
        hole, _, hole_pages = (each.astype(np.int64) for each in places.runs(owner, zeros=True))
        begin, end = _joined(hole, hole + hole_pages)
        # Of the whole blocks in a hole one is enough: it stands for the rest.
        low, high = -(-begin // ratio) + 1, end // ratio
        cut = low < high
        holes[owner] = (high - low)[cut].sum() * LARGEST
        begin = np.concatenate([begin, high[cut] * ratio])
        end = np.concatenate([np.where(cut, low * ratio, end), end[cut]])
        of_zeros = np.append(np.zeros(len(frame), np.bool_), np.ones(len(begin), np.bool_))
        begin, end = np.append(frame, begin), np.append(frame + pages, end)
        order = np.argsort(begin, kind="stable")
        order = order[begin[order] < end[order]]
        parts.append((np.full(len(order), owner), begin[order], end[order], of_zeros[order]))
    if not parts:
        none = np.empty(0, np.int64)
        return Blocks(inventory.page_size, none.astype(np.uint32), 0, none, none, none, holes)
    owners, begin, end, of_zeros = (np.concatenate(each) for each in zip(*parts, strict=True))
    total, free = int((end - begin).sum()), limits.memory().free
    if total * BYTES_A_PAGE > free:
        raise MemoryError(
            f"larger pages of {total} known ones take {total * BYTES_A_PAGE} bytes of memory, and {free} are free"
        )
    classes = inventory.contents.classes
    if of_zeros.any():
        # Pages that are read are numbered in this order.
        classes = np.zeros(total, np.uint32)
        classes[np.repeat(~of_zeros, end - begin)] = inventory.contents.classes
    opens = np.append(True, (owners[1:] != owners[:-1]) | (begin[1:] != end[:-1]))[: len(owners)]
    closes = np.append(opens[1:], True)[: len(owners)]
    kept = len(inventory.contents.contents) - 1
    return Blocks(inventory.page_size, classes, kept, owners[opens], begin[opens], end[closes], holes)


def _joined(begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs in ascending order, neighbours as one."""
    opens = np.append(True, begin[1:] != end[:-1])[: len(begin)]
    return begin[opens], end[np.append(opens[1:], True)[: len(begin)]]
