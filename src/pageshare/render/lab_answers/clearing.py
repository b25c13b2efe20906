"""The page on zeroing and collecting threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pageshare.lab.answers import clearing
from pageshare.lab.answers.clearing import NONE, WATCHED, Answer, Row
from pageshare.render.lab_answers import seconds, spread, table

EQUALS, OTHERS = WATCHED[: clearing.EQUAL], WATCHED[clearing.EQUAL :]


def values(answer: Answer) -> dict[str, Any]:
    """What the template puts in."""
    traces = answer.labelled()
    made = [row for row in answer.rows if not row.source.trace]
    plain = [row for row in answer.rows if row.source.beside == NONE]
    lags = [
        [row.source.name, *(seconds(row.lags[name]) for name in WATCHED)]
        for row in answer.rows
        if not math.isnan(row.lags[WATCHED[0]])
    ]
    return {
        "clearing": clearing,
        "recorded": len(traces),
        "made_of": _made_of(len(traces)),
        "equal": {"traces": _errors(traces, EQUALS), "programs": _errors(made, EQUALS)},
        "others": {"traces": _errors(traces, OTHERS), "programs": _errors(made, OTHERS)},
        "best": answer.best(),
        "lags": table(["program", *WATCHED], lags) if lags else "",
        "goals": _goals(answer),
        "met": _met(answer),
        "standing": table(
            [
                *("estimator", "worst mean error", "where", "within 2 points"),
                *("RMSE to ESX's, without", "visits", "CPU, us"),
            ],
            [_standing(answer, name, plain) for name in WATCHED],
        ),
        "breaks": table(
            ["filter", "beside none: mean error, from .. to", "RMSE to ESX's, from .. to"],
            [_breaks(name, plain) for name in EQUALS],
        ),
    }


def _goals(answer: Answer) -> str:
    """Of the best estimator, program by program, what the goals ask for."""
    rows = []
    for row in answer.rows:
        figures = row.figures[answer.best()]
        within = abs(figures["bias"].mean) <= answer.goal
        ratio = figures["ratio"]
        judged = row.source.beside == NONE
        verdict = "" if not judged else "half" if ratio.mean <= 0.5 else "less" if ratio.mean <= 1 else "more"
        rows.append(
            [
                row.source.name,
                "recorded" if row.source.trace else "made up",
                row.source.beside,
                spread(figures["bias"], 1, 100),
                "yes" if within else "no",
                spread(ratio, 2),
                verdict,
            ]
        )
    return table(["program", "", "beside its work", "mean error", "within 2", "RMSE to ESX's", "it is"], rows)


def _met(answer: Answer) -> str:
    """Whether the goals are met, in sentences."""
    labelled = answer.labelled()
    sentences = [_within(answer, labelled, "recorded")] if labelled else []
    if len(labelled) < len(answer.rows):
        sentences.append(_within(answer, [row for row in answer.rows if row not in labelled], "made-up"))
    plain = [row for row in answer.rows if row.source.beside == NONE]
    ratios = {row.source.name: row.figures[answer.best()]["ratio"].mean for row in plain}
    more = [name for name, ratio in ratios.items() if ratio > 1]
    greater = f" (greater: {', '.join(more)})" if more else ""
    sentences.append(
        f"Where nothing clears or collects its RMSE is no greater than ESX's on {len(plain) - len(more)} of"
        f" {len(plain)}{greater}, and half of it or less on {sum(ratio <= 0.5 for ratio in ratios.values())}."
    )
    return " ".join(sentences)


def _within(answer: Answer, rows: list[Row], kind: str) -> str:
    errors = {row.source.name: row.figures[answer.best()]["bias"] for row in rows}
    beyond = [f"{name} ({spread(error, 1, 100)})" for name, error in errors.items() if abs(error.mean) > answer.goal]
    but = f"; not of {', '.join(beyond)}" if beyond else ""
    return f"Its mean error is within two points on {len(rows) - len(beyond)} of {len(rows)} {kind} programs{but}."


def _made_of(recorded: int) -> str:
    """How many programs are recorded ones, in a sentence."""
    if not recorded:
        return "All programs are made up."
    words = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    number = words[recorded - 1] if recorded <= len(words) else str(recorded)
    are = "is a\nrecorded one" if recorded == 1 else "are\nrecorded ones"
    return f"{number} of the programs {are} ([traces.md](traces.md)); the others are made up."


def _errors(rows: list[Row], names: Sequence[str]) -> str:
    return table(
        ["", "beside its work", *names],
        [[row.source.name, row.source.beside, *(_error(row, name) for name in names)] for row in rows],
    )


def _error(row: Row, name: str) -> str:
    figures = row.figures[name]
    return f"{spread(figures['bias'], 1, 100)} / {spread(figures['rmse'], 1, 100)}"


def _standing(answer: Answer, name: str, plain: list[Row]) -> list[str]:
    worst = answer.worst(name)
    ratios = [row.figures[name]["ratio"].mean for row in plain]
    every = [row.figures[name] for row in answer.rows]
    return [
        name,
        spread(worst.figures[name]["bias"], 1, 100),
        worst.source.name,
        f"{answer.within(name)} of {len(answer.rows)}",
        f"{min(ratios):.2f} .. {max(ratios):.2f}",
        _range([figures["visits"].mean for figures in every]),
        _range([figures["microseconds"].mean for figures in every]),
    ]


def _breaks(name: str, plain: list[Row]) -> list[str]:
    errors = [100 * row.figures[name]["bias"].mean for row in plain]
    ratios = [row.figures[name]["ratio"].mean for row in plain]
    return [name, f"{min(errors):+.1f} .. {max(errors):+.1f}", f"{min(ratios):.2f} .. {max(ratios):.2f}"]


def _range(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} .. {high:,.0f}"


def draw(answer: Answer, canvas: Any) -> None:
    """Mean errors, a row for each source and a column for each estimator."""
    axes = canvas.subplots()
    errors = [[100 * row.figures[name]["bias"].mean for name in WATCHED] for row in answer.rows]
    axes.imshow(errors, cmap="RdBu_r", vmin=-50, vmax=50, aspect="auto")
    for i, line in enumerate(errors):
        for j, error in enumerate(line):
            colour = "white" if abs(error) > 30 else "black"
            axes.text(j, i, f"{round(error):+d}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(WATCHED)), WATCHED, rotation=30, ha="right")
    axes.set_yticks(range(len(answer.rows)), [f"{row.source.name} ({row.source.beside})" for row in answer.rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("mean error, in points", loc="left", fontsize=9)


PLOTS = (("clearing-errors.svg", draw, (10.5, 5.4)),)
