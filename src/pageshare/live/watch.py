"""Several looks at the same processes: what changes between two of them is nothing for KSM."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pageshare.core import Control
from pageshare.live.look import VOLATILE, Look, Looker
from pageshare.live.report import LiveReport, LookBack, report_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Seen(NamedTuple):
    """What a page's hash was: numbers of pages, ascending, and half of their hashes."""

    pages: NDArray[np.uint64]
    hashes: NDArray[np.uint64]


class Watch:
    """Looks at processes, again and again. To be closed.

    With ``compare=True`` pages that changed since the look before count as volatile and are in no saving: KSM leaves
    them alone. That takes 52 bytes a page in place of 28, and what ``report_of`` takes while it counts. The other
    arguments are those of ``Looker``.
    """

    def __init__(self, *, seed: int, anonymous: bool = False, swapped: bool = False, compare: bool = False) -> None:
        self._looker = Looker(seed=seed, anonymous=anonymous, swapped=swapped, pages=compare)
        self._compare = compare
        self._seen: dict[tuple[int, int], _Seen] = {}
        self._looks: list[LookBack] = []
        self._began = time.perf_counter()

    def close(self) -> None:
        """Close its files."""
        self._looker.close()

    def look(self, pids: Sequence[int], control: Control | None = None) -> LiveReport:
        """Look once more, at these processes; ``looks`` of the report has all so far, if looks are compared.

        Stopped by ``control`` it gives what was seen until then, marked as interrupted.
        """
        look = self._looker.look(pids, Control() if control is None else control)
        if self._compare:
            self._mark_changed(look)
        report = report_of(look, kpagecount=self._looker.kpagecount)
        if not self._compare:
            return report
        if not look.interrupted:  # a part would not compare with a whole
            self._looks.append(
                LookBack(
                    seconds=time.perf_counter() - self._began,
                    processes=len(report.processes),
                    anonymous=report.pages.anonymous,
                    saved=report.allowed.saved,
                    saved_zero=report.allowed.saved_zero,
                    saved_today=report.today.saved,
                    volatile=report.pages.volatile,
                )
            )
        return replace(report, looks=tuple(self._looks))

    def _mark_changed(self, look: Look) -> None:
        """Mark the rows that differ from the look before, and remember this one in its place."""
        rows = look.rows
        assert rows.pages is not None  # noqa: S101 - Looker was told so
        for subject in look.subjects:
            part = subject.rows
            now = _Seen(rows.pages[part], rows.hashes[part, 0].copy())
            before = self._seen.get((subject.pid, subject.started))
            if before is not None and len(before.pages):
                at = np.minimum(np.searchsorted(before.pages, now.pages), len(before.pages) - 1)
                changed = (before.pages[at] == now.pages) & (before.hashes[at] != now.hashes)
                rows.flags[part] |= np.where(changed, VOLATILE, np.uint8(0))
            self._seen[subject.pid, subject.started] = now
        here = {(subject.pid, subject.started) for subject in look.subjects}
        if not look.interrupted:
            self._seen = {key: seen for key, seen in self._seen.items() if key in here}
