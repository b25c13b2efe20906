"""What all benchmarks share: `beside` times two things in turn, and notes the ratio."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

from inputs import QUICK


def cpu_name() -> str:
    """As /proc/cpuinfo has it."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Note on what this ran."""
    from pageshare import __version__, kernels

    output_json["pageshare"] = {
        "version": __version__,
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "kernels": kernels(),
        "quick": QUICK,
    }


class Beside:
    """Times `run`, and before each round `reference`: a neighbour's load falls on both.

    Notes in the benchmark's `extra_info`: `ratio` = reference / run (how many times as fast as the reference), its
    least and most, medians in seconds, and what else is given.
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
        **notes: Any,
    ) -> Any:
        before: list[float] = []

        def setup() -> None:
            started = time.perf_counter()
            reference()
            before.append(time.perf_counter() - started)

        rounds = 2 if QUICK else rounds
        result = self.benchmark.pedantic(run, setup=setup, rounds=rounds, warmup_rounds=int(warm_up))
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
