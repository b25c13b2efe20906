"""The view of a placement: who goes where, what that needs, and what else would need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pageshare.answers.placement import Placement
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table, cell
from pageshare.render.units import percent
from pageshare.report import Report

MOST_NAMED = 5

_NEED = (Column("need", "need", "pages"), Column("saved", "saved", "pages"))


def section(answer: Placement, report: Report) -> Section:
    """Hosts with their owners; the same owner by owner; and how good that is."""
    return Section(
        key="placement",
        title="Placement",
        question="Which owners should be on one host, so that they share most?",
        tables=list(_tables(answer, report.page_size)),
        lines=list(_lines(answer, report.page_size)),
        assumptions=answer.assumptions,
    )


def _tables(answer: Placement, page_size: int) -> Iterator[Table]:
    sized = answer.host_pages is not None
    if answer.placed:
        yield Table(
            "placement",
            "Hosts, those that save most first",
            (
                Column("host", "host"),
                Column("owners", "owners"),
                *_NEED,
                Column("of_alone", "of alone", "share"),
                *((Column("full", "full", "share"),) if sized else ()),
                Column("names", "who", "text"),
            ),
            [
                (
                    number,
                    len(host.owners),
                    host.need,
                    host.saved,
                    host.saved / host.alone if host.alone else None,
                    *((host.need / answer.host_pages,) if answer.host_pages else ()),
                    ", ".join(host.owners),
                )
                for number, host in enumerate(answer.placed, 1)
            ],
            page_size,
            "need: what the owners need together, each content once; saved: less than each on a host of its own",
        )
        yield Table(
            "placement-owners",
            "Owners and their hosts",
            (Column("owner", "owner", "text"), Column("host", "host")),
            [(owner, number) for number, host in enumerate(answer.placed, 1) for owner in host.owners],
            page_size,
            detail=True,
        )
    yield Table(
        "placement-compared",
        "How good that is",
        (Column("placement", "placement", "text"), *_NEED, Column("of_alone", "of alone", "share")),
        [
            (
                name,
                need,
                None if need is None else answer.alone - need,
                (answer.alone - need) / answer.alone if need is not None and answer.alone else None,
            )
            for name, need in _compared(answer)
        ],
        page_size,
    )


def _compared(answer: Placement) -> Iterator[tuple[str, Any]]:
    if answer.fits:
        yield "this one", answer.need
    if answer.random:
        yield "the best random one", answer.random.best
        yield "random, on average", answer.random.mean
        yield "the worst random one", answer.random.worst
    yield "each on its own host", answer.alone
    yield "all on one host", answer.together
    yield "no placement needs less", answer.bound


def _lines(answer: Placement, page_size: int) -> Iterator[str]:
    def size(pages: float) -> str:
        return cell(pages, "pages", page_size)

    owners = sum(len(host.owners) for host in answer.placed)
    what = f"{answer.hosts} host{'s' * (answer.hosts != 1)}"
    if answer.host_pages is not None:
        what += f" of {size(answer.host_pages)}"
    if answer.too_large:
        more = len(answer.too_large) - MOST_NAMED
        needs = "needs" if len(answer.too_large) == 1 else "need"
        yield (
            f"No placement: {', '.join(answer.too_large[:MOST_NAMED])}{f' and {more} more' * (more > 0)}"
            f" {needs} more than the {size(answer.host_pages or 0)} of a host"
        )
    elif answer.fits:
        used = len(answer.placed)
        empty = answer.hosts - used
        yield (
            f"{owners} owners on {what} need {size(answer.need or 0)}: {size(answer.saved or 0)}"
            f" ({percent(answer.saved or 0, answer.alone)}) less than each on a host of its own"
            + (f"; {empty} of the hosts {'stay' if empty > 1 else 'stays'} empty" if empty else "")
        )
        yield from _against(answer, size)
    yield from _hosts_needed(answer, size)


def _against(answer: Placement, size: Any) -> Iterator[str]:
    random, need = answer.random, answer.need or 0
    if random and random.mean is not None and random.best is not None:
        yield (
            f"Placed at random, they need {size(random.mean)} on average (of {random.fitting} that fit): this"
            f" placement saves {size(random.mean - need)} more, the best random one {size(random.mean - random.best)}"
        )
    elif random and random.trials:
        yield f"None of {random.trials} random placements fits on these hosts"
    possible = answer.alone - answer.bound
    if possible:
        yield (
            f"No placement can save more than {size(possible)}: this one saves at least"
            f" {percent(answer.saved or 0, possible)} of what is possible"
        )


def _hosts_needed(answer: Placement, size: Any) -> Iterator[str]:
    fewest = answer.fewest
    if fewest is None or fewest.found is None:
        return
    if not answer.fits:
        proven = answer.hosts < fewest.at_least
        yield (
            f"No placement on {answer.hosts} host{'s' * (answer.hosts != 1)} of {size(answer.host_pages or 0)}"
            + (" is possible" if proven else " was found")
            + f": {fewest.found} are enough"
        )
    yield (
        f"{fewest.found} hosts of this size are enough as found, {fewest.at_least} are needed in any case;"
        f" {fewest.alone} if owners shared nothing with each other"
        + ("" if fewest.known is None else f", {fewest.known} without any sharing")
    )
