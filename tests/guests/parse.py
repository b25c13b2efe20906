"""A guest's pages out of its dumps, by a reader that shares nothing with the package's."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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
                assert length <= in_memory
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


def lime_ranges(path: Path) -> Iterator[tuple[int, bytes]]:
    """(address, bytes) of each range that LiME wrote, in one zlib stream or as it is."""
    dump, at = path.read_bytes(), 0
    if not dump.startswith(b"EMiL"):
        dump = zlib.decompress(dump)
    while at < len(dump):
        magic, version, first, last, _ = struct.unpack_from("<4sIQQQ", dump, at)
        assert (magic, version) == (b"EMiL", 1)
        at += 32
        memory = dump[at : at + last - first + 1]
        assert len(memory) == last - first + 1
        yield first, memory
        at += len(memory)


def lime_pages(path: Path) -> dict[int, bytes]:
    """The pages that lie whole in a range."""
    return {
        (first + at) // 4096: memory[at : at + 4096]
        for first, memory in lime_ranges(path)
        for at in range(-first % 4096, len(memory) - 4095, 4096)
    }


def migration_pages(path: Path) -> dict[int, bytes]:
    """The pages of pc.ram in a QEMU migration stream, or in one with mapped-ram; the last copy of each."""
    pages: dict[int, bytes] = {}
    with path.open("rb") as file:

        def number(size: int) -> int:
            return int.from_bytes(file.read(size), "big")

        def text() -> str:
            return file.read(number(1)).decode()

        assert (file.read(4), number(4)) == (b"QEVM", 3)
        block = ""
        while (section := number(1)) != 4:  # the devices' state, which says nothing about its length
            if section == 7:  # the machine's name
                file.read(number(4))
                continue
            if section == 5:  # and what it can do
                text()
                number(4)
                for _ in range(number(4)):
                    text()
                continue
            if section == 8:  # a command
                number(2)
                file.read(number(2))
                continue
            assert section in (1, 2, 3)  # a section's beginning, middle and end
            start = number(4)
            if section == 1:
                assert text() == "ram"
                number(8)  # instance and version
            while not (flags := (record := number(8)) & 0xFFF) & 0x10:
                if flags == 4:
                    pages |= _blocks(file, record & ~0xFFF)
                    continue
                if flags & 0x200:
                    continue
                assert flags & 0x0A
                if not flags & 0x20:
                    block = text()
                page = file.read(1) * 4096 if flags & 2 else file.read(4096)
                if block == "pc.ram":
                    pages[record >> 12] = page
            assert (number(1), number(4)) == (0x7E, start)
    return pages


def _blocks(file: BinaryIO, total: int) -> dict[int, bytes]:
    """What the list of RAM blocks holds: with mapped-ram the pages of pc.ram, else none."""
    pages: dict[int, bytes] = {}
    while total > 0:
        name = file.read(file.read(1)[0])
        (length,) = struct.unpack(">Q", file.read(8))
        total -= length
        here = file.tell()
        version, page_size, bitmap_at, pages_at = struct.unpack(">IQQQ", file.read(28))
        if (version, page_size) != (1, 4096):
            file.seek(here)
            continue
        if name == b"pc.ram":
            file.seek(bitmap_at)
            bitmap = int.from_bytes(file.read(length // 4096 // 8), "little")
            file.seek(pages_at)
            for number in range(length // 4096):
                page = file.read(4096)
                pages[number] = page if bitmap >> number & 1 else bytes(4096)
        file.seek(pages_at + length)
    return pages
