"""What each owner brings, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pageshare.answers.joining import Joined, Joining
from pageshare.images import printable
from pageshare.render import svg
from pageshare.render.names import named
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table, shortened
from pageshare.render.units import percent, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageshare.report import Report

MOST_NAMES = 3
"""Owners that the first sentence names."""
MOST_BARS, WIDTH, ROW, LEFT = 40, 800, 18, 170


def section(answer: Joining, report: Report) -> Section:
    """What each owner brings, most first."""
    ranked = sorted(answer.owners, key=lambda owner: -owner.part)
    return Section(
        "joining",
        "What each owner brings",
        "What does each owner save alone, what is its part in the whole, and what would be lost without it?",
        tables=[_owners(ranked, report), _zero(ranked, report)],
        charts=[_bars(ranked, report)] if len(ranked) > 1 and answer.reclaimed else [],
        lines=list(_lines(answer, report)),
        assumptions=answer.assumptions,
    )


def _columns(*figures: Column, domains: bool) -> tuple[Column, ...]:
    domain = [Column("domain", "domain", "text")] if domains else []
    return (Column("owner", "owner", "text"), *domain, *figures)


def _owners(ranked: list[Joined], report: Report) -> Table:
    domains = len(report.domains) > 1
    columns = _columns(
        Column("known", "known", "pages"),
        Column("alone", "alone", "pages"),
        Column("part", "part", "pages"),
        Column("adds", "adds", "pages"),
        domains=domains,
    )
    rows = [
        (owner.name, *([owner.domain] if domains else []), owner.known, owner.alone, owner.part, owner.adds)
        for owner in ranked
    ]
    note = (
        "alone: reclaimed by a scan of it alone; part: its part of what all reclaim, each content's saving split over"
        " the pages that hold it; adds: what all reclaim, less what all but it would"
    )
    return Table("joining", "What each brings", columns, rows, report.page_size, note, detail=True)


def _zero(ranked: list[Joined], report: Report) -> Table:
    domains = len(report.domains) > 1
    columns = _columns(
        Column("alone_zero", "alone", "pages"),
        Column("part_zero", "part", "pages"),
        Column("adds_zero", "adds", "pages"),
        domains=domains,
    )
    rows = [
        (owner.name, *([owner.domain] if domains else []), owner.alone_zero, owner.part_zero, owner.adds_zero)
        for owner in ranked
        if owner.part_zero or owner.alone_zero
    ]
    return Table("joining-zero", "Of that, by zero pages", columns, rows, report.page_size, detail=True)


def _of(owner: Joined, page_size: int) -> str:
    return f"{size(round(owner.part * page_size))} of its {size(owner.known * page_size)}"


def _bars(ranked: list[Joined], report: Report) -> str:
    """Each owner's memory: its part of what is reclaimed, zero pages and others, and what stays."""
    page_size, shown = report.page_size, ranked[:MOST_BARS]
    most = max(owner.known for owner in shown)
    scale = (WIDTH - LEFT - 70) / most
    parts = [
        svg.legend(LEFT, 12, [("inter", "its part of what is reclaimed"), ("zero", "zero pages"), ("unique", "stays")])
    ]
    for nth, owner in enumerate(shown):
        y, x = 22 + nth * ROW, float(LEFT)
        for pages, colour in (
            (owner.part - owner.part_zero, "inter"),
            (owner.part_zero, "zero"),
            (owner.known - owner.part, "unique"),
        ):
            if pages > 0:
                parts.append(svg.rectangle(x, y, pages * scale, ROW - 5, colour))
            x += max(0, pages) * scale
        parts.append(svg.text(LEFT - 8, y + 10, shortened(printable(owner.name), 24), "end"))
        parts.append(svg.text(x + 6, y + 10, size(round(owner.part * page_size))))
    first = shown[0]
    return svg.picture(
        f"Each owner's part of what is reclaimed, of its memory: {shortened(printable(first.name), 40)}"
        f" has most, {_of(first, page_size)}"
        + (f"; the first {len(shown)} of {len(ranked):,} owners" if len(ranked) > len(shown) else ""),
        WIDTH,
        24 + len(shown) * ROW,
        parts,
    )


def _lines(answer: Joining, report: Report) -> Iterator[str]:
    page_size, count = report.page_size, len(answer.owners)
    if count < 2:
        yield "There is one owner: it saves what it saves alone."
        return
    if not answer.reclaimed:
        yield "Nobody: no two pages are the same."
        return
    most = sorted(answer.owners, key=lambda owner: -owner.part)[:MOST_NAMES]
    first, *then = [f"{named(each.name)} ({_of(each, page_size)})" for each in most]
    yield f"Of what is reclaimed most is in {first}, then in {' and '.join(then)}"
    alone = sum(owner.alone for owner in answer.owners)
    yield (
        f"Alone, {count:,} owners would save {size(alone * page_size)} in all; together"
        f" {size(answer.reclaimed * page_size)}: {percent(answer.reclaimed - alone, answer.reclaimed)} of that is"
        " saved between them"
    )
    best = max(answer.owners, key=lambda owner: owner.adds)
    if best.adds:
        yield f"{named(best.name)} adds most: without it {size(best.adds * page_size)} less would be saved"
    holes = min(report.coverage.zero_inferred, answer.reclaimed_zero)
    if holes:
        yield f"{size(holes * page_size)} of the zero pages are holes in the files: they may take no memory now"
