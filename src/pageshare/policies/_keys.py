"""Which page was first seen to hold a key: hash tables of 32-bit keys, in whole arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import NO_PAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.uint32]


class KeyTable:
    """Open addressing, at most 2/3 full; keys are not 0."""

    def __init__(self) -> None:
        self._count = 0
        self._make(10)

    def __len__(self) -> int:
        return self._count

    def _make(self, bits: int) -> None:
        self._bits = bits
        self._keys, self._pages = np.zeros(1 << bits, np.uint32), np.full(1 << bits, NO_PAGE, np.uint32)

    def _slots(self, keys: Array) -> Array:
        slots: Array = keys * np.uint32(0x9E3779B1) >> np.uint32(32 - self._bits)
        return slots

    def put(self, keys: Array, pages: Array) -> Array:
        """The page of each key: one that was put before, or else the first of these pages that has it."""
        if 3 * (self._count + len(keys)) > 2 << self._bits:
            there = self._keys != 0
            old_keys, old_pages = self._keys[there], self._pages[there]
            self._make(int(2 * (self._count + len(keys))).bit_length())
            self._count = 0
            self._put(old_keys, old_pages)
        return self._put(keys, pages)

    def _put(self, keys: Array, pages: Array) -> Array:
        found, slots, todo = np.empty(len(keys), np.uint32), self._slots(keys), np.arange(len(keys))
        while todo.size:
            free = todo[self._keys[slots[todo]] == 0]
            # Of those that meet at a free slot, the first one takes it.
            taken, first = np.unique(slots[free], return_index=True)
            self._keys[taken], self._pages[taken] = keys[free[first]], pages[free[first]]
            self._count += len(taken)
            todo = self._settle(keys, slots, todo, found)
        return found

    def find(self, keys: Array) -> Array:
        """The page of each key, ``NO_PAGE`` where there is none, or the key is 0."""
        found, slots, todo = np.full(len(keys), NO_PAGE, np.uint32), self._slots(keys), np.flatnonzero(keys)
        while todo.size:
            todo = todo[self._keys[slots[todo]] != 0]
            todo = self._settle(keys, slots, todo, found)
        return found

    def _settle(self, keys: Array, slots: Array, todo: NDArray[np.intp], found: Array) -> NDArray[np.intp]:
        """Note the pages of those that stand at their key, and let the others look at the next slot."""
        at = slots[todo]
        hit = self._keys[at] == keys[todo]
        found[todo[hit]] = self._pages[at[hit]]
        todo = todo[~hit]
        slots[todo] = slots[todo] + np.uint32(1) & np.uint32((1 << self._bits) - 1)
        return todo


class BoundedKeys:
    """A KeyTable that forgets: of the last ``most`` to 2 * ``most`` keys that were put, none; the older ones, unless
    they were asked for since."""

    def __init__(self, most: int) -> None:
        self._most = max(1024, most)
        self._young, self._old = KeyTable(), KeyTable()

    def put(self, keys: Array, pages: Array) -> Array:
        """The page of each key: one that was put before, or else the first of these pages that has it."""
        if len(self._young) + len(keys) > self._most:
            self._young, self._old = KeyTable(), self._young
        older = self._old.find(keys)
        return self._young.put(keys, np.where(older == NO_PAGE, pages, older))
