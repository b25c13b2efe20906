"""Runs over seeds, side by side, and their spread."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

C = TypeVar("C")


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


def over_seeds(
    run: Callable[[C, int], Mapping[str, float]],
    cases: Sequence[C],
    seeds: int,
    *,
    workers: int | None = None,
    tell: Callable[[float], None] | None = None,
) -> list[dict[str, Spread]]:
    """Run each case with seeds 1 to ``seeds``; the spread of each figure that ``run`` gives, case by case.

    ``run`` and the cases have to be picklable: runs go to ``workers`` other processes (as many as there are processors,
    by default), unless that is 0. ``tell`` is called with the share that is done.
    """
    jobs = [(case, seed) for case in cases for seed in range(1, seeds + 1)]
    found: list[Mapping[str, float]] = []

    def take(figures: Mapping[str, float]) -> None:
        found.append(figures)
        if tell is not None:
            tell(len(found) / len(jobs))

    if workers == 0:
        for case, seed in jobs:
            take(run(case, seed))
    else:
        workers = workers or len(os.sched_getaffinity(0))
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                for figures in pool.map(run, *zip(*jobs, strict=True), chunksize=1):
                    take(figures)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    groups = [found[i : i + seeds] for i in range(0, len(found), seeds)]
    return [{name: Spread.of([figures[name] for figures in group]) for name in group[0]} for group in groups]
