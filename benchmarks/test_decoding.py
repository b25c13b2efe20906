"""Compressed kdumps: what it takes to decode one, beside a bare loop of Python that calls the same package.

The bare loop has its blocks in memory and lets go of what they hold; the reader gets descriptors and blocks from a file
and puts the pages into the spool. As many processes do the one as the other.
"""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

import inputs
from pageshare import open_image
from pageshare.images.blocks import decode
from passes import guests_or_skip

PAGE = 4096
PAGES = 1 << (10 if inputs.QUICK else 18)
FLAGS = {"zlib": 1, "LZO": 2, "snappy": 4, "zstd": 0x20}

# What a bare loop calls, with one argument, and what compresses for it: kdump's own ways are tried in the tests.
CODECS = {
    "zlib": """
import zlib
from isal import isal_zlib
def compress(page): return zlib.compress(page, 1)
def loop(blocks):
    decompress = isal_zlib.decompress
    for block in blocks: decompress(block, 15, 4096)
""",
    "LZO": """
import lzallright
compress = lzallright.LZOCompressor().compress
def loop(blocks):
    decompress = lzallright.LZOCompressor.decompress
    for block in blocks: decompress(block, 4096)
""",
    "snappy": """
import cramjam
def compress(page): return bytes(cramjam.snappy.compress_raw(page))
def loop(blocks):
    decompress = cramjam.snappy.decompress_raw
    for block in blocks: decompress(block)
""",
    "zstd": """
import zstandard
compress = zstandard.ZstdCompressor().compress
def loop(blocks):
    decompress = zstandard.ZstdDecompressor().decompress
    for block in blocks: decompress(block)
""",
}

LOOP = """
import sys, time
path, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sizes = open(path + ".sizes").read().split()[:last]
file = open(path, "rb")
file.seek({data_at} + sum(map(int, sizes[:first])))
blocks = [file.read(int(size)) for size in sizes[first:last]]
print("ready", flush=True)
for _ in sys.stdin:
    loop(blocks)
    print("done", flush=True)
"""


def pages():
    """Pages of guests that are no zeros, so many; the same again where there are not enough."""
    memory = np.concatenate([np.fromfile(path, np.uint8) for path in guests_or_skip("guests-raw").paths[:2]])
    memory = memory[: len(memory) // PAGE * PAGE].reshape(-1, PAGE)
    memory = memory[memory.any(axis=1)]
    return [memory[number % len(memory)].tobytes() for number in range(PAGES)]


def write(path, codec):
    """A kdump of pages that are all compressed, those that do not get smaller left out; how many there are."""
    names = {}
    exec(CODECS[codec], names)
    known = {}
    blocks = [known.get(page) or known.setdefault(page, names["compress"](page)) for page in pages()]
    blocks = [block for block in blocks if len(block) < PAGE]
    bitmap = -(-len(blocks) // (8 * PAGE)) * PAGE
    header = struct.pack("<8si", b"KDUMP   ", 6).ljust(424, b"\0")
    header += struct.pack("<IiiII", 0, PAGE, 1, 2 * bitmap // PAGE, len(blocks))
    sub_header = bytes(96) + struct.pack("<Q", len(blocks))
    bits = np.packbits(np.ones(len(blocks), np.uint8), bitorder="little").tobytes().ljust(bitmap, b"\0")
    table = np.zeros(len(blocks), [("offset", "<u8"), ("size", "<u4"), ("flags", "<u4"), ("page_flags", "<u8")])
    table["size"], table["flags"] = [len(block) for block in blocks], FLAGS[codec]
    data_at = 2 * PAGE + 2 * bitmap + table.nbytes
    table["offset"] = data_at + np.cumsum(table["size"], dtype=np.uint64) - table["size"]
    parts = [header.ljust(PAGE, b"\0"), sub_header.ljust(PAGE, b"\0"), bits, bits, table.tobytes()]
    path.write_bytes(b"".join([*parts, *blocks]))
    path.with_name(path.name + ".sizes").write_text(" ".join(map(str, table["size"].tolist())))
    return len(blocks), data_at


class Loops:
    """Processes that run the bare loop, each over its part of the blocks, when they are told to."""

    def __init__(self, path, codec, blocks, data_at, workers):
        edges = [blocks * number // workers for number in range(workers + 1)]
        script = CODECS[codec] + LOOP.format(data_at=data_at)
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(path), str(first), str(last)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for first, last in itertools.pairwise(edges)
        ]
        self.wait()

    def wait(self):
        """Until each has said a line."""
        for process in self.processes:
            assert process.stdout.readline()

    def __call__(self):
        """Once over all blocks."""
        for process in self.processes:
            process.stdin.write("\n")
            process.stdin.flush()
        self.wait()

    def close(self):
        """End them."""
        for process in self.processes:
            process.communicate()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.benchmark(group="decoding")
def test_decoding(beside, tmp_path, codec, workers):
    if workers > (os.cpu_count() or 1):
        pytest.skip(f"{workers} processes need as many CPUs")
    path = tmp_path / "dump"
    blocks, data_at = write(path, codec)
    loops = Loops(path, codec, blocks, data_at, workers)

    def run():
        with open_image(path) as image:
            spool, failed = decode(image.compressed, workers=workers, progress=lambda _done: None)
            spool.close()
        return len(failed.blocks)

    starts = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import pageshare.images.blocks"], check=True)
        starts.append(time.perf_counter() - started)
    try:
        lost = beside(
            run, loops, rounds=5, codec=codec, workers=workers, pages=blocks, compressed=path.stat().st_size,
            start_seconds=min(starts),
        )
    finally:
        loops.close()
    assert lost == 0
