"""What would more memory save? Curves of misses by a part of the pages, and what collectors make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab import study
from pageshare.lab.answers._seeds import Spread, each_seed
from pageshare.lab.estimators.shards import Shards
from pageshare.lab.memory import SECOND
from pageshare.lab.programs import Program, Touch
from pageshare.lab.programs.recorded import Recorded

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRACES = ("apache", "clangd", "redis", "sort", "zeroing", "java", "cpython", "ruby")
RATES = (0.01, 0.03, 0.1)
"""Of all pages, those that are watched."""
EVERY = 1.0
"""Seconds: a page is seen touched once in each."""
STEP = SECOND // 5
"""The kept traces' interval."""
MOST = (0.25, 0.10)
"""Shares of touches that may miss, for which it is asked how much memory that takes."""


@dataclass(frozen=True)
class Case:
    """A kept trace, from its beginning; ``seconds`` of it, all if 0."""

    trace: str
    seconds: int = 0


class Work:
    """What a program's own work touches, and nothing else."""

    def __init__(self, program: Program) -> None:
        self.program, self.pages = program, program.pages

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """The touches that are work."""
        for touch in self.program.run(begin, end):
            if isinstance(touch.work, np.ndarray):
                raise TypeError("a touch of work and of other things")
            if touch.work:
                yield touch


def _recorded(case: Case) -> tuple[Recorded, float]:
    from pageshare.lab.trace import kept, read

    program = Recorded(read(kept()[case.trace]))
    return program, min(case.seconds or np.inf, program.duration / SECOND)


def exact(program: Program, seconds: float) -> NDArray[np.float64]:
    """The curve of all touches (float64, shape (study.SIZES,)): every page is watched."""
    watch = {"exact": partial(Shards, rate=1.0, every=EVERY)}
    (curve,) = _curves(study.run(program, watch, 1, duration=seconds, placement="contiguous", step=STEP))
    return curve


def _curves(found: study.Run) -> list[NDArray[np.float64]]:
    return [curve for curve in found.curves if curve is not None]


def run(case: Case, seed: int) -> list[tuple[NDArray[np.float64], tuple[float, float, float]]]:
    """For each rate the curve, and ``visits``, ``faults`` and microseconds in 30 s."""
    program, seconds = _recorded(case)
    watch = {f"{rate:g}": partial(Shards, rate=rate, every=EVERY) for rate in RATES}
    found = study.run(program, watch, seed, duration=seconds, step=STEP)
    costs = [(each.visits, each.faults, each.microseconds) for each in study.figures(found, warm_up=0)]
    return list(zip(_curves(found), costs, strict=True))


def needed(curve: Sequence[float] | NDArray[np.float64], most: float) -> float:
    """The share of a guest's pages with which no more than a share ``most`` of touches miss; nan if all miss more."""
    enough = np.flatnonzero(np.asarray(curve) <= most)
    return float(enough[0]) / (len(curve) - 1) if len(enough) else float("nan")


@dataclass(frozen=True)
class Sampled:
    """One rate: the mean curve over seeds and its standard deviation, the mean absolute error of a curve against the
    exact one, over all sizes; what memory each of ``MOST`` takes, nan where it takes more than there is; and
    ``visits``, ``faults`` and ``microseconds`` in 30 s."""

    curve: tuple[float, ...] = field(repr=False)
    deviation: tuple[float, ...] = field(repr=False)
    error: Spread
    needed: tuple[Spread, ...]
    visits: Spread
    faults: Spread
    microseconds: Spread


@dataclass(frozen=True)
class Row:
    """A trace: the exact curves, of ``all`` touches and of ``work``, and those by each rate."""

    trace: str
    pages: int
    others: bool
    """Whether anything but work touches its memory."""
    all: tuple[float, ...] = field(repr=False)
    work: tuple[float, ...] = field(repr=False)
    sampled: dict[float, Sampled] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """All traces."""

    seeds: int
    rows: list[Row] = field(repr=False)


def answer(seeds: int = 10, *, quick: bool = False, tell: Callable[[float], None] | None = None) -> Answer:
    """Run everything; ``quick``: two traces, shortly, in this process."""
    cases = [Case(trace, 60) for trace in ("redis", "java")] if quick else [Case(trace) for trace in TRACES]
    groups = each_seed(run, cases, seeds, workers=0 if quick else None, tell=tell)
    return Answer(seeds, [_row(case, group) for case, group in zip(cases, groups, strict=True)])


def _row(case: Case, runs: Sequence[list[tuple[NDArray[np.float64], tuple[float, float, float]]]]) -> Row:
    program, seconds = _recorded(case)
    every, work = exact(program, seconds), exact(Work(program), seconds)
    sampled = {}
    for place, rate in enumerate(RATES):
        curves = [one[place][0] for one in runs]
        costs = [one[place][1] for one in runs]
        stacked = np.stack(curves)
        sampled[rate] = Sampled(
            tuple(stacked.mean(axis=0).tolist()),
            tuple(stacked.std(axis=0, ddof=min(1, len(curves) - 1)).tolist()),
            Spread.of([float(np.abs(curve - every).mean()) for curve in curves]),
            tuple(Spread.of([needed(curve, most) for curve in curves]) for most in MOST),
            *(Spread.of([cost[i] for cost in costs]) for i in range(3)),
        )
    others = any(actor.intent not in ("work", "unlabelled") for actor in program.trace.actors)
    return Row(case.trace, program.pages, others, tuple(every.tolist()), tuple(work.tolist()), sampled)
