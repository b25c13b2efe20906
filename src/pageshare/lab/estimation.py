"""Studies of estimators, as a file says: programs, each alone in a guest, and estimators that all look at it at once.

docs/lab.md tells of each key. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.core import Control, Stopped
from pageshare.lab import study
from pageshare.lab.assembly import Restartable, Watched
from pageshare.lab.host import Times
from pageshare.lab.keys import Keys, Required, spoken
from pageshare.lab.memory import SECOND, Memory
from pageshare.lab.named import Named
from pageshare.lab.placement import PLACEMENTS
from pageshare.lab.programs.recorded import Recorded
from pageshare.lab.report import ASSUMED, GIVEN, PAPER, SIMULATION, plain_table, prices, recorded
from pageshare.lab.scenario import MOST_PAGES, ProgramSpec, estimator_of, program_of
from pageshare.lab.view import View
from pageshare.synth.spec import check

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "pageshare-lab-study/1"
JUDGED = ("bias", "rmse", "mae", "lag")
"""Of figures, those that hold an estimate against the truth."""
MOST = 50
"""Programs, and estimators, of a study."""
MOST_STEPS = 5_000_000
OWN_NAME = 'a name of its own, such as label = "another"'
"""What is allowed where two would be shown by one name."""


@dataclass(frozen=True)
class StudySpec:
    """What is to be held against the truth. ``pages`` of the guest, the program's if None; samples each ``every``."""

    name: str
    about: str
    calibration: str
    duration: int
    every: int
    warm_up: int
    step: int
    placement: str
    pages: int | None
    programs: tuple[ProgramSpec, ...]
    estimators: Mapping[str, Named]
    table: Mapping[str, Any] = field(repr=False)


def of_table(table: Mapping[str, Any], *, name: str, folder: Path) -> StudySpec:
    """A study of a TOML table with a ``study``. Raises SpecError, OSError."""
    keys = Keys(table)
    about, calibration = keys.text("about"), keys.text("calibration")
    duration = round(keys.time("duration", Required, 1000))
    inner = keys.inner("study")
    warm_up = round(inner.time("warm_up", min(study.WARM_UP, duration // 3)))
    check(warm_up < duration, "study.warm_up", "shorter than duration", spoken(warm_up))
    step = round(inner.time("step", study.STEP, 1000, 10 * SECOND))
    every = keys.every(max(duration / 1000, step), duration)
    check(step <= every, "study.step", "no longer than every", spoken(step))
    check(step * 10 <= duration, "study.step", "a tenth of duration at most", spoken(step))
    check(duration / step <= MOST_STEPS, "study.step", f"a time with at most {MOST_STEPS:,} of it in duration", step)
    placement = inner.one_of("placement", "runs", tuple(PLACEMENTS))
    pages = inner.pages("memory", None, 64, MOST_PAGES)
    programs: dict[str, ProgramSpec] = {}
    for where, each in inner.tables("program", MOST):
        program = _program(where, each, folder, pages or 1 << 16)
        check(program.name not in programs, f"{where}.label", OWN_NAME, program.name)
        programs[program.name] = program
    check(len(programs) > 0, "study.program", "there: one at least, [[study.program]]", "left out")
    estimators: dict[str, Named] = {}
    for where, each in inner.tables("estimator", MOST):
        label, named = _estimator(where, each, folder)
        check(label not in estimators, f"{where}.label", OWN_NAME, label)
        estimators[label] = named
    check(len(estimators) > 0, "study.estimator", "there: one at least, [[study.estimator]]", "left out")
    inner.end()
    keys.end()
    run = tuple(programs.values())
    return StudySpec(name, about, calibration, duration, every, warm_up, step, placement, pages, run, estimators, table)


def _program(where: str, table: Any, folder: Path, pages: int) -> ProgramSpec:
    label, rest = _labelled(where, table)
    if label is not None:
        _check_label(where, label)
    return replace(program_of(Keys(rest, where), folder, pages), label=label or "")


def _estimator(where: str, table: Any, folder: Path) -> tuple[str, Named]:
    label, options = _labelled(where, table)
    named = estimator_of(where, options, folder)
    given = " ".join(f"{key}={value}" for key, value in options.items() if key != "name")
    label = label or f"{named.name} {given}".strip()
    _check_label(where, label)
    return label, named


def _labelled(where: str, table: Any) -> tuple[str | None, dict[str, Any]]:
    """A table's label, if it has one, and all other keys."""
    keys = Keys(table, where)
    label: str | None = keys.text("label", None)
    return label, {key: value for key, value in keys.table.items() if key != "label"}


def _check_label(where: str, label: str) -> None:
    check(0 < len(label) <= 60 and label.isprintable(), f"{where}.label", "a text of 1 to 60 characters", label)


@dataclass(frozen=True)
class Studied:
    """One program, ``place`` in the file from 0, with one seed: what was said step by step, and what each estimator
    comes to."""

    program: str
    place: int
    seed: int
    run: study.Run
    figures: tuple[study.Figures, ...]


class Study:
    """A study with one seed after the other. ``control`` ends it before the next program."""

    def __init__(self, spec: StudySpec, seeds: Sequence[int], control: Control | None = None) -> None:
        self.spec, self.seeds, self.control = spec, seeds, control or Control()
        self.done: list[Studied] = []
        self._now = 0

    @property
    def share_done(self) -> float:
        """Of all runs, 0 to 1."""
        return min(1.0, (len(self.done) + self._now / self.spec.duration) / (len(self.seeds) * len(self.spec.programs)))

    def go(self) -> list[Studied]:
        """All programs with the first seed, then with the next. Raises SpecError for what goes wrong in a class: for
        options that a built-in one won't take before anything runs."""
        for each in self.spec.programs:
            if each.program is not None and not each.program.own:
                each.program.made(rng=np.random.default_rng())
        for named in self.spec.estimators.values():
            if not named.own:
                named.made(view=View(Memory(64)), rng=np.random.default_rng())
        for seed in self.seeds:
            for number, program in enumerate(self.spec.programs):
                try:
                    self.done.append(self._one(seed, number, program))
                except Stopped:
                    return self.done
        return self.done

    def _one(self, seed: int, number: int, spec: ProgramSpec) -> Studied:
        of = self.spec

        def make(_life: int) -> Any:
            if spec.program is None:
                return Recorded(spec.trace, loop=spec.loop)
            return spec.program.made(rng=np.random.default_rng([seed, 2, number]))

        def heard(_begin: int, end: int, _touches: object) -> None:
            self._now = end
            self.control.check()

        program = Restartable(make, spec, spec.program.where if spec.program else "study.program")
        program.heard = heard
        check(
            of.pages is None or program.pages <= of.pages,
            "study.memory",
            f"enough for {spec.name}, {program.pages / 256:g} MiB",
            f"{(of.pages or 0) / 256:g} MiB",
        )
        made = {label: partial(_made, named) for label, named in of.estimators.items()}
        ran = study.run(
            program, made, seed, duration=of.duration / SECOND, pages=of.pages, placement=of.placement, step=of.step
        )
        self._now = 0
        return Studied(spec.name, number, seed, ran, tuple(study.figures(ran, warm_up=of.warm_up)))


def _made(named: Named, view: View, rng: np.random.Generator) -> Watched:
    return Watched(named.made(view=view, rng=rng), named, view)


# What it comes to.


def document(spec: StudySpec, done: Sequence[Studied], seeds: Sequence[int], *, interrupted: bool) -> dict[str, Any]:
    """A study as plain values: errors are shares of all pages, times seconds, means over seeds.

    Samples are those of the first seed.
    """
    programs = []
    for place in sorted({each.place for each in done}):
        runs = [each for each in done if each.place == place]
        first = runs[0].run
        thinned = np.arange(spec.every // spec.step - 1, len(first.times), max(1, spec.every // spec.step))
        programs.append(
            {
                "name": runs[0].program,
                "labelled": spec.programs[place].labelled,
                "truth": fmean(float(each.run.truth[each.run.times > spec.warm_up].mean()) for each in runs),
                "estimators": [
                    _over([one.figures[i] for one in runs], judged=spec.programs[place].labelled)
                    | {"misses": _curve([one.run.curves[i] for one in runs])}
                    for i in range(len(first.names))
                ],
                "samples": {
                    "seconds": (first.times[thinned] / SECOND).tolist(),
                    "truth": first.truth[thinned].round(5).tolist(),
                    "estimates": first.estimates[:, thinned].round(5).tolist(),
                },
            }
        )
    return {
        "format": FORMAT,
        "simulation": SIMULATION,
        "calibration": [dict(zip(("what", "value", "source"), each, strict=True)) for each in calibration(spec)],
        "scenario": spec.name,
        "about": spec.about,
        "duration": spec.duration / SECOND,
        "warm_up": spec.warm_up / SECOND,
        "step": spec.step / SECOND,
        "placement": spec.placement,
        "seeds": list(seeds),
        "interrupted": interrupted,
        "programs": programs,
        "table": plain_table(spec.table),
    }


def _over(figures: Sequence[study.Figures], *, judged: bool) -> dict[str, Any]:
    """Means over seeds, and their spread. Where nobody has said what touches were for, there is no error to tell."""
    rows = [asdict(each) for each in figures]
    found: dict[str, Any] = {"name": rows[0]["name"]}
    spread: dict[str, Any] = {}
    for key in [key for key in rows[0] if key != "name"]:
        known = [row[key] for row in rows if row[key] == row[key] and (judged or key not in JUDGED)]
        found[key] = fmean(known) if known else None
        spread[key] = stdev(known) if len(known) > 1 else None
    return {**found, "spread": spread if len(rows) > 1 else None}


def _curve(curves: Sequence[NDArray[np.float64] | None]) -> list[float] | None:
    """The mean over seeds."""
    known = [curve for curve in curves if curve is not None]
    return np.mean(known, axis=0).round(5).tolist() if known else None


def calibration(spec: StudySpec) -> Iterator[tuple[str, str, str]]:
    """What results depend on, and where it comes from."""
    yield "the truth", "pages touched by the guest's own work within 30 s", f"{PAPER}, section 5.3, for the period"
    for label, named in spec.estimators.items():
        source = f"{PAPER}, section 5.3; gains of averages {ASSUMED}" if named.name == "esx" else "docs/lab.md"
        yield "estimator", label, "a user's own class" if named.own else source
    yield prices(Times().fault)
    yield "where pages lie", spec.placement, f"{ASSUMED}: docs/lab.md" if spec.placement == "runs" else GIVEN
    for program in spec.programs:
        own = program.program is not None and program.program.own
        made = "a user's own class" if own else "made up"
        if program.trace is not None:
            made = recorded(program.trace)
        yield "load", program.name, made
    if spec.calibration:
        yield "the study's own figures", "", spec.calibration


__all__ = ["Studied", "Study", "StudySpec", "document", "of_table"]
