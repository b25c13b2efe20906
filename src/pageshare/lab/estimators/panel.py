"""Our own: a panel of pages, visited again and again, from whose classes the visits of each time are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
    """X"""

    def __init__(
        self,
        view: View,
        rng: np.random.Generator,
        *,
        n: int = 100,
        most: int = 8192,
        fresh: float = 0.5,
        memories: tuple[float, ...] = (8.0, 32.0, 128.0, 512.0, 2048.0),
        share: float = 0.001,
        through: Through = NoFilter,
    ) -> None:
        self.filter = through(n, rng)
        self.used = np.zeros(n, np.bool_)
        self.used_at = np.zeros(n, np.int64)
        self.view, self.rng = view, rng
        self.n, self.fresh = n, fresh
        self.most = min(most, view.pages)
        self.start, self.drawn = float(rng.random()), 0
        self.pages = np.zeros(self.most, np.uint32)
        self.classes = np.zeros(self.most, np.uint8)
        self.sizes = [0, 0]
        self.visiting = np.zeros(self.most, np.bool_)
        self.began_at = view.now
        self.traps = view.traps(np.zeros(n, np.uint32))
        self.spare = n
        self.member = np.full(n, -1)
        self.stands = np.zeros(n, np.bool_)
        self.began = np.zeros(n, np.int64)
        self.known = np.zeros(n, np.bool_)
        self.kind = np.zeros(n, np.int8)
        self.mixtures = [_Mixture(0.02, memories, share), _Mixture(0.98, memories, share)]
        self.again = view.now
        self.active = 1.0

    def step(self) -> None:
        now = self.view.now
        sprung = self.traps.poll()
        sprung = self.filter.step(self.traps, sprung[self.stands[sprung]])
        sprung = sprung[~self.used[sprung]]
        self.used[sprung], self.used_at[sprung] = True, now
        ended = np.flatnonzero(self.stands & (self.began <= now - WINDOW))
        if not len(sprung) and not len(ended) and now < self.again and self.stands.all():
            return
        self.again = now + SECOND
        if len(ended):
            taken = ended[self.filter.end(ended)]
            self.used[taken], self.used_at[taken] = True, now
        for kind in (IDLE, USED):
            self._score(kind, sprung, ended)
        self._end(ended)
        self._begin()
        size = sum(self.sizes)
        if size:
            self.active = sum(self.sizes[kind] / size * self.mixtures[kind].share for kind in (IDLE, USED))

    def _score(self, kind, sprung, ended) -> None:
        mixture = self.mixtures[kind]
        of_class = np.flatnonzero(self.stands & (self.member >= 0) & (self.kind == kind))
        ages = np.minimum((self.view.now - self.began[of_class]) * BINS // WINDOW, BINS - 1)
        guessed = np.where(self.used[of_class], 1.0, mixture.usual()[ages])
        used = sprung[(self.member[sprung] >= 0) & (self.kind[sprung] == kind)]
        idle = ended[(self.member[ended] >= 0) & (self.kind[ended] == kind) & ~self.used[ended]]
        total, count = float(guessed.sum()) + mixture.means[-1], len(of_class) + 1
        before, count = total - len(used), count - len(used) - len(idle)
        for _ in idle:
            mixture.score(False, before / max(count, 1))
        for place in range(len(used)):
            mixture.score(True, (before + place) / max(count + place, 1))
        mixture.live = total / (len(of_class) + 1)

    def _end(self, places: NDArray[np.intp]) -> None:
        for place in places:
            member, found = self.member[place], bool(self.used[place])
            if member >= 0:
                kind = self.classes[member]
                self.mixtures[kind].add((int(self.used_at[place]) - int(self.began[place])) * BINS // WINDOW if found else BINS)
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

    def _begin(self) -> None:
        now = self.view.now
        leave = int(self.n * (now - self.began_at) / WINDOW - self.view.costs.visits + self.spare) + 1
        slots = np.flatnonzero(~self.stands)[: max(leave, 0)]
        for slot in slots:
            member = self._choose()
            if member < 0:
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
        size = sum(self.sizes)
        if size < 16 or (size < self.most and self.rng.random() < self.fresh):
            return -1
        wanted = [
            self.sizes[kind] / size * (self.mixtures[kind].share * (1 - self.mixtures[kind].share)) ** 0.5
            + 0.1 * (self.sizes[kind] / size) ** 0.5
            for kind in (IDLE, USED)
        ]
        kind = int(self.rng.random() * sum(wanted) > wanted[IDLE])
        for _ in range(64):
            member = int(self.rng.integers(size))
            if self.classes[member] == kind and not self.visiting[member]:
                return member
        return -1


class _Mixture:
    def __init__(self, first: float, memories: tuple[float, ...], share: float) -> None:
        self.memories = np.array(memories)
        self.means = np.full(len(memories), first)
        self.seen = 1.0
        self.weights = np.full(len(memories) + 1, 1 / (len(memories) + 1))
        self.fixed = share
        self.ages = np.zeros(BINS + 1)
        self.ages[0 if first > 0.5 else BINS] = 1.0
        self.live = first

    @property
    def share(self) -> float:
        return float(self.weights[:-1] @ self.means + self.weights[-1] * self.live)

    def usual(self):
        """shape (BINS,): of pages whose trap has stood unsprung for so long: the share that is used all the same: was touched before."""
        tail = self.ages[::-1].cumsum()[::-1]
        return 1 - tail[-1] / np.maximum(tail[:-1], 1e-9)

    def add(self, age: int) -> None:
        """One more outcome."""
        self.seen += 1
        self.means += ((age < BINS) - self.means) / np.minimum(self.memories, self.seen)
        self.ages *= 1 - 1 / 256
        self.ages[min(age, BINS)] += 1

    def score(self, used: bool, live: float) -> None:
        """Weight the estimates by what they foretold of an outcome that has become known."""
        foretold = np.append(self.means, live).clip(0.01, 0.99)
        weights = self.weights * (foretold if used else 1 - foretold)
        self.weights = (1 - self.fixed) * weights / weights.sum() + self.fixed / len(weights)
