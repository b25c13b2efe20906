"""The course of a simulated host as a plot: guests' memory, the host's free memory, and what they waited for."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images import printable
from pageshare.lab.memory import SECOND
from pageshare.lab.report import PAPER, calibration
from pageshare.lab.thresholds import Thresholds
from pageshare.render.plot import FAINT, INK
from pageshare.render.tables import shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.course import Course

MIB = 256
"""Pages."""
BLUE, GREEN, ORANGE, PURPLE, PINK = "#0b62c4", "#1b7f3b", "#b35c00", "#7b3294", "#c2185b"
STACK = (BLUE, GREEN, ORANGE, PURPLE, PINK, "#00808a", "#7a7400", "#b3261e", "#5a7fa8", "#8d6e63")
ALONE = 6
"""So many guests have a plot of their own; more of them are stacked in one."""
BINS = 240
"""Of rates and shares over time."""


def size(course: Course) -> tuple[float, float]:
    """Inches."""
    count = len(course.guests)
    rows = -(-count // _columns(count)) if count <= ALONE else 2
    return 10, 2.3 * rows + 2.0 + 1.5 * (1 + _swaps(course)) + 0.6


def _columns(count: int) -> int:
    return count if count < 4 else 3


def _swaps(course: Course) -> bool:
    return bool(course.host.swapped_out[-1])


def draw(course: Course, canvas: Any, *, titled: bool = True) -> None:
    """Memory of each guest over time, below it the host's free memory with the marks of its states, what is swapped,
    and which part of the time guests wait, on a matplotlib figure."""
    unit, name = _unit(float(course.times[-1]))
    times = course.times / unit
    count = len(course.guests)
    columns, alone = _columns(count), count <= ALONE
    upper = -(-count // columns) if alone else 2
    below = 2 + _swaps(course)
    grid = canvas.add_gridspec(
        upper + below, columns if alone else 1, height_ratios=[2.3] * upper + [2.0] + [1.5] * (below - 1)
    )
    if alone:
        _draw_guests(course, times, [canvas.add_subplot(grid[i // columns, i % columns]) for i in range(count)])
    else:
        _draw_stack(course, times, canvas.add_subplot(grid[0:2, 0]))
    lower = [canvas.add_subplot(grid[upper + i, :]) for i in range(below)]
    _draw_free(course, times, lower[0])
    if _swaps(course):
        _draw_swapping(course, unit, lower[1])
    _draw_waiting(course, unit, lower[-1])
    changes = [change for change in course.scenario.changes if change.at / SECOND <= course.times[-1]]
    for axes in canvas.axes:
        axes.set_xlim(0, times[-1] if times[-1] else 1)
        for change in changes:
            axes.axvline(change.at / SECOND / unit, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    for axes in lower[:-1]:
        axes.tick_params(labelbottom=False)
    lower[-1].set_xlabel(f"{name} of virtual time")
    for change in changes:
        place = (change.at / SECOND / unit, 1.0)
        words = f" {shortened(printable(change.words), 30)}"
        lower[0].annotate(
            words, place, xycoords=("data", "axes fraction"), fontsize=7.5, color=FAINT, va="top", annotation_clip=True
        )
    if titled:
        canvas.suptitle(f"{course.scenario.name}, simulated, seed {course.seed}", x=0.01, ha="left", fontsize=10)
    canvas.supxlabel(_footnote(course), x=0.01, ha="left", fontsize=7, color=FAINT)


def _footnote(course: Course) -> str:
    assumed = [what for what, _value, source in calibration(course.scenario) if "assumed" in source]
    loads = {source.split(":")[0] for what, _value, source in calibration(course.scenario) if what == "load"}
    if not all(program.labelled for guest in course.scenario.guests for program in guest.programs):
        loads.add("unlabelled ones, of which all touches count as active")
    text = (
        f"A simulation in virtual time, no measurement. Rules: {PAPER}. Assumed: {', '.join(dict.fromkeys(assumed))}."
        f" Loads: {', '.join(sorted(loads))}."
    )
    return "\n".join(textwrap.wrap(printable(text), 165))


def _unit(seconds: float) -> tuple[float, str]:
    if seconds < 300:
        return 1, "seconds"
    return (60, "minutes") if seconds < 18_000 else (3600, "hours")


def _draw_guests(course: Course, times: NDArray[np.float64], all_axes: list[Any]) -> None:
    handles: dict[str, Any] = {}
    for number, (spec, guest, axes) in enumerate(zip(course.scenario.guests, course.guests, all_axes, strict=True)):
        axes.fill_between(times, guest.active / MIB, color=GREEN, alpha=0.22, linewidth=0)
        curves: list[tuple[str, Any, str, Any, float]] = [
            ("allocated", guest.allocated, BLUE, "-", 2.0),
            ("target", guest.target, INK, (0, (3, 2)), 0.9),
            ("active", guest.active, GREEN, "-", 1.0),
        ]
        if spec.estimator is not None:
            curves.append(("active, as estimated", guest.estimate, ORANGE, "-", 1.3))
        if guest.ballooned.any():
            curves.append(("in its balloon", guest.ballooned, PURPLE, (0, (5, 1.5)), 1.1))
        if guest.swapped.any():
            curves.append(("swapped by the host", guest.swapped, PINK, "-", 1.3))
        for label, values, colour, style, width in curves:
            (line,) = axes.plot(times, values / MIB, color=colour, linestyle=style, linewidth=width, label=label)
            handles.setdefault(label, line)
        axes.axhline(spec.memory / MIB, color=FAINT, linewidth=0.7)
        axes.set_ylim(0, spec.memory / MIB * 1.06)
        axes.set_title(f"{shortened(printable(spec.name), 24)}, {spec.memory / MIB:g} MiB", fontsize=9, loc="left")
        if number == 0 or number % _columns(len(all_axes)) == 0:
            axes.set_ylabel("MiB")
    canvas = all_axes[0].figure
    canvas.legend(
        handles.values(), handles, fontsize=8, frameon=False, loc="outside upper right", ncols=min(6, len(handles))
    )


def _draw_stack(course: Course, times: NDArray[np.float64], axes: Any) -> None:
    """Guests on top of each other; names where there is room for them."""
    held = np.array([guest.allocated for guest in course.guests]) / MIB
    colours = [STACK[i % len(STACK)] for i in range(len(held))]
    axes.stackplot(times, held, colors=colours, alpha=0.55, linewidth=0.4)
    active = np.sum([guest.active for guest in course.guests], axis=0) / MIB
    axes.plot(times, active, color=INK, linewidth=1.4, label="active, all guests")
    memory = course.scenario.frames / MIB
    axes.axhline(memory, color=FAINT, linewidth=0.8)
    axes.set_ylim(0, memory * 1.08)
    axes.annotate(
        "machine memory", (0.995, memory), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7.5
    )
    middle = np.cumsum(held[:, -1]) - held[:, -1] / 2
    for spec, height, at in zip(course.scenario.guests, held[:, -1], middle, strict=True):
        if height > memory * 0.035:
            axes.annotate(
                shortened(printable(spec.name), 16),
                (1.005, at),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=7.5,
                annotation_clip=False,
            )
    axes.set_ylabel("MiB allocated")
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def _draw_free(course: Course, times: NDArray[np.float64], axes: Any) -> None:
    memory = course.scenario.frames / MIB
    free = course.host.free / MIB
    marks = Thresholds(**course.scenario.host.thresholds)
    axes.fill_between(times, free, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(times, free, color=BLUE, linewidth=1.5)
    if course.host.saved.any():
        axes.plot(times, course.host.saved / MIB, color=GREEN, linewidth=1.3)
        last = float(course.host.saved[-1]) / MIB
        axes.annotate(
            "saved by\nsharing",
            (1.005, last),
            xycoords=("axes fraction", "data"),
            fontsize=7.5,
            color=GREEN,
            va="center",
        )
    named = zip(("low", "hard", "soft", "high"), marks.marks, strict=True)
    top = max(
        3.0 * marks.high * memory, float(np.quantile(free, 0.9)) * 1.15, float(course.host.saved.max()) / MIB * 1.1
    )
    top = max(min(top, float(free.max()) * 1.05), marks.high * memory * 1.2, 1e-9)
    dense = (marks.high - marks.low) * memory < 0.2 * top
    for number, (name, mark) in enumerate(named):
        axes.axhline(mark * memory, color=PINK, linewidth=0.7, linestyle=(0, (4, 2)))
        if dense and name != "high":
            continue
        axes.annotate(
            "high, soft, hard, low" if dense else name,
            (0.004 if dense else 0.004 + 0.035 * number, mark * memory),
            xycoords=("axes fraction", "data"),
            fontsize=7,
            color=PINK,
            va="bottom",
        )
    axes.set_ylim(0, top)
    axes.set_ylabel("MiB free")


def _binned(course: Course, values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges in seconds, and how fast what is counted from the beginning rises between them, a second."""
    count = min(BINS, max(1, len(course.times) - 1))
    edges = np.linspace(0, float(course.times[-1]), count + 1)
    return edges, np.diff(np.interp(edges, course.times, values)) / np.maximum(np.diff(edges), 1e-9)


def _draw_swapping(course: Course, unit: float, axes: Any) -> None:
    for name, colour, label, sign in (
        ("swapped_out", PINK, "out", 1),
        ("swapped_in", BLUE, "in", -1),
    ):
        edges, rates = _binned(course, getattr(course.host, name))
        axes.stairs(sign * rates / MIB, edges / unit, fill=True, color=colour, alpha=0.75, label=label)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_ylabel("swapped,\nMiB a second")
    axes.legend(fontsize=8, frameon=False, loc="upper right", ncols=2)


def _draw_waiting(course: Course, unit: float, axes: Any) -> None:
    """Of each guest, or their mean, the part of the time in which it did not run."""
    shares = []
    for spec, guest in zip(course.scenario.guests, course.guests, strict=True):
        edges, ran = _binned(course, guest.ran)
        waits = np.clip(1 - ran, 0, 1)
        waits[edges[1:] <= spec.start / SECOND] = np.nan
        shares.append(100 * waits)
    middles = (edges[:-1] + edges[1:]) / 2 / unit
    if len(shares) <= ALONE:
        for spec, share, colour in zip(course.scenario.guests, shares, STACK, strict=False):
            axes.plot(middles, share, color=colour, linewidth=1.2, label=shortened(printable(spec.name), 24))
        axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.05))
    else:
        with np.errstate(invalid="ignore"):
            known = np.array(shares)
            mean = np.nansum(known, axis=0) / np.maximum((~np.isnan(known)).sum(axis=0), 1)
        axes.plot(middles, mean, color=BLUE, linewidth=1.3)
    axes.set_ylabel("guests wait,\n% of time")
    axes.set_ylim(0, max(5.0, float(np.nanmax(shares)) * 1.1))
