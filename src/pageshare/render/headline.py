"""What every report says first: one sentence, the figures behind it, where it comes from, owner by owner, and what was
looked at. Sentences and tables, as every view shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table
from pageshare.render.units import duration, percent, size
from pageshare.report import Report

MEANINGS = {
    "known": "pages whose content is known",
    "zero": "known pages that are all zero",
    "unique": "content that is held once: nothing to share",
    "shared": "pages in groups of two or more with the same content",
    "kept": "frames that stay, one for each group",
    "reclaimed": "shared less kept: what is really saved",
}
"""The figures of the headline, in its order, and what each of them is."""


def headline(report: Report) -> tuple[str, str]:
    """The report in one sentence: how much is saved, and the rest of the sentence. Where much is unknown, a range."""
    pages = report.pages
    if report.reclaimed_range:
        low, high = report.reclaimed_range
        there = pages.known + pages.unknown
        share = f"{percent(low, there)} to {percent(high, there)}"
        return (
            f"Between {_bytes(report, low)} and {_bytes(report, high)}",
            f" of {_bytes(report, there)} can be saved ({share}) by sharing identical pages",
        )
    if not pages.known:
        return "", "No page whose content is known: nothing to share."
    end = f"can be {'saved so far' if report.partial else 'saved'}"
    return (
        _bytes(report, pages.reclaimed),
        f" of {_bytes(report, pages.known)} {end} ({percent(pages.reclaimed, pages.known)}) by sharing identical pages",
    )


def details(report: Report) -> Iterator[str]:
    """What belongs to the headline."""
    pages, nonzero = report.pages, report.nonzero
    if report.reclaimed_range:
        known = (
            f"what is known saves {_bytes(report, pages.reclaimed)} of {_bytes(report, pages.known)}"
            f"{' so far' if report.partial else ''}"
            f" ({percent(pages.reclaimed, pages.known)})"
            if pages.known
            else "no page is known"
        )
        yield f"{_bytes(report, pages.unknown)} are unknown, and may be like other pages or not; {known}"
    if pages.reclaimed:
        zero = pages.reclaimed - nonzero.reclaimed
        holes = min(pages.zero_inferred, zero)
        yield f"{_bytes(report, zero)} of it zero pages, {_bytes(report, nonzero.reclaimed)} other content"
        if holes:
            yield f"{_bytes(report, holes)} of the zero pages are holes in the files: they may take no memory now"
    if report.partial:
        partial = report.partial
        yield (
            f"after {partial.visits:,} visits in {partial.policy} order"
            f" ({percent(min(partial.visits, report.readable), report.readable)} of the pages to be read)"
            + (", interrupted" if report.interrupted else "")
        )


def footer(report: Report) -> Iterator[str]:
    """How it was counted, and how long that took."""
    seconds = report.seconds
    read = (report.partial.visits if report.partial else report.coverage.data) * report.page_size
    rate = f" ({size(int(read / seconds.scan))}/s)" if seconds.scan > 0 and read else ""
    # On a handful of pages the table's fixed part would be all that this says.
    per_page = f", {report.table_bytes / report.readable:.1f} bytes a page" if report.readable >= 1 << 18 else ""
    matches = "every match compared byte by byte" if report.verified else "matches by hash"
    yield (
        f"{report.page_size}-byte pages, {matches} ({report.method}, {report.kernel});"
        f" it took {size(report.table_bytes)}{per_page}"
    )
    how = "map and scan" if report.overlapped else f"scan in {report.readings} readings" if report.readings else "scan"
    rest = seconds.total - seconds.map - seconds.scan
    yield (
        f"{duration(seconds.total)} in all: {duration(seconds.map)} to open and map,"
        f" {duration(seconds.scan)} to {how}{rate}, {report.threads} thread{'s' * (report.threads > 1)};"
        f" {duration(max(0.0, rest))} to start and to answer"
    )


def first_sections(report: Report) -> list[Section]:
    """What stands before the answers: where it comes from, owner by owner."""
    return [
        Section("savings", "Where it comes from", "Which pages bring the saving?", [_savings(report)]),
        Section("owners", "Owner by owner", "Who has how much, and how much of it is shared?", [_owners(report)]),
    ]


def last_sections(report: Report) -> list[Section]:
    """What stands behind the answers: the headline's figures, what was looked at."""
    return [
        Section("figures", "The figures", "How many pages are that, exactly?", [_figures(report)]),
        Section("coverage", "What was looked at", "How much of the memory is known?", [_coverage(report)]),
    ]


def _bytes(report: Report, pages: int) -> str:
    return size(pages * report.page_size)


def _figures(report: Report) -> Table:
    pages = report.pages
    ranged = report.reclaimed_range
    columns = (
        Column("figure", "", "text"),
        Column("pages", "pages"),
        Column("bytes", "size", "bytes"),
        Column("share", "of known", "share"),
        *([Column("most", "at most", "pages")] if ranged else []),
    )
    rows = []
    for name in (*MEANINGS, "unknown"):
        count = getattr(pages, name)
        most = [ranged[1] if name == "reclaimed" else None] if ranged else []
        share = None if name == "unknown" else _share(count, pages.known)
        rows.append((name, count, None if count is None else count * report.page_size, share, *most))
    note = "at most: if every unknown page is like another" if ranged else ""
    if ranged and pages.unique is None:
        note += ", and every known one that was not found to be shared so far"
    return Table("headline", "The figures", columns, rows, report.page_size, note)


def _share(part: int | None, whole: int) -> float | None:
    return None if part is None or not whole else part / whole


def _savings(report: Report) -> Table:
    pages, nonzero = report.pages, report.nonzero
    zero_shared, zero_kept = pages.shared - nonzero.shared, pages.kept - nonzero.kept
    columns = (
        Column("kind", "", "text"),
        Column("shared", "shared", "pages"),
        Column("kept", "kept", "pages"),
        Column("reclaimed", "reclaimed", "pages"),
        Column("share", "of known", "share"),
    )
    rows: list[tuple[str, int | None, int | None, int]] = [
        ("zero pages", zero_shared, zero_kept, zero_shared - zero_kept),
        ("other content", nonzero.shared, nonzero.kept, nonzero.reclaimed),
        ("  within one owner (intra)", None, None, nonzero.reclaimed_intra),
        ("  between owners (inter)", None, None, nonzero.reclaimed_inter),
        ("all", pages.shared, pages.kept, pages.reclaimed),
    ]
    return Table(
        "savings",
        "Where it comes from",
        columns,
        [(*row, _share(row[-1], pages.known)) for row in rows],
        report.page_size,
    )


def _owners(report: Report) -> Table:
    """Those that share most first. Where it was asked, with each one's part and what it adds, which takes the place of
    unique = known - shared."""
    domains = len(report.domains) > 1
    joining = getattr(report.answers, "joining", None)
    columns = (
        Column("owner", "owner", "text"),
        *([Column("domain", "domain", "text")] if domains else []),
        Column("known", "known", "pages"),
        Column("zero", "zero", "pages"),
        Column("alone", "alone", "pages"),
        *([Column("part", "its part", "pages"), Column("adds", "adds", "pages")] if joining else []),
        Column("shared", "shared", "pages"),
        *([] if joining else [Column("unique", "unique", "pages")]),
    )
    rows = []
    joined = joining.owners if joining else [None] * len(report.owners)
    for owner, mine in sorted(zip(report.owners, joined, strict=True), key=lambda both: -both[0].with_others.shared):
        names = (owner.name, owner.domain) if domains else (owner.name,)
        figures = (owner.pages.known, owner.pages.zero, owner.pages.reclaimed)
        others = owner.with_others
        rows.append((*names, *figures, *((mine.part, mine.adds, others.shared) if mine else astuple(others))))
    note = "alone: reclaimed without the others; shared, unique: among all scanned"
    if joining:
        note = (
            "alone: reclaimed without the others; its part: of all that is reclaimed; adds: what would not be reclaimed"
            " without it; shared: among all scanned"
        )
    return Table("owners", "Owner by owner", columns, rows, report.page_size, note)


def _coverage(report: Report) -> Table:
    coverage = report.coverage
    columns = (Column("what", "", "text"), Column("pages", "pages"), Column("bytes", "size", "bytes"))
    rows = [
        ("read from files", coverage.data),
        ("zero by the format", coverage.zero),
        ("zero: holes in files", coverage.zero_inferred),
        ("unknown: left out by who made the dump", coverage.excluded),
        ("unknown: lost", coverage.lost),
        ("apart: device memory", coverage.device),
        ("apart: incomplete pages at a range's end", coverage.partial),
    ]
    there = [(what, pages, pages * report.page_size) for what, pages in rows if pages or what == "read from files"]
    return Table("coverage", "What was looked at", columns, there, report.page_size)
