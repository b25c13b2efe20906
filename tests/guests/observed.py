"""One guest with a balloon whose memory is seen from both sides, page by page, while it runs.

From outside: the guest's memory is a file in memory (memfd) that QEMU maps shared, so that it shows which pages have a
frame behind them (the others are holes in it) and what is in them; or memory of QEMU's own, as it is by default, that
is seen through its /proc/PID/pagemap and mem. From inside: ``module/pageprobe.c`` touches pages by
their numbers and says what the guest's kernel does with each; commands go through a virtio port to a shell.

A page's number is its guest-physical address / 4096. Below 3 GiB the memory of a PC is in one piece, so that it is the
page's place in the file, too.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import itertools
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guests.boot import (
    NO_KASLR,
    TIMEOUT,
    BootError,
    Guest,
    MissingError,
    command,
    end,
    greet,
    initramfs,
    is_ready,
    kernel,
    start,
)
from guests.modules import module_of_sources, own_modules

PAGE = 4096
PATTERN = 0x5041474553484152
"""What a page that the guest has filled holds in each of its 64-bit words, xor its number."""
MODULES = ("virtio_pci", "virtio_console", "virtio_balloon", "virtio_blk")
DISK_MIB = 64
"""Of zeroes, to be read into the guest's page cache."""

SOFTWARE = """#!/bin/busybox sh
export PATH=/bin
for module in /modules/*; do insmod $module || reboot -f; done
insmod /pageprobe.ko || reboot -f
mkdir -p /sys && mount -t sysfs sys /sys && mount -t debugfs debug /sys/kernel/debug
while [ ! -c /dev/vport0p1 ]; do sleep 0.1; done
exec 3<>/dev/vport0p1
exec 4</dev/vda # which keeps what is read of it in the page cache
for process in /proc/[0-9]*; do echo -1000 >$process/oom_score_adj; done
touch done
while read -r line <&3; do
    eval "$line" >said 2>&1
    echo "$? $(wc -c <said)" >&3
    cat said >&3
done
"""

AREA = 2 << 20
HEADER = np.dtype([("clock", "<u8"), ("events", "<u8"), ("count", "<u8")])
STATES_AT, STATES = 4 << 10, 256 << 10
RECORD = np.dtype([("page", "<u8"), ("cycles", "<u8"), ("word", "<u8"), ("zero", "<u8")])
RECORDS_AT, RECORDS = 512 << 10, (512 << 10) // RECORD.itemsize
EVENT = np.dtype([("cycles", "<u8"), ("kind", "<u8"), ("what", "<u8"), ("more", "<u8")])
EVENTS_AT, EVENTS = 1024 << 10, (1024 << 10) // EVENT.itemsize
"""The layout of pageprobe's area, which that file explains; the places of its parts and how many each holds."""


class Kind(IntEnum):
    """Of an event, as in pageprobe.c."""

    CHANGED = 1
    ENQUEUE = 2
    DEQUEUE = 3
    TELL = 4
    ACK = 5
    STATS = 6
    REPORT = 7
    OOM = 8
    OOM_DONE = 9
    FREED = 10


class State(IntFlag):
    """Of a page, as in pageprobe.c."""

    OFFLINE = 1
    BUDDY = 2
    REPORTED = 4
    FILE_CACHE = 8
    ANON = 16
    OTHER = 32
    RESERVED = 64


GOOD_ENOUGH_NS = 20_000
"""Of a comparison of the clocks."""
DRIFT = 2e-5
"""How much faster one of them may be than the comparisons say."""

Pages = npt.NDArray[np.int64]
"""Numbers of pages."""


@dataclass
class Observed:
    """A running guest that is looked at; `observed` makes it."""

    guest: Guest
    channel: socket.socket
    file: int
    """The memory: the memfd, or QEMU's /proc/PID/mem."""
    size: int
    """Bytes of memory."""
    base: int = 0
    """Where in the file it begins."""
    pagemap: int | None = None
    """QEMU's /proc/PID/pagemap, if it is no memfd."""
    area: int = 0
    """Where pageprobe's area is in the memory."""
    clocks: list[tuple[int, int, int]] = field(default_factory=list)
    """Moments on both clocks: (ns within which it is the same one, cycles of the guest's time stamp counter, ns of the
    host's monotonic clock)."""

    @property
    def pages(self) -> int:
        return self.size // PAGE

    # Outside

    def qmp(self, name: str, **arguments: object) -> Any:
        return command(self.guest.monitor, name, **arguments)

    def actual(self) -> int:
        """How many pages the balloon holds, as QEMU tells."""
        return int(self.pages - self.qmp("query-balloon")["actual"] // PAGE)

    def aim(self, pages: int) -> int:
        """Ask the guest for a balloon of so many pages; when, on the host's clock in ns."""
        sent = time.monotonic_ns()
        self.qmp("balloon", value=self.size - pages * PAGE)
        return sent

    def reach(self, pages: int, timeout: float = 60, pause: float = 0.002) -> float:
        """Ask for a balloon of so many pages and wait until it is as large; the seconds that took. BootError if it is
        not after ``timeout`` seconds."""
        sent = self.aim(pages)
        while self.actual() != pages:
            if time.monotonic_ns() - sent > timeout * 1e9:
                raise BootError(f"the balloon has {self.actual()} pages after {timeout} s, not {pages}")
            time.sleep(pause)
        return (time.monotonic_ns() - sent) / 1e9

    def framed(self) -> npt.NDArray[np.bool_]:
        """For each page, whether it has a frame on the host, of its own: the zero page of the host's kernel is none."""
        return self._mapped() if self.pagemap is not None else self._no_holes()

    def _no_holes(self) -> npt.NDArray[np.bool_]:
        found = np.zeros(self.pages, dtype=bool)
        at = 0
        while at < self.size:
            try:
                first = os.lseek(self.file, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # nothing but a hole until the end
            at = os.lseek(self.file, first, os.SEEK_HOLE)
            found[first // PAGE : -(-at // PAGE)] = True
        return found

    def _mapped(self) -> npt.NDArray[np.bool_]:
        """By the kernel's pagemap: present (bit 63) and mapped by one alone (56), as the zero page is not; or
        swapped out (62)."""
        assert self.pagemap is not None
        entries = np.frombuffer(os.pread(self.pagemap, self.pages * 8, self.base // PAGE * 8), np.uint64)
        present, swapped, exclusive = (entries >> np.uint64(bit) & np.uint64(1) for bit in (63, 62, 56))
        return np.asarray((present & exclusive | swapped) == 1)

    def frames(self) -> int:
        """How many pages have a frame."""
        if self.pagemap is not None:
            return int(self.framed().sum())
        return os.fstat(self.file).st_blocks * 512 // PAGE  # which takes no time

    def content(self, page: int) -> bytes:
        """What is in a page. Unlike a look through the mapping, a read gives no frame to one that has none."""
        return os.pread(self.file, PAGE, self.base + page * PAGE)

    # Inside

    def run(self, line: str, timeout: float = 120) -> str:
        """What a command prints in the guest's shell. BootError if it fails, or the guest does not answer."""
        status, said = self.attempt(line, timeout)
        if status:
            raise BootError(f"in the guest: {line}: exit status {status}: {said.strip()[-300:]}")
        return said

    def attempt(self, line: str, timeout: float = 120) -> tuple[int, str]:
        """Its exit status, and what it prints."""
        self.send(line)
        return self.answer(timeout)

    def send(self, line: str) -> None:
        """Have the guest's shell begin with a command."""
        self.channel.sendall(line.encode() + b"\n")

    def answer(self, timeout: float = 120) -> tuple[int, str]:
        """Of the command that was sent."""
        until = time.monotonic() + timeout
        head = b""
        while not head.endswith(b"\n"):
            head += self._receive(1, until)
        status, size = map(int, head.split())
        said = b""
        while len(said) < size:
            said += self._receive(size - len(said), until)
        return status, said.decode(errors="replace")

    def _receive(self, size: int, until: float) -> bytes:
        ready, _, _ = select.select([self.channel], [], [], max(0, until - time.monotonic()))
        got = self.channel.recv(size) if ready else b""
        if not got:
            console = self.guest.log.read_text(errors="replace")[-1500:]
            raise BootError(f"the guest does not answer; its console:\n{console}")
        return got

    def probe(self, line: str) -> None:
        self.run(f"echo {line} >/proc/pageprobe")

    def _part(self, at: int, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A part of pageprobe's area, as it is now."""
        size = np.dtype(dtype).itemsize * count
        return np.frombuffer(os.pread(self.file, size, self.base + self.area + at), dtype)

    def header(self) -> npt.NDArray[Any]:
        return self._part(0, 1, HEADER)

    def states(self) -> npt.NDArray[np.uint8]:
        """The `State` of each page, all at one moment."""
        self.probe("look")
        return self._part(STATES_AT, self.pages, np.uint8)

    def ballooned(self) -> Pages:
        return np.flatnonzero(self.states() & State.OFFLINE)

    def touch(self, pages: Sequence[int] | Pages, *, write: bool = False) -> npt.NDArray[Any]:
        """Have the guest's kernel read, or write to, these pages in this order: a RECORD of each. ``zero`` is 1 if all
        but the first word was zero, 2 if it holds the pattern."""
        done = []
        for first in range(0, len(pages), RECORDS):
            some = pages[first : first + RECORDS]
            records = np.zeros(len(some), RECORD)
            records["page"] = some
            os.pwrite(self.file, records.tobytes(), self.base + self.area + RECORDS_AT)
            self.probe(f"touch {'w' if write else 'r'} {len(some)}")
            done.append(self._part(RECORDS_AT, len(some), RECORD))
        return np.concatenate(done)

    def hold(self, blocks: int, order: int = 0) -> Pages:
        """Have the guest's kernel allocate so many blocks of 2**order pages and fill them with the pattern. The pages
        of those that it got, in that order, at most RECORDS of them."""
        self.probe(f"hold {blocks} {order}")
        return self._part(RECORDS_AT, int(self.header()["count"][0]), RECORD)["page"].astype(np.int64)

    def release(self, step: int = 1) -> None:
        """Free every step-th block that is still held."""
        self.probe(f"release {step}")

    def trace(self, wanted: bool) -> None:
        """Begin with no events, or note no more."""
        self.probe(f"trace {int(wanted)}")
        if wanted:
            self.probe("forget")

    def events(self) -> npt.NDArray[Any]:
        """What has been noted: EVENT each. BootError if there was too much."""
        count = int(self.header()["events"][0])
        if count > EVENTS:
            raise BootError(f"{count} events, of which only {EVENTS} are noted")
        return self._part(EVENTS_AT, count, EVENT)

    def cpu_ns(self) -> int:
        """How long QEMU's threads have had a processor."""
        tasks = Path(f"/proc/{self.guest.process.pid}/task").glob("*/schedstat")
        return sum(int(path.read_text().split()[0]) for path in tasks)

    def faults(self) -> int:
        """How often QEMU has been given a page, or a mapping of one: its minor faults, threads and all."""
        fields = Path(f"/proc/{self.guest.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[7])

    def counters(self) -> dict[str, int]:
        """The guest's /proc/vmstat."""
        return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", self.run("cat /proc/vmstat"), re.M)}

    def meminfo(self) -> dict[str, int]:
        """The guest's /proc/meminfo, in pages."""
        said = self.run("cat /proc/meminfo")
        return {name: int(value) // 4 for name, value in re.findall(r"^(\w+): +(\d+) kB", said, re.M)}

    # Clocks

    def compare_clocks(self, ms: int = 30) -> None:
        """Note a moment on both clocks, and within how many ns it is the same: again and again where host and guest do
        not run at the same time. BootError if they never do."""
        best: tuple[int, int, int] | None = None
        for _ in range(20):
            reads = self._reads_of_clock(ms)
            # What one read does not show and the next one does was noted in between.
            between = [
                (after - before, cycles, (before + after) // 2)
                for (before, last, _), (_, cycles, after) in itertools.pairwise(reads)
                if cycles != last
            ]
            best = min([*between, *filter(None, [best])], default=None)
            if best and best[0] < GOOD_ENOUGH_NS:
                break
        if best is None:
            raise BootError("the guest's clock never moved while it was read")
        self.clocks.append(best)

    def _reads_of_clock(self, ms: int) -> list[tuple[int, int, int]]:
        """Of the clock that the guest shows for so long: (ns before, cycles, ns after)."""
        self.send(f"echo clock {ms} >/proc/pageprobe")
        until = time.monotonic() + 20
        while not self._clock() and time.monotonic() < until and not select.select([self.channel], [], [], 0)[0]:
            pass
        reads = []
        while True:
            before = time.monotonic_ns()
            cycles = self._clock()
            if not cycles:
                break
            reads.append((before, cycles, time.monotonic_ns()))
        if self.answer()[0]:
            raise BootError("the guest did not show its clock")
        return reads

    def _clock(self) -> int:
        return int.from_bytes(os.pread(self.file, 8, self.base + self.area), "little")

    def cycles_per_ns(self) -> float:
        """By the first and the last comparison of the clocks."""
        if len(self.clocks) == 1:
            self.compare_clocks()
        (_, first, ns), (_, last, later) = self.clocks[0], self.clocks[-1]
        return (last - first) / (later - ns)

    def host_ns(self, cycles: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
        """When that was on the host's clock: from the comparison that is the best one for it."""
        return self._by_best_clock(cycles)[0]

    def host_ns_error(self, cycles: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
        """Within how many ns that is: the error of the comparison, and what the clocks may have drifted apart since it,
        or before."""
        return self._by_best_clock(cycles)[1]

    def _by_best_clock(self, cycles: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        errors, moments, ns = np.array(self.clocks, dtype=np.int64).T
        apart = (cycles.astype(np.int64)[:, None] - moments) / self.cycles_per_ns()
        within = errors + np.abs(apart) * DRIFT
        best = within.argmin(axis=1)
        row = np.arange(len(best))
        return ns[best] + apart[row, best], within[row, best]


@contextlib.contextmanager
def observed(
    folder: Path,
    *,
    memory_mib: int = 256,
    balloon: str = "",
    options: str = "",
    shared: bool = True,
    timeout: float = TIMEOUT,
) -> Iterator[Observed]:
    """Boot a guest, whose log and files are in ``folder`` meanwhile. ``balloon`` are options of QEMU's balloon device,
    ``options`` the kernel's; unless ``shared``, memory is QEMU's own instead of a memfd. Raises MissingError if this
    machine lacks something, BootError if it does not come up."""
    vmlinuz = kernel()
    probe = module_of_sources(vmlinuz, Path(__file__).with_name("module"), "pageprobe")
    size = memory_mib << 20
    with tempfile.TemporaryDirectory(dir=folder, prefix=".observed-") as name, contextlib.ExitStack() as stack:
        initrd = Path(name, "initramfs")
        files = {
            "software": SOFTWARE.encode(),
            "pageprobe.ko": probe,
            "bin/load": _load(Path(name)),
            **own_modules(vmlinuz, MODULES),
        }
        initrd.write_bytes(gzip.compress(initramfs(files), 1))
        file = os.memfd_create("guest")
        stack.callback(os.close, file)
        os.ftruncate(file, size)
        file_backend = f"memory-backend-file,mem-path=/proc/self/fd/{file},share=on"
        backend = file_backend if shared else "memory-backend-ram"
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        with theirs:
            guest = start(
                1,
                vmlinuz=vmlinuz,
                initrd=initrd,
                memory_mib=memory_mib,
                options=f"{NO_KASLR} {options}",
                work=1,
                arguments=[
                    *("-object", f"{backend},id=ram,size={size}"),
                    *("-machine", "memory-backend=ram"),
                    *("-device", "virtio-serial"),
                    *("-chardev", f"socket,id=port1,fd={theirs.fileno()}"),
                    *("-device", "virtserialport,chardev=port1,nr=1"),
                    *("-blockdev", f"driver=null-co,read-zeroes=on,size={DISK_MIB << 20},node-name=disk"),
                    *("-device", "virtio-blk-pci,drive=disk"),
                    *("-device", ",".join(filter(None, ("virtio-balloon-pci,id=balloon", balloon)))),
                ],
                pass_fds=[file, theirs.fileno()],
            )
        stack.callback(end, guest)
        while not is_ready(guest, timeout):
            time.sleep(0.1)
        greet(guest)
        seen = Observed(guest, ours, file, size)
        if not shared:
            seen.base = mapping(guest.process.pid, size)
            seen.file, seen.pagemap = (
                os.open(f"/proc/{guest.process.pid}/{name}", flags)
                for name, flags in (("mem", os.O_RDWR), ("pagemap", os.O_RDONLY))
            )
            stack.callback(os.close, seen.file)
            stack.callback(os.close, seen.pagemap)
        seen.area = int(re.findall(r"area (\d+)", seen.run("cat /proc/pageprobe"))[0]) * PAGE
        seen.compare_clocks()
        yield seen


def mapping(pid: int, size: int) -> int:
    """Where in a process there is one mapping of just that size. BootError if there is none."""
    for first, last in re.findall(r"^(\w+)-(\w+) ", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE):
        if int(last, 16) - int(first, 16) == size:
            return int(first, 16)
    raise BootError(f"QEMU has no mapping of {size} bytes")


def _load(work: Path) -> bytes:
    """The program load.c. Raises MissingError if it can't be compiled."""
    if shutil.which("cc") is None:
        raise MissingError("guests with a load need cc: apt-get install --no-install-recommends gcc libc6-dev")
    path = work / "load"
    source = Path(__file__).with_name("load.c")
    done = subprocess.run(["cc", "-O2", "-static", "-o", path, source], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"load.c: {done.stderr.strip().splitlines()[-1]}")
    return path.read_bytes()
