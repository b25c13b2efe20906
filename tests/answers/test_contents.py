"""The contents that bring most, and the kinds of all pages, against dicts of page bytes."""

import random
from collections import Counter
from contextlib import ExitStack

import numpy as np
import pytest

import pageshare
from pageshare.answers import contents as module
from pageshare.answers.contents import Holder, Place, contents
from pageshare.core import Control, Stopped, census, kind_of
from pageshare.inventory import Inventory
from pageshare.render.answers.contents import charts, section, tables
from random_owners import PAGE, random_memory


@pytest.fixture(params=range(24))
def memory(request, tmp_path):
    with ExitStack() as stack:
        yield random_memory(request.param, stack, tmp_path)


def names(memory):
    return memory.inventory.owners


def kind(data):
    return kind_of(data).name.lower()


def key_of(memory, content):
    """Which content it is, by its first place."""
    owner = names(memory).index(content.places[0].owner)
    return memory.domains[owner], memory.pages[owner][content.places[0].address // PAGE]


@pytest.mark.parametrize("at_once", [None, 7])
def test_the_top_contents_are_those_of_plain_loops(memory, at_once, monkeypatch):
    if at_once:
        monkeypatch.setattr(module, "AT_ONCE", at_once)
    groups = memory.groups()
    found = contents(memory.inventory, memory.space, most=20, holders=2, places=3)
    assert found.contents == len(groups)
    shared = sorted((len(pages) for (_, data), pages in groups.items() if any(data) and len(pages) > 1), reverse=True)
    zeros = [len(pages) for (_, data), pages in groups.items() if not any(data)]
    assert [each.copies for each in found.top] == sorted(shared + zeros, reverse=True)[:20]
    assert len({key_of(memory, each) for each in found.top}) == len(found.top)
    for each in found.top:
        key = key_of(memory, each)
        pages = groups[key]
        assert (each.copies, each.reclaimed) == (len(pages), len(pages) - 1)
        held = Counter(owner for owner, _ in pages)
        assert each.owners == len(held)
        assert each.holders == tuple(
            Holder(names(memory)[owner], copies)
            for owner, copies in sorted(held.items(), key=lambda item: (-item[1], item[0]))[:2]
        )
        assert each.places == tuple(Place(names(memory)[owner], frame * PAGE) for owner, frame in pages[:3])
        assert each.kind == kind(key[1])
        assert (each.bytes, each.hash) == (None, None)


def slow_kinds(memory):
    found = {}
    for (_, data), pages in memory.groups().items():
        of = found.setdefault(kind(data), [0, 0, 0])
        of[0] += 1
        of[1] += len(pages)
        of[2] += len(pages) - 1
    return found


def as_dict(found):
    return {each.kind: [each.contents, each.pages, each.reclaimed] for each in found.kinds}


@pytest.mark.parametrize("sample", [None, 100_000])
def test_kinds_of_all_contents(memory, sample):
    found, report = contents(memory.inventory, memory.space, most=3, sample=sample), memory.report()
    assert as_dict(found) == slow_kinds(memory)
    assert found.classified == found.contents
    assert sum(each.pages for each in found.kinds) == report.pages.known
    assert sum(each.reclaimed for each in found.kinds) == report.pages.reclaimed
    assert not any(each.pages_error or each.contents_error or each.reclaimed_error for each in found.kinds)


def test_a_sample_holds_the_truth_within_its_errors():
    """In 95 of 100 samples; of 200 samples a normal distribution leaves 170 to 200."""
    draw = random.Random(5)
    pages = []
    for i in range(600):
        text = f"{i} words, and more\n".encode().ljust(64, b".") * 64
        page = draw.choice([draw.randbytes(PAGE), text, i.to_bytes(8, "big") * 512])
        pages += [page] * draw.choice([1, 1, 2, 3, 9])
    draw.shuffle(pages)
    space = pageshare.PageSpace.of({"a": b"".join(pages[:900]), "b": b"".join(pages[900:])})
    inventory = Inventory.of(space, census(space))
    truth = {each.kind: each for each in contents(inventory, space, sample=None).kinds}
    within = Counter()
    for seed in range(200):
        found = contents(inventory, space, most=5, sample=120, seed=seed)
        assert found.classified == 120 + sum(each.kind == "zero" for each in found.top) + 5
        for each in found.kinds:
            for figure in ("contents", "pages", "reclaimed"):
                error = getattr(each, f"{figure}_error")
                within[each.kind, figure] += abs(getattr(each, figure) - getattr(truth[each.kind], figure)) <= error
    assert set(within) == {(name, figure) for name in truth for figure in ("contents", "pages", "reclaimed")}
    assert all(170 <= count <= 200 for count in within.values()), within


def test_the_same_seed_gives_the_same_sample(memory):
    assert contents(memory.inventory, memory.space, sample=8, seed=3) == contents(
        memory.inventory, memory.space, sample=8, seed=3
    )


def test_bytes_are_shown_only_if_asked(memory):
    found = contents(memory.inventory, memory.space, show_contents=True)
    for each in found.top:
        assert bytes.fromhex(each.bytes) == key_of(memory, each)[1][:256]
    shown = {table.name for table in tables(found, PAGE)}
    hidden = {table.name for table in tables(contents(memory.inventory, memory.space), PAGE)}
    assert shown - hidden == ({"contents-bytes"} if found.top else set())
    with pytest.raises(ValueError, match="scan the dumps"):
        contents(memory.inventory, show_contents=True)


def test_a_saved_scan_has_kinds_and_hashes_or_neither(memory):
    inventory = memory.inventory
    firsts = inventory.first_pages()
    owners, frames = inventory.places.locate(np.minimum(firsts, max(0, inventory.places.readable - 1)))
    data = [memory.pages[owner].get(frame) for owner, frame in zip(owners.tolist(), frames.tolist(), strict=True)]
    data[0] = bytes(PAGE)
    digests = np.array([list(page[:16]) for page in data], np.uint8)
    kinds = np.array([kind_of(page) for page in data], np.uint8)
    found = contents(inventory, kinds=kinds, digests=digests)
    read = contents(inventory, memory.space, sample=None)
    assert [each.kind for each in found.top] == [each.kind for each in read.top]
    assert as_dict(found) == as_dict(read)
    assert [each.hash for each in found.top] == [key_of(memory, each)[1][:16].hex() for each in found.top]
    neither = contents(inventory)
    assert (neither.kinds, neither.classified, neither.seed) == ((), 0, None)
    assert {each.kind for each in neither.top} <= {None}
    assert charts(neither, PAGE) == []


def test_tables_have_the_same_figures(memory):
    for sample in (None, 10):
        found = contents(memory.inventory, memory.space, sample=sample)
        shown = {table.name: table for table in section(found, memory.report()).tables}
        assert [row[1] for row in shown["contents"].rows] == [each.reclaimed for each in found.top]
        assert len(shown["contents-places"].rows) == sum(len(each.places) for each in found.top)
        assert len(shown["contents-holders"].rows) == sum(len(each.holders) for each in found.top)
        if "kinds" in shown:
            assert [row[2] for row in shown["kinds"].rows] == [each.pages for each in found.kinds]


@pytest.mark.parametrize("options", [{"most": 0}, {"places": 0}, {"holders": 0}, {"sample": 0}])
def test_nothing_wanted(memory, options):
    found = contents(memory.inventory, memory.space, **options)
    assert len(tables(found, PAGE)) >= 3
    assert found.contents == len(memory.groups())


def test_nothing_at_all():
    space = pageshare.PageSpace.of({"a": b"less than a page"})
    found = contents(Inventory.of(space, census(space)), space)
    assert (found.contents, found.top, found.kinds, found.classified) == (0, (), (), 0)


def test_a_stop_ends_it():
    control = Control()
    control.stop()
    space = pageshare.PageSpace.of({"a": b"x" * 2 * PAGE})
    with pytest.raises(Stopped):
        contents(Inventory.of(space, census(space)), space, control=control)
