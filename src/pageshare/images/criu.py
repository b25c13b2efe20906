"""CRIU images: the memory of a process, or of a shared mapping, as ``criu dump`` and ``criu pre-dump`` write it.

``pagemap-*.img`` says which pages there are, and ``pages-N.img`` beside it holds them, one behind the other and nothing
else. What did not change since an earlier dump lies there: ``parent`` in the folder leads to it.

Layout: ``images/pagemap.proto``, ``criu/include/magic.h`` and ``criu/pagemap.c`` of CRIU (4.2). Two u32 magics (one in
images of version 1.0), then protobuf messages, each behind its length as a u32, all in the byte order of the machine:
a head {pages_id = 1}, and for each run of pages {vaddr = 1, nr_pages = 2, in_parent = 3, flags = 4, nr_pages = 5 (64
bits, after 4.2)}, by ascending address. Whether a page is 4, 16 or 64 KiB nobody says.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images import raw
from pageshare.images.image import How, Image, ImageError, Source, printable
from pageshare.images.ranges import RANGE, Kind, State, clip, total_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "criu"

_COMMON_MAGIC = 0x5456_4319
_PAGEMAP_MAGIC = 0x5608_4025
_STARTS = {
    struct.pack(f"{order}{len(magics)}I", *magics): order
    for order in "<>"
    for magics in ((_COMMON_MAGIC, _PAGEMAP_MAGIC), (_PAGEMAP_MAGIC,))
}

_PARENT, _PRESENT = 1, 4  # 2: lazy
_PAGE_SIZES = (4096, 16384, 65536)
_LAST = np.uint64(2**64 - 1)

# Bounds for damaged files; real ones stay far below.
_MOST_BYTES = 1 << 27
_LONGEST_MESSAGE = 64
_MOST_EARLIER = 256

_LENGTH_BYTES = 4
_FIELDS = 6
_AT_ONCE = 1 << 16


@dataclass(frozen=True, eq=False)
class _Pagemap:
    """Runs of pages, uint64 each, by ascending ``address``; ``end`` says why they end before the file does, if so."""

    folder: str
    pages_file: str
    address: NDArray[np.uint64]
    pages: NDArray[np.uint64]
    flags: NDArray[np.uint64]
    end: str

    @property
    def path(self) -> str:
        """Of the file that holds the pages."""
        return os.path.join(self.folder, self.pages_file)  # noqa: PTH118

    @property
    def file_bytes(self) -> int:
        """The size of that file, 0 if it is not there."""
        return os.path.getsize(self.path) if os.path.isfile(self.path) else 0  # noqa: PTH113, PTH202

    @property
    def stored(self) -> NDArray[np.uint64]:
        """How many pages of each run take a place in that file."""
        return np.where(self.flags & np.uint64(_PRESENT), self.pages, np.uint64(0))

    @property
    def in_parent(self) -> NDArray[np.bool_]:
        """Which runs lie in an earlier dump."""
        return np.asarray(self.flags & np.uint64(_PARENT) != 0)


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it starts with the magics of a pagemap, in either byte order."""
    return head.startswith(tuple(_STARTS))


def read(source: Source, how: How) -> Image:  # noqa: ARG001 - the same for every format
    """The pages that a pagemap names, by virtual address (of a shared mapping: by the place in it).

    Raises ImageError for a pagemap that has no sound head, and where the file with its pages is not there.
    """
    levels, problems = _with_earlier(source)
    newest = levels[0]
    if newest.stored.any() and not newest.file_bytes:
        raise ImageError(
            source.path,
            "",
            f"its pages should be in {printable(newest.path)}, which is empty or not there",
            "keep the files of a dump in one folder",
        )
    page_size = _page_size(source, levels)
    ranges = own = earlier = np.empty(0, RANGE)
    warnings: list[str] = []
    incomplete: list[str] = []
    with ExitStack() as opened:
        files: list[Source] = []
        for level in reversed(levels):
            try:
                pages = opened.enter_context(Source(level.path)) if level.stored.any() else None
            except (OSError, ImageError) as error:
                if level is newest:
                    raise ImageError(source.path, "", f"its pages are in {printable(_reason(error))}") from None
                problems.append(_reason(error))
                pages = None
            files += [pages] if pages else []
            own, earlier = _pieces(level, page_size, _as_memory(pages, len(files)), _without_gaps(ranges))
            ranges = np.concatenate([own, earlier, _left_out(level, page_size)])
            ranges = ranges[np.argsort(ranges["address"], kind="stable")]
            if level is not newest and level.end:
                problems.append(f"{level.folder}: {level.end}")
        opened.pop_all()

    if newest.end:
        incomplete.append(newest.end)
    if lost := _bytes(own, State.LOST):
        incomplete.append(f"{newest.pages_file} ends before its last page does: {lost} bytes of memory are lost")
    if lost := _bytes(earlier, State.LOST):
        why = f" ({'; '.join(problems)})" if problems else ""
        incomplete.append(f"{lost} bytes of memory should be in an earlier dump and are not{why}: they are lost")
    spare = newest.file_bytes - int(newest.stored.sum()) * page_size
    if spare > 0:
        incomplete.append(f"{newest.pages_file} holds {spare} bytes that no page is named for: the pagemap is cut")
    if holes := _bytes(own, State.EXCLUDED):
        warnings.append(
            f"{newest.pages_file} has holes, {holes} bytes: unknown, since criu dedup makes such holes of what a later"
            " dump holds (a copy may have made them of zeros)"
        )
    if not len(ranges):
        warnings.append("there is no page in it")
    return Image(
        source,
        NAME,
        ranges,
        Kind.PROCESS,
        tuple(warnings),
        tuple(incomplete),
        {
            "pages": f"{newest.pages_file}, {page_size} bytes each",
            "runs": str(len(newest.pages)),
            **({"in earlier dumps": f"{total_bytes(earlier)} bytes"} if len(earlier) else {}),
        },
        tuple(files),
    )


def _reason(error: OSError | ImageError) -> str:
    if isinstance(error, ImageError):
        return f"{error.path}: {error.reason}"
    return f"{error.filename}: {error.strerror}"


def _bytes(ranges: NDArray[Any], state: State) -> int:
    return total_bytes(ranges[ranges["state"] == state])


def _with_earlier(source: Source) -> tuple[list[_Pagemap], list[str]]:
    """The pagemap, and those of the earlier dumps that it builds on, newest first; and why there are no more."""
    folder, name = os.path.split(source.path)
    levels, seen = [_read_pagemap(source, folder)], {source.identity}
    while levels[-1].in_parent.any():
        # Each link by itself: the kernel follows no more than 40 in one path.
        folder = os.path.realpath(os.path.join(folder, "parent"))  # noqa: PTH118
        try:
            with Source(os.path.join(folder, name)) as each:  # noqa: PTH118
                if each.identity in seen:
                    return levels, [f"{each.path}: it is its own parent"]
                if len(levels) > _MOST_EARLIER:
                    return levels, [f"{each.path}: there are more than {_MOST_EARLIER} earlier dumps"]
                seen.add(each.identity)
                levels.append(_read_pagemap(each, folder))
        except (OSError, ImageError) as error:
            return levels, [_reason(error)]
    return levels, []


def _read_pagemap(source: Source, folder: str) -> _Pagemap:
    """The runs of a pagemap, up to the first that makes no sense. Raises ImageError if there is no sound head."""
    if source.size > _MOST_BYTES:
        raise ImageError(source.path, "", f"a pagemap of {source.size} bytes is beyond belief")
    data = source.read(0, source.size)
    start = next((start for start in _STARTS if data.startswith(start)), None)
    if start is None:
        raise ImageError(source.path, "", "the file does not start with the magic of a CRIU pagemap")
    at = len(start)
    pages_id, runs = -1, [np.empty((3, 0), np.uint64)]
    for begins, ends in _messages(data, at, _STARTS[start]):
        fields, there, sound = _fields(np.frombuffer(data, np.uint8), begins, ends)
        sound &= there[:, 1]
        head = int(pages_id < 0)
        if head:
            if not sound[0]:
                break
            pages_id = int(fields[0, 1])
        run = _runs(fields[head:], there[head:])
        good = sound[head:] & _in_order(run, runs[-1])
        count = len(good) if good.all() else int(good.argmin())
        runs.append(run[:, :count])
        if count < len(good):
            at = int(begins[head + count]) - _LENGTH_BYTES
            break
        at = int(ends[-1])
    if pages_id < 0:
        raise ImageError(source.path, "head", "it does not say which file the pages are in", "take the dump again")
    end = f"the entry at {at:#x} of the pagemap is cut or makes no sense; what follows is left out"
    address, pages, flags = np.concatenate(runs, axis=1)
    return _Pagemap(folder, f"pages-{pages_id}.img", address, pages, flags, end if at < len(data) else "")


def _runs(fields: NDArray[np.uint64], there: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Addresses, pages and flags, shape (3, runs), of the fields of runs."""
    in_parent = np.where(fields[:, 3], np.uint64(_PARENT), np.uint64(0))
    # Before there were flags, what did not lie in the parent was present.
    flags = np.where(there[:, 4] | (in_parent > 0), fields[:, 4], np.uint64(_PRESENT)) | in_parent
    return np.stack([fields[:, 1], np.where(there[:, 5], fields[:, 5], fields[:, 2]), flags])


def _in_order(runs: NDArray[np.uint64], before: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which runs are of whole pages of the address space and begin behind the one before; ``before``: those before."""
    size = np.uint64(_PAGE_SIZES[0])
    address, pages, _ = runs
    good = (pages > 0) & (address % size == 0) & (pages <= (_LAST - address) // size)
    address, pages, _ = np.concatenate([before[:, -1:], runs], axis=1)
    good[len(good) + 1 - len(address) :] &= address[1:] >= address[:-1] + pages[:-1] * size
    return np.asarray(good)


def _messages(data: bytes, at: int, order: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Where messages begin and end, some at a time, up to the first that is not whole or too long."""
    length_at = struct.Struct(f"{order}I").unpack_from
    last = len(data) - _LENGTH_BYTES
    going = True
    while going:
        edges = array("q", [at])
        for _ in range(_AT_ONCE):
            if at > last or (length := length_at(data, at)[0]) > _LONGEST_MESSAGE:
                going = False
                break
            at += _LENGTH_BYTES + length
            edges.append(at)
        if at > len(data):
            edges.pop()
        if len(edges) > 1:
            places = np.array(edges, np.int64)
            yield places[:-1] + _LENGTH_BYTES, places[1:]


def _fields(
    data: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_], NDArray[np.bool_]]:
    """The numbers in protobuf messages: (messages, fields) values, whether each is there, and which messages are
    sound. Of a field that is there twice the last counts; what is no number, or another field, is passed over."""
    values = np.zeros((len(begins), _FIELDS), np.uint64)
    there = np.zeros(values.shape, np.bool_)
    sound = np.ones(len(begins), np.bool_)
    left, at = np.arange(len(begins)), begins
    while left.size:
        more = at < ends[left]
        left, at = left[more], at[more]
        end = ends[left]
        key, at, good = _varint(data, at, end)
        value, after, whole = _varint(data, at, end)
        wire, field = key & np.uint64(7), key >> np.uint64(3)
        number = wire == 0
        fixed = at + np.where(wire == 1, 8, 4)
        held = after + np.minimum(value, np.uint64(_LONGEST_MESSAGE)).astype(np.int64)
        at = np.where(number, after, np.where(wire == 2, held, fixed))
        good &= (at <= end) & np.isin(wire, (0, 1, 2, 5)) & (whole | ~np.isin(wire, (0, 2)))
        sound[left] &= good
        wanted = good & number & (field < _FIELDS)
        values[left[wanted], field[wanted]] = value[wanted]
        there[left[wanted], field[wanted]] = True
        left, at = left[good], at[good]
    return values, there, sound


def _varint(
    data: NDArray[np.uint8], at: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
    """The number at each place, 7 bits a byte, the lowest first; what comes behind it; and whether it ends before
    ``end``."""
    value = np.zeros(len(at), np.uint64)
    going = np.ones(len(at), np.bool_)
    whole = np.zeros(len(at), np.bool_)
    for shift in range(0, 70, 7):
        going &= at < end
        if not going.any():
            break
        byte = data[np.where(going, at, 0)]
        value |= np.where(going, byte & np.uint8(0x7F), 0).astype(np.uint64) << np.uint64(shift)
        at = at + going
        whole |= going & (byte < 0x80)
        going &= byte >= 0x80
    return value, at, whole


def _page_size(source: Source, levels: Sequence[_Pagemap]) -> int:
    """The one size with which no run begins within a page or overlaps the next; of several, that which makes up a file
    of pages. Raises ImageError where that is none."""
    fitting = [size for size in _PAGE_SIZES if all(_fits(level, size) for level in levels)]
    if len(fitting) == 1:
        return fitting[0]
    held = [(level, int(level.stored.sum()), level.file_bytes) for level in levels if level.stored.any()]
    for size in fitting:
        if not held or any(pages * size == length for _, pages, length in held):
            return size
    level, pages, length = held[0]
    raise ImageError(
        source.path,
        "",
        f"{pages} pages should be in {printable(level.path)}, which has {length} bytes: a file is cut or not there,"
        " and nothing else says how large a page is",
        "take the dump again",
    )


def _fits(level: _Pagemap, page_size: int) -> bool:
    size, room = np.uint64(page_size), np.diff(level.address, append=_LAST)
    return not (level.address % size).any() and bool((room // size >= level.pages).all())


def _as_memory(pages: Source | None, number: int) -> NDArray[Any]:
    """What lies where in a file of pages, the payload's file ``number``, up to 2^64: beyond its end all is lost."""
    data = raw.data_in(pages).astype(np.uint64) if pages else np.empty((0, 2), np.uint64)
    held = np.zeros(len(data), RANGE)
    held["address"], held["bytes"] = data[:, 0], data[:, 1] - data[:, 0]
    held["offset"], held["file"] = data[:, 0].astype(np.int64), number
    end = np.zeros(1, RANGE)
    end["address"] = pages.size if pages else 0
    end["bytes"] = _LAST - end["address"]
    end["offset"], end["state"] = -1, State.LOST
    held = _without_gaps(np.concatenate([held, end]), State.EXCLUDED)
    held["kind"] = Kind.PROCESS
    return held


def _without_gaps(ranges: NDArray[Any], state: State = State.LOST) -> NDArray[Any]:
    """Ranges sorted by address, and between them, before the first and up to 2^64 others of that state."""
    ends = ranges["address"] + ranges["bytes"]
    gaps = np.zeros(len(ranges) + 1, RANGE)
    gaps["address"][1:] = ends
    gaps["bytes"] = np.append(ranges["address"], _LAST) - gaps["address"]
    gaps["offset"], gaps["state"], gaps["kind"] = -1, state, Kind.PROCESS
    both = np.concatenate([ranges, gaps[gaps["bytes"] > 0]])
    return both[np.argsort(both["address"], kind="stable")]


def _pieces(
    level: _Pagemap, page_size: int, file: NDArray[Any], older: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The ranges of the runs in the file of the pages (see ``_as_memory``), and those of the runs in an earlier dump,
    whose memory is ``older``."""
    size, in_parent = np.uint64(page_size), level.in_parent
    lengths, stored = level.pages * size, level.stored * size
    places = np.cumsum(stored) - stored
    here = (stored > 0) & ~in_parent
    own, run = clip(file, places[here], lengths[here])
    own["address"] += (level.address - places)[here][run]
    earlier, _ = clip(older, level.address[in_parent], lengths[in_parent])
    return own, earlier


def _left_out(level: _Pagemap, page_size: int) -> NDArray[Any]:
    """The ranges of the runs that lie nowhere: a lazy dump leaves them with the process."""
    nowhere = ~level.in_parent & (level.stored == 0)
    ranges = np.zeros(int(nowhere.sum()), RANGE)
    ranges["address"], ranges["bytes"] = level.address[nowhere], level.pages[nowhere] * np.uint64(page_size)
    ranges["offset"], ranges["state"], ranges["kind"] = -1, State.EXCLUDED, Kind.PROCESS
    return ranges
