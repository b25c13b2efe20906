"""Looks at processes that change, end or refuse meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from known_child import NOBODY, PAGE, known_child
from live.subject import content, subject
from pageshare.core import Control, ProcessPages, hash_pages
from pageshare.live import LiveReport, Watch, find, live
from pageshare.live import look as look_module
from pageshare.live.look import Looker
from pageshare.process import Process


def mapping_at(report: LiveReport, address: int):
    return next(
        each for process in report.processes for each in process.mappings if each.start <= address < each.end
    )


@pytest.fixture
def before_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Does something when it is known which pages to read, before the first is read."""

    def patch(action: Callable[[], object]) -> None:
        read, times = ProcessPages.hash, itertools.count()

        def hash_later(self: ProcessPages, *args, **kwargs):
            if next(times) == 0:
                action()
            return read(self, *args, **kwargs)

        monkeypatch.setattr(ProcessPages, "hash", hash_later)

    return patch


def test_pages_are_what_the_process_wrote() -> None:
    ids = [1, 0, 2, 1, 0, 3, 1]
    with subject(("private", ids, False), ("shared", [7, 8, 7], False)) as one, contextlib.closing(
        Looker(seed=5, pages=True)
    ) as looker:
        look = looker.look([one.pid], Control())
        for address, contents in zip(one.addresses, (ids, [7, 8, 7]), strict=True):
            assert look.rows.pages is not None
            at = np.searchsorted(look.rows.pages, address // PAGE)
            written = b"".join(map(content, contents))
            wanted = hash_pages(written, PAGE, bits=128, seed=5)
            np.testing.assert_array_equal(look.rows.hashes[at : at + len(contents)], wanted)
        report = live([one.pid])
    private, shared = (mapping_at(report, address) for address in one.addresses)
    assert (private.pages.anonymous, private.pages.zero, private.pages.would_merge) == (7, 2, 7 - 2)
    assert (private.reach.value, shared.reach.value) == ("unasked", "shared memory")
    assert (shared.pages.anonymous, shared.pages.file, shared.pages.would_merge) == (0, 3, 0)
    assert not report.verified
    assert report.speed.bytes_read == (report.pages.anonymous + report.pages.file) * PAGE


def test_one_that_has_ended_is_gone_and_the_others_are_there() -> None:
    with known_child(1) as gone:
        pass
    with known_child(3) as child:
        report = live([gone.pid, child.pid, child.pid])
    assert [each.pid for each in report.processes] == [child.pid]
    assert report.gone == ({"pid": gone.pid, "command": "", "reason": "no such process"},)
    assert report.refused == ()


def test_one_that_ends_while_it_is_read(before_reading) -> None:
    with known_child(2000) as first, known_child(3) as child:

        def end() -> None:
            first.process.kill()
            first.process.wait()

        before_reading(end)
        report = live([first.pid, child.pid])
    assert [each.pid for each in report.processes] == [child.pid]
    assert [each["pid"] for each in report.gone] == [first.pid]
    assert mapping_at(report, child.at(0)).pages.anonymous == 3


def test_one_that_starts_another_program_while_it_is_read(before_reading) -> None:
    """Its number stays, its memory is another."""
    with subprocess.Popen(["sh", "-c", "read x; exec sleep 100"], stdin=subprocess.PIPE) as process:

        def start() -> None:
            process.stdin.write(b"\n")
            process.stdin.flush()
            while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
                pass

        before_reading(start)
        report = live([process.pid])
        process.kill()
    assert [each["reason"] for each in report.gone] == ["it ended, or started another program, before it was read"]
    assert report.processes == ()


def test_pages_that_are_unmapped_before_they_are_read_are_counted(before_reading) -> None:
    with known_child(20) as child:
        before_reading(lambda: child.call("unmap", [3, 4, 5, 9]))
        report = live([child.pid])
    pages = mapping_at(report, child.at(0)).pages
    assert (pages.anonymous, pages.vanished, pages.unreadable) == (16, 4, 0)
    assert report.incomplete == ()


def test_memory_without_permission_and_guard_pages() -> None:
    with known_child(6, [0, 1, 3, 4]) as child:
        child.call("protect", 1)
        guards = child.call("guard", 5) == 0
        report = live([child.pid])
        found = [each.pages for each in report.processes[0].mappings if child.at(0) <= each.start < child.at(6)]
    assert sum(each.anonymous for each in found) == 4
    assert sum(each.untouched for each in found) == 2
    assert guards in (True, False)


def swapped(monkeypatch: pytest.MonkeyPatch, address: int) -> None:
    """Make a page look as if it lay in swap."""
    real = Process.page_entries

    def entries(self: Process, first: int, pages: int):
        block = real(self, first, pages).copy()
        if first <= address // PAGE < first + pages:
            block[address // PAGE - first] = 1 << 62 | 77
        return block

    monkeypatch.setattr(Process, "page_entries", entries)


def test_pages_in_swap_are_read_without_being_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each fork would get a copy of its own of what they share there."""
    read, unpinned = ProcessPages.hash, {}

    def watched(self: ProcessPages, pid: int, pages, *, shared, **kwargs):
        unpinned.update(zip(pages.tolist(), shared.tolist(), strict=True))
        return read(self, pid, pages, shared=shared, **kwargs)

    monkeypatch.setattr(ProcessPages, "hash", watched)
    with subject(("private", [1, 1, 2], False)) as one:
        swapped(monkeypatch, one.addresses[0])
        live([one.pid], swapped=True)
    first = one.addresses[0] // PAGE
    assert sorted(unpinned[first + i] for i in range(3)) == [False, False, True]


def test_pages_that_a_fork_may_have_in_swap_still_are_read_without_being_pinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, words, unpinned = ProcessPages.hash, look_module.read_words, {}

    def watched(self: ProcessPages, pid: int, pages, *, shared, **kwargs):
        unpinned.update(zip(pages.tolist(), shared.tolist(), strict=True))
        return read(self, pid, pages, shared=shared, **kwargs)

    monkeypatch.setattr(ProcessPages, "hash", watched)
    with subject(("private", [1, 2], False)) as one:
        if not live([one.pid]).frames_known:
            pytest.skip("frame numbers are hidden from this user")
        first = one.addresses[0] // PAGE
        assert not unpinned[first]
        monkeypatch.setattr(look_module, "read_words", lambda *args: words(*args) | np.uint64(1 << 13))  # KPF_SWAPCACHE
        live([one.pid])
        assert unpinned[first]


def test_pages_in_swap_are_read_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with subject(("private", [1, 1, 2], False)) as one:
        swapped(monkeypatch, one.addresses[0])
        left, read = live([one.pid]), live([one.pid], swapped=True)
    pages = mapping_at(left, one.addresses[0]).pages
    assert (pages.anonymous, pages.swapped, pages.from_swap, pages.would_merge) == (2, 1, 0, 0)
    pages = mapping_at(read, one.addresses[0]).pages
    assert (pages.anonymous, pages.swapped, pages.from_swap, pages.would_merge) == (3, 0, 1, 2)


def test_pages_that_should_be_readable_and_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    read = ProcessPages.hash

    def worse(self: ProcessPages, *args, **kwargs):
        hashes, states = read(self, *args, **kwargs)
        states[7] = 2
        return hashes, states

    monkeypatch.setattr(ProcessPages, "hash", worse)
    with known_child(20) as child:
        report = live([child.pid])
    assert report.pages.unreadable >= 1
    assert "pages are there but could not be read; they are not counted" in report.incomplete[0]


def test_anonymous_leaves_out_files() -> None:
    with subject(("shared", [1, 2], False)) as one:
        report = live([one.pid], anonymous=True)
    assert report.pages.file == 0
    assert report.pages.excluded > 2
    assert report.out_of_reach == ()


def test_stopped_it_says_what_it_has_seen() -> None:
    control = Control()
    with subject(("private", [1, 1], False)) as one, subject(("private", [1], False)) as two, contextlib.closing(
        Watch(seed=1, compare=True)
    ) as watch:
        control.stop()
        report = watch.look([one.pid, two.pid], control)
    assert report.interrupted
    assert report.looks == ()
    assert len(report.processes) <= 1


def test_a_thread_is_no_process_of_its_own() -> None:
    with subject(("private", [1, 1], False)) as one:
        one.ask("spin", 0, 1)
        thread = max(int(each.name) for each in Path(f"/proc/{one.pid}/task").iterdir())
        report = live([thread])
    assert [each["reason"] for each in report.refused] == [f"it is a thread of process {one.pid}: name that"]


def test_files_are_closed() -> None:
    with subject(("private", [1], False)) as one:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        live([one.pid, one.pid + 1 if one.pid != 1 else 1])
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# A look as an ordinary user: we ourselves, or nobody if we are root.
_AS_USER = """
import json, os, sys
import numpy as np
from pageshare.live import live
pid, uid = int(sys.argv[1]), int(sys.argv[2])
live([os.getpid()])  # loads what is loaded late
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
print(json.dumps(live([pid]).to_dict()))
"""


def as_user(pid: int) -> dict[str, Any]:
    command = [sys.executable, "-c", _AS_USER, str(pid), str(NOBODY)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def test_without_privilege_frames_are_hidden_and_that_is_said() -> None:
    """What is mapped once is known as such, by pagemap's bit 56; nothing else is in any saving."""
    with known_child(5, uid=NOBODY if os.geteuid() == 0 else None, dumpable=1) as child:
        report = as_user(child.pid)
        mappings = report["processes"][0]["mappings"]
        (pages,) = (each["pages"] for each in mappings if each["start"] <= child.at(0) < each["end"])
    assert not report["frames_known"]
    assert any("frame numbers are hidden" in each for each in report["warnings"])
    assert (pages["anonymous"], pages["shared"], pages["would_merge"]) == (5, 0, 0)
    assert report["refused"] == []
    assert all(each["identical"] is None for each in report["out_of_reach"])


def test_what_may_not_be_read_is_refused_with_the_remedy() -> None:
    if os.geteuid() != 0:
        pytest.skip("there is no process of another user")
    with known_child(1) as child:
        report = as_user(child.pid)
    assert report["processes"] == []
    (refused,) = report["refused"]
    assert refused["pid"] == child.pid
    assert refused["reason"] == "it belongs to root: read it as that user, or as root (sudo)"


@pytest.mark.parametrize(
    ("made", "path", "found"),
    [
        ((), "/sys/fs/cgroup/a/b", "a/b"),
        ((), "a/b/", "a/b"),
        (("cgroup.procs", "a/cgroup.procs"), "/sys/fs/cgroup/a/b", "a/b"),
        (("memory/cgroup.procs",), "/sys/fs/cgroup/memory/a/b", "a/b"),
        (("memory/cgroup.procs",), "/sys/fs/cgroup/memory", ""),
        (("memory/cgroup.procs",), "/sys/fs/cgroup/a/b", "a/b"),
        (("memory/cgroup.procs",), "memory/a", "memory/a"),
    ],
)
def test_groups_by_the_folders_that_show_them(
    made: tuple[str, ...], path: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = sys.modules["pageshare.live.find"]  # the package has a function of this name
    monkeypatch.setattr(finding, "_GROUPS", tmp_path)
    for name in made:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert finding._group_path(path.replace("/sys/fs/cgroup", str(tmp_path))) == found


def test_found_by_name_group_and_program() -> None:
    with known_child(1) as child:
        name = Path(f"/proc/{child.pid}/comm").read_text().rstrip("\n")
        group = Path(f"/proc/{child.pid}/cgroup").read_text().splitlines()[0].split(":", 2)[2]
        assert child.pid in find(names=[name])
        assert child.pid in find(names=["nothing", name[:3] + "*"])
        assert child.pid in find(cgroups=["/sys/fs/cgroup" + group])
        assert child.pid in find(everything=True)
        assert child.pid not in find(names=[name[:3]])
        assert child.pid not in find(qemu=True)
        assert find(cgroups=["no/such/group"]) == find() == []
    assert os.getpid() not in find(everything=True)
    assert 2 not in find(everything=True) or Path("/proc/2/comm").read_text() != "kthreadd\n"
