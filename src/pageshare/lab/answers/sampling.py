"""Sampling against annotating every page: error and lag against cost, by the number of samples, and what of it the idle
memory tax feels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from pageshare.lab.answers._decided import Mix, decide
from pageshare.lab.answers._seeds import Spread, each_seed, median_of_known
from pageshare.lab.answers._watched import (
    ALL,
    ANNOTATE,
    LARGEST,
    RAW,
    SOME,
    SYNTHETIC,
    Case,
    Look,
    Seen,
    by_gains,
    run,
)
from pageshare.lab.answers._worth import (
    at,
    crossing,
    needed,
    same_size,
    same_time,
    same_visits,
)
from pageshare.lab.trace import kept
from pageshare.lab.view import Prices

K = TypeVar("K")
NUMBERS = (10, 30, 100, 300, 1000, 3000, 10_000)
PERIODS = (5.0, 30.0, 120.0)
SCANS = (1.0, 5.0, 30.0, 120.0)
PANELS = (5.0,)
GAINS = ((1 / 8, 1 / 2), (1 / 4, 1 / 2), (1 / 20, 1 / 2), (1 / 8, 3 / 4), (1 / 20, 1 / 4), (1 / 2, 1.0), (1.0, 1.0))
MIXES = tuple(
    Mix(programs, memory)
    for memory in (0.4, 0.6)
    for programs in (
        ("redis", "sort"),
        ("apache", "clangd"),
        ("cpython", "java", "ruby", "zeroing"),
        ("steady", "phases", "ramp"),
    )
)
GIB = 1 << 18
"""Pages."""
SIZES = (1, 8, 64, 1024)
"""GiB."""
AS_GOOD = 0.005
"""Half a point: errors that differ by less are as good as each other."""
TARGETS = (0.1, 0.05, 0.02, 0.01, 0.005)


@dataclass(frozen=True)
class Watched:
    """A program and what each look at it came to: ``figures`` of ``_watched.Seen``, over seeds. ``gains``: what other
    gains of ESX's averages would have come to. ``lags``: the medians over seeds, for some fit best by far too much; nan
    where there is none to tell."""

    program: str
    pages: int
    figures: Mapping[Look, Mapping[str, Spread]] = field(repr=False)
    gains: Mapping[tuple[float, float], Mapping[str, Spread]] = field(repr=False)
    lags: Mapping[Look, float] = field(repr=False)

    def numbers(self, kind: str, period: float) -> list[int]:
        """Of samples, that were looked at in such a way."""
        return sorted(look.n for look in self.figures if (look.kind, look.period) == (kind, period))

    def errors(self, kind: str, period: float) -> list[float]:
        """Their root mean square errors."""
        return [self.figures[Look(kind, n, period)]["rmse"].mean for n in self.numbers(kind, period)]

    def floor(self, period: float) -> float:
        """The error of sampling that samples all pages: what no number of samples takes away."""
        return self.figures[Look(ALL, 0, period)]["rmse"].mean

    def drawing(self, period: float) -> float:
        """The mean of f (1 - f)."""
        return self.figures[Look(ALL, 0, period)]["drawing"].mean

    def touched(self, period: float) -> float:
        """Faults for each visit of sampling."""
        its = [self.figures[Look(RAW, n, period)] for n in self.numbers(RAW, period)]
        return math.fsum(one["faults"].mean for one in its) / math.fsum(one["visits"].mean for one in its)


@dataclass(frozen=True)
class Decided:
    """A mix of guests and what each look led the tax to: ``_decided.decide``, over seeds."""

    mix: Mix
    figures: Mapping[Look, Mapping[str, Spread]] = field(repr=False)


@dataclass(frozen=True)
class BreakEven:
    """A program and annotation of all its pages each ``scan`` seconds: its ``error``; samples in 30 s whose error is as
    good, raw and as the largest of three averages, nan where none are; the fewest visits in 30 s of any sampling that
    is; samples in 30 s of the same visits and of the same CPU time; the least error of sampling with no more
    visits, or CPU time, whatever its period; and that of annotating some pages each five seconds."""

    program: str
    scan: float
    visits: float
    error: float
    raw: float
    largest: float
    fewest: float
    same_visits: float
    same_time: float
    at_visits: float
    at_time: float
    some: float


@dataclass(frozen=True)
class Answer:
    """All that was run, and the numbers of it; figures count for ``seconds`` after ``settle``."""

    seeds: int
    numbers: tuple[int, ...]
    watched: list[Watched] = field(repr=False)
    decided: list[Decided] = field(repr=False)
    prices: Prices = field(default_factory=Prices)
    settle: int = Case.settle
    seconds: int = Case.seconds

    def of(self, program: str) -> Watched:
        """What was seen of a program."""
        return next(one for one in self.watched if one.program == program)


def answer(seeds: int = 10, *, quick: bool = False, tell: Callable[[float], None] | None = None) -> Answer:
    """Run everything; ``quick``: two programs and a trace, shortly, to see that it works."""
    programs = [*kept(), *SYNTHETIC]
    numbers: tuple[int, ...] = NUMBERS
    mixes: tuple[Mix, ...] = MIXES
    if quick:
        programs, numbers = ["redis", "steady", "ramp"], (10, 100, 1000)
        mixes = (Mix(("redis", "ramp"), 0.5),)
    cases = [Case(program, numbers, PERIODS, SCANS, PANELS) for program in programs]
    if quick:
        cases = [replace(each, pages=1 << 12, settle=60, seconds=240) for each in cases]
    groups = each_seed(run, cases, seeds, tell=tell, workers=0 if quick else None)
    by_program = {case.program: group for case, group in zip(cases, groups, strict=True)}
    watched = [_watched(program, group) for program, group in by_program.items()]
    decided = [_decided(mix, by_program) for mix in mixes]
    return Answer(seeds, numbers, watched, decided, settle=cases[0].settle, seconds=cases[0].seconds)


def _watched(program: str, group: Sequence[Seen]) -> Watched:
    figures = _spreads([seen.figures for seen in group])
    lags = {look: median_of_known([seen.figures[look]["lag"] for seen in group]) for look in figures}
    return Watched(program, group[0].pages, figures, _spreads([by_gains(seen, GAINS) for seen in group]), lags)


def _decided(mix: Mix, by_program: Mapping[str, Sequence[Seen]]) -> Decided:
    runs = zip(*(by_program[program] for program in mix.programs), strict=True)
    return Decided(mix, _spreads([dict(decide(mix, guests)) for guests in runs]))


def _spreads(results: Sequence[Mapping[K, Mapping[str, float]]]) -> dict[K, dict[str, Spread]]:
    return {
        key: {name: Spread.of([result[key][name] for result in results]) for name in figures}
        for key, figures in results[0].items()
    }


def break_even(watched: Watched, scan: float, prices: Prices) -> BreakEven:
    """Where sampling a program is as good, or as dear, as annotating all its pages each ``scan`` seconds."""
    annotated = watched.figures[Look(ANNOTATE, 0, scan)]
    error, visits, time = (annotated[name].mean for name in ("rmse", "visits", "microseconds"))
    fewest, least = math.nan, {"visits": math.nan, "microseconds": math.nan}
    for kind in (RAW, LARGEST):
        for period in sorted({look.period for look in watched.figures if look.kind == kind}):
            numbers, errors = watched.numbers(kind, period), watched.errors(kind, period)
            fewest = _less(fewest, crossing(numbers, errors, error + AS_GOOD) * 30 / period)
            for unit, most in (("visits", visits), ("microseconds", time)):
                spent = [watched.figures[Look(kind, n, period)][unit].mean for n in numbers]
                least[unit] = _less(least[unit], _at_most(spent, errors, most))
    panel = min((look.period for look in watched.figures if look.kind == SOME), default=math.nan)
    some = watched.numbers(SOME, panel)
    spent = [watched.figures[Look(SOME, n, panel)]["visits"].mean for n in some]
    return BreakEven(
        watched.program,
        scan,
        visits,
        error,
        crossing(watched.numbers(RAW, 30.0), watched.errors(RAW, 30.0), error + AS_GOOD),
        crossing(watched.numbers(LARGEST, 30.0), watched.errors(LARGEST, 30.0), error + AS_GOOD),
        fewest,
        same_visits(watched.pages, 30.0, scan),
        same_time(watched.pages, 30.0, scan, watched.touched(30.0), prices),
        least["visits"],
        least["microseconds"],
        _at_most(spent, watched.errors(SOME, panel), visits),
    )


def _less(one: float, other: float) -> float:
    return other if math.isnan(one) or other < one else one


def _at_most(spent: Sequence[float], errors: Sequence[float], most: float) -> float:
    """The least error for no more than ``most``; nan where everything costs more."""
    within = [error for cost, error in zip(spent, errors, strict=True) if cost <= most]
    return min([*within, at(spent, errors, most)]) if within else math.nan


@dataclass(frozen=True)
class Size:
    """For an error by drawing of ``target``: ``n`` samples each 30 s of a guest of endless memory; the memory in GiB
    above which that is less CPU time than a scan each 30 s and each 120 s; microseconds in 30 s, of sampling and of
    scans each 30 s, by GiB of memory (``sizes``), with as many samples as that memory needs."""

    target: float
    n: float
    above: Mapping[float, float]
    sampling: Mapping[int, float]
    scanning: Mapping[int, float]


def by_size(
    drawing: float, touched: float, prices: Prices, *, targets: Sequence[float] = TARGETS, sizes: Sequence[int] = SIZES
) -> list[Size]:
    """What memory it takes for sampling to be cheaper, by the error by drawing that is asked for; ``drawing`` is the
    mean of f (1 - f), ``touched`` the faults for each visit."""
    found = []
    cost = prices.visit + touched * prices.fault
    for target in targets:
        n = needed(drawing, 0.0, target)
        found.append(
            Size(
                target,
                n,
                {scan: same_size(n, 30.0, scan, touched, prices) / GIB for scan in (30.0, 120.0)},
                {size: needed(drawing, 0.0, target, size * GIB) * cost for size in sizes},
                {size: size * GIB * prices.visit for size in sizes},
            )
        )
    return found


def enough(numbers: Sequence[int], values: Sequence[float], within: float = AS_GOOD) -> int:
    """The least number from which on a figure stays ``within`` so much of what it is with the most samples."""
    found = numbers[-1]
    for n, value in zip(reversed(numbers), reversed(values), strict=True):
        if abs(value - values[-1]) > within:
            break
        found = n
    return found


@dataclass(frozen=True)
class Reach:
    """A program and the root mean square error that is asked for: how it is reached at the least CPU time. ``sampling``
    by ``look``, any of ESX's or the raw share; ``n`` of ``some`` pages whose bits are read each five seconds; the
    longest time between two scans of ``all`` pages, one of those that were run. nan where none does. Times are
    microseconds in 30 s; those of ``all`` by GiB of memory, 0 for the program's own size."""

    program: str
    target: float
    look: Look
    sampling: float
    n: float
    some: float
    scan: float
    all: Mapping[int, float]


def reach(watched: Watched, target: float, prices: Prices, *, sizes: Sequence[int] = SIZES) -> Reach:
    """What it takes to have no larger an error than ``target``."""
    best, sampling = Look(RAW, 0, math.nan), math.nan
    for kind in (RAW, LARGEST):
        for period in sorted({look.period for look in watched.figures if look.kind == kind}):
            n = crossing(watched.numbers(kind, period), watched.errors(kind, period), target)
            cost = n * 30 / period * (prices.visit + watched.touched(period) * prices.fault)
            if _less(sampling, cost) != sampling and not math.isnan(n):
                best, sampling = Look(kind, math.ceil(n), period), cost
    panel = PANELS[0]
    n = crossing(watched.numbers(SOME, panel), watched.errors(SOME, panel), target)
    scans = [scan for scan in SCANS if watched.figures[Look(ANNOTATE, 0, scan)]["rmse"].mean <= target]
    scan = max(scans, default=math.nan)
    visits = {0: watched.pages, **{size: size * GIB for size in sizes}}
    return Reach(
        watched.program,
        target,
        best,
        sampling,
        n,
        n * 30 / panel * prices.visit,
        scan,
        {size: pages * 30 / scan * prices.visit for size, pages in visits.items()},
    )


def bias_by_drawing(used: float, n: int, gains: tuple[float, float], *, periods: int = 20_000, seed: int = 1) -> float:
    """How much too high the largest of the slow and the fast average is at periods' ends, on average, where all that
    moves is what is drawn: ``n`` samples of memory of which the share ``used`` is in use, always."""
    shares = np.random.default_rng(seed).binomial(n, used, periods) / n
    slow = fast = used
    total = 0.0
    for share in shares.tolist():
        slow += gains[0] * (share - slow)
        fast += gains[1] * (share - fast)
        total += max(slow, fast)
    return total / periods - used
