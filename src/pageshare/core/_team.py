"""Threads that share the work of C calls: each does a part, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from pageshare import limits
from pageshare.core._native import check

PARTS = 4
"""Parts for each thread, so that none waits long for one that has more to do."""


class Team:
    """``size`` threads, by default as many as there are CPUs, while its block lasts. Calls return a ``ps_status``."""

    def __init__(self, threads: int | None = None) -> None:
        self.size = threads or limits.cpus()
        self._pool = ThreadPoolExecutor(self.size)

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def each(self, call: Callable[[int], int], count: int) -> None:
        """Call with 0 .. ``count`` - 1. Raises ``Stopped``, MemoryError."""
        for status in self._pool.map(call, range(count)):
            check(status)

    def part(self, count: int, call: Callable[[int, int], int]) -> None:
        """Call with the first and the end of each part of 0 .. ``count`` - 1. Raises ``Stopped``, MemoryError."""
        parts = min(count, PARTS * self.size)
        edges = [count * part // parts for part in range(parts + 1)] if parts else []
        for status in self._pool.map(call, *zip(*pairwise(edges), strict=True)) if parts else ():
            check(status)
