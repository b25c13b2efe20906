"""Which touches are no use: filters over sprung traps, by what a hypervisor sees of a touch.

That is when it was, which thread, whether a write, and what the page has in it afterwards. Intents are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pageshare.lab.memory import NEVER, SECOND

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
        return lambda traps, rng: cls([one(traps, rng) for one in made])

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
        self.delay = round(delay * SECOND)
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
        self.rng, self.delay = rng, round(delay * SECOND)
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


@dataclass
class _Burst:
    thread: int
    began: int
    last: int
    closed: int = 0
    members: int = 0
    again: int = 0
    places: set[int] = field(default_factory=set)


class BurstFilter:
    """Touches that come in a burst are use only if the pages are touched again soon after it.

    A collector goes over all that lives in a short time, and so does a thread that clears or copies: many traps
    that have stood for a while are sprung together by one thread. A program that takes up new memory does so too, but
    goes on to touch it. So a burst's traps are armed again when it is over, and if half of those that had stood are
    sprung within ``patience`` seconds, one by one, all of them were use; if not, only those sprung again. A thread
    whose bursts were nearly always no use, and which touches little besides, is taken for a collector: its single
    touches don't count either. One whose bursts have always been use, three times or more, is not asked again.

    A burst is at least ``least`` traps within a second, and at least the share ``share`` of those that had stood two
    seconds; it lasts until half a second after the last of these, ``longest`` seconds at most. Touches that come singly
    are judged a second late, for a burst may follow.

    With ``own_thread`` bursts of threads that work are judged as well, as they must be where a collector has no thread
    of its own, as CPython's; then memory that is filled or read once, in a burst, is not counted. Without it all that
    such a thread touches is use.
    """

    def __init__(
        self,
        traps: int,
        rng: np.random.Generator,  # noqa: ARG002
        *,
        least: int = 5,
        share: float = 0.1,
        patience: float = 10.0,
        longest: float = 5.0,
        own_thread: bool = True,
    ) -> None:
        self.least, self.share, self.own_thread = least, share, own_thread
        self.patience, self.longest = round(patience * SECOND), round(longest * SECOND)
        self.waits = np.zeros(traps, np.bool_)
        self.old = np.zeros(traps, np.bool_)
        self.since = np.full(traps, NEVER, np.int64)
        self.stood = np.zeros(traps, np.bool_)
        """Whether each had stood for a while when its burst began: those that had not are sprung by any work."""
        self.burst = np.full(traps, -1)
        self.bursts: dict[int, _Burst] = {}
        self.numbered = 0
        self.verdicts: dict[int, list[int]] = {}
        self.singles: dict[int, int] = {}
        self.together: dict[int, int] = {}

    @property
    def pending(self) -> NDArray[np.bool_]:
        """Those sprung within the last second, and those of bursts without a verdict."""
        return self.waits | (self.burst >= 0)

    def _verdicts(self, thread: int) -> list[int]:
        """How many of a thread's bursts were no use, and how many were."""
        return self.verdicts.setdefault(thread, [0, 0])

    def _works(self, thread: int) -> bool:
        """Whether it is taken for one that works: whose touches come one by one, as many as of others."""
        singles = self.singles.get(thread, 0)
        every = sum(self.singles.values())
        return singles >= 10 and (singles > 2 * self.together.get(thread, 0) or singles > every / 2)

    def _collects(self, thread: int) -> bool:
        """Whether it is taken for a collector."""
        none, some = self._verdicts(thread)
        together, singles = self.together.get(thread, 0), self.singles.get(thread, 0)
        return none >= 2 and none > 3 * some and together > singles and not self._works(thread)

    def step(self, traps: Traps, new: NDArray[np.intp]) -> NDArray[np.intp]:
        """Find bursts, arm their traps again when they are over, and come to verdicts."""
        now = traps.view.now
        uses: list[int] = []
        if len(new):
            self.waits[new], self.since[new] = True, now
            self.old[new] = now - traps.armed[new] >= 2 * SECOND
            for thread in np.unique(traps.thread[new]):
                places = new[traps.thread[new] == thread]
                none, some = self._verdicts(int(thread))
                if (some >= 3 and not none) or (not self.own_thread and self._works(int(thread))):
                    self._let_through(traps, int(thread), places)
                    continue
                self._find(traps, int(thread), places)
        for number, burst in list(self.bursts.items()):
            if not burst.closed and (now - burst.last >= SECOND // 2 or now - burst.began >= self.longest):
                self._close(traps, burst)
            if burst.closed and now - burst.closed >= SECOND // 2:
                uses.extend(self._judge(number, burst, now))
        through = np.flatnonzero(self.waits & (self.since <= now - SECOND))
        for place in through.tolist():
            self.waits[place] = False
            thread = int(traps.thread[place])
            self.singles[thread] = self.singles.get(thread, 0) + 1
            if self._collects(thread):
                traps.arm(np.array([place]))
                continue
            number = int(self.burst[place])
            if number >= 0:
                self.bursts[number].again += bool(self.stood[place])
                self.bursts[number].places.discard(place)
                self.burst[place] = -1
            uses.append(place)
        return np.array(uses, np.intp)

    def _let_through(self, traps: Traps, thread: int, places: NDArray[np.intp]) -> None:
        """Touches that are use without more ado: whether in a burst is counted all the same, lest a collector that was
        taken for another be taken so for ever."""
        now = traps.view.now
        self.since[places] = now - SECOND
        lately = self.old & (traps.thread == thread) & (self.since > now - 2 * SECOND) & (self.since <= now - SECOND)
        if np.count_nonzero(lately) >= self.least:
            number = int(np.count_nonzero(self.old[places]))
            self.together[thread] = self.together.get(thread, 0) + number
            self.singles[thread] = self.singles.get(thread, 0) - number

    def _find(self, traps: Traps, thread: int, places: NDArray[np.intp]) -> None:
        """Whether new touches by a thread are part of a burst, or make one."""
        now = traps.view.now
        number = next((n for n, burst in self.bursts.items() if burst.thread == thread and not burst.closed), -1)
        waiting = np.flatnonzero(self.waits & (traps.thread == thread) & (self.since > now - SECOND))
        old = np.count_nonzero(self.old[waiting])
        if number < 0:
            stood = np.count_nonzero(~traps.sprung & (traps.armed <= now - 2 * SECOND)) + old
            if old < max(self.least, self.share * stood):
                return
            number, self.numbered = self.numbered, self.numbered + 1
            self.bursts[number] = _Burst(thread, now, now)
        burst = self.bursts[number]
        if self.old[places].any():
            burst.last = now
        for place in waiting.tolist():
            before = int(self.burst[place])
            if before >= 0:
                self.bursts[before].places.discard(place)
            else:
                self.stood[place] = self.old[place]
            self.burst[place] = number
            burst.places.add(place)
        self.waits[waiting] = False

    def _close(self, traps: Traps, burst: _Burst) -> None:
        places = np.array(sorted(burst.places), np.intp)
        burst.closed, burst.members = traps.view.now, int(np.count_nonzero(self.stood[places]))
        self.together[burst.thread] = self.together.get(burst.thread, 0) + len(places)
        traps.arm(places)

    def _judge(self, number: int, burst: _Burst, now: int) -> list[int]:
        """Its verdict, once there is one; those that are use by it."""
        used = burst.members > 0 and burst.again * 2 >= burst.members
        if not used and now - burst.closed < self.patience and burst.places:
            return []
        places = sorted(burst.places)
        self.burst[places] = -1
        if burst.members:
            self._verdicts(burst.thread)[used] += 1
        del self.bursts[number]
        if not used:
            return []
        self.waits[places] = False
        return places

    def end(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Of a burst without a verdict: used if most of its thread's bursts were."""
        used: NDArray[np.bool_] = self.waits[places].copy()
        for index in np.flatnonzero(self.burst[places] >= 0).tolist():
            place = int(places[index])
            burst = self.bursts[int(self.burst[place])]
            none, some = self._verdicts(burst.thread)
            used[index] |= some >= none
            burst.places.discard(place)
            self.burst[place] = -1
        self.waits[places] = False
        return used
