"""The inventory against plain dicts of page bytes, on random images."""

import random
from collections import Counter, defaultdict

import numpy as np
import pytest

import pageshare
from pageshare.core import NO_PAGE, UNIQUE_CLASS, ZERO_CLASS, census
from pageshare.inventory import INTER, INTRA, UNIQUE, ZERO, Inventory

PAGE = 4096


def memories(seed, owners):
    """Bytes of some owners, of few contents, so that many are equal."""
    draw = random.Random(seed)
    contents = [bytes(PAGE), *(draw.randbytes(PAGE) for _ in range(40))]
    return {f"o{i}": b"".join(draw.choices(contents, k=draw.randrange(1, 60))) for i in range(owners)}


def pages_of(data):
    return [data[i : i + PAGE] for i in range(0, len(data), PAGE)]


def inventory_of(named, domains=None, threads=None):
    space = pageshare.PageSpace.of(named, domains=domains)
    return Inventory.of(space, census(space.undivided()), threads=threads)


@pytest.mark.parametrize("threads", [None, 1, 3, 16])
@pytest.mark.parametrize("owners", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("seed", range(6))
def test_contents_and_their_holders(seed, owners, threads):
    named = memories(seed, owners)
    found = inventory_of(named, threads=threads)
    all_pages = [page for data in named.values() for page in pages_of(data)]
    held = Counter(all_pages)
    first = {page: all_pages.index(page) for page in held}
    by_owner = defaultdict(Counter)
    for number, data in enumerate(named.values()):
        for page in pages_of(data):
            by_owner[page][number] += 1
    contents = found.everywhere
    for page, number in zip(all_pages, contents.classes.tolist(), strict=True):
        if not any(page):
            assert number == ZERO_CLASS
        elif held[page] == 1:
            assert number == UNIQUE_CLASS
        else:
            record = contents.contents[number]
            assert (record["first"], record["pages"]) == (first[page], held[page])
            holdings = contents.holdings[record["start"] : record["start"] + record["owners"]]
            assert dict(holdings.tolist()) == by_owner[page]
            assert holdings["owner"].tolist() == sorted(by_owner[page])
    assert (np.diff(contents.contents["first"][1:].astype(int)) > 0).all()
    assert len(contents.holdings) == contents.contents["owners"].sum()
    assert len(contents.contents) == 1 + sum(count > 1 and any(page) for page, count in held.items())
    assert contents.contents["pages"][ZERO_CLASS] == held[bytes(PAGE)]
    assert found.canonical().tolist() == [first[page] for page in all_pages]
    sets = [set(pages_of(data)) - {bytes(PAGE)} for data in named.values()]
    assert contents.common().tolist() == [[len(a & b) for b in sets] for a in sets]
    numbers, firsts = found.numbers(), found.first_pages()
    assert len(set(numbers.tolist())) == len(held)
    assert all(all_pages[firsts[number]] == page for number, page in zip(numbers, all_pages, strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_domains_divide_contents(seed):
    owners = 2 + seed % 9
    named = memories(seed, owners)
    draw = random.Random(seed)
    names = [f"d{draw.randrange(3)}" for _ in named]
    found = inventory_of(named, names)
    keys = [(name, page) for name, data in zip(names, named.values(), strict=True) for page in pages_of(data)]
    held = Counter(keys)
    holders = defaultdict(set)
    for number, (name, data) in enumerate(zip(names, named.values(), strict=True)):
        for page in pages_of(data):
            holders[name, page].add(number)
    expected = [
        ZERO if not any(key[1]) else UNIQUE if held[key] == 1 else INTER if len(holders[key]) > 1 else INTRA
        for key in keys
    ]
    assert found.states().tolist() == expected
    space = pageshare.PageSpace.of(named, domains=names)
    numbers = [found.domain_names.index(name) for name in names]
    assert found.everywhere.tally(numbers) == census(space).tally == found.contents.tally(numbers)
    nonzero = sum(count - 1 for key, count in held.items() if any(key[1]))
    assert found.reclaimed() == (nonzero, sum(held.values()) - len(held) - nonzero)


def test_nothing_at_all():
    found = inventory_of({})
    assert found.everywhere.common().shape == (0, 0)
    assert found.reclaimed() == (0, 0)
    empty = inventory_of({"one": b"x" * PAGE, "zero": bytes(3 * PAGE)})
    assert empty.zeros.tolist() == [0, 3]
    assert empty.known.tolist() == [1, 3]
    assert empty.reclaimed() == (0, 2)


def test_gaps_and_holes(tmp_path):
    path = tmp_path / "a.raw"
    with path.open("wb") as file:
        file.write(b"x" * PAGE)
        file.truncate(64 * PAGE)
    with pageshare.open_image(path, holes="unknown") as image:
        space = pageshare.PageSpace([("a", [image])])
        found = Inventory.of(space, census(space))
        (gap,) = found.gaps.tolist()
        assert gap == (space.readable, 64 - space.readable, 0)
        assert found.known.tolist() == [space.readable]
    with pageshare.open_image(path) as image:
        space = pageshare.PageSpace([("a", [image])])
        found = Inventory.of(space, census(space))
        assert not len(found.gaps)
        assert found.zeros.tolist() == [63]
        frame, first, pages = found.places.runs(0, zeros=True)
        assert (frame.tolist(), first.tolist(), pages.tolist()) == (
            [space.readable],
            [space.readable],
            [64 - space.readable],
        )


def test_first_page_of_zeros_that_nobody_reads():
    assert inventory_of({"a": b"x" * PAGE}).first_pages().tolist() == [NO_PAGE, 0]
    assert np.count_nonzero(inventory_of({"a": b"x" * PAGE}).numbers()) == 1
