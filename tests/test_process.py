from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from known_child import NOBODY, PAGE, content, known_child
from pageshare import process as module
from pageshare.process import PageKind, Process, ProcessError


def test_page_kinds_follow_the_bits_of_pagemap(tmp_path: Path) -> None:
    present, swapped, file, guard, soft_dirty = (1 << bit for bit in (63, 62, 61, 58, 55))
    cases = {
        0: PageKind.UNTOUCHED,
        soft_dirty: PageKind.UNTOUCHED,
        file: PageKind.UNTOUCHED,
        present | 12345: PageKind.ANONYMOUS,
        present | soft_dirty: PageKind.ANONYMOUS,
        present | file: PageKind.FILE,
        swapped | 77: PageKind.SWAPPED,
        swapped | file: PageKind.FILE,
        swapped | guard: PageKind.UNTOUCHED,
    }
    entries = tmp_path / "pagemap"
    entries.write_bytes(struct.pack(f"={len(cases) + 3}Q", 1, 2, 3, *cases))
    with contextlib.closing(Process(os.getpid())) as process, entries.open("rb") as file_of_entries:
        process.pagemap = file_of_entries.fileno()
        kinds = process.page_kinds(3, len(cases))
    np.testing.assert_array_equal(kinds, list(cases.values()))


def test_mappings_kinds_and_bytes_are_those_of_the_process() -> None:
    with known_child(3, [0, 2]) as child, contextlib.closing(Process(child.pid)) as process:
        process.open_memory()
        mappings = process.mappings()
        assert any(mapping.start <= child.address < mapping.end for mapping in mappings)
        assert sorted(mappings) == mappings
        kinds = process.page_kinds(child.address // PAGE, 3)
        assert kinds.tolist() == [PageKind.ANONYMOUS, PageKind.UNTOUCHED, PageKind.ANONYMOUS]
        page = bytearray(PAGE)
        assert process.read_pages(memoryview(page), child.at(2)) == PAGE
        assert page == content(2)
        assert process.read_pages(memoryview(page), 0) == 0


def test_its_files_are_closed() -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - the same call twice, with its own descriptor
    with known_child(1) as child:
        inside = os.listdir("/proc/self/fd")  # noqa: PTH208
        with contextlib.closing(Process(child.pid)) as process:
            process.open_memory()
        assert os.listdir("/proc/self/fd") == inside  # noqa: PTH208
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_one_that_does_not_stop_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.01)
    monkeypatch.setattr(Process, "still", lambda _process: False)
    with known_child(1) as child, contextlib.closing(Process(child.pid)) as process:
        with pytest.raises(ProcessError, match="did not stop"):
            process.stop()
        process.resume()
        child.wait_for("S")


def test_what_we_run_under_is_not_stopped() -> None:
    for pid in (os.getpid(), os.getppid()):
        with contextlib.closing(Process(pid)) as process, pytest.raises(ProcessError, match="runs under it"):
            process.stop()


def test_one_that_has_ended_can_be_let_go_on() -> None:
    with known_child(1) as child:
        process = Process(child.pid)
    process.resume()
    process.close()


@pytest.mark.parametrize(
    ("scope", "advice"),
    [
        (1, "sudo sysctl kernel.yama.ptrace_scope=0"),
        (2, "only root may read it"),
        (3, "nobody may read it"),
        (0, "the kernel does not allow it"),
    ],
)
def test_refusal_by_yama_says_what_to_do(monkeypatch: pytest.MonkeyPatch, scope: int, advice: str) -> None:
    user = NOBODY if os.geteuid() == 0 else None
    with known_child(1, uid=user, dumpable=1) as child, contextlib.closing(Process(child.pid)) as process:
        monkeypatch.setattr(os, "geteuid", lambda: user or os.getuid())
        monkeypatch.setattr(module, "_yama_scope", lambda: scope)
        assert advice in process._refusal()


def test_refusal_of_root_speaks_of_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with contextlib.closing(Process(os.getpid())) as process:
        assert "SYS_PTRACE" in process._refusal()
