"""What is wrong with what was asked for: in the words of a library, which a command may spell as its options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

KEYWORDS: Mapping[str, str] = {
    **{name: name for name in ("at", "rate", "pages_to_scan", "cpu", "writes", "trace", "duration")},
    "series": "a series",
    "named": "name",
}
"""What stands in the braces of a ``SettingError``, and what a library calls it."""
MOST_RATE = 1e12


class SettingError(ValueError):
    """Arguments of a replay that make no sense together.

    >>> error = SettingError("{writes}: the model has no end: say how long, with {duration}")
    >>> str(error)
    'writes: the model has no end: say how long, with duration'
    >>> error.told(lambda keyword: f"--{keyword}")
    '--writes: the model has no end: say how long, with --duration'
    """

    def __init__(self, sentence: str, **values: object) -> None:
        """``sentence`` has names of ``KEYWORDS`` and of ``values`` in braces."""
        self.sentence, self.values = sentence, values
        super().__init__(self.told(KEYWORDS.__getitem__))

    def told(self, spell: Callable[[str], str]) -> str:
        """The same, with each keyword as it is spelled there."""
        return self.sentence.format(**{keyword: spell(keyword) for keyword in KEYWORDS}, **self.values)


def number(what: str, given: Any, must: str, fits: Callable[[float], bool]) -> None:
    """Raise ValueError for what is no number, not finite, or does not fit: it ``must`` be something else."""
    try:
        good = math.isfinite(given) and fits(given)
    except (TypeError, OverflowError):
        good = False
    if not good:
        raise ValueError(f"{what} {given!r}: must be {must}")


def whole(what: str, given: Any, must: str, fits: Callable[[int], bool]) -> None:
    """The same of whole numbers; numpy's are some, too."""
    number(what, given, must, lambda each: hasattr(each, "__index__") and fits(int(each)))


def rate(what: str, given: float) -> None:
    """Raise ValueError for what is no rate of pages."""
    number(what, given, "a number of pages a second above 0", lambda each: 0 < each < MOST_RATE)

