"""What may be asked of a scan, and who answers: all that follows from an inventory, with every full scan."""

from __future__ import annotations

from dataclasses import dataclass

from pageshare.answers import Answers
from pageshare.answers.isolation import isolation
from pageshare.answers.joining import joining
from pageshare.answers.matrix import matrix
from pageshare.answers.placement import placement
from pageshare.core import Control
from pageshare.inventory import Inventory

MOST_IN_MATRIX = 256
"""Owners up to which their matrix is part of every report."""


@dataclass(frozen=True)
class Questions:
    """What to answer, besides what is always answered.

    ``matrix``: of more than 256 owners too. ``hosts`` and ``host_bytes``: placement on so many hosts, of that size,
    a share of ``headroom`` of which stays free.
    """

    matrix: bool = False
    hosts: int | None = None
    host_bytes: int | None = None
    headroom: float = 0.0


def ask(questions: Questions, inventory: Inventory, *, seed: int, control: Control | None = None) -> Answers:
    """Everything that needs no bytes of pages. Raises ValueError for a question that makes no sense, ``Stopped``."""
    few = questions.matrix or len(inventory.owners) <= MOST_IN_MATRIX
    return Answers(
        matrix=matrix(inventory, control) if few else None,
        joining=joining(inventory),
        isolation=isolation(inventory),
        placement=None
        if questions.hosts is None and questions.host_bytes is None
        else placement(
            inventory,
            hosts=questions.hosts,
            host_bytes=questions.host_bytes,
            headroom=questions.headroom,
            seed=seed,
        ),
    )
