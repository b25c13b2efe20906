"""Zeroing and collecting threads: how far each estimator is misled, and what sees through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pageshare.lab import named, study
from pageshare.lab.answers._seeds import Spread, each_seed, median_of_known
from pageshare.lab.estimators import ESTIMATORS
from pageshare.lab.memory import SECOND
from pageshare.lab.programs import Program
from pageshare.lab.programs.recorded import Recorded

NONE, CLEARS, COLLECTS, OWN = "none", "clears", "collects", "collects in the thread that works"


@dataclass(frozen=True)
class Source:
    """What is watched: a kept ``trace`` of a real program, or a synthetic one of that name, or ``made``; ``beside`` its
    work there is none, or what touches memory without using it."""

    name: str
    beside: str
    trace: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    made: str = ""

    def program(self, rng: np.random.Generator) -> Program:
        """It, from its beginning."""
        if self.trace:
            from pageshare.lab.trace import kept, read

            return Recorded(read(kept()[self.name]), loop=True)
        made: Program = named.programs()[self.made or self.name](rng, **dict(self.options))
        return made


SMALL = (("pages", 1 << 14),)
SOURCES = (
    Source("apache", NONE, trace=True),
    Source("clangd", NONE, trace=True),
    Source("redis", NONE, trace=True),
    Source("sort", NONE, trace=True),
    Source("zeroing", CLEARS, trace=True),
    Source("java", COLLECTS, trace=True),
    Source("cpython", OWN, trace=True),
    Source("ruby", OWN, trace=True),
    Source("steady", NONE, options=SMALL),
    Source("phases", NONE, options=SMALL),
    Source("streaming", NONE, options=SMALL),
    Source("ramp", NONE, options=SMALL),
    Source("short-ramp", NONE, options=(*SMALL, ("every", 60.0), ("hold", 8.0)), made="ramp"),
    Source("full-scan", NONE, options=SMALL),
    Source("scan-apart", NONE, options=(*SMALL, ("every", 20.0), ("apart", True)), made="full-scan"),
    Source("full-update", NONE, options=(*SMALL, ("writes", True)), made="full-scan"),
    Source("zero-page-thread", CLEARS, options=SMALL),
    Source("init-on-free", CLEARS, options=SMALL),
    Source("nursery", COLLECTS, options=SMALL),
    Source("semispace", COLLECTS, options=SMALL),
    Source("own-thread", OWN, options=SMALL),
)
WATCHED = (
    "esx",
    "esx-zero",
    "esx-second-touch",
    "esx-neighbours",
    "esx-bursts",
    "panel",
    "panel-zero",
    "panel-collectors",
    "annotate-30s",
    "generations",
    "damon",
    "shards",
    "free-page-reporting",
    "guest-statistics",
)
"""Estimators; the first is what the others are held against. Those with about a hundred visits in 30 s come first."""
EQUAL = 8
"""So many of them make about as many visits as the first."""
STEP = SECOND // 5
"""The kept traces' interval."""
WARM_UP = 900
"""Seconds, after which ESX's slow average has forgotten 98 % of how it began, which is that all is in use."""
DURATION = 1800
"""Seconds, warm-up included; a trace that is shorter begins again."""
PHASES = 120
"""Seconds: looks begin at a time drawn from so many after the program, whose periods are multiples of ESX's."""


@dataclass(frozen=True)
class Case:
    """A source, and for how long it is watched, in seconds."""

    source: Source
    duration: int = DURATION
    warm_up: int = WARM_UP


def run(case: Case, seed: int) -> dict[str, dict[str, float]]:
    """Each estimator's ``bias`` and ``rmse`` (shares of all pages), ``ratio`` of that to the first's, ``lag`` (seconds,
    nan where there is none to tell), ``visits`` and ``faults`` in 30 s of the guest's time, and ``microseconds`` of CPU
    time in them."""
    program = case.source.program(np.random.default_rng([seed, 11]))
    watched = {name: ESTIMATORS[name] for name in WATCHED}
    lead = np.random.default_rng([seed, 12]).uniform(0, PHASES)
    found = study.run(program, watched, seed, duration=case.duration, lead=lead, step=STEP)
    figures = study.figures(found, warm_up=case.warm_up * SECOND)
    names = ("bias", "rmse", "lag", "visits", "faults", "microseconds")
    return {
        each.name: {name: getattr(each, name) for name in names} | {"ratio": each.rmse / figures[0].rmse}
        for each in figures
    }


@dataclass(frozen=True)
class Row:
    """A source, and the figures of each estimator over seeds; lags are medians of those that there are."""

    source: Source
    figures: Mapping[str, Mapping[str, Spread]] = field(repr=False)
    lags: Mapping[str, float] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """All sources; ``goal``: by how much an estimate may be off on average, as a share of all pages.

    Each was watched for ``duration`` seconds, the first ``warm_up`` of which are left out.
    """

    seeds: int
    rows: list[Row] = field(repr=False)
    goal: float = 0.02
    duration: int = DURATION
    warm_up: int = WARM_UP

    def worst(self, name: str) -> Row:
        """Where an estimator's mean error is largest."""
        return max(self.rows, key=lambda row: abs(row.figures[name]["bias"].mean))

    def within(self, name: str) -> int:
        """On how many programs its mean error is within the goal."""
        return sum(abs(row.figures[name]["bias"].mean) <= self.goal for row in self.rows)

    def best(self) -> str:
        """Of those with as many visits as the first, the one that is within the goal on most programs."""
        return max(WATCHED[:EQUAL], key=self.within)

    def labelled(self) -> list[Row]:
        """Those that are kept traces of real programs."""
        return [row for row in self.rows if row.source.trace]


def answer(seeds: int = 10, *, quick: bool = False, tell: Callable[[float], None] | None = None) -> Answer:
    """Run everything; ``quick``: two programs, shortly, in this process."""
    cases = [Case(source) for source in SOURCES]
    if quick:
        small = (("pages", 1 << 12),)
        sources = (Source("steady", NONE, options=small), Source("zero-page-thread", CLEARS, options=small))
        cases = [Case(source, 240, 60) for source in sources]
    found = each_seed(run, cases, seeds, workers=0 if quick else None, tell=tell)
    rows = []
    for case, runs in zip(cases, found, strict=True):
        named = [figure for figure in runs[0][WATCHED[0]] if figure != "lag"]
        figures = {
            name: {figure: Spread.of([one[name][figure] for one in runs]) for figure in named} for name in WATCHED
        }
        lags = {name: median_of_known([one[name]["lag"] for one in runs]) for name in WATCHED}
        rows.append(Row(case.source, figures, lags))
    return Answer(seeds, rows, duration=cases[0].duration, warm_up=cases[0].warm_up)
