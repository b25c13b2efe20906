"""AVML: blocks of physical memory, each a stream of snappy's framing format behind LiME's header.

Little-endian: u32 magic, u32 version (2), u64 first and u64 last address (inclusive), 8 bytes reserved; the stream; its
length as u64. Version 1 is LiME. As microsoft/avml writes it, in src/image.rs and src/snapshot.rs:

- Ranges of /proc/iomem go out in blocks of 16 MiB. A block of zeros alone is left out, so what lies between two blocks
  is zero where both are of one range: where the first is a full one and the second begins whole steps behind it.
- A range's last byte is missing, and with it the last page (the end, inclusive, is used as if it were not). Ranges may
  also begin within a page.
- A range that ends with zeros, or begins with them, is shorter by these: that they were there is written nowhere.
- The first versions wrote each range as one block.

Snappy's framing format is google/snappy, framing_format.txt: chunks of a type, a length in 24 bits, and for up to
64 KiB of memory a checksum. Those that are not compressed are decoded too: that looks at the checksum, and a block lies
in one piece then, whatever its chunks are.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from pageshare.images.blocks import BLOCK, Compressed
from pageshare.images.codecs import Codec
from pageshare.images.image import How, Image, ImageError, Source
from pageshare.images.ranges import RANGE, RANGE_ROW, Kind, State, split_device
from pageshare.images.spool import ZEROS

NAME = "avml"

_HEADER = struct.Struct("<IIQQQ")
_MAGIC = 0x4C4D_5641
_VERSION = 2
_START = struct.pack("<II", _MAGIC, _VERSION)
_FULL = 1 << 24

_COMPRESSED, _PLAIN, _SKIPPABLE, _IDENTIFIER = 0x00, 0x01, 0x80, 0xFF
_IDENTITY = b"\xff\x06\x00\x00sNaPpY"
_CHUNK_BYTES = 1 << 16
_CHUNK_HEAD = 4
_CHECKSUM = 4
_LENGTH = struct.Struct("<Q")
_BLOCK_ROW = struct.Struct("<QQIIB")  # one of BLOCK

# Bounds for damaged files. Real chunks hold 64 KiB, and 16 TiB of memory are so many blocks.
_MOST_BLOCKS = 1 << 20
_LEAST_PER_CHUNK = 4096
_SPARE_CHUNKS = 8
_MOST_SENTENCES = 8

_WINDOW = 1 << 20
_LEAST_SEARCHED, _MOST_SEARCHED = 1 << 12, 1 << 24


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it starts with AVML's magic, whatever follows."""
    return head.startswith(_START[:4])


def read(source: Source, how: How) -> Image:
    """The blocks of an AVML dump; their chunks are found, none is decoded.

    Raises ImageError if the first header is not sound. Behind a later one that is not, or a stream that breaks off, the
    next block is looked for; what is missing is lost.
    """
    found = _Found()
    window = _Window(source)
    at = 0
    while at < source.size:
        header = window.read(at, _HEADER.size)
        problem = _problem(header)
        if problem and not found.blocks:
            raise ImageError(source.path, "header of block 0", problem)
        if found.blocks >= _MOST_BLOCKS:
            raise ImageError(source.path, f"header at {at:#x}", "more blocks than a machine can have")
        if problem:
            after = _next_block(source, at + _HEADER.size, at + _HEADER.size, found.last)
            where = f"at {at:#x}, where the header of the next block should be: {problem};"
            if after is None:
                found.say(f"{where} {source.size - at} bytes from there on are left out")
                break
            found.say(f"{where} the {after - at} bytes up to {after:#x} are left out")
            found.full_end = None
            at = after
            continue
        _, _, start, last, _ = _HEADER.unpack(header)
        found.begin(start, last)
        stream = _stream(window, at + _HEADER.size, last - start + 1, found)
        found.end(start, last, stream)
        at = _behind(window, at + _HEADER.size, stream, found, f"the block {start:#x}-{last:#x}")
    return found.image(source, how)


class _Stream(NamedTuple):
    """Where the chunks of a block end, how much memory they hold, and what is wrong there, or nothing."""

    end: int
    memory: int
    problem: str


class _Found:
    """What was found so far, packed as RANGE and BLOCK are: lists of tuples take ten times as much."""

    def __init__(self) -> None:
        self.blocks = self.left_out = 0
        self.last = -1
        self.full_end: int | None = None  # of the last block, if it is a full one
        self.ends_early = False  # whether a range was seen that lacks its last byte
        self.incomplete: list[str] = []
        self.warnings: list[str] = []
        self.chunks = bytearray()
        self.spooled = 0
        self._unsaid = 0
        self._rows = bytearray()
        self._next = -1

    def say(self, sentence: str) -> None:
        """Something is missing."""
        if len(self.incomplete) < _MOST_SENTENCES:
            self.incomplete.append(sentence)
        else:
            self._unsaid += 1

    def begin(self, start: int, last: int) -> None:
        """A block begins: what lies before it, and where in the spool it goes."""
        if self.full_end is not None and start > self.full_end and (start - self.full_end) % _FULL == 0:
            gap = start - self.full_end
            self.left_out += gap // _FULL
            self._rows += RANGE_ROW.pack(self.full_end, gap, -1, 0, State.ZERO_INFERRED, Kind.RAM)
        if start != self._next:
            # As in memory: pages do not straddle those of the spool, and zeros are left out whole.
            self.spooled = -(-self.spooled // ZEROS) * ZEROS + start % ZEROS
        self.blocks += 1
        self.last = max(self.last, last)
        self.full_end = last + 1 if last - start + 1 == _FULL else None
        self.ends_early |= last % ZEROS == ZEROS - 2

    def end(self, start: int, last: int, stream: _Stream) -> None:
        """It has ended: its chunks are in ``chunks``."""
        missing = last - start + 1 - stream.memory
        if stream.memory:
            into = self.spooled - stream.memory
            self._rows += RANGE_ROW.pack(start, stream.memory, into, 1, State.DATA, Kind.RAM)
        if missing:
            self._rows += RANGE_ROW.pack(start + stream.memory, missing, -1, 0, State.LOST, Kind.RAM)
            self.say(f"the block {start:#x}-{last:#x}: {stream.problem}: {missing} bytes of memory are lost")
        self._next = last + 1 if not missing else -1

    def image(self, source: Source, how: How) -> Image:
        """All of it."""
        if self._unsaid:
            self.incomplete.append(f"so it is in {self._unsaid} more places")
        if self.left_out and not self.ends_early:
            self.warnings.append(
                f"{self.left_out * _FULL} bytes between blocks count as zeros that were left out; in a dump that was"
                " converted, or taken from /dev/crash, some of it may be no memory at all"
            )
        chunks = np.frombuffer(self.chunks, BLOCK)
        compressed = None
        if len(chunks):
            compressed = Compressed(
                source, lambda: iter([chunks]), self.spooled, [Codec.SNAPPY_FRAME], folder=how.spool
            )
        return Image(
            source,
            NAME,
            split_device(np.frombuffer(self._rows, RANGE)),
            Kind.RAM,
            warnings=tuple(self.warnings),
            incomplete=tuple(self.incomplete),
            details={
                "version": str(_VERSION),
                "compression": "snappy",
                "blocks": str(self.blocks),
                "blocks of zeros left out": str(self.left_out),
            },
            compressed=compressed,
        )


class _Window:
    """A part of a file that is read at once, because small pieces close together are wanted of it."""

    def __init__(self, source: Source) -> None:
        self.size = source.size
        self.source = source
        self._at, self._data = 0, b""

    def read(self, at: int, count: int) -> bytes:
        """So many bytes, fewer at the end of the file."""
        first = at - self._at
        if first < 0 or first + count > len(self._data):
            self._at, self._data = at, self.source.read(at, _WINDOW)
            first = 0
        return self._data[first : first + count]


def _problem(header: bytes) -> str:
    """What is wrong with the header of a block, or nothing."""
    if len(header) < _HEADER.size:
        return f"the file ends after {len(header)} of {_HEADER.size} bytes"
    magic, version, start, last, _ = _HEADER.unpack(header)
    if magic != _MAGIC:
        return f"no AVML header (magic {magic:#010x})"
    if version != _VERSION:
        return f"AVML version {version}, only {_VERSION} is known"
    if last < start:
        return f"the block ends at {last:#x}, before its start {start:#x}"
    if last - start == (1 << 64) - 1:
        return "the block is the whole 64-bit address space"
    return ""


def _stream(window: _Window, begin: int, length: int, found: _Found) -> _Stream:
    """Walk the chunks of a block of so many bytes of memory, which begin there; add them to those found."""
    at, memory, chunks = begin, 0, 0
    problem = ""
    while memory < length:
        head = window.read(at, _CHUNK_HEAD + _CHECKSUM + 3)
        if len(head) < _CHUNK_HEAD:
            problem = f"the file ends at {window.size:#x}"
        elif head[:8] == _LENGTH.pack(at - begin):
            problem = f"its stream ends at {at:#x}"
        elif chunks >= _SPARE_CHUNKS + memory // _LEAST_PER_CHUNK:
            problem = f"it has more chunks than it needs, at {at:#x}"
        elif at == begin and head[0] != _IDENTIFIER:
            problem = f"no snappy stream begins at {at:#x}"
        else:
            size = _CHUNK_HEAD + int.from_bytes(head[1:4], "little")
            holds, problem = _holds(window, at, head, size)
            if not problem and holds > length - memory:
                problem = f"the chunk at {at:#x} is longer than the rest of the block"
        if problem:
            break
        if holds:
            found.chunks += _BLOCK_ROW.pack(at, found.spooled, size, holds, Codec.SNAPPY_FRAME)
            found.spooled += holds
            memory += holds
        chunks += 1
        at += size
    return _Stream(at, memory, problem)


def _holds(window: _Window, at: int, head: bytes, size: int) -> tuple[int, str]:
    """How much memory a chunk holds, or what is wrong with it."""
    kind = head[0]
    if at + size > window.size:
        return 0, f"the file ends at {window.size:#x}, inside the chunk at {at:#x}"
    if kind == _IDENTIFIER:
        wrong = window.read(at, size if size <= len(_IDENTITY) else 0) != _IDENTITY
        return 0, f"the stream identifier at {at:#x} is none" if wrong else ""
    if kind >= _SKIPPABLE:
        return 0, ""
    data = size - _CHUNK_HEAD - _CHECKSUM
    holds = -1
    if kind == _PLAIN:
        holds = data
    elif kind == _COMPRESSED and data > 0:
        number = head[_CHUNK_HEAD + _CHECKSUM :]
        holds = number[0] & 0x7F
        if number[0] & 0x80:
            holds |= (number[1] & 0x7F) << 7 if data > 1 else 1 << 31
            if number[1:2] >= b"\x80":
                holds |= number[2] << 14 if data > 2 else 1 << 31
        # Three bytes stand for 64 at most: what claims more can't be sound, and may be many.
        if holds * 3 > data * 64:
            holds = -1
    if not 0 <= holds <= _CHUNK_BYTES:
        return 0, f"the chunk at {at:#x} (type {kind:#04x}, {size} bytes) can't be read"
    return holds, ""


def _behind(window: _Window, begin: int, stream: _Stream, found: _Found, block: str) -> int:
    """Where the next header is, or should be: behind the length of the stream that began at ``begin``."""
    at = stream.end
    for _ in range(_SPARE_CHUNKS):
        head = window.read(at, _LENGTH.size)
        if head == _LENGTH.pack(at - begin):
            return at + _LENGTH.size
        if stream.problem or len(head) < _CHUNK_HEAD or head[0] < _SKIPPABLE:
            break
        at += _CHUNK_HEAD + int.from_bytes(head[1:4], "little")
    if not stream.problem:
        at = stream.end + _LENGTH.size
        if at > window.size:
            found.say(f"the file ends at {window.size:#x}, before the end of {block}; what came then is not known")
            return window.size
        if at == window.size or not _problem(window.read(at, _HEADER.size)):
            if len(found.warnings) < _MOST_SENTENCES:
                found.warnings.append(f"the length behind {block} is wrong, at {stream.end:#x}")
            return at
    after = _next_block(window.source, begin, stream.end, found.last)
    if after is None:
        found.say(f"behind {block} no further one is found: what came then is not known")
        return window.size
    if not stream.problem:
        found.say(f"{block} holds more than it says: the {after - stream.end} bytes up to {after:#x} are left out")
    return after


def _next_block(source: Source, begin: int, at: int, last: int) -> int | None:
    """Where the header of a block beyond the address ``last`` lies, ``at`` there or later; or the end of the file.

    Before it lies the length of the stream that began at ``begin``: memory that holds a dump itself has others.
    """

    def has_length(end: int) -> bool:
        before = end - _LENGTH.size
        return before >= begin and source.read(before, _LENGTH.size) == _LENGTH.pack(before - begin)

    length = _LEAST_SEARCHED  # of a file of many damaged blocks each is searched for
    while at < source.size:
        part = source.read(at, length + _HEADER.size - 1)
        found = part.find(_START)
        while found >= 0:
            header = part[found : found + _HEADER.size]
            if not _problem(header) and _HEADER.unpack(header)[2] > last and has_length(at + found):
                return at + found
            found = part.find(_START, found + 1)
        at += length
        length = min(2 * length, _MOST_SEARCHED)
    return source.size if has_length(source.size) else None
