"""Plots, by matplotlib: an extra (pip install 'pageshare[plot]'), loaded when asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pageshare.files import appearing_whole

INK, FAINT, OTHERS = "#1c1c1c", "#666666", "#bdbdbd"
"""Of text, axes and bounds; of text that matters less; of curves that are not notable."""


class MissingPlotter(ValueError):
    """matplotlib is not installed; the message says how to get it."""


def check_plotter() -> None:
    """Raise MissingPlotter, before anything is computed, if nothing could be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPlotter("plots need matplotlib: pip install 'pageshare[plot]'")


def drawn(draw: Callable[[Any], None], form: str, size: tuple[float, float]) -> bytes:
    """What ``draw`` puts on a matplotlib figure of ``size`` inches, as "svg" or "png". Raises MissingPlotter."""
    check_plotter()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # An SVG is the same each time, and so can be kept in a repository.
    style: Any = {"svg.hashsalt": "pageshare", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    style.update(dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK))
    with rc_context(style):
        canvas = Figure(figsize=size, layout="constrained")
        draw(canvas)
        out = io.BytesIO()
        canvas.savefig(out, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
        return out.getvalue()


def save(
    draw: Callable[[Any], None],
    paths: Sequence[tuple[Path, str]],
    size: tuple[float, float] = (9, 3.8),
    page: Callable[[], str] | None = None,
) -> None:
    """Draw to each path, in its format ("svg", "png", or "html": what ``page`` gives): all of them whole, or none;
    private (0600).

    Raises MissingPlotter, OSError.
    """
    ready = []
    for path, form in paths:
        ready.append((path, page().encode() if form == "html" and page else drawn(draw, form, size)))
    with contextlib.ExitStack() as stack:
        for path, data in ready:
            file = stack.enter_context(appearing_whole(path))
            file.write(data)
            file.flush()  # a full disk is known before the first of them takes its place
