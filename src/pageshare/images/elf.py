"""ELF cores: of guests (QEMU's dump-guest-memory, VirtualBox, kdump, makedumpfile) and of processes.

Layout: ``elf(5)``, of either class (32 or 64 bits) and byte order. What producers do beyond it is said at the place
that deals with it.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images.image import How, Image, ImageError, NoDumpError, Source, printable
from pageshare.images.ranges import BLOCK, RANGE, Kind, State, split_device, total_bytes, wrapping

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "elf"

_MAGIC = b"\x7fELF"
_IDENT_BYTES = 16
_ORDERS = {1: "<", 2: ">"}  # e_ident[EI_DATA]
_BITS = {1: 32, 2: 64}  # e_ident[EI_CLASS]


@dataclass(frozen=True)
class _Layout:
    """How the structures of one class and byte order are packed."""

    bits: int
    header: struct.Struct
    section: struct.Struct
    note: struct.Struct
    segment: list[tuple[str, str]]

    @classmethod
    def of(cls, bits: int, order: str) -> _Layout:
        """``bits`` are 32 or 64, ``order`` is ``<`` or ``>``."""
        word = {32: "I", 64: "Q"}[bits]
        number = f"{order}u{bits // 8}"
        names = {
            32: ("type", "offset", "vaddr", "paddr", "filesz", "memsz", "flags", "align"),
            64: ("type", "flags", "offset", "vaddr", "paddr", "filesz", "memsz", "align"),
        }[bits]
        return cls(
            bits,
            # e_ident, e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum,
            # e_shentsize, e_shnum, e_shstrndx
            struct.Struct(f"{order}16sHHI3{word}I6H"),
            # sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link, sh_info, sh_addralign, sh_entsize
            struct.Struct(f"{order}II4{word}II2{word}"),
            struct.Struct(f"{order}III"),  # bytes of name and of content, type; both parts padded to 4 bytes
            [(name, f"{order}u4" if name in ("type", "flags") else number) for name in names],
        )

    @property
    def name(self) -> str:
        """For people."""
        return f"ELF{self.bits}, {'big' if self.header.format.startswith('>') else 'little'}-endian"

    @property
    def segment_bytes(self) -> int:
        """Of one program header, where nothing lies behind it."""
        return np.dtype(self.segment).itemsize

    @property
    def nowhere(self) -> int:
        """All bits set: no address, or no place in the file."""
        return (1 << self.bits) - 1


_NATIVE = _Layout.of(64, "<")
"""What is written here."""

_ET_CORE = 4
_OTHER_TYPES = {1: "an object file", 2: "a program", 3: "a program or shared library"}
_PT_LOAD = 1
_PT_NOTE = 4
_PN_XNUM = 0xFFFF  # in e_phnum: the number did not fit, it is sh_info of section 0

EM_X86_64 = 62
_MACHINES = {
    2: "sparc",
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    43: "sparc64",
    EM_X86_64: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
_PC = (3, EM_X86_64)
# Where bit 0 of e_flags means nothing else: makedumpfile marks a dump with it that it could not finish.
_FREE_FLAGS = (3, EM_X86_64, 183)
_INCOMPLETE_FLAG = 1

_GUEST_NOTES = ("QEMU", "VMCOREINFO", "VBCORE", "VBCPU", "Xen")
NT_PRPSINFO = 3
NT_AUXV = 6
NT_FILE = 0x46494C45
_PROCESS_NOTES = (NT_PRPSINFO, NT_AUXV, NT_FILE)

# Bounds for damaged files; real ones stay far below.
_MOST_TABLE_BYTES = 1 << 30
_TABLE_BLOCK = 1 << 22
_MOST_NOTES = 1 << 16
_LONGEST_NAME = 32


def core_header(
    loads: Sequence[tuple[int, int]],
    *,
    kind: Kind,
    payload_alignment: int = 1,
    notes: Sequence[tuple[str, int, bytes]] = (),
    machine: int | None = None,
) -> bytes:
    """Everything of an ELF64 core that comes before its payload.

    ``loads`` are (address, bytes), in the order in which their payloads follow, one directly behind the other
    and the first at ``len(core_header(...))``, a multiple of ``payload_alignment``. Addresses are physical for
    ``Kind.RAM``, virtual for ``Kind.PROCESS``. ``notes`` are (name, type, content): a process core needs CORE
    notes that tell what it is (NT_PRPSINFO, NT_AUXV or NT_FILE), a guest's gets a QEMU note. ``machine`` is the
    ELF number of the architecture: by default x86-64 for a guest, where addresses from 0xe0000000 up to 4 GiB
    are devices, and this machine's for a process. Raises ValueError for what would not read back.

    >>> from pageshare.images.ranges import Kind
    >>> len(core_header([(0, 1 << 20)], kind=Kind.RAM, payload_alignment=4096))
    4096
    """
    if kind == Kind.PROCESS:
        if not any(name == "CORE" and kind_of_note in _PROCESS_NOTES for name, kind_of_note, _ in notes):
            raise ValueError("a process core needs a CORE note: NT_PRPSINFO, NT_AUXV or NT_FILE")
        machine = _this_machine() if machine is None else machine
    else:
        notes = (("QEMU", 0, b""), *notes)
        machine = EM_X86_64 if machine is None else machine
    for address, length in loads:
        if address < 0 or length < 0 or address + length > 1 << 64:
            raise ValueError(f"{length} bytes at {address:#x} are not in the 64-bit address space")

    count = 1 + len(loads)
    overflow = count >= _PN_XNUM
    notes_at = _NATIVE.header.size + count * _NATIVE.segment_bytes + overflow * _NATIVE.section.size
    note_bytes = b"".join(map(_note, notes))
    payload_at = -(-(notes_at + len(note_bytes)) // payload_alignment) * payload_alignment

    table = np.zeros(count, _NATIVE.segment)
    table[0] = (_PT_NOTE, 0, notes_at, 0, 0, len(note_bytes), 0, 4)
    segments = table[1:]
    segments["type"] = _PT_LOAD
    segments["flags"] = 6  # readable and writable
    segments["paddr" if kind == Kind.RAM else "vaddr"] = [address for address, _ in loads]
    segments["filesz"] = segments["memsz"] = [length for _, length in loads]
    segments["offset"] = payload_at + np.cumsum(segments["filesz"]) - segments["filesz"]
    header = _NATIVE.header.pack(
        _MAGIC + bytes([2, 1, 1]),
        _ET_CORE,
        machine,
        1,
        0,
        _NATIVE.header.size,
        _NATIVE.header.size + count * _NATIVE.segment_bytes if overflow else 0,
        0,
        _NATIVE.header.size,
        _NATIVE.segment_bytes,
        min(count, _PN_XNUM),
        _NATIVE.section.size,
        int(overflow),
        0,
    )
    section = _NATIVE.section.pack(0, 0, 0, 0, 0, 1, 0, count, 0, 0) if overflow else b""
    return (header + table.tobytes() + section + note_bytes).ljust(payload_at, b"\0")


def _note(note: tuple[str, int, bytes]) -> bytes:
    name, kind, content = note
    encoded = name.encode("ascii") + b"\0"
    return (
        _NATIVE.note.pack(len(encoded), len(content), kind)
        + encoded.ljust(_padded(len(encoded)), b"\0")
        + content.ljust(_padded(len(content)), b"\0")
    )


def _padded(length: int) -> int:
    return -(-length // 4) * 4


def _this_machine() -> int:
    names = {name: number for number, name in _MACHINES.items()}
    return names.get(platform.machine().replace("ppc64le", "ppc64"), EM_X86_64)


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it starts as an ELF file of any sort."""
    return head.startswith(_MAGIC)


def read(source: Source, how: How) -> Image:  # noqa: ARG001 - the same for every format
    """The LOAD segments of a core, by physical address, or by virtual one for a process.

    Raises ImageError for another sort of ELF file and for one whose headers do not fit together.
    """
    layout, machine, flags, table_at, entry_bytes, count = _read_header(source)
    loads, note_segments = _read_table(source, layout, table_at, entry_bytes, count)
    if not loads.size:
        raise ImageError(
            source.path, "program headers", f"none of the {count} is a LOAD with memory in it", "a core has some"
        )
    notes = _Notes(source, layout, note_segments)
    kind, warnings = _whose(loads, notes)
    ranges, skipped, missing = _ranges(source, layout, loads, kind)
    segments = f"{len(loads)}" + (f", {skipped} of them without memory or place" if skipped else "")
    del loads
    if not ranges.size:
        raise ImageError(source.path, "program headers", "no LOAD has both an address and a place in the file")
    if kind == Kind.RAM and machine in _PC:
        ranges = split_device(ranges)
    incomplete = []
    if missing:
        incomplete.append(
            f"the file ends at {source.size:#x}, before its last segment does: {missing} bytes of memory are lost"
        )
    if kind == Kind.RAM and machine in _FREE_FLAGS and flags & _INCOMPLETE_FLAG:
        incomplete.append("makedumpfile marked this dump as incomplete (e_flags bit 0): pages are missing from it")
    details = {
        "machine": _MACHINES.get(machine, f"ELF machine {machine}"),
        "class": layout.name,
        "segments": segments,
        "notes": ", ".join(printable(name) for name in notes.names) or "none",
    }
    return Image(source, NAME, ranges, kind, tuple(warnings), tuple(incomplete), details)


def _read_header(source: Source) -> tuple[_Layout, int, int, int, int, int]:
    """Class and byte order, e_machine, e_flags, and of the program headers: offset, bytes each, count."""
    where = "ELF header"
    ident = source.read(0, _IDENT_BYTES)
    if not ident.startswith(_MAGIC):
        raise ImageError(source.path, where, "the file does not start with the ELF magic")
    if len(ident) < _IDENT_BYTES:
        raise ImageError(source.path, where, f"the file ends in it, after {len(ident)} bytes")
    bits, order = _BITS.get(ident[4]), _ORDERS.get(ident[5])
    if bits is None or order is None or ident[6] > 1:  # VirtualBox writes version 0
        raise ImageError(source.path, where, f"no known class, byte order and version: {ident[4:7].hex(' ')}")
    layout = _Layout.of(bits, order)
    header = source.read(0, layout.header.size)
    if len(header) < layout.header.size:
        raise ImageError(source.path, where, f"the file ends in it, after {len(header)} bytes")
    _, kind, machine, _, _, table_at, sections_at, flags, _, entry_bytes, count, _, _, _ = layout.header.unpack(header)
    if kind != _ET_CORE:
        other = _OTHER_TYPES.get(kind, f"ELF of type {kind}")
        raise NoDumpError(source.path, where, f"{other}, not a core", "--format raw counts it as plain memory")
    # e_ehsize is of no use: QEMU 7.2 writes 8.
    if count == _PN_XNUM:
        section = source.read(sections_at, layout.section.size) if 0 < sections_at < source.size else b""
        if len(section) < layout.section.size:
            raise ImageError(
                source.path, where, "65,535 program headers or more, but no section 0 that says how many"
            )
        count = layout.section.unpack(section)[7]
    if count == 0:
        raise ImageError(
            source.path, where, "no program headers", "only Xen's cores have none, which are ELF64 with sections"
        )
    if entry_bytes < layout.segment_bytes:
        raise ImageError(source.path, where, f"program headers of {entry_bytes} bytes are too short")
    return layout, machine, flags, table_at, entry_bytes, count


def _read_table(
    source: Source, layout: _Layout, table_at: int, entry_bytes: int, count: int
) -> tuple[NDArray[Any], list[tuple[int, int]]]:
    """The LOAD segments that have memory or payload, and (offset, bytes) of the NOTE segments."""
    where = "program headers"
    length = count * entry_bytes
    if table_at + length > source.size:
        raise ImageError(
            source.path, where, f"{count} of {entry_bytes} bytes at {table_at:#x} reach past the end of the file"
        )
    if length > _MOST_TABLE_BYTES:
        raise ImageError(source.path, where, f"a table of {length} bytes is beyond belief")
    names, formats = zip(*layout.segment, strict=True)
    offsets = np.cumsum([0, *(np.dtype(each).itemsize for each in formats[:-1])]).tolist()
    entry = np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": entry_bytes}
    )
    # From here on the numbers are of one size and byte order.
    loads = np.empty(count, [("number", "<u4"), *_NATIVE.segment])
    found = 0
    notes: list[tuple[int, int]] = []
    at_once = max(1, _TABLE_BLOCK // entry_bytes)
    for first in range(0, count, at_once):
        entries = min(at_once, count - first)
        block = source.read(table_at + first * entry_bytes, entries * entry_bytes)
        if len(block) < entries * entry_bytes:
            raise ImageError(source.path, where, "the file became shorter while they were read")
        table = np.frombuffer(block, entry)
        is_load = (table["type"] == _PT_LOAD) & ((table["memsz"] > 0) | (table["filesz"] > 0))
        load = loads[found : found + int(is_load.sum())]
        load["number"] = first + np.flatnonzero(is_load)
        for name in names:
            load[name] = table[name][is_load]
        found += len(load)
        if len(notes) < _MOST_NOTES:
            note = table[table["type"] == _PT_NOTE]
            notes += zip(note["offset"].tolist(), note["filesz"].tolist(), strict=True)
    return loads[:found], notes[:_MOST_NOTES]


class _Notes:
    """Which notes a core has: ``names`` in order, ``guest`` and ``process`` if one of them tells what it is."""

    def __init__(self, source: Source, layout: _Layout, segments: Sequence[tuple[int, int]]) -> None:
        self.names: list[str] = []
        self.guest = self.process = False
        left = _MOST_NOTES
        for at, length in segments:
            for name, kind in _read_notes(source, layout.note, at, min(at + length, source.size)):
                if left == 0:
                    return
                left -= 1
                if name not in self.names and len(self.names) < 8:
                    self.names.append(name)
                self.guest |= name in _GUEST_NOTES
                self.process |= name == "CORE" and kind in _PROCESS_NOTES


def _read_notes(source: Source, head: struct.Struct, at: int, end: int) -> Iterator[tuple[str, int]]:
    """Name and type of each note between two offsets. Contents are passed over, however long they are."""
    while at + head.size <= end:
        start = source.read(at, head.size + _LONGEST_NAME)
        if len(start) < head.size:
            return
        name_bytes, content_bytes, kind = head.unpack_from(start)
        name = start[head.size :][:name_bytes].rstrip(b"\0").decode("latin-1")
        yield name, kind
        at += head.size + _padded(name_bytes) + _padded(content_bytes)


def _whose(loads: NDArray[Any], notes: _Notes) -> tuple[Kind, list[str]]:
    """Guest or process, and what is to be said about the choice."""
    if notes.guest or (loads["paddr"] != 0).any():
        return Kind.RAM, []
    if notes.process:
        return Kind.PROCESS, []
    if len(loads) > 1 and len(np.unique(loads["vaddr"])) > 1:
        # Several segments can't all be at physical address 0.
        return Kind.PROCESS, ["no note says what it is a core of; taken for a process, as it has no physical address"]
    return Kind.RAM, []


def _ranges(source: Source, layout: _Layout, loads: NDArray[Any], kind: Kind) -> tuple[NDArray[Any], int, int]:
    """The ranges of the segments, how many segments were skipped, and the bytes cut off at the end of the file."""
    # Some at a time: what is computed of them takes many times the memory of what is kept.
    parts = [
        _ranges_of_some(source, layout, loads[first : first + BLOCK], kind) for first in range(0, len(loads), BLOCK)
    ]
    ranges, skipped, missing = zip(*parts, strict=True)
    return np.concatenate(ranges), sum(skipped), sum(missing)


def _ranges_of_some(
    source: Source, layout: _Layout, loads: NDArray[Any], kind: Kind
) -> tuple[NDArray[Any], int, int]:
    addresses = loads["vaddr" if kind == Kind.PROCESS else "paddr"]
    # /proc/kcore has no physical address for some memory, QEMU no payload for what is not RAM.
    placed = loads["offset"] != np.uint64(layout.nowhere)
    if kind != Kind.PROCESS:
        placed &= addresses != np.uint64(layout.nowhere)
    loads, addresses = loads[placed], addresses[placed]
    length = np.maximum(loads["filesz"], loads["memsz"])
    size = np.uint64(source.size)
    left = np.where(loads["offset"] < size, size - loads["offset"], np.uint64(0))
    present = np.minimum(loads["filesz"], left)

    # Each segment gives up to three ranges: payload, payload beyond the end of the file, memory without any.
    table = np.zeros((len(loads), 3), RANGE)
    table["kind"] = kind
    table["state"] = (State.DATA, State.LOST, State.EXCLUDED)
    table["offset"] = -1
    table["offset"][:, 0] = loads["offset"].astype(np.int64)
    table["bytes"][:, 0] = present
    table["bytes"][:, 1] = loads["filesz"] - present
    table["bytes"][:, 2] = length - loads["filesz"]
    table["address"][:, 0] = addresses
    table["address"][:, 1] = addresses + present
    table["address"][:, 2] = addresses + loads["filesz"]
    # The three lie one behind the other: if the segment as a whole fits into 64 bits, so do they.
    segment = np.zeros(len(loads), RANGE)
    segment["address"], segment["bytes"] = addresses, length
    wrong = wrapping(segment, layout.bits)
    if wrong is not None:
        raise ImageError(
            source.path,
            f"program header {loads['number'][wrong]}",
            f"{length[wrong]} bytes at {addresses[wrong]:#x} pass the end of the {layout.bits}-bit address space",
        )
    ranges = table.reshape(-1)
    ranges = ranges[ranges["bytes"] > 0]
    return ranges, int((~placed).sum()), total_bytes(ranges[ranges["state"] == State.LOST])
