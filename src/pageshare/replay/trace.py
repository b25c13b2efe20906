"""Recorded writes as a text file: what docs/writes.md says of its lines, read and written."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

import numpy as np

from pageshare.core import NO_PAGE
from pageshare.files import appearing_whole
from pageshare.images import printable
from pageshare.replay.history import Recorded, Writes, WriteSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.replay.contents import Contents
    from pageshare.replay.history import History, Snapshots
    from pageshare.space import PageSpace

HEADER = "time,owner,page,content"
ROWS = 1 << 14
"""Lines that are read at a time."""
CHUNK = 1 << 20
LONGEST_LINE = 1 << 16
NUMBERS = 1 << 31
"""Contents of a trace have numbers below this; those without one get numbers from here on, in order."""
MOST_FRAME = 1 << 53
WRITTEN_AT_ONCE = 1 << 16

_NOBODY, _HELD = -1, -2


class TraceError(ValueError):
    """A trace that can't be read, or does not fit the dumps. ``str()`` is one line: file, line, problem."""


@dataclass(frozen=True)
class Trace:
    """The history of one snapshot and recorded writes; ``notes`` are sentences on what was left out."""

    space: PageSpace
    contents: Contents
    ids: NDArray[np.uint32]
    recorded: Writes = field(repr=False)
    duration: float | None
    notes: tuple[str, ...] = ()

    def writes(self, seed: int) -> WriteSource:
        """All of them; nothing is drawn."""
        del seed
        return Recorded(self.recorded)


class _TooLong(Exception):
    """A line that is too long to be one."""


@dataclass(frozen=True)
class _Rows:
    """Lines in columns: ``times``; ``owners`` by their place in the space; ``frames``; ``contents`` by number,
    ``_NOBODY``, or ``_HELD`` - the id of what a page held at the start."""

    times: NDArray[np.float64]
    owners: NDArray[np.int64]
    frames: NDArray[np.uint64]
    contents: NDArray[np.int64]


def read(path: str | os.PathLike[str], base: Snapshots) -> Trace:
    """Recorded writes to the pages of some dumps.

    All are kept in memory: 16 bytes a write, and 12 for each content that is new.

    Raises TraceError, OSError; ValueError for a base of several snapshots.
    """
    if base.changes:
        raise ValueError("a trace needs a base of one snapshot: a series tells itself what was written")
    return _Reader(os.fspath(path), base).read()


def _lines(file: IO[bytes]) -> Iterator[Iterator[str]]:
    """The lines of a file, many at a time."""
    rest = b""
    while chunk := file.read(CHUNK):
        end = chunk.rfind(b"\n") + 1
        whole, rest = (rest + chunk[:end], chunk[end:]) if end else (b"", rest + chunk)
        yield io.StringIO(whole.decode("utf-8", "surrogateescape"), newline="\n")
        if len(rest) > LONGEST_LINE:
            raise _TooLong
    yield io.StringIO(rest.decode("utf-8", "surrogateescape"), newline="\n")


class _Reader:
    """A trace as it is read, some lines at a time."""

    def __init__(self, path: str, base: Snapshots) -> None:
        self.path, self.base = path, base
        self.contents = base.contents
        self.names = _names(base.space)
        self.domains = np.array([owner.domain for owner in base.space.owners], np.uint32)
        self.now = 0.0
        self.ended_on: int | None = None
        self.lines = self.missing = self.nobodies = 0
        self.parts = [Writes.none()]
        # Writes that leave a numbered content: which they are, its domain and number. Ids come when all are known.
        self.numbered: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self.keys: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
        self.count = 0

    def fail(self, line: int, problem: str) -> NoReturn:
        raise TraceError(f"{printable(self.path)}: line {line}: {problem}") from None

    def read(self) -> Trace:
        with Path(self.path).open("rb") as plain:
            zipped = self.path.endswith(".gz")
            file: IO[bytes] = gzip.GzipFile(fileobj=plain) if zipped else plain  # type: ignore[assignment]
            reader = csv.reader(chain.from_iterable(_lines(file)), strict=True)
            try:
                self.read_header(reader)
                while True:
                    line = reader.line_num + 1
                    rows = list(islice(reader, ROWS))
                    if not rows:
                        break
                    self.add(self.quickly(rows) or self.one_by_one(rows, line))
            except csv.Error as error:
                self.fail(reader.line_num, f"not a line of a CSV file: {error}")
            except _TooLong:
                self.fail(reader.line_num + 1, f"more than {LONGEST_LINE} bytes: this is no trace of writes")
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise TraceError(f"{printable(self.path)}: not a whole gzip file: {error}") from None
        return self.trace()

    def read_header(self, reader: Iterator[list[str]]) -> None:
        for line, row in enumerate(reader, 1):
            if not _is_comment(row):
                if row != HEADER.split(","):
                    self.fail(line, f"{_shown(','.join(row))}: the first line must be {HEADER}")
                return
        raise TraceError(f"{printable(self.path)}: there is nothing in it: the first line must be {HEADER}")

    # ---- from text to columns ----

    def quickly(self, rows: Sequence[list[str]]) -> _Rows | None:
        """Lines in columns; None if there is anything unusual about one of them."""
        try:
            times, owners, pages, contents = zip(*rows, strict=True)
            if self.ended_on or _others(times, b"0123456789.eE+-"):
                return None
            seconds = np.array(list(map(float, times)))
            if not (seconds[0] >= self.now and seconds[-1] < np.inf and (seconds[1:] >= seconds[:-1]).all()):
                return None
            numbers = [self.names[name] for name in owners]
            if not _others(pages, b"0123456789"):
                frames = list(map(int, pages))
            elif not _others(pages, b"0123456789abcdefABCDEFx"):
                frames = [int(page, 16) if page.startswith("0x") else int(page) for page in pages]
            else:
                return None
            if _others(contents, b"0123456789"):
                held = self.held(contents, numbers)
            else:
                held = [int(each) if each else _NOBODY for each in contents]
            if max(frames) >= MOST_FRAME or max(held) >= NUMBERS:
                return None
            found = _Rows(seconds, np.array(numbers), np.array(frames, np.uint64), np.array(held, np.int64))
        except (ValueError, KeyError, OverflowError):
            return None
        self.now = float(seconds[-1])
        return found

    def one_by_one(self, rows: Sequence[list[str]], line: int) -> _Rows:
        """The same of any lines, the first of which has the number ``line``. Raises TraceError."""
        times, owners, frames, contents = [], [], [], []
        for number, row in zip(_line_numbers(rows, line), rows, strict=True):
            if _is_comment(row):
                continue
            try:
                if self.ended_on:
                    raise ValueError(f"the trace has ended: line {self.ended_on} has a time alone")
                if len(row) != 4:
                    raise ValueError(f"{_shown(','.join(row))}: must be {HEADER}, 4 fields")
                time = _seconds(row[0])
                if time < self.now:
                    raise ValueError(f"time {_shown(row[0])}: must not be before that of the line above, {self.now!r}")
                self.now = time
                if row[1:] == ["", "", ""]:
                    self.ended_on = number
                    continue
                if row[1] not in self.names:
                    some = ", ".join(list(self.names)[:10]) + (", ..." if len(self.names) > 10 else "")
                    raise ValueError(f"owner {_shown(row[1])}: must be one of the dumps' owners, {printable(some)}")
                owner = self.names[row[1]]
                frames.append(_frame("page", row[2]))
                contents.append(self.content(row[3], owner))
            except ValueError as error:
                self.fail(number, str(error))
            times.append(time)
            owners.append(owner)
        return _Rows(
            np.array(times, np.float64),
            np.array(owners, np.int64),
            np.array(frames, np.uint64),
            np.array(contents, np.int64),
        )

    def held(self, texts: Sequence[str], owners: Sequence[int]) -> list[int]:
        """``content`` of many; ValueError or KeyError if there is anything wrong with one."""
        found = [_NOBODY if not text or text[0] == "@" else int(text) for text in texts]
        which = [i for i, text in enumerate(texts) if text and text[0] == "@"]
        parts = [texts[i][1:].partition("@") for i in which]
        plain = [text for text in texts if text and text[0] != "@"]
        if _others([*plain, *(part[0] for part in parts)], b"0123456789"):
            raise ValueError("a sign, or hexadecimal")
        frames = np.array([int(part[0]) for part in parts], np.uint64)
        mine = np.array([owners[i] for i in which], np.intp)
        named = [self.names[part[2]] if part[1] else owners[i] for i, part in zip(which, parts, strict=True)]
        others = np.array(named, np.intp)
        if (self.domains[others] != self.domains[mine]).any():
            raise ValueError("another domain")
        ids = self.domains[others]
        for owner in np.unique(others).tolist():
            asked = others == owner
            pages = self.base.space.find(owner, frames[asked])
            if (pages == NO_PAGE).any():
                raise ValueError("no such page")
            read = pages < self.base.space.readable
            ids[np.flatnonzero(asked)[read]] = self.base.ids[pages[read]]
        for i, number in zip(which, ids.tolist(), strict=True):
            found[i] = _HELD - number
        return found

    def content(self, text: str, owner: int) -> int:
        """A number, ``_NOBODY``, or ``_HELD`` - the id of what a page held at the start. Raises ValueError."""
        if not text:
            return _NOBODY
        if not text.startswith("@"):
            if not (text.isascii() and text.isdecimal() and len(text.lstrip("0")) <= 10 and int(text) < NUMBERS):
                raise ValueError(
                    f"content {_shown(text)}: must be a number below 2^31 (0 for zeros), @PAGE, @PAGE@OWNER, or nothing"
                )
            return int(text)
        page, at, name = text[1:].partition("@")
        frame = _frame("content, page", page)
        if at and name not in self.names:
            raise ValueError(f"content {_shown(text)}: no dump has an owner {_shown(name)}")
        other = self.names[name] if at else owner
        if self.domains[other] != self.domains[owner]:
            raise ValueError(f"content {_shown(text)}: the two owners are in different sharing domains")
        number = int(self.base.space.find(other, np.array([frame]))[0])
        if number == NO_PAGE:
            raise ValueError(f"content {_shown(text)}: the dumps do not have this page")
        held = self.base.ids[number] if number < self.base.space.readable else self.domains[other]
        return _HELD - int(held)

    # ---- from columns to writes ----

    def add(self, rows: _Rows) -> None:
        """Add writes to the pages that there are, as they are numbered in the base."""
        self.lines += len(rows.times)
        pages = np.full(len(rows.times), NO_PAGE, np.uint32)
        for owner in np.unique(rows.owners).tolist():
            mine = rows.owners == owner
            pages[mine] = self.base.space.find(owner, rows.frames[mine])
        there = pages != NO_PAGE
        self.missing += len(pages) - int(np.count_nonzero(there))
        times, pages, contents = rows.times[there], pages[there], rows.contents[there]
        domains = self.domains[rows.owners[there]]
        ids = domains.copy()  # zeros
        held = contents <= _HELD
        ids[held] = _HELD - contents[held]
        nobody = contents == _NOBODY
        fresh = int(np.count_nonzero(nobody))
        ids[nobody] = self.contents.new(NUMBERS + np.arange(self.nobodies, self.nobodies + fresh))
        self.nobodies += fresh
        numbered = np.flatnonzero(contents > 0)
        self.numbered.append(self.count + numbered)
        self.keys.append(domains[numbered].astype(np.uint64) << np.uint64(32) | contents[numbered].astype(np.uint64))
        self.count += len(pages)
        self.parts.append(Writes(times, pages, ids))

    def trace(self) -> Trace:
        """All of it, over a space that has every page that is written."""
        base, writes = self.base, Writes.together(self.parts)
        if self.missing and not len(writes):
            raise TraceError(f"{printable(self.path)}: the dumps have none of the pages that are written")
        keys, which = np.unique(np.concatenate(self.keys), return_inverse=True)
        writes.ids[np.concatenate(self.numbered)] = self.contents.new(keys & np.uint64(0xFFFF_FFFF))[which]
        pages = writes.pages
        holes = np.unique(pages[pages >= base.space.readable])
        if holes.size:
            owners, frames = base.space.locate(holes)
            base = base.with_pages([frames[owners == number] for number in range(len(self.domains))])
            pages = self.renumbered(pages, holes, base.space)
        notes = list(base.notes)
        if self.missing:
            notes.append(f"{self.missing} of {self.lines} writes are to pages that no dump has: they are left out")
        duration = self.now if self.lines or self.ended_on else None
        return Trace(
            base.space, base.contents, base.ids, Writes(writes.times, pages, writes.ids), duration or None, tuple(notes)
        )

    def renumbered(self, pages: NDArray[np.uint32], holes: NDArray[np.uint32], to: PageSpace) -> NDArray[np.uint32]:
        """Pages of the base as another space numbers them."""
        space = self.base.space
        old = np.append(np.arange(space.readable, dtype=np.uint32), holes)
        owners, frames = space.locate(old)
        new = np.empty(len(old), np.uint32)
        for number in range(len(self.domains)):
            mine = owners == number
            new[mine] = to.find(number, frames[mine])
        into = np.where(pages < space.readable, pages, space.readable + np.searchsorted(holes, pages))
        return new[into]


def _names(space: PageSpace) -> dict[str, int]:
    names = {owner.name: number for number, owner in enumerate(space.owners)}
    if len(names) < len(space.owners) or "" in names:
        raise ValueError("a trace needs owners with names, no two the same")
    return names


def _is_comment(row: Sequence[str]) -> bool:
    return not row or row == [""] or row[0].startswith("#")


def _line_numbers(rows: Sequence[Sequence[str]], first: int) -> Iterator[int]:
    """Of each row, the line that it ends on: a quoted name may have line breaks."""
    line = first - 1
    for row in rows:
        line += 1 + sum(field.count("\n") for field in row)
        yield line


def _others(texts: Sequence[str], allowed: bytes) -> bytes:
    """Characters of a column that are none of these."""
    return "".join(texts).encode("utf-8", "surrogateescape").translate(None, allowed)


def _shown(text: str) -> str:
    return printable(text if len(text) <= 60 else text[:60] + "...") or "(nothing)"


def _seconds(text: str) -> float:
    time = -1.0
    if not _others([text], b"0123456789.eE+-"):
        try:
            time = float(text)
        except ValueError:
            time = -1.0
    if not 0 <= time < np.inf:
        raise ValueError(f"time {_shown(text)}: must be a number of seconds, from 0 on")
    return time


def _frame(what: str, text: str) -> int:
    digits, base = (text[2:], 16) if text.startswith("0x") else (text, 10)
    allowed = b"0123456789abcdefABCDEF" if base == 16 else b"0123456789"
    if not digits or len(digits.lstrip("0")) > 16 or _others([digits], allowed) or int(digits, base) >= MOST_FRAME:
        raise ValueError(f"{what} {_shown(text)}: must be a frame number (address / page size), as 26 or 0x1a")
    return int(digits, base)


# ---- writing ----


def write(path: str | os.PathLike[str], history: History, seed: int, *, duration: float | None = None) -> int:
    """Record what a history does: all writes up to ``duration`` (by default the history's), drawn by ``seed``.

    The file is private (0600), and appears when it is whole; it is packed if its name ends with .gz. Returns how many
    writes there are. Raises ValueError where no end is known, OSError.
    """
    path = Path(path)
    until = history.duration if duration is None else duration
    if until is None:
        raise ValueError("these writes have no end: say for how long to record them")
    writer = _Writer(history)
    count, time, step, source = 0, 0.0, 1.0, history.writes(seed)
    with appearing_whole(path) as plain:
        zipped = path.suffix == ".gz"
        file: IO[bytes] = gzip.GzipFile("", "wb", 6, plain, mtime=0) if zipped else plain  # type: ignore[assignment]
        file.write(HEADER.encode() + b"\n")
        while time < until:
            time = min(time + step, until)
            writes = source.until(time)
            count += len(writes)
            file.write(writer.lines(writes))
            # So many seconds at a time that little memory is taken, whatever the rate.
            step *= 2 if len(writes) < WRITTEN_AT_ONCE // 2 else 0.5 if len(writes) > WRITTEN_AT_ONCE else 1
        file.write(f"{until!r},,,\n".encode())
        if zipped:
            file.close()
    return count


class _Writer:
    def __init__(self, history: History) -> None:
        self.space, self.contents = history.space, history.contents
        self.owners = [_quoted(name) for name in _names(history.space)]
        self.raw = list(_names(history.space))
        held, pages = np.unique(history.ids, return_index=True)
        self.page_of = np.full(self.contents.generated, NO_PAGE, np.uint32)
        self.page_of[held] = pages

    def lines(self, writes: Writes) -> bytes:
        """Of so many writes."""
        owners, frames = self.space.locate(writes.pages)
        contents = self.texts(writes.ids, owners)
        return "".join(
            [
                f"{time!r},{self.owners[owner]},{frame},{content}\n"
                for time, owner, frame, content in zip(
                    writes.times.tolist(), owners.tolist(), frames.tolist(), contents, strict=True
                )
            ]
        ).encode("utf-8", "surrogateescape")

    def texts(self, ids: NDArray[np.uint32], owners: NDArray[np.uint32]) -> list[str]:
        """The last field of each."""
        contents = self.contents
        texts = np.full(len(ids), "0", object)
        made = ids >= contents.generated
        texts[made] = [str(number) if number < NUMBERS else "" for number in contents.numbers(ids[made]).tolist()]
        found = np.flatnonzero(~made & (ids >= contents.zeros))
        pages = self.page_of[ids[found]]
        there = pages != NO_PAGE
        holders, frames = self.space.locate(np.where(there, pages, 0))
        # What only a later dump holds has a number that nothing else has: these count from the other end.
        texts[found] = [
            (f"@{frame}" if holder == owner else _quoted(f"@{frame}@{self.raw[holder]}"))
            if known
            else str(NUMBERS - 1 - (number - contents.zeros))
            for known, holder, frame, owner, number in zip(
                there.tolist(),
                holders.tolist(),
                frames.tolist(),
                owners[found].tolist(),
                ids[found].tolist(),
                strict=True,
            )
        ]
        listed: list[str] = texts.tolist()
        return listed


def _quoted(text: str) -> str:
    if any(char in text for char in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


__all__ = ["HEADER", "Trace", "TraceError", "read", "write"]
