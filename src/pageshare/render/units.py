"""Sizes, shares and times as people read them."""

from __future__ import annotations

import re

NO_BREAK = "\N{NO-BREAK SPACE}"
_UNIT = re.compile(r"(?<=\d) (?=(?:[KMGTPE]iB|B|ms|s|min|h)\b|%)")


def unbroken(text: str) -> str:
    """With numbers that stay beside their units."""
    return _UNIT.sub(NO_BREAK, text)


def size(count: int) -> str:
    """Bytes in binary units with three digits that matter: ``size(1536)`` is ``"1.50 KiB"``.

    >>> size(1536), size(0), size(5 * 2**30), size(1023 * 2**20)
    ('1.50 KiB', '0 B', '5.00 GiB', '1023 MiB')
    """
    if count < 1024:
        return f"{count} B"
    value, unit = float(count), "B"
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):  # noqa: B007 - the last unit reached is used
        value /= 1024
        if value < 1023.5:
            break
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def percent(part: int, whole: int) -> str:
    """A share with one digit after the point; never rounded up to 100 or down to 0.

    >>> percent(1, 3), percent(0, 3), percent(3, 3), percent(99999, 100000), percent(0, 0)
    ('33.3 %', '0 %', '100 %', '99.9 %', '-')
    """
    if whole == 0:
        return "-"
    if part in (0, whole):
        return "0 %" if part == 0 else "100 %"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f} %"


def percent_of(share: float) -> str:
    """The same of a share of 1, which may be negative or more than 1.

    >>> percent_of(1 / 3), percent_of(0), percent_of(1), percent_of(0.99999), percent_of(-0.25)
    ('33.3 %', '0 %', '100 %', '99.9 %', '-25.0 %')
    """
    if share in (0, 1):
        return "0 %" if share == 0 else "100 %"
    if share < 0:
        return f"-{percent_of(-share)}"
    shown = 100 * share
    return f"{min(max(shown, 0.1), 99.9) if share < 1 else shown:.1f} %"


def clock(seconds: float) -> str:
    """Time that may be long, in the unit that suits.

    >>> clock(0), clock(0.00025), clock(0.25), clock(75), clock(7200)
    ('0 s', '0.25 ms', '0.25 s', '75 s', '2.0 h')
    """
    if 0 < seconds < 0.01:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits.

    >>> duration(0.0042), duration(1.5)
    ('4.2 ms', '1.50 s')
    """
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
