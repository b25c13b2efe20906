"""The bytes of a content number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.synth import draw
from pageshare.synth.spec import Spec

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Contents:
    """Pages of content numbers, little-endian on every machine.

    Number 0 is the zero page. Every other page ends with its number (32 bits) and the low half of the seed, so
    that none is zero and no two numbers give the same bytes. The rest is random words, each the exclusive or of
    one of the number and one of the place, which is fast; the first byte is 0xff, so that no image begins with
    the magic of a format.

    >>> spec = Spec(seed=7)
    >>> pages = Contents(spec).pages(np.array([0, 5, 6, 5]))
    >>> pages.shape, pages.dtype, bool(pages[0].any()), bool((pages[1] == pages[3]).all())
    ((4, 4096), dtype('uint8'), False, True)
    >>> pages[1, -8:].tobytes().hex()
    '0500000007000000'
    """

    def __init__(self, spec: Spec) -> None:
        self.page_size = spec.page_size
        self._tag = np.uint64((spec.seed & 0xFFFF_FFFF) << 32)
        self._numbers = draw.stream(spec.seed, "number")
        self._places = draw.first(draw.stream(spec.seed, "place"), spec.page_size // 8)
        self._alike = draw.stream(spec.seed, "alike")
        self._fraction = int(spec.alike.fraction * (1 << 32))
        words = spec.alike.bytes // 8
        self._beginnings = draw.first(draw.stream(spec.seed, "begin"), spec.alike.beginnings * words)
        self._beginnings = self._beginnings.reshape(spec.alike.beginnings, words)
        self._beginnings[:, 0] |= np.uint64(0xFF)
        self._beginnings[0] = 0

    def pages(self, numbers: NDArray[np.integer], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The pages of ``numbers``, shape (n,), as uint8 of shape (n, page_size); in ``out`` if that is given."""
        if out is None:
            out = np.empty((len(numbers), self.page_size), np.uint8)
        words = out.view("<u8")
        np.bitwise_xor(draw.at(self._numbers, numbers)[:, None], self._places, out=words)
        words[:, 0] |= np.uint64(0xFF)
        if self._fraction:
            chance = draw.at(self._alike, numbers)
            begins_alike = (chance >> np.uint64(32)) < self._fraction
            which = (chance[begins_alike] & np.uint64(0xFFFF_FFFF)) % np.uint64(len(self._beginnings))
            words[begins_alike, : self._beginnings.shape[1]] = self._beginnings[which]
        words[:, -1] = numbers.astype(np.uint64) | self._tag
        words[numbers == 0] = 0
        return out
