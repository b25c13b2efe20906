"""Peek at few pages, visit what begins alike, and follow the runs that are found as far as peeks agree."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import Outcome
from pageshare.policies._heat import CoolPass, Heat
from pageshare.policies._keys import BoundedKeys
from pageshare.policies._peeked_runs import PeekedRuns
from pageshare.policies._pending import NONE, Bits, Later, Rest
from pageshare.policies._regions import ramps

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from pageshare.policies.view import View

    Pages: TypeAlias = NDArray[np.uint32]
    Flags: TypeAlias = NDArray[np.bool_]

LEVELS = ((32, 1024), (16, 256), (8, 64), (4, 16), (1, 1))
"""What sweeps peek at: every so many pages, and as many in a row at the beginning of every so many. Two equal runs of
twice the latter have a page of the first kind in one that equals a page of the second kind in the other, wherever they
lie: so 1/16, 1/8, 1/4, 1/2 and all of the pages are enough for ever shorter runs."""
BAND = 4096
"""Pages of each owner that are swept in turn."""
MANY = 4
"""Pages of a band that begin alike: there will be many more."""
GOOD = 32
"""Zero pages and such of which there are many, in a band: while sweeps find more, nothing else is worth a visit."""
ENOUGH = 32
"""Pages met before that tell whether there are runs."""
RARE = 1 / 8
"""Of pages that begin with zeros."""
DOUBTED = 4
"""Visits to pages that are foreseen to equal one page, after which that is judged."""
MOST = 200
"""What is counted no further."""
TRIED = 512
"""Visits, after which what peeks foresee is judged."""
FADES = 0.75
"""What counts of earlier experience, band by band, or batch by batch."""
FULL = 2
"""A batch is full enough, if it is by one in so many."""
FORGETS = 0.97
"""The same, while nothing new is learnt."""


class PeekRuns:
    """Peeks at some pages at first, at more and more where nothing is found; visits those that begin alike in two
    lines, and what lies between two such pairs at the same distance; follows runs to both sides as ``RunFollowing``
    does, but only as far as peeks say that they go on. First zero pages, if they are to be saved, and contents of which
    there are many; then groups, the largest runs first.

    Where pages beside those that begin alike don't, there are no runs, and all pages are peeked at. If what begins
    alike is not found to be equal, pages come in random order. In memory that changes, what lies where much is written
    comes last, and pages left alone for ``calm`` seconds after a write are looked at again.

    Measured here: see the end of docs/policies.md. Each page once a pass; later passes are random permutations with
    what was written to before. Needs 54 to 137 bits for each page where memory holds still (keys of pages peeked at,
    and what waits), with many writes up to 400. Fails where many different pages begin alike in two lines: then it
    costs up to 0.08 of a visit a page, in peeks, more than random order.
    """

    takes_objective = True

    def __init__(
        self, view: View, *, slack: int = 4, ahead: int = 16, calm: float = 5.0, cool: float = 20.0
    ) -> None:
        if ahead < 1 or calm < 0 or cool <= 0:
            raise ValueError(f"ahead {ahead}, calm {calm}, cool {cool}: must be from 1, from 0, above 0")
        self._view, self._ahead = view, ahead
        self._with_zero = view.objective == "all"
        self._heat = Heat(view.pages, calm, cool)
        self._pass, self._rest = CoolPass(view.pages, self._heat), Rest(view.pages, view.seed)
        self._runs = PeekedRuns(view, slack)
        self._keys = BoundedKeys(view.pages)
        self._second_line = view.lines // 2
        self._peeked, self._zero = Bits(view.pages), Bits(view.pages)
        self._second, self._proven = Bits(view.pages), Bits(view.pages)  # the second line is known; needs no more looks
        # Pages to be visited, best first; groups as pairs of a page and one that begins alike.
        self._zeros, self._many, self._groups = _Queue(), _Queue(), _Queue()
        # Of pages that many seem to equal: how many of these were visited, and how many did; and who is to be judged.
        self._visits, self._finds = np.zeros((2, view.pages), np.uint8)
        self._awaited: list[Pages] = []
        self._doubted = Later(view.pages)
        self._bands = self._all_bands()
        self._level = self._band = 0
        self._worth = np.inf  # zero pages, and such of which there are many, that a band brings
        self._met, self._met_in_runs = np.zeros((2, 2))
        self._tried = self._found = 0.0
        self._blind = False  # what is given was not foreseen

    # ---- what is given ----

    def next(self, count: int) -> Pages:
        """The best that is known of; what lies where much is written, and then the others in random order, when
        nothing is left."""
        self._heat.notice(self._view.written(), self._view.now)
        self._blind = self._tried >= TRIED and self._found * 8 < self._tried
        batch = NONE
        while not self._blind and FULL * len(batch) < count:
            more = self._best(count - len(batch))
            more = np.concatenate([more, self._runs.next(count - len(batch) - len(more), self._pass, zero=False)])
            more = np.concatenate([more, self._take_groups(count - len(batch) - len(more))])
            batch = np.concatenate([batch, more])
            if not len(more) and not (self._look_again() or self._sweep() or self._look_again(patient=False)):
                break
        if not len(batch):
            self._blind = True
            batch = self._others(count)
        return batch

    def _best(self, count: int) -> Pages:
        """What saves a page with each visit; sweeps for it, as far as that is worth while."""
        batch = self._take_best(count)
        owed = self._ahead * (count - len(batch))
        while len(batch) < count and self._level == 0 and (owed > 0 or self._worth > GOOD):
            owed -= self._sweep()
            batch = np.concatenate([batch, self._take_best(count - len(batch))])
        return batch

    def _take_best(self, count: int) -> Pages:
        parts = []
        if self._with_zero:
            parts.append(self._runs.next(count, self._pass, zero=True))
        left = count - sum(map(len, parts))
        while left and self._zeros.rows:
            parts.append(self._pass.take(self._zeros.take(left)))
            left -= len(parts[-1])
        while left and self._many.rows:
            pairs = self._many.take(left)
            visits, finds = self._visits[pairs[:, 0]], self._finds[pairs[:, 0]]
            doubtful = (visits >= DOUBTED) & (finds < visits - finds)
            self._doubted.put(pairs[doubtful, 1])
            pairs = pairs[~doubtful]
            self._awaited.append(pairs)
            parts.append(self._pass.take(pairs[:, 1]))
            left -= len(parts[-1])
        return np.concatenate([NONE, *parts])

    def _take_groups(self, count: int) -> Pages:
        """Pairs, both pages one behind the other; half a pair where there is room for no more."""
        parts = [NONE]
        while count and self._groups.rows:
            pairs = self._groups.take(max(1, count // 2))
            if count == 1 and pairs[0, 0] != pairs[0, 1]:
                self._groups.put_back(pairs[:, [1, 1]])
            parts.append(self._pass.take(pairs.T.reshape(-1)[:count]))
            count -= len(parts[-1])
        return np.concatenate(parts)

    def _others(self, count: int) -> Pages:
        """What was put off or doubted, and then what nothing is known of; of the next pass when this one is at its
        end."""
        ready = self._runs.ready
        if len(ready):  # they count as given already
            self._runs.ready = ready[count:]
            return ready[:count]
        late = self._pass.late
        if self._doubted:
            # In no order: nothing speaks for one, and so it is no worse than random.
            late.put(np.random.default_rng(self._view.seed).permutation(self._doubted.take_all()))
        while late:
            batch = self._pass.take_any(late.take(count))
            if len(batch):
                return batch
        batch = self._pass.take_any(self._rest.next(count, self._pass.given))
        if not len(batch):
            for each in (self._pass, self._rest, self._runs):
                each.begin()
            self._tried = self._found = 0.0
            batch = self._pass.take_any(self._rest.next(count, self._pass.given))
        return batch

    def feedback(self, pages: Pages, outcomes: NDArray[np.uint8], partners: Pages) -> None:
        """Learns where runs go on, and whether peeks foresee what is found."""
        saved = outcomes == Outcome.ZERO
        for outcome in (Outcome.SHARED_NEW, Outcome.SHARED, Outcome.ALREADY_SHARED):
            saved |= outcomes == outcome
        if self._blind:
            # What was doubtful is given another chance some time.
            self._tried, self._found = FORGETS * self._tried, FORGETS * self._found
        else:
            self._tried = FADES * self._tried + len(pages)
            self._found = FADES * self._found + np.count_nonzero(saved)
        if self._awaited:
            self._judge(pages, saved)
        self._runs.feedback(pages, outcomes, partners, self._pass)

    def _judge(self, pages: Pages, saved: Flags) -> None:
        """How often what was foreseen to equal a page of which there are many did so."""
        pairs = np.concatenate(self._awaited)
        self._awaited.clear()
        pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & self._peeked.has(pairs[:, 1])]
        order = np.argsort(pages, kind="stable")
        at = np.minimum(np.searchsorted(pages, pairs[:, 1], sorter=order), len(pages) - 1)
        there = pages[order[at]] == pairs[:, 1]
        found = saved[order[at]]
        for counts, which in ((self._visits, there), (self._finds, there & found)):
            firsts, more = np.unique(pairs[which, 0], return_counts=True)
            counts[firsts] = np.minimum(counts[firsts] + more, MOST)

    # ---- sweeps ----

    def _all_bands(self) -> NDArray[np.int64]:
        """First page and end of each: bands of all owners in turn, so that what lies at like places in several is met
        early; across owners where these are small."""
        edges = self._view.owner_first.astype(np.int64)
        if self._view.pages < BAND * self._view.owners:
            edges = np.array([0, self._view.pages])
        counts = -(-np.diff(edges) // BAND)
        turn, owner = ramps(counts), np.repeat(np.arange(len(counts)), counts)
        order = np.lexsort((owner, turn))
        first = (edges[owner] + BAND * turn)[order]
        return np.stack([first, np.minimum(first + BAND, edges[owner + 1][order])], axis=1)

    def _sweep(self) -> int:
        """Peek at some pages of the next band; how many pages it has, 0 if all was swept."""
        if self._band == len(self._bands):
            self._sort_groups()
            self._level, self._band = min(self._level + 1, len(LEVELS)), 0
        if self._level == len(LEVELS):
            return 0
        first, end = self._bands[self._band]
        self._band += 1
        apart, row = LEVELS[self._level] if self._runs.begins else LEVELS[-1]
        at = np.arange(end - first)
        pages = first + at[(at % apart == 0) | (at % row < apart)]
        pages = pages[~(self._peeked.has(pages) | self._pass.given.has(pages) | self._heat.is_hot(pages))]
        if self._level and apart > 1:
            # Between two zero pages of the level before lie more of them.
            before = LEVELS[self._level - 1][0]
            left = first + (pages - first) // before * before
            pages = pages[~(self._zero.has(left) & self._zero.has(np.minimum(left + before, end - 1)))]
        known = self._zeros.rows + self._many.rows
        self._look(pages.astype(np.uint32), apart)
        fresh = self._zeros.rows + self._many.rows - known
        self._worth = fresh if self._worth == np.inf else FADES * self._worth + (1 - FADES) * fresh
        return int(end - first)

    def _look_again(self, *, patient: bool = True) -> bool:
        """Look at pages that were written to, and left alone since, long enough if ``patient``; whether there were
        any."""
        pages = self._heat.calm(self._view.now, patient=patient)
        if not len(pages):
            return False
        self._pass.give_back(pages)
        self._runs.forget(pages)
        for bits in (self._peeked, self._zero, self._second, self._proven):
            bits.remove(pages)
        hot = self._heat.is_hot(pages)
        self._pass.late.put(pages[hot])
        self._look(pages[~hot], 1)
        return True

    def _look(self, pages: Pages, apart: int) -> None:
        """Peek at pages, in ascending order, and queue what should be visited; if two of them that lie up to ``apart``
        pages apart agree on it, what lies between, too."""
        if not len(pages):
            return
        keys = self._view.peek(pages)
        self._peeked.add(pages)
        zero = keys == 0
        self._zero.add(pages[zero])
        partners = pages.copy()  # itself: none that was seen before
        if self._with_zero:
            partners[zero] = self._look_at_zeros(pages[zero], apart, len(pages))
        partners[~zero] = self._keys.put(keys[~zero], pages[~zero])
        self._learn_of_runs(0, pages, zero, partners)
        unsure = np.flatnonzero(~zero & (partners != pages) & ~self._proven.has(partners))
        partners[unsure] = self._in_both_lines(pages[unsure], partners[unsure], keys[unsure])
        self._learn_of_runs(1, pages, zero, partners)
        self._queue(pages[partners != pages], partners[partners != pages], apart)

    def _look_at_zeros(self, pages: Pages, apart: int, among: int) -> Pages:
        """Queue those of these pages, which begin with zeros, that are zero in other lines; what the others may equal,
        or themselves."""
        second = self._view.peek(pages, self._second_line)
        zeros = pages[second == 0]
        if len(zeros) <= RARE * among:
            # Where zeros are rare, what begins with them mostly is something else.
            zeros = zeros[self._view.peek(zeros, self._view.lines - 1) == 0]
        self._zeros.put(_filled(zeros, np.zeros_like(zeros), apart)[0])
        partners: Pages = pages.copy()
        partners[second != 0] = self._keys.put(_both(0, second[second != 0]), pages[second != 0])
        return partners

    def _in_both_lines(self, pages: Pages, partners: Pages, keys: NDArray[np.uint32]) -> Pages:
        """The first page that agrees with each in a second line as well, or itself."""
        firsts, at = np.unique(partners, return_index=True)
        new = ~self._second.has(firsts)
        self._put_both(firsts[new], keys[at[new]])
        return self._put_both(pages, keys)

    def _put_both(self, pages: Pages, keys: NDArray[np.uint32]) -> Pages:
        """The first page that was put with the same two lines as each; ``keys`` are those of the first line."""
        self._second.add(pages)
        both = _both(keys, self._view.peek(pages, self._second_line))
        return self._keys.put(both, pages)

    def _queue(self, pages: Pages, partners: Pages, apart: int) -> None:
        """Pages to be visited, as each begins as its partner does."""
        if not len(pages):
            return
        _, at, counts = np.unique(partners, return_inverse=True, return_counts=True)
        many = counts[at] >= MANY
        self._proven.add(partners[many])
        near = (partners[1:] == partners[:-1]) & (np.diff(pages) <= apart)
        many[1:] |= near
        many[:-1] |= near
        tract, of = _filled(pages[many], partners[many], apart)
        firsts = np.unique(of)
        self._many.put(np.stack([np.append(firsts, of), np.append(firsts, tract)], axis=1))
        run, shifts = _filled(pages[~many], pages[~many].astype(np.int64) - partners[~many], apart)
        self._groups.put(np.stack([(run - shifts).astype(np.uint32), run], axis=1))

    def _learn_of_runs(self, lines: int, pages: Pages, zero: Flags, partners: Pages) -> None:
        """Whether a page beside one that is zero, or was met before, mostly is so in the same way, by one line and by
        two: if not, there are no runs to be followed."""
        met = zero | (partners != pages)
        shifts = np.where(zero, 0, pages.astype(np.int64) - partners)
        alike = met[1:] & (zero[1:] == zero[:-1]) & ((shifts[1:] == shifts[:-1]) | (partners[1:] == partners[:-1]))
        # What lies beside a partner can only be met if it was peeked at.
        known = zero | self._peeked.has(np.minimum(partners, max(0, self._view.pages - 2)) + 1)
        beside = (met & known)[:-1] & (np.diff(pages) == 1)
        self._met[lines] = FADES * self._met[lines] + np.count_nonzero(beside)
        self._met_in_runs[lines] = FADES * self._met_in_runs[lines] + np.count_nonzero(beside & alike)
        self._runs.begins = bool(((self._met < ENOUGH) | (2 * self._met_in_runs >= self._met)).all())

    def _sort_groups(self) -> None:
        """Where most pairs lead to comes first, and all of a place together: of so many copies that will be one."""
        if not self._groups.rows or self._level == len(LEVELS):
            return
        pairs = self._groups.take(self._groups.rows, join=True)
        _, at, counts = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
        copies = np.where(counts >= MANY, counts, 0)[at]
        place = pairs[:, 0] // LEVELS[self._level][1]
        _, at, counts = np.unique(place, return_inverse=True, return_counts=True)
        self._groups.put(pairs[np.lexsort((pairs[:, 1], pairs[:, 0], place, -counts[at], -copies))])


def _both(first: NDArray[np.uint32] | int, second: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A key of two lines, for those of each; not 0."""
    mixed = (second * np.uint32(0x85EBCA6B) ^ np.uint32(first)) * np.uint32(0xC2B2AE35)
    keys: NDArray[np.uint32] = np.maximum(mixed, np.uint32(1))
    return keys


def _filled(pages: Pages, what: NDArray[np.integer], apart: int) -> tuple[Pages, NDArray[np.integer]]:
    """Pages and something of each, and those between two of which it is the same, if they are at most so far apart.

    >>> import numpy as np
    >>> pages, shifts = _filled(np.array([2, 4, 5, 8, 15], np.uint32), np.array([7, 7, 7, 7, 7]), 4)
    >>> pages.tolist()
    [2, 3, 4, 5, 6, 7, 8, 15]
    """
    if len(pages) < 2:
        return pages, what
    gap = np.diff(pages)
    counts = np.append(np.where((what[1:] == what[:-1]) & (gap <= apart), gap, 1), 1)
    return np.repeat(pages, counts) + ramps(counts).astype(np.uint32), np.repeat(what, counts)


class _Queue:
    """Arrays of rows, one behind the other."""

    def __init__(self) -> None:
        self._parts: deque[Pages] = deque()
        self.rows = 0

    def put(self, rows: Pages) -> None:
        if len(rows):
            self._parts.append(rows)
            self.rows += len(rows)

    def put_back(self, rows: Pages) -> None:
        self._parts.appendleft(rows)
        self.rows += len(rows)

    def take(self, count: int, *, join: bool = False) -> Pages:
        """The first ``count``, or as many as were put together, unless ``join``."""
        part = self._parts.popleft()
        if join:
            part = np.concatenate([part, *self._parts])
            self._parts.clear()
        if len(part) > count:
            self._parts.appendleft(part[count:])
            part = part[:count]
        self.rows -= len(part)
        return part
