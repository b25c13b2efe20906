"""The figures of the paper: the constants are what the fit gives, and scans of what they make agree with the paper."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import astuple, fields
from pathlib import Path

import pytest

from pageshare import figures, limits, scan, synth
from pageshare.figures import FIGURE_4, FIGURE_5, FITTED, FITTED_TO, Convergence, Figure4, Figure5, Found, Model, Point
from pageshare.space import PageSpace

POINTS = 2.0
"""How far the curves may be from the published ones, in percent of all guests' memory."""


@pytest.fixture(scope="module")
def fitting():
    """tools/fit_figure4.py as a module."""
    path = Path(__file__).parents[1] / "tools" / "fit_figure4.py"
    spec = importlib.util.spec_from_file_location("fit_figure4", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=[1, 7])
def figure_4(request: pytest.FixtureRequest) -> Figure4:
    return figures.figure_4(seed=request.param)


@pytest.fixture(scope="module")
def figure_5() -> Figure5:
    return figures.figure_5()


def test_the_model_has_six_parameters_and_leaves_the_rest_to_unique_pages() -> None:
    assert len(fields(Model)) == 6
    spec = FITTED.spec(3, 4 << 20)
    assert spec.unique == pytest.approx(1 - FITTED.zero - FITTED.duplicate - FITTED.base - FITTED.common)


@pytest.mark.parametrize("start", [None, Model(0.01, 0.2, 0.4, 0.1, 0.3, 0.2)])
def test_the_constants_are_what_the_fit_gives(fitting, start: Model | None) -> None:
    assert FITTED_TO == (1, 2, 4, 8)
    assert astuple(FITTED) == pytest.approx(astuple(fitting.fit(start)), abs=0.51 * 10**-fitting.DIGITS)


def test_the_fit_sees_four_counts_only(fitting, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fitting.fit()
    others = [point if point.count in FITTED_TO else None for point in FIGURE_4]
    monkeypatch.setattr(fitting, "FIGURE_4", others)
    assert fitting.fit() == found


def test_what_the_fit_expects_is_what_scans_find(fitting, figure_4: Figure4) -> None:
    for mine in figure_4.points:
        expected = fitting.expected(FITTED, mine.count)
        assert [mine.shared, mine.reclaimed, mine.zero] == pytest.approx(
            [expected.shared, expected.reclaimed, expected.zero], abs=0.5
        )


@pytest.mark.parametrize("fitted", [True, False])
def test_all_ten_counts_are_near_the_published(figure_4: Figure4, fitted: bool) -> None:
    assert [point.count for point in figure_4.points] == [point.count for point in FIGURE_4] == list(range(1, 11))
    found = figure_4.deviations(fitted=fitted)
    assert {name: off for name, (off, _) in found.items() if off > POINTS} == {}
    assert all((count in FITTED_TO) is fitted for _, count in found.values())


def test_deviations_are_those_of_the_curves(figure_4: Figure4) -> None:
    for mine, published in zip(figure_4.points, FIGURE_4, strict=True):
        assert mine.mb == published.mb == 40 * mine.count
        assert abs(mine.shared - published.shared) <= POINTS
        assert abs(mine.reclaimed - published.reclaimed) <= POINTS
        assert 100 * abs(mine.zero_mb - published.zero_mb) / mine.mb <= POINTS


def test_fewer_guests_are_the_first_of_more(figure_4: Figure4) -> None:
    """The curve is what images of so many guests, made by synth by themselves, hold."""
    seed = figure_4.spec.seed
    pages = synth.truth_of(FITTED.spec(3, 40 << 20, seed=seed)).pages
    three = figure_4.points[2]
    assert three == Point(
        3, 120.0, 100 * pages.shared / pages.known, 100 * pages.reclaimed / pages.known, pages.zero / 256
    )


def test_convergence_is_that_of_scans_by_policy(figure_4: Figure4) -> None:
    found = figure_4.convergence.found
    assert figure_4.convergence.pages == 102_400
    assert [each.permutation for each in found if each.visits >= 1] == [1.0] * 25
    draws = [each.draws for each in found]
    assert draws == sorted(draws)
    assert 0 < draws[0] < 0.1
    assert 0.95 < draws[-1] < 1
    images = figures.make(FITTED.spec(2, 1 << 20))
    small = figures.convergence(PageSpace.of(images), [0.5], seed=3).found[0]
    whole = scan(images).pages.reclaimed
    for policy, share in (("random-with-replacement", small.draws), ("random-permutation", small.permutation)):
        partial = scan(images, policy=policy, limit=256, seed=3).partial
        assert partial is not None
        assert partial.reclaimed / whole == share


def test_where_nothing_can_be_saved_all_of_it_is_found() -> None:
    space = PageSpace.of(figures.make(synth.Spec(images=1, size=1 << 16, zero=0, duplicate=0)))
    assert figures.convergence(space, [0.5, 1.0]).found == (Found(0.5, 1.0, 1.0), Found(1.0, 1.0, 1.0))


def test_minutes() -> None:
    found = Convergence(120_000, (Found(1.0, 0.4, 1.0), Found(2.0, 0.8, 1.0)))
    assert found.minutes(1.0, 200) == 10
    assert found.minutes(0.5, 10_000) == 0.1
    assert found.visits_until(0.2) == 0.5
    assert found.visits_until(0.6) == pytest.approx(1.5)


@pytest.mark.parametrize("i", range(3))
def test_workloads_have_the_published_figures(figure_5: Figure5, i: int) -> None:
    made, published = figure_5.workloads[i], FIGURE_5[i]
    assert made.workload == published
    assert made.mb == pytest.approx(published.mb, abs=0.1)
    assert made.spec.images == published.guests
    assert made.shared_percent == pytest.approx(published.shared_percent, abs=0.2)
    assert made.reclaimed_percent == pytest.approx(published.reclaimed_percent, abs=0.2)
    assert made.zero == pytest.approx(published.zero or 0, abs=0.1)
    zero_saved = made.zero - (1 / 256 if made.zero else 0)
    assert made.intra + made.inter + zero_saved == pytest.approx(made.reclaimed)
    assert 0.8 < made.convergence.visits_until(0.5) < 1.2


def test_the_length_of_pages_changes_nothing() -> None:
    small, whole = (FIGURE_5[2].spec(page_size=size) for size in (512, 4096))
    assert small.pages == whole.pages
    assert synth.truth_of(small).pages == synth.truth_of(whole).pages


def test_published_percentages_are_those_of_the_published_megabytes() -> None:
    for each in FIGURE_5:
        assert each.shared_percent == pytest.approx(100 * each.shared / each.mb, abs=0.1)
        assert each.reclaimed_percent == pytest.approx(100 * each.reclaimed / each.mb, abs=0.1)


def test_progress_counts_all_that_is_made() -> None:
    done: list[int] = []
    figures.make(synth.Spec(images=3, size=3 << 20), done.append)
    assert done == [2 << 20, 3 << 20, 5 << 20, 6 << 20, 8 << 20, 9 << 20]


def test_too_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory", lambda: limits.Memory(1 << 30, 1 << 20))
    with pytest.raises(OSError, match=r"the images take 419,430,400 bytes of memory, 1,048,576 are free"):
        figures.figure_4()


def test_the_script_prints_the_line_of_the_source(fitting, capsys: pytest.CaptureFixture[str]) -> None:
    fitting.main()
    line = capsys.readouterr().out.splitlines()[0]
    namespace: dict[str, Model] = {}
    exec(line, {"Model": Model}, namespace)  # it is ours
    assert namespace["FITTED"] == FITTED
    assert line in Path(sys.modules["pageshare.figures"].__file__ or "").read_text(encoding="utf-8")
