"""ELF cores of running processes, written without a debugger.

A core holds the pages that are in memory or in swap; never-touched pages are not in it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from pageshare.files import appearing_whole
from pageshare.images.elf import NT_AUXV, NT_FILE, NT_PRPSINFO, core_header
from pageshare.images.ranges import Kind
from pageshare.process import (
    FLAGS,
    GROUP,
    NICE,
    PAGE,
    PARENT,
    SESSION,
    STATE,
    Mapping,
    PageKind,
    Process,
    ProcessError,
    is_special,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 4 << 20
"""Bytes of memory read at once."""
PAGEMAP_BLOCK = 1 << 17
"""Pages whose kind is read at once."""

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Called with a label and the bytes to come; what its context yields is called with the bytes done so far."""


@dataclass
class Counts:
    """Pages of a process: the first two are in the core, the others (but for ``swapped``) are left out of it."""

    anonymous: int = 0
    """The process's own: what no file and no shared memory backs."""
    file: int = 0
    """Of files and of shared memory; the kernel keeps them once, whoever maps them."""
    swapped: int = 0
    """Of the anonymous ones, those that lay in swap."""
    untouched: int = 0
    """Mapped, but never touched, or dropped since."""
    excluded: int = 0
    """File and shared pages, with ``anonymous=True``."""
    special: int = 0
    """Of kernel and device mappings, e.g. ``[vvar]`` or a graphics card's."""
    vanished: int = 0
    """Unmapped by the running process before they could be read."""
    unreadable: int = 0
    """They should be there, but the kernel did not let them be read."""

    @property
    def captured(self) -> int:
        """Pages in the core."""
        return self.anonymous + self.file


@dataclass(frozen=True)
class Capture:
    """What was captured of one process; ``pages`` are of ``page_size`` bytes."""

    pid: int
    command: str
    path: Path
    """The core."""
    page_size: int
    held: bool
    """It was stopped meanwhile, by us or before."""
    pages: Counts = field(default_factory=Counts)


class _Run(NamedTuple):
    address: int
    pages: int
    kind: int


@contextlib.contextmanager
def _no_progress(_label: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _done: None


def capture(
    pid: int,
    folder: str | os.PathLike[str],
    *,
    stop: bool = False,
    anonymous: bool = False,
    force: bool = False,
    progress: Progress = _no_progress,
) -> Capture:
    """Write the present memory of process ``pid`` to ``folder/COMMAND-PID.core``, an ELF64 process core.

    Present are the pages that ``/proc/PID/pagemap`` calls present or swapped, of all mappings but the
    kernel's and devices'; ``anonymous=True`` leaves out those of files and of shared memory. With
    ``stop=True`` the process is stopped meanwhile and goes on afterwards, unless it was stopped before;
    otherwise it runs on, and each page is as it was when it was read. ``folder`` must exist. The file is
    private (0600) and appears when it is whole; one that exists is only replaced with ``force=True``.
    ``progress`` is called as ``progress(label, total_bytes)`` and gives a context whose value takes the bytes
    done so far.

    Raises ProcessError, an OSError with one line for people: no such process, not allowed, it ended meanwhile,
    the file exists, no space.

    >>> import os, tempfile
    >>> from pageshare.capture import capture
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = capture(os.getpid(), folder)
    ...     done.path.stat().st_size > done.pages.captured * done.page_size > 0
    True
    """
    with contextlib.closing(Process(pid)) as process:
        process.open_memory()
        path = Path(folder) / core_name(pid, process.command)
        if path.exists() and not force:
            raise process.error(f"{path} exists: remove it, choose another folder, or use --force")
        held = process.still()
        try:
            if stop and not held:
                process.stop()
            done = Capture(pid, process.command, path, PAGE, held or stop)
            _write_core(process, done, anonymous, progress)
        except ProcessError:
            raise
        except OSError as error:
            raise process.error(f"{path}: {error.strerror or error}") from error
        finally:
            if stop and not held:
                process.resume()
    return done


def core_name(pid: int, command: str) -> str:
    """The file name of a core: the command, tame enough for a shell, and the PID."""
    return f"{re.sub(r'[^A-Za-z0-9_+.-]|^[.-]', '_', command)}-{pid}.core"


def _write_core(process: Process, done: Capture, anonymous: bool, progress: Progress) -> None:
    mappings = process.mappings()
    runs = _plan(process, mappings, anonymous, done.pages)
    notes = _notes(process, mappings)
    # The header comes first in the file, and is known last: pages may vanish before they are read.
    reserved = len(_header([(run.address, run.pages * PAGE) for run in runs], notes))
    payload = sum(run.pages for run in runs) * PAGE
    folder = done.path.parent
    free = shutil.disk_usage(folder).free
    if reserved + payload > free:
        raise process.error(f"its core takes {reserved + payload:,} bytes, {folder} has {free:,} free")
    label = f"capturing {process.command} ({process.pid})"
    with appearing_whole(done.path) as file, progress(label, payload) as update:
        file.seek(reserved)
        header = _header(_copy(process, runs, file, done.pages, update), notes)
        if len(header) != reserved:
            _move(file, reserved, file.tell(), len(header) - reserved)
        file.seek(0)
        file.write(header)


def _header(loads: Sequence[tuple[int, int]], notes: Sequence[tuple[str, int, bytes]]) -> bytes:
    return core_header(loads, kind=Kind.PROCESS, payload_alignment=PAGE, notes=notes)


def _plan(process: Process, mappings: Sequence[Mapping], anonymous: bool, counts: Counts) -> list[_Run]:
    """The pages to be read, in ascending order; counts those that are left out."""
    runs: list[_Run] = []
    for mapping in mappings:
        first, end = mapping.start // PAGE, mapping.end // PAGE
        if is_special(mapping.name):
            counts.special += end - first
            continue
        for block in range(first, end, PAGEMAP_BLOCK):
            kinds = process.page_kinds(block, min(PAGEMAP_BLOCK, end - block))
            counts.untouched += len(kinds) - int(np.count_nonzero(kinds))
            if anonymous:
                shared = kinds == PageKind.FILE
                counts.excluded += int(np.count_nonzero(shared))
                kinds[shared] = PageKind.UNTOUCHED
            runs += _runs(block, kinds)
    if not runs:
        raise process.error("none of its pages is in memory")
    return runs


def _runs(first: int, kinds: NDArray[np.uint8]) -> list[_Run]:
    """Runs of one kind, the untouched left out; ``kinds[0]`` is that of page number ``first``."""
    if not kinds.any():  # most of a huge reserved mapping
        return []
    starts = np.concatenate(([0], np.flatnonzero(np.diff(kinds)) + 1))
    lengths = np.diff(starts, append=len(kinds))
    taken = kinds[starts] != PageKind.UNTOUCHED
    addresses = (starts[taken] + first) * PAGE
    return list(map(_Run, addresses.tolist(), lengths[taken].tolist(), kinds[starts[taken]].tolist()))


def _copy(
    process: Process, runs: Sequence[_Run], file: IO[bytes], counts: Counts, update: Callable[[int], None]
) -> list[tuple[int, int]]:
    """Append the pages of ``runs`` to ``file``, count them, and return (address, bytes) of the pieces there."""
    loads: list[tuple[int, int]] = []
    block = memoryview(bytearray(BLOCK))
    used = done = 0
    for run in runs:
        address, end = run.address, run.address + run.pages * PAGE
        while address < end:
            if used == BLOCK:
                file.write(block)
                update(done := done + used)
                used = 0
            got = process.read_pages(block[used : min(BLOCK, used + end - address)], address)
            if got:
                _append(loads, address, got)
                _count(counts, run.kind, got // PAGE)
                used += got
                address += got
                continue
            if process.page_kinds(address // PAGE, 1)[0]:
                counts.unreadable += 1
            else:
                counts.vanished += 1
            address += PAGE
    file.write(block[:used])
    update(done + used)
    return loads


def _append(loads: list[tuple[int, int]], address: int, size: int) -> None:
    """Add a piece, or lengthen the last one if it goes on there."""
    if loads and sum(loads[-1]) == address:
        loads[-1] = (loads[-1][0], loads[-1][1] + size)
    else:
        loads.append((address, size))


def _count(counts: Counts, kind: int, pages: int) -> None:
    if kind == PageKind.FILE:
        counts.file += pages
    else:
        counts.anonymous += pages
    if kind == PageKind.SWAPPED:
        counts.swapped += pages


def _move(file: IO[bytes], start: int, end: int, by: int) -> None:
    """Move the bytes from ``start`` to ``end`` of a file by ``by``, up or down, and cut it behind them."""
    blocks = range(start, end, BLOCK)
    for position in reversed(blocks) if by > 0 else blocks:
        file.seek(position)
        data = file.read(min(BLOCK, end - position))
        file.seek(position + by)
        file.write(data)
    file.truncate(end + by)


def _notes(process: Process, mappings: Sequence[Mapping]) -> list[tuple[str, int, bytes]]:
    """What gdb and readelf want to know: the command, the auxiliary vector, the files mapped (elf(5))."""
    return [
        ("CORE", NT_PRPSINFO, _prpsinfo(process)),
        ("CORE", NT_AUXV, process.read("auxv")),
        ("CORE", NT_FILE, _file_note(mappings)),
    ]


def _prpsinfo(process: Process) -> bytes:
    """``struct elf_prpsinfo`` of the 64-bit kernels, 136 bytes."""
    fields = process.stat()
    owner = os.fstat(process.folder)
    return struct.pack(
        "<BcBb4xQ2I4i16s80s",
        0,
        fields[STATE].encode(),
        0,
        int(fields[NICE]),
        int(fields[FLAGS]),
        owner.st_uid,
        owner.st_gid,
        process.pid,
        *(int(fields[each]) for each in (PARENT, GROUP, SESSION)),
        process.read("comm").rstrip(b"\n"),
        process.read("cmdline").replace(b"\0", b" ").rstrip(),
    )


def _file_note(mappings: Sequence[Mapping]) -> bytes:
    """NT_FILE as the kernel writes it (fs/binfmt_elf.c): how many, page size; start, end and offset in pages
    of each mapped file; their names.
    """
    files = [mapping for mapping in mappings if mapping.name.startswith("/")]
    spans = [struct.pack("<3Q", mapping.start, mapping.end, mapping.offset // PAGE) for mapping in files]
    names = [os.fsencode(mapping.name) + b"\0" for mapping in files]
    return struct.pack("<2Q", len(files), PAGE) + b"".join(spans + names)
