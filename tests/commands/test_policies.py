"""``pageshare policies`` as a user runs it: figures, exit status, what goes where, and how it ends."""

import contextlib
import html.parser
import json
import multiprocessing
import os
import re
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from pageshare import policies as scan_policies
from pageshare.commands import main
from pageshare.images.elf import core_header
from pageshare.images.ranges import Kind
from pageshare.replay import costs
from watched import children_of, on_a_terminal, start

PAGE = 4096
COSTS = costs.Costs((100, 200), (150, 250), (50, 80), (10, 20), (5, 15), 1000)
FEW = ["--policy", "random", "--policy", "zero-first", "--policy", "ksm", "--seeds", "2"]


@pytest.fixture(scope="module")
def guests(tmp_path_factory):
    """Two guests at two times: {name: path}."""
    folder, generator = tmp_path_factory.mktemp("guests"), np.random.default_rng(1)
    paths = {}
    for moment in (0, 20):
        for name, most in (("web", 100), ("db", 300)):
            numbers = generator.integers(0, most, 300).astype("<u4")
            paths[f"{name}{moment}"] = folder / f"{name}.t{moment}.raw"
            paths[f"{name}{moment}"].write_bytes(np.repeat(numbers, PAGE // 4).tobytes())
    return paths


@pytest.fixture
def series(guests):
    """The series of both, as options."""
    return [each for t in (0, 20) for each in ("--at", f"{t}s", guests[f"web{t}"], guests[f"db{t}"])]


@pytest.fixture(autouse=True)
def known_costs(monkeypatch):
    """What looks cost takes no time to measure."""
    monkeypatch.setattr(costs, "measure", lambda *_: COSTS)


@pytest.fixture
def never(monkeypatch):
    """Nothing may be read or measured."""

    def fail(*_, **__):
        raise AssertionError("something was begun")

    monkeypatch.setattr(costs, "measure", fail)
    monkeypatch.setattr("pageshare.replay.history.history_of", fail)


def compare(capsys, *arguments):
    """(exit status, stdout, stderr) of the command."""
    try:
        status = main(["policies", *map(str, arguments)])
    except SystemExit as stopped:
        status = stopped.code
    assert multiprocessing.active_children() == []
    return status, *capsys.readouterr()


def compare_json(capsys, *arguments, status=0):
    got, out, err = compare(capsys, "--json", *arguments)
    assert got == status, err
    return json.loads(out)


KEYS = (
    "format pages page_size owners possible possible_nonzero pace duration seeds peek costs policies notes warnings"
    " incomplete skipped"
)
OF_RUNS = (
    "visits cost cpu_seconds seconds area mean_saved mean_possible found writes cow_breaks cow_breaks_within_10s"
    " metadata_bits policy_seconds total_cpu_seconds merges"
)
SPREAD = "visits cost cpu_seconds seconds area mean_saved mean_possible"


def test_json_keys_are_those_documented(guests, capsys):
    document = compare_json(capsys, guests["web0"], f"b={guests['db0']}", *FEW)
    assert list(document) == KEYS.split()
    assert document["format"] == "pageshare-policies/1"
    assert (document["pages"], document["owners"], document["seeds"]) == (600, ["web.t0.raw", "b"], [1, 2])
    assert document["peek"] == {"price": 0.04, "measured": {"sequential": 0.05, "random": 0.075}}
    assert (document["pace"], document["duration"]) == (None, None)
    assert [each["name"] for each in document["policies"]] == ["random-permutation", "zero-first", "ksm"]
    measures = {name + suffix for suffix in ("", "_nonzero") for name in OF_RUNS.split()}
    for each in document["policies"]:
        assert set(each) == {"name", "runs", "spread"} | measures
        assert set(each["spread"]) == {name + suffix for suffix in ("", "_nonzero") for name in SPREAD.split()}
        for suffix in ("", "_nonzero"):
            for name in ("visits", "cost", "cpu_seconds", "seconds"):
                assert list(each[name + suffix]) == ["50", "90", "99"]
            shares = [each["visits" + suffix][share] for share in ("50", "90", "99")]
            assert shares == sorted(shares)
            assert all(
                visits <= cost <= visits + 0.04 * 3
                for visits, cost in zip(shares, each["cost" + suffix].values(), strict=True)
            )
            assert each["found" + suffix] == 1
    random, zero_first, ksm = document["policies"]
    assert (random["runs"], zero_first["runs"], ksm["runs"]) == (2, 2, 1)
    assert random["cost"] == random["visits"]  # it never peeks
    assert zero_first["cost"]["50"] > zero_first["visits"]["50"]
    assert 1 < ksm["visits"]["50"] < ksm["visits"]["99"] <= 2  # in its second pass
    assert 0.5 < random["visits"]["50"] < 1
    assert ksm["spread"]["visits"] == {"50": 0, "90": 0, "99": 0}


def test_where_no_time_goes_by_nothing_is_said_of_it(guests, capsys):
    never = {"50": None, "90": None, "99": None}
    for each in compare_json(capsys, guests["web0"], *FEW)["policies"]:
        for suffix in ("", "_nonzero"):
            for figures in (each, each["spread"]):
                assert figures["seconds" + suffix] == never
                assert figures["mean_saved" + suffix] is figures["mean_possible" + suffix] is None
                assert figures["area" + suffix] is not None
    for each in compare_json(capsys, guests["web0"], *FEW, "--rate", "100", "--duration", "60s")["policies"]:
        assert each["seconds"]["50"] > 0
        assert each["mean_possible"] > each["mean_saved"] > 0


def test_what_is_possible_is_what_a_dict_says(guests, capsys):
    document = compare_json(capsys, guests["web0"], guests["db0"], "--policy", "sequential")
    held = b"".join(guests[name].read_bytes() for name in ("web0", "db0"))
    pages = [held[i : i + PAGE] for i in range(0, len(held), PAGE)]
    assert document["possible"] == len(pages) - len(set(pages))
    seen, saved, first = set(), 0, None
    for number, page in enumerate(pages, start=1):
        saved += page in seen
        seen.add(page)
        if first is None and saved >= 0.9 * document["possible"]:
            first = number
    assert document["policies"][0]["visits"]["90"] == pytest.approx(first / len(pages))


def test_the_oracle_by_hand(tmp_path, capsys):
    """To save three zero pages, and one of each of 1, 2, and 3, it takes nine visits."""
    paths = [tmp_path / "a.raw", tmp_path / "b.raw"]
    for path, numbers in zip(paths, ([1, 2, 3, 0, 0, 5, 6, 7], [1, 2, 3, 0, 8, 9, 10, 11]), strict=True):
        path.write_bytes(np.repeat(np.array(numbers, "<u4"), PAGE // 4).tobytes())
    (oracle,) = compare_json(capsys, *paths, "--policy", "oracle")["policies"]
    assert oracle["visits"]["99"] == pytest.approx(9 / 16)
    assert oracle["visits_nonzero"]["99"] == pytest.approx(6 / 16)


def test_a_share_that_was_not_reached_is_null(tmp_path, capsys):
    unique = tmp_path / "unique.raw"
    unique.write_bytes(np.repeat(np.arange(1, 65, dtype="<u4"), PAGE // 4).tobytes())
    document = compare_json(capsys, unique, "--policy", "random")
    (each,) = document["policies"]
    for name in ("visits", "visits_nonzero", "cost", "cost_nonzero", "cpu_seconds"):
        assert each[name] == {"50": None, "90": None, "99": None}
        assert each["spread"][name] == {"50": None, "90": None, "99": None}
    status, out, err = compare(capsys, unique, "--policy", "random")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "No two pages are equal: there is nothing to save."


def test_holes_alone_are_nothing_to_look_for(tmp_path, capsys):
    holes, page = tmp_path / "holes.raw", tmp_path / "x.html"
    with holes.open("wb") as file:
        file.truncate(1 << 20)
    status, out, err = compare(capsys, holes, "--html", page, "--svg", tmp_path / "x.svg")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "No page that must be read: there is nothing to look for."
    assert page.exists()


def test_while_memory_changes_all_have_the_same_time(series, capsys):
    document = compare_json(capsys, *series, *FEW, "--rate", "100")
    assert (document["duration"], document["pace"]) == (20, {"pace": "rate", "pages_per_second": 100})
    for each in document["policies"]:
        assert each["runs"] == 2  # the seed draws when writes happen
        assert 0 <= each["mean_saved"] <= each["mean_possible"]
        assert each["writes"] == document["policies"][0]["writes"] > 500
    assert compare_json(capsys, *series, *FEW, "--duration", "5")["duration"] == 5


def test_memory_that_holds_still_over_time(guests, capsys):
    document = compare_json(capsys, guests["web0"], *FEW, "--duration", "2s", "--cpu", "0.1%")
    assert document["pace"] == {"pace": "cpu", "share": 0.001}
    assert all(each["writes"] == 0 for each in document["policies"])
    assert compare(capsys, guests["web0"], *FEW, "--duration", "0")[0] == 0


def test_one_process_or_two_give_the_same(guests, series, capsys):
    for options in ([guests["web0"], guests["db0"]], series):
        one, two = (compare_json(capsys, *options, *FEW, "--jobs", jobs)["policies"] for jobs in (1, 2))
        for each in (*one, *two):
            del each["policy_seconds"], each["policy_seconds_nonzero"]
        assert one == two


def test_all_policies_by_default(guests, capsys):
    document = compare_json(capsys, guests["web0"], guests["db0"], "--seeds", "1")
    assert [each["name"] for each in document["policies"]] == [*scan_policies.POLICIES]


def test_a_policy_by_two_names_is_one(guests, capsys):
    options = [
        "--policy",
        "random",
        "--policy",
        "random-permutation",
        "--policy",
        "random:",
        "--policy",
        "ksm",
        "--policy",
        "ksm:,",
        "--policy",
        "ksm:smart_scan=0",
    ]
    document = compare_json(capsys, guests["web0"], *options)
    assert [each["name"] for each in document["policies"]] == ["random-permutation", "ksm", "ksm:smart_scan=0"]


def test_the_list(capsys):
    status, out, err = compare(capsys, "--list")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [*scan_policies.POLICIES]
    assert max(map(len, lines)) <= 80
    document = compare_json(capsys, "--list")
    assert document["format"] == "pageshare-policy-list/1"
    assert [*document["policies"]] == [*scan_policies.POLICIES]
    for name, sentence in document["policies"].items():
        words, count = scan_policies.POLICIES[name].__doc__.replace("``", "").split(), len(sentence.split())
        named = {"RunFollowing": "run-following", "RegionBandit": "region-bandit"}
        as_named = [named.get(word, word) for word in words]
        assert sentence.split() == as_named[:count]  # whole, however it is broken into lines
        assert re.fullmatch(r"[^.].*\.", sentence)
        assert not re.search(r"\. [A-Z]|  |\n", sentence)  # and one
        assert " ".join(sentence.split()) in " ".join(out.split())


def test_text_fits_80_columns(guests, series, capsys):
    for options in ([guests["web0"], guests["db0"]], [*series, "--cpu", "0.01%"]):
        status, out, err = compare(capsys, *options, "--seeds", "2")
        assert (status, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 80
        assert "\x1b" not in out
        rows = [
            line.split()[0] for line in out.splitlines() if line.split() and line.split()[0] in scan_policies.POLICIES
        ]
        assert sorted(rows) == sorted([*scan_policies.POLICIES] * 2)
    out = compare(capsys, guests["web0"], guests["db0"])[1]
    assert out.index("oracle") < out.index("random-with-replacement")  # best first


# ---- what can't be done ----


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "name dumps, or a series: --at 0s DUMP... --at 60s DUMP..."),
        ("WEB0 --at 0s WEB0", "with --at, every dump must stand behind the time that it was taken at"),
        ("--at 0s WEB0 DB0 --at 1s WEB20", "--at 1s: 1 dump, in the first snapshot 2; every snapshot must have the"),
        ("--at 0s a=WEB0 --at 1s b=WEB20", "--at 1s: b is not in the first snapshot; "),
        ("--at 1s WEB0 --at 0s WEB20", "--at 0s behind --at 1s: times must ascend"),
        ("--at 0s WEB0 --at 1s WEB20 --skip-bad", "--skip-bad: a series needs all of its dumps"),
        ("WEB0 --writes ENDLESS", "--writes: the model has no end: say how long, with --duration"),
        ("WEB0 --rate 10", "memory that holds still is compared by visits: to see it over time, give --duration"),
        ("WEB0 --cpu 1%", "to see it over time, give --duration"),
        ("WEB0 --rate-per-owner 1", "to see it over time, give --duration"),
        ("--at 0s WEB0 --sleep 1s", "to see it over time, give --duration"),
        ("WEB0 --rate 10 --cpu 1% --duration 1s", "--rate and --cpu: only one of them says how fast"),
        ("WEB0 --svg x --html x", "name a file of its own for each of --svg, --png and --html"),
        ("WEB0 --policy best", "argument --policy: no policy 'best': there are sequential, "),
        ("WEB0 --policy ksm:speed=1", "policy ksm has no option 'speed': its options are max_page_sharing, "),
        ("WEB0 --policy region-ladder:pages=0", "argument --policy: "),
        ("WEB0 --seeds 0", "argument --seeds: '0': must be a whole number from 1"),
        ("WEB0 --jobs 0", "argument --jobs: '0': must be a whole number from 1"),
        ("WEB0 --peek-cost -1", "argument --peek-cost: '-1': must be from 0 to 1"),
    ],
)
def test_usage_errors(guests, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endless.toml").write_text("[[region]]\nrate = 1\n")
    named = {"ENDLESS": "endless.toml", **{name.upper(): path for name, path in guests.items()}}
    for name, path in sorted(named.items(), key=lambda each: -len(each[0])):
        arguments = arguments.replace(name, str(path))
    status, out, err = compare(capsys, *arguments.split())
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]


@pytest.mark.usefixtures("never")
def test_dumps_that_cannot_be_read_are_all_named(guests, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.touch()
    status, out, err = compare(capsys, guests["web0"], empty, tmp_path / "none")
    assert (status, out) == (1, "")
    assert [line.split(": ")[1] for line in err.splitlines()] == [str(empty), f"{tmp_path}/none"]


def test_incomplete_dumps_are_status_3(tmp_path, guests, capsys):
    pages = [bytes([number]) * PAGE for number in (1, 1, 2, 2, 3)]
    header, core = core_header([(0x1000, 5 * PAGE)], kind=Kind.RAM), tmp_path / "cut.elf"
    core.write_bytes((header + b"".join(pages))[: len(header) + 3 * PAGE + 100])
    status, out, err = compare(capsys, core, "--json", *FEW)
    assert (status, json.loads(out)["possible"], len(json.loads(out)["incomplete"])) == (3, 1, 1)
    assert err.startswith(f"pageshare: incomplete: {core}: ")
    document = compare_json(capsys, tmp_path / "none", guests["web0"], "--skip-bad", *FEW, status=3)
    assert document["skipped"] == [{"path": f"{tmp_path}/none", "reason": "No such file or directory"}]


# ---- files ----


def test_files_are_whole_and_private(series, tmp_path, capsys):
    paths = {form: tmp_path / f"x.{form}" for form in ("svg", "png", "html")}
    options = [each for form, path in paths.items() for each in (f"--{form}", path)]
    assert compare(capsys, *series, *FEW, *options)[0] == 0
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths.values()} == {0o600}
    assert paths["png"].read_bytes().startswith(b"\x89PNG")
    assert paths["svg"].read_bytes().rstrip().endswith(b"</svg>")
    assert paths["html"].read_text().rstrip().endswith("</html>")
    status, out, err = compare(capsys, *series, *FEW, *options)
    assert (status, out) == (1, "")
    assert "x.svg exists: choose another name, or use --force" in err
    for path in paths.values():
        path.write_text("mine")
    assert compare(capsys, *series, *FEW, *options, "--force")[0] == 0
    assert all(path.stat().st_size > 1000 for path in paths.values())


@pytest.mark.usefixtures("never")
def test_a_page_that_exists_stays(guests, tmp_path, capsys):
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    status, out, err = compare(capsys, guests["web0"], "--html", mine, "--svg", tmp_path / "new.svg")
    assert (status, out) == (1, "")
    assert err == f"pageshare policies: {mine} exists: choose another name, or use --force\n"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_files_appear_all_or_none(guests, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pageshare.render.policies_page.page", full)
    options = ["--svg", tmp_path / "x.svg", "--html", tmp_path / "x.html"]
    status, out, err = compare(capsys, guests["web0"], *FEW, *options)
    assert (status, out, err) == (1, "", "pageshare policies: [Errno 28] No space left on device\n")
    assert list(tmp_path.iterdir()) == []


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its elements, and the text in them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.inside = [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag

    def handle_data(self, data):
        self.texts.setdefault(self.inside, []).append(data)


def test_the_page_is_self_contained_and_escaped(guests, tmp_path, capsys):
    path = tmp_path / "x.html"
    hostile = "\"'><script>alert(1)<!--&amp;<img src onerror>>"
    assert compare(capsys, f"{hostile}={guests['web0']}", guests["db0"], *FEW, "--html", path)[0] == 0
    text = path.read_text()
    page = Page(text)
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [
        {"type": "application/json", "id": "data"}
    ]
    assert not [tag for tag, _ in page.elements if tag in ("img", "link", "iframe", "object", "embed", "base")]
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert attributes.get(name, "#").startswith("#"), attributes
    assert not re.search(r"url\((?!#)|@import", text)
    assert {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    } in [attributes for _, attributes in page.elements]
    assert hostile in "".join(page.texts["p"])
    document = json.loads("".join(page.texts["script"]))
    assert document["owners"] == [hostile, "db.t0.raw"]
    assert document == json.loads(json.dumps(document))
    assert "<script>alert" not in text


def test_the_page_of_memory_that_changes(series, tmp_path, capsys):
    path = tmp_path / "x.html"
    assert compare(capsys, *series, *FEW, "--rate", "300", "--html", path)[0] == 0
    words = " ".join("".join(Page(path.read_text()).texts["p"]).split())
    assert "over 20 s of virtual time, at 300 pages/s?" in words
    assert "%" in words


def test_without_what_draws_it_is_said_how_to_get_it(guests, tmp_path, monkeypatch, capsys):
    import importlib.util

    find = importlib.util.find_spec
    for missing in ("matplotlib", "jinja2"):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *more, missing=missing: None if name == missing else find(name, *more),
        )
        status, out, err = compare(capsys, guests["web0"], "--html", tmp_path / "x.html")
        assert (status, out) == (1, "")
        assert f"need {missing}: pip install 'pageshare[plot]'" in err


# ---- how it ends ----

SIGNALS = pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def gone(pid):
    """Whether there is no such process any more."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return False
    return True


@SIGNALS
def test_interrupted_while_policies_run(guests, tmp_path, signum, status):
    options = ["--jobs", "2", "--html", tmp_path / "x.html"]
    with start("policies", "--json", guests["web0"], *options, slow="scan") as process:
        assert process.stderr.readline() == b"census\n"
        for _ in range(2):
            assert process.stderr.readline() == b"scan\n"
        children = children_of(process.pid)
        assert len(children) == 2
        sent = time.monotonic()
        process.send_signal(signum)
        # Both ends are closed: nobody is left who could write.
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - sent
    assert (process.returncode, out, err) == (status, b"", b"")
    assert took < 2  # 0.2 s, and what a loaded machine adds
    assert all(map(gone, children))
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_goes_to_all_processes_and_one_answers(guests):
    with start("policies", guests["web0"], "--jobs", "2", slow="scan", start_new_session=True) as process:
        for _ in range(3):
            process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1])
def test_ctrl_c_at_any_moment_leaves_no_process(guests, after):
    """While processes are being started, too: no traceback of theirs."""
    with start("policies", guests["web0"], "--jobs", "4", slow="scan", start_new_session=True) as process:
        assert process.stderr.readline() == b"census\n"
        time.sleep(after)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert set(err.splitlines()) <= {b"scan"}


def test_a_process_that_is_killed_is_told_of(guests):
    with start("policies", guests["web0"], "--jobs", "2", slow="scan") as process:
        for _ in range(3):
            process.stderr.readline()
        os.kill(children_of(process.pid)[0], signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, b"")
    assert err == (
        b"pageshare policies: a process that ran policies died (SIGKILL); is there enough memory? --jobs 1 needs the"
        b" least\n"
    )


def test_killed_its_processes_end_by_themselves(guests):
    with start("policies", guests["web0"], "--jobs", "2", slow="scan") as process:
        for _ in range(3):
            process.stderr.readline()
        process.kill()
        out, err = process.communicate(timeout=60)  # ends when nobody holds the pipes
    assert (out, err) == (b"", b"")


def test_a_closed_pipe_ends_quietly(guests):
    command = f"{sys.executable} -m pageshare policies --json --policy random {guests['web0']} | head -c 10"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b'{\n  "forma', b"")


def test_there_is_a_progress_bar_on_a_terminal(guests):
    seen, out = on_a_terminal("policies", "--json", guests["web0"], *FEW, stream="stderr")
    assert len(json.loads(out)["policies"]) == 3
    assert b"\x1b" in seen
    assert b"policies: " in seen
    assert b"7/7" in seen
    assert b"\x1b" not in on_a_terminal("policies", "--json", "-q", guests["web0"], *FEW, stream="stderr")[0]


def test_colour_is_for_terminals_that_want_it(guests):
    options = ["policies", guests["web0"], *FEW]
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    assert b"\x1b[1m" in on_a_terminal(*options, stream="stdout", env=environment)[0]
    assert b"\x1b" not in on_a_terminal(*options, stream="stdout", env={**environment, "NO_COLOR": "1"})[0]
