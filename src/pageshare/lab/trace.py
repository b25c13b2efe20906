"""Traces: which pages of a machine's memory were touched when, by which thread, and with what intent.

Time is cut into intervals of one length. Of each, a trace has a row for every page and actor that touched it: an actor
is a thread while it has one intent (work, zeroing, garbage collection), which is what no hypervisor sees, and what an
estimator of used memory is to be judged by. docs/lab/traces.md has the file format, and how the kept traces were made.

Needs pyarrow and msgspec to read and write: ``pip install 'pageshare[parquet]'``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

READ, WRITTEN, ZERO, RELEASED = 1, 2, 4, 8
"""What happened to a page in an interval, bits that add up: it was read; written; written, and all zero when the
interval ended; given back to the system, and not touched again before the interval ended."""
KINDS = READ | WRITTEN | ZERO | RELEASED

MOST_PAGES, MOST_ACTORS, MOST_INTERVALS = 1 << 26, 1 << 12, 1 << 24
"""What a trace may have: 256 GiB of 4 KiB pages; and 19 days of 100 ms."""
_BLOCK = 32
"""Intervals whose runs are looked up together."""
_MOST_ENTRIES = 1 << 27
"""Of the table of runs by block: what a trace may take of memory, about 512 MiB."""


class TraceError(ValueError):
    """A file that can't be read as a trace, or rows that are none. ``str()`` is one line."""


@dataclass(frozen=True)
class Actor:
    """Who touches: a thread while it has one intent.

    ``thread`` is the number of the operating system's thread, from 0 on in order of appearance, never used twice: what
    a hypervisor could tell apart. ``intent`` is "work", "zero", "collect" or "unlabelled".
    """

    name: str
    thread: int
    intent: str


@dataclass(frozen=True)
class Range:
    """Pages with numbers in a row, which need not be neighbours: between them may lie such as were never touched.

    ``what`` lies there: a file's name, heap, anonymous."""

    first: int
    pages: int
    what: str


@dataclass(frozen=True)
class Touches:
    """Of one interval: arrays of one length, ordered by page, then actor, each pair at most once.

    ``actors`` has places in ``Trace.actors``, ``kinds`` sums of READ, WRITTEN, ZERO and RELEASED, never 0.
    """

    pages: NDArray[np.uint32]
    actors: NDArray[np.uint16]
    kinds: NDArray[np.uint8]


@dataclass(frozen=True)
class Runs:
    """Touches as they are kept: a page, an actor and a kind, alike in ``length`` intervals from ``first`` on.

    Arrays of one length, ordered by page, actor, and first interval. Those of a page and an actor don't overlap.
    """

    page: NDArray[np.uint32]
    actor: NDArray[np.uint16]
    kind: NDArray[np.uint8]
    first: NDArray[np.uint32]
    length: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.page)

    def take(self, which: NDArray[Any]) -> Runs:
        """Some of them, by their places or a mask."""
        return Runs(self.page[which], self.actor[which], self.kind[which], self.first[which], self.length[which])

    def in_order(self) -> Runs:
        """Ordered as they have to be."""
        return self.take(np.lexsort((self.first, self.actor, self.page)))


@dataclass(frozen=True)
class Trace:
    """A machine's ``pages``, numbered from 0 in order of address, over ``intervals`` of ``interval`` microseconds.

    Only pages that were touched at some time are numbered. ``about`` says in words how the trace was made: command,
    clock, program.
    """

    name: str
    pages: int
    page_size: int
    interval: int
    intervals: int
    actors: tuple[Actor, ...]
    about: dict[str, str]
    runs: Runs = field(repr=False, compare=False)
    ranges: tuple[Range, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether it says of all touches what they were for."""
        return all(actor.intent != "unlabelled" for actor in self.actors)

    def touches(self, number: int) -> Touches:
        """Of interval ``number``, from 0. Raises IndexError where there is none."""
        if not 0 <= number < self.intervals:
            raise IndexError(f"the trace has {self.intervals} intervals: there is none with number {number}")
        runs = self._of_block(number // _BLOCK)
        there = np.flatnonzero((runs.first <= number) & (number - runs.first < runs.length))
        return Touches(runs.page[there], runs.actor[there], runs.kind[there])

    def _of_block(self, number: int) -> Runs:
        """The runs that some intervals in a row have any part in, in order."""
        if number not in self._blocks:
            self._blocks.clear()
            which, starts = self._by_block
            self._blocks[number] = self.runs.take(which[starts[number] : starts[number + 1]])
        return self._blocks[number]

    @cached_property
    def _blocks(self) -> dict[int, Runs]:
        """The block that was looked at last."""
        return {}

    @cached_property
    def _by_block(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The places of each block's runs, block after block, and where each begins."""
        first, blocks = _blocks_of(self.runs)
        of_run = np.repeat(np.arange(len(blocks), dtype=np.uint32), blocks)
        within = np.arange(len(of_run)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        block = np.repeat(first, blocks) + within
        # Stable: runs of a block stay in order.
        order = np.argsort(block.astype(np.uint32), kind="stable")
        counts = np.bincount(block, minlength=-(-self.intervals // _BLOCK))
        return of_run[order], np.append(0, np.cumsum(counts))


def _blocks_of(runs: Runs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first block that each run is in, and how many it is in."""
    first = runs.first.astype(np.int64)
    begin = first // _BLOCK
    return begin, (first + runs.length.astype(np.int64) - 1) // _BLOCK - begin + 1


def of_touches(
    touches: Iterable[Touches],
    *,
    name: str,
    pages: int,
    interval: int,
    actors: Sequence[Actor],
    page_size: int = 4096,
    about: Mapping[str, str] | None = None,
    ranges: Sequence[Range] = (),
) -> Trace:
    """A trace of intervals in order, each given by its touches.

    Raises TraceError for touches that are not as they must be: out of order, or of pages or actors that are not there.
    """
    maker, number = _RunMaker(), -1
    for number, some in enumerate(touches):
        maker.add(number, some)
    trace = Trace(
        name, pages, page_size, interval, number + 1, tuple(actors), dict(about or {}), maker.runs(), tuple(ranges)
    )
    check(trace)
    return trace


class _RunMaker:
    """Takes intervals, and finds what goes on from one to the next."""

    def __init__(self) -> None:
        self._open, self._since = np.empty(0, np.uint64), np.empty(0, np.uint32)
        self._done: list[tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint32]]] = []
        self._next = 0

    def add(self, number: int, touches: Touches) -> None:
        """The next interval."""
        actors, kinds = touches.actors.astype(np.uint64), touches.kinds.astype(np.uint64)
        whose = touches.pages.astype(np.uint64) << np.uint64(24) | actors << np.uint64(8)
        if not len(whose) == len(actors) == len(kinds) or (whose[1:] <= whose[:-1]).any():
            raise TraceError(f"the touches of interval {number} are not ordered by page and actor")
        keys = whose | kinds
        since = np.full(len(keys), number, np.uint32)
        gone = np.ones(len(self._open), np.bool_)
        if len(self._open):
            at = np.minimum(np.searchsorted(self._open, keys), len(self._open) - 1)
            goes_on = self._open[at] == keys
            since[goes_on] = self._since[at[goes_on]]
            gone[at[goes_on]] = False
        self._close(gone)
        self._open, self._since, self._next = keys, since, number + 1

    def _close(self, which: NDArray[np.bool_]) -> None:
        first = self._since[which]
        self._done.append((self._open[which], first, (self._next - first).astype(np.uint32)))

    def runs(self) -> Runs:
        """Of all intervals so far."""
        self._close(np.ones(len(self._open), np.bool_))
        keys, first, length = (np.concatenate(part) for part in zip(*self._done, strict=True))
        page = (keys >> np.uint64(24)).astype(np.uint32)
        actor, kind = (keys >> np.uint64(8)).astype(np.uint16), keys.astype(np.uint8)
        return Runs(page, actor, kind, first, length).in_order()


def check(trace: Trace) -> None:
    """Raise TraceError if a trace is not as it must be: its numbers, or its runs."""
    for problem in _problems(trace):
        raise TraceError(problem)


def _problems(trace: Trace) -> Iterator[str]:
    """What is wrong, in an order in which each may rely on those before."""
    size, runs = trace.page_size, trace.runs
    if not 0 <= trace.pages <= MOST_PAGES or not 0 <= trace.intervals <= MOST_INTERVALS:
        yield "it has more pages or intervals than any, or fewer than none"
    if not 1 <= trace.interval < 1 << 40 or not 1 <= size <= 1 << 30 or size & (size - 1):
        yield "its interval or its page size can't be"
    if len(trace.actors) > MOST_ACTORS or len(set(trace.actors)) < len(trace.actors):
        yield "it has an actor twice, or too many"
    if not all(0 <= actor.thread < 1 << 31 for actor in trace.actors):
        yield "an actor's thread has no number"
    at = 0
    for part in trace.ranges:
        if part.first < at or part.pages < 1 or part.first + part.pages > trace.pages:
            yield "its ranges are not those of its pages"
        at = part.first + part.pages
    if not len(runs):
        return
    if runs.page.max() >= trace.pages or runs.actor.max() >= len(trace.actors):
        yield "a touch is of a page or an actor that it has not"
    if runs.kind.min() == 0 or runs.kind.max() > KINDS:
        yield "a touch is of no kind"
    first, length = runs.first.astype(np.int64), runs.length.astype(np.int64)
    if length.min() < 1 or (first + length).max() > trace.intervals:
        yield "a touch is in an interval that it has not"
    whose = runs.page.astype(np.int64) << 16 | runs.actor.astype(np.int64)
    same = whose[1:] == whose[:-1]
    if (whose[1:] < whose[:-1]).any() or (same & (first[1:] < (first + length)[:-1])).any():
        yield "it has touches out of order, or twice"
    if int(_blocks_of(runs)[1].sum()) > _MOST_ENTRIES:
        yield "its touches take more memory than any trace may"


def kept() -> dict[str, Path]:
    """The traces that come with this package, by name."""
    return {path.stem: path for path in sorted(Path(__file__).with_name("traces").glob("*.parquet"))}


def read(path: str | os.PathLike[str]) -> Trace:
    """A trace from its file. Everything in it is checked.

    Raises TraceError, one line that says file and problem; OSError; ValueError where a package is missing.
    """
    from pageshare.lab import _trace_file

    return _trace_file.read(Path(path))


def write(path: str | os.PathLike[str], trace: Trace) -> None:
    """Write a trace: the file at ``path`` appears whole or not at all.

    Raises TraceError for a trace that is not as it must be; OSError; ValueError where a package is missing.
    """
    from pageshare.lab import _trace_file

    check(trace)
    _trace_file.write(Path(path), trace)
