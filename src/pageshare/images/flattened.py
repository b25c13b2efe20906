"""Flattened dumps: a kdump or an ELF core as records for a pipe (QEMU's dump-guest-memory -z, makedumpfile -F).

Layout: ``makedumpfile.h``. A header of 4096 bytes: a name of 16 bytes, and big-endian i64 type and version; then
records, each big-endian i64 offset and i64 size, and so many bytes that belong at that offset of the dump; the last
one has -1 for both. They come in no order, pages lie across them, and later ones overwrite earlier ones.

The dump is read where it lies, through a table of the records. ``makedumpfile -R`` would write it anew.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from pageshare.images import elf, kdump
from pageshare.images.image import How, Image, ImageError, Source
from pageshare.images.ranges import RANGE, RANGE_ROW, Kind, State
from pageshare.images.rearranged import Rearranged

NAME = "flattened"

_MAGIC = b"makedumpfile\0"
_HEADER = struct.Struct(">16sqq")
_HEADER_BYTES = 4096
_RECORD = struct.Struct(">qq")
_END = (-1, -1)
_FARTHEST = 1 << 62  # no dump is so large, and sums of two stay within 64 bits

_FEW = 1 << 16
_SHORT = 256  # bytes: the records of real dumps are longer, if there are many of them
_INNER = (kdump, elf)


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it starts with the name that a flattened dump has."""
    return head.startswith(_MAGIC)


def read(source: Source, how: How) -> Image:
    """What the dump within is: see the readers of its format.

    Raises ImageError, also for what the dump within is refused for. Records from the first senseless one on are left
    out; without its end the dump is incomplete.
    """
    header = source.read(0, _HEADER.size)
    if len(header) < _HEADER.size or source.size < _HEADER_BYTES:
        raise ImageError(source.path, "flattened header", f"the file ends in it, after {source.size} bytes")
    _, kind, version = _HEADER.unpack(header)
    if (kind, version) != (1, 1):
        raise ImageError(source.path, "flattened header", f"type {kind}, version {version}: only 1, 1 is known")
    records, problem = _records(source)
    whole = Rearranged(source, np.frombuffer(records, RANGE))
    head = whole.read(0, _HEADER_BYTES)
    inner = next((module for module in _INNER if module.detect(head, whole.size)), None)
    if inner is None:
        raise ImageError(
            source.path, "flattened records", "they hold neither a kdump nor an ELF core",
            problem or "it is damaged: take the dump again",
        )
    image: Image = inner.read(whole, how)
    ranges, lost = whole.located(image.ranges)
    incomplete = [*([problem] if problem else []), *image.incomplete]
    if lost:
        incomplete.append(f"{lost} bytes of memory lie in none of the records: they are lost")
    return replace(
        image,
        source=source,
        format=NAME,
        ranges=ranges,
        incomplete=tuple(incomplete),
        details={"content": image.format, **image.details, "records": str(len(records) // RANGE_ROW.size)},
    )


def _records(source: Source) -> tuple[bytearray, str]:
    """The records, packed as ``RANGE`` is, with what belongs at an address; and what is wrong with the rest."""
    rows = bytearray()  # a list of tuples takes ten times as much
    at, count = _HEADER_BYTES, 0
    while True:
        record = source.read(at, _RECORD.size)
        if len(record) < _RECORD.size:
            return rows, f"the file ends at {source.size:#x} without the record that ends a flattened dump: cut off"
        offset, length = _RECORD.unpack(record)
        if (offset, length) == _END:
            return rows, ""
        if offset < 0 or length < 0 or offset + length > _FARTHEST:
            return rows, (
                f"record {count} at {at:#x} makes no sense (offset {offset}, {length} bytes): what follows is left out"
            )
        at += _RECORD.size
        present = min(length, source.size - at)
        if present:
            rows += RANGE_ROW.pack(offset, present, at, 0, State.DATA, Kind.RAM)
        if present < length:
            return rows, f"the file ends at {source.size:#x}, inside a record: {length - present} bytes of it are lost"
        at += length
        count += 1
        if count > _FEW and count * _SHORT > at:
            raise ImageError(
                source.path, f"record {count}", "the records are too short for a dump's",
                "it is damaged; makedumpfile -R may put it together",
            )
