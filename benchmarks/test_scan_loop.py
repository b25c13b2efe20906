"""The census and the frame table beside a bare XXH3-64 pass over the same mapped pages."""

from __future__ import annotations

import os

import numpy as np
import pytest

import inputs
from pageshare import FrameTable, census, kernels
from passes import HashPass, mapped

SOURCES = {
    "guests-raw": lambda: inputs.guests("raw"),
    "guests-elf": lambda: inputs.guests("elf"),
    "hard": inputs.hard,
    "runs": inputs.runs,
}


def space_of(name):
    """The space of an input, mapped; skips where it can't be had."""
    try:
        found = SOURCES[name]()
    except RuntimeError as error:
        pytest.skip(str(error))
    return found, mapped(found.paths)


@pytest.mark.parametrize("threads", sorted({1, 2, os.cpu_count() or 1}))
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.benchmark(group="census")
def test_census(beside, source, threads):
    found, space = space_of(source)
    result = beside(
        lambda: census(space, threads=threads),
        HashPass(space, threads),
        group_by=source,
        words=found.words,
        threads=threads,
        pages=space.readable,
    )
    stats, tally = result.stats, result.tally
    beside.benchmark.extra_info.update(
        zero=tally.zero,
        shared=tally.shared,
        unique=tally.hints,
        bytes_a_page=stats.bytes / space.readable,
        must_read=(tally.zero + tally.shared) / space.readable,
        read=(stats.zero_tests + stats.compares + tally.kept + stats.hashes) / space.readable,
    )
    assert tally.zero + tally.shared + tally.hints == space.readable


@pytest.mark.parametrize("kernel", kernels())
@pytest.mark.parametrize("source", ["guests-raw", "guests-elf", "hard"])
@pytest.mark.benchmark(group="census by kernel")
def test_census_by_kernel(beside, source, kernel):
    found, space = space_of(source)
    beside(
        lambda: census(space, threads=1, kernel=kernel),
        HashPass(space, 1, kernel),
        rounds=5,
        group_by=source,
        words=found.words,
        kernel=kernel,
        pages=space.readable,
    )


@pytest.mark.parametrize("order", ["in order", "at random"])
@pytest.mark.parametrize("source", ["guests-raw", "hard"])
@pytest.mark.benchmark(group="table")
def test_table(beside, source, order):
    found, space = space_of(source)
    pages = np.random.default_rng(1).permutation(space.readable).astype(np.uint32)
    if order == "in order":
        pages.sort()

    def scan():
        table = FrameTable(space)
        for first in range(0, len(pages), 1 << 14):
            table.scan(pages[first : first + (1 << 14)])
        return table.stats().bytes

    table_bytes = beside(
        scan,
        HashPass(space),
        rounds=5,
        group_by=source,
        words=found.words,
        order=order,
        pages=space.readable,
    )
    beside.benchmark.extra_info.update(bytes_a_page=table_bytes / space.readable)
