"""What KSM would do with the pages of a look: how many it would merge, and what that saves.

KSM merges anonymous pages of mergeable memory by content. A frame that several processes map since a ``fork`` is one
page already: joined by another frame with the same content, all of its mappings are merged, but one frame is saved. A
merged frame takes ``max_page_sharing`` mappings at most; one that is left over alone stays as it is. Forks of a merged
frame are not held to that: it may have more, and takes no other then. With ``use_zero_pages`` zero pages become the
kernel's own, and no frame is kept for them. Huge pages are split to merge what is in them; since Linux 6.12 that makes
zero pages in them the kernel's own too, which KSM's counters do not tell.
Sources: the kernel's mm/ksm.c, and ``try_to_map_unused_to_zeropage`` in mm/migrate.c.
"""

from __future__ import annotations

import contextlib
import platform
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import read_words
from pageshare.ksm import MAX_PAGE_SHARING, RMAP_ITEM, Ksm, frames_for
from pageshare.live.look import (
    ANONYMOUS,
    EXCLUSIVE,
    HUGE,
    IN_SWAP,
    KERNEL_ZERO,
    MERGED,
    SWAPPED,
    VOLATILE,
    ZERO,
    Look,
    Rows,
)
from pageshare.live.mappings import Reach

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Mask: TypeAlias = NDArray[np.bool_]

@dataclass(frozen=True)
class Foretold:
    """What KSM would do with some memory, in pages where nothing else is said, beyond what it has done there already.

    ``scanned`` pages it would keep an eye on; ``merging`` of them would be merged, what /proc/PID/ksm_stat calls
    ksm_merging_pages; frames ``saved``, of which ``saved_zero`` of zero pages and ``saved_within`` if every process
    were merged by itself; ``pages_sharing`` and ``ksm_zero_pages`` are how the kernel's counters would grow, and
    ``split_zero`` are saved zero pages of huge pages, which are in none of the counters.
    ``cost_bytes`` are 64 for each scanned page that is not a zero page of the kernel's by then, and of which KSM keeps
    no record yet; ``profit_bytes`` is what is saved less that, ``general_profit_bytes`` the same as the kernel computes
    it: from its counters, which take mappings of a forked page for saved ones. ``huge`` pages would be merged out of
    huge pages, which are split.
    """

    scanned: int
    merging: int
    saved: int
    saved_zero: int
    saved_within: int
    pages_sharing: int
    ksm_zero_pages: int
    split_zero: int
    huge: int
    cost_bytes: int
    profit_bytes: int
    general_profit_bytes: int


@dataclass(frozen=True)
class Frames:
    """What is known of the frames of a look's rows, one entry a row.

    ``ids`` are the rows' ``frames``; ``shared`` rows are mapped elsewhere too, in another process or twice in one;
    ``outside`` ones by somebody who was not looked at, so that nothing is freed if they are merged here.
    """

    ids: NDArray[np.uint64]
    shared: Mask
    outside: Mask


def frames_of(look: Look, kpagecount: int = -1) -> Frames:
    """Tell the frames of a look; marks the rows of a frame that had two contents as VOLATILE.

    ``kpagecount`` is the open /proc/kpagecount, -1 where it can't be had.
    """
    rows = look.rows
    ids = rows.frames
    # What is mapped once needs no more; what lay in swap belongs to its process alone, unless another one is seen to
    # have it from the same place there.
    in_swap = np.flatnonzero(rows.flags & SWAPPED)
    _, back, times = np.unique(ids[in_swap], return_inverse=True, return_counts=True)
    alone = (rows.flags & (EXCLUSIVE | SWAPPED)) != 0
    alone[in_swap[times[back.reshape(-1)] > 1]] = False
    several = np.flatnonzero(~alone)
    shared, outside = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    shared[several] = True
    order = np.argsort(ids[several], kind="stable")
    ordered = ids[several[order]]
    sizes = np.diff(np.flatnonzero(np.diff(ordered, prepend=np.uint64(0)) != 0), append=len(ordered))
    mapped = np.empty(len(several), np.uint32)
    mapped[order] = np.repeat(sizes, sizes)
    _mark_changed(rows, several[order], sizes)
    outside[several] = mapped == 1
    counted = (ids[several] < IN_SWAP) & ((rows.flags[several] & ANONYMOUS) != 0)
    if kpagecount >= 0 and counted.any():
        distinct, back = np.unique(ids[several[counted]], return_inverse=True)
        with contextlib.suppress(PermissionError):
            outside[several[counted]] = read_words(kpagecount, distinct)[back.reshape(-1)] > mapped[counted]
    return Frames(ids, shared, outside)


def _mark_changed(rows: Rows, order: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    """A frame that was written to between two reads has several contents: none of them is to be trusted.

    ``order`` are rows frame by frame, ``sizes`` how many each frame has.
    """
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)  # of each row's frame
    differs = (rows.hashes[order] != rows.hashes[order[starts]]).any(axis=1)
    changed = np.zeros(len(order), bool)
    changed[starts[differs]] = True
    rows.flags[order[changed[starts]]] |= VOLATILE


def repeated(rows: Rows, taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of these rows those that have half of their hash in common with another: all that may equal one."""
    low = rows.hashes[taken, 0]
    order = np.argsort(low)
    low = low[order]
    same = low[1:] == low[:-1]
    several = np.zeros(len(taken), bool)
    several[order[1:][same]] = True
    several[order[:-1][same]] = True
    return taken[several]


def groups_of(rows: Rows, taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each of the taken rows (int64): equal where their contents are."""
    hashes = rows.hashes[taken]
    order = np.argsort(hashes[:, 0], kind="stable")
    low = hashes[order, 0]
    high = hashes[order, 1]
    same_low = low[1:] == low[:-1]
    if (high[1:] != high[:-1])[same_low].any():  # one chance in 2^64 for each pair of pages
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))
        low, high = hashes[order, 0], hashes[order, 1]
    begins = np.ones(len(taken), bool)
    begins[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    groups = np.empty(len(taken), np.int64)
    groups[order] = np.cumsum(begins) - 1
    return groups


@dataclass(frozen=True)
class Candidates:
    """The rows that KSM may merge if it is allowed to, and those that it has merged; ordered by content and frame.

    ``rows`` are their numbers, the other columns as long: the ``groups`` of equal content, ``frames``, whether they are
    ``merged`` already, ``mergeable`` today, ``zero``, ``splits`` (zero pages that a split of their huge page gives
    back), and the ``subjects`` that they belong to. Contents that are there once only are left out; ``all_scanned``
    counts all, those left out and those that are mapped outside too, ``all_zero`` zero pages, by whether only mergeable
    ones count.
    """

    rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    frames: NDArray[np.uint64]
    merged: Mask
    mergeable: Mask
    zero: Mask
    splits: Mask
    subjects: NDArray[np.int32]
    all_scanned: dict[bool, int]
    all_zero: dict[bool, int]


def candidates_of(look: Look, frames: Frames) -> Candidates:
    """Find them."""
    rows = look.rows
    reach = reach_of_mappings(look)
    allowed = np.isin(reach, (_CODES[Reach.MERGEABLE], _CODES[Reach.UNASKED]))[rows.mappings]
    mergeable = (reach == _CODES[Reach.MERGEABLE])[rows.mappings]
    flags = rows.flags
    seen = allowed & ((flags & ANONYMOUS) != 0) & ((flags & KERNEL_ZERO) == 0)
    merged = (flags & MERGED) != 0
    zero = (flags & ZERO) != 0
    splits = zero & ((flags & HUGE) != 0) & ~merged
    splits &= ~_locked(look)[rows.mappings] if splits_free_zeros() else False
    usable = seen & ((flags & VOLATILE) == 0) & (merged | ~frames.outside)
    # Zero pages may be of use one by one. All of them have one content.
    zeros = np.flatnonzero(usable & zero)
    others = repeated(rows, np.flatnonzero(usable & ~zero))
    taken = np.concatenate((zeros, others))
    groups = np.concatenate((np.zeros(len(zeros), np.int64), 1 + groups_of(rows, others)))
    order = np.lexsort((frames.ids[taken], groups))
    taken = taken[order]
    ends = np.array([subject.rows.stop for subject in look.subjects], np.int64)
    return Candidates(
        rows=taken,
        groups=groups[order],
        frames=frames.ids[taken],
        merged=merged[taken],
        mergeable=mergeable[taken],
        zero=zero[taken],
        splits=splits[taken],
        subjects=np.searchsorted(ends, taken, side="right").astype(np.int32),
        all_scanned={
            True: int(np.count_nonzero(seen & mergeable)),
            False: int(np.count_nonzero(seen)),
        },
        all_zero={
            True: int(np.count_nonzero(usable & mergeable & zero & ~merged)),
            False: int(np.count_nonzero(usable & zero & ~merged)),
        },
    )


def splits_free_zeros(release: str = platform.release()) -> bool:
    """Whether this kernel gives zero pages back when it splits a huge page."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2]) >= (6, 12)


def _locked(look: Look) -> Mask:
    """Whether each mapping is locked, by its number."""
    locked = np.zeros(len(reach_of_mappings(look)), bool)
    for subject in look.subjects:
        for number, mapping in enumerate(subject.mappings, subject.first_mapping):
            locked[number] = mapping.locked
    return locked


# Reaches as numbers, for arrays.
_CODES = {reach: code for code, reach in enumerate(Reach)}


def reach_of_mappings(look: Look) -> NDArray[np.uint8]:
    """The code of each mapping's reach, by the number of the mapping."""
    last = look.subjects[-1] if look.subjects else None
    codes = np.full(last.first_mapping + len(last.mappings) if last else 0, _CODES[Reach.SPECIAL], np.uint8)
    for subject in look.subjects:
        for number, mapping in enumerate(subject.mappings, subject.first_mapping):
            codes[number] = _CODES[mapping.reach]
    return codes


def foretell(
    look: Look, candidates: Candidates, ksm: Ksm, *, only_mergeable: bool
) -> tuple[Foretold, NDArray[np.int64], NDArray[np.int64]]:
    """What KSM would do, with all that it could merge or with what is mergeable today.

    Also the rows that would be merged, and what each subject would save if it were merged by itself.
    """
    part = candidates.mergeable if only_mergeable else np.ones(len(candidates.rows), bool)
    groups = candidates.groups[part]
    groups = np.cumsum(np.diff(groups, prepend=groups[:1]) != 0)  # anew, without gaps
    frames, merged, zero = candidates.frames[part], candidates.merged[part], candidates.zero[part]
    splits = candidates.splits[part]
    count = int(groups[-1]) + 1 if len(groups) else 0
    limit = ksm.max_page_sharing or MAX_PAGE_SHARING

    def per_group(mask: Mask) -> NDArray[np.int64]:
        return np.bincount(groups[mask], minlength=count)

    first = (np.diff(groups, prepend=-1) != 0) | (np.diff(frames, prepend=np.uint64(0)) != 0)
    is_zero = per_group(zero) > 0
    split, split_frames = per_group(splits), per_group(first & splits)
    mine, mine_frames = per_group(~merged & ~splits), per_group(first & ~merged & ~splits)
    theirs, their_frames = per_group(merged), per_group(first & merged)
    starts = np.flatnonzero(first)
    room = np.maximum(limit - np.diff(starts, append=len(groups)), 0)[merged[starts]]
    room = np.bincount(groups[starts[merged[starts]]], weights=room, minlength=count).astype(np.int64)
    mappings, before = mine + theirs, mine_frames + their_frames
    rest = np.maximum(mine - room, 0)  # for which no frame that is merged already has room
    made, left = frames_for(rest, limit)
    kept = their_frames + made
    merges = (before > 1) & (mine > 0)
    lone = merges & (left > 0)
    saved = np.where(merges, np.maximum(before - kept - lone, 0), 0)
    sharing = np.where(merges, mappings - kept - lone - (theirs - their_frames), 0)
    merging = np.where(merges, mine - lone, 0)
    freed = (split > 0) & (before + split_frames > 1)
    zero_pages = 0
    if ksm.use_zero_pages:
        zero_pages = int(mine[is_zero].sum())
        saved[is_zero] = mine_frames[is_zero]
        sharing[is_zero] = merging[is_zero] = 0
        merges |= is_zero
        freed = split > 0
    split_zero = int(split[freed].sum())
    saved[freed] += split_frames[freed]
    mine_now = ~merged & np.where(splits, freed[groups], merges[groups])
    within = _saved_within(
        candidates.subjects[part][mine_now],
        groups[mine_now],
        frames[mine_now],
        is_zero & bool(ksm.use_zero_pages),
        limit=limit,
        count=len(look.subjects),
    )
    rows = candidates.rows[part][mine_now]
    scanned = candidates.all_scanned[only_mergeable]
    items = scanned - (candidates.all_zero[only_mergeable] if ksm.use_zero_pages else split_zero)
    total, page = int(saved.sum()), look.page_size
    pages_sharing = int(sharing.sum()) + _uncounted(look)
    cost = max(items - _items_now(look, ksm), 0) * RMAP_ITEM
    return (
        Foretold(
            scanned=scanned,
            merging=int(merging.sum()),
            saved=total,
            saved_zero=int(saved[is_zero].sum()),
            saved_within=int(within.sum()),
            pages_sharing=pages_sharing,
            ksm_zero_pages=zero_pages,
            split_zero=split_zero,
            huge=int(np.count_nonzero(look.rows.flags[rows] & HUGE)),
            cost_bytes=cost,
            profit_bytes=total * page - cost,
            general_profit_bytes=(pages_sharing + zero_pages) * page - cost,
        ),
        rows,
        within,
    )


def _uncounted(look: Look) -> int:
    """Mappings of merged frames that a fork has made since: KSM counts them when it comes to scan them."""
    merged = (look.rows.flags & MERGED) != 0
    return sum(
        max(int(np.count_nonzero(merged[subject.rows])) - subject.stat.ksm_merging_pages, 0)
        for subject in look.subjects
        if subject.stat.ksm_merging_pages is not None
    )


def _items_now(look: Look, ksm: Ksm) -> int:
    """How many pages of these processes KSM keeps a record of already."""
    items = sum(subject.stat.ksm_rmap_items or 0 for subject in look.subjects)
    everywhere = (ksm.pages_shared, ksm.pages_sharing, ksm.pages_unshared, ksm.pages_volatile)
    # On older kernels a fork begins with its parent's figures, though nothing of it has been scanned.
    return items if None in everywhere else min(items, sum(count or 0 for count in everywhere))


def _saved_within(
    subjects: NDArray[np.int32],
    groups: NDArray[np.int64],
    frames: NDArray[np.uint64],
    free: Mask,
    *,
    limit: int,
    count: int,
) -> NDArray[np.int64]:
    """What each of ``count`` subjects would save if it were merged by itself, with so many mappings to a frame.

    Rows are in the order of groups and frames. Of contents in ``free`` no frame is kept.
    """
    order = np.argsort(subjects, kind="stable")
    subjects, groups, frames = subjects[order], groups[order], frames[order]
    content = (np.diff(subjects, prepend=-1) != 0) | (np.diff(groups, prepend=-1) != 0)
    frame = content | (np.diff(frames, prepend=np.uint64(0)) != 0)
    begins = np.flatnonzero(content)
    mappings = np.diff(begins, append=len(groups))
    kept = np.where(free[groups[begins]], 0, -(-mappings // limit))
    held = np.add.reduceat(frame.astype(np.int64), begins) if len(begins) else kept
    saved = np.maximum(held - kept, 0)
    return np.bincount(subjects[begins], weights=saved, minlength=count).astype(np.int64)


def duplicates(look: Look, frames: Frames, taken: NDArray[np.int64]) -> int:
    """Frames among these rows whose content another one of them has too, less one for each content."""
    taken = taken[(look.rows.flags[taken] & VOLATILE) == 0]
    if not len(taken):
        return 0
    # One row a frame will do.
    taken = taken[np.unique(frames.ids[taken], return_index=True)[1]]
    taken = repeated(look.rows, taken)
    return len(taken) - len(np.unique(groups_of(look.rows, taken)))
