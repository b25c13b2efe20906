"""A guest's pages out of its dumps, by a reader that shares nothing with the package's."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

PT_LOAD = 1
DEVICES = range(0xE000_0000, 1 << 32)


def elf_loads(path: Path) -> Iterator[tuple[int, int, int]]:
    """(physical address, offset, bytes) of each LOAD of an ELF64 core."""
    with path.open("rb") as file:
        header = file.read(64)
        assert header[:6] == b"\x7fELF\x02\x01"
        (table,) = struct.unpack_from("<Q", header, 32)
        entry, count = struct.unpack_from("<HH", header, 54)
        for i in range(count):
            file.seek(table + i * entry)
            kind, _, offset, _, address, length, in_memory, _ = struct.unpack("<IIQQQQQQ", file.read(56))
            if kind == PT_LOAD:
                assert length == in_memory
                yield address, offset, length


def elf_pages(path: Path, page_size: int = 4096) -> dict[int, bytes]:
    """Every page of RAM that lies whole in the file, by its number (guest-physical address / page size)."""
    pages = {}
    with path.open("rb") as file:
        for address, offset, length in elf_loads(path):
            assert address % page_size == length % page_size == 0
            if address not in DEVICES:
                file.seek(offset)
                for number in range(address // page_size, (address + length) // page_size):
                    page = file.read(page_size)
                    if len(page) == page_size:
                        pages[number] = page
    return pages


def raw_pages(path: Path) -> dict[int, bytes]:
    """The pages of a file that is memory from address 0 on."""
    memory = path.read_bytes()
    return {at // 4096: memory[at : at + 4096] for at in range(0, len(memory), 4096)}
