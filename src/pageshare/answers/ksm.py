"""What Linux's KSM would make of these owners if they were its guests: what it wins, what it costs, how long it takes.

KSM merges anonymous pages of mergeable memory by content, each frame with ``max_page_sharing`` mappings at most, so
that a content with very many copies keeps several frames; a page that is left over alone stays as it is
(``pageshare.ksm.frames_for``). With ``use_zero_pages`` zero pages become the kernel's own, and no frame is kept.
It keeps 64 bytes for each page that it scans (``struct ksm_rmap_item``; not for zero pages that are the kernel's own)
and for each frame (``struct ksm_stable_node``; one more for a content with several frames). ``general_profit`` counts
the first and not the second; ``ksm_process_profit`` takes retained frames for saved ones.
A page merges when it is met for the second time unchanged: two passes find all that holds still.
Sources: the kernel's mm/ksm.c (6.18), Documentation/admin-guide/mm/ksm.rst.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.core import CONTENT, HOLDING
from pageshare.ksm import KSM_PAGES, KSM_SLEEP, KSMD_RATE, MAX_PAGE_SHARING, RMAP_ITEM, frames_for
from pageshare.ksm import Ksm as Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.inventory import Inventory

    Counts = NDArray[np.int64]

BLOCK = 1 << 16
"""Contents at a time: what is worked out of them stays in a cache."""
STABLE_NODE = 64
"""Bytes of ``struct ksm_stable_node`` on 64-bit kernels with NUMA."""
SLEEP = round(1000 * KSM_SLEEP)
PASSES = 2
"""A page is hashed in the first one, and merged in the second if its hash is the same."""
TARGET = 600
"""Seconds in which the suggested settings find everything that holds still."""
MOST_CPU = 0.7
"""Of a CPU, at most: the kernel's advisor_max_cpu."""
PAGES_TO_SCAN = (KSM_PAGES, 1_000, 5_000, 30_000)
"""Settings to compare: the default; the last one is the kernel's advisor_max_pages_to_scan."""

ASSUMPTIONS = (
    "Each owner is a guest or process whose memory is anonymous and mergeable (madvise); guests on hugetlbfs, in shared"
    " memory or in files are out of KSM's reach, and so are a process's pages of files.",
    "The memory holds still: what is written between two passes is not merged, and a write to a merged page undoes it.",
    "No page is shared already, by a fork or by KSM.",
    "KSM merges across all owners, sharing domains or not (merge_across_nodes=1).",
    "Pages that were never touched take no memory and cost KSM nothing. Holes of a dump are taken to be such pages, and"
    " zero pages that lie in it to be memory.",
    f"ksmd gets through {KSMD_RATE >> 30} GiB a second of a CPU; it goes on with its passes for as long as it runs.",
)


@dataclass(frozen=True)
class Counters:
    """What the kernel's counters of these names would show, in pages, and what that comes to, in bytes.

    ``use_zero_pages``: whether zero pages become the kernel's own; ``holes``: whether holes are taken for zero pages in
    memory. ``reclaimed`` = ``pages_sharing`` + ``ksm_zero_pages``, ``reclaimed_zero`` of it zero pages.
    ``cost_bytes`` are 64 for each of ``rmap_items``, ``node_bytes`` 64 for each frame and chain of frames.
    ``general_profit`` is what is reclaimed less the first, as the kernel computes it, ``profit`` less both.
    """

    use_zero_pages: bool
    holes: bool
    scanned: int
    pages_shared: int
    pages_sharing: int
    pages_unshared: int
    ksm_zero_pages: int
    reclaimed: int
    reclaimed_zero: int
    rmap_items: int
    cost_bytes: int
    node_bytes: int
    general_profit: int
    profit: int


@dataclass(frozen=True)
class Guest:
    """One owner, with the settings that were asked for. ``part``: its fair part of the pages reclaimed, each content's
    saving split evenly over the pages that hold it; ``adds``: what would not be reclaimed without it.

    ``process_profit`` (bytes) is what /proc/PID/ksm_stat would say: it takes all ``merging`` pages for saved ones.
    ``profit`` (bytes) is by how much the profit of all would fall without it: where that is negative, it costs more
    than it brings.
    """

    name: str
    scanned: int
    merging: int
    zero: int
    holes: int
    part: float
    adds: int
    cost_bytes: int
    process_profit: int
    profit: int


@dataclass(frozen=True)
class Pace:
    """How long it takes at these settings, in seconds: for a pass, for the two that find what holds still from the
    beginning of the first, and for a third one, that finds what was being written then. Also the share of a CPU."""

    name: str
    pages_to_scan: int
    sleep_millisecs: int
    pass_seconds: float
    seconds: float
    most_seconds: float
    cpu_share: float


@dataclass(frozen=True)
class Setting:
    """A file in /sys/kernel/mm/ksm, what to write there, and why."""

    name: str
    value: str
    why: str


@dataclass(frozen=True)
class Ksm:
    """``counters`` are those at the settings that were asked for, ``variants`` also at others. ``leave_out`` are owners
    that cost more than they bring, whoever else is there; ``profit_without`` them is that of the rest.
    ``extra_frames``: pages that ``max_page_sharing`` leaves unmerged. ``pass_cpu_seconds``: of a CPU, for each pass.
    """

    max_page_sharing: int
    use_zero_pages: bool
    counters: Counters
    variants: tuple[Counters, ...]
    extra_frames: int
    guests: tuple[Guest, ...]
    leave_out: tuple[str, ...]
    profit_without: int
    pass_cpu_seconds: float
    paces: tuple[Pace, ...]
    suggested: tuple[Setting, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS


def ksm(
    inventory: Inventory,
    *,
    holes: Sequence[int] | None = None,
    max_page_sharing: int = MAX_PAGE_SHARING,
    pages_to_scan: int = KSM_PAGES,
    sleep_millisecs: int = SLEEP,
    use_zero_pages: bool = False,
) -> Ksm:
    """Foretell it, with KSM's settings by their names; ``holes`` says how many zero pages of each owner are holes
    (``Coverage.zero_inferred``).

    Raises ValueError for a setting that the kernel does not take.

    >>> import pageshare
    >>> from pageshare.answers.ksm import ksm
    >>> report = pageshare.scan({"a": b"x" * 8192, "b": b"x" * 4096 + bytes(4096)})
    >>> found = ksm(report.inventory).counters
    >>> found.pages_shared, found.pages_sharing, found.general_profit
    (1, 2, 7936)
    """
    for name, value, least in (
        ("max_page_sharing", max_page_sharing, 2),
        ("pages_to_scan", pages_to_scan, 1),
        ("sleep_millisecs", sleep_millisecs, 0),
    ):
        if not least <= value < 1 << 32 or value != int(value):
            raise ValueError(f"{name} {value}: must be a whole number from {least} to 2^32 - 1")
    page, limit, owners = inventory.page_size, int(max_page_sharing), inventory.owners
    missing = np.zeros(len(owners), np.int64) if holes is None else np.asarray(holes, np.int64)
    zeros, scanned = inventory.zeros - missing, inventory.known - missing
    everyone = np.ones(len(owners), np.bool_)

    def outcome(of: _Sums, members: Counts | NDArray[np.bool_], *, zero: bool, holes: bool = False) -> _Outcome:
        back = missing * holes
        return _outcome(
            page, of, (zeros + back) * members, (scanned + back) * members, limit, use_zero_pages=zero, holes=holes
        )

    contents = _of_contents(inventory, everyone, limit)
    variants = [
        outcome(contents, everyone, zero=zero, holes=holes)
        for holes in ((False, True) if missing.any() else (False,))
        for zero in (False, True)
    ]
    asked = variants[bool(use_zero_pages)]
    left_out, without = _left_out(
        asked,
        lambda members: outcome(_of_contents(inventory, members, limit), members, zero=bool(use_zero_pages)),
    )
    enough = _enough(asked.counters.scanned, page)
    profits = [each.counters.profit for each in variants[:2]]
    return Ksm(
        max_page_sharing=limit,
        use_zero_pages=bool(use_zero_pages),
        counters=asked.counters,
        variants=tuple(each.counters for each in variants),
        extra_frames=asked.sums.extra,
        guests=tuple(_guests(inventory, asked, missing)),
        leave_out=tuple(owners[i] for i in np.flatnonzero(left_out).tolist()),
        profit_without=without,
        pass_cpu_seconds=asked.counters.scanned * page / KSMD_RATE,
        paces=_paces(asked.counters.scanned, page, (int(pages_to_scan), int(sleep_millisecs)), (enough, SLEEP)),
        suggested=tuple(_suggested(enough, profits[1] - profits[0])) if max(profits) > 0 else (),
    )


@dataclass(frozen=True)
class _Sums:
    """What KSM makes of some contents: frames, further mappings of them, stable nodes, pages that stay unmerged only
    because frames are full; for each owner its pages that merge, its part of what is saved, and how much of that and of
    the nodes would not be there without it."""

    frames: int
    sharing: int
    nodes: int
    extra: int
    merging: Counts
    part: NDArray[np.float64]
    adds: Counts
    nodes_added: Counts

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def _nothing(owners: int) -> _Sums:
    none = np.zeros(owners, np.int64)
    return _Sums(0, 0, 0, 0, none, np.zeros(owners), none, none)


def _merged(contents: NDArray[Any], holdings: NDArray[Any], members: NDArray[np.bool_], limit: int) -> _Sums:
    """If only ``members`` were mergeable."""
    owner, times = holdings["owner"].astype(np.intp), contents["owners"]
    starts = contents["start"] - contents["start"][0]
    mine = holdings["pages"].astype(np.int64) * members[owner]
    copies = np.add.reduceat(mine, starts)
    made, lone = frames_for(copies, limit)
    saved, nodes = copies - made - lone, _nodes(made)
    rest = np.repeat(copies, times) - mine
    rest_made, rest_lone = frames_for(rest, limit)
    # The page that is left over alone is the last one that KSM comes to.
    merging = mine.copy()
    merging[np.maximum.reduceat(np.where(mine > 0, np.arange(len(mine)), 0), starts)] -= lone

    def by_owner(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(owner, values, len(members)).astype(np.float64)

    return _Sums(
        frames=int(made.sum()),
        sharing=int(saved.sum()),
        nodes=int(nodes.sum()),
        extra=int((np.maximum(copies - 1, 0) - saved).sum()),
        merging=by_owner(merging).astype(np.int64),
        part=by_owner(mine * np.repeat(saved / np.maximum(copies, 1), times)),
        adds=by_owner(np.repeat(saved, times) - (rest - rest_made - rest_lone)).astype(np.int64),
        nodes_added=by_owner(np.repeat(nodes, times) - _nodes(rest_made)).astype(np.int64),
    )


def _of_contents(inventory: Inventory, members: NDArray[np.bool_], limit: int) -> _Sums:
    """All but zeros."""
    found, sums = inventory.everywhere, _nothing(len(members))
    for first in range(1, len(found.contents), BLOCK):
        part = found.contents[first : first + BLOCK]
        start, end = int(part["start"][0]), int(part["start"][-1]) + int(part["owners"][-1])
        sums += _merged(part, found.holdings[start:end], members, limit)
    return sums


def _of_zeros(zeros: Counts, limit: int) -> _Sums:
    """Zeros as any other content."""
    holders = np.flatnonzero(zeros)
    if not len(holders):
        return _nothing(len(zeros))
    holdings, content = np.empty(len(holders), HOLDING), np.zeros(1, CONTENT)
    holdings["owner"], holdings["pages"] = holders, zeros[holders]
    content["pages"], content["owners"] = zeros.sum(), len(holders)
    return _merged(content, holdings, np.ones(len(zeros), np.bool_), limit)


@dataclass(frozen=True)
class _Outcome:
    """With or without zero pages of the kernel's own: ``counters``, and for each owner its records and the profit that
    would not be there without it."""

    counters: Counters
    sums: _Sums
    items: Counts
    zero: Counts
    profits: Counts


def _outcome(
    page: int, contents: _Sums, zeros: Counts, scanned: Counts, limit: int, *, use_zero_pages: bool, holes: bool
) -> _Outcome:
    """``zeros`` and ``scanned`` are pages of each owner."""
    own = zeros if use_zero_pages else np.zeros_like(zeros)
    of_zeros = _of_zeros(zeros - own, limit)
    sums = contents + of_zeros + replace(_nothing(len(zeros)), part=own.astype(np.float64), adds=own)
    items, freed, scans = scanned - own, int(own.sum()), int(scanned.sum())
    reclaimed, cost, nodes = sums.sharing + freed, int(items.sum()) * RMAP_ITEM, sums.nodes * STABLE_NODE
    return _Outcome(
        Counters(
            use_zero_pages=use_zero_pages,
            holes=holes,
            scanned=scans,
            pages_shared=sums.frames,
            pages_sharing=sums.sharing,
            pages_unshared=scans - sums.frames - reclaimed,
            ksm_zero_pages=freed,
            reclaimed=reclaimed,
            reclaimed_zero=of_zeros.sharing + freed,
            rmap_items=int(items.sum()),
            cost_bytes=cost,
            node_bytes=nodes,
            general_profit=reclaimed * page - cost,
            profit=reclaimed * page - cost - nodes,
        ),
        sums,
        items,
        own,
        sums.adds * page - items * RMAP_ITEM - sums.nodes_added * STABLE_NODE,
    )


def _nodes(frames: Counts) -> Counts:
    """Stable nodes: one for each frame, and one for the chain where there are several."""
    return frames + (frames > 1)


def _left_out(
    outcome: _Outcome, without: Callable[[NDArray[np.bool_]], _Outcome]
) -> tuple[NDArray[np.bool_], int]:
    """Owners that had better not be mergeable, and the profit without them; ``without`` says what comes of others.

    What an owner adds is never more where others are gone: so whoever costs more than it brings does so in any company,
    and when such owners go others may follow.
    """
    members = np.ones(len(outcome.profits), np.bool_)
    while (worse := members & (outcome.profits < 0)).any():
        members &= ~worse
        outcome = without(members)
    return ~members, outcome.counters.profit


def _guests(inventory: Inventory, outcome: _Outcome, holes: Counts) -> Iterator[Guest]:
    page = inventory.page_size
    cost = outcome.items * RMAP_ITEM
    columns = zip(
        inventory.owners,
        (inventory.known - holes).tolist(),
        outcome.sums.merging.tolist(),
        (inventory.zeros - holes).tolist(),
        holes.tolist(),
        outcome.sums.part.tolist(),
        outcome.sums.adds.tolist(),
        cost.tolist(),
        ((outcome.sums.merging + outcome.zero) * page - cost).tolist(),
        outcome.profits.tolist(),
        strict=True,
    )
    return (Guest(*each) for each in columns)


def _pace(name: str, scanned: int, page: int, pages_to_scan: int, sleep_millisecs: int) -> Pace:
    slept = Settings(pages_to_scan=pages_to_scan, sleep_millisecs=sleep_millisecs).pass_seconds(scanned) or 0.0
    each = page / KSMD_RATE
    seconds = slept + scanned * each
    busy = pages_to_scan * each
    return Pace(
        name,
        pages_to_scan,
        sleep_millisecs,
        pass_seconds=seconds,
        seconds=PASSES * seconds,
        most_seconds=(PASSES + 1) * seconds,
        cpu_share=busy / (busy + sleep_millisecs / 1000),
    )


def _paces(scanned: int, page: int, asked: tuple[int, int], best: tuple[int, int]) -> tuple[Pace, ...]:
    """At the settings that were asked for (the first ones), at others, and at those that are suggested."""
    default = (KSM_PAGES, SLEEP)
    settings = dict.fromkeys([asked, *((number, SLEEP) for number in PAGES_TO_SCAN), best], "")
    for each, name in ((asked, "asked for"), (default, "default"), (best, "suggested")):
        settings[each] = f"{settings[each]}, {name}" if settings[each] else name
    if asked == default:
        settings[asked] = settings[asked].removeprefix("asked for, ")
    return tuple(_pace(name, scanned, page, *each) for each, name in settings.items())


def _enough(scanned: int, page: int) -> int:
    """pages_to_scan for ``PASSES`` within ``TARGET`` seconds, if ``MOST_CPU`` allows for it; never less than the
    default."""
    each = page / KSMD_RATE
    most = MOST_CPU / (1 - MOST_CPU) * KSM_SLEEP / each
    left = TARGET / PASSES - scanned * each
    wanted = scanned * KSM_SLEEP / left if left > 0 else math.inf
    return max(KSM_PAGES, math.ceil(min(wanted, most)))


def _suggested(pages_to_scan: int, gain: int) -> Iterator[Setting]:
    """``gain``: bytes that use_zero_pages brings."""
    yield Setting("run", "1", "starts it")
    yield Setting(
        "pages_to_scan",
        str(pages_to_scan),
        f"two passes within {TARGET // 60} minutes, if {100 * MOST_CPU:g} % of a CPU suffice",
    )
    yield Setting("sleep_millisecs", str(SLEEP), "as by default")
    if gain > 0:
        yield Setting("use_zero_pages", "1", "zero pages then keep no frame and need no record: set it before run")
    yield Setting("smart_scan", "1", "as by default since Linux 6.7: passes by what it has not merged for long")
    yield Setting("advisor_mode", "scan-time", "since Linux 6.8, in place of pages_to_scan: sees to it by itself")
    yield Setting("advisor_target_scan_time", str(TARGET // PASSES), "seconds for a pass, for that")
