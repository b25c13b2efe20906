"""The page on poll intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pageshare.lab.answers import polls
from pageshare.lab.answers.polls import Answer, Case, Row
from pageshare.render.lab_answers import spread, table
from pageshare.render.plot import FAINT

COLOURS = ("#0b62c4", "#1b7f3b", "#b35c00", "#7b3294")


def values(answer: Answer) -> dict[str, Any]:
    """What the template puts in."""
    forms = answer.forms
    kinds: dict[tuple[bool, str, str], list[Row]] = {}
    for row in forms:
        kinds.setdefault((row.case.scattered, row.case.estimator, row.case.disk), []).append(row)
    disks = [disk for disk in polls.DISKS if any(row.case.disk == disk for row in answer.periods)]
    return {
        "periods": {disk: _periods([row for row in answer.periods if row.case.disk == disk]) for disk in disks},
        "forms": {kind: _forms(rows) for kind, rows in kinds.items()},
        "goal": _goal(forms),
        "knees": _knees(answer.periods),
        "polls": polls,
    }


def _periods(rows: list[Row]) -> str:
    rises = sorted({row.case.rise for row in rows})
    periods = sorted({_period(row.case) for row in rows})
    found = {(_period(row.case), row.case.rise): row.figures for row in rows}
    lines = []
    for period in periods:
        cells = [f"{period:g} s"]
        for rise in rises:
            figures = found[period, rise]
            cells.append(spread(figures["stalled"], 1, 100))
            cells.append(f"{figures['swapped'].mean:.1f} + {figures['paged'].mean:.1f}")
        cells.append(f"{found[period, rises[0]]['messages'].mean:,.0f}")
        lines.append(cells)
    headings = ["poll every"]
    for rise in rises:
        headings += [f"waits %, {rise:g} s", "MB"]
    return table([*headings, "messages/s"], lines)


def _forms(rows: list[Row]) -> str:
    return table(
        ["balloon", "waits, %", "swapped, MB", "paged, MB", "messages/s", "hard or low, %"],
        [
            [
                row.case.form.name,
                spread(row.figures["stalled"], 2, 100),
                spread(row.figures["swapped"]),
                spread(row.figures["paged"]),
                spread(row.figures["messages"]),
                spread(row.figures["pressed"], 1, 100),
            ]
            for row in rows
        ],
    )


def _period(case: Case) -> float:
    return case.form.polls.period / 1e6 if case.form.polls is not None else 0.0


def _by_period(rows: list[Row], rise: float, disk: str) -> list[Row]:
    its = [row for row in rows if (row.case.rise, row.case.disk) == (rise, disk)]
    return sorted(its, key=lambda row: _period(row.case))


def _goal(rows: list[Row]) -> list[dict[str, Any]]:
    """For each setting, the one-second poll and the form that waits least at no more messages."""
    found = []
    settings = dict.fromkeys((row.case.scattered, row.case.estimator, row.case.disk) for row in rows)
    for setting in settings:
        its = [row for row in rows if (row.case.scattered, row.case.estimator, row.case.disk) == setting]
        second = next(row for row in its if row.case.form.name == polls.FORMS[0].name)
        most = second.figures["messages"].mean
        others = [row for row in its if row is not second and row.figures["messages"].mean <= most]
        if not others:
            continue
        best = min(others, key=lambda row: row.figures["stalled"].mean)
        waits = second.figures["stalled"].mean
        found.append(
            {
                "setting": setting,
                "second": second,
                "best": best,
                "ratio": best.figures["stalled"].mean / waits if waits else float("nan"),
            }
        )
    return found


def _knees(rows: list[Row]) -> str:
    """Where paging begins, beside the closed form: it is avoided while D (W + R / B) < G, for a wait W of up to T."""
    lines = []
    for disk in polls.DISKS:
        for rise in sorted({row.case.rise for row in rows}):
            its = _by_period(rows, rise, disk)
            if not its:
                continue
            least = its[0].figures["stalled"].mean
            hurt = [row for row in its if row.figures["stalled"].mean > max(2 * least, least + 0.005)]
            critical = polls.critical_period(its[0].case)
            lines.append(
                [
                    f"{disk}, {rise:g} s",
                    f"{critical:.2g} s" if critical > 0 else "none",
                    f"{_period(hurt[0].case):g} s" if hurt else f"none up to {_period(its[-1].case):g} s",
                ]
            )
    return table(["disk, rise", "T*, closed form", "first period that hurts"], lines)


def draw_periods(answer: Answer, canvas: Any) -> None:
    """Time that guests wait, over the period, a line for each rise; a panel for each disk."""
    disks = [disk for disk in polls.DISKS if any(row.case.disk == disk for row in answer.periods)]
    panels = canvas.subplots(1, len(disks), squeeze=False)[0]
    for axes, disk in zip(panels, disks, strict=True):
        rises = sorted({row.case.rise for row in answer.periods if row.case.disk == disk})
        for rise, colour in zip(rises, COLOURS, strict=False):
            rows = _by_period(answer.periods, rise, disk)
            x = [_period(row.case) for row in rows]
            y = [100 * row.figures["stalled"].mean for row in rows]
            error = [100 * row.figures["stalled"].deviation for row in rows]
            axes.errorbar(x, y, error, color=colour, marker="o", markersize=3, capsize=2, label=f"{rise:g} s")
        axes.set_xscale("log")
        axes.axvline(1, color=FAINT, linewidth=0.8, linestyle=":")
        axes.set_title(_disk(disk), loc="left", fontsize=9)
        axes.set_xlabel("seconds between two polls")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("% of the time that guests wait")
    panels[0].legend(title="need rises within", frameon=False, fontsize=8, title_fontsize=8)


def _disk(name: str) -> str:
    latency, bandwidth = polls.DISKS[name]
    return f"{name}: {latency / 1000:g} ms, {bandwidth / polls.MB:g} MB/s"


def draw_forms(answer: Answer, canvas: Any) -> None:
    """Time that guests wait against messages, a point for each form of balloon."""
    settings: Mapping[tuple[str, str], list[Row]] = {}
    settings = {}
    for row in answer.forms:
        if row.case.scattered:
            settings.setdefault((row.case.estimator, row.case.disk), []).append(row)
    panels = canvas.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(row.case.form.name for row in answer.forms))
    markers = "os^Dv<>PX*hd"
    for axes, ((estimator, disk), rows) in zip(panels, settings.items(), strict=True):
        for row in rows:
            number = names.index(row.case.form.name)
            axes.errorbar(
                max(row.figures["messages"].mean, 0.1),
                max(100 * row.figures["stalled"].mean, 0.01),
                100 * row.figures["stalled"].deviation,
                marker=markers[number % len(markers)],
                color=f"C{number % 10}",
                markersize=6,
                capsize=2,
                label=row.case.form.name,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(f"{disk}; targets by {estimator}", loc="left", fontsize=9)
        axes.set_xlabel("messages a second")
    panels[0].set_ylabel("% of the time that guests wait")
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.legend(handles, labels, frameon=False, fontsize=7.5, loc="outside lower center", ncols=3)


PLOTS = (("polls-periods.svg", draw_periods, (9, 3.6)), ("polls-forms.svg", draw_forms, (10, 4.6)))
