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
        """Numbers of the pages of an owner."""
        return in_order(PAGES, order) + np.uint32(["a", "b", "c", "zero"].index(name) * PAGES)


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


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("visit", VISITS)
@pytest.mark.benchmark(group="outcomes")
def test_outcome(beside, pages, visit, order):
    before, owner, outcome = VISITS[visit]
    visited = pages.owner(owner, order)

    def prepare():
        table = FrameTable(pages.space, checksum=outcome == Outcome.VOLATILE)
        pages.a[:, 4000] = pages.contents[:, 4000]
        for each in before:
            table.scan(pages.owner(each, order))
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
