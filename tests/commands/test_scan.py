"""``pageshare scan`` as a user runs it: figures, exit status, what goes where, and how it ends."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import PAGE, memory, run, run_json, two_dumps
from oracle import agrees, census
from pageshare.commands import main
from pageshare.images.elf import core_header
from pageshare.images.ranges import Kind
from pageshare.limits import Memory


@pytest.fixture
def guests(tmp_path):
    return two_dumps(tmp_path)


def scan(capsys, *arguments):
    return run(capsys, "scan", *arguments)


def scan_json(capsys, *arguments, status=0):
    return run_json(capsys, "scan", *arguments, status=status)


def test_json_has_the_figures_of_a_dict(guests, capsys):
    folder, held = guests
    document = scan_json(capsys, *(folder / name for name in held))
    assert agrees(document, census(held))


KEYS = {
    "": "format page_size hash verified pages nonzero coverage domains owners seed method kernel threads"
    " overlapped readings table_bytes readable seconds interrupted incomplete warnings skipped reclaimed_range",
    "pages": "known zero zero_inferred unique shared kept reclaimed unknown partial device",
    "nonzero": "shared kept reclaimed reclaimed_intra reclaimed_inter",
    "coverage": "data zero zero_inferred excluded lost partial_bytes device process",
    "seconds": "map scan total",
    "partial": "policy seed visits hints shared kept reclaimed zero",
}


def test_json_keys_are_those_documented(guests, capsys):
    folder, held = guests
    document = scan_json(capsys, *(folder / name for name in held), "--policy", "random", "--limit", "4")
    assert set(document) == set(KEYS[""].split()) | {"partial"}
    for part in ("pages", "nonzero", "coverage", "seconds", "partial"):
        assert list(document[part]) == KEYS[part].split()
    for owner in document["owners"]:
        assert set(owner) == {"name", "domain", "files", "pages", "nonzero", "with_others", "coverage"}
        assert list(owner["pages"]) == KEYS["pages"].split()
        assert set(owner["nonzero"]) == {"shared", "kept", "reclaimed"}
        assert set(owner["with_others"]) == {"shared", "unique"}
        assert list(owner["coverage"]) == KEYS["coverage"].split()
        assert set(owner["files"][0]) == {"path", "format"}
    assert document["format"] == "pageshare-scan/1"
    assert (document["hash"], document["verified"], document["page_size"]) == ("xxh3-64", True, 4096)
    assert document["pages"]["unique"] is None
    assert "partial" not in scan_json(capsys, folder / "web.raw")


def test_text_goes_to_stdout_and_nothing_else_happens(guests, capsys):
    folder, held = guests
    status, out, err = scan(capsys, *(folder / name for name in held))
    assert (status, err) == (0, "")
    assert out.startswith("16.0 KiB of 36.0 KiB can be saved (44.4 %)")
    assert "\x1b" not in out


def test_names_and_domains(guests, capsys):
    folder, held = guests
    paths = [f"a={folder / 'web.raw'}", f"b={folder / 'db.raw'}"]
    owners = {"a": held["web.raw"], "b": held["db.raw"]}
    apart = scan_json(capsys, *paths, "--domain", "red=a")
    assert agrees(apart, census(owners, {"a": "red"}))
    assert apart["domains"] == ["red", "default"]
    assert [owner["domain"] for owner in apart["owners"]] == ["red", "default"]
    assert agrees(scan_json(capsys, *paths, "--domain", "red=a,b"), census(owners))
    each = scan_json(capsys, *paths, "--domain-per-owner")
    assert agrees(each, census(owners, {"a": "a", "b": "b"}))


@pytest.mark.parametrize(
    ("limit", "visits"), [("4", 4), ("50%", 4), ("16KiB", 4), ("16k", 4), ("100%", 9), ("250%", 22), ("0.25%", None)]
)
def test_limits(guests, capsys, limit, visits):
    folder, held = guests
    paths = [folder / name for name in held]
    if visits is None:
        status, out, err = scan(capsys, *paths, "--limit", limit)
        assert (status, out) == (2, "")
        assert "less than one page" in err
    else:
        partial = scan_json(capsys, *paths, "--policy", "sequential", "--limit", limit)["partial"]
        assert partial["visits"] == visits


def test_all_of_a_permutation_is_the_census(guests, capsys):
    folder, held = guests
    document = scan_json(capsys, *(folder / name for name in held), "--policy=random-permutation", "--limit=100%")
    assert agrees(document, census(held))


def test_page_size(guests, capsys):
    folder, held = guests
    document = scan_json(capsys, *(folder / name for name in held), "--page-size", "1KiB")
    small = {name: [page[i : i + 1024] for page in pages for i in range(0, PAGE, 1024)] for name, pages in held.items()}
    assert agrees(document, census(small, page_size=1024))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--limit", "lots"],
        ["--limit", "1.5"],
        ["--policy", "best"],
        ["--seed", "-1"],
        ["--seed", "x"],
        ["--threads", "0"],
        ["--page-size", "1000"],
        ["--memory", "0"],
        ["--domain", "red"],
        ["--domain", "red=nobody"],
        ["--domain", "red=web.raw", "--domain-per-owner"],
        ["--domain", "red=web.raw", "--domain", "blue=web.raw"],
        ["--what"],
    ],
)
def test_usage_errors(guests, capsys, arguments):
    folder, _ = guests
    status, out, err = scan(capsys, folder / "web.raw", *arguments)
    assert (status, out) == (2, "")
    assert arguments[0] in err


@pytest.mark.parametrize("name", ["oracle", "oracle:"])
def test_a_policy_that_needs_the_answer_is_refused_before_anything_is_opened(guests, capsys, name):
    folder, _ = guests
    status, out, err = scan(capsys, folder / "web.raw", folder / "none", "--policy", name)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].endswith("only pageshare replay and pageshare policies know the answer beforehand")


@pytest.mark.parametrize(
    ("free", "arguments", "said"),
    [
        (1 << 20, [], ""),
        (37000, [], "36.0 KiB and 144 B for the scan itself are more than the 36.1 KiB of memory that are free"),
        (20000, [], "36.0 KiB are more than the 19.5 KiB of memory that are free: the files are read 2 to 5 times"),
        (20000, ["--memory", "1MiB"], "are read twice, holding 1.00 MiB at most (--memory)"),
        (20000, ["--policy", "random"], "pages to compare with come from the disk one by one"),
        (20000, ["--limit", "2"], ""),
    ],
)
def test_more_than_memory_is_said_beforehand(guests, capsys, monkeypatch, free, arguments, said):
    folder, held = guests
    monkeypatch.setattr("pageshare.limits.memory", lambda: Memory(1 << 20, free))
    status, _, err = scan(capsys, *(folder / name for name in held), *arguments)
    assert status == 0
    assert said in err
    assert bool(err) == bool(said)


def test_bad_inputs_are_all_named_and_nothing_is_counted(guests, capsys):
    folder, _ = guests
    (folder / "empty").touch()
    (folder / "broken.elf").write_bytes(b"\x7fELF\x02\x01")
    status, out, err = scan(capsys, folder / "web.raw", folder / "empty", folder / "broken.elf", folder / "none")
    assert (status, out) == (1, "")
    assert [name for name in ("web.raw", "empty", "broken.elf", "none") if f"{folder / name}:" in err] == [
        "empty",
        "broken.elf",
        "none",
    ]


def test_skip_bad_leaves_them_out_and_says_so(guests, capsys):
    folder, held = guests
    (folder / "empty").touch()
    arguments = [folder / "web.raw", folder / "empty", "--skip-bad"]
    document = scan_json(capsys, *arguments, status=3)
    assert agrees(document, census({"web.raw": held["web.raw"]}))
    assert document["skipped"] == [{"path": str(folder / "empty"), "reason": "the file is empty"}]
    for command in ["scan", "info"]:
        assert main([command, *map(str, arguments)]) == 3
        assert f"pageshare: left out: {folder / 'empty'}: the file is empty\n" in capsys.readouterr().err


def test_a_cut_core_is_status_3_and_its_lost_pages_are_counted(tmp_path, capsys):
    pages = memory(1, 1, 2, 2, 3)
    header = core_header([(0x1000, 5 * PAGE)], kind=Kind.RAM)
    core = tmp_path / "cut.elf"
    core.write_bytes((header + b"".join(pages))[: len(header) + 3 * PAGE + 100])
    status, out, err = scan(capsys, core, "--json")
    document = json.loads(out)
    assert status == 3
    assert agrees(document, census({"cut.elf": pages[:3]}))
    assert (document["coverage"]["lost"], document["pages"]["unknown"]) == (2, 2)
    assert str(core) in err
    assert document["incomplete"]


def test_the_seed_fixes_a_random_scan(guests, capsys):
    folder, held = guests
    paths = [folder / name for name in held]

    def found(seed):
        return scan_json(capsys, *paths, "--policy", "random", "--limit", "5", "--seed", seed)["partial"]

    assert found(7) == found(7)
    assert found("0x7")["seed"] == 7


# ---- how it ends ----

CHILD = """
import sys, time
from pageshare import core
from pageshare.commands import main

seconds = float(sys.argv.pop(1))

def again_and_again(whole):
    def scan(*arguments, **options):
        print("scanning", file=sys.stderr, flush=True)
        result, end = whole(*arguments, **options), time.monotonic() + seconds
        while time.monotonic() < end:
            result = whole(*arguments, **options)
        return result
    return scan

core.FrameTable.scan = again_and_again(core.FrameTable.scan)
core.census = again_and_again(core.census)
sys.exit(main())
"""
"""The command line with each census, or batch, scanned over and over for so many seconds, and told of on stderr."""


def child(seconds, *arguments, stderr=subprocess.PIPE):
    command = [sys.executable, "-c", CHILD, str(seconds), "scan", "--json", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_full_scan_says_that_it_has_no_figures(guests, signum, status):
    folder, _ = guests
    with child(1000, folder / "web.raw") as process:
        assert process.stderr.readline() == b"scanning\n"
        sent = time.monotonic()
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - sent
    assert process.returncode == status
    assert out == b""
    assert err.startswith(b"pageshare: note: stopped: a full scan has no figures before its end")
    assert took < 2  # 0.2 s, and what a loaded machine adds


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_policy_scan_prints_what_it_found(guests, signum, status):
    folder, held = guests
    arguments = ["--policy", "random-with-replacement", "--limit", "1000000000000"]
    with child(0, folder / "web.raw", *arguments) as process:
        for _ in range(20):
            assert process.stderr.readline() == b"scanning\n"
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert set(err.splitlines()) <= {b"scanning"}
    document = json.loads(out)
    assert document["interrupted"] is True
    assert 0 < document["partial"]["visits"] < 10**12
    assert agrees(document, census({"web.raw": held["web.raw"]}))


def test_a_closed_pipe_ends_quietly(guests):
    folder, held = guests
    command = f"{sys.executable} -m pageshare scan --json {' '.join(str(folder / n) for n in held)} | head -c 10"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False)
    assert done.stdout == b'{\n  "forma'
    assert done.stderr == b""


def test_names_that_the_terminal_cannot_show(guests):
    folder, _ = guests
    (folder / "g\N{LATIN SMALL LETTER A WITH DIAERESIS}st").write_bytes(b"\1" * PAGE)
    command = [sys.executable, "-m", "pageshare", "scan", "--format=raw", folder / "web.raw", folder / "g\xe4st"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\ng\\xe4st " in done.stdout


def test_a_full_disk_is_one_line(guests):
    folder, _ = guests
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "pageshare", "scan", folder / "web.raw"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["pageshare scan: [Errno 28] No space left on device"]


def test_there_is_a_progress_bar_on_a_terminal(guests):
    folder, _ = guests
    leader, follower = pty.openpty()
    seen = b""
    with child(1, folder / "web.raw", stderr=follower) as process:
        os.close(follower)
        # EIO: nobody has the other end any more.
        with contextlib.suppress(OSError):
            while part := os.read(leader, 4096):
                seen += part
        assert json.loads(process.stdout.read())["verified"]
    os.close(leader)
    assert b"\x1b" in seen
    assert b"24.0/24.0 KiB" in seen


def most_of_its_own(*arguments):
    """The most memory of its own that a scan has resident, looked at every millisecond."""
    most = 0
    command = [sys.executable, "-m", "pageshare", "scan", "--json", "--quiet", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            most = max([most, *(int(kib) * 1024 for kib in re.findall(r"RssAnon:\s+(\d+)", status))])
            time.sleep(0.001)
    assert process.returncode == 0
    return most


def test_pages_and_holes_that_take_turns_take_little_memory(tmp_path):
    """As docs/design.md has it: a page with a hole behind it, up to 130 bytes."""
    runs, dump, small = 200_000, tmp_path / "turns.raw", tmp_path / "small.raw"
    small.write_bytes(bytes(PAGE))
    with dump.open("wb") as file:
        for number in range(runs):
            os.pwrite(file.fileno(), bytes([number % 255 + 1]) * PAGE, 2 * number * PAGE)
    per_run = (most_of_its_own(dump) - most_of_its_own(small)) / runs
    assert per_run < 150
