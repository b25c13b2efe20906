"""Tables of a scenario, key by key: each value is checked as it is taken, and what nobody took is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pageshare.images import printable
from pageshare.lab.memory import SECOND
from pageshare.synth.spec import SpecError, check, check_number, check_whole, parse_size

PAGE = 4096
"""Bytes of a page: the laboratory has no other."""
LONGEST = 400 * 86_400 * SECOND
"""Of any time in a scenario, in microseconds."""
MOST_BYTES = 1 << 48
MOST_SAMPLES = 200_000
_TIME = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(us|ms|s|min|m|h|d)", re.A)
_UNITS = {
    "us": 1,
    "ms": 1000,
    "s": SECOND,
    "m": 60 * SECOND,
    "min": 60 * SECOND,
    "h": 3600 * SECOND,
    "d": 86_400 * SECOND,
}
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,9})?)\s*%", re.A)
Required = object()
T = TypeVar("T")


def parse_time(text: str) -> float | None:
    """Microseconds of ``15s``, ``100 ms``, ``30min``, ``2h``; None if it is no time.

    >>> parse_time("1.5 min"), parse_time("soon")
    (90000000.0, None)
    """
    match = _TIME.fullmatch(text.strip())
    return float(match[1]) * _UNITS[match[2]] if match else None


class Keys:
    """A table at ``where``. Its values are taken by key and kind; ``end`` raises SpecError for what is left."""

    def __init__(self, table: object, where: str = "") -> None:
        if not isinstance(table, Mapping):
            raise SpecError(f"{where}: must be a table, not {_kind_of(table)}")
        self.table, self.where = table, where
        self.known: list[str] = []

    def name(self, key: str) -> str:
        """The key as messages have it."""
        return f"{self.where}.{key}" if self.where else key

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it stands; ``Required`` as default raises SpecError where it is left out."""
        self.known.append(key)
        if key not in self.table and default is Required:
            raise SpecError(f"{self.name(key)}: is left out")
        return self.table.get(key, default)

    def given(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self.table

    def text(self, key: str, default: Any = "") -> Any:
        """A text of a line or more, not too long."""
        value = self.get(key, default)
        if key in self.table:
            check(isinstance(value, str) and len(value) <= 2000, self.name(key), "a text", value)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key, default)
        check(isinstance(value, bool), self.name(key), "true or false", value)
        return bool(value)

    def whole(self, key: str, default: Any, low: int, high: int) -> Any:
        """A whole number within bounds, or the default."""
        value = self.get(key, default)
        if key in self.table:
            check_whole(self.name(key), value, low, high)
        return value

    def number(self, key: str, default: Any, low: float, high: float, *, above: bool = False) -> Any:
        """A number within bounds, or the default."""
        value = self.get(key, default)
        if key in self.table:
            check_number(self.name(key), value, low, high, above=above)
        return value

    def share(self, key: str, default: Any, *, below_one: bool = False) -> Any:
        """0.25, or ``25 %``."""
        value = self.get(key, default)
        if key not in self.table:
            return value
        if isinstance(value, str) and (match := _SHARE.fullmatch(value.strip())):
            value = float(match[1]) / 100
        allowed = "from 0 to less than 1" if below_one else "from 0 to 1"
        holds = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
        check(holds and not (below_one and value == 1), self.name(key), f"a share {allowed}, or in % as text", value)
        return float(value)

    def time(self, key: str, default: Any, low: float = 0, high: float = LONGEST) -> Any:
        """Microseconds, a float: a number of seconds, or a text such as 15s; bounds in microseconds."""
        value = self.get(key, default)
        if key not in self.table:
            return value
        time = parse_time(value) if isinstance(value, str) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LONGEST:
            time = float(value) * SECOND
        holds = time is not None and low <= time <= high
        bounds = f"from {spoken(low)} to {spoken(high)}" if low else f"of at most {spoken(high)}"
        check(holds, self.name(key), f'a time {bounds}, such as "15s" or "100ms"', value)
        return time

    def every(self, default: float, duration: int) -> int:
        """What lies between two samples of ``duration``, in microseconds."""
        every: int = round(self.time("every", default, 1000))
        name, most = self.name("every"), f"a time with at most {MOST_SAMPLES:,} of it in duration"
        check(duration / every <= MOST_SAMPLES, name, most, every)
        check(every <= duration, name, f"no longer than duration, {spoken(duration)}", spoken(every))
        return every

    def pages(self, key: str, default: Any, low: int = 0, high: int = MOST_BYTES // PAGE) -> Any:
        """Pages of a size: ``256 MiB``, or a number of bytes."""
        value = self.get(key, default)
        return pages_of(self.name(key), value, low, high) if key in self.table else value

    def rate(self, key: str, default: Any) -> Any:
        """Pages a second, of a text such as ``100 MB/s``."""
        value = self.get(key, default)
        if key not in self.table:
            return value
        match = re.fullmatch(r"(.*\S)\s*/\s*s", value.strip(), re.S) if isinstance(value, str) else None
        allowed = 'an amount of memory a second, such as "100 MB/s"'
        check(match is not None, self.name(key), allowed, value)
        try:
            size = parse_size(match[1] if match else "")
        except SpecError:
            size = 0
        check(0 < size <= MOST_BYTES, self.name(key), allowed, value)
        return size / PAGE

    def one_of(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of some words."""
        value = self.get(key, default)
        check(isinstance(value, str) and value in allowed, self.name(key), " or ".join(allowed), value)
        return str(value)

    def inner(self, key: str) -> Keys:
        """A table within this one; empty where it is left out."""
        return Keys(self.get(key, {}), self.name(key))

    def tables(self, key: str, most: int) -> list[tuple[str, Any]]:
        """The tables of a list of them, each with what messages call it: its number from 1, or its name."""
        value = self.get(key, [])
        check(isinstance(value, list), self.name(key), f"a list of tables, [[{self.name(key)}]]", value)
        check(len(value) <= most, self.name(key), f"at most {most} tables", f"{len(value)}")
        return [(f"{self.name(key)}{label(table, number)}", table) for number, table in enumerate(value, 1)]

    def end(self) -> None:
        """Raise SpecError for a key that there is not."""
        for key in self.table:
            if key not in self.known:
                known = ", ".join(dict.fromkeys(self.known))
                raise SpecError(f"{printable(self.name(str(key)))}: no such key; there are {known}")


def label(table: object, number: int) -> str:
    """How a table of a list is called: ``.web`` by its name, ``[2]`` without."""
    name = table.get("name") if isinstance(table, Mapping) else None
    return f".{name}" if isinstance(name, str) and re.fullmatch(r"[\w-]{1,40}", name) else f"[{number}]"


def pages_of(name: str, value: object, low: int = 0, high: int = MOST_BYTES // PAGE) -> int:
    """Pages of a size in bytes or as text. SpecError unless there are from ``low`` to ``high`` of them."""
    allowed = f'a size from {_size(low)} to {_size(high)}, such as "256 MiB"'
    check(isinstance(value, (str, int)) and not isinstance(value, bool), name, allowed, value)
    try:
        size = parse_size(value) if isinstance(value, str) else int(value)  # type: ignore[call-overload]
    except SpecError:
        size = -1
    check(low * PAGE <= size <= high * PAGE and size % PAGE == 0, name, f"{allowed}, in whole pages of 4 KiB", value)
    return size // PAGE


def spoken(microseconds: float) -> str:
    """A time as messages have it.

    >>> spoken(100_000), spoken(400 * 86_400 * SECOND)
    ('100 ms', '400 d')
    """
    for unit, words in ((86_400 * SECOND, "d"), (3600 * SECOND, "h"), (SECOND, "s"), (1000, "ms")):
        if microseconds >= unit:
            return f"{microseconds / unit:g} {words}"
    return f"{microseconds:g} us"


def _size(pages: int) -> str:
    from pageshare.render.units import size

    return size(pages * PAGE)


def _kind_of(value: object) -> str:
    from pageshare.synth.spec import shown

    return shown(value)
