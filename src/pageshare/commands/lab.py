"""Simulate a host that reclaims its guests' memory: balloons, idle memory tax, estimates, swapping, sharing.

A scenario says what there is: a host, guests, what they run. All happens in virtual time, by the rules of VMware ESX
(Waldspurger, OSDI 2002). docs/lab.md tells of each key of a scenario, and how to bring your own program, estimator or
policy.

  pageshare lab list                            the scenarios that come along
  pageshare lab figure-7                        one of them
  pageshare lab figure-7 --set host.tax=0.5 --html figure-7.html
  pageshare lab mine.toml --seeds 5 --json | jq .guests
  pageshare lab answer polls -o docs            an experiment over ten seeds, as a page with plots
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pageshare.commands import UsageError
from pageshare.commands._numbers import positive, seed_number
from pageshare.commands._output import FORMS, add_output_arguments, check_free, outputs
from pageshare.commands._work import run_with_share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console

    from pageshare.lab.course import Course
    from pageshare.lab.estimation import StudySpec
    from pageshare.lab.scenario import Scenario
    from pageshare.render.tables import Table

T = TypeVar("T")

SUMMARY = "a simulated host: balloons, idle memory tax, estimators of idle memory"
LISTS = ("scenarios", "programs", "estimators", "policies", "traces", "answers")
_OF_RUNS = ("set", "seed", "html", "svg", "png", "csv", "parquet", "record_touches", "check")
"""Options that only a scenario's run takes."""
_OF_ANSWERS = ("output", "quick")

_ABOUT = ("format", "simulation", "calibration", "seeds", "table")
"""Keys of a document that Parquet files have as metadata."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare lab``."""
    parser.add_argument(
        "scenario", metavar="SCENARIO", help="a built-in scenario's name, a file (FILE.toml), or: list; or: answer NAME"
    )
    parser.add_argument("name", nargs="?", help="with answer: which one (lab list --answers names them)")
    for name in LISTS[1:]:
        parser.add_argument(f"--{name}", action="store_true", help=f"with list: name the {name}")
    parser.add_argument("--seed", type=seed_number, metavar="N", help="of all that is drawn (default: 1)")
    parser.add_argument(
        "--seeds",
        type=positive,
        metavar="N",
        help="so many runs, from --seed on: means (default: 1); with answer: of each case (default: 10, quick: 2)",
    )
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value for a key (host.tax=0.5, guest.web.memory='512 MiB'); may be given several times",
    )
    page = parser.add_argument_group("with answer")
    page.add_argument("-o", "--output", type=Path, metavar="DIR", help="put the page and its plots here (default: .)")
    page.add_argument("--quick", action="store_true", help="a few cases and seeds: shows what a page looks like")
    add_output_arguments(parser, "the curves", html=True)
    more = parser.add_argument_group("to files, as data")
    more.add_argument("--csv", type=Path, metavar="DIR", help="write samples and tables as CSV files into this folder")
    more.add_argument("--parquet", type=Path, metavar="DIR", help="the same as Parquet (needs pyarrow)")
    more.add_argument(
        "--record-touches",
        type=_recorded,
        metavar="[GUEST=]FILE",
        help="record what a guest touches as a trace that a scenario can run (Parquet; needs pyarrow)",
    )
    more.add_argument(
        "--check", action="store_true", help="look at each sample whether all invariants hold, not only at the end"
    )


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(part and part.strip() == part for part in key.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r}: must be KEY=VALUE, such as host.tax=0.5")
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table: dict[str, Any] = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        return key, value
    return key, table["value"] if len(table) == 1 else value


def _recorded(text: str) -> tuple[str, Path]:
    guest, _equals, file = text.rpartition("=")
    if not file:
        raise argparse.ArgumentTypeError(f"{text!r}: must be FILE, or GUEST=FILE")
    return guest, Path(file)


def run(args: argparse.Namespace) -> int:
    """Simulate, print; the exit status is 0, or a signal's."""
    if args.scenario == "answer":
        from pageshare.commands import _lab_answer

        _refuse(args, (*_OF_RUNS, *LISTS[1:]), "answer` takes -o, --quick, --seeds, --force, --json and --quiet")
        return _lab_answer.run(args)
    if args.name is not None or _given(args, _OF_ANSWERS):
        raise UsageError("a second name, -o and --quick belong to `pageshare lab answer NAME`")
    if args.scenario == "list":
        taken = ", ".join(f"--{name}" for name in LISTS[1:])
        _refuse(args, (*_OF_RUNS, "seeds", "force"), f"list` takes {taken}, --json and --quiet")
        return _list(args)
    args.seeds = args.seeds or 1
    args.seed = 1 if args.seed is None else args.seed
    if asked := _given(args, LISTS[1:]):
        raise UsageError(f"{asked[0]}: for `pageshare lab list`")
    from pageshare.lab import scenario as scenarios

    try:
        path = scenarios.path_of(args.scenario)
    except scenarios.ScenarioError as error:
        raise UsageError(str(error)) from None
    files = outputs(args)
    _check(args, path)
    scenario = scenarios.read_any(path, args.set)
    if not isinstance(scenario, scenarios.Scenario):
        return _study(scenario, path.parent, args, files)
    guest = _guest_of(args, scenario)
    for own in _files_of(scenario, path.parent):
        _spare(args, own)
    courses, interrupt = _run(scenario, args, guest)
    from pageshare.lab.report import document

    told = document(courses)
    if interrupt is None:
        _save(told, courses[0], args, files)
    from pageshare.render import lab

    _show(told, args, lab.write)
    if interrupt is not None:
        raise interrupt
    return 0


def _given(args: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """Those of some options that were given, as a command line has them."""
    found = {name: getattr(args, name) for name in names}
    # A seed of 0 is given.
    return [f"--{name.replace('_', '-')}" for name, each in found.items() if each or (name == "seed" and each == 0)]


def _refuse(args: argparse.Namespace, names: Iterable[str], taken: str) -> None:
    """Raise UsageError if one of some options was given; ``taken``: who takes what else."""
    if asked := _given(args, names):
        raise UsageError(f"{asked[0]}: `pageshare lab {taken}")


def _check(args: argparse.Namespace, path: Path) -> None:
    """Raise, before anything is computed, for files that could not be written."""
    from pageshare.commands._views import check_folder

    _spare(args, path)
    if args.parquet or args.record_touches:
        from pageshare.render.parquet import check_arrow

        check_arrow()
    for folder in (args.csv, args.parquet):
        if folder:
            check_folder(folder)
    if args.record_touches:
        file = args.record_touches[1]
        check_free(file, force=args.force)
        places = {os.path.realpath(each) for form in FORMS if (each := getattr(args, form))}
        if os.path.realpath(file) in places:
            raise UsageError("name a file of its own for each of --record-touches, --svg, --png and --html")


def _spare(args: argparse.Namespace, read: Path) -> None:
    """Raise UsageError if a file that is to be written is one that is read."""
    written = {f"--{form}": getattr(args, form) for form in FORMS}
    written["--record-touches"] = args.record_touches and args.record_touches[1]
    for option, path in written.items():
        if path and path.exists() and read.exists() and path.samefile(read):
            raise UsageError(f"{option} {path}: is read: name another file")


def _files_of(scenario: Scenario, folder: Path) -> list[Path]:
    """A user's files that a scenario names."""
    named = [spec.estimator for spec in scenario.guests]
    named += [program.program for spec in scenario.guests for program in spec.programs]
    own = [folder / each.name.rpartition(":")[0] for each in named if each is not None and each.own]
    return own + [folder / each.trace_name for spec in scenario.guests for each in spec.programs if each.trace_name]


def _guest_of(args: argparse.Namespace, scenario: Scenario) -> int | None:
    """The number of the guest whose touches are to be recorded."""
    if not args.record_touches:
        return None
    names = [guest.name for guest in scenario.guests]
    wanted = args.record_touches[0]
    if not wanted and len(names) == 1:
        return 0
    if wanted not in names:
        raise UsageError(
            f"--record-touches {wanted or args.record_touches[1]}: name a guest, GUEST=FILE: {', '.join(names)}"
        )
    return names.index(wanted)


def _run(
    scenario: Scenario, args: argparse.Namespace, recorded: int | None
) -> tuple[list[Course], BaseException | None]:
    """A course for each seed; those that a signal kept from their end are left out, but for the first."""
    from pageshare.core import Control
    from pageshare.lab.course import Run

    control = Control()
    courses: list[Course] = []
    runs: list[Run] = []

    def go() -> None:
        for seed in range(args.seed, args.seed + args.seeds):
            runs.append(Run(scenario, seed, control, check=args.check))
            recording = None
            if recorded is not None and not courses:
                from pageshare.lab.recording import Recording

                recording = Recording(runs[-1].machine.guests[recorded])
            course = runs[-1].go()
            if not courses or not course.interrupted:
                courses.append(course)
            if control.stopped:
                return
            if recording is not None:
                _write_trace(recording.trace(scenario.guests[recorded or 0].name, _about(course, args)), args)

    _nothing, interrupt = run_with_share(
        partial(_apart, go),
        control,
        label="lab",
        done=lambda: (len(runs) - 1 + runs[-1].share_done) / args.seeds if runs else 0.0,
        quiet=args.quiet,
    )
    return courses, interrupt


def _about(course: Course, args: argparse.Namespace) -> dict[str, str]:
    from pageshare.render.tables import plain

    return {
        "program": plain(f"a simulated guest's, of scenario {course.scenario.name}"),
        "clock": "the guest's own virtual time",
        "command": plain(shlex.join(["pageshare", *args.given])),
    }


def _write_trace(trace: Any, args: argparse.Namespace) -> None:
    from pageshare.lab.trace import write

    write(args.record_touches[1], trace)


def _save(document: dict[str, Any], course: Course, args: argparse.Namespace, files: Sequence[Any]) -> None:
    from pageshare.render.lab import data_tables

    _save_data(document, data_tables, args)
    if not files:
        return
    from pageshare.render.lab_plot import draw, size
    from pageshare.render.plot import drawn, save

    def html() -> str:
        from pageshare.render.lab_page import page

        return page(document, drawn(partial(draw, course, titled=False), "svg", size(course)).decode())

    save(partial(draw, course), files, size=size(course), page=html)


def _save_data(
    document: dict[str, Any], data_tables: Callable[[dict[str, Any]], Iterable[Table]], args: argparse.Namespace
) -> None:
    if not args.csv and not args.parquet:
        return
    from pageshare.commands._views import write_files
    from pageshare.render.parquet import as_parquet
    from pageshare.render.tables import as_csv

    about = {key: json.dumps(document[key]) for key in _ABOUT if key in document}
    found = []
    for table in data_tables(document):
        if args.csv:
            found.append((args.csv / f"{table.name}.csv", as_csv(table).encode()))
        if args.parquet:
            found.append((args.parquet / f"{table.name}.parquet", as_parquet(table, about)))
    write_files(found)


def _apart(work: Callable[[], T]) -> T:
    """Do it; what a user's classes print does not go where the document will."""
    with contextlib.redirect_stdout(sys.stderr):
        return work()


def _show(document: dict[str, Any], args: argparse.Namespace, write: Callable[[dict[str, Any], Console], None]) -> None:
    if args.json:
        json.dump(document, sys.stdout, indent=None, separators=(",", ":"))
        sys.stdout.write("\n")
    else:
        from pageshare.render.console import show

        show(lambda console: write(document, console))
    sys.stdout.flush()


def _study(spec: StudySpec, folder: Path, args: argparse.Namespace, files: Sequence[Any]) -> int:
    """The same for a study of estimators."""
    from pageshare.core import Control
    from pageshare.lab import estimation
    from pageshare.render import lab_study

    if args.record_touches:
        raise UsageError("--record-touches: a study has no guest: record one of a scenario")
    if args.check:
        raise UsageError("--check: a study has no host whose pages could be owned twice: check a scenario")
    own = [each for each in [*spec.estimators.values(), *(each.program for each in spec.programs)] if each and each.own]
    for each in own:
        _spare(args, folder / each.name.rpartition(":")[0])
    control = Control()
    study = estimation.Study(spec, range(args.seed, args.seed + args.seeds), control)
    go = partial(_apart, study.go)
    done, interrupt = run_with_share(go, control, label="lab", done=lambda: study.share_done, quiet=args.quiet)
    told = estimation.document(spec, done, study.seeds, interrupted=control.stopped)
    if interrupt is None:
        _save_data(told, lab_study.data_tables, args)
        if files:
            _draw_study(told, files)
    _show(told, args, lab_study.write)
    if interrupt is not None:
        raise interrupt
    return 0


def _draw_study(document: dict[str, Any], files: Sequence[Any]) -> None:
    from pageshare.render import lab_study
    from pageshare.render.lab_page import study_page
    from pageshare.render.plot import drawn, save

    draw, size = partial(lab_study.draw, document), lab_study.size(document)
    save(draw, files, size=size, page=lambda: study_page(document, drawn(draw, "svg", size).decode()))


def _list(args: argparse.Namespace) -> int:
    asked = [name for name in LISTS if getattr(args, name, False)] or (LISTS if args.json else LISTS[:1])
    found = {name: _names(name) for name in asked}
    if args.json:
        json.dump({"format": "pageshare-lab-list/1", **found}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from pageshare.render.console import show
        from pageshare.render.lab import write_list

        show(lambda console: write_list({name.capitalize(): each for name, each in found.items()}, console))
    return 0


def _names(what: str) -> dict[str, str]:
    """Names of one kind, and a sentence about each."""
    from pageshare.lab import named, scenario

    if what == "scenarios":
        return scenario.built_in()
    if what == "programs":
        return {name: named.sentence(each) for name, each in named.programs().items()}
    if what == "estimators":
        from pageshare.lab.estimators import ESTIMATORS

        return {name: named.sentence(each) for name, each in ESTIMATORS.items()}
    if what == "answers":
        from pageshare.lab.answers import ANSWERS

        return dict(ANSWERS)
    if what == "policies":
        from pageshare import policies

        return {name: policies.sentence(name) for name in named.scan_policies()}
    return {name: scenario.trace_sentence(path) for name, path in scenario.traces().items()}
