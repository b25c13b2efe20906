"""The policy ``ksm`` against the kernel's KSM: the same pages, the same counters after each pass."""

import dataclasses
import mmap

import numpy as np
import pytest

from kernel_ksm import Unavailable, kernel_ksm
from pageshare import policies
from pageshare.core import FrameTable
from pageshare.space import PageSpace

PAGE = mmap.PAGESIZE


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Page 0 is zero, all others differ: in a file, and as an array."""
    pages = np.random.default_rng(1).integers(0, 256, (4000, PAGE), np.uint8)
    pages[0] = 0
    pages[1::4, 64:] = 7  # some of them in few bytes
    path = tmp_path_factory.mktemp("ksm") / "contents"
    pages.tofile(path)
    return path, pages


class Ours:
    """The same memory under the frame table and the policy."""

    def __init__(self, contents, ids, settings, owners=3):
        self.contents, self.memory = contents, contents[ids]
        parts = np.array_split(self.memory, owners)
        space = PageSpace.of(parts, page_size=PAGE)
        self.view = policies.View(space)
        name = "ksm:" + ",".join(f"{key}={value}" for key, value in settings.items())
        self.policy = policies.create(name, self.view)
        self.table = FrameTable(space, **self.policy.table_options)
        self.view.attach(self.table)

    def write(self, pages, ids):
        pages = np.array(pages, np.uint32)
        self.table.write(pages)
        self.view.tell_written(pages)
        self.memory[pages] = self.contents[ids]

    def scan(self):
        pages = self.policy.next(len(self.memory))
        result = self.table.scan(pages)
        self.policy.feedback(pages, result.outcomes, result.partners)
        return dataclasses.asdict(self.policy.counters(self.table))


@pytest.fixture
def both(contents):
    """Runs a script over both: it is given ``scan``, which makes a pass and compares, and ``write``."""

    def run(script, ids, **settings):
        path, pages = contents
        ours = Ours(pages, ids, settings)

        def scan():
            theirs, mine = kernel.scan(), ours.scan()
            assert mine == theirs
            return mine

        def write(pages, ids):
            kernel.write(list(map(int, pages)), list(map(int, ids)))
            ours.write(pages, ids)

        try:
            with kernel_ksm(path, list(map(int, ids)), **settings) as kernel:
                return script(scan, write)
        except Unavailable as reason:
            pytest.skip(str(reason))

    return run


COPIES = [2, 3, 255, 256, 257, 513, 1000]
ZEROS, LONE = 700, 3000
SETTINGS = [{"use_zero_pages": zero, "smart_scan": smart} for zero in (0, 1) for smart in (0, 1)]


def mixed(seed):
    """Contents of about 6,000 pages: so many copies of some, zeros, and pages that are alone, in random order."""
    numbers = np.repeat(np.arange(1, len(COPIES) + 1), COPIES)
    ids = np.concatenate([numbers, np.zeros(ZEROS, int), np.arange(LONE) + len(COPIES) + 1])
    return np.random.default_rng(seed).permutation(ids)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_memory_that_holds_still(both, settings):
    ids = mixed(3)

    def script(scan, _write):
        return [scan() for _ in range(30)]

    passes = both(script, ids, max_page_sharing=256, **settings)
    # Two passes find everything: the first one notes checksums.
    assert [one["pages_shared"] for one in passes[:2]] == [0, passes[-1]["pages_shared"]]
    found = passes[1]
    # 257 are a full frame and a page alone; 513 two full ones and a page alone; 1000 and 700 fit to the last page.
    frames = [1, 1, 1, 1, 1, 2, 4] + ([] if settings["use_zero_pages"] else [3])
    assert found["pages_shared"] == sum(frames)
    assert found["ksm_zero_pages"] == (ZEROS if settings["use_zero_pages"] else 0)
    assert found["pages_unshared"] == LONE + 2
    members = sum(COPIES) - 2 + (0 if settings["use_zero_pages"] else ZEROS)
    assert found["pages_sharing"] == members - sum(frames)
    assert (passes[-1]["pages_skipped"] > 0) == bool(settings["smart_scan"])


@pytest.mark.parametrize("limit", [2, 3, 10])
def test_few_pages_to_a_frame(both, limit):
    def script(scan, _write):
        return [scan() for _ in range(6)]

    both(script, mixed(4), max_page_sharing=limit, smart_scan=0, use_zero_pages=0)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_page_that_comes_to_equal_a_frame(both, settings):
    """With the checksum rule it is found at the second look, which smart scan puts off for pages of some age."""
    ids = mixed(5)
    alone = np.flatnonzero(np.isin(ids, range(100, 124)))  # as many as the last frame has room for

    def script(scan, write):
        taken = []
        for part, more in zip(np.split(alone, 3), (3, 3, 20), strict=True):
            for _ in range(more):
                before = scan()["pages_sharing"]
            write(part, [7] * len(part))
            passes = [scan()["pages_sharing"] - before for _ in range(20)]
            taken.append(1 + passes.index(len(part)))
        return taken

    taken = both(script, ids, max_page_sharing=256, **settings)
    # Written after passes 3, 26 and 66; by smart scan looked at in 1 to 4, 6, 9, 14, 23, 32, 41, 50, 59, 68 and 77.
    assert taken == ([3, 15, 11] if settings["smart_scan"] else [2, 2, 2])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_memory_that_changes(both, settings, seed):
    """Between passes pages get contents of others, new ones, zeros, or those that they had."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, 400, 3000)
    now = ids.copy()

    def script(scan, write):
        for number in range(40):
            scan()
            count = int(random.integers(0, 200))
            pages = random.choice(len(ids), count, replace=False)
            new = random.choice([0, 1, 2, 3, 5, 8, 1000], count)
            some = random.random(count)
            new[some < 0.3] = random.integers(0, 4000, int(np.count_nonzero(some < 0.3)))
            new[some > 0.7] = now[pages[some > 0.7]]
            if settings["use_zero_pages"]:  # written without changing: the one thing that is seen otherwise
                new[(new == 0) & (now[pages] == 0)] = 1
            write(pages, new)
            now[pages] = new
            if number % 10 == 9:
                for _ in range(12):
                    scan()

    both(script, ids, max_page_sharing=1 << 20, **settings)
