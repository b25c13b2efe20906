"""Windows crash dumps: ``PAGEDU64``, and ``PAGEDUMP`` of 32-bit systems.

A header of two pages (32-bit: one) says what sort of dump it is and which runs of physical memory the machine has; all
numbers are little-endian, all pages are 4 KiB and follow each other without gaps:

    complete      the pages of the header's runs
    with bitmap   a summary header (SDMP or FDMP, then DUMP), a bit for each page frame, the pages whose bit is set
    with ranges   a header (RDMP, then DUMP), a table of (first frame, pages), the pages of these ranges

Microsoft documents the sorts, not the layout; this follows what QEMU's win_dump_defs.h, Rekall's overlay of crash dumps
and kdmp-parser's headers say of it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pageshare.images.image import How, Image, ImageError, Source
from pageshare.images.ranges import RANGE, Kind, State, split_device, total_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "windows"

_PAGE = 4096


class _Layout(NamedTuple):
    """Where the fields of a header are that differ in place. Runs follow their ``descriptor``, in 700 bytes in all."""

    bytes: int
    build: int
    machine: int
    descriptor: struct.Struct  # runs, pages of all of them
    descriptor_at: int
    run: np.dtype[Any]
    type: int


_LAYOUTS = {
    b"PAGEDU64": _Layout(0x2000, 0xC, 0x30, struct.Struct("<I4xQ"), 0x88, np.dtype("<u8"), 0xF98),
    b"PAGEDUMP": _Layout(0x1000, 0xC, 0x20, struct.Struct("<II"), 0x64, np.dtype("<u4"), 0xF88),
}
_DESCRIPTOR_BYTES = 700
_FILL = struct.unpack("<I", b"PAGE")[0]  # what Windows fills a header with before it sets fields

_COMPLETE = 1
_OLD_KERNEL = 2
_WITH_BITMAP = (_OLD_KERNEL, 5, 6)
_WITH_RANGES = (8, 9, 10)
_TYPES = {
    1: "complete",
    2: "kernel memory",
    3: "header only",
    4: "small (triage)",
    5: "complete with bitmap",
    6: "kernel memory with bitmap",
    8: "kernel memory with ranges",
    9: "kernel and user memory with ranges",
    10: "complete with ranges",
}
_TAKE_ANOTHER = "take a complete or kernel memory dump (Startup and Recovery settings, or WinDbg's .dump /f)"

_IA64 = 0x200
_MACHINES = {0x14C: "i386", 0x1C4: "arm", 0x8664: "x86_64", 0xAA64: "aarch64", _IA64: "ia64"}
_PC = (0x14C, 0x8664)

# signature, then where the pages begin, how many there are, bits of the bitmap that follows
_SUMMARY = struct.Struct("<8s24xQQQ")
_SUMMARIES = (b"SDMPDUMP", b"FDMPDUMP")
# marker, signature, bytes of table and of the header's last part, where the pages begin; of complete dumps all pages
_RANGES = struct.Struct("<I8s4xQQ8xQ")
_RANGES_START = (0x40, b"RDMPDUMP")

# Bounds for damaged files. An x86 or Arm processor has 52 bits of physical address at most.
_MOST_FRAMES = 1 << 40
_MOST_BITS = 1 << 34  # 64 TiB of memory
_MOST_OFFSET = 1 << 62
_SPARE_RUNS = 1 << 20
_BLOCK_BYTES = 1 << 20


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it starts as a crash dump of either sort."""
    return head[:8] in _LAYOUTS


def read(source: Source, how: How) -> Image:  # noqa: ARG001 - the same for every format
    """The pages that a crash dump holds, and as excluded what else the machine had, where the header says it.

    Raises ImageError for small dumps, and for one whose headers do not fit together.
    """
    header = source.read(0, max(layout.bytes for layout in _LAYOUTS.values()))
    layout = _LAYOUTS.get(header[:8])
    if layout is None:
        raise ImageError(source.path, "header", "the file does not start with PAGEDU64 or PAGEDUMP")
    if len(header) < layout.bytes:
        raise ImageError(source.path, "header", f"the file ends in it, after {len(header)} of {layout.bytes} bytes")
    (build,) = struct.unpack_from("<I", header, layout.build)
    (machine,) = struct.unpack_from("<I", header, layout.machine)
    (type_,) = struct.unpack_from("<I", header, layout.type)
    if machine == _IA64:
        raise ImageError(source.path, "header", "a dump of an Itanium, whose pages are 8 KiB, is not read")
    memory, all_pages, problem = _memory(header, layout)
    warnings = []
    if type_ == _COMPLETE:
        if problem:
            raise ImageError(source.path, "header", f"a complete dump needs runs of memory, and {problem}")
        frames, at = memory, layout.bytes
    elif type_ in _WITH_BITMAP:
        frames, at, all_pages = _by_bitmap(source, layout.bytes)
    elif type_ in _WITH_RANGES and layout.bytes == 0x2000:
        frames, at, all_pages = _by_ranges(source, layout.bytes, complete=type_ == 10)
    else:
        name = f"a dump of type {type_} ({_TYPES.get(type_, 'unknown')})"
        raise ImageError(source.path, "header", f"{name} is not read", _TAKE_ANOTHER)
    pages = _check(source, frames)
    if pages != all_pages and type_ == _OLD_KERNEL:
        # Older systems have other fields at these places, which nobody has described.
        raise ImageError(source.path, "bitmap header", f"{all_pages} pages, but {pages} bits are set", _TAKE_ANOTHER)
    if pages != all_pages:
        warnings.append(f"the header says {all_pages} pages, those that it lists are {pages}")
    left_out = np.empty((0, 2), np.uint64)
    if type_ != _COMPLETE and problem:
        warnings.append(f"{problem}: what the dump leaves out of it is in no count")
    elif type_ != _COMPLETE:
        left_out = _difference(memory, frames)
    ranges = _ranges(source, frames, at, left_out)
    missing = total_bytes(ranges[ranges["state"] == State.LOST])
    incomplete = []
    if missing:
        incomplete.append(f"the file ends at {source.size:#x}, before its pages do: {missing} bytes of memory are lost")
    if machine in _PC:
        ranges = split_device(ranges)
    details = {
        "dump type": f"{_TYPES[type_]} ({type_})",
        "machine": _MACHINES.get(machine, f"machine {machine:#x}"),
        "build": str(build),
        "runs": str(len(frames)),
        "memory of the machine": "not said" if problem else f"{_total(memory)} pages",
    }
    return Image(source, NAME, ranges, Kind.RAM, tuple(warnings), tuple(incomplete), details)


def _memory(header: bytes, layout: _Layout) -> tuple[NDArray[np.uint64], int, str]:
    """The runs of memory that the header lists, (first frame, pages) of shape (n, 2), and how many pages it says they
    are; or why they can't be believed. Kernel dumps may have none of it."""
    count, pages = layout.descriptor.unpack_from(header, layout.descriptor_at)
    nothing = np.empty((0, 2), np.uint64)
    if count in (0, _FILL):
        return nothing, 0, "the header does not list the machine's memory"
    at = layout.descriptor_at + layout.descriptor.size
    if count > (_DESCRIPTOR_BYTES - layout.descriptor.size) // (2 * layout.run.itemsize):
        return nothing, 0, f"the header lists {count} runs of memory, which is more than it has room for"
    runs = np.frombuffer(header, layout.run, 2 * count, at).astype(np.uint64).reshape(-1, 2)
    if not _is_possible(runs):
        return nothing, 0, "the header lists runs of memory that no processor can address"
    return runs, pages, ""


def _by_bitmap(source: Source, at: int) -> tuple[NDArray[np.uint64], int, int]:
    """The runs whose bits are set, where their pages begin in the file, and how many pages the header says."""
    where = "bitmap header"
    header = source.read(at, _SUMMARY.size)
    if len(header) < _SUMMARY.size:
        raise ImageError(source.path, where, f"the file ends in it, after {len(header)} of {_SUMMARY.size} bytes")
    signature, payload_at, pages, bits = _SUMMARY.unpack(header)
    if signature not in _SUMMARIES:
        raise ImageError(source.path, where, "neither SDMPDUMP nor FDMPDUMP", _TAKE_ANOTHER)
    bitmap_at = at + _SUMMARY.size
    end = bitmap_at + -(-bits // 8)
    if bits > _MOST_BITS:
        raise ImageError(source.path, where, f"a bitmap of {bits} bits is beyond belief")
    if end > source.size:
        raise ImageError(source.path, where, f"a bitmap of {bits} bits reaches past the end of the file")
    if not end <= payload_at <= _MOST_OFFSET:
        raise ImageError(
            source.path, where, f"the pages should begin at {payload_at:#x}, the bitmap ends at {end:#x}", _TAKE_ANOTHER
        )
    found = _Runs(source)
    for first in range(0, bits, 8 * _BLOCK_BYTES):
        count = min(8 * _BLOCK_BYTES, bits - first)
        block = source.read(bitmap_at + first // 8, -(-count // 8))
        if block == bytes(len(block)):
            continue
        bit = np.zeros(count + 2, np.bool_)
        bit[1:-1] = np.unpackbits(np.frombuffer(block, np.uint8), count=count, bitorder="little")
        edges = np.flatnonzero(bit[1:] != bit[:-1]).astype(np.uint64).reshape(-1, 2)
        found.add(edges[:, 0] + np.uint64(first), edges[:, 1] - edges[:, 0])
    return found.all(), payload_at, pages


def _by_ranges(source: Source, at: int, *, complete: bool) -> tuple[NDArray[np.uint64], int, int]:
    """The same of the table of ranges. It ends with frame 0, which Windows never uses, or where all pages are listed.

    Only complete dumps say how many those are.
    """
    where = "header of ranges"
    header = source.read(at, _RANGES.size)
    if len(header) < _RANGES.size:
        raise ImageError(source.path, where, f"the file ends in it, after {len(header)} of {_RANGES.size} bytes")
    marker, signature, table_bytes, payload_at, pages = _RANGES.unpack(header)
    if (marker, signature) != _RANGES_START:
        raise ImageError(source.path, where, "it is not RDMPDUMP")
    table_at = at + _RANGES.size
    if payload_at < table_at or payload_at > source.size or table_bytes != payload_at - at - 0x20:
        raise ImageError(
            source.path,
            where,
            f"a table of {table_bytes} bytes, and pages at {payload_at:#x}, do not fit together",
        )
    found = _Runs(source)
    for block_at in range(table_at, payload_at - 15, _BLOCK_BYTES):
        block = source.read(block_at, min(_BLOCK_BYTES, (payload_at - block_at) // 16 * 16))
        table = np.frombuffer(block[: len(block) // 16 * 16], "<u8").reshape(-1, 2)
        last = np.flatnonzero(table[:, 0] == 0)
        table = table[: last[0]] if last.size else table
        found.add(table[:, 0], table[:, 1])
        if last.size:
            break
    runs = found.all()
    if not complete:
        return runs, payload_at, _total(runs)
    listed = np.cumsum(runs[:, 1])
    return runs[: int(np.searchsorted(listed, np.uint64(pages))) + 1], payload_at, pages


class _Runs:
    """Runs of frames as they are found. A few damaged bytes must not make gigabytes of them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = source.size // _PAGE + _SPARE_RUNS
        self._parts = [np.empty((0, 2), np.uint64)]

    def add(self, first: NDArray[Any], pages: NDArray[Any]) -> None:
        """Take some, of which those without pages are left out."""
        runs = np.column_stack([first, pages])[pages > 0]
        self._left -= len(runs)
        if self._left < 0:
            raise ImageError(self._source.path, "list of pages", "it lists far more pages than the file can hold")
        self._parts.append(runs)

    def all(self) -> NDArray[np.uint64]:
        """Those that were taken, shape (n, 2)."""
        return np.concatenate(self._parts)


def _is_possible(runs: NDArray[np.uint64]) -> bool:
    first, pages = runs[:, 0], runs[:, 1]
    most = np.uint64(_MOST_FRAMES)
    return bool(((first <= most) & (pages <= most - np.minimum(first, most))).all())


def _total(runs: NDArray[np.uint64]) -> int:
    """The sum of their pages, exact even beyond 64 bits."""
    pages = runs[:, 1]
    return (int((pages >> 32).sum()) << 32) + int((pages & 0xFFFF_FFFF).sum())


def _check(source: Source, frames: NDArray[np.uint64]) -> int:
    """The number of pages. Raises ImageError if there are none, or if no machine can have them."""
    if not len(frames):
        raise ImageError(source.path, "list of pages", "it lists none")
    pages = _total(frames) if _is_possible(frames) else _MOST_FRAMES + 1
    if pages > _MOST_FRAMES:
        raise ImageError(source.path, "list of pages", "it lists pages that no processor can address")
    return pages


def _difference(memory: NDArray[np.uint64], frames: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What of ``memory`` is not in ``frames``, all (first, pages) of shape (n, 2); both may overlap themselves."""
    edges = np.concatenate([memory[:, 0], memory.sum(axis=1), frames[:, 0], frames.sum(axis=1)])
    lengths = [len(memory), len(memory), len(frames), len(frames)]
    order = np.argsort(edges, kind="stable")
    edges = edges[order]
    in_memory = np.cumsum(np.repeat([1, -1, 0, 0], lengths)[order])[:-1] > 0
    in_frames = np.cumsum(np.repeat([0, 0, 1, -1], lengths)[order])[:-1] > 0
    pages = np.diff(edges)
    kept = in_memory & ~in_frames & (pages > 0)
    return np.column_stack([edges[:-1][kept], pages[kept]])


def _ranges(
    source: Source, frames: NDArray[np.uint64], at: int, left_out: NDArray[np.uint64]
) -> NDArray[Any]:
    """``frames``, whose pages follow each other from ``at`` on, as data or lost; then ``left_out`` as excluded."""
    length = frames[:, 1] * np.uint64(_PAGE)
    offset = np.uint64(at) + np.cumsum(length) - length
    size = np.uint64(source.size)
    present = np.minimum(length, np.where(offset < size, size - np.minimum(offset, size), np.uint64(0)))
    table = np.zeros((len(frames), 2), RANGE)
    table["state"] = (State.DATA, State.LOST)
    table["address"] = frames[:, :1] * np.uint64(_PAGE)
    table["address"][:, 1] += present
    table["bytes"][:, 0] = present
    table["bytes"][:, 1] = length - present
    table["offset"] = -1
    table["offset"][:, 0] = offset.astype(np.int64)
    excluded = np.zeros(len(left_out), RANGE)
    excluded["state"] = State.EXCLUDED
    excluded["address"], excluded["bytes"] = (left_out * np.uint64(_PAGE)).T
    excluded["offset"] = -1
    ranges = np.concatenate([table.reshape(-1), excluded])
    ranges["kind"] = Kind.RAM
    return ranges[ranges["bytes"] > 0]
