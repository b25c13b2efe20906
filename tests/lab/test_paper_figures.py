"""The paper's figures, simulated: what has a closed form, and which way things go."""

from __future__ import annotations

import re

import pytest

from pageshare.lab import scenario
from pageshare.lab.answers import figures
from pageshare.lab.answers._seeds import Spread
from pageshare.lab.answers.figures import Answer, Booted, Dbench, Row, Taxed, Touching
from pageshare.lab.assembly import assemble
from pageshare.render import lab_answers


def test_without_a_tax_both_guests_have_the_same_and_a_tax_moves_memory():
    none, taxed = (figures.taxed(Taxed(tax, 16), 1) for tax in (0.0, 0.9))
    assert none["idle"] == pytest.approx(180, abs=6)
    assert none["busy"] == pytest.approx(180, abs=6)
    assert taxed["idle"] < none["idle"] - 10
    assert taxed["busy"] > none["busy"] + 10
    assert taxed["done"] > none["done"]


def test_closed_forms():
    assert figures.closed_form(0.0) == pytest.approx((180, 180), abs=0.01)
    assert figures.closed_form(0.75) == pytest.approx((104, 256), abs=0.01)
    assert figures.fixed_share(0.0) == pytest.approx((180, 180))
    assert figures.fixed_share(0.75) == pytest.approx((104, 256), abs=0.01)
    assert sum(figures.fixed_share(0.5)) == pytest.approx(figures.FOR_GUESTS)


def test_a_thread_that_clears_makes_a_spike():
    windows, linux = (figures.touching(Touching(zeroing), 1) for zeroing in (True, False))
    assert windows["spike"] > 0.05
    assert linux["spike"] < 0.02
    assert windows["up"] < 150


NONE = figures.Curves([0.0, 1.0], {})


def _answer(*curves, idle=180.0, spike=0.1, least=5.0):
    def spreads(**found):
        return {name: Spread(value, 0.0, 10) for name, value in found.items()}

    dbench = [
        Row(Dbench(configured, size, kernel), spreads(done=done + (kernel - 0.02) * (configured == size)))
        for kernel in (0.02, 0.06)
        for configured, size, done in ((128, 128, 0.5), (256, 128, 0.48), (224, 224, 0.8), (256, 224, 0.788))
    ]
    taxed = [Row(Taxed(tax), spreads(idle=idle, busy=180.0 + 90 * tax, done=0.5 + tax / 5)) for tax in (0.0, 0.75)]
    touching = [Row(Touching(each), spreads(up=60.0, down=200.0, spike=spike)) for each in (True, False)]
    booted = [
        Row(Booted(each), spreads(shared=1.0, stays=2.0, swapped=3.0, all=6.0, left=4.0, least=least))
        for each in (True, False)
    ]
    return Answer(10, dbench, touching, taxed, booted, *curves)


def test_the_page_says_what_was_fitted(tmp_path):
    answer = _answer(figures.touching_curves(quick=True), figures.booted_curves(minutes=1))
    assert answer.overhead(128, 0.02) == pytest.approx(0.04)
    page = lab_answers.page_of("figures", answer, "pageshare lab answer figures")
    assert "| 128 MB | 4.4 % (from memory) | 4.0 % | fitted | -0.4 |" in page.text
    assert "| 224 MB | 1.4 % (from memory) | 1.5 % | predicted | +0.1 |" in page.text
    assert "| shared at the peak of the boot | 325 | from memory | 1 ± 0 | fitted | -324 | 1 ± 0 |" in page.text
    assert "still swapped after the peak, less than | 20 | the paper's text | 4 ± 0 | predicted | holds |" in page.text
    step = "a step up, periods of 30 s | 1 to 4 | read off the figure, from memory"
    assert f"| {step} | 2.0 | predicted | holds |" in page.text
    assert "| after the end, Linux | none | from memory | +10.0 points | predicted | does not hold |" in page.text
    assert not re.search(r"\{[{%]|nan", page.text)
    assert sorted(path.name for path in lab_answers.write(page, "figures", tmp_path)) == sorted(
        lab_answers.files("figures")
    )


def test_the_page_explains_only_what_came_out():
    def text(**found):
        return re.sub(r"\s+", " ", lab_answers.page_of("figures", _answer(NONE, NONE, **found), "x").text)

    found, other = text(least=190.0), text(idle=100.0, spike=-0.1)
    for explained in (
        "The spike comes right after the end, when the zero page thread clears",
        "lies above the closed form for the idle guest",
        "since others need no more by then",
    ):
        assert explained in found
        assert explained not in other
    assert "here it has 190 ± 0 MB at least, since" in found
    assert "here it has 5 ± 0 MB at least. Seeds change only what is drawn" in other


def test_seeds_leave_alone_when_guests_boot_and_are_polled():
    """As the page says of figure 8."""
    path = scenario.path_of("figure-8")
    first, second = (assemble(scenario.read(path, [("duration", "1min")]), seed) for seed in (1, 2))
    for one, other in zip(first.guests, second.guests, strict=True):
        assert one.driver.polls == other.driver.polls
        assert one.driver.polls.phase is not None
        boots = [guest.programs[0].program for guest in (one, other)]
        assert boots[0].speed == boots[1].speed
        assert boots[0].contents.tolist() != boots[1].contents.tolist()
    assert len({spec.start for spec in scenario.read(path, []).guests}) == 1


def test_curves_are_of_all_guests_and_of_one():
    memory = figures.booted_curves(minutes=1)
    assert memory.minutes[-1] == pytest.approx(1)
    assert {len(line) for line in memory.lines.values()} == {len(memory.minutes)}
    assert max(memory.lines["SQL has"]) <= 320
    assert 700 < max(memory.lines["machine memory"]) <= 864
    assert max(memory.lines["shared"]) > 200
    estimate = figures.touching_curves(quick=True)
    # Until a period has passed a guest is taken to use all that it has.
    assert estimate.lines["estimate"][0] == 256
    assert estimate.lines["touched within 30 s"][-1] == pytest.approx(figures.STEPS[0] + 15, abs=2)
