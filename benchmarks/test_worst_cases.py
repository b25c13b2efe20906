"""Contents made to be slow, 256 MiB each, beside a bare XXH3-64 pass: none may cost more than three of those."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

import inputs
from pageshare import PageSpace, census
from passes import HashPass

PAGES = 1 << (10 if inputs.QUICK else 16)
NUMBERS = np.arange(PAGES, dtype=np.uint32)


def alike(numbers, at, fill=7, first=None):
    """Pages that hold one byte, but for four bytes at one place: a number (and but for the ``first`` other one)."""
    pages = np.full((PAGES, 4096), fill, np.uint8)
    pages[:, at : at + 4] = np.asarray(numbers, np.uint32).view(np.uint8).reshape(-1, 4)
    if first is not None:
        pages[:, first] = 1
    return pages


def groups_of_17():
    """Random pages in groups that agree but for the last byte: nine alike, and eight more, all different in it."""
    groups = PAGES // 17
    pages = np.random.default_rng(2).integers(0, 256, (PAGES, 4096), dtype=np.uint8)
    for member in range(1, 17):
        pages[member * groups : (member + 1) * groups] = pages[:groups]
    pages[: 17 * groups, 4095] = np.repeat(np.maximum(np.arange(17) - 8, 0), groups)
    return pages


def after_zeros(numbers):
    """Pages that agree in their samples, with a zero first line; in each 128 of them the first four are all zero."""
    pages = alike(numbers, 2000)
    pages[:, :64] = 0
    pages[NUMBERS % 128 < 4] = 0
    return pages


CONTENTS = {
    "agree in what is sampled, all distinct": lambda: alike(NUMBERS, 1000),
    "distinct in the last four bytes": lambda: alike(NUMBERS, 4092),
    "the same, each content twice": lambda: alike(NUMBERS // 2, 4092),
    "each content twice, far apart": lambda: alike(NUMBERS % (PAGES // 2), 4092),
    "a thousand contents that agree in what is sampled": lambda: alike(NUMBERS % 1000, 1000),
    "half one content, half distinct, all agreeing": lambda: alike(NUMBERS * (NUMBERS % 2), 1000),
    "groups of nine that agree, all distinct": lambda: alike(NUMBERS // 9, 0) + (alike(NUMBERS, 2000) - 7),
    "the same, distinct in the first kilobyte": lambda: alike(NUMBERS // 9, 0) + (alike(NUMBERS, 960) - 7),
    "zero but for the last four bytes": lambda: alike(NUMBERS + 1, 4092, fill=0),
    "the same, each content twice (zero)": lambda: alike(NUMBERS // 2 + 1, 4092, fill=0),
    "zero but for a byte far behind and the last four, half alike": lambda: alike(
        NUMBERS * (NUMBERS % 2), 4092, fill=0, first=3519
    ),
    "the same, the other half in pairs": lambda: alike(NUMBERS // 4 * (NUMBERS % 2), 4092, fill=0, first=3519),
    "groups of 17 that agree in what is sampled, nine alike": groups_of_17,
    "zeros, then a thousand contents with a zero line that agree": lambda: after_zeros(NUMBERS % 1000),
    "zeros, then pairs of them": lambda: after_zeros(NUMBERS // 2),
    "every page the same": lambda: alike(NUMBERS * 0, 0),
    "half a million pages, all the same": lambda: np.full((8 * PAGES, 4096), 7, np.uint8),
    "all zero": lambda: alike(NUMBERS * 0, 0, fill=0),
    "all unique": lambda: np.random.default_rng(1).integers(0, 256, (PAGES, 4096), dtype=np.uint8),
}


def in_whole_lines(pages):
    """A copy that begins where a line of memory does, as a mapped file: numpy's arrays begin 16 bytes behind."""
    memory = mmap.mmap(-1, pages.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    copy = np.frombuffer(memory, np.uint8).reshape(pages.shape)
    copy[:] = pages
    return copy


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.benchmark(group="worst cases")
def test_worst_case(beside, content, threads):
    pages = in_whole_lines(CONTENTS[content]())
    space = PageSpace.of(pages)
    result = beside(
        lambda: census(space, threads=threads),
        HashPass(space, threads),
        rounds=5,
        content=content,
        threads=threads,
        pages=len(pages),
    )
    assert result.tally.zero + result.tally.shared + result.tally.hints == len(pages)
