"""What it brings to break huge pages into base pages, best first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare.answers._in_order import Blocks
from pageshare.core import UNIQUE_CLASS, ZERO_CLASS, Control
from pageshare.inventory import Inventory

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of all huge pages: how many of them are broken at the points of the curve."""
PART = 30
"""Bits behind the point of a page's part in a saving."""


@dataclass(frozen=True)
class Block:
    """A huge page: ``owner`` and ``address`` (bytes) of the first block that holds it, and ``alike``, how many do.

    Of its pages so many are ``known``, ``zero``, and ``shared`` with another one of this or other huge pages.
    ``brings_bytes`` is its part in what breaking all brings.
    """

    owner: str
    address: int
    alike: int
    known: int
    zero: int
    shared: int
    brings_bytes: int


@dataclass(frozen=True)
class Broken:
    """What breaking the best huge pages brings: ``share`` of all is ``frames`` of them; ``of_all`` is a share of
    what breaking all brings."""

    share: float
    frames: int
    brings_bytes: int
    of_all: float


@dataclass(frozen=True)
class Breaking:
    """``blocks`` of ``block_size`` bytes hold a known page, at least; ``frames`` are huge pages, of which equal blocks
    that are wholly known share one. Breaking all of them brings ``brings_bytes`` more than sharing them whole;
    ``curve`` is what the best of them bring; ``best`` lists some, best first: only those that bring anything."""

    block_size: int
    blocks: int
    frames: int
    brings_bytes: int
    curve: tuple[Broken, ...]
    best: tuple[Block, ...]


@dataclass(frozen=True)
class _Frames:
    """Huge pages, in order: of each its owner, its number (address / size), its known pages next to each other in some
    array (``pages`` of them), how many blocks are ``alike``, and whether it is ``kept``: the first of these."""

    owner: NDArray[np.int64]
    number: NDArray[np.int64]
    pages: NDArray[np.int64]
    alike: NDArray[np.int64]
    kept: NDArray[np.bool_]


def breaking(inventory: Inventory, pages: Blocks, huge: Blocks, most: int, control: Control) -> Breaking:
    """What it brings to break ``huge`` blocks into ``pages``; at most so many are listed. Raises ``Stopped``."""
    frames = _frames(inventory, pages, huge)
    hidden = int(pages.holes.sum()) // huge.size
    if not len(frames.owner):
        return Breaking(huge.size, 0, 0, 0, (), ())
    domains = np.array(inventory.domains, np.int64)
    numbers, first = frames.pages[frames.kept], np.cumsum(frames.pages[frames.kept]) - frames.pages[frames.kept]
    domain = domains[frames.owner[frames.kept]]
    # Zeros of each domain get a number of their own, and so has what no other page can hold.
    contents, alone = len(inventory.contents.contents), len(inventory.contents.contents) + len(inventory.domain_names)
    held = pages.classes[np.repeat(frames.kept, frames.pages)]
    known = np.add.reduceat(held <= UNIQUE_CLASS, first, dtype=np.int64)
    is_zero = held == ZERO_CLASS
    zero = np.add.reduceat(is_zero, first, dtype=np.int64)
    held[held >= UNIQUE_CLASS] = alone
    held[is_zero] = np.repeat((contents + domain).astype(np.uint32), zero)
    control.check()
    copies = np.bincount(held, minlength=alone + 1)
    copies[alone] = 0
    part = np.zeros(alone + 1, np.int64)
    np.floor_divide((copies - 1) << PART, copies, out=part, where=copies > 0)
    brings = np.add.reduceat(part[held], first)
    shared = np.add.reduceat((copies > 1)[held], first, dtype=np.int64)
    control.check()
    order = np.argsort(-brings, kind="stable")
    rank = np.empty(len(order), np.uint32)
    rank[order] = np.arange(len(order), dtype=np.uint32)
    gained = _gained(held, first, rank, numbers, copies) * inventory.page_size
    kept = np.flatnonzero(frames.kept)[order[:most]]
    columns = [frames.owner[kept], frames.number[kept], frames.alike[kept]]
    columns += [each[order[:most]] for each in (known, zero, shared, brings)]
    best = tuple(
        Block(
            owner=inventory.owners[row[0]],
            address=row[1] * huge.size,
            alike=row[2],
            known=row[3],
            zero=row[4],
            shared=row[5],
            brings_bytes=row[6] * inventory.page_size >> PART,
        )
        for row in zip(*(each.tolist() for each in columns), strict=True)
        if row[6]
    )
    total = int(gained[-1])
    counts = [-(-len(order) * round(1000 * share) // 1000) for share in SHARES]
    curve = tuple(
        Broken(share, count, int(gained[count - 1]), int(gained[count - 1]) / total if total else 0.0)
        for share, count in zip(SHARES, counts, strict=True)
    )
    return Breaking(huge.size, len(frames.owner) + hidden, len(order), total, curve, best)


def _gained(
    held: NDArray[np.uint32],
    first: NDArray[np.int64],
    rank: NDArray[np.uint32],
    numbers: NDArray[np.int64],
    copies: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Pages that are saved when the best 1, 2, .. frames are broken: all in them but the first of each content."""
    best = np.full(len(copies), len(rank), np.uint32)
    np.minimum.at(best, held, np.repeat(rank, numbers))
    pages = np.zeros(len(rank), np.int64)
    pages[rank] = np.add.reduceat(held != len(copies) - 1, first, dtype=np.int64)
    firsts = np.bincount(best[copies > 0], minlength=len(rank))
    gained: NDArray[np.int64] = np.cumsum(pages - firsts)
    return gained


def _frames(inventory: Inventory, pages: Blocks, huge: Blocks) -> _Frames:
    """The huge pages that known ``pages`` lie in."""
    ratio = huge.size // pages.size
    count = (pages.end - 1) // ratio - pages.begin // ratio + 1
    stretch = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(stretch)) + np.repeat(pages.begin // ratio - (np.cumsum(count) - count), count)
    length = np.minimum(pages.end[stretch], (number + 1) * ratio) - np.maximum(pages.begin[stretch], number * ratio)
    owner = pages.owner[stretch]
    opens = np.flatnonzero(np.append(True, (owner[1:] != owner[:-1]) | (number[1:] != number[:-1]))[: len(owner)])
    owner, number = owner[opens], number[opens]
    length = np.add.reduceat(length, opens) if len(opens) else length
    what = np.full(len(owner), UNIQUE_CLASS, np.int64)
    what[length == ratio] = huge.classes
    domain = np.array(inventory.domains, np.int64)[owner]
    is_zero = what == ZERO_CLASS
    what[is_zero] = huge.kept + 1 + domain[is_zero]
    same = np.flatnonzero(what < UNIQUE_CLASS)
    each, index, times = np.unique(what[same], return_index=True, return_counts=True)
    hidden = np.bincount(np.array(inventory.domains, np.int64), pages.holes // huge.size).astype(np.int64)
    of_zeros = each > huge.kept
    times[of_zeros] += hidden[each[of_zeros] - huge.kept - 1]
    alike, kept = np.ones(len(owner), np.int64), what >= UNIQUE_CLASS
    kept[same[index]] = True
    alike[same[index]] = times
    return _Frames(owner, number, length, alike, kept)
