"""Compressed kdumps (diskdump): makedumpfile, QEMU's dump-guest-memory -z, -l, -s, and diskdump before them.

Layout: ``diskdump_mod.h`` of makedumpfile and ``diskdump.h`` of crash, in blocks of one page of the dumped machine:

    header         as the C compiler of that machine laid it out: byte order, width and alignment are found by trying
    sub-header     ``sub_hdr_size`` blocks
    bitmap 1       which pages there are        half of ``bitmap_blocks``
    bitmap 2       which of them are in the dump    the other half
    descriptors    one for each bit of bitmap 2
    pages          compressed each by itself, or plain where that is no gain
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pageshare.images.blocks import BLOCK, FEW, Compressed
from pageshare.images.codecs import Codec, MissingCodecError, decoder
from pageshare.images.image import How, Image, ImageError, Source, printable
from pageshare.images.ranges import RANGE, Kind, State, split_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "kdump"

_KDUMP = b"KDUMP   "
_DISKDUMP = b"DISKDUMP"

_HEADER_BYTES = 512
_UTSNAME_AT, _NAME_BYTES = 12, 65  # sysname, nodename, release, version, machine, domainname
# status, block_size, sub_hdr_size, bitmap_blocks, max_mapnr: they follow a timeval, whose width and alignment differ.
_FIELDS = "IiiII"
# Where they do: behind 2 * 8 bytes; 2 * 4 bytes on 32 bits; 2 * 8 bytes aligned to 4 (i386, times of 64 bits).
_FIELDS_AT = (424, 412, 420)
_BLOCK_SIZES = (4096, 8192, 16384, 32768, 65536)


class _SubHeader(NamedTuple):
    """Where the fields of a sub-header lie, and how wide a long of that machine is."""

    name: str
    long: str
    dump_level: int
    split: int
    start_pfn: int
    end_pfn: int
    offset_note: int
    start_pfn_64: int
    end_pfn_64: int
    max_mapnr_64: int


_SUB_64 = _SubHeader("64-bit", "Q", 8, 12, 16, 24, 48, 80, 88, 96)
# On i386 (and by QEMU for all) 64-bit fields are aligned to 4 bytes, elsewhere to 8.
_SUB_32 = _SubHeader("32-bit", "I", 4, 8, 12, 16, 32, 56, 64, 72)
_SUB_32_PADDED = _SubHeader("32-bit", "I", 4, 8, 12, 16, 40, 72, 80, 88)
_SUB_HEADERS = {424: (_SUB_64, _SUB_32_PADDED), 412: (_SUB_32, _SUB_32_PADDED), 420: (_SUB_32,)}
_SUB_BYTES = 104

_INCOMPLETE = 8
_EXCLUDED_VMEMMAP = 0x10
_DISKDUMP_INCOMPLETE = 1

_DESCRIPTOR_BYTES = 24
_CODECS = {0: Codec.STORED, 1: Codec.ZLIB, 2: Codec.LZO, 4: Codec.SNAPPY, 0x20: Codec.ZSTD}
_CODEC_NAMES = {
    Codec.STORED: "none", Codec.ZLIB: "zlib", Codec.LZO: "LZO", Codec.SNAPPY: "snappy", Codec.ZSTD: "zstd"
}

_CHUNK = 1 << 17  # pages that are looked at together
_MOST_EXAMINED = 64  # descriptors that are shared, and decoded to see whether they are zeros
_SPARE_RANGES = 1 << 20
_PRSTATUS_BYTES = (336, 144)  # of x86-64 and i386


@dataclass(frozen=True)
class _Dump:
    """What headers and sub-headers say."""

    signature: bytes
    version: int
    machine: str
    order: str
    status: int
    page: int
    words: str
    bitmap_at: int
    bitmap2_at: int
    """The same as ``bitmap_at`` where there is only one."""
    descriptors_at: int
    data_at: int
    """Where the descriptors end."""
    first: int
    end: int
    """The pages that this file is about: all, or those of a part of a split dump."""
    max_mapnr: int
    """How many pages the bitmaps are about."""
    dump_level: int | None
    split: bool
    x86: bool


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it starts with the signature of kdump or diskdump."""
    return head.startswith((_KDUMP, _DISKDUMP))


def read(source: Source, how: How) -> Image:
    """The pages of a compressed kdump, by physical address.

    Raises ImageError where the headers do not fit together or with the file.
    """
    dump = _headers(source)
    shared = _Shared(source, dump.page)
    found = _Found()
    parts: list[NDArray[Any]] = []
    ranges_left = _SPARE_RANGES + 2 * max(0, source.size - dump.descriptors_at) // _DESCRIPTOR_BYTES
    into = 0
    for pages in _pages(source, dump, shared.zeros_of, found):
        ranges, into = _ranges(pages, dump, into)
        ranges_left -= len(ranges)
        if ranges_left < 0:
            raise ImageError(
                source.path, "bitmaps", "they cut memory into more pieces than the file has page descriptors for",
                "it is damaged or cut off: take the dump again",
            )
        parts.append(ranges)
    for others in _elsewhere(source, dump) if parts else ():
        ranges_left -= len(others)
        if ranges_left >= 0:
            parts.append(others)
    ranges = np.concatenate(parts) if parts else np.empty(0, RANGE)
    if not ranges.size:
        raise ImageError(source.path, "bitmaps", "there is no page in them")
    if found.stored and found.lost == found.stored:
        raise ImageError(source.path, "page descriptors", f"none of the {found.stored} is sound", _AGAIN)
    if into > FEW and found.claimed > source.held:
        raise ImageError(
            source.path, "page descriptors", f"they claim {found.claimed} bytes of compressed pages, the file has"
            f" {source.held}", _AGAIN,
        )
    if dump.x86:
        ranges = split_device(ranges)
    compressed = None
    if into:
        since = shared.since

        def batches() -> Iterator[NDArray[Any]]:
            at = 0
            for pages in _pages(source, dump, lambda number, *_: since(number), _Found()):
                blocks = _blocks(pages, dump, at)
                yield blocks[blocks["into"] + blocks["length"] <= into]  # a file that was written to meanwhile
                at += len(blocks) * dump.page

        codecs = [codec for codec in _CODEC_NAMES if codec in found.spooled]
        compressed = Compressed(source, batches, into, codecs, how.spool)
    return Image(
        source, NAME, ranges, Kind.RAM, incomplete=tuple(_incomplete(source, dump, found)),
        details=_details(dump, found), compressed=compressed,
    )


_AGAIN = "it is damaged: take the dump again"


def _details(dump: _Dump, found: _Found) -> dict[str, str]:
    details = {
        "version": f"{dump.signature.decode().strip()} {dump.version}",
        "machine": printable(dump.machine) or "not said",
        "layout": f"{dump.words}, {'little' if dump.order == '<' else 'big'}-endian",
        "page size": str(dump.page),
        "compression": ", ".join(_CODEC_NAMES[codec] for codec in _CODEC_NAMES if codec in found.codecs) or "none",
    }
    if dump.dump_level is not None:
        details["dump level"] = str(dump.dump_level)
    if dump.split:
        details["split"] = f"pages {dump.first:#x} to {dump.end:#x}"
    return details


def _incomplete(source: Source, dump: _Dump, found: _Found) -> Iterator[str]:
    if dump.status & (_INCOMPLETE if dump.signature == _KDUMP else _DISKDUMP_INCOMPLETE):
        yield f"it is marked as incomplete (no room on the disk?): {found.unwritten} pages were not written"
    elif found.unwritten:
        yield f"{found.unwritten} pages have no place in the file: they are lost"
    if found.beyond:
        yield f"the file ends at {source.size:#x}, before the data of {found.beyond} pages: they are lost"
    if found.senseless:
        yield f"{found.senseless} page descriptors make no sense, the first at {found.first:#x}: the pages are lost"


def _headers(source: Source) -> _Dump:
    header = source.read(0, _HEADER_BYTES)
    where, where_sub = "kdump header", "kdump sub-header"
    if len(header) < _HEADER_BYTES:
        raise ImageError(source.path, where, f"the file ends in it, after {len(header)} bytes")
    layout = _layout(header)
    if layout is None:
        raise ImageError(
            source.path, where, "no byte order and no width make sense of it: of block size, sub-header and bitmap",
            _AGAIN,
        )
    order, fields_at = layout
    version = struct.unpack_from(f"{order}i", header, 8)[0]
    status, page, sub_blocks, bitmap_blocks, max_mapnr = struct.unpack_from(order + _FIELDS, header, fields_at)
    bitmap_at = page * (1 + sub_blocks)
    descriptors_at = bitmap_at + page * bitmap_blocks
    if not _holds(source, bitmap_at, page * bitmap_blocks):
        raise ImageError(
            source.path, where, f"its {bitmap_blocks} blocks of bitmap at {bitmap_at:#x} are not all in the file,"
            f" which ends at {source.size:#x}", "it is cut off or damaged: take the dump again",
        )
    sub_header = source.read(page, _SUB_BYTES)
    kdump = header.startswith(_KDUMP)
    sub = _SUB_HEADERS[fields_at][0]

    def field(at: int, form: str) -> int:
        found: int = struct.unpack_from(order + form, sub_header, at)[0]
        return found

    if kdump and version >= 6:
        fitting = [each for each in _SUB_HEADERS[fields_at] if _agrees(max_mapnr, field(each.max_mapnr_64, "Q"))]
        if not fitting:
            raise ImageError(source.path, where_sub, f"it does not have the header's {max_mapnr} pages", _AGAIN)
        sub = fitting[0]
        max_mapnr = field(sub.max_mapnr_64, "Q")
    needed = -(-max_mapnr // 8)
    needed_blocks = -(-needed // page)
    if bitmap_blocks < needed_blocks:
        raise ImageError(
            source.path, where, f"{bitmap_blocks} blocks of bitmap are too few for {max_mapnr} pages", _AGAIN
        )
    both = bitmap_blocks >= 2 * needed_blocks
    half = page * bitmap_blocks // (2 if both else 1)
    first, end, split = 0, max_mapnr, False
    if kdump and version >= 2 and field(sub.split, "i"):
        split = True
        if version >= 6:
            first, end = field(sub.start_pfn_64, "Q"), field(sub.end_pfn_64, "Q")
        else:
            first, end = field(sub.start_pfn, sub.long), field(sub.end_pfn, sub.long)
        if not first <= end <= max_mapnr:
            raise ImageError(
                source.path, where_sub, f"its part of the dump is pages {first} to {end} of {max_mapnr}", _AGAIN
            )
    machine_at = _UTSNAME_AT + 4 * _NAME_BYTES
    machine = header[machine_at : machine_at + _NAME_BYTES].split(b"\0")[0].decode("latin-1")
    note_at = field(sub.offset_note, "Q") if kdump and version >= 4 else 0
    bitmap2_at = bitmap_at + half if both else bitmap_at
    stored = sum(int(_bits(source, bitmap2_at, *chunk).sum()) for chunk in _chunks(first, end))
    return _Dump(
        signature=header[:8],
        version=version,
        machine=machine,
        order=order,
        status=status,
        page=page,
        words=sub.name,
        bitmap_at=bitmap_at,
        bitmap2_at=bitmap2_at,
        descriptors_at=descriptors_at,
        data_at=descriptors_at + stored * _DESCRIPTOR_BYTES,
        first=first,
        end=end,
        max_mapnr=max_mapnr,
        dump_level=field(sub.dump_level, "i") if kdump and version >= 1 else None,
        split=split,
        x86=order == "<" and page == 4096 and _is_x86(source, machine, note_at),
    )


def _layout(header: bytes) -> tuple[str, int] | None:
    """Byte order, and where the fields behind the time lie."""
    for order in "<>":
        for at in _FIELDS_AT:
            _, page, sub_blocks, bitmap_blocks, max_mapnr = struct.unpack_from(order + _FIELDS, header, at)
            version = struct.unpack_from(f"{order}i", header, 8)[0]
            if (
                page in _BLOCK_SIZES and 1 <= sub_blocks < 1 << 16 and bitmap_blocks and max_mapnr
                and 0 <= version < 1 << 16
            ):
                return order, at
    return None


def _agrees(max_mapnr: int, full: int) -> bool:
    """Whether the header's number of pages is that of the sub-header, as far as 32 bits hold it."""
    return max_mapnr in (full & 0xFFFF_FFFF, min(full, 0xFFFF_FFFF))


def _is_x86(source: Source, machine: str, note_at: int) -> bool:
    """Whether it is a PC's. QEMU 7.2 calls every guest one, 10.0 "Unknown"; the size of a CPU's state in its first note
    tells."""
    unsaid = machine == "Unknown"
    if not unsaid and machine != "x86_64" and not (machine.startswith("i") and machine.endswith("86")):
        return False
    note = source.read(note_at, 20) if note_at else b""
    if len(note) < 20 or not note.endswith(b"CORE\0\0\0\0"):
        return not unsaid
    _, length, kind = struct.unpack_from("<III", note)
    return length in _PRSTATUS_BYTES if kind == 1 else not unsaid


def _holds(source: Source, at: int, length: int) -> bool:
    return bool(source.pieces(np.array([at], np.uint64), np.array([length], np.uint64))[0])


_PAGE = np.dtype(
    [("pfn", "u8"), ("offset", "u8"), ("size", "u4"), ("state", "u1"), ("codec", "u1"), ("in_place", "?")]
)
"""A page; of one that is ``State.DATA``: what is in the file, and whether it is read there."""


@dataclass
class _Found:
    """How many pages have a descriptor (``stored``); of how many the data was not written, lies ``beyond`` the end, or
    the descriptor is ``senseless``, and where the ``first`` of these lies; the bytes ``claimed`` by those that are
    decoded, and the codecs."""

    stored: int = 0
    unwritten: int = 0
    beyond: int = 0
    senseless: int = 0
    first: int = 0
    claimed: int = 0
    codecs: set[int] = field(default_factory=set)
    spooled: set[int] = field(default_factory=set)

    @property
    def lost(self) -> int:
        return self.unwritten + self.beyond + self.senseless


ZerosOf = Callable[..., "NDArray[np.uint64]"]
"""Of the number of a chunk and the offsets, sizes and codecs of its descriptors, the offsets at which zeros lie."""


def _pages(source: Source, dump: _Dump, zeros_of: ZerosOf, found: _Found) -> Iterator[NDArray[Any]]:
    """All pages of the dump (``_PAGE`` arrays), up to ``_CHUNK`` at a time, which are added to ``found``. The same each
    time that it is gone through, if ``zeros_of`` is the same."""
    left_out = State.EXCLUDED
    if dump.dump_level == 1 and not dump.status & _EXCLUDED_VMEMMAP:
        left_out = State.ZERO  # there was no other reason to leave a page out
    at = dump.descriptors_at
    reach = 0  # where the plain pages so far end
    for number, (first, end) in enumerate(_chunks(dump.first, dump.end)):
        exists, stored = (_bits(source, bitmap, first, end) for bitmap in (dump.bitmap_at, dump.bitmap2_at))
        numbers = np.flatnonzero(exists | stored)
        if not numbers.size:
            continue
        is_stored = stored[numbers]
        table = _descriptors(source, dump, at, int(is_stored.sum()))
        offset, size = table["offset"], table["size"]
        codec, sensible = _codecs(table, dump)
        pieces = np.zeros(len(table), np.uint32)
        placed = sensible & (offset > 0)
        pieces[placed] = source.pieces(offset[placed], size[placed])
        sound = placed & (pieces > 0)

        plain = sound & (codec == Codec.STORED)
        zero = sound & np.isin(offset, zeros_of(number, offset[sound], size[sound], codec[sound]))
        # Claimed once: a plain page behind all those before it is read where it lies, any other one is copied.
        own = plain & ~zero
        ends = np.maximum.accumulate(np.append(np.uint64(reach), offset[own] + np.uint64(dump.page)))
        in_place = np.zeros(len(table), np.bool_)
        in_place[own] = (offset[own] >= ends[:-1]) & (pieces[own] == 1)
        reach = int(ends[-1])

        senseless = (offset != 0) & ~sensible
        if senseless.any() and not found.senseless:
            found.first = at + int(senseless.argmax()) * _DESCRIPTOR_BYTES
        found.stored += len(table)
        found.unwritten += int((offset == 0).sum())
        found.beyond += int((placed & ~sound).sum())
        found.senseless += int(senseless.sum())
        data = sound & ~zero
        found.codecs |= set(np.unique(codec[data]).tolist())
        found.claimed += int(size[data & ~in_place].sum())
        found.spooled |= set(np.unique(codec[data & ~in_place]).tolist())

        pages = np.zeros(len(numbers), _PAGE)
        pages["pfn"], pages["state"] = numbers + first, left_out
        pages["state"][is_stored] = np.where(sound, np.where(zero, State.ZERO, State.DATA), State.LOST)
        for name, each in (("offset", offset), ("size", size), ("codec", codec), ("in_place", in_place)):
            pages[name][is_stored] = each
        yield pages
        at += len(table) * _DESCRIPTOR_BYTES


def _elsewhere(source: Source, dump: _Dump) -> Iterator[NDArray[Any]]:
    """Ranges of the pages that other parts of a split dump are about: excluded, unless these are named too."""
    for start, end in (*_chunks(0, dump.first), *_chunks(dump.end, dump.max_mapnr)):
        exists = _bits(source, dump.bitmap_at, start, end)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], exists, [False]]))).reshape(-1, 2) + start
        ranges = np.zeros(len(edges), RANGE)
        ranges["address"] = edges[:, 0].astype(np.uint64) * np.uint64(dump.page)
        ranges["bytes"] = (edges[:, 1] - edges[:, 0]).astype(np.uint64) * np.uint64(dump.page)
        ranges["offset"], ranges["state"], ranges["kind"] = -1, State.EXCLUDED, Kind.RAM
        yield ranges


def _chunks(first: int, end: int) -> Iterator[tuple[int, int]]:
    """Page numbers, so many at a time that it is worth while; each time but the first from a multiple of 8 on."""
    for start in range(first // 8 * 8, end, _CHUNK):
        yield max(first, start), min(end, start + _CHUNK)


def _bits(source: Source, bitmap_at: int, first: int, end: int) -> NDArray[np.bool_]:
    """What a bitmap has for the pages from ``first`` to ``end``."""
    skipped = first % 8
    held = np.frombuffer(source.read(bitmap_at + first // 8, -(-end // 8) - first // 8), np.uint8)
    if not held.any():
        return np.zeros(end - first, np.bool_)
    return np.unpackbits(held, bitorder="little")[skipped : skipped + end - first].astype(np.bool_)


def _descriptors(source: Source, dump: _Dump, at: int, count: int) -> NDArray[Any]:
    """So many page descriptors; those that the file does not hold have a place beyond its end."""
    wanted = [("offset", f"{dump.order}u8"), ("size", f"{dump.order}u4"), ("flags", f"{dump.order}u4")]
    there = source.read(at, count * _DESCRIPTOR_BYTES)
    there = there[: len(there) // _DESCRIPTOR_BYTES * _DESCRIPTOR_BYTES]
    table = np.frombuffer(there, np.dtype([*wanted, ("page_flags", "V8")]))
    native = np.zeros(count, [("offset", np.uint64), ("size", np.uint32), ("flags", np.uint32)])
    for name in ("offset", "size", "flags"):
        native[name][: len(table)] = table[name]
    native[len(table) :] = (np.iinfo(np.int64).max, dump.page, 0)
    return native


def _codecs(table: NDArray[Any], dump: _Dump) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The codec of each descriptor, and which of them can be true: the data lies behind the descriptors, is at most as
    long as a page, and just as long if it is not compressed."""
    codec = np.zeros(len(table), np.uint8)
    sensible = np.zeros(len(table), np.bool_)
    for flags, each in _CODECS.items():
        fits = table["flags"] == flags
        codec[fits] = each
        sensible |= fits
    plain = codec == Codec.STORED
    sensible &= (table["size"] > 0) & np.where(plain, table["size"] == dump.page, table["size"] <= dump.page)
    sensible &= (table["offset"] >= dump.data_at) & (table["offset"] < 1 << 63)
    return codec, sensible


class _Shared:
    """Which descriptors are shared and hold zeros: producers write one page of zeros, and let all others point to it.

    A descriptor that points behind the data of all before it is not shared so far; of the others the most frequent are
    decoded.
    """

    def __init__(self, source: Source, page: int) -> None:
        self._source, self._page = source, page
        self._zeros: list[tuple[int, int]] = []  # offset, and from which chunk on that is known
        self._examined: set[int] = set()
        self._reach = -1

    def since(self, number: int) -> NDArray[np.uint64]:
        """The offsets of zeros that were known after this chunk."""
        return np.array([offset for offset, since in self._zeros if since <= number], np.uint64)

    def zeros_of(
        self, number: int, offset: NDArray[np.uint64], size: NDArray[np.uint32], codec: NDArray[np.uint8]
    ) -> NDArray[np.uint64]:
        """The offsets of zeros, after a look at one more chunk."""
        if len(offset):
            before = np.maximum.accumulate(np.append(np.int64(self._reach), offset.astype(np.int64)))
            again = np.flatnonzero((offset.astype(np.int64) <= before[:-1]) & ~np.isin(offset, self.since(number)))
            self._reach = int(before[-1])
            values, first, counts = np.unique(offset[again], return_index=True, return_counts=True)
            for each in np.argsort(-counts, kind="stable")[:_MOST_EXAMINED].tolist():
                at, where = int(values[each]), again[first[each]]
                if at not in self._examined and len(self._examined) < _MOST_EXAMINED:
                    self._examined.add(at)
                    if self._is_zero(at, int(size[where]), Codec(codec[where])):
                        self._zeros.append((at, number))
        return self.since(number)

    def _is_zero(self, at: int, size: int, codec: Codec) -> bool:
        try:
            return bytes(decoder(codec, self._page)([self._source.read(at, size)])[0]) == bytes(self._page)
        except MissingCodecError:
            return False  # decoding will say so
        except OSError:
            raise
        except Exception:  # each codec has its own; a damaged block is met again when all are decoded
            return False


def _spooled(pages: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray((pages["state"] == State.DATA) & ~pages["in_place"])


def _blocks(pages: NDArray[Any], dump: _Dump, into: int) -> NDArray[Any]:
    """The pages that go through the spool, from ``into`` on."""
    wanted = pages[_spooled(pages)]
    blocks = np.zeros(len(wanted), BLOCK)
    blocks["offset"], blocks["bytes"], blocks["codec"] = wanted["offset"], wanted["size"], wanted["codec"]
    blocks["into"] = into + np.arange(len(blocks)) * dump.page
    blocks["length"] = dump.page
    return blocks


def _ranges(pages: NDArray[Any], dump: _Dump, into: int) -> tuple[NDArray[Any], int]:
    """The pages as ranges, neighbours as one; and where the spool goes on behind those of them that lie in it."""
    data, spooled = pages["state"] == State.DATA, _spooled(pages)
    end = into + int(spooled.sum()) * dump.page
    place = np.where(data, pages["offset"].astype(np.int64), -1)
    place[spooled] = np.arange(into, end, dump.page)
    follows = pages["pfn"][1:] == pages["pfn"][:-1] + np.uint64(1)
    follows &= pages["state"][1:] == pages["state"][:-1]
    follows &= spooled[1:] == spooled[:-1]
    follows &= ~data[1:] | (place[1:] == place[:-1] + dump.page)
    heads = np.flatnonzero(np.concatenate([[True], ~follows]))
    ranges = np.zeros(len(heads), RANGE)
    ranges["address"] = pages["pfn"][heads] * np.uint64(dump.page)
    ranges["bytes"] = np.diff(heads, append=len(pages)) * dump.page
    ranges["offset"], ranges["file"], ranges["state"] = place[heads], spooled[heads], pages["state"][heads]
    return ranges, end
