"""Where memory lies: byte ranges as a format's reader finds them, and the whole pages that they make up.

    RANGE arrays, one a file, in file order
      -> merge       of one owner's files, each numbered
      -> first_wins  sorted by address, each address once
      -> blocks      that have no page in common, so that what follows needs little memory
      -> paginate    extents of whole pages, stitches, what is left over

Nothing here looks at content, and nothing loops over pages: a claimed size is only a number.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class State(IntEnum):
    """What is known of the bytes of a range."""

    DATA = 0  # they lie in the file
    ZERO = 1  # the format says that they are zero
    ZERO_INFERRED = 2  # zero by the format's rule for what it leaves out: a hole in a raw file
    EXCLUDED = 3  # left out on purpose by the producer
    LOST = 4  # should be there and are not


class Kind(IntEnum):
    """Whose memory it is."""

    RAM = 0
    DEVICE = 1
    PROCESS = 2


RANGE = np.dtype(
    [
        ("address", "<u8"),
        ("bytes", "<u8"),
        ("offset", "<i8"),
        ("file", "<u4"),
        ("state", "u1"),
        ("kind", "u1"),
    ]
)
"""Bytes at one address. ``offset`` is where they lie in their file, -1 where they lie in none; ``file`` is the index
among the image's files, and after :func:`merge` among those of all images of the owner."""

RANGE_ROW = struct.Struct("<QQqIBB")
"""One of ``RANGE``, for readers that meet them one by one."""

EXTENT = np.dtype(
    [
        ("pfn", "<u8"),
        ("pages", "<u8"),
        ("offset", "<i8"),
        ("file", "<u4"),
        ("state", "u1"),
        ("kind", "u1"),
    ]
)
"""Whole pages, ``pfn`` = address / page size; ``offset`` and ``file`` as in ``RANGE``."""

BLOCK = 1 << 11
"""How many ranges are worked on at a time; numpy's calls cost little beside so many."""

DEVICE_WINDOW = (0xE000_0000, 1 << 32)
"""Physical addresses at which PCs, real and virtual, keep devices and firmware, never RAM."""


class Piece(NamedTuple):
    """A part of a stitched page; the state is DATA or one of the zeros."""

    file: int
    offset: int
    bytes: int
    state: int


@dataclass(frozen=True)
class Stitch:
    """One whole known page that adjoining ranges make up together; the pieces are in address order."""

    pfn: int
    kind: Kind
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, eq=False)
class Paged:
    """Ranges as pages: ``extents`` (an ``EXTENT`` array, sorted by ``pfn``, nothing twice), ``stitches`` (their
    pages are in no extent), and how many pages are covered in part only, with how many bytes."""

    page_size: int
    extents: NDArray[Any]
    stitches: tuple[Stitch, ...]
    partial_pages: int
    partial_bytes: int


def total_bytes(ranges: NDArray[Any]) -> int:
    """The sum of ``bytes``, exact even beyond 64 bits."""
    lengths = ranges["bytes"]
    return (int((lengths >> 32).sum()) << 32) + int((lengths & 0xFFFF_FFFF).sum())


def known(ranges: NDArray[Any]) -> NDArray[np.bool_]:
    """Which ranges (or extents) have known content: data, zero or inferred zero."""
    return np.asarray(ranges["state"] <= State.ZERO_INFERRED)


def wrapping(ranges: NDArray[Any], bits: int = 64) -> int | None:
    """The index of the first range that passes the end of an address space of so many bits, if there is one."""
    last = _last(ranges)
    past = (ranges["bytes"] > 0) & ((last < ranges["address"]) | (last > np.uint64((1 << bits) - 1)))
    return int(past.argmax()) if past.any() else None


def _last(ranges: NDArray[Any]) -> NDArray[np.uint64]:
    """The last address of each range; unlike the end it fits into 64 bits where a range ends at 2^64."""
    return np.asarray(ranges["address"] + (ranges["bytes"] - np.uint64(1)))


def split_device(ranges: NDArray[Any]) -> NDArray[Any]:
    """Guest-physical ranges, file order kept, with all between 0xe0000000 and 4 GiB as ``Kind.DEVICE``."""
    for at in DEVICE_WINDOW:
        first = np.flatnonzero((ranges["address"] < at) & (_last(ranges) >= at) & (ranges["bytes"] > 0))
        if first.size:
            low = np.uint64(at) - ranges["address"][first]
            high = ranges[first]
            high["address"] = at
            high["bytes"] -= low
            high["offset"] += np.where(high["offset"] >= 0, low.astype(np.int64), 0)
            ranges = ranges.copy()
            ranges["bytes"][first] = low
            ranges = np.insert(ranges, first + 1, high)
    inside = (ranges["address"] >= DEVICE_WINDOW[0]) & (ranges["address"] < DEVICE_WINDOW[1])
    if inside.any():
        ranges = ranges.copy()
        ranges["kind"][inside] = Kind.DEVICE
    return ranges


def clip(
    ranges: NDArray[Any], starts: NDArray[np.uint64], lengths: NDArray[np.uint64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The parts of ``ranges`` that lie in some spans of addresses, and the number of the span of each.

    The ranges are sorted by address and do not overlap; nor may the spans, or there could be far more parts than both
    together. The parts are by span, and within it by address.
    """
    last = starts + (lengths - np.uint64(1))
    first = np.searchsorted(_last(ranges), starts)
    count = np.searchsorted(ranges["address"], last, side="right") - first
    span = np.repeat(np.arange(len(starts)), count)
    parts = ranges[np.arange(len(span)) - np.repeat(np.cumsum(count) - count - first, count)]
    begin = np.maximum(parts["address"], starts[span])
    skipped = (begin - parts["address"]).astype(np.int64)
    parts["bytes"] = np.minimum(_last(parts), last[span]) - begin + np.uint64(1)
    parts["offset"] += np.where(parts["offset"] >= 0, skipped, 0)
    parts["address"] = begin
    return parts, span


def merge(arrays: Sequence[NDArray[Any]], files: Sequence[int]) -> NDArray[Any]:
    """The ranges of an owner's images one after the other, ``file`` counted on; of one image, as they are.

    ``files`` says how many files each of the images has.
    """
    if len(arrays) == 1:
        return arrays[0]
    counts = np.array(files, np.uint32)
    merged = np.concatenate([np.empty(0, RANGE), *arrays])
    merged["file"] += np.repeat(np.cumsum(counts, dtype=np.uint32) - counts, [len(each) for each in arrays])
    return merged


def first_wins(ranges: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Ranges sorted by address with each address once, and how many bytes were left out for that.

    Where ranges overlap, known content wins over unknown; else the range that comes first in the array. The
    count is of known bytes only, and not of those that both ranges take from the same place of the same file
    (QEMU writes such segments with ``-p``), or that are zero in both. Ranges that are so already are not copied.
    Raises ValueError for a range that passes 2^64.
    """
    if _is_settled(ranges):
        return ranges, 0
    ranges = ranges[ranges["bytes"] > 0]
    wrong = wrapping(ranges)
    if wrong is not None:
        raise ValueError(f"range {wrong} passes the end of the 64-bit address space")
    order = np.argsort(ranges["address"], kind="stable")
    ranges = ranges[order]
    reach = np.maximum.accumulate(_last(ranges))
    meets = ranges["address"][1:] <= reach[:-1]
    if not meets.any():
        return ranges, 0
    crowded = np.zeros(len(ranges), np.bool_)
    crowded[1:] |= meets
    crowded[:-1] |= meets
    contested = ranges[crowded]
    settled = _settle(contested, order[crowded])
    overlapped = _distinct_bytes(contested) - total_bytes(settled[known(settled)])
    both = np.concatenate([ranges[~crowded], settled])
    return both[np.argsort(both["address"], kind="stable")], overlapped


def _is_settled(ranges: NDArray[Any]) -> bool:
    """Whether no range is empty, begins before the end of the one before it, or passes 2^64."""
    reach = -1
    for part in blocks(ranges):
        start, last = part["address"], _last(part)
        if not part["bytes"].all() or (last < start).any() or (start[1:] <= last[:-1]).any():
            return False
        if int(start[0]) <= reach:
            return False
        reach = int(last[-1])
    return True


def blocks(ranges: NDArray[Any], page_size: int = 1) -> Iterator[NDArray[Any]]:
    """About ``BLOCK`` ranges at a time; of those from :func:`first_wins`, such that no page lies in two blocks.

    A dump may have nearly as many ranges as pages, and what is computed of all of them at once takes many times the
    memory of what is kept.
    """
    first = 0
    while first < len(ranges):
        end = first + BLOCK
        while end < len(ranges) and _in_one_page(ranges[end - 1], ranges[end], page_size):
            end += 1
        yield ranges[first:end]
        first = end


def _in_one_page(before: Any, after: Any, page_size: int) -> bool:
    """Whether a range ends in the page in which the next one begins."""
    # Not as numpy's scalars: before numpy 2, together with Python's numbers they are rounded to 53 bits.
    last = int(before["address"]) + int(before["bytes"]) - 1
    return last // page_size == int(after["address"]) // page_size


def _settle(ranges: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    """Overlapping ranges, sorted by address, cut into pieces of those that win. ``order`` is their file order.

    A sweep over the addresses with a heap of the ranges that are open, best first: each step ends where the
    best one does or where the next one begins, so there are at most two steps a range.
    """
    starts: list[int] = ranges["address"].tolist()
    ends = [start + length for start, length in zip(starts, ranges["bytes"].tolist(), strict=True)]
    ranks: list[int] = np.where(known(ranges), order, order + order.max() + 1).tolist()
    winners: list[int] = []
    begins: list[int] = []
    lengths: list[int] = []
    heap: list[tuple[int, int]] = []
    coming = at = 0
    while heap or coming < len(starts):
        if not heap:
            at = max(at, starts[coming])
        while coming < len(starts) and starts[coming] <= at:
            heapq.heappush(heap, (ranks[coming], coming))
            coming += 1
        best = heap[0][1]
        if ends[best] <= at:
            heapq.heappop(heap)
            continue
        until = min(ends[best], starts[coming]) if coming < len(starts) else ends[best]
        if winners and winners[-1] == best and begins[-1] + lengths[-1] == at:
            lengths[-1] += until - at
        else:
            winners.append(best)
            begins.append(at)
            lengths.append(until - at)
        at = until
    settled = ranges[winners]
    begin = np.array(begins, np.uint64)
    skipped = (begin - settled["address"]).astype(np.int64)
    settled["offset"] += np.where(settled["offset"] >= 0, skipped, 0)
    settled["address"] = begin
    settled["bytes"] = np.array(lengths, np.uint64)
    return settled


def _distinct_bytes(ranges: NDArray[Any]) -> int:
    """Known bytes, those at one address counted once for each place that they come from (zeros: one place)."""
    places: list[tuple[int, int, int, int]] = []
    for address, length, offset, file, state, _ in ranges[known(ranges)].tolist():
        place = (file, offset - address) if state == State.DATA else (-1, 0)
        places.append((*place, address, address + length))
    places.sort()
    total = 0
    before: tuple[int, int] = (-2, 0)
    reach = 0
    for file, shift, start, end in places:
        if (file, shift) != before:
            before, reach = (file, shift), 0
        total += max(0, end - max(start, reach))
        reach = max(reach, end)
    return total


def paginate(ranges: NDArray[Any], page_size: int) -> Paged:
    """The whole pages of ranges from :func:`first_wins`; ``page_size`` in bytes, a power of two.

    Pages follow addresses, not file offsets. A page that several ranges cover together is lost if a byte of it
    is lost, else excluded if one is excluded, else whole. A page that is not covered to its end is partial,
    except among devices: there it is a device page like any other, content unknown.
    """
    size = np.uint64(page_size)
    last = _last(ranges)
    cut_head = ranges["address"] % size != 0
    cut_tail = last % size != size - np.uint64(1)
    first = ranges["address"] // size + cut_head
    end = last // size + ~cut_tail
    whole = end > first
    extents = np.zeros(int(whole.sum()), EXTENT)
    extents["pfn"] = first[whole]
    extents["pages"] = (end - first)[whole]
    into = (first * size - ranges["address"])[whole].astype(np.int64)
    offset = ranges["offset"][whole]
    extents["offset"] = np.where(offset >= 0, offset + into, offset)
    for name in ("file", "state", "kind"):
        extents[name] = ranges[name][whole]

    edges = _Edges(page_size)
    for address, length, place, file, state, kind in ranges[cut_head | cut_tail].tolist():
        edges.add(address, length, _Edge(file, place, length, state, kind))
    edges.finish()
    if edges.extents:
        extents = np.concatenate([extents, np.array(edges.extents, EXTENT)])
        extents = extents[np.argsort(extents["pfn"], kind="stable")]
    return Paged(
        page_size=page_size,
        extents=_join(extents, page_size),
        stitches=tuple(edges.stitches),
        partial_pages=edges.partial_pages,
        partial_bytes=edges.partial_bytes,
    )


def _join(extents: NDArray[Any], page_size: int) -> NDArray[Any]:
    """Neighbours as one where pages, place, file, state and kind all go on."""
    if len(extents) < 2:
        return extents
    left, right = extents[:-1], extents[1:]
    follows = right["pfn"] == left["pfn"] + left["pages"]
    for name in ("file", "state", "kind"):
        follows &= right[name] == left[name]
    next_offset = left["offset"] + left["pages"].astype(np.int64) * page_size
    nowhere = (left["offset"] < 0) & (right["offset"] < 0)
    follows &= nowhere | ((left["offset"] >= 0) & (right["offset"] == next_offset))
    heads = np.flatnonzero(np.concatenate([[True], ~follows]))
    joined = extents[heads]
    joined["pages"] = np.add.reduceat(extents["pages"], heads)
    return joined


class _Edge(NamedTuple):
    """The part of a range in a page that it does not cover wholly."""

    file: int
    offset: int
    bytes: int
    state: int
    kind: int


class _Edges:
    """Pages that ranges cover in part: collects their pieces in address order and decides what each page is."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.extents: list[tuple[int, int, int, int, int, int]] = []
        self.stitches: list[Stitch] = []
        self.partial_pages = 0
        self.partial_bytes = 0
        self._pfn = -1
        self._pieces: list[_Edge] = []

    def add(self, address: int, length: int, whole: _Edge) -> None:
        """Take the one or two pieces of a range that are less than a page."""
        end = address + length
        head, tail = address // self.page_size, (end - 1) // self.page_size
        for pfn in (head, tail) if tail > head else (head,):
            begin = max(address, pfn * self.page_size)
            until = min(end, (pfn + 1) * self.page_size)
            if until - begin == self.page_size:
                continue
            if pfn != self._pfn:
                self.finish()
                self._pfn = pfn
            offset = whole.offset + (begin - address) if whole.offset >= 0 else -1
            self._pieces.append(whole._replace(offset=offset, bytes=until - begin))

    def finish(self) -> None:
        """Decide the page whose pieces are all there."""
        pieces, self._pieces = self._pieces, []
        if not pieces:
            return
        covered = sum(piece.bytes for piece in pieces)
        lead = pieces[0]
        states = {piece.state for piece in pieces}
        if covered < self.page_size:
            if lead.kind == Kind.DEVICE:
                self._extent(lead, State.EXCLUDED)
            else:
                self.partial_pages += 1
                self.partial_bytes += covered
        elif State.LOST in states:
            self._extent(lead, State.LOST)
        elif State.EXCLUDED in states:
            self._extent(lead, State.EXCLUDED)
        elif State.DATA not in states:
            self._extent(lead, State(max(states)))
        elif states == {State.DATA} and _in_one_place(pieces):
            self._extent(lead, State.DATA)
        else:
            self.stitches.append(
                Stitch(self._pfn, Kind(lead.kind), tuple(Piece(*piece[:4]) for piece in pieces))
            )

    def _extent(self, lead: _Edge, state: State) -> None:
        offset = lead.offset if state == State.DATA else -1
        self.extents.append((self._pfn, 1, offset, lead.file, state, lead.kind))


def _in_one_place(pieces: Sequence[_Edge]) -> bool:
    """Whether pieces follow each other in one file as they do in memory."""
    return all(
        after.file == before.file and after.offset == before.offset + before.bytes
        for before, after in pairwise(pieces)
    )
