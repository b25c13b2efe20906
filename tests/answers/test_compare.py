"""What changed between two scans, against dicts of (owner, frame) to bytes."""

import csv
import io
import itertools
import random
from collections import Counter
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

import pageshare
from dumps import elf, lime, memory
from pageshare.answers import compare as module
from pageshare.answers.compare import BEFORE_AND_AFTER, Changes, Scan, compare, matched
from pageshare.core import census, hash_pages
from pageshare.images import Image, Source
from pageshare.images.ranges import RANGE, Kind, State
from pageshare.inventory import Inventory
from pageshare.render.answers.compare import section, write
from pageshare.render.console import laid_out
from pageshare.render.tables import as_csv

PAGE = 512
REGION = 8
"""Pages of a region."""

# A page is bytes, or one of these where nothing has to be read, or is known.
HOLE, UNKNOWN = "hole", "unknown"


def image_of(pages, name):
    """A dump of {frame: page}."""
    payload, rows = [b"\xff"], []
    for frame, page in sorted(pages.items()):
        state = {HOLE: State.ZERO, UNKNOWN: State.EXCLUDED}.get(page, State.DATA)
        offset = sum(map(len, payload)) if state == State.DATA else -1
        rows.append((frame * PAGE, PAGE, offset, 0, state, Kind.RAM))
        payload += [page] if state == State.DATA else []
    return Image(Source.of_buffer(b"".join(payload), name), "raw", np.array(rows, RANGE), Kind.RAM)


def scan_of(named, name, domains=None):
    """A scan of {owner: {frame: page}}, with the hashes of its contents."""
    space = pageshare.PageSpace.of({owner: image_of(pages, owner) for owner, pages in named.items()}, page_size=PAGE)
    space = space if domains is None else pageshare.PageSpace.of(
        {owner: image_of(pages, owner) for owner, pages in named.items()}, page_size=PAGE, domains=domains
    )
    inventory = Inventory.of(space, census(space.undivided()))
    firsts = inventory.first_pages()
    digests = np.full((len(firsts), 16), len(named), np.uint8)  # that of zeros may be anything
    owners, frames = space.locate(firsts[1:])
    for number, (owner, frame) in enumerate(zip(owners.tolist(), frames.tolist(), strict=True), 1):
        digests[number] = hashed(named[inventory.owners[owner]][frame])
    return Scan(name, inventory, digests)


def hashed(page):
    return hash_pages(page, PAGE, bits=128).view(np.uint8).reshape(16)


def memories(seed, owners):
    """Two memories of some owners: contents of which some are equal, holes, pages that are not known or not there."""
    draw = random.Random(seed)
    common = [draw.randbytes(PAGE) for _ in range(12)]

    def page():
        return draw.choices(
            [bytes(PAGE), HOLE, UNKNOWN, draw.choice(common), draw.randbytes(PAGE)], [2, 2, 1, 4, 3]
        )[0]

    old, new = {}, {}
    for i in range(owners):
        # Several stretches, one far away.
        bases = [0, draw.randrange(100, 200), 1 << 36]
        places = [base + n for base in bases for n in range(draw.randrange(1, 30))]
        old[f"o{i}"] = {frame: page() for frame in places if draw.random() < 0.9} or {0: page()}
        new[f"o{i}"] = {
            frame: old[f"o{i}"].get(frame, page()) if draw.random() < 0.5 else page()
            for frame in places
            if draw.random() < 0.9
        } or {0: page()}
    return old, new


def content(page):
    """The bytes of a page, None if they are not known."""
    return {HOLE: bytes(PAGE), UNKNOWN: None, None: None}.get(page, page)


def states(named, domains=None):
    """What each page is, by (owner, frame)."""
    of = dict(zip(named, domains or [""] * len(named), strict=True))
    held, holders = Counter(), {}
    for owner, pages in named.items():
        for page in pages.values():
            key = of[owner], content(page)
            held[key] += 1
            holders.setdefault(key, set()).add(owner)

    def state(owner, page):
        data = content(page)
        if data is None:
            return "unknown"
        if not any(data):
            return "zero"
        key = of[owner], data
        return "unique" if held[key] == 1 else "inter" if len(holders[key]) > 1 else "intra"

    return {(owner, frame): state(owner, page) for owner, pages in named.items() for frame, page in pages.items()}


def expected(old, new, names, domains=None):
    """Counts by plain loops; ``names`` are pairs of owners' names, None where one is not there."""
    was, now = states(old, domains), states(new, domains)
    contents = [
        {content(page) for pages in side.values() for page in pages.values()} - {None, bytes(PAGE)}
        for side in (old, new)
    ]
    transitions, written, changes, regions = Counter(), Counter(), {}, {}
    for one, other in names:
        mine = Counter()
        before, after = old.get(one, {}), new.get(other, {})
        for frame in before.keys() | after.keys():
            key = was.get((one, frame), "absent"), now.get((other, frame), "absent")
            transitions[key] += 1
            a, b = content(before.get(frame)), content(after.get(frame))
            mine["before"] += a is not None
            mine["after"] += b is not None
            if a is not None and b is not None:
                region = regions.setdefault((other, frame // REGION * REGION * PAGE), [0, 0])
                region[0] += 1
                mine["both"] += 1
                mine["unchanged"] += a == b
                if a != b:
                    region[1] += 1
                    written[key] += 1
                    mine["written"] += 1
                    mine["zeroed" if not any(b) else "filled" if not any(a) else "rewritten"] += 1
                    mine["from_elsewhere"] += b in contents[0]
                    mine["to_elsewhere"] += a in contents[1]
            elif b is not None:
                mine["learnt" if frame in before else "appeared"] += 1
            elif a is not None:
                mine["lost" if frame in after else "vanished"] += 1
        changes[one, other] = Changes(**mine)
    return transitions, written, changes, regions, contents


def reclaimed(named, domains=None):
    of = dict(zip(named, domains or [""] * len(named), strict=True))
    known = [(of[owner], content(page)) for owner, pages in named.items() for page in pages.values()]
    known = [each for each in known if each[1] is not None]
    return len(known) - len(set(known))


def check(found, old, new, names, domains=None):
    transitions, written, changes, regions, contents = expected(old, new, names, domains)
    n = len(BEFORE_AND_AFTER)
    for matrix, counts in ((found.transitions, transitions), (found.written, written)):
        assert {
            (found.states[i], found.states[j]): matrix[i][j] for i in range(n) for j in range(n) if matrix[i][j]
        } == dict(counts)
    assert {(each.old, each.new): each.pages for each in found.owners} == changes
    assert found.pages == sum(changes.values(), Changes())
    for side, named, mine, other in ((found.old, old, *contents), (found.new, new, *reversed(contents))):
        data = [content(page) for pages in named.values() for page in pages.values()]
        assert side.known == sum(page is not None for page in data)
        assert side.zero == sum(page is not None and not any(page) for page in data)
        assert side.reclaimed == reclaimed(named, domains)
        assert (side.contents, side.elsewhere) == (len(mine), len(mine & other))
    assert {(each.owner, each.address): [each.both, each.written] for each in found.regions} == {
        key: counts for key, counts in regions.items() if counts[1]
    }
    assert [each.written for each in found.regions] == sorted((each.written for each in found.regions), reverse=True)
    assert found.regions_known == len(regions)
    assert found.regions_written == len(found.regions)

    def count(counts, before, after):
        return sum(counts[a, b] for a in before.split() for b in after.split())

    shared, everything, gone = "intra inter", " ".join(BEFORE_AND_AFTER), "unknown absent"
    unwritten = Counter(transitions)
    unwritten.subtract(written)
    assert asdict(found.sharing) == {
        "before": count(transitions, shared, everything),
        "after": count(transitions, everything, shared),
        "stayed": count(unwritten, shared, shared),
        "lost_partner": count(unwritten, shared, "unique"),
        "broken": count(written, shared, everything),
        "gone": count(transitions, shared, gone),
        "found_partner": count(unwritten, "unique", shared),
        "by_write": count(written, everything, shared),
        "come": count(transitions, gone, shared),
        "zero_broken": count(written, "zero", everything),
    }
    check_sums(found)


def check_sums(found):
    pages, sharing = found.pages, found.sharing
    assert pages.both == pages.unchanged + pages.written
    assert pages.written == pages.zeroed + pages.filled + pages.rewritten
    assert pages.before == found.old.known == pages.both + pages.vanished + pages.lost
    assert pages.after == found.new.known == pages.both + pages.appeared + pages.learnt
    assert sharing.before == sharing.stayed + sharing.lost_partner + sharing.broken + sharing.gone
    assert sharing.after == sharing.stayed + sharing.found_partner + sharing.by_write + sharing.come


def both(names):
    return [(name, name) for name in names]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    """So that stretches and regions lie in several."""
    monkeypatch.setattr(module, "STEP", 7)
    monkeypatch.setattr(module, "MOST_REGIONS", 10_000)


@pytest.mark.parametrize("owners", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("seed", range(6))
def test_against_dicts(seed, owners):
    old, new = memories(seed, owners)
    domains = [f"d{i % 2}" for i in range(owners)] if seed % 2 else None
    found = compare(scan_of(old, "old", domains), scan_of(new, "new", domains), region=REGION * PAGE)
    check(found, old, new, both(new), domains)
    assert (found.page_size, found.hash, found.verified) == (PAGE, "xxh3-128", False)


SWAPPED = {
    "before": "after",
    "zeroed": "filled",
    "from_elsewhere": "to_elsewhere",
    "appeared": "vanished",
    "learnt": "lost",
    "lost_partner": "found_partner",
    "broken": "by_write",
    "gone": "come",
}
SWAPPED |= {value: key for key, value in SWAPPED.items()}


@pytest.mark.parametrize("seed", range(5))
def test_the_other_way_round(seed):
    """What appears on the way from old to new vanishes on the way back."""
    old, new = (scan_of(each, "") for each in memories(seed, 4))
    there, back = compare(old, new, region=REGION * PAGE), compare(new, old, region=REGION * PAGE)

    def swapped(counts):
        return {SWAPPED.get(name, name): value for name, value in asdict(counts).items()}

    assert asdict(there.pages) == swapped(back.pages)
    assert [asdict(each.pages) for each in there.owners] == [swapped(each.pages) for each in back.owners]
    assert there.transitions == tuple(zip(*back.transitions, strict=True))
    assert there.written == tuple(zip(*back.written, strict=True))
    assert (there.old, there.new) == (back.new, back.old)
    sharing, other = asdict(there.sharing), swapped(back.sharing)
    assert sharing.pop("zero_broken") == there.pages.filled
    assert other.pop("zero_broken") == there.pages.zeroed
    assert sharing == other
    assert set(there.regions) == set(back.regions)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_changed(seed):
    old, _ = memories(seed, 3)
    found = compare(scan_of(old, "a"), scan_of(old, "b"), region=REGION * PAGE)
    check(found, old, old, both(old))
    assert not any(map(any, found.written))
    assert not found.regions
    changed = {"written", "zeroed", "filled", "rewritten", "from_elsewhere", "to_elsewhere"}
    changed |= {"appeared", "vanished", "learnt", "lost"}
    assert all(getattr(found.pages, name) == 0 for name in changed)
    assert changed < {field.name for field in fields(Changes)}


def test_owners_come_go_and_are_renamed():
    old, new = memories(1, 4)
    new = {{"o0": "first", "o1": "o2", "o2": "o1"}.get(name, name): pages for name, pages in new.items()}
    del new["o3"]
    new["guest"] = {0: b"z" * PAGE, 5: UNKNOWN}
    scans = scan_of(old, "old"), scan_of(new, "new")
    found = compare(*scans, match={"o0": "first"}, region=REGION * PAGE)
    check(found, old, new, [("o0", "first"), ("o2", "o2"), ("o1", "o1"), (None, "guest"), ("o3", None)])
    assert found.owners[-2].pages == Changes(after=1, appeared=1)
    found = compare(*scans, match={"o0": "first", "o1": "o2", "o2": "o1"}, region=REGION * PAGE)
    check(found, old, new, [("o0", "first"), ("o1", "o2"), ("o2", "o1"), (None, "guest"), ("o3", None)])
    found = compare(*scans, region=REGION * PAGE)
    check(found, old, new, [(None, "first"), ("o2", "o2"), ("o1", "o1"), (None, "guest"), ("o0", None), ("o3", None)])


def test_lone_owners_are_the_same():
    old, new = memories(2, 1)
    new = {"other": new["o0"]}
    found = compare(scan_of(old, "old"), scan_of(new, "new"), region=REGION * PAGE)
    check(found, old, new, [("o0", "other")])


def test_which_owner_is_which():
    assert matched(["a"], ["b"], {}) == [(0, 0)]
    assert matched(["a", "b"], ["b", "c"], {}) == [(1, 0), (None, 1), (0, None)]
    # A name that is taken by a match is nobody else's.
    assert matched(["a", "b"], ["b", "c"], {"a": "b"}) == [(0, 0), (None, 1), (1, None)]
    assert matched([], ["a"], {}) == [(None, 0)]
    for names, match, said in [
        ((["a"], ["b"]), {"x": "b"}, "old scan has no owner 'x', but a"),
        ((["a"], ["b"]), {"a": "x"}, "new scan has no owner 'x', but b"),
        ((["a", "b"], ["c"]), {"a": "c", "b": "c"}, "can't be one of the new"),
        ((["a", "a"], ["c"]), {}, "same name"),
    ]:
        with pytest.raises(ValueError, match=said):
            matched(*names, match)


def test_what_can_not_be_compared():
    one = scan_of({"a": {0: b"x" * PAGE}}, "one")
    other = replace(one, name="other", inventory=replace(one.inventory, page_size=2 * PAGE))
    with pytest.raises(ValueError, match="one has pages of 512 bytes, other of 1024"):
        compare(one, other)
    for region in (PAGE - 1, PAGE + 1):
        with pytest.raises(ValueError, match="whole number of 512-byte pages"):
            compare(one, one, region=region)


def test_only_the_regions_in_which_most_was_written(monkeypatch):
    old, new = (scan_of(each, "") for each in memories(3, 5))
    every = compare(old, new, region=REGION * PAGE)
    monkeypatch.setattr(module, "MOST_REGIONS", 4)
    some = compare(old, new, region=REGION * PAGE)
    assert some.regions == every.regions[:4]
    assert some.regions_written == len(every.regions)


def test_long_holes_are_not_gone_through():
    """A terabyte that is zero, or not known, costs nothing."""
    rows = [(0, 1 << 40, -1, 0, State.ZERO, Kind.RAM), (1 << 41, 1 << 60, -1, 0, State.LOST, Kind.RAM)]
    image = Image(Source.of_buffer(b"x" * PAGE, "a"), "raw", np.array(rows, RANGE), Kind.RAM)
    space = pageshare.PageSpace.of({"a": image}, page_size=PAGE)
    scan = Scan("a", Inventory.of(space, census(space)), np.zeros((1, 16), np.uint8))
    found = compare(scan, scan)
    assert found.pages == Changes(*[(1 << 40) // PAGE] * 4)
    assert found.transitions[4][4] == (1 << 60) // PAGE
    assert found.regions_known == (1 << 40) // (2 << 20)


def test_hashes_that_agree_in_half():
    """Contents whose hashes share the first word are told apart by the second."""
    pages = {n: bytes([n + 1]) * PAGE for n in range(6)}
    old, new = scan_of({"a": pages}, "old"), scan_of({"a": {n: pages[5 - n] for n in pages}}, "new")
    for each in (old, new):
        each.digests[1:, :8] = 1
    found = compare(old, new)
    assert (found.pages.written, found.pages.from_elsewhere, found.new.elsewhere) == (6, 6, 6)
    new.digests[1:, 8:] = hashed(b"z" * PAGE)[8:] ^ np.arange(6, dtype=np.uint8)[:, None]
    found = compare(old, new)
    assert (found.pages.written, found.pages.from_elsewhere, found.new.elsewhere) == (6, 0, 0)


def rows_of(found, name):
    (table,) = (each for each in section(found).tables if each.name == name)
    return list(csv.DictReader(io.StringIO(as_csv(table))))


def test_view():
    old, new = memories(4, 3)
    new["<script>\x1b[31m \N{SNOWMAN}" + 200 * "x"] = new.pop("o2")
    found = compare(scan_of(old, "old" * 40), scan_of(new, "new\x1b"), region=REGION * PAGE)
    text = laid_out(lambda console: write(found, console))
    assert all(len(line) <= 80 for line in text.splitlines() if line.strip("old"))
    assert "\x1b" not in text
    pages = {row["what"].strip(): int(row["pages"]) for row in rows_of(found, "compare-pages")}
    assert pages == {
        "unchanged": found.pages.unchanged,
        "written": found.pages.written,
        "zero now": found.pages.zeroed,
        "zero before": found.pages.filled,
        "neither": found.pages.rewritten,
        "holds what was elsewhere": found.pages.from_elsewhere,
        "held what is elsewhere": found.pages.to_elsewhere,
        "appeared": found.pages.appeared,
        "vanished": found.pages.vanished,
        "known now, not before": found.pages.learnt,
        "known before, not now": found.pages.lost,
    }
    owners = {row["owner"]: row for row in rows_of(found, "compare-owners")}
    for each in found.owners:
        row = owners[each.new if each.old else f"{each.new} (new)"] if each.new else owners[f"{each.old} (gone)"]
        assert (int(row["before"]), int(row["after"])) == (each.pages.before, each.pages.after)
        assert int(row["come"]) == each.pages.appeared + each.pages.learnt
        assert int(row["gone"]) == each.pages.vanished + each.pages.lost
    states = [tuple(int(row[state]) for state in found.states) for row in rows_of(found, "compare-states")]
    assert states == [row for row in found.transitions if any(row)]
    shared = [int(row["pages"]) for row in rows_of(found, "compare-sharing")]
    sharing = found.sharing
    assert shared[:5] == [sharing.before, sharing.stayed, sharing.lost_partner, sharing.broken, sharing.gone]
    assert shared[5:] == [
        *(sharing.after, sharing.stayed, sharing.found_partner, sharing.by_write, sharing.come, sharing.zero_broken)
    ]
    assert [
        (row["owner"], int(row["address"]), int(row["both"]), int(row["written"]))
        for row in rows_of(found, "compare-regions")
    ] == [(each.owner, each.address, each.both, each.written) for each in found.regions]


def test_view_of_nothing_in_common():
    old, new = scan_of({"a": {0: b"x" * PAGE}, "b": {0: UNKNOWN}}, "old"), scan_of({"c": {0: HOLE}}, "new")
    text = laid_out(lambda console: write(compare(old, new), console))
    assert "No page is known in both scans" in text
    assert "--match OLDNAME=NEWNAME" in " ".join(text.split())
    found = compare(scan_of({}, "old"), scan_of({}, "new"))
    assert found.pages == Changes()
    laid_out(lambda console: write(found, console))


def test_the_same_memory_in_other_formats(tmp_path):
    """Raw, ELF and LiME of one memory hold the same; pages that are not in one of them are not there."""
    page = 4096
    paths = {"raw": tmp_path / "a.raw", "elf": tmp_path / "a.elf", "lime": tmp_path / "a.lime"}
    paths["raw"].write_bytes(memory(0, 64 * page))
    paths["elf"].write_bytes(elf("load address=0 bytes=64p"))
    paths["lime"].write_bytes(lime("0x0-0x1ffff\n0x20000-0x37fff"))

    def scan(path):
        with pageshare.open_image(path) as image:
            space = pageshare.PageSpace([(path.name, [image])])
            inventory = Inventory.of(space, census(space))
            firsts = inventory.first_pages()
            frames = space.locate(firsts[1:])[1].tolist()
            rows = [hash_pages(memory(frame * page, page), bits=128).view(np.uint8).ravel() for frame in frames]
            return image.format, Scan(path.name, inventory, np.stack([np.zeros(16, np.uint8), *rows]))

    scans = dict(map(scan, paths.values()))
    assert set(scans) == {"raw", "elf", "lime"}
    for (one, old), (other, new) in itertools.product(scans.items(), repeat=2):
        pages = compare(old, new).pages
        known = [56 if each == "lime" else 64 for each in (one, other)]
        assert (pages.before, pages.after, pages.written) == (*known, 0)
        assert pages.unchanged == min(known)
        assert (pages.appeared, pages.vanished) == (max(0, known[1] - known[0]), max(0, known[0] - known[1]))
