"""Writing a scan: its rows in order, a row group at a time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare._version import __version__
from pageshare.core import DIGEST, KIND_NAMES, NO_PAGE, ZERO_CLASS, Control, PageKind, RowMaker
from pageshare.files import appearing_whole
from pageshare.inventory import Inventory
from pageshare.report import Report
from pageshare.saved import _format
from pageshare.saved._digests import Hasher, Key, digest_of_zeros
from pageshare.saved._format import (
    CHECK,
    DATA,
    FORMAT,
    HOLE,
    METADATA,
    MOST_FOOTER,
    STATES,
    UNKNOWN,
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

    from pageshare.space import PageSpace


def _maker(inventory: Inventory) -> RowMaker:
    """Of the rows of a file."""
    places, gaps = inventory.places, inventory.gaps
    first = np.append(places.first, np.zeros(len(gaps), np.uint32))
    pages = np.append(
        np.diff(places.first.astype(np.int64), append=np.int64(places.pages)).astype(np.uint64), gaps["pages"]
    )
    frame = np.append(places.frame, gaps["frame"])
    owner = np.append(places.locate(places.first)[0], gaps["owner"]).astype(np.int32)
    state = np.full(len(first), UNKNOWN, np.int8)
    state[: len(places.first)] = np.where(places.first < places.readable, DATA, HOLE)
    order = np.lexsort((frame, owner))
    order = order[pages[order] > 0]
    runs = {"owner": owner, "frame": frame, "pages": pages, "first": first, "state": state}
    return RowMaker(
        inventory.everywhere, {name: values[order] for name, values in runs.items()}, int(inventory.zeros.sum())
    )


def write(
    path: Path,
    report: Report,
    space: PageSpace,
    *,
    key: Key | None = None,
    kinds: bool = True,
    threads: int | None = None,
    keep_mapped: int | None = None,
    control: Control | None = None,
) -> Report:
    """Save a full scan of ``space``: the file at ``path`` appears whole or not at all, for its owner's eyes only.

    One page of each content is read, in order, by ``threads``, with no more than ``keep_mapped`` bytes of files mapped,
    and some: for its hash, which is keyed if there is a ``key``, and for what it looks like, if ``kinds`` are wanted.
    ``control`` counts these pages. Returns the report as it is saved: with a warning for each file that was written to
    since it was opened. Raises ValueError for a scan by policy and for owners of one name, OSError, MediaError,
    ``Stopped``.
    """
    check_packages()
    inventory = report.inventory
    if inventory is None:
        raise ValueError("a scan by policy does not say which content is where, and can't be saved")
    if len(set(map(_as_unicode, inventory.owners))) < len(inventory.owners):
        raise ValueError("owners of one name can't be told apart in a saved scan")
    if len(_as_json(_metadata(report, inventory, key, kinds=kinds))) > MOST_FOOTER // 2:
        raise ValueError(f"{len(inventory.owners)} owners are too many to be saved")
    import pyarrow.parquet as pq

    columns, checks = schema(kinds=kinds), Checks()
    with (
        appearing_whole(path) as file,
        Hasher(space, threads=threads, keep_mapped=keep_mapped, control=control) as hasher,
        closing(_tables(inventory, columns, checks, hasher, key=key, kinds=kinds, control=control)) as tables,
        pq.ParquetWriter(file, columns, **encodings()) as writer,
    ):
        for table in tables:
            writer.write_table(table, row_group_size=_format.ROWS)
        report = replace(report, warnings=tuple(dict.fromkeys((*report.warnings, *space.changes()))))
        text = _as_json({**_metadata(report, inventory, key, kinds=kinds), "checks": checks.result()})
        writer.add_key_value_metadata({METADATA: text, CHECK: check_of(text)})
    return report


def _tables(
    inventory: Inventory,
    columns: pyarrow.Schema,
    checks: Checks,
    hasher: Hasher,
    *,
    key: Key | None,
    kinds: bool,
    control: Control | None,
) -> Generator[pyarrow.Table]:
    """All rows in order, a row group at a time, the next one of which is made while its taker has the last."""
    maker, firsts = _maker(inventory), inventory.first_pages()
    names = [_as_unicode(name) for name in inventory.owners]
    zero = digest_of_zeros(inventory.page_size)

    def look(which: NDArray[np.uint32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """The hashes of contents, and what they look like."""
        at = np.flatnonzero(which == ZERO_CLASS)
        pages = firsts[np.delete(which, at)]
        of_kind = np.empty(len(pages), np.uint8) if kinds else None
        digests = np.insert(hasher.of(pages, kinds=of_kind), at, zero, axis=0)
        return (
            digests if key is None else key.keyed(digests, control),
            None if of_kind is None else np.insert(of_kind, at, PageKind.ZERO),
        )

    def next_table() -> pyarrow.Table | None:
        made = maker.make(_format.ROWS, control)
        which = made.pop("which")
        rows = Rows(**made)
        if not len(rows.owner):
            return None
        hashes, of_kind = look(which)
        checks.rows(rows)
        checks.add("hash", hashes)
        if of_kind is not None:
            checks.add("kind", of_kind)
        return _table(rows, columns, names, hashes, of_kind)

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(next_table)
        while (table := coming.result()) is not None:
            coming = ahead.submit(next_table)
            yield table


def _table(
    rows: Rows,
    columns: pyarrow.Schema,
    owners: Sequence[str],
    hashes: NDArray[np.uint8],
    kinds: NDArray[np.uint8] | None,
) -> pyarrow.Table:
    """A row group; ``hashes`` and ``kinds`` are of its first rows."""
    import pyarrow as pa

    at, unknown = np.flatnonzero(rows.first), rows.content == NO_PAGE
    valid = pa.py_buffer(np.packbits(rows.first, bitorder="little"))

    def sparse(of: pa.DataType, values: NDArray[Any]) -> pa.Array:
        spread = np.zeros(len(rows.first), values.dtype)
        spread[at] = values
        return pa.Array.from_buffers(of, len(spread), [valid, pa.py_buffer(spread)], len(spread) - len(at))

    def words(indices: pa.Array, names: Sequence[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))

    numbers, some = _few(rows.owner, owners)
    arrays = [
        words(pa.array(numbers), some),
        pa.array(rows.frame),
        pa.array(rows.pages),
        words(pa.array(rows.state.astype(np.int32)), STATES),
        pa.array(rows.content, mask=unknown if unknown.any() else None),
        sparse(pa.binary(DIGEST), np.ascontiguousarray(hashes).reshape(-1).view(f"V{DIGEST}")),
        sparse(pa.uint32(), rows.count),
    ]
    if kinds is not None:
        arrays.append(words(sparse(pa.int32(), kinds.astype(np.int32)), KIND_NAMES))
    return pa.Table.from_arrays(arrays, schema=columns)


def _few(numbers: NDArray[np.int32], names: Sequence[str]) -> tuple[NDArray[np.int32], Sequence[str]]:
    """Ascending ``numbers`` of names, as numbers of those that they name."""
    begins = np.append(True, numbers[1:] != numbers[:-1])
    return np.cumsum(begins, dtype=np.int32) - 1, [names[number] for number in numbers[begins]]


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


def _metadata(report: Report, inventory: Inventory, key: Key | None, *, kinds: bool) -> dict[str, Any]:
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
        "kinds": list(KIND_NAMES) if kinds else None,
        "read": inventory.places.readable - unreadable,
        "holes": inventory.places.pages - inventory.places.readable,
        "contents": len(everywhere.contents) - 1 + unique,
        "report": fields,
        "answers": {
            name: None if (answer := getattr(report.answers, name, None)) is None else asdict(answer)
            for name in SavedAnswers.__dataclass_fields__
        },
    }
