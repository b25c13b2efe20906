"""Xen's cores, as ``xl dump-core`` writes them: ELF64 without program headers.

Layout: Xen's docs/misc/dump-core-format.txt. The section ``.xen_pages`` holds pages in any order; ``.xen_pfn`` (u64
each) or, for paravirtualised guests, ``.xen_p2m`` (u64 frame of the guest, u64 frame of the machine) says which ones
they are; ``.note.Xen`` how large and how many. Entries of ~0 are no pages: the guest gave them away meanwhile.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images.image import How, Image, ImageError, Source
from pageshare.images.ranges import RANGE, Kind, State, total_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "xen"

# After e_ident: e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum,
# e_shentsize, e_shnum, e_shstrndx
_HEADER = "HHIQQQIHHHHHH"
# sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size
_SECTION = "IIQQQQ"
_SECTION_BYTES = 64
_NOTE = "III"  # bytes of name and of content, type; both parts padded to 4 bytes

_ET_CORE = 4
_ORDERS = {1: "<", 2: ">"}
_MACHINES = {3: "i386", 40: "arm", 50: "ia64", 62: "x86_64", 183: "aarch64"}

_DUMPCORE_HEADER = 0x2000001
_DUMPCORE_FORMAT = 0x2000003
_GUESTS = {0xF00FEBED: "paravirtualised", 0xF00FEBEE: "hardware-virtualised"}
_TABLES = {".xen_p2m": 2, ".xen_pfn": 1}  # words of an entry, of which the first is the guest's frame
_NO_FRAME = 0xFFFF_FFFF_FFFF_FFFF

# Bounds for damaged files.
_MOST_NAMES = 1 << 16
_MOST_NOTES = 1 << 10
_MOST_FRAMES = 1 << 52
_MOST_RUNS = 1 << 24
_BLOCK = 1 << 18  # entries


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it is an ELF64 core with sections and no program headers."""
    order = _ORDERS.get(head[5]) if len(head) >= 64 else None
    if not order or not head.startswith(b"\x7fELF\x02"):
        return False
    kind, *_, segments, _, sections, _ = struct.unpack_from(order + _HEADER, head, 16)
    return bool(kind == _ET_CORE and segments == 0 and sections > 0)


def read(source: Source, how: How) -> Image:  # noqa: ARG001 - the same for every format
    """The pages of a Xen core at the guest's physical (for paravirtualised guests: pseudo-physical) addresses.

    No address is taken for a device's: these guests have memory where other PCs have none. Raises ImageError if
    sections and notes do not fit together.
    """
    header = source.read(0, 64)
    if not detect(header, source.size):
        raise ImageError(source.path, "ELF header", "no ELF64 core with sections and without program headers")
    order = _ORDERS[header[5]]
    _, machine, *_ = struct.unpack_from(order + _HEADER, header, 16)
    sections = _sections(source, header, order)
    guest, page_size, pages = _notes(source, sections, order)
    if ".xen_pages" not in sections:
        raise ImageError(source.path, "section headers", "no section .xen_pages")
    name = next((each for each in _TABLES if each in sections), None)
    if name is None:
        raise ImageError(source.path, "section headers", "neither .xen_pfn nor .xen_p2m says which pages these are")
    words = _TABLES[name]
    pages_at, pages_bytes = sections[".xen_pages"]
    table_at, table_bytes = sections[name]
    listed = min(pages, table_bytes // (8 * words), pages_bytes // page_size)
    readable = max(0, min(listed, (source.size - table_at) // (8 * words)))
    if not readable:
        raise ImageError(
            source.path,
            name,
            f"the file ends at {source.size:#x}, before this says which pages it holds"
            if listed
            else "it lists no page",
            "take the dump again",
        )
    table = np.dtype(order + "u8")
    parts = []
    absent = runs = 0
    for first in range(0, readable, _BLOCK):
        count = min(_BLOCK, readable - first)
        block = source.read(table_at + 8 * words * first, 8 * words * count)
        if len(block) < 8 * words * count:
            raise ImageError(source.path, name, "the file became shorter while it was read")
        frames = np.frombuffer(block, table).astype(np.uint64).reshape(count, words)
        there = (frames != np.uint64(_NO_FRAME)).all(axis=1)
        absent += count - int(there.sum())
        parts.append(_runs(source, frames[there, 0], first + np.flatnonzero(there), pages_at, page_size))
        runs += len(parts[-1])
        if runs > _MOST_RUNS:
            raise ImageError(source.path, name, f"more than {_MOST_RUNS} pages that do not follow each other")
    ranges = np.concatenate(parts)
    if not len(ranges):
        raise ImageError(source.path, name, "all its entries are no pages")
    return Image(
        source,
        NAME,
        ranges,
        Kind.RAM,
        incomplete=_incomplete(source, ranges, pages, listed, readable),
        details={
            "guest": guest,
            "machine": _MACHINES.get(machine, f"ELF machine {machine}"),
            "page size": str(page_size),
            "entries that are no page": str(absent),
        },
    )


def _incomplete(
    source: Source, ranges: NDArray[Any], pages: int, listed: int, readable: int
) -> tuple[str, ...]:
    incomplete = []
    if listed < pages:
        incomplete.append(f"the header says {pages} pages, its sections have room for {listed}")
    if readable < listed:
        incomplete.append(
            f"the file ends at {source.size:#x}, before it says where the last {listed - readable} of {listed} pages"
            " belong: they are in no count"
        )
    missing = total_bytes(ranges[ranges["state"] == State.LOST])
    if missing:
        incomplete.append(f"the file ends at {source.size:#x}, before its pages do: {missing} bytes of memory are lost")
    return tuple(incomplete)


def _runs(
    source: Source, frames: NDArray[np.uint64], numbers: NDArray[np.int64], pages_at: int, page_size: int
) -> NDArray[Any]:
    """Ranges for guest's ``frames``, which are the pages ``numbers`` of the section."""
    size = np.uint64(page_size)
    if (frames >= np.uint64(_MOST_FRAMES // page_size)).any():
        wrong = int(frames.max())
        raise ImageError(source.path, "list of pages", f"frame {wrong:#x} is beyond what a machine can address")
    goes_on = (np.diff(frames) == 1) & (np.diff(numbers) == 1)
    heads = np.flatnonzero(np.concatenate([[len(frames) > 0], ~goes_on]))
    pages = np.diff(np.append(heads, len(frames))).astype(np.uint64)
    length = pages * size
    offset = np.uint64(pages_at) + numbers[heads].astype(np.uint64) * size
    end = np.uint64(source.size)
    present = np.minimum(length, end - np.minimum(offset, end))
    table = np.zeros((len(heads), 2), RANGE)
    table["kind"] = Kind.RAM
    table["state"] = (State.DATA, State.LOST)
    table["address"] = (frames[heads] * size)[:, None]
    table["address"][:, 1] += present
    table["bytes"][:, 0] = present
    table["bytes"][:, 1] = length - present
    table["offset"] = -1
    table["offset"][:, 0] = offset
    ranges = table.reshape(-1)
    return ranges[ranges["bytes"] > 0]


def _sections(source: Source, header: bytes, order: str) -> dict[str, tuple[int, int]]:
    """Where each section lies and how many bytes it has, by name; of two with one name the first."""
    where = "section headers"
    *_, table_at, _, _, _, _, entry_bytes, count, names_number = struct.unpack_from(order + _HEADER, header, 16)
    if entry_bytes < _SECTION_BYTES:
        raise ImageError(source.path, where, f"section headers of {entry_bytes} bytes are too short")
    table = source.read(table_at, count * entry_bytes)
    if len(table) < count * entry_bytes:
        raise ImageError(
            source.path, where, f"{count} of {entry_bytes} bytes at {table_at:#x} reach past the end of the file"
        )
    entries = [struct.unpack_from(order + _SECTION, table, at) for at in range(0, len(table), entry_bytes)]
    if names_number >= count:
        raise ImageError(source.path, where, f"the names should be in section {names_number}, of {count}")
    *_, names_at, names_bytes = entries[names_number]
    names = source.read(names_at, min(names_bytes, _MOST_NAMES))
    found: dict[str, tuple[int, int]] = {}
    for name_at, _, _, _, at, length in entries[1:]:
        name = names[name_at:].partition(b"\0")[0].decode("latin-1")
        if at + length >= 1 << 62:
            raise ImageError(source.path, where, f"{length} bytes at {at:#x} can't be in a file")
        found.setdefault(name, (at, length))
    return found


def _notes(source: Source, sections: dict[str, tuple[int, int]], order: str) -> tuple[str, int, int]:
    """What sort of guest it is, the size of a page, and how many there are."""
    where = ".note.Xen"
    at, length = sections.get(where, (0, 0))
    end = min(at + length, source.size)
    found: dict[int, bytes] = {}
    for _ in range(_MOST_NOTES):
        head = source.read(at, 12) if at + 12 <= end else b""
        if len(head) < 12:
            break
        name_bytes, content_bytes, kind = struct.unpack(order + _NOTE, head)
        content_at = at + 12 + -(-name_bytes // 4) * 4
        if source.read(at + 12, 4) == b"Xen\0":
            found.setdefault(kind, source.read(content_at, min(content_bytes, 32, max(0, end - content_at))))
        at = content_at + -(-content_bytes // 4) * 4
    if len(found.get(_DUMPCORE_HEADER, b"")) < 32:
        raise ImageError(source.path, where, "no note says how many pages there are; a core of xl dump-core has one")
    magic, _, pages, page_size = struct.unpack(order + "4Q", found[_DUMPCORE_HEADER])
    version = found.get(_DUMPCORE_FORMAT, b"")[:8]
    major = struct.unpack(order + "Q", version)[0] >> 32 if len(version) == 8 else 0
    if major:
        raise ImageError(source.path, where, f"format {major} is not known, only 0")
    if not 4096 <= page_size <= 1 << 16 or page_size & (page_size - 1):
        raise ImageError(source.path, where, f"pages of {page_size} bytes")
    return _GUESTS.get(magic, f"of magic {magic:#x}"), page_size, pages
