"""Sweeps over memory that are no use: a filter that finds collectors, whether they have threads of their own or not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.memory import NEVER, SECOND

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.view import Traps

OLD = 2 * SECOND
"""A trap that has stood so long says something when it is sprung; work springs those at pages in use sooner."""


@dataclass
class _Burst:
    began: int
    threads: set[int]
    closed: int = 0
    places: set[int] = field(default_factory=set)
    members: dict[int, int] = field(default_factory=dict)
    again: Counter[int] = field(default_factory=Counter)


class BurstFilter:
    """Touches that come in a burst are use only if the pages are touched again, by themselves, after it.

    A collector that stops the program has to be quick, so it goes over all that lives within a moment. Work does
    something with each page, and most of memory is not its at that moment. So there is a burst

    - when ``most`` of all traps that have stood are sprung within a second, by threads that spring ``least`` or more of
      them each, and ``marks`` of these by writes: a collector marks what lives, a query only reads. That finds
      collectors in the thread that works, as CPython's, and mostly leaves what fills or reads memory as fast as it can
      use it; work that writes most of what was idle within a second looks the same. What stood is counted as it was
      ``lasts`` seconds before, or the end of a slow sweep, when few traps are left, would look like a fast one;
    - when the smaller ``share`` is sprung by threads that sweep. Collectors with threads of their own do, and they do
      not always go over all that lives.

    A thread sweeps if it springs ``least`` or more of the traps that have stood within a second, did so at three times
    or more, and its touches in such company are ``ratio`` times as many as those that come singly, and ``marks`` of
    them writes: work is spread over time. The thread that makes most of all single touches, ten or more, does not. A
    thread that writes much of memory again and again, each time within moments, and does nothing else, looks the same:
    whether it works or collects can't be told by its touches.

    A burst takes in all that its threads touch for ``lasts`` seconds, for a collection may go over the same pages
    several times; then its traps are armed again. What is sprung once more is judged anew, by itself; what is not, was
    no use.

    Of the threads that sweep those whose bursts were nearly always no use are taken for collectors: their other touches
    don't count either. A burst was use if half of its traps that had stood were sprung again within ``patience``
    seconds. All touches are told a second late, for a burst may follow.
    """

    def __init__(
        self,
        traps: int,
        rng: np.random.Generator | None = None,  # noqa: ARG002
        *,
        least: int = 4,
        most: float = 0.5,
        share: float = 0.1,
        ratio: float = 3.0,
        marks: float = 0.05,
        lasts: float = 5.0,
        patience: float = 10.0,
    ) -> None:
        _ranges.whole("least", least, 1, _ranges.MOST_PAGES)
        _ranges.shares(most=most, share=share, marks=marks)
        _ranges.number("ratio", ratio, 0, 1e9)
        self.least, self.most, self.share, self.ratio = least, most, share, ratio
        self.marks = marks
        self.lasts, self.patience = _ranges.time("lasts", lasts), _ranges.time("patience", patience)
        self.waits = np.zeros(traps, np.bool_)
        self.since = np.full(traps, NEVER, np.int64)
        self.old = np.zeros(traps, np.bool_)
        """Whether each had stood for a while when it was sprung."""
        self.company = np.zeros(traps, np.bool_)
        """Whether its thread sprung others with it."""
        self.burst = np.full(traps, -1)
        self.anew = np.zeros(traps, np.bool_)
        """Whether it was in a burst already when it came into this one."""
        self.stood = np.zeros(traps, np.bool_)
        self.first = np.zeros(traps, np.uint16)
        """Of those in a burst: whether it had stood when it was sprung in that, and by which thread."""
        self.bursts: dict[int, _Burst] = {}
        self.numbered = 0
        self.verdicts: dict[int, list[int]] = {}
        """How many of a thread's bursts were no use, and how many were."""
        self.singles: Counter[int] = Counter()
        self.together: Counter[int] = Counter()
        self.marked: Counter[int] = Counter()
        """How many touches by a thread came singly, how many in company, and how many of these wrote."""
        self.times: Counter[int] = Counter()
        self.last: dict[int, int] = {}
        """At how many times they came in company, ``lasts`` seconds apart, and when last."""

    @property
    def pending(self) -> NDArray[np.bool_]:
        """Those sprung within the last second, and those of bursts that are not judged yet; but not those that a burst
        has taken over from another, or they would be pending for as long as collections come often."""
        return self.waits | ((self.burst >= 0) & ~self.anew)

    def _sweeps(self, thread: int) -> bool:
        """Whether nearly all that a thread touches it touches in company."""
        singles = self.singles[thread]
        works = singles >= 10 and 2 * singles >= sum(self.singles.values())
        marks = self.marked[thread] >= self.marks * self.together[thread]
        return marks and not works and self.times[thread] > 2 and self.together[thread] > self.ratio * singles

    def _collects(self, thread: int) -> bool:
        """Whether a thread is taken for a collector."""
        none, some = self.verdicts.get(thread, (0, 0))
        return none >= 2 and none > 3 * some and self._sweeps(thread)

    def step(self, traps: Traps, new: NDArray[np.intp]) -> NDArray[np.intp]:
        """Find bursts, arm their traps again when they are over, and learn which threads collect."""
        now = traps.view.now
        if len(new):
            self.waits[new], self.since[new], self.company[new] = True, now, False
            self.old[new] = now - traps.armed[new] >= OLD
            self._find(traps)
        for number, burst in list(self.bursts.items()):
            if not burst.closed and now - burst.began >= self.lasts:
                self._close(traps, number)
            if burst.closed and now - burst.closed >= self.patience:
                self._judge(number)
        uses: list[int] = []
        for place in np.flatnonzero(self.waits & (self.since <= now - SECOND)).tolist():
            self.waits[place] = False
            thread = int(traps.thread[place])
            (self.together if self.company[place] else self.singles)[thread] += 1
            self.marked[thread] += bool(self.company[place] and traps.wrote[place])
            if self._collects(thread):
                traps.arm(np.array([place]))
            else:
                self._leave(place, again=True)
                uses.append(place)
        return np.array(uses, np.intp)

    def _find(self, traps: Traps) -> None:
        """Whether the touches of the last second are part of a burst, or make one."""
        now = traps.view.now
        recent = np.flatnonzero(self.waits & (self.since > now - SECOND))
        threads = traps.thread[recent]
        # How many of the traps that had stood each thread has sprung.
        sprung = np.bincount(threads[self.old[recent]], minlength=1)
        many = np.flatnonzero(sprung >= self.least)
        self.company[recent[np.isin(threads, many)]] = True
        for thread in many.tolist():
            self.times[thread] += now - self.last.get(thread, NEVER) > self.lasts
            self.last[thread] = now
        number = next((number for number, burst in self.bursts.items() if not burst.closed), -1)
        sweeping = np.array([thread for thread in many if self._sweeps(int(thread))], np.intp)
        if number < 0:
            lately = traps.sprung & self.old & (traps.at > now - self.lasts)
            stood = np.count_nonzero((~traps.sprung | lately) & (traps.armed <= now - OLD))
            swept = recent[self.old[recent] & np.isin(threads, many)]
            if len(swept) < max(self.most * stood, self.least) or traps.wrote[swept].mean() < self.marks:
                if sprung[sweeping].sum() < max(self.share * stood, self.least):
                    return
                many = sweeping
            number, self.numbered = self.numbered, self.numbered + 1
            self.bursts[number] = _Burst(now, set(many.tolist()))
        burst = self.bursts[number]
        burst.threads.update(sweeping.tolist())
        its = recent[np.isin(threads, list(burst.threads))]
        self.waits[its] = False
        self.anew[its] = self.burst[its] >= 0
        for place in its.tolist():
            self._leave(place, again=False)
            self.burst[place] = number
            burst.places.add(place)

    def _leave(self, place: int, *, again: bool) -> None:
        """A trap is no longer of its burst, perhaps since it was sprung ``again``, by itself."""
        number = int(self.burst[place])
        if number >= 0:
            self.bursts[number].places.discard(place)
            self.bursts[number].again[int(self.first[place])] += again and bool(self.stood[place])
            self.burst[place] = -1

    def _close(self, traps: Traps, number: int) -> None:
        burst = self.bursts[number]
        burst.closed = traps.view.now
        places = np.array(sorted(burst.places), np.intp)
        self.first[places], self.stood[places] = traps.thread[places], self.old[places]
        for thread in np.unique(traps.thread[places]).tolist():
            its = traps.thread[places] == thread
            burst.members[thread] = int(np.count_nonzero(its & self.old[places]))
            self.together[thread] += int(np.count_nonzero(its))
            self.marked[thread] += int(np.count_nonzero(traps.wrote[places[its]]))
        traps.arm(places)

    def _judge(self, number: int) -> None:
        """Whether it was use, for each of its threads that had a part in it."""
        burst = self.bursts.pop(number)
        for thread, members in burst.members.items():
            if members >= self.least:
                self.verdicts.setdefault(thread, [0, 0])[2 * burst.again[thread] >= members] += 1
        self.burst[sorted(burst.places)] = -1

    def end(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Those of bursts are not used; what was sprung within the last second is."""
        used: NDArray[np.bool_] = self.waits[places].copy()
        for place in places.tolist():
            self._leave(place, again=False)
        self.waits[places] = False
        return used
