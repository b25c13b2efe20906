"""The frame table: whole scans beside a bare XXH3-64 pass, and what each outcome of a visit costs."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from pageshare import FrameTable, Outcome, PageSpace
from passes import HashPass, guests_or_skip, mapped

PAGES = 1 << (10 if inputs.QUICK else 16)
ORDERS = ["in order", "at random"]
SOURCES = {
    "software-raw": lambda: guests_or_skip("software-raw"),
    "guests-raw": lambda: guests_or_skip("guests-raw"),
    "hard": inputs.hard,
}


def in_order(count, order):
    """Page numbers; a scan takes them in the batches that `pageshare scan` takes."""
    numbers = np.arange(count, dtype=np.uint32)
    return numbers if order == "in order" else np.random.default_rng(1).permutation(numbers)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.benchmark(group="table")
def test_scan(beside, source, order):
    found = SOURCES[source]()
    space = mapped(found.paths)
    pages = in_order(space.readable, order)

    def scan():
        table = FrameTable(space)
        for first in range(0, len(pages), 1 << 14):
            table.scan(pages[first : first + (1 << 14)])
        return table.stats().bytes

    table_bytes = beside(
        scan,
        HashPass(space),
        rounds=5,
        group_by=source,
        words=found.words,
        order=order,
        pages=space.readable,
    )
    beside.benchmark.extra_info.update(bytes_a_page=table_bytes / space.readable)


@pytest.mark.parametrize("written", [0.01, 0.1, 1])
@pytest.mark.benchmark(group="table after writes")
def test_scan_after_writes(beside, written):
    """A pass in order over pages that are in the table, after so many of them were written to."""
    count = 1 << (10 if inputs.QUICK else 17)
    memory = np.fromfile(inputs.hard().paths[0], np.uint8, count * 4096).reshape(count, 4096)
    space = PageSpace.of(memory)
    pages = np.sort(np.random.default_rng(1).permutation(count)[: int(written * count)]).astype(np.uint32)

    bare = HashPass(space)

    def prepare():
        table = FrameTable(space)
        table.scan()
        table.write(pages)
        memory[pages, 2000] ^= 1
        bare()  # what was written just now would lie in the caches, a line of each page
        return (table,)

    beside(lambda table: table.scan(), bare, prepare=prepare, rounds=5, written=written, pages=count)


class Pages:
    """Three owners with the same 65,536 pages of random bytes each: `a`, `b` and `c`; and as many of zeros."""

    def __init__(self) -> None:
        self.contents = np.random.default_rng(1).integers(0, 256, (PAGES, 4096), dtype=np.uint8)
        self.a = self.contents.copy()
        zeros = np.ones_like(self.a)
        zeros.fill(0)
        copies = {"a": self.a, "b": self.contents, "c": self.contents.copy(), "zero": zeros}
        self.space = PageSpace.of(copies)

    def owner(self, name, order):
        """Numbers of the pages of an owner; `in the cache` some 128 of them again and again, at random."""
        few = np.random.default_rng(1).integers(0, 128, PAGES, dtype=np.uint32)
        numbers = few if order == "in the cache" else in_order(PAGES, order)
        return numbers + np.uint32(["a", "b", "c", "zero"].index(name) * PAGES)


@pytest.fixture(scope="module")
def pages():
    return Pages()


# What was scanned before, which owner is scanned then, and what comes of each of its pages.
VISITS = {
    "zero": ("", "zero", Outcome.ZERO),
    "new content: a hint": ("", "a", Outcome.HINTED),
    "its own hint again": ("a", "a", Outcome.ALREADY_HINTED),
    "like a hint: now shared": ("a", "b", Outcome.SHARED_NEW),
    "like a shared frame": ("ab", "c", Outcome.SHARED),
    "in its frame already": ("ab", "b", Outcome.ALREADY_SHARED),
    "like a hint that changed": ("a", "b", Outcome.STALE_HINT),
    "changed since the last visit (as KSM)": ("", "a", Outcome.VOLATILE),
}
# What can be met with again and again.
REPEATED = (Outcome.ALREADY_HINTED, Outcome.ALREADY_SHARED)


@pytest.mark.parametrize(
    ("visit", "order"),
    [
        (visit, order)
        for order in [*ORDERS, "in the cache"]
        for visit, (_, _, outcome) in VISITS.items()
        if order in ORDERS or outcome in REPEATED
    ],
)
@pytest.mark.benchmark(group="outcomes")
def test_outcome(beside, pages, visit, order):
    before, owner, outcome = VISITS[visit]
    visited = pages.owner(owner, order)

    def prepare():
        table = FrameTable(pages.space, checksum=outcome == Outcome.VOLATILE)
        pages.a[:, 4000] = pages.contents[:, 4000]
        for each in before:
            table.scan(pages.owner(each, "in order" if order == "in the cache" else order))
        if outcome == Outcome.STALE_HINT:
            pages.a[:, 4000] ^= 1
        return (table,)

    scanned = beside(
        lambda table: table.scan(visited),
        HashPass(PageSpace.of(pages.contents)),
        prepare=prepare,
        rounds=5,
        outcome=visit,
        order=order,
        pages=PAGES,
    )
    # Among 65,536 contents a pair may share the 32 bits of the hash that an entry keeps.
    assert (scanned.outcomes == outcome).mean() > 0.999


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.benchmark(group="outcomes")
def test_write(beside, pages, order):
    """A write to a page that is shared: it leaves its frame."""

    def prepare():
        table = FrameTable(pages.space)
        pages.a[:, 4000] = pages.contents[:, 4000]
        for owner in "abc":
            table.scan(pages.owner(owner, order))
        return (table,)

    broken = beside(
        lambda table: table.write(pages.owner("b", order)),
        HashPass(PageSpace.of(pages.contents)),
        prepare=prepare,
        rounds=5,
        outcome="written: a copy-on-write break",
        order=order,
        pages=PAGES,
    )
    assert broken.all()
