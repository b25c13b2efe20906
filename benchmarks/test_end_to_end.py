"""Whole scans, from the start of the process to its exit, beside `cat`; and what one would write in Python."""

from __future__ import annotations

import json
import shutil

import pytest

import inputs
from commands import (
    SCAN,
    SCRIPT,
    cat,
    copy_in_small_folios,
    drop,
    faults,
    mapping,
    needs_disk,
    output,
    read_in_large_folios,
    size_of,
)

COUNTS: dict[int, int] = {}
COMMANDS = {
    "scan": SCAN,
    "scan --threads 1": (*SCAN, "--threads", "1"),
    "Python, xxhash into a dict": SCRIPT,
}


@pytest.fixture(scope="module", params=["large", "as `cat` leaves them", "small"])
def cached(request):
    """8 GiB in the page cache, in folios of some size; and what it costs to map a page of it."""
    found, folder = inputs.hard(8), inputs.folder() / "small"
    paths = found.paths
    if request.param == "small":
        needs_disk(inputs.folder(), size_of(paths))
        folder.mkdir(exist_ok=True)
        paths = copy_in_small_folios(paths, folder)
    elif request.param == "large":
        read_in_large_folios(paths)
    else:
        drop(paths)
    cat(paths)
    # The first time it is not only the folios that count.
    yield paths, request.param, min(mapping(paths).map_ns for _ in range(2))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.benchmark(group="end to end")
def test_beside_cat(beside, cached, command):
    paths, folios, ns = cached
    is_script = COMMANDS[command] == SCRIPT
    out = beside(
        lambda: output(*COMMANDS[command], *paths),
        lambda: cat(paths),
        rounds=2 if is_script else 3,
        warm_up=False,
        command=command,
        folios=folios,
        populate_ns=ns,
        bytes=size_of(paths),
    )
    count = reclaimed(command, out)
    beside.benchmark.extra_info.update(reclaimed=count)
    # All commands find the same.
    assert COUNTS.setdefault(size_of(paths), count) == count


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.benchmark(group="page tables")
def test_page_tables(benchmark, cached, threads):
    """To map and to unmap what `scan` reads; and how often `scan` itself faults for it."""
    paths, folios, _ = cached
    found = benchmark.pedantic(lambda: mapping(paths, threads), rounds=1, warmup_rounds=1)
    scan = (*SCAN, "--threads", threads)
    fault_count = faults(*scan, *paths) - faults(*scan, *paths[:1])
    fewer = size_of(paths) - size_of(paths[:1])
    benchmark.extra_info.update(folios=folios, threads=threads, **vars(found), faults=fault_count * 65536 / fewer)


def reclaimed(command, out):
    """Pages that sharing would give back, as a command's output has it."""
    if command.startswith("scan"):
        return json.loads(out)["pages"]["reclaimed"]
    return int(out.split()[1])
