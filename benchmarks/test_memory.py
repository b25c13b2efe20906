"""The most memory that a command has resident, besides mapped files and with them."""

from __future__ import annotations

import pytest

import inputs
from commands import SCAN, SCRIPT, bytes_a_page, peak, size_of

COMMANDS = {
    "scan": SCAN,
    "scan --policy sequential": (*SCAN, "--policy", "sequential"),
    "Python, xxhash into a dict": SCRIPT,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.benchmark(group="memory")
def test_memory(benchmark, command):
    """16 GiB: where that is more than half of memory, mapped pages are let go behind the scan."""
    paths = inputs.hard(16).paths
    most = benchmark.pedantic(lambda: peak(*COMMANDS[command], *paths), rounds=1)
    each, fixed = bytes_a_page(*COMMANDS[command], less=paths[:2], more=paths, most=most)
    benchmark.extra_info.update(
        command=command,
        bytes=size_of(paths),
        fixed_bytes=fixed,
        bytes_a_page=each,
        own=most.own,
        with_files=most.with_files,
    )
