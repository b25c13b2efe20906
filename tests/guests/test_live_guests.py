"""What ``live`` foretells of running virtual machines against what the kernel's KSM then merges in them."""

from __future__ import annotations

import gzip
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from guests import boot
from kernel_ksm import Unavailable, kernel_ksm, others
from pageshare.commands import main
from pageshare.live import find, live

pytestmark = [pytest.mark.guests, pytest.mark.usefixtures("bootable")]


@pytest.fixture
def kernel() -> Iterator:
    """KSM to itself. Guests must start after it: before, their memory would be somebody else's."""
    deadline = time.monotonic() + 30
    while others() and time.monotonic() < deadline:  # guests of other tests that are just ending
        time.sleep(0.2)
    try:
        with kernel_ksm(smart_scan=0, use_zero_pages=1, max_page_sharing=256) as ksm:
            yield ksm
    except Unavailable as reason:
        pytest.skip(str(reason))


def stopped_guests(folder: Path, stack: ExitStack, *mem_merge: str) -> list[boot.Guest]:
    """Guests with the same work, run until it is done, and stopped then."""
    guests = []
    vmlinuz = boot.kernel()
    for number, merge in enumerate(mem_merge, 1):
        initrd = folder / f"initramfs{number}"
        initrd.write_bytes(gzip.compress(boot.initramfs(), 1))
        guest = boot.start(
            number,
            vmlinuz=vmlinuz,
            initrd=initrd,
            memory_mib=boot.MEMORY_MIB,
            options=boot.NO_KASLR,
            work=1,
            arguments=("-machine", f"mem-merge={merge}"),
        )
        stack.callback(boot.end, guest)
        guests.append(guest)
    for guest in guests:
        while not boot.is_ready(guest, boot.TIMEOUT):
            time.sleep(0.2)
        boot.greet(guest)
        boot.command(guest.monitor, "stop")
    return guests


def test_what_is_foretold_is_merged(kernel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        on, off = stopped_guests(tmp_path, stack, "on", "off")
        pids = [on.process.pid, off.process.pid]
        assert set(pids) <= set(find(qemu=True))
        report = live(pids)
        foretold = report.today
        merged = {each.pid: each for each in report.processes}
        assert merged[on.process.pid].mergeable * report.page_size >= 64 << 20
        assert merged[off.process.pid].mergeable == merged[off.process.pid].pages.would_merge_today == 0
        assert any("mem-merge=on" in each.allow for each in merged[off.process.pid].advice)
        assert main(["live", *map(str, pids)]) == 0
        out = capsys.readouterr().out
        line = "QEMU runs with mem-merge=off\n    -machine mem-merge=on\n"
        assert f"in {off.process.pid} (qemu-system-x86): {line}" in out
        found = kernel.converge([on.process.pid])
        assert found["pages_sharing"] + found["ksm_zero_pages"] == foretold.pages_sharing + foretold.ksm_zero_pages
        after = live(pids)
        zeros = after.pages.kernel_zero - report.pages.kernel_zero
        assert found["pages_sharing"] + zeros == foretold.saved
        assert after.today.saved == 0


@pytest.mark.parametrize("backend", ["memory-backend-memfd", "memory-backend-file"])
def test_memory_that_is_shared_is_named_with_the_line_that_would_help(
    backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that never runs; its memory is there all the same, and all zero."""
    path = ["mem-path=/dev/shm"] if backend == "memory-backend-file" else []
    memory = ",".join([backend, "id=ram", "size=32M", "share=on", "prealloc=on", *path])
    command = [boot.QEMU, "-nodefaults", "-machine", "pc,memory-backend=ram", "-accel", "tcg", "-display", "none"]
    command += ["-S", "-m", "32", "-object", memory, "-serial", "stdio"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            pages = 0
            while pages < (32 << 20) // 4096 and time.monotonic() < deadline:
                time.sleep(0.1)
                report = live([process.pid])
                pages = sum(each.pages for each in report.out_of_reach if each.reach.value == "shared memory")
            assert main(["live", str(process.pid)]) == 0
        finally:
            process.kill()
    out = capsys.readouterr().out
    assert pages >= (32 << 20) // 4096
    assert "the guest's memory is shared (a memory backend with share=on): KSM" in out.replace("\n", " ")
    assert "    -object memory-backend-ram,share=off,... (not with vhost-user or virtiofs devices)\n" in out
    assert "- in shared memory: 32.0 MiB more are the same as others" in out.replace("\n", " ")
