"""Programs that a guest runs: what they touch, when, and which of it is their own work. One file each.

A program has pages of its own, numbered from 0: its guest decides where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pageshare.lab.memory import READ, RELEASED, WRITTEN, ZERO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Touch:
    """Pages that are touched together: ``pages`` (uint32), in the order of the touches, each once.

    ``kinds`` are bits (``lab.memory``), ``work`` whether the touch is the program's own work, ``thread`` which of the
    guest's threads it is that touches: one for all, or an array as long as ``pages``. ``contents`` (uint64) stand for
    what is written: equal numbers are equal bytes, in whichever guest, 0 is all zero; without them each page that is
    written holds what no other holds.
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


__all__ = ["READ", "RELEASED", "WRITTEN", "ZERO", "Program", "Touch"]
