"""Formats: what it takes to open a dump, in time and memory; its census, beside that of its pages as a raw dump."""

from __future__ import annotations

import struct
import time

import pytest

import inputs
from commands import SCAN, peak
from pageshare import PageSpace, census, open_image
from passes import mapped

SIZE = (4 << 20) if inputs.QUICK else (1 << 30)


def elf(file, ranges, size, gap=0):
    """An ELF core of so many ranges of ``size`` bytes; their payload begins ``gap`` bytes after the headers."""
    # More segments than e_phnum holds are counted in section 0 (elf(5), PN_XNUM).
    at = 64 + 56 * ranges
    many = ranges >= 0xFFFF
    file.write(b"\x7fELF\x02\x01\x01".ljust(16, b"\0"))
    file.write(struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, at, 0, 64, 56, min(ranges, 0xFFFF), 64, 1, 0))
    first = at + 64 + gap
    for i in range(ranges):
        file.write(struct.pack("<IIQQQQQQ", 1, 6, first + i * size, 0, 2 * i * size, size, size, 0))
    file.write(struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 1, 0, ranges if many else 0, 0, 0))
    file.write(bytes(gap))


def write(path, source, form, ranges, gap=0):
    """The first SIZE bytes of ``source`` as a dump of this format, in so many ranges with holes between them."""
    size = SIZE // ranges
    with source.open("rb") as pages, path.open("wb") as file:
        if form == "elf":
            elf(file, ranges, size, gap)
        for i in range(ranges):
            if form == "lime":
                file.write(struct.pack("<IIQQQ", 0x4C694D45, 1, 2 * i * size, (2 * i + 1) * size - 1, 0))
            if form == "sparse":
                file.seek(2 * i * size)
            file.write(pages.read(size))
    return path


MANY = 1 << (8 if inputs.QUICK else 16)
DUMPS = {
    "raw": ("raw", 1),
    "raw with holes": ("sparse", MANY),
    "ELF core": ("elf", 1),
    "ELF core, payload at 0x508": ("elf", 1, 0x508 - 64 - 56 - 64),
    "ELF core of many ranges": ("elf", MANY),
    "LiME": ("lime", 1),
    "LiME of many ranges": ("lime", MANY),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write(tmp_path_factory.mktemp("readers") / "raw", inputs.hard().paths[0], "raw", 1)


@pytest.mark.parametrize("dump", DUMPS)
@pytest.mark.benchmark(group="readers")
def test_reader(beside, dump, raw, tmp_path):
    form, ranges, *gap = DUMPS[dump]
    path = write(tmp_path / "dump", raw, form, ranges, *gap)
    opening = []
    for _ in range(5):
        started = time.perf_counter()
        with open_image(path) as image:
            PageSpace([("dump", [image])])
        opening.append(time.perf_counter() - started)
    space, plain = mapped([path]), mapped([raw])
    result = beside(
        lambda: census(space, threads=1),
        lambda: census(plain, threads=1),
        rounds=5,
        dump=dump,
        ranges=ranges,
        open_seconds=min(opening),
        own=peak(*SCAN, path).own,
        pages=plain.readable,
    )
    assert result.tally.shared == census(plain).tally.shared
