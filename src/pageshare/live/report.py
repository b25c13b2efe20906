"""What a look at running processes comes to: plain figures, computed once. ``render/live.py`` shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.ksm import Ksm, KsmStat, ksm_now
from pageshare.live.advice import Advice, advice_for
from pageshare.live.foretell import Foretold, Frames, candidates_of, duplicates, foretell, frames_of, reach_of_mappings
from pageshare.live.look import ANONYMOUS, HUGE, KERNEL_ZERO, MERGED, SWAPPED, VOLATILE, ZERO, Look, Subject
from pageshare.live.mappings import Reach
from pageshare.process import ProcessError

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Counts: TypeAlias = dict[str, NDArray[np.int64]]

FORMAT = "pageshare-live/1"


@dataclass(frozen=True)
class Pages:
    """Pages of a mapping or a process. ``anonymous`` and ``file`` were read: the rest was not, and is in neither.

    Of the anonymous ones: ``zero`` are all zero; ``shared`` mapped elsewhere too, since a fork (``file_shared`` the
    same of pages of files and shared memory); ``merged`` by KSM; ``kernel_zero`` the kernel's page of zeros; ``huge``
    part of a huge page; ``from_swap`` lay in swap; ``volatile`` changed while they were looked at. ``would_merge``: KSM
    would, if it were allowed to everywhere; ``would_merge_today``: where it is.
    """

    anonymous: int = 0
    zero: int = 0
    shared: int = 0
    merged: int = 0
    kernel_zero: int = 0
    huge: int = 0
    from_swap: int = 0
    volatile: int = 0
    would_merge: int = 0
    would_merge_today: int = 0
    file: int = 0
    file_shared: int = 0
    untouched: int = 0
    swapped: int = 0
    excluded: int = 0
    special: int = 0
    vanished: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class MappingReport:
    """A mapping: where it is, what it is called, what KSM may do there, its pages."""

    start: int
    end: int
    name: str
    reach: Reach
    pages: Pages


@dataclass(frozen=True)
class ProcessReport:
    """A process: its pages, how many of them KSM may merge today (``mergeable``) or could if asked (``unasked``),
    frames that it would save if it were merged by itself, what KSM does for it now, why not more."""

    pid: int
    command: str
    mergeable: int
    unasked: int
    saved_within: int
    pages: Pages
    ksm: KsmStat
    advice: tuple[Advice, ...]
    mappings: tuple[MappingReport, ...]


@dataclass(frozen=True)
class OutOfReach:
    """Pages that KSM can't touch: ``pages`` mapped, of which ``shared`` are mapped elsewhere too, and ``identical``
    frames more than there are contents (None where frames are not to be seen)."""

    reach: Reach
    pages: int
    shared: int
    identical: int | None


@dataclass(frozen=True)
class Speed:
    """The look itself: bytes read, seconds, seconds of a CPU to read and hash; what a pass of KSM would take of a CPU
    at that rate, with all that it could merge and with what is mergeable today."""

    bytes_read: int
    seconds: float
    cpu_seconds: float
    bytes_per_cpu_second: float
    pass_cpu_seconds: float
    pass_cpu_seconds_today: float


@dataclass(frozen=True)
class LiveReport:
    """What was found in processes as they ran; page counts are in pages of ``page_size`` bytes.

    ``today``: what KSM would do with the memory that is mergeable; ``allowed``: if all of it were, that could be.
    ``already_saved``: mappings of anonymous pages more than there are frames for them, by fork or by KSM; the kernel's
    page of zeros, which all memory that was read and never written to maps, is not among them.
    Contents are told apart by their 128-bit hashes: the memory runs on, and cannot be compared later.
    """

    page_size: int
    hash: str
    verified: bool
    pages: Pages
    today: Foretold
    allowed: Foretold
    already_saved: int
    out_of_reach: tuple[OutOfReach, ...]
    kernel: Ksm
    frames_known: bool
    processes: tuple[ProcessReport, ...]
    refused: tuple[dict[str, Any], ...]
    gone: tuple[dict[str, Any], ...]
    speed: Speed
    looks: tuple[LookBack, ...] = ()
    interrupted: bool = False
    warnings: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it; docs/live.md explains the keys."""
        return {"format": FORMAT, **asdict(self)}


@dataclass(frozen=True)
class LookBack:
    """One of several looks, in pages: anonymous ones, what KSM would save of them by ``allowed`` and ``today``, those
    that changed since the look before (taken out of both), and how many processes there were."""

    seconds: float
    processes: int
    anonymous: int
    saved: int
    saved_zero: int
    saved_today: int
    volatile: int


def report_of(
    look: Look,
    *,
    kpagecount: int = -1,
    ksm: Ksm | None = None,
    looks: Sequence[LookBack] = (),
    incomplete: Sequence[str] = (),
) -> LiveReport:
    """Count what a look has seen. ``kpagecount`` is the open /proc/kpagecount, ``ksm`` what KSM's settings are taken to
    be (by default the kernel's)."""
    kernel = ksm_now() if ksm is None else ksm
    frames = frames_of(look, kpagecount)
    candidates = candidates_of(look, frames)
    allowed, all_rows, within = foretell(look, candidates, kernel, only_mergeable=False)
    today, rows_today, _ = foretell(look, candidates, kernel, only_mergeable=True)
    counts = _by_mapping(look, frames.shared, all_rows, rows_today)
    processes = tuple(_process(look, subject, counts, int(within[i])) for i, subject in enumerate(look.subjects))
    shared = np.flatnonzero(frames.shared & ((look.rows.flags & (ANONYMOUS | KERNEL_ZERO)) == ANONYMOUS))
    rate = look.bytes_read / look.cpu_seconds if look.cpu_seconds else 0.0
    return LiveReport(
        page_size=look.page_size,
        hash="XXH3-128",
        verified=False,
        pages=_sum([process.pages for process in processes]),
        today=today,
        allowed=allowed,
        already_saved=len(shared) - len(np.unique(frames.ids[shared])) if look.frames_known else 0,
        out_of_reach=tuple(_out_of_reach(look, frames)),
        kernel=kernel,
        frames_known=look.frames_known,
        processes=processes,
        refused=tuple(_named(error) for error in look.refused),
        gone=tuple(_named(error) for error in look.gone),
        speed=Speed(
            bytes_read=look.bytes_read,
            seconds=look.seconds,
            cpu_seconds=look.cpu_seconds,
            bytes_per_cpu_second=rate,
            pass_cpu_seconds=allowed.scanned * look.page_size / rate if rate else 0.0,
            pass_cpu_seconds_today=today.scanned * look.page_size / rate if rate else 0.0,
        ),
        looks=tuple(looks),
        interrupted=look.interrupted,
        warnings=tuple(_warnings(look, kernel)),
        incomplete=(*incomplete, *_incomplete(processes)),
    )


def _by_mapping(
    look: Look, shared: NDArray[np.bool_], merging: NDArray[np.int64], merging_today: NDArray[np.int64]
) -> Counts:
    """Rows of each kind, by the number of their mapping."""
    rows = look.rows
    last = look.subjects[-1] if look.subjects else None
    count = last.first_mapping + len(last.mappings) if last else 0

    def of(chosen: NDArray[np.bool_] | NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(rows.mappings[chosen], minlength=count)

    anonymous = (rows.flags & ANONYMOUS) != 0
    kernels = (rows.flags & (MERGED | KERNEL_ZERO)) != 0
    return {
        "anonymous": of(anonymous),
        "zero": of(anonymous & ((rows.flags & ZERO) != 0)),
        "shared": of(anonymous & shared & ~kernels),
        "merged": of((rows.flags & MERGED) != 0),
        "kernel_zero": of((rows.flags & KERNEL_ZERO) != 0),
        "huge": of((rows.flags & (HUGE | KERNEL_ZERO)) == HUGE),
        "from_swap": of((rows.flags & SWAPPED) != 0),
        "volatile": of(anonymous & ((rows.flags & VOLATILE) != 0)),
        "would_merge": of(merging),
        "would_merge_today": of(merging_today),
        "file": of(~anonymous),
        "file_shared": of(~anonymous & shared),
    }


def _process(look: Look, subject: Subject, counts: Counts, within: int) -> ProcessReport:
    mappings = []
    for i, (mapping, unread) in enumerate(zip(subject.mappings, subject.counts, strict=True)):
        number = subject.first_mapping + i
        mappings.append(
            MappingReport(
                mapping.start,
                mapping.end,
                mapping.name,
                mapping.reach,
                Pages(
                    **{name: int(of[number]) for name, of in counts.items()},
                    **asdict(unread),
                    special=(mapping.end - mapping.start) // look.page_size * (mapping.reach is Reach.SPECIAL),
                ),
            )
        )

    def pages(*reaches: Reach) -> int:
        own = [each.pages for each in mappings if each.reach in reaches]
        return sum(each.anonymous - each.kernel_zero for each in own)

    out_of_reach = {
        reach: sum(each.pages.anonymous + each.pages.file for each in mappings if each.reach is reach)
        for reach in (Reach.SHARED, Reach.HUGETLB, Reach.DROPPABLE)
    }
    unasked = pages(Reach.UNASKED)
    return ProcessReport(
        pid=subject.pid,
        command=subject.command,
        mergeable=pages(Reach.MERGEABLE),
        unasked=unasked,
        saved_within=within,
        pages=_sum([each.pages for each in mappings]),
        ksm=subject.stat,
        advice=tuple(advice_for(subject, {Reach.UNASKED: unasked, **out_of_reach})),
        mappings=tuple(mappings),
    )


def _sum(parts: Sequence[Pages]) -> Pages:
    return Pages(**{name: sum(getattr(part, name) for part in parts) for name in Pages.__dataclass_fields__})


def _out_of_reach(look: Look, frames: Frames) -> Iterator[OutOfReach]:
    """Rows that are not anonymous, or lie in mappings that KSM does not go to."""
    rows = look.rows
    anonymous = (rows.flags & ANONYMOUS) != 0
    codes = reach_of_mappings(look)[rows.mappings] if len(rows) else np.empty(0, np.uint8)
    reaches = list(Reach)
    for reach in (Reach.FILE, Reach.SHARED, Reach.HUGETLB, Reach.DROPPABLE):
        mine = codes == reaches.index(reach)
        if reach is Reach.FILE:  # of private mappings too
            mine |= ~anonymous & np.isin(codes, (reaches.index(Reach.MERGEABLE), reaches.index(Reach.UNASKED)))
        taken = np.flatnonzero(mine)
        if len(taken):
            yield OutOfReach(
                reach,
                len(taken),
                int(np.count_nonzero(frames.shared[taken])),
                duplicates(look, frames, taken) if look.frames_known else None,
            )


def _named(error: ProcessError) -> dict[str, Any]:
    return {"pid": error.pid, "command": error.command, "reason": error.reason}


def _warnings(look: Look, kernel: Ksm) -> Iterator[str]:
    if not look.frames_known and len(look.rows):
        yield (
            "frame numbers are hidden from this user: a page that is mapped elsewhere too is known as such, but not"
            " with whom, and is left out of every saving; as root (sudo) all is seen"
        )
    elif not look.flags_known:
        yield "/proc/kpageflags can't be read: KSM's pages and huge pages are not told from others"
    nodes = len(list(Path("/sys/devices/system/node").glob("node[0-9]*")))
    if kernel.merge_across_nodes == 0 and nodes > 1:
        yield f"KSM merges within each of {nodes} NUMA nodes only (merge_across_nodes=0): it saves less than said here"


def _incomplete(processes: Sequence[ProcessReport]) -> Iterator[str]:
    for process in processes:
        if process.pages.unreadable:
            yield (
                f"process {process.pid} ({process.command}): {process.pages.unreadable} pages are there but could not"
                " be read; they are not counted"
            )
