"""Whole commands, from the start of the process to its exit, beside `cat`; and what one would write in Python."""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import inputs
from pageshare import PageSpace, open_image
from pageshare.core import populate

SCRIPT = Path(__file__).with_name("peers") / "xxhash_dict.py"
SCAN = [sys.executable, "-m", "pageshare", "scan", "--json", "--quiet"]


def output(*command):
    """What a command prints."""
    return subprocess.run([*map(str, command)], stdout=subprocess.PIPE, check=True).stdout


def cat(paths):
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        subprocess.run(["cat", *map(str, paths)], stdout=nowhere, check=True)


def populate_ns(paths):
    """Nanoseconds to map 4 KiB that are in the page cache: tells how large its folios are."""
    seconds, pages = 0.0, 0
    for path in paths:
        with open_image(path) as image:
            space = PageSpace([("file", [image])])
            started = time.perf_counter()
            populate(space)
            seconds += time.perf_counter() - started
            pages += space.readable
    return seconds * 1e9 / pages


def read_into_cache(paths, folios):
    """Drops files from the page cache and reads them back: through a mapping that wants huge pages, or by `cat`."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if folios == "large":
                with mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ) as mapping:
                    mapping.madvise(mmap.MADV_HUGEPAGE)
                    sum(mapping[at] for at in range(0, len(mapping), 2 << 20))
    cat(paths)


@pytest.fixture(scope="module", params=["large", "as cat leaves them"])
def cached(request):
    """8 GiB in the page cache; what it costs to map a page of it."""
    found = inputs.hard(8)
    read_into_cache(found.paths, request.param)
    return found, request.param, populate_ns(found.paths)


@pytest.mark.parametrize("command", ["scan", "scan --threads 1", "Python, xxhash into a dict"])
@pytest.mark.benchmark(group="end to end")
def test_beside_cat(beside, cached, command):
    found, folios, ns = cached
    commands = {
        "scan": SCAN,
        "scan --threads 1": [*SCAN, "--threads", "1"],
        "Python, xxhash into a dict": [sys.executable, SCRIPT],
    }
    out = beside(
        lambda: output(*commands[command], *found.paths),
        lambda: cat(found.paths),
        rounds=3,
        command=command,
        words=found.words,
        folios=folios,
        populate_ns=ns,
        bytes=sum(path.stat().st_size for path in found.paths),
    )
    truth = json.loads((found.paths[0].parent / "truth.json").read_text())
    if len(found.paths) == truth["spec"]["images"]:
        assert json.loads(out)["pages"]["reclaimed"] == truth["pages"]["reclaimed"]


@pytest.mark.parametrize("command", ["pageshare --version", "import pageshare", "scan of a 64 MiB file"])
@pytest.mark.benchmark(group="start-up")
def test_start_up(beside, command, tmp_path):
    dump = tmp_path / "dump.raw"
    dump.write_bytes(os.urandom(1 << 20) * 64)
    commands = {
        "pageshare --version": [sys.executable, "-m", "pageshare", "--version"],
        "import pageshare": [sys.executable, "-c", "import pageshare"],
        "scan of a 64 MiB file": [*SCAN, dump],
    }
    beside(
        lambda: output(*commands[command]),
        lambda: output(sys.executable, "-c", "pass"),
        rounds=15,
        command=command,
    )


def peak_own_bytes(command):
    """The most memory that a command had resident besides mapped files, sampled every few milliseconds."""
    peak = 0
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            if found := re.search(r"RssAnon:\s+(\d+) kB", status):
                peak = max(peak, int(found[1]) * 1024)
            time.sleep(0.001)
    return peak


@pytest.mark.parametrize("command", ["scan", "scan --policy sequential", "Python, xxhash into a dict"])
@pytest.mark.benchmark(group="memory")
def test_memory(benchmark, command, tmp_path):
    found, page = inputs.hard(8), tmp_path / "page.raw"
    page.write_bytes(b"\1" * 4096)
    commands = {
        "scan": SCAN,
        "scan --policy sequential": [*SCAN, "--policy", "sequential"],
        "Python, xxhash into a dict": [sys.executable, SCRIPT],
    }
    peak = benchmark.pedantic(lambda: peak_own_bytes([*commands[command], *found.paths]), rounds=1)
    fixed = peak_own_bytes([*commands[command], page])
    pages = sum(path.stat().st_size for path in found.paths) // 4096
    benchmark.extra_info.update(command=command, fixed_bytes=fixed, bytes_a_page=(peak - fixed) / pages, pages=pages)
