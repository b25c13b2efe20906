"""Pictures of a few rectangles, lines and words for the page: SVG whose colours are the page's variables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

SMALL = 11
"""Font size."""


def picture(title: str, width: int, height: int, parts: Iterable[str]) -> str:
    """An image that a screen reader reads as ``title``."""
    named = escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{named}" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" style="max-width:100%;height:auto" font-family="inherit"'
        f' font-size="{SMALL}"><title>{named}</title>{"".join(parts)}</svg>'
    )


def number(value: float) -> str:
    """A coordinate.

    >>> number(3.0), number(2.25), number(-0.04)
    ('3', '2.2', '0')
    """
    rounded = round(value, 1)
    return f"{rounded:g}" if rounded else "0"


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Words, of which ``anchor`` (start, middle, end) is at x, on the line y."""
    return (
        f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}" fill="var(--ink)">{escape(words)}</text>'
    )


def rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A filled one; ``colour`` names a variable."""
    return (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        f' fill="var(--{colour})"/>'
    )


def grid(box: tuple[float, float, float, float], xs: Sequence[float], ys: Sequence[float]) -> str:
    """Lines from top to bottom at ``xs`` and across at ``ys``; ``box`` is left, top, right, bottom."""
    left, top, right, bottom = box
    across = "".join(f"M{number(left)} {number(y)}H{number(right)}" for y in ys)
    down = "".join(f"M{number(x)} {number(top)}V{number(bottom)}" for x in xs)
    return f'<path d="{across}{down}" stroke="var(--line)" fill="none"/>'


def dots(points: Iterable[tuple[float, float]], colour: str) -> str:
    """A dot at each point, one where several are."""
    there = dict.fromkeys((number(x), number(y)) for x, y in points)
    path = "".join(f"M{x} {y}h0" for x, y in there)
    return f'<path d="{path}" stroke="var(--{colour})" stroke-width="5" stroke-linecap="round" fill="none"/>'


def line(points: Iterable[tuple[float, float]], colour: str) -> str:
    """From point to point."""
    path = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return f'<path d="M{path}" stroke="var(--{colour})" stroke-width="2" fill="none"/>'


def legend(x: float, y: float, entries: Iterable[tuple[str, str]]) -> str:
    """Colours and what they stand for, side by side: (variable, words)."""
    parts = []
    for colour, words in entries:
        parts += [rectangle(x, y - 9, 10, 10, colour), text(x + 14, y, words)]
        x += 14 + 6.5 * len(words) + 16
    return "".join(parts)
