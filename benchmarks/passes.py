"""What a scan is measured against: a bare XXH3-64 pass over the same mapped pages, by as many threads."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import inputs
from pageshare import open_image
from pageshare._core import ffi, lib
from pageshare.core import kernels, populate
from pageshare.space import PageSpace


def mapped(paths: Sequence[Path]) -> PageSpace:
    """The pages of some dumps, each an owner, all of them mapped."""
    space = PageSpace([(path.name, [open_image(path)]) for path in paths])
    populate(space)
    return space


def guests_or_skip(which: str) -> inputs.Input:
    """`inputs.guests` or `inputs.software`, as in "guests-raw", or this benchmark is skipped with the reason."""
    kind, _, suffix = which.partition("-")
    try:
        return {"guests": inputs.guests, "software": inputs.software}[kind](suffix)
    except RuntimeError as error:
        pytest.skip(str(error))


def together(part: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call ``part(low, high)`` for as many equal parts of ``count`` as there are threads, at once."""
    cuts = [count * i // threads for i in range(threads + 1)]
    others = [threading.Thread(target=part, args=cut) for cut in itertools.pairwise(cuts[1:])]
    for other in others:
        other.start()
    part(cuts[0], cuts[1])
    for other in others:
        other.join()


def zeros(size: int) -> NDArray[np.uint8]:
    """Zeros that were written, or all of it would be the kernel's one page of zeros, which lies in the L1 cache."""
    buffer = np.ones(size, np.uint8)
    buffer.fill(0)
    return buffer


def reading_ns(threads: int) -> float:
    """Nanoseconds to read a page of 4 KiB from memory, each of so many threads its part of 512 MiB: the median of five.

    By the fastest test for zeros, which does nothing else.
    """
    view, number, seconds = ffi.from_buffer(READ), len(kernels()) - 1, []

    def part(low: int, high: int) -> None:
        lib.ps_is_zero(number, view + low, high - low)

    for _ in range(5):
        started = time.perf_counter()
        together(part, len(READ), threads)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e9 / (len(READ) // 4096)


READ = zeros((8 << 20) if inputs.QUICK else (512 << 20))


class HashPass:
    """Hashes every page of a space into an array, in order, each run of pages in one call of the core: what is done
    between two calls makes the hardware stop streaming, and took up to a sixth of the time with calls for 1 MiB."""

    def __init__(self, space: PageSpace, threads: int = 1, kernel: str | None = None) -> None:
        self.space, self.threads = space, threads
        self.kernel = kernels().index(kernel or kernels()[-1])
        self.key = ffi.new("ps_hash_key *")
        lib.ps_hash_key_init(self.key, 1)
        self.hashes = np.empty(space.readable, np.uint64)
        self.views: list[Any] = [ffi.from_buffer("uint8_t[]", source.memory) for source in space.sources]
        self.ends = np.append(space.segments["first"][1:], space.readable)

    def _part(self, low: int, high: int) -> None:
        size = self.space.page_size
        into = ffi.from_buffer("uint64_t[]", self.hashes)
        for segment, segment_end in zip(self.space.segments, self.ends, strict=True):
            first, end = max(int(segment["first"]), low), min(int(segment_end), high)
            if first < end:
                at = self.views[segment["source"]] + int(segment["offset"]) + (first - int(segment["first"])) * size
                lib.ps_hash64(self.kernel, self.key, at, size, end - first, into + first)

    def __call__(self) -> None:
        """One pass."""
        together(self._part, self.space.readable, self.threads)
