"""How time grows with size: nanoseconds a page from 1 to 16 GiB, and a terabyte of holes."""

from __future__ import annotations

import os

import pytest

import inputs
from commands import SCAN, output
from pageshare import census, scan
from passes import HashPass, mapped


@pytest.mark.parametrize("gib", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.benchmark(group="growth")
def test_growth(beside, gib, threads):
    found = inputs.hard(gib)
    if sum(path.stat().st_size for path in found.paths) > os.sysconf("SC_PHYS_PAGES") * 4096 * 3 // 4:
        pytest.skip("does not stay in this machine's page cache")
    space = mapped(found.paths)
    beside(
        lambda: census(space, threads=threads),
        HashPass(space, threads),
        rounds=2 if gib > 8 else 3,
        words=found.words,
        gib=gib,
        threads=threads,
        pages=space.readable,
    )


@pytest.fixture
def part(tmp_path, mib):
    """The first so many MiB of the hard case."""
    path = tmp_path / "part.raw"
    with inputs.hard().paths[0].open("rb") as file:
        path.write_bytes(file.read(mib << 20))
    return path


@pytest.mark.parametrize("mib", [64, 128, 256])
@pytest.mark.benchmark(group="small inputs")
def test_small_inputs(beside, part, mib):
    """By as many threads as a census takes of itself, beside one: smaller ones get one thread anyway."""
    space = mapped([part])
    found = beside(lambda: census(space), lambda: census(space, threads=1), rounds=21, mib=mib, pages=space.readable)
    beside.benchmark.extra_info.update(threads=found.stats.threads)


@pytest.mark.parametrize("mib", [64, 256])
@pytest.mark.benchmark(group="small commands")
def test_small_commands(beside, part, mib):
    """`scan` beside `scan --threads 1`."""
    beside(lambda: output(*SCAN, part), lambda: output(*SCAN, "--threads", "1", part), rounds=7, mib=mib)


@pytest.mark.benchmark(group="holes")
def test_a_terabyte_with_a_gigabyte_in_it(beside, tmp_path):
    """Beside the same pages without the holes."""
    source = inputs.hard().paths[0]
    size = min(source.stat().st_size, 1 << 30)
    dense, sparse = tmp_path / "dense.raw", tmp_path / "sparse.raw"
    with source.open("rb") as data, dense.open("wb") as one, sparse.open("wb") as other:
        for at in range(0, size, 2 << 20):
            part = data.read(2 << 20)
            one.write(part)
            other.seek(at << 10)
            other.write(part)
        other.truncate(1 << 40)
    beside(lambda: scan(sparse), lambda: scan(dense), rounds=5, bytes=size)
    assert scan(sparse).nonzero == scan(dense).nonzero
