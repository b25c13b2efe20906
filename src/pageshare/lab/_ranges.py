"""What programs and estimators can be told, checked as they are made: ValueError, one line that names the option, its
value, and what is allowed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from pageshare.lab.keys import LONGEST, spoken
from pageshare.lab.memory import SECOND
from pageshare.synth.spec import shown

MOST_PAGES = 1 << 26
"""Of a program, as of a host."""
FASTEST = 1e9
"""Of anything a second, to a page or in all: a processor's caches are no faster, and memory is not by far."""
SYSTEMS = (1 << 24) - 1
"""Numbers of systems stay apart in what stands for their bytes up to this (``boot.of_system``)."""


def _check(holds: object, name: str, value: object, allowed: str) -> None:
    if not holds:
        value = value.item() if isinstance(value, np.generic) else value
        raise ValueError(f"{name} is {shown(value)}: must be {allowed}")


def _is_number(value: Any, *, fractions: bool = True) -> bool:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole or (fractions and isinstance(value, (float, np.floating)))


def number(name: str, value: Any, low: float, high: float, *, above: bool = False, what: str = "a number") -> None:
    """From ``low`` to ``high``, or ``above`` the lower one."""
    holds = _is_number(value) and low <= value <= high
    bounds = f"above {low:g} up to {high:g}" if above else f"from {low:g} to {high:g}"
    _check(holds and not (above and value == low), name, value, f"{what} {bounds}")


def whole(name: str, value: Any, low: int, high: int) -> None:
    """A whole number from ``low`` to ``high``."""
    holds = _is_number(value, fractions=False) and low <= value <= high
    _check(holds, name, value, f"a whole number from {low} to {high}")


def pages(value: Any) -> None:
    """How many a program has."""
    whole("pages", value, 1, MOST_PAGES)


def shares(**options: Any) -> None:
    """Each from 0 to 1."""
    for name, value in options.items():
        number(name, value, 0, 1, what="a share")


def together(**options: Any) -> None:
    """Shares of the same pages: each from 0 to 1, and so is their sum."""
    shares(**options)
    total = round(sum(options.values()), 9)
    _check(total <= 1, " + ".join(options), total, "at most 1")


def at_most(name: str, value: Any, other: str, bound: Any) -> None:
    """Not above another option's value."""
    _check(value <= bound, name, value, f"at most {other}, {bound:g}")


def rates(*, above: bool = False, **options: Any) -> None:
    """Touches or pages a second, each from 0, or ``above`` it."""
    for name, value in options.items():
        number(name, value, 0, FASTEST, above=above)


def time(name: str, value: Any, low: int = 0) -> int:
    """Microseconds of so many seconds; at least ``low`` microseconds."""
    holds = _is_number(value) and low / SECOND <= value <= LONGEST / SECOND
    _check(holds, name, value, f"a time {f'from {spoken(low)} to' if low else 'of at most'} {spoken(LONGEST)}")
    return round(float(value) * SECOND)


def period(name: str, value: Any) -> int:
    """Microseconds of a time from one thing to the next: a millisecond or more, as a step is."""
    return time(name, value, 1000)


def numbers(name: str, values: Any, low: float, high: float, *, what: str = "a number") -> None:
    """A list of numbers, one or more."""
    holds = isinstance(values, Collection) and not isinstance(values, (str, bytes))
    _check(holds and len(values) > 0, name, values, f"a list of numbers from {low:g} to {high:g}, one at least")
    for place, value in enumerate(values):
        number(f"{name}[{place}]", value, low, high, what=what)


def flags(**options: Any) -> None:
    """Each true or false."""
    for name, value in options.items():
        _check(isinstance(value, (bool, np.bool_)), name, value, "true or false")


def made_by(name: str, value: Any, what: str) -> None:
    """A class or function that makes something."""
    _check(callable(value), name, value, f"what makes {what}: a class or a function")
