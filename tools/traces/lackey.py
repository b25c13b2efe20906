"""Traces from valgrind's lackey, which tells every access of a program of one thread, but no time.

Time is instructions at a stated rate. Nothing is known of zero pages, of pages released, and of what system calls read
and write. ``valgrind --tool=lackey --trace-mem=yes`` prints a line per access, ``I  addr,size`` for an instruction,
`` L``, `` S`` and `` M`` for what is loaded, stored, or both.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pageshare.lab.trace import READ, WRITTEN, Actor, Touches, Trace, of_touches

PAGE_BITS = 12
_LINE = re.compile(rb"^(I | L| S| M) ([0-9a-f]+),(\d+)$")
_KINDS = {b"I ": READ, b" L": READ, b" S": WRITTEN, b" M": READ | WRITTEN}


def intervals(lines: Iterable[bytes], instructions: int) -> list[dict[int, int]]:
    """The kinds of touched pages, by their numbers, in each stretch of so many instructions."""
    found: list[dict[int, int]] = [{}]
    now, count = found[0], 0
    for line in lines:
        if not (parts := _LINE.match(line.rstrip())):
            continue
        kind, address, size = parts.groups()
        if kind == b"I ":
            if count == instructions:
                now, count = {}, 0
                found.append(now)
            count += 1
        first = int(address, 16)
        for page in range(first >> PAGE_BITS, ((first + int(size) - 1) >> PAGE_BITS) + 1):
            now[page] = now.get(page, 0) | _KINDS[kind]
    return found


def why_not() -> str:
    """What is missing to record here; empty if nothing is."""
    return "" if shutil.which("valgrind") else "there is no valgrind: apt-get install valgrind"


def touched(command: Sequence[str], instructions: int) -> list[dict[int, int]]:
    """The kinds of pages that a command touches, in stretches of so many instructions.

    Raises subprocess.CalledProcessError if it fails."""
    line = ["valgrind", "--tool=lackey", "--trace-mem=yes", "--log-fd=9", *command]
    shell = ["sh", "-c", 'exec "$@" 9>&1 >/dev/null', "sh", *line]
    with subprocess.Popen(shell, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        found = intervals(process.stdout, instructions)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return found


def record(command: Sequence[str], *, interval: int = 100_000, per_second: int = 300_000_000) -> Trace:
    """What a command touches, of which ``per_second`` instructions are taken to be executed.

    Raises subprocess.CalledProcessError if it fails."""
    found = touched(command, per_second * interval // 1_000_000)
    pages = np.unique(np.fromiter((page for each in found for page in each), np.int64))
    touches = []
    for each in found:
        numbers = np.array(sorted(each), np.int64)
        kinds = np.array([each[page] for page in numbers.tolist()], np.uint8)
        touches.append(
            Touches(np.searchsorted(pages, numbers).astype(np.uint32), np.zeros(len(kinds), np.uint16), kinds)
        )
    return of_touches(
        touches,
        name=Path(command[0]).name,
        pages=len(pages),
        interval=interval,
        actors=[Actor(Path(command[0]).name, 0, "work")],
        about={
            "command": shlex.join(command),
            "source": "valgrind --tool=lackey",
            "clock": f"{per_second} instructions are a second",
        },
    )
