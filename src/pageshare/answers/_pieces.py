"""Which of many small pages are equal, where most of them are like no other: these are told by a line of each."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from pageshare import limits
from pageshare.core import LINE, UNIQUE_CLASS, Census, Control, PageReader, again, numbered
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Recount: TypeAlias = Callable[[PageSpace], Census]

FEW = 1 / 16
"""If at most this share of pages may be equal to others, these alone are counted: to pick them out costs time too."""
EVERY = 64
"""One page of so many is looked at first, to see whether they may be few."""
MIX = np.uint32(0x9E3779B1)
"""2^32 by the golden ratio (Knuth, The Art of Computer Programming, 6.4): odd, so that no two keys become equal."""
AT_ONCE = 1 << 14
"""Pages that are looked at between two looks at the stop flag: some milliseconds."""


def counted(
    space: PageSpace, recount: Recount, threads: int | None, seed: int, control: Control
) -> tuple[NDArray[np.uint32], int] | None:
    """What pages hold and how many contents are held more than once, as ``numbered`` has it; None if some could not be
    read. Raises MediaError, ``Stopped``."""
    chosen = _candidates(space, threads, seed, control)
    found = recount(space if chosen is None else space.only(chosen, space.page_size))
    if found.tally.unreadable:
        return None
    classes, kept = numbered(found, control, threads=threads)
    if chosen is None:
        return classes, kept
    whole = np.full(space.readable, UNIQUE_CLASS, np.uint32)
    whole[chosen] = classes
    return whole, kept


def _candidates(space: PageSpace, threads: int | None, seed: int, control: Control) -> NDArray[np.int64] | None:
    """All pages that are zero or equal to another, and some more, if these are few; else None."""
    if any(source.memory is None for source in space.sources):
        return None
    keys = _keys(space, np.arange(0, space.readable, EVERY, dtype=np.uint32), threads, seed, control)
    if _share(keys, control) > FEW:
        return None
    keys = _keys(space, np.arange(space.readable, dtype=np.uint32), threads, seed, control)
    chosen = np.flatnonzero(again(keys, control, threads=threads))
    # Once more by other bits of them, which leaves few that are there by chance.
    chosen = chosen[again(keys[chosen] * MIX, control, threads=threads)]
    return chosen if len(chosen) <= FEW * space.readable else None


def _share(keys: NDArray[np.uint32], control: Control) -> float:
    """Of keys that are 0 or there twice in a sample: no more than there are in all."""
    _, counts = np.unique(keys[keys != 0], return_counts=True)
    control.check()
    return 1 - float(np.count_nonzero(counts == 1)) / max(1, len(keys))


def _keys(
    space: PageSpace, pages: NDArray[np.uint32], threads: int | None, seed: int, control: Control
) -> NDArray[np.uint32]:
    """A key of the line in the middle of each page."""
    reader, line = PageReader(space, seed=seed), space.page_size // LINE // 2
    keys = np.empty(len(pages), np.uint32)

    def look(first: int) -> None:
        control.check()
        keys[first : first + AT_ONCE] = reader.peek(pages[first : first + AT_ONCE], line)

    with ThreadPoolExecutor(threads or limits.cpus()) as pool:
        list(pool.map(look, range(0, len(pages), AT_ONCE)))
    return keys
