"""What isolation costs, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pageshare.answers.isolation import Isolation
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table
from pageshare.render.units import percent, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageshare.report import Report

NAMES = {"one": "all share", "given": "the domains given", "each": "each by itself"}


def section(answer: Isolation, report: Report) -> Section:
    """The price of isolation."""
    tables = [_divisions(answer, report)]
    if answer.domains:
        tables.append(_domains(answer, report))
    if len(answer.owners) > 1:
        tables.append(_owners(answer, report))
    return Section(
        "isolation",
        "What isolation costs",
        "What stays of the saving if only owners of one sharing domain share?",
        tables=tables,
        lines=list(_lines(answer, report)),
        assumptions=answer.assumptions,
    )


def _divisions(answer: Isolation, report: Report) -> Table:
    most = answer.divisions[0].reclaimed
    columns = (
        Column("division", "", "text"),
        Column("domains", "domains"),
        Column("reclaimed", "reclaimed", "pages"),
        Column("reclaimed_zero", "of it zero", "pages"),
        Column("lost", "lost", "pages"),
        Column("lost_zero", "of it zero", "pages"),
        Column("share", "stays", "share"),
    )
    rows = [
        (
            NAMES[each.name],
            each.domains,
            each.reclaimed,
            each.reclaimed_zero,
            each.lost,
            each.lost_zero,
            each.reclaimed / most if most else None,
        )
        for each in answer.divisions
    ]
    note = "lost: against all owners in one domain"
    return Table("isolation", "The price of isolation", columns, rows, report.page_size, note)


def _domains(answer: Isolation, report: Report) -> Table:
    columns = (
        Column("domain", "domain", "text"),
        Column("owners", "owners"),
        Column("known", "known", "pages"),
        Column("reclaimed", "reclaimed", "pages"),
        Column("reclaimed_zero", "of it zero", "pages"),
    )
    ranked = sorted(answer.domains, key=lambda domain: -domain.reclaimed)
    rows = [(each.name, each.owners, each.known, each.reclaimed, each.reclaimed_zero) for each in ranked]
    return Table("isolation-domains", "Domain by domain", columns, rows, report.page_size)


def _owners(answer: Isolation, report: Report) -> Table:
    columns = (
        Column("owner", "owner", "text"),
        Column("lost", "lost", "pages"),
        Column("lost_zero", "of it zero", "pages"),
    )
    rows = [(each.name, each.lost, each.lost_zero) for each in sorted(answer.owners, key=lambda owner: -owner.lost)]
    note = "lost: if this owner alone were taken out of the one domain; a frame for each content that others hold too"
    return Table("isolation-owners", "If one owner is set apart", columns, rows, report.page_size, note)


def _lines(answer: Isolation, report: Report) -> Iterator[str]:
    page_size = report.page_size
    one, *others = answer.divisions
    if len(answer.owners) < 2:
        yield "There is one owner: nothing to be isolated from."
        return
    for each in others:
        what = "The domains that were given cost" if each.name == "given" else "No sharing between owners costs"
        nonzero = each.lost - each.lost_zero
        yield (
            f"{what} {size(each.lost * page_size)} of {size(one.reclaimed * page_size)}"
            f" ({percent(each.lost, one.reclaimed)}): {size(each.lost_zero * page_size)} for zero pages,"
            f" {size(nonzero * page_size)} for other content"
        )
    yield (
        "A write to a shared page takes longer: by that an owner can tell whether others hold a content that it knows."
        " Share only among those that may know this"
    )
