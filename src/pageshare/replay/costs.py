"""What looking at pages costs on this machine: measured, not assumed."""

from __future__ import annotations

import mmap
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import FrameTable, Outcome, PageReader
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES = 96 << 20
"""Of each of the two parts that are measured on: together more than most caches."""
FAULTS = 4096
BLOCK = 4 << 20
"""Bytes of memory that are filled at a time: a signal is taken only between two calls."""


@dataclass(frozen=True)
class Costs:
    """Nanoseconds of CPU time for a page, in address order and anywhere.

    ``read``: a page is read, hashed and looked up, and nothing found; ``found``: it is compared with a partner, too;
    ``zero``: it is zero; ``shared``: it is a member already, and not read; ``peek``: one line of it is read;
    ``fault``: a write to a shared page, copied by the kernel, as a private file mapping's is.
    """

    read: tuple[float, float]
    found: tuple[float, float]
    zero: tuple[float, float]
    shared: tuple[float, float]
    peek: tuple[float, float]
    fault: float

    def by_outcome(self) -> NDArray[np.float64]:
        """Of a visit by outcome, (outcomes, 2): anywhere, and in address order."""
        costs = np.tile(np.array(self.read[::-1]), (max(Outcome) + 1, 1))
        for outcomes, cost in (
            ((Outcome.SHARED_NEW, Outcome.SHARED, Outcome.STALE_HINT, Outcome.FALSE_MATCH), self.found),
            ((Outcome.ZERO,), self.zero),
            ((Outcome.ALREADY_SHARED,), self.shared),
        ):
            costs[list(outcomes)] = cost[::-1]
        return costs

    def of_visits(self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Nanoseconds of each visit of a batch."""
        in_order = np.zeros(len(pages), np.intp)
        in_order[1:] = pages[1:] == pages[:-1] + np.uint32(1)
        found: NDArray[np.float64] = self.by_outcome()[outcomes, in_order]
        return found

    def of_peeks(self, count: int, in_order: int) -> float:
        """Nanoseconds of so many peeks, some of them in address order."""
        return (count - in_order) * self.peek[1] + in_order * self.peek[0]


def measure(page_size: int = 4096, *, seed: int = 1, rounds: int = 3) -> Costs:
    """Measure on memory of our own: half of it random, half the same again. Takes a second or two; the best of some
    rounds, since whatever else runs only adds."""
    generator = np.random.default_rng(seed)
    count = BYTES // page_size
    memory = mmap.mmap(-1, 3 * count * page_size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    pages = np.frombuffer(memory, np.uint8).reshape(3 * count, page_size)
    random, again, zero = pages.reshape(3, -1)
    for at in range(0, random.size, BLOCK):
        part = slice(at, at + BLOCK)
        random[part] = np.frombuffer(generator.bytes(random[part].size), np.uint8)
        again[part] = random[part]
        zero[part] = 0
    space = PageSpace.of(pages, page_size=page_size)
    reader = PageReader(space)
    first, second, zeros = (np.arange(i * count, (i + 1) * count, dtype=np.uint32) for i in range(3))
    best: dict[str, list[float]] = {}

    def timed(name: str, where: int, work: Callable[[NDArray[np.uint32]], object], order: NDArray[np.uint32]) -> None:
        begun = time.process_time_ns()
        work(order)
        took = (time.process_time_ns() - begun) / count
        pair = best.setdefault(name, [np.inf, np.inf])
        pair[where] = min(pair[where], took)

    for _ in range(rounds):
        for where in (0, 1):
            table = FrameTable(space, seed=seed)
            orders = [generator.permutation(part) if where else part for part in (first, second, zeros)]
            for name, order in zip(("read", "found", "zero"), orders, strict=True):
                timed(name, where, table.scan, order)
            timed("shared", where, table.scan, orders[1])
            timed("peek", where, reader.peek, orders[0])
    return Costs(**{name: (in_order, anywhere) for name, (in_order, anywhere) in best.items()}, fault=_fault())


def _fault() -> float:
    """Nanoseconds of a write to a page that the kernel copies first."""
    size = FAULTS * mmap.PAGESIZE
    took = []
    with tempfile.TemporaryFile() as file:
        file.write(bytes(size))
        file.flush()
        for _ in range(3):
            memory = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE)
            first_bytes = np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE]
            first_bytes.sum()  # maps them
            begun = time.process_time_ns()
            first_bytes[:] = 1
            took.append((time.process_time_ns() - begun) / FAULTS)
    return min(took)
