"""Owners' names within sentences."""

from __future__ import annotations

from pageshare.images import printable
from pageshare.render.tables import shortened

LONGEST = 40


def named(name: str) -> str:
    """A name on one line, and not too long.

    >>> named("a\\nb")
    'a\\\\nb'
    """
    return shortened(printable(name), LONGEST)
