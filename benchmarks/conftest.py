"""What all benchmarks share: `beside` times two things in turn, and notes the ratio."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

from inputs import QUICK

SKIPPED: dict[str, str] = {}
STARTED = time.time()


def of_cpu(field: str) -> str | None:
    """What /proc/cpuinfo has under this name for the first CPU."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
        return next((line.partition(":")[2].strip() for line in file if line.startswith(field)), None)


def cpu_name() -> str:
    """The CPU's model, or the architecture."""
    return of_cpu("model name") or platform.machine()


def nominal_hz() -> float | None:
    """The clock that the kernel states, without boost; None where it states none."""
    mhz = of_cpu("cpu MHz")
    return float(mhz) * 1e6 if mhz else None


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Note on what this ran, and what was skipped and why."""
    from pageshare import __version__, kernels

    output_json["pageshare"] = {
        "version": __version__,
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "nominal_hz": nominal_hz(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "kernels": kernels(),
        "quick": QUICK,
        "seconds": time.time() - STARTED,
        "skipped": SKIPPED,
    }


def pytest_runtest_logreport(report: Any) -> None:
    """Keep the reasons of what is skipped: the page says them."""
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        SKIPPED[report.nodeid.rpartition("::")[2]] = reason.removeprefix("Skipped: ")


class Beside:
    """Times `run`, and before each round `reference`: a neighbour's load falls on both. ``in_turn``: behind it in every
    other round, where what goes first may help or hinder.

    Notes in the benchmark's `extra_info`: `ratio` = reference / run (how many times as fast as the reference), its
    least and most, medians in seconds, and what else is given. ``prepare`` goes before `run`, untimed, and returns its
    arguments; ``in_turn`` before each of the two.
    """

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark

    def __call__(
        self,
        run: Callable[[], Any],
        reference: Callable[[], Any],
        *,
        rounds: int = 9,
        warm_up: bool = True,
        in_turn: bool = False,
        prepare: Callable[[], tuple[Any, ...]] = tuple,
        **notes: Any,
    ) -> Any:
        before: list[float] = []
        order = itertools.cycle([True, False]) if in_turn else itertools.repeat(True)
        leads = True

        def refer() -> None:
            if in_turn:
                prepare()
            started = time.perf_counter()
            reference()
            before.append(time.perf_counter() - started)

        def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
            nonlocal leads
            leads = next(order)
            if leads:
                refer()
            return prepare(), {}

        def teardown(*_: Any) -> None:
            if not leads:
                refer()

        rounds = min(2, rounds) if QUICK else rounds
        result = self.benchmark.pedantic(
            run, setup=setup, teardown=teardown, rounds=rounds, warmup_rounds=int(warm_up)
        )
        after = self.benchmark.stats.stats.data if self.benchmark.stats else [1.0] * len(before)
        before = before[-len(after) :]
        ratios = sorted(one / other for one, other in zip(before, after, strict=True))
        self.benchmark.extra_info.update(
            ratio=statistics.median(ratios),
            ratio_least=ratios[0],
            ratio_most=ratios[-1],
            reference_seconds=statistics.median(before),
            seconds=statistics.median(after),
            **notes,
        )
        return result


@pytest.fixture
def beside(benchmark: Any) -> Beside:
    """See `Beside`."""
    return Beside(benchmark)
