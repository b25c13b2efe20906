"""Recorded writes as a text file: what docs/writes.md says of its lines, read and written."""

from __future__ import annotations

import codecs
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
from pageshare.synth import draw

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
SHOWN = 60
"""Of a field that is wrong, so many characters."""
FIELDS = 4
DIGITS = 16
"""So many digits are a number that arithmetic of 64 bits can have no trouble with."""
POWERS = 10 ** np.arange(DIGITS + 1, dtype=np.int64)
NUMBERS = 1 << 31
"""Contents of a trace have numbers below this; those without one get numbers from here on, in order."""
MOST_FRAME = 1 << 53
MOST_SECONDS = 1e9
"""Thirty years: what is later is a date, or no time at all."""
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


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    """A file in pieces of whole lines."""
    rest = b""
    while chunk := file.read(CHUNK):
        end = chunk.rfind(b"\n") + 1
        whole, rest = (rest + chunk[:end], chunk[end:]) if end else (b"", rest + chunk)
        yield whole
        if len(rest) > LONGEST_LINE:
            raise _TooLong
    yield rest


class _Reader:
    """A trace as it is read, some lines at a time."""

    def __init__(self, path: str, base: Snapshots) -> None:
        self.path, self.base = path, base
        self.contents = base.contents
        self.names = _names(base.space)
        self.domains = np.array([owner.domain for owner in base.space.owners], np.uint32)
        encoded = [name.encode("utf-8", "surrogateescape") for name in self.names]
        width = max(map(len, encoded), default=1)
        self.known = np.array([list(name.ljust(width, b"\0")) for name in encoded], np.uint8).reshape(-1, width)
        self.by_hash = np.argsort(_hashes(self.known))
        self.hashes = _hashes(self.known)[self.by_hash]
        self.line = 0
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
            try:
                chunks = filter(None, _chunks(file))
                for chunk in self.behind_header(chunks):
                    if b'"' in chunk:
                        # A name in quotes may have a line break, even between two chunks.
                        self.read_quoted(chain([chunk], chunks))
                        break
                    # The line of the end is unlike all others, which shall not suffer from it.
                    text = chunk.rstrip()
                    last = text.rfind(b"\n") + 1 if text.endswith(b",,,") else 0
                    for part in filter(None, (chunk[:last], chunk[last:])):
                        self.add(self.quickly(part) or self.one_by_one(_split(part), self.line + 1))
                        self.line += part.count(b"\n")
            except _TooLong:
                self.fail(self.line + 1, f"more than {LONGEST_LINE} bytes: this is no trace of writes")
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise TraceError(f"{printable(self.path)}: not a whole gzip file: {error}") from None
        return self.trace()

    def behind_header(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """All but the header, and what may stand above it."""
        for chunk in chunks:
            at = 0
            while at < len(chunk):
                end = chunk.find(b"\n", at)
                end = len(chunk) if end < 0 else end
                first, at = chunk[at:end], end + 1
                if not self.line:
                    first = first.removeprefix(codecs.BOM_UTF8)  # spreadsheets put it there
                self.line += 1
                if first.strip() and not first.startswith(b"#"):
                    text = first.removesuffix(b"\r").decode("utf-8", "surrogateescape")
                    if text != HEADER:
                        self.fail(self.line, f"{_shown(text)}: the first line must be {HEADER}")
                    yield from filter(None, chain([chunk[at:]], chunks))
                    return
        raise TraceError(f"{printable(self.path)}: there is nothing in it: the first line must be {HEADER}")

    def read_quoted(self, chunks: Iterator[bytes]) -> None:
        """Lines with fields in quotes, and all that follow."""
        before = self.line
        lines = (io.StringIO(chunk.decode("utf-8", "surrogateescape"), newline="\n") for chunk in chunks)
        reader = csv.reader(chain.from_iterable(lines), strict=True)
        try:
            while rows := list(islice(reader, ROWS)):
                self.add(self.one_by_one(rows, self.line + 1))
                self.line = before + reader.line_num
        except csv.Error as error:
            problem = str(error).partition(" - ")[0]  # what follows is for who opened the file
            self.fail(before + reader.line_num, f"not a line of a CSV file: {problem}")
        except _TooLong:
            self.line = before + reader.line_num
            raise

    # ---- from text to columns ----

    def quickly(self, chunk: bytes) -> _Rows | None:
        """Lines in columns; None if there is anything unusual about one of them."""
        if self.ended_on or b"\0" in chunk:
            return None
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n")
        if not chunk.endswith(b"\n"):
            chunk += b"\n"
        text = np.frombuffer(chunk, np.uint8)
        ends = np.flatnonzero((text == ord(",")) | (text == ord("\n")))
        if len(ends) % FIELDS or not (text[ends].reshape(-1, FIELDS) == np.frombuffer(b",,,\n", np.uint8)).all():
            return None
        starts = np.concatenate([[0], ends[:-1] + 1])
        columns = [_Column(chunk, text, starts[i::FIELDS], ends[i::FIELDS]) for i in range(FIELDS)]
        try:
            times = columns[0].seconds()
            owners = self.owners(columns[1])
            frames = columns[2].numbers()
            if frames is None:
                frames = np.array([_frame("page", each) for each in columns[2].texts()])
            contents = self.contents_of(columns[3], owners)
        except (ValueError, KeyError):
            return None
        if not (times[0] >= self.now and times[-1] <= MOST_SECONDS and (times[1:] >= times[:-1]).all()):
            return None
        if frames.max() >= MOST_FRAME or contents.max() >= NUMBERS:
            return None
        self.now = float(times[-1])
        return _Rows(times, owners, frames.astype(np.uint64), contents)

    def owners(self, column: _Column) -> NDArray[np.int64]:
        """Owners by their names: looked up by a hash of them, and compared. Raises KeyError."""
        width = int((column.ends - column.starts).max())
        if width > self.known.shape[1]:
            raise KeyError("a longer name than there is")
        names = column.left(self.known.shape[1])
        found = self.by_hash[np.minimum(np.searchsorted(self.hashes, _hashes(names)), len(self.hashes) - 1)]
        if not (self.known[found] == names).all():
            raise KeyError("another name")
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
                if len(row) != FIELDS:
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

    def contents_of(self, column: _Column, owners: NDArray[np.int64]) -> NDArray[np.int64]:
        """``content`` of many. Raises ValueError or KeyError if there is anything wrong with one."""
        empty = column.starts == column.ends
        pages = np.flatnonzero(~empty & (column.text[column.starts] == ord("@")))
        starts = column.starts.copy()
        starts[pages] = column.ends[pages]
        found = _Column(column.chunk, column.text, starts, column.ends).numbers(starts == column.ends)
        if found is None:
            raise ValueError("no number")
        found[empty] = _NOBODY
        if pages.size:
            found[pages] = _HELD - self.held(column.some(pages), owners[pages])
        return found

    def held(self, column: _Column, owners: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids of what pages held at the start, each written as @PAGE or @PAGE@OWNER."""
        starts = column.starts + 1
        names = column.first("@", starts)
        frames = _Column(column.chunk, column.text, starts, names).numbers()
        if frames is None:
            raise ValueError("no number, or a hexadecimal one")
        others = owners.copy()
        named = np.flatnonzero(names < column.ends)
        parts = _Column(column.chunk, column.text, names[named] + 1, column.ends[named]).texts()
        others[named] = [self.names[name] for name in parts]
        if (self.domains[others] != self.domains[owners]).any():
            raise ValueError("another domain")
        ids: NDArray[np.int64] = self.domains[others].astype(np.int64)
        for owner in np.unique(others).tolist():
            mine = np.flatnonzero(others == owner)
            numbers = self.base.space.find(owner, frames[mine])
            if (numbers == NO_PAGE).any():
                raise ValueError("no such page")
            read = numbers < self.base.space.readable
            ids[mine[read]] = self.base.ids[numbers[read]]
        return ids

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


class _Column:
    """A field of each line of a chunk."""

    def __init__(
        self, chunk: bytes, text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> None:
        self.chunk, self.text, self.starts, self.ends = chunk, text, starts, ends

    def some(self, which: NDArray[np.intp]) -> _Column:
        """The fields of these lines."""
        return _Column(self.chunk, self.text, self.starts[which], self.ends[which])

    def first(self, char: str, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where a character is first, from ``starts`` on; where it is not, the end."""
        places = np.append(np.flatnonzero(self.text == ord(char)), len(self.text))
        found: NDArray[np.int64] = np.minimum(places[np.searchsorted(places, starts)], self.ends)
        return found

    def texts(self) -> list[str]:
        """As they are."""
        pairs = zip(self.starts.tolist(), self.ends.tolist(), strict=True)
        return [self.chunk[start:end].decode("utf-8", "surrogateescape") for start, end in pairs]

    def left(self, width: int) -> NDArray[np.uint8]:
        """The first bytes of each, and zeros behind it: (n, width)."""
        at = self.starts[:, None] + np.arange(width)
        found: NDArray[np.uint8] = self.text[np.minimum(at, len(self.text) - 1)]
        found[at >= self.ends[:, None]] = 0
        return found

    def numbers(self, empty: NDArray[np.bool_] | None = None) -> NDArray[np.int64] | None:
        """Decimal numbers, 0 for those that may be ``empty``; None if one is none, or may be too large."""
        width = int((self.ends - self.starts).max(initial=0))
        if width > DIGITS or (empty is None and (self.starts == self.ends).any()):
            return None
        found = np.zeros(len(self.starts), np.int64)
        for place in range(width, 0, -1):
            at = self.ends - place
            there = at >= self.starts
            digits = self.text[np.maximum(at, 0)] - np.uint8(ord("0"))
            digits[~there] = 0
            if (digits > 9).any():
                return None
            found = found * 10 + digits
        return found

    def seconds(self) -> NDArray[np.float64]:
        """Decimal fractions, as ``float`` reads them. Raises ValueError."""
        width = int((self.ends - self.starts).max())
        if width <= DIGITS:
            point = self.first(".", self.starts)
            whole = _Column(self.chunk, self.text, self.starts, point).numbers()
            after = np.minimum(point + 1, self.ends)
            part = _Column(self.chunk, self.text, after, self.ends).numbers(after == self.ends)
            if whole is not None and part is not None:
                power = POWERS[self.ends - after]
                digits = whole * power + part
                # Both are exact as floating point numbers, so the quotient is the number nearest to what is written.
                if digits.max() < MOST_FRAME:
                    return digits / power
        texts = self.texts()
        if _others(texts, b"0123456789.eE+-"):
            raise ValueError("no number")
        return np.array(list(map(float, texts)))


def _hashes(names: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Of rows of bytes."""
    found: NDArray[np.uint64] = (names.astype(np.uint64) + np.uint64(1)) @ draw.first(7, names.shape[1])
    return found


def _split(chunk: bytes) -> list[list[str]]:
    """Lines without quotes in fields."""
    lines = chunk.decode("utf-8", "surrogateescape").split("\n")
    return [line.removesuffix("\r").split(",") for line in (lines if lines[-1] else lines[:-1])]


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
    """The beginning of it, as any terminal can show it: what is no text as \\x and two digits."""
    shown = ""
    for char in text[: SHOWN + 1]:
        more = char.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if len(shown) + len(more := printable(more)) > SHOWN:
            return shown + "..."
        shown += more
    return shown or "(nothing)"


def _seconds(text: str) -> float:
    time = -1.0
    if not _others([text], b"0123456789.eE+-"):
        try:
            time = float(text)
        except ValueError:
            time = -1.0
    if not 0 <= time < np.inf:
        raise ValueError(f"time {_shown(text)}: must be a number of seconds, from 0 on")
    if time > MOST_SECONDS:
        raise ValueError(f"time {_shown(text)}: must be seconds since the dumps were taken, 1e9 (30 years) at most")
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
    if until > MOST_SECONDS:
        raise ValueError(f"{until:g} s of writes are more than a trace can have, {MOST_SECONDS:g} s")
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
