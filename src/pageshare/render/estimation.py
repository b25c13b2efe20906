"""The estimate as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator

from pageshare.estimation import Estimate, Estimated
from pageshare.render.tables import Column, Table
from pageshare.render.units import duration, percent_of, size

UNKNOWN_MATTERS = 0.05


def tables(answer: Estimate, page_size: int) -> list[Table]:
    """The figures with their errors, how they were come by, and what is exact of each owner."""
    return [_figures(answer, page_size), _sample(answer, page_size), _owners(answer, page_size)]


def _figures(answer: Estimate, page_size: int) -> Table:
    pages, nonzero = answer.pages, answer.nonzero
    zero = round(pages.reclaimed.estimate - nonzero.reclaimed.estimate)

    def row(name: str, figure: Estimated) -> tuple[str, float, float, float, float, float]:
        points = 100 * figure.error / answer.known if answer.known else 0.0
        return (name, figure.estimate, figure.low, figure.high, figure.error, points)

    rows = [
        row("reclaimed", pages.reclaimed),
        row("  zero pages", Estimated(zero, 0, zero, zero)),
        row("  other content", nonzero.reclaimed),
        row("    within one owner (intra)", nonzero.reclaimed_intra),
        row("    between owners (inter)", nonzero.reclaimed_inter),
        row("shared", pages.shared),
        row("kept", pages.kept),
        row("unique", pages.unique),
    ]
    note = "Exact, by hash." if answer.exact else (
        "from, to: in 95 of 100 samples the truth lies between. error: one standard error; points: the same in percent"
        " of all that is known. Chance may take an estimate a little beyond what is possible, even below zero."
    )
    columns = (
        Column("figure", "", "text"),
        Column("estimate", "estimate", "pages"),
        Column("low", "from", "pages"),
        Column("high", "to", "pages"),
        Column("error", "error", "pages"),
        Column("points", "points", "number"),
    )
    return Table("estimate", "What sharing would save", columns, rows, page_size, note)


def _sample(answer: Estimate, page_size: int) -> Table:
    columns = (
        Column("q", "q", "number"),
        Column("sampled", "contents sampled", "count"),
        Column("evicted", "evicted", "count"),
        Column("contents", "of about", "count"),
        Column("memory", "memory allowed", "bytes"),
        Column("table_bytes", "taken", "bytes"),
    )
    about = round(answer.nonzero.contents.estimate)
    row = (answer.q, answer.sampled, answer.evicted, about, answer.memory, answer.table_bytes)
    note = "1/q of all contents but zeros were kept, with exact counts; evicted: kept until memory was full."
    return Table("estimate-sample", "How it was estimated", columns, [row], page_size, note)


def _owners(answer: Estimate, page_size: int) -> Table:
    domains = len(answer.domains) > 1
    columns = (
        Column("owner", "owner", "text"),
        *([Column("domain", "domain", "text")] if domains else []),
        Column("known", "known", "pages"),
        Column("zero", "zero", "pages"),
    )
    ranked = sorted(answer.owners, key=lambda owner: -owner.zero)
    rows = [
        (owner.name, *([owner.domain] if domains else []), owner.known, owner.zero) for owner in ranked
    ]
    return Table("estimate-owners", "Exact, owner by owner", columns, rows, page_size)


def _bytes(answer: Estimate, pages: float) -> str:
    """Of what may be off by chance, no less than nothing."""
    return size(max(0, round(pages * answer.page_size)))


def headline(answer: Estimate) -> str:
    """The answer in one line."""
    if not answer.known:
        return "No page whose content is known: nothing to share."
    found = answer.pages.reclaimed
    share = percent_of(min(1.0, max(0.0, found.estimate / answer.known)))
    about = "" if answer.exact else "About "
    return (
        f"{about}{_bytes(answer, found.estimate)} of {_bytes(answer, answer.known)} can be saved ({share})"
        " by sharing identical pages"
    )


def details(answer: Estimate) -> Iterator[str]:
    """What belongs to the headline."""
    found = answer.pages.reclaimed
    if answer.exact:
        yield "exact, by hash: all contents fitted into memory"
    elif answer.known:
        yield (
            f"95 % interval: {_bytes(answer, found.low)} to {_bytes(answer, found.high)};"
            f" standard error {_bytes(answer, found.error)}"
            f" ({100 * found.error / answer.known:.2g} points of known memory)"
        )
    unknown = answer.coverage.unknown
    if unknown > UNKNOWN_MATTERS * (answer.known + unknown):
        yield (
            f"{_bytes(answer, unknown)} are unknown: over all pages the saving lies between"
            f" {_bytes(answer, found.low)} and {_bytes(answer, found.high + unknown)}"
        )


def footer(answer: Estimate) -> Iterator[str]:
    """How it was come by."""
    seconds = answer.seconds
    rate = f" ({size(int(answer.readable * answer.page_size / seconds.scan))}/s)" if seconds.scan > 0 else ""
    yield (
        f"{answer.page_size}-byte pages, by hash ({answer.hash}, {answer.kernel}), read once; it took"
        f" {size(answer.table_bytes)}"
    )
    yield f"{duration(seconds.total)} in all: {duration(seconds.map)} to open, {duration(seconds.scan)} to read{rate}"
