"""A tiny reader of ELF64 cores, sharing nothing with the one under test."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

PAGE = mmap.PAGESIZE


def _segments(core: bytes) -> list[tuple[int, int, int, int]]:
    """(type, offset, address, bytes in the file) of each program header."""
    assert core[:6] == b"\x7fELF\x02\x01"
    phoff, shoff = struct.unpack_from("<QQ", core, 32)
    entry, count = struct.unpack_from("<HH", core, 54)
    if count == 0xFFFF:
        (count,) = struct.unpack_from("<I", core, shoff + 44)
    found = []
    for i in range(count):
        kind, _, offset, address, _, filed, memory, _ = struct.unpack_from("<IIQQQQQQ", core, phoff + i * entry)
        assert kind != 1 or filed == memory
        assert offset + filed <= len(core)
        found.append((kind, offset, address, filed))
    return found


def core_pages(path: Path) -> dict[int, bytes]:
    """The pages of a core by their addresses; none may be there twice."""
    core = path.read_bytes()
    pages: dict[int, bytes] = {}
    for kind, offset, address, size in _segments(core):
        if kind == 1:
            assert address % PAGE == size % PAGE == 0
            for at in range(0, size, PAGE):
                assert address + at not in pages
                pages[address + at] = core[offset + at : offset + at + PAGE]
    return pages


def core_notes(path: Path) -> dict[tuple[str, int], bytes]:
    """The notes of a core by name and type."""
    core = path.read_bytes()
    notes: dict[tuple[str, int], bytes] = {}
    for kind, offset, _, size in _segments(core):
        at = offset
        while kind == 4 and at < offset + size:
            name_size, desc_size, note_type = struct.unpack_from("<III", core, at)
            name = core[at + 12 : at + 12 + name_size].rstrip(b"\0").decode()
            at += 12 + (name_size + 3) // 4 * 4
            notes[name, note_type] = core[at : at + desc_size]
            at += (desc_size + 3) // 4 * 4
    return notes
