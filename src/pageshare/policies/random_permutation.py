"""Each page once per pass, in random order: the order is computed, not stored, so it needs no memory.

A pass is a small Feistel cipher over the page numbers (Black and Rogaway, "Ciphers with Arbitrary Finite
Domains", CT-RSA 2002): a number is written as left * side + right with both halves below ``side``, the halves
are mixed in turn, and results beyond the last page are enciphered again until they fall within.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies.view import View

ROUNDS = 6


class Permutation:
    """A permutation of 0 .. pages-1, then another one, and so on."""

    def __init__(self, pages: int, seed: int) -> None:
        self._pages = pages
        self._side = np.uint64(isqrt(max(0, pages - 1)) + 1)
        self._generator = np.random.default_rng(seed)
        self.begin()

    def begin(self) -> None:
        """Another permutation, from its beginning."""
        self._at = 0
        self._keys = self._generator.integers(0, 2**64, ROUNDS, dtype=np.uint64)

    def _encipher(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = numbers // self._side, numbers % self._side
        for key in self._keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, (left + (mixed >> np.uint64(32))) % self._side
        result: NDArray[np.uint64] = left * self._side + right
        return result

    def next(self, count: int) -> NDArray[np.uint32]:
        """The next pages, up to the end of the pass."""
        end = min(self._at + count, self._pages)
        numbers = self._encipher(np.arange(self._at, end, dtype=np.uint64))
        outside = np.flatnonzero(numbers >= self._pages)
        while outside.size:
            numbers[outside] = self._encipher(numbers[outside])
            outside = outside[numbers[outside] >= self._pages]
        self._at = end
        if end == self._pages:
            self.begin()
        return numbers.astype(np.uint32)


class RandomPermutation(Permutation):
    """A permutation of all pages, then another one, and so on."""

    def __init__(self, view: View) -> None:
        super().__init__(view.pages, view.seed)

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """Learns nothing."""
