"""Which blocks of twice the size are equal, from which of their halves are: no byte is read."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare._core import ffi, lib
from pageshare.core._census import Census
from pageshare.core._contents import numbers
from pageshare.core._native import Control, check
from pageshare.core._team import Team

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Paired:
    """Blocks, and what they hold: ``classes`` as ``Contents`` has them, and how many blocks are zero; held once
    (``unique``); held more than once (``shared``), these being ``kept`` different ones; ``unknown``."""

    classes: NDArray[np.uint32]
    unknown: int
    zero: int
    unique: int
    shared: int
    kept: int


def paired(classes: NDArray[np.uint32], *, seed: int | None = None, control: Control | None = None) -> Paired:
    """What blocks hold, from the numbers of what their halves hold (``Contents.classes``), block after block.

    The result depends on nothing but these. Memory: 12 bytes a block, the result included, and 12 more at most for each
    of which both halves are shared. Raises ``Stopped``.

    >>> import numpy as np
    >>> found = paired(np.array([1, 2, 0, 0, 1, 2, 2, 1], np.uint32))
    >>> found.classes.tolist(), found.zero, found.unique, found.shared, found.kept
    ([1, 0, 1, 4294967294], 1, 1, 2, 1)
    """
    pairs = np.empty(len(classes) // 2, np.uint32)
    counts = ffi.new("ps_pair_counts *")
    check(
        lib.ps_blocks_pair(
            ffi.from_buffer("uint32_t[]", classes),
            len(pairs),
            secrets.randbits(64) if seed is None else seed,
            ffi.from_buffer("uint32_t[]", pairs),
            counts,
            ffi.NULL if control is None else control._c,
        )
    )
    return Paired(pairs, counts.unknown, counts.zero, counts.unique, counts.shared, counts.kept)


def again(
    keys: NDArray[np.uint32], control: Control | None = None, *, threads: int | None = None
) -> NDArray[np.bool_]:
    """Which of some keys (``PageReader.peek``) are 0 or there more than once; and, by chance, up to 3 % of the
    others. Memory: 17 bytes a key at most, the result included. Raises ``Stopped``.

    >>> import numpy as np
    >>> again(np.array([0, 1 << 31, 5 << 28, 7 << 28, 5 << 28], np.uint32)).tolist()
    [True, False, True, False, True]
    """
    shift = 26
    while shift and 1 << (32 - shift) < 32 * len(keys):
        shift -= 1
    bits = np.zeros((2, 1 << (32 - shift) >> 6), np.uint64)
    found = np.empty(len(keys), np.bool_)
    of = ffi.new("ps_key_bits *", {"shift": shift})
    once, twice = (ffi.from_buffer("uint64_t[]", each) for each in bits)
    of.once, of.twice = once, twice
    kept = (of, once, twice)  # as long as a thread may look there: the struct alone does not keep them
    stop = ffi.NULL if control is None else control._c
    all_keys, flags = ffi.from_buffer("uint32_t[]", keys), ffi.from_buffer("uint8_t[]", found)
    with Team(threads) as team:
        team.part(len(keys), lambda low, end: lib.ps_keys_mark(all_keys + low, end - low, kept[0], stop))
        team.part(len(keys), lambda low, end: lib.ps_keys_again(all_keys + low, end - low, kept[0], flags + low, stop))
    return found


def numbered(
    census: Census, control: Control | None = None, *, threads: int | None = None
) -> tuple[NDArray[np.uint32], int]:
    """The numbers of what pages hold, as ``Contents.classes`` has them but with those of different domains different
    (zeros are 0 in all), and how many contents, zeros apart, are held more than once.

    The census's ``canonical`` is overwritten. Raises ``Stopped``.
    """
    canonical = census.canonical
    there = census.zeros[census.zeros < len(canonical)]
    if len(there) > 1:
        is_zero = np.zeros(len(canonical), np.bool_)
        is_zero[there] = True
        known = canonical < len(canonical)
        canonical[known & is_zero[np.where(known, canonical, 0)]] = there.min()
    zero = int(there.min()) if len(there) else int(lib.PS_NONE)
    with Team(threads) as team:
        count, _ = numbers(canonical, zero, team, control, records=False)
    return canonical, count - 1
