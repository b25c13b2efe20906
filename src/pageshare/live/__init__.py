"""Processes as they run: how much of their memory is identical, and what the kernel's KSM would save of it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable

from pageshare.ksm import Ksm, KsmStat, ksm_now
from pageshare.live.find import find
from pageshare.live.foretell import Foretold
from pageshare.live.report import LiveReport, LookBack, MappingReport, OutOfReach, Pages, ProcessReport
from pageshare.live.watch import Watch
from pageshare.process import ProcessError

__all__ = [
    "Foretold",
    "Ksm",
    "KsmStat",
    "LiveReport",
    "LookBack",
    "MappingReport",
    "OutOfReach",
    "Pages",
    "ProcessError",
    "ProcessReport",
    "Watch",
    "find",
    "ksm_now",
    "live",
]


def live(
    pids: Iterable[int], *, anonymous: bool = False, swapped: bool = False, seed: int | None = None
) -> LiveReport:
    """Look once at the memory of running processes, by their numbers, and say what KSM would save.

    They run on. ``anonymous=True`` leaves out pages of files and of shared memory; ``swapped=True`` reads pages that
    lie in swap too, which brings them back into memory. Whatever can't be looked at is in ``refused`` and ``gone``.
    For several looks see ``Watch``.

    >>> import os
    >>> from pageshare.live import live
    >>> report = live([os.getpid()])
    >>> report.processes[0].pid == os.getpid(), report.pages.anonymous > 0, report.verified
    (True, True, False)
    """
    with contextlib.closing(
        Watch(seed=secrets.randbits(64) if seed is None else seed, anonymous=anonymous, swapped=swapped)
    ) as watch:
        return watch.look(list(dict.fromkeys(pids)))
