"""The Parquet file of a saved scan as it is read: what it says of itself is checked before its rows are looked at."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pageshare.core import DIGEST
from pageshare.images import printable
from pageshare.saved._format import (
    CHECK,
    METADATA,
    MOST_FOOTER,
    ROWS,
    SavedError,
    check_of,
    check_packages,
    schema,
)
from pageshare.saved._pages import column_places, page_sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def is_parquet(head: bytes) -> bool:
    """Whether the beginning of a file is that of Parquet."""
    return head.startswith(b"PAR1")


MOST_OF_COLUMN = 64 << 20
"""Bytes that a column of a row group becomes at the most: 16 a row, names of owners, and some to spare."""


class File:
    """A Parquet file that looks like a saved scan: what its columns and its metadata say is checked, no row is."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path, self._file = path, file
        self._size = size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        tail = file.read(8)
        file.seek(0)
        if size < 12 or not is_parquet(file.read(4)):
            raise SavedError(path, "it is not a saved scan: make one with pageshare scan DUMP... -o FILE")
        if tail[4:] != b"PAR1" or int.from_bytes(tail[:4], "little") + 12 > size:
            raise SavedError(path, "it is cut short or damaged: its end is not that of a Parquet file")
        if int.from_bytes(tail[:4], "little") > MOST_FOOTER:
            raise SavedError(path, "it is damaged, or no saved scan: its footer is too large")
        file.seek(size - 8 - int.from_bytes(tail[:4], "little"))
        try:
            self._places = column_places(file.read(size - 8 - file.tell()))
        except ValueError as error:
            raise SavedError(path, f"it is damaged, or not a saved scan: {error}") from None
        file.seek(0)
        self._parquet = pq.ParquetFile(pa.PythonFile(file, "r"), page_checksum_verification=True, memory_map=False)
        footer = self._parquet.metadata
        text = (footer.metadata or {}).get(METADATA)
        if text is None:
            raise SavedError(path, "it is a Parquet file, but not a saved scan: pageshare scan -o FILE makes one")
        if footer.metadata.get(CHECK) != check_of(text):
            raise SavedError(path, "its metadata is not as it was written: the file is damaged")
        self.text: bytes = text
        self.groups = int(footer.num_row_groups)
        self.rows = int(footer.num_rows)
        sizes = [footer.row_group(i).num_rows for i in range(self.groups)]
        if len(self._places) != self.groups or sum(sizes) != self.rows or not all(0 <= each <= ROWS for each in sizes):
            raise SavedError(path, "it is damaged: its row groups are not as a saved scan has them")

    def check_schema(self, kinds: bool) -> None:
        """Raise SavedError if columns are missing, or of other types."""
        if not self._parquet.schema_arrow.equals(schema(kinds=kinds)):
            raise SavedError(self._path, "its columns are not those of a saved scan")

    def group(self, number: int, columns: Sequence[str]) -> dict[str, Any]:
        """Some columns of a row group. Raises SavedError if they say that they become too large."""
        names = self._parquet.schema_arrow.names  # columns lie in this order, whatever they say of their names
        if len(self._places[number]) != len(names):
            raise SavedError(self._path, "it is damaged: a row group has not all columns")
        for name, place in zip(names, self._places[number], strict=True):
            if name in columns:
                self._check_size(*place)
        table = self._parquet.read_row_group(number, columns=list(columns))
        return {name: _whole(table.column(name)) for name in columns}

    def _check_size(self, start: int, end: int) -> None:
        if not 4 <= start <= end <= self._size:
            raise SavedError(self._path, "it is damaged: a column lies outside of it")
        at = self._file.tell()
        try:
            sizes = list(page_sizes(self._file, start, end))
        except ValueError as error:
            raise SavedError(self._path, f"it is damaged: {error}") from None
        finally:
            self._file.seek(at)
        if sum(sizes) > MOST_OF_COLUMN:
            raise SavedError(self._path, "it is damaged: a column would take more memory than its rows need")

    def of_first_rows(self, column: str, kinds: Sequence[str] | None) -> Iterator[NDArray[Any]]:
        """The values of ``hash`` or ``kind`` in the first rows of contents, a row group at a time."""
        codes = {name: i for i, name in enumerate(kinds or ())}
        for number in range(self.groups):
            values = self.group(number, [column])[column].drop_null()
            if column == "hash":
                data = np.frombuffer(values.buffers()[1], np.uint8) if len(values) else np.empty(0, np.uint8)
                begin = values.offset * DIGEST
                yield data[begin : begin + len(values) * DIGEST].reshape(-1, DIGEST)
            else:
                yield coded(self._path, values, codes).astype(np.uint8)


def _whole(column: Any) -> Any:
    """A column as one array; not copied if it is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def coded(path: Path, array: Any, numbers: dict[str, int]) -> NDArray[np.int32]:
    """A dictionary column as the numbers of its words. Raises SavedError for a word that is not among them."""
    if array.null_count:
        raise SavedError(path, "it is damaged: a row says nothing of its owner, or of what it is")
    of_word = np.array([numbers.get(word, -1) for word in array.dictionary.to_pylist()], np.int32)
    indices = array.indices.to_numpy(zero_copy_only=False)
    # pyarrow does not see that indices fit.
    fit = indices.min(initial=0) >= 0 and indices.max(initial=-1) < len(of_word)
    coded: NDArray[np.int32] = of_word[indices] if fit else np.array([-1], np.int32)
    if coded.min(initial=0) < 0:
        raise SavedError(path, "it is damaged: a row has an owner, a state or a kind that the scan has not")
    return coded


@contextlib.contextmanager
def opened(path: Path) -> Iterator[File]:
    """The file at a path, closed again at the end. What pyarrow raises meanwhile becomes a SavedError."""
    check_packages()
    import pyarrow as pa

    # Without O_NONBLOCK a pipe would be waited for that nobody writes to.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise SavedError(path, "it is a pipe or a device: a saved scan is read from a file")
        try:
            yield File(path, file)
        except SavedError:
            raise
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            # ArrowInvalid is a ValueError; what pyarrow finds in damaged data may be an OSError without a number.
            if isinstance(error, OSError) and error.errno is not None:
                raise type(error)(error.errno, error.strerror, str(path)) from None
            line = (str(error).strip().splitlines() or [""])[0]
            raise SavedError(path, f"it is damaged, or not a saved scan ({printable(line)})") from None
