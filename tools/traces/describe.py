"""Writes what the kept traces show into a document's table: ``python tools/traces/describe.py docs/lab/traces.md``.

What stands between the two markers is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pageshare.lab import trace as traces
from pageshare.lab.trace import READ, WRITTEN, Trace

BEGIN, END = "<!-- made by tools/traces/describe.py -->\n", "<!-- end -->\n"
WINDOW = 30
"""Seconds: what was touched within them is in use, to ESX."""
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Shares:
    """Of all pages, what was touched within the last 30 s, at the end of every tenth second after the first 30: by
    anybody, and by the program's work."""

    everybody: list[float]
    work: list[float]


def shares(trace: Trace) -> Shares:
    """The laboratory's truth (``lab.memory.Memory.active``): what was released since then counts, too."""
    second = 1_000_000 // trace.interval
    never = -WINDOW * second
    last, of_work = (np.full(trace.pages, never - 1, np.int64) for _ in range(2))
    works = np.array([actor.intent == "work" for actor in trace.actors])
    found = Shares([], [])
    for number in range(trace.intervals):
        some = trace.touches(number)
        touched = (some.kinds & (READ | WRITTEN)) > 0
        last[some.pages[touched]] = number
        of_work[some.pages[touched & works[some.actors]]] = number
        if (number + 1) % (10 * second) == 0 and number + 1 >= WINDOW * second:
            found.everybody.append(float((last > number - WINDOW * second).mean()))
            found.work.append(float((of_work > number - WINDOW * second).mean()))
    return found


def bars(values: list[float]) -> str:
    """One character each: eighths, of all."""
    return "".join(BARS[min(int(value * len(BARS)), len(BARS) - 1)] for value in values)


def text() -> str:
    """The table, and the course of each trace."""
    return "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    yield ""
    yield "| trace | pages | MiB | minutes | touched in 30 s, by work | by anybody | threads | file |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    courses, total = [], 0
    for name, path in traces.kept().items():
        trace = traces.read(path)
        found, size = shares(trace), path.stat().st_size
        total += size
        work, everybody = (f"{np.mean(each):.0%}".replace("%", " %") for each in (found.work, found.everybody))
        minutes, threads = trace.intervals * trace.interval / 60e6, len({actor.thread for actor in trace.actors})
        yield (
            f"| {name} | {trace.pages:,} | {trace.pages * trace.page_size / 2**20:.0f} | {minutes:.1f} | {work}"
            f" | {everybody} | {threads} | {size / 2**10:.0f} KiB |"
        )
        courses += [f"    {name:9}work     {bars(found.work)}", f"    {'':9}anybody  {bars(found.everybody)}"]
    yield ""
    yield f"Together {total / 2**20:.1f} MiB. The shares every ten seconds, in eighths of all pages:"
    yield ""
    yield from courses
    yield ""


def written_into(document: str) -> str:
    """A document with the table as it is now."""
    before, rest = document.split(BEGIN)
    return before + BEGIN + text() + END + rest.split(END)[1]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(written_into(place.read_text(encoding="utf-8")), encoding="utf-8")
