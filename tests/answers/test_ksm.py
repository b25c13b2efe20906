"""What KSM would do, against KSM page by page in plain Python, the replayed policy, and what ``live`` foretells."""

import itertools
import random
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

import pageshare
from owner_memories import PAGE, ZEROS, domains_of, memories, scanned
from pageshare import policies
from pageshare.answers.ksm import ksm
from pageshare.core import FrameTable
from pageshare.ksm import Ksm as Settings
from pageshare.ksm import KsmStat
from pageshare.live.foretell import candidates_of, foretell, frames_of
from pageshare.live.look import ANONYMOUS, EXCLUSIVE, UNKNOWN_FRAME, ZERO, Look, MappingCounts, Rows, Subject
from pageshare.live.mappings import LiveMapping, Reach
from pageshare.render.answers.ksm import section
from pageshare.render.units import size


def merged(named, limit, use_zero_pages):
    """Counters and bytes, one page after another: it joins a frame with room, or the page that waits, or waits."""
    frames, waits = defaultdict(list), {}
    found, merging = Counter(), Counter()
    for name, page in ((name, page) for name, pages in named.items() for page in pages):
        found["scanned"] += 1
        if use_zero_pages and page == ZEROS:
            found["ksm_zero_pages"] += 1
            found["reclaimed_zero"] += 1
            continue
        found["rmap_items"] += 1
        with_room = [frame for frame in frames[page] if len(frame) < limit]
        if with_room:
            with_room[0].append(name)
        elif page in waits:
            frames[page].append([waits.pop(page), name])
        else:
            waits[page] = name
    for page, several in frames.items():
        found["pages_shared"] += len(several)
        found["pages_sharing"] += sum(len(frame) - 1 for frame in several)
        found["reclaimed_zero"] += sum(len(frame) - 1 for frame in several) * (page == ZEROS)
        found["node_bytes"] += 64 * (len(several) + (len(several) > 1))
        for frame in several:
            merging.update(frame)
    found["pages_unshared"] = len(waits)
    found["reclaimed"] = found["pages_sharing"] + found["ksm_zero_pages"]
    found["cost_bytes"] = 64 * found["rmap_items"]
    found["general_profit"] = found["reclaimed"] * PAGE - found["cost_bytes"]
    found["profit"] = found["general_profit"] - found["node_bytes"]
    return found, merging


def without(named, *names):
    return {name: pages for name, pages in named.items() if name not in names}


NAMES = ("scanned", "pages_shared", "pages_sharing", "pages_unshared", "ksm_zero_pages", "reclaimed", "reclaimed_zero")
NAMES += ("rmap_items", "cost_bytes", "node_bytes", "general_profit", "profit")


@pytest.mark.parametrize("owners", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [2, 3, 7, 256])
def test_counters_and_guests(seed, owners, limit):
    named = memories(seed, owners)
    zero = bool(seed % 2)
    report = scanned(named, domains_of(seed, named, 3) if seed % 3 == 0 else None)
    answer = ksm(report.inventory, max_page_sharing=limit, use_zero_pages=zero)
    for variant in answer.variants:
        expected, _ = merged(named, limit, variant.use_zero_pages)
        assert {name: getattr(variant, name) for name in NAMES} == {name: expected[name] for name in NAMES}
    assert [variant.use_zero_pages for variant in answer.variants] == [False, True]
    assert answer.counters == answer.variants[zero]
    all_of, merging = merged(named, limit, zero)
    copies = Counter(page for pages in named.values() for page in pages if not (zero and page == ZEROS))
    assert answer.extra_frames == sum(copies.values()) - len(copies) - all_of["pages_sharing"]
    for guest in answer.guests:
        rest, _ = merged(without(named, guest.name), limit, zero)
        pages = named[guest.name]
        zeros = pages.count(ZEROS)
        assert (guest.scanned, guest.zero, guest.holes) == (len(pages), zeros, 0)
        assert guest.adds == all_of["reclaimed"] - rest["reclaimed"]
        assert guest.profit == all_of["profit"] - rest["profit"]
        assert guest.cost_bytes == 64 * (len(pages) - zeros * zero)
        assert guest.merging == merging[guest.name]
        assert guest.process_profit == (guest.merging + zeros * zero) * PAGE - guest.cost_bytes
    assert sum(guest.part for guest in answer.guests) == pytest.approx(answer.counters.reclaimed)
    assert sum(guest.merging for guest in answer.guests) == sum(merging.values())


@pytest.mark.parametrize("seed", range(12))
def test_who_is_left_out_is_in_no_best_choice(seed):
    draw = random.Random(seed)
    common = [draw.randbytes(PAGE) for _ in range(4)]
    named = {
        f"o{i}": [draw.randbytes(PAGE) for _ in range(draw.randrange(140))]
        + draw.choices(common, k=draw.randrange(1, 4))
        for i in range(6)
    }
    answer = ksm(scanned(named).inventory)
    rest, _ = merged(without(named, *answer.leave_out), 256, False)
    assert answer.profit_without == rest["profit"] >= answer.counters.profit
    profits = {
        names: merged({name: named[name] for name in names}, 256, False)[0]["profit"]
        for count in range(7)
        for names in itertools.combinations(named, count)
    }
    best = max(profits.values())
    for names, profit in profits.items():
        if profit == best:
            assert not set(names) & set(answer.leave_out)
    assert section(answer, scanned(named)).lines


def test_somebody_is_left_out():
    draw = random.Random(0)
    twins = [draw.randbytes(PAGE) for _ in range(20)]
    named = {"a": twins, "b": twins, "lone": [draw.randbytes(PAGE) for _ in range(300)]}
    answer = ksm(scanned(named).inventory)
    assert answer.leave_out == ("lone",)
    assert answer.profit_without == 20 * PAGE - 40 * 64 - 20 * 64
    assert answer.guests[2].profit == -300 * 64
    assert any(line.startswith("Leave out lone") for line in section(answer, scanned(named)).lines)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("limit", [2, 5, 256])
def test_the_policy_comes_to_the_same(limit, zero):
    named = memories(3, 5)
    space = pageshare.PageSpace.of({name: b"".join(pages) for name, pages in named.items()})
    view = policies.View(space)
    policy = policies.create(f"ksm:max_page_sharing={limit},use_zero_pages={int(zero)},smart_scan=0", view)
    table = FrameTable(space, **policy.table_options)
    view.attach(table)
    while policy.full_scans < 3:
        pages = policy.next(1000)
        result = table.scan(pages)
        policy.feedback(pages, result.outcomes, result.partners)
    counters = policy.counters(table)
    found = ksm(scanned(named).inventory, max_page_sharing=limit, use_zero_pages=zero).counters
    for name in ("pages_shared", "pages_sharing", "pages_unshared", "ksm_zero_pages"):
        assert getattr(found, name) == getattr(counters, name)


def _look(named):
    """Owners as processes whose anonymous memory, all mergeable, nobody else maps."""
    numbers = {ZEROS: 0}
    contents = [numbers.setdefault(page, len(numbers)) for pages in named.values() for page in pages]
    subjects, first = [], 0
    for number, (name, pages) in enumerate(named.items()):
        mappings = [LiveMapping(0, 0, "", Reach.MERGEABLE, False, 0, 0)]
        rows = slice(first, first := first + len(pages))
        subjects.append(Subject(number, name, 0, [name], [], KsmStat(), mappings, [MappingCounts()], number, rows))
    flags = [int(ANONYMOUS | EXCLUSIVE) | (int(ZERO) if content == 0 else 0) for content in contents]
    rows = Rows(
        hashes=np.array([[content * 7919, content] for content in contents], np.uint64).reshape(-1, 2),
        frames=np.arange(first, dtype=np.uint64) | UNKNOWN_FRAME,
        mappings=np.repeat(np.arange(len(named), dtype=np.uint32), [len(pages) for pages in named.values()]),
        flags=np.array(flags, np.uint8),
        pages=None,
    )
    return Look(PAGE, subjects, [], [], rows, False, False, 1.0, 1.0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("limit", [2, 5, 256])
def test_live_foretells_the_same(seed, zero, limit):
    named = memories(seed, 6)
    look = _look(named)
    settings = Settings(max_page_sharing=limit, use_zero_pages=int(zero))
    told, _, within = foretell(look, candidates_of(look, frames_of(look)), settings, only_mergeable=True)
    answer = ksm(scanned(named).inventory, max_page_sharing=limit, use_zero_pages=zero)
    found = answer.counters
    assert (told.scanned, told.saved, told.saved_zero) == (found.scanned, found.reclaimed, found.reclaimed_zero)
    assert (told.pages_sharing, told.ksm_zero_pages) == (found.pages_sharing, found.ksm_zero_pages)
    assert (told.cost_bytes, told.general_profit_bytes) == (found.cost_bytes, found.general_profit)
    assert told.merging == sum(guest.merging for guest in answer.guests)
    assert len(within) == len(named)


def test_holes_are_no_memory_unless_said(tmp_path):
    path = tmp_path / "guest"
    with path.open("wb") as file:
        file.write(b"x" * 8192 + bytes(8192))
        file.truncate(64 * 4096)
    report = pageshare.scan({"guest": path, "other": bytes(4096) + b"x" * 4096})
    holes = [owner.coverage.zero_inferred for owner in report.owners]
    assert 0 < holes[0] <= 62
    answer = ksm(report.inventory, holes=holes)
    in_it = 62 - holes[0]
    assert [variant.holes for variant in answer.variants] == [False, False, True, True]
    assert answer.counters.scanned == 4 + in_it
    assert answer.counters.reclaimed == 2 + in_it
    with_holes = answer.variants[2]
    assert (with_holes.scanned, with_holes.reclaimed) == (66, 64)
    assert answer.guests[0].holes == holes[0]
    shown = section(answer, report)
    assert any("holes" in line for line in shown.lines)
    assert len(shown.tables[0].rows) == 4


@pytest.mark.parametrize(("pages", "sleep"), [(100, 20), (1, 0), (7, 3), (4000, 20)])
def test_how_long_it_takes(pages, sleep):
    named = memories(1, 4)
    answer = ksm(scanned(named).inventory, pages_to_scan=pages, sleep_millisecs=sleep)
    asked = answer.paces[0]
    assert (asked.pages_to_scan, asked.sleep_millisecs) == (pages, sleep)
    seconds = slept = 0.0
    for _ in (page for pages_of in named.values() for page in pages_of):
        seconds += PAGE / 2**30
        slept += sleep / 1000 / pages
    assert asked.pass_seconds == pytest.approx(seconds + slept)
    assert (asked.seconds, asked.most_seconds) == pytest.approx((2 * (seconds + slept), 3 * (seconds + slept)))
    assert asked.cpu_share == pytest.approx(seconds / (seconds + slept))
    assert answer.pass_cpu_seconds == pytest.approx(seconds)
    assert ("default" in asked.name) == ((pages, sleep) == (100, 20))


def test_suggested_settings_find_it_in_ten_minutes_if_a_cpu_can():
    inventory = scanned(memories(1, 4)).inventory
    for gigabytes in (0, 1, 16, 100, 400, 4000):
        object.__setattr__(inventory, "known", np.array([gigabytes << 18, 0, 0, 0]))  # pages that are held once
        answer = ksm(inventory)
        (pace,) = (each for each in answer.paces if "suggested" in each.name)
        assert pace.pages_to_scan >= 100
        assert pace.cpu_share <= 0.701
        assert pace.seconds <= 600.1 or (pace.cpu_share > 0.699 and gigabytes >= 400)
        assert pace.seconds > 590 or pace.pages_to_scan == 100


@pytest.mark.parametrize(
    "wrong",
    [{"max_page_sharing": 1}, {"max_page_sharing": 2.5}, {"pages_to_scan": 0}, {"sleep_millisecs": -1}],
)
def test_settings_that_the_kernel_does_not_take(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        ksm(scanned({"a": [ZEROS]}).inventory, **wrong)


@pytest.mark.parametrize("process", [0, 4])
def test_the_verdict_says_of_what(process):
    named = {"a": [b"x" * PAGE, bytes(PAGE)] * 8, "b": [b"x" * PAGE] * 8}
    report = scanned(named)
    report = replace(report, coverage=replace(report.coverage, process=process))
    answer = ksm(report.inventory)
    shown = section(answer, report)
    assert shown.lines[0].startswith("Yes, if memory is short")
    assert ("not of files" in shown.lines[0]) == bool(process)
    assert size(answer.counters.profit) in shown.lines[0]
    assert len({table.name for table in shown.tables}) == len(shown.tables) == 5
    gains, counters = shown.tables[:2]
    for row, numbers, variant in zip(gains.rows, counters.rows, answer.variants, strict=True):
        for table, values in ((gains, row), (counters, numbers)):
            for column, value in zip(table.columns, values, strict=True):
                if column.unit != "text":
                    assert value == getattr(variant, column.key)
        found = dict(zip((column.key for column in gains.columns), row, strict=True))
        assert found["profit"] == found["reclaimed"] * PAGE - found["cost_bytes"] - found["node_bytes"]


def test_nothing_and_nobody():
    for named in ({}, {"a": [b"x" * PAGE]}):
        report = scanned(named)
        answer = ksm(report.inventory)
        assert answer.counters.profit <= 0
        assert not answer.suggested
        assert section(answer, report).lines[0].startswith("No: ")


def test_many_owners():
    named = memories(1, 300, contents=500, most=40)
    answer = ksm(scanned(named).inventory)
    expected, _ = merged(named, 256, False)
    assert answer.counters.profit == expected["profit"]
