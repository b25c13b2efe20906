"""Reading a saved scan."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare import limits
from pageshare.answers import Answers
from pageshare.answers._in_order import LARGEST
from pageshare.answers.page_sizes import SMALLEST
from pageshare.core import DIGEST, KIND_NAMES, PageKind
from pageshare.images import printable
from pageshare.inventory import Inventory
from pageshare.report import Known, Report, count, without_unreadable
from pageshare.saved._digests import Key, ordered
from pageshare.saved._file import opened
from pageshare.saved._format import FORMAT, Checks, Metadata, SavedError, SavedReport
from pageshare.saved._rows import COLUMNS, Reader
from pageshare.space import MOST_PAGES, check_hashable

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES_A_PAGE = 48
"""Memory that it takes to read a page, or a row, at the most; a row group needs some in addition."""


@dataclass(frozen=True)
class SavedScan:
    """A scan as it was saved: ``report`` with its ``inventory``; the rest is read when it is asked for.

    ``version`` of pageshare wrote it, at the time ``saved`` (UTC); ``key_id`` is the ``Key.id`` with which hashes are
    keyed, None if they are not.
    """

    path: Path
    report: Report
    version: str
    saved: str
    key_id: str | None
    _metadata: Metadata = field(repr=False)
    _zero_at: int = field(repr=False)

    @property
    def inventory(self) -> Inventory:
        """Which content is where."""
        assert self.report.inventory is not None  # noqa: S101 - read() has made one
        return self.report.inventory

    @cached_property
    def numbers(self) -> NDArray[np.uint32]:
        """For each number of ``inventory.numbers()``, that of the content in the file."""
        return ordered(self.inventory)[1]

    @cached_property
    def digests(self) -> NDArray[np.uint8]:
        """The hash of each content, (contents, 16) in the order of ``inventory.numbers()``: XXH3-128, keyed if
        ``key_id`` is not None; zeros for zeros if no page is. Raises SavedError, OSError."""
        return self._of_contents("hash", np.dtype((np.uint8, DIGEST)))

    @cached_property
    def kinds(self) -> tuple[NDArray[np.uint8], tuple[str, ...]] | None:
        """The number of each content's kind, in the same order, and the kinds' names; None if they were not saved."""
        names = self._metadata.kinds
        return None if names is None else (self._of_contents("kind", np.dtype(np.uint8)), names)

    @cached_property
    def page_kinds(self) -> NDArray[np.uint8] | None:
        """The same as a ``PageKind`` each: OTHER for a kind that this version does not know."""
        if self.kinds is None:
            return None
        numbers, names = self.kinds
        known = [KIND_NAMES.index(name) if name in KIND_NAMES else PageKind.OTHER for name in names]
        of_number: NDArray[np.uint8] = np.array(known, np.uint8)
        return of_number[numbers]

    def _of_contents(self, column: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        """What a column has for each content."""
        checks, zero = Checks(), self._zero_at >= 0
        in_file = np.zeros(len(self.numbers) - (not zero), dtype)
        at = 0
        with opened(self.path) as file:
            for values in file.of_first_rows(column, self._metadata.kinds):
                checks.add(column, values)
                in_file[at : at + len(values)] = values[: len(in_file) - at]
                at += len(values)
        told = self._metadata.checks.get(column) if len(in_file) else None
        if at != len(in_file) or checks.result().get(column) != told:
            raise SavedError(self.path, f"the column {column!r} is not as it was written: the file is damaged")
        # Zeros, which are number 0, begin where they do: what begins behind them comes one later.
        places = self.numbers.astype(np.int64) - 1
        if zero:
            places[places >= self._zero_at] += 1
            places[0] = self._zero_at
            return in_file[places]
        found = np.zeros(len(places), dtype)
        found[1:] = in_file[places[1:]]
        return found

    def key_for(self, key: Key | None) -> None:
        """Raise ValueError if ``key`` is not the one that it takes to make this scan's hashes (None if none is)."""
        if self.key_id is None:
            if key is not None:
                raise SavedError(self.path, "it was saved without a key: leave out --key")
        elif key is None:
            raise SavedError(self.path, "its hashes are keyed: give the key with which it was saved (--key FILE)")
        elif key.id != self.key_id:
            raise SavedError(self.path, f"it was saved with another key (key {self.key_id}, not {key.id})")


def read(path: str | os.PathLike[str]) -> SavedScan:
    """A saved scan, whose figures are those of the scan. Everything in the file is checked.

    Raises SavedError, one line that says what is wrong; OSError; ValueError where a package is missing.
    """
    path = Path(path)
    with opened(path) as file:
        metadata = _understood(path, file.text)
        file.check_schema(metadata.kinds is not None)
        _check_memory(path, metadata, file.rows)
        reader = Reader(path, metadata)
        for number in range(file.groups):
            reader.group(file.group(number, COLUMNS))
        expected = {name: value for name, value in metadata.checks.items() if name not in ("hash", "kind")}
        reader.fits(reader.checks.result() == expected, "its rows are not as they were written")
        inventory = reader.inventory()
        reader.fits(_answers_fit(metadata, inventory), "what it answers of page sizes or likeness is of another memory")
    return SavedScan(
        path, _report(metadata, inventory), metadata.version, metadata.saved, metadata.key_id, metadata, reader.zero_at
    )


def _report(metadata: Metadata, inventory: Inventory) -> Report:
    saved = metadata.report
    known = [
        Known(owner.name, domain, owner.files, owner.coverage)
        for owner, domain in zip(saved.owners, inventory.domains, strict=True)
    ]
    tally = without_unreadable(inventory.contents.tally(inventory.domains))
    counts = count(known, saved.domains, tally, complete=True)
    as_it_was = {name: getattr(saved, name) for name in SavedReport.__dataclass_fields__ if name != "owners"}
    return Report(
        **as_it_was,
        pages=counts.pages,
        nonzero=counts.nonzero,
        coverage=counts.coverage,
        owners=counts.owners,
        answers=Answers(page_sizes=metadata.answers.page_sizes, similar=metadata.answers.similar),
        inventory=inventory,
    )


def _answers_fit(metadata: Metadata, inventory: Inventory) -> bool:
    """Whether answers that were saved, since they can't be had from the rows, can be of these pages."""
    sizes, similar = metadata.answers.page_sizes, metadata.answers.similar
    page_size, known, reclaimed = inventory.page_size, int(inventory.known.sum()), sum(inventory.reclaimed())
    if sizes is not None:
        each = [figures.size for figures in sizes.sizes]
        if not each or each != [each[0] << i for i in range(len(each))] or not SMALLEST <= each[0] <= page_size:
            return False
        if (each[-1], sizes.breaking.block_size, sizes.page_size) != (LARGEST, LARGEST, page_size):
            return False
        of_scan = sizes.sizes[each.index(page_size)]
        if (sizes.known_bytes, of_scan.reclaimed_bytes) != (known * page_size, reclaimed * page_size):
            return False
    if similar is None:
        return True
    return bool(similar.ways) and (similar.page_size, similar.known, similar.shared_reclaimed) == (
        page_size,
        known,
        reclaimed,
    )


def _numbers(value: Any) -> Iterator[float]:
    """All that are in what ``asdict`` has made."""
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers(each)


def _check_memory(path: Path, metadata: Metadata, rows: int) -> None:
    """Raise SavedError if it is not plausible, or does not fit into memory: few bytes may stand for many pages."""
    pages = metadata.read + metadata.holes
    if pages > MOST_PAGES or metadata.contents > metadata.read or rows > 2 * MOST_PAGES:
        raise SavedError(path, "it is damaged: it has more pages than can be numbered")
    need, free = BYTES_A_PAGE * max(metadata.read, rows), limits.memory().free
    if need > free:
        raise SavedError(path, f"its {pages} pages take {need >> 20} MiB of memory, of which {free >> 20} MiB are free")


def _understood(path: Path, text: bytes) -> Metadata:
    """The metadata. Raises SavedError for what can't be."""
    import msgspec

    try:
        said = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = None
    if said != FORMAT:
        version = f"its format is {printable(str(said))[:80]}; this version reads {FORMAT}"
        raise SavedError(path, f"it can't be read: {version}")
    try:
        metadata = msgspec.json.decode(text, type=Metadata)
        check_hashable(metadata.report.page_size)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise SavedError(path, f"it is damaged: its metadata is not as it must be ({printable(str(error))})") from None
    report = metadata.report
    numbers = [metadata.read, metadata.holes, metadata.contents, report.readable, report.table_bytes, report.threads]
    numbers += [report.readings, report.seed, *(n for owner in report.owners for n in asdict(owner.coverage).values())]
    # What answers say may be negative: a patch that takes more than it saves.
    answered = all(-(1 << 63) < number < 1 << 63 for number in _numbers(asdict(metadata.answers)))
    if not answered or not all(0 <= number < 1 << 63 for number in numbers) or min(asdict(report.seconds).values()) < 0:
        raise SavedError(path, "it is damaged: a number in its metadata is out of range")
    names = {owner.name for owner in report.owners}
    if len(names) < len(report.owners) or {owner.domain for owner in report.owners} != set(report.domains):
        raise SavedError(path, "it is damaged: its owners and their domains don't fit")
    if len(set(report.domains)) < len(report.domains) or len(metadata.kinds or ()) > 256:
        raise SavedError(path, "it is damaged: its domains or kinds are given twice, or too many")
    return metadata
