"""What ``live`` foretells against what the kernel's KSM then does: its counters, and those of each process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
import pytest

from kernel_ksm import KernelKsm, Unavailable, kernel_ksm, ksm_stat, others
from live.subject import HUGE, PAGE, Subject, subject
from pageshare.live import LiveReport, Watch, ksm_now, live

Start = Callable[..., Subject]
Take = Callable[..., AbstractContextManager[KernelKsm]]


@pytest.fixture
def ksm() -> Take:
    """KSM to itself, with settings; skips where that can't be had."""

    @contextlib.contextmanager
    def take(**settings: int) -> Iterator[KernelKsm]:
        deadline = time.monotonic() + 10
        while others() and time.monotonic() < deadline:  # a guest of another test that is just ending
            time.sleep(0.1)
        try:
            with kernel_ksm(**{"smart_scan": 0, "use_zero_pages": 0, "max_page_sharing": 256, **settings}) as kernel:
                yield kernel
        except Unavailable as reason:
            pytest.skip(str(reason))

    return take


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda *mappings, forks=0: stack.enter_context(subject(*mappings, forks=forks))


def agrees(report: LiveReport, kernel: KernelKsm, pids: list[int]) -> dict[str, int]:
    """Let KSM converge over memory that nobody forked, and hold every figure against its own."""
    foretold = report.today
    found = kernel.converge(pids)
    assert foretold.pages_sharing == found["pages_sharing"]
    assert foretold.ksm_zero_pages == found["ksm_zero_pages"]
    assert foretold.saved == found["pages_sharing"] + found["ksm_zero_pages"]
    assert foretold.merging == found["pages_sharing"] + found["pages_shared"]
    assert foretold.general_profit_bytes == foretold.profit_bytes == ksm_now().general_profit
    stats = {pid: ksm_stat(pid) for pid in pids}
    assert foretold.cost_bytes == 64 * sum(stat["ksm_rmap_items"] for stat in stats.values())
    assert foretold.merging == sum(stat["ksm_merging_pages"] for stat in stats.values())
    return found


def nothing_more(pids: list[int], found: dict[str, int]) -> LiveReport:
    """A look after KSM has converged finds its pages as they are, leaves them so, and foretells nothing more."""
    after = live(pids)
    assert (after.today.saved, after.today.pages_sharing, after.today.ksm_zero_pages) == (0, 0, 0)
    assert (after.today.cost_bytes, after.today.profit_bytes, after.today.general_profit_bytes) == (0, 0, 0)
    assert after.pages.merged == found["pages_sharing"] + found["pages_shared"]
    for each in after.processes:
        stat = ksm_stat(each.pid)
        assert each.pages.merged == stat["ksm_merging_pages"] == each.ksm.ksm_merging_pages
        assert each.pages.kernel_zero >= stat["ksm_zero_pages"]
    kernel = ksm_now()
    assert (kernel.pages_sharing, kernel.ksm_zero_pages) == (found["pages_sharing"], found["ksm_zero_pages"])
    return after


@pytest.mark.parametrize("use_zero_pages", [0, 1])
def test_memory_that_holds_still(ksm: Take, start: Start, use_zero_pages: int) -> None:
    random = np.random.default_rng(1)
    kinds = [np.zeros(120, int), random.integers(1, 300, 900), np.arange(1000, 1400)]
    ids = random.permutation(np.concatenate(kinds))
    with ksm(use_zero_pages=use_zero_pages) as kernel:
        one, two = start(("private", ids.tolist(), True)), start(("private", ids[:700].tolist(), True))
        pids = [one.pid, two.pid]
        report = live(pids)
        zeros = int(np.count_nonzero(ids == 0) + np.count_nonzero(ids[:700] == 0))
        found = agrees(report, kernel, pids)
        assert found["ksm_zero_pages"] == (zeros if use_zero_pages else 0)
        assert report.today.saved_zero == (zeros if use_zero_pages else zeros - 1)
        for each in report.processes:
            stat = ksm_stat(each.pid)
            assert each.pages.would_merge_today == stat["ksm_merging_pages"] + stat["ksm_zero_pages"]
            assert each.mergeable == stat["ksm_rmap_items"] + stat["ksm_zero_pages"]
        nothing_more(pids, found)


@pytest.mark.parametrize("limit", [2, 3, 256])
def test_few_mappings_to_a_frame(ksm: Take, start: Start, limit: int) -> None:
    """Of a content that has one page more than full frames take, that page stays alone."""
    copies = [2, 3, 4, 255, 256, 257, 513, 600]
    ids = np.repeat(np.arange(1, len(copies) + 1), copies)
    with ksm(max_page_sharing=limit) as kernel:
        one = start(("private", np.random.default_rng(2).permutation(ids).tolist(), True))
        found = agrees(live([one.pid]), kernel, [one.pid])
        assert found["pages_unshared"] == sum(count % limit == 1 for count in copies)
        assert live([one.pid]).today.saved == 0


def test_more_after_it_has_merged_some(ksm: Take, start: Start) -> None:
    """New pages join frames that KSM keeps already: for those no further frame is kept."""
    with ksm() as kernel:
        one = start(("private", [1, 1, 2, 2, 3, 4], True))
        before = kernel.converge([one.pid])
        two = start(("private", [1, 3, 5, 5], True))
        pids = [one.pid, two.pid]
        foretold = live(pids).today
        found = kernel.converge(pids)
        assert (foretold.saved, foretold.merging) == (3, 5)
        assert foretold.pages_sharing == found["pages_sharing"] - before["pages_sharing"] == 3
        nothing_more(pids, found)


def test_forked_memory(ksm: Take, start: Start) -> None:
    """A frame that two forks share with their parent has three mappings: the kernel's pages_sharing comes to count all
    of them, though two were shared before."""
    with ksm() as kernel:
        one = start(("private", [1, 2, 3, 4, 4], True), forks=2)
        two = start(("private", [1, 9], True))
        pids = [*one.pids, two.pid]
        report = live(pids)
        foretold = report.today
        shared_before = 2 * 2  # mappings beyond the first of content 1, and of one frame of content 4
        assert foretold.saved == 1 + 1  # content 1 of both; the two frames of 4
        assert all(each.pages.shared >= 5 for each in report.processes if each.pid != two.pid)
        found = kernel.converge(pids)
        assert found["pages_sharing"] == foretold.pages_sharing
        assert found["pages_sharing"] - shared_before - 2 == foretold.saved
        assert foretold.general_profit_bytes == ksm_now().general_profit
        assert foretold.profit_bytes < foretold.general_profit_bytes
        nothing_more(pids, found)


@pytest.mark.parametrize("limit", [2, 256])
def test_forks_of_memory_that_it_has_merged(ksm: Take, start: Start, limit: int) -> None:
    """A fork's mappings of a merged frame count when they are scanned, however many there are; a frame that has more
    than its limit by them takes no other page."""
    with ksm(max_page_sharing=limit) as kernel:
        one = start(("private", [1, 1, 2, 2, 3], True))
        before = kernel.converge([one.pid])
        forks = [one.ask("fork") for _ in range(3)]
        two = start(("private", [1, 2, 2], True))
        pids = [one.pid, *forks, two.pid]
        foretold = live(pids).today
        assert foretold.saved == (1 if limit == 2 else 3)  # the two new ones of content 2 by themselves, or all
        found = kernel.converge(pids)
        assert foretold.pages_sharing == found["pages_sharing"] - before["pages_sharing"]
        assert ksm_stat(forks[0])["ksm_merging_pages"] == 4


def test_a_look_leaves_shared_frames_as_they_are(start: Start) -> None:
    """To pin a page that a fork shares would give the process a copy of its own (gup_must_unshare)."""
    one = start(("private", list(range(1, 201)), False), forks=1)
    first, second = live(one.pids), live(one.pids)
    if not first.frames_known:
        pytest.skip("frame numbers are hidden from this user")
    assert second.already_saved >= 200
    assert abs(first.already_saved - second.already_saved) < 50


def test_files_shared_memory_and_memory_that_nobody_asked_for(ksm: Take, start: Start, tmp_path: Path) -> None:
    """KSM goes to anonymous pages of private mappings only: of a file, to those that were written to."""
    ids = [1, 2, 3, 4, 5, 6, 7, 8]
    with ksm() as kernel:
        pair = [
            start(
                (str(tmp_path / name), ids, True, [0, 1, 2]),
                ("shared", ids, True),
                ("private", ids, False),
                ("private", [11, 12], True),
            )
            for name in ("a", "b")
        ]
        pids = [each.pid for each in pair]
        report = live(pids)
        found = agrees(report, kernel, pids)
        assert found["pages_sharing"] == 5
        assert report.allowed.saved >= 13
        beyond = {each.reach.value: each for each in report.out_of_reach}
        assert beyond["shared memory"].identical == beyond["shared memory"].pages // 2 == 8
        assert beyond["file"].identical >= 5
        kinds = {each.reach.value for each in report.processes[0].advice}
        assert kinds == {"unasked", "shared memory"}


@pytest.mark.parametrize("use_zero_pages", [0, 1])
def test_huge_pages_are_split(ksm: Take, start: Start, use_zero_pages: int) -> None:
    """Whether or not its pages are part of huge pages: KSM splits them to merge what it finds. Zero pages of theirs are
    the kernel's from then on, without being counted."""
    half = HUGE // PAGE // 2
    ids = [*range(1, half + 1), *range(1, half + 1), *range(5000, 5000 + 2 * half)]
    with ksm(use_zero_pages=use_zero_pages) as kernel:
        one = start(("huge", [0] * 512 + ids + [0] * 512, True), ("private", [0] * 10, True))
        report = live([one.pid])
        if not report.pages.huge:
            pytest.skip("no huge page was to be had")
        found = kernel.converge([one.pid])
        assert report.today.pages_sharing == found["pages_sharing"]
        assert report.today.ksm_zero_pages == found["ksm_zero_pages"]
        assert report.today.cost_bytes == 64 * ksm_stat(one.pid)["ksm_rmap_items"]
        assert 0 < report.today.huge <= report.pages.huge
        after = nothing_more([one.pid], found)
        assert after.pages.huge < report.pages.huge
        zeros = after.pages.kernel_zero - report.pages.kernel_zero
        assert zeros == report.today.split_zero + report.today.ksm_zero_pages
        assert report.today.saved == found["pages_sharing"] + zeros


def test_all_memory_of_a_process(ksm: Take, start: Start) -> None:
    """prctl(PR_SET_MEMORY_MERGE) makes what can be merged mergeable; that it was called is told."""
    with ksm():
        one = start(("private", [1, 1, 2, 2], False), ("shared", [1], False))
        before = live([one.pid]).processes[0]
        if one.ask("merge_any") != 0:
            pytest.skip("this kernel has no PR_SET_MEMORY_MERGE, or does not allow it")
        after = live([one.pid]).processes[0]
        assert (before.mergeable, before.ksm.ksm_merge_any) == (0, False)
        assert after.ksm.ksm_merge_any
        assert after.mergeable > 4
        assert after.unasked == 0


def test_pages_that_change_all_the_time_are_left_alone(ksm: Take, start: Start) -> None:
    with ksm() as kernel, contextlib.closing(Watch(seed=1, compare=True)) as watch:
        one = start(("private", [1, 1, 2, 2, 3], True), ("private", [3], True))
        assert watch.look([one.pid]).today.saved == 3
        one.ask("spin", 1, 0)
        watch.look([one.pid])
        time.sleep(0.01)
        report = watch.look([one.pid])
        mapping = next(each for each in report.processes[0].mappings if each.start == one.addresses[1])
        assert mapping.pages.volatile == 1
        assert report.today.saved == 2 == kernel.converge([one.pid])["pages_sharing"]
        assert [look.saved_today for look in report.looks] == [3, 2, 2]
