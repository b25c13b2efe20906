"""The native core: page hashing and ESX's frame table. The only module that touches the C library.

Everything here takes and gives whole arrays; every C call runs without the GIL. C returns codes; ``_raise``
is the one place where they become exceptions.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare._core import ffi, lib
from pageshare.space import PageSpace, check_hashable

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Pages: TypeAlias = NDArray[np.uint32]

SMALLEST_SHARE = 32 << 20
"""Bytes of pages for each thread of a census: with less, starting it costs more than it brings."""

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


class Stopped(Exception):
    """A loop ended early because ``Control.stop`` was called; ``scanned`` pages of this call were done."""

    def __init__(self, scanned: int = 0) -> None:
        super().__init__(scanned)
        self.scanned = scanned


class MediaError(OSError):
    """A file could not be read to its end any more: it shrank, or its disk failed. ``filename`` names it."""


class Control:
    """Shared with running loops: ``done`` counts pages, ``stop()`` ends them within milliseconds."""

    def __init__(self) -> None:
        self._c = ffi.new("ps_control *")

    @property
    def done(self) -> int:
        """Pages looked at so far, by all loops that were given this control."""
        return int(self._c.done)

    def advance(self, pages: int) -> None:
        """Count pages that a loop in Python is through with."""
        self._c.done += pages

    def reset(self) -> None:
        """Count from zero again."""
        self._c.done = 0

    @property
    def reading(self) -> tuple[int, int]:
        """Which time files are being read from end to end, and how many times they will be.

        Both 0 unless a census streams them, the latter until its first reading is done.
        """
        return int(self._c.reading), int(self._c.readings)

    def stop(self) -> None:
        """Make every loop that was given this control raise ``Stopped``."""
        self._c.stop = 1

    def check(self) -> None:
        """Raise ``Stopped`` if ``stop`` was called: for loops in Python."""
        if self._c.stop:
            raise Stopped


# ---- kernels ------------------------------------------------------------------------------------------------


def kernels() -> list[str]:
    """Names of the hash kernels that this processor runs, slowest first: ``["scalar", "sse2", ...]``."""
    return [
        ffi.string(lib.ps_kernel_name(i)).decode()
        for i in range(lib.ps_kernel_count())
        if lib.ps_kernel_usable(i)
    ]


def _kernel_number(name: str | None) -> int:
    if name is None:
        return int(lib.ps_kernel_best())
    for i in range(lib.ps_kernel_count()):
        if ffi.string(lib.ps_kernel_name(i)).decode() == name and lib.ps_kernel_usable(i):
            return i
    raise ValueError(f"no hash kernel {name!r} here: this processor runs {', '.join(kernels())}")


def _page_count(view: Any, page_size: int) -> int:
    check_hashable(page_size)
    if len(view) % page_size:
        raise ValueError(f"{len(view)} bytes are not a whole number of pages of {page_size} bytes")
    return len(view) // page_size


def hash_pages(
    buffer: Any, page_size: int = 4096, *, bits: int = 64, seed: int = 0, kernel: str | None = None
) -> NDArray[np.uint64]:
    """XXH3 of each page of a buffer, as the XXH3 specification defines it, with a 64-bit seed.

    Returns uint64 of shape (n,) for ``bits=64``, or (n, 2), low word first, for ``bits=128``.
    Raises ValueError where the buffer is not a whole number of pages.

    >>> import pageshare.core
    >>> hex(pageshare.core.hash_pages(bytes(4096))[0])
    '0x93d76fe148c689ba'
    """
    if bits not in (64, 128):
        raise ValueError(f"{bits} bits: XXH3 has 64 or 128")
    number, view = _kernel_number(kernel), ffi.from_buffer("uint8_t[]", buffer)
    count = _page_count(view, page_size)
    hashes = np.empty(count if bits == 64 else (count, 2), np.uint64)
    key = ffi.new("ps_hash_key *")
    lib.ps_hash_key_init(key, seed)
    function = lib.ps_hash64 if bits == 64 else lib.ps_hash128
    function(number, key, view, page_size, count, ffi.from_buffer("uint64_t[]", hashes))
    return hashes


def is_zero(page: Any, *, kernel: str | None = None) -> bool:
    """Whether every byte is zero; the length must be a multiple of 64, and not 0."""
    view = ffi.from_buffer("uint8_t[]", page)
    if not len(view) or len(view) % 64:
        raise ValueError(f"{len(view)} bytes: must be a multiple of 64, and not 0")
    return bool(lib.ps_is_zero(_kernel_number(kernel), view, len(view)))


def equal(a: Any, b: Any, *, kernel: str | None = None) -> bool:
    """Whether two buffers of one length, a multiple of 64 and not 0, hold the same bytes."""
    one, other = ffi.from_buffer("uint8_t[]", a), ffi.from_buffer("uint8_t[]", b)
    if len(one) != len(other) or not len(one) or len(one) % 64:
        raise ValueError(f"{len(one)} and {len(other)} bytes: must be equal, a multiple of 64, and not 0")
    return bool(lib.ps_equal(_kernel_number(kernel), one, other, len(one)))


# ---- the frame table ----------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class OwnerTally:
    """One owner's pages in a table. All but ``zero`` leave zero pages out; ``alone_*`` ignore other owners.

    ``unreadable`` are pages that could not be read, in none of the others.
    """

    zero: int
    unique: int
    shared: int
    alone_unique: int
    alone_shared: int
    alone_kept: int
    unreadable: int


@dataclass(frozen=True)
class Tally:
    """All pages in a table, by what they are; zero pages only in ``zero``.

    ``stale`` pages have no entry: their hint was found stale, and they were not looked at since. They differed from
    what they fitted, and are taken to be unique.
    """

    zero: int
    hints: int
    shared: int
    kept: int
    lone: int
    stale: int
    unreadable: int
    owners: tuple[OwnerTally, ...]


def _fields(struct: Any, names: Sequence[str]) -> dict[str, int]:
    return {name: int(getattr(struct, name)) for name in names}


def _tally_of(owners: Any, count: int, total: Any) -> Tally:
    names = list(OwnerTally.__dataclass_fields__)
    return Tally(
        owners=tuple(OwnerTally(**_fields(owners[i], names)) for i in range(count)),
        **_fields(total, ["zero", "hints", "shared", "kept", "lone", "stale", "unreadable"]),
    )


class FrameTable:
    """ESX's hint and shared frame table over the pages of a space (Waldspurger, OSDI 2002, section 4.2).

    ``pages`` is a ``PageSpace``, or anything that ``PageSpace.of`` takes: a buffer, a numpy array, a dict of
    them by owner. Bytes are read where they lie; memory that changes may only change after ``write``. Threads
    may share a table: their calls take turns.

    ``seed`` fixes the hash (random by default; no count depends on it). ``hash_bits`` cuts the hash down, for
    tests of collisions. ``max_refs`` limits the pages of a frame, as KSM's max_page_sharing does. ``checksum``
    makes a page a hint only if it is unchanged since its last visit, as KSM does. ``kernel`` names one of
    ``kernels()``. Memory: at most 16 bytes per page (20 with ``checksum``).

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
        number = _kernel_number(kernel)
        self.kernel = ffi.string(lib.ps_kernel_name(number)).decode()
        self._native = _native_space(self.space)
        config = ffi.new(
            "ps_table_config *",
            {
                "seed": self.seed,
                "hash_bits": hash_bits,
                "max_refs": max_refs,
                "options": lib.PS_CHECKSUM if checksum else 0,
                "kernel": number,
            },
        )
        out = ffi.new("ps_table **")
        self._check(lib.ps_table_new(out, self._native.pointer, config))
        self._table = ffi.gc(out[0], lib.ps_table_free)
        self._lock = threading.Lock()

    def _numbers(self, pages: Pages | Sequence[int] | int) -> Pages:
        """Page numbers as C takes them; TypeError or IndexError for what is none of this space's."""
        numbers = np.asarray(pages).reshape(-1)
        if numbers.size == 0:
            return np.empty(0, np.uint32)
        if numbers.dtype.kind not in "iu":
            raise TypeError(f"page numbers must be integers, not {numbers.dtype}")
        for number in (int(numbers.min()), int(numbers.max())):
            if not 0 <= number < self.space.readable:
                raise IndexError(f"page {number}: the space has {self.space.readable} to be read")
        return np.ascontiguousarray(numbers, np.uint32)

    def _check(self, status: int) -> None:
        if status != lib.PS_OK:
            _raise(status, self._native)

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
            pages = self._numbers(pages)
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
        self._check(status)
        return Scanned(outcomes, partners)

    def write(self, pages: Pages | Sequence[int] | int) -> NDArray[np.bool_]:
        """Say that these pages are about to be written; to be called before their bytes change.

        A member of a frame leaves it: a copy-on-write break, True in the result. A hint is not noticed until
        it is used.
        """
        numbers = self._numbers(pages)
        broken = np.zeros(numbers.size, np.uint8)
        with self._lock:
            status = lib.ps_table_write(
                self._table,
                ffi.from_buffer("uint32_t[]", numbers),
                numbers.size,
                ffi.from_buffer("uint8_t[]", broken),
            )
        self._check(status)
        return broken.astype(np.bool_)

    def drop_hints(self) -> None:
        """Forget every hint; frames stay. KSM drops its unstable tree so after each pass."""
        with self._lock:
            lib.ps_table_drop_hints(self._table)

    def stats(self) -> TableStats:
        """Event and state counts, and the bytes of memory that the table takes."""
        stats = ffi.new("ps_table_stats *")
        with self._lock:
            lib.ps_table_get_stats(self._table, stats)
        return TableStats(**_fields(stats, list(TableStats.__dataclass_fields__)))

    def chains(self) -> ChainStats:
        """How long the chains of the hash table are."""
        chains = ffi.new("ps_chain_stats *")
        with self._lock:
            lib.ps_table_get_chains(self._table, chains)
        return ChainStats(
            lengths=tuple(int(n) for n in chains.lengths),
            **_fields(chains, ["buckets", "entries", "longest"]),
        )

    def classes(self, first: int = 0, count: int | None = None) -> Pages:
        """For each page, the page that stands for its content (itself for a hint); ``NO_PAGE`` if not entered."""
        count = self.space.readable - first if count is None else count
        if not 0 <= first <= first + count <= self.space.readable:
            raise IndexError(f"pages {first} to {first + count}: the space has {self.space.readable} to be read")
        classes = np.empty(count, np.uint32)
        with self._lock:
            status = lib.ps_table_classes(self._table, first, count, ffi.from_buffer("uint32_t[]", classes))
        self._check(status)
        return classes

    def tally(self, control: Control | None = None) -> Tally:
        """Count the pages in the table, for each owner alone and with the others."""
        owners = ffi.new("ps_owner_tally[]", max(1, len(self.space.owners)))
        total = ffi.new("ps_tally *")
        stop = ffi.NULL if control is None else control._c
        with self._lock:
            status = lib.ps_table_tally(self._table, owners, len(self.space.owners), total, stop)
        self._check(status)
        return _tally_of(owners, len(self.space.owners), total)

    def check(self) -> None:
        """Walk the whole table and check every invariant; AssertionError says which one is broken. For tests."""
        why = ffi.new("char[]", 200)
        with self._lock:
            status = lib.ps_table_check(self._table, why, len(why))
        if status == lib.PS_INVALID:
            raise AssertionError(ffi.string(why).decode())
        self._check(status)


# ---- the census ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CensusStats:
    """What a census did, in pages: read to see whether they are zero, hashed whole, compared with another.

    ``bytes`` of memory it took at its peak, the result included; ``rounds`` is 1, and one more for each time that
    equal samples, or hashes, stood for many contents; ``threads`` is how many there were; ``readings`` says how often
    files were read from end to end, 0 where they were looked at in place.
    """

    zero_tests: int
    hashes: int
    compares: int
    bytes: int
    rounds: int
    threads: int
    readings: int


@dataclass(frozen=True)
class Census:
    """Which pages hold the same bytes: all of them, verified.

    ``canonical`` (uint32, one a readable page) is the lowest page with the same bytes in the same domain; ``zeros``
    (uint32, one a domain) the canonical page of zeros, ``NO_PAGE`` where there is none.
    """

    canonical: Pages
    zeros: Pages
    tally: Tally
    stats: CensusStats
    kernel: str


def census(
    pages: PageSpace | Any,
    *,
    seed: int | None = None,
    threads: int | None = None,
    hash_bits: int = 64,
    kernel: str | None = None,
    map_ahead: bool = False,
    keep_mapped: int | None = None,
    hold_bytes: int | None = None,
    control: Control | None = None,
) -> Census:
    """Look at every page of a space (or of what ``PageSpace.of`` takes) at once: sample, group, verify.

    The result depends on nothing but the pages: not on ``seed`` (random by default), ``threads`` (by default one for
    each CPU; one where pages are few), ``kernel``, or ``hash_bits`` (fewer than 64 test collisions).
    ``map_ahead`` maps the pages of files block by block, each before it is looked at; of what is mapped no more than
    ``keep_mapped`` bytes, and a third, stay so when they are done with: mapped pages count as this process's memory.
    With ``hold_bytes`` files are read from end to end instead, as often as it takes if no more than that is held of
    their contents (by one thread).
    Memory: 15 bytes a page at the peak, and what is held. Raises MediaError where a file can't be read any more,
    ``Stopped``.

    >>> import pageshare
    >>> found = pageshare.census(bytes(4096) + b"x" * 8192)
    >>> found.canonical.tolist(), found.tally.kept
    ([0, 1, 1], 1)
    """
    space = pages if isinstance(pages, PageSpace) else PageSpace.of(pages)
    number, native = _kernel_number(kernel), _native_space(space)
    most = max(1, space.readable * space.page_size // SMALLEST_SHARE)
    config = ffi.new(
        "ps_census_config *",
        {
            "seed": secrets.randbits(64) if seed is None else seed,
            "hash_bits": hash_bits,
            "threads": min(threads or os.cpu_count() or 1, most),
            "options": (lib.PS_MAP if map_ahead else 0)
            | (0 if keep_mapped is None else lib.PS_LET_GO)
            | (0 if hold_bytes is None else lib.PS_STREAM),
            "kernel": number,
            "keep_bytes": keep_mapped or 0,
            "hold_bytes": hold_bytes or 0,
        },
    )
    canonical = np.empty(space.readable, np.uint32)
    zeros = np.empty(max(1, len(space.domains)), np.uint32)
    owners, total = ffi.new("ps_owner_tally[]", max(1, len(space.owners))), ffi.new("ps_tally *")
    stats = ffi.new("ps_census_stats *")
    status = lib.ps_census(
        native.pointer,
        config,
        ffi.from_buffer("uint32_t[]", canonical),
        ffi.from_buffer("uint32_t[]", zeros),
        owners,
        len(space.owners),
        total,
        stats,
        ffi.NULL if control is None else control._c,
    )
    if status != lib.PS_OK:
        _raise(status, native)
    return Census(
        canonical,
        zeros,
        _tally_of(owners, len(space.owners), total),
        CensusStats(**_fields(stats, list(CensusStats.__dataclass_fields__))),
        ffi.string(lib.ps_kernel_name(number)).decode(),
    )


# ---- the space, as C sees it --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Native:
    """A ``ps_space`` and what keeps its memory mapped."""

    pointer: Any
    space: PageSpace
    views: tuple[Any, ...]


def _native_space(space: PageSpace) -> _Native:
    sources = ffi.new("ps_source[]", max(1, len(space.sources)))
    views = []
    for native, source in zip(sources, space.sources, strict=False):
        memory = source.memory
        if memory is not None:
            views.append(ffi.from_buffer("uint8_t[]", memory))
            native.base = views[-1]
        native.bytes = source.bytes
        native.fd = source.fd
        native.owner = source.owner
        native.domain = source.domain
    segments = np.ascontiguousarray(space.segments)
    out = ffi.new("ps_space **")
    status = lib.ps_space_new(
        out,
        ffi.cast("ps_segment *", ffi.from_buffer(segments)) if segments.size else ffi.NULL,
        segments.size,
        sources,
        len(space.sources),
        space.readable,
        space.page_size,
    )
    if status != lib.PS_OK:
        _raise(status, None)
    return _Native(ffi.gc(out[0], lib.ps_space_free), space, tuple(views))


MAP_STEP = 8 << 20
"""Bytes that are mapped between two counts."""


def populate(space: PageSpace, control: Control | None = None) -> None:
    """Map all pages of a space that lie in files, so that reading them faults no more; ``control`` counts them."""
    native, step = _native_space(space), max(1, MAP_STEP // space.page_size)
    for first in range(0, space.readable, step):
        pages = min(step, space.readable - first)
        status = lib.ps_space_populate(native.pointer, first, pages, ffi.NULL if control is None else control._c)
        if status != lib.PS_OK:
            _raise(status, native)
        if control is not None:
            control.advance(pages)


def shed(space: PageSpace, most: int) -> None:
    """Unmap all pages of a space that lie in files, to be mapped again when they are read, if this process has more
    than ``most`` bytes of files mapped."""
    lib.ps_space_shed(_native_space(space).pointer, most)


def _raise(status: int, native: _Native | None) -> None:
    if status == lib.PS_STOPPED:
        raise Stopped
    if status == lib.PS_NO_MEMORY:
        raise MemoryError("not enough memory for the page table (16 bytes for each page that is read)")
    if native is not None and status in (lib.PS_SHRANK, lib.PS_IO_ERROR):
        path = native.space.sources[lib.ps_space_faulted(native.pointer)].path
        if status == lib.PS_SHRANK:
            raise MediaError(f"{path}: the file became shorter while it was read; scan a copy that stays as it is")
        raise MediaError(f"{path}: its disk failed while it was read; copy what can be read (ddrescue) and scan that")
    raise ValueError("the native core was given arguments out of range; please report this")
