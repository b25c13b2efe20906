"""Courses of replays as plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pageshare.replay.compare import Compared
from pageshare.replay.course import Course

MIB = 1 << 20


def draw_course(course: Course, page_size: int, canvas: Any) -> None:
    """Saved bytes over time, beside what could be saved, on a matplotlib figure."""
    axes = canvas.subplots()
    times = [sample.seconds for sample in course.samples]
    scale = page_size / MIB
    for name, colour, words in (
        ("possible", "#444444", "could be saved"),
        ("saved", "#1f77b4", "saved"),
    ):
        for suffix, style, kind in (("", "-", ""), ("_nonzero", "--", ", without zero pages")):
            values = [getattr(sample, name + suffix) * scale for sample in course.samples]
            axes.plot(times, values, style, color=colour, label=words + kind, linewidth=1.5)
    axes.set(xlabel="seconds of virtual time", ylabel="MiB")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_title(f"{course.policy}: {course.last.visits:,} visits of {course.pages:,} pages", fontsize=9, loc="left")
    axes.legend(fontsize=8, frameon=False)


def draw_policies(found: Sequence[Compared], canvas: Any, *, over_time: bool) -> None:
    """Share found over cost (or saved over time) of all policies, the first seed of each, on a matplotlib figure."""
    styles = _styles([each.name for each in found])
    for axes, nonzero in zip(canvas.subplots(1, 2, sharey=not over_time), (False, True), strict=True):
        for each in found:
            course = (each.nonzero if nonzero else each.all)[0]
            x, y = _curve(course, nonzero, over_time)
            axes.plot(x, y, label=each.name, linewidth=1.2, **styles[each.name])
        what = "other pages than zero ones" if nonzero else "any pages"
        if over_time:
            axes.set(xlabel="seconds of virtual time", ylabel="pages saved" if not nonzero else "")
            axes.set_xlim(left=0)
        else:
            axes.set(xlabel="cost, in visits a page", xlim=(0, 1.5), ylim=(0, 1.01))
            axes.set_ylabel("" if nonzero else "share found of what is possible")
        axes.set_title(f"set to save {what}", fontsize=9, loc="left")
    canvas.legend(*axes.get_legend_handles_labels(), fontsize=7, frameon=False, loc="outside right upper")


def _curve(course: Course, nonzero: bool, over_time: bool) -> tuple[list[float], list[float]]:
    suffix = "_nonzero" if nonzero else ""
    saved = [getattr(sample, "saved" + suffix) for sample in course.samples]
    if over_time:
        return [sample.seconds for sample in course.samples], saved
    possible = [max(1, getattr(sample, "possible" + suffix)) for sample in course.samples]
    shares = [one / most for one, most in zip(saved, possible, strict=True)]
    return [sample.cost / max(1, course.pages) for sample in course.samples], shares


def _styles(names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """A colour and a line for each, so that twenty can be told apart."""
    colours = ("#1f77b4", "#d95f02", "#2ca02c", "#7b3294", "#8c564b", "#e7298a", "#444444")
    lines = ("-", "--", ":", "-.")
    return {
        name: {"color": colours[i % len(colours)], "linestyle": lines[i // len(colours) % len(lines)]}
        for i, name in enumerate(names)
    }
