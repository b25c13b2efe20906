"""Which touches are no use: filters over sprung traps, by what a hypervisor sees of a touch.

That is when it was, which thread, whether a write, and what the page has in it afterwards. Intents are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pageshare.lab import _ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.view import Traps


class Filter(Protocol):
    """Judges touches. Traps whose touch was no use it arms again, which is charged."""

    @property
    def pending(self) -> NDArray[np.bool_]:
        """Which traps were sprung by a touch that is not judged yet."""
        ...

    def step(self, traps: Traps, new: NDArray[np.intp]) -> NDArray[np.intp]:
        """Traps at places ``new`` were sprung: the places of those that now turn out to be in use, these or earlier."""
        ...

    def end(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Nothing more will be known of traps at ``places``: whether those that are pending are taken for used."""
        ...


Through = Callable[[int, np.random.Generator], Filter]
"""What makes a filter of so many traps."""


class NoFilter:
    """Every touch is use."""

    def __init__(self, traps: int, rng: np.random.Generator | None = None) -> None:  # noqa: ARG002
        self.pending = np.zeros(traps, np.bool_)

    def step(self, traps: Traps, new: NDArray[np.intp]) -> NDArray[np.intp]:  # noqa: ARG002
        """All of them."""
        return new

    def end(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """None is pending."""
        return np.zeros(len(places), np.bool_)


class Filters:
    """One after the other: what the first lets through the second judges."""

    def __init__(self, filters: Sequence[Filter]) -> None:
        self.filters = filters

    @classmethod
    def of(cls, *made: Through) -> Through:
        """What makes the filters that each of ``made`` makes."""

        def make(traps: int, rng: np.random.Generator) -> Filters:
            return cls([one(traps, rng) for one in made])

        make.__name__ = " and ".join(one.__name__ for one in made if isinstance(one, type))
        return make

    @property
    def pending(self) -> NDArray[np.bool_]:
        """Pending with any of them."""
        pending: NDArray[np.bool_] = np.logical_or.reduce([one.pending for one in self.filters])
        return pending

    def step(self, traps: Traps, new: NDArray[np.intp]) -> NDArray[np.intp]:
        """Those that all let through."""
        for one in self.filters:
            new = one.step(traps, new)
        return new

    def end(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Used, if the one that has it pending takes it so."""
        used: NDArray[np.bool_] = np.logical_or.reduce([one.end(places) for one in self.filters])
        return used


class SecondTouch:
    """A page is in use if it is touched again, at least ``delay`` seconds after a first touch: one touch is none."""

    def __init__(self, traps: int, rng: np.random.Generator, *, delay: float = 1.0) -> None:  # noqa: ARG002
        self.delay = _ranges.time("delay", delay)
        self.pending = np.zeros(traps, np.bool_)
        self.again = np.zeros(traps, np.bool_)
        self.due = np.zeros(traps, np.int64)

    def step(self, traps: Traps, new: NDArray[np.intp]) -> NDArray[np.intp]:
        """Arm those again whose delay is over."""
        second = self.again[new]
        first = new[~second]
        self.pending[first], self.due[first] = True, traps.view.now + self.delay
        due = np.flatnonzero(self.pending & (self.due <= traps.view.now))
        if len(due):
            traps.arm(due)
            self.pending[due], self.again[due] = False, True
        return new[second]

    def end(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Those touched once are not used."""
        self.pending[places] = self.again[places] = False
        return np.zeros(len(places), np.bool_)


class ZeroFilter:
    """A page that is all zero a second after it was written was cleared, not used.

    Windows' zero page thread and Linux' init_on_free leave such pages. Not every written page is tested, since a test
    is a visit too: of those that a thread writes in the same step four, and if one of them is zero the rest; of single
    ones a quarter, or all if more than a twentieth of the last ones tested were zero.
    """

    def __init__(self, traps: int, rng: np.random.Generator, *, delay: float = 1.0) -> None:
        self.rng, self.delay = rng, _ranges.time("delay", delay)
        self.pending = np.zeros(traps, np.bool_)
        self.probe = np.zeros(traps, np.bool_)
        self.since = np.zeros(traps, np.int64)
        self.shares: dict[int, float] = {}
        """Of the pages that a thread wrote: the share that was found zero, about the last 32 tested."""

    def step(self, traps: Traps, new: NDArray[np.intp]) -> NDArray[np.intp]:
        """Test those whose time has come; choose from the new ones which to test."""
        now = traps.view.now
        uses = [new[~traps.wrote[new]]]
        written = new[traps.wrote[new]]
        for thread in np.unique(traps.thread[written]):
            places = written[traps.thread[written] == thread]
            share = self.shares.get(int(thread), 0.25)
            if len(places) < 4 and share < 0.05:
                tested = self.rng.random(len(places)) < 0.25
                uses.append(places[~tested])
                places = places[tested]
                self.probe[places] = True
            else:
                self.probe[places] = False
                self.probe[places[:4] if share < 0.5 else places] = True
            self.pending[places], self.since[places] = True, now
        due = np.flatnonzero(self.pending & (self.since <= now - self.delay))
        if len(due):
            uses.append(self._test(traps, due))
        return np.concatenate(uses)

    def _test(self, traps: Traps, due: NDArray[np.intp]) -> NDArray[np.intp]:
        probes = due[self.probe[due]]
        zero = np.zeros(len(traps.pages), np.bool_)
        zero[probes] = traps.view.zero(traps.pages[probes])
        rest = due[~self.probe[due]]
        suspect = rest[np.isin(traps.thread[rest], traps.thread[probes[zero[probes]]])]
        if len(suspect):
            zero[suspect] = traps.view.zero(traps.pages[suspect])
        for place in np.append(probes, suspect):
            thread = int(traps.thread[place])
            share = self.shares.get(thread, 0.25)
            self.shares[thread] = share + (float(zero[place]) - share) / 32
        self.pending[due] = False
        cleared = due[zero[due]]
        if len(cleared):
            traps.arm(cleared)
        return due[~zero[due]]

    def end(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """What is not tested yet is taken for used."""
        used: NDArray[np.bool_] = self.pending[places].copy()
        self.pending[places] = False
        return used
