"""``pageshare lab``: what it prints and writes, that it says what it is, and what it refuses."""

import csv
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from command_line import run, run_json
from pageshare.lab import scenario, trace
from pageshare.lab.report import SIMULATION
from pageshare.render import lab as render
from pageshare.render import lab_study
from pageshare.render.console import laid_out
from read_views import Page

SMALL = """
about = "Two of a kind"
duration = "40s"
every = "1s"
[host]
memory = "2560 KiB"
sharing = true
[[guest]]
name = "a"
memory = "2 MiB"
[[guest.program]]
name = "phases"
length = "10s"
[[guest]]
name = "b"
memory = "2 MiB"
[[guest.program]]
name = "steady"
[[change]]
at = "20s"
tax = 0.5
"""
BRIEF = ["--set", "duration=8s", "--set", "every=1s", "--quiet", "--check"]


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def flat(text):
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("name", sorted(set(scenario.built_in()) - {"estimators"}))
def test_each_scenario_runs_and_no_page_is_lost(capsys, name):
    brief = [*BRIEF, "--set", "change.at=4s"] if name in ("figure-7", "restart") else BRIEF
    document = run_json(capsys, "lab", name, *brief)
    assert document["seconds"] == 8
    assert document["host"]["checks"] == 8
    assert len(document["samples"]["seconds"]) == 9
    assert document["scenario"] == name


def test_every_page_is_accounted_for_at_the_end_or_at_each_sample(capsys, small):
    assert run_json(capsys, "lab", small)["host"]["checks"] == 1
    assert "accounted for" not in run(capsys, "lab", small)[1]
    text = flat(run(capsys, "lab", small, "--check")[1])
    samples = len(run_json(capsys, "lab", small)["samples"]["seconds"]) - 1
    assert f"every page is accounted for at each of {samples:,} samples" in text
    told = run_json(capsys, "lab", small) | {"format": ""}
    told["host"] |= {"pops": 3, "checks": 1}
    assert "every page is accounted for at the end: none lost" in "".join(render.lines(told))


def test_what_people_read(capsys, small):
    status, out, err = run(capsys, "lab", small)
    assert (status, err) == (0, "")
    text = flat(out)
    assert SIMULATION in text
    assert "What it is calibrated against" in text
    assert "states of free memory: 6 % / 4 % / 2 % / 1 % (Waldspurger, OSDI 2002, section 6.3)" in text
    assert "disk: 5 ms a seek, 100 MiB/s (assumed" in text
    assert "load: phases (made up)" in text
    assert re.match(r"The host swapped .*; guests waited [\d.]+ % of the time\.", out)
    assert max(map(len, out.splitlines())) <= 80


def test_json_is_whole_and_adds_up(capsys, small):
    document = run_json(capsys, "lab", small)
    assert document["format"] == "pageshare-lab/1"
    assert document["simulation"] == SIMULATION
    assert {"what", "value", "source"} == set(document["calibration"][0])
    samples, host = document["samples"], document["host"]
    assert samples["seconds"] == list(range(41))
    assert all(len(column) == 41 for column in samples["host"].values())
    assert sum(host["states"].values()) == pytest.approx(40)
    assert host["swapped_out"] == samples["host"]["swapped_out"][-1]
    for guest, column in zip(document["guests"], samples["guests"], strict=True):
        assert guest["name"] == column["name"]
        assert guest["allocated"] == pytest.approx(np.mean(column["allocated"]), abs=0.01)
        assert guest["ran"] + guest["waited"] == pytest.approx(40)
        assert guest["estimated"] == pytest.approx(np.mean(column["estimate"]), abs=0.01)
    first, second = document["stretches"]
    assert (first["begin"], first["end"], second["change"], second["end"]) == (0, 20, "tax 50 %", 40)
    assert first["swapped_out"] + second["swapped_out"] == host["swapped_out"]
    assert samples["host"]["tax"][19:22] == [0.75, 0.5, 0.5] or samples["host"]["tax"][19:22] == [0.75, 0.75, 0.5]
    assert document["table"]["guest"][0]["name"] == "a"


def test_a_change_beyond_the_end_is_told(capsys, small, tmp_path):
    assert run_json(capsys, "lab", small)["beyond_end"] == []
    assert "beyond" not in run(capsys, "lab", small)[1]
    shortly = ["lab", small, "--set", "duration=19s", "--set", "every=1s"]
    document = run_json(capsys, *shortly)
    assert document["beyond_end"] == [{"at": 20, "change": "tax 50 %"}]
    assert len(document["stretches"]) == 1
    assert set(document["samples"]["host"]["tax"]) == {0.75}
    told = "the change at 20 s (tax 50 %) lies beyond the end, 19 s: it did not happen"
    status, out, _err = run(capsys, *shortly, "--html", tmp_path / "x.html")
    assert status == 0
    assert told in flat(out)
    assert told in flat((tmp_path / "x.html").read_text(encoding="utf-8"))
    small.write_text(SMALL + '[[change]]\nat = "1h"\ntax = 0.25\n', encoding="utf-8")
    told = "2 changes, from 20 s (tax 50 %) on, lie beyond the end, 19 s: they did not happen"
    assert told in flat(run(capsys, *shortly)[1])


def test_seeds_are_means_and_spreads(capsys, small):
    alone = [run_json(capsys, "lab", small, "--seed", seed) for seed in (3, 4, 5)]
    together = run_json(capsys, "lab", small, "--seed", 3, "--seeds", 3)
    assert together["seeds"] == [3, 4, 5]
    for key in ("allocated", "ran", "estimated"):
        values = [document["guests"][0][key] for document in alone]
        assert together["guests"][0][key] == pytest.approx(np.mean(values))
        assert together["spread"]["guests"][0][key] == pytest.approx(np.std(values, ddof=1))
    assert together["samples"] == alone[0]["samples"]
    assert alone[0]["spread"] is None
    status, out, _err = run(capsys, "lab", small, "--seeds", 2)
    assert status == 0
    assert "means of 2 seeds" in flat(out)
    assert "+-" in out


def test_captions_speak_of_columns_that_are_shown(capsys, small, study):
    document = run_json(capsys, "lab", small, "--seed", 2)
    assert document["host"]["most_saved"] > 0

    def shown(width):
        return laid_out(lambda console: render.write(document, console), width=width)

    def below(title, text):
        return flat(text.partition(f"\n{title}\n")[2].partition("\n\n")[0])

    ran = "Ran: in that half, not since the guest began, as in the table of guests."
    assert ran in below("Before and after changes", shown(80))
    assert "perhaps swapped, paged out or shared: it may be more than the guest has" in below("Guests", shown(80))
    title = "What guests waited for, and did themselves"
    paged = "Paged: by the guest itself, to its own disk. Dropped, read: pages of files."
    assert below(title, shown(80)).endswith(paged)
    assert below(title, shown(200)).endswith(
        f"{paged} Messages: of its balloon, both ways. RESETs: how often the host told its driver to begin anew;"
        " one of a guest that is reset does so unasked. Visits, faults: of its estimator."
        " Looks: what these take, and the guest waits for."
    )
    assert "Shared: what sharing saves. Columns with guests' names: what each has." in flat(shown(80))
    document = run_json(capsys, "lab", small, "--set", "host.sharing=false")
    assert re.search(r" [KM]iB Columns with guests' names: what each has\.$", below("Course", shown(80)))
    document = run_json(capsys, "lab", study)
    for faults, words in ((10, "Visits, faults, CPU: each 30 s."), (10**50, " fit best. Visits: each 30 s.")):
        for program in document["programs"]:
            program["estimators"][0]["faults"] = faults
        assert flat(laid_out(lambda console: lab_study.write(document, console))).count(words) == 1


def test_a_key_is_set(capsys, small):
    document = run_json(capsys, "lab", small, "--set", "host.tax=0.25", "--set", "guest.b.memory=1 MiB")
    assert document["samples"]["host"]["tax"][0] == 0.25
    assert [guest["memory"] for guest in document["guests"]] == [512, 256]


def test_files_appear_for_their_owner_and_say_what_they_are(capsys, small, tmp_path):
    svg, png, html = (tmp_path / f"x.{form}" for form in ("svg", "png", "html"))
    folders = ["--csv", tmp_path / "csv", "--parquet", tmp_path / "parquet"]
    status, _out, err = run(capsys, "lab", small, "--svg", svg, "--png", png, "--html", html, *folders)
    assert (status, err) == (0, "")
    made = [svg, png, html, *(tmp_path / "csv").iterdir(), *(tmp_path / "parquet").iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in svg.read_text()
    page = Page(html.read_text(encoding="utf-8"))
    assert SIMULATION in flat(html.read_text(encoding="utf-8"))
    assert page is not None
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html.read_text(), re.DOTALL)
    assert json.loads(data[1])["format"] == "pageshare-lab/1"
    status, _out, err = run(capsys, "lab", small, "--svg", svg)
    assert (status, err) == (1, f"pageshare lab: {svg} exists: choose another name, or use --force\n")


def test_parquet_has_all_samples_and_says_where_they_come_from(capsys, small, tmp_path):
    document = run_json(capsys, "lab", small, "--parquet", tmp_path / "out")
    table = pyarrow.parquet.read_table(tmp_path / "out" / "guest-samples.parquet")
    assert table.num_rows == 2 * 41
    of_b = [row for row in table.to_pylist() if row["guest"] == "b"]
    column = document["samples"]["guests"][1]
    assert [row["seconds"] for row in of_b] == document["samples"]["seconds"]
    for key in column:
        if key != "name":
            assert [row[key] for row in of_b] == pytest.approx(column[key])
    metadata = table.schema.metadata
    assert metadata[b"note"].decode() == SIMULATION
    assert json.loads(metadata[b"calibration"]) == document["calibration"]
    assert json.loads(metadata[b"table"])["about"] == "Two of a kind"
    assert table.schema.field("allocated").metadata[b"unit"] == b"pages"
    assert table.schema.field("ran").metadata[b"unit"] == b"seconds"
    host = pyarrow.parquet.read_table(tmp_path / "out" / "host-samples.parquet")
    assert host.column("free").to_pylist() == document["samples"]["host"]["free"]


def test_data_are_numbers_with_units_and_name_guests(capsys, small, tmp_path):
    folders = ["--csv", tmp_path / "csv", "--parquet", tmp_path / "parquet"]
    document = run_json(capsys, "lab", small, *folders)
    found = csv.DictReader((tmp_path / "csv" / "host.csv").read_text(encoding="utf-8").splitlines())
    rows = {row["what"]: (float(row["value"]), row["unit"]) for row in found}
    host = document["host"]
    assert rows["time in state high"] == (host["states"]["high"], "seconds")
    assert rows["swapped out"] == (host["swapped_out"], "pages")
    assert rows["CPU time of scanning"] == (host["sharing"]["cpu_seconds"], "seconds")
    assert rows["changes of state"] == (host["state_changes"], "count")
    kept = pyarrow.parquet.read_table(tmp_path / "parquet" / "host.parquet")
    assert {row["what"]: (row["value"], row["unit"]) for row in kept.to_pylist()} == rows
    names = ["seconds", "state", "free", "swapped_out", "saved", "allocated a", "allocated b"]
    assert pyarrow.parquet.read_schema(tmp_path / "parquet" / "course.parquet").names == names
    first, *_others = (tmp_path / "csv" / "course.csv").read_text(encoding="utf-8").splitlines()
    assert first == ",".join(names)


def test_touches_are_recorded_and_can_be_run(capsys, small, tmp_path):
    recorded = tmp_path / "a.parquet"
    before = run_json(capsys, "lab", small, "--record-touches", f"a={recorded}")
    found = trace.read(recorded)
    assert (found.pages, found.interval) == (512, 100_000)
    assert {actor.intent for actor in found.actors} == {"work"}
    assert scenario.trace_sentence(recorded) == "a simulated guest's, of scenario small"
    assert scenario.trace_sentence(small) == "a recorded trace"
    again = tmp_path / "again.toml"
    again.write_text(SMALL.replace('name = "phases"\nlength = "10s"', 'trace = "a.parquet"'), encoding="utf-8")
    after = run_json(capsys, "lab", again)
    # The same pages at the same of the guest's times: as far as it got in the first run, it uses as much.
    one, other = (document["samples"]["guests"][0]["active"][:10] for document in (before, after))
    assert other == pytest.approx(one, abs=2)
    assert any(line["source"].startswith("recorded: a simulated guest's") for line in after["calibration"])


BRIEFLY = """
import numpy as np

from pageshare.lab.programs import RELEASED, WRITTEN, Touch


class Buffer:
    \"\"\"Fills 256 pages each second, and gives them back at once.\"\"\"

    pages = 256

    def run(self, begin, end):
        if begin % 1_000_000 == 0:
            yield Touch(np.arange(256, dtype=np.uint32), WRITTEN | RELEASED)
"""


def test_several_programs_recorded_and_what_lasts_no_step_are_run_again(capsys, small, tmp_path):
    (tmp_path / "own.py").write_text(BRIEFLY, encoding="utf-8")
    second = '[[guest.program]]\nname = "own.py:Buffer"\n'
    small.write_text(SMALL.replace('length = "10s"', f'length = "10s"\npages = "1 MiB"\n{second}'), encoding="utf-8")
    recorded = tmp_path / "a.parquet"
    before = run_json(capsys, "lab", small, "--record-touches", f"a={recorded}")
    assert {actor.thread >> 16 for actor in trace.read(recorded).actors} == {0, 1}
    again = tmp_path / "again.toml"
    programs = SMALL.index("[[guest.program]]"), SMALL.index('[[guest]]\nname = "b"')
    text = SMALL[: programs[0]] + '[[guest.program]]\ntrace = "a.parquet"\n' + SMALL[programs[1] :]
    again.write_text(text, encoding="utf-8")
    after = run_json(capsys, "lab", again)
    one, other = (document["samples"]["guests"][0]["active"][:10] for document in (before, after))
    # A third of the phases' pages at most, and all of the buffer, which is never there at a sample.
    assert min(one[1:]) > 256
    assert other == pytest.approx(one, abs=2)
    assert before["samples"]["guests"][0]["free"][5] >= 256
    study = 'duration = "10s"\n[study]\n[[study.program]]\ntrace = "a.parquet"\n[[study.estimator]]\nname = "esx"\n'
    again.write_text(study, encoding="utf-8")
    found = run_json(capsys, "lab", again)["programs"][0]["samples"]
    ends = [found["truth"][found["seconds"].index(second)] for second in (2.0, 5.0)]
    assert [round(share * 512) for share in ends] == pytest.approx([one[2], one[5]], abs=2)


def test_a_reset_releases_what_the_guest_had(capsys, tmp_path):
    recorded, reset = tmp_path / "b.parquet", tmp_path / "reset.toml"
    text = SMALL.replace("tax = 0.5", 'guest = "b"\nrestart = true\nboots = "1s"')
    reset.write_text(text.replace('name = "steady"', 'name = "steady"\nafter = "2s"'), encoding="utf-8")
    run_json(capsys, "lab", reset, "--record-touches", f"b={recorded}")
    found = trace.read(recorded)
    had, released = set(), []
    for touches in map(found.touches, range(found.intervals)):
        gone = (touches.kinds & trace.RELEASED) != 0
        if gone.any():
            released.append(set(touches.pages[gone].tolist()))
            assert released[0] == had - set(touches.pages[~gone].tolist())
        had |= set(touches.pages.tolist())
    assert len(released) == 1
    assert released[0]


def test_a_recorded_trace_tells_the_command_that_made_it(capsys, small, tmp_path):
    recorded = tmp_path / "a guest's.parquet"
    change = ["--set", "guest.b.memory=1 MiB", "--set", "duration=5s"]
    run_json(capsys, "lab", small, *change, "--seed", 3, "--record-touches", f"a={recorded}")
    command = trace.read(recorded).about["command"]
    given = ["pageshare", "lab", "--json", str(small), *change, "--seed", "3", "--record-touches", f"a={recorded}"]
    assert shlex.split(command) == given
    first = recorded.read_bytes()
    recorded.unlink()
    assert run(capsys, *shlex.split(command)[1:])[0] == 0
    assert recorded.read_bytes() == first


def blocks(kind):
    """Code of one kind in docs/lab.md."""
    text = (Path(__file__).parents[2] / "docs" / "lab.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(2))
def test_the_scenarios_that_the_documentation_shows(capsys, tmp_path, number):
    path = tmp_path / "mine.toml"
    path.write_text(blocks("toml")[number], encoding="utf-8")
    assert run(capsys, "lab", path, "--set", "duration=200s")[0] == 0


def test_the_classes_that_the_documentation_shows(capsys, small):
    classes = "\n".join(code for code in blocks("python") if code.lstrip().startswith(("class", "import numpy")))
    assert 10 < len([line for line in blocks("python")[0].splitlines() if line.strip()]) < 17  # "a dozen lines"
    (small.parent / "mine.py").write_text(classes, encoding="utf-8")
    estimator = ["--set", "guest.a.estimator=mine.py:Bits", "--set", "guest.a.estimator={name='mine.py:Bits', n=50}"]
    program = ["--set", "guest.b.program.name=mine.py:Sawtooth", "--set", "guest.b.program.pages=1 MiB"]
    found = run_json(capsys, "lab", small, *estimator, *program, "--check", "--set", "duration=100s")
    one, other = found["samples"]["guests"]
    looked = one["visits"][-1]
    assert looked >= 100
    assert looked % 50 == 0
    assert one["estimate"][0] == 512
    assert one["estimate"][-1] < 512
    assert max(other["allocated"]) > 200
    assert len(set(other["free"])) > 2


def test_the_first_run_that_the_documentation_shows(capsys):
    command, *shown = blocks("console")[0].splitlines()
    status, out, _err = run(capsys, *shlex.split(command)[2:])
    assert status == 0
    assert len(shown) > 10
    assert [line for line in shown if line != " ..." and line not in out.splitlines()] == []


def test_the_call_that_the_documentation_shows(capsys):
    code = next(code for code in blocks("python") if "scenario.read(" in code)
    exec(compile(code, "docs/lab.md", "exec"), {})
    assert capsys.readouterr().out.startswith("30.0 ")


STUDY = """
duration = "6min"
[study]
warm_up = "1min"
memory = "2 MiB"
placement = "scattered"
[[study.program]]
name = "steady"
hot = 0.25
warm = 0
[[study.program]]
name = "phases"
pages = "1 MiB"
length = "1min"
[[study.estimator]]
name = "esx"
[[study.estimator]]
name = "own.py:Half"
label = "half"
"""
HALF = """
class Half:
    def __init__(self, view, *, after=0):
        self.active, self.view = 0.5, view

    def step(self):
        pass
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8")
    (tmp_path / "own.py").write_text(HALF, encoding="utf-8")
    return tmp_path / "study.toml"


def test_a_study_holds_estimators_against_the_truth(capsys, study, tmp_path):
    document = run_json(capsys, "lab", study, "--parquet", tmp_path / "out", "--seeds", 2)
    assert document["format"] == "pageshare-lab-study/1"
    assert document["simulation"] == SIMULATION
    assert [program["name"] for program in document["programs"]] == ["steady", "phases"]
    for program in document["programs"]:
        samples = program["samples"]
        kept = np.array(samples["seconds"]) > 60
        truth = np.array(samples["truth"])[kept]
        esx, half = program["estimators"]
        assert (esx["name"], half["name"]) == ("esx", "half")
        # Samples are of the first seed, and every fourth step; figures of all steps of two seeds.
        assert half["bias"] == pytest.approx(0.5 - truth.mean(), abs=0.02)
        assert half["rmse"] == pytest.approx(np.sqrt(((0.5 - truth) ** 2).mean()), abs=0.02)
        assert (half["visits"], half["spread"]["visits"]) == (0, 0)
        assert esx["visits"] == pytest.approx(100, abs=10)
    steady = document["programs"][0]
    assert steady["samples"]["truth"][-1] == pytest.approx(0.25, abs=0.01)
    # It writes all of its pages at first: in the warm-up, which is in no figure.
    assert steady["samples"]["truth"][0] == 1
    assert steady["truth"] == pytest.approx(0.25, abs=0.01)
    table = pyarrow.parquet.read_table(tmp_path / "out" / "samples.parquet")
    assert (
        table.column("estimate").to_pylist()[: len(steady["samples"]["seconds"])] == steady["samples"]["estimates"][0]
    )
    assert json.loads(table.schema.metadata[b"table"])["study"]["placement"] == "scattered"


CURVES = """
class Cycle:
    pages = 64

    def run(self, begin, end):
        import numpy as np
        from pageshare.lab.programs import READ, Touch
        yield Touch(np.arange(begin // 100_000 % 64, begin // 100_000 % 64 + 1, dtype=np.uint32), READ)


class Wrong:
    def __init__(self, view):
        self.active = 0.5

    def step(self):
        pass

    def misses(self):
        return [0, 64], [1, 1.5]
"""


def test_a_study_tells_curves_of_misses(capsys, study, tmp_path):
    (tmp_path / "own.py").write_text(CURVES, encoding="utf-8")
    one = '[[study.estimator]]\nname = "shards"\nrate = 1.0\nevery = 0.1\nlabel = "all"\n'
    one += '[[study.estimator]]\nname = "esx"\n'
    text = 'duration = "6min"\n[study]\n[[study.program]]\nname = "own.py:Cycle"\n' + one
    study.write_text(text, encoding="utf-8")
    document = run_json(capsys, "lab", study, "--csv", tmp_path / "csv", "--seeds", 2)
    shards, esx = document["programs"][0]["estimators"]
    assert esx["misses"] is None
    # Each of 64 pages is touched again after all the others: nothing less than all of them helps.
    assert shards["misses"][:99] == [1.0] * 99
    assert shards["misses"][100] == pytest.approx(64 / 3600, abs=1e-4)
    rows = (tmp_path / "csv" / "misses-1.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[-11:-1]] == ["1.0"] * 10
    status, out, _err = run(capsys, "lab", study, "--svg", tmp_path / "x.svg")
    assert status == 0
    assert re.search(r"touches that miss, by memory\nmemory +all\n +0 % +100 %\n", out)
    assert re.search(r"^ 100 % +1.8 %$", out, re.MULTILINE)
    assert "% of touches that miss" in (tmp_path / "x.svg").read_text()


OWN = """
class Half:
    def __init__(self, view):
        self.active, self.view = 0.5, view

    def step(self):
        CODE
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("self.view.costs.visits -= 1e6", "looks can't be taken back"),
        ("self.view.costs.visits = float('nan')", "has looked for nan us by now"),
        ("self.active = 2", "estimates 2.0: must be from 0 to 1"),
    ],
)
def test_what_an_estimator_of_ones_own_does_to_its_costs_is_looked_at(capsys, study, tmp_path, code, words):
    (tmp_path / "own.py").write_text(OWN.replace("CODE", code), encoding="utf-8")
    status, out, err = run(capsys, "lab", study)
    assert (status, out) == (1, "")
    assert words in err
    assert "own.py:Half" in err


@pytest.mark.parametrize("name", ["ask", "misses"])
def test_names_that_mean_something_are_methods(capsys, study, tmp_path, name):
    (tmp_path / "own.py").write_text(HALF.replace("0.5, view", f"0.5, view\n        self.{name} = 0"), encoding="utf-8")
    status, out, err = run(capsys, "lab", study)
    assert (status, out) == (1, "")
    assert f"has {name}, which is no method" in err


def test_what_ones_own_classes_print_is_in_nobodys_way(capsys, study, tmp_path):
    (tmp_path / "own.py").write_text(HALF.replace("        pass", '        print("here")'), encoding="utf-8")
    status, out, err = run(capsys, "lab", study, "--json")
    assert status == 0
    assert json.loads(out)["format"] == "pageshare-lab-study/1"
    assert "here\n" in err


def test_csv_says_that_it_is_a_simulation(capsys, small, study, tmp_path):
    for which in (small, study):
        assert run(capsys, "lab", which, "--csv", tmp_path / which.stem)[0] == 0
        _heading, first, *_rest = (tmp_path / which.stem / "calibration.csv").read_text().splitlines()
        assert first.startswith('what this is,"This is a simulation in virtual time')


def test_a_curve_of_ones_own_is_looked_at(capsys, study, tmp_path):
    (tmp_path / "own.py").write_text(CURVES, encoding="utf-8")
    study.write_text(STUDY.replace("own.py:Half", "own.py:Wrong"), encoding="utf-8")
    status, out, err = run(capsys, "lab", study)
    assert (status, out) == (1, "")
    assert "misses() gives shares that are not from 0 to 1" in err
    assert err.count("\n") == 1


TWICE = """[[study.program]]
name = "steady"
hot = 0.75
warm = 0
[[study.estimator]]
name = "esx"
"""


def test_a_study_keeps_programs_of_one_name_apart(capsys, study, tmp_path):
    text = STUDY.replace('[[study.estimator]]\nname = "esx"\n', TWICE)
    study.write_text(text, encoding="utf-8")
    status, out, err = run(capsys, "lab", study)
    words = 'study.program.steady.label: must be a name of its own, such as label = "another", not steady'
    assert (status, out, err) == (1, "", f"pageshare lab: {study}: {words}\n")
    study.write_text(text.replace("hot = 0.75", 'hot = 0.75\nlabel = "steady, much"'), encoding="utf-8")
    files = ["--svg", tmp_path / "x.svg", "--html", tmp_path / "x.html", "--csv", tmp_path / "csv"]
    document = run_json(capsys, "lab", study, "--seeds", 2, *files)
    truths = {program["name"]: program["samples"]["truth"][-1] for program in document["programs"]}
    assert list(truths) == ["steady", "phases", "steady, much"]
    assert truths["steady"] == pytest.approx(0.25, abs=0.02)
    assert truths["steady, much"] == pytest.approx(0.75, abs=0.02)
    assert {"what": "load", "value": "steady, much", "source": "made up"} in document["calibration"]
    for file in ("x.svg", "x.html", "csv/samples.csv"):
        assert "steady, much" in (tmp_path / file).read_text(encoding="utf-8")


def test_a_trace_that_nobody_has_labelled_is_reported_and_not_judged(capsys, study, tmp_path):
    actors = [trace.Actor("x", 3, "work"), trace.Actor("x", 70_000, "unlabelled")]
    some = [np.arange(number % 3, 200, 3, dtype=np.uint32) for number in range(60)]
    rows = [trace.Touches(pages, np.ones(len(pages), np.uint16), np.full(len(pages), 2, np.uint8)) for pages in some]
    made = trace.of_touches(rows, name="x", pages=200, interval=1_000_000, actors=actors, about={"program": "Made up."})
    trace.write(tmp_path / "x.parquet", made)
    text = STUDY.replace('name = "phases"\npages = "1 MiB"\nlength = "1min"', 'trace = "x.parquet"\nloop = true')
    study.write_text(text, encoding="utf-8")
    document = run_json(capsys, "lab", study, "--seeds", 2, "--svg", tmp_path / "x.svg")
    steady, unlabelled = document["programs"]
    assert (steady["labelled"], unlabelled["labelled"]) == (True, False)
    esx, half = unlabelled["estimators"]
    assert (half["mean"], half["spread"]["mean"]) == (0.5, 0)
    assert esx["mean"] == pytest.approx(200 / 512, abs=0.1)
    assert {half[name] for name in ("bias", "rmse", "mae", "lag")} == {None}
    assert steady["estimators"][1]["bias"] == pytest.approx(0.25, abs=0.02)
    assert "touched by anybody, for nobody has labelled it" in (tmp_path / "x.svg").read_text()
    status, out, _err = run(capsys, "lab", study)
    assert status == 0
    assert "touched by anybody (unlabelled: not judged)" in out
    assert "unlabelled: whatever is touched is taken for in use, nothing is judged" in flat(out)
    study.write_text(text.replace('[[study.program]]\nname = "steady"\nhot = 0.25\nwarm = 0\n', ""), encoding="utf-8")
    status, out, _err = run(capsys, "lab", study)
    assert (status, out.partition(".")[0]) == (0, "Nothing is judged: no program says what its touches are for")
    host = tmp_path / "host.toml"
    text = SMALL.replace('name = "phases"\nlength = "10s"', 'trace = "x.parquet"\nloop = true')
    host.write_text(text, encoding="utf-8")
    guests = run_json(capsys, "lab", host, "--set", "duration=90s")["guests"]
    assert guests[0]["estimate_rmse"] is None
    assert guests[1]["estimate_rmse"] is not None


def test_a_study_has_no_pages_to_account_for(capsys, study):
    status, out, err = run(capsys, "lab", study, "--check")
    assert (status, out) == (2, "")
    assert "--check: a study has no host" in err


def test_a_study_is_read_and_drawn(capsys, study, tmp_path):
    files = ["--svg", tmp_path / "x.svg", "--html", tmp_path / "x.html"]
    status, out, err = run(capsys, "lab", study, *files)
    assert (status, err) == (0, "")
    assert "What it is calibrated against" in out
    assert SIMULATION in flat(out)
    assert SIMULATION in flat((tmp_path / "x.html").read_text())
    assert (tmp_path / "x.svg").stat().st_mode & 0o777 == 0o600


def test_a_study_names_thousands_in_full(capsys, study):
    text = STUDY.replace('name = "esx"', 'name = "esx"\nn = 1860').replace('memory = "2 MiB"', 'memory = "16 MiB"')
    study.write_text(text, encoding="utf-8")
    status, out, _err = run(capsys, "lab", study)
    assert status == 0
    assert not re.search(r"\de\+\d", out)
    assert re.search(r"^esx .* 1,8\d0 ", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("warm_up", "warm"), "study.warm: no such key"),
        (('"1min"\nmemory', '"1h"\nmemory'), "study.warm_up: must be shorter than duration"),
        (("scattered", "upside-down"), "study.placement: must be contiguous or runs or scattered"),
        (('memory = "2 MiB"', 'memory = "512 KiB"'), "study.memory: must be enough for phases, 1 MiB"),
        (('label = "half"', 'label = "esx"'), "label: must be a name of its own"),
        (('name = "phases"', 'label = "steady"\nname = "phases"'), ".label: must be a name of its own, such as label"),
        (('name = "phases"', 'label = ""\nname = "phases"'), "label: must be a text of 1 to 60 characters"),
        (("own.py:Half", "gone.py:Half"), "there is no such file"),
        (("[study]", "[study]\nstep = '1h'"), "study.step: must be a time"),
        (("[study]", "[host]\n[study]"), "host: no such key"),
        (("[study]", 'every = "1h"\n[study]'), "every: must be no longer than duration, 360 s, not 1 h"),
    ],
)
def test_a_bad_study_is_one_line(capsys, study, change, words):
    study.write_text(STUDY.replace(*change), encoding="utf-8")
    status, out, err = run(capsys, "lab", study)
    assert (status, out) == (1, "")
    assert words in err
    assert len(err.splitlines()) == 1


NO_TRACE = "a.program[1].trace: x.parquet: there is no such file; `pageshare lab list --traces` names those that come"


def test_list_names_what_there_is(capsys):
    status, out, _err = run(capsys, "lab", "list")
    assert status == 0
    for name, about in scenario.built_in().items():
        assert re.search(rf"^{name}$", out, re.MULTILINE)
        assert about[:60] in flat(out)
    everything = run_json(capsys, "lab", "list")
    assert everything["format"] == "pageshare-lab-list/1"
    assert set(everything) == {"format", "scenarios", "programs", "estimators", "policies", "traces", "answers"}
    status, out, _err = run(capsys, "lab", "list", "--estimators", "--programs")
    assert "esx" in out
    assert "steady" in out
    assert "Esx, with n = 75, through = ZeroFilter." in out
    assert "Panel, with through = BurstFilter and ZeroFilter." in out
    assert "partial" not in out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nothing"], 2, "no scenario nothing: there are balloon-poll"),
        (["no.toml"], 1, "no.toml: there is no such file; `pageshare lab list` names the scenarios that come along\n"),
        (["./"], 1, ".: is a folder; in it are small.toml\n"),
        (["/proc/self/"], 1, "/proc/self: is a folder; `pageshare lab list` names the scenarios that come along\n"),
        (["/dev/zero"], 1, "/dev/zero: more than 1 MiB: too long for a TOML file"),
        (["SMALL/x"], 1, "small.toml/x: there is no such file; `pageshare lab list` names the scenarios"),
        (["SMALL", "--set", "guest.a.program=[{trace='x.parquet'}]"], 1, NO_TRACE),
        (["SMALL", "--set", "host.tax"], 2, "must be KEY=VALUE"),
        (["SMALL", "--set", "host.colour=1"], 1, "small.toml: host.colour: no such key"),
        (["SMALL", "--set", "guest.z.memory=1"], 1, "small.toml: guest.z.memory: there is no guest z; there are a, b"),
        (["SMALL", "--set", "guest.z.balloon.poll=1s"], 1, "guest.z.balloon.poll: there is no guest z; there are a, b"),
        (["SMALL", "--set", "guest.3.memory=1 MiB"], 1, "guest.3.memory: there is no guest 3; there are a, b"),
        (["SMALL", "--set", "guest.z=1"], 1, "small.toml: guest.a.z: no such key"),
        (["SMALL", "--set", "guest.a.program.x.hot=1"], 1, "hot: there is no program x; there are phases"),
        (["SMALL", "--set", "change.2.tax=0.1"], 1, "change.2.tax: there is no change 2; there are 1"),
        (["SMALL", "--set", "duration.x.y=1"], 1, "duration.x"),
        (["SMALL", "--set", "host.memory=700 GiB"], 1, "small.toml: host.memory: must be a size"),
        (["SMALL", "--seeds", "0"], 2, "must be a whole number from 1"),
        (["SMALL", "--programs"], 2, "--programs: for `pageshare lab list`"),
        (["SMALL", "--svg", "SMALL", "--force"], 2, "is read: name another file"),
        (["SMALL", "--record-touches", "x.parquet"], 2, "name a guest, GUEST=FILE: a, b"),
        (["SMALL", "--record-touches", "c=x.parquet"], 2, "name a guest, GUEST=FILE: a, b"),
        (["SMALL", "--record-touches", "a="], 2, "must be FILE, or GUEST=FILE"),
        (["SMALL", "--html", "no/x.html"], 1, "there is no such folder"),
    ],
)
def test_what_is_refused_is_one_line(capsys, small, monkeypatch, arguments, status, words):
    monkeypatch.chdir(small.parent)
    given = [each.replace("SMALL", small.name) for each in arguments]
    got, out, err = run(capsys, "lab", *given)
    assert (got, out) == (status, "")
    assert words in err
    assert len(err.splitlines()) == 1 or "usage:" in err
    assert small.read_text() == SMALL


def test_an_unknown_policy_is_told_the_names_of_the_list(capsys, small):
    status, _out, err = run(capsys, "lab", small, "--set", "host.sharing.policy=nope")
    assert status == 1
    names = re.search(r"no policy nope; there are (.*), and your own as FILE.py:CLASS\n$", err)[1].split(", ")
    assert names == list(run_json(capsys, "lab", "list", "--policies")["policies"])
    err = run(capsys, "lab", small, "--set", "host.sharing.policy=oracle")[2]
    assert "host.sharing.policy: " in err
    assert "FILE.py" not in err


def test_an_interrupt_prints_what_was_found(small):
    import signal
    import time

    command = [sys.executable, "-m", "pageshare", "lab", str(small), "--set", "duration=10d", "--set", "every=1min"]
    child = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(4)
    os.kill(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, "")
    document = json.loads(out)
    assert document["interrupted"]
    assert 0 < document["seconds"] < 864_000


def test_other_commands_do_not_load_it():
    code = "import sys; from pageshare.commands import main; main(['policies', '--list', '-q']);"
    code += "print([name for name in sys.modules if name.startswith('pageshare.lab')], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
