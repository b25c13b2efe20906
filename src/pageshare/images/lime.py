"""LiME: ranges of physical memory, each behind a header of 32 bytes, in the order of /proc/iomem.

Little-endian: u32 magic, u32 version (1), u64 first and u64 last address (inclusive), 8 bytes reserved. Ranges
begin and end where the firmware says, in the middle of a page too; the next header follows at once.
"""

from __future__ import annotations

import struct

import numpy as np

from pageshare.images.image import How, Image, ImageError, Source
from pageshare.images.ranges import RANGE, RANGE_ROW, Kind, State, split_device

NAME = "lime"

_HEADER = struct.Struct("<IIQQQ")
_MAGIC = 0x4C69_4D45
_VERSION = 1
_START = struct.pack("<II", _MAGIC, _VERSION)

_MOST_RANGES = 1 << 20  # a bound for damaged files; a real machine has some dozens
_MOST_SENTENCES = 8
_LEAST_SEARCHED, _MOST_SEARCHED = 1 << 12, 1 << 24


def range_header(start: int, end: int) -> bytes:
    """The header before the payload of the memory from ``start`` to ``end``, which is its last byte.

    >>> range_header(0x1000, 0x9fbff).hex(" ", 8)
    '454d694c01000000 0010000000000000 fffb090000000000 0000000000000000'
    """
    if not 0 <= start <= end < 1 << 64:
        raise ValueError(f"{start:#x} to {end:#x} is no range of 64-bit addresses")
    return _HEADER.pack(_MAGIC, _VERSION, start, end, 0)


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it starts with LiME's magic, whatever follows."""
    return head.startswith(_START[:4])


def read(source: Source, how: How) -> Image:  # noqa: ARG001 - the same for every format
    """The ranges of a LiME dump.

    Raises ImageError if the first header is not sound. A later one that is not ends the dump, unless the next
    range is found to begin earlier than it should.
    """
    rows = bytearray()  # packed as RANGE is: a list of tuples takes ten times as much
    incomplete: list[str] = []
    at = 0
    while at < source.size:
        header = source.read(at, _HEADER.size)
        problem = _problem(header)
        if problem and not rows:
            raise ImageError(source.path, "header of range 0", problem)
        if problem:
            incomplete.append(
                f"at {at:#x}, where the header of the next range should be: {problem};"
                f" {source.size - at} bytes from there on are left out"
            )
            break
        if len(rows) >= _MOST_RANGES * RANGE_ROW.size:
            raise ImageError(source.path, f"header at {at:#x}", "more ranges than a machine can have")
        _, _, start, end, _ = _HEADER.unpack(header)
        payload_at, length = at + _HEADER.size, end - start + 1
        at = payload_at + length
        present = min(length, source.size - payload_at)
        if at != source.size and _problem(source.read(at, _HEADER.size)):
            early = _next_header(source, payload_at, present, end)
            if early is not None:
                at, present = early, early - payload_at
                incomplete.append(
                    f"the range {start:#x}-{end:#x} ends early, at {early:#x}, where the next one begins (after a"
                    f" failed write?): {length - present} bytes of memory are lost"
                )
            elif present < length:
                incomplete.append(
                    f"the file ends at {source.size:#x}, inside the range {start:#x}-{end:#x}:"
                    f" {length - present} bytes of memory are lost"
                )
        if present:
            rows += RANGE_ROW.pack(start, present, payload_at, 0, State.DATA, Kind.RAM)
        if present < length:
            rows += RANGE_ROW.pack(start + present, length - present, -1, 0, State.LOST, Kind.RAM)
    if len(incomplete) > _MOST_SENTENCES:
        incomplete[_MOST_SENTENCES:] = [f"so it is in {len(incomplete) - _MOST_SENTENCES} more places"]
    ranges = np.frombuffer(rows, RANGE)
    details = {"version": str(_VERSION), "ranges": str(int((ranges["state"] == State.DATA).sum()))}
    return Image(source, NAME, split_device(ranges), Kind.RAM, incomplete=tuple(incomplete), details=details)


def _problem(header: bytes) -> str:
    """What is wrong with the header of a range, or nothing."""
    if len(header) < _HEADER.size:
        return f"the file ends after {len(header)} of {_HEADER.size} bytes"
    magic, version, start, end, _ = _HEADER.unpack(header)
    if magic != _MAGIC:
        return f"no LiME header (magic {magic:#010x})"
    if version != _VERSION:
        return f"LiME version {version}, only {_VERSION} is known"
    if end < start:
        return f"the range ends at {end:#x}, before its start {start:#x}"
    if end - start == (1 << 64) - 1:
        return "the range is the whole 64-bit address space"
    return ""


def _next_header(source: Source, payload_at: int, length: int, end: int) -> int | None:
    """Where the header of a range beyond ``end`` lies within a payload that should be longer than it can be.

    When a write fails LiME goes on with the next range, so all that follows lies earlier than it should. Headers
    that memory itself may hold are of ranges up to this one.
    """
    at, until = payload_at, payload_at + length
    step = _LEAST_SEARCHED  # of a file of many damaged ranges each is searched
    while at < until:
        part = source.read(at, min(step + _HEADER.size - 1, until - at))
        found = part.find(_START)
        while found >= 0:
            header = part[found : found + _HEADER.size]
            if not _problem(header) and _HEADER.unpack(header)[2] > end:
                return at + found
            found = part.find(_START, found + 1)
        at += step
        step = min(2 * step, _MOST_SEARCHED)
    return None
