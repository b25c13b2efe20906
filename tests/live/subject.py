"""Python processes with memory of known contents, in mappings of every kind that KSM treats in its own way."""

from __future__ import annotations

import contextlib
import json
import mmap
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

PAGE = mmap.PAGESIZE
HUGE = 2 << 20

# Makes the mappings that its first line asks for, prints where they are and the numbers of its forks, and does what
# further lines say until stdin is closed.
_PROGRAM = """
import ctypes, json, mmap, os, random, signal, sys
PAGE, HUGE = mmap.PAGESIZE, 2 << 20
libc = ctypes.CDLL(None, use_errno=True)
setup = json.loads(sys.stdin.readline())

def content(number):
    return bytes(PAGE) if number == 0 else random.Random(number).randbytes(PAGE)

def address_of(memory):
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))

def make(kind, ids, merge, written=()):
    size = len(ids) * PAGE
    if kind == "private":
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    elif kind == "huge":
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
    elif kind == "shared":
        memory = mmap.mmap(-1, size)
    else:
        fd = os.open(kind, os.O_RDWR | os.O_CREAT)
        os.write(fd, b"".join(map(content, ids)))
        memory = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        os.close(fd)
        for page in range(len(ids)):
            memory[page * PAGE]
        for page in written:
            memory[page * PAGE] = memory[page * PAGE]
    if kind in ("private", "huge", "shared"):
        for page, number in enumerate(ids):
            memory[page * PAGE:(page + 1) * PAGE] = content(number)
    if merge:
        memory.madvise(mmap.MADV_MERGEABLE)
    return memory

def fork():
    pid = os.fork()
    if pid == 0:
        libc.prctl(1, signal.SIGKILL)  # ends with its parent
        os.close(0)
        while True:
            signal.pause()
    return pid

def write(mapping, page, number):
    memories[mapping][page * PAGE:(page + 1) * PAGE] = content(number)

def spin(mapping, page):
    import threading
    def run():
        number = 0
        while True:
            number += 1
            memories[mapping][page * PAGE:page * PAGE + 8] = number.to_bytes(8, "little")
    threading.Thread(target=run, daemon=True).start()

def merge_any():
    return libc.prctl(67, 1, 0, 0, 0)

memories = [make(*each) for each in setup["mappings"]]
forks = [fork() for _ in range(setup["forks"])]
print(json.dumps([[address_of(each) for each in memories], forks]), flush=True)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    print(json.dumps(globals()[name](*arguments)), flush=True)
"""


def content(number: int) -> bytes:
    """What a page of this number holds."""
    return bytes(PAGE) if number == 0 else random.Random(number).randbytes(PAGE)


@dataclass
class Subject:
    """A running one: its number, those of its forks, where its mappings are."""

    process: subprocess.Popen[str]
    addresses: list[int]
    forks: list[int]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def pids(self) -> list[int]:
        return [self.pid, *self.forks]

    def ask(self, name: str, *arguments: object) -> Any:
        """Let it do something to its memory, and wait until that is done."""
        return _ask(self.process, [name, *arguments])


def _ask(process: subprocess.Popen[str], question: object) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


@contextlib.contextmanager
def subject(*mappings: Sequence[object], forks: int = 0) -> Iterator[Subject]:
    """Start one with such mappings: (kind, contents, whether KSM is asked for, pages of a file that are written).

    Kinds are private, huge, shared, and paths of files, which are made and mapped privately. It is killed at the end.
    """
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            addresses, children = _ask(process, {"mappings": mappings, "forks": forks})
            yield Subject(process, addresses, children)
        finally:
            process.kill()
