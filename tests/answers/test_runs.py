"""Runs of shared pages, against plain loops over all pages."""

from collections import Counter
from contextlib import ExitStack

import pytest

import pageshare
from dumps import elf
from pageshare.answers.runs import Run, runs
from pageshare.core import Control, Stopped
from pageshare.render.answers.runs import charts, section, tables
from random_owners import PAGE, random_memory


@pytest.fixture(params=range(24))
def memory(request, tmp_path):
    with ExitStack() as stack:
        yield random_memory(request.param, stack, tmp_path)


def slow_runs(memory):
    """(owner, frame, length, owner and frame of what is matched), by page after page."""
    first, matches = {}, {}
    for owner, frame, data in memory.numbered():
        if any(data):
            there = first.setdefault((memory.domains[owner], data), (owner, frame))
            if there != (owner, frame):
                matches[owner, frame] = there
    found = []
    for (owner, frame), (other, other_frame) in matches.items():
        if found:
            last, begin, length, last_other, begin_other = found[-1]
            if (owner, frame, other, other_frame) == (last, begin + length, last_other, begin_other + length):
                found[-1] = (last, begin, length + 1, last_other, begin_other)
                continue
        found.append((owner, frame, 1, other, other_frame))
    return found


def slow_zeros(memory):
    found = []
    for owner, frame, data in memory.numbered():
        if any(data):
            continue
        if found and found[-1][0] == owner and found[-1][1] + found[-1][2] == frame:
            found[-1][2] += 1
        else:
            found.append([owner, frame, 1])
    return [length for _, _, length in found]


def by_power(lengths):
    runs, pages = Counter(), Counter()
    for length in lengths:
        power = 1
        while 2 * power <= length:
            power *= 2
        runs[power] += 1
        pages[power] += length
    return [(power, 2 * power - 1, runs[power], pages[power]) for power in sorted(runs)]


def test_every_figure_is_what_plain_loops_find(memory):
    found, report, expected = runs(memory.inventory), memory.report(), slow_runs(memory)
    assert found.pages == report.nonzero.reclaimed == sum(length for _, _, length, _, _ in expected)
    assert found.runs == len(expected)
    lengths = [(each.shortest, each.longest, each.runs, each.pages) for each in found.lengths]
    assert lengths == by_power([length for _, _, length, _, _ in expected])
    zeros = slow_zeros(memory)
    assert [(each.shortest, each.longest, each.runs, each.pages) for each in found.zeros] == by_power(zeros)
    assert (found.zero_runs, found.zero_pages) == (len(zeros), report.pages.zero)
    pairs = {}
    for owner, _, length, other, _ in expected:
        pairs.setdefault((f"o{owner}", f"o{other}"), []).append(length)
    assert {(each.owner, each.matches): (each.runs, each.pages, each.longest) for each in found.pairs} == {
        pair: (len(each), sum(each), max(each)) for pair, each in pairs.items()
    }
    assert [each.pages for each in found.pairs] == sorted((sum(each) for each in pairs.values()), reverse=True)
    longest = sorted(expected, key=lambda each: -each[2])[:50]
    assert list(found.longest) == [
        Run(f"o{owner}", frame * PAGE, length, f"o{other}", other_frame * PAGE)
        for owner, frame, length, other, other_frame in longest
    ]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_few_are_told(memory, most):
    found, few = runs(memory.inventory), runs(memory.inventory, most_runs=most, most_pairs=most)
    assert few.longest == found.longest[:most]
    assert (few.pairs, few.more_pairs) == (found.pairs[:most], max(0, len(found.pairs) - most))
    assert (few.runs, few.pages) == (found.runs, found.pages)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_find_the_same(memory, threads):
    assert runs(memory.inventory, threads=threads) == runs(memory.inventory)


def test_tables_add_up(memory):
    found = runs(memory.inventory)
    lengths, pairs, longest, zeros = tables(found, PAGE)
    assert sum(row[3] for row in lengths.rows) == sum(row[2] for row in pairs.rows) == found.pages
    assert sum(row[3] for row in zeros.rows) == found.zero_pages
    assert len(longest.rows) == len(found.longest)
    assert len(charts(found, PAGE)) == (found.runs + found.zero_runs > 0)
    assert section(found, memory.report()).lines


def test_ranges_side_by_side_are_one_stretch_and_others_are_not(tmp_path):
    """Where frames go on in another place of the file, so does the run, and what it matches."""
    (tmp_path / "a").write_bytes(elf("note QEMU 0\n load address=0x10000 bytes=9p"))
    (tmp_path / "b").write_bytes(
        elf("""
            note QEMU 0
            load address=0x14000 bytes=2p  # and before it in memory, but not in the file:
            load address=0x10000 bytes=4p
            load address=0x17000 bytes=2p
        """)
    )
    a, b = tmp_path / "a", tmp_path / "b"
    expected = {("a", "b"): [(0x10000, 6), (0x17000, 2)], ("b", "a"): [(0x10000, 6), (0x17000, 2)]}
    for (first, second), stretches in expected.items():
        found = runs(pageshare.scan({"a": a, "b": b} if first == "a" else {"b": b, "a": a}).inventory)
        assert list(found.longest) == [Run(second, at, pages, first, at) for at, pages in stretches]


def test_a_stop_ends_it():
    control = Control()
    control.stop()
    inventory = pageshare.scan({"a": b"x" * 2 * PAGE}).inventory
    with pytest.raises(Stopped):
        runs(inventory, control=control)


def test_nothing_at_all():
    found = runs(pageshare.scan({"a": b"less than a page"}).inventory)
    assert (found.runs, found.pages, found.pairs, found.longest, found.zeros) == (0, 0, (), (), ())
