"""A process's memory as /proc shows it: what is mapped, which of it is in memory, and the bytes.

Sources: proc(5), ptrace(2), and the kernel's Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import time
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAGE = os.sysconf("SC_PAGE_SIZE")
STOP_SECONDS = 5.0
"""How long a process may take to stop."""

# Fields of /proc/PID/stat, counted from the state on.
STATE, PARENT, GROUP, SESSION, FLAGS, NICE, START = 0, 1, 2, 3, 6, 16, 19
_PF_KTHREAD = 0x00200000

# /proc/PID/pagemap: one 64-bit entry a page.
_GUARD = np.uint64(1 << 58)  # a guard page (MADV_GUARD_INSTALL): marked as swapped too, but it has no memory
_STATE_SHIFT = np.uint64(61)  # above it: of a file or shared (1), swapped (2), present (4)


_SPECIAL = re.compile(r"\[v(var|syscall)|/sys/|anon_inode:\[vfio|/dev/(?!shm/|hugepages/|zero\b)")


class ProcessError(OSError):
    """A process whose memory can't be had; ``str()`` is one line: which one, why, and what to do."""

    def __init__(self, pid: int, command: str, reason: str, *, gone: bool = False) -> None:
        """``command`` is empty where it is not known; ``gone``: since the process is not there any more."""
        super().__init__(f"process {pid} ({command}): {reason}" if command else f"process {pid}: {reason}")
        self.pid = pid
        self.command = command
        self.reason = reason
        self.gone = gone


class PageKind(IntEnum):
    """What a page is to its process."""

    UNTOUCHED = 0
    ANONYMOUS = 1
    FILE = 2
    SWAPPED = 3


# By present, swapped and file bit. Swapped and file: a page on its way to another node, so it is present.
_KINDS = np.array([0, 0, 3, 2, 1, 2, 1, 2], dtype=np.uint8)


class Mapping(NamedTuple):
    """A line of /proc/PID/maps: addresses, offset in the file (bytes), name."""

    start: int
    end: int
    offset: int
    name: str


class Process:
    """A process by its folder in /proc, held open: a number that is used again does not mislead it.

    Raises ProcessError, also later when the process ends. To be closed.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.command = ""
        self._files: list[int] = []
        try:
            self.folder = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise ProcessError(pid, "", "no such process", gone=True) from None
        self._files.append(self.folder)

    def close(self) -> None:
        """Close its files."""
        while self._files:
            os.close(self._files.pop())

    def open_memory(self) -> None:
        """Get access to its memory, or say why that cannot be."""
        self.command = self.read("comm").decode("utf-8", "replace").rstrip("\n")
        fields = self.stat()
        if int(fields[FLAGS]) & _PF_KTHREAD:
            raise self.error("a kernel thread has no memory of its own")
        if fields[STATE] in "ZX":
            raise ProcessError(
                self.pid, self.command, "it has ended, only its exit status is left", gone=True
            )
        try:
            for name in ("pagemap", "mem"):
                self._files.append(self._open(name))
        except PermissionError:
            raise self.error(self._refusal()) from None
        _, self.pagemap, self.mem = self._files

    def error(self, reason: str) -> ProcessError:
        """An error that names this process."""
        return ProcessError(self.pid, self.command, reason)

    def gone(self) -> ProcessError:
        """An error that says so."""
        reason = "it ended, or started another program, before it was read"
        return ProcessError(self.pid, self.command, reason, gone=True)

    def _open(self, name: str) -> int:
        try:
            return os.open(name, os.O_RDONLY, dir_fd=self.folder)
        except (FileNotFoundError, ProcessLookupError):
            raise self.gone() from None

    def read(self, name: str) -> bytes:
        """All of a file in its folder."""
        try:
            with os.fdopen(self._open(name), "rb") as file:
                return file.read()
        except ProcessLookupError:
            raise self.gone() from None

    def stat(self, folder: str = ".") -> list[str]:
        """The fields of its stat file, from the state on."""
        return _stat_fields(self.read(f"{folder}/stat"))

    def _refusal(self) -> str:
        """Why the kernel keeps its memory from us (ptrace(2), "Ptrace access mode checking")."""
        user = os.geteuid()
        if user == 0:
            return "root may not read it here (in a container, add the capability SYS_PTRACE)"
        line = next(line for line in self.read("status").splitlines() if line.startswith(b"Uid:"))
        others = {int(uid) for uid in line.split()[1:4]} - {user}
        if others:
            return f"it belongs to {_user_name(max(others))}: read it as that user, or as root (sudo)"
        if os.stat("mem", dir_fd=self.folder).st_uid != user:
            return (
                "it is not dumpable (keeps its memory to itself, as ssh-agent and programs with added "
                "privileges do): read it as root (sudo)"
            )
        return _SCOPES[_yama_scope()]

    def still(self) -> bool:
        """Whether all of its threads are stopped."""
        states = []
        for thread in Path(f"/proc/{self.pid}/task").glob("*"):
            with contextlib.suppress(ProcessError):  # this thread has ended
                states.append(self.stat(f"task/{thread.name}")[STATE])
        return all(state in "TtZX" for state in states)

    def stop(self) -> None:
        """SIGSTOP, and wait until it has stopped."""
        if _runs_us(self.pid):
            raise self.error("pageshare runs under it, so it cannot be held: capture it without --stop")
        try:
            signal.pidfd_send_signal(self.folder, signal.SIGSTOP)
        except PermissionError:
            raise self.error("it may not be stopped by this user: capture it without --stop") from None
        deadline = time.monotonic() + STOP_SECONDS
        while not self.still():
            if time.monotonic() > deadline:
                raise self.error(f"it did not stop within {STOP_SECONDS:g} s: capture it without --stop")
            time.sleep(0.002)

    def resume(self) -> None:
        """SIGCONT, whatever became of it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self.folder, signal.SIGCONT)

    def mappings(self) -> list[Mapping]:
        """What is mapped, in ascending order; never overlapping, even if it changes while it is read."""
        mappings: list[Mapping] = []
        last = 0
        for line in self.read("maps").splitlines():
            span, _, offset, _, _, *name = line.split(None, 5)
            start, end = (int(address, 16) for address in span.split(b"-"))
            if max(start, last) < end:
                mappings.append(Mapping(max(start, last), end, int(offset, 16), os.fsdecode(b"".join(name))))
                last = end
        if not mappings:
            raise self.gone()
        return mappings

    def page_entries(self, first: int, pages: int) -> NDArray[np.uint64]:
        """The pagemap's entries of ``pages`` pages from number ``first`` on (address / PAGE), shape ``(pages,)``."""
        block = bytearray(pages * 8)
        done = 0
        while done < len(block):
            got = os.preadv(self.pagemap, [memoryview(block)[done:]], first * 8 + done)
            if got == 0:
                raise self.gone()
            done += got
        return np.frombuffer(block, np.uint64)

    def page_kinds(self, first: int, pages: int) -> NDArray[np.uint8]:
        """Their ``PageKind``, shape ``(pages,)``."""
        return kinds_of(self.page_entries(first, pages))

    def read_pages(self, into: memoryview, address: int) -> int:
        """Read whole pages into ``into``; returns how many bytes. 0: the first page cannot be read."""
        try:
            got = os.preadv(self.mem, [into], address)
        except OSError:
            return 0
        if got == 0:
            raise self.gone()
        return got - got % PAGE


def is_special(name: str) -> bool:
    """Whether a mapping of this name is the kernel's or a device's: reading it may disturb it, and is no memory."""
    return bool(_SPECIAL.match(name))


def kinds_of(entries: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The ``PageKind`` of pages by their entries in the pagemap."""
    kinds: NDArray[np.uint8] = _KINDS[entries >> _STATE_SHIFT]
    kinds[(entries & _GUARD) != 0] = PageKind.UNTOUCHED
    return kinds


def _stat_fields(stat: bytes) -> list[str]:
    """From the state on; the command before it may hold any character."""
    return stat.rpartition(b")")[2].decode("ascii").split()


def _runs_us(pid: int) -> bool:
    """Whether it is this process, or one that this process runs under."""
    ancestor = os.getpid()
    while ancestor not in (0, pid):
        try:
            ancestor = int(_stat_fields(Path(f"/proc/{ancestor}/stat").read_bytes())[PARENT])
        except FileNotFoundError:  # /proc is mounted with hidepid
            return False
    return ancestor == pid


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


# What a refusal means at each value of kernel.yama.ptrace_scope; 0 is not Yama's doing.
_SCOPES = (
    "the kernel does not allow it (a sandbox or a security module?): try it as root (sudo)",
    "kernel.yama.ptrace_scope is 1, only its parents may read it: read it as root (sudo), "
    "or allow it with: sudo sysctl kernel.yama.ptrace_scope=0",
    "kernel.yama.ptrace_scope is 2, only root may read it: read it as root (sudo)",
    "kernel.yama.ptrace_scope is 3, nobody may read it until the machine is started with another setting",
)


def _yama_scope() -> int:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
