"""The views of replays and comparisons, on documents made for them."""

import io
import json
from dataclasses import replace
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
    svg = plot.drawn(
        lambda canvas: course_plot.draw_policies(odd, canvas, over_time=bool(pace)), "svg", (8, 4)
    ).decode()
    assert "<script" not in svg
    assert "onload=x>" not in svg.replace("&gt;", "")
    document["policies"][0]["name"] = HOSTILE
    page = policies_page.page(document, "200 pages/s", svg)
    assert page.count("<script") == page.count("</script>") == 1
    assert "<svg onload" not in page
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
