"""Tables of figures as plain data, and what each view makes of them: text, CSV, cells of a page.

A view never computes: what is in a table's rows is what every view shows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import rich.table

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


def cell(value: Any, unit: Unit, page_size: int) -> str:
    """A value as people read it.

    >>> cell(3, "pages", 4096), cell(0.25, "share", 4096), cell(None, "count", 4096), cell(1234, "count", 4096)
    ('12.0 KiB', '25.0 %', '-', '1,234')
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
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def shortened(text: str, most: int) -> str:
    """A name in at most ``most`` characters; what is left out is in the middle.

    >>> shortened("a-rather-long-name", 9)
    'a-r…-name'
    """
    if len(text) <= most:
        return text
    behind = (most + 1) // 2
    return f"{text[: most - behind - 1]}\N{HORIZONTAL ELLIPSIS}{text[-behind:]}"


def as_text(table: Table, *, most: int = 20, widest: int = 28) -> rich.table.Table:
    """The first ``most`` rows for a terminal; texts are cut to ``widest`` columns."""
    shown = rich.table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in table.columns:
        left = column.unit in ("text", "hash")
        shown.add_column(
            column.heading, justify="left" if left else "right", no_wrap=True, overflow="ellipsis"
        )
    for row in table.rows[:most]:
        cells = (cell(value, column.unit, table.page_size) for value, column in zip(row, table.columns, strict=True))
        shown.add_row(*(shortened(each, widest) for each in cells))
    return shown


def as_csv(table: Table) -> str:
    """All rows, numbers as they are, under the columns' keys (RFC 4180; None is an empty field, hashes are hex)."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_MINIMAL)
    writer.writerow(column.key for column in table.columns)
    for row in table.rows:
        writer.writerow(value.hex() if isinstance(value, bytes) else value for value in row)
    return out.getvalue()
