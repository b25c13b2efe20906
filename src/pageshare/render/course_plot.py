"""Courses of replays as plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pageshare.render.plot import FAINT, INK, OTHERS
from pageshare.replay.compare import Compared
from pageshare.replay.course import Course
from pageshare.replay.entry import DEFAULT_POLICY

MIB = 1 << 20

STYLES: Mapping[str, tuple[str, Any, float]] = {
    DEFAULT_POLICY: ("#0b62c4", "-", 2.6),
    "oracle": (INK, (0, (2, 1.5)), 1.8),
    "run-following": ("#1b7f3b", "-", 1.7),
    "random-permutation": ("#b35c00", "-", 1.7),
    "sequential": ("#7b3294", (0, (5, 1.5)), 1.7),
    "ksm": ("#c2185b", (0, (6, 1.5, 1.5, 1.5)), 1.7),
}
"""Colour, line and width of the policies that others are compared with: the same in each plot."""
MORE_COLOURS = ("#00808a", "#7a7400", "#b3261e", "#5a7fa8", "#8d6e63")
MORE_LINES = ("-", (0, (4, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
STRONG = 8
"""So many curves are drawn to be told apart; the others are thin and grey."""


def draw_course(course: Course, page_size: int, canvas: Any) -> None:
    """Saved bytes over time, beside what could be saved, on a matplotlib figure; below it broken merges, if any."""
    if course.cow_breaks:
        axes, below = canvas.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        _draw_broken(course, below)
    else:
        axes = below = canvas.subplots()
    times = [sample.seconds for sample in course.samples]
    scale = page_size / MIB
    for name, colour, words in (
        ("possible", INK, "could be saved"),
        ("saved", STYLES[DEFAULT_POLICY][0], "saved"),
    ):
        for suffix, style, kind in (("", "-", ""), ("_nonzero", "--", ", without zero pages")):
            values = [getattr(sample, name + suffix) * scale for sample in course.samples]
            axes.plot(times, values, style, color=colour, label=words + kind, linewidth=1.5)
    axes.set(ylabel="MiB")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    below.set_xlabel("seconds of virtual time")
    axes.set_title(f"{course.policy}: {course.last.visits:,} visits of {course.pages:,} pages", fontsize=9, loc="left")
    canvas.legend(*axes.get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside lower left", ncols=4)


def _draw_broken(course: Course, axes: Any) -> None:
    """How many merges a second were broken, from moment to moment."""
    edges, rates = [course.samples[0].seconds], []
    for one, other in pairwise(course.samples):
        if other.seconds > edges[-1]:
            edges.append(other.seconds)
            rates.append(0.0)
        if rates:
            rates[-1] += other.cow_breaks - one.cow_breaks
    lengths = [later - earlier for earlier, later in pairwise(edges)]
    rates = [rate / length for rate, length in zip(rates, lengths, strict=True)]
    axes.stairs(rates, edges, fill=True, color="#c2185b")
    axes.set_ylabel("merges broken\na second", fontsize=8)
    axes.set_ylim(bottom=0)


def draw_policies(
    found: Sequence[Compared], canvas: Any, *, over_time: bool, orders: Mapping[str, Sequence[str]] | None = None
) -> None:
    """``draw_comparison``, set to save any pages, and below it other pages than zero ones."""
    for axes, suffix in zip(canvas.subplots(2, 1), ("", "_nonzero"), strict=True):
        _draw_comparison(found, axes, suffix, over_time=over_time, order=(orders or {}).get(suffix, ()))


def draw_comparison(
    found: Sequence[Compared], suffix: str, canvas: Any, *, over_time: bool, order: Sequence[str] = ()
) -> None:
    """Share found over cost (or saved over time) of all policies, the first seed of each, on a matplotlib figure.

    ``order`` are their names as the legend has them; those that are notable are drawn to be told apart. Each curve is
    in a group whose id is ``curve_id`` of its place in ``found``.
    """
    axes = canvas.subplots()
    _draw_comparison(found, axes, suffix, over_time=over_time, order=order)
    axes.set_title("", loc="left")  # a heading stands above it


def curve_id(suffix: str, number: int) -> str:
    """The id of a policy's curve in an SVG."""
    return f"curve{suffix}_{number}"


def _draw_comparison(
    found: Sequence[Compared], axes: Any, suffix: str, *, over_time: bool, order: Sequence[str]
) -> None:
    place = {name: number for number, name in enumerate(order)}
    ranked = sorted(range(len(found)), key=lambda i: place.get(found[i].name, len(place)))
    styles = _styles([found[i].name for i in ranked], [each.name for each in found])
    lines = []
    for number in ranked:
        each = found[number]
        course = (each.nonzero if suffix else each.all)[0]
        colour, line, width = styles[each.name]
        label = f"{each.name} (default)" if each.name == DEFAULT_POLICY else each.name
        x, y = _curve(course, suffix, over_time)
        # What is notable lies above what is not, and the default above all.
        above = 2 + width if colour != OTHERS else 2
        drawn = axes.plot(x, y, label=label, color=colour, linestyle=line, linewidth=width, zorder=above)
        drawn[0].set_gid(curve_id(suffix, number))
        lines += drawn
    what = "other pages than zero ones" if suffix else "any pages"
    if over_time:
        course = (found[0].nonzero if suffix else found[0].all)[0]
        times, most = [sample.seconds for sample in course.samples], _possible(course, suffix)
        # The same for all: they meet the same writes.
        lines[:0] = axes.plot(times, most, color=INK, linewidth=1.2, label="could be saved", zorder=2)
        axes.set(xlabel="seconds of virtual time", ylabel="MiB saved")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    else:
        axes.set(xlabel="cost, in visits a page", xlim=(0, 2), ylim=(0, 1.02))
        axes.set_ylabel("share found of what is possible")
    axes.set_title(f"set to save {what}", loc="left")
    names = axes.legend(
        handles=lines, fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.04), handlelength=3.2
    )
    for text in names.get_texts():
        if text.get_text() == f"{DEFAULT_POLICY} (default)":
            text.set_fontweight("bold")
        elif styles.get(text.get_text(), ("",))[0] == OTHERS:
            text.set_color(FAINT)


def _possible(course: Course, suffix: str) -> list[float]:
    return [getattr(sample, "possible" + suffix) * course.page_size / MIB for sample in course.samples]


def _curve(course: Course, suffix: str, over_time: bool) -> tuple[list[float], list[float]]:
    saved = [getattr(sample, "saved" + suffix) for sample in course.samples]
    if over_time:
        return [sample.seconds for sample in course.samples], [pages * course.page_size / MIB for pages in saved]
    possible = [max(1, getattr(sample, "possible" + suffix)) for sample in course.samples]
    shares = [one / most for one, most in zip(saved, possible, strict=True)]
    return [sample.cost / max(1, course.pages) for sample in course.samples], shares


def _styles(ranked: Sequence[str], names: Sequence[str]) -> dict[str, tuple[str, Any, float]]:
    """Colour, line and width of each, best first: of those that others are compared with, and of the best of the rest,
    by their places in ``names``, so that each looks the same in every plot."""
    rest = [name for name in names if name not in STYLES]
    others = [name for name in ranked if name not in STYLES]
    strong = others[: max(0, STRONG - (len(ranked) - len(others)))]
    styles = {name: STYLES.get(name, (OTHERS, "-", 0.8)) for name in ranked}
    for name in strong:
        line, colour = divmod(rest.index(name), len(MORE_COLOURS))
        styles[name] = (MORE_COLOURS[colour], MORE_LINES[line % len(MORE_LINES)], 1.7)
    return styles
