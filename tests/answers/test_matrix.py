"""The matrix against sets of page bytes, and its section."""

import itertools
import json
import random
import re
from dataclasses import asdict
from xml.etree import ElementTree

import numpy as np
import pytest

from owner_memories import ZEROS, domains_of, memories, scanned
from pageshare.answers.matrix import Matrix, matrix
from pageshare.render import heat_map
from pageshare.render.answers.matrix import section
from pageshare.render.seriation import seriated
from pageshare.render.tables import as_csv


@pytest.mark.parametrize("owners", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("seed", range(5))
def test_contents_that_both_hold(seed, owners):
    named = memories(seed, owners)
    report = scanned(named, domains_of(seed, named, 3) if seed % 2 else None)
    found = matrix(report.inventory)
    sets = [set(pages) - {ZEROS} for pages in named.values()]
    assert json.loads(json.dumps(asdict(found))) == {
        "owners": list(named),
        "common_contents": [[len(a & b) for b in sets] for a in sets],
    }
    common = np.array(found.common_contents)
    assert (common == common.T).all()
    assert (common <= np.minimum.outer(common.diagonal(), common.diagonal())).all()
    if not seed % 2:
        assert common.trace() - len(set().union(*sets)) == report.nonzero.reclaimed_inter
    shown = section(found, report)
    pairs = {
        (a, b): (len(sets[i] & sets[j]), len(sets[i] & sets[j]) / min(len(sets[i]), len(sets[j])))
        for i, a in enumerate(named)
        for j, b in enumerate(named)
        if i < j and sets[i] & sets[j]
    }
    by_pair, whole = shown.tables
    assert {(a, b): tuple(rest) for a, b, *rest in by_pair.rows} == pairs
    assert [row[2] for row in by_pair.rows] == sorted((each[0] for each in pairs.values()), reverse=True)
    names = [row[0] for row in whole.rows]
    assert sorted(names) == sorted(named)
    assert [column.heading for column in whole.columns[1:]] == names
    for row in whole.rows:
        for name, count in zip(names, row[1:], strict=True):
            assert count == len((set(named[name]) & set(named[row[0]])) - {ZEROS})
    assert len(shown.charts) == (owners > 1)


def test_many_owners():
    named = memories(2, 300, contents=300, most=200)
    found = matrix(scanned(named).inventory)
    sets = [set(pages) - {ZEROS} for pages in named.values()]
    assert found.common_contents == tuple(tuple(len(a & b) for b in sets) for a in sets)


def _made(owners, seed=0, groups=3):
    """A matrix of owners in groups, in random order; also which group each is in."""
    draw = random.Random(seed)
    group = [draw.randrange(groups) for _ in range(owners)]
    own = [draw.randrange(40) for _ in range(owners)]
    held = [{(group[i], n) for n in range(40)} | {(i, "own", n) for n in range(own[i])} for i in range(owners)]
    common = tuple(tuple(len(a & b) for b in held) for a in held)
    return Matrix(tuple(f"guest {i}" for i in range(owners)), common), group


@pytest.mark.parametrize("owners", [2, 3, 12, 40, 41, 100, 256])
def test_groups_stand_together(owners):
    made, group = _made(owners, seed=owners)
    order = seriated(np.array(made.common_contents, float))
    assert sorted(order) == list(range(owners))
    stretches = [group[i] for i in order]
    assert sum(a != b for a, b in itertools.pairwise(stretches)) == len(set(group)) - 1


def test_many_owners_are_a_long_table():
    made, _ = _made(41)
    report = scanned({"a": [ZEROS]})
    whole = section(made, report).tables[1]
    assert [column.key for column in whole.columns] == ["owner_a", "owner_b", "common_contents"]
    found = {(a, b): count for a, b, count in whole.rows}
    for i, a in enumerate(made.owners):
        for j, b in enumerate(made.owners[i:], i):
            one = found.pop((a, b), 0)
            assert one + (found.pop((b, a), 0) if a != b else 0) == made.common_contents[i][j]
    assert not found


def _painted(svg, count):
    """Levels of the cells, drawn by following the paths' commands."""
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    half = next(each for each in root.iter() if each.get("id") == "heat-half")
    levels = np.zeros((count, count), int)
    for path in half:
        level = round(float(path.get("stroke-opacity")) * heat_map.LEVELS)
        x = y = 0
        for move in path.get("d").lower().split("m")[1:]:
            where, run = move.split("h")
            right, down = map(float, where.split())
            x, y = x + int(right), y + int(down)  # the first one's half is the middle of the stroke
            assert not levels[y, x : x + int(run)].any()
            levels[y, x : x + int(run)] = level
            x += int(run)
    return levels + levels.T


@pytest.mark.parametrize("count", [1, 2, 9, 64, 256])
def test_heat_map_paints_each_cell(count):
    generator = np.random.default_rng(count)
    shares = np.round(generator.random((count, count)), 2)
    shares = np.where(generator.random((count, count)) < 0.1, 0, shares)
    shares = np.tril(shares) + np.tril(shares, -1).T
    svg = heat_map.heat_map(shares, [""] * count, [["x"] * count] * count, title="t", scale="s")
    expected = np.ceil(shares * 10 - 1e-6).astype(int)
    np.fill_diagonal(expected, 0)
    assert (_painted(svg, count) == expected).all()
    assert len(svg) < 400_000


def test_names_are_escaped_and_cut():
    names = ("<script>alert(1)</script>", "x" * 200, "\N{PILE OF POO}", 'a"b', "")
    made = Matrix(names, tuple(tuple(int(a == b) + 1 for b in range(5)) for a in range(5)))
    report = scanned({"a": [ZEROS]})
    shown = section(made, report)
    ElementTree.fromstring(shown.charts[0])
    assert "<script" not in shown.charts[0]
    assert "x" * 50 not in shown.charts[0]
    assert as_csv(shown.tables[1]).count("\n") == 6


def test_nothing_in_common():
    report = scanned({"a": [b"x" * 4096], "b": [ZEROS]})
    shown = section(matrix(report.inventory), report)
    assert shown.tables[0].rows == []
    assert "No two of 2 owners" in shown.lines[0]
    empty = scanned({})
    assert section(matrix(empty.inventory), empty).charts == []


@pytest.mark.parametrize("owners", [3, 4, 5, 12])
def test_what_half_of_all_pairs_have(owners):
    report = scanned({"a": [ZEROS]})
    for seed, groups in itertools.product(range(5), (1, 2, 3)):
        made, group = _made(owners, seed, groups)
        (sentence,) = [line for line in section(made, report).lines if "pairs have something" in line] or [None]
        if sentence is None:  # no pair has
            assert len(set(group)) == owners
            continue
        common = made.common_contents
        shares = [
            100 * common[a][b] / min(common[a][a], common[b][b]) for a, b in itertools.combinations(range(owners), 2)
        ]
        assert sentence.startswith(f"{sum(share > 0 for share in shares)} of {len(shares)} pairs")
        told = re.search(r"half of all pairs have ([\d.]+) % of the smaller one or more", sentence)
        assert bool(told) == (2 * sum(share > 0 for share in shares) >= len(shares))
        assert not told or 2 * sum(share >= float(told[1]) - 0.051 for share in shares) >= len(shares)
