"""Figures 2, 6, 7 and 8 of the paper, simulated, beside what it published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pageshare.lab import scenario, study
from pageshare.lab.answers._seeds import Spread, each_seed
from pageshare.lab.balloon import Driver, Polls
from pageshare.lab.course import Course, Run
from pageshare.lab.disk import Disk
from pageshare.lab.estimators.esx import Esx
from pageshare.lab.guest import Guest
from pageshare.lab.host import Host
from pageshare.lab.memory import SECOND
from pageshare.lab.programs.file_cache import FileCache
from pageshare.lab.programs.steady import Steady
from pageshare.lab.programs.toucher import Toucher
from pageshare.lab.shares import Client, divide
from pageshare.lab.thresholds import State, Thresholds
from pageshare.lab.view import View

MB = 256
MINUTE = 60 * SECOND

# Figure 2: dbench in a guest that is configured with some memory, and in one of 256 MB ballooned to it.
SIZES = (128, 160, 192, 224)
KERNELS = (0.02, 0.04, 0.06, 0.08, 0.1)
"""Shares of its configured memory that a guest's kernel keeps for structures of that size: the model's one constant is
chosen among them, by the first of SIZES."""
OVERHEADS = {128: 0.044, 224: 0.014}
"""Published, from memory: by how much the ballooned guest was slower."""
CONFIGURED = 256


@dataclass(frozen=True)
class Dbench:
    """A guest configured with so many MB, ballooned to ``size``."""

    configured: int
    size: int
    kernel: float
    minutes: int = 12


class _Wanting(Host):
    """A host that wants a fixed number of pages."""

    wanted = 0

    def balloon_target(self, _number: int) -> int:
        return self.wanted


def _file_work(rng: np.random.Generator) -> FileCache:
    """dbench with 40 clients, as the built-in scenario figure-7 has it: as fast as the page cache is large. Chosen
    among three loads so that it gains under the tax about what is published."""
    return FileCache(rng, pages=300 * MB, own=0.1, touches=3000, zipf=0.6)


def dbench(case: Dbench, seed: int) -> dict[str, float]:
    """``done``: what it got done in the second half of the time, of what it would without waiting for files."""
    host = _Wanting(400 * MB, seed=seed)
    kernel = Steady(np.random.default_rng([seed, 12]), pages=round(case.kernel * case.configured * MB), hot=1, warm=0)
    disk = Disk(host.clock, 1000, 25_600)
    work = _file_work(np.random.default_rng([seed, 13]))
    guest = Guest(host, case.configured * MB, [kernel, work], least=0, disk=disk)
    Driver(guest, Polls(phase=SECOND))
    host.wanted = (case.configured - case.size) * MB
    host.clock.run(case.minutes * MINUTE // 2)
    before = guest.counts.ran
    host.clock.run(case.minutes * MINUTE)
    return {"done": (guest.counts.ran - before) / (case.minutes * MINUTE // 2)}


# Figure 6: how the estimate follows a program that touches more, then less memory.
STEPS = (50, 100, 150, 200, 100, 50)
"""MB that it touches, and for how long each."""
LENGTH = 300.0
PERIODS_UP = (1, 4)
"""Of 30 s, in which the paper's estimate follows a step up: read off its figure 6, from memory."""


@dataclass(frozen=True)
class Touching:
    """The guest's system clears what the program had after its end, or not; the averages' gains are free."""

    zeroing: bool
    slow: float = 1 / 8
    fast: float = 1 / 2


def touching(case: Touching, seed: int) -> dict[str, float]:
    """Seconds from a step up, and down, until the estimate has gone nine tenths of it; ``spike``, the most by which it
    exceeds the truth within two minutes of the program's end plus what clearing takes, as a share of all pages."""
    found = _touched(case, seed, LENGTH * (len(STEPS) + 1))
    estimate = found.estimates[0]
    figures: dict[str, list[float]] = {"up": [], "down": []}
    for number in range(1, len(STEPS)):
        begin, end = round(number * LENGTH * SECOND), round((number + 1) * LENGTH * SECOND)
        way = "up" if STEPS[number] > STEPS[number - 1] else "down"
        low, high = (float(np.median(found.truth[_between(found, at - 60 * SECOND, at)])) for at in (begin, end))
        inside = _between(found, begin, end)
        near = (estimate[inside] - low) / (high - low) >= 0.9
        figures[way].append(float(np.argmax(near)) * study.STEP / SECOND if near.any() else LENGTH)
    over = round(len(STEPS) * LENGTH * SECOND)
    rest = _between(found, over + 30 * SECOND, over + 150 * SECOND)
    before = estimate[_between(found, over - SECOND, over)].mean()
    return {
        "up": float(np.mean(figures["up"])),
        "down": float(np.mean(figures["down"])),
        "spike": float(estimate[rest].max() - before),
    }


def _touched(case: Touching, seed: int, duration: float) -> study.Run:
    program = Toucher(np.random.default_rng([seed, 14]), sizes=STEPS, length=LENGTH, zeroing=case.zeroing)
    return study.run(
        program,
        {"esx": lambda view, rng: Esx(view, rng, slow=case.slow, fast=case.fast)},
        seed,
        duration=duration,
        placement="contiguous",
    )


@dataclass(frozen=True)
class Curves:
    """Lines by name, MB at each of ``minutes``."""

    minutes: list[float] = field(repr=False)
    lines: dict[str, list[float]] = field(repr=False)


def touching_curves(seed: int = 1, *, quick: bool = False) -> Curves:
    """The truth and the estimate, with a thread that clears what was freed, each two seconds of one run."""
    found = _touched(Touching(zeroing=True), seed, 60 if quick else LENGTH * (len(STEPS) + 1))
    some = slice(None, None, 2 * SECOND // study.STEP)
    lines = {"touched within 30 s": found.truth, "estimate": found.estimates[0]}
    of_all = {name: (256 * line[some]).round(2).tolist() for name, line in lines.items()}
    return Curves((found.times[some] / MINUTE).round(4).tolist(), of_all)


def _between(found: study.Run, begin: int, end: int) -> Any:
    return (found.times > begin) & (found.times <= end)


# Figure 7: two guests with equal shares, one idle.
TAXES = (0.0, 0.25, 0.5, 0.75, 0.9)
FOR_GUESTS = 360
"""MB, about."""
IDLE_ACTIVE = 20


@dataclass(frozen=True)
class Taxed:
    """Both run for so many minutes under a tax rate."""

    tax: float
    minutes: int = 40


def taxed(case: Taxed, seed: int) -> dict[str, float]:
    """MB that the idle and the busy guest have, and what the busy one gets done, in the second half of the time."""
    aim = Thresholds().leaves(State.SOFT)
    host = Host(round(FOR_GUESTS * MB / (1 - aim)), seed=seed, tax=case.tax)
    steady = Steady(np.random.default_rng([seed, 15]), pages=236 * MB, hot=IDLE_ACTIVE / 236, warm=0, hot_rate=0.2)
    guests = [
        Guest(host, 256 * MB, [steady], name="idle", least=96 * MB),
        Guest(
            host,
            256 * MB,
            [_file_work(np.random.default_rng([seed, 16]))],
            name="dbench",
            least=96 * MB,
            disk=Disk(host.clock, 1000, 25_600),
        ),
    ]
    for guest in guests:
        Driver(guest, Polls(phase=guest.number * SECOND // 2))
        view = View(guest.memory)
        guest.watch(Esx(view, np.random.default_rng([seed, 17, guest.number])), view)
    host.clock.run(case.minutes * MINUTE // 2)
    before, sums, looks = guests[1].counts.ran, np.zeros(2), 0
    while host.clock.now < case.minutes * MINUTE:
        host.clock.run(host.clock.now + 10 * SECOND)
        sums += [guest.allocated() / MB for guest in guests]
        looks += 1
    idle, busy = sums.tolist()
    done = (guests[1].counts.ran - before) / (case.minutes * MINUTE // 2)
    return {"idle": idle / looks, "busy": busy / looks, "done": done}


def closed_form(tax: float) -> tuple[float, float]:
    """MB of both by min-funding revocation, if 20 and 240 MB are active, as the paper's loads are taken to be."""
    clients = [Client(1, 96 * MB, 256 * MB, active * MB) for active in (IDLE_ACTIVE, 240)]
    idle, busy = divide(clients, FOR_GUESTS * MB, tax=tax).tolist()
    return idle / MB, busy / MB


def fixed_share(tax: float) -> tuple[float, float]:
    """The same by the formula read literally: each guest's active share stays what it is at 256 MB, so that its pages
    are in proportion to S / (k - (k - 1) f)."""
    k = 1 / (1 - tax)
    weights = [1 / (k - (k - 1) * active / 256) for active in (IDLE_ACTIVE, 240)]
    idle = FOR_GUESTS * weights[0] / sum(weights)
    return max(idle, FOR_GUESTS - 256), min(FOR_GUESTS - idle, 256)


# Figure 8: five Windows guests boot at once, the built-in scenario.


SQL_LEAST = 160
"""MB, half of its size, which the SQL guest falls to in the paper, from memory."""
BOOT = 60
"""Seconds until the guests have booted, and begin to work."""


@dataclass(frozen=True)
class Booted:
    """The scenario ``figure-8``, with sharing or without, for so many minutes."""

    sharing: bool
    minutes: int = 12


def booted(case: Booted, seed: int) -> dict[str, float]:
    """MB: most that is ``shared`` (pages in frames that several may use), and what ``stays`` shared at the end.

    What was ``swapped`` out in the first minute, while guests boot, in ``all``, and what is ``left`` swapped at the
    end; ``least`` that the SQL guest has.
    """
    course = _course(case, seed)
    shared = np.sum([guest.shared for guest in course.guests], axis=0) / MB
    swapped = np.sum([guest.swapped for guest in course.guests], axis=0) / MB
    sql = course.guests[-1].allocated / MB
    return {
        "shared": float(np.max(shared)),
        "stays": float(shared[-1]),
        "swapped": float(course.host.swapped_out[course.times <= BOOT].max()) / MB,
        "all": course.counts["swapped_out"] / MB,
        "left": float(swapped[-1]),
        "least": float(sql[len(sql) // 4 :].min()),
    }


def _course(case: Booted, seed: int) -> Course:
    changes: list[tuple[str, Any]] = [("duration", f"{case.minutes}min"), ("every", "2s")]
    if not case.sharing:
        changes.append(("host.sharing", False))
    path = Path(scenario.__file__).parent / "scenarios" / "figure-8.toml"
    return Run(scenario.read(path, changes), seed).go()


def booted_curves(seed: int = 1, *, minutes: int = 40) -> Curves:
    """All guests' memory together, and what the SQL guest has and uses, each two seconds of one run."""
    course = _course(Booted(sharing=True, minutes=minutes), seed)

    def all_of(name: str) -> Any:
        return np.sum([getattr(guest, name) for guest in course.guests], axis=0)

    sql = course.guests[-1]
    lines = {
        "machine memory": all_of("allocated"),
        "shared": all_of("shared"),
        "ballooned": all_of("ballooned"),
        "swapped": all_of("swapped"),
        "SQL has": sql.allocated,
        "SQL uses": sql.active,
    }
    of_all = {name: (line / MB).round(2).tolist() for name, line in lines.items()}
    return Curves((course.times / 60).round(4).tolist(), of_all)


@dataclass(frozen=True)
class Row:
    """A case and what came of it."""

    case: Any
    figures: Mapping[str, Spread] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """All runs, by figure; ``estimate``, curves of figure 6, and ``memory``, of figure 8."""

    seeds: int
    dbench: list[Row] = field(repr=False)
    touching: list[Row] = field(repr=False)
    taxed: list[Row] = field(repr=False)
    booted: list[Row] = field(repr=False)
    estimate: Curves = field(repr=False)
    memory: Curves = field(repr=False)

    def done(self, configured: int, size: int, kernel: float) -> float:
        """What dbench got done."""
        wanted = (configured, size, kernel)
        rows = (row for row in self.dbench if (row.case.configured, row.case.size, row.case.kernel) == wanted)
        done: float = next(rows).figures["done"].mean
        return done

    def overhead(self, size: int, kernel: float) -> float:
        """By how much a guest of 256 MB ballooned to ``size`` is slower than one that is configured with it."""
        ballooned, configured = self.done(CONFIGURED, size, kernel), self.done(size, size, kernel)
        return 1 - ballooned / configured

    def kernels(self) -> list[float]:
        """The constants of figure 2 that were run."""
        return sorted({row.case.kernel for row in self.dbench})

    def kernel(self) -> float:
        """The constant of figure 2 that fits the published overhead at the smallest size best."""
        sizes = sorted({row.case.size for row in self.dbench})
        return min(self.kernels(), key=lambda kernel: abs(self.overhead(sizes[0], kernel) - OVERHEADS[128]))


def answer(seeds: int = 10, *, quick: bool = False, tell: Callable[[float], None] | None = None) -> Answer:
    """Run everything; ``quick``: few cases, shortly, in this process."""
    sizes, kernels = ((128,), (0.01,)) if quick else (SIZES, KERNELS)
    minutes = 2 if quick else 12
    cases: list[Any] = [
        Dbench(configured, size, kernel, minutes)
        for kernel in kernels
        for size in sizes
        for configured in (size, CONFIGURED)
    ]
    cases += [Touching(zeroing) for zeroing in (True, False)]
    cases += [Taxed(tax, 4 if quick else 40) for tax in ((0.0, 0.75) if quick else TAXES)]
    cases += [Booted(sharing, 2 if quick else 12) for sharing in (True, False)]
    found = each_seed(run, cases, seeds, workers=0 if quick else None, tell=tell)
    rows = [
        Row(case, {name: Spread.of([one[name] for one in runs]) for name in runs[0]})
        for case, runs in zip(cases, found, strict=True)
    ]
    of = {kind: [row for row in rows if isinstance(row.case, kind)] for kind in _RUNS}
    curves = touching_curves(quick=quick), booted_curves(minutes=2 if quick else 40)
    return Answer(seeds, of[Dbench], of[Touching], of[Taxed], of[Booted], *curves)


_RUNS: dict[type, Callable[[Any, int], dict[str, float]]] = {
    Dbench: dbench,
    Touching: touching,
    Taxed: taxed,
    Booted: booted,
}


def run(case: Any, seed: int) -> dict[str, float]:
    """What comes of any case."""
    return _RUNS[type(case)](case, seed)
