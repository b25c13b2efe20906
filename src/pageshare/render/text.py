"""The terminal view: one headline, then where it comes from, owner by owner, coverage, and how fast it went.

Tables fit 80 columns; sizes are in binary units; what matters most comes first.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pageshare.images import printable
from pageshare.render.console import laid_out
from pageshare.render.units import duration, percent, size
from pageshare.report import OwnerReport, Report

MOST_OWNERS = 40
UNKNOWN_MATTERS = 0.05


def render(report: Report, *, colour: bool = False, width: int = 80) -> str:
    """The report as text, for a terminal of ``width`` columns, with ANSI colours if ``colour``."""
    return laid_out(lambda console: write(report, console), colour=colour, width=width)


def write(report: Report, console: Console) -> None:
    """Print the report to a console."""
    console.print(Text(_headline(report), style="bold"))
    for line in _detail(report):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(_savings(report))
    if len(report.owners) > 1:
        console.print()
        console.print(_owners(report))
        if len(report.owners) > MOST_OWNERS:
            console.print(f"and {len(report.owners) - MOST_OWNERS} more (--json has all)")
        console.print("alone: reclaimed without the others; shared, unique: among all scanned")
    console.print()
    console.print(_coverage(report))
    console.print()
    for line in _footer(report):
        console.print(line, soft_wrap=True)


def _bytes(report: Report, pages: int) -> str:
    return size(pages * report.page_size)


def _headline(report: Report) -> str:
    pages = report.pages
    if not pages.known:
        return "No page whose content is known: nothing to share."
    found = "saved so far" if report.partial else "saved"
    return (
        f"{_bytes(report, pages.reclaimed)} of {_bytes(report, pages.known)} can be {found}"
        f" ({percent(pages.reclaimed, pages.known)}) by sharing identical pages"
    )


def _detail(report: Report) -> Iterator[str]:
    pages, nonzero = report.pages, report.nonzero
    if pages.reclaimed:
        zero = pages.reclaimed - nonzero.reclaimed
        holes = min(pages.zero_inferred, zero)
        yield f"  {_bytes(report, zero)} of it zero pages, {_bytes(report, nonzero.reclaimed)} other content"
        if holes:
            yield f"  {_bytes(report, holes)} of the zero pages are holes in the files: they may take no memory now"
    if report.partial:
        partial = report.partial
        yield (
            f"  after {partial.visits:,} visits in {partial.policy} order"
            f" ({percent(min(partial.visits, report.readable), report.readable)} of the pages to be read)"
            + (", interrupted" if report.interrupted else "")
        )
    if pages.unknown > UNKNOWN_MATTERS * (pages.known + pages.unknown):
        most = pages.reclaimed + pages.unknown
        yield (
            f"  {_bytes(report, pages.unknown)} are unknown: over all pages the saving lies between"
            f" {_bytes(report, pages.reclaimed)} and {_bytes(report, most)}"
        )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True, overflow="ellipsis")
    return table


def _savings(report: Report) -> Table:
    pages, nonzero = report.pages, report.nonzero
    zero_shared = pages.shared - nonzero.shared
    zero_kept = pages.kept - nonzero.kept
    table = _table("Where it comes from", "", "shared", "kept", "reclaimed", "of known")

    def row(name: str, shared: int | None, kept: int | None, reclaimed: int) -> None:
        table.add_row(
            name,
            "" if shared is None else _bytes(report, shared),
            "" if kept is None else _bytes(report, kept),
            _bytes(report, reclaimed),
            percent(reclaimed, pages.known),
        )

    row("zero pages", zero_shared, zero_kept, zero_shared - zero_kept)
    row("other content", nonzero.shared, nonzero.kept, nonzero.reclaimed)
    row("  within one owner (intra)", None, None, nonzero.reclaimed_intra)
    row("  between owners (inter)", None, None, nonzero.reclaimed_inter)
    row("all", pages.shared, pages.kept, pages.reclaimed)
    return table


def _owners(report: Report) -> Table:
    domains = len(report.domains) > 1
    table = _table(
        "Owner by owner",
        "owner",
        *(["domain"] if domains else []),
        "known",
        "zero",
        "alone",
        "shared",
        "unique",
    )
    ranked = sorted(report.owners, key=lambda owner: -owner.with_others.shared)
    for owner in ranked[:MOST_OWNERS]:
        names = [owner.name, owner.domain] if domains else [owner.name]
        table.add_row(*(_short(name, 16 if domains else 28) for name in names), *_owner_cells(report, owner))
    return table


def _short(name: str, most: int) -> str:
    """A name on one line of at most ``most`` columns; what is left out, is in the middle."""
    name = printable(name)
    return name if len(name) <= most else f"{name[: most // 2 - 1]}\N{HORIZONTAL ELLIPSIS}{name[-most // 2 :]}"


def _owner_cells(report: Report, owner: OwnerReport) -> list[str]:
    unique = owner.with_others.unique
    return [
        _bytes(report, owner.pages.known),
        _bytes(report, owner.pages.zero),
        _bytes(report, owner.pages.reclaimed),
        _bytes(report, owner.with_others.shared),
        "-" if unique is None else _bytes(report, unique),
    ]


def _coverage(report: Report) -> Table:
    coverage = report.coverage
    table = _table("What was looked at", "", "pages", "size")
    rows = [
        ("read from files", coverage.data, True),
        ("zero by the format", coverage.zero, False),
        ("zero: holes in files", coverage.zero_inferred, False),
        ("unknown: left out by who made the dump", coverage.excluded, False),
        ("unknown: lost", coverage.lost, False),
        ("apart: device memory", coverage.device, False),
        ("apart: incomplete pages at a range's end", coverage.partial, False),
    ]
    for name, pages, always in rows:
        if pages or always:
            table.add_row(name, f"{pages:,}", _bytes(report, pages))
    return table


def _footer(report: Report) -> Iterator[str]:
    seconds = report.seconds
    read = (report.partial.visits if report.partial else report.coverage.data) * report.page_size
    rate = f" ({size(int(read / seconds.scan))}/s)" if seconds.scan > 0 and read else ""
    # On a handful of pages the table's fixed part would be all that this says.
    per_page = f", {report.table_bytes / report.readable:.1f} bytes a page" if report.readable >= 1 << 18 else ""
    yield (
        f"{report.page_size}-byte pages, every match compared byte by byte ({report.method}, {report.kernel});"
        f" it took {size(report.table_bytes)}{per_page}"
    )
    how = "map and scan" if report.overlapped else f"scan in {report.readings} readings" if report.readings else "scan"
    yield (
        f"{duration(seconds.total)} in all: {duration(seconds.map)} to open and map,"
        f" {duration(seconds.scan)} to {how}{rate}, {report.threads} thread{'s' * (report.threads > 1)}"
    )
