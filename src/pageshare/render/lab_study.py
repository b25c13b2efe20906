"""The views of a study of estimators: its tables, what a terminal shows, and curves."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from pageshare.images import printable
from pageshare.render.console import say
from pageshare.render.lab import CALIBRATION, caption, captioned, said_so
from pageshare.render.lab_plot import GREEN, STACK
from pageshare.render.plot import FAINT
from pageshare.render.tables import Column, Table, shortened
from pageshare.render.units import clock

ROWS = 10
"""Of a table of misses, one more."""
LINES = [colour for colour in STACK if colour != GREEN]


def headline(document: Mapping[str, Any]) -> str:
    """Which estimator errs least, over all programs."""
    if not document["programs"]:
        return "Nothing was run to its end."
    errors = _errors(document)
    if not errors:
        return "Nothing is judged: no program says what its touches are for."
    best = min(errors, key=errors.__getitem__)
    if len(errors) == 1:
        return f"{best} errs by {errors[best]:.1f} points on average."
    judged = "all programs" if all(program["labelled"] for program in document["programs"]) else "those judged"
    return f"{best} errs least: by {errors[best]:.1f} points of 100, as root mean square over {judged}."


def _errors(document: Mapping[str, Any]) -> dict[str, float]:
    """RMSE of each estimator over all programs, in points."""
    squares: dict[str, list[float]] = {}
    for program in document["programs"]:
        for each in program["estimators"] if program["labelled"] else ():
            squares.setdefault(each["name"], []).append(each["rmse"] ** 2)
    return {name: 100 * (sum(of) / len(of)) ** 0.5 for name, of in squares.items()}


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The same of each estimator, and what it looks at."""
    if not document["programs"]:
        return
    errors = _errors(document)
    names = dict.fromkeys(each["name"] for program in document["programs"] for each in program["estimators"])
    for name in sorted(names, key=lambda name: errors.get(name, 0.0)):
        costs = [
            each["visits"] for program in document["programs"] for each in program["estimators"] if each["name"] == name
        ]
        points = f"{errors[name]:.1f} points, " if name in errors else ""
        yield f"{name}: {points}{sum(costs) / len(costs):,.0f} pages looked at each 30 s"


def settings(document: Mapping[str, Any]) -> str:
    """What ran."""
    seeds = document["seeds"]
    words = f"{document['scenario']}: {clock(document['duration'])} of each guest's time, the first"
    words += f" {clock(document['warm_up'])} left out of all figures, "
    words += f"seed {seeds[0]}" if len(seeds) == 1 else f"means of {len(seeds)} seeds, from {seeds[0]} on"
    return words + ("; interrupted" if document["interrupted"] else "")


def tables(document: Mapping[str, Any]) -> list[Table]:
    """One for each program, and what it all rests on."""
    columns = (
        Column("estimator", "estimator", "text"),
        Column("mean", "estimate", "share"),
        Column("rmse", "error", "share"),
        Column("bias", "bias", "share"),
        Column("lag", "lag", "seconds"),
        Column("visits", "visits", "number"),
        Column("faults", "faults", "number"),
        Column("microseconds", "CPU us", "number"),
        Column("mae", "absolute error", "share"),
        Column("tests", "tests", "number"),
        Column("hypercalls", "messages", "number"),
        Column("rmse_sd", "+- of error", "share"),
    )
    note = caption("program", columns)
    found = []
    for number, program in enumerate(document["programs"]):
        rows = [
            tuple(
                each["name"]
                if column.key == "estimator"
                else (each["spread"] or {}).get("rmse")
                if column.key == "rmse_sd"
                else each[column.key]
                for column in columns
            )
            for each in sorted(program["estimators"], key=lambda each: float(each["rmse"] or 0))
        ]
        used = "in use on average" if program["labelled"] else "touched by anybody (unlabelled: not judged)"
        title = f"{shortened(printable(program['name']), 40)}: {100 * program['truth']:.1f} % {used}"
        found.append(Table(f"program-{number + 1}", title, columns, rows, 4096, note))
        if curves := _curves(program):
            found.append(_misses(program, number, curves))
    told = (Column("what", "", "text"), Column("value", "value", "text"), Column("source", "from", "text"))
    rows = [(each["what"], each["value"], each["source"]) for each in document["calibration"]]
    return [*found, Table("calibration", CALIBRATION, told, rows, 4096)]


def _curves(program: Mapping[str, Any]) -> dict[str, list[float]]:
    """The curves of misses, by the estimators that make one."""
    return {each["name"]: each["misses"] for each in program["estimators"] if each["misses"]}


def _misses(program: Mapping[str, Any], number: int, curves: Mapping[str, list[float]]) -> Table:
    columns = [Column("size", "memory", "share")]
    columns += [Column(f"misses {name}", name, "share") for name in curves]
    values = list(zip(*curves.values(), strict=True))
    last = len(values) - 1
    rows = [(place / last, *values[place]) for place in range(0, last + 1, last // ROWS)]
    title = f"{shortened(printable(program['name']), 40)}: touches that miss, by memory"
    return Table(f"misses-{number + 1}", title, tuple(columns), rows, 4096, caption("misses", columns))


def data_tables(document: Mapping[str, Any]) -> list[Table]:
    """What CSV and Parquet have: all samples, and the tables for people."""
    columns = (
        Column("program", "program", "text"),
        Column("estimator", "estimator", "text"),
        Column("seconds", "time", "seconds"),
        Column("truth", "truth", "share"),
        Column("estimate", "estimate", "share"),
    )
    rows = []
    for program in document["programs"]:
        samples = program["samples"]
        for each, estimates in zip(program["estimators"], samples["estimates"], strict=True):
            rows += [
                (program["name"], each["name"], *values)
                for values in zip(samples["seconds"], samples["truth"], estimates, strict=True)
            ]
    samples = Table("samples", "Estimates over time", columns, rows, 4096, document["simulation"])
    return [samples, *(said_so(each, document) for each in tables(document))]


def write(document: Mapping[str, Any], console: Console) -> None:
    """Print a study's document (``lab.estimation.document``)."""
    say(console, printable(headline(document)), style="bold")
    for line in lines(document):
        say(console, printable(line), indent="  ")
    say(console, printable(settings(document)), indent="  ")
    if document["about"]:
        say(console, printable(document["about"]), indent="  ")
    console.print()
    say(console, document["simulation"])
    notes: dict[str, list[str]] = {}
    for table in tables(document)[:-1]:
        console.print()
        name = table.name.rpartition("-")[0]
        notes.setdefault(name, []).append(captioned(table, name, console))
    for its in notes.values():
        say(console, max(its, key=len))
    console.print()
    say(console, CALIBRATION, style="bold")
    for each in document["calibration"]:
        told = f"{each['value']} ({each['source']})" if each["value"] else each["source"]
        say(console, printable(f"{each['what']}: {told}"), indent="  ")


def size(document: Mapping[str, Any]) -> tuple[float, float]:
    """Inches."""
    return 10, 2.4 * max(1, len(document["programs"])) + 0.9


def _draw_misses(program: Mapping[str, Any], axes: Any) -> None:
    colours = {each["name"]: LINES[number % len(LINES)] for number, each in enumerate(program["estimators"])}
    for name, curve in _curves(program).items():
        x = [100 * place / (len(curve) - 1) for place in range(len(curve))]
        axes.plot(x, [100 * share for share in curve], color=colours[name], linewidth=1.2)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 104)
    axes.set_title("% of touches that miss", fontsize=9, loc="left")


def draw(document: Mapping[str, Any], canvas: Any) -> None:
    """Truth and estimates over time, program by program, on a matplotlib figure."""
    programs = document["programs"]
    beside = any(_curves(program) for program in programs)
    widths = {"width_ratios": (3, 1)} if beside else {}
    grid = canvas.subplots(max(1, len(programs)), 1 + beside, sharex="col", squeeze=False, **widths)
    all_axes = grid[:, 0]
    for program, axes in zip(programs, all_axes, strict=False):
        samples = program["samples"]
        minutes = [seconds / 60 for seconds in samples["seconds"]]
        truth = [100 * share for share in samples["truth"]]
        axes.fill_between(minutes, truth, color=GREEN, alpha=0.22, linewidth=0)
        axes.plot(minutes, truth, color=GREEN, linewidth=1.4, label="truth")
        unlabelled = "" if program["labelled"] else ": touched by anybody, for nobody has labelled it"
        for number, (each, estimates) in enumerate(zip(program["estimators"], samples["estimates"], strict=True)):
            line = ("-", (0, (4, 1.5)), (0, (1.5, 1.2)))[number // len(LINES) % 3]
            values = [100 * share for share in estimates]
            label = shortened(printable(each["name"]), 40)
            axes.plot(minutes, values, line, color=LINES[number % len(LINES)], linewidth=1.2, label=label)
        axes.axvline(document["warm_up"] / 60, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set_ylim(0, 104)
        axes.set_xlim(0, document["duration"] / 60)
        axes.set_ylabel("% in use")
        axes.set_title(f"{shortened(printable(program['name']), 60)}{unlabelled}", fontsize=9, loc="left")
    for program, axes in zip(programs, grid[:, 1] if beside else (), strict=False):
        _draw_misses(program, axes)
    all_axes[-1].set_xlabel("minutes of the guest's time")
    if beside:
        grid[-1, 1].set_xlabel("memory, % of the guest's")
    handles, names = all_axes[0].get_legend_handles_labels()
    canvas.legend(
        handles, names, fontsize=8, frameon=False, loc="outside upper right", ncols=min(5, max(1, len(names)))
    )
    text = f"{document['simulation']} Left of the dotted line: left out of all figures."
    canvas.supxlabel("\n".join(textwrap.wrap(text, 165)), x=0.01, ha="left", fontsize=7, color=FAINT)
