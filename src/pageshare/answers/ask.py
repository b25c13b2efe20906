"""What may be asked of a scan, and who answers: all that follows from an inventory, with every full scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pageshare.answers import Answers
from pageshare.answers.groups import groups
from pageshare.answers.isolation import isolation
from pageshare.answers.joining import joining
from pageshare.answers.ksm import SLEEP, ksm
from pageshare.answers.matrix import matrix
from pageshare.answers.memory_map import memory_map
from pageshare.answers.placement import placement
from pageshare.answers.runs import runs
from pageshare.core import Control
from pageshare.inventory import Inventory
from pageshare.ksm import KSM_PAGES, MAX_PAGE_SHARING

MOST_IN_MATRIX = 256
"""Owners up to which their matrix is part of every report."""


@dataclass(frozen=True)
class Questions:
    """What to answer, besides what is always answered.

    ``matrix``: of more than 256 owners too. ``hosts`` and ``host_bytes``: placement on so many hosts, of that size,
    a share of ``headroom`` of which stays free. The others are settings of KSM, by the kernel's names.
    """

    matrix: bool = False
    hosts: int | None = None
    host_bytes: int | None = None
    headroom: float = 0.0
    max_page_sharing: int = MAX_PAGE_SHARING
    pages_to_scan: int = KSM_PAGES
    sleep_millisecs: int = SLEEP
    use_zero_pages: bool = False


def ask(
    questions: Questions,
    inventory: Inventory,
    *,
    holes: Sequence[int],
    seed: int,
    control: Control | None = None,
) -> Answers:
    """Everything that needs no bytes of pages; ``holes`` are the zero pages of each owner that are holes of its files.

    Raises ValueError for a question that makes no sense, ``Stopped``.
    """
    few = questions.matrix or len(inventory.owners) <= MOST_IN_MATRIX
    return Answers(
        matrix=matrix(inventory, control) if few else None,
        joining=joining(inventory),
        groups=groups(inventory),
        memory_map=memory_map(inventory, control=control),
        runs=runs(inventory, control=control),
        isolation=isolation(inventory),
        ksm=ksm(
            inventory,
            holes=holes,
            max_page_sharing=questions.max_page_sharing,
            pages_to_scan=questions.pages_to_scan,
            sleep_millisecs=questions.sleep_millisecs,
            use_zero_pages=questions.use_zero_pages,
        ),
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
