"""Tables as Parquet files, by pyarrow: an extra (pip install 'pageshare[parquet]'), loaded when asked for."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping
from typing import Any

from pageshare.render.tables import Column, Table, plain


class MissingArrow(ValueError):
    """pyarrow is not installed; the message says how to get it."""


def check_arrow() -> None:
    """Raise MissingArrow, before anything is computed, if no Parquet file could be written."""
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingArrow("Parquet needs pyarrow: pip install 'pageshare[parquet]'")


def as_parquet(table: Table, more: Mapping[str, str] | None = None) -> bytes:
    """All rows under the columns' keys, as CSV has them, with types: texts; whole numbers (int64; addresses uint64) for
    counts, pages and bytes, doubles where some are not whole or beyond 2^63; doubles for shares, seconds and other
    numbers; hashes as bytes. The columns' metadata name their ``unit``; the file's the table's ``title``, ``note`` and
    ``page_size``, and ``more``."""
    check_arrow()
    import pyarrow
    import pyarrow.parquet

    fields, arrays = [], []
    for number, column in enumerate(table.columns):
        values = [_value(row[number], column) for row in table.rows]
        kind = _type(column, values)
        if kind == pyarrow.float64():
            values = [None if value is None else float(value) for value in values]
        arrays.append(pyarrow.array(values, kind))
        fields.append(pyarrow.field(plain(column.key), kind, metadata={"unit": column.unit}))
    about = {"title": table.title, "note": table.note, "page_size": str(table.page_size), **(more or {})}
    out = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields, metadata=about)), out, compression="zstd"
    )
    return out.getvalue()


def _value(value: Any, column: Column) -> Any:
    return plain(value) if column.unit == "text" and value is not None else value


def _type(column: Column, values: list[Any]) -> Any:
    import pyarrow

    if column.unit in ("text", "hash"):
        return pyarrow.string() if column.unit == "text" else pyarrow.binary()
    if column.unit == "address":
        return pyarrow.uint64()
    if column.unit in ("share", "number", "seconds") or not all(map(_is_int64, values)):
        return pyarrow.float64()
    return pyarrow.int64()


def _is_int64(value: Any) -> bool:
    """Whether such a column holds it: a core may claim to lack more bytes than 2^63."""
    return value is None or (not isinstance(value, float) and -(1 << 63) <= value < 1 << 63)
