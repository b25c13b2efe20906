"""Which owners have the same in their memory, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pageshare.core import Control
    from pageshare.inventory import Inventory

ALWAYS = 256
"""Up to so many owners a scan answers this unasked: the matrix grows with their square."""


@dataclass(frozen=True)
class Matrix:
    """How many distinct contents owners a and b both hold, whatever the domain, zeros left out: common_contents[a][b].

    On the diagonal: how many each one holds. ``owners`` are in the order in which they were given.
    """

    owners: tuple[str, ...]
    common_contents: tuple[tuple[int, ...], ...]


def matrix(inventory: Inventory, control: Control | None = None) -> Matrix:
    """Count for each pair. Raises ``Stopped``.

    >>> import pageshare
    >>> from pageshare.answers.matrix import matrix
    >>> report = pageshare.scan({"a": b"x" * 8192, "b": b"x" * 4096 + b"y" * 4096})
    >>> matrix(report.inventory).common_contents
    ((1, 1), (1, 2))
    """
    common = inventory.everywhere.common(control)
    return Matrix(inventory.owners, tuple(tuple(row) for row in common.tolist()))
