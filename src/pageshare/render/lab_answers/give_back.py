"""The page on how ballooned pages come back."""

from __future__ import annotations

from typing import Any

from pageshare.lab.answers import give_back
from pageshare.lab.answers.give_back import PARTS, Answer
from pageshare.render.lab_answers import spread, table
from pageshare.render.plot import FAINT, INK


def values(answer: Answer) -> dict[str, Any]:
    """What the template puts in."""
    plain = answer.variants[0].figures
    paged = {row.name: row.figures["paged"].mean for row in answer.needs}
    polled, rung, pleads = (paged[need.name] for need in give_back.NEEDS)
    return {
        "each": answer.scenes // answer.seeds,
        "waits_for_poll": polled > 0,
        "rung_helps": rung < polled,
        "pleading_helps": pleads < polled,
        "variants": table(
            ["protocol", "lost", "not zeroed", "owned twice, or by nobody", "host mistaken", "pops", "resets"],
            [
                [
                    row.name,
                    *(_share(row.figures[kind].mean) for kind in ("lost", "unzeroed", "owned", "annotated")),
                    spread(row.figures["pops"], 0),
                    spread(row.figures["resets"], 0),
                ]
                for row in answer.variants
            ],
        ),
        "needs": table(
            ["driver", "waits, ms", "pages paged out"],
            [[row.name, spread(row.figures["milliseconds"]), spread(row.figures["paged"], 0)] for row in answer.needs],
        ),
        "events": round(plain["events"].mean * answer.scenes),
        "held": all(plain[kind].mean == 0 for kind in give_back.BREAKS),
    }


def _share(mean: float) -> str:
    return f"{100 * mean:.0f} %" if mean else "never"


def draw_sequence(answer: Answer, canvas: Any) -> None:
    """Who says what to whom, from top to bottom."""
    axes = canvas.subplots()
    places = {name: number for number, name in enumerate(PARTS)}
    for name, x in places.items():
        axes.plot([x, x], [0, len(answer.steps) + 1], color=FAINT, linewidth=0.8, linestyle=":")
        axes.text(x, -0.4, name, ha="center", va="bottom", fontweight="bold", fontsize=9)
    for row, step in enumerate(answer.steps, 1):
        begin, end = places[step.sender], places[step.receiver]
        axes.text(-0.75, row, f"{step.time / 1000:.0f} ms", ha="right", va="center", color=FAINT, fontsize=7.5)
        if begin == end:
            axes.plot([begin], [row], "s", color=INK, markersize=4)
            axes.text(begin + 0.06, row, step.what, va="center", fontsize=8)
            continue
        axes.annotate("", (end, row), (begin, row), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1})
        axes.text((begin + end) / 2, row - 0.08, step.what, ha="center", va="bottom", fontsize=8)
    axes.set_xlim(-0.8, len(PARTS) - 0.1)
    axes.set_ylim(len(answer.steps) + 1, -1.2)
    axes.set_axis_off()


PLOTS = (("give-back-sequence.svg", draw_sequence, (8.5, 7.5)),)
