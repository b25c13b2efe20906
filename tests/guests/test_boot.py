"""The script that boots guests: it says what is missing, and leaves nothing behind when it ends early."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from guests import boot as module
from guests.boot import BootError, MissingError, boot, initramfs

SCRIPT = Path(module.__file__)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "BUSYBOX", tmp_path / "busybox")
    with pytest.raises(MissingError, match=r"apt-get install .* qemu-system-x86 busybox-static"):
        boot(tmp_path / "dumps")
    assert not (tmp_path / "dumps").exists()


def test_without_packages_a_kernel_of_the_cache_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cached = tmp_path / "pageshare" / "vmlinuz-1-cloud-amd64"
    cached.parent.mkdir()
    cached.touch()
    os.utime(cached, (4e9, 4e9))  # newer than any in /boot
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.kernel() == cached


def test_a_dynamic_program_is_not_static() -> None:
    assert not module._is_static(Path("/bin/sh"))
    assert not module._is_static(SCRIPT)


def test_initramfs_is_aligned_and_ends_with_its_trailer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "BUSYBOX", tmp_path / "busybox")
    module.BUSYBOX.write_bytes(b"not a multiple of four")
    archive, at, names = initramfs(), 0, []
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        names.append(archive[at + 110 : at + 110 + name_size - 1].decode())
        at = -(-(at + 110 + name_size) // 4) * 4
        at = -(-(at + size) // 4) * 4
    assert names == ["bin", "dev", "proc", "tmp", "bin/busybox", "init", "TRAILER!!!"]


@pytest.mark.parametrize(("same", "works"), [(False, [1, 2]), (True, [1, 1])])
def test_which_work_guests_do(same: bool, works: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[int] = []

    def start(number: int, *, work: int, **_: object) -> module.Guest:
        started.append(work)
        if number == 2:
            raise BootError("enough")
        ours, theirs = socket.socketpair()
        theirs.close()
        return module.Guest(number, subprocess.Popen(["true"]), ours, tmp_path / "log", 0.0)

    monkeypatch.setattr(module, "check_tools", lambda: None)
    monkeypatch.setattr(module, "kernel", lambda: tmp_path / "vmlinuz")
    monkeypatch.setattr(module, "initramfs", lambda _more: b"")
    monkeypatch.setattr(module, "start", start)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    with pytest.raises(BootError, match="enough"):
        boot(tmp_path / "dumps", same=same)
    assert started == works


@pytest.mark.guests
@pytest.mark.usefixtures("bootable")
def test_a_guest_that_is_not_ready_in_time_shows_its_console(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = []
    start = module.start
    monkeypatch.setattr(module, "start", lambda *args, **kwargs: started.append(start(*args, **kwargs)) or started[-1])
    with pytest.raises(BootError, match=r"guest 1 was not ready after 1 s; its console:\n    "):
        boot(tmp_path, guests=1, timeout=1)
    assert [guest.process.poll() for guest in started] == [0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.guests
@pytest.mark.usefixtures("bootable")
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_boot_leaves_nothing(signum: int, status: int, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "-o", str(tmp_path)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("guest 2 of 2"):  # both have been started
                break
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signum)
        process.communicate(timeout=30)
    assert process.returncode == status
    assert len(children) >= 1  # with one processor they run one by one
    assert [pid for pid in children if Path("/proc", pid).exists()] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.guests
@pytest.mark.usefixtures("bootable")
def test_snapshots_are_of_the_moments_asked_for(tmp_path: Path) -> None:
    """The guest's work writes a number each tenth of a second; it is behind a word that is nowhere else in memory."""
    script = "n=0; while :; do n=$((n + 1)); echo snap''shot $n. >tick; touch done; sleep 0.1; done"
    more = {"software": f"#!/bin/busybox sh\nexport PATH=/bin\n{script}\n".encode()}
    boot(tmp_path, guests=1, more=lambda _number: more, snapshots=(3, 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["guest1.t0.raw", "guest1.t3.raw"]

    def last_number(name: str) -> int:
        return max(int(number) for number in re.findall(rb"snapshot (\d+)\.\n", (tmp_path / name).read_bytes()))

    first, last = last_number("guest1.t0.raw"), last_number("guest1.t3.raw")
    assert first + 5 < last < first + 40
