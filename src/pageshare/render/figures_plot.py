"""The figures of the paper as plots."""

from __future__ import annotations

from typing import Any

from pageshare.figures import FIGURE_4, FITTED_TO, RATES, Convergence, Figure4, Figure5

_PAPER, _SCAN, _REAL = "#444444", "#1f77b4", "#d95f02"


def draw(figure: Figure4 | Figure5, canvas: Any) -> None:
    """Draw the figure, and how fast a scan finds it, on a matplotlib figure."""
    left, right = canvas.subplots(1, 2, width_ratios=[5, 4])
    if isinstance(figure, Figure4):
        _figure_4(figure, left)
        _convergence({"random draws": figure.convergence}, right, "in the ten made guests", passes=True)
    else:
        _figure_5(figure, left)
        _convergence({made.workload.name: made.convergence for made in figure.workloads}, right, "by random draws")


def _figure_4(figure: Figure4, axes: Any) -> None:
    counts = [point.count for point in figure.points]
    for name, marker, style in (("shared", "o", "-"), ("reclaimed", "s", "--"), ("zero", "^", ":")):
        axes.plot(counts, [getattr(each, name) for each in figure.points], style, color=_SCAN, label=f"{name}: made")
        if figure.real:
            real = [getattr(each, name) for each in figure.real]
            axes.plot(range(1, len(real) + 1), real, style, color=_REAL, label=f"{name}: real dumps")
        for fitted in (True, False):
            at = [point for point in FIGURE_4 if (point.count in FITTED_TO) is fitted]
            axes.plot(
                [point.count for point in at],
                [getattr(point, name) for point in at],
                marker,
                color=_PAPER,
                markersize=4.5,
                markerfacecolor=_PAPER if fitted else "white",
                label=f"{name}: paper" if fitted else None,
            )
    most = max(len(figure.real), len(counts))
    axes.set(xlabel="identical guests", ylabel="% of their memory", xlim=(0.5, most + 0.5))
    axes.set(ylim=(0, 112), yticks=range(0, 101, 20))  # the legend lies above 100 %
    axes.set_title("Figure 4. Paper: full marks were fitted to,\nopen ones predicted", fontsize=9, loc="left")
    axes.legend(fontsize=7, ncols=3 if figure.real else 2, loc="upper left", frameon=False)


def _figure_5(figure: Figure5, axes: Any) -> None:
    bars = [("shared", 0.0), ("reclaimed", 0.3), ("zero", 0.6)]
    for i, made in enumerate(figure.workloads):
        for name, shift in bars:
            paper, scan = getattr(made.workload, name), getattr(made, name)
            for source, value, colour, aside in (("paper", paper, _PAPER, 0.0), ("scan", scan, _SCAN, 0.12)):
                if value is not None:
                    first = i == 0 and name == "shared"
                    percent = 100 * value / made.mb
                    label = source if first else None
                    axes.bar(i + shift + aside, percent, 0.12, color=colour, label=label)
                elif source == "paper":
                    # An empty place would look like nothing at all.
                    axes.annotate("not published", (i + shift, 0.5), rotation=90, ha="center", va="bottom", fontsize=7)
    axes.set_xticks(
        [i + shift + 0.06 for i in range(len(figure.workloads)) for _, shift in bars],
        [name for _ in figure.workloads for name, _ in bars],
        rotation=45,
        ha="right",
    )
    names = [f"{made.workload.name}: {made.workload.guests} {made.workload.system}" for made in figure.workloads]
    for i, name in enumerate(names):
        axes.annotate(name, (i + 0.36, 1), xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=8)
    axes.set(ylabel="% of the guests' memory", ylim=(0, 50))
    axes.set_title("Figure 5, by specifications solved for it", fontsize=9, loc="left")
    axes.legend(fontsize=7, frameon=False, loc="center right")


def _convergence(curves: dict[str, Convergence], axes: Any, what: str, *, passes: bool = False) -> None:
    slow, fast = RATES
    for label, convergence in curves.items():
        measured = [(0.0, 0.0, 0.0), *((each.visits, each.draws, each.permutation) for each in convergence.found)]
        minutes = [convergence.minutes(visits, slow) for visits, _, _ in measured]
        axes.plot(minutes, [100 * draws for _, draws, _ in measured], "-", label=label)
        if passes:
            axes.plot(minutes, [100 * each for _, _, each in measured], "--", label="random passes")
    axes.set(xlabel=f"minutes at {slow} pages a second", ylabel="% of the saving found", ylim=(0, 102))
    if len({convergence.pages for convergence in curves.values()}) > 1:
        visits = max(convergence.found[-1].visits for convergence in curves.values())
        axes.set_xlabel(f"{axes.get_xlabel()}\n(each curve ends after {visits:g} visits of every page)")
    axes.set_xlim(left=0)
    axes.set_title(f"Found {what};\nat {fast:,} pages a second {fast // slow} times as fast", fontsize=9, loc="left")
    axes.legend(fontsize=7, frameon=False, loc="lower right")
