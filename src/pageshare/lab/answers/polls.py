"""Is a one-second balloon poll too slow? Guests whose need rises within a tenth of a second to a hundred seconds, under
balloons that are polled, rung, or asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from pageshare.lab.answers._seeds import Spread, over_seeds
from pageshare.lab.balloon import Driver, Polls
from pageshare.lab.clock import Clock
from pageshare.lab.disk import Disk
from pageshare.lab.estimators import ESTIMATORS
from pageshare.lab.free_pages import FreePageHinting, FreePageReporting
from pageshare.lab.guest import Guest
from pageshare.lab.host import Host
from pageshare.lab.memory import SECOND
from pageshare.lab.programs import RELEASED, WRITTEN, Touch
from pageshare.lab.thresholds import State, Thresholds
from pageshare.lab.view import View

MB = 256
"""Pages."""
GUESTS = 4
EVERY = 10
"""Seconds between two ramps, each of another guest."""
HOLD = 8
DISKS = {"disk": (5000.0, 100 * MB), "flash": (100.0, 2000 * MB)}
"""Microseconds to find a page, and pages a second: a disk of the paper's time, and a flash drive."""


@dataclass(frozen=True)
class Form:
    """How a balloon is told: its ``polls``, and whether the guest reports its free pages, or is
    asked for them."""

    name: str
    polls: Polls | None = None
    staggered: bool = False
    reporting: bool = False
    hinting: bool = False
    deflate_on_oom: bool = False
    batch: int = 512


@dataclass(frozen=True)
class Case:
    """What one run is of: a form of balloon under ramps that take ``rise`` seconds.

    ``megabytes`` of machine memory; ``estimator`` of what guests use, "" for none (then all of it is taken to be in
    use); ``scattered`` free memory; a ``disk``.
    """

    form: Form
    rise: float = 0.1
    megabytes: int = 512
    estimator: str = "guest-statistics"
    scattered: bool = True
    disk: str = "disk"
    seconds: int = 0
    """How long is counted; 0: until each guest's need has risen twice, and two minutes at least."""

    @property
    def every(self) -> int:
        """Seconds between two rises, each in another guest."""
        return max(EVERY, round(2.5 * self.rise / GUESTS))

    @property
    def counted(self) -> int:
        """For how many seconds things are counted."""
        return self.seconds or max(120, 2 * self.every * GUESTS)

    @property
    def size(self) -> int:
        """Pages of each guest: together they have a quarter more than the host."""
        return self.megabytes * MB // GUESTS * 5 // 4


class AlternatingRamps:
    """A working set of ``base`` pages, and ``size`` more that are written within ``rise`` seconds, used until ``hold``
    seconds later, and released; every ``every`` seconds, for the first time after ``first``.

    Need comes from outside, so all of this is by the host's ``clock``: a guest that had to wait has to hurry.
    """

    def __init__(
        self,
        clock: Clock,
        rng: np.random.Generator,
        base: int,
        size: int,
        *,
        first: float,
        every: float,
        rise: float,
        hold: float,
    ) -> None:
        self.clock, self.rng, self.base, self.size, self.pages = clock, rng, base, size, base + size
        self.first, self.every, self.rise = (round(seconds * SECOND) for seconds in (first, every, rise))
        self.until = self.rise + round(hold * SECOND)
        self.last = -1
        self.risen = 0

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """The base is written at the beginning; every twentieth page of what is held is touched ten times a second."""
        del begin, end
        now = self.clock.now
        if self.last < 0:
            yield Touch(np.arange(self.base, dtype=np.uint32), WRITTEN)
        if now // (SECOND // 10) != self.last // (SECOND // 10):
            first = int(self.rng.integers(20))
            yield Touch(np.arange(first, self.base + self.risen, 20, dtype=np.uint32))
        self.last = now
        since = (now - self.first) % self.every if now >= self.first else self.until
        if since < self.until:
            risen = min(self.size, self.size * since // self.rise)
            if risen > self.risen:
                yield Touch(np.arange(self.base + self.risen, self.base + risen, dtype=np.uint32), WRITTEN)
                self.risen = risen
        elif self.risen:
            yield Touch(np.arange(self.base, self.pages, dtype=np.uint32), RELEASED)
            self.risen = 0


def build(case: Case, seed: int) -> tuple[Host, list[Guest], list[FreePageReporting | FreePageHinting]]:
    """Four guests that have a quarter more than the host, and of whom one at a time needs all that it has."""
    rng = np.random.default_rng([seed, 2])
    latency, bandwidth = DISKS[case.disk]
    host = Host(case.megabytes * MB, seed=seed)
    host.disk.latency, host.disk.bandwidth = latency, bandwidth
    size, every = case.size, case.every
    guests: list[Guest] = []
    reporters: list[FreePageReporting | FreePageHinting] = []
    for number in range(GUESTS):
        program = AlternatingRamps(
            host.clock,
            np.random.default_rng([seed, 3, number]),
            size * 6 // 10,
            size // 4,
            first=every * (number + 1) + rng.uniform(),
            every=every * GUESTS,
            rise=case.rise,
            hold=HOLD,
        )
        guest = Guest(
            host,
            size,
            [program],
            least=size // 4,
            step=10_000 if case.rise <= 1 else 100_000,
            scattered=case.scattered,
            deflate_on_oom=case.form.deflate_on_oom,
            disk=Disk(host.clock, latency, bandwidth),
        )
        polls = case.form.polls
        if polls is not None:
            phase = number / GUESTS if case.form.staggered else rng.uniform()
            Driver(guest, replace(polls, phase=round(polls.period * phase)), batch=case.form.batch)
        if case.form.reporting:
            reporters.append(FreePageReporting(guest))
        if case.form.hinting:
            reporters.append(FreePageHinting(guest))
        if case.estimator:
            view, draws = View(guest.memory), np.random.default_rng([seed, 4, number])
            guest.watch(ESTIMATORS[case.estimator](view, draws), view)
        guests.append(guest)
    return host, guests, reporters


def run(case: Case, seed: int) -> dict[str, float]:
    """What happens in ``case.seconds`` after each guest had its first ramp.

    ``stalled``: the share of time that guests wait, without what first touches of pages take; ``swapped`` and ``paged``
    MB for each ramp, by the host and by guests; ``messages`` a second; ``pressed``, the share of time in the hard and
    low states.
    """
    host, guests, reporters = build(case, seed)
    every = case.every
    first_touch = host.times.fault + host.times.zero

    def totals() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        states = host.in_state
        counts = [guest.counts for guest in guests]
        drivers = [guest.driver for guest in guests if guest.driver is not None]
        return np.array(
            [
                sum(guest.waited() for guest in guests) - host.counts.first_touches * first_touch,
                host.counts.swapped_out / MB,
                sum(each.paged_out for each in counts) / MB,
                sum(driver.messages for driver in drivers) + sum(reporter.messages for reporter in reporters),
                states[State.HARD] + states[State.LOW],
            ],
            np.float64,
        )

    begin = (every * GUESTS + EVERY) * SECOND
    length = case.counted
    host.clock.run(begin)
    before = totals()
    host.clock.run(begin + length * SECOND)
    stalled, swapped, paged, messages, pressed = (totals() - before).tolist()
    return {
        # First touches are taken off at their whole cost, guests wait whole microseconds.
        "stalled": max(0.0, stalled) / (GUESTS * length * SECOND),
        "swapped": swapped / length * every,
        "paged": paged / length * every,
        "messages": messages / length,
        "pressed": pressed / (length * SECOND),
    }


def reserve(case: Case) -> tuple[int, int]:
    """Pages between the aim and the soft mark, and between the soft and the hard mark."""
    thresholds = Thresholds()
    pages = case.megabytes * MB
    above = round((thresholds.leaves(State.SOFT) - thresholds.soft) * pages)
    return above, round((thresholds.soft - thresholds.hard) * pages)


def critical_period(case: Case) -> float:
    """T* = G / D - R / B in seconds: the longest period of polls under which the host need not swap, in closed form.

    G is the gap between the soft and the hard mark; D the pages a second that a guest asks for; R what is still to be
    reclaimed when the soft mark is passed; B the pages a second that a balloon brings.
    """
    above, gap = reserve(case)
    ramp = case.size // 4
    demand = ramp / case.rise
    brings = 1e6 / (0.5 + 2 * 20 / case.form.batch)
    return gap / demand - max(0, ramp - above) / brings


def spare_megabytes() -> float:
    """What lies between the aim and the soft mark of the host that was run."""
    return reserve(Case(FORMS[0]))[0] / MB


PERIODS = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
RISES = (0.1, 1.0, 10.0, 100.0)
LONG = 10 * SECOND
SECOND_POLL, FAST_POLL = Form("poll, 1 s", Polls()), Form("poll, 10 ms", Polls(period=10_000))
STAGGERED = Form("poll, 1 s, staggered", Polls(), staggered=True)
ADAPTIVE = Form("poll, adaptive, 10 ms to 1 s", Polls(fastest=10_000))
RUNG = Form("doorbell", Polls(period=LONG, doorbell=True))
PLEADS = Form("poll, 1 s; pleads", Polls(pleads=True))
BOTH = Form("doorbell, pleads", Polls(period=LONG, doorbell=True, pleads=True))
LARGE = replace(BOTH, name="doorbell, pleads; 4,096 pages a message", batch=4096)
OUT_OF_MEMORY = replace(SECOND_POLL, name="poll, 1 s; deflates when out of memory", deflate_on_oom=True)
FORMS = (
    SECOND_POLL,
    STAGGERED,
    ADAPTIVE,
    FAST_POLL,
    OUT_OF_MEMORY,
    replace(SECOND_POLL, name="poll, 1 s; 4,096 pages a message", batch=4096),
    RUNG,
    PLEADS,
    Form("poll, 100 ms; pleads", Polls(period=100_000, pleads=True)),
    BOTH,
    LARGE,
    Form("free page reporting, no balloon", reporting=True),
    Form("free page hinting, no balloon", hinting=True),
    replace(BOTH, name="doorbell, pleads; free page reporting", reporting=True),
)
AT_ALL_RISES = (SECOND_POLL, STAGGERED, ADAPTIVE, RUNG, BOTH, LARGE)


@dataclass(frozen=True)
class Row:
    """A case and what came of it."""

    case: Case
    figures: dict[str, Spread]


@dataclass(frozen=True)
class Answer:
    """All runs: ``periods``, polls by period and by how fast need rises; ``forms`` of balloons under ramps of 0.1 s;
    some of these under slower ones (``rises``)."""

    seeds: int
    periods: list[Row] = field(repr=False)
    forms: list[Row] = field(repr=False)
    rises: list[Row] = field(repr=False)


def answer(seeds: int = 10, *, quick: bool = False, tell: Callable[[float], None] | None = None) -> Answer:
    """Run everything; ``quick``: a few cases of each kind, shortly, to see that it works."""
    periods = [
        Case(Form(f"poll, {period:g} s", Polls(period=round(period * SECOND))), rise=rise, disk=disk)
        for disk in DISKS
        for rise in RISES
        for period in PERIODS
    ]
    forms = [
        Case(form, scattered=scattered, estimator=estimator, disk=disk)
        for scattered, estimator, disk in (
            (True, "guest-statistics", "flash"),
            (True, "esx", "flash"),
            (False, "guest-statistics", "flash"),
            (True, "guest-statistics", "disk"),
        )
        for form in FORMS
    ]
    rises = [Case(form, rise=rise, disk=disk) for disk in DISKS for rise in RISES[1:] for form in AT_ALL_RISES]
    if quick:
        rises = []
        periods = [each for each in periods if each.rise == 0.1][-2:]
        forms = [each for each in forms[: len(FORMS)] if each.form in (SECOND_POLL, LARGE)]
    cases = [replace(case, seconds=10) if quick else case for case in (*periods, *forms, *rises)]
    figures = over_seeds(run, cases, seeds, tell=tell, workers=0 if quick else None)
    rows = [Row(case, found) for case, found in zip(cases, figures, strict=True)]
    edges = len(periods), len(periods) + len(forms)
    return Answer(seeds, rows[: edges[0]], rows[edges[0] : edges[1]], rows[edges[1] :])
