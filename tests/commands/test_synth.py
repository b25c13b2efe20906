from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oracle import agrees
from pageshare import synth
from pageshare.commands import main

MIB = 1 << 20
PAGESHARE = [sys.executable, "-m", "pageshare"]


def made(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    """The JSON of a run that goes well."""
    assert main(["synth", "--json", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_what_was_made_and_the_next_command_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my images"
    assert main(["synth", "--size", "1MiB", "--zero", "0.5", "--duplicate", "0", "-o", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    # 256 zero pages in all; one stays.
    assert lines[0] == (
        f"2 x 1.00 MiB, raw, in {folder}: a scan must find that 1020 KiB of 2.00 MiB can be saved (49.8 %)"
    )
    assert [line.split() for line in lines if line.startswith(("guest", "together"))] == [
        ["guest1.raw", "128", "0", "128", "128", "127"],
        ["guest2.raw", "128", "0", "128", "128", "127"],
        ["together", "256", "0", "256", "256", "255"],
    ]
    assert lines[-1] == f"next: pageshare scan '{folder}'"


def test_a_scan_of_the_folder_prints_the_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = made(capsys, "--images", 11, "--size", "256K", "--base", "0.2", "--sparse", "0.5", "-o", tmp_path)
    assert truth == json.loads((tmp_path / "truth.json").read_text())
    assert truth["format"] == "pageshare-synth/1"
    assert main(["scan", "--json", "--quiet", str(tmp_path)]) == 0
    assert agrees(json.loads(capsys.readouterr().out), {key: truth[key] for key in ("pages", "nonzero", "owners")})


def test_every_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        **{"--images": 1, "--size": "1MiB", "--zero": 0.1, "--duplicate": 0.2, "--contents": 30, "--zipf": 1.5},
        **{"--base": 0.3, "--run": 4, "--sparse": 0.5, "--format": "raw", "--seed": 9, "--page-size": "8K"},
    }
    arguments = [part for option in options.items() for part in option]
    truth = made(capsys, *arguments, "-o", tmp_path)
    assert synth.Spec.of_table(truth["spec"]) == synth.Spec(
        images=1,
        size=MIB,
        page_size=8192,
        seed=9,
        zero=0.1,
        duplicate=0.2,
        base=0.3,
        sparse=0.5,
        popularity=synth.Zipf(1.5, 30),
        run=synth.Runs.of(4),
    )
    assert truth["page_size"] == 8192
    assert main(["synth", *map(str, arguments), "-o", str(tmp_path), "--force"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: pageshare scan --page-size 8192 {tmp_path}"


def test_options_win_over_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spec.toml"
    path.write_text('images = 3\nsize = "1MiB"\nformat = "elf"\n[popularity]\nexponent = 0.5\ncontents = 7\n')
    truth = made(capsys, path, "--format", "lime", "--contents", 8, "-o", tmp_path / "made")
    assert truth["spec"]["images"] == 3
    assert truth["spec"]["popularity"] == {"kind": "zipf", "exponent": 0.5, "contents": 8}
    assert [owner["name"] for owner in truth["owners"]] == ["guest1.lime", "guest2.lime", "guest3.lime"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--zero", "2"], "zero: must be a number from 0 to 1, not 2.0"),
        (["--zero", "0.9"], "zero 0.9 + duplicate 0.3 = 1.2: must be at most 1 together"),
        (["--size", "big"], "size: must be a size in bytes, or with K, M, G or T behind (64MiB), not big"),
        (["--sparse", "1", "--format", "elf"], "sparse: must be 0 in format elf: only raw files have holes"),
    ],
)
def test_options_that_make_no_sense(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", *arguments, "-o", str(tmp_path / "new")]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"pageshare synth: {message}\n")
    assert not (tmp_path / "new").exists()


def test_a_bad_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spec.toml"
    path.write_text("imagse = 3\n")
    assert main(["synth", str(path), "-o", str(tmp_path / "new")]) == 1
    assert capsys.readouterr().err.startswith(f"pageshare synth: {path}: imagse: no such key; there are images, ")
    assert main(["synth", str(tmp_path / "none.toml"), "-o", str(tmp_path / "new")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_existing_files_stay_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(capsys, "--size", "64K", "-o", tmp_path)
    assert main(["synth", "--size", "128K", "-o", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"pageshare synth: {tmp_path}/guest1.raw exists: choose another folder, or use --force\n"
    made(capsys, "--size", "128K", "-o", tmp_path, "--force")
    assert (tmp_path / "guest1.raw").stat().st_size == 128 << 10


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_file(signum: signal.Signals, status: int, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    command = [*PAGESHARE, "synth", "--images", "100", "--size", "16MiB", "-o", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while not list(folder.glob(".synth-*/guest*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signum)
        assert process.wait(30) == status
        assert process.communicate() == (b"", b"")
    assert not folder.exists()


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    # A limit on the size of files stands for it: what fails is the write.
    folder = tmp_path / "made"
    done = subprocess.run(
        [*PAGESHARE, "synth", "--size", "64MiB", "-o", str(folder)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, 8 * MIB)),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"pageshare synth: [Errno 27] File too large: '{folder}/guest1.raw'\n"
    assert not folder.exists()


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_on_a_terminal(quiet: bool, tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as screen, os.fdopen(end, "wb") as stderr:
        subprocess.run(
            [*PAGESHARE, "synth", "--size", "4MiB", "-o", str(tmp_path), *["--quiet"] * quiet],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "TERM": "xterm"},
        )
        os.set_blocking(terminal, False)
        shown = screen.read() or b""
    assert (b"writing images" in shown) is not quiet
