"""What policies are made of: which pages were given already, and the others of a pass, in random order."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from pageshare.policies.random_permutation import Permutation

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Pages: TypeAlias = NDArray[np.uint32]

NONE = np.empty(0, np.uint32)
"""No pages."""
AHEAD = 1024
"""How many pages of a permutation are worked out at a time, at least: the fewer calls, the less they cost."""


def first_of_each(pages: Pages) -> NDArray[np.bool_]:
    """Whether a page is there for the first time."""
    order = np.argsort(pages, kind="stable")
    ascending = pages[order]
    first = np.ones(len(pages), np.bool_)
    first[order[1:][ascending[1:] == ascending[:-1]]] = False
    return first


def once(pages: Pages) -> Pages:
    """Each page once, where it comes first."""
    return pages[first_of_each(pages)]


def alternate(first: Pages, second: Pages) -> Pages:
    """One of each in turn, beginning with ``first``; what is left of the longer one at the end."""
    both = min(len(first), len(second))
    mixed = np.stack([first[:both], second[:both]], axis=1).reshape(-1)
    return np.concatenate([mixed, first[both:], second[both:]])


class Bits:
    """A set of pages: one bit for each page there is."""

    def __init__(self, pages: int) -> None:
        self._bytes = np.zeros((pages + 7) // 8, np.uint8)

    def has(self, pages: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which of these are in the set."""
        found: NDArray[np.bool_] = (self._bytes[pages >> 3] >> (pages & 7).astype(np.uint8) & 1).astype(np.bool_)
        return found

    def add(self, pages: NDArray[np.integer]) -> None:
        """Put them in."""
        np.bitwise_or.at(self._bytes, pages >> 3, np.uint8(1) << (pages & 7).astype(np.uint8))

    def remove(self, pages: NDArray[np.integer]) -> None:
        """Take them out."""
        np.bitwise_and.at(self._bytes, pages >> 3, ~(np.uint8(1) << (pages & 7).astype(np.uint8)))

    def clear(self) -> None:
        """Take all out."""
        self._bytes[:] = 0


class Later:
    """Pages to be given some time, first come, first served; they may be put in again and again, and then take no more
    than twice as much as all pages."""

    def __init__(self, pages: int) -> None:
        self._most = pages
        self._parts: deque[Pages] = deque()
        self._held = 0

    def __bool__(self) -> bool:
        return bool(self._held)

    def put(self, pages: Pages) -> None:
        """Behind the others."""
        if not len(pages):
            return
        self._parts.append(pages)
        self._held += len(pages)
        if self._held > 2 * self._most:
            self._parts = deque([once(np.concatenate(self._parts))])
            self._held = len(self._parts[0])

    def take(self, count: int) -> Pages:
        """Some of them, ``count`` at most."""
        part = self._parts.popleft()
        if len(part) > count:
            self._parts.appendleft(part[count:])
            part = part[:count]
        self._held -= len(part)
        return part

    def take_all(self) -> Pages:
        """All of them, each once."""
        pages = once(np.concatenate([NONE, *self._parts]))
        self.clear()
        return pages

    def clear(self) -> None:
        """Without them."""
        self._parts.clear()
        self._held = 0


class Pass:
    """Goes through all pages, each once, whoever chooses them: ``given`` are those that were, ``left`` how many were
    not."""

    def __init__(self, pages: int) -> None:
        self.pages = self.left = pages
        self.given = Bits(pages)

    def begin(self) -> None:
        """The next pass."""
        self.left = self.pages
        self.given.clear()

    def take(self, pages: Pages) -> Pages:
        """Those of them that were not given before, each once; now they are."""
        if not len(pages):
            return pages
        fresh = once(pages[~self.given.has(pages)])
        self.given.add(fresh)
        self.left -= len(fresh)
        return fresh

    def give_back(self, pages: Pages) -> None:
        """Let these be given again in this pass."""
        given = once(pages[self.given.has(pages)])
        self.given.remove(given)
        self.left += len(given)


class Rest:
    """All pages in the order of a random permutation, without those that were given by others."""

    def __init__(self, pages: int, seed: int) -> None:
        self._permutation = Permutation(pages, seed)
        self._pages = self._left = pages
        self._ahead = NONE

    def begin(self) -> None:
        """Another permutation, from its beginning."""
        self._permutation.begin()
        self._left, self._ahead = self._pages, NONE

    def next(self, count: int, given: Bits) -> Pages:
        """The next ``count`` that are not in ``given``; fewer only at the end."""
        parts = []
        while True:
            ahead = self._ahead
            ahead = ahead[~given.has(ahead)]
            part, self._ahead = ahead[:count], ahead[count:]
            parts.append(part)
            count -= len(part)
            if not count or not self._left:
                return np.concatenate(parts) if len(parts) > 1 else part
            # The permutation begins again by itself behind its last page: never ask beyond that.
            self._ahead = self._permutation.next(min(max(count, AHEAD), self._left))
            self._left -= len(self._ahead)
