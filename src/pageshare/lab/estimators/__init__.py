"""Estimators of idle memory. One file each; this one names them and states the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pageshare.lab.estimators.esx import Esx
from pageshare.lab.estimators.statistics import Statistics


class Estimator(Protocol):
    """How much of a guest's memory is in use, by looking at little of it.

    Made of a ``View`` and a ``numpy.random.Generator``, and of options by keyword. ``step`` is called again and again
    as the guest's time, ``view.now``, goes on, ten times a second or more often.
    """

    active: float
    """The estimate as it stands: the share of pages, 0 to 1, that the guest's work touched in the last 30 seconds."""

    def step(self) -> None:
        """Look, at a price, at what has become of the memory since the last step."""
        ...


ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "esx": Esx,
    "statistics": Statistics,
}
