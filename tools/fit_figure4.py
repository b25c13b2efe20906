"""Fits the model of figure 4 to what was published for 1, 2, 4 and 8 guests: ``python tools/fit_figure4.py``.

Prints the constants that are in src/pageshare/figures.py as FITTED. They make the sum of squares least, over the
shared, reclaimed and zero memory at the four counts, in percent of the guests' memory. What a model is expected to
share is computed, for that is smooth; what images made to it really share, a scan tells (``pageshare figures 4``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pageshare.figures import FIGURE_4, FITTED_TO, GUEST_MB, MB, PAGE, Model, Point

DIGITS = 4
"""Of each constant, behind the point: 0.01 % of the pages of a guest is one page."""

Vector = NDArray[np.float64]


def expected(model: Model, count: int) -> Point:
    """What ``count`` guests made to a model share on average."""
    pages = GUEST_MB * MB / PAGE
    draws, contents = count * model.duplicate * pages, model.contents * pages
    # Contents drawn never, and once, of those drawn at random.
    never = (1 - 1 / contents) ** draws
    once = draws / contents * never / (1 - 1 / contents)
    p, pool = model.probability, model.common / model.probability
    none_has, one_has = (1 - p) ** count, count * p * (1 - p) ** (count - 1)
    shared = (
        model.zero
        + (model.base if count > 1 else 0)
        + (draws - contents * once) / (count * pages)
        + pool * (count * p - one_has) / count
    )
    kept = (
        1 / (count * pages)
        + (model.base if count > 1 else 0) / count
        + contents * (1 - never - once) / (count * pages)
        + pool * (1 - none_has - one_has) / count
    )
    mb = GUEST_MB * count
    return Point(count, mb, shared=100 * shared, reclaimed=100 * (shared - kept), zero_mb=model.zero * mb)


def deviations(parameters: Vector, counts: tuple[int, ...] = FITTED_TO) -> Vector:
    """Expected minus published, in points: shared, reclaimed and zero, count after count."""
    found = [expected(Model(*parameters), count) for count in counts]
    published = [FIGURE_4[count - 1] for count in counts]
    return np.array(
        [
            getattr(mine, name) - getattr(theirs, name)
            for mine, theirs in zip(found, published, strict=True)
            for name in ("shared", "reclaimed", "zero")
        ]
    )


def fit(start: Model | None = None) -> Model:
    """The model with the least squares: Levenberg and Marquardt's way down from ``start``, not rounded."""
    at = np.array(list(vars(start or Model(0.1, 0.1, 0.1, 0.3, 0.1, 0.5)).values()))
    damping, step = 1e-3, 1e-7
    now = deviations(at)
    while damping < 1e12:
        slopes = np.array(
            [(deviations(at + move) - deviations(at - move)) / (2 * step) for move in step * np.eye(len(at))]
        ).T
        square = slopes.T @ slopes
        towards = at - np.linalg.solve(square + damping * np.diag(np.diag(square)), slopes.T @ now)
        # Outside of these there is no such model.
        there = deviations(towards) if np.all((towards > 0) & (towards < 1)) else None
        if there is not None and there @ there < now @ now:
            at, now, damping = towards, there, damping / 3
        else:
            damping *= 4
    return Model(*at.tolist())


def main() -> None:
    """Fit, and print what came out."""
    model = fit()
    constants = ", ".join(f"{name}={value:.{DIGITS}f}" for name, value in vars(model).items())
    print(f"FITTED = Model({constants})")
    for counts in (FITTED_TO, tuple(point.count for point in FIGURE_4 if point.count not in FITTED_TO)):
        found = deviations(np.array(list(vars(model).values())), counts)
        which = "fitted to" if counts == FITTED_TO else "predicted"
        print(f"{which} {', '.join(map(str, counts))}: at most {np.abs(found).max():.2f} points off,", end=" ")
        print(f"{np.sqrt(np.mean(found**2)):.2f} on average (root of the mean square)")


if __name__ == "__main__":
    main()
