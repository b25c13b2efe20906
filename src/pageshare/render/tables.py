"""Tables of figures as plain data, and what each view makes of them: text, CSV, cells of a page.

A view never computes: what is in a table's rows is what every view shows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import rich.table
from rich.cells import cell_len, set_cell_size

from pageshare.images import printable
from pageshare.render.units import clock, percent_of, size

Unit = Literal["text", "count", "pages", "bytes", "share", "number", "seconds", "address", "hash"]
"""What a column's values are: strings; whole numbers; pages; bytes; shares of 1; other numbers; seconds; addresses in
bytes; hashes as bytes. None is "not known" in all of them."""


@dataclass(frozen=True)
class Column:
    """``key`` names it in CSV and Parquet (``pages`` columns are in pages there), ``heading`` before people."""

    key: str
    heading: str
    unit: Unit = "count"


@dataclass(frozen=True)
class Table:
    """Some rows of figures, the most important first. ``name`` is its file's and its anchor's; ``note`` says how to
    read it, and what was assumed. One with ``detail`` is for machines: another table tells the same to people."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[Any, ...]]
    page_size: int
    note: str = ""
    detail: bool = False


GAP, LEAST, HEADING = 2, 12, 16
"""For a terminal: blanks between two columns; places that a text has at least, and a heading at most."""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""How texts begin that spreadsheets compute."""


def cell(value: Any, unit: Unit, page_size: int) -> str:
    """A value as people read it.

    >>> cell(3, "pages", 4096), cell(0.25, "share", 4096), cell(None, "count", 4096), cell(1234, "count", 4096)
    ('12.0 KiB', '25.0 %', '-', '1,234')
    >>> cell(1863.4, "number", 4096), cell(999.6, "number", 4096), cell(18.634, "number", 4096)
    ('1,860', '1,000', '18.6')
    """
    if value is None:
        return "-"
    if unit == "text":
        return printable(str(value))
    if unit in ("pages", "bytes"):
        whole = round(value * page_size) if unit == "pages" else round(value)
        return size(whole) if whole >= 0 else f"-{size(-whole)}"
    if unit == "share":
        return percent_of(value)
    if unit == "seconds":
        return clock(value)
    if unit == "address":
        return f"{value:#x}"
    if unit == "hash":
        return bytes(value).hex()
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3g}" if abs(value) < 999.5 else f"{float(f'{value:.3g}'):,.0f}"


def shortened(text: str, most: int) -> str:
    """A name in at most ``most`` columns of a terminal; what is left out is in the middle.

    >>> shortened("a-rather-long-name", 9)
    'a-r…-name'
    """
    if cell_len(text) <= most:
        return text
    behind = (most + 1) // 2
    before = set_cell_size(text, most - behind - 1).rstrip()
    while cell_len(text) > behind:
        text = text[-behind:] if len(text) > behind else text[1:]
    return f"{before}\N{HORIZONTAL ELLIPSIS}{text}"


def as_text(table: Table, *, most: int = 20, width: int = 80) -> rich.table.Table:
    """The first ``most`` rows, and as many columns from the left as fit into ``width``, for a terminal. No figure is
    cut; texts share the room that figures leave, and are shortened."""
    rows = [
        [cell(value, column.unit, table.page_size) for value, column in zip(row, table.columns, strict=True)]
        for row in table.rows[:most]
    ]
    headings = [shortened(printable(column.heading), HEADING) for column in table.columns]
    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    texts = [number for number, column in enumerate(table.columns) if column.unit == "text"]
    room = width - sum(widths) - GAP * (len(widths) - 1) + sum(widths[number] for number in texts)
    for left, number in zip(range(len(texts), 0, -1), sorted(texts, key=widths.__getitem__), strict=True):
        widths[number] = min(widths[number], max(LEAST, room // left))
        room -= widths[number]
    fitting = max(1, sum(used <= width + GAP for used in accumulate(each + GAP for each in widths)))
    shown = rich.table.Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for heading, column in zip(headings[:fitting], table.columns, strict=False):
        left = column.unit in ("text", "hash")
        shown.add_column(heading, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        shown.add_row(*(shortened(text, most) for text, most in zip(row[:fitting], widths, strict=False)))
    return shown


def plain(text: str) -> str:
    """A text as UTF-8 can hold it: bytes of a file's name that are no text become escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def as_csv(table: Table) -> str:
    """All rows, numbers as they are, under the columns' keys (RFC 4180; None is an empty field, hashes are hex).

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_MINIMAL)
    writer.writerow(_field(column.key) for column in table.columns)
    for row in table.rows:
        writer.writerow(_field(value) for value in row)
    return out.getvalue()


def _field(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{plain(value)}" if value.startswith(FORMULAS) and len(value) > 1 else plain(value)
    return value.hex() if isinstance(value, bytes) else value
