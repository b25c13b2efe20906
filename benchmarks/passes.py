"""What a scan is measured against: a bare XXH3-64 pass over the same mapped pages, by as many threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inputs
from pageshare import PageSpace, open_image
from pageshare.core import ffi, kernels, lib, populate
from pageshare.space import PageSpace as Space


def mapped(paths: Sequence[Path]) -> Space:
    """The pages of some dumps, each an owner, all of them mapped."""
    space = PageSpace([(path.name, [open_image(path)]) for path in paths])
    populate(space)
    return space


def guests_or_skip(suffix: str) -> inputs.Input:
    """`inputs.guests`, or this benchmark is skipped with the reason."""
    try:
        return inputs.guests(suffix)
    except RuntimeError as error:
        pytest.skip(str(error))


class HashPass:
    """Hashes every page of a space into an array, in order; one call of the core for each MiB of it."""

    def __init__(self, space: Space, threads: int = 1, kernel: str | None = None) -> None:
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
            while first < end:
                count = min(end - first, (1 << 20) // size)
                offset = int(segment["offset"]) + (first - int(segment["first"])) * size
                lib.ps_hash64(self.kernel, self.key, self.views[segment["source"]] + offset, size, count, into + first)
                first += count

    def __call__(self) -> None:
        """One pass."""
        cuts = [self.space.readable * i // self.threads for i in range(self.threads + 1)]
        others = [threading.Thread(target=self._part, args=cut) for cut in itertools.pairwise(cuts[1:])]
        for other in others:
            other.start()
        self._part(cuts[0], cuts[1])
        for other in others:
            other.join()
