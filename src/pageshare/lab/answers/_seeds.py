"""Runs over seeds, side by side, and their spread."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

C = TypeVar("C")
R = TypeVar("R")


LOOK = 0.05
"""Seconds between two looks whether a run is ready, or nobody wants it any more."""


@dataclass(frozen=True)
class Spread:
    """The mean of a figure over seeds, and its standard deviation from seed to seed (nan for a single one)."""

    mean: float
    deviation: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value for each seed."""
        mean = math.fsum(values) / len(values)
        if len(values) < 2:
            return cls(mean, math.nan, len(values))
        return cls(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)), len(values))


def median_of_known(values: Sequence[float]) -> float:
    """Of those that are not nan; nan if all are."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


def over_seeds(
    run: Callable[[C, int], Mapping[str, float]],
    cases: Sequence[C],
    seeds: int,
    *,
    workers: int | None = None,
    tell: Callable[[float], None] | None = None,
) -> list[dict[str, Spread]]:
    """The spread over seeds of each figure that ``run`` gives, case by case; the rest as for ``each_seed``."""
    groups = each_seed(run, cases, seeds, workers=workers, tell=tell)
    return [{name: Spread.of([figures[name] for figures in group]) for name in group[0]} for group in groups]


def each_seed(
    run: Callable[[C, int], R],
    cases: Sequence[C],
    seeds: int,
    *,
    workers: int | None = None,
    tell: Callable[[float], None] | None = None,
) -> list[list[R]]:
    """Run each case with seeds 1 to ``seeds``: what came of each, case by case.

    ``run``, the cases and what comes of them have to be picklable: runs go to ``workers`` other processes (as many as
    there are processors, by default), unless that is 0. ``tell`` is called with the share that is done; what it raises
    ends all.
    """
    jobs = [(run, case, seed) for case in cases for seed in range(1, seeds + 1)]
    found: list[R] = []
    if workers == 0:
        for job in jobs:
            found.append(_run(job))
            if tell is not None:
                tell(len(found) / len(jobs))
    else:
        # The processes are ended when something is raised here: by ``tell``, if no one wants the rest any more.
        with multiprocessing.get_context("spawn").Pool(workers or len(os.sched_getaffinity(0)), _begin) as pool:
            results = pool.imap(_run, jobs)
            while len(found) < len(jobs):
                with contextlib.suppress(multiprocessing.TimeoutError):
                    found.append(results.next(LOOK))
                if tell is not None:
                    tell(len(found) / len(jobs))
    return [found[i : i + seeds] for i in range(0, len(found), seeds)]


def _begin() -> None:
    """Interrupts are for the process that asked for the runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(job: tuple[Callable[[C, int], R], C, int]) -> R:
    run, case, seed = job
    return run(case, seed)
