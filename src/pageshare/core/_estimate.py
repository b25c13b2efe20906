"""A sample of contents by their hashes, in bounded memory."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import Any

from pageshare._core import ffi, lib
from pageshare.core._kernels import kernel_number
from pageshare.core._native import Control, check, native_space
from pageshare.core._tally import fields_of
from pageshare.space import PageSpace

SMALLEST_SHARE = 4 << 20
"""Bytes of pages for each thread: with less, starting it costs more than it brings."""
MOST_THREADS = 8
"""Unless more are asked for: contents are entered by one at a time."""
LEAST_MEMORY = 1024
"""Bytes for the contents of a sample, at least."""


@dataclass(frozen=True)
class OwnerSample:
    """Exact counts of one owner's pages that were read: of zeros; such as could not be read."""

    zero: int
    unreadable: int


@dataclass(frozen=True)
class ContentSample:
    """Contents other than zeros whose hash lies in a part of hash space, each with exact counts.

    Each of the space's contents was taken with the probability ``share`` (1: all of them, and the counts are those of
    the whole space). ``contents`` is how many are in the sample, ``unique`` of them with one page; ``pages`` is all
    their pages; ``owners`` and ``owners_squared`` are the sums, over contents, of the number of owners that hold it and
    of its square. ``evicted`` contents were in it until the share fell. ``bytes`` of memory it took.
    """

    share: float
    contents: int
    evicted: int
    unique: int
    pages: int
    owners: int
    owners_squared: int
    bytes: int
    by_owner: tuple[OwnerSample, ...]
    kernel: str


def sample_contents(
    pages: PageSpace | Any,
    *,
    memory: int,
    seed: int | None = None,
    threads: int | None = None,
    kernel: str | None = None,
    control: Control | None = None,
) -> ContentSample:
    """Read all pages of a space (or of what ``PageSpace.of`` takes) once, and sample contents by their hashes.

    At most ``memory`` bytes (1 KiB or more) are taken for contents, 20 each and a third; files are read, not mapped.
    A content is bytes in a sharing domain; its 64-bit hash stands in for the bytes. ``seed`` (random by default)
    chooses the hash, and so the sample, which depends neither on ``threads`` (by default one for each CPU, 8 at most,
    fewer where pages are few) nor on ``kernel``. Raises ValueError for less memory, MediaError where a file shrank,
    ``Stopped``.

    >>> import pageshare
    >>> found = pageshare.core.sample_contents(bytes(4096) + b"x" * 8192, memory=1 << 16)
    >>> found.share, found.contents, found.unique, found.pages, found.by_owner[0].zero
    (1.0, 1, 0, 2, 1)
    """
    if memory < LEAST_MEMORY:
        raise ValueError(f"{memory} bytes of memory: a sample takes {LEAST_MEMORY} at least")
    space = pages if isinstance(pages, PageSpace) else PageSpace.of(pages)
    number, native = kernel_number(kernel), native_space(space)
    most = max(1, space.readable * space.page_size // SMALLEST_SHARE)
    config = ffi.new(
        "ps_sample_config *",
        {
            "seed": secrets.randbits(64) if seed is None else seed,
            "memory": memory,
            "threads": min(threads or min(len(os.sched_getaffinity(0)), MOST_THREADS), most),
            "kernel": number,
            "zero_hash": space.zero_fingerprint,
        },
    )
    owners, found = ffi.new("ps_owner_sample[]", max(1, len(space.owners))), ffi.new("ps_sample *")
    status = lib.ps_sample_contents(
        native.pointer, config, owners, len(space.owners), found, ffi.NULL if control is None else control._c
    )
    check(status, native)
    whole = int(found.threshold) == 2**64 - 1
    counted = ["contents", "evicted", "unique", "pages", "owners", "owners_squared", "bytes"]
    return ContentSample(
        share=1.0 if whole else int(found.threshold) / 2**64,
        by_owner=tuple(OwnerSample(**fields_of(owners[i], ["zero", "unreadable"])) for i in range(len(space.owners))),
        kernel=ffi.string(lib.ps_kernel_name(number)).decode(),
        **fields_of(found, counted),
    )
