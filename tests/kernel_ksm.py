"""The kernel's KSM over memory whose contents a test chooses, pass by pass. Needs root, and KSM to itself.

A child process sets KSM up, and puts its settings back however it ends; it holds the memory too, unless that is other
processes'. Between passes ksmd sleeps
for hours; a change of sleep_millisecs wakes it, and a pass ends its batch (mm/ksm.c), so that it scans once each time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

KSM = Path("/sys/kernel/mm/ksm")
LOCK = Path("/run/pageshare-ksm.lock")
"""Held by whoever uses KSM; benchmarks/peers/ksm.py too."""
PAGE = mmap.PAGESIZE
SLEEP = 10_000_000  # milliseconds
COUNTERS = (
    "pages_shared",
    "pages_sharing",
    "pages_unshared",
    "pages_volatile",
    "ksm_zero_pages",
    "full_scans",
    "pages_scanned",
    "pages_skipped",
)
SETTINGS = ("sleep_millisecs", "pages_to_scan", "use_zero_pages", "smart_scan", "max_page_sharing")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SINCE_BOOT = ("pages_scanned", "pages_skipped")


# ---- in the child ----


def read(name: str) -> int:
    return int((KSM / name).read_text())


def write(name: str, value: int) -> None:
    (KSM / name).write_text(str(value))


def others() -> list[str]:
    """Processes that have mergeable memory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/ksm_stat"):
        with contextlib.suppress(OSError):
            if "mergeable: yes" in path.read_text():
                found.append(path.parent.name)
    return found


def unavailable() -> str | None:
    """Why KSM can't be used; None if it can."""
    if not KSM.exists():
        return "this kernel has no KSM"
    version = tuple(int(n) for n in re.findall(r"\d+", platform.release())[:2])
    if version < (6, 11):
        return f"KSM looked for pages in another order before Linux 6.11, and this is {platform.release()}"
    if missing := [name for name in (*COUNTERS, *SETTINGS) if not (KSM / name).exists()]:
        return "this kernel's KSM lacks " + ", ".join(missing)
    if not os.access(KSM / "run", os.W_OK):
        return "KSM's settings are root's, or read-only"
    if not LOCK.parent.exists():
        return f"there is no {LOCK.parent}"
    return None


def in_use() -> str | None:
    """Why KSM may not be taken; to be asked by who holds the lock."""
    if read("run") or read("pages_shared") or others():
        return "KSM is in use on this machine"
    for name, wanted in (("advisor_mode", "[none]"), ("merge_across_nodes", "1")):
        if (KSM / name).exists() and wanted not in (KSM / name).read_text():
            return f"KSM's {name} is not {wanted}"
    return None


def is_ksmd(comm: Path) -> bool:
    try:
        return comm.read_text() == "ksmd\n"
    except OSError:  # it has ended since
        return False


def ksm_stat(pid: int | str) -> dict[str, int]:
    """What KSM does for one process."""
    return {name: int(value) for name, value in re.findall(r"(\w+) (-?\d+)", Path(f"/proc/{pid}/ksm_stat").read_text())}


class Child:
    """What answers ``KernelKsm``; without ``contents`` it has no memory for KSM itself."""

    def __init__(self, contents: str | None, ids: list[int]) -> None:
        if contents is not None:
            self.contents = Path(contents).read_bytes()
            self.memory = mmap.mmap(-1, len(ids) * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self.memory.madvise(mmap.MADV_NOHUGEPAGE)
            self.memory.madvise(mmap.MADV_MERGEABLE)
            self.write(list(range(len(ids))), ids)
        self.before = {name: read(name) for name in SINCE_BOOT}
        self.ksmd = next((path.parent for path in Path("/proc").glob("[0-9]*/comm") if is_ksmd(path)), None)

    def sleeps(self) -> bool:
        """Whether ksmd does; unknown (and so True) where the kernel's threads are not seen."""
        return not self.ksmd or (self.ksmd / "stat").read_text().rpartition(")")[2].split()[0] == "S"

    def write(self, pages: list[int], ids: list[int]) -> None:
        """Give pages these contents."""
        for page, number in zip(pages, ids, strict=True):
            self.memory[page * PAGE : (page + 1) * PAGE] = self.contents[number * PAGE : (number + 1) * PAGE]

    def scan(self, pids: list[int] | None = None) -> dict[str, int]:
        """One pass, and all counters after it; ``others`` are pages of other processes than these (or this one)."""
        passes, deadline = read("full_scans"), time.monotonic() + 60
        if not read("run") & 1:
            write("run", 1)
        else:
            write("sleep_millisecs", read("sleep_millisecs") + 1)
        again = time.monotonic() + 1
        while read("full_scans") == passes or not self.sleeps():
            time.sleep(0.001)
            if time.monotonic() > deadline:
                raise TimeoutError("ksmd does not come to the end of a pass")
            if not self.ksmd and time.monotonic() > again and read("full_scans") == passes:
                # It was not asleep yet, and has taken the change for what was there before: another one wakes it.
                write("sleep_millisecs", read("sleep_millisecs") + 1)
                again = time.monotonic() + 1
        counters = {name: read(name) for name in COUNTERS}
        counters = {name: value - self.before.get(name, 0) for name, value in counters.items()}
        known = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile")
        ours = sum(ksm_stat(pid)["ksm_rmap_items"] for pid in pids or ["self"])
        counters["others"] = sum(counters[name] for name in known) - ours
        return counters


def answer(setup: dict[str, object]) -> None:
    """Set KSM up, do what stdin says, and put its settings back."""
    if reason := unavailable():
        print(json.dumps(reason), flush=True)
        return
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if reason := in_use():
            print(json.dumps(reason), flush=True)
            return
        saved = {name: read(name) for name in SETTINGS}
        try:
            write("run", 2)  # from here on passes are counted from 0
            for name, value in {"sleep_millisecs": SLEEP, "pages_to_scan": 1 << 30, **setup["settings"]}.items():
                write(name, value)
            child = Child(setup["contents"], setup["ids"])
            print(json.dumps(None), flush=True)
            for line in sys.stdin:
                name, arguments = json.loads(line)
                print(json.dumps(getattr(child, name)(*arguments)), flush=True)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # who ends a test may send one after another
            # Nothing may be merged while the limit of pages on a frame is changed.
            write("run", 2)
            for name, value in saved.items():
                write(name, value)
            write("run", 0)


def main() -> None:
    for number in SIGNALS:
        signal.signal(number, lambda *_: sys.exit(1))
    answer(json.loads(sys.stdin.readline()))


# ---- in the test ----


class Unavailable(Exception):
    """KSM can't be had; the reason."""


class KernelKsm:
    """The running child."""

    def __init__(self, process: subprocess.Popen[str], setup: dict[str, object]) -> None:
        self._process = process
        if reason := self._ask(setup):
            raise Unavailable(reason)

    def _ask(self, question: object) -> object:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def write(self, pages: list[int], ids: list[int]) -> None:
        """Give pages these contents."""
        self._ask(["write", [pages, ids]])

    def scan(self, pids: list[int] | None = None) -> dict[str, int]:
        """Let ksmd make one pass; the counters after it. Raises ``Unavailable`` if it found memory of others than its
        own process, or than ``pids``."""
        counters = self._ask(["scan", [pids]])
        if counters.pop("others"):
            raise Unavailable("KSM is in use on this machine")
        return counters

    def converge(self, pids: list[int]) -> dict[str, int]:
        """Let it make passes until three in a row find nothing more."""
        last, same = {}, 0
        for _ in range(50):
            counters = self.scan(pids)
            merged = {name: counters[name] for name in ("pages_shared", "pages_sharing", "ksm_zero_pages")}
            same = same + 1 if merged == last and counters["pages_sharing"] + counters["ksm_zero_pages"] else 0
            last = merged
            if same == 3:
                return counters
        return counters


@contextlib.contextmanager
def kernel_ksm(contents: Path | None = None, ids: list[int] | None = None, **settings: int) -> Iterator[KernelKsm]:
    """KSM over pages whose contents are pages of a file, by their numbers; without them, over whatever processes make
    mergeable meanwhile. Waits until nobody else uses it so."""
    setup = {"contents": None if contents is None else str(contents), "ids": ids or [], "settings": settings}
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield KernelKsm(process, setup)
        finally:
            process.stdin.close()  # it puts KSM's settings back, and ends


if __name__ == "__main__":
    main()
