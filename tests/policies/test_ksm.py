"""The policy ``ksm`` against the kernel's rules, told page by page; what it finds, and when."""

import dataclasses

import numpy as np
import pytest

from pageshare import policies
from pageshare.core import NO_PAGE, FrameTable, Outcome
from pageshare.policies.ksm import Counters
from pageshare.space import PageSpace

PAGE = 256


class Note:
    """What KSM keeps of a page: struct ksm_rmap_item, as far as the order of looks depends on it."""

    age = remaining_skips = 0


class Plain:
    """The cursor of mm/ksm.c (Linux 6.18), one page at a time."""

    def __init__(self, pages, smart_scan):
        self.pages, self.smart_scan, self.at = pages, smart_scan, 0
        self.notes = {}
        self.merged, self.zeroed = set(), set()  # KSM pages, and pages mapped to the zero page
        self.skipped = self.passes = 0

    def skips(self, page):
        note = self.notes[page]
        if not self.smart_scan or page in self.merged:
            return False
        age = note.age
        note.age = min(255, age + 1)
        if age < 3:
            return False
        if note.remaining_skips == 0:
            note.remaining_skips = 1 if age <= 3 else 2 if age <= 5 else 4 if age <= 8 else 8
            return False
        note.remaining_skips -= 1
        self.skipped += 1
        return True

    def next(self, count):
        """Up to so many pages; none where a pass ends."""
        found = []
        while len(found) < count:
            if self.at == self.pages:
                self.at = 0
                self.passes += 1
                break
            page = self.at
            self.at += 1
            if page in self.zeroed:
                self.notes.pop(page, None)
                continue
            self.notes.setdefault(page, Note())
            if not self.skips(page):
                found.append(page)
        return found

    def write(self, page):
        self.merged.discard(page)
        self.zeroed.discard(page)


def view_of(pages):
    return policies.View(PageSpace.of(np.zeros((pages, PAGE), np.uint8), page_size=PAGE))


@pytest.mark.parametrize("smart_scan", [0, 1])
@pytest.mark.parametrize("pages", [1, 7, 100, 9000])
def test_looks_are_the_kernels(pages, smart_scan):
    random = np.random.default_rng(pages)
    view = view_of(pages)
    policy = policies.create(f"ksm:smart_scan={smart_scan}", view)
    plain = Plain(pages, smart_scan)
    while plain.passes < (60 if pages < 1000 else 25):
        count = int(random.integers(1, 2 * pages + 2))
        batch = policy.next(count)
        assert len(batch) <= count
        expected = []
        while not expected:
            if len(plain.zeroed) == pages:
                expected = [0]  # there is nothing to look at
                break
            expected = plain.next(count)
        assert batch.tolist() == expected
        # What comes of it is drawn; pages that are merged already stay so.
        outcomes = random.choice([Outcome.HINTED, Outcome.VOLATILE, Outcome.SHARED, Outcome.ZERO], len(batch))
        outcomes[np.isin(batch, list(plain.merged | plain.zeroed))] = Outcome.ALREADY_SHARED
        if smart_scan and pages == 100:  # few merges: most pages grow old
            outcomes[random.random(len(batch)) < 0.95] = Outcome.HINTED
            outcomes[np.isin(batch, list(plain.merged))] = Outcome.ALREADY_SHARED
        partners = np.full(len(batch), NO_PAGE, np.uint32)
        partners[outcomes == Outcome.SHARED] = batch[outcomes == Outcome.SHARED]
        policy.feedback(batch, outcomes.astype(np.uint8), partners)
        plain.merged.update(batch[outcomes == Outcome.SHARED].tolist())
        plain.zeroed.update(batch[outcomes == Outcome.ZERO].tolist())
        if random.random() < 0.5:
            written = random.integers(0, pages, int(random.integers(1, 2 + pages // 10))).astype(np.uint32)
            view.tell_written(written)
            for page in written.tolist():
                plain.write(page)
    if pages > 1:
        assert (policy.pages_skipped > 0) == bool(smart_scan)


def test_a_page_that_finds_nothing_grows_old():
    view = view_of(2)
    policy = policies.create("ksm", view)
    looks = []
    while policy.full_scans < 70:
        batch = policy.next(2)
        outcomes = [Outcome.ALREADY_SHARED if page == 0 else Outcome.HINTED for page in batch]
        if policy.full_scans == 1:
            outcomes[0] = Outcome.SHARED  # so that there is a look in every pass
        policy.feedback(batch, np.array(outcomes, np.uint8), np.zeros(len(batch), np.uint32))
        if 1 in batch:
            looks.append(policy.full_scans)
    assert looks == [1, 2, 3, 4, 6, 9, 14, 23, 32, 41, 50, 59, 68]


def run(content, name="ksm", passes=4, batch=1000):
    """Counters after each pass over pages of so many contents, 0 being zeros."""
    memory = np.zeros((len(content), PAGE), np.uint8)
    memory[:, 0] = np.array(content) % 251
    memory[:, 1] = np.array(content) // 251
    space = PageSpace.of(memory, page_size=PAGE)
    view = policies.View(space)
    policy = policies.create(name, view)
    table = FrameTable(space, **policy.table_options)
    view.attach(table)
    counters = []
    while policy.full_scans < passes:
        before = policy.full_scans
        pages = policy.next(batch)
        result = table.scan(pages)
        policy.feedback(pages, result.outcomes, result.partners)
        table.check()
        if policy.full_scans > before:
            counters.append(policy.counters(table))
    return counters


def test_two_passes_find_everything():
    first, second = run([1, 2, 1, 0, 0, 3, 1, 4], passes=2)
    assert first == Counters(0, 0, 0, 8, 0, 1, 8, 0)
    assert second == Counters(2, 3, 3, 0, 0, 2, 16, 0)


def test_zero_pages():
    two, three = run([1, 0, 1, 0, 0], "ksm:use_zero_pages=1", passes=3)[1:]
    assert two == Counters(1, 1, 0, 3, 3, 2, 10, 0)
    # They are not KSM's any more.
    assert three == Counters(1, 1, 0, 0, 3, 3, 12, 0)


def test_only_zero_pages():
    # The table knows them at once; a batch is never empty, nor counted when there is nothing to look at.
    space = PageSpace.of(np.zeros((3, PAGE), np.uint8), page_size=PAGE)
    view = policies.View(space)
    policy = policies.create("ksm:use_zero_pages=1", view)
    table = FrameTable(space, **policy.table_options)
    view.attach(table)
    for _ in range(5):
        pages = policy.next(10)
        result = table.scan(pages)
        policy.feedback(pages, result.outcomes, result.partners)
    assert pages.tolist() == [0]
    assert result.outcomes.tolist() == [Outcome.ALREADY_SHARED]
    counters = policy.counters(table)
    assert (counters.ksm_zero_pages, counters.pages_scanned, counters.pages_volatile) == (3, 6, 0)
    table.write(1)
    view.tell_written(np.array([1], np.uint32))
    assert policy.next(10).tolist() == [1]


def test_a_frame_that_is_full():
    last = run([5] * 7 + [6], "ksm:max_page_sharing=3,smart_scan=0", passes=2)[-1]
    assert (last.pages_shared, last.pages_sharing, last.pages_unshared) == (2, 4, 2)
    # Two pages of a content that find only full frames are a new one: the last one is alone.
    last = run([5] * 8, "ksm:max_page_sharing=3,smart_scan=0", passes=2)[-1]
    assert (last.pages_shared, last.pages_sharing, last.pages_unshared) == (3, 5, 0)
    last = run([0] * 8, "ksm:max_page_sharing=3,use_zero_pages=1", passes=2)[-1]
    assert (last.pages_shared, last.pages_sharing, last.ksm_zero_pages) == (0, 0, 8)


def test_hints_go_at_the_end_of_a_pass():
    counters = run([1, 2, 3], "ksm:smart_scan=0", passes=3, batch=2)
    assert [one.pages_unshared for one in counters] == [0, 3, 3]
    memory = np.repeat(np.uint8([1, 2]), PAGE).reshape(2, PAGE)
    space = PageSpace.of(memory, page_size=PAGE)
    view = policies.View(space)
    policy = policies.create("ksm", view)
    table = FrameTable(space, **policy.table_options)
    view.attach(table)
    hints = []
    for _ in range(6):
        pages = policy.next(1)
        before = table.stats().hints
        result = table.scan(pages)
        policy.feedback(pages, result.outcomes, result.partners)
        hints.append((before, table.stats().hints))
    assert hints == [(0, 0), (0, 0), (0, 1), (1, 2), (0, 1), (1, 2)]


def test_batches_make_no_difference():
    content = np.random.default_rng(8).integers(0, 300, 500)
    whole = run(content, passes=12)
    for batch in (499, 7):
        cut = run(content, passes=12, batch=batch)
        # Cut short, a pass may end within a batch of the next: what stands at its end does not change.
        still = [dataclasses.astuple(one)[0:2] for one in cut]
        assert still == [dataclasses.astuple(one)[0:2] for one in whole]


@pytest.mark.parametrize(
    "options", ["max_page_sharing=1", "smart_scan=2", "use_zero_pages=0.5", "max_page_sharing=2.5"]
)
def test_values_that_the_kernel_does_not_take(options):
    with pytest.raises(ValueError, match=options.partition("=")[0]):
        policies.create(f"ksm:{options}", view_of(1))
