"""Rows that were never read from any process, counted by dictionaries and by ``foretell``."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace

import numpy as np
import pytest

from pageshare.ksm import Ksm, KsmStat
from pageshare.live import foretell as module
from pageshare.live.foretell import candidates_of, foretell, frames_of
from pageshare.live.look import (
    ANONYMOUS,
    EXCLUSIVE,
    HUGE,
    IN_SWAP,
    KERNEL_ZERO,
    MERGED,
    SWAPPED,
    UNKNOWN_FRAME,
    VOLATILE,
    ZERO,
    Look,
    MappingCounts,
    Rows,
    Subject,
)
from pageshare.live.mappings import LiveMapping, Reach
from pageshare.live.report import report_of

REACHES = [Reach.MERGEABLE, Reach.UNASKED, Reach.SHARED, Reach.FILE]


@dataclass(frozen=True)
class Row:
    """A page: its content (0: zeros), frame (None: not known), what it is."""

    subject: int
    reach: Reach
    content: int
    frame: int | None
    flags: int = 0

    def has(self, flag: int) -> bool:
        return bool(self.flags & flag)


def look_of(rows: list[Row], subjects: int = 3, locked: bool = False) -> Look:
    """Rows, in the order of their subjects and mappings, as a look."""
    rows = sorted(rows, key=lambda row: (row.subject, REACHES.index(row.reach)))
    made = []
    for number in range(subjects):
        mappings = [LiveMapping(0, 0, "", reach, locked, 0, 0) for reach in REACHES]
        mine = [i for i, row in enumerate(rows) if row.subject == number]
        where = slice(mine[0], mine[-1] + 1) if mine else slice(made[-1].rows.stop if made else 0, None)
        where = where if mine else slice(where.start, where.start)
        made.append(
            Subject(
                100 + number,
                "made",
                0,
                ["made"],
                [],
                KsmStat(),
                mappings,
                [MappingCounts() for _ in mappings],
                number * len(REACHES),
                where,
            )
        )
    columns = Rows(
        hashes=np.array([[row.content * 7919, row.content % 5] for row in rows], np.uint64).reshape(-1, 2),
        frames=np.array(
            [i | int(UNKNOWN_FRAME) if row.frame is None else row.frame for i, row in enumerate(rows)], np.uint64
        ),
        mappings=np.array([row.subject * len(REACHES) + REACHES.index(row.reach) for row in rows], np.uint32),
        flags=np.array([row.flags | (int(ZERO) if row.content == 0 else 0) for row in rows], np.uint8),
        pages=None,
    )
    known = all(row.frame is not None for row in rows)
    return Look(4096, made, [], [], columns, known, known, 1.0, 1.0)


def expected(rows: list[Row], ksm: Ksm, *, only_mergeable: bool) -> dict[str, int]:
    """The same page by page, as the kernel goes about it; zero pages of huge pages are left to other tests."""
    reaches = [Reach.MERGEABLE] if only_mergeable else [Reach.MERGEABLE, Reach.UNASKED]
    seen = [row for row in rows if row.reach in reaches and row.has(ANONYMOUS) and not row.has(KERNEL_ZERO)]
    mapped: dict[int | None, int] = defaultdict(int)
    for row in rows:
        if row.frame is not None:
            mapped[row.frame] += 1
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in seen:
        if row.has(MERGED) or row.has(EXCLUSIVE) or mapped[row.frame] > 1:  # else by somebody who is not looked at too
            groups[row.content].append(row)
    found = dict.fromkeys(("merging", "saved", "saved_zero", "pages_sharing", "ksm_zero_pages"), 0)
    limit = ksm.max_page_sharing or 256
    for content, members in groups.items():
        fresh = [row for row in members if not row.has(MERGED)]
        frames = len({row.frame if row.frame is not None else id(row) for row in fresh})
        merged = Counter(row.frame for row in members if row.has(MERGED))
        old = len(merged)
        if content == 0 and ksm.use_zero_pages:
            found["ksm_zero_pages"] += len(fresh)
            found["saved"] += frames
            found["saved_zero"] += frames
            continue
        if not fresh or frames + old < 2:
            continue
        full, rest = divmod(max(len(fresh) - sum(max(limit - size, 0) for size in merged.values()), 0), limit)
        kept, alone = old + full + (rest > 1), rest == 1
        found["merging"] += len(fresh) - alone
        found["pages_sharing"] += len(members) - kept - alone - (len(members) - len(fresh) - old)
        saved = max(0, frames + old - kept - alone)
        found["saved"] += saved
        found["saved_zero"] += saved * (content == 0)
    return {"scanned": len(seen), **found}


def random_rows(random: np.random.Generator, frames: bool) -> list[Row]:
    rows, frame = [], 0
    anonymous, exclusive, merged = int(ANONYMOUS), int(EXCLUSIVE), int(MERGED)
    for content in range(60):
        for _ in range(int(random.integers(1, 4))):  # frames with this content
            frame += 1
            kind = random.choice(["own", "own", "forked", "outside", "merged", "file", "zero"])
            copies = int(random.integers(2, 4)) if kind in ("forked", "merged") else 1
            for _ in range(copies):
                subject, reach = int(random.integers(3)), REACHES[random.integers(2)]
                flags = anonymous
                if kind == "own":
                    flags |= exclusive
                elif kind == "merged":
                    flags |= merged
                    reach = Reach.MERGEABLE
                elif kind == "file":
                    flags, reach = 0, Reach.FILE
                elif kind == "zero" and content == 0:
                    flags |= int(KERNEL_ZERO)
                rows.append(Row(subject, reach, content, frame if frames else None, flags))
    return rows


@pytest.mark.parametrize("use_zero_pages", [0, 1])
@pytest.mark.parametrize("limit", [2, 3, 256])
@pytest.mark.parametrize("seed", range(5))
def test_random_memory(seed: int, limit: int, use_zero_pages: int) -> None:
    rows = random_rows(np.random.default_rng(seed), frames=True)
    ksm = Ksm(max_page_sharing=limit, use_zero_pages=use_zero_pages)
    look = look_of(rows)
    candidates = candidates_of(look, frames_of(look))
    for only_mergeable in (False, True):
        found, merging, within = foretell(look, candidates, ksm, only_mergeable=only_mergeable)
        wanted = expected(rows, ksm, only_mergeable=only_mergeable)
        assert {name: getattr(found, name) for name in wanted} == wanted
        assert found.profit_bytes == 4096 * found.saved - found.cost_bytes
        assert len(set(merging.tolist())) == len(merging) >= found.merging
        assert found.saved_within == within.sum()


def test_one_process_saves_within_itself_what_it_saves_at_all() -> None:
    rows = [replace(row, subject=0) for row in random_rows(np.random.default_rng(9), frames=True)]
    rows = [row for row in rows if not row.has(MERGED)]
    look = look_of(rows, subjects=1)
    found, _, within = foretell(look, candidates_of(look, frames_of(look)), Ksm(), only_mergeable=False)
    assert found.saved == found.saved_within == within[0] > 0


def test_without_frame_numbers_shared_pages_are_in_no_saving() -> None:
    own, shared = int(ANONYMOUS | EXCLUSIVE), int(ANONYMOUS)
    rows = [Row(0, Reach.UNASKED, 1, None, own), Row(1, Reach.UNASKED, 1, None, own)]
    rows += [Row(subject, Reach.UNASKED, 1, None, shared) for subject in (0, 1, 2)]
    report = report_of(look_of(rows), ksm=Ksm())
    assert (report.allowed.saved, report.allowed.merging, report.allowed.scanned) == (1, 2, 5)
    assert report.pages.shared == 3
    assert report.already_saved == 0
    assert "frame numbers are hidden" in report.warnings[0]


def test_the_kernels_page_of_zeros_is_nothing_that_fork_or_ksm_has_shared() -> None:
    anonymous, kernels = int(ANONYMOUS), int(ANONYMOUS | KERNEL_ZERO)
    rows = [Row(0, Reach.UNASKED, 0, 7, kernels) for _ in range(5)]  # read, and never written to
    rows += [Row(subject, Reach.UNASKED, 1, 8, anonymous) for subject in (0, 1, 2)]
    report = report_of(look_of(rows), ksm=Ksm())
    assert (report.pages.kernel_zero, report.pages.shared) == (5, 3)
    assert report.already_saved == 2


def test_a_page_that_forks_have_in_swap_is_one() -> None:
    swapped = int(ANONYMOUS | SWAPPED)
    rows = [Row(0, Reach.UNASKED, content, int(IN_SWAP) | content, swapped) for content in (1, 2, 3)]
    rows += [Row(1, Reach.UNASKED, content, int(IN_SWAP) | content, swapped) for content in (1, 2)]
    report = report_of(look_of(rows), ksm=Ksm())
    assert (report.allowed.saved, report.pages.shared, report.already_saved) == (0, 4, 2)
    rows.append(Row(2, Reach.UNASKED, 1, None, swapped))  # its place was not to be seen
    assert report_of(look_of(rows), ksm=Ksm()).allowed.saved == 1


def test_a_frame_that_had_two_contents_is_in_no_saving() -> None:
    rows = [Row(0, Reach.UNASKED, 1, 5, int(ANONYMOUS)), Row(1, Reach.UNASKED, 2, 5, int(ANONYMOUS))]
    rows += [Row(2, Reach.UNASKED, content, 10 + content, int(ANONYMOUS | EXCLUSIVE)) for content in (1, 2, 3)]
    look = look_of(rows)
    report = report_of(look, ksm=Ksm())
    assert report.pages.volatile == 2
    assert report.allowed.saved == 0
    assert (look.rows.flags & VOLATILE).tolist() == [int(VOLATILE)] * 2 + [0] * 3


def test_half_of_a_hash_is_not_enough() -> None:
    rows = [Row(0, Reach.UNASKED, content, content, int(ANONYMOUS | EXCLUSIVE)) for content in (1, 2, 3, 4)]
    look = look_of(rows)
    look.rows.hashes[:] = [[7, 1], [7, 2], [7, 1], [7, 3]]
    assert report_of(look, ksm=Ksm()).allowed.saved == 1


@pytest.mark.parametrize(("new", "locked", "split"), [(True, False, 3), (False, False, 0), (True, True, 0)])
def test_zero_pages_of_huge_pages(monkeypatch: pytest.MonkeyPatch, new: bool, locked: bool, split: int) -> None:
    monkeypatch.setattr(module, "splits_free_zeros", lambda: new)
    own = int(ANONYMOUS | EXCLUSIVE)
    rows = [Row(0, Reach.MERGEABLE, 0, frame, own | int(HUGE)) for frame in (1, 2, 3)]
    rows += [Row(1, Reach.MERGEABLE, 0, frame, own) for frame in (4, 5)]
    report = report_of(look_of(rows, locked=locked), ksm=Ksm())
    assert report.today.split_zero == split
    assert report.today.pages_sharing == (1 if split else 4)
    assert report.today.saved == report.today.saved_zero == report.today.pages_sharing + split
    report = report_of(look_of(rows, locked=locked), ksm=Ksm(use_zero_pages=1))
    assert (report.today.split_zero, report.today.ksm_zero_pages, report.today.saved) == (split, 5 - split, 5)


@pytest.mark.parametrize(
    ("release", "new"), [("6.11.0", False), ("6.12.3-arch1", True), ("5.15.0-1-amd64", False), ("7.0", True)]
)
def test_which_kernels_give_zero_pages_back(release: str, new: bool) -> None:
    assert module.splits_free_zeros(release) == new


def test_the_cost_is_that_of_pages_that_are_not_kept_yet() -> None:
    """KSM has scanned three of five pages: 64 bytes for each of the other two are added."""
    anonymous = int(ANONYMOUS)
    rows = [Row(0, Reach.MERGEABLE, 1, 1, anonymous | int(MERGED)) for _ in range(3)]
    rows += [Row(0, Reach.MERGEABLE, content, content, anonymous | int(EXCLUSIVE)) for content in (2, 3)]
    look = look_of(rows)
    look.subjects[0].stat = KsmStat(ksm_rmap_items=3)
    candidates = candidates_of(look, frames_of(look))
    found, _, _ = foretell(look, candidates, Ksm(), only_mergeable=True)
    assert (found.scanned, found.cost_bytes, found.profit_bytes, found.general_profit_bytes) == (5, 128, -128, -128)
    # A fork that has its parent's figure: KSM keeps no more records than it says in all.
    look.subjects[1].stat = KsmStat(ksm_rmap_items=3)
    kernel = Ksm(pages_shared=1, pages_sharing=2, pages_unshared=0, pages_volatile=0)
    assert foretell(look, candidates, kernel, only_mergeable=True)[0].cost_bytes == 128
    look.subjects[0].stat = KsmStat(ksm_rmap_items=9)  # the rest is not there any more
    assert foretell(look, candidates, Ksm(), only_mergeable=True)[0].cost_bytes == 0


def test_nothing() -> None:
    report = report_of(look_of([], subjects=0), ksm=Ksm())
    assert report.allowed.saved == report.allowed.scanned == report.pages.anonymous == 0
    assert report.warnings == ()
