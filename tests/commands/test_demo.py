"""``pageshare demo``: its figures, and that it leaves nothing behind however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import pageshare
from core_pages import PAGE, core_pages
from oracle import agrees, census
from pageshare.commands import demo, main

NAMES = ["sort", "dict", "json", "zeros"]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it makes its temporary folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def children() -> list[str]:
    """The process numbers of our children, those not waited for included."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_it_reports_and_leaves_nothing(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = children()
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "by sharing identical pages" in out
    done, report = out.split("\n\n", 1)
    assert [line.split()[0] for line in done.splitlines()[1:5]] == NAMES
    assert {line.split()[0] for line in report.splitlines() if line} >= set(NAMES)
    assert max(map(len, out.splitlines())) <= 100
    assert report.index("What to try next:") < report.index("pageshare capture")
    assert list(temporary.iterdir()) == []
    assert children() == before


def test_kept_cores_hold_what_was_counted(tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "new" / "my cores"
    assert main(["demo", "--json", "--keep", str(kept)]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    cores = {name: kept / f"{name}.core" for name in NAMES}
    assert sorted(kept.iterdir()) == sorted(cores.values())
    assert {stat.S_IMODE(path.stat().st_mode) for path in [kept, *cores.values()]} == {0o700, 0o600}
    assert [owner["files"][0]["path"] for owner in document["owners"]] == list(map(str, cores.values()))

    truth = census({name: list(core_pages(path).values()) for name, path in cores.items()}, page_size=PAGE)
    scanned = pageshare.scan(cores, page_size=PAGE).to_dict()
    assert agrees(scanned, truth)
    if document["page_size"] == PAGE:
        assert agrees(document, truth)
    assert document["coverage"]["process"] * document["page_size"] == truth["pages"]["known"] * PAGE
    assert list(temporary.iterdir()) == []

    # What each was started for is in its memory.
    owners = {owner["name"]: owner for owner in truth["owners"]}
    assert owners["zeros"]["pages"]["zero"] * PAGE >= 17 << 20  # of 18 buffers that stay empty
    assert all(owner["with_others"]["shared"] * PAGE >= 4 << 20 for owner in owners.values())  # the text
    assert truth["nonzero"]["reclaimed_inter"] > 0 < truth["nonzero"]["reclaimed_intra"]
    assert all(8 << 20 < path.stat().st_size < 100 << 20 for path in cores.values())


def test_the_commands_it_names_can_be_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "my cores"
    assert main(["demo", "--keep", str(kept)]) == 0
    out, _ = capsys.readouterr()
    commands = [line.split("#")[0].strip() for line in out.splitlines() if line.startswith("  pageshare ")]
    assert f"The cores are in '{kept}': sort.core, dict.core, json.core, zeros.core" in out
    on_kept = [command for command in commands if str(kept) in command]
    assert len(on_kept) == 2
    for command in on_kept:
        program = command.replace("pageshare", f"{sys.executable} -m pageshare", 1)
        subprocess.run(program, shell=True, check=True, stdout=subprocess.DEVNULL)


def test_quiet_prints_the_report_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].endswith("by sharing identical pages")
    assert "What to try next" not in out
    assert err == ""


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert main(["demo", "--keep", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"pageshare demo: --keep {tmp_path}: the folder is not empty: name a new one\n"
    assert (tmp_path / "mine").exists()


def test_kept_cores_outlive_whoever_reads_the_report(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    command = f"{sys.executable} -m pageshare demo --keep {kept} | true"
    assert subprocess.run(command, shell=True, capture_output=True, check=False).stderr == b""
    assert sorted(core.name for core in kept.iterdir()) == sorted(f"{name}.core" for name in demo.WORKS)


@pytest.mark.parametrize("keep", [False, True])
def test_an_interpreter_that_fails_is_named(
    tmp_path: Path,
    temporary: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    keep: bool,
) -> None:
    before = children()
    monkeypatch.setitem(demo.WORKS, "json", demo._Work("fails", "raise SystemExit(1)"))
    kept = tmp_path / "kept"
    assert main(["demo", *(["--keep", str(kept)] if keep else [])]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "pageshare demo: the interpreter for 'json' ended before its work was done\n"
    assert list(temporary.iterdir()) == []
    assert not kept.exists()
    assert children() == before


# The demo, where one thing takes for ever.
PROGRAM = """
import sys, time
import pageshare.capture
from pageshare.commands import demo, main, scan
from pageshare.process import Process

def forever(*_, **__):
    # Not in one piece: a signal that comes just before a sleep begins is handled when it ends.
    for _ in range(600):
        time.sleep(0.1)

{patch}
sys.exit(main())
"""
CAPTURING = "pageshare.capture.capture = forever"
MOMENTS = {
    "they start": ("demo.WORKS['zeros'] = demo._Work('sleeps', 'import time; time.sleep(60)')", 2),
    "they work": ("demo.WORKS['zeros'] = demo._Work('sleeps', 'import time; time.sleep(60)')", 5),
    "one is held": ("Process.read_pages = forever", 5),
    "they wait": (CAPTURING, 5),
    "they are scanned": ("scan.run = forever", 1),
}


class Demo:
    """One that runs on its own, up to the moment at which something takes for ever."""

    def __init__(self, folder: Path, patch: str) -> None:
        self.cores = folder / "cores"
        self._mark = f"PAGESHARE_TEST={folder}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(patch=patch), "demo", "--keep", str(self.cores)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | dict([self._mark.split("=")]),
        )

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.__exit__(None, None, None)

    def running(self) -> int:
        """How many processes there are of it and what it started: told by the environment."""
        found = 0
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended, or is not ours
                found += self._mark.encode() in environ.read_bytes().split(b"\0")
        return found

    def wait_for(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not reached():
            assert time.monotonic() < deadline
            time.sleep(0.002)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_leaves_no_part(tmp_path: Path, temporary: Path, moment: str, signum: int, status: int) -> None:
    patch, processes = MOMENTS[moment]
    with Demo(tmp_path, patch) as running:
        if moment == "one is held":
            running.wait_for(lambda: running.cores.exists() and any(running.cores.iterdir()))
        elif moment == "they are scanned":
            assert running.process.stdout is not None
            assert running.process.stdout.readline().startswith(b"Started four")
        running.wait_for(lambda: running.running() >= processes)
        running.process.send_signal(signum)
        sent = time.monotonic()
        _, err = running.process.communicate()
        took = time.monotonic() - sent
        assert running.process.returncode == status
        assert err == b""
        assert running.running() == 0
        # What was asked for with --keep stays once it is whole.
        assert running.cores.exists() == (moment == "they are scanned")
        assert list(temporary.iterdir()) == []
        assert took < 2  # 0.2 s and what a loaded machine adds


def test_killed_its_interpreters_end_by_themselves(tmp_path: Path) -> None:
    with Demo(tmp_path, CAPTURING) as running:
        running.wait_for(lambda: running.running() == 5)
        running.process.kill()
        running.process.wait()
        running.wait_for(lambda: running.running() == 0)
