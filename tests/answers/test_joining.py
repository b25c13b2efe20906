"""What owners bring, against scans with and without them by dicts of page bytes."""

import re
from collections import Counter

import pytest

import pageshare
from owner_memories import domains_of, memories, reclaimed, scanned
from pageshare.answers.joining import joining
from pageshare.render.answers.joining import section
from pageshare.render.units import size


def _parts(named, domains, name):
    held = Counter((domains.get(owner), page) for owner, pages in named.items() for page in pages)
    parts = [(page, 1 - 1 / held[domains.get(name), page]) for page in named[name]]
    return sum(part for _, part in parts), sum(part for page, part in parts if not any(page))


@pytest.mark.parametrize("owners", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("seed", range(6))
def test_alone_part_adds(seed, owners):
    named = memories(seed, owners)
    domains = domains_of(seed, named, 3) if seed % 2 else {}
    report = scanned(named, domains)
    found = joining(report.inventory)
    assert (found.reclaimed, found.reclaimed_zero) == reclaimed(named, domains)
    assert found.reclaimed == report.pages.reclaimed
    assert found.reclaimed_zero == report.pages.reclaimed - report.nonzero.reclaimed
    for owner in found.owners:
        assert owner.known == len(named[owner.name])
        assert owner.domain == domains.get(owner.name, "default")
        assert (owner.alone, owner.alone_zero) == reclaimed({owner.name: named[owner.name]})
        assert (owner.part, owner.part_zero) == pytest.approx(_parts(named, domains, owner.name))
        without = reclaimed({name: pages for name, pages in named.items() if name != owner.name}, domains)
        assert owner.adds == found.reclaimed - without[0]
        assert owner.adds_zero == found.reclaimed_zero - without[1]
        assert owner.alone - 1e-9 <= owner.part <= owner.adds + 1e-9
    assert sum(owner.part for owner in found.owners) == pytest.approx(found.reclaimed, abs=1e-6)
    assert sum(owner.part_zero for owner in found.owners) == pytest.approx(found.reclaimed_zero, abs=1e-6)
    owners_table = section(found, report).tables[0]
    at = [column.key for column in owners_table.columns].index("part")
    assert sum(row[at] for row in owners_table.rows) == pytest.approx(found.reclaimed, abs=1e-6)


@pytest.mark.parametrize("owners", [2, 5, 60])
def test_bars_are_as_long_as_the_figures(owners):
    named = memories(owners, owners)
    report = scanned(named)
    found = joining(report.inventory)
    shown = section(found, report)
    (picture,) = shown.charts
    bars = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="13" fill="var\(--(\w+)\)"/>', picture)
    ranked = sorted(found.owners, key=lambda owner: -_parts(named, {}, owner.name)[0])[:40]
    scale = 560 / max(len(named[owner.name]) for owner in ranked)
    rows = {}
    for _, y, width, colour in bars:
        rows.setdefault(float(y), {})[colour] = float(width)
    assert len(rows) == len(ranked)
    for (_, row), owner in zip(sorted(rows.items()), ranked, strict=True):
        part, zero = _parts(named, {}, owner.name)
        expected = {"inter": part - zero, "zero": zero, "unique": len(named[owner.name]) - part}
        for colour, pages in expected.items():
            assert row.get(colour, 0) == pytest.approx(pages * scale, abs=0.06)
    first = ranked[0]
    part = size(round(_parts(named, {}, first.name)[0] * 4096))
    assert f"most is in {first.name} ({part} of its {size(len(named[first.name]) * 4096)})" in shown.lines[0]


def test_many_owners():
    named = memories(1, 300, contents=500, most=40)
    report = scanned(named)
    found = joining(report.inventory)
    last = found.owners[-1]
    assert last.adds == found.reclaimed - reclaimed(dict(list(named.items())[:-1]))[0]
    assert sum(owner.part for owner in found.owners) == pytest.approx(report.pages.reclaimed)


def test_holes_are_zero_pages_and_named(tmp_path):
    path = tmp_path / "guest"
    with path.open("wb") as file:
        file.write(b"x" * 8192)
        file.truncate(64 * 4096)
    report = pageshare.scan({"guest": path, "other": bytes(4096) + b"x" * 4096})
    found = joining(report.inventory)
    guest, other = found.owners
    assert (guest.alone, guest.alone_zero, guest.adds, guest.adds_zero) == (62, 61, 64, 62)
    assert (other.alone, other.adds, other.adds_zero) == (0, 2, 1)
    assert "holes" in section(found, report).lines[-1]


def test_nobody():
    report = scanned({})
    assert joining(report.inventory).owners == ()
    section(joining(report.inventory), report)
