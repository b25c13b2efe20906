"""A report as one self-contained page: read without network or scripts, on paper too, with its data in it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pageshare._version import __version__
from pageshare.render.headline import MEANINGS, details, footer, headline
from pageshare.render.pages import templates
from pageshare.render.sections import everything, in_short
from pageshare.render.tables import Table, as_csv, cell, plain
from pageshare.render.units import percent, size, unbroken
from pageshare.report import Report

MOST_ROWS = 200
"""Rows of a table on the page; more of them are in its data."""
LONG, FEW = 20, 12
"""Of a table with more rows so many are shown, and printed, until all are asked for."""
LONGEST = 80
"""Characters of a row's name; the whole name is its title."""
MOST_CHARTS = 41
"""Pictures of a section that are not folded."""
MOST_CSV = 48 << 10
"""Bytes of a table as CSV that the page carries besides."""
MOST_NOTICES = 3
MOST_LINK = 1 << 20
"""Bytes of data behind a link as they are, compressed beyond: Chromium follows links of up to 2 MiB."""


@dataclass(frozen=True)
class Part:
    """A stretch of the bar: its colour's name, what it is, pages; ``saved``: they go."""

    kind: str
    label: str
    pages: int
    size: str
    side: str
    hatched: bool = False


@dataclass(frozen=True)
class Brace:
    """What stretches of the bar have in common, above them."""

    kind: str
    pages: int
    text: str


@dataclass(frozen=True)
class Tile:
    """A figure of the headline."""

    name: str
    size: str
    share: str
    meaning: str


def page(report: Report) -> str:
    """HTML of a report with all its sections. Escaped, no network, no scripts. Raises MissingTemplates."""
    amount, rest = headline(report)
    bar = [part for part in _bar(report) if part.pages]
    braces = list(_braces(report, bar))
    name, data = _data(report)
    there = list(everything(report))
    return plain(
        templates()
        .get_template("report.html")
        .render(
            amount=unbroken(amount),
            rest=unbroken(rest),
            details=[f"{line[0].upper()}{line[1:]}." for line in details(report)],
            notices=_notices(report),
            bar=bar,
            braces=braces,
            spoken="; ".join(
                f"{brace.text}: {', '.join(f'{part.label} {part.size}' for part in bar if part.side == brace.kind)}"
                for brace in braces
            ),
            tiles=list(_tiles(report)),
            sections=there,
            short=list(in_short(report, there)),
            footer=list(footer(report)),
            page_size=report.page_size,
            version=__version__,
            data=data,
            data_name=name,
            data_size=size(len(data) * 3 // 4),
            csv_link=_csv_link,
            cell=cell,
            unbroken=unbroken,
            chart_width=_chart_width,
            most_rows=MOST_ROWS,
            most_notices=MOST_NOTICES,
            long=LONG,
            few=FEW,
            longest=LONGEST,
            most_charts=MOST_CHARTS,
        )
    )


def _bar(report: Report) -> Iterator[Part]:
    """All that is there: what stays, what is saved, what is unknown; known = unique + kept + reclaimed."""
    pages, nonzero = report.pages, report.nonzero

    def part(kind: str, label: str, count: int, side: str, *, hatched: bool = False) -> Part:
        return Part(kind, label, count, size(count * report.page_size), side, hatched)

    if pages.unique is None:
        yield part("unique", "not found to be shared so far", pages.known - pages.shared, "stays")
    else:
        yield part("unique", "unique", pages.unique, "stays")
    yield part("kept", "kept, one of each group", pages.kept, "stays", hatched=True)
    yield part("inter", "between owners", nonzero.reclaimed_inter, "saved")
    yield part("intra", "within one owner", nonzero.reclaimed_intra, "saved", hatched=True)
    yield part("zero", "zero pages", pages.reclaimed - nonzero.reclaimed, "saved")
    yield part("unknown", "unknown", pages.unknown, "open", hatched=True)


def _braces(report: Report, bar: list[Part]) -> Iterator[Brace]:
    words = {"stays": "stays", "saved": "reclaimed", "open": "unknown"}
    for side, word in words.items():
        count = sum(part.pages for part in bar if part.side == side)
        if count:
            yield Brace(side, count, f"{word} {size(count * report.page_size)}")


def _tiles(report: Report) -> Iterator[Tile]:
    pages = report.pages
    for name, meaning in MEANINGS.items():
        count = getattr(pages, name)
        shown = "-" if count is None else size(count * report.page_size)
        share = "not known yet" if count is None else f"{percent(count, pages.known)} of known" if pages.known else ""
        if name == "known":
            there = pages.known + pages.unknown
            share = f"{percent(count, there)} of {size(there * report.page_size)}" if pages.unknown else "all there is"
        if name == "reclaimed" and report.reclaimed_range:
            shown = f"{shown} +"
            share = f"up to {size(report.reclaimed_range[1] * report.page_size)}"
        yield Tile(name, shown, share, meaning)


def _notices(report: Report) -> dict[str, list[str]]:
    """What a reader should know before he trusts the figures, by its kind."""
    kinds = {
        "Interrupted": ["The figures are those found until then."] if report.interrupted else [],
        "Incomplete: pages that should be there are not": report.incomplete,
        "Left out": [f"{each['path']}: {each['reason']}" for each in report.skipped],
        "Warnings": report.warnings,
    }
    return {kind: list(sentences) for kind, sentences in kinds.items() if sentences}


def _data(report: Report) -> tuple[str, str]:
    """The JSON document as a file's name and a link."""
    document = json.dumps(report.to_dict(), separators=(",", ":")).encode()
    if len(document) <= MOST_LINK:
        return "report.json", _link("application/json", document)
    return "report.json.gz", _link("application/gzip", gzip.compress(document, mtime=0))


def _chart_width(svg: str) -> int:
    """How wide a picture is at most, in pixels: as wide as it was drawn, so that its letters are not larger."""
    box = re.search(r'viewBox="\s*\S+\s+\S+\s+([\d.]+)', svg)
    return round(float(box[1])) if box else 1000


def _csv_link(table: Table) -> str:
    """A table as a link to its CSV; empty if it has no rows, or more than a page should carry."""
    if not table.rows:
        return ""
    data = as_csv(table).encode()
    return _link("text/csv;charset=utf-8", data) if len(data) <= MOST_CSV else ""


def _link(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
