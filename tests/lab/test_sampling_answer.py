"""Sampling against annotation: the formula and the measurement, break-evens, and the page."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from pageshare.lab.answers import sampling
from pageshare.lab.answers._decided import NO_ESTIMATE, Mix, decide, divided, judged
from pageshare.lab.answers._seeds import Spread
from pageshare.lab.answers._watched import (
    ALL,
    ANNOTATE,
    COUNTED,
    LARGEST,
    RAW,
    SOME,
    STEP,
    Case,
    Look,
    Sampled,
    Seen,
    largest_of_three,
    run,
)
from pageshare.lab.answers._worth import (
    at,
    crossing,
    last_doubling,
    last_point,
    needed,
    same_size,
    same_time,
    same_visits,
)
from pageshare.lab.memory import SECOND, Memory
from pageshare.lab.view import Prices, View

STEADY = Case("steady", (10, 100, 1000), (5.0, 30.0), (5.0, 30.0), (5.0,), pages=1 << 12, settle=60, seconds=600)


@pytest.fixture(scope="module")
def steady() -> list[Seen]:
    """A steady program, four times."""
    return [run(STEADY, seed) for seed in range(1, 5)]


@pytest.fixture(scope="module")
def quick() -> sampling.Answer:
    """The whole answer, shortly."""
    return sampling.answer(2, quick=True)


@pytest.mark.parametrize("n", STEADY.numbers)
@pytest.mark.parametrize("period", STEADY.periods)
def test_error_by_drawing_is_the_formulas(steady: list[Seen], n: int, period: float) -> None:
    """The measured variance over the formula's is about chi-square over its degrees of freedom, the number of periods:
    within three standard deviations. In periods of 5 s, without the factor for drawing without replacement, n = 1000
    of 4096 would be off by a quarter."""
    look = Look(RAW, n, period)
    periods = len(steady) * STEADY.seconds / period
    assert _ratio(steady, look) == pytest.approx(1, abs=3 * math.sqrt(2 / periods))


def test_error_by_drawing_of_all_numbers_together(steady: list[Seen]) -> None:
    """Each number's ratio counts alike: within a tenth."""
    ratios = [_ratio(steady, Look(RAW, n, 5.0)) for n in STEADY.numbers]
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def _ratio(group: list[Seen], look: Look) -> float:
    """The measured variance by drawing over the formula's."""
    measured, formula = (math.fsum(seen.figures[look][name] for seen in group) for name in ("drawn", "formula"))
    return measured / formula


def test_whole_error_is_drawing_and_floor(steady: list[Seen]) -> None:
    """Against the truth a period of 5 s is wrong by its window, whatever n; the formula has both parts."""
    for n in STEADY.numbers:
        measured = sum(seen.figures[Look(RAW, n, 5.0)]["rmse"] ** 2 for seen in steady)
        foretold = sum(seen.figures[Look(RAW, n, 5.0)]["foretold"] for seen in steady)
        assert measured == pytest.approx(foretold, rel=0.15)
    floor = np.mean([seen.figures[Look(ALL, 0, 5.0)]["rmse"] for seen in steady])
    assert floor > 0.05
    assert floor == pytest.approx(np.mean([-seen.figures[Look(ALL, 0, 5.0)]["bias"] for seen in steady]), rel=0.05)


def test_all_pages_in_a_period_are_what_a_scan_finds(steady: list[Seen]) -> None:
    """Both look at all pages, each 30 s, from the same time on."""
    for seen in steady:
        places = {look: place for place, look in enumerate(seen.figures)}
        np.testing.assert_array_equal(
            seen.marks[places[Look(ALL, 0, 30.0)]], seen.marks[places[Look(ANNOTATE, 0, 30.0)]]
        )


def test_costs_are_what_was_asked_for(steady: list[Seen]) -> None:
    """n visits in a period, and each page once in a scan."""
    for seen in steady:
        assert seen.figures[Look(RAW, 100, 5.0)]["visits"] == 600
        assert seen.figures[Look(ANNOTATE, 0, 5.0)]["visits"] == 6 * seen.pages
        assert seen.figures[Look(SOME, 100, 5.0)]["visits"] == 600
        assert 0 < seen.figures[Look(RAW, 100, 5.0)]["faults"] < 600


def test_replayed_averages_are_esxs() -> None:
    """The estimate by kept counts is the estimator's own, at each step from the end of the first period on."""
    memory, rng = Memory(512), np.random.default_rng(5)
    esx = Sampled(View(memory), np.random.default_rng(6), n=50, period=3.0)
    own, counts = [], []
    for _ in range(400):
        memory.now += STEP
        some = rng.random(512) < rng.random() ** 4
        memory.touch(np.flatnonzero(some).astype(np.uint32))
        esx.step()
        own.append(esx.active)
        counts.append(esx.count)
    replayed = largest_of_three(np.array(counts, np.float32), 3 * SECOND // STEP, 1 / 8, 1 / 2)
    np.testing.assert_allclose(replayed, own, atol=1e-6)
    assert np.std(own) > 0.01


def test_largest_of_three_is_too_high_by_drawing() -> None:
    """By the known variances: of two averages with gains g the larger is above the mean by about
    sd(difference) / sqrt(2 pi), and that falls with the root of n."""
    slow, fast = 1 / 8, 1 / 2
    both = 2 * slow * fast / (slow + fast - slow * fast)
    variance = slow / (2 - slow) + fast / (2 - fast) - both
    for n in (100, 400):
        expected = 0.5 / math.sqrt(n) * math.sqrt(variance / (2 * math.pi))
        assert sampling.bias_by_drawing(0.5, n, (slow, fast)) == pytest.approx(expected, rel=0.1)


def test_break_evens_in_closed_form() -> None:
    """Each turns into the other, and goes the way it must."""
    prices = Prices()
    for target in (0.02, 0.05, 0.1):
        n = needed(0.25, 0.01, target)
        assert math.sqrt(0.25 / n + 0.01**2) == pytest.approx(target)
        n = needed(0.25, 0.0, target, 1000)
        assert math.sqrt(0.25 / n * (1000 - n) / 999) == pytest.approx(target, rel=1e-3)
    assert needed(0.25, 0.05, 0.05) == math.inf
    floors = [0.0, 0.02, 0.1, 0.3]
    for number in (last_point, last_doubling):
        assert all(more > less for more, less in pairwise(number(0.2, floor) for floor in floors))
    n = last_doubling(0.2, 0.05)
    assert math.sqrt(0.2 / n + 0.05**2) - math.sqrt(0.1 / n + 0.05**2) == pytest.approx(0.01)
    assert same_visits(1000, 30, 120) == 250
    assert same_size(same_time(1000, 30, 120, 0.3, prices), 30, 120, 0.3, prices) == pytest.approx(1000)
    assert same_time(1000, 30, 120, 0.3, prices) < same_visits(1000, 30, 120)


def test_crossing_and_its_reverse() -> None:
    """The error at the number where errors cross a target is the target; lower targets take more samples."""
    numbers, errors = (10, 100, 1000), (0.16, 0.05, 0.016)
    found = [crossing(numbers, errors, target) for target in (0.2, 0.1, 0.05, 0.02, 0.016)]
    assert found[0] == 10
    assert found[2] == pytest.approx(100)
    assert all(less < more for less, more in pairwise(found))
    assert math.isnan(crossing(numbers, errors, 0.01))
    assert at(numbers, errors, 1) == 0.16
    assert at(numbers, errors, 100) == pytest.approx(0.05)
    assert at(numbers, errors, 1e6) == 0.016


def test_break_even_of_programs(quick: sampling.Answer) -> None:
    """The rarer the scan, the fewer samples are as many visits; and with no more visits no less error is to be had."""
    for watched in quick.watched:
        found = [sampling.break_even(watched, scan, quick.prices) for scan in sampling.SCANS]
        for often, rare in pairwise(found):
            assert often.same_visits > rare.same_visits
            assert often.same_time > rare.same_time
            assert often.at_visits <= rare.at_visits
            assert often.at_time <= rare.at_time
        assert all(one.same_time < one.same_visits for one in found)


def test_steady_needs_few_samples(quick: sampling.Answer) -> None:
    """On a steady program more samples help to the end; where need comes and goes, hardly."""
    steady, ramp = quick.of("steady"), quick.of("ramp")
    assert steady.errors(RAW, 30.0)[0] > 3 * steady.errors(RAW, 30.0)[-1]
    assert ramp.floor(30.0) > 10 * steady.floor(30.0)
    assert last_point(ramp.drawing(30.0), ramp.floor(30.0)) < last_point(steady.drawing(30.0), steady.floor(30.0)) / 5


def test_larger_machines(quick: sampling.Answer) -> None:
    """Scans cost what memory is large, samples don't; less error takes more of them, and a larger machine to pay."""
    found = sampling.by_size(0.2, 0.3, quick.prices)
    for one in found:
        sizes = sorted(one.scanning)
        assert one.scanning[sizes[-1]] / one.scanning[sizes[0]] == sizes[-1] / sizes[0]
        assert one.sampling[sizes[-1]] == pytest.approx(one.sampling[sizes[0]], rel=0.05)
    for less, more in pairwise(found):
        assert less.n < more.n
        assert less.above[30.0] < more.above[30.0]
        assert more.above[30.0] < more.above[120.0]


def test_reach_is_cheaper_for_more_error(quick: sampling.Answer) -> None:
    """A larger error is reached by no more pages and no more frequent scans."""
    for watched in quick.watched:
        found = [sampling.reach(watched, target, quick.prices) for target in (0.3, 0.2, 0.1)]
        for loose, tight in pairwise(found):
            assert math.isnan(tight.n) or loose.n <= tight.n
            assert math.isnan(tight.scan) or loose.scan >= tight.scan
            assert math.isnan(tight.sampling) or loose.sampling <= tight.sampling


def test_tax_by_the_truth_misplaces_nothing(quick: sampling.Answer) -> None:
    """And by no estimate it misplaces more than by frequent annotation."""
    for decided in quick.decided:
        assert decided.figures[Look("truth", 0, 0)]["misplaced"].mean == 0
        frequent = decided.figures[Look(ANNOTATE, 0, 1.0)]["misplaced"].mean
        assert frequent < decided.figures[NO_ESTIMATE]["misplaced"].mean / 2


def test_judged() -> None:
    """By hand: two guests of 100 pages on a host of 100."""
    right = np.array([[60, 40], [70, 30], [50, 50]])
    held = np.array([[60, 40], [50, 50], [50, 50]])
    used = np.array([[80.0, 20.0], [80.0, 20.0], [20.0, 20.0]])
    found = judged(held, right, used, 100)
    assert found["misplaced"] == pytest.approx((0 + 20 + 0) / 3 / 100)
    assert found["taken"] == pytest.approx(20 / 3 / 100)
    assert found["wrong"] == 1  # ten pages went from the first, which was to get ten
    assert found["moved"] == pytest.approx(0.1 * 120)


def test_divided_adds_up() -> None:
    """Nothing is lost, and who uses more has more."""
    held = divided(np.array([[10.0, 90.0], [90.0, 10.0]]), np.array([100, 100]), 120)
    assert held.sum(axis=1).tolist() == [120, 120]
    assert held[0].tolist() == held[1].tolist()[::-1]
    assert held[0, 1] > held[0, 0]


def test_decide_goes_by_its_own_marks(steady: list[Seen]) -> None:
    """Of guests that are all alike nothing is moved by the truth; a wrong estimate of one takes from the other."""
    one, other = steady[0], steady[0]
    look = Look(ANNOTATE, 0, 5.0)
    place = list(one.figures).index(look)
    marks = one.marks.copy()
    marks[place] = 1.0
    found = dict(decide(Mix(("steady", "steady"), 0.6), [one, replace(other, marks=marks)]))
    assert found[look]["misplaced"] > 0.05
    assert found[Look(ANNOTATE, 0, 30.0)]["misplaced"] < 0.001


def test_enough() -> None:
    """From where on a figure stays close, not where it is close by chance."""
    assert sampling.enough((10, 30, 100, 300), (5.0, 1.0, 3.0, 1.2), 0.5) == 300
    assert sampling.enough((10, 30, 100, 300), (5.0, 1.0, 1.4, 1.2), 0.5) == 30


def test_page_is_filled(quick: sampling.Answer) -> None:
    """Every table has its rows, every plot is drawn, nothing is left of the template."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from pageshare.render import lab_answers
    from pageshare.render.plot import drawn

    page = lab_answers.page_of("sampling", quick, "pageshare lab answer sampling")
    assert not re.search(r"\{[{%#]|nan|inf\b|None|Undefined|0x", page.text)
    for watched in quick.watched:
        assert page.text.count(f"| {watched.program}") >= 6
    tables = re.findall(r"(?:^\|.*\n)+", page.text, re.MULTILINE)
    assert len(tables) >= 12
    for each in tables:
        rows = each.strip().split("\n")
        assert len(rows) > 2
        assert len({row.count("|") for row in rows}) == 1
    for name, (draw, size) in page.plots.items():
        assert f"]({name})" in page.text
        assert b"<svg" in drawn(draw, "svg", size)
    assert COUNTED == (100, 30)
    assert LARGEST in {look.kind for look in quick.watched[0].figures}


def test_page_concludes_what_was_found(quick: sampling.Answer) -> None:
    """Of other figures it says other things; and it says for how long they were counted."""
    pytest.importorskip("jinja2")
    from pageshare.render import lab_answers

    def text(changes: dict[tuple[Look, str], float]) -> str:
        watched = []
        for one in quick.watched:
            figures = {look: dict(its) for look, its in one.figures.items()}
            for (look, name), value in changes.items():
                figures[look][name] = Spread(value, 0.0, 1)
            watched.append(replace(one, figures=figures))
        page = lab_answers.page_of("sampling", replace(quick, watched=watched), "x", quick=True)
        return re.sub(r"\s+", " ", page.text)

    usual, scanned, panel = Look(LARGEST, 100, 30.0), Look(ANNOTATE, 0, 5.0), Look(SOME, 100, 5.0)
    as_good = {(Look(LARGEST, 1000, 30.0), "rmse"): 0.3, (usual, "rmse"): 0.3, (scanned, "rmse"): 0.01}
    found = text({**as_good, (panel, "rmse"): 0.02})
    assert "count for 240 s after the first 60 s." in found
    assert "; 120 s are the most that were tried." in found
    assert "**A quick run" in found
    said = ("**More samples** do little.", "**It is better when it is frequent.**", "**But every page is not what")
    assert [each in found for each in said] == [True] * 3
    worse = {(usual, "rmse"): 0.3, (scanned, "rmse"): 0.9, (panel, "rmse"): 0.9}
    found = text({**worse, (Look(LARGEST, 1000, 30.0), "rmse"): 0.1})
    assert [each in found for each in said] == [False] * 3
    assert "**More samples**. ESX's" in found
    assert "**When it is frequent.**" in found
    assert "**Some pages, as often.**" in found
    old = sampling.Answer(quick.seeds, quick.numbers, quick.watched, quick.decided)
    assert (old.settle, old.seconds) == (480, 600)
