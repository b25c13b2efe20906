"""``pageshare live`` as its users see it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from known_child import known_child
from live.subject import PAGE, subject
from pageshare.commands import live as command
from pageshare.commands import main
from pageshare.live import find


def gone() -> int:
    """The PID of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_text_leads_with_what_would_be_saved(capsys: pytest.CaptureFixture[str]) -> None:
    with subject(("private", [0] * 40 + [1, 1, 2, 3], True), ("shared", [1, 2], False)) as one:
        assert main(["live", str(one.pid)]) == 0
    out, err = capsys.readouterr()
    assert re.match(r"KSM could save \d+ KiB of [\d.]+ MiB \([\d.]+ %\) of anonymous memory in 1 process\n", out)
    assert "today it may touch 176 KiB of this memory (mergeable), and would save" in out.replace("\n  ", " ")
    assert re.search(rf"^{one.pid} +python", out, re.MULTILINE)
    assert "    systemd-run -p MemoryKSM=yes COMMAND, or prctl(PR_SET_MEMORY_MERGE, 1)" in out
    assert "shared memory: KSM merges anonymous memory only" in out
    assert "told apart by hash (XXH3-128)" in out.replace("\n", " ")
    assert all(len(line) <= 110 for line in out.splitlines())
    assert all(line.startswith("pageshare: warning: frame numbers are hidden") for line in err.splitlines())


def test_json_has_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with subject(("private", [0, 0, 1, 1, 2], True)) as one:
        assert main(["live", str(one.pid), "--json", "--seed", "1"]) == 0
        document = json.loads(capsys.readouterr().out)
    assert document["format"] == "pageshare-live/1"
    assert (document["verified"], document["interrupted"], document["page_size"]) == (False, False, PAGE)
    (process,) = document["processes"]
    (mapping,) = (each for each in process["mappings"] if each["start"] == one.addresses[0])
    pages = mapping["pages"]
    assert (mapping["reach"], pages["anonymous"], pages["would_merge_today"]) == ("mergeable", 5, 4)
    assert process["pid"] == one.pid
    assert document["today"]["scanned"] == process["mergeable"] == 5
    assert document["today"]["saved"] == 2 + bool(document["kernel"]["use_zero_pages"])
    assert document["pages"]["anonymous"] == process["pages"]["anonymous"]
    assert set(document) >= {"allowed", "kernel", "out_of_reach", "speed", "refused", "gone", "looks", "warnings"}


def test_the_keys_of_the_json_are_explained() -> None:
    from dataclasses import fields

    from pageshare.live import Foretold, LiveReport, Pages

    text = Path(__file__).parents[2].joinpath("docs", "live.md").read_text(encoding="utf-8")
    for kind in (LiveReport, Foretold, Pages):
        for field in fields(kind):
            assert f"`{field.name}`" in text, field.name


def test_a_named_process_that_is_gone_is_missing_and_a_found_one_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = gone()
    with known_child(2) as child:
        assert main(["live", str(ended), str(child.pid), "--json"]) == 3
        out, err = capsys.readouterr()
        assert [each["pid"] for each in json.loads(out)["gone"]] == [ended]
        assert f"pageshare: incomplete: process {ended}: no such process\n" in err
        monkeypatch.setattr("pageshare.live.find", lambda **_: [ended, child.pid])
        assert main(["live", "--all", "--json", "--quiet"]) == 0
        assert [each["pid"] for each in json.loads(capsys.readouterr().out)["gone"]] == [ended]


def test_nothing_to_look_at_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["live", str(gone())]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no such process" in err
    assert main(["live", "--name", "no such name", "--qemu", "--cgroup", "no/such/group"]) in (1, 0, 3)
    assert main(["live", "--name", "no such name", "--cgroup", "no/such/group"]) == 1
    out, err = capsys.readouterr()
    assert err.endswith("pageshare live: no running process fits --name no such name, --cgroup no/such/group\n")


def test_refusals_with_one_reason_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pageshare.process import Process

    with known_child(1) as one, known_child(1) as two, known_child(1) as three:
        refused = [one.pid, two.pid]
        real = Process.open_memory

        def open_memory(process: Process) -> None:
            real(process)
            if process.pid in refused:
                raise process.error("not for you: do that")

        monkeypatch.setattr(Process, "open_memory", open_memory)
        monkeypatch.setattr("pageshare.live.find", lambda **_: [one.pid, two.pid, three.pid])
        assert main(["live", "--all", "--json"]) == 3
        out, err = capsys.readouterr()
        assert len(json.loads(out)["refused"]) == 2
        assert re.search(rf"processes {one.pid} \(\S+\), {two.pid} \(\S+\): not for you: do that\n", err)
        assert main(["live", str(one.pid), str(three.pid), "--json"]) == 3
        assert re.search(rf"process {one.pid} \(\S+\): not for you: do that\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name processes: PID..., --name, --cgroup, --qemu or --all"),
        (["--all", "--count", "2"], "--count is for --watch SECONDS"),
        (["x"], "is not a process number"),
        (["--all", "--watch", "0"], "must be seconds, more than 0"),
        (["--all", "--watch", "x"], "must be seconds, more than 0"),
    ],
)
def test_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["live", *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_watch_tells_what_changes(capsys: pytest.CaptureFixture[str]) -> None:
    with subject(("private", [1, 1, 2, 2, 3, 3], False)) as one:
        one.ask("spin", 0, 1)
        assert main(["live", str(one.pid), "--watch", "0.05", "--count", "3"]) == 0
        out = capsys.readouterr().out
        assert main(["live", str(one.pid), "--watch", "0.05", "--count", "2", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
    lines = out.splitlines()
    assert all(re.match(r" +[\d.]+ s  .* could be saved of .* in 1 process, .* today", line) for line in lines[:3])
    assert "changed since" in lines[1]
    assert lines[3].startswith("KSM could save")
    assert "Look by look, 3 in all" in out
    assert [look["processes"] for look in document["looks"]] == [1, 1]
    assert document["looks"][1]["volatile"] >= 1


def test_a_named_process_that_ends_between_two_looks_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with subject(("private", [1, 1], False)) as one, subject(("private", [1], False)) as two:

        def ends(_: float) -> None:
            two.process.kill()
            two.process.wait()

        monkeypatch.setattr("pageshare.commands.live.time.sleep", ends)
        assert main(["live", str(one.pid), str(two.pid), "--watch", "1", "--count", "3"]) == 3
        assert capsys.readouterr().err == f"pageshare: incomplete: process {two.pid}: no such process\n"
        # Nothing is left to look at: not without a word either.
        monkeypatch.setattr("pageshare.commands.live.time.sleep", lambda _: (one.process.kill(), one.process.wait()))
        assert main(["live", str(one.pid), "--watch", "1", "--count", "2"]) == 1
        assert capsys.readouterr().err == f"pageshare: incomplete: process {one.pid}: no such process\n"


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pageshare", "live", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_between_two_looks_it_prints_what_it_has(signum: int, status: int) -> None:
    with subject(("private", [1, 1], False)) as one, started(str(one.pid), "--watch", "100") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signum)
        began = time.monotonic()
        out, err = process.communicate(timeout=10)
        took = time.monotonic() - began
    assert "could be saved of" in first
    assert out.splitlines()[0].endswith("in 1 process; interrupted")  # the look itself is whole
    assert "What was looked at" in out
    assert "Traceback" not in err
    assert process.returncode == status
    assert took < 1  # 0.2 s, and the import of what prints it


def test_interrupted_in_a_look_it_prints_what_it_has_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pageshare.core import ProcessPages

    read = ProcessPages.hash

    def interrupted(self: ProcessPages, *args, control, **kwargs):
        result = read(self, *args, control=control, **kwargs)
        os.kill(os.getpid(), signal.SIGINT)
        while not control.stopped:
            time.sleep(0.001)
        return result

    monkeypatch.setattr(ProcessPages, "hash", interrupted)
    with subject(("private", [1, 1], False)) as one, subject(("private", [1], False)) as two:
        assert main(["live", str(one.pid), str(two.pid), "--json"]) == 130
    document = json.loads(capsys.readouterr().out)
    assert document["interrupted"]
    assert [each["pid"] for each in document["processes"]] == [one.pid]


def test_many_processes_and_mappings_are_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    with known_child(1) as child:
        name = Path(f"/proc/{child.pid}/comm").read_text().rstrip("\n")
        status = main(["live", "--name", name, "--anonymous"])
        assert status in (0, 3)  # others of that name may be somebody else's
    assert "not read: of files (--anonymous)" in capsys.readouterr().out
    assert child.pid not in find(names=["no such name"])


def test_the_seconds_that_it_takes() -> None:
    assert command._seconds("0.5") == 0.5
