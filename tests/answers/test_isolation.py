"""The price of isolation against scans under each division, by dicts of page bytes."""

import random

import pytest

from owner_memories import domains_of, grouped, memories, reclaimed, scanned
from pageshare.answers.isolation import isolation
from pageshare.render.answers.isolation import section


@pytest.mark.parametrize("owners", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("seed", range(6))
def test_divisions(seed, owners):
    named = memories(seed, owners)
    domains = domains_of(seed, named, 3) if seed % 2 else {}
    report = scanned(named, domains)
    found = isolation(report.inventory)
    ways = {"one": {}, "given": domains, "each": {name: name for name in named}}
    if len(set(domains.values())) < 2:
        del ways["given"]
    assert [each.name for each in found.divisions] == list(ways)
    best, best_zero = reclaimed(named)
    for each in found.divisions:
        pages, zero = reclaimed(named, ways[each.name])
        assert (each.reclaimed, each.reclaimed_zero) == (pages, zero)
        assert (each.lost, each.lost_zero) == (best - pages, best_zero - zero)
        assert 0 <= each.lost_zero <= each.lost
        assert each.domains == len(set(ways[each.name].values())) or each.name == "one"
    for owner in found.owners:
        pages, zero = reclaimed(named, {owner.name: "apart"})
        assert (owner.lost, owner.lost_zero) == (best - pages, best_zero - zero)
    groups = grouped(domains) if "given" in ways else {}
    for domain in found.domains:
        part = {name: named[name] for name in groups.pop(domain.name)}
        assert (domain.reclaimed, domain.reclaimed_zero) == reclaimed(part)
        assert (domain.owners, domain.known) == (len(part), sum(map(len, part.values())))
    assert not groups
    section(found, report)


@pytest.mark.parametrize("seed", range(20))
def test_dividing_further_only_loses(seed):
    named = memories(seed, 12)
    inventory = scanned(named).inventory
    draw = random.Random(seed)
    domains = [0] * 12
    before = inventory.reclaimed(domains)
    for _ in range(10):
        divided = draw.choice(sorted(set(domains)))
        new = max(domains) + 1
        if new > 11:
            break
        domains = [new if domain == divided and draw.random() < 0.5 else domain for domain in domains]
        after = inventory.reclaimed(domains)
        assert after[0] <= before[0]
        assert after[1] <= before[1]
        before = after


def test_many_owners():
    named = memories(1, 300, contents=500, most=40)
    found = isolation(scanned(named).inventory)
    assert found.divisions[-1].domains == 300
    assert found.divisions[-1].reclaimed == sum(reclaimed({name: pages})[0] for name, pages in named.items())


def test_nobody():
    report = scanned({})
    found = isolation(report.inventory)
    assert [(each.name, each.lost) for each in found.divisions] == [("one", 0), ("each", 0)]
    section(found, report)
