"""What lies where in each owner's memory: zero, unique, intra, inter, unknown, by address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.core import Control
from pageshare.inventory import STATES, UNKNOWN, ZERO, Inventory

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    _Spans: TypeAlias = tuple[NDArray[np.uint64], NDArray[np.uint64]]

MOST_CELLS, FEWEST_CELLS, CELLS_IN_ALL = 512, 128, 1 << 14
"""Cells of an owner: of many owners each gets fewer, so that a page with all of them stays small."""
BRIDGED = 4
"""Empty cells in a row, up to which they are shown; where more are, the map is cut."""
RUNS_AT_ONCE = 1 << 14
"""Runs of pages that are cut into cells at a time."""

ASSUMPTIONS = (
    "A page is inter where its content lies in two or more owners of its sharing domain, intra where one owner holds it"
    " twice or more: these are pages, not what is reclaimed, for of each content one page stays.",
    "unknown: left out by who made the dump, lost, or unreadable.",
    "Addresses at which nothing lies are left out where they are many.",
)


@dataclass(frozen=True)
class Segment:
    """Cells side by side from ``address`` (bytes) on: how many pages of each are in each state."""

    address: int
    zero: tuple[int, ...]
    unique: tuple[int, ...]
    intra: tuple[int, ...]
    inter: tuple[int, ...]
    unknown: tuple[int, ...]


@dataclass(frozen=True)
class OwnerMap:
    """An owner's pages in each state, and where they lie: ``segments`` of cells of ``cell_bytes``, a power of two times
    the page size, by ascending address."""

    owner: str
    zero: int
    unique: int
    intra: int
    inter: int
    unknown: int
    cell_bytes: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class MemoryMap:
    """A map of each owner's memory. Each state's pages, over all cells of an owner, are its total.

    Cells are the smallest with which at most ``most_cells`` make up an owner's memory. More than ``BRIDGED`` empty
    cells in a row are left out: there one segment ends and the next begins.

    >>> import pageshare
    >>> from pageshare.answers.memory_map import memory_map
    >>> found = memory_map(pageshare.scan({"a": bytes(4096) + b"x" * 4096, "b": b"x" * 4096 + b"y" * 4096}).inventory)
    >>> found.owners[0].segments[0].zero, found.owners[0].segments[0].inter
    ((1, 0), (0, 1))
    >>> [(each.owner, each.unique) for each in found.owners]
    [('a', 0), ('b', 1)]
    """

    most_cells: int
    owners: tuple[OwnerMap, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS


def memory_map(inventory: Inventory, *, most_cells: int | None = None, control: Control | None = None) -> MemoryMap:
    """Map the memory of all owners, each in at most ``most_cells`` cells (by default 512; with more than 32 owners
    fewer, down to 128). Raises ``Stopped``."""
    most = most_cells or min(MOST_CELLS, max(FEWEST_CELLS, CELLS_IN_ALL // max(1, len(inventory.owners))))
    return MemoryMap(most, tuple(_map(inventory, owner, most, control) for owner in range(len(inventory.owners))))


def _map(inventory: Inventory, owner: int, most: int, control: Control | None) -> OwnerMap:
    read_frame, read_first, read_pages = inventory.places.runs(owner)
    zero_frame, _, zero_pages = inventory.places.runs(owner, zeros=True)
    gaps = inventory.gaps[inventory.gaps["owner"] == owner]
    parts = ((read_frame, read_pages), (zero_frame, zero_pages), (gaps["frame"], gaps["pages"]))
    shift, cells = _cells(parts, most)
    counts = np.zeros((len(STATES), len(cells)), np.uint64)
    for state, (frame, pages) in zip((ZERO, UNKNOWN), parts[1:], strict=True):
        for some in _some(len(frame)):
            cell, length, _ = _pieces(frame[some], pages[some], shift)
            np.add.at(counts[state], np.searchsorted(cells, cell), length)
    for some in _some(len(read_frame)):
        cell, length, into = _pieces(read_frame[some], read_pages[some], shift)
        edges = np.append(into, into[-1:] + length[-1:]) + np.uint64(read_first[some][0])
        inventory.contents.count_states(edges, np.searchsorted(cells, cell), counts, control)
    totals = dict(zip(STATES, counts.sum(axis=1).tolist(), strict=True))
    return OwnerMap(
        inventory.owners[owner],
        **totals,
        cell_bytes=inventory.page_size << shift,
        segments=tuple(_segments(cells, counts, inventory.page_size << shift)),
    )


def _some(runs: int) -> Iterator[slice]:
    """Runs that are looked at together: there may be as many as pages, and each takes a hundred bytes meanwhile."""
    return (slice(low, low + RUNS_AT_ONCE) for low in range(0, runs, RUNS_AT_ONCE))


def _pieces(
    frame: NDArray[np.uint64], pages: NDArray[Any], shift: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Runs of pages cut where cells of 2^shift frames meet: each piece's cell, its pages, and how many come before."""
    step = np.uint64(shift)
    first, last = frame >> step, frame + pages - np.uint64(1) >> step
    run, cell = _counted(first, last)
    low = np.maximum(frame[run], cell << step)
    high = np.minimum((frame + pages)[run], cell + np.uint64(1) << step)
    length = high - low
    return cell, length, np.cumsum(length) - length


def _counted(first: NDArray[np.uint64], last: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The numbers from each first to each last one, one after the other, and before that whose they are."""
    count = (last - first).astype(np.int64) + 1
    whose = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(whose)) - np.repeat(np.cumsum(count) - count, count)
    return whose, first[whose] + within.astype(np.uint64)


def _cells(parts: Sequence[tuple[NDArray[np.uint64], NDArray[Any]]], most: int) -> tuple[int, NDArray[np.uint64]]:
    """The smallest power of two of frames a cell with which ``most`` are enough, and the cells (frame >> it); parts are
    the first frames and the pages of runs."""
    total = sum(int(pages.sum()) for _, pages in parts)
    shift = max(0, (total - 1) // most).bit_length() - 1 if total > most else 0
    while True:
        step, one = np.uint64(shift), np.uint64(1)
        spans = [
            _joined(frame[some] >> step, frame[some] + pages[some] - one >> step)
            for frame, pages in parts
            for some in _some(len(frame))
        ] or [_joined(*np.empty((2, 0), np.uint64))]
        low, high = _joined(*(np.concatenate(column) for column in zip(*spans, strict=True)))
        if int((high - low).sum()) + len(low) <= most:
            return shift, _counted(low, high)[1]
        shift += 1


def _joined(low: NDArray[np.uint64], high: NDArray[np.uint64]) -> _Spans:
    """The first and the last cells of what spans of cells make up together: where one begins near the end of another,
    what is between belongs to it too."""
    if np.any(low[1:] < low[:-1]):
        order = np.argsort(low, kind="stable")
        low, high = low[order], high[order]
    high = np.maximum.accumulate(high)
    apart = low[1:] > high[:-1] + np.uint64(BRIDGED + 1)
    return low[np.append(True, apart)[: len(low)]], high[np.append(apart, True)[: len(low)]]


def _segments(cells: NDArray[np.uint64], counts: NDArray[np.uint64], cell_bytes: int) -> Iterator[Segment]:
    if not len(cells):
        return
    edges = [0, *(np.flatnonzero(np.diff(cells) != 1) + 1).tolist(), len(cells)]
    for low, high in pairwise(edges):
        columns = {name: tuple(counts[state, low:high].tolist()) for state, name in enumerate(STATES)}
        yield Segment(address=int(cells[low]) * cell_bytes, **columns)
