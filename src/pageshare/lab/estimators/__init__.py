"""Estimators of idle memory. One file each; this one names them and states the protocol."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from pageshare.lab.estimators.annotate import Annotate
from pageshare.lab.estimators.bursts import BurstFilter
from pageshare.lab.estimators.damon import Damon
from pageshare.lab.estimators.esx import Esx
from pageshare.lab.estimators.filters import Filters, SecondTouch, ZeroFilter
from pageshare.lab.estimators.free_page_reporting import FreePageReporting
from pageshare.lab.estimators.mglru import Generations
from pageshare.lab.estimators.neighbours import NeighbourFilter
from pageshare.lab.estimators.panel import Panel
from pageshare.lab.estimators.shards import Shards
from pageshare.lab.estimators.statistics import Statistics


class Estimator(Protocol):
    """How much of a guest's memory is in use, by looking at little of it.

    Made of a ``View`` and a ``numpy.random.Generator``, and of options by keyword. ``step`` is called again and again
    as the guest's time, ``view.now``, goes on, ten times a second or more often. One that has ``ask`` is asked with
    each message of the guest's balloon; whether that made it say anything else is what it returns. One that has
    ``misses`` makes a miss-ratio curve, which a study asks for at its end: sizes in pages, and the share of touches
    that miss with each.
    """

    active: float
    """The estimate as it stands: the share of pages, 0 to 1, that the guest's work touched in the last 30 seconds."""

    def step(self) -> None:
        """Look, at a price, at what has become of the memory since the last step."""
        ...


ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "esx": Esx,
    "esx-zero": partial(Esx, n=75, through=ZeroFilter),
    "esx-second-touch": partial(Esx, n=70, through=SecondTouch),
    "esx-neighbours": partial(Esx, n=36, through=NeighbourFilter),
    "esx-bursts": partial(Esx, n=85, through=BurstFilter),
    "annotate-30s": Annotate,
    "annotate-5s": partial(Annotate, period=5.0),
    "annotate-120s": partial(Annotate, period=120.0),
    "free-page-reporting": FreePageReporting,
    "guest-statistics": Statistics,
    "damon": Damon,
    "shards": Shards,
    "shards-bits": partial(Shards, traps=False),
    "generations": Generations,
    "panel": Panel,
    "panel-zero": partial(Panel, through=ZeroFilter),
    "panel-collectors": partial(Panel, through=Filters.of(BurstFilter, ZeroFilter)),
}
"""By name. Those of ESX's sampling with a filter draw fewer pages, so that with the visits of the filter they make
about a hundred in 30 seconds; the panel counts its own."""
