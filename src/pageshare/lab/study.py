"""Estimators of idle memory held against the truth: many over one program, in one pass, each with its own view of
it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.memory import SECOND, WINDOW, Memory
from pageshare.lab.placement import PLACEMENTS, Placement
from pageshare.lab.programs import RELEASED, Program, Touch
from pageshare.lab.view import Costs, Prices, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.estimators import Estimator

STEP = SECOND // 10
WARM_UP = 600 * SECOND
"""What is left out of all figures at the beginning: twenty periods of ESX's sampling, after which its slow average has
forgotten 93 % of how the program began."""
LONGEST_LAG = 600 * SECOND
SIZES = 101
"""Of memory, at which curves of misses are told: each hundredth."""

Made = Callable[[View, np.random.Generator], "Estimator"]
"""What makes an estimator: its class, or one with options given."""


@dataclass(frozen=True)
class Run:
    """What estimators said of one program, step by step.

    ``times`` (int64, microseconds), shape (steps,); ``truth`` (float64, share of pages), likewise; ``estimates``
    (float64), shape (estimators, steps); ``costs`` (int64), shape (estimators, steps, 4): visits, faults, tests and
    hypercalls since the beginning. ``curves``: of each estimator that makes one the miss-ratio curve of all that it saw
    (float64, shape (SIZES,)), the share of touches that miss with each of ``SIZES`` sizes from none to all pages.
    """

    names: tuple[str, ...]
    times: NDArray[np.int64]
    truth: NDArray[np.float64]
    estimates: NDArray[np.float64]
    costs: NDArray[np.int64]
    curves: tuple[NDArray[np.float64] | None, ...] = ()


@dataclass(frozen=True)
class Figures:
    """One estimator in one run, warm-up left out. Its ``mean`` and errors are shares of all pages, times seconds; nan
    where there is none. ``visits`` to ``hypercalls``: for each 30 seconds; ``microseconds``: of CPU time, likewise."""

    name: str
    mean: float
    bias: float
    rmse: float
    mae: float
    lag: float
    visits: float
    faults: float
    tests: float
    hypercalls: float
    microseconds: float


def apply(memory: Memory, touch: Touch, places: NDArray[np.uint32]) -> None:
    """What a program did, done to its guest's memory, where its pages lie at ``places``."""
    memory.touch(places, touch.kinds, touch.work, touch.thread)
    if isinstance(touch.kinds, np.ndarray):
        released = places[(touch.kinds & RELEASED) != 0]
        if len(released):
            memory.release(released)
    elif touch.kinds & RELEASED:
        memory.release(places)


def run(
    program: Program,
    estimators: Mapping[str, Made],
    seed: int,
    *,
    duration: float = 1800.0,
    lead: float = 0.0,
    pages: int | None = None,
    placement: str = "runs",
    step: int = STEP,
) -> Run:
    """Run a program for ``duration`` seconds of the guest's time, in steps of ``step`` microseconds, of which times
    count; it began ``lead`` seconds before.

    The guest has ``pages``, the program's if none are given. Every estimator draws by ``seed`` and its name: what it
    says doesn't depend on which others run beside it.
    """
    memory = Memory(pages or program.pages)
    order = PLACEMENTS[placement](memory.pages, np.random.default_rng([seed, 0]))
    places = Placement(program.pages, order)
    begun = round(lead * SECOND) // step * step

    def happens(until: int) -> None:
        memory.now = until
        for touch in program.run(until - step, until):
            apply(memory, touch, places.of(touch.pages))

    for until in range(step, begun + step, step):
        happens(until)
    views = [View(memory) for _ in estimators]
    running = [
        made(view, np.random.default_rng([seed, 1, *name.encode()]))
        for view, (name, made) in zip(views, estimators.items(), strict=True)
    ]
    steps = round(duration * SECOND) // step
    times = np.arange(1, steps + 1, dtype=np.int64) * step
    truth = np.empty(steps)
    estimates = np.empty((len(running), steps))
    costs = np.empty((len(running), steps, 4), np.int64)
    for number in range(steps):
        happens(begun + int(times[number]))
        truth[number] = memory.active()
        for place, (estimator, view) in enumerate(zip(running, views, strict=True)):
            estimator.step()
            estimates[place, number] = estimator.active
            paid = view.costs
            costs[place, number] = paid.visits, paid.faults, paid.tests, paid.hypercalls
    curves = tuple(_curve(estimator, memory.pages) for estimator in running)
    return Run(tuple(estimators), times, truth, estimates, costs, curves)


def _curve(estimator: Estimator, pages: int) -> NDArray[np.float64] | None:
    misses = getattr(estimator, "misses", None)
    found = None if misses is None else misses()
    return None if found is None else np.interp(np.linspace(0, pages, SIZES), *found)


def figures(run: Run, *, warm_up: int = WARM_UP, prices: Prices | None = None) -> list[Figures]:
    """What each estimator comes to, in the order of ``run.names``; ``warm_up`` is left out, in microseconds."""
    first = int(np.searchsorted(run.times, warm_up, side="right"))
    if first >= len(run.times):
        raise ValueError(f"nothing is left of {run.times[-1] / SECOND:g} s after a warm-up of {warm_up / SECOND:g} s")
    step = int(run.times[0])
    before = run.costs[:, first - 1] if first else np.zeros_like(run.costs[:, 0])
    spent = (run.costs[:, -1] - before) * (WINDOW / ((len(run.times) - first) * step))
    truth = run.truth[first:]
    found = []
    for place, name in enumerate(run.names):
        errors = run.estimates[place, first:] - truth
        visits, faults, tests, hypercalls = (float(number) for number in spent[place])
        found.append(
            Figures(
                name,
                float(run.estimates[place, first:].mean()),
                float(errors.mean()),
                float(np.sqrt((errors**2).mean())),
                float(np.abs(errors).mean()),
                lag(truth, run.estimates[place, first:], step),
                visits,
                faults,
                tests,
                hypercalls,
                Costs(visits, faults, tests, hypercalls).microseconds(prices or Prices()),
            )
        )
    return found


def lag(truth: NDArray[np.float64], estimate: NDArray[np.float64], step: int) -> float:
    """By how many seconds the truth has to be put off to fit an estimate best, by correlation; to whole seconds.

    Not negative; nan if the truth hardly moves (a standard deviation below half a point), or the estimate doesn't.
    """
    if truth.std() < 0.005 or estimate.std() == 0:
        return float("nan")
    every = max(1, SECOND // step)
    truth, estimate = truth[::every], estimate[::every]
    best, found = -np.inf, 0
    for shift in range(min(LONGEST_LAG // (every * step), len(truth) // 2)):
        one, other = truth[: len(truth) - shift], estimate[shift:]
        if one.std() == 0 or other.std() == 0:
            continue
        fit = float(np.corrcoef(one, other)[0, 1])
        if fit > best:
            best, found = fit, shift
    return found * every * step / SECOND


@dataclass(frozen=True)
class Response:
    """How an estimator follows a step of the truth, seconds until it has gone half of the way, and nine tenths of it,
    for good or not; nan if it never has. Up: since the working set grew. Down: since the truth fell, which is 30 s
    after it shrank."""

    name: str
    up_half: float
    up_most: float
    down_half: float
    down_most: float


def responses(run: Run, up: int, down: int) -> list[Response]:
    """How each followed a truth that rises at ``up`` and falls at ``down``, microseconds; both must be in the run, and
    ``up`` come first. The way is between the truth's medians before, between and after them."""
    low = float(np.median(run.truth[(run.times > up - WINDOW) & (run.times <= up)]))
    high = float(np.median(run.truth[(run.times > up + WINDOW) & (run.times <= down)]))
    found = []
    for name, estimate in zip(run.names, run.estimates, strict=True):
        times = [
            _reached(run, estimate >= low + share * (high - low), up, down) for share in (0.5, 0.9)
        ] + [_reached(run, estimate <= high - share * (high - low), down, int(run.times[-1])) for share in (0.5, 0.9)]
        found.append(Response(name, *times))
    return found


def _reached(run: Run, there: NDArray[np.bool_], begin: int, end: int) -> float:
    times = run.times[there & (run.times > begin) & (run.times <= end)]
    return float(times[0] - begin) / SECOND if len(times) else float("nan")
