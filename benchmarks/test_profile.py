"""Where a process spends its time, by samples of perf(1)."""

from __future__ import annotations

import collections
import shutil
import subprocess

import pytest

import inputs
from commands import SCAN

COMMANDS = {
    "scan --threads 1": ("--threads", "1"),
    "scan --policy sequential": ("--policy", "sequential"),
    "scan --policy random": ("--policy", "random"),
}
KERNEL = "[kernel.kallsyms]"


def samples(data):
    """The part of each function of the core; of the kernel and of all else the sum."""
    fields = ["--sort", "dso,sym", "-F", "overhead,dso,sym", "-t", "\t", "-g", "none"]
    report = ["perf", "report", "-i", data, "--stdio", *fields]
    lines = subprocess.run(report, capture_output=True, check=True, text=True).stdout.splitlines()
    parts: collections.Counter[str] = collections.Counter()
    for line in lines:
        if line.startswith("#") or line.count("\t") != 2:
            continue
        part, where, symbol = (field.strip() for field in line.split("\t"))
        ours = where.startswith("_core")
        # Compilers add to the names of functions of which they made variants: tally.isra.0
        function = symbol.partition("] ")[2].partition(".")[0]
        name = function if ours else "the kernel" if where == KERNEL else "Python and libraries"
        parts[name] += float(part.rstrip("%")) / 100
    return parts


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.benchmark(group="profile")
def test_profile(benchmark, command, tmp_path):
    if not shutil.which("perf"):
        pytest.skip("perf is not installed (Debian: linux-perf)")
    data = tmp_path / "perf.data"
    run = ["perf", "record", "-q", "-o", data, "--", *SCAN, *COMMANDS[command], *inputs.hard(8).paths]
    done = benchmark.pedantic(
        lambda: subprocess.run([*map(str, run)], capture_output=True, check=False), rounds=1, iterations=1
    )
    if done.returncode:
        pytest.skip(f"perf can't record here: {done.stderr.decode().strip().splitlines()[-1]}")
    parts = samples(str(data))
    assert sum(parts.values()) == pytest.approx(1, abs=0.05)
    benchmark.extra_info.update(command=command, parts=dict(parts.most_common(9)))
