"""A Python process whose memory is known: some pages filled, the others never touched, changed on demand."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
NOBODY = 65534

# Reads a line {"call": ..., "args": [...]} and answers with what the call returned, until stdin is closed.
_PROGRAM = """
import ctypes, json, mmap, os, random, sys
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
pages, touched, uid, dumpable = json.loads(sys.stdin.readline())
if uid is not None:
    os.setgid(uid)
    os.setuid(uid)
if dumpable is not None:
    libc.prctl(4, dumpable, 0, 0, 0)
NORESERVE = 0x4000
memory = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
memory.madvise(mmap.MADV_NOHUGEPAGE)
for page in touched:
    memory[page * PAGE:(page + 1) * PAGE] = random.Random(page).randbytes(PAGE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))

def at(page):
    return ctypes.c_void_p(address + page * PAGE)

def unmap(pages):
    return [libc.munmap(at(page), ctypes.c_size_t(PAGE)) for page in pages]

def protect(page):
    return libc.mprotect(at(page), ctypes.c_size_t(PAGE), 0)

def guard(page):
    return libc.madvise(at(page), ctypes.c_size_t(PAGE), 102)

def fill(size):
    global filler
    filler = b"x" * size
    return size

def shared(text):
    # A file's page and a page of shared memory; both stay mapped.
    global kept
    fd = os.memfd_create("known")
    os.write(fd, text.encode() * (PAGE // len(text)))
    kept = mmap.mmap(fd, PAGE)
    kept[0]
    return ctypes.addressof(ctypes.c_char.from_buffer(kept))

print(json.dumps(address), flush=True)
for line in sys.stdin:
    call = json.loads(line)
    print(json.dumps(globals()[call["call"]](*call["args"])), flush=True)
"""


def content(page: int) -> bytes:
    """What the child fills its page number ``page`` with."""
    return random.Random(page).randbytes(PAGE)


class KnownChild:
    """The running child: its ``pid``, and where its page 0 is."""

    def __init__(self, process: subprocess.Popen[str], arguments: Sequence[object]) -> None:
        self.process = process
        self.pid = process.pid
        self.address = self._ask(arguments)

    def _ask(self, question: object) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]

    def call(self, name: str, *args: object) -> int:
        """Let it do something to its memory, and wait until that is done."""
        return self._ask({"call": name, "args": args})

    def at(self, page: int) -> int:
        """Address of a page."""
        return self.address + page * PAGE

    def state(self) -> str:
        """The letter of proc_pid_stat(5)."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def wait_for(self, state: str) -> None:
        """Wait until it is in this state."""
        deadline = time.monotonic() + 10
        while self.state() != state:
            assert time.monotonic() < deadline, f"still in state {self.state()}"
            time.sleep(0.001)


@contextlib.contextmanager
def known_child(
    pages: int, touched: Sequence[int] | None = None, *, uid: int | None = None, dumpable: int | None = None
) -> Iterator[KnownChild]:
    """Start one with ``pages`` pages of which it fills ``touched`` (None: all); it is killed at the end."""
    arguments = [pages, list(range(pages) if touched is None else touched), uid, dumpable]
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield KnownChild(process, arguments)
        finally:
            process.kill()
