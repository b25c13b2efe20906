"""Each owner's memory by address: tables, and a strip for each."""

from __future__ import annotations

from collections.abc import Iterator

from pageshare.answers.memory_map import MemoryMap, OwnerMap, Segment
from pageshare.images import printable
from pageshare.inventory import STATES
from pageshare.render import svg
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table, shortened
from pageshare.render.units import size
from pageshare.report import Report

WIDTH, STRIP = 800, 32
CUT = 6
"""Where addresses are left out."""
LEVELS = 32
"""Heights that are told apart."""
LABEL = 110
"""Room that an address takes."""
ORDER = ("inter", "intra", "unique", "zero", "unknown")
"""From the bottom up."""

WORDS = {
    "zero": "zero",
    "unique": "unique",
    "intra": "more than once in one owner (intra)",
    "inter": "in several owners (inter)",
    "unknown": "unknown",
}
FULL = 12
"""Up to so many owners have their addresses below their strip; strips of more are thin, one below the other."""
THIN, NAME = 14, 190
"""Height of a thin strip, and the room for the name before it."""


def section(answer: MemoryMap, report: Report) -> Section:
    """Everything about where which pages lie."""
    return Section(
        key="memory_map",
        title="Map of memory",
        question="Where in each owner's memory are the pages that are zero, unique, or held elsewhere too?",
        tables=tables(answer, report.page_size),
        charts=charts(answer, report.page_size),
        lines=_lines(answer, report.page_size),
        assumptions=answer.assumptions,
    )


def _lines(answer: MemoryMap, page_size: int) -> list[str]:
    totals = {state: sum(getattr(owner, state) for owner in answer.owners) for state in STATES}
    there = sum(totals.values())
    if not there:
        return ["There is no page."]
    ranked = sorted((state for state in STATES if totals[state]), key=lambda state: -totals[state])
    parts = (f"{WORDS[state]} {size(totals[state] * page_size)}" for state in ranked)
    return [f"Of {size(there * page_size)} of pages: {', '.join(parts)}."]


def tables(answer: MemoryMap, page_size: int) -> list[Table]:
    """Owner by owner, and for machines cell by cell."""
    return [_owners(answer, page_size), _cells(answer, page_size)]


def charts(answer: MemoryMap, page_size: int) -> list[str]:
    """What colours mean, and a strip for each owner that has any page."""
    there = [owner for owner in answer.owners if owner.segments]
    strips = [_strip(owner, page_size, full=len(there) <= FULL) for owner in there]
    return [_legend(), *strips] if strips else []


def _owners(answer: MemoryMap, page_size: int) -> Table:
    columns = (
        Column("owner", "owner", "text"),
        *(Column(state, state, "pages") for state in STATES),
    )
    rows = [(each.owner, *(getattr(each, state) for state in STATES)) for each in answer.owners]
    note = "Pages, not what is reclaimed: of each content one page stays."
    return Table("memory-map", "Pages of each owner", columns, rows, page_size, note)


def _cells(answer: MemoryMap, page_size: int) -> Table:
    columns = (
        Column("owner", "owner", "text"),
        Column("address", "address", "address"),
        Column("bytes", "bytes", "bytes"),
        *(Column(state, state, "pages") for state in STATES),
    )
    rows = [
        (owner.owner, segment.address + nth * owner.cell_bytes, owner.cell_bytes, *cell)
        for owner in answer.owners
        for segment in owner.segments
        for nth, cell in enumerate(_in_cells(segment))
    ]
    return Table("memory-map-cells", "Pages by address", columns, rows, page_size, detail=True)


def _in_cells(segment: Segment) -> Iterator[tuple[int, ...]]:
    return zip(*(getattr(segment, state) for state in STATES), strict=True)


def _legend() -> str:
    colours = svg.legend(0, 12, ((each, WORDS[each]) for each in STATES))
    return svg.picture(f"The colours of the maps: {', '.join(STATES)}", WIDTH, 18, [colours])


def _strip(owner: OwnerMap, page_size: int, *, full: bool) -> str:
    cells = sum(len(segment.zero) for segment in owner.segments)
    left, top, high = (0, 16, STRIP) if full else (NAME, 1, THIN)
    wide = (WIDTH - left - CUT * (len(owner.segments) - 1)) / cells
    name = printable(owner.owner)
    starts, x = [], float(left)
    for segment in owner.segments:
        starts.append(x)
        x += len(segment.zero) * wide + CUT
    figures = ", ".join(f"{state} {size(getattr(owner, state) * page_size)}" for state in ORDER)
    title = f"Memory of {shortened(name, 80)} by address: {figures}"
    areas = _areas(owner, starts, wide, page_size, top=top, high=high)
    if not full:
        label = svg.text(left - 8, top + 11, shortened(name, 26), "end")
        return svg.picture(title, WIDTH, high + 2, [label, *areas])
    label = svg.text(0, 11, f"{shortened(name, 60)} ({size(owner.cell_bytes)} a step)")
    return svg.picture(title, WIDTH, high + 32, [label, *areas, *_addresses(owner, starts, wide)])


def _areas(
    owner: OwnerMap, starts: list[float], wide: float, page_size: int, *, top: int, high: int
) -> Iterator[str]:
    """One path a state: those above are painted first, each down to the ground."""
    whole = max(1, owner.cell_bytes // page_size)
    for nth in reversed(range(len(ORDER))):
        if not getattr(owner, ORDER[nth]):
            continue
        path = ""
        for start, segment in zip(starts, owner.segments, strict=True):
            columns = [getattr(segment, state) for state in ORDER[: nth + 1]]
            path += _outline(start, wide, [sum(cell) / whole for cell in zip(*columns, strict=True)], top, high)
        if path:
            yield f'<path d="{path}" fill="var(--{ORDER[nth]})"/>'


def _outline(start: float, wide: float, shares: list[float], top: int, high: int) -> str:
    """A step for each share of the strip's height; anything at all is at least one level high."""
    ground = top + high
    heights = [-(-round(share * LEVELS * 1000) // 1000) for share in shares]
    if not any(heights):
        return ""
    path, begin = f"M{svg.number(start)} {ground}", 0
    for end in range(1, len(heights) + 1):
        if end == len(heights) or heights[end] != heights[begin]:
            path += f"V{svg.number(ground - heights[begin] * high / LEVELS)}H{svg.number(start + end * wide)}"
            begin = end
    return f"{path}V{ground}z"


def _addresses(owner: OwnerMap, starts: list[float], wide: float) -> Iterator[str]:
    """Where segments begin, and some addresses within, as far as there is room."""
    begins = [(start, segment.address) for start, segment in zip(starts, owner.segments, strict=True)]
    every = 1
    while every * wide < LABEL:
        every *= 2
    within = [
        (start + cell * wide, segment.address + cell * owner.cell_bytes)
        for start, segment in zip(starts, owner.segments, strict=True)
        for cell in range(-(segment.address // owner.cell_bytes) % every, len(segment.zero), every)
    ]
    taken: list[tuple[float, float]] = []
    for x, address in [*begins, *within]:
        words = f"{address:#x}"
        end = x + 3 + 6.8 * len(words)
        if end <= WIDTH and all(end + 8 < low or high + 8 < x for low, high in taken):
            taken.append((x, end))
            yield f'<path d="M{svg.number(x + 0.5)} {16 + STRIP}v5" stroke="var(--ink)"/>'
            yield svg.text(x + 3, STRIP + 28, words)
