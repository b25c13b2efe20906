"""Whole commands: to run them, to run `cat` beside them, and to see how much memory they take."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pageshare import PageSpace, open_image
from pageshare._core import ffi, lib
from pageshare.core._native import native_space
from passes import together

PEERS = Path(__file__).with_name("peers")
SCAN = (sys.executable, "-m", "pageshare", "scan", "--json", "--quiet")
SCRIPT = (sys.executable, str(PEERS / "xxhash_dict.py"))


def output(*command: object, enter: Callable[[], None] | None = None) -> str:
    """What a command prints; ``enter`` is called in its process first."""
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, check=True, preexec_fn=enter)
    return done.stdout.decode()


def cat(paths: Sequence[Path], enter: Callable[[], None] | None = None) -> None:
    """Read files from end to end, by ``cat FILES >/dev/null``."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        subprocess.run(["cat", *map(str, paths)], stdout=nowhere, check=True, preexec_fn=enter)


def size_of(paths: Sequence[Path]) -> int:
    """Bytes of all of them."""
    return sum(path.stat().st_size for path in paths)


def needs_disk(folder: Path, size: int) -> None:
    """Skip unless a folder's disk has room for so many bytes, and some more."""
    free = shutil.disk_usage(folder).free
    if free < size + (4 << 30):
        pytest.skip(f"needs {size >> 30} GiB and some of disk in {folder}; {free >> 30} GiB are free")


def drop(paths: Sequence[Path]) -> None:
    """Take files out of the page cache."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_in_large_folios(paths: Sequence[Path]) -> None:
    """Read files into the page cache through a mapping that asks for huge pages."""
    drop(paths)
    for path in paths:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
            mapping.madvise(mmap.MADV_HUGEPAGE)
            sum(mapping[at] for at in range(0, len(mapping), 2 << 20))


def copy_in_small_folios(paths: Sequence[Path], into: Path) -> list[Path]:
    """Copies that lie in the page cache in folios of 4 KiB: they were written in such blocks."""
    copies = [into / path.name for path in paths]
    for path, copy in zip(paths, copies, strict=True):
        subprocess.run(["dd", f"if={path}", f"of={copy}", "bs=4k", "status=none", "conv=fsync"], check=True)
    return copies


@dataclass(frozen=True)
class Mapping:
    """What page tables cost: nanoseconds to map and to unmap 4 KiB of files that are in the page cache, and how many
    entries of the page table that takes. ``map_ns`` tells how large the cache's folios are."""

    map_ns: float
    unmap_ns: float
    entries: float


def mapping(paths: Sequence[Path], threads: int = 1) -> Mapping:
    """Map files and unmap them again, as a scan does, each thread its part of them."""
    with contextlib.ExitStack() as stack:
        space = PageSpace([(path.name, [stack.enter_context(open_image(path))]) for path in paths])
        native, pages = native_space(space), space.readable
        laps = [time.perf_counter()]
        together(lambda low, high: lib.ps_space_populate(native.pointer, low, high - low, ffi.NULL), pages, threads)
        laps.append(time.perf_counter())
        entries = _entries(paths)
        laps.append(time.perf_counter())
        together(lambda low, high: lib.ps_space_let_go(native.pointer, low, high - low), pages, threads)
        laps.append(time.perf_counter())
    return Mapping((laps[1] - laps[0]) * 1e9 / pages, (laps[3] - laps[2]) * 1e9 / pages, entries / pages)


def _entries(paths: Sequence[Path]) -> int:
    """Entries of this process's page table for these files: one for each 2 MiB where it can be (proc(5), smaps)."""
    huge = small = 0
    for area in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE):
        if any(area.partition("\n")[0].endswith(f" {path}") for path in paths):
            kib = {name: int(number) for name, number in re.findall(r"^(\w+): +(\d+) kB$", area, re.MULTILINE)}
            huge += kib.get("FilePmdMapped", 0) // 2048
            small += (kib["Rss"] - kib.get("FilePmdMapped", 0)) // 4
    return huge + small


def faults(*command: object) -> int:
    """Page faults of a command that were served from memory."""
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_minflt


@dataclass(frozen=True)
class Peak:
    """The most bytes that a process had resident: of its ``own``, and with mapped ``files``."""

    own: int
    with_files: int


def peak(*command: object) -> Peak:
    """Run a command and look at its memory every millisecond."""
    own = with_files = 0
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            kib = {name: int(number) for name, number in re.findall(r"(\w+):\s+(\d+) kB", status)}
            own = max(own, kib.get("RssAnon", 0) * 1024)
            with_files = max(with_files, kib.get("VmHWM", 0) * 1024)
            time.sleep(0.001)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return Peak(own, with_files)


def bytes_a_page(
    *command: object, less: Sequence[Path], more: Sequence[Path], most: Peak | None = None
) -> tuple[float, float]:
    """Bytes of its own that a command has at its peak for each page of its files, and fixed ones: from two runs.

    ``most`` is the peak on ``more``, if that is known.
    """
    pages = size_of(less) // 4096, size_of(more) // 4096
    own = peak(*command, *less).own, (most or peak(*command, *more)).own
    each = (own[1] - own[0]) / (pages[1] - pages[0])
    return each, own[0] - each * pages[0]
