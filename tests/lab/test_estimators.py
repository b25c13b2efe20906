"""Estimators of idle memory against plain models, closed forms and what they promise of themselves."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from pageshare.lab import study, trace
from pageshare.lab.estimators import ESTIMATORS
from pageshare.lab.estimators.annotate import Annotate
from pageshare.lab.estimators.bursts import BurstFilter
from pageshare.lab.estimators.damon import Damon
from pageshare.lab.estimators.esx import Esx
from pageshare.lab.estimators.filters import Filters, SecondTouch, ZeroFilter
from pageshare.lab.estimators.free_page_reporting import FreePageReporting
from pageshare.lab.estimators.mglru import Generations
from pageshare.lab.estimators.neighbours import NeighbourFilter
from pageshare.lab.estimators.panel import Panel
from pageshare.lab.estimators.shards import Shards
from pageshare.lab.estimators.statistics import Statistics
from pageshare.lab.memory import SECOND, WINDOW, Memory
from pageshare.lab.programs import READ, WRITTEN, ZERO, Touch
from pageshare.lab.programs.full_scan import FullScan
from pageshare.lab.programs.nursery import Nursery
from pageshare.lab.programs.own_thread import OwnThread
from pageshare.lab.programs.recorded import Recorded
from pageshare.lab.programs.semispace import Semispace
from pageshare.lab.programs.steady import Steady
from pageshare.lab.programs.streaming import Streaming
from pageshare.lab.programs.zero_page_thread import ZeroPageThread
from pageshare.lab.view import View

STEP = SECOND // 10


def pages_of(*numbers):
    return np.array(numbers, np.uint32)


class Half:
    """The first ``share`` of the pages are touched each step, from ``begin`` until ``end`` seconds."""

    def __init__(self, pages=1000, share=0.5, begin=0.0, end=1e9):
        self.pages, self.begin, self.end = pages, begin * SECOND, end * SECOND
        self.touched = np.arange(round(share * pages), dtype=np.uint32)

    def run(self, begin, end):  # noqa: ARG002
        return [Touch(self.touched)] if self.begin <= begin < self.end else []


class Random:
    """Pages touched at random, few or many at a time, by two threads; some are written, or cleared."""

    def __init__(self, seed, pages=60):
        self.rng, self.pages = np.random.default_rng(seed), pages
        self.hot = self.rng.permutation(pages)[: pages // 3]

    def run(self, begin, end):  # noqa: ARG002
        for thread in (0, 1):
            number = self.rng.integers(0, 4) if self.rng.random() < 0.95 else self.pages // 2
            chosen = np.unique(self.rng.choice(self.hot if thread else self.pages, number)).astype(np.uint32)
            kinds = self.rng.choice([READ, WRITTEN, WRITTEN | ZERO], len(chosen)).astype(np.uint8)
            yield Touch(chosen, kinds, bool(self.rng.random() < 0.7), thread)


# ESX


def test_esx_has_the_error_of_independent_draws():
    """One period's share has a standard deviation of sqrt(f (1-f) / n), but for drawing without putting back."""
    n, pages, share = 50, 2000, 0.3
    found = [
        study.run(Half(pages, share), {"esx": partial(Esx, n=n)}, seed, duration=30, step=SECOND).estimates[0, -1]
        for seed in range(300)
    ]
    expected = math.sqrt(share * (1 - share) / n * (pages - n) / (pages - 1))
    assert np.mean(found) == pytest.approx(share, abs=4 * expected / math.sqrt(300))
    assert np.std(found) == pytest.approx(expected, rel=0.15)


def test_esx_rises_by_half_each_period_and_falls_by_an_eighth():
    """All pages, from 60 s until 300 s: shares of the periods are 0, 0, then 1 eight times, then 0."""
    every = {"esx": partial(Esx, n=10)}
    found = study.run(Half(100, 1.0, 60, 300), every, 1, duration=600, step=SECOND).estimates[0]
    slow = fast = 0.0
    for period in range(20):
        share = float(2 <= period < 10)
        if period:
            slow, fast = slow + (share - slow) / 8, fast + (share - fast) / 2
        # At the period's end the current one is the fast one as updated; after it a new one is begun.
        assert found[period * 30 + 29] == pytest.approx(max(slow, fast)), period


def test_esx_costs_a_visit_for_each_page_and_a_fault_for_each_touched():
    found = study.run(Half(100, 1.0), {"esx": partial(Esx, n=10)}, 1, duration=89, step=SECOND)
    assert found.costs[0, -1].tolist() == [30, 30, 0, 0]


# Annotation


@pytest.mark.parametrize("period", [1.0, 5.0, 30.0])
def test_annotation_knows_each_page_to_its_period(period):
    """Against a plain model: a page counts if a scan of the last 30 s found it."""
    program, model, touched, scans = Random(3), [], set(), []
    made = {"it": partial(Annotate, period=period)}
    found = study.run(Random(3), made, 1, duration=120, step=SECOND, placement="contiguous")
    order = {}
    for second in range(120):
        for touch in program.run(second * SECOND, (second + 1) * SECOND):
            for page in touch.pages.tolist():
                touched.add(order.setdefault(page, len(order)))
        if (second + 1) % period == 0:
            scans.append((second + 1, touched))
            touched = set()
        if scans:
            recent = [pages for when, pages in scans if when > second + 1 - max(30, period)]
            model.append(len(set().union(*recent)) / 60)
        else:
            model.append(1.0)
    assert found.estimates[0].tolist() == pytest.approx(model)
    assert found.costs[0, -1].tolist() == [60 * (1 + len(scans)), 0, 0, 0]


# Generations


def test_generations_hold_what_was_accessed_since_they_began():
    """Against a plain model without the regions left out: ages are those of the last walk that found a page."""
    program, found_at, touched, order = Random(5), {}, set(), {}
    made = partial(Generations, period=10.0, generations=4, dense=0)
    found = study.run(Random(5), {"it": made}, 1, duration=200, step=SECOND, placement="contiguous")
    for second in range(1, 201):
        for touch in program.run((second - 1) * SECOND, second * SECOND):
            touched |= {order.setdefault(page, len(order)) for page in touch.pages.tolist()}
        if second % 10 == 0:
            found_at.update(dict.fromkeys(touched, second))
            touched = set()
            if second >= 40:
                active = sum(when > second - 30 for when in found_at.values()) / 60
                assert found.estimates[0, second - 1] == pytest.approx(active), second
    assert found.costs[0, -1].tolist() == [60 * 21, 0, 0, 0]


def test_generations_leave_out_regions_that_were_not_accessed():
    made = {"it": partial(Generations, period=10.0)}
    found = study.run(Half(5120, 0.1), made, 1, duration=60, step=SECOND, placement="contiguous")
    # All at the start and at walks 0 and 4; one region of ten at the others.
    assert found.costs[0, -1, 0] == 5120 * 3 + 512 * 4
    assert found.estimates[0, -1] == pytest.approx(0.1)


# DAMON


def test_regions_cover_the_memory_and_keep_their_bounds():
    memory = Memory(10_000)
    rng = np.random.default_rng(2)
    damon = Damon(View(memory), rng, least=10, most=200)
    counts = set()
    for _ in range(2000):
        memory.now += STEP
        memory.touch(rng.integers(2000, 4000, 300).astype(np.uint32))
        damon.step()
        assert damon.begins[0] == 0
        assert (damon.sizes > 0).all()
        assert damon.sizes.sum() == 10_000
        counts.add(len(damon.begins))
    assert min(counts) >= 10
    assert 100 < max(counts) <= 200
    # Regions at the edges are of both kinds.
    assert damon.active == pytest.approx(0.2, abs=0.08)


def test_damon_visits_a_page_of_each_region_twice_a_sample():
    view = View(Memory(100))
    damon = Damon(view, np.random.default_rng(1), least=10, most=20, aggregate=100.0)
    for _ in range(30):
        view.memory.now += STEP
        damon.step()
    assert view.costs.visits == 10 + 30 * 20


# SHARDS


def stack_distances(touches):
    """Mattson's stack, page by page: distances by count, and first touches."""
    stack, found, first = [], {}, 0
    for page in touches:
        if page in stack:
            distance = stack.index(page)
            found[distance] = found.get(distance, 0) + 1
            stack.remove(page)
        else:
            first += 1
        stack.insert(0, page)
    return found, first


@pytest.mark.parametrize(("traps", "block"), [(True, 1024), (False, 1024), (True, 3)])
def test_shards_that_watches_all_pages_has_mattsons_distances(traps, block, monkeypatch):
    monkeypatch.setattr("pageshare.lab.estimators.shards.BLOCK", block)
    memory, rng = Memory(40), np.random.default_rng(4)
    shards = Shards(View(memory), rng, rate=1.0, every=0.1, traps=traps)
    touches = []
    for _ in range(200):
        memory.now += STEP
        chosen = np.unique(rng.integers(0, 40, rng.integers(0, 8))).astype(np.uint32)
        memory.touch(chosen)
        touches += chosen.tolist()
        shards.step()
    found, first = stack_distances(touches)
    assert {place: count for place, count in enumerate(shards.histogram[:-1].tolist()) if count} == found
    assert shards.histogram[-1] == first
    sizes, misses = shards.misses()
    for size, miss in zip(sizes, misses, strict=True):
        assert miss == pytest.approx(1 - sum(n for d, n in found.items() if d < size) / len(touches))


def test_a_sample_of_a_cycle_has_its_knee_where_the_cycle_fits():
    memory = Memory(20_000)
    shards = Shards(View(memory), np.random.default_rng(4), rate=0.02, every=0.1)
    for step in range(600):
        memory.now += STEP
        memory.touch((np.arange(step * 200, (step + 1) * 200) % 8000).astype(np.uint32))
        shards.step()
    sizes, misses = shards.misses()
    knee = sizes[np.argmax(misses < 0.5)]
    assert knee == pytest.approx(8000, rel=0.15)
    assert shards.active == pytest.approx(0.4, abs=0.08)


# Hints


def test_hints_say_what_is_free_and_cost_messages():
    memory = Memory(2048)
    views = View(memory), View(memory)
    rng = np.random.default_rng(1)
    reporting, statistics = FreePageReporting(views[0], rng), Statistics(views[1], rng)
    memory.now = 5 * SECOND
    memory.touch(np.arange(0, 600, dtype=np.uint32))
    reporting.step()
    statistics.step()
    assert reporting.active == pytest.approx(1024 / 2048)
    assert statistics.active == pytest.approx(600 / 2048)
    assert (views[0].costs.hypercalls, views[1].costs.hypercalls) == (2, 1)
    assert views[0].costs.visits == views[1].costs.visits == 0


# Filters


def sprung(filtered, touches, *, number=8, until=40.0, anew=()):
    """Steps a filter over traps on pages 0 to number-1, with touches [(second, pages, options)]; the places of those in
    use with the time, in seconds. ``anew``: when all visits end and others begin. For bursts touches are writes."""
    kinds = READ | WRITTEN if isinstance(filtered, BurstFilter) else READ
    memory = Memory(128)
    memory.zero[:] = False
    traps = View(memory).traps(np.arange(number, dtype=np.uint32))
    found = {}
    while memory.now < until * SECOND:
        memory.now += STEP
        for second, pages, options in touches:
            if round(second * SECOND) == memory.now:
                memory.touch(pages_of(*pages), **{"kinds": kinds, **options})
        for place in filtered.step(traps, traps.poll()).tolist():
            found.setdefault(place, memory.now / SECOND)
        if memory.now / SECOND in anew:
            filtered.end(np.arange(number))
            traps.arm(np.arange(number))
    return found, traps


RNG = np.random.default_rng(0)


def test_a_second_touch_is_use_and_one_is_none():
    touches = [(5, [0, 1], {}), (5.5, [0], {}), (9, [1], {})]
    found, traps = sprung(SecondTouch(8, RNG, delay=1.0), touches)
    assert found == {1: 9.0}
    assert traps.view.costs.visits == 8 + 2


def test_what_is_touched_together_with_its_neighbour_was_swept_over():
    """The trap's neighbour is the next page, at 128 the one before; by another thread, or later, it says nothing."""
    filtered = NeighbourFilter(8, RNG)
    sweep, later = (5, range(3), {}), (9, [6], {})
    apart = [(5, [4], {}), (7, [5], {}), (5, [6], {}), (5.5, [7], {"thread": 1}), (12, [1], {})]
    found, traps = sprung(filtered, [sweep, *apart, later])
    # Page 3 was never touched: page 2 is use, and 0 and 1 are not, until 1 is touched by itself.
    assert found == {2: 6.0, 4: 6.0, 6: 6.0, 5: 8.0, 7: 6.5, 1: 13.0}
    assert traps.view.costs.visits == 2 * 8 + 2 * 2
    both, _ = sprung(NeighbourFilter(128, RNG), [(5, [126, 127], {})], number=128)
    assert not both


def test_a_page_that_is_zero_after_the_touch_was_cleared():
    clear = {"kinds": WRITTEN | ZERO, "thread": 1}
    touches = [(5, range(6), clear), (8, [2], {"kinds": WRITTEN}), (5, [6, 7], {})]
    filtered = ZeroFilter(8, np.random.default_rng(0))
    found, traps = sprung(filtered, touches)
    assert set(found) == {2, 6, 7}
    # Four are probed, are zero, and so the two others are tested; page 2's second touch is tested, too, or not.
    assert 6 <= traps.view.costs.tests <= 7
    assert traps.view.costs.visits == 8 + traps.view.costs.tests + 6


def test_a_cleared_page_that_is_filled_within_a_second_is_used():
    touches = [(5, range(6), {"kinds": WRITTEN | ZERO}), (5.5, range(6), {"kinds": WRITTEN})]
    found, _ = sprung(ZeroFilter(8, np.random.default_rng(0)), touches)
    assert set(found) == set(range(6))


def test_of_a_burst_only_what_is_touched_again_by_itself_is_use():
    found, traps = sprung(BurstFilter(8, RNG), [(5, range(8), {"thread": 1}), (11, [3], {}), (23, [4], {})])
    assert found == {3: 12.0, 4: 24.0}
    assert traps.view.costs.visits == 8 + 8


def test_passes_of_one_collection_are_one_burst():
    found, traps = sprung(BurstFilter(8, RNG), [(second, range(8), {}) for second in (5, 6.5, 8, 9.5)])
    assert not found
    assert traps.view.costs.visits == 8 + 8


def test_less_than_half_at_once_is_use():
    some = dict.fromkeys(range(9), 6.0)
    assert sprung(BurstFilter(20, RNG), [(5, range(9), {})], number=20)[0] == some
    assert not sprung(BurstFilter(20, RNG), [(5, range(10), {})], number=20)[0]


def test_a_query_that_reads_all_at_once_is_use():
    """Nothing is marked; one write among twenty is enough to tell a collector."""
    reads = (5, range(19), {"kinds": READ})
    query, collection = ([reads, (5, [19], {"kinds": last})] for last in (READ, READ | WRITTEN))
    assert sprung(BurstFilter(20, RNG), query, number=20)[0] == dict.fromkeys(range(20), 6.0)
    assert not sprung(BurstFilter(20, RNG), collection, number=20)[0]


def test_a_slow_sweep_is_use_from_beginning_to_end():
    """The last ones are more than half of what is left by then, and no faster than the first."""
    touches = [(5 + 0.5 * part, range(4 * part, 4 * part + 4), {}) for part in range(10)]
    found, _ = sprung(BurstFilter(40, RNG), touches, number=40)
    assert set(found) == set(range(40))


def test_threads_that_sweep_together_make_one_burst():
    touches = [(5, range(7), {"thread": 1}), (5.4, range(7, 14), {"thread": 2}), (5.6, [15], {"thread": 3})]
    found, _ = sprung(BurstFilter(20, RNG), touches, number=20)
    assert found == {15: 6.6}


def test_single_touches_are_use_a_second_later():
    found, _ = sprung(BurstFilter(8, RNG), [(5 + 3 * place, [place], {}) for place in range(8)])
    assert found == {place: 6.0 + 3 * place for place in range(8)}


SWEEPS = [(5 + 16 * number, range(12), {"thread": 1}) for number in range(4)]


def test_a_thread_of_nothing_but_bursts_is_a_collector():
    late = [(80, [2], {"thread": 1}), (82, [3], {"thread": 0})]
    found, _ = sprung(BurstFilter(20, RNG), [*SWEEPS, *late], number=20, until=90)
    assert set(found) == {3}


def test_less_is_a_burst_if_the_thread_is_one_that_sweeps():
    few = (80, range(5), {"thread": 1})
    found, _ = sprung(BurstFilter(20, RNG), [*SWEEPS, few], number=20, until=90)
    assert not found
    found, _ = sprung(BurstFilter(20, RNG), [few], number=20, until=90)
    assert set(found) == set(range(5))


def test_a_thread_whose_bursts_are_use_is_no_collector():
    back = [(11 + 16 * number + place / 2, [place], {"thread": 0}) for number in range(4) for place in range(7)]
    late = (84, [14], {"thread": 1})
    anew = [18.5 + 16 * number for number in range(4)]
    for touches, counts in (([*SWEEPS, *back, late], True), ([*SWEEPS, late], False)):
        found, _ = sprung(BurstFilter(20, RNG), touches, number=20, until=90, anew=anew)
        assert (14 in found) == counts


def test_a_thread_that_works_besides_is_no_collector():
    """Nor need it be the one that works most."""
    sweeps = [(35 + 45 * part, range(31), {"thread": 1}) for part in range(3)]
    work = [(5 + 45 * part + place, [31 + place], {"thread": 1}) for part in range(3) for place in range(24)]
    other = [(5 + 45 * part + place, [60 + place], {"thread": 0}) for part in range(3) for place in range(28)]
    late = (140, [59], {"thread": 1})
    for touches, counts in (([*sweeps, *work, *other, late], True), ([*sweeps, *other, late], False)):
        found, _ = sprung(BurstFilter(88, RNG), touches, number=88, until=145, anew=[47.5, 92.5, 136])
        assert (59 in found) == counts


def test_the_thread_that_works_most_is_no_collector():
    sweeps = [(40 + 16 * number, range(31), {"thread": 1}) for number in range(3)]
    work = [(5 + number, [31 + number], {"thread": 1}) for number in range(28)]
    for touches, found in (([*work, *sweeps], set(range(31, 60))), (sweeps, set())):
        late = (90, [59], {"thread": 1})
        assert set(sprung(BurstFilter(60, RNG), [*touches, late], number=60, until=95)[0]) == found


# The panel


def test_a_panel_visits_no_more_pages_than_it_may():
    program = ZeroPageThread(np.random.default_rng(1), pages=8192)
    made = {name: ESTIMATORS[name] for name in ("panel", "panel-zero", "panel-collectors")}
    found = study.run(program, made, 1, duration=400)
    leave = 1 + 100 * found.times / WINDOW
    assert (found.costs[0, :, 0] <= leave).all()
    # A burst's traps are armed again when it is over, which the visits after it make up for.
    assert (found.costs[:, :, 0] <= leave + 200).all()
    assert (found.costs[:, -1, 0] > 0.9 * leave[-1]).all()


def test_a_panel_has_at_most_half_of_esxs_error_where_pages_stay_what_they_are():
    errors = {"esx": [], "panel": []}
    for seed in range(3):
        program = Steady(np.random.default_rng(seed), pages=8192, hot=0.4, warm=0.0)
        found = study.run(program, {name: ESTIMATORS[name] for name in errors}, seed, duration=1200, step=SECOND // 2)
        for figures in study.figures(found):
            errors[figures.name].append(figures.rmse)
            assert figures.visits == pytest.approx(100, abs=1)
    assert np.mean(np.square(errors["panel"])) < 0.25 * np.mean(np.square(errors["esx"]))


def test_a_panel_follows_a_step_no_later_than_esx():
    program = Half(16384, 0.5, 900, 1200)
    found = study.run(program, {name: ESTIMATORS[name] for name in ("esx", "panel")}, 1, duration=1800)
    esx, panel = study.responses(found, 900 * SECOND, 1230 * SECOND)
    assert panel.up_half <= esx.up_half
    assert panel.up_most <= esx.up_most
    assert panel.down_half <= esx.down_half


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (Nursery, "panel-collectors"),
        (partial(Semispace, speed=150.0), "panel-collectors"),
        (OwnThread, "panel-collectors"),
        (ZeroPageThread, "panel-collectors"),
        (ZeroPageThread, "panel-zero"),
    ],
)
def test_a_panel_sees_through_what_is_no_work(program, name):
    every = {"esx": Esx, "it": ESTIMATORS[name]}
    found = study.run(program(np.random.default_rng(1), pages=8192), every, 1, duration=1200, step=SECOND // 4)
    esx, it = study.figures(found)
    assert abs(it.bias) < 0.08
    assert it.rmse < 0.65 * esx.rmse


@pytest.mark.parametrize("name", ["zeroing", "java", "cpython", "redis"])
def test_a_panel_sees_through_what_real_programs_do_besides(name):
    """One seed: docs/lab/clearing.md has ten, whose mean errors are within two points."""
    every = {"esx": Esx, "it": ESTIMATORS["panel-collectors"]}
    program = Recorded(trace.read(trace.kept()[name]), loop=True)
    found = study.run(program, every, 1, duration=1500, step=SECOND // 5)
    esx, it = study.figures(found)
    assert abs(it.bias) < 0.04
    assert esx.bias > 0.06
    assert it.rmse < esx.rmse


@pytest.mark.parametrize(
    "program", [Streaming, partial(FullScan, every=30.0), partial(FullScan, every=20.0, apart=True)]
)
def test_seeing_through_collectors_costs_nothing_where_memory_is_read_in_sweeps(program):
    """A long one, or within a second, or by a thread that does nothing else."""
    program = program(np.random.default_rng(1), pages=8192)
    found = study.run(program, {"it": ESTIMATORS["panel-collectors"]}, 1, duration=900, step=SECOND // 4)
    (it,) = study.figures(found)
    assert it.rmse < 0.02


class Swept:
    """Pages that nobody uses are swept every 10 s."""

    pages = 4096

    def run(self, begin, end):
        if begin // (10 * SECOND) != end // (10 * SECOND):
            yield Touch(np.arange(self.pages, dtype=np.uint32), READ | WRITTEN, False)


class Doubts:
    """Knows two seconds later that a touch was no use; what it does not know yet it takes for use."""

    def __init__(self, traps, rng):  # noqa: ARG002
        self.pending, self.since = np.zeros(traps, np.bool_), np.zeros(traps, np.int64)

    def step(self, traps, new):
        self.pending[new], self.since[new] = True, traps.view.now
        due = np.flatnonzero(self.pending & (self.since <= traps.view.now - 2 * SECOND))
        self.pending[due] = False
        traps.arm(due)
        return new[:0]

    def end(self, places):
        return self.pending[places]


def test_a_visit_is_not_over_while_its_touch_is_not_judged():
    made = {"doubts": partial(Panel, through=Doubts), "collectors": ESTIMATORS["panel-collectors"]}
    found = study.run(Swept(), made, 1, duration=900)
    assert (found.estimates[:, 6000:].mean(axis=1) < 0.03).all()


# All


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_an_estimator_is_a_share_and_the_same_for_the_same_seed(name):
    first, second = (study.run(Random(7, 600), {name: ESTIMATORS[name]}, 3, duration=90) for _ in range(2))
    assert (first.estimates == second.estimates).all()
    assert (first.costs == second.costs).all()
    assert ((first.estimates >= 0) & (first.estimates <= 1)).all()
    assert (np.diff(first.costs, axis=1) >= 0).all()


def test_filters_in_a_row_let_through_what_all_let_through():
    both = Filters.of(ZeroFilter, SecondTouch)(8, np.random.default_rng(0))
    clear = {"kinds": WRITTEN | ZERO}
    found, _ = sprung(both, [(5, range(6), clear), (8, [1, 7], {}), (12, [1, 7], {}), (15, [6], {})])
    assert set(found) == {1, 7}
