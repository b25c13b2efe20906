"""What a saved scan is made of: columns, metadata, checksums; and the error of a file that is none."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.answers.page_sizes import PageSizes
from pageshare.answers.similar import Similar
from pageshare.core import DIGEST, hash_pages
from pageshare.images import printable
from pageshare.report import FileReport, Seconds
from pageshare.space import Coverage

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

FORMAT = "pageshare-saved/1"
METADATA, CHECK = b"pageshare", b"pageshare-check"
"""Keys of the file's metadata: JSON of the scan, and BLAKE2b-128 of that in hexadecimal."""

DATA, ZEROS, HOLE, UNKNOWN = range(4)
STATES = ("data", "zero", "hole", "unknown")
"""What the pages of a row are: of some content; read and found zero; known to be zero without being read; not known."""

ROWS = 1 << 20
"""Pages, or rows of several, that are a row group."""
MOST_FOOTER = 64 << 20
"""Bytes of the footer, which has what is known of each owner: some 700 an owner."""


class SavedError(ValueError):
    """A file that can't be read as a saved scan. ``str()`` is one line: file, problem, remedy."""

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(f"{printable(os.fspath(path))}: {problem}")


def check_packages() -> None:
    """Raise ValueError if the packages that saved scans need are not there."""
    for name in ("pyarrow", "msgspec"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"saved scans need {name}: pip install 'pageshare[parquet]'")


def encodings() -> dict[str, Any]:
    """How each column is kept: numbers that mostly go up by one as differences, what is mostly the same as runs of a
    dictionary's entries, and hashes as they are, since nothing makes them smaller. Many values at a time are encoded in
    a twentieth less time than pyarrow's 1,024."""
    columns = ("owner", "frame", "pages", "state", "content", "hash", "count", "kind")
    return {
        "compression": {name: "NONE" if name == "hash" else "ZSTD" for name in columns},
        "use_dictionary": ["owner", "pages", "state", "count", "kind"],
        "column_encoding": {"frame": "DELTA_BINARY_PACKED", "content": "DELTA_BINARY_PACKED", "hash": "PLAIN"},
        "write_statistics": ["owner", "frame", "content"],
        "write_page_checksum": True,
        "write_batch_size": 1 << 16,
    }


def schema(*, kinds: bool) -> pyarrow.Schema:
    """The columns of a saved scan."""
    import pyarrow as pa

    words = pa.dictionary(pa.int32(), pa.string())
    fields = [
        pa.field("owner", words, nullable=False),
        pa.field("frame", pa.uint64(), nullable=False),
        pa.field("pages", pa.uint64(), nullable=False),
        pa.field("state", words, nullable=False),
        pa.field("content", pa.uint32()),
        pa.field("hash", pa.binary(DIGEST)),
        pa.field("count", pa.uint32()),
    ]
    return pa.schema([*fields, pa.field("kind", words)] if kinds else fields)


@dataclass(frozen=True)
class Rows:
    """Some rows, in file order, as plain arrays: NO_PAGE for a content that is null; ``first`` says which rows are the
    first of their content: ``count`` is of these."""

    owner: NDArray[np.int32]
    frame: NDArray[np.uint64]
    pages: NDArray[np.uint64]
    state: NDArray[np.int8]
    content: NDArray[np.uint32]
    first: NDArray[np.bool_]
    count: NDArray[np.uint32]


CHECKED_AT_ONCE = 1 << 20
"""Bytes of a column whose XXH3-128 is part of its checksum."""


class Checks:
    """Of each column's values, whatever the row groups (of ``count``, ``hash`` and ``kind`` those of the first rows of
    contents): the BLAKE2b-128 of the XXH3-128 of each whole MiB, low word first, and of what is left over as it is.
    That is against damage: who means harm can compute it too."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}
        self._left_over: dict[str, bytearray] = {}

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Some more of them."""
        one = self._hashes.setdefault(name, hashlib.blake2b(digest_size=DIGEST))
        left_over = self._left_over.setdefault(name, bytearray())
        little_endian = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
        data, at = little_endian.reshape(-1).view(np.uint8).data, 0
        if left_over:
            at = min(CHECKED_AT_ONCE - len(left_over), len(data))
            left_over += data[:at]
            if len(left_over) < CHECKED_AT_ONCE:
                return
            one.update(_hashed(left_over))
            left_over.clear()
        end = len(data) - (len(data) - at) % CHECKED_AT_ONCE
        one.update(_hashed(data[at:end]))
        left_over += data[end:]

    def rows(self, rows: Rows) -> None:
        """Of all columns but ``hash`` and ``kind``."""
        for name in ("owner", "frame", "pages", "state", "content"):
            self.add(name, getattr(rows, name))
        self.add("count", rows.count)

    def result(self) -> dict[str, str]:
        """In hexadecimal."""
        whole = {name: one.copy() for name, one in self._hashes.items()}
        for name, one in whole.items():
            one.update(self._left_over[name])
        return {name: one.hexdigest() for name, one in whole.items()}


def _hashed(whole: Any) -> bytes:
    return hash_pages(whole, CHECKED_AT_ONCE, bits=128).astype("<u8").tobytes()


def check_of(text: bytes) -> bytes:
    """Of the metadata's text."""
    return hashlib.blake2b(text, digest_size=DIGEST).hexdigest().encode()


@dataclass(frozen=True)
class SavedOwner:
    name: str
    domain: str
    files: tuple[FileReport, ...]
    coverage: Coverage


@dataclass(frozen=True)
class SavedReport:
    """What is saved of a ``Report``, by its fields' names."""

    page_size: int
    hash: str
    verified: bool
    domains: tuple[str, ...]
    owners: tuple[SavedOwner, ...]
    seed: int
    method: str
    kernel: str
    threads: int
    overlapped: bool
    readings: int
    table_bytes: int
    readable: int
    seconds: Seconds
    incomplete: tuple[str, ...]
    warnings: tuple[str, ...]
    skipped: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class SavedAnswers:
    """Those that took the bytes of pages, and can't be had from this file."""

    page_sizes: PageSizes | None
    similar: Similar | None


@dataclass(frozen=True)
class Metadata:
    """Page counts: ``read`` those that are data or were found zero, ``holes`` known zeros that were not read;
    ``contents`` how many there are but zeros."""

    format: str
    version: str
    saved: str
    key_id: str | None
    kinds: tuple[str, ...] | None
    read: int
    holes: int
    contents: int
    report: SavedReport
    answers: SavedAnswers
    checks: dict[str, str]
