"""Saved scans: one Parquet file that holds which content is where, and no byte of it.

A row is a page of an owner, or a stretch of pages that are zero or not known; docs/saved.md has the columns. The
figures of a scan are computed from it as they are from the dumps. DuckDB, Polars and pandas read it as it is.

Needs pyarrow, and msgspec to read: ``pip install 'pageshare[parquet]'``.
"""

from __future__ import annotations

from pageshare.saved._digests import MOST_KEY, Key, digests_of, ordered
from pageshare.saved._format import FORMAT, STATES, SavedError, check_packages
from pageshare.saved._read import SavedScan, read
from pageshare.saved._write import write

__all__ = [
    "FORMAT",
    "MOST_KEY",
    "STATES",
    "Key",
    "SavedError",
    "SavedScan",
    "check_packages",
    "digests_of",
    "ordered",
    "read",
    "write",
]
