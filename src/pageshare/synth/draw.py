"""Random numbers that are the same on every machine, with every version of numpy.

A counter through the mixer of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014), which is a bijection on 64 bits: different counters of one stream never give the same number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GOLDEN = 0x9E37_79B9_7F4A_7C15
_MASK = (1 << 64) - 1


def stream(seed: int, *purpose: int | str) -> int:
    """The start of a stream of its own for each purpose."""
    state = seed
    for part in purpose:
        for number in part.encode() if isinstance(part, str) else (part,):
            state = int(mixed(np.array([(state + number + 1) * _GOLDEN & _MASK], np.uint64))[0])
    return state


def mixed(numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """The mixer, in place on an array of uint64; returns it."""
    numbers ^= numbers >> np.uint64(30)
    numbers *= np.uint64(0xBF58_476D_1CE4_E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D0_49BB_1331_11EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers


def at(start: int, counters: NDArray[Any]) -> NDArray[np.uint64]:
    """The numbers of a stream at ``counters`` (any integers), as uint64 of the same shape."""
    return mixed((counters.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN) + np.uint64(start))


def first(start: int, count: int) -> NDArray[np.uint64]:
    """The first ``count`` numbers of a stream."""
    return at(start, np.arange(count, dtype=np.uint64))


def order(start: int, count: int) -> NDArray[np.intp]:
    """A random permutation of 0..count-1."""
    return np.argsort(first(start, count), kind="stable")


def subset(start: int, count: int, chosen: int) -> NDArray[np.intp]:
    """``chosen`` different ones of 0..count-1, in ascending order."""
    return np.arange(count) if chosen == count else np.sort(order(start, count)[:chosen])
