"""How long dumps take to be opened and decoded: ``python benchmarks/opening.py DIR``, the table of docs/formats.md.

DIR is what ``tests/guests/formats.py DIR`` made: one guest in every format. Its raw dump is also compressed, in each
way that files are. Prints seconds for a GiB of memory, the least of several times, in one process.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cramjam
import lz4.frame
import zstandard

import pageshare
from pageshare.space import PageSpace

TIMES = 3
SUFFIXES = ("raw", "elf", "kdump", "lime", "migration", "mapped-ram", "kdump-zlib", "kdump-raw-zlib")
COMPRESS = {
    "gzip": lambda memory: gzip.compress(memory, 6),
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lz4.frame.compress,
    "xz": lambda memory: lzma.compress(memory, preset=1),
    "bzip2": bz2.compress,
}


def avml(memory: bytes) -> bytes:
    """The same as AVML writes it: blocks of 16 MiB, the last byte left out."""
    blocks = []
    for at in range(0, len(memory), 16 << 20):
        end = min(at + (16 << 20), len(memory) - 1)
        stream = bytes(cramjam.snappy.compress(memory[at:end]))
        head = struct.pack("<IIQQQ", 0x4C4D5641, 2, at, end, 0)
        blocks.append(head + stream + len(stream).to_bytes(8, "little"))
    return b"".join(blocks)


def seconds_a_gib(path: Path) -> tuple[str, float]:
    """The format, and how long it takes until every page can be looked at."""
    least = float("inf")
    for _ in range(TIMES):
        started = time.perf_counter()
        with pageshare.open_image(path) as image:
            space = PageSpace([("guest", [image])])
            form = image.format
        least = min(least, time.perf_counter() - started)
    return form, least * 2**30 / (space.pages * space.page_size)


def dumps(folder: Path, work: Path) -> Iterator[Path]:
    """Those that were made, and those that are made of the raw one."""
    yield from sorted(path for path in folder.iterdir() if path.suffix.lstrip(".") in SUFFIXES)
    memory = (folder / "guest.raw").read_bytes()
    for name, compress in {**COMPRESS, "avml": avml}.items():
        path = work / f"raw.{name}"
        path.write_bytes(compress(memory))
        yield path


def main() -> None:
    """Print a line for each dump."""
    with tempfile.TemporaryDirectory() as work:
        for path in dumps(Path(sys.argv[1]), Path(work)):
            form, seconds = seconds_a_gib(path)
            print(f"{path.name:24} {form:16} {seconds:6.2f} s a GiB")


if __name__ == "__main__":
    main()
