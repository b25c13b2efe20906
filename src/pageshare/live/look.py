"""One look at the memory of running processes: a row for each page, with its hash, its frame and what it is.

Nothing is stopped and nothing is kept of the pages but 29 bytes each (37 where looks are compared). Sources: proc(5),
and the kernel's Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import PAGE_UNREADABLE, PAGE_ZERO, Control, ProcessPages, Stopped, read_words
from pageshare.ksm import KsmStat, parse_ksm_stat
from pageshare.live.find import control_groups
from pageshare.live.mappings import LiveMapping, Reach, parse_smaps
from pageshare.process import PAGE, START, PageKind, Process, ProcessError, kinds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 16 << 20
"""Bytes of pages in one call of the core."""
RESERVED = 1 << 30
"""Bytes from which on a mapping without memory is taken for one that was never touched: smaps does not count the
kernel's page of zeros, but to look for it in what may be terabytes takes long."""
PAGEMAP_BLOCK = 1 << 17
"""Pages whose entries are read at once."""

# /proc/PID/pagemap: the frame's number, 0 without CAP_SYS_ADMIN; whether the page is mapped only here.
_FRAME = np.uint64((1 << 55) - 1)
_EXCLUSIVE = np.uint64(1 << 56)
# /proc/kpageflags
_KPF_SWAPCACHE, _KPF_KSM, _KPF_THP, _KPF_ZERO = (np.uint64(1 << bit) for bit in (13, 21, 22, 24))

UNKNOWN_FRAME, IN_SWAP = np.uint64(1 << 63), np.uint64(1 << 62)
_NO_PAGES = np.empty(0, np.uint64)

# What is known of a row, in one byte.
ANONYMOUS, EXCLUSIVE, SWAPPED, ZERO, MERGED, KERNEL_ZERO, HUGE, VOLATILE = (np.uint8(1 << bit) for bit in range(8))


@dataclass
class MappingCounts:
    """Pages of a mapping that have no row."""

    untouched: int = 0
    swapped: int = 0
    excluded: int = 0
    vanished: int = 0
    unreadable: int = 0


@dataclass
class Subject:
    """A process that was looked at, with its mappings; ``started`` tells it from others that had its number."""

    pid: int
    command: str
    started: int
    arguments: list[str]
    groups: list[str]
    stat: KsmStat
    mappings: list[LiveMapping] = field(default_factory=list)
    counts: list[MappingCounts] = field(default_factory=list)
    first_mapping: int = 0
    """The number of its first mapping among those of all processes."""
    rows: slice = field(default_factory=lambda: slice(0, 0))
    """Where its rows are, which ascend by their addresses."""


@dataclass
class Rows:
    """Columns of n rows: ``hashes`` (uint64, ``(n, 2)``), ``frames`` (uint64; of a page that lay in swap IN_SWAP and
    its place there; where the number is not known, one for each row, from UNKNOWN_FRAME on), ``mappings`` (uint32, the
    number of the mapping), ``flags`` (uint8), ``pages`` (uint64, address / page size; None unless looks are compared).
    """

    hashes: NDArray[np.uint64]
    frames: NDArray[np.uint64]
    mappings: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    pages: NDArray[np.uint64] | None

    def __len__(self) -> int:
        return len(self.flags)

    def only(self, chosen: NDArray[np.bool_]) -> Rows:
        """Some of them."""
        pages = None if self.pages is None else self.pages[chosen]
        return Rows(self.hashes[chosen], self.frames[chosen], self.mappings[chosen], self.flags[chosen], pages)


@dataclass
class Look:
    """What was seen of all processes; ``refused`` could not be looked at, ``gone`` ended meanwhile."""

    page_size: int
    subjects: list[Subject]
    refused: list[ProcessError]
    gone: list[ProcessError]
    rows: Rows
    frames_known: bool
    """Frame numbers were to be seen."""
    flags_known: bool
    """So were the kernel's flags of frames: which are KSM's, zero, or part of a huge page."""
    seconds: float
    """That the look took."""
    cpu_seconds: float
    """Of this thread, to read and hash."""
    interrupted: bool = False

    @property
    def bytes_read(self) -> int:
        """Bytes of pages that were read and hashed."""
        return len(self.rows) * self.page_size


class Looker:
    """Looks at processes. To be closed.

    ``anonymous`` leaves out pages of files and of shared memory, ``swapped`` reads pages that lie in swap too, which
    brings them back into memory; ``pages`` keeps what is needed to compare two looks. All looks of one looker hash
    with one seed.
    """

    def __init__(self, *, seed: int, anonymous: bool = False, swapped: bool = False, pages: bool = False) -> None:
        self._reader = ProcessPages(PAGE, seed=seed)
        self._anonymous, self._swapped, self._pages = anonymous, swapped, pages
        self._cpu_seconds = 0.0
        self._kpageflags = _open("/proc/kpageflags")
        self.kpagecount = _open("/proc/kpagecount")

    def close(self) -> None:
        """Close its files."""
        for fd in (self._kpageflags, self.kpagecount):
            if fd >= 0:
                os.close(fd)
        self._kpageflags = self.kpagecount = -1

    def look(self, pids: Sequence[int], control: Control) -> Look:
        """Look at these processes, one after the other. ``control`` counts pages; stopped, what was seen so far is
        returned, marked so."""
        began, self._cpu_seconds = time.perf_counter(), 0.0
        chunks: list[Rows] = []
        look = Look(PAGE, [], [], [], _joined([]), False, self._kpageflags >= 0, 0.0, 0.0)
        rows = mappings = 0
        for pid in pids:
            before = len(chunks)
            try:
                with contextlib.closing(Process(pid)) as process:
                    subject = _subject(process)
                    subject.first_mapping = mappings
                    look.subjects.append(subject)
                    mappings += len(subject.mappings)
                    chunks.extend(self._rows_of(process, subject, control))
            except ProcessError as error:
                if look.subjects and look.subjects[-1].pid == pid:  # it ended in the middle: none of it counts
                    look.subjects.pop()
                    del chunks[before:]
                (look.gone if error.gone else look.refused).append(error)
            except Stopped:
                look.interrupted = True
            else:
                look.interrupted = control.stopped
            if look.subjects and look.subjects[-1].pid == pid:
                end = rows + sum(map(len, chunks[before:]))
                look.subjects[-1].rows = slice(rows, end)
                rows = end
            if look.interrupted:
                break
        look.rows = _joined(chunks)
        unknown = np.flatnonzero(look.rows.frames == 0)
        look.frames_known = len(unknown) < len(look.rows)
        look.rows.frames[unknown] = unknown.astype(np.uint64) | UNKNOWN_FRAME
        look.seconds, look.cpu_seconds = time.perf_counter() - began, self._cpu_seconds
        return look

    def _rows_of(self, process: Process, subject: Subject, control: Control) -> Iterator[Rows]:
        """The rows of a process, in batches; counts what has none."""
        batch = _Batch()
        for number, mapping in enumerate(subject.mappings):
            counts = subject.counts[number]
            first, end = mapping.start // PAGE, mapping.end // PAGE
            if mapping.reach is Reach.SPECIAL:
                continue
            if not mapping.resident and mapping.end - mapping.start >= RESERVED:
                counts.untouched += end - first
                continue
            for block in range(first, end, PAGEMAP_BLOCK):
                control.check()
                entries = process.page_entries(block, min(PAGEMAP_BLOCK, end - block))
                taken = self._taken(kinds_of(entries), counts)
                batch.add(taken + block, entries[taken], subject.first_mapping + number)
                while batch.pages >= BATCH // PAGE:
                    yield self._read(process, subject, batch.take(BATCH // PAGE), control)
        while batch.pages:
            yield self._read(process, subject, batch.take(BATCH // PAGE), control)

    def _taken(self, kinds: NDArray[np.uint8], counts: MappingCounts) -> NDArray[np.int64]:
        """Which pages of a block are read, by their place in it; counts the others."""
        if not kinds.any():  # most of a huge reserved mapping
            counts.untouched += len(kinds)
            return np.empty(0, np.int64)
        numbers = np.bincount(kinds, minlength=len(PageKind))
        counts.untouched += int(numbers[PageKind.UNTOUCHED])
        taken = kinds != PageKind.UNTOUCHED
        if self._anonymous:
            counts.excluded += int(numbers[PageKind.FILE])
            taken &= kinds != PageKind.FILE
        if not self._swapped:
            counts.swapped += int(numbers[PageKind.SWAPPED])
            taken &= kinds != PageKind.SWAPPED
        return np.flatnonzero(taken)

    def _read(self, process: Process, subject: Subject, part: _Part, control: Control) -> Rows:
        flags, in_swap = self._flags(part.entries, control)
        # Whatever is mapped more than once must not be pinned, and a page of KSM's not even if it is mapped once; a
        # page in swap may be that of forks too, also if it is in memory here.
        shared = ((flags & ANONYMOUS) != 0) & ((flags & (EXCLUSIVE | MERGED)) != EXCLUSIVE) | in_swap
        cpu = time.thread_time()
        try:
            hashes, states = self._reader.hash(process.pid, part.pages, shared=shared, mem=process.mem, control=control)
        except ProcessLookupError:
            raise process.gone() from None
        except PermissionError:
            raise process.error("the kernel does not let it be read: try it as root (sudo)") from None
        self._cpu_seconds += time.thread_time() - cpu
        # Another process may have got its number, or it may run another program: what was read is not its memory then.
        process.page_entries(0, 1)
        flags |= np.where(states == PAGE_ZERO, ZERO, np.uint8(0))
        good = states != PAGE_UNREADABLE
        frames = part.entries & _FRAME
        frames |= np.where(((flags & SWAPPED) != 0) & (frames != 0), IN_SWAP, np.uint64(0))
        rows = Rows(hashes, frames, part.mappings, flags, part.pages if self._pages else None)
        if not good.all():
            self._count_unread(process, subject, part.pages[~good], part.mappings[~good])
            rows = rows.only(good)
        return rows

    def _flags(
        self, entries: NDArray[np.uint64], control: Control
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """What the kernel says of pages; and which of those in memory have a place in swap still."""
        kinds = kinds_of(entries)
        flags: NDArray[np.uint8] = np.where(kinds == PageKind.FILE, np.uint8(0), ANONYMOUS)
        flags |= np.where(kinds == PageKind.SWAPPED, SWAPPED, np.uint8(0))
        flags |= np.where(entries & _EXCLUSIVE, EXCLUSIVE, np.uint8(0))
        frames = entries & _FRAME
        if self._kpageflags < 0 or not frames.any():
            return flags, np.zeros(len(flags), bool)
        known = np.flatnonzero((kinds == PageKind.ANONYMOUS) & (frames != 0))
        distinct, back = np.unique(frames[known], return_inverse=True)
        kernel = read_words(self._kpageflags, distinct, control)
        theirs = np.zeros(len(distinct), np.uint8)
        for bit, flag in ((_KPF_KSM, MERGED), (_KPF_ZERO, KERNEL_ZERO), (_KPF_THP, HUGE)):
            theirs |= np.where(kernel & bit, flag, np.uint8(0))
        flags[known] |= theirs[back.reshape(-1)]
        in_swap = np.zeros(len(flags), bool)
        in_swap[known] = (kernel & _KPF_SWAPCACHE)[back.reshape(-1)] != 0
        return flags, in_swap

    def _count_unread(
        self, process: Process, subject: Subject, pages: NDArray[np.uint64], mappings: NDArray[np.uint32]
    ) -> None:
        """What is still there should have been readable; the rest was unmapped meanwhile."""
        for first in np.split(np.arange(len(pages)), np.flatnonzero(np.diff(pages) != 1) + 1):
            still = kinds_of(process.page_entries(int(pages[first[0]]), len(first))) != PageKind.UNTOUCHED
            for mapping, there in zip(mappings[first].tolist(), still.tolist(), strict=True):
                counts = subject.counts[mapping - subject.first_mapping]
                if there:
                    counts.unreadable += 1
                else:
                    counts.vanished += 1


@dataclass
class _Part:
    """Pages by number, with their entries in the pagemap and the numbers of their mappings."""

    pages: NDArray[np.uint64]
    entries: NDArray[np.uint64]
    mappings: NDArray[np.uint32]


class _Batch:
    """Pages that wait to be read."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self.pages = 0

    def add(self, pages: NDArray[np.int64], entries: NDArray[np.uint64], mapping: int) -> None:
        if len(pages):
            self._parts.append(_Part(pages.astype(np.uint64), entries, np.full(len(pages), mapping, np.uint32)))
            self.pages += len(pages)

    def take(self, most: int) -> _Part:
        """The first ones, so many at most."""
        columns = [
            np.concatenate([getattr(part, name) for part in self._parts]) for name in ("pages", "entries", "mappings")
        ]
        rest = _Part(*(column[most:] for column in columns))
        self._parts = [rest] if len(rest.pages) else []
        self.pages = len(rest.pages)
        return _Part(*(column[:most].copy() for column in columns))  # a view would keep all of it


def _joined(chunks: list[Rows]) -> Rows:
    """All rows. The chunks are emptied one column after the other, so that little is there twice."""
    hashes = np.concatenate([chunk.hashes for chunk in chunks] or [np.empty((0, 2), np.uint64)])
    for chunk in chunks:
        chunk.hashes = hashes[:0]
    pages = None
    if all(chunk.pages is not None for chunk in chunks):
        pages = np.concatenate([chunk.pages for chunk in chunks if chunk.pages is not None] or [_NO_PAGES])
        for chunk in chunks:
            chunk.pages = None
    frames = np.concatenate([chunk.frames for chunk in chunks] or [_NO_PAGES])
    mappings = np.concatenate([chunk.mappings for chunk in chunks] or [np.empty(0, np.uint32)])
    flags = np.concatenate([chunk.flags for chunk in chunks] or [np.empty(0, np.uint8)])
    return Rows(hashes, frames, mappings, flags, pages)


def _subject(process: Process) -> Subject:
    """What is known of a process before its pages are read."""
    process.open_memory()
    group = re.search(rb"^Tgid:\s*(\d+)$", process.read("status"), re.MULTILINE)
    if group and int(group[1]) != process.pid:
        raise process.error(f"it is a thread of process {int(group[1])}: name that")
    stat = KsmStat()
    with contextlib.suppress(OSError):  # a kernel without it
        stat = parse_ksm_stat(process.read("ksm_stat"))
    groups: list[str] = []
    with contextlib.suppress(OSError):
        groups = control_groups(Path(f"/proc/{process.pid}"))
    mappings = parse_smaps(process.read("smaps"))
    if not mappings:
        raise process.gone()
    return Subject(
        pid=process.pid,
        command=process.command,
        started=int(process.stat()[START]),
        arguments=os.fsdecode(process.read("cmdline")).rstrip("\0").split("\0"),
        groups=groups,
        stat=stat,
        mappings=mappings,
        counts=[MappingCounts() for _ in mappings],
    )


def _open(path: str) -> int:
    """-1 where it can't be had."""
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return -1
