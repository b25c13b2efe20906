"""A trace as a Parquet file: how it is written; and read, when nothing that it says is believed unchecked."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import numpy as np

from pageshare.files import appearing_whole
from pageshare.images import printable
from pageshare.lab.trace import Actor, Range, Runs, Trace, TraceError, check
from pageshare.saved._pages import column_places, page_sizes

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

FORMAT = "pageshare-trace/1"
METADATA, CHECK = b"pageshare-trace", b"pageshare-trace-check"
"""Keys of the file's metadata: JSON, and the BLAKE2b-128 of that in hexadecimal."""
COLUMNS = {"actor": np.uint16, "page": np.uint32, "kind": np.uint8, "gap": np.uint32, "length": np.uint32}
"""Of a run, in order of actor, page and first interval: what one does to neighbouring pages is much alike. ``gap``:
intervals since the end of the run before, of the same page and actor; since the trace's beginning for the first one."""
MOST_ROWS = 1 << 25
ROWS_OF_GROUP = 1 << 20
MOST_FOOTER = 16 << 20
MOST_OF_COLUMN = 4 * ROWS_OF_GROUP + (1 << 20)
"""Bytes that a column of a row group becomes: four a row, and some for words of dictionaries."""


@dataclass(frozen=True)
class _Metadata:
    """As JSON has it. ``check`` is the BLAKE2b-128 of all values, column after column."""

    format: str
    name: str
    pages: int
    page_size: int
    interval: int
    intervals: int
    actors: tuple[Actor, ...]
    about: dict[str, str]
    ranges: tuple[Range, ...]
    rows: int
    check: str


def _check_packages() -> None:
    for name in ("pyarrow", "msgspec"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"traces need {name}: pip install 'pageshare[parquet]'")


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    return pa.schema([pa.field(name, pa.from_numpy_dtype(of), nullable=False) for name, of in COLUMNS.items()])


def _digest(columns: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, of in COLUMNS.items():
        digest.update(np.ascontiguousarray(columns[name], np.dtype(of).newbyteorder("<")).data)
    return digest.hexdigest()


def _digest_of_text(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).hexdigest().encode()


def write(path: Path, trace: Trace) -> None:
    """A trace that was checked."""
    _check_packages()
    import pyarrow as pa
    import pyarrow.parquet as pq

    runs = trace.runs.take(np.argsort(trace.runs.actor, kind="stable"))
    gap = runs.first.astype(np.int64)
    gap[1:] -= np.where(_as_before(runs.page, runs.actor), gap[:-1] + runs.length[:-1], 0)
    columns: dict[str, NDArray[Any]] = {name: getattr(runs, name) for name in COLUMNS if name != "gap"}
    columns["gap"] = gap.astype(np.uint32)
    metadata = _Metadata(
        FORMAT,
        trace.name,
        trace.pages,
        trace.page_size,
        trace.interval,
        trace.intervals,
        trace.actors,
        trace.about,
        trace.ranges,
        len(runs),
        _digest(columns),
    )
    text = json.dumps(asdict(metadata), separators=(",", ":")).encode()
    if len(text) > MOST_FOOTER // 2 or len(runs) > MOST_ROWS:
        raise TraceError(f"a trace of {len(runs)} runs, with {len(trace.ranges)} ranges, is too large to be kept")
    with (
        appearing_whole(path) as file,
        pq.ParquetWriter(
            file,
            _schema(),
            compression="ZSTD",
            compression_level=19,
            use_dictionary=["actor", "kind"],
            column_encoding={
                "page": "DELTA_BINARY_PACKED",
                "gap": "BYTE_STREAM_SPLIT",
                "length": "BYTE_STREAM_SPLIT",
            },
            write_statistics=False,
            write_page_checksum=True,
        ) as writer,
    ):
        table = pa.table([pa.array(columns[name]) for name in COLUMNS], schema=_schema())
        writer.write_table(table, row_group_size=ROWS_OF_GROUP)
        writer.add_key_value_metadata({METADATA: text, CHECK: _digest_of_text(text)})


def read(path: Path) -> Trace:
    """What ``trace.read`` says."""
    _check_packages()
    import pyarrow as pa

    def fail(problem: str) -> NoReturn:
        raise TraceError(f"{printable(os.fspath(path))}: {problem}") from None

    # Without O_NONBLOCK a pipe would be waited for that nobody writes to.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            fail("it is a pipe or a device: a trace is read from a file")
        try:
            return _read(file)
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise type(error)(error.errno, error.strerror, str(path)) from None
            line = printable((str(error).strip().splitlines() or [""])[0])
            fail(line if isinstance(error, TraceError) else f"it is damaged, or no trace ({line})")


def _read(file: IO[bytes]) -> Trace:
    """TraceError, or what pyarrow raises, for what is no trace. The order of checks matters: a footer that contradicts
    itself may end the process when pyarrow is asked about a column, and a page may become gigabytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    places = _places(file)
    file.seek(0)
    parquet = pq.ParquetFile(pa.PythonFile(file, "r"), page_checksum_verification=True, memory_map=False)
    footer = parquet.metadata
    metadata = _understood(footer.metadata or {})
    if not parquet.schema_arrow.equals(_schema()):
        raise TraceError("its columns are not those of a trace")
    rows = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    if len(places) != len(rows) or not all(0 <= each <= ROWS_OF_GROUP for each in rows):
        raise TraceError("it is damaged: its row groups are not as a trace has them")
    if sum(rows) != metadata.rows or metadata.rows > MOST_ROWS:
        raise TraceError("it is damaged: it has not the rows that it says")
    tables = []
    for number, columns in enumerate(places):
        if len(columns) != len(COLUMNS):
            raise TraceError("it is damaged: a row group has not all columns")
        if not rows[number]:
            continue  # its columns lie nowhere
        for start, end in columns:
            _check_size(file, start, end)
        tables.append(parquet.read_row_group(number))
        if tables[-1].num_rows != rows[number]:
            raise TraceError("it is damaged: it has not the rows that it says")
    table = pa.concat_tables(tables) if tables else _schema().empty_table()
    if any(table.column(name).null_count for name in COLUMNS):
        raise TraceError("it is damaged: a value is missing")
    values = {name: table.column(name).to_numpy() for name in COLUMNS}
    if _digest(values) != metadata.check:
        raise TraceError("it is damaged: its rows are not as they were written")
    first = _firsts(values, metadata.intervals)
    runs = Runs(values["page"], values["actor"], values["kind"], first, values["length"])
    trace = Trace(
        metadata.name,
        metadata.pages,
        metadata.page_size,
        metadata.interval,
        metadata.intervals,
        metadata.actors,
        metadata.about,
        runs.take(np.argsort(runs.page, kind="stable")),
        metadata.ranges,
    )
    check(trace)
    return trace


def _as_before(page: NDArray[Any], actor: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether page and actor are those of the row before, of all rows but the first."""
    same: NDArray[np.bool_] = (page[1:] == page[:-1]) & (actor[1:] == actor[:-1])
    return same


def _firsts(values: dict[str, NDArray[Any]], intervals: int) -> NDArray[np.uint32]:
    """The first interval of each run. TraceError if there are not so many intervals."""
    length = values["length"].astype(np.int64)
    sums = np.append(0, np.cumsum(values["gap"] + length))
    # A page and its actor begin anew: what the rows before come to is taken off.
    begins = np.append(np.True_, ~_as_before(values["page"], values["actor"]))[: len(length)]
    before = sums[:-1][begins]
    first: NDArray[np.int64] = sums[1:] - length - before[np.cumsum(begins) - 1]
    if first.max(initial=0) > intervals:
        raise TraceError("a touch is in an interval that it has not")
    return first.astype(np.uint32)


def _places(file: IO[bytes]) -> list[list[tuple[int, int]]]:
    """Where the columns of each row group lie."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    file.seek(0)
    if size < 12 or file.read(4) != b"PAR1":
        raise TraceError("it is no trace: it is not a Parquet file")
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length + 12 > size:
        raise TraceError("it is cut short or damaged: its end is not that of a Parquet file")
    if length > MOST_FOOTER:
        raise TraceError("it is damaged, or no trace: its footer is too large")
    file.seek(size - 8 - length)
    return column_places(file.read(length))


def _check_size(file: IO[bytes], start: int, end: int) -> None:
    size = file.seek(0, os.SEEK_END)
    if not 4 <= start <= end <= size:
        raise TraceError("it is damaged: a column lies outside of it")
    if sum(page_sizes(file, start, end)) > MOST_OF_COLUMN:
        raise TraceError("it is damaged: a column would take more memory than its rows need")


def _understood(given: dict[bytes, bytes]) -> _Metadata:
    import msgspec

    text = given.get(METADATA)
    if text is None:
        raise TraceError("it is a Parquet file, but no trace")
    if given.get(CHECK) != _digest_of_text(text):
        raise TraceError("its metadata is not as it was written: the file is damaged")
    try:
        said = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = None
    if said != FORMAT:
        raise TraceError(f"its format is {printable(str(said))[:80]}; this version reads {FORMAT}")
    try:
        return msgspec.json.decode(text, type=_Metadata)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise TraceError(f"it is damaged: its metadata is not as it must be ({error})") from None
