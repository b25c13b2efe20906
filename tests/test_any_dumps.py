"""Owners made at random - formats, ranges, several files, page sizes, domains - against a dict of their pages."""

import struct

import numpy as np
import pytest

import pageshare
from oracle import agrees, census
from pageshare import space
from pageshare.images import ranges

SPACE = 40 * 1024
"""Bytes of address space of each owner."""


def contents(rng, page_size):
    """Memory of few distinct pages, a third of them zero."""
    pool = rng.integers(0, 256, (6, page_size), dtype=np.uint8)
    pool[3:] = pool[0]
    pool[3:, -1] = (1, 2, 3)
    numbers = rng.integers(0, 6, SPACE // page_size)
    memory = pool[numbers]
    memory[rng.random(len(memory)) < 1 / 3] = 0
    return memory.reshape(-1)


def some_ranges(rng):
    """Byte ranges in no order, that may meet and overlap, seldom aligned."""
    for _ in range(rng.integers(1, 6)):
        start = int(rng.integers(0, SPACE - 1))
        end = int(rng.integers(start + 1, SPACE + 1))
        if rng.random() < 0.5:
            start, end = start // 512 * 512, -(-end // 512) * 512
        yield start, min(end, SPACE)


def write_lime(path, memory, ranges):
    with path.open("wb") as file:
        for start, end in ranges:
            file.write(struct.pack("<IIQQQ", 0x4C694D45, 1, start, end - 1, 0) + memory[start:end].tobytes())


def write_elf(path, memory, ranges):
    at = 64 + 56 * (len(ranges) + 1) + 20
    table = struct.pack("<IIQQQQQQ", 4, 0, at - 20, 0, 0, 20, 0, 4)
    payload = b""
    for start, end in ranges:
        table += struct.pack("<IIQQQQQQ", 1, 6, at + len(payload), 0, start, end - start, end - start, 0)
        payload += memory[start:end].tobytes()
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, len(ranges) + 1, 64, 0, 0)
    path.write_bytes(ident + header + table + struct.pack("<III", 5, 0, 0) + b"QEMU\0\0\0\0" + payload)


@pytest.mark.parametrize("seed", range(150))
def test_counts_are_those_of_a_dict(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(ranges, "BLOCK", (1, 3, ranges.BLOCK)[seed % 3])  # these dumps have few ranges
    monkeypatch.setattr(space, "STITCHED_IN_MEMORY", (0, 3 << 12, space.STITCHED_IN_MEMORY)[seed % 5 % 3])
    rng = np.random.default_rng(seed)
    page_size = int(rng.choice([512, 1024, 4096]))
    dumps, owners, partial = {}, {}, 0
    for owner in ("one", "two", "three")[: rng.integers(1, 4)]:
        memory = contents(np.random.default_rng(seed if rng.random() < 0.5 else seed + 1000), page_size)
        held = np.zeros(SPACE, np.bool_)
        dumps[owner] = []
        for part in range(rng.integers(1, 4)):
            path = tmp_path / f"{owner}{part}"
            if rng.random() < 0.2 and not held.any():
                path.write_bytes(memory.tobytes())
                held[:] = True
            else:
                spans = list(some_ranges(rng))
                (write_lime if rng.random() < 0.5 else write_elf)(path, memory, spans)
                for start, end in spans:
                    held[start:end] = True
            dumps[owner].append(path)
        whole = held.reshape(-1, page_size)
        owners[owner] = [row.tobytes() for row in memory.reshape(-1, page_size)[whole.all(axis=1)]]
        partial += int((whole.any(axis=1) & ~whole.all(axis=1)).sum())
    domains = {name: str(rng.integers(0, 2)) for name in owners} if rng.random() < 0.5 else None
    by_domain = None
    if domains:
        by_domain = {d: [name for name in owners if domains[name] == d] for d in sorted(set(domains.values()))}
    threads = int(rng.integers(1, 3))
    report = pageshare.scan(dumps, page_size=page_size, domains=by_domain, threads=threads)
    assert agrees(report.to_dict(), census(owners, domains, page_size))
    assert report.coverage.partial == report.pages.partial == partial
    everything = pageshare.scan(dumps, page_size=page_size, domains=by_domain, policy="random", seed=seed)
    assert (everything.pages, everything.nonzero) == (report.pages, report.nonzero)
