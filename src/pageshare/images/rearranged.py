"""A file that is put together of pieces of another one, read without copying it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images.image import Source
from pageshare.images.ranges import RANGE, Kind, State, first_wins, total_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Rearranged(Source):
    """What a file would be with each of its pieces where it belongs; ``size`` reaches to the end of the last one.

    ``pieces`` is a ``RANGE`` array: the ``bytes`` that lie at ``offset`` of ``file`` belong at ``address``; what comes
    later in the array overwrites what comes before. Attributes: ``table``, the same sorted, each address once, and
    without gaps: what no piece holds is ``State.LOST``.
    """

    def __init__(self, file: Source, pieces: NDArray[Any]) -> None:
        self.path, self.file, self.identity = file.path, file.file, file.identity
        self._file = file
        self._map: Any = None
        self._mapped = self._closed = False
        self.table = _without_gaps(first_wins(pieces[::-1])[0])
        self.size = int(self._ends[-1]) if len(self.table) else 0
        self._lost_before = np.concatenate([[0], np.cumsum(self.table["state"] == State.LOST)])

    @property
    def _ends(self) -> NDArray[np.uint64]:
        return np.asarray(self.table["address"] + self.table["bytes"])

    @property
    def held(self) -> int:
        """The bytes of all pieces."""
        return total_bytes(self.table[self.table["state"] == State.DATA])

    def read(self, offset: int, count: int) -> bytes:
        """As of a file in which what no piece holds is zeros."""
        return read_pieces(self.table, self._file.read, offset, count)

    def pieces(self, offsets: NDArray[np.uint64], lengths: NDArray[Any]) -> NDArray[np.uint32]:
        """In how many pieces each of these runs of bytes lies, 0 if they are not all there."""
        size, lengths = np.uint64(self.size), lengths.astype(np.uint64)
        inside = (offsets < size) & (lengths <= size - np.minimum(offsets, size)) & (lengths > 0)
        first, last = _touched(self.table, offsets[inside], lengths[inside])
        held = self._lost_before[last + 1] == self._lost_before[first]
        found = np.zeros(len(offsets), np.uint32)
        found[inside] = np.where(held, last + 1 - first, 0)
        return found

    def located(self, ranges: NDArray[Any]) -> tuple[NDArray[Any], int]:
        """Ranges of memory in this file, index 0, as ranges in the file that it is made of, cut where the pieces end;
        and how many bytes of memory lie in none, and are lost."""
        here = (ranges["state"] == State.DATA) & (ranges["file"] == 0)
        offset = ranges["offset"].astype(np.uint64)
        first, last = _touched(self.table, offset[here], ranges["bytes"][here])
        counts = np.ones(len(ranges), np.int64)
        counts[here] = last + 1 - first
        cut = np.repeat(ranges, counts)
        of = np.repeat(here, counts)
        begins = np.cumsum(counts) - counts
        number = np.arange(len(cut)) - np.repeat(begins, counts)
        piece = self.table[np.repeat(first, counts[here]) + number[of]]
        part = cut[of]
        start = part["offset"].astype(np.uint64)
        low = np.maximum(start, piece["address"])
        high = np.minimum(start + part["bytes"], piece["address"] + piece["bytes"])
        lost = piece["state"] == State.LOST
        part["address"] += low - start
        part["bytes"] = high - low
        part["offset"] = np.where(lost, -1, piece["offset"] + (low - piece["address"]).astype(np.int64))
        part["state"] = piece["state"]
        cut[of] = part
        return cut, total_bytes(part[lost])


def read_pieces(table: NDArray[Any], read: Callable[[int, int], bytes], offset: int, count: int) -> bytes:
    """``count`` bytes from ``offset`` on of what ``table`` puts together (see ``Rearranged``) of what ``read`` gives,
    zeros where nothing is held; fewer at the end."""
    size = int(table["address"][-1]) + int(table["bytes"][-1]) if len(table) else 0
    count = min(count, size - offset)
    if count <= 0:
        return b""
    first, last = _touched(table, np.array([offset], np.uint64), np.array([count], np.uint64))
    parts = []
    for address, length, at, _, state, _ in table[int(first[0]) : int(last[0]) + 1].tolist():
        low, high = max(offset, address), min(offset + count, address + length)
        part = read(at + low - address, high - low) if state == State.DATA else bytes(high - low)
        parts.append(part)
        if len(part) < high - low:
            break  # the file became shorter meanwhile
    return b"".join(parts)


def _touched(
    table: NDArray[Any], offsets: NDArray[np.uint64], lengths: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of the first and of the last piece that runs of one byte or more lie in."""
    starts = table["address"]
    last = offsets + lengths - np.uint64(1)
    return np.searchsorted(starts, offsets, side="right") - 1, np.searchsorted(starts, last, side="right") - 1


def _without_gaps(pieces: NDArray[Any]) -> NDArray[Any]:
    """Sorted pieces with a lost one for each gap, the one before the first included."""
    if not len(pieces):
        return pieces
    ends = np.concatenate([np.zeros(1, np.uint64), (pieces["address"] + pieces["bytes"])[:-1]])
    behind = np.flatnonzero(pieces["address"] != ends)
    gaps = np.zeros(len(behind), RANGE)
    gaps["address"], gaps["bytes"] = ends[behind], (pieces["address"] - ends)[behind]
    gaps["offset"], gaps["state"], gaps["kind"] = -1, State.LOST, Kind.RAM
    return np.insert(pieces, behind, gaps)
