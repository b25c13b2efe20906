"""A line of every page first; then the pages that begin alike, group by group."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import Outcome
from pageshare.policies._pending import NONE, Pass, Rest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.policies._pending import Pages
    from pageshare.policies.view import View

BLOCK = 1 << 16
"""How many pages are peeked at together."""
ZERO_LINES = (1 / 8, 5 / 8, 3 / 8)
"""Where lines lie that a zero page must have besides its first one; in pages."""
UNSURE_LINE = 1 / 2
"""Where a line lies that tells apart what begins alike."""
TRIED = 4
"""Visits to a group, after which it is judged."""


class PeekFirst:
    """Peeks at line 0 of every page in address order, before anything is visited. Pages that begin alike are a group;
    largest groups first, in which less than a quarter of the visits found something last; then what is left, as a
    random permutation. Pages that begin with zeros come before all that, if zero pages are to be saved, or else behind
    the groups.

    ``context`` 1: groups come first of which most pages have a neighbour in a group, as equal pages lie in runs.
    ``selective`` 1: besides, of the pages of other groups, and of pages that begin with zeros and lie beside one that
    does not, more lines are peeked at, and groups divided by them. With neither these are plain key groups.

    Measured here. Sketches of lines stand behind delta compression of pages, too (Gupta et al., "Difference Engine",
    OSDI 2008). Each page once a pass. Needs 40 to 63 bits for each page, and to wait for a whole sweep. Knows nothing
    of writes: what it peeked at is out of date some time.
    """

    takes_objective = True

    def __init__(self, view: View, *, context: int = 1, selective: int = 1) -> None:
        if not {context, selective} <= {0, 1}:
            raise ValueError(f"context {context}, selective {selective}: must be 0 or 1")
        self._view = view
        self._context, self._selective = bool(context or selective), bool(selective)
        self._with_zero = view.objective == "all"
        self._pass, self._rest = Pass(view.pages), Rest(view.pages, view.seed)
        self._begin()

    def _begin(self) -> None:
        self._pass.begin()
        self._rest.begin()
        self._group = np.zeros(self._view.pages, np.uint32)  # of each page; 0 for none
        self._queue: deque[Pages] = deque()  # best first
        self._swept = False

    def _sweep(self) -> None:
        """Peek, group, and put in order."""
        self._swept = True
        pages = np.arange(self._view.pages, dtype=np.uint32)
        keys = np.concatenate(
            [NONE, *(self._view.peek(pages[i : i + BLOCK]) for i in range(0, len(pages), BLOCK))]
        )
        if self._selective:
            self._doubt_zeros(keys)
        zeros = pages[keys == 0]
        group, counts = _groups(keys)
        trusted = np.ones(len(counts), np.bool_)
        if self._context:
            trusted = self._with_neighbours(group, counts)
            unsure = pages[(group != 0) & ~trusted[group]]
            if self._selective and len(unsure):
                second = self._view.peek(unsure, int(UNSURE_LINE * self._view.lines))
                keys[unsure] = np.maximum((keys[unsure] ^ second * np.uint32(0x85EBCA6B)) * np.uint32(0xC2B2AE35), 1)
                group, counts = _groups(keys)
                trusted = self._with_neighbours(group, counts)
        self._group = group
        self._tried, self._found = np.zeros((2, len(counts)), np.uint32)
        members = np.flatnonzero(group).astype(np.uint32)
        mine = group[members]
        members = members[np.lexsort((members, mine, -counts[mine].astype(np.int64), ~trusted[mine]))]
        self._queue.extend([zeros, members] if self._with_zero else [members, zeros])

    def _doubt_zeros(self, keys: NDArray[np.uint32]) -> None:
        """Pages whose first line is zero, beside one where it is not: if other lines are not, these are their key."""
        zero = keys == 0
        edge = np.zeros(len(keys), np.bool_)
        edge[1:] |= ~zero[:-1]
        edge[:-1] |= ~zero[1:]
        unsure = np.flatnonzero(zero & edge).astype(np.uint32)
        for line in ZERO_LINES:
            keys[unsure] = self._view.peek(unsure, int(line * self._view.lines))
            unsure = unsure[keys[unsure] == 0]

    def _with_neighbours(self, group: NDArray[np.uint32], counts: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Of which groups most pages lie beside one of a group."""
        grouped = group != 0
        beside = np.zeros(len(group), np.bool_)
        beside[1:] |= grouped[:-1]
        beside[:-1] |= grouped[1:]
        trusted: NDArray[np.bool_] = 2 * np.bincount(group[beside], minlength=len(counts)) > counts
        return trusted

    def next(self, count: int) -> Pages:
        """The next pages, up to the end of the pass."""
        if not self._pass.left:
            self._begin()
        if not self._swept:
            self._sweep()
        parts = [NONE]
        while count and self._queue:
            pages = self._queue.popleft()
            if len(pages) > count:
                self._queue.appendleft(pages[count:])
                pages = pages[:count]
            group = self._group[pages]
            bad = (group != 0) & (self._tried[group] >= TRIED) & (self._found[group] * 4 < self._tried[group])
            parts.append(self._pass.take(pages[~bad]))
            count -= len(parts[-1])
        if count:
            parts.append(self._pass.take(self._rest.next(count, self._pass.given)))
        return np.concatenate(parts)

    def feedback(self, pages: Pages, outcomes: NDArray[np.uint8], partners: Pages) -> None:
        """Learns which groups are none."""
        del partners
        group = self._group[pages]
        found = np.isin(outcomes, (Outcome.ZERO, Outcome.SHARED_NEW, Outcome.SHARED, Outcome.ALREADY_SHARED))
        np.add.at(self._tried, group, 1)
        np.add.at(self._found, group[found], 1)


def _groups(keys: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
    """A number for each key that comes up twice and is not 0, else 0; and how many have each.

    >>> import numpy as np
    >>> [each.tolist() for each in _groups(np.array([7, 0, 5, 7, 0], np.uint32))]
    [[1, 0, 0, 1, 0], [3, 2]]
    """
    unique, at, counts = np.unique(keys, return_inverse=True, return_counts=True)
    several = (counts > 1) & (unique != 0)
    number = np.where(several, np.cumsum(several), 0).astype(np.uint32)
    group: NDArray[np.uint32] = number[at]
    return group, np.bincount(group, minlength=1)
