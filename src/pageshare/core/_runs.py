"""Stretches of pages that are the same elsewhere, in a stretch as well; and stretches of zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare._core import ffi, lib
from pageshare.core._contents import Contents, pointer
from pageshare.core._native import Control, check

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTHS = np.dtype([("runs", "=u8"), ("pages", "=u8")])
"""Stretches of some length, and their pages, as ``ps_lengths``."""
RUN_PAIR = np.dtype([("runs", "=u8"), ("pages", "=u8"), ("longest", "=u8")])
"""What the stretches of one owner match in the memory of another, as ``ps_run_pair``."""
STRETCH = np.dtype([("page", "=u4"), ("pages", "=u4"), ("matches", "=u4")])
"""Pages side by side, and those that they match, as ``ps_stretch``."""


@dataclass(frozen=True)
class OwnerRuns:
    """An owner's stretches: those that match something, and zeros, by length (``LENGTHS``, 32 each: entry i is of
    2^i to 2^(i + 1) - 1 pages); the numbers of the owners of what they ``matched``, and what of each (``RUN_PAIR``);
    the longest ones (``STRETCH``, the longest first)."""

    lengths: NDArray[Any]
    zeros: NDArray[Any]
    matched: NDArray[np.int64]
    pairs: NDArray[Any]
    longest: NDArray[Any]


class RunFinder:
    """Finds maximal stretches of pages that are not the first of their content, and whose first pages follow each other
    as they do; and of zeros, those that need no reading included.

    ``first`` (uint32), ``frame`` (uint64) and ``owner_first`` (uint64) are those of ``Places``, which has ``pages`` in
    all.
    """

    def __init__(
        self,
        contents: Contents,
        first: NDArray[np.uint32],
        frame: NDArray[np.uint64],
        owner_first: NDArray[np.uint64],
        pages: int,
    ) -> None:
        self._contents, self._first, self._frame = contents, first, frame
        self._ends = np.append(owner_first, np.uint64(pages)).astype(np.uint32)
        self._edges = np.searchsorted(first, self._ends).tolist()
        owners, readable = len(contents.owner_pages), len(contents.classes)
        self._apart = np.zeros(readable // 64 + 1, np.uint64)
        read = ffi.new("ps_spans *", self._spans(0, self._edges[owners], readable))
        first_pages = pointer("uint32_t", contents.owner_first)
        lib.ps_runs_apart(read, first_pages, owners, pointer("uint64_t", self._apart))

    def _spans(self, low: int, high: int, end: int) -> tuple[Any, Any, int, int]:
        first, frame = self._first[low:high], self._frame[low:high]
        return pointer("uint32_t", first), pointer("uint64_t", frame), len(first), end

    def of(self, owner: int, most: int, control: Control | None = None) -> OwnerRuns:
        """An owner's, of which the ``most`` longest are told one by one. May be called by several threads at once.
        Raises ``Stopped``."""
        contents = self._contents
        owners = len(contents.owner_pages)
        pairs, longest = np.zeros(owners, RUN_PAIR), np.zeros(most, STRETCH)
        source = ffi.new(
            "ps_run_source *",
            {
                "classes": pointer("uint32_t", contents.classes),
                "contents": pointer("ps_content", contents.contents),
                "apart": pointer("uint64_t", self._apart),
                "owner_first": pointer("uint32_t", contents.owner_first),
                "owner_count": owners,
            },
        )
        for spans, part in ((source.read, owner), (source.zeros, owners + owner)):
            low, high = self._edges[part : part + 2]
            spans.first, spans.frame, spans.count, spans.end = self._spans(low, high, int(self._ends[part + 1]))
        found = ffi.new(
            "ps_run_found *",
            {"pairs": pointer("ps_run_pair", pairs), "longest": pointer("ps_stretch", longest), "most": most},
        )
        begin, end = contents.owner_first[owner : owner + 2].tolist()
        check(lib.ps_runs_find(source, begin, end, found, ffi.NULL if control is None else control._c))
        lengths, zeros = (np.frombuffer(ffi.buffer(each), LENGTHS).copy() for each in (found.runs, found.zeros))
        matched = np.flatnonzero(pairs["runs"])
        return OwnerRuns(lengths, zeros, matched, pairs[matched], longest[: found.kept])
