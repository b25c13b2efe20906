from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pageshare
from core_pages import core_notes, core_pages
from known_child import NOBODY, PAGE, content, known_child
from pageshare import capture as module
from pageshare import process as process_module
from pageshare.capture import capture, core_name
from pageshare.process import Process, ProcessError, _yama_scope


def during(action: Callable[[], object]) -> module.Progress:
    """A progress that does something when it is known which pages to read, before the first is read."""

    @contextlib.contextmanager
    def progress(_label: str, _total: int) -> Iterator[Callable[[int], None]]:
        action()
        yield lambda _done: None

    return progress


def expected_pages(pid: int) -> set[int]:
    """The addresses of a stopped process's present or swapped pages, page by page."""
    found = set()
    with Path(f"/proc/{pid}/pagemap").open("rb") as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(address, 16) for address in line.split()[0].split("-"))
            for address in range(start, end, PAGE) if "[v" not in line or "[vdso]" in line else ():
                pagemap.seek(address // PAGE * 8)
                (entry,) = struct.unpack("=Q", pagemap.read(8))
                if entry >> 62 and not entry >> 58 & 1:
                    found.add(address)
    return found


def test_core_holds_what_the_process_wrote_and_nothing_it_never_touched(tmp_path: Path) -> None:
    touched = [0, 1, 2, 7, 9, 30, 31]
    with known_child(32, touched) as child:
        done = capture(child.pid, tmp_path, stop=True)
        pages = core_pages(done.path)
        for page in range(32):
            assert pages.get(child.at(page)) == (content(page) if page in touched else None)
    assert done.pages.captured == len(pages)
    assert done.pages.captured == done.pages.anonymous + done.pages.file
    assert done.pages.anonymous > len(touched)
    assert done.pages.untouched >= 32 - len(touched)
    assert (done.pages.vanished, done.pages.unreadable, done.pages.excluded) == (0, 0, 0)
    assert done.held


def test_core_holds_exactly_the_pages_that_pagemap_calls_present(tmp_path: Path) -> None:
    with known_child(100, range(0, 100, 3)) as child:
        os.kill(child.pid, signal.SIGSTOP)
        child.wait_for("T")
        done = capture(child.pid, tmp_path)
        assert set(core_pages(done.path)) == expected_pages(child.pid)
        with Path(f"/proc/{child.pid}/maps").open() as maps:
            spans = [[int(address, 16) for address in line.split()[0].split("-")] for line in maps]
        mapped = sum(end - start for start, end in spans if end < 1 << 63) // PAGE
    assert done.pages.captured + done.pages.untouched + done.pages.special - mapped in (
        0,
        1,
    )  # [vsyscall] is beyond the 2^63


def test_anonymous_leaves_out_files_and_shared_memory(tmp_path: Path) -> None:
    with known_child(3) as child:
        shared = child.call("shared", "same")
        everything = capture(child.pid, tmp_path, stop=True)
        assert core_pages(everything.path)[shared] == b"same" * (PAGE // 4)
        own = capture(child.pid, tmp_path, stop=True, anonymous=True, force=True)
        pages = core_pages(own.path)
    assert shared not in pages
    assert pages[child.at(2)] == content(2)
    assert own.pages.captured == own.pages.anonymous == len(pages)
    assert own.pages.excluded >= everything.pages.file > 0
    assert own.pages.file == 0


def test_unreadable_for_the_process_itself_is_still_captured(tmp_path: Path) -> None:
    with known_child(3) as child:
        assert child.call("protect", 1) == 0
        done = capture(child.pid, tmp_path)
        assert core_pages(done.path)[child.at(1)] == content(1)


def test_guard_pages_are_no_memory(tmp_path: Path) -> None:
    with known_child(3) as child:
        installed = child.call("guard", 1) == 0  # since Linux 6.13
        done = capture(child.pid, tmp_path)
        pages = core_pages(done.path)
        assert pages.get(child.at(1)) == (None if installed else content(1))
        assert pages[child.at(2)] == content(2)
    assert done.pages.vanished == done.pages.unreadable == 0


def test_more_pieces_than_an_elf_header_can_count(tmp_path: Path) -> None:
    touched = range(0, 132_000, 2)
    with known_child(132_000, touched) as child:
        done = capture(child.pid, tmp_path, stop=True, anonymous=True)
        pages = core_pages(done.path)
        for page in (0, 2, 65_000, 131_998):
            assert pages[child.at(page)] == content(page)
        assert not any(child.at(page) in pages for page in range(1, 132_000, 2))
    assert len(pages) == done.pages.captured > len(touched)


@pytest.mark.parametrize(
    ("touched", "gone"),
    [
        pytest.param(range(100), [50], id="one hole"),
        pytest.param(range(2400), range(0, 2400, 2), id="the header grows by pages"),
        pytest.param(range(0, 2400, 2), range(2400), id="the header shrinks by pages"),
    ],
)
def test_pages_that_vanish_meanwhile_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, touched: range, gone: range
) -> None:
    monkeypatch.setattr(module, "BLOCK", 64 * PAGE)  # so that moving the payload takes several blocks
    with known_child(2400, touched) as child:
        done = capture(child.pid, tmp_path, progress=during(lambda: child.call("unmap", list(gone))))
        pages = core_pages(done.path)
        for page in range(2400):
            there = page in touched and page not in gone
            assert pages.get(child.at(page)) == (content(page) if there else None)
    assert done.pages.vanished == len(set(touched) & set(gone))
    assert done.pages.unreadable == 0
    assert done.pages.captured == len(pages)
    payload = len(pages) * PAGE
    assert payload < done.path.stat().st_size < payload + (len(pages) + 200) * 56 + 8 * PAGE


def test_pages_that_are_there_but_cannot_be_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_pages = Process.read_pages
    with known_child(3) as child:

        def failing(process: Process, into: memoryview, address: int) -> int:
            if address == child.at(1):
                return 0
            return read_pages(process, into[:PAGE], address)

        monkeypatch.setattr(Process, "read_pages", failing)
        done = capture(child.pid, tmp_path)
        assert child.at(1) not in core_pages(done.path)
    assert done.pages.unreadable == 1


def test_notes_name_the_process_and_its_files(tmp_path: Path) -> None:
    with known_child(1) as child:
        done = capture(child.pid, tmp_path)
        maps = Path(f"/proc/{child.pid}/maps").read_text().splitlines()
        auxv = Path(f"/proc/{child.pid}/auxv").read_bytes()
        command = Path(f"/proc/{child.pid}/comm").read_bytes().rstrip()
    notes = core_notes(done.path)
    psinfo = notes["CORE", 3]
    assert struct.unpack_from("<2i", psinfo, 24) == (child.pid, os.getpid())
    assert psinfo[40:56].rstrip(b"\0") == command
    assert psinfo[56:].startswith(os.fsencode(sys.executable)[:80])
    assert notes["CORE", 6] == auxv
    files = notes["CORE", 0x46494C45]
    count, page_size = struct.unpack_from("<2Q", files)
    names = files[16 + 24 * count :].decode().split("\0")[:-1]
    expected = [line.split(None, 5) for line in maps if "/" in line]
    assert page_size == PAGE
    assert names == [fields[5] for fields in expected]
    for i, fields in enumerate(expected):
        start, end, offset = struct.unpack_from("<3Q", files, 16 + 24 * i)
        assert f"{start:08x}-{end:08x}" == fields[0]
        assert offset * PAGE == int(fields[2], 16)


def test_our_own_reader_takes_all_of_it_for_process_memory(tmp_path: Path) -> None:
    with known_child(40, range(0, 40, 2)) as child:
        done = capture(child.pid, tmp_path)
    coverage = pageshare.scan(done.path, page_size=PAGE).coverage
    assert (coverage.data, coverage.process) == (done.pages.captured, done.pages.captured)
    assert coverage.unknown == coverage.partial == 0


def test_stop_holds_it_meanwhile_and_lets_it_go_on(tmp_path: Path) -> None:
    states: list[str] = []
    with known_child(1) as child:
        capture(child.pid, tmp_path, stop=True, progress=during(lambda: states.append(child.state())))
        assert states == ["T"]
        child.wait_for("S")
        assert child.call("protect", 0) == 0


def test_one_that_does_not_stop_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "STOP_SECONDS", 0.01)
    monkeypatch.setattr(Process, "still", lambda _process: False)
    with known_child(1) as child:
        with pytest.raises(ProcessError, match="did not stop"):
            capture(child.pid, tmp_path, stop=True)
        child.wait_for("S")
    assert list(tmp_path.iterdir()) == []


def test_without_stop_it_runs_on(tmp_path: Path) -> None:
    with known_child(1) as child:
        done = capture(child.pid, tmp_path, progress=during(lambda: child.call("protect", 0)))
    assert not done.held


def test_one_that_was_stopped_before_stays_so(tmp_path: Path) -> None:
    with known_child(1) as child:
        os.kill(child.pid, signal.SIGSTOP)
        child.wait_for("T")
        assert capture(child.pid, tmp_path, stop=True).held
        assert child.state() == "T"


def test_an_interrupted_capture_leaves_no_file_and_lets_the_process_go_on(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with known_child(1) as child:
        with pytest.raises(KeyboardInterrupt):
            capture(child.pid, tmp_path, stop=True, progress=during(interrupt))
        child.wait_for("S")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_ends_meanwhile_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    with known_child(1) as child:

        def end() -> None:
            child.process.kill()
            child.process.wait()

        with pytest.raises(ProcessError, match=rf"^process {child.pid} \(.*\): it ended, or started"):
            capture(child.pid, tmp_path, progress=during(end))
    assert list(tmp_path.iterdir()) == []


def test_no_such_process(tmp_path: Path) -> None:
    with known_child(1) as child:
        pass
    with pytest.raises(ProcessError, match=f"^process {child.pid}: no such process$"):
        capture(child.pid, tmp_path)


def test_one_that_has_ended_and_was_not_waited_for(tmp_path: Path) -> None:
    with known_child(1) as child:
        child.process.kill()
        child.wait_for("Z")
        with pytest.raises(ProcessError, match="it has ended"):
            capture(child.pid, tmp_path)


def test_kernel_threads_have_no_memory(tmp_path: Path) -> None:
    comm = Path("/proc/2/comm")
    if not comm.exists() or comm.read_text() != "kthreadd\n":
        pytest.skip("kernel threads are not seen in this PID namespace")
    with pytest.raises(ProcessError, match=r"^process 2 \(kthreadd\): a kernel thread has no memory"):
        capture(2, tmp_path)


def test_existing_cores_are_kept_unless_forced(tmp_path: Path) -> None:
    with known_child(1) as child:
        path = capture(child.pid, tmp_path).path
        path.write_bytes(b"precious")
        with pytest.raises(ProcessError, match="exists"):
            capture(child.pid, tmp_path)
        assert path.read_bytes() == b"precious"
        capture(child.pid, tmp_path, force=True)
        assert core_pages(path)[child.address] == content(0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_space_is_noticed_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    with known_child(1) as child, pytest.raises(ProcessError, match="10 free"):
        capture(child.pid, tmp_path)


def test_an_error_of_the_disk_names_the_core(tmp_path: Path) -> None:
    with known_child(1) as child, pytest.raises(ProcessError, match=r"none/\S+\.core: No such file"):
        capture(child.pid, tmp_path / "none")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python3.11", "python3.11-7.core"),
        ("kworker/0:1", "kworker_0_1-7.core"),
        ("../../etc", "_._.._etc-7.core"),
        ("-rf", "_rf-7.core"),
        ("a b\n", "a_b_-7.core"),
        ("\N{SNOWMAN}", "_-7.core"),
    ],
)
def test_names_of_cores_are_tame(command: str, name: str) -> None:
    assert core_name(7, command) == name


# As a user other than root: everything is imported first, since that user may not reach our files.
_AS_USER = """
import os, sys
import pageshare.images.elf
from pageshare.capture import capture
from pageshare.process import ProcessError
pid, folder, uid = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
try:
    print(capture(pid, folder, stop=True).pages.captured)
except ProcessError as error:
    print(error)
"""


def as_user(pid: int, folder: Path) -> str:
    """What a capture says that an ordinary user makes: we ourselves, or nobody if we are root."""
    command = [sys.executable, "-c", _AS_USER, str(pid), str(folder), str(NOBODY)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def user() -> int | None:
    """For ``known_child(uid=...)``: the user that ``as_user`` runs as."""
    return NOBODY if os.geteuid() == 0 else None


def test_processes_of_others_are_refused_politely(tmp_path: Path) -> None:
    with known_child(1) as child:
        pid = child.pid if os.geteuid() == 0 else 1
        if os.geteuid() != 0 and Path("/proc/1").stat().st_uid == os.geteuid():
            pytest.skip("there is no process of another user")
        said = as_user(pid, tmp_path)
    assert said.startswith(f"process {pid} (")
    assert said.endswith("it belongs to root: read it as that user, or as root (sudo)")


def test_processes_that_are_not_dumpable_are_refused_politely(tmp_path: Path, user: int | None) -> None:
    with known_child(1, uid=user, dumpable=0) as child:
        said = as_user(child.pid, tmp_path)
    assert "it is not dumpable" in said
    assert said.endswith("read it as root (sudo)")


def test_own_processes_need_no_root(user: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder, known_child(1, uid=user, dumpable=1) as child:
        if user is not None:
            os.chown(folder, user, user)
        said = as_user(child.pid, Path(folder))
        if _yama_scope() == 0:
            (core,) = Path(folder).iterdir()
            assert core_pages(core)[child.address] == content(0)
            assert core.stat().st_uid == (os.geteuid() if user is None else user)
        else:
            assert "kernel.yama.ptrace_scope" in said


def test_memory_that_is_reserved_only_costs_nothing(tmp_path: Path) -> None:
    with known_child(1 << 23, [1 << 22]) as child:
        done = capture(child.pid, tmp_path)
        assert core_pages(done.path)[child.at(1 << 22)] == content(1 << 22)
    assert done.pages.untouched >= (1 << 23) - 1
    assert done.path.stat().st_size < 64 << 20
