"""``pageshare replay`` as a user runs it: figures, exit status, what goes where, and how it ends."""

import gzip
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from pageshare.commands import main
from pageshare.core import Outcome
from pageshare.images.elf import core_header
from pageshare.images.ranges import Kind
from pageshare.replay import costs
from watched import children_of, on_a_terminal, start

PAGE = 4096
COSTS = costs.Costs((100, 200), (150, 250), (50, 80), (10, 20), (5, 15), 1000)


def dump(path, numbers):
    """A raw dump: a page for each number, 0 a page of zeros, None a hole."""
    with path.open("wb") as file:
        for number in numbers:
            if number is None:
                file.seek(PAGE, os.SEEK_CUR)
            else:
                file.write(number.to_bytes(4, "little") * (PAGE // 4))
        file.truncate(PAGE * len(numbers))
    return path


@pytest.fixture(scope="module")
def guests(tmp_path_factory):
    """Two guests at three times: {name: path}."""
    folder, generator = tmp_path_factory.mktemp("guests"), np.random.default_rng(1)
    paths = {}
    for time_ in (0, 20, 40):
        for name, most in (("web", 100), ("db", 300)):
            numbers = [int(number) for number in generator.integers(0, most, 400)]
            paths[f"{name}{time_}"] = dump(folder / f"{name}.t{time_}.raw", numbers)
    return paths


@pytest.fixture
def series(guests):
    """The series of both, as options."""
    return [each for t in (0, 20, 40) for each in ("--at", f"{t}s", guests[f"web{t}"], guests[f"db{t}"])]


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


def replay(capsys, *arguments):
    """(exit status, stdout, stderr) of the command."""
    try:
        status = main(["replay", *map(str, arguments)])
    except SystemExit as stopped:
        status = stopped.code
    return status, *capsys.readouterr()


def replay_json(capsys, *arguments, status=0):
    got, out, err = replay(capsys, "--json", *arguments)
    assert got == status, err
    return json.loads(out)


KEYS = (
    "format policy seed objective page_size pages owners pace duration seconds saved saved_nonzero possible"
    " possible_nonzero mean_saved mean_saved_nonzero mean_possible mean_possible_nonzero visits peeks cpu_seconds"
    " policy_seconds metadata_bits reached reached_nonzero outcomes writes cow_breaks cow_breaks_nonzero"
    " cow_breaks_within_10s peek costs course interrupted notes warnings incomplete skipped"
)
SAMPLE = "seconds visits peeks cost cpu_seconds saved saved_nonzero possible possible_nonzero cow_breaks"


def test_json_keys_are_those_documented(guests, capsys):
    document = replay_json(capsys, guests["web0"], f"b={guests['db0']}")
    assert list(document) == KEYS.split()
    assert document["format"] == "pageshare-replay/1"
    assert (document["policy"], document["seed"], document["objective"]) == ("peek-runs", 1, "all")
    assert (document["pages"], document["owners"], document["page_size"]) == (800, ["web.t0.raw", "b"], 4096)
    assert document["pace"] == {"pace": "rate", "pages_per_second": 200}
    assert (document["duration"], document["interrupted"]) == (None, False)
    assert list(document["reached"]) == list(document["reached_nonzero"]) == ["50", "90", "99"]
    assert list(document["reached"]["90"]) == ["visits", "cost", "cpu_seconds", "seconds"]
    assert set(document["outcomes"]) == {outcome.name for outcome in Outcome}
    assert sum(document["outcomes"].values()) == document["visits"] == document["course"][-1]["visits"]
    assert all(list(sample) == SAMPLE.split() for sample in document["course"])
    assert document["peek"] == {"price": 0.04, "measured": {"sequential": 0.05, "random": 0.075}}
    assert document["costs"] == {
        "unit": "nanoseconds",
        **{
            name: dict(zip(("sequential", "random"), getattr(COSTS, name), strict=True))
            for name in ("read", "found", "zero", "shared", "peek")
        },
        "copy_on_write_fault": 1000,
    }


def test_what_it_saves_is_what_a_dict_says(guests, capsys):
    document = replay_json(capsys, guests["web0"], guests["db0"], "--policy", "random")
    held = b"".join(guests[name].read_bytes() for name in ("web0", "db0"))
    pages = [held[i : i + PAGE] for i in range(0, len(held), PAGE)]
    nonzero = [page for page in pages if any(page)]
    assert document["saved"] == document["possible"] == len(pages) - len(set(pages))
    assert document["saved_nonzero"] == document["possible_nonzero"] == len(nonzero) - len(set(nonzero))
    apart = replay_json(capsys, guests["web0"], guests["db0"], "--domain-per-owner")
    assert apart["saved"] == apart["possible"] < document["saved"]


@pytest.mark.parametrize(
    ("options", "document", "words"),
    [
        ([], {"pace": "rate", "pages_per_second": 200}, "200 pages/s"),
        (["--rate", "1,000"], {"pace": "rate", "pages_per_second": 1000}, "1,000 pages/s"),
        (["--pages-to-scan", "7"], {"pace": "ksm", "pages_to_scan": 7, "sleep_seconds": 0.02}, "7 pages, then 20 ms"),
        (["--sleep", "1s"], {"pace": "ksm", "pages_to_scan": 100, "sleep_seconds": 1}, "100 pages, then 1000 ms"),
        (["--cpu", "2.5%"], {"pace": "cpu", "share": 0.025}, "2.5 % of a CPU"),
    ],
)
def test_paces(guests, capsys, options, document, words):
    assert replay_json(capsys, guests["web0"], *options, "--duration", "100ms")["pace"] == document
    assert words in replay(capsys, guests["web0"], *options, "--duration", "100ms")[1]


def test_a_series_goes_on_for_as_long_as_its_dumps(series, capsys):
    document = replay_json(capsys, *series, "--rate", "200")
    assert document["seconds"] == document["duration"] == 40
    assert document["visits"] == pytest.approx(8000 - 0.04 * document["peeks"], rel=0.01)
    assert document["writes"] > 1000
    assert 0 < document["cow_breaks_within_10s"] <= document["cow_breaks"] <= document["writes"]
    assert replay_json(capsys, *series, "--duration", "5s")["seconds"] == 5
    assert replay_json(capsys, *series, "--duration", "1m")["seconds"] == 60


def test_a_series_by_hand(tmp_path, capsys):
    """Three pages are written, of which one was shared."""
    memories = {
        "a0": [1, 2, 3, 0, 0, 5, 6, 7],
        "b0": [1, 2, 3, 0, 8, 9, 10, 11],
        "a1": [1, 20, 3, 0, 0, 5, 6, 8],
        "b1": [1, 2, 3, 0, 8, 9, 10, 0],
    }
    a0, b0, a1, b1 = (dump(tmp_path / name, numbers) for name, numbers in memories.items())
    still = replay_json(capsys, a0, b0, "--policy", "random-permutation")
    assert (still["pages"], still["saved"], still["saved_nonzero"]) == (16, 5, 3)
    options = ["--at", "0s", a0, b0, "--at", "60s", a1, b1, "--rate", "1000", "--policy", "sequential"]
    found = replay_json(capsys, *options)
    assert (found["seconds"], found["writes"], found["cow_breaks"]) == (60, 3, 1)
    # 1 twice, 3 twice, 8 twice, four zero pages.
    assert (found["possible"], found["possible_nonzero"], found["saved"]) == (6, 3, 6)


def test_owners_of_a_series_go_by_name(guests, capsys):
    first = ["--at", "0", f"w={guests['web0']}", f"d={guests['db0']}"]
    in_turn = replay_json(capsys, *first, "--at", "20", f"w={guests['web20']}", f"d={guests['db20']}")
    swapped = replay_json(capsys, *first, "--at", "20", f"d={guests['db20']}", f"w={guests['web20']}")
    assert in_turn["owners"] == swapped["owners"] == ["w", "d"]
    assert in_turn["course"] == swapped["course"]


MODEL = "duration = 30\n[[region]]\nrate = 50\nsame = 0.5\n"


def test_a_model_and_its_recording_are_the_same_replay(guests, tmp_path, capsys):
    model, trace = tmp_path / "model.toml", tmp_path / "writes.csv.gz"
    model.write_text(MODEL)
    options = [guests["web0"], guests["db0"], "--policy", "random"]
    made = replay_json(capsys, *options, "--writes", model, "--record", trace)
    assert 2500 < made["writes"] < 3500
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600
    assert gzip.decompress(trace.read_bytes()).startswith(b"time,owner,page,content\n")
    again = replay_json(capsys, *options, "--trace", trace)
    for key in ("course", "outcomes", "writes", "cow_breaks"):
        assert again[key] == made[key]
    status, out, err = replay(capsys, *options, "--writes", model, "--record", trace)
    assert (status, out) == (1, "")
    assert f"{trace} exists: choose another name, or use --force" in err
    assert replay(capsys, *options, "--writes", model, "--record", trace, "--force", "--quiet")[0] == 0


@pytest.mark.parametrize("name", ["peek-runs", "peek-runs:", "peek-runs:,"])
def test_a_policy_without_options_has_no_colon(guests, capsys, name):
    assert replay_json(capsys, guests["web0"], "--duration", "1", "--policy", name)["policy"] == "peek-runs"
    assert "\n  peek-runs, 200 pages/s" in replay(capsys, guests["web0"], "--duration", "1", "--policy", name)[1]


def test_one_seed_one_replay(series, capsys):
    def course(seed):
        return replay_json(capsys, *series, "--policy", "random", "--seed", seed)["course"]

    assert course(3) == course("0x3")
    assert course(3) != course(4)


def test_text_fits_80_columns(guests, series, capsys):
    for options in (series, [guests["web0"], guests["db0"]], [guests["web0"], "--duration", "0"]):
        status, out, err = replay(capsys, *options, "--policy", "ksm:smart_scan=0,max_page_sharing=16")
        assert (status, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 80
        assert "\x1b" not in out
    out = replay(capsys, *series)[1]
    assert " that could be (" in out.splitlines()[0]
    assert "copy-on-write" in out
    assert re.search(r"\n  50 % of what could be after [0-9.]+ s, 90 % ", out)
    out = replay(capsys, *series, "--duration", "2s", "--objective", "nonzero")[1]
    assert "\n  50 % of what could be without zero pages not, 90 % not, 99 % not\n" in out
    assert out.count("\n") < 50


@pytest.mark.parametrize(
    ("numbers", "headline"),
    [
        ([7], "No two pages are equal: there is nothing to save."),
        ([1, 2, 3], "No two pages are equal: there is nothing to save."),
        ([None, None], "No page that must be read: there is nothing to look for."),
        ([0, 0, 0], "8.00 KiB saved after 0.32 s, of 8.00 KiB that could be (100 %)"),
        ([1, 1, None], "4.00 KiB saved after 0.32 s, of 4.00 KiB that could be (100 %)"),
    ],
)
def test_hardly_any_memory(tmp_path, capsys, numbers, headline):
    path = dump(tmp_path / "small.raw", numbers)
    status, out, err = replay(capsys, path)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == headline
    document = replay_json(capsys, path)
    assert document["pages"] == sum(number is not None for number in numbers)
    drawn = tmp_path / "small.svg"
    assert replay(capsys, path, "--svg", drawn)[0] == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--rate", "0.001"],
        ["--rate", "1e11"],
        ["--cpu", "0.0001%"],
        ["--sleep", "0"],
        ["--pages-to-scan", "100000000"],
        ["--rate-per-owner", "0.5"],
    ],
)
def test_odd_paces_come_to_an_end(guests, capsys, options):
    document = replay_json(capsys, guests["web0"], guests["db0"], *options)
    assert document["saved"] == document["possible"]
    assert document["visits"] < 2 * document["pages"]


def test_without_a_sleep_the_course_takes_the_time_of_its_looks(guests, capsys):
    document = replay_json(capsys, guests["web0"], guests["db0"], "--sleep", "0", "--policy", "random")
    reached = [document["reached"][share]["seconds"] for share in ("50", "90", "99")]
    assert 0 < reached[0] < reached[1] <= reached[2]
    assert [sample["visits"] for sample in document["course"] if not sample["seconds"]][2:] == []
    out = replay(capsys, guests["web0"], guests["db0"], "--sleep", "0", "--policy", "random")[1]
    assert " ms, of " in out.splitlines()[0]


@pytest.mark.parametrize(("size", "pages"), [("512", 6400), ("16K", 200), ("2M", 0)])
def test_page_sizes(guests, capsys, size, pages):
    assert replay_json(capsys, guests["web0"], guests["db0"], "--page-size", size)["pages"] == pages


# ---- what can't be done ----


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "name dumps, or a series: --at 0s DUMP... --at 60s DUMP..."),
        ("WEB0 --at 0s WEB0", "with --at, every dump must stand behind the time that it was taken at"),
        (
            "--at 0s WEB0 --at 1s WEB20 DB20",
            "--at 1s: 2 dumps, in the first snapshot 1; every snapshot must have the"
            " same owners, by NAME= or else in the same order",
        ),
        ("--at 0s WEB0 DB0 --at 1s WEB20", "--at 1s: 1 dump, in the first snapshot 2; every snapshot must have the"),
        ("--at 0s a=WEB0 --at 1s b=WEB20", "--at 1s: b is not in the first snapshot; "),
        ("--at 0s a=WEB0 DB0 --at 1s DB20", "--at 1s: a is missing; "),
        ("--at 0s a=WEB0 DB0 --at 1s a=WEB20", "--at 1s: 0 dumps without NAME=, in the first snapshot 1; "),
        ("--at 1s WEB0 --at 0s WEB20", "--at 0s behind --at 1s: times must ascend"),
        ("--at 1s WEB0 --at 1s WEB20", "--at 1s behind --at 1s: times must ascend"),
        ("--at WEB0 DB0", "must be a time, such as 60s, 200ms, 5m or 1h"),
        ("--at 0s --at 1s WEB0", "--at 0s: name the dumps that were taken then"),
        ("--at 0s WEB0 --writes MODEL", "leave out --writes and --trace"),
        ("--at 0s WEB0 --skip-bad", "--skip-bad: a series needs all of its dumps"),
        ("WEB0 --writes MODEL --trace MODEL", "--writes and --trace: only one of them says what is written"),
        ("WEB0 --writes ENDLESS", "--writes: the model has no end: say how long, with --duration"),
        ("WEB0 --rate 10 --cpu 1%", "--rate and --cpu: only one of them says how fast"),
        ("WEB0 --rate 10 --sleep 1s", "--rate and --pages-to-scan: only one of them"),
        ("WEB0 --domain red", "--domain red: must be NAME=OWNER[,OWNER...]"),
        ("WEB0 --domain red=nobody", "--domain: domain red: no owner 'nobody'; there are web.t0.raw"),
        ("WEB0 --record x.csv", "--record: nothing is written to memory that holds still: give --at, --writes or"),
        ("--at 0s WEB0 --at 1s WEB20 --record x.svg --svg x.svg", "a file of its own for each of --record, --svg"),
        ("WEB0 --svg x --png x", "a file of its own for each of --svg"),
        ("WEB0 --rate 0", "argument --rate: '0': must be a number of pages a second above 0"),
        ("WEB0 --rate nan", "argument --rate: 'nan': must be"),
        ("WEB0 --rate-per-owner -1", "argument --rate-per-owner: '-1': must be a number of pages a second above 0"),
        ("WEB0 --cpu 0%", "argument --cpu: '0%': must be a share of a CPU, such as 2%"),
        ("WEB0 --cpu 200%", "argument --cpu: '200%': must be"),
        ("WEB0 --cpu 2", "argument --cpu: '2': must be a share of a CPU, such as 2%"),
        ("WEB0 --sleep soon", "argument --sleep: 'soon': must be a time, such as 60s, 200ms, 5m or 1h"),
        ("WEB0 --duration -1", "argument --duration: '-1': must be a time"),
        ("WEB0 --pages-to-scan 0", "argument --pages-to-scan: '0': must be a whole number from 1"),
        ("WEB0 --peek-cost 2", "argument --peek-cost: '2': must be from 0 to 1"),
        ("WEB0 --page-size 1000", "argument --page-size: '1000': must be a power of two"),
        ("WEB0 --seed x", "argument --seed: 'x': must be a whole number"),
        ("WEB0 --objective most", "argument --objective: invalid choice: 'most'"),
        ("WEB0 --policy best", "argument --policy: no policy 'best': there are sequential, "),
        ("WEB0 --policy ksm:speed=1", "policy ksm has no option 'speed': its options are max_page_sharing, "),
        ("WEB0 --policy random:speed=1", "policy random has no option 'speed': it has none"),
        ("WEB0 --policy ksm:smart_scan=x", "option 'smart_scan=x': must be NAME=NUMBER"),
    ],
)
def test_usage_errors(guests, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.toml").write_text(MODEL)
    (tmp_path / "endless.toml").write_text("[[region]]\nrate = 1\n")
    named = {"MODEL": "model.toml", "ENDLESS": "endless.toml", **{name.upper(): path for name, path in guests.items()}}
    for name, path in sorted(named.items(), key=lambda each: -len(each[0])):
        arguments = arguments.replace(name, str(path))
    status, out, err = replay(capsys, *arguments.split())
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]


@pytest.mark.usefixtures("never")
def test_dumps_that_cannot_be_read_are_all_named(guests, tmp_path, capsys):
    empty, broken = tmp_path / "empty", tmp_path / "broken.elf"
    empty.touch()
    broken.write_bytes(b"\x7fELF\x02\x01")
    status, out, err = replay(capsys, "--at", "0s", guests["web0"], empty, "--at", "1s", broken, tmp_path / "none")
    assert (status, out) == (1, "")
    named = [line.split(": ")[1] for line in err.splitlines()]
    assert named == [str(empty), str(broken), f"{tmp_path}/none"]


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--writes", "none.toml"], "none.toml: No such file or directory"),
        (["--trace", "none.csv"], "none.csv: No such file or directory"),
        (["--writes", "typo.toml"], "typo.toml: region[0].rat: no such key; "),
        (["--svg", "mine.svg"], "mine.svg exists: choose another name, or use --force"),
        (["--png", "none/x.png"], "none: there is no such folder"),
        (["--svg", "folder", "--force"], "folder is a folder: name a file"),
        (["--writes", "model.toml", "--record", "mine.svg"], "mine.svg exists: choose another name, or use --force"),
        (["--writes", "model.toml", "--record", "none/x.csv"], "none: there is no such folder"),
    ],
)
def test_what_is_in_the_way_is_said_before_anything_is_read(guests, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.svg").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.toml").write_text(MODEL)
    (tmp_path / "typo.toml").write_text("[[region]]\nrat = 1\n")
    status, out, err = replay(capsys, guests["web0"], *options)
    assert (status, out) == (1, "")
    assert err.startswith(f"pageshare replay: {message}")
    assert err.count("\n") == 1
    assert (tmp_path / "mine.svg").read_text() == "mine"


def test_incomplete_dumps_are_status_3(tmp_path, guests, capsys):
    pages = [bytes([number]) * PAGE for number in (1, 1, 2, 2, 3)]
    header, core = core_header([(0x1000, 5 * PAGE)], kind=Kind.RAM), tmp_path / "cut.elf"
    core.write_bytes((header + b"".join(pages))[: len(header) + 3 * PAGE + 100])
    status, out, err = replay(capsys, core, "--json")
    document = json.loads(out)
    assert (status, document["pages"], document["saved"]) == (3, 3, 1)
    assert err.startswith(f"pageshare: incomplete: {core}: ")
    assert len(document["incomplete"]) == 1
    document = replay_json(capsys, core, tmp_path / "none", guests["web0"], "--skip-bad", status=3)
    assert document["skipped"] == [{"path": f"{tmp_path}/none", "reason": "No such file or directory"}]
    status, out, err = replay(capsys, core, tmp_path / "none", "--skip-bad")
    assert status == 3
    assert f"pageshare: left out: {tmp_path}/none: No such file or directory\n" in err


@pytest.mark.parametrize("command", ["replay", "policies"])
def test_a_raw_dump_cut_off_within_a_page_is_a_warning(tmp_path, capsys, command):
    cut = tmp_path / "cut.raw"
    cut.write_bytes(b"a" * 5000)
    sentence = "1 incomplete page at a range's end, in cut.raw: left out"
    assert main([command, "-q", str(cut)]) == main(["scan", "-q", str(cut)]) == 0
    assert capsys.readouterr().err == f"pageshare: warning: {sentence}\n"
    assert main([command, "--json", str(cut)]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == [sentence]


def test_what_a_series_does_not_show_is_a_warning(guests, tmp_path, capsys):
    short = dump(tmp_path / "short.raw", [1] * 10)
    options = ["--at", "0s", guests["web0"], "--at", "1s", short]
    document = replay_json(capsys, *options)
    assert document["warnings"] == ["390 pages are missing from later snapshots; they are taken to stay as they were"]
    assert replay(capsys, *options)[2] == f"pageshare: warning: {document['warnings'][0]}\n"


# ---- files ----


def test_plots_are_whole_and_private(series, tmp_path, capsys):
    svg, png = tmp_path / "course.svg", tmp_path / "course.png"
    assert replay(capsys, *series, "--svg", svg, "--png", png)[0] == 0
    assert sorted(tmp_path.iterdir()) == [png, svg]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (svg, png)] == [0o600, 0o600]
    assert png.read_bytes().startswith(b"\x89PNG")
    first = svg.read_bytes()
    assert first.rstrip().endswith(b"</svg>")
    svg.write_text("mine")
    assert replay(capsys, *series, "--svg", svg, "--force")[0] == 0
    assert svg.read_bytes() == first


def test_a_plot_that_fails_leaves_nothing(guests, tmp_path, monkeypatch, capsys):
    from matplotlib.figure import Figure

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    status, out, err = replay(capsys, guests["web0"], "--svg", tmp_path / "x.svg")
    assert (status, out, err) == (1, "", "pageshare replay: [Errno 28] No space left on device\n")
    assert list(tmp_path.iterdir()) == []


# ---- how it ends ----

SIGNALS = pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@SIGNALS
def test_interrupted_while_pages_are_counted(guests, signum, status):
    with start("replay", "--json", guests["web0"], slow="census") as process:
        assert process.stderr.readline() == b"census\n"
        sent = time.monotonic()
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - sent
    assert (process.returncode, out, err) == (status, b"", b"")
    assert took < 2  # 0.2 s, and what a loaded machine adds


@SIGNALS
@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("command", ["replay", "policies"])
def test_interrupted_while_costs_are_measured(guests, command, after, signum, status):
    with start(command, "--json", guests["web0"], slow="measure") as process:
        assert process.stderr.readline() == b"census\n"
        assert process.stderr.readline() == b"measure\n"
        time.sleep(after)
        sent = time.monotonic()
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - sent
    assert (process.returncode, out) == (status, b"")
    assert set(err.split()) <= {b"scan", b"measure"}  # tables are scanned to measure
    assert took < 2  # 0.2 s, and what a loaded machine adds


@SIGNALS
@pytest.mark.parametrize("more", [[], ["--duration", "1000h"]])
def test_an_interrupted_replay_prints_what_it_found(guests, tmp_path, signum, status, more):
    svg = tmp_path / "course.svg"
    options = ["--policy", "random-with-replacement", "--rate", "0.5", "--svg", svg, *more]
    with start("replay", "--json", guests["web0"], *options) as process:
        lines = [process.stderr.readline() for _ in range(20)]
        assert set(lines) == {b"census\n", b"scan\n"}
        assert children_of(process.pid) == []
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    document = json.loads(out)
    if document["interrupted"]:
        assert process.returncode == status
        assert not svg.exists()
    else:  # it had come to its end by then
        assert not more
    assert set(err.splitlines()) <= {b"scan"}
    assert document["visits"] > 0
    assert document["saved"] <= document["possible"]


def test_text_says_that_it_was_interrupted(guests):
    options = ["--policy", "random", "--duration", "1000h", "--rate", "100"]
    with start("replay", guests["web0"], *options) as process:
        for _ in range(5):
            process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"set to save any pages; interrupted" in b" ".join(out.split())


def test_a_closed_pipe_ends_quietly(guests):
    command = f"{sys.executable} -m pageshare replay --json --duration 1 {guests['web0']} | head -c 10"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b'{\n  "forma', b"")


def test_a_full_disk_is_one_line(guests):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = start("replay", guests["web0"], "--duration", "1", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.splitlines()[-1] == b"pageshare replay: [Errno 28] No space left on device"


def test_there_is_a_progress_bar_on_a_terminal(guests):
    options = ["--policy", "random", "--duration", "20s"]
    seen, out = on_a_terminal("replay", "--json", guests["web0"], *options, stream="stderr", slow="scan", seconds=0.02)
    assert json.loads(out)["seconds"] == 20
    assert b"\x1b" in seen
    assert b"replay" in seen
    assert b"%" in seen
    seen, _ = on_a_terminal("replay", "--json", "-q", guests["web0"], *options, stream="stderr")
    assert b"\x1b" not in seen


def test_colour_is_for_terminals_that_want_it(guests):
    options = ["replay", guests["web0"], "--duration", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    assert b"\x1b[1m" in on_a_terminal(*options, stream="stdout", env=environment)[0]
    assert b"\x1b" not in on_a_terminal(*options, stream="stdout", env={**environment, "NO_COLOR": "1"})[0]
