"""The page on curves of misses."""

from __future__ import annotations

import math
from typing import Any

from pageshare.lab.answers import misses
from pageshare.lab.answers.misses import Answer, Row
from pageshare.render.lab_answers import spread, table
from pageshare.render.plot import FAINT

WORK, SEEN, SAMPLED = "#1b7f3b", "#1c1c1c", "#0b62c4"
SHOWN = misses.RATES[0]
"""The rate that is drawn."""


def values(answer: Answer) -> dict[str, Any]:
    """What the template puts in."""
    misled = [row for row in answer.rows if row.others]
    by = {rate: [row.sampled[rate] for row in answer.rows] for rate in misses.RATES}
    return {
        "misses": misses,
        "errors": {rate: _range([100 * each.error.mean for each in its], 1) for rate, its in by.items()},
        "visits": {rate: _range([each.visits.mean for each in its], 0) for rate, its in by.items()},
        "microseconds": {rate: _range([each.microseconds.mean for each in its], 0) for rate, its in by.items()},
        "misled": [told for row in misled if (told := _misled(row))],
        "apart": _range([100 * _apart(row) for row in misled], 1) if misled else "",
        "rates": table(
            ["program", *(f"{100 * rate:g} % watched" for rate in misses.RATES), *("visits", "faults", "CPU, us")],
            [_rates(row) for row in answer.rows],
        ),
        "needed": {most: _needed(answer, place) for place, most in enumerate(misses.MOST)},
    }


def _range(numbers: list[float], digits: int) -> str:
    low, high = (f"{number:,.{digits}f}" for number in (min(numbers), max(numbers)))
    return low if low == high else f"{low} to {high}"


def _apart(row: Row) -> float:
    """How far the curve of all touches lies from that of work, on average over all sizes."""
    return math.fsum(abs(one - other) for one, other in zip(row.all, row.work, strict=True)) / len(row.all)


def _misled(row: Row) -> str:
    most = misses.MOST[-1]
    every, work = (_memory(misses.needed(curve, most)) for curve in (row.all, row.work))
    return f"{row.trace} {every} instead of {work}" if every != work else ""


def _memory(share: float) -> str:
    return "more than all" if math.isnan(share) else f"{100 * share:.0f} %"


def _rates(row: Row) -> list[str]:
    shown = row.sampled[SHOWN]
    return [
        row.trace,
        *(spread(row.sampled[rate].error, 1, 100) for rate in misses.RATES),
        spread(shown.visits, 0),
        spread(shown.faults, 0),
        spread(shown.microseconds, 0),
    ]


def _needed(answer: Answer, place: int) -> str:
    most = misses.MOST[place]
    headings = ["program", "work alone", "all touches", *(f"{100 * rate:g} % watched" for rate in misses.RATES)]
    rows = []
    for row in answer.rows:
        known = [_memory(misses.needed(curve, most)) for curve in (row.work, row.all)]
        sampled = [row.sampled[rate].needed[place] for rate in misses.RATES]
        # With some seeds no size is enough.
        told = ["up to all" if math.isnan(each.mean) else f"{spread(each, 0, 100)} %" for each in sampled]
        rows.append([row.trace, *known, *told])
    return table(headings, rows)


def draw(answer: Answer, canvas: Any) -> None:
    """Share of touches that miss over memory, a panel for each program."""
    columns = min(4, len(answer.rows))
    lines = -(-len(answer.rows) // columns)
    panels = canvas.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, row in zip(panels, answer.rows, strict=False):
        x = [100 * i / (len(row.all) - 1) for i in range(len(row.all))]
        its = row.sampled[SHOWN]
        work, every, mean = ([100 * share for share in curve] for curve in (row.work, row.all, its.curve))
        away = [100 * deviation for deviation in its.deviation]
        axes.fill_between(x, work, color=WORK, alpha=0.22, linewidth=0, label="work alone")
        axes.plot(x, every, color=SEEN, linewidth=1.3, label="all touches")
        low = [max(0.0, share - by) for share, by in zip(mean, away, strict=True)]
        high = [min(100.0, share + by) for share, by in zip(mean, away, strict=True)]
        axes.fill_between(x, low, high, color=SAMPLED, alpha=0.25, linewidth=0)
        label = f"{100 * SHOWN:g} % of pages watched"
        axes.plot(x, mean, color=SAMPLED, linewidth=1.2, linestyle=(0, (4, 1.5)), label=label)
        axes.set_title(row.trace, loc="left", fontsize=9)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 102)
        axes.grid(color=FAINT, alpha=0.2, linewidth=0.6)
    for axes in panels[len(answer.rows) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("% of touches that miss")
    for axes in panels[len(answer.rows) - columns : len(answer.rows)]:
        axes.set_xlabel("memory, % of the program's pages")
    handles, names = panels[0].get_legend_handles_labels()
    canvas.legend(handles, names, fontsize=8, frameon=False, loc="outside upper right", ncols=3)


PLOTS = (("misses-curves.svg", draw, (10.5, 5.2)),)
