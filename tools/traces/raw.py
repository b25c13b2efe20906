"""What touches.c writes, as a trace: intervals put together, pages numbered, releases held against later touches."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pageshare.lab.trace import READ, RELEASED, WRITTEN, ZERO, Actor, Range, Touches, Trace, of_touches

PAGE = 4096
INTENTS = ("work", "zero", "collect", "unlabelled")
_THREAD, _INTERVAL, _TOUCHES, _RELEASE, _MAPS = range(1, 6)
_EMULATOR = re.compile(r"^(qemu-.*|)$")
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ *(.*)$")


@dataclass
class _Interval:
    """``touches`` by thread: (entries, 2) words, page << 8 | intent << 4 | kinds and an epoch; ``releases`` are
    (thread, intent, first page, pages, epoch) in order."""

    touches: list[tuple[int, NDArray[np.uint64]]] = field(default_factory=list)
    releases: list[tuple[int, int, int, int, int]] = field(default_factory=list)


@dataclass
class Raw:
    """A recording as it was read: ``names`` of threads as they were last called, ``times`` in nanoseconds of where each
    interval began and ended, ``instructions`` in each, and ``maps`` as text, the last of which is of the end."""

    intervals: list[_Interval]
    names: dict[int, str]
    times: list[tuple[int, int]]
    instructions: list[int]
    maps: list[tuple[int, int, int, str]]


def read(path: Path) -> Raw:
    """All whole intervals of a recording, which may have ended at any byte. ValueError if there is none."""
    data = np.memmap(path, np.uint8, "r")
    by_number: dict[int, _Interval] = defaultdict(_Interval)
    raw = Raw([], {}, [], [], [])
    at = 0
    while at + 64 <= len(data):
        kind, a, b, c, d, e, f, size = (int(word) for word in data[at : at + 64].view(np.uint64))
        at += 64
        end = at + -(-size // 8) * 8
        if end > len(data):
            break
        if kind == _THREAD:
            raw.names[a] = bytes(data[at : at + size]).decode(errors="replace")
        elif kind == _TOUCHES:
            by_number[a].touches.append((b, data[at:end].view(np.uint64).reshape(-1, 2)))
        elif kind == _RELEASE:
            by_number[a].releases.append((b, c, d, e, f))
        elif kind == _MAPS:
            raw.maps.append((a, b, c, bytes(data[at : at + size]).decode(errors="replace")))
        elif kind == _INTERVAL:
            if a != len(raw.intervals):
                raise ValueError(f"{path}: interval {a} follows {len(raw.intervals) - 1}")
            raw.intervals.append(by_number.pop(a, _Interval()))
            raw.times.append((b, c))
            raw.instructions.append(d)
        else:
            raise ValueError(f"{path}: no record is of kind {kind}")
        at = end
    if not raw.intervals:
        raise ValueError(f"{path}: no interval was recorded")
    return raw


def trace_of(
    raw: Raw,
    *,
    name: str,
    interval: int,
    program: str,
    about: Mapping[str, str],
    intents: Sequence[tuple[str, str]] = (),
    together: int = 1,
) -> Trace:
    """The trace. ``interval``: microseconds of one in the recording, ``together`` of which become one.

    ``program`` is what the thread is called that began; ``intents``: a pattern for a thread's whole name, and what such
    threads intend unless they said something else.
    """
    pages = np.unique(np.concatenate([entries[:, 0] >> 8 for each in raw.intervals for _, entries in each.touches]))
    actors = _Actors(raw.names, program, intents)
    touches = [
        _touches(raw.intervals[at : at + together], pages, actors, live)
        for live in [np.zeros(len(pages), np.bool_)]
        for at in range(0, len(raw.intervals), together)
    ]
    order = sorted(range(len(actors.found)), key=lambda at: (actors.found[at].thread, actors.found[at].intent))
    place = np.empty(len(order), np.uint16)
    place[order] = np.arange(len(order))
    return of_touches(
        (_in_order(each, place) for each in touches),
        name=name,
        pages=len(pages),
        interval=interval * together,
        actors=[actors.found[at] for at in order],
        page_size=PAGE,
        about={**about, **_told(raw, interval)},
        ranges=_ranges(pages, raw.maps),
    )


def _told(raw: Raw, interval: int) -> dict[str, str]:
    """Of a recording's pace."""
    lengths: NDArray[np.float64] = np.diff(np.array(raw.times, np.float64), axis=1) / 1000
    late = int((lengths > 1.5 * interval).sum())
    seconds = (raw.times[-1][1] - raw.times[0][0]) / 1e9
    return {
        "seconds": f"{seconds:.1f}",
        "late": f"{late} of {len(lengths)} intervals of {interval // 1000} ms took half as long again",
        "instructions": f"{sum(raw.instructions)}",
    }


class _Actors:
    """Numbers for threads with intents, in order of appearance."""

    def __init__(self, names: Mapping[int, str], program: str, intents: Sequence[tuple[str, str]]) -> None:
        self._names, self._program = names, program
        self._intents = [(re.compile(pattern), intent) for pattern, intent in intents]
        self._numbers: dict[tuple[int, int], int] = {}
        self.found: list[Actor] = []

    def number(self, thread: int, intent: int) -> int:
        if (thread, intent) not in self._numbers:
            name = self._names.get(thread, "")
            name = self._program if _EMULATOR.match(name) else name
            said = INTENTS[intent]
            if said == "work":
                said = next((each for pattern, each in self._intents if pattern.fullmatch(name)), said)
            actor = Actor(name, thread, said)
            if actor not in self.found:
                self.found.append(actor)
            self._numbers[thread, intent] = self.found.index(actor)
        return self._numbers[thread, intent]


def _touches(some: Sequence[_Interval], pages: NDArray[np.uint64], actors: _Actors, live: NDArray[np.bool_]) -> Touches:
    """Of intervals put together. ``live`` says which pages were touched since they were last released; is changed."""
    words, epochs, whose = [], [], []
    for each in some:
        for thread, entries in each.touches:
            words.append(entries[:, 0])
            epochs.append(entries[:, 1])
            intents = entries[:, 0] >> 4 & 3
            numbers = np.array([actors.number(thread, i) if (intents == i).any() else 0 for i in range(len(INTENTS))])
            whose.append(numbers[intents])
    word = np.concatenate(words) if words else np.empty(0, np.uint64)
    epoch = np.concatenate(epochs) if epochs else np.empty(0, np.uint64)
    actor = np.concatenate(whose).astype(np.int64) if whose else np.empty(0, np.int64)
    page = np.searchsorted(pages, word >> np.uint64(8))
    kind = (word & np.uint64(READ | WRITTEN)).astype(np.uint8)

    # Whether a page is zero at the end is told where it was written last.
    zero, written = np.zeros(len(pages), np.bool_), (word & np.uint64(WRITTEN)) > 0
    order = np.flatnonzero(written)  # intervals are in order
    zero[page[order]] = (word[order] & np.uint64(ZERO)) > 0
    last_touch = np.zeros(len(pages), np.uint64)
    np.maximum.at(last_touch, page, epoch)

    released_page, released_by = [], []
    touched = np.zeros(len(pages), np.bool_)
    touched[page] = True
    there = live | touched
    for thread, intent, first, count, released_epoch in (each for one in some for each in one.releases):
        begin, end = np.searchsorted(pages, [first, first + count])
        which = begin + np.flatnonzero(there[begin:end] & (last_touch[begin:end] < released_epoch))
        if len(which):
            released_page.append(which)
            released_by.append(np.full(len(which), actors.number(thread, intent)))
            there[which] = False
            zero[which] = False
    live[:] = there
    kind[written & zero[page]] |= ZERO
    if released_page:
        gone = np.concatenate(released_page)
        page, actor = np.append(page, gone), np.append(actor, np.concatenate(released_by))
        kind = np.append(kind, np.full(len(gone), RELEASED, np.uint8))
    return _combined(page, actor, kind)


def _combined(page: NDArray[np.int64], actor: NDArray[np.int64], kind: NDArray[np.uint8]) -> Touches:
    """Ordered, and what is of one page and actor put together."""
    key = page.astype(np.int64) << 16 | actor
    order = np.argsort(key, kind="stable")
    key, kind = key[order], kind[order]
    begins = np.flatnonzero(np.append(True, key[1:] != key[:-1])) if len(key) else np.empty(0, np.int64)
    kind = np.bitwise_or.reduceat(kind, begins) if len(begins) else kind
    return Touches((key[begins] >> 16).astype(np.uint32), (key[begins] & 0xFFFF).astype(np.uint16), kind)


def _in_order(touches: Touches, place: NDArray[np.uint16]) -> Touches:
    """With other numbers for actors."""
    return _combined(touches.pages.astype(np.int64), place[touches.actors].astype(np.int64), touches.kinds)


def _ranges(pages: NDArray[np.uint64], maps: Sequence[tuple[int, int, int, str]]) -> list[Range]:
    """What lies where, by the last table of mappings that has a page. Between pages of a range may lie such as were
    never touched."""
    what = [""] * len(pages)
    for brk_start, brk_end, base, text in maps:
        for line in text.splitlines():
            if not (found := _MAPPING.match(line)):
                continue
            begin, end = (int(found[i], 16) - base for i in (1, 2))
            first, last = (int(each) for each in np.searchsorted(pages, [begin // PAGE, end // PAGE]))
            if first == last:
                continue
            said = Path(found[4]).name if found[4].startswith("/") else "anonymous"
            for at in range(first, last):
                heap = brk_start <= int(pages[at]) * PAGE < brk_end
                what[at] = "heap" if heap else said
    found_ranges: list[Range] = []
    begin = 0
    for at in range(1, len(pages) + 1):
        if at == len(pages) or what[at] != what[begin]:
            found_ranges.append(Range(begin, at - begin, what[begin] or "anonymous"))
            begin = at
    return found_ranges
