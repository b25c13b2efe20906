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

from command_line import flat, run, run_json
from pageshare.lab import scenario, trace
from pageshare.lab.report import SIMULATION
from pageshare.render import lab as render
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


def test_captions_speak_of_columns_that_are_shown(capsys, small):
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
    _heading, said, *_others = (tmp_path / "csv" / "calibration.csv").read_text(encoding="utf-8").splitlines()
    assert said.startswith('what this is,"This is a simulation in virtual time')
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
