from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core_pages import core_pages
from known_child import content, known_child
from pageshare.commands import main
from pageshare.process import Process


def gone() -> int:
    """The PID of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_cores_are_written_and_the_next_command_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, names = tmp_path / "new" / "my cores", []
    with known_child(3) as one, known_child(4) as other:
        assert main(["capture", str(one.pid), str(other.pid), str(one.pid), "-o", str(folder)]) == 0
        for child, pages in ((one, 3), (other, 4)):
            (core,) = folder.glob(f"*-{child.pid}.core")
            held = core_pages(core)
            assert [held[child.at(page)] for page in range(pages)] == [content(page) for page in range(pages)]
            names.append(core.name)
    assert len(list(folder.iterdir())) == 2
    out, err = capsys.readouterr()
    assert err == ""
    header, *rows = out.splitlines()
    assert header.split()[:5] == ["core", "captured", "anonymous", "file", "untouched"]
    assert [row.split()[0] for row in rows[:2]] == names
    assert f"next: pageshare scan '{folder}'" in out


def test_json_has_the_same_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with known_child(3) as child:
        arguments = ["capture", str(child.pid), "-o", str(tmp_path), "--json", "--stop", "--anonymous"]
        assert main(arguments) == 0
        out, err = capsys.readouterr()
        document = json.loads(out)
        (one,) = document["captured"]
        pages = core_pages(Path(one["path"]))
    assert err == ""
    assert list(document) == ["format", "page_size", "captured", "refused", "warnings"]
    assert document["format"] == "pageshare-capture/1"
    assert (one["pid"], one["held"]) == (child.pid, True)
    assert one["pages"]["captured"] == one["pages"]["anonymous"] == len(pages)
    assert one["pages"]["excluded"] > 0
    assert set(one["pages"]) == {
        *("captured", "anonymous", "file", "swapped"),
        *("untouched", "excluded", "special", "vanished", "unreadable"),
    }
    assert document["refused"] == document["warnings"] == []


def test_the_others_go_on_if_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pid = gone()
    with known_child(1) as child:
        assert main(["capture", str(pid), str(child.pid), "-o", str(tmp_path), "--json"]) == 3
    out, err = capsys.readouterr()
    assert err == f"pageshare capture: process {pid}: no such process\n"
    assert json.loads(out)["refused"] == [{"pid": pid, "command": "", "reason": "no such process"}]
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_captured_leaves_no_output_and_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cores"
    assert main(["capture", str(gone()), str(gone()), "-o", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 2
    assert not folder.exists()


def test_pages_that_could_not_be_read_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_pages = Process.read_pages
    with known_child(3) as child:
        monkeypatch.setattr(
            Process,
            "read_pages",
            lambda self, into, address: 0 if address == child.at(0) else read_pages(self, into, address),
        )
        assert main(["capture", str(child.pid), "-o", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert "1 pages are there but could not be read" in err
    assert "unreadable" in out.splitlines()[0]


@pytest.mark.parametrize("arguments", [["0"], ["-1"], ["init"], ["1.5"], ["\N{SUPERSCRIPT TWO}"], []])
def test_what_is_no_pid_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["capture", *arguments, "-o", str(tmp_path)])
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_an_output_folder_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["capture", str(os.getpid())])
    assert stopped.value.code == 2
    assert "-o/--output" in capsys.readouterr().err


def test_an_output_that_is_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "file"
    taken.touch()
    with known_child(1) as child:
        assert main(["capture", str(child.pid), "-o", str(taken)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert str(taken) in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_capture_leaves_nothing(tmp_path: Path, signum: int, status: int) -> None:
    folder = tmp_path / "cores"
    program = "import sys; from pageshare.commands import main; sys.exit(main())"
    with known_child(1) as child:
        child.call("fill", 1 << 30)
        command = [sys.executable, "-c", program, "capture", "--stop", str(child.pid), "-o", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            while not folder.exists() or not list(folder.iterdir()):  # until it writes
                assert process.poll() is None
                time.sleep(0.001)
            assert child.state() == "T"
            process.send_signal(signum)
            sent = time.monotonic()
            output = process.communicate()
        took = time.monotonic() - sent
        child.wait_for("S")
    assert process.returncode == status
    assert output == (b"", b"")
    assert not folder.exists()
    assert took < 2  # 0.2 s and what a loaded machine adds
