"""The page on sharing, ballooning and swapping together."""

from __future__ import annotations

from typing import Any

from pageshare.lab.answers import together
from pageshare.lab.answers.together import Answer, Row
from pageshare.render.lab_answers import spread, table

COLOURS = ("#1c1c1c", "#0b62c4", "#1b7f3b", "#b35c00", "#7b3294")


def values(answer: Answer) -> dict[str, Any]:
    """What the template puts in."""
    settings = list(dict.fromkeys((row.case.disk, row.case.mix) for row in answer.rates))
    return {
        "together": together,
        "whole": len({row.case.pressure for row in answer.rates}) == len(together.PRESSURES),
        "best": table(
            ["", "pressure", "best rate", "cost, %", "cost without, %", "waits without, %"],
            [_best(rows) for rows in _groups(answer)],
        ),
        "rates": {
            setting: _rates([row for row in answer.rates if (row.case.disk, row.case.mix) == setting])
            for setting in settings
        },
        "policies": {
            disk: _policies([row for row in answer.policies if row.case.disk == disk])
            for disk in dict.fromkeys(row.case.disk for row in answer.policies)
        },
        "policy_case": answer.policies[0].case,
    }


def _groups(answer: Answer) -> list[list[Row]]:
    keys = dict.fromkeys((row.case.disk, row.case.mix, row.case.pressure) for row in answer.rates)
    return [[row for row in answer.rates if (row.case.disk, row.case.mix, row.case.pressure) == key] for key in keys]


def _rate(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate else "none"


def _best(rows: list[Row]) -> list[str]:
    """The slowest rate that is as good as the best one: to a standard deviation of this."""
    case = rows[0].case
    least = min((row.figures["cost"] for row in rows), key=lambda cost: cost.mean)
    good = [row for row in rows if not row.figures["cost"].mean > least.mean + least.deviation]
    best = min(good, key=lambda row: row.case.rate)
    none = next(row for row in rows if not row.case.rate)
    return [
        f"{case.disk}; sharing can save {case.mix.name}",
        f"{case.pressure:g}",
        _rate(best.case.rate),
        spread(best.figures["cost"], 2, 100),
        spread(none.figures["cost"], 2, 100),
        spread(none.figures["waits"], 2, 100),
    ]


def _rates(rows: list[Row]) -> str:
    return table(
        [
            *("pressure", "scanned", "saved, MB", "waits, %", "scan, % of a CPU", "cost, %"),
            *("swapped, MB/min", "paged, MB/min", "broken/s"),
        ],
        [
            [
                f"{row.case.pressure:g}",
                _rate(row.case.rate),
                spread(row.figures["saved"]),
                spread(row.figures["waits"], 2, 100),
                f"{100 * row.figures['cpu'].mean:.2f}",
                spread(row.figures["cost"], 2, 100),
                spread(row.figures["swapped"]),
                spread(row.figures["paged"]),
                f"{row.figures['broken'].mean:.1f}",
            ]
            for row in rows
        ],
    )


def _policies(rows: list[Row]) -> str:
    return table(
        ["order", "saved, MB", "waits, %", "cost, %", "broken/s"],
        [
            [
                row.case.policy,
                spread(row.figures["saved"]),
                spread(row.figures["waits"], 2, 100),
                spread(row.figures["cost"], 2, 100),
                f"{row.figures['broken'].mean:.1f}",
            ]
            for row in rows
        ],
    )


def draw(answer: Answer, canvas: Any) -> None:
    """Cost over the scan rate, a line for each pressure; a panel for each disk and mix."""
    settings = list(dict.fromkeys((row.case.disk, row.case.mix) for row in answer.rates))
    panels = canvas.subplots(1, len(settings), squeeze=False)[0]
    for axes, (disk, mix) in zip(panels, settings, strict=True):
        rows = [row for row in answer.rates if (row.case.disk, row.case.mix) == (disk, mix)]
        for pressure, colour in zip(dict.fromkeys(row.case.pressure for row in rows), COLOURS, strict=False):
            its = [row for row in rows if row.case.pressure == pressure]
            x = [max(row.case.rate, 10.0) for row in its]
            y = [100 * row.figures["cost"].mean for row in its]
            error = [100 * row.figures["cost"].deviation for row in its]
            axes.errorbar(x, y, error, color=colour, marker="o", markersize=3, capsize=2, label=f"{pressure:g}")
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{disk}; can save {mix.name}", loc="left", fontsize=9)
        axes.set_xlabel("pages/s for each GiB\n(none at the left)")
    panels[0].set_ylabel("cost, % of a CPU:\nguests that wait, and the scan")
    panels[0].legend(title="pressure", frameon=False, fontsize=8, title_fontsize=8)


PLOTS = (("together-rates.svg", draw, (10.5, 3.6)),)
