"""What may be asked of a scan, and who answers: all that follows from an inventory, with every full scan."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pageshare import limits
from pageshare.answers import Answers
from pageshare.answers.contents import contents
from pageshare.answers.groups import groups
from pageshare.answers.isolation import isolation
from pageshare.answers.joining import joining
from pageshare.answers.ksm import SLEEP, ksm
from pageshare.answers.matrix import ALWAYS, matrix
from pageshare.answers.memory_map import memory_map
from pageshare.answers.runs import runs
from pageshare.core import Control
from pageshare.ksm import KSM_PAGES, MAX_PAGE_SHARING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pageshare.answers.placement import Placement
    from pageshare.inventory import Inventory
    from pageshare.report import Report
    from pageshare.space import PageSpace


@dataclass(frozen=True)
class Questions:
    """What to answer, besides what is always answered.

    ``matrix``: of more than 256 owners too. ``top`` contents are told of, their first bytes with ``show_contents``.
    ``page_sizes``: of smaller and larger pages. ``similar``: patching and compressing, on a sample, or on all pages if
    ``full``. ``hosts`` and ``host_bytes``: placement on so many hosts, of that size, a share of ``headroom`` of which
    stays free. The others are settings of KSM, by the kernel's names.
    """

    matrix: bool = False
    top: int = 50
    show_contents: bool = False
    page_sizes: bool = False
    similar: bool = False
    full: bool = False
    hosts: int | None = None
    host_bytes: int | None = None
    headroom: float = 0.0
    max_page_sharing: int = MAX_PAGE_SHARING
    pages_to_scan: int = KSM_PAGES
    sleep_millisecs: int = SLEEP
    use_zero_pages: bool = False

    @property
    def of_bytes(self) -> tuple[str, ...]:
        """Those that need the bytes of many pages."""
        return tuple(name for name in ("page_sizes", "similar") if getattr(self, name))

    def check(self) -> None:
        """Raise ValueError, before anything is read, where what an answer takes is not installed."""
        if self.similar:
            from pageshare.answers._sizes import measure_with

            measure_with(4096)


def answered(
    report: Report,
    questions: Questions,
    *,
    space: PageSpace | None = None,
    kinds: NDArray[np.uint8] | None = None,
    digests: NDArray[np.uint8] | None = None,
    threads: int | None = None,
    control: Control | None = None,
) -> Report:
    """The report of a full scan with answers to all that needs a few pages at most; what it answers of the bytes of
    many pages stays.

    Of contents it is told what they are if there is the ``space``, or ``kinds`` and ``digests`` of a saved scan.
    Raises ValueError for a question that makes no sense, MediaError, ``Stopped``.
    """
    inventory = report.inventory
    if inventory is None:
        raise ValueError("a scan by policy does not say which content is where")
    before, control = report.answers or Answers(), control or Control()
    few = questions.matrix or len(inventory.owners) <= ALWAYS
    # The longest ones first, so that one thread has these while another has the rest.
    asked: dict[str, Callable[[], Any]] = {
        "placement": lambda: _placement(inventory, questions, report.seed, control),
        "runs": lambda: runs(inventory, threads=threads, control=control),
        "contents": lambda: contents(
            inventory,
            space,
            most=questions.top,
            seed=report.seed,
            show_contents=questions.show_contents,
            kinds=kinds,
            digests=digests,
            control=control,
        ),
        "memory_map": lambda: memory_map(inventory, control=control),
        "ksm": lambda: ksm(
            inventory,
            holes=[owner.coverage.zero_inferred for owner in report.owners],
            max_page_sharing=questions.max_page_sharing,
            pages_to_scan=questions.pages_to_scan,
            sleep_millisecs=questions.sleep_millisecs,
            use_zero_pages=questions.use_zero_pages,
        ),
        "groups": lambda: groups(inventory),
        "isolation": lambda: isolation(inventory, control),
        "joining": lambda: joining(inventory, control),
        "matrix": lambda: matrix(inventory, control) if few else None,
    }
    with ThreadPoolExecutor(threads or limits.cpus()) as pool:
        coming = {name: pool.submit(answer) for name, answer in asked.items()}
        try:
            found = {name: each.result() for name, each in coming.items()}
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):  # this thread was interrupted: the others are to end too
                control.stop()
            raise
    return replace(report, answers=replace(before, **found))


def _placement(inventory: Inventory, questions: Questions, seed: int, control: Control) -> Placement | None:
    if questions.hosts is None and questions.host_bytes is None:
        return None
    from pageshare.answers.placement import placement

    return placement(
        inventory,
        hosts=questions.hosts,
        host_bytes=questions.host_bytes,
        headroom=questions.headroom,
        seed=seed,
        control=control,
    )
