"""The kernel's KSM: memory filled from files, marked mergeable, merged until nothing more is. Needs root.

Prints pages, reclaimed pages, and the bytes that the kernel's records of them took. KSM's settings are put back,
however this ends. Exit status 77, with the reason on stderr, where KSM can't be had.
"""

import fcntl
import mmap
import os
import signal
import sys
import time
from pathlib import Path

PAGE = 4096
KSM = Path("/sys/kernel/mm/ksm")
LOCK = Path("/run/pageshare-ksm.lock")  # held by whoever uses KSM: tests/kernel_ksm.py too
# Every page at once, zero pages by the kernel's own one, no page left out, any number of pages on one frame.
SETTINGS = {
    "sleep_millisecs": 0,
    "pages_to_scan": 1 << 20,
    "use_zero_pages": 1,
    "smart_scan": 0,
    "max_page_sharing": 1 << 24,
}


def read(name):
    """A number of KSM's."""
    return int((KSM / name).read_text())


def write(name, value):
    """Set one."""
    (KSM / name).write_text(str(value))


def unavailable():
    """Why KSM can't be used; None if it can."""
    if not KSM.exists():
        return "this kernel has no KSM"
    if not os.access(KSM / "run", os.W_OK):
        return "KSM's settings are root's"
    if any(not (KSM / name).exists() for name in SETTINGS):
        return "this kernel's KSM is too old: " + ", ".join(name for name in SETTINGS if not (KSM / name).exists())
    return None


def records():
    """Bytes of the kernel's records of pages and frames; of others of that size too, where it keeps them together."""
    slabs = {path.resolve() for path in Path("/sys/kernel/slab").glob("ksm_*")}
    return sum(int((s / "objects").read_text().split()[0]) * int((s / "slab_size").read_text()) for s in slabs)


def merge(paths):
    """Pages, reclaimed pages, bytes of records."""
    size = sum(os.path.getsize(path) for path in paths)  # noqa: PTH202
    records_before, zero_before = records(), read("ksm_zero_pages")
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        memory.madvise(mmap.MADV_MERGEABLE)
        at = 0
        for path in paths:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                while count := file.readinto(memoryview(memory)[at : at + (1 << 20)]):
                    at += count
        write("run", 1)
        passes, before, merged = read("full_scans"), -1, 0
        while merged != before or merged == 0:
            # The pass under way had begun before; the one after it sees every page.
            while read("full_scans") < passes + 2:
                time.sleep(0.01)
            passes, before = read("full_scans"), merged
            zero = read("ksm_zero_pages") - zero_before
            merged = read("pages_sharing") + zero
        return size // PAGE, merged - (zero > 0), records() - records_before


def main(paths):
    """Merge, between saving KSM's settings and putting them back."""
    if reason := unavailable():
        print(reason, file=sys.stderr)
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if read("run") or read("pages_shared"):
            print("KSM is in use on this machine", file=sys.stderr)
            return 77
        saved = {name: read(name) for name in SETTINGS}
        try:
            for name, value in SETTINGS.items():
                write(name, value)
            print(*merge(paths))
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
            # Nothing may be merged while the limit of pages on a frame is changed.
            write("run", 2)
            for name, value in saved.items():
                write(name, value)
            write("run", 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
