"""A symmetric matrix as coloured cells: an SVG that stays small for hundreds of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from pageshare.images import printable
from pageshare.render.svg import picture
from pageshare.render.tables import shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 10
STRONG = 5
"""Beyond this level texts are light on dark, or dark on light, as the page is not."""
LABELLED = 40
"""Up to so many rows have their names beside them."""
WRITTEN = 10
"""Up to so many rows have texts in their cells."""
WIDTH = 640
"""Of the cells together, at most, unless texts need more."""
LETTER = 6.2
"""Width of a letter of the labels, about."""
LONGEST = 22
"""Letters of a label."""


def heat_map(
    shares: NDArray[np.float64], labels: Sequence[str], texts: Sequence[Sequence[str]], *, title: str, scale: str
) -> str:
    """Cells coloured by ``shares`` (n, n: 0 .. 1), n > 0, each row labelled; few have ``texts`` in them.

    Colours are in ``LEVELS`` steps of the page's ``--accent``; the diagonal is grey. ``scale`` explains them. Where the
    pointer is, a row's label is told.
    """
    count = len(shares)
    side = 62 if count <= WRITTEN else max(2, min(28, WIDTH // count))
    names = [shortened(printable(label), LONGEST) for label in labels] if count <= LABELLED else []
    margin = round(LETTER * max(map(len, names), default=0)) + 8 if names else 0
    legend = 44
    width, height = max(margin + count * side, margin + 300) + 2, margin + count * side + legend + 2
    parts = [
        f'<g fill="var(--ink)" transform="translate({margin + 1} {margin + 1})">',
        *_cells(shares, side),
        *_texts(shares, texts, side),
        *_names(names, side),
        *_hints(labels, side),
        f'<g transform="translate(0 {count * side + 14})">{"".join(_legend(scale))}</g>',
        "</g>",
    ]
    return picture(title, width, height, parts)


def levels_of(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of each share: 0 for nothing, then 1 .. ``LEVELS``."""
    return np.ceil(np.clip(shares, 0, 1) * LEVELS - 1e-9).astype(np.int64)


def _cells(shares: NDArray[np.float64], side: int) -> Iterator[str]:
    """One path for the runs of each level below the diagonal, and the same mirrored."""
    count = len(shares)
    levels = np.tril(levels_of(shares), -1)
    paths = "".join(
        f'<path d="{_runs(levels == level)}" stroke-opacity="{level / LEVELS:g}"/>'
        for level in range(1, LEVELS + 1)
        if (levels == level).any()
    )
    yield f'<rect width="{count * side}" height="{count * side}" fill="none" stroke="var(--line)"/>'
    yield (
        f'<g transform="scale({side})" fill="none" shape-rendering="crispEdges">'
        f'<g id="heat-half" stroke="var(--accent)">{paths}</g>'
        '<use href="#heat-half" transform="matrix(0 1 1 0 0 0)"/>'
        f'<path stroke="var(--line)" d="M0 .5h1{"m0 1h1" * (count - 1)}"/></g>'
    )


def _runs(mask: NDArray[np.bool_]) -> str:
    """Horizontal strokes, one cell thick, along the runs of cells that are set."""
    padded = np.zeros((len(mask), len(mask) + 2), np.int8)
    padded[:, 1:-1] = mask
    step = np.diff(padded, axis=1)
    rows, starts = np.nonzero(step == 1)
    ends = np.nonzero(step == -1)[1]
    path: list[str] = []
    at = (0, 0)
    for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
        move = f"m{start - at[0]} {row - at[1]}" if path else f"M{start} {row + 0.5:g}"
        path.append(f"{move}h{end - start}")
        at = (end, row)
    return "".join(path)


def _texts(shares: NDArray[np.float64], texts: Sequence[Sequence[str]], side: int) -> Iterator[str]:
    """With a halo: legible on each level, light and dark."""
    if len(texts) > WRITTEN:
        return
    strong = levels_of(shares) > STRONG
    np.fill_diagonal(strong, val=False)
    yield (
        f'<g text-anchor="middle" dominant-baseline="central" transform="translate({side / 2} {side / 2})"'
        ' stroke-width="3" stroke-linejoin="round" paint-order="stroke">'
    )
    for there, colours in ((~strong, 'stroke="var(--paper)"'), (strong, 'fill="var(--paper)" stroke="var(--accent)"')):
        yield f"<g {colours}>"
        for row, column in np.argwhere(there[: len(texts)]).tolist():
            yield f'<text x="{column * side}" y="{row * side}">{escape(texts[row][column])}</text>'
        yield "</g>"
    yield "</g>"


def _names(names: Sequence[str], side: int) -> Iterator[str]:
    if not names:
        return
    yield '<g text-anchor="end" dominant-baseline="central">'
    yield from (f'<text x="-6" y="{(i + 0.5) * side:g}">{escape(name)}</text>' for i, name in enumerate(names))
    yield '</g><g dominant-baseline="central">'
    for i, name in enumerate(names):
        yield f'<text transform="translate({(i + 0.5) * side:g} -6) rotate(-90)">{escape(name)}</text>'
    yield "</g>"


def _hints(labels: Sequence[str], side: int) -> Iterator[str]:
    """Whose row a pointer is on."""
    yield '<g fill="transparent">'
    for i, label in enumerate(labels):
        name = escape(shortened(printable(label), 2 * LONGEST))
        yield f'<path d="M0 {i * side}h{len(labels) * side}v{side}H0z"><title>{name}</title></path>'
    yield "</g>"


def _legend(scale: str) -> Iterator[str]:
    yield '<g stroke="var(--line)" stroke-width=".5">'
    for level in range(LEVELS + 1):
        yield (
            f'<rect x="{20 * level}" width="20" height="10" fill="var(--accent)" fill-opacity="{level / LEVELS:g}"/>'
        )
    yield f'</g><text y="26">{escape(scale)}</text>'
