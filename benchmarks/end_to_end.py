"""Whole commands side by side on the same files: pageshare scan, cat, and a Python script with a dict of hashes.

    python benchmarks/end_to_end.py [--rounds N] FILE...

Rounds alternate between the commands, so that a neighbour's load falls on all of them; medians are shown. Files should
fit into the page cache. Prints, beside the ratios, what mapping a page of these files costs (large folios: under 30 ns;
small ones: over 150), what start-up costs, and the memory that the scan took.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = Path(__file__).with_name("peers") / "xxhash_dict.py"


def timed(command: list[str]) -> tuple[float, bytes]:
    """Seconds from start to exit, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - started, done.stdout


def cat(files: list[str]) -> float:
    """Seconds of ``cat FILES >/dev/null``."""
    started = time.perf_counter()
    with Path(os.devnull).open("wb") as nowhere:
        subprocess.run(["cat", *files], stdout=nowhere, check=True)
    return time.perf_counter() - started


def populate_ns(path: str) -> float:
    """Nanoseconds a 4 KiB page to map a whole file that is in the page cache."""
    from pageshare import PageSpace, open_image
    from pageshare.core import populate

    with open_image(path) as image:
        space = PageSpace([("file", [image])])
        started = time.perf_counter()
        populate(space)
        seconds = time.perf_counter() - started
        return seconds * 1e9 / (space.readable * space.page_size / 4096)


def peak_own_bytes(command: list[str]) -> int:
    """The most memory that a command had resident besides mapped files, sampled every few milliseconds."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            if found := re.search(r"RssAnon:\s+(\d+) kB", status):
                peak = max(peak, int(found[1]) * 1024)
            time.sleep(0.002)
    return peak


def main() -> None:
    """Run all of them in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.NamedTemporaryFile() as page:
        page.write(b"\1" * 4096)
        page.flush()
        compare(args.files, args.rounds, page.name)


def compare(files: list[str], rounds: int, page: str) -> None:
    """The table; ``page`` is a file of one page."""
    scan = [sys.executable, "-m", "pageshare", "scan", "--json", "--quiet"]
    times: dict[str, list[float]] = {}
    scanned: list[dict[str, object]] = []
    cat(files)  # into the page cache
    for _ in range(rounds):
        times.setdefault("cat FILES >/dev/null", []).append(cat(files))
        for threads in ("2", "1"):
            seconds, out = timed([*scan, "--threads", threads, *files])
            scanned.append(json.loads(out))
            times.setdefault(f"pageshare scan --threads {threads}", []).append(seconds)
        times.setdefault("the same of one page (start-up)", []).append(timed([*scan, page])[0])
        seconds, out = timed([sys.executable, str(SCRIPT), *files])
        times.setdefault("Python, xxhash into a dict", []).append(seconds)
    first = scanned[0]
    pages = int(first["readable"])  # type: ignore[call-overload]
    size = sum(Path(file).stat().st_size for file in files)
    print(f"{size / 2**30:.2f} GiB in {len(files)} files, {pages:,} pages to be read; {os.cpu_count()} CPUs")
    print(f"mapping costs {statistics.median(populate_ns(f) for f in files):.0f} ns a page")
    reference = statistics.median(times["cat FILES >/dev/null"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:32} {median:7.2f} s ({min(seconds):.2f} to {max(seconds):.2f})  {median / reference:5.2f} x cat")
    figures = first["pages"], first["nonzero"]
    assert all((each["pages"], each["nonzero"]) == figures for each in scanned)
    print(f"counts: {first['pages']}; the script: {out.decode().strip()} (pages, contents, reclaimed)")
    own, fixed = peak_own_bytes([*scan, *files]), peak_own_bytes([*scan, page])
    own_mib, fixed_mib = own / 2**20, fixed / 2**20
    print(f"memory beyond the mapped files: {own_mib:.0f} MiB at the peak; {fixed_mib:.0f} MiB on a single page")
    print(f"  {(own - fixed) / pages:.2f} bytes a page; the table has {int(first['table_bytes']) / pages:.2f}")


if __name__ == "__main__":
    main()
