"""The map of memory, against plain loops over all pages."""

from contextlib import ExitStack

import pytest

import pageshare
from dumps import elf
from pageshare.answers import memory_map as module
from pageshare.answers.memory_map import BRIDGED, memory_map
from pageshare.core import Control, Stopped
from pageshare.inventory import STATES
from pageshare.render.answers.memory_map import WORDS, charts, section, tables
from pageshare.render.units import size
from random_owners import PAGE, random_memory


@pytest.fixture(params=range(24))
def memory(request, tmp_path):
    with ExitStack() as stack:
        yield random_memory(request.param, stack, tmp_path)


def slow_states(memory):
    """The state of each (owner, frame)."""
    found = {
        (owner, frame): "unknown"
        for owner, mine in enumerate(memory.pages)
        for frame, data in mine.items()
        if data is None
    }
    for (_, data), pages in memory.groups().items():
        owners = {owner for owner, _ in pages}
        state = "unique" if len(pages) == 1 else "inter" if len(owners) > 1 else "intra"
        found.update(dict.fromkeys(pages, state if any(data) else "zero"))
    return found


@pytest.mark.parametrize("most_cells", [None, 1, 7, 64])
@pytest.mark.parametrize("at_once", [None, 13])
def test_every_cell_is_what_plain_loops_count(memory, most_cells, at_once, monkeypatch):
    if at_once:
        monkeypatch.setattr(module, "RUNS_AT_ONCE", at_once)
    found, states = memory_map(memory.inventory, most_cells=most_cells), slow_states(memory)
    assert [each.owner for each in found.owners] == list(memory.inventory.owners)
    for number, owner in enumerate(found.owners):
        mine = {frame: state for (holder, frame), state in states.items() if holder == number}
        cells = {}
        for segment in owner.segments:
            assert segment.address % owner.cell_bytes == 0
            columns = [getattr(segment, state) for state in STATES]
            for nth, counts in enumerate(zip(*columns, strict=True)):
                cells[segment.address + nth * owner.cell_bytes] = counts
        assert len(cells) <= found.most_cells
        for address, counts in cells.items():
            here = [state for frame, state in mine.items() if 0 <= frame * PAGE - address < owner.cell_bytes]
            assert counts == tuple(here.count(state) for state in STATES)
        totals = [getattr(owner, state) for state in STATES]
        assert totals == [list(mine.values()).count(state) for state in STATES]
        assert totals == [sum(counts[state] for counts in cells.values()) for state in range(len(STATES))]


def test_totals_are_those_of_the_report(memory):
    found, report = memory_map(memory.inventory), memory.report()
    for owner, other in zip(found.owners, report.owners, strict=True):
        assert (owner.zero, owner.unknown) == (other.pages.zero, other.pages.unknown)
        assert owner.unique + owner.intra + owner.inter + owner.zero == other.pages.known
    (owners, cells) = tables(found, PAGE)
    for state in range(len(STATES)):
        assert sum(row[1 + state] for row in owners.rows) == sum(row[3 + state] for row in cells.rows)
    shown = section(found, report)
    assert len(shown.charts) == len(charts(found, PAGE))
    states = list(slow_states(memory).values())
    (line,) = shown.lines
    told = [f"{WORDS[state]} {size(states.count(state) * PAGE)}" for state in STATES if state in states]
    assert sorted(line.partition(": ")[2].rstrip(".").split(", ")) == sorted(told) if told else "no page" in line


def test_empty_addresses_are_cut_out(tmp_path):
    path = tmp_path / "a"
    ranges = [(1, 3), (4 + BRIDGED, 1), (6 + 2 * BRIDGED, 1), (100, 2), (1 << 35, 1)]
    loads = "".join(f"load address={frame * PAGE:#x} bytes={pages}p\n" for frame, pages in ranges)
    path.write_bytes(elf(f"note QEMU 0\n{loads}"))
    inventory = pageshare.scan(path).inventory
    (owner,) = memory_map(inventory).owners
    assert owner.cell_bytes == PAGE
    assert [(each.address // PAGE, each.unique) for each in owner.segments] == [
        (1, (1, 1, 1, *[0] * BRIDGED, 1)),
        (6 + 2 * BRIDGED, (1,)),
        (100, (1, 1)),
        (1 << 35, (1,)),
    ]
    (one,) = memory_map(inventory, most_cells=1).owners
    assert one.cell_bytes > PAGE << 33
    assert sum(sum(each.unique) for each in one.segments) == 8


def test_many_owners_get_fewer_cells():
    memory = {f"o{i}": bytes([i % 250 + 1]) * PAGE for i in range(200)}
    assert memory_map(pageshare.scan(memory).inventory).most_cells == 128
    assert memory_map(pageshare.scan({"a": b"x" * PAGE}).inventory).most_cells == 512


@pytest.mark.parametrize(("owners", "high"), [(1, 64), (12, 64), (13, 16), (100, 16)])
def test_strips_of_many_owners_are_thin(owners, high):
    memory = {f"o{i}": bytes([i + 1]) * PAGE + bytes(PAGE) for i in range(owners)}
    _, *strips = charts(memory_map(pageshare.scan(memory).inventory), PAGE)
    assert len(strips) == owners
    for number, strip in enumerate(strips):
        assert f'viewBox="0 0 800 {high}"' in strip
        assert f">o{number}" in strip
        ground = 1 + 14 if high == 16 else 16 + 32
        assert f" {ground}V" in strip
        assert f"V{ground}z" in strip


def test_nothing_at_all():
    (owner,) = memory_map(pageshare.scan({"a": b"less than a page"}).inventory).owners
    assert (owner.segments, owner.unique) == ((), 0)
    assert charts(memory_map(pageshare.scan({"a": b"less than a page"}).inventory), PAGE) == []


def test_a_stop_ends_it():
    control = Control()
    control.stop()
    inventory = pageshare.scan({"a": b"x" * 2 * PAGE}).inventory
    with pytest.raises(Stopped):
        memory_map(inventory, control=control)
