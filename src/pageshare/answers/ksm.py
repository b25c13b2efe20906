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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    page = inventory.page_size
    missing = np.zeros(len(inventory.owners), np.int64) if holes is None else np.asarray(holes, np.int64)
    memories = [_Memory(inventory, max_page_sharing, missing)]
    if missing.any():
        memories.append(_Memory(inventory, max_page_sharing))
    everyone = np.ones(len(inventory.owners), np.bool_)
    found = {
        (memory, zero): memory.merged(everyone, use_zero_pages=zero) for memory in memories for zero in (False, True)
    }
    memory, merged = memories[0], found[memories[0], bool(use_zero_pages)]
    left_out, without = _left_out(memory, merged, use_zero_pages=bool(use_zero_pages))
    counters = merged.counters
    enough = _enough(counters.scanned, page)
    profits = [found[memory, zero].counters.profit for zero in (False, True)]
    return Ksm(
        max_page_sharing=int(max_page_sharing),
        use_zero_pages=bool(use_zero_pages),
        counters=counters,
        variants=tuple(each.counters for each in found.values()),
        extra_frames=merged.extra_frames,
        guests=tuple(_guests(memory, merged)),
        leave_out=tuple(inventory.owners[i] for i in np.flatnonzero(left_out).tolist()),
        profit_without=without,
        pass_cpu_seconds=counters.scanned * page / KSMD_RATE,
        paces=_paces(counters.scanned, page, (int(pages_to_scan), int(sleep_millisecs)), (enough, SLEEP)),
        suggested=tuple(_suggested(enough, profits[1] - profits[0])) if max(profits) > 0 else (),
    )


@dataclass(frozen=True)
class _Merged:
    """What KSM makes of some owners: ``counters``, and for each owner what it has in them."""

    counters: Counters
    extra_frames: int
    merging: Counts
    part: NDArray[np.float64]
    adds: Counts
    items: Counts
    zero: Counts
    profits: Counts


class _Memory:
    """Pages of the owners as KSM sees them: those of ``holes`` are not there, unless these are taken for memory."""

    def __init__(self, inventory: Inventory, limit: int, holes: Counts | None = None) -> None:
        self.inventory, self.limit, self.with_holes = inventory, limit, holes is None
        self.holes = np.zeros(len(inventory.owners), np.int64) if holes is None else holes
        self.zeros = inventory.zeros - self.holes
        self.scanned = inventory.known - self.holes

    def merged(self, members: NDArray[np.bool_], *, use_zero_pages: bool) -> _Merged:
        """If only ``members`` were mergeable."""
        page, count = self.inventory.page_size, len(members)
        zeros, scanned = self.zeros * members, self.scanned * members
        merging, adds, nodes_added = (np.zeros(count, np.int64) for _ in range(3))
        part = np.zeros(count)
        shared = sharing = nodes = extra = 0
        for contents, holdings in self._blocks(zeros, use_zero_pages=use_zero_pages):
            owner = holdings["owner"].astype(np.intp)
            mine = holdings["pages"].astype(np.int64) * members[owner]
            starts = contents["start"] - contents["start"][0]
            copies = np.add.reduceat(mine, starts)
            made, lone = frames_for(copies, self.limit)
            saved, made_nodes = copies - made - lone, _nodes(made)
            shared += int(made.sum())
            sharing += int(saved.sum())
            nodes += int(made_nodes.sum())
            extra += int((np.maximum(copies - 1, 0) - saved).sum())
            times = contents["owners"]
            of_all = np.repeat(copies, times)
            rest = of_all - mine
            rest_made, rest_lone = frames_for(rest, self.limit)
            adds += _sum(owner, np.repeat(saved, times) - (rest - rest_made - rest_lone), count)
            nodes_added += _sum(owner, np.repeat(made_nodes, times) - _nodes(rest_made), count)
            part += np.bincount(owner, mine * np.repeat(saved / np.maximum(copies, 1), times), count)
            # The one that is left over is the last that KSM comes to.
            alone = np.zeros(len(owner), np.int64)
            alone[starts + times - 1] = lone
            merging += _sum(owner, np.where(of_all > 1, mine, 0) - np.where(of_all > 1, alone, 0), count)
        sum_zero = zeros.sum()
        zero_made, zero_lone = frames_for(sum_zero, self.limit)
        own = int(sum_zero) if use_zero_pages else 0
        if use_zero_pages:
            adds += zeros
            part += zeros
        items = scanned - zeros * use_zero_pages
        scans, all_items, reclaimed = int(scanned.sum()), int(items.sum()), sharing + own
        general = reclaimed * page - all_items * RMAP_ITEM
        return _Merged(
            Counters(
                use_zero_pages=use_zero_pages,
                holes=self.with_holes,
                scanned=scans,
                pages_shared=shared,
                pages_sharing=sharing,
                pages_unshared=scans - shared - sharing - own,
                ksm_zero_pages=own,
                reclaimed=reclaimed,
                reclaimed_zero=own if use_zero_pages else int(sum_zero - zero_made - zero_lone),
                rmap_items=all_items,
                cost_bytes=all_items * RMAP_ITEM,
                node_bytes=nodes * STABLE_NODE,
                general_profit=general,
                profit=general - nodes * STABLE_NODE,
            ),
            extra,
            merging,
            part,
            adds,
            items,
            zeros if use_zero_pages else np.zeros_like(zeros),
            adds * page - items * RMAP_ITEM - nodes_added * STABLE_NODE,
        )

    def _blocks(self, zeros: Counts, *, use_zero_pages: bool) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Contents and their holdings; zeros are one more, if they are ordinary ones."""
        found = self.inventory.everywhere
        for first in range(1, len(found.contents), BLOCK):
            part = found.contents[first : first + BLOCK]
            start, end = int(part["start"][0]), int(part["start"][-1]) + int(part["owners"][-1])
            yield part, found.holdings[start:end]
        holders = np.flatnonzero(zeros)
        if len(holders) and not use_zero_pages:
            holdings = np.empty(len(holders), HOLDING)
            holdings["owner"], holdings["pages"] = holders, zeros[holders]
            content = np.zeros(1, CONTENT)
            content["pages"], content["owners"] = zeros.sum(), len(holders)
            yield content, holdings


def _nodes(frames: Counts) -> Counts:
    """Stable nodes: one for each frame, and one for the chain where there are several."""
    return frames + (frames > 1)


def _sum(owner: NDArray[np.intp], values: Counts, count: int) -> Counts:
    return np.bincount(owner, values, count).astype(np.int64)


def _left_out(memory: _Memory, merged: _Merged, *, use_zero_pages: bool) -> tuple[NDArray[np.bool_], int]:
    """Owners that had better not be mergeable, and the profit without them.

    What an owner adds is never more where others are gone: so whoever costs more than it brings does so in any company,
    and when such owners go others may follow.
    """
    members = np.ones(len(memory.zeros), np.bool_)
    while (worse := members & (merged.profits < 0)).any():
        members &= ~worse
        merged = memory.merged(members, use_zero_pages=use_zero_pages)
    return ~members, merged.counters.profit


def _guests(memory: _Memory, merged: _Merged) -> Iterator[Guest]:
    page = memory.inventory.page_size
    cost = merged.items * RMAP_ITEM
    columns = zip(
        memory.inventory.owners,
        memory.scanned.tolist(),
        merged.merging.tolist(),
        memory.zeros.tolist(),
        memory.holes.tolist(),
        merged.part.tolist(),
        merged.adds.tolist(),
        cost.tolist(),
        ((merged.merging + merged.zero) * page - cost).tolist(),
        merged.profits.tolist(),
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
