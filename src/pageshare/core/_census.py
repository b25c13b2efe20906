"""The census: all pages at once."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare._core import ffi, lib
from pageshare.core._kernels import kernel_number
from pageshare.core._native import Control, check, native_space
from pageshare.core._tally import Tally, fields_of, tally_of
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Pages: TypeAlias = NDArray[np.uint32]

SMALLEST_SHARE = 32 << 20
"""Bytes of pages for each thread of a census: with less, starting it costs more than it brings."""


@dataclass(frozen=True)
class CensusStats:
    """What a census did, in pages: read to see whether they are zero, hashed whole, compared with another.

    ``bytes`` of memory it took at its peak, the result included; ``look_ns``, ``group_ns``, ``verify_ns`` and
    ``tally_ns`` are nanoseconds that its stages took (0 where files were streamed); ``rounds`` is 1, and one more for
    each time that equal samples, or hashes, stood for many contents; ``threads`` is how many there were; ``readings``
    says how often files were read from end to end, 0 where they were looked at in place.
    """

    zero_tests: int
    hashes: int
    compares: int
    bytes: int
    look_ns: int
    group_ns: int
    verify_ns: int
    tally_ns: int
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
    each CPU that this process may run on; one where pages are few), ``kernel``, or ``hash_bits`` (fewer than 64 test
    collisions).
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
    number, native = kernel_number(kernel), native_space(space)
    most = max(1, space.readable * space.page_size // SMALLEST_SHARE)
    config = ffi.new(
        "ps_census_config *",
        {
            "seed": secrets.randbits(64) if seed is None else seed,
            "hash_bits": hash_bits,
            "threads": min(threads or len(os.sched_getaffinity(0)), most),
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
    check(status, native)
    return Census(
        canonical,
        zeros,
        tally_of(owners, len(space.owners), total),
        CensusStats(**fields_of(stats, list(CensusStats.__dataclass_fields__))),
        ffi.string(lib.ps_kernel_name(number)).decode(),
    )
