"""Our own: a panel of pages that are visited again and again, in two classes, by what was found at the last visit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.estimators.filters import NoFilter, Through
from pageshare.lab.memory import SECOND, WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.view import View

GOLDEN = (5**0.5 - 1) / 2
IDLE, USED = 0, 1
BINS = 30
"""Into which the age of a trap is sorted when it is sprung."""


class Panel:
    """Double sampling for stratification (Neyman, 1938), with a panel kept from one time to the next.

    A hundred independent draws each period forget what was learnt of the pages before. Here pages that were drawn stay
    in a panel, in one of two classes: found used, or found idle, when last visited. Some visits go to the panel's pages
    again, to see which share of each class is used now; the estimate is the sum of these shares, weighted by the
    classes' sizes. Since most pages stay what they are the shares are near 1 and 0 and vary little. More visits go to
    the class whose share is less certain (Neyman allocation), and the share ``fresh`` of all to new pages, evenly
    over the memory, so that the panel grows to ``most`` pages: its size bounds the error.

    A visit is a trap that lasts 30 seconds, or longer until the filter has judged what sprung it: a touch that is taken
    for use only since the time is over would make a bias of what comes in the last second. Visits begin evenly in time.
    The share of a class is a mixture (``_Share``) of averages over the last ``memories`` visits, and of what the traps
    that stand now say: these alone know at once of a sudden rise.

    ``n`` is how many visits there are in 30 seconds, tests of contents and traps armed again included: ESX's.
    ``through`` makes the filter that touches have to pass to be use. Until the first traps are 30 seconds old a guest
    is taken to use all that it has.
    """

    def __init__(
        self,
        view: View,
        rng: np.random.Generator,
        *,
        n: int = 100,
        most: int = 8192,
        fresh: float = 0.5,
        memories: tuple[float, ...] = (8.0, 32.0, 128.0, 512.0, 2048.0),
        change: float = 0.001,
        through: Through = NoFilter,
    ) -> None:
        _ranges.whole("n", n, 1, 1 << 16)
        _ranges.whole("most", most, 1, _ranges.MOST_PAGES)
        _ranges.shares(fresh=fresh, change=change)
        _ranges.numbers("memories", memories, 1, 1e9)
        _ranges.made_by("through", through, "a filter")
        self.view, self.rng, self.n, self.fresh = view, rng, n, fresh
        self.begun_at, self.paid = view.now, view.costs.visits
        self.filter = through(n, rng)
        # The panel: its pages, their classes, how many of each, and which are being visited.
        self.most = min(most, view.pages)
        self.pages = np.zeros(self.most, np.uint32)
        self.classes = np.zeros(self.most, np.uint8)
        self.sizes = [0, 0]
        self.visiting = np.zeros(self.most, np.bool_)
        self.start, self.drawn = float(rng.random()), 0
        self.shares = [_Share(first, memories, change) for first in (0.02, 0.98)]
        # The visits: a trap each; which of the panel's pages it is at, -1 for a new one; the class of that.
        self.traps = view.traps(np.zeros(0, np.uint32), room=n)
        self.member = np.full(n, -1)
        self.kind = np.zeros(n, np.int8)
        self.stands = np.zeros(n, np.bool_)
        self.began = np.zeros(n, np.int64)
        self.used = np.zeros(n, np.bool_)
        self.used_at = np.zeros(n, np.int64)
        self.again = view.now
        self.active = 1.0

    def step(self) -> None:
        """Take in the traps that were sprung, end the visits that are over, begin others, and estimate."""
        now = self.view.now
        sprung = self.traps.poll()
        used = self.filter.step(self.traps, sprung[self.stands[sprung]])
        used = used[~self.used[used]]
        self.used[used], self.used_at[used] = True, now
        ended = np.flatnonzero(self.stands & (self.began <= now - WINDOW) & ~self.filter.pending)
        if not len(used) and not len(ended) and now < self.again and self.stands.all():
            return
        self.again = now + SECOND
        taken = ended[self.filter.end(ended)]
        self.used[taken], self.used_at[taken] = True, now
        for kind in (IDLE, USED):
            self._score(kind, used, ended)
        self._end(ended)
        self._begin()
        size = sum(self.sizes)
        if size:
            self.active = sum(self.sizes[kind] / size * self.shares[kind].now for kind in (IDLE, USED))

    def _score(self, kind: int, used: NDArray[np.intp], ended: NDArray[np.intp]) -> None:
        """What has become known of a class's pages, held against what was foretold; and what its traps say now.

        A used page counts 1; one whose trap has stood so far may have been used before. Each outcome is foretold
        without it and those that became known with it, idle ones first, and then one after the other.
        """
        share = self.shares[kind]
        of_class = self.stands & (self.member >= 0) & (self.kind == kind)
        ages = np.minimum((self.view.now - self.began[of_class]) * BINS // WINDOW, BINS - 1)
        guessed = np.where(self.used[of_class], 1.0, share.used_before()[ages])
        found = int(np.count_nonzero(of_class[used]))
        none = int(np.count_nonzero(of_class[ended] & ~self.used[ended]))
        total, count = float(guessed.sum()) + float(share.means[-1]), len(guessed) + 1
        before, count_before = total - found, max(count - found - none, 1)
        for _ in range(none):
            share.score(False, before / count_before)
        for place in range(found):
            share.score(True, (before + place) / (count_before + place))
        share.live = total / count

    def _end(self, places: NDArray[np.intp]) -> None:
        """Visits are over: a page's class is what was found; a new one becomes one of the panel, while there is
        room."""
        for place in places.tolist():
            member, found = int(self.member[place]), bool(self.used[place])
            if member >= 0:
                kind = int(self.classes[member])
                age = int(self.used_at[place] - self.began[place]) * BINS // WINDOW
                self.shares[kind].add(min(age, BINS - 1) if found else BINS)
                self.sizes[kind] -= 1
                self.visiting[member] = False
            elif sum(self.sizes) < self.most:
                member = sum(self.sizes)
                self.pages[member] = self.traps.pages[place]
            else:
                continue
            self.classes[member] = found
            self.sizes[found] += 1
        self.stands[places] = False
        # The mapping is restored: a trap that stands on would be counted by filters, and fault.
        self.traps.sprung[places] = True

    def _begin(self) -> None:
        """Begin as many visits as there is leave for: ``n`` in 30 seconds, of all kinds."""
        now = self.view.now
        leave = math.floor(1 + self.n * (now - self.begun_at) / WINDOW - self.view.costs.visits + self.paid)
        for slot in np.flatnonzero(~self.stands)[: max(leave, 0)]:
            member = self._choose()
            if member < 0:
                # Multiples of the golden ratio fall evenly, however many there are.
                page = int(self.view.pages * ((self.start + self.drawn * GOLDEN) % 1.0))
                self.drawn += 1
            else:
                page = int(self.pages[member])
                self.visiting[member] = True
                self.kind[slot] = self.classes[member]
            self.member[slot] = member
            self.traps.arm(np.array([slot]), np.array([page], np.uint32))
            self.began[slot], self.stands[slot], self.used[slot] = now, True, False

    def _choose(self) -> int:
        """Which of the panel to visit next; -1 for a new page."""
        size = sum(self.sizes)
        if size < 16 or (size < self.most and self.rng.random() < self.fresh):
            return -1
        wanted = []
        for kind in (IDLE, USED):
            part, now = self.sizes[kind] / size, self.shares[kind].now
            # A tenth, so that a class that is certain is still watched for a change.
            wanted.append(part * (now * (1 - now)) ** 0.5 + 0.1 * part**0.5)
        kind = int(self.rng.random() * sum(wanted) > wanted[IDLE])
        for _ in range(64):
            member = int(self.rng.integers(size))
            if self.classes[member] == kind and not self.visiting[member]:
                return member
        return -1


class _Share:
    """The share of a class's pages that is used now: averages over memories of different length, and the traps' own
    word (``live``), each weighted by how well it has foretold the outcomes so far.

    That is the fixed-share mixture (Herbster and Warmuth, 1998): ``change`` of all weight is dealt out evenly after
    each outcome, so that any of them can come back. A steady share is averaged over long; one that has changed is not.
    """

    def __init__(self, first: float, memories: tuple[float, ...], change: float) -> None:
        self.memories, self.change, self.live = np.array(memories), change, first
        self.means = np.full(len(memories), first)
        self.seen = 1
        self.weights = np.full(len(memories) + 1, 1 / (len(memories) + 1))
        self.ages = np.zeros(BINS + 1)
        """How often traps were sprung at each age, about the last 256; the last, never."""
        self.ages[0 if first > 0.5 else BINS] = 1.0

    @property
    def now(self) -> float:
        """The mixture."""
        return float(self.weights[:-1] @ self.means + self.weights[-1] * self.live)

    def used_before(self) -> NDArray[np.float64]:
        """Of pages whose trap has stood for so long, float64 of shape (BINS,): the share that was used before that and
        within the window. If use is steady, they go untouched as often before the trap as after it."""
        left = self.ages[::-1].cumsum()[::-1]
        before: NDArray[np.float64] = 1 - left[-1] / np.maximum(left[:-1], 1e-9)
        return before

    def add(self, age: int) -> None:
        """A visit is over: its trap was sprung at ``age``, BINS for never."""
        self.seen += 1
        self.means += ((age < BINS) - self.means) / np.minimum(self.memories, self.seen)
        self.ages *= 1 - 1 / 256
        self.ages[age] += 1

    def score(self, used: bool, live: float) -> None:
        """Weight by what was foretold of an outcome that has become known; ``live``, what the other traps foretold."""
        foretold = np.append(self.means, live).clip(0.01, 0.99)
        weights = self.weights * (foretold if used else 1 - foretold)
        self.weights = (1 - self.change) * weights / weights.sum() + self.change / len(weights)
