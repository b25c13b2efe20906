"""One program, and many looks at it: ESX's sampling by number and period, and annotation of all pages or of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab import study, trace
from pageshare.lab.estimators.annotate import Annotate
from pageshare.lab.estimators.esx import Esx
from pageshare.lab.memory import NEVER, SECOND, WINDOW, Memory
from pageshare.lab.placement import Placement, runs
from pageshare.lab.programs import Program
from pageshare.lab.programs.phases import Phases
from pageshare.lab.programs.ramp import Ramp
from pageshare.lab.programs.recorded import Recorded
from pageshare.lab.programs.steady import Steady
from pageshare.lab.programs.streaming import Streaming
from pageshare.lab.view import Prices, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.trace import Trace

STEP = SECOND // 5
"""The interval of the kept traces: nothing of them is lost."""
PHASE = 120
"""Estimators begin at a time drawn from so many seconds, or periods would keep step with what programs do."""
MARK = 15 * SECOND
"""How often the tax divides memory anew (ESX' BalancePeriod)."""
LARGEST, RAW, ALL, ANNOTATE, SOME = "largest of three", "raw", "raw, all pages", "annotation", "annotation of some"
COUNTED = (100, 30)
"""The sampling whose running count is kept: 100 pages, 30 seconds, as the paper has it."""


@dataclass(frozen=True)
class Look:
    """How memory is looked at: ``kind``, one of those above; ``n`` pages, 0 for all; each ``period`` seconds."""

    kind: str
    n: int
    period: float


@dataclass(frozen=True)
class Case:
    """A ``program`` by name, in a guest just as large; measured for ``seconds`` (0: one pass of a trace) after
    ``settle``. Sampling with each of ``numbers`` of pages in each of ``periods``, annotation each of ``scans``, and
    annotation of some pages each of ``panels``."""

    program: str
    numbers: tuple[int, ...]
    periods: tuple[float, ...]
    scans: tuple[float, ...]
    panels: tuple[float, ...]
    pages: int = 1 << 15
    settle: int = 480
    seconds: int = 600


@dataclass(frozen=True)
class Seen:
    """What came of one run. ``figures`` of each look: bias, rmse, mae, lag, visits, faults, microseconds, as in
    ``study.Figures``; ``anybody``, the root mean square error if all touches were use; of raw ones also ``foretold``,
    the square of the error that the formula foretells, and by periods' ends ``drawn`` and ``formula``: the squares of
    the error by drawing alone, and what they should be.

    ``truth`` (float32) at each mark, ``marks`` (float32), shape (looks, marks), in the order of ``figures``.
    ``counts`` (float32): the running share of touched traps of ``COUNTED`` at each step, with the ``truths`` beside it.
    """

    pages: int
    figures: dict[Look, dict[str, float]]
    truth: NDArray[np.float32] = field(repr=False)
    marks: NDArray[np.float32] = field(repr=False)
    counts: NDArray[np.float32] = field(repr=False)
    truths: NDArray[np.float32] = field(repr=False)
    first: int = 0
    """The step from which on figures count."""


class Sampled(Esx):
    """ESX's estimator, which keeps what it counts: ``count``, the share of traps touched in its period so far, and
    ``raw``, the share that its last whole period found."""

    raw = count = 1.0
    begun = ended = False

    def running(self) -> float:
        """The share of the traps that stand now."""
        return int(np.count_nonzero(self.traps.sprung)) / self.n

    def step(self) -> None:
        """As ESX's; at a period's end ``count`` is still that period's."""
        self.ended = False
        super().step()
        self.count = self.raw if self.ended else self.running()

    def _begin(self) -> None:
        if self.begun:
            self.raw, self.ended = self.running(), True
        self.begun = True
        super()._begin()


class AnnotateSome:
    """Reads and clears the accessed bits of ``n`` pages, the same ones all the time, each ``period`` seconds, and has
    the age of each."""

    def __init__(self, view: View, rng: np.random.Generator, *, n: int = 100, period: float = 5.0) -> None:
        self.view, self.period = view, round(period * SECOND)
        self.pages = rng.choice(view.pages, min(n, view.pages), replace=False, shuffle=False).astype(np.uint32)
        self.found = np.full(len(self.pages), NEVER, np.int64)
        self.cleared = view.now
        view.costs.visits += len(self.pages)
        self.active = 1.0

    def step(self) -> None:
        """Read them, if it is time to."""
        now = self.view.now
        if now - self.cleared < self.period:
            return
        self.found[self.view.accessed(self.pages, self.cleared)] = now
        self.cleared = now
        recent = self.found > now - max(WINDOW, self.period)
        self.active = int(np.count_nonzero(recent)) / len(self.pages)


@cache
def kept(name: str) -> Trace:
    """A trace that comes with the package; each process reads it once."""
    return trace.read(trace.kept()[name])


def program_of(case: Case, seed: int) -> Program:
    """The program by its name: one of ``SYNTHETIC``, or a kept trace, over and over."""
    rng = np.random.default_rng([seed, 2])
    if case.program == "steady":
        return Steady(rng, pages=case.pages)
    if case.program == "phases":
        return Phases(rng, pages=case.pages)
    if case.program == "ramp":
        return Ramp(rng, pages=case.pages)
    if case.program == "streaming":
        return Streaming(rng, pages=case.pages, speed=300.0)
    return Recorded(kept(case.program), loop=True)


SYNTHETIC = ("steady", "phases", "ramp", "streaming")


def run(case: Case, seed: int) -> Seen:
    """Run a program, and every look at it side by side."""
    program = program_of(case, seed)
    memory = Memory(program.pages)
    places = Placement(program.pages, runs(memory.pages, np.random.default_rng([seed, 0])))
    start = int(np.random.default_rng([seed, 3]).integers(PHASE * SECOND // STEP)) * STEP
    length = case.seconds * SECOND if not isinstance(program, Recorded) or case.seconds else program.duration
    settle = case.settle * SECOND // STEP
    steps = settle + length // STEP

    def go_on() -> None:
        memory.now += STEP
        for touch in program.run(memory.now - STEP, memory.now):
            study.apply(memory, touch, places.of(touch.pages))

    while memory.now < start:
        go_on()

    def rng(look: Look) -> np.random.Generator:
        return np.random.default_rng([seed, 1, *repr(look).encode()])

    largest = [Look(LARGEST, n, period) for period in case.periods for n in case.numbers if n <= memory.pages]
    samplers = [Sampled(View(memory), rng(look), n=look.n, period=look.period) for look in largest]
    ages = [Look(ANNOTATE, 0, period) for period in case.scans]
    scanners: list[Annotate | AnnotateSome] = [Annotate(View(memory), rng(look), period=look.period) for look in ages]
    for period in case.panels:
        for n in case.numbers:
            ages.append(Look(SOME, n, period))
            scanners.append(AnnotateSome(View(memory), rng(ages[-1]), n=n, period=period))
    raws = [Look(RAW, look.n, look.period) for look in largest]
    alls = [Look(ALL, 0, period) for period in case.periods]
    looks = [*largest, *raws, *alls, *ages]
    counted = next((one for one, look in zip(samplers, largest, strict=True) if (look.n, look.period) == COUNTED), None)
    series = np.ones((len(looks), steps))
    truth, anybody, counts = np.empty(steps), np.empty(steps), np.zeros(steps, np.float32)
    begun, found = [memory.now] * len(alls), [1.0] * len(alls)
    spent: list[NDArray[np.float64]] = []
    eyes = [*samplers, *scanners]
    for number in range(steps):
        if number == settle:
            spent.append(_costs(eyes))
        go_on()
        truth[number] = memory.active()
        anybody[number] = int(np.count_nonzero(memory.touched > memory.now - WINDOW)) / memory.pages
        for place, sampler in enumerate(samplers):
            sampler.step()
            series[place, number] = sampler.active
            series[len(samplers) + place, number] = sampler.raw
        counts[number] = counted.count if counted is not None else 0
        for place, look in enumerate(alls):
            if memory.now - begun[place] >= look.period * SECOND:
                found[place] = int(np.count_nonzero(memory.touched > begun[place])) / memory.pages
                begun[place] = memory.now
            series[2 * len(samplers) + place, number] = found[place]
        for place, scanner in enumerate(scanners):
            scanner.step()
            series[len(series) - len(scanners) + place, number] = scanner.active
    spent.append(_costs(eyes))
    costs = dict(zip([*largest, *ages], (spent[1] - spent[0]) * (WINDOW / length), strict=True))
    figures = _figures(looks, series[:, settle:], truth[settle:], anybody[settle:])
    for look, paid in costs.items():
        figures[look].update(zip(("visits", "faults", "microseconds"), paid.tolist(), strict=True))
    for raw in raws:
        cost = figures[Look(LARGEST, raw.n, raw.period)]
        figures[raw].update({name: cost[name] for name in ("visits", "faults", "microseconds")})
        of_all = series[looks.index(Look(ALL, 0, raw.period)), settle:]
        its = series[looks.index(raw), settle:]
        ends = (np.arange(settle + 1, steps + 1) * STEP) % round(raw.period * SECOND) == 0
        variance = of_all * (1 - of_all) / raw.n * (memory.pages - raw.n) / (memory.pages - 1)
        figures[raw]["foretold"] = float((variance + (of_all - truth[settle:]) ** 2).mean())
        figures[raw]["drawn"] = float(((its - of_all)[ends] ** 2).mean()) if ends.any() else float("nan")
        figures[raw]["formula"] = float(variance[ends].mean()) if ends.any() else float("nan")
    for look in alls:
        of_all = series[looks.index(look), settle:]
        figures[look]["drawing"] = float((of_all * (1 - of_all)).mean())
    marks = np.arange(settle, steps, MARK // STEP)
    return Seen(
        memory.pages,
        figures,
        truth[marks].astype(np.float32),
        series[:, marks].astype(np.float32),
        counts,
        truth.astype(np.float32),
        settle,
    )


def _costs(eyes: Sequence[Sampled | Annotate | AnnotateSome]) -> NDArray[np.float64]:
    """Shape (eyes, 3): visits, faults and microseconds of each so far."""
    prices = Prices()
    paid = [one.view.costs for one in eyes]
    return np.array([[cost.visits, cost.faults, cost.microseconds(prices)] for cost in paid])


def _figures(
    looks: Sequence[Look],
    series: NDArray[np.float64],
    truth: NDArray[np.float64],
    anybody: NDArray[np.float64],
) -> dict[Look, dict[str, float]]:
    found = {}
    for look, estimate in zip(looks, series, strict=True):
        errors = estimate - truth
        found[look] = {
            "bias": float(errors.mean()),
            "rmse": float(np.sqrt((errors**2).mean())),
            "mae": float(np.abs(errors).mean()),
            "anybody": float(np.sqrt(((estimate - anybody) ** 2).mean())),
            "lag": study.lag(truth, estimate, STEP),
        }
    return found


def largest_of_three(
    counts: NDArray[np.float32], period: int, slow_gain: float, fast_gain: float
) -> NDArray[np.float64]:
    """ESX's estimate by running counts, as ``Esx`` has it, for any gains: shape (steps,), from ``counts`` before each
    step's end, float32 of the same shape; a period is so many steps."""
    estimate = np.ones(len(counts))
    averages: tuple[float, float] | None = None
    for begin in range(0, len(counts), period):
        share = counts[begin : begin + period].astype(np.float64)
        if averages is not None:
            slow, fast = averages
            current = fast + fast_gain * (share - fast)
            estimate[begin : begin + len(share)] = np.maximum(max(slow, fast), current)
        if len(share) < period:
            break
        last = float(share[-1])
        if averages is None:
            averages = last, last
        else:
            averages = averages[0] + slow_gain * (last - averages[0]), averages[1] + fast_gain * (last - averages[1])
        estimate[begin + period - 1] = max(averages)
    return estimate


def by_gains(seen: Seen, gains: Sequence[tuple[float, float]]) -> Mapping[tuple[float, float], dict[str, float]]:
    """What other gains than ours would have come to on the same counts: bias, rmse, lag; ``over`` and ``short``, the
    mean of what is too much and of what is too little."""
    found = {}
    truth = seen.truths[seen.first :].astype(np.float64)
    for slow, fast in gains:
        estimate = largest_of_three(seen.counts, COUNTED[1] * SECOND // STEP, slow, fast)[seen.first :]
        errors = estimate - truth
        found[slow, fast] = {
            "bias": float(errors.mean()),
            "rmse": float(np.sqrt((errors**2).mean())),
            "lag": study.lag(truth, estimate, STEP),
            "over": float(np.maximum(errors, 0).mean()),
            "short": float(np.maximum(-errors, 0).mean()),
        }
    return found
