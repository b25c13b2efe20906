"""The rows of a saved scan: made, and taken in and held against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare._core import ffi, lib
from pageshare.core._frame_table import NO_PAGE
from pageshare.core._native import check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pageshare.core._contents import Contents
    from pageshare.core._native import Control

COLUMNS = (
    ("owner", "int32_t[]", np.int32),
    ("frame", "uint64_t[]", np.uint64),
    ("pages", "uint64_t[]", np.uint64),
    ("state", "int8_t[]", np.int8),
    ("content", "uint32_t[]", np.uint32),
    ("first", "uint8_t[]", np.uint8),
)
_ROOM = (*COLUMNS, ("which", "uint32_t[]", np.uint32), ("count", "uint32_t[]", np.uint32))
_RUNS = (*COLUMNS[:3], ("first", "uint32_t[]", np.uint32), COLUMNS[3])
PARTS = 3
"""Sorts of pages: those that are read, holes, unknown ones."""
FAULTS = {
    lib.PS_ROW_NOWHERE: "a row lies where no memory can be",
    lib.PS_ROW_ORDER: "rows overlap, or are out of order",
    lib.PS_ROW_MORE_PAGES: "it has more pages than it says",
    lib.PS_ROW_SEVERAL: "a row of several pages has a content",
    lib.PS_ROW_HAS_CONTENT: "an unknown page has a content",
    lib.PS_ROW_NOT_ZERO: "zeros have the number of another content",
    lib.PS_ROW_ZERO_AGAIN: "zeros are counted where they do not begin",
    lib.PS_ROW_NUMBER: "contents are not numbered as they appear",
    lib.PS_ROW_MORE_CONTENTS: "it has more contents than it says",
}


class RowFault(ValueError):
    """Rows that can't be. ``str()`` says why."""


class RowReader:
    """Takes rows in, in order.

    ``content`` (uint32) becomes the number of each page that is read, in order; ``first_page`` and ``held`` (uint32)
    the first of these pages of each content, NO_PAGE for zeros if none were read, and how many pages are said to hold
    it; ``by_owner`` (uint64, (3, owners)) each owner's pages that are read, holes, and unknown.
    """

    def __init__(self, owners: int, *, read: int, holes: int, contents: int, most_frame: int) -> None:
        """Of so many owners, pages that are read and holes, contents but zeros; frames are below ``most_frame``."""
        self.content = np.empty(read, np.uint32)
        self.first_page = np.zeros(contents + 1, np.uint32)
        self.first_page[0] = NO_PAGE
        self.held = np.zeros(contents + 1, np.uint32)
        self.by_owner = np.zeros((PARTS, max(1, owners)), np.uint64)
        self._runs: list[list[tuple[NDArray[Any], ...]]] = [[] for _ in range(PARTS)]
        self._to = to = ffi.new("ps_rows *")
        to.most_frame, to.most_contents, to.zero_at, to.owner = most_frame, contents, NO_PAGE, -1
        to.content, to.first_page, to.held = (
            ffi.from_buffer("uint32_t[]", array, require_writable=True)
            for array in (self.content, self.first_page, self.held)
        )
        for part, by_owner, most in zip(to.parts, self.by_owner, (read, holes, (1 << 63) - 1), strict=True):
            part.most_pages, part.owner = most, -1
            part.by_owner = ffi.from_buffer("uint64_t[]", by_owner, require_writable=True)

    @property
    def pages(self) -> tuple[int, ...]:
        """How many there are so far of each sort."""
        return tuple(int(part.pages) for part in self._to.parts)

    @property
    def contents(self) -> int:
        """How many there are so far, but zeros."""
        return int(self._to.contents)

    @property
    def zero_at(self) -> int:
        """How many contents begin before zeros do; -1 where there are none."""
        return -1 if self._to.zero_at == NO_PAGE else int(self._to.zero_at)

    def take(self, rows: Mapping[str, NDArray[Any]], count: NDArray[np.uint32]) -> None:
        """Some more rows: numbers of owners (int32) and of states (int8) that are there, ``frame`` and ``pages``
        (uint64), ``content`` (uint32), ``first`` (bool): which are the first of their content; ``count`` is of these.
        Raises RowFault."""
        columns, length = ffi.new("ps_row_columns *"), len(rows["owner"])
        held = []
        for name, kind, dtype in COLUMNS:
            held.append(ffi.from_buffer(kind, np.ascontiguousarray(rows[name]).view(dtype)))
            setattr(columns, name, held[-1])
        counts = ffi.from_buffer("uint32_t[]", np.ascontiguousarray(count, np.uint32))
        # What is not used of these takes no memory.
        dtypes = (np.uint64, np.uint64, np.int32)
        room = [tuple(np.empty(length, dtype) for dtype in dtypes) for _ in range(PARTS)]
        self._to.count = counts
        for part, arrays in zip(self._to.parts, room, strict=True):
            kinds = ("uint64_t[]", "uint64_t[]", "int32_t[]")
            part.run_frame, part.run_first, part.run_owner = map(ffi.from_buffer, kinds, arrays)
            part.runs = 0
        status = lib.ps_rows_take(self._to, columns, length, ffi.NULL)
        if self._to.fault:
            raise RowFault(FAULTS[self._to.fault])
        check(status)
        for runs, part, arrays in zip(self._runs, self._to.parts, room, strict=True):
            runs.append(tuple(array[: part.runs].copy() for array in arrays))

    def runs(self, part: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int32]]:
        """Stretches of consecutive frames, of one owner each, of the pages of a sort: of each the first frame, the
        number of the first page among those of the sort, and the owner."""
        empty = (np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int32))
        frame, first, owner = map(np.concatenate, zip(empty, *self._runs[part], strict=True))
        return frame, first, owner


class RowMaker:
    """Makes the rows of a scan, in order, from its contents and ``runs``: of consecutive frames of one owner each, by
    owner and frame; arrays ``owner`` (int32), ``frame``, ``pages`` (uint64), ``first`` (uint32, the number of the first
    page, where they are read), ``state`` (int8, 0 for those that are read, else as of rows). ``zeros`` pages are."""

    def __init__(self, contents: Contents, runs: Mapping[str, NDArray[Any]], zeros: int) -> None:
        self._from = of = ffi.new("ps_row_source *")
        number_of = np.zeros(len(contents.contents), np.uint32)
        self._kept = [
            *(ffi.from_buffer(kind, np.ascontiguousarray(runs[name], dtype)) for name, kind, dtype in _RUNS),
            ffi.from_buffer("uint32_t[]", contents.classes),
            ffi.cast("ps_content *", ffi.from_buffer(contents.contents)),
            ffi.from_buffer("uint32_t[]", number_of, require_writable=True),
            contents,
        ]
        of.owner, of.frame, of.pages, of.first, of.state, of.classes, of.contents, of.number_of = self._kept[:-1]
        of.runs, of.content_count, of.zeros = len(runs["owner"]), len(contents.contents), zeros

    def make(self, most: int, control: Control | None = None) -> dict[str, NDArray[Any]]:
        """The next rows, ``most`` of them or those that are left, as ``RowReader.take`` takes them; ``which``: the
        contents that begin in these, by ``Inventory.numbers()``; ``count``: how many pages hold each. Raises
        ``Stopped``."""
        room = ffi.new("ps_row_room *")
        # What is not used of these takes no memory.
        arrays = {name: np.empty(most, dtype) for name, _, dtype in _ROOM}
        buffers = [ffi.from_buffer(kind, arrays[name], require_writable=True) for name, kind, _ in _ROOM]
        for (name, _, _), buffer in zip(_ROOM, buffers, strict=True):
            setattr(room, name, buffer)
        room.most = most
        check(lib.ps_rows_make(self._from, room, ffi.NULL if control is None else control._c))
        made = {name: arrays[name][: room.rows] for name, _, _ in COLUMNS}
        made["first"] = made["first"].view(np.bool_)
        return {**made, "which": arrays["which"][: room.begun], "count": arrays["count"][: room.begun]}
