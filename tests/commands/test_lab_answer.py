"""``pageshare lab answer``: a page with plots from many runs."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from command_line import flat, run
from pageshare.lab.answers import ANSWERS, clearing, figures, give_back, misses, polls, together
from pageshare.lab.answers._seeds import Spread, over_seeds
from pageshare.render import lab_answers


def test_a_page_and_its_plots(capsys, tmp_path):
    status, out, _err = run(
        capsys, "lab", "answer", "together", "--quick", "--seeds", "1", "--json", "-o", str(tmp_path)
    )
    assert status == 0
    document = json.loads(out)
    assert document["simulation"].startswith("This is a simulation")
    assert document["seeds"] == 1
    names = lab_answers.files("together")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    text = (tmp_path / "together.md").read_text()
    assert "simulation in virtual time" in text
    assert "pageshare lab answer together --quick --seeds 1" in text
    assert not re.search(r"\{[{%]|nan", text)
    for name in names[1:]:
        assert f"({name})" in text
        assert (tmp_path / name).read_bytes().startswith(b"<?xml")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_json_has_all_that_was_found_by_name_and_null_for_what_is_not_known(capsys, tmp_path):
    status, out, _err = run(
        capsys, "lab", "answer", "sampling", "--quick", "--seeds", "1", "--json", "-o", str(tmp_path)
    )
    assert status == 0
    document = json.loads(out, parse_constant=pytest.fail)
    assert (document["seeds"], document["numbers"], document["seconds"]) == (1, [10, 100, 1000], 240)
    redis = next(one for one in document["watched"] if one["program"] == "redis")
    assert set(redis["figures"]["largest of three, 100, 30"]["rmse"]) == {"mean", "deviation", "seeds"}
    assert redis["figures"]["largest of three, 100, 30"]["rmse"]["deviation"] is None
    assert 0 < redis["figures"]["annotation, 0, 5"]["rmse"]["mean"] < 1
    assert "0.125, 0.5" in redis["gains"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("answer",), 2, "name one of figures, "),
        (("answer", "no-such"), 2, "name one of figures, "),
        (("answer", "polls", "-o", "no/such"), 1, "there is no such folder"),
        (("figure-7", "polls"), 2, "belong to `pageshare lab answer NAME`"),
        (("figure-7", "--quick"), 2, "belong to `pageshare lab answer NAME`"),
        (("figure-7", "-o", "."), 2, "belong to `pageshare lab answer NAME`"),
        (("figure-7", "--traces"), 2, "--traces: for `pageshare lab list`"),
        (("list", "--quick"), 2, "belong to `pageshare lab answer NAME`"),
        (("list", "--set", "host.tax=0"), 2, "--set: `pageshare lab list` takes --programs, --estimators"),
        (("list", "--seeds", "2"), 2, "--seeds: `pageshare lab list` takes --programs, --estimators"),
    ],
)
def test_what_is_refused_is_one_line(capsys, arguments, status, said):
    got, out, err = run(capsys, "lab", *arguments)
    assert (got, out) == (status, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "given",
    [
        *(("--html", "x"), ("--svg", "x"), ("--png", "x"), ("--csv", "x"), ("--parquet", "x")),
        *(("--set", "host.tax=0"), ("--seed", "0"), ("--check",), ("--record-touches", "x"), ("--programs",)),
    ],
)
def test_what_an_answer_does_not_take_is_refused(capsys, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "lab", "answer", "together", "--quick", "--seeds", "1", *given)
    assert (status, out) == (2, "")
    takes = "`pageshare lab answer` takes -o, --quick, --seeds, --force, --json and --quiet"
    assert err == f"pageshare lab: {given[0]}: {takes}\n"
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked(capsys, tmp_path):
    (tmp_path / "polls.md").write_text("mine")
    status, _out, err = run(capsys, "lab", "answer", "polls", "-o", str(tmp_path))
    assert status == 1
    assert "polls.md exists" in err
    assert (tmp_path / "polls.md").read_text() == "mine"


def test_an_interrupt_ends_all_processes_and_leaves_no_file(tmp_path):
    command = [sys.executable, "-m", "pageshare", "lab", "answer", "polls", "-o", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    _until(lambda: len(_group(process.pid)) >= 3)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert (out, err) == (b"", b"")
    assert not list(tmp_path.iterdir())
    _until(lambda: not _group(process.pid))


def _until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _group(number):
    """Processes of a group, but for those that have ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == number and state != "Z":
            found.append(path.parent.name)
    return found


ONE = Spread.of([1.0, 2.0])


def test_a_page_on_clearing_says_what_was_run():
    quick = clearing.answer(1, quick=True)
    text = flat(lab_answers.page_of("clearing", quick, "x").text)
    assert "All programs are made up." in text
    assert "the first 60 s of 240 are left out" in text
    assert "Traces" not in text
    assert "ecorded" not in text
    assert "ruby" not in text
    assert "Made by `x`; one seed." in text
    lags = dict.fromkeys(clearing.WATCHED, 7.0)
    rows = [clearing.Row(source, quick.rows[0].figures, lags) for source in clearing.SOURCES]
    none = dict.fromkeys(clearing.WATCHED, math.nan)
    rows[1] = clearing.Row(clearing.SOURCES[1], rows[1].figures, none)
    text = flat(lab_answers.page_of("clearing", clearing.Answer(10, rows), "x").text)
    assert "Eight of the programs are recorded ones ([traces.md](traces.md)); the others are made up." in text
    assert "looked at this says little. Traces are eight minutes long, begin again, and know time to 0.2 s; the" in text
    assert f"the first {clearing.WARM_UP} s of {clearing.DURATION} are left out" in text
    assert "means of 10 seeds ± their standard deviation" in text
    assert f"| {clearing.SOURCES[0].name} |{' 7 |' * len(clearing.WATCHED)}" in text
    assert f"| {clearing.SOURCES[1].name} | |" not in text
    of_traces = sum(source.trace for source in clearing.SOURCES)
    good = {name: figures | {"bias": Spread(0.05, 0.01, 10)} for name, figures in quick.rows[0].figures.items()}
    good["panel-collectors"] |= {"bias": Spread(0.004, 0.001, 10), "ratio": Spread(0.45, 0.1, 10)}
    bad = good | {"panel-collectors": good["panel-collectors"] | {"bias": Spread(0.03, 0.01, 10)}}
    worse = good | {"panel-collectors": good["panel-collectors"] | {"ratio": Spread(1.2, 0.1, 10)}}
    judged = [clearing.Row(source, good, none) for source in clearing.SOURCES]
    judged[7] = clearing.Row(clearing.SOURCES[7], bad, none)
    judged[8] = clearing.Row(clearing.SOURCES[8], worse, none)
    text = flat(lab_answers.page_of("clearing", clearing.Answer(10, judged), "x").text)
    assert f"two points on {of_traces - 1} of {of_traces} recorded programs; not of ruby (3.0 ± 1.0)." in text
    plain = sum(source.beside == clearing.NONE for source in clearing.SOURCES)
    assert f"ESX's on {plain - 1} of {plain} (greater: steady), and half of it or less on {plain - 1}." in text
    assert "| apache | recorded | none | 0.4 ± 0.1 | yes | 0.45 ± 0.10 | half |" in text
    text = flat(lab_answers.page_of("clearing", clearing.Answer(10, [rows[0], rows[-1]]), "x").text)
    assert "One of the programs is a recorded one (" in text


@pytest.mark.parametrize(
    ("kernels", "minutes", "said"),
    [
        ((0.01,), (2, 4, 2), "structures, of which only 0.01 was run: none was chosen. The load"),
        (figures.KERNELS, (12, 40, 40), "chosen among 0.02, 0.04, 0.06, 0.08, 0.1 by the overhead at 128 MB: 0.02."),
    ],
)
def test_a_page_on_figures_says_what_was_run(kernels, minutes, said):
    booted, taxed, drawn = minutes
    dbench = [figures.Dbench(size, 128, kernel) for kernel in kernels for size in (128, 256)]
    cases = (
        dbench,
        [figures.Touching(zeroing) for zeroing in (True, False)],
        [figures.Taxed(tax, taxed) for tax in (0.0, 0.75)],
        [figures.Booted(sharing, booted) for sharing in (True, False)],
    )
    rows = [[figures.Row(case, defaultdict(lambda: ONE)) for case in each] for each in cases]
    curves = figures.Curves([0.0, float(drawn)], {})
    text = flat(lab_answers.page_of("figures", figures.Answer(1, *rows, curves, curves), "x").text)
    assert said in text
    assert ("| not fitted |" if len(kernels) == 1 else "| fitted |") in text
    assert f"over the second half of {taxed} minutes, each tax rate" in text
    assert f"for its first {booted} minutes:" in text
    assert f"swapped out in all {booted} minutes" in text
    assert f"one run of {drawn} minutes]" in text


@pytest.mark.parametrize(
    ("given", "seeds", "command"),
    [((), 2, "give-back --quick`; means of 2"), (("--seeds", "3"), 3, "give-back --quick --seeds 3`; means of 3")],
)
def test_a_quick_page_is_of_few_runs_and_says_so(capsys, tmp_path, monkeypatch, given, seeds, command):
    run_ones = []

    def scene(variant, seed):
        run_ones.append((variant, seed))
        return dict.fromkeys(["events", "pops", "resets", *give_back.BREAKS], 0.0)

    monkeypatch.setattr(give_back, "scene", scene)
    status, out, _err = run(capsys, "lab", "answer", "give-back", "--quick", "--json", "-o", str(tmp_path), *given)
    assert status == 0
    document = json.loads(out)
    assert (document["seeds"], document["scenes"]) == (seeds, 2 * seeds)
    assert len(set(run_ones)) == len(run_ones) == len(give_back.VARIANTS) * 2 * seeds
    text = flat((tmp_path / "give-back.md").read_text())
    assert command in text
    assert "**A quick run of a few cases, shortly: it shows what the page looks like, and answers nothing**" in text
    assert "2 random runs for each seed:" in text


def test_a_page_on_coming_back_says_what_helped_where_it_did():
    def text(*paged):
        ones = defaultdict(lambda: ONE)
        needs = [
            give_back.Row(need.name, {"milliseconds": ONE, "paged": Spread.of([pages])})
            for need, pages in zip(give_back.NEEDS, paged, strict=True)
        ]
        variants = [give_back.Row(variant.name, ones) for variant in give_back.VARIANTS]
        return flat(lab_answers.page_of("give-back", give_back.Answer(1, 10, (), variants, needs), "x").text)

    assert "10 random runs for each seed:" in text(256.0, 0.0, 0.0)
    assert "quick" not in text(256.0, 0.0, 0.0)
    assert "before they are needed; a driver that pleads needs no such luck." in text(256.0, 0.0, 0.0)
    assert "before they are needed. " in text(256.0, 0.0, 256.0) + " "
    assert "The doorbell helps" not in text(256.0, 256.0, 0.0)
    assert "so it pages out" not in text(0.0, 0.0, 0.0).partition("## A guest that needs")[2]


def _rows_of_polls(shares, messages, estimator):
    """Forms of balloon that leave guests waiting such shares of the time."""

    def row(form):
        figures = defaultdict(lambda: ONE)
        for name, value in (("stalled", shares[form.name]), ("messages", messages.get(form.name, 10.0))):
            figures[name] = Spread.of([value])
        return polls.Row(polls.Case(form, estimator=estimator, disk="flash"), figures)

    return [row(form) for form in polls.FORMS if form.name in shares]


def test_a_page_on_polls_says_whether_the_goal_was_met():
    names = [form.name for form in (polls.SECOND_POLL, polls.FAST_POLL, polls.RUNG, polls.PLEADS, polls.BOTH)]
    waits = dict(zip(names, (0.02, 0.0, 0.03, 0.01, 0.001), strict=True))
    messages = {polls.FAST_POLL.name: 800.0}
    own = _rows_of_polls(waits, messages, "guest-statistics")
    sample = _rows_of_polls(dict.fromkeys(names, 0.05) | {polls.BOTH.name: 0.04}, {}, "esx")
    text = flat(lab_answers.page_of("polls", polls.Answer(1, own[:0], [*own, *sample], []), "x").text)
    assert "It is **met** with targets by the guests' own statistics, **not met** with targets by ESX's sample." in text
    assert "Wherever it is met, it is by *doorbell, pleads*." in text
    assert "*doorbell, pleads* waits least: 0.10 %, 0.050 times as long, at 10.0 messages." in text
    assert "Waiting as short, but at more messages: *poll, 10 ms* (800.0)." in text
    assert "**Not met on flash, targets by ESX's sample, free memory scattered.**" in text
    assert "Nothing that was run waits a tenth as long, at any number of messages." in text
    assert "So, without polling as fast, it takes all three" in text
    assert "1.00 where they go by ESX's sample of 30 s, since the driver can only take what the targets say." in text
    assert "- A doorbell alone: 1.50." in text
    assert "Four guests of 160 MB each on a host of 512 MB: together they have 125 % of it." in text
    own = _rows_of_polls(waits | {polls.RUNG.name: 0.0}, messages, "guest-statistics")
    text = flat(lab_answers.page_of("polls", polls.Answer(1, own[:0], [*own, *sample], []), "x").text)
    assert "it takes all three" not in text
    assert "- A doorbell alone: 0.00." in text
    own = _rows_of_polls({name: waits[name] for name in names[:2]}, messages, "guest-statistics")
    text = flat(lab_answers.page_of("polls", polls.Answer(1, own[:0], own, []), "x").text)
    assert "It is **not met** with targets by the guests' own statistics. -" in text
    assert "Nothing else that was run needs no more messages. Waiting as short, but" in text
    assert "all three" not in text
    assert "ESX's sample" not in text


def test_a_page_on_polls_says_what_is_best_however_fast_need_rises():
    def row(form, waits, messages, rise):
        figures = defaultdict(lambda: ONE, stalled=Spread.of([waits]), messages=Spread.of([messages]))
        return polls.Row(polls.Case(form, rise=rise, disk="disk"), figures)

    forms = (polls.SECOND_POLL, polls.ADAPTIVE, polls.RUNG)
    fast = [row(form, waits, 10.0, 0.1) for form, waits in zip(forms, (0.3, 0.2, 0.4), strict=True)]
    slow = [row(*each, 10.0) for each in zip(forms, (0.08, 0.03, 0.24), (10.0, 28.0, 9.0), strict=True)]
    never = [row(form, 0.0, 10.0, 100.0) for form in forms]
    periods = [row(polls.Form("poll, 1 s", polls.Polls()), 0.3, 10.0, 0.1)]
    text = flat(lab_answers.page_of("polls", polls.Answer(1, periods, fast, [*slow, *never]), "x").text)
    best = "0.1 s on disk: *poll, adaptive, 10 ms to 1 s*, 20.00 %, 0.67 times the one-second poll's 30.00 %."
    words = "- 10 s on disk: nothing waits less than the one-second poll, 8.00 %."
    assert f"where the one-second poll waits at all: - {best} {words}" in text
    assert "100 s on disk: " not in text
    slower = "within 10 s on a disk, adaptive polls wait 0.4 times as long as the one-second poll, at 28 messages"
    assert f"{slower} a second instead of 10, and a doorbell alone 3.0 times." in text
    assert "| poll, adaptive, 10 ms to 1 s | 20.00 | 10.0 | 3.00 | 28.0 | 0.00 | 10.0 |" in text


def test_a_page_on_misses_tells_what_collectors_make_of_the_curve():
    quick = misses.answer(2, quick=True)
    redis, java = quick.rows
    assert (redis.others, java.others) == (False, True)
    assert redis.all == redis.work
    # What is watched at a small part is near what is watched in all, and each curve falls from one.
    for row in quick.rows:
        for curve in (row.all, row.work, *(each.curve for each in row.sampled.values())):
            assert curve[0] == 1
            assert all(one >= next_ for one, next_ in pairwise(curve))
        errors = [row.sampled[rate].error.mean for rate in misses.RATES]
        assert errors[-1] < errors[0] < 0.05
    text = flat(lab_answers.page_of("misses", quick, "x", quick=True).text)
    assert "**Collectors and clearing threads** touch what nobody uses" in text
    wide, narrow = (tuple(max(0.05, 1 - place / most) for place in range(101)) for most in (100, 50))
    rows = [misses.Row("made", 1000, True, wide, narrow, java.sampled)]
    text = flat(lab_answers.page_of("misses", misses.Answer(2, rows), "x").text)
    assert "asks, of the program's pages, for made 90 % instead of 45 %." in text
    assert "these programs have 1,000 to 1,000 pages" in text
    rows = [misses.Row("made", 1000, False, wide, wide, java.sampled)]
    assert "Collectors" not in lab_answers.page_of("misses", misses.Answer(2, rows), "x").text


def test_what_memory_a_curve_asks_for():
    curve = (1.0, 0.5, 0.2, 0.1, 0.1)
    assert [misses.needed(curve, most) for most in (1.0, 0.4, 0.2, 0.1)] == [0, 0.5, 0.5, 0.75]
    assert math.isnan(misses.needed(curve, 0.05))


def _rows_of_together(costs, pressure, disk="disk"):
    """Rates, and the cost at each, which is all lost by waiting."""
    return [
        together.Row(
            together.Case(together.MIXES[0], pressure, rate, disk=disk),
            defaultdict(
                lambda: Spread.of([0.01]),
                cost=cost,
                lost=cost,
                waits=Spread.of([cost.mean / together.GUESTS / together.PER_GIB]),
            ),
        )
        for rate, cost in costs.items()
    ]


def test_a_page_on_scanning_concludes_what_was_found():
    none, some, less = (Spread(cost, 0.001, 10) for cost in (0.0, 0.4, 0.1))
    rows = [
        *_rows_of_together({0.0: none, 100.0: none}, 0.9),
        *_rows_of_together({0.0: some, 100.0: less}, 1.25),
        *_rows_of_together({0.0: less, 100.0: some}, 2.0, "flash"),
    ]
    text = flat(lab_answers.page_of("together", together.Answer(10, 1.2, rows, rows[:1]), "x").text)
    assert "**Without pressure**, at 0.9, guests wait for nothing" in text
    best = "where sharing can save a tenth, from 40.00 to 10.00 % at a pressure of 1.25 (100/s). 100/s is the fastest"
    assert f"**On a disk** the best rate brings the cost, {best} that was tried." in text
    assert "**On flash** where guests wait, no rate that was tried is worth its CPU. The fastest, 100/s, brings" in text
    assert "from 10.00 to 40.00 % at a pressure of 2 (the scan takes 1.00 %)." in text
    assert "is 20 % at 1.25 and 50 % at 2; sharing could save 10 % or 32 %" in text
    assert "102 us from flash, as long as 85 pages scanned." in text
    rows = _rows_of_together({0.0: Spread.of([0.4]), 100.0: Spread.of([0.1])}, 1.25)
    text = flat(lab_answers.page_of("together", together.Answer(1, 1.2, rows, rows[:1]), "x").text)
    assert "Without pressure" not in text
    assert "flash" not in text
    assert "| 1.25 | 100/s | 10.00 | 40.00 | 1.25 |" in text
    assert "at a pressure of 1.25 (100/s)" in text


def test_lines_are_of_a_width_and_mean_what_they_did():
    words = " ".join(["word"] * 40)
    table = "| a | b |\n| --- | ---: |\n| " + "x" * 200 + " | 1 |"
    code = "```console\n$ " + "y" * 200 + "\n\n- no list " + "z" * 200 + "\n```"
    lists = f"- {words}\n- two\n  lines\n\n1. {words}\n2. second"
    text = f"# {words}\n\n{words}\n{words}\n\n\n{table}\n\n\n{code}\n\n{lists}\n\n![{words}](plot.svg)\n"
    found = lab_answers.wrapped(text)
    assert flat(found) == flat(text)
    assert lab_answers.wrapped(found) == found
    assert max(map(len, re.sub(r"(?m)^(#|\||!|\$|- no).*", "", found).split("\n"))) == lab_answers.WIDTH
    for kept in (f"# {words}\n\n", f"\n\n{table}\n\n", f"\n\n{code}\n\n", f"\n![{words}](plot.svg)\n"):
        assert kept in found
    assert "\n- two lines\n\n1. word" in found
    assert "\n  word" in found
    assert "\n   word" in found
    assert "\n2. second\n" in found
    for place in range(118, 128):
        for mark in ("-", "+", "1.", "#", ">", "`one two`", "1 ± 2", "5 %", "5 ms"):
            found = lab_answers.wrapped(f"{'w' * place} {mark} w\n")
            assert not re.search(r"\n([-+#>]|1\.) |`one\n|\n[±%2m]|[1±5]\n", found)


def test_every_answer_has_a_page():
    for name in ANSWERS:
        assert lab_answers.files(name)[0] == f"{name}.md"


def test_a_balloon_that_is_rung_and_pleads_waits_a_tenth_at_no_more_messages():
    """The goal, on one seed and shortly: docs/lab/polls.md has ten."""
    second, best = (
        polls.run(polls.Case(form, disk="flash", seconds=40), 1)
        for form in (polls.SECOND_POLL, polls.LARGE)
    )
    assert best["stalled"] <= second["stalled"] / 10
    assert best["messages"] <= second["messages"]
    assert second["stalled"] > 0.001


def _cube(case, seed):
    return {"cube": float(case * seed**3)}


def test_runs_are_the_same_in_other_processes_and_in_order():
    here = over_seeds(_cube, [1, 2, 3], 4, workers=0)
    assert here == over_seeds(_cube, [1, 2, 3], 4, workers=2)
    assert [each["cube"].mean for each in here] == [25.0, 50.0, 75.0]


def test_a_spread_is_that_of_a_sample():
    found = Spread.of([1.0, 2.0, 4.0])
    assert (found.mean, found.seeds) == (pytest.approx(7 / 3), 3)
    assert found.deviation == pytest.approx(1.5275252)
    assert str(Spread.of([1.0]).deviation) == "nan"
