"""Contents by their number of copies, against dicts of page bytes."""

from collections import Counter
from contextlib import ExitStack

import numpy as np
import pytest

import pageshare
from pageshare.answers import groups as module
from pageshare.answers.groups import POINTS, groups
from pageshare.render.answers.groups import charts, section, tables
from pageshare.render.tables import as_csv
from random_owners import random_memory

SEEDS = range(24)


@pytest.fixture(params=SEEDS)
def memory(request, tmp_path):
    with ExitStack() as stack:
        yield random_memory(request.param, stack, tmp_path)


def test_every_figure_is_what_plain_loops_count(memory):
    found, report = groups(memory.inventory), memory.report()
    sizes = [len(pages) for (_, data), pages in memory.groups().items() if any(data)]
    zeros = [len(pages) for (_, data), pages in memory.groups().items() if not any(data)]
    assert {each.copies: each.contents for each in found.multiplicities} == Counter(sizes)
    assert [each.copies for each in found.multiplicities] == sorted(set(sizes))
    for each in found.multiplicities:
        assert each.pages == sum(size for size in sizes if size == each.copies)
        assert each.reclaimed == sum(size - 1 for size in sizes if size == each.copies)
    assert (found.zero.contents, found.zero.pages) == (len(zeros), sum(zeros))
    assert found.zero.reclaimed == sum(size - 1 for size in zeros)
    assert (found.contents, found.shared_contents) == (len(sizes), sum(size > 1 for size in sizes))
    assert found.reclaimed == report.nonzero.reclaimed
    assert found.reclaimed + found.zero.reclaimed == report.pages.reclaimed
    assert sum(each.pages for each in found.multiplicities) + found.zero.pages == report.pages.known
    sizes.sort(reverse=True)
    shared = [size for size in sizes if size > 1]
    assert [each.contents for each in found.top] == (
        [10**power for power in range(9) if 10**power < len(shared)] + [len(shared)] * bool(shared)
    )
    for each in found.top:
        assert each.reclaimed == sum(size - 1 for size in shared[: each.contents])
        assert each.share == each.reclaimed / found.reclaimed
    brought = np.cumsum([0, *(size - 1 for size in shared)])
    for share, of_reclaimed in found.curve:
        assert of_reclaimed * found.reclaimed == pytest.approx(brought[round(share * len(shared))])
    assert not found.curve or (found.curve[0], found.curve[-1]) == ((0, 0), (1, 1))


def test_tables_add_up(memory):
    found = groups(memory.inventory)
    binned, _, exact = tables(found, 4096)
    assert sum(row[2] for row in binned.rows) == sum(row[2] for row in exact.rows) + found.zero.pages
    assert sum(row[3] for row in binned.rows) == found.reclaimed + found.zero.reclaimed
    assert sum(row[1] for row in binned.rows[:-1]) == sum(row[1] for row in exact.rows) == found.contents
    for table in section(found, memory.report()).tables:
        assert len(as_csv(table).splitlines()) == 1 + len(table.rows)
    assert len(charts(found)) == 2 * bool(found.reclaimed)


def test_copies_beyond_what_is_counted_in_an_array(monkeypatch, tmp_path):
    with ExitStack() as stack:
        memory = random_memory(11, stack, tmp_path)
        expected = groups(memory.inventory)
        monkeypatch.setattr(module, "SMALL", 3)
        assert groups(memory.inventory) == expected
        assert max(each.copies for each in expected.multiplicities) > 3


def test_a_long_curve_is_thinned_out(monkeypatch, tmp_path):
    with ExitStack() as stack:
        memory = random_memory(11, stack, tmp_path)
        whole = groups(memory.inventory).curve
        monkeypatch.setattr(module, "POINTS", 5)
        few = groups(memory.inventory).curve
        assert 2 <= len(few) <= 5 < len(whole) <= POINTS
        assert set(few) <= set(whole)
        assert (few[0], few[-1]) == (whole[0], whole[-1])


def test_nothing_at_all():
    found = groups(pageshare.scan({"a": b"less than a page"}).inventory)
    assert (found.multiplicities, found.top, found.curve, found.zero.pages) == ((), (), (), 0)
    assert charts(found) == []
