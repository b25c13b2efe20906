"""Dumps that are not in memory, or don't fit into it, beside `cat`."""

from __future__ import annotations

import json
import os
import shutil

import pytest

import inputs
from commands import SCAN, cat, drop, needs_disk, output, size_of
from control_group import control_group
from pageshare import synth

MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.benchmark(group="cold")
def test_cold_cache(beside):
    """Files that are not in the page cache; that of the host may keep them."""
    paths = inputs.hard(2).paths
    beside(
        lambda: output(*SCAN, *paths),
        lambda: cat(paths),
        prepare=lambda: drop(paths) or (),
        rounds=4,
        warm_up=False,
        in_turn=True,
        input="2 GiB, nothing of it in the page cache",
        readings=1,
        bytes=size_of(paths),
    )


@pytest.mark.benchmark(group="cold")
def test_repeated(beside):
    """The same files again under other names: more than memory, but not on disk. Beside `cat` of all of it."""
    paths = inputs.hard(16).paths
    if size_of(paths) > MEMORY * 3 // 4:
        pytest.skip("not even one copy stays in this machine's page cache")
    again = [f"{part}{i}={path}" for part in "ab" for i, path in enumerate(paths)]
    document = json.loads(
        beside(
            lambda: output(*SCAN, *again),
            lambda: cat(paths * 2),
            rounds=1,
            warm_up=False,
            input=f"{2 * size_of(paths) >> 30} GiB that are the same {size_of(paths) >> 30} GiB twice",
            readings=1,
            bytes=2 * size_of(paths),
        )
    )
    assert document["method"] == "census"
    pages = document["pages"]
    assert pages["reclaimed"] >= pages["known"] // 2


@pytest.fixture(scope="module")
def too_large():
    """A dense input larger than memory, and what makes a process see so little: made, and removed."""
    if inputs.QUICK:
        with control_group(256 << 20) as enter:
            yield inputs.made("too-large", "", 4, 128 << 20, seed=3).paths, enter
        return
    into = inputs.folder() / "too-large"
    size = -(-MEMORY // 3 >> 30) << 30
    needs_disk(inputs.folder(), size * 4)
    try:
        synth.make(synth.Spec(images=4, size=size, seed=3), into, force=True)
        yield tuple(sorted(into.glob("*.raw"))), None
    finally:
        shutil.rmtree(into, ignore_errors=True)


@pytest.mark.benchmark(group="cold")
def test_larger_than_memory(beside, too_large):
    """Dense, and read again and again in file order; beside one reading by `cat`."""
    paths, enter = too_large
    document = json.loads(
        beside(
            lambda: output(*SCAN, *paths, enter=enter),
            lambda: cat(paths, enter),
            rounds=1,
            warm_up=False,
            input=f"{size_of(paths) / 2**30:.3g} GiB, more than there is memory",
            bytes=size_of(paths),
        )
    )
    beside.benchmark.extra_info.update(readings=document["readings"])
    truth = json.loads((paths[0].parent / "truth.json").read_text())
    assert document["method"] == "streamed-census"
    assert document["pages"]["reclaimed"] == truth["pages"]["reclaimed"]
