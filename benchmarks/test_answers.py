"""What a report takes beyond the scan: answers, a saved scan, page sizes; and a report of what was saved.

All beside the scan of the same mapped pages, or a bare XXH3-64 pass over them, by as many threads.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest

import inputs
from commands import peak
from pageshare import limits, saved
from pageshare.answers.ask import Questions, answered
from pageshare.core import Control
from pageshare.inventory import Inventory
from pageshare.scanner import Options, Reading, answered_by_bytes, exact, scan_space
from passes import HashPass, guests_or_skip, mapped

SOURCES = {
    "guests with software": lambda: guests_or_skip("software-raw"),
    "runs, 8 GiB": lambda: inputs.runs(8),
    "hard, 8 GiB": lambda: inputs.hard(8),
}
THREADS = os.cpu_count() or 1


@pytest.fixture(scope="module", params=SOURCES)
def scanned(request):
    """An input, its space, how it is read, and its report."""
    found = SOURCES[request.param]()
    space = mapped(found.paths)
    reading = Reading.of(space, limits.memory())
    return found, space, reading, scan_space(space, Options(seed=1), reading=reading)


def census(space, reading):
    """The scan alone: no inventory, no answers."""
    return exact(space, Options(seed=1), reading, Control()).census


@pytest.mark.benchmark(group="answers")
def test_answers(beside, scanned):
    """The inventory and all that is always answered, beside the census."""
    found, space, reading, report = scanned

    def answer(counted):
        return answered(replace(report, inventory=Inventory.of(space, counted)), Questions(), space=space)

    result = beside(
        answer,
        lambda: census(space, reading),
        rounds=5,
        prepare=lambda: (census(space, reading),),
        what="answers",
        words=found.words,
        pages=space.readable,
        threads=THREADS,
    )
    assert result.answers == report.answers


@pytest.mark.benchmark(group="answers")
def test_saving(beside, scanned, tmp_path):
    """Hashes, kinds, and the file, beside a bare pass."""
    found, space, _, report = scanned
    path = tmp_path / "scan.parquet"
    beside(
        lambda: saved.write(path, report, space),
        HashPass(space, THREADS),
        rounds=3,
        what="saving",
        words=found.words,
        pages=space.readable,
        threads=THREADS,
    )
    most = peak(sys.executable, "-m", "pageshare", "report", "--json", path)
    beside.benchmark.extra_info.update(
        bytes_a_page=path.stat().st_size / space.readable,
        hashes_a_page=16 * len(report.inventory.first_pages()) / space.readable,
        report_memory=most.with_files,
    )


@pytest.mark.benchmark(group="answers")
def test_page_sizes(beside, scanned):
    """From 512 bytes to 2 MiB, beside the census."""
    found, space, reading, report = scanned
    options = Options(seed=1, questions=Questions(page_sizes=True))
    beside(
        lambda: answered_by_bytes("page_sizes", report, space, options, reading=reading, control=Control()),
        lambda: census(space, reading),
        rounds=3,
        what="page sizes",
        words=found.words,
        pages=space.readable,
        threads=THREADS,
    )


@pytest.mark.benchmark(group="a report of a saved scan")
def test_report(beside, tmp_path):
    """Of 16 GiB, from the start of its process to its exit, beside the scan."""
    from commands import SCAN, output

    found, path = inputs.hard(16), tmp_path / "scan.parquet"
    output(*SCAN, "-o", path, *found.paths)
    report = (sys.executable, "-m", "pageshare", "report", "--json", "--quiet", path)
    beside(
        lambda: output(*report),
        lambda: output(*SCAN, *found.paths),
        rounds=3,
        words=found.words,
        bytes=sum(each.stat().st_size for each in found.paths),
        memory=peak(*report).with_files,
    )
