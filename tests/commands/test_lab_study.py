"""``pageshare lab`` with a study: estimators held against the truth, curves of misses, and what is one's own."""

import json
import re

import numpy as np
import pyarrow.parquet
import pytest

from command_line import flat, run, run_json
from pageshare.lab import trace
from pageshare.lab.report import SIMULATION
from pageshare.render import lab_study
from pageshare.render.console import laid_out

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
        ("self.view.costs.visits = float('nan')", "has nan visits after 0"),
        ("self.view.costs.visits -= 5; self.view.costs.faults += 1000", "has -5 visits after 0"),
        ("self.view.costs.tests = 10**19", "tests after 0: looks can't be taken back, or be that many"),
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
    text = HALF.replace("        pass", '        print("here")')
    (tmp_path / "own.py").write_text(f"print('there')\n{text}", encoding="utf-8")
    status, out, err = run(capsys, "lab", study, "--json")
    assert status == 0
    assert json.loads(out)["format"] == "pageshare-lab-study/1"
    assert err.startswith("there\nhere\n")


def test_csv_says_that_it_is_a_simulation(capsys, study, tmp_path):
    assert run(capsys, "lab", study, "--csv", tmp_path / "csv")[0] == 0
    _heading, first, *_rest = (tmp_path / "csv" / "calibration.csv").read_text().splitlines()
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
    guests = [f'[[guest]]\nname = "{name}"\nmemory = "2 MiB"\n[[guest.program]]\n' for name in ("a", "b")]
    programs = ['trace = "x.parquet"\nloop = true\n', 'name = "steady"\n']
    text = "".join(guest + program for guest, program in zip(guests, programs, strict=True))
    host.write_text(f'duration = "90s"\n[host]\nmemory = "4 MiB"\n{text}', encoding="utf-8")
    guests = run_json(capsys, "lab", host)["guests"]
    assert guests[0]["estimate_rmse"] is None
    assert guests[1]["estimate_rmse"] is not None
    status, out, _err = run(capsys, "lab", host, "--svg", tmp_path / "host.svg")
    assert status == 0
    assert "unlabelled ones, of which all touches count as active" in flat((tmp_path / "host.svg").read_text())
    assert "active is what anybody touched, not work alone, in a: nobody has labelled its trace" in flat(out)


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


def test_captions_of_a_study_speak_of_columns_that_are_shown(capsys, study):
    document = run_json(capsys, "lab", study)
    for faults, words in ((10, "Visits, faults, CPU: each 30 s."), (10**50, " fit best. Visits: each 30 s.")):
        for program in document["programs"]:
            program["estimators"][0]["faults"] = faults
        assert flat(laid_out(lambda console: lab_study.write(document, console))).count(words) == 1
