"""The same memory in pages of other sizes: tables, and a picture by size."""

from __future__ import annotations

from pageshare.answers.page_sizes import PageSizes, SizeFigures
from pageshare.render import svg
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table
from pageshare.render.units import percent, percent_of, size
from pageshare.report import Report

WIDTH, ROW = 640, 20
LEFT, TOP, RIGHT = 64, 28, WIDTH - 64
LOOKED_AT = 0.1
"""The point of the curve that is told in a sentence."""


def section(answer: PageSizes, report: Report) -> Section:
    """Everything about page sizes."""
    return Section(
        key="page_sizes",
        title="Page sizes",
        question="What would smaller pages add, what would huge pages cost, and which of these should be broken first?",
        tables=tables(answer, report.page_size),
        charts=charts(answer),
        lines=_lines(answer),
        assumptions=answer.assumptions,
    )


def tables(answer: PageSizes, page_size: int) -> list[Table]:
    """By size; what breaking the best huge pages brings; and these."""
    by_size = [_by_size(answer, page_size)]
    if answer.page_size == answer.breaking.block_size:
        return by_size
    return [*by_size, _curve(answer, page_size), _best(answer, page_size)]


def charts(answer: PageSizes) -> list[str]:
    """What is reclaimed, by size; none where nothing ever is."""
    return [_bars(answer)] if any(each.reclaimed_bytes for each in answer.sizes) else []


def _of_scan(answer: PageSizes) -> SizeFigures:
    return next(each for each in answer.sizes if each.size == answer.page_size)


def _lines(answer: PageSizes) -> list[str]:
    base, smallest, largest = _of_scan(answer), answer.sizes[0], answer.sizes[-1]
    known, broken = answer.known_bytes, answer.breaking
    lines = []
    if base is not largest:
        lines.append(
            f"Huge pages of {_round(largest.size)} would save {size(largest.reclaimed_bytes)} instead of"
            f" {size(base.reclaimed_bytes)}: they cost {size(answer.huge_cost_bytes)},"
            f" {percent(answer.huge_cost_bytes, known)} of what is known."
        )
    lines += [
        f"Breaking the best {point.frames:,} of {broken.frames:,} huge pages ({percent_of(point.share)}) brings"
        f" {size(point.brings_bytes)}, {percent_of(point.of_all)} of what all bring."
        for point in broken.curve
        if point.share == LOOKED_AT and broken.brings_bytes
    ]
    if answer.sub_page_bytes is not None:
        lines.append(
            f"Pages of {_round(smallest.size)} would save {size(answer.sub_page_bytes)} more than those of"
            f" {_round(base.size)}: {percent(answer.sub_page_bytes, known)} of what is known."
        )
    return [*lines, *answer.notes]


def _by_size(answer: PageSizes, page_size: int) -> Table:
    base, known = _of_scan(answer), answer.known_bytes
    columns = (
        Column("size", "page size", "bytes"),
        Column("reclaimed_bytes", "reclaimed", "bytes"),
        Column("share", "of known", "share"),
        Column("zero_bytes", "zeros", "bytes"),
        Column("nonzero_bytes", "others", "bytes"),
        Column("change_bytes", "change", "bytes"),
        Column("partial_bytes", "partial", "bytes"),
    )
    rows = [
        (
            each.size,
            each.reclaimed_bytes,
            each.reclaimed_bytes / known if known else None,
            each.zero_bytes,
            each.nonzero_bytes,
            each.reclaimed_bytes - base.reclaimed_bytes,
            each.partial_bytes,
        )
        for each in answer.sizes
    ]
    note = (
        f"Of the same {size(known)} that are known. reclaimed: of zeros, and of others; change: against"
        f" {_round(base.size)}; partial: known, but in no page of this size that is wholly known, so not shared."
    )
    return Table("page-sizes", "Reclaimed by page size", columns, rows, page_size, note)


def _curve(answer: PageSizes, page_size: int) -> Table:
    broken = answer.breaking
    columns = (
        Column("share", "broken", "share"),
        Column("frames", "huge pages"),
        Column("brings_bytes", "brings", "bytes"),
        Column("of_all", "of all", "share"),
    )
    rows = [(each.share, each.frames, each.brings_bytes, each.of_all) for each in broken.curve]
    note = (
        f"{broken.blocks:,} aligned blocks of {_round(broken.block_size)} hold something known; equal ones shared, they"
        f" are {broken.frames:,} huge pages. brings: saved on top of sharing them whole, if the best are broken; of"
        " all: of what all bring."
    )
    return Table("page-sizes-breaking", "What breaking the best huge pages brings", columns, rows, page_size, note)


def _best(answer: PageSizes, page_size: int) -> Table:
    columns = (
        Column("owner", "owner", "text"),
        Column("address", "address", "address"),
        Column("brings_bytes", "brings", "bytes"),
        Column("shared", "shared", "pages"),
        Column("zero", "zero", "pages"),
        Column("known", "known", "pages"),
        Column("alike", "alike"),
    )
    rows = [
        (each.owner, each.address, each.brings_bytes, each.shared, each.zero, each.known, each.alike)
        for each in answer.breaking.best
    ]
    note = (
        "brings: its part in what breaking all brings; shared: with pages of this or other huge pages, zero ones"
        " included; alike: blocks that hold the same, and are broken together."
    )
    return Table("page-sizes-best", "The best huge pages to break", columns, rows, page_size, note)


def _bars(answer: PageSizes) -> str:
    base, known = _of_scan(answer), answer.known_bytes
    most = max(each.reclaimed_bytes for each in answer.sizes)
    scale = (RIGHT - LEFT) / most
    parts = []
    for nth, each in enumerate(answer.sizes):
        top = TOP + nth * ROW
        zero = each.zero_bytes * scale
        parts += [
            svg.text(LEFT - 6, top + 13, _round(each.size), "end"),
            svg.rectangle(LEFT, top + 3, zero, ROW - 6, "zero"),
            svg.rectangle(LEFT + zero, top + 3, each.nonzero_bytes * scale, ROW - 6, "accent"),
            svg.text(WIDTH - 8, top + 13, percent(each.reclaimed_bytes, known), "end"),
        ]
    height = TOP + len(answer.sizes) * ROW + 6
    at_base = LEFT + base.reclaimed_bytes * scale
    smallest, largest = answer.sizes[0], answer.sizes[-1]
    return svg.picture(
        f"What is reclaimed of {size(known)} by page size: from {size(smallest.reclaimed_bytes)} in pages of"
        f" {_round(smallest.size)} to {size(largest.reclaimed_bytes)} in those of {_round(largest.size)};"
        f" {size(base.reclaimed_bytes)} in the scan's, of {_round(base.size)}",
        WIDTH,
        height,
        [
            svg.grid((LEFT, TOP, RIGHT, height - 6), (LEFT, at_base), ()),
            *parts,
            svg.legend(LEFT, 14, [("zero", "of zeros"), ("accent", f"of others (line: {_round(base.size)})")]),
        ],
    )


def _round(count: int) -> str:
    """A page size.

    >>> _round(512), _round(16384), _round(2 << 20)
    ('512 B', '16 KiB', '2 MiB')
    """
    power = (count.bit_length() - 1) // 10
    return f"{count >> 10 * power} {('B', 'KiB', 'MiB')[power]}"
