"""What holds for every command: closed standard streams, narrow terminals; what is read is never written."""

import json
import os
import subprocess
import sys

import pytest

from known_child import known_child
from pageshare.commands import main
from watched import on_a_terminal

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


# ---- what is read is never written ----

READ = [
    ("replay G.raw --svg G.raw", "--svg G.raw: is read"),
    ("replay x=G.raw --png ./G.raw", "--png G.raw: is read"),
    ("replay folder --svg link.svg", "--svg link.svg: is folder/g.raw, which is read"),
    ("replay G.raw --svg hard.svg", "--svg hard.svg: is G.raw, which is read"),
    ("replay --at 0s G.raw --at 1s x=H.raw --svg H.raw", "--svg H.raw: is read"),
    ("replay G.raw --trace t.csv --svg t.csv", "--svg t.csv: is read"),
    ("replay G.raw --trace t.csv --record t.csv", "--record t.csv: is read"),
    ("replay G.raw --writes m.toml --record m.toml", "--record m.toml: is read"),
    ("replay G.raw --writes m.toml --record G.raw", "--record G.raw: is read"),
    ("policies G.raw --html G.raw", "--html G.raw: is read"),
    ("policies G.raw --writes m.toml --duration 1 --html m.toml", "--html m.toml: is read"),
    ("figures 4 --guests G.raw --png hard.svg", "--png hard.svg: is G.raw, which is read"),
]


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(("arguments", "message"), READ)
def test_what_is_read_is_never_written(tmp_path, monkeypatch, capsys, arguments, message, force):
    def fail(*_, **__):
        raise AssertionError("something was read")

    monkeypatch.setattr("pageshare.commands._memory.open_groups", fail)
    monkeypatch.setattr("pageshare.figures.figure_4", fail)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    held = {"G.raw": b"a" * PAGE, "H.raw": b"b" * PAGE, "folder/g.raw": b"c" * PAGE, "t.csv": b"not", "m.toml": b"read"}
    for name, data in held.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.svg").symlink_to("folder/g.raw")
    (tmp_path / "hard.svg").hardlink_to("G.raw")
    assert main([*arguments.split(), *force]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"pageshare {arguments.split()[0]}: {message}: name another file\n")
    assert {name: (tmp_path / name).read_bytes() for name in held} == held
    assert (tmp_path / "link.svg").is_symlink()
    assert (tmp_path / "hard.svg").samefile("G.raw")


@pytest.mark.usefixtures("dump")
def test_files_beside_those_that_are_read_are_written(tmp_path, capsys):
    plot = tmp_path / "old.svg"
    plot.write_text("old")
    assert main(["replay", "-q", "--duration", "1", str(tmp_path), "--svg", str(plot), "--force"]) == 0
    assert plot.read_text().rstrip().endswith("</svg>")
    assert capsys.readouterr().out


def test_two_names_of_one_output_are_one(dump, tmp_path, capsys):
    (tmp_path / "link.png").symlink_to("a.svg")
    options = ["--svg", str(tmp_path / "a.svg"), "--png", str(tmp_path / "link.png")]
    assert main(["replay", str(dump), *options]) == 2
    assert "name a file of its own for each" in capsys.readouterr().err


# ---- narrow terminals ----


@pytest.mark.parametrize(
    "arguments",
    ["replay -q DUMP", "policies -q --policy ksm:smart_scan=0,max_page_sharing=16 DUMP", "info DUMP", "capture -q PID"],
)
def test_a_narrow_terminal_gets_whole_words_and_numbers(dump, tmp_path, arguments):
    """It breaks lines of 80 columns itself, and whoever makes it wider sees them as they are meant."""
    environment = {**os.environ, "COLUMNS": "40", "NO_COLOR": "1"}
    with known_child(3) as child:
        given = arguments.replace("PID", f"{child.pid} -o {tmp_path}/cores").replace("DUMP", str(dump)).split()
        seen, _ = on_a_terminal(*given, stream="stdout", env=environment)
    text = seen.decode()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    if "capture" in arguments:
        row = text.splitlines()[1].split()
        assert row[0].endswith(f"-{child.pid}.core")
        assert all(number.replace(",", "").isdecimal() for number in row[1:])
    else:
        assert max(len(line) for line in text.splitlines() if str(dump) not in line) <= 80
