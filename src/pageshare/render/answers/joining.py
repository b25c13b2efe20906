"""What each owner brings, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pageshare.answers.joining import Joined, Joining
from pageshare.render.names import named
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table
from pageshare.render.units import percent, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageshare.report import Report


def section(answer: Joining, report: Report) -> Section:
    """What each owner brings, most first."""
    ranked = sorted(answer.owners, key=lambda owner: -owner.part)
    return Section(
        "joining",
        "What each owner brings",
        "What does each owner save alone, what is its part in the whole, and what would be lost without it?",
        tables=[_owners(ranked, report), _zero(ranked, report)],
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
    return Table("joining", "Owner by owner", columns, rows, report.page_size, note)


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
    return Table("joining-zero", "Of that, zero pages", columns, rows, report.page_size)


def _lines(answer: Joining, report: Report) -> Iterator[str]:
    page_size, count = report.page_size, len(answer.owners)
    if count < 2:
        yield "There is one owner: it saves what it saves alone."
        return
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
