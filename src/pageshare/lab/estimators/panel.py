"""Our own: a panel of pages, visited again and again, from whose classes the visits of each time are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.memory import SECOND, WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.view import View

GOLDEN = (5**0.5 - 1) / 2
IDLE, USED = 0, 1
BINS = 30
"""Into which the age of a trap is sorted when it is sprung."""


class Panel:
    """Double sampling for stratification (Neyman, 1938), with a panel that is kept from one time to the next.

    100 independent draws each period forget what was learnt of the pages before. Here pages that were drawn stay in a
    panel, in one of two classes: found used or found idle when last visited. Most visits go to the panel's pages again, to
    see which share of each class is used now; the estimate is the sum of these shares, weighted by the classes' sizes.
    Since most pages stay what they are, the shares are near 1 and 0, and vary little. More visits go to the class
    whose share is less certain (Neyman allocation), and some to new pages, which fall evenly over all memory, so that
    the panel grows up to ``most`` pages: its size bounds the error.

    A visit is a trap that lasts 30 seconds, or until it is sprung; they begin evenly in time. The share of a class is a
    mixture of five estimates: averages of the last 8, 32, 128 and 512 visits that are over, about; and one from the
    traps that stand now, which is the only one to know at once of a sudden rise. Each is weighted by how well it has
    foretold the outcomes (Herbster and Warmuth's fixed share, 1998): so a steady share is averaged over long, one that
    has changed is not.

    ``n`` is the number of visits in 30 seconds: no more than ESX makes. Of pages' contents, threads and sweeps this
    class knows nothing.
    """

    def __init__(
        self,
        view: View,
        rng: np.random.Generator,
        *,
        n: int = 100,
        most: int = 4096,
        fresh: float = 0.5,
        memories: tuple[float, ...] = (8.0, 32.0, 128.0, 512.0),
        share: float = 0.01,
    ) -> None:
        self.view, self.rng = view, rng
        self.n, self.fresh, self.share = n, fresh, share
        self.most = min(most, view.pages)
        self.start = float(rng.random())
        self.drawn = 0
        self.pages = np.zeros(self.most, np.uint32)
        self.classes = np.zeros(self.most, np.uint8)
        self.size = 0
        self.visiting = np.zeros(self.most, np.bool_)
        self.began_at = view.now
        # Slots: a trap each.
        self.traps = view.traps(np.zeros(0, np.uint32))
        self.traps = _no_traps(view, n)
        self.member = np.full(n, -1)
        """Which of the panel each slot visits: -1 for a page that is not in it yet."""
        self.stands = np.zeros(n, np.bool_)
        self.began = np.zeros(n, np.int64)
        self.known = np.zeros(n, np.bool_)
        """Whether its outcome has been scored."""
        # What is known of each class: IDLE, USED.
        self.averages = _Averages(memories)
        self.weights = np.full((2, len(memories) + 1), 1 / (len(memories) + 1))
        self.ages = np.zeros((2, BINS + 1))
        self.ages[IDLE, BINS] = self.ages[USED, 0] = 1.0
        self.active = 1.0

    def step(self) -> None:
        """Take in the traps that were sprung, end those that are due, begin others, and estimate."""
        now = self.view.now
        sprung = self.traps.poll()
        live = self._live()
        self._score(sprung[self.stands[sprung] & ~self.known[sprung]], True, live)
        ended = np.flatnonzero(self.stands & (self.began <= now - WINDOW))
        if len(ended):
            self._score(ended[~self.known[ended] & ~self.traps.sprung[ended]], False, live)
            self._end(ended)
        self._begin()
        if self.size:
            used = np.count_nonzero(self.classes[: self.size]) / self.size
            shares = self._shares()
            self.active = float(shares[IDLE] * (1 - used) + shares[USED] * used)

    def _live(self) -> NDArray[np.float64]:
        """The share of each class by the traps that stand: a sprung one counts 1, another what is usual at its age."""
        tail = np.cumsum(self.ages[:, ::-1], axis=1)[:, ::-1]
        unsprung = tail[:, 1:] / np.maximum(tail[:, :1], 1e-9)
        live = np.empty(2)
        in_panel = self.stands & (self.member >= 0)
        classes = self.classes[self.member]
        ages = np.minimum((self.view.now - self.began) * BINS // WINDOW, BINS - 1)
        for kind in (IDLE, USED):
            of_class = in_panel & (classes == kind)
            left = unsprung[kind, -1] / np.maximum(unsprung[kind, ages[of_class]], 1e-9)
            usual = float(self.averages.means[kind, -1])
            guessed = np.where(self.traps.sprung[of_class], 1.0, 1.0 - left)
            live[kind] = (guessed.sum() + usual) / (len(guessed) + 1)
        return live

    def _shares(self) -> NDArray[np.float64]:
        """The mixture, for each class."""
        each = np.concatenate([self.averages.means, self._live()[:, None]], axis=1)
        shares: NDArray[np.float64] = (self.weights * each).sum(axis=1)
        return shares

    def _score(self, places: NDArray[np.intp], used: bool, live: NDArray[np.float64]) -> None:
        """Weight the estimates by what they foretold of outcomes that have become known."""
        self.known[places] = True
        for place in places[self.member[places] >= 0]:
            kind = self.classes[self.member[place]]
            foretold = np.append(self.averages.means[kind], live[kind]).clip(0.01, 0.99)
            weights = self.weights[kind] * (foretold if used else 1 - foretold)
            weights /= weights.sum()
            self.weights[kind] = (1 - self.share) * weights + self.share / len(weights)

    def _end(self, places: NDArray[np.intp]) -> None:
        """Visits are over: the page's class is what was found."""
        used = self.traps.sprung[places]
        for place, found in zip(places, used, strict=True):
            member = self.member[place]
            if member < 0:
                if self.size < self.most:
                    self.pages[self.size] = self.traps.pages[place]
                    self.classes[self.size] = found
                    self.size += 1
                continue
            kind = self.classes[member]
            self.averages.add(kind, bool(found))
            age = min(int((self.traps.at[place] - self.began[place]) * BINS // WINDOW), BINS - 1) if found else BINS
            self.ages[kind] *= 1 - 1 / 256
            self.ages[kind, age] += 1
            self.classes[member] = found
            self.visiting[member] = False
        self.stands[places] = False

    def _begin(self) -> None:
        """Begin as many visits as there is leave for."""
        now = self.view.now
        leave = int(self.n * (now - self.began_at) / WINDOW - self.view.costs.visits) + 1
        slots = np.flatnonzero(~self.stands)[: max(leave, 0)]
        for slot in slots:
            member = self._choose()
            if member < 0:
                page = int(self.view.pages * ((self.start + self.drawn * GOLDEN) % 1.0))
                self.drawn += 1
            else:
                page = int(self.pages[member])
                self.visiting[member] = True
            self.member[slot] = member
            self.traps.arm(np.array([slot]), np.array([page], np.uint32))
            self.began[slot], self.stands[slot], self.known[slot] = now, True, False

    def _choose(self) -> int:
        """Which of the panel to visit next; -1 for a new page."""
        if self.size < 16 or (self.size < self.most and self.rng.random() < self.fresh):
            return -1
        shares = self._shares()
        sizes = np.bincount(self.classes[: self.size], minlength=2) / self.size
        wanted = sizes * np.sqrt(shares * (1 - shares)) + 0.1 * np.sqrt(sizes)
        kind = int(self.rng.random() * wanted.sum() > wanted[IDLE])
        choice = np.flatnonzero((self.classes[: self.size] == kind) & ~self.visiting[: self.size])
        return int(self.rng.choice(choice)) if len(choice) else -1


class _Averages:
    """Of a class's outcomes, over memories of different length; each begins as the plain mean, from one outcome that is
    what the class says."""

    def __init__(self, memories: tuple[float, ...]) -> None:
        self.memories = np.array(memories)
        self.means = np.tile(np.array([[0.02], [0.98]]), (1, len(memories)))
        self.seen = np.ones(2)

    def add(self, kind: int, used: bool) -> None:
        """One more outcome."""
        self.seen[kind] += 1
        gains = 1 / np.minimum(self.memories, self.seen[kind])
        self.means[kind] += gains * (used - self.means[kind])


def _no_traps(view: View, n: int):  # type: ignore[no-untyped-def]
    traps = view.traps(np.zeros(n, np.uint32))
    view.costs.visits -= n
    traps.sprung[:] = True
    return traps
