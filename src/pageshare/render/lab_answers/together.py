"""The page on sharing, ballooning and swapping together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pageshare.lab.answers import together
from pageshare.lab.answers.together import Answer, Row
from pageshare.render.lab_answers import number, spread, table

COLOURS = ("#1c1c1c", "#0b62c4", "#1b7f3b", "#b35c00", "#7b3294")

SEEN = 0.00005
"""The least share of time waited that two digits of a percentage show."""


def values(answer: Answer) -> dict[str, Any]:
    """What the template puts in."""
    settings = list(dict.fromkeys((row.case.disk, row.case.mix) for row in answer.rates))
    return {
        "together": together,
        "host": f"{together.PER_GIB:g} such hosts",
        "calm": _calm(answer),
        "disks": [_conclusion(answer, disk) for disk in dict.fromkeys(row.case.disk for row in answer.rates)],
        "fetches": _fetches(answer),
        "missing": _listed(
            f"{100 * (1 - 1 / pressure):.0f} % at {pressure:g}"
            for pressure in sorted({row.case.pressure for row in answer.rates})
            if pressure > 1
        ),
        "case": answer.rates[0].case,
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


def _listed(texts: Iterable[str]) -> str:
    *first, last = list(texts) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _best_of(rows: list[Row]) -> Row:
    """The slowest rate that is as good as the best one: to a standard deviation of this, where that is known."""
    least = min((row.figures["cost"] for row in rows), key=lambda cost: cost.mean)
    within = 0.0 if math.isnan(least.deviation) else least.deviation
    good = [row for row in rows if row.figures["cost"].mean <= least.mean + within]
    return min(good, key=lambda row: row.case.rate)


def _without(rows: list[Row]) -> Row:
    return next(row for row in rows if not row.case.rate)


def _calm(answer: Answer) -> str:
    """The pressures at which nobody waits even without a scan."""
    waits: dict[float, float] = {}
    for rows in _groups(answer):
        pressure = rows[0].case.pressure
        waits[pressure] = max(waits.get(pressure, 0.0), _without(rows).figures["waits"].mean)
    calm = [f"{pressure:g}" for pressure, most in waits.items() if most < SEEN]
    return _listed(calm)


def _conclusion(answer: Answer, disk: str) -> str:
    """What rates are worth on a disk, mix by mix, at the pressures at which guests wait."""
    paid, unpaid, fastest = [], [], ""
    most = max(row.case.rate for row in answer.rates)
    for mix in dict.fromkeys(row.case.mix for row in answer.rates):
        its = [rows for rows in _groups(answer) if (rows[0].case.disk, rows[0].case.mix) == (disk, mix)]
        its = [rows for rows in its if _without(rows).figures["waits"].mean >= SEEN]
        pays = [rows for rows in its if _best_of(rows).case.rate]
        rest = [rows for rows in its if rows not in pays]
        where = f"where sharing can save {mix.name},"
        paid += [f"{where} {_listed(map(_paid, pays))}"] if pays else []
        unpaid += [f"{where} {_listed(map(_unpaid, rest))}"] if rest else []
        if any(_best_of(rows).case.rate == most for rows in pays):
            fastest = f" {_rate(most)} is the fastest that was tried."
    told = [f"the best rate brings the cost, {'; '.join(paid)}.{fastest}"] if paid else []
    if unpaid:
        told.append(
            f"{'Elsewhere' if paid else 'where guests wait,'} no rate that was tried is worth its CPU. The fastest, "
            f"{_rate(most)}, brings what guests lose by waiting, {'; '.join(unpaid)}."
        )
    return f"**On {_named(disk)}** {' '.join(told) if told else 'guests wait for nothing.'}"


def _named(disk: str) -> str:
    return {"disk": "a disk"}.get(disk, disk)


def _paid(rows: list[Row]) -> str:
    best, none = _best_of(rows), _without(rows)
    before, after = (100 * row.figures["cost"].mean for row in (none, best))
    return f"{_from_to(before, after)} at a pressure of {none.case.pressure:g} ({_rate(best.case.rate)})"


def _unpaid(rows: list[Row]) -> str:
    fastest, none = max(rows, key=lambda row: row.case.rate), _without(rows)
    before, after = (100 * row.figures["lost"].mean for row in (none, fastest))
    cpu = 100 * fastest.figures["cpu"].mean
    return f"{_from_to(before, after)} at a pressure of {none.case.pressure:g} (the scan takes {cpu:.2f} %)"


def _from_to(before: float, after: float) -> str:
    digits = 2 if f"{before:.2f}" != f"{after:.2f}" else 3
    return f"from {before:.{digits}f} to {after:.{digits}f} %"


def _fetches(answer: Answer) -> str:
    """What it takes to fetch a page again, in visits of the scan."""
    told = []
    for disk in dict.fromkeys(row.case.disk for row in answer.rates):
        latency, bandwidth = together.DISKS[disk]
        time = latency + 1e6 / bandwidth
        told.append(f"{time:,.0f} us from {_named(disk)}, as long as {time / answer.visit:,.0f} pages scanned")
    return "; ".join(told)


def _best(rows: list[Row]) -> list[str]:
    case, best, none = rows[0].case, _best_of(rows), _without(rows)
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
            *("pressure", "scanned", "saved, MB", "waits, %", "lost, %", "scan, %", "cost, %"),
            *("swapped, MB/min", "paged, MB/min", "broken/s"),
        ],
        [
            [
                f"{row.case.pressure:g}",
                _rate(row.case.rate),
                spread(row.figures["saved"]),
                spread(row.figures["waits"], 2, 100),
                number(100 * row.figures["lost"].mean, 2),
                number(100 * row.figures["cpu"].mean, 2),
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
    panels[0].set_ylabel("cost, % of a CPU for each GiB:\nguests that wait, and the scan")
    panels[0].legend(title="pressure", frameon=False, fontsize=8, title_fontsize=8)


PLOTS = (("together-rates.svg", draw, (10.5, 3.6)),)
