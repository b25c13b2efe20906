"""The views of replays and comparisons, on documents made for them."""

import html
import io
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from pageshare.render import console, course_plot, plot, policies_page
from pageshare.render import policies as policies_view
from pageshare.render import replay as replay_view
from pageshare.replay.compare import compare, compared, jobs_of
from pageshare.replay.course import Run, Settings
from pageshare.replay.pace import PagesPerSecond
from pageshare.replay.report import policies_document, replay_document
from policy_runs import COSTS, PAGE, history, like_guests

HOSTILE = "</script><script>alert('1')</script>\"&]]>--><svg onload=x>"


@pytest.fixture(scope="module")
def guests():
    return history(like_guests(guests=2, pages=256), like_guests(seed=2, guests=2, pages=256))


def document_of_replay(memory, **settings):
    settings = Settings(policy="random", pace=PagesPerSecond, by_bytes=False, **settings)
    course = Run(memory, settings, COSTS).go()
    return replay_document(
        course,
        page_size=PAGE,
        owners=[HOSTILE],
        pace={"pace": "rate", "pages_per_second": 200},
        duration=settings.duration,
        peek_price=0.04,
        costs=COSTS,
    )


def document_of_policies(memory, names, *, pace=None):
    settings = Settings(pace=PagesPerSecond if pace else None, by_bytes=False, visits=None if pace else 700)
    found = compared(names, list(compare(memory, jobs_of(names, settings, [1, 2]), COSTS, processes=1)))
    document = policies_document(
        found,
        pages=512,
        page_size=PAGE,
        owners=[HOSTILE],
        possible=100,
        possible_nonzero=50,
        pace=pace,
        duration=10.0 if pace else None,
        seeds=[1, 2],
        peek_price=0.04,
        costs=COSTS,
    )
    return found, document


def text(write, *arguments):
    return console.laid_out(lambda console: write(*arguments, console))


def test_a_replay_with_large_figures_fits(guests):
    document = document_of_replay(guests)
    assert document["writes"] > 0
    document["course"] = [
        {key: 10**9 * value if key in ("visits", "cow_breaks") else value for key, value in sample.items()}
        for sample in document["course"]
    ]
    document["visits"] *= 10**9
    lines = text(replay_view.write, document, "1,000,000 pages, then 20 ms of sleep").splitlines()
    assert max(map(len, lines)) <= 80


def test_outcomes_have_words():
    from pageshare.core import Outcome

    assert set(replay_view._OUTCOMES) == {outcome.name for outcome in Outcome}


def test_a_share_that_was_not_reached_is_a_dash(guests):
    _, document = document_of_policies(guests, ["random-with-replacement", "sequential"])
    out = text(policies_view.write, document, "")
    row = next(line.split() for line in out.splitlines() if line.startswith("random-with-replacement"))
    assert row[3:7] == ["-", "-", "-", "-"]
    assert "-: not within eight visits a page" in out


def test_long_names_of_policies_are_folded_not_cut(guests):
    name = "ksm:smart_scan=0,max_page_sharing=2"
    for pace in (None, {"pace": "rate", "pages_per_second": 200}):
        _, document = document_of_policies(guests, [name, "random-with-replacement"], pace=pace)
        lines = text(policies_view.write, document, "200 pages/s").splitlines()
        assert max(map(len, lines)) <= 80
        assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
        first = next(i for i, line in enumerate(lines) if line.startswith("ksm:"))
        words = [line.split()[0] for line in lines[first : first + 3] if line.split()]
        assert "".join(words).startswith(name) or lines[first].startswith(name)


@pytest.mark.parametrize("pace", [None, {"pace": "rate", "pages_per_second": 200}])
def test_a_page_of_hostile_names(guests, pace):
    found, document = document_of_policies(guests, ["random", "sequential"], pace=pace)
    # No policy has such a name; a drawing must bear it nevertheless.
    odd = [replace(each, name=f"{each.name} {HOSTILE}") for each in found]
    drawings = {
        suffix: plot.drawn(
            lambda canvas, suffix=suffix: course_plot.draw_comparison(odd, suffix, canvas, over_time=bool(pace)),
            "svg",
            (8, 4),
        ).decode()
        for suffix in ("", "_nonzero")
    }
    for svg in drawings.values():
        assert "<script" not in svg
        assert "onload=x>" not in svg.replace("&gt;", "")
    document["policies"][0]["name"] = HOSTILE
    page = policies_page.page(document, "200 pages/s", drawings)
    assert page.count("<script") == page.count("</script>") == 1
    assert "<svg onload" not in page
    assert page.count(f"<title>{html.escape(HOSTILE)}</title>") == 2
    data = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(data) == json.loads(json.dumps(document))


def test_drawings_are_the_same_each_time(guests):
    course = Run(guests, Settings(policy="random", pace=PagesPerSecond, by_bytes=False), COSTS).go()
    one, two = (plot.drawn(lambda canvas: course_plot.draw_course(course, PAGE, canvas), "svg", (6, 3)) for _ in "12")
    assert one == two
    assert b"http" not in b"".join(line for line in one.splitlines() if b"href" in line and b"xmlns" not in line)


def test_sentences_are_wrapped_and_words_are_not_broken():
    out = io.StringIO()
    wide = Console(file=out, width=200)
    console.say(wide, "word " * 30 + "x" * 90, indent="  ")
    lines = out.getvalue().splitlines()
    assert all(line.startswith("  ") for line in lines)
    assert lines[-1] == "  " + "x" * 90
    assert max(map(len, lines[:-1])) <= 80


def test_where_one_drawing_has_no_room_none_appears(tmp_path):
    paths = [(tmp_path / "a.svg", "svg"), (Path("/dev/full"), "png")]
    with pytest.raises(OSError, match="^/dev/full: No space left on device$"):
        plot.save(lambda canvas: canvas.subplots(), paths)
    assert list(tmp_path.iterdir()) == []


# ---- what is drawn ----


def axes_of(draw):
    """What ``draw`` made on a figure."""
    from matplotlib.figure import Figure

    canvas = Figure()
    draw(canvas)
    return canvas.axes


NAMES = [*course_plot.STYLES, "stratified", "io-hints", "same-frame", "sequential-interleaved", "zero-first"]


@pytest.mark.parametrize("pace", [None, {"pace": "rate", "pages_per_second": 200}])
def test_notable_curves_are_told_apart_and_in_the_order_of_the_table(guests, pace):
    found, document = document_of_policies(guests, NAMES, pace=pace)
    orders = {suffix: [each["name"] for each in policies_view.ranked(document, suffix)] for suffix in ("", "_nonzero")}
    both = axes_of(lambda canvas: course_plot.draw_policies(found, canvas, over_time=bool(pace), orders=orders))
    assert len(both) == 2
    for axes, order in zip(both, orders.values(), strict=True):
        labels = [text.get_text().removesuffix(" (default)") for text in axes.get_legend().get_texts()]
        assert labels == ["could be saved"] * bool(pace) + order
        lines = {line.get_label(): line for line in axes.get_lines()}
        strong = {name: line for name, line in lines.items() if line.get_color() != plot.OTHERS}
        strong.pop("could be saved", None)
        assert {*course_plot.STYLES} - {"peek-runs"} | {"peek-runs (default)"} <= {*strong}
        assert len(strong) == course_plot.STRONG
        assert len({(line.get_color(), line._unscaled_dash_pattern) for line in strong.values()}) == len(strong)
        assert max(lines.values(), key=lambda line: line.get_linewidth()).get_label() == "peek-runs (default)"
        assert max(lines.values(), key=lambda line: line.get_zorder()).get_label() == "peek-runs (default)"
        best = [name for name in order if name not in course_plot.STYLES][:2]
        assert {*best} <= {*strong}


def test_memory_that_changes_is_drawn_in_the_table_s_unit_beside_what_could_be(guests):
    found, _ = document_of_policies(guests, ["random", "oracle"], pace={"pace": "rate", "pages_per_second": 200})
    for axes, suffix in zip(
        axes_of(lambda canvas: course_plot.draw_policies(found, canvas, over_time=True)), ("", "_nonzero"), strict=True
    ):
        assert axes.get_ylabel() == "MiB saved"
        lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
        last = found[0].all[0].last
        scale = found[0].all[0].page_size / 2**20
        assert lines["could be saved"][-1] == pytest.approx(scale * getattr(last, "possible" + suffix))
        assert max(lines["oracle"]) <= max(lines["could be saved"])


def test_few_policies_are_all_told_apart():
    names = [f"ksm:max_page_sharing={number}" for number in range(2, 10)]
    styles = course_plot._styles(names, names)
    assert len({(colour, str(line)) for colour, line, _ in styles.values()}) == 8
    assert plot.OTHERS not in [colour for colour, _, _ in styles.values()]


def test_a_policy_looks_the_same_in_each_plot():
    names = [*NAMES, "region-runs", "region-bandit"]
    one, other = (course_plot._styles(ranked, names) for ranked in (names, names[::-1]))
    both = [name for name in names if plot.OTHERS not in (one[name][0], other[name][0])]
    assert {*course_plot.STYLES} <= {*both}
    assert [one[name] for name in both] == [other[name] for name in both]
    few = course_plot._styles(names[5:9], names)
    assert few["stratified"] == one["stratified"]


def test_each_colour_has_one_for_dark_paper(guests):
    used = {colour for colour, _, _ in course_plot.STYLES.values()} | {*course_plot.MORE_COLOURS}
    assert used - {plot.INK} <= {*policies_page.DARK}
    found, document = document_of_policies(guests, NAMES)
    drawing = plot.drawn(
        lambda canvas: course_plot.draw_comparison(found, "", canvas, over_time=False), "svg", (9, 4)
    ).decode()
    page = policies_page.page(document, "", {"": drawing})
    figure = page.partition("<figure")[2].partition("</figure>")[0]
    assert re.findall(r"(?:fill|stroke): (#\w+)", figure) == []
    assert "var(--ink)" in figure
    for variable in set(re.findall(r"var\((--[\w-]+)\)", page)):
        assert page.count(f"{variable}: ") == 2  # one for each theme


def test_the_page_marks_the_default_the_bound_and_the_best_that_is_none(guests):
    for names, best in ((["oracle", "peek-runs", "ksm"], "peek-runs"), (["ksm", "oracle"], "ksm")):
        _, document = document_of_policies(guests, names)
        page = policies_page.page(document, "", {})
        found = re.findall(r'<tr class="([^"]*)"><th scope="row">([\w-]+)', page)
        rows = {name: classes for classes, name in found}
        assert rows["oracle"].split() == ["bound"]
        assert "best" in rows[best].split()
        assert ("default" in rows.get("peek-runs", "")) == ("peek-runs" in names)
        assert page.count(" <small>default</small>") == 2 * ("peek-runs" in names)


def test_broken_merges_are_drawn_where_there_are_any(guests):
    settings = Settings(policy="random", pace=PagesPerSecond, by_bytes=False)
    changing = Run(guests, settings, COSTS).go()
    assert changing.cow_breaks
    saved, broken = axes_of(lambda canvas: course_plot.draw_course(changing, PAGE, canvas))
    assert saved.get_ylabel() == "MiB"
    assert "broken" in broken.get_ylabel()
    (steps,) = broken.patches
    values, edges, _ = steps.get_data()
    lengths = [later - earlier for earlier, later in pairwise(edges)]
    assert sum(value * length for value, length in zip(values, lengths, strict=True)) == pytest.approx(
        changing.cow_breaks - changing.samples[0].cow_breaks
    )
    still = Run(history(like_guests(guests=2, pages=64)), settings, COSTS).go()
    assert len(axes_of(lambda canvas: course_plot.draw_course(still, PAGE, canvas))) == 1
