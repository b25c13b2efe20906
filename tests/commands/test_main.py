"""What holds for every command: standard streams that are closed."""

import json
import subprocess
import sys

import pytest

from pageshare.commands import main

PAGE = 4096


@pytest.fixture
def dump(tmp_path):
    path = tmp_path / "guest.raw"
    path.write_bytes(bytes([1, 1, 2, 3]) * PAGE)
    return path


def shell(redirected, *arguments):
    """The finished command, with standard streams redirected as a shell does it."""
    command = ["bash", "-c", f'exec "$@" {redirected}', "bash", sys.executable, "-m", "pageshare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


COMMANDS = [
    ["replay", "-q", "DUMP"],
    ["replay", "--json", "DUMP"],
    ["policies", "--policy", "sequential", "DUMP"],
    ["policies", "--list"],
    ["figures", "5"],
    ["scan", "--json", "DUMP"],
    ["info", "DUMP"],
    ["--version"],
    ["--help"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_closed_stdout_is_one_line(dump, arguments):
    done = shell(">&-", *(dump if each == "DUMP" else each for each in arguments))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pageshare: standard output is closed: nothing could be printed\n"


def test_a_closed_stdout_in_a_process_that_goes_on(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert main(["policies", "--list"]) == 1
    assert capsys.readouterr().err == "pageshare: standard output is closed: nothing could be printed\n"


@pytest.mark.parametrize("redirected", ["2>&-", "<&- 2>&-"])
def test_a_closed_stderr_changes_nothing_else(dump, tmp_path, redirected):
    done = shell(redirected, "scan", "--json", dump)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["pages"]["known"] == 4
    # What goes to stderr else goes nowhere: not to stdout, nor to a file that was opened in its place.
    plot = tmp_path / "course.svg"
    done = shell(redirected, "replay", "--json", "--duration", "1", "--svg", plot, dump, dump)
    assert (done.returncode, done.stderr) == (0, "")
    assert any("the same file" in warning for warning in json.loads(done.stdout)["warnings"])
    assert plot.read_bytes().rstrip().endswith(b"</svg>")
    assert "warning" not in plot.read_text()
    assert (shell(redirected, "scan", tmp_path / "none").stdout) == ""
    assert shell(redirected, "scan", tmp_path / "none").returncode == 1


def test_both_closed(dump):
    assert shell(">&- 2>&-", "scan", dump).returncode == 1
