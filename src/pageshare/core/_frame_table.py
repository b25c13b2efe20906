"""ESX's frame table, and what it says of the pages that it looks at."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare._core import ffi, lib
from pageshare.core._kernels import kernel_number
from pageshare.core._native import Control, Stopped, check, native_space
from pageshare.core._pages import page_numbers
from pageshare.core._tally import Tally, fields_of, tally_of
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Pages: TypeAlias = NDArray[np.uint32]

NO_PAGE = 0xFFFFFFFF
"""The partner of a page that has none."""


class Outcome(IntEnum):
    """What became of a page that the frame table looked at; see ``ps_outcome`` in ``csrc/pageshare.h``."""

    ZERO = lib.PS_ZERO
    HINTED = lib.PS_HINTED
    ALREADY_HINTED = lib.PS_ALREADY_HINTED
    SHARED_NEW = lib.PS_SHARED_NEW
    SHARED = lib.PS_SHARED
    ALREADY_SHARED = lib.PS_ALREADY_SHARED
    STALE_HINT = lib.PS_STALE_HINT
    FALSE_MATCH = lib.PS_FALSE_MATCH
    VOLATILE = lib.PS_VOLATILE
    UNREADABLE = lib.PS_UNREADABLE
    PASSED_OVER = lib.PS_PASSED_OVER


@dataclass(frozen=True)
class Scanned:
    """Outcomes (uint8, an ``Outcome`` each) and partners (uint32, ``NO_PAGE`` where none) of scanned pages."""

    outcomes: NDArray[np.uint8]
    partners: NDArray[np.uint32]


@dataclass(frozen=True)
class TableStats:
    """Counts of a frame table: events since it was made, and states as they stand. In pages, but ``bytes``."""

    visits: int
    compares: int
    rehashes: int
    false_matches: int
    stale_hints: int
    cow_breaks: int
    hints: int
    frames: int
    lone_frames: int
    members: int
    bytes: int


@dataclass(frozen=True)
class ChainStats:
    """Chains of the hash table: ``lengths[i]`` buckets hold i entries; the last counts 15 and more."""

    buckets: int
    entries: int
    longest: int
    lengths: tuple[int, ...]


class FrameTable:
    """ESX's hint and shared frame table over the pages of a space (Waldspurger, OSDI 2002, section 4.2).

    ``pages`` is a ``PageSpace``, or anything that ``PageSpace.of`` takes: a buffer, a numpy array, a dict of
    them by owner. Bytes are read where they lie; memory that changes may only change after ``write``. Threads
    may share a table: their calls take turns.

    ``seed`` fixes the hash (random by default; no count depends on it). ``hash_bits`` cuts the hash down, for
    tests of collisions. ``max_refs`` limits the pages of a frame, as KSM's max_page_sharing does; the zero frame has no
    limit. ``checksum`` looks a page up only if it is unchanged since its last visit, as KSM does. With
    ``zero_ordinary`` zero pages are contents like others: hints first, limited, never ``ZERO`` (KSM without
    use_zero_pages). ``kernel`` names one of ``kernels()``. Memory: at most 16 bytes per page (20 with ``checksum``).

    >>> import pageshare
    >>> table = pageshare.FrameTable(bytes(4096) + b"x" * 8192)
    >>> [pageshare.Outcome(o).name for o in table.scan().outcomes]
    ['ZERO', 'HINTED', 'SHARED_NEW']
    >>> table.stats().members
    3
    """

    def __init__(
        self,
        pages: PageSpace | Any,
        *,
        seed: int | None = None,
        hash_bits: int = 64,
        max_refs: int = 0,
        checksum: bool = False,
        zero_ordinary: bool = False,
        kernel: str | None = None,
    ) -> None:
        self.space = pages if isinstance(pages, PageSpace) else PageSpace.of(pages)
        self.seed = secrets.randbits(64) if seed is None else seed
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed {self.seed}: must be from 0 to 2^64 - 1")
        if not 0 <= hash_bits <= 64:
            raise ValueError(f"hash_bits {hash_bits}: must be from 0 to 64")
        if max_refs == 1 or not 0 <= max_refs < NO_PAGE:
            raise ValueError(f"max_refs {max_refs}: must be 0 (no limit) or at least 2")
        number = kernel_number(kernel)
        self.kernel = ffi.string(lib.ps_kernel_name(number)).decode()
        self._native = native_space(self.space)
        config = ffi.new(
            "ps_table_config *",
            {
                "seed": self.seed,
                "hash_bits": hash_bits,
                "max_refs": max_refs,
                "options": (lib.PS_CHECKSUM if checksum else 0) | (lib.PS_ZERO_ORDINARY if zero_ordinary else 0),
                "kernel": number,
                "zero_hash": self.space.zero_fingerprint,
            },
        )
        out = ffi.new("ps_table **")
        check(lib.ps_table_new(out, self._native.pointer, config), self._native)
        self._table = ffi.gc(out[0], lib.ps_table_free)
        self._lock = threading.Lock()

    def scan(
        self,
        pages: Pages | None = None,
        *,
        first: int = 0,
        count: int | None = None,
        control: Control | None = None,
    ) -> Scanned:
        """Look at pages one after the other: ``pages`` (uint32 numbers, any order, repeats allowed), or ``count``
        pages from ``first`` on (by default all that can be read).

        The result does not depend on how calls are cut into batches. Raises IndexError for a page that is not
        in the space, MediaError where a file can't be read any more, ``Stopped``.
        """
        if pages is not None:
            pages = page_numbers(self.space, pages)
            count = pages.size
        elif count is None:
            count = self.space.readable - first
        if not 0 <= first <= self.space.readable or not count >= 0 or (
            pages is None and first + count > self.space.readable
        ):
            raise IndexError(f"pages {first} to {first + count}: the space has {self.space.readable} to be read")
        outcomes, partners = np.empty(count, np.uint8), np.empty(count, np.uint32)
        scanned = ffi.new("size_t *")
        with self._lock:
            status = lib.ps_table_scan(
                self._table,
                ffi.NULL if pages is None else ffi.from_buffer("uint32_t[]", pages),
                first,
                count,
                ffi.from_buffer("uint8_t[]", outcomes),
                ffi.from_buffer("uint32_t[]", partners),
                ffi.NULL if control is None else control._c,
                scanned,
            )
        if status == lib.PS_STOPPED:
            raise Stopped(scanned[0])
        check(status, self._native)
        return Scanned(outcomes, partners)

    def write(self, pages: Pages | Sequence[int] | int) -> NDArray[np.bool_]:
        """Say that these pages are about to be written; to be called before their bytes change.

        A member of a frame leaves it: a copy-on-write break, True in the result. A hint is not noticed until
        it is used.
        """
        numbers = page_numbers(self.space, pages)
        broken = np.zeros(numbers.size, np.uint8)
        with self._lock:
            status = lib.ps_table_write(
                self._table,
                ffi.from_buffer("uint32_t[]", numbers),
                numbers.size,
                ffi.from_buffer("uint8_t[]", broken),
            )
        check(status, self._native)
        return broken.astype(np.bool_)

    def drop_hints(self) -> None:
        """Forget every hint; frames stay. KSM drops its unstable tree so after each pass."""
        with self._lock:
            lib.ps_table_drop_hints(self._table)

    def accept(self, first: int = 0, last: int = NO_PAGE) -> None:
        """From now on look up only pages whose tag, 32 bits of their hash, is from ``first`` to ``last``; others have
        the outcome ``PASSED_OVER``. Zero pages are always looked up. By default all are again.

        So a pass needs room for a part of the contents only (Gupta et al., "Difference Engine", OSDI 2008).
        """
        if not 0 <= first <= last <= NO_PAGE:
            raise ValueError(f"tags {first} to {last}: must be from 0 to 2^32 - 1, in ascending order")
        with self._lock:
            lib.ps_table_accept(self._table, first, last)

    def stats(self) -> TableStats:
        """Event and state counts, and the bytes of memory that the table takes."""
        stats = ffi.new("ps_table_stats *")
        with self._lock:
            lib.ps_table_get_stats(self._table, stats)
        return TableStats(**fields_of(stats, list(TableStats.__dataclass_fields__)))

    def chains(self) -> ChainStats:
        """How long the chains of the hash table are."""
        chains = ffi.new("ps_chain_stats *")
        with self._lock:
            lib.ps_table_get_chains(self._table, chains)
        return ChainStats(
            lengths=tuple(int(n) for n in chains.lengths),
            **fields_of(chains, ["buckets", "entries", "longest"]),
        )

    def classes(self, first: int = 0, count: int | None = None) -> Pages:
        """For each page, the page that stands for its content (itself for a hint); ``NO_PAGE`` if not entered."""
        count = self.space.readable - first if count is None else count
        if not 0 <= first <= first + count <= self.space.readable:
            raise IndexError(f"pages {first} to {first + count}: the space has {self.space.readable} to be read")
        classes = np.empty(count, np.uint32)
        with self._lock:
            status = lib.ps_table_classes(self._table, first, count, ffi.from_buffer("uint32_t[]", classes))
        check(status, self._native)
        return classes

    def tally(self, control: Control | None = None) -> Tally:
        """Count the pages in the table, for each owner alone and with the others."""
        owners = ffi.new("ps_owner_tally[]", max(1, len(self.space.owners)))
        total = ffi.new("ps_tally *")
        stop = ffi.NULL if control is None else control._c
        with self._lock:
            status = lib.ps_table_tally(self._table, owners, len(self.space.owners), total, stop)
        check(status, self._native)
        return tally_of(owners, len(self.space.owners), total)

    def check(self) -> None:
        """Walk the whole table and check every invariant; AssertionError says which one is broken. For tests."""
        why = ffi.new("char[]", 200)
        with self._lock:
            status = lib.ps_table_check(self._table, why, len(why))
        if status == lib.PS_INVALID:
            raise AssertionError(ffi.string(why).decode())
        check(status, self._native)
