"""The page on figures 2, 6, 7 and 8 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pageshare.lab.answers import figures
from pageshare.lab.answers._seeds import Spread
from pageshare.lab.answers.figures import Answer, Dbench, Row
from pageshare.lab.memory import SECOND, WINDOW
from pageshare.render.lab_answers import spread, table
from pageshare.render.plot import INK

IDLE, BUSY, FORM, SWAPPED = "#0b62c4", "#b35c00", "#666666", "#7b3294"
MEMORY, READ_OFF, TEXT = "from memory", "read off the figure, from memory", "the paper's text"


def values(answer: Answer) -> dict[str, Any]:
    """What the template puts in."""
    return {
        "figures": figures,
        "kernel": answer.kernel(),
        "kernels": answer.kernels(),
        "minutes": {
            "taxed": answer.taxed[0].case.minutes,
            "booted": answer.booted[0].case.minutes,
            "drawn": round(answer.memory.minutes[-1]),
        },
        "two": _two(answer),
        "six": _six(answer),
        "six_values": _six_values(answer),
        "seven": _seven(answer),
        "seven_values": _seven_values(answer),
        "eight": _eight(answer),
        "spike": next(row for row in answer.touching if row.case.zeroing).figures["spike"].mean > 0,
        "idle_above": all(
            row.figures["idle"].mean > figures.closed_form(row.case.tax)[0] for row in answer.taxed if row.case.tax
        ),
        "least": _with_sharing(answer)["least"],
    }


def _with_sharing(answer: Answer) -> Mapping[str, Spread]:
    return next(row.figures for row in answer.booted if row.case.sharing)


def _two(answer: Answer) -> str:
    kernel = answer.kernel()
    sizes = sorted({row.case.size for row in answer.dbench})
    lines = []
    for size in sizes:
        published = figures.OVERHEADS.get(size)
        found = answer.overhead(size, kernel)
        lines.append(
            [
                f"{size} MB",
                f"{100 * published:.1f} % ({MEMORY})" if published is not None else "-",
                f"{100 * found:.1f} %",
                "predicted" if size != sizes[0] else "fitted" if len(answer.kernels()) > 1 else "not fitted",
                f"{100 * (found - published):+.1f}" if published is not None else "-",
            ]
        )
    return table(["ballooned to", "paper: slower by", "simulated", "", "off, points"], lines)


def _six(answer: Answer) -> str:
    return table(
        ["system", "up, s", "down, s", "spike after the end, points"],
        [
            [
                "Windows, clears what was freed" if row.case.zeroing else "Linux, does not",
                spread(row.figures["up"], 0),
                spread(row.figures["down"], 0),
                spread(row.figures["spike"], 1, 100),
            ]
            for row in answer.touching
        ],
    )


def _six_values(answer: Answer) -> str:
    windows = next(row.figures for row in answer.touching if row.case.zeroing)
    linux = next(row.figures for row in answer.touching if not row.case.zeroing)
    periods, down = (windows[way].mean * SECOND / WINDOW for way in ("up", "down"))
    fewest, most = figures.PERIODS_UP
    off = "holds" if fewest <= periods <= most else f"{periods - (most if periods > most else fewest):+.1f}"
    at_least = "at least " if windows["down"].mean >= figures.LENGTH else ""
    lines = [
        ["a step up, periods of 30 s", f"{fewest} to {most}", f"{periods:.1f}", off],
        ["a step down, periods", "takes longer", f"{at_least}{down:.1f}", _holds(down > periods)],
        ["after the end, Windows", "a spike", *_spike(windows["spike"].mean, wanted=True)],
        ["after the end, Linux", "none", *_spike(linux["spike"].mean, wanted=False)],
    ]
    sources = (READ_OFF, MEMORY, MEMORY, MEMORY)
    rows = [
        [what, paper, source, simulated, "predicted", off]
        for (what, paper, simulated, off), source in zip(lines, sources, strict=True)
    ]
    return table(["", "paper", "source", "simulated", "", "off"], rows)


def _spike(rise: float, *, wanted: bool) -> list[str]:
    return [f"{100 * rise:+.1f} points", _holds((rise > 0) == wanted)]


def _holds(as_published: bool) -> str:
    return "holds" if as_published else "does not hold"


def _seven(answer: Answer) -> str:
    first = answer.taxed[0].figures["done"].mean
    lines = []
    for row in answer.taxed:
        closed, literal = figures.closed_form(row.case.tax), figures.fixed_share(row.case.tax)
        lines.append(
            [
                f"{100 * row.case.tax:.0f} %",
                f"{spread(row.figures['idle'], 0)} / {spread(row.figures['busy'], 0)}",
                f"{closed[0]:.0f} / {closed[1]:.0f}",
                f"{literal[0]:.0f} / {literal[1]:.0f}",
                f"{100 * (row.figures['done'].mean / first - 1):+.0f} %",
            ]
        )
    return table(
        ["tax", "simulated: idle / dbench, MB", "closed form", "the same, shares fixed", "dbench gets done"], lines
    )


def _seven_values(answer: Answer) -> str:
    by = {row.case.tax: row.figures for row in answer.taxed}
    lines = []
    for what, name in (("idle guest", "idle"), ("dbench", "busy")):
        found = by[0.0][name]
        off = f"{found.mean - 179:+.0f}"
        lines.append([f"{what}, no tax, MB", "179", MEMORY, spread(found, 0), "predicted", off])
    gain = 100 * (by[0.75]["done"].mean / by[0.0]["done"].mean - 1)
    lines.append(["dbench gains at 75 %", "more than 30 %", MEMORY, f"{gain:.0f} %", "chosen among three loads", "-"])
    return table(["", "paper", "source", "simulated", "", "off"], lines)


def _eight(answer: Answer) -> str:
    with_sharing = _with_sharing(answer)
    without = next(row.figures for row in answer.booted if not row.case.sharing)

    def line(name: str, what: str, paper: int | None = None, source: str = "-", how: str = "-") -> list[str]:
        found = with_sharing[name]
        off = "-" if paper is None else f"{found.mean - paper:+.0f}"
        if what.endswith("less than") and paper is not None:
            off = "holds" if found.mean < paper else off
        published = "-" if paper is None else str(paper)
        return [what, published, source, _mb(found), how, off, _mb(without[name])]

    return table(
        ["MB", "paper", "source", "simulated", "", "off", "without sharing"],
        [
            line("shared", "shared at the peak of the boot", 325, MEMORY, "fitted"),
            line("swapped", "swapped out while booting", 35, MEMORY, "predicted"),
            line("all", f"swapped out in all {answer.booted[0].case.minutes} minutes"),
            line("stays", "stays shared, about", 200, MEMORY, "fitted"),
            line("left", "still swapped after the peak, less than", 20, TEXT, "predicted"),
            line("least", "least that the SQL guest has", figures.SQL_LEAST, MEMORY, "predicted"),
        ],
    )


def _mb(value: Spread) -> str:
    return spread(value, 0)


def draw_two(answer: Answer, canvas: Any) -> None:
    """What dbench gets done by size, configured and ballooned."""
    axes = canvas.subplots()
    kernel = answer.kernel()
    rows = [row for row in answer.dbench if row.case.kernel == kernel]
    for configured, label, colour in ((False, "ballooned from 256 MB", BUSY), (True, "configured with it", IDLE)):
        its = sorted((row for row in rows if _plain(row) == configured), key=lambda row: row.case.size)
        axes.errorbar(
            [row.case.size for row in its],
            [row.figures["done"].mean for row in its],
            [row.figures["done"].deviation for row in its],
            color=colour,
            marker="o",
            markersize=4,
            capsize=2,
            label=label,
        )
    axes.set(xlabel="MB of memory", ylabel="work done, of what it\nwould without waiting")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _plain(row: Row) -> bool:
    case: Dbench = row.case
    return case.configured == case.size


def draw_seven(answer: Answer, canvas: Any) -> None:
    """Who has how much by the tax rate, beside the closed form."""
    axes = canvas.subplots()
    taxes = [row.case.tax for row in answer.taxed]
    for name, label, colour, place in (("idle", "idle guest", IDLE, 0), ("busy", "dbench", BUSY, 1)):
        axes.errorbar(
            taxes,
            [row.figures[name].mean for row in answer.taxed],
            [row.figures[name].deviation for row in answer.taxed],
            color=colour,
            marker="o",
            markersize=4,
            capsize=2,
            label=label,
        )
        fine = [number / 100 for number in range(96)]
        axes.plot(fine, [figures.closed_form(tax)[place] for tax in fine], color=FORM, linestyle=":", linewidth=1.2)
    axes.plot([], [], color=FORM, linestyle=":", label="closed form, 20 and 240 MB active")
    axes.plot([0, 0], [179, 179], "x", color="black", label="paper, from memory")
    axes.set(xlabel="tax rate", ylabel="MB")
    axes.set_ylim(0, 280)
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def draw_six(answer: Answer, canvas: Any) -> None:
    """The estimate over the truth, one run."""
    axes = canvas.subplots()
    for (name, line), colour in zip(answer.estimate.lines.items(), (FORM, IDLE), strict=True):
        axes.plot(answer.estimate.minutes, line, color=colour, linewidth=1.2, label=name)
    axes.set(xlabel="minutes", ylabel="MB")
    axes.set_ylim(0, 256)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def draw_eight(answer: Answer, canvas: Any) -> None:
    """Where all guests' memory is, and what one of them has; one run."""
    panels = canvas.subplots(1, 2)
    of_one = [name for name in answer.memory.lines if name.startswith("SQL")]
    of_all = [name for name in answer.memory.lines if name not in of_one]
    for axes, names, title in zip(panels, (of_all, of_one), ("all five guests", "the SQL guest"), strict=True):
        for name, colour in zip(names, (INK, IDLE, BUSY, SWAPPED), strict=False):
            axes.plot(answer.memory.minutes, answer.memory.lines[name], color=colour, linewidth=1.2, label=name)
        axes.set(xlabel="minutes", ylabel="MB")
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_ylim(0, 1.3 * max(max(answer.memory.lines[name]) for name in names))
        axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)


PLOTS = (
    ("figures-2.svg", draw_two, (6.5, 3.2)),
    ("figures-6.svg", draw_six, (6.5, 3.0)),
    ("figures-7.svg", draw_seven, (6.5, 3.4)),
    ("figures-8.svg", draw_eight, (9.0, 3.4)),
)
