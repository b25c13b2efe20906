"""What a census comes to content by content: which are held more than once, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare._core import ffi, lib
from pageshare.core._native import Control, check
from pageshare.core._tally import Tally, tally_of
from pageshare.core._team import Team

if TYPE_CHECKING:
    from numpy.typing import NDArray

ZERO_CLASS = int(lib.PS_CLASS_ZERO)
UNIQUE_CLASS = int(lib.PS_CLASS_UNIQUE)
"""Class of a page whose content no other page holds."""

CONTENT = np.dtype([("first", "=u4"), ("pages", "=u4"), ("start", "=u4"), ("owners", "=u4")])
"""A content that is held more than once, as ``ps_content`` in ``csrc/pageshare.h``."""
HOLDING = np.dtype([("owner", "=u4"), ("pages", "=u4")])
"""What an owner has of a content, as ``ps_holding``."""
OWNER_PAGES = np.dtype([("zero", "=u8"), ("unique", "=u8"), ("unreadable", "=u8")])
"""An owner's pages that are in no holding, as ``ps_owner_pages``."""
OWNER_SHARE = np.dtype([("pages", "=u8"), ("contents", "=u8"), ("only", "=u8"), ("kept", "=f8")])
"""What an owner has of the contents that several pages hold, as ``ps_owner_share``."""

MOST_PARTS = 4
"""Parts of contents: for each of them all pages are gone through."""


def pointer(kind: str, array: NDArray[Any]) -> Any:
    """To an array's first element, which may have none; it keeps the array alive, but its copy in a struct does not."""
    return ffi.from_buffer(f"{kind}[]", array) if array.size else ffi.NULL


def numbers(
    canonical: NDArray[np.uint32], zero: int, team: Team, control: Control | None = None, *, records: bool = True
) -> tuple[int, NDArray[Any]]:
    """Make ``Contents.classes`` of the canonical pages of a census, in place: how many contents have a number, zeros
    included, and ``Contents.contents`` with ``first`` and ``pages`` of all but zeros (none without ``records``)."""
    stop, pages = ffi.NULL if control is None else control._c, len(canonical)
    shared, ranks = np.zeros(pages // 64 + 1, np.uint64), np.empty(pages // 64 + 1, np.uint32)
    classes, bits = pointer("uint32_t", canonical), pointer("uint64_t", shared)
    team.part(pages, lambda low, end: lib.ps_contents_mark(classes, low, end, zero, bits, stop))
    of_word = pointer("uint32_t", ranks)
    count = lib.ps_contents_rank(bits, pages, of_word)
    contents = np.zeros(count if records else 0, CONTENT)
    into = pointer("ps_content", contents)
    team.part(pages, lambda low, end: lib.ps_contents_name(classes, low, end, zero, bits, of_word, into, stop))
    if records:
        mask = (1 << (min(team.size, MOST_PARTS) - 1).bit_length()) - 1
        team.each(lambda part: lib.ps_contents_pages(classes, pages, part, mask, into, stop), mask + 1)
    return count, contents


@dataclass(frozen=True)
class Contents:
    """The contents of some pages.

    ``classes`` (uint32, one a page): 0 for zeros, ``UNIQUE_CLASS`` for a content held once, ``NO_PAGE`` for a page that
    could not be read, else an index into ``contents``. ``contents`` (``CONTENT``): each one's ``first`` page, how many
    ``pages`` hold it, and its holdings, ``holdings[start : start + owners]`` (``HOLDING``, by ascending owner); number
    0 is zeros, whose holders are in ``owner_pages`` (``OWNER_PAGES``, one an owner). Owner i has pages
    owner_first[i] .. owner_first[i + 1] - 1.
    """

    classes: NDArray[np.uint32]
    contents: NDArray[Any]
    holdings: NDArray[Any]
    owner_pages: NDArray[Any]
    owner_first: NDArray[np.uint32]

    @classmethod
    def of(
        cls,
        canonical: NDArray[np.uint32],
        zero: int,
        owner_first: NDArray[np.uint32],
        control: Control | None = None,
        threads: int | None = None,
    ) -> Contents:
        """Of a census over one domain, whose ``canonical`` is overwritten; ``zero`` is its canonical page of zeros.
        Owner i has pages owner_first[i] .. owner_first[i + 1] - 1. Raises ``Stopped``."""
        stop = ffi.NULL if control is None else control._c
        owner_first = np.ascontiguousarray(owner_first, np.uint32)
        owner_pages = np.empty(len(owner_first) - 1, OWNER_PAGES)
        classes, first = pointer("uint32_t", canonical), pointer("uint32_t", owner_first)
        owners = pointer("ps_owner_pages", owner_pages)
        with Team(threads) as team:
            _, contents = numbers(canonical, zero, team, control)
            records = pointer("ps_content", contents)
            team.part(len(owner_pages), lambda low, end: lib.ps_contents_count(classes, first, low, end, owners, stop))
            contents[0] = (zero, owner_pages["zero"].sum(), 0, 0)
            shared = len(canonical) - sum(int(owner_pages[name].sum()) for name in ("zero", "unique", "unreadable"))
            holdings = np.empty(shared, HOLDING)
            into = pointer("ps_holding", holdings)
            parts = min(team.size, MOST_PARTS)
            edges, held = ffi.new("uint32_t[]", parts + 1), ffi.new("uint32_t[]", parts)
            lib.ps_contents_place(records, len(contents), shared, parts, edges)
            team.each(
                lambda i: lib.ps_contents_hold(
                    classes, first, len(owner_pages), records, edges[i], edges[i + 1], into, held + i, stop
                ),
                parts,
            )
        count = 0
        for (low, end), more in zip(pairwise(edges), held, strict=True):
            if low < end:
                begin = int(contents["start"][low])
                if begin > count:
                    ffi.memmove(into + count, into + begin, more * HOLDING.itemsize)
                    contents["start"][low:end] -= np.uint32(begin - count)
                count += more
        holdings = holdings[:count].copy() if len(holdings) > 2 * count else holdings[:count]
        return cls(canonical, contents, holdings, owner_pages, owner_first)

    def divided(
        self, domains: Sequence[int], control: Control | None = None, threads: int | None = None
    ) -> Contents:
        """The same pages, where what owners of different domains hold are different contents; zeros stay number 0.
        Owner i is in domain ``domains[i]``."""
        numbers = np.ascontiguousarray(domains, np.uint32)
        canonical = np.empty_like(self.classes)
        check(
            lib.ps_contents_divide(
                pointer("uint32_t", self.classes),
                pointer("uint32_t", self.owner_first),
                len(self.owner_pages),
                pointer("uint32_t", numbers),
                int(numbers.max(initial=0)) + 1,
                pointer("ps_content", self.contents),
                len(self.contents),
                pointer("uint32_t", canonical),
                ffi.NULL if control is None else control._c,
            )
        )
        return Contents.of(canonical, int(self.contents["first"][ZERO_CLASS]), self.owner_first, control, threads)

    @property
    def bytes(self) -> int:
        """Memory that this takes."""
        return self.classes.nbytes + self.contents.nbytes + self.holdings.nbytes

    def tally(self, domains: Sequence[int], control: Control | None = None) -> Tally:
        """What a census would count if owner i were in domain ``domains[i]``, a number below that of the owners."""
        owners, total = ffi.new("ps_owner_tally[]", max(1, len(self.owner_pages))), ffi.new("ps_tally *")
        numbers = np.ascontiguousarray(domains, np.uint32)
        check(
            lib.ps_contents_tally(
                pointer("ps_content", self.contents),
                len(self.contents),
                pointer("ps_holding", self.holdings),
                pointer("ps_owner_pages", self.owner_pages),
                len(self.owner_pages),
                pointer("uint32_t", numbers),
                owners,
                total,
                ffi.NULL if control is None else control._c,
            )
        )
        return tally_of(owners, len(self.owner_pages), total)

    def common(self, control: Control | None = None) -> NDArray[np.uint64]:
        """How many distinct contents, zeros left out, owners a and b both hold: (owners, owners), symmetric; on the
        diagonal, how many each one holds."""
        shape = (len(self.owner_pages), len(self.owner_pages))
        common = np.empty(shape, np.uint64)
        check(
            lib.ps_contents_common(
                pointer("ps_content", self.contents),
                len(self.contents),
                pointer("ps_holding", self.holdings),
                pointer("ps_owner_pages", self.owner_pages),
                len(self.owner_pages),
                pointer("uint64_t", common),
                ffi.NULL if control is None else control._c,
            )
        )
        return common

    @cached_property
    def several(self) -> NDArray[np.bool_]:
        """Of each number, whether several owners hold the content; not that of zeros."""
        several: NDArray[np.bool_] = self.contents["owners"] > 1
        return several

    def count_states(
        self,
        edges: NDArray[np.uint64],
        cells: NDArray[np.int64],
        counts: NDArray[np.uint64],
        control: Control | None = None,
    ) -> None:
        """Pages edges[i] .. edges[i + 1] - 1 lie in cell cells[i]: add to ``counts``, (5, cells), how many of them are
        zero, of a content held once, of one that one owner holds, of one that several hold, unreadable. Raises
        ``Stopped``."""
        check(
            lib.ps_contents_states(
                pointer("uint32_t", self.classes),
                pointer("uint8_t", self.several),
                len(self.several),
                pointer("uint64_t", edges),
                pointer("int64_t", cells),
                len(cells),
                pointer("uint64_t", counts),
                counts.shape[1],
                ffi.NULL if control is None else control._c,
            )
        )

    def shares(self, control: Control | None = None) -> NDArray[Any]:
        """What each owner has of the contents, zeros left out (``OWNER_SHARE``): ``pages``, how many ``contents``, how
        many of these nobody else holds (``only``), and its part of the frames ``kept``: one for each content, split
        evenly over the pages that hold it."""
        shares = np.empty(len(self.owner_pages), OWNER_SHARE)
        check(
            lib.ps_contents_share(
                pointer("ps_content", self.contents),
                len(self.contents),
                pointer("ps_holding", self.holdings),
                len(self.owner_pages),
                pointer("ps_owner_share", shares),
                ffi.NULL if control is None else control._c,
            )
        )
        return shares
