"""Programs that a guest runs: what they touch, when, and which of it is their own work. One file each.

A program has pages of its own, numbered from 0: its guest decides where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READ, WRITTEN, ZERO, RELEASED = 1, 2, 4, 8
"""What was done to a page, bits: ZERO, that what was written left all its bytes zero; RELEASED, that the program has no
more use for it. The same as in recorded traces (``lab.trace``)."""


@dataclass(frozen=True)
class Touch:
    """Pages that are touched together: ``pages`` (uint32), in the order of the touches, each once.

    ``kinds`` are bits as above, ``work`` whether the touch is the program's own work, ``thread`` which of the guest's
    threads it is that touches: one for all, or an array as long as ``pages``. ``contents`` (uint64) stand for what is
    written: equal numbers are equal bytes, in whichever guest, 0 is all zero; without them each page that is written
    holds what no other holds.
    """

    pages: NDArray[np.uint32]
    kinds: NDArray[np.uint8] | int = READ
    work: NDArray[np.bool_] | bool = True
    thread: NDArray[np.uint16] | int = 0
    contents: NDArray[np.uint64] | None = None


class Program(Protocol):
    """What runs in a guest. Made of a ``numpy.random.Generator`` where it draws anything, and of its options."""

    pages: int
    """How many it has."""

    def run(self, begin: int, end: int) -> Iterable[Touch]:
        """What it touches from ``begin`` until ``end``, microseconds of the guest's own time; called with the end of
        the call before as the next one's begin."""
        ...
