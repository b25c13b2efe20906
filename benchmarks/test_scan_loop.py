"""The census beside a bare XXH3-64 pass over the same mapped pages."""

from __future__ import annotations

import functools
import os

import pytest

import inputs
from pageshare import census, kernels
from passes import HashPass, guests_or_skip, mapped, reading_ns

GUESTS = ("software-raw", "software-elf", "guests-raw", "guests-elf")
SOURCES = {
    **{name: functools.partial(guests_or_skip, name) for name in GUESTS},
    "hard, 2 GiB": inputs.hard,
    "hard, 8 GiB": lambda: inputs.hard(8),
    "runs, 2 GiB": inputs.runs,
    "runs, 8 GiB": lambda: inputs.runs(8),
}


def space_of(name):
    """An input and its space, mapped."""
    found = SOURCES[name]()
    return found, mapped(found.paths)


@pytest.mark.parametrize("threads", sorted({1, 2, os.cpu_count() or 1}))
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.benchmark(group="census")
def test_census(beside, source, threads):
    found, space = space_of(source)
    result = beside(
        lambda: census(space, threads=threads),
        HashPass(space, threads),
        rounds=3 if space.readable * space.page_size > 4 * inputs.GIB else 7,
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
        reading_ns=reading_ns(threads),
        stages={name: getattr(stats, f"{name}_ns") / space.readable for name in ("look", "group", "verify", "tally")},
        must_read=(tally.zero + tally.shared) / space.readable,
        read=(stats.zero_tests + stats.compares + tally.kept + stats.hashes) / space.readable,
    )
    assert tally.zero + tally.shared + tally.hints == space.readable


@pytest.mark.parametrize("kernel", kernels())
@pytest.mark.parametrize("source", [*GUESTS, "hard, 2 GiB"])
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
