"""Reuse distances of pages that a hash chooses, and the miss-ratio curve they make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.memory import NEVER, WINDOW
from pageshare.lab.view import View

if TYPE_CHECKING:
    from numpy.typing import NDArray


BLOCK = 1024
"""Pages seen touched in a step that are held against each other at once."""


class Shards:
    """SHARDS (Waldspurger et al., FAST 2015): of the pages, those whose hash is below a threshold are watched, and all
    touches of these; distances among them, times the inverse of the rate, are those among all.

    A watched page's trap is armed again each ``every`` seconds, so a page is seen touched once in that time: Mattson's
    stack is kept in the order of what was seen last. ``rate`` is the share of pages watched. ``histogram`` has how
    often each distance was seen, in watched pages; ``misses`` makes a curve of it. The estimate is the share of watched
    pages that were seen touched in the last 30 seconds.
    """

    def __init__(
        self, view: View, rng: np.random.Generator, *, rate: float = 0.01, every: float = 1.0, traps: bool = True
    ) -> None:
        _ranges.number("rate", rate, 0, 1, above=True, what="a share")
        _ranges.flags(traps=traps)
        self.view, self.every, self.by_trap = view, _ranges.period("every", every), traps
        # A multiplicative hash, odd and drawn: the chosen pages stay the same ones all the time.
        factor = np.uint64(int(rng.integers(1 << 62)) * 2 + 1)
        hashes = (np.arange(1, view.pages + 1, dtype=np.uint64) * factor) >> np.uint64(40)
        count = max(1, round(rate * view.pages))
        self.pages = np.sort(np.argpartition(hashes, count - 1)[:count]).astype(np.uint32)
        self.rate = count / view.pages
        self.seen = np.full(count, NEVER, np.int64)
        self.histogram = np.zeros(count + 1, np.int64)
        """Of distances 0 to watched-1: how many other watched pages were seen since; the last, of first touches."""
        self.order = np.full(count, -1, np.int64)
        """The number of the last touch of each that was seen; -1 where none was."""
        self.touches = 0
        self.next = view.now + self.every
        self.cleared = view.now
        self.traps = view.traps(self.pages.copy()) if traps else None
        if not traps:
            view.costs.visits += count
        self.active = 1.0

    def step(self) -> None:
        """Take in touches; arm traps, or read accessed bits, when it is time to."""
        now = self.view.now
        due = now >= self.next
        if self.traps is not None:
            self._touched(self.traps.poll())
            if due:
                self.traps.arm(np.flatnonzero(self.traps.sprung))
        elif due:
            self._touched(np.flatnonzero(self.view.accessed(self.pages, self.cleared)))
            self.cleared = now
        if due:
            self.next = now + self.every
        if now >= WINDOW:
            self.active = float(np.count_nonzero(self.seen > now - WINDOW)) / len(self.pages)

    def _touched(self, places: NDArray[np.intp]) -> None:
        """Pages were seen touched, one after the other: each had above it what was seen since it was last, and moves to
        the top."""
        if not len(places):
            return
        was = self.order[places]
        seen = np.sort(self.order)
        above = len(seen) - np.searchsorted(seen, was, side="right")
        above += _smaller_before(was)
        self.histogram += np.bincount(np.where(was < 0, len(seen), above), minlength=len(seen) + 1)
        self.order[places] = self.touches + np.arange(len(places))
        self.touches += len(places)
        self.seen[places] = self.view.now

    def misses(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The miss-ratio curve: sizes in pages (float64), 0 to all, and the share of touches that miss with each."""
        total = max(1, int(self.histogram.sum()))
        hits = np.append(0, np.cumsum(self.histogram[:-1]))
        return np.arange(len(hits)) / self.rate, 1.0 - hits / total


def _smaller_before(values: NDArray[np.int64]) -> NDArray[np.intp]:
    """How many of those before each are smaller: pages that moved to the top before it, in this same step, and had been
    below. A block at a time, or it would take memory by the square of their number."""
    found = np.zeros(len(values), np.intp)
    for begin in range(0, len(values), BLOCK):
        block = values[begin : begin + BLOCK]
        found[begin : begin + BLOCK] = np.sort(values[:begin]).searchsorted(block)
        found[begin : begin + BLOCK] += np.tril(block[None, :] < block[:, None], -1).sum(axis=1)
    return found
