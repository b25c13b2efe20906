"""Writing a scan: its rows in order, a row group at a time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pageshare._version import __version__
from pageshare.core import DIGEST, NO_PAGE, ZERO_CLASS, Control
from pageshare.files import appearing_whole
from pageshare.inventory import Inventory
from pageshare.report import Report
from pageshare.saved import _format
from pageshare.saved._digests import Key, ordered
from pageshare.saved._format import (
    CHECK,
    DATA,
    FORMAT,
    HOLE,
    METADATA,
    MOST_FOOTER,
    STATES,
    UNKNOWN,
    ZEROS,
    Checks,
    Rows,
    SavedAnswers,
    check_of,
    check_packages,
    encodings,
    schema,
)

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray


def _row_blocks(inventory: Inventory, content: NDArray[np.uint32]) -> Iterator[Rows]:
    """The rows of a file, a row group at a time, less the marks of first rows. ``content`` has the number of each page
    that is read."""
    places, gaps = inventory.places, inventory.gaps
    first = np.append(places.first.astype(np.int64), np.zeros(len(gaps), np.int64))
    lengths = np.append(
        np.diff(places.first.astype(np.int64), append=np.int64(places.pages)).astype(np.uint64), gaps["pages"]
    )
    frame = np.append(places.frame, gaps["frame"])
    owner = np.append(places.locate(places.first)[0], gaps["owner"]).astype(np.int32)
    state = np.full(len(first), UNKNOWN, np.int8)
    state[: len(places.first)] = np.where(places.first < places.readable, DATA, HOLE)
    order = np.lexsort((frame, owner))
    order = order[lengths[order] > 0]
    first, lengths, frame, owner, state = first[order], lengths[order], frame[order], owner[order], state[order]
    # Runs of pages that are read are taken apart: each run has rows ends[i - 1] .. ends[i] - 1, before those are joined
    # again that are stretches of zeros.
    one = np.where(state == DATA, np.uint64(1), lengths)
    ends = np.cumsum((lengths // one).astype(np.int64))
    starts = np.append(0, ends)[:-1]
    frame, first = frame.astype(np.int64) - starts, np.where(state == DATA, first, 0) - starts
    for low in range(0, int(ends[-1]) if len(ends) else 0, _format.ROWS):
        high = min(low + _format.ROWS, int(ends[-1]))
        some = slice(np.searchsorted(ends, low, side="right"), np.searchsorted(ends, high - 1, side="right") + 1)
        times = np.diff(np.minimum(ends[some], high), prepend=low)
        row = np.arange(low, high)
        what, pages = np.repeat(state[some], times), np.repeat(one[some], times)
        number = np.full(high - low, ZERO_CLASS, np.uint32)
        read = what == DATA
        if read.any():
            number = content[row + np.repeat(first[some], times)]
        number[what == HOLE], number[what == UNKNOWN] = ZERO_CLASS, NO_PAGE
        what[read & (number == ZERO_CLASS)], what[read & (number == NO_PAGE)] = ZEROS, UNKNOWN
        whose, at = np.repeat(owner[some], times), (row + np.repeat(frame[some], times)).astype(np.uint64)
        begins = np.ones(len(row), bool)
        alike = 1 + np.flatnonzero((what[1:] == what[:-1]) & (what[1:] != DATA))
        begins[alike] = (whose[alike] != whose[alike - 1]) | (at[alike] != at[alike - 1] + pages[alike - 1])
        kept = np.flatnonzero(begins)
        yield Rows(
            whose[kept],
            at[kept],
            np.add.reduceat(pages, kept),
            what[kept],
            number[kept],
            np.zeros(len(kept), bool),
            np.empty(0, np.uint32),
        )


def _rows(inventory: Inventory) -> Iterator[tuple[Rows, NDArray[np.uint32]]]:
    """The rows of a file, a row group at a time, and the ``Inventory.numbers()`` of the contents that begin there."""
    _, numbers = ordered(inventory)
    by_number = inventory.numbers()
    content = np.full(len(by_number), NO_PAGE, np.uint32)
    known = by_number != NO_PAGE
    content[known] = numbers[by_number[known]]
    original = np.empty(len(numbers), np.uint32)
    original[numbers] = np.arange(len(numbers), dtype=np.uint32)
    held = np.ones(len(numbers), np.uint32)
    held[: len(inventory.everywhere.contents)] = inventory.everywhere.contents["pages"]
    held[0] = inventory.zeros.sum()
    seen, zero_seen = 0, False
    for rows in _row_blocks(inventory, content):
        is_data = rows.state == DATA
        highest = np.maximum.accumulate(np.where(is_data, rows.content, 0))
        is_first = is_data & (rows.content > np.append(seen, np.maximum(highest[:-1], seen)))
        seen = max(seen, int(highest[-1]))
        if not zero_seen:
            zero = np.flatnonzero(rows.content == ZERO_CLASS)[:1]
            is_first[zero], zero_seen = True, bool(len(zero))
        which = original[rows.content[is_first]]
        yield replace(rows, first=is_first, count=held[which]), which


def write(
    path: Path,
    report: Report,
    digests: NDArray[np.uint8],
    *,
    key: Key | None = None,
    kinds: tuple[NDArray[np.uint8], Sequence[str]] | None = None,
    control: Control | None = None,
) -> None:
    """Save a full scan: the file at ``path`` appears whole or not at all, for its owner's eyes only.

    ``digests`` are those of ``digests_of``, and are keyed if there is a ``key``; ``kinds`` are the number of each
    content's kind, in the same order, and the kinds' names. Raises ValueError for a scan by policy and for owners of
    one name, OSError, ``Stopped``.
    """
    check_packages()
    inventory = report.inventory
    if inventory is None:
        raise ValueError("a scan by policy does not say which content is where, and can't be saved")
    if len(set(map(_as_unicode, inventory.owners))) < len(inventory.owners):
        raise ValueError("owners of one name can't be told apart in a saved scan")
    digests = digests if key is None else key.keyed(digests, control)
    metadata = _metadata(report, inventory, key, kinds)
    if len(_as_json(metadata)) > MOST_FOOTER // 2:
        raise ValueError(f"{len(inventory.owners)} owners are too many to be saved")
    with appearing_whole(path) as file:
        _write(file, inventory, digests, kinds, metadata=metadata, control=control)


def _write(
    file: IO[bytes],
    inventory: Inventory,
    digests: NDArray[np.uint8],
    kinds: tuple[NDArray[np.uint8], Sequence[str]] | None,
    *,
    metadata: dict[str, Any],
    control: Control | None,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, checks = schema(kinds=kinds is not None), Checks()
    names = [_as_unicode(name) for name in inventory.owners]

    def sparse(dtype: Any, values: NDArray[Any], is_first: NDArray[np.bool_]) -> NDArray[Any]:
        spread = np.zeros((len(is_first), *values.shape[1:]), dtype)
        spread[is_first] = values
        return spread

    def words(codes: NDArray[Any], names: Sequence[str], null: NDArray[np.bool_] | None = None) -> pa.Array:
        indices = pa.array(codes.astype(np.int32), mask=null)
        return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))

    with pq.ParquetWriter(file, columns, **encodings()) as writer:
        for rows, which in _rows(inventory):
            if control is not None:
                control.check()
            later = ~rows.first
            arrays = [
                words(*_few(rows.owner, names)),
                pa.array(rows.frame),
                pa.array(rows.pages),
                words(rows.state, STATES),
                pa.array(rows.content, mask=rows.content == NO_PAGE),
                _fixed(sparse(np.uint8, digests[which], rows.first), later),
                pa.array(sparse(np.uint32, rows.count, rows.first), mask=later),
            ]
            checks.rows(rows)
            checks.add("hash", digests[which])
            if kinds is not None:
                arrays.append(words(sparse(np.uint8, kinds[0][which], rows.first), kinds[1], later))
                checks.add("kind", kinds[0][which])
            writer.write_table(pa.Table.from_arrays(arrays, schema=columns), row_group_size=_format.ROWS)
        text = _as_json({**metadata, "checks": checks.result()})
        writer.add_key_value_metadata({METADATA: text, CHECK: check_of(text)})


def _few(numbers: NDArray[np.int32], names: Sequence[str]) -> tuple[NDArray[np.int32], Sequence[str]]:
    """Ascending ``numbers`` of names, as numbers of those that they name."""
    begins = np.append(True, numbers[1:] != numbers[:-1])
    return np.cumsum(begins, dtype=np.int32) - 1, [names[number] for number in numbers[begins]]


def _fixed(values: NDArray[np.uint8], null: NDArray[np.bool_]) -> pyarrow.Array:
    """An array of ``DIGEST`` bytes each."""
    import pyarrow as pa

    valid = pa.py_buffer(np.packbits(~null, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(DIGEST), len(null), [valid, pa.py_buffer(values)])


def _as_unicode(name: str) -> str:
    """A name as Parquet can have it. Names of files may hold bytes that are no text: escapes stand for them."""
    return name.encode("utf-8", "backslashreplace").decode()


def _as_json(metadata: dict[str, Any]) -> bytes:
    """With names as ``_as_unicode`` has them."""
    text = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[\ud800-\udfff]", lambda found: rf"\\u{ord(found[0]):04x}", text).encode()


RECOMPUTED = ("pages", "nonzero", "coverage", "partial", "interrupted", "answers", "inventory")
"""Of a report, what is not saved, since it follows from the rest; of each owner ``RECOMPUTED_OF_OWNERS``."""
RECOMPUTED_OF_OWNERS = ("pages", "nonzero", "with_others")


def _metadata(
    report: Report, inventory: Inventory, key: Key | None, kinds: tuple[NDArray[np.uint8], Sequence[str]] | None
) -> dict[str, Any]:
    fields = asdict(replace(report, answers=None, inventory=None))
    for name in RECOMPUTED:
        del fields[name]
    for owner in fields["owners"]:
        for name in RECOMPUTED_OF_OWNERS:
            del owner[name]
    everywhere = inventory.everywhere
    unreadable = int(everywhere.owner_pages["unreadable"].sum())
    unique = int(everywhere.owner_pages["unique"].sum())
    return {
        "format": FORMAT,
        "version": __version__,
        "saved": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "key_id": None if key is None else key.id,
        "kinds": None if kinds is None else list(kinds[1]),
        "read": inventory.places.readable - unreadable,
        "holes": inventory.places.pages - inventory.places.readable,
        "contents": len(everywhere.contents) - 1 + unique,
        "report": fields,
        "answers": {
            name: None if (answer := getattr(report.answers, name, None)) is None else asdict(answer)
            for name in SavedAnswers.__dataclass_fields__
        },
    }
