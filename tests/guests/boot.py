"""Boot small Linux guests that do different work, and dump their memory: ``python tests/guests/boot.py -o DIR``.
With ``--same`` they all do the same.

Each guest N leaves DIR/guestN.elf (QEMU's dump-guest-memory) and DIR/guestN.raw (pmemsave), taken while it is
stopped, so both hold the same moment; or raw snapshots of several moments (``boot(snapshots=...)``). It is Debian's
cloud kernel with busybox and ``init.sh``, under QEMU without KVM. The kernel is taken out of its package, which is
downloaded by apt-get and kept in $XDG_CACHE_HOME/pageshare (~/.cache/pageshare); nothing is installed. Two guests
take about half a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import FrameType, MappingProxyType
from typing import IO, Any, NoReturn

HERE = Path(__file__).resolve().parent
BUSYBOX = Path("/bin/busybox")
QEMU = "qemu-system-x86_64"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MEMORY_MIB = 112
MOST_MEMORY_MIB = 2048  # above it a PC's memory is not in one piece
TIMEOUT = 300.0
NO_KASLR = "nokaslr"
"""With its kernel at a random address in each, a third fewer pages are the same in two guests."""


class BootError(RuntimeError):
    """No dumps, since a guest did not come up or could not be dumped; the message is for a person."""


class MissingError(BootError):
    """No dumps, since this machine lacks something: the message says what, and how to get it."""


@dataclass
class Guest:
    """A running guest: its QEMU, the QMP connection to it and the file that its serial console goes to."""

    number: int
    process: subprocess.Popen[bytes]
    monitor: IO[str]
    log: Path
    started: float
    ready: float | None = None
    """When it was ready, put off by the time that it has been stopped since."""
    dumped: int = 0
    """How often."""


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def check_tools() -> None:
    """Raise MissingError unless QEMU, a static busybox and Debian's package tools are here."""
    packages = []
    if shutil.which(QEMU) is None:
        packages.append("qemu-system-x86")
    if not _is_static(BUSYBOX):
        packages.append("busybox-static")
    if packages:
        raise MissingError(
            f"guests need {' and '.join(packages)}: apt-get install --no-install-recommends {' '.join(packages)}"
        )
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise MissingError("guests need apt-get and dpkg to get a kernel: run this on Debian")


def _is_static(program: Path) -> bool:
    """Whether it is there and needs no libraries: a dynamic ELF file has the name of its loader near the start."""
    try:
        with program.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return head.startswith(b"\x7fELF\x02\x01") and b"/ld-linux" not in head


def cached() -> Path:
    """The folder for what is downloaded."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pageshare"


def kernel() -> Path:
    """The newest cloud kernel that apt knows, downloaded if it is not in the cache; else any that is there."""
    cache = cached()
    try:
        try:
            return _newest(cache)
        except MissingError:
            if os.geteuid() != 0:
                raise
            # Its lists are missing, or older than the packages that are to be had.
            output("apt-get", "-q", "update")
            return _newest(cache)
    except (MissingError, OSError) as error:
        others = [*cache.glob("vmlinuz-*"), *Path("/boot").glob("vmlinuz-*-amd64")]
        usable = [each for each in others if os.access(each, os.R_OK)]
        if not usable:
            raise MissingError(f"no kernel for the guests: {error}; try sudo apt-get update") from error
        path = max(usable, key=lambda each: each.stat().st_mtime)
        say(f"no new kernel ({error}): using {path}")
    return path


def _newest(cache: Path) -> Path:
    name = re.search(r"Depends: (linux-image-\S+)", output("apt-cache", "depends", KERNEL_PACKAGE))
    if name is None:
        raise MissingError(f"apt knows no {KERNEL_PACKAGE}")
    path = cache / name[1].replace("linux-image", "vmlinuz", 1)
    if not path.exists():
        with unpacked(name[1]) as files:
            (files / "boot" / path.name).replace(path)
    return path


@contextlib.contextmanager
def unpacked(*packages: str) -> Iterator[Path]:
    """A folder with the files of Debian packages, which are downloaded and not installed; in the cache's file system,
    for as long as the context lasts."""
    cache = cached()
    say(f"downloading {' and '.join(packages)} into {cache}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        output("apt-get", "download", *packages, cwd=work)
        for deb in Path(work).glob("*.deb"):
            output("dpkg", "-x", str(deb), f"{work}/unpacked")
        yield Path(work, "unpacked")


def output(*command: str, cwd: str | Path | None = None) -> str:
    """What a command prints. Raises MissingError, with the last line of what it says, if it fails."""
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise MissingError(f"{' '.join(command)}: {reason[-1]}")
    return done.stdout


def initramfs(more: Mapping[str, bytes | str] = MappingProxyType({})) -> bytes:
    """Busybox, ``init.sh`` and more programs as a cpio archive in the "newc" form that Linux takes (its initramfs
    documentation). Text instead of bytes is what a symbolic link points to."""
    folder, program, link = 0o040755, 0o100755, 0o120777
    files: dict[str, bytes | str] = {
        "bin/busybox": BUSYBOX.read_bytes(),
        "init": (HERE / "init.sh").read_bytes(),
        **more,
    }
    folders = {str(parent) for name in files for parent in PurePath(name).parents} | {"bin", "dev", "proc", "tmp"}
    entries = [(name, folder, b"") for name in sorted(folders - {"."})]
    for name, content in files.items():
        entries.append((name, link, content.encode()) if isinstance(content, str) else (name, program, content))
    archive = bytearray()
    for inode, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        # Inode, mode, user, group, links, time, bytes, device and special device (2 each), length of name, checksum.
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields)
        archive += name.encode() + b"\0"
        archive += bytes(-len(archive) % 4)
        archive += content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def start(
    number: int,
    *,
    vmlinuz: Path,
    initrd: Path,
    memory_mib: int,
    options: str,
    work: int,
    arguments: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
) -> Guest:
    """Start QEMU on one guest that does work number ``work``; the serial log is written beside the file ``initrd``.
    ``arguments`` are more of QEMU's, ``pass_fds`` the open files that they name by number."""
    log = initrd.with_name(f"serial{number}.log")
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    with ours, theirs, log.open("wb") as output:
        process = subprocess.Popen(
            [
                QEMU,
                # A plain PC. Its VGA adapter puts device memory into the dump, as most real guests' do.
                *("-nodefaults", "-machine", "pc", "-accel", "tcg", "-vga", "std", "-display", "none", "-no-reboot"),
                *("-m", str(memory_mib), "-kernel", str(vmlinuz), "-initrd", str(initrd)),
                *("-append", f"console=ttyS0 loglevel=5 panic=-1 {options} guest={number} work={work}"),
                *("-serial", "stdio"),
                *("-chardev", f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control"),
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno(), *pass_fds],
            umask=0o077,
        )
        monitor = ours.makefile("rw", encoding="utf-8")
    return Guest(number, process, monitor, log, time.monotonic())


def end(guest: Guest) -> None:
    """End its QEMU, whatever state it is in."""
    with contextlib.suppress(OSError):  # a command that could not be sent, since it has ended
        guest.monitor.close()
    if guest.process.poll() is None:
        guest.process.terminate()
        try:
            guest.process.wait(5)
        except subprocess.TimeoutExpired:
            guest.process.kill()
    guest.process.wait()


def is_ready(guest: Guest, timeout: float) -> bool:
    """Whether the guest has said that its work is done. BootError if it never will, or has taken too long."""
    log = guest.log.read_text(errors="replace")
    if "Initramfs unpacking failed" in log:
        raise BootError(f"guest {guest.number} has too little memory for its files; its console:\n{_tail(log)}")
    if f"guest {guest.number} is ready" in log:
        return True
    seconds = time.monotonic() - guest.started
    if guest.process.poll() is not None:
        raise BootError(f"guest {guest.number} ended by itself after {seconds:.0f} s; its console:\n{_tail(log)}")
    if seconds > timeout:
        raise BootError(f"guest {guest.number} was not ready after {seconds:.0f} s; its console:\n{_tail(log)}")
    return False


def _tail(log: str) -> str:
    return "\n".join(f"    {line}" for line in log.splitlines()[-15:]) or "    (nothing)"


def dump(guest: Guest, forms: Mapping[str, str], *, memory_mib: int, folder: Path, work: Path) -> float:
    """Stop a guest, write its memory and let it go on; for how many seconds it was stopped.

    ``forms`` has the ending of each file and its form, raw or elf. The files appear in ``folder`` when all are whole.
    """
    names = {f"guest{guest.number}.{ending}": form for ending, form in forms.items()}
    stopped = time.monotonic()
    command(guest.monitor, "stop")
    for name, form in names.items():
        if form == "raw":
            command(guest.monitor, "pmemsave", val=0, size=memory_mib << 20, filename=str(work / name))
        else:
            command(guest.monitor, "dump-guest-memory", paging=False, protocol=f"file:{work / name}", format=form)
    command(guest.monitor, "cont")
    seconds = time.monotonic() - stopped
    for name in names:
        (work / name).chmod(0o600)
        (work / name).replace(folder / name)
    return seconds


def command(monitor: Any, name: str, **arguments: object) -> Any:
    """Have QEMU do what its manual of QMP says under that name, and give what it answers. Raises BootError if it
    refuses."""
    monitor.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    monitor.flush()
    answer = _answer(monitor)
    if "error" in answer:
        raise BootError(f"QEMU refused {name}: {answer['error'].get('desc')}")
    return answer["return"]


def _answer(monitor: Any) -> dict[str, Any]:
    """The next message that is no event."""
    for line in monitor:
        message: dict[str, Any] = json.loads(line)
        if "event" not in message:
            return message
    raise BootError("QEMU ended in the middle of a dump")


def greet(guest: Guest) -> None:
    """Begin to talk to its QEMU."""
    _answer(guest.monitor)
    command(guest.monitor, "qmp_capabilities")


def boot(
    folder: Path,
    *,
    guests: int = 2,
    memory_mib: int = MEMORY_MIB,
    timeout: float = TIMEOUT,
    options: str = NO_KASLR,
    same: bool = False,
    more: Callable[[int], Mapping[str, bytes | str]] = lambda _number: {},
    vmlinuz: Callable[[int], Path] | None = None,
    snapshots: Sequence[float] | None = None,
) -> None:
    """Boot so many guests, as many at a time as there are processors, and put their dumps into ``folder``.

    ``timeout`` is in seconds, for each guest; ``options`` are the kernel's; with ``same`` all do what the first one
    does; ``more`` gives more files of a guest by their names (see `initramfs`), ``vmlinuz`` its kernel. With
    ``snapshots``, seconds that a guest has run since it was ready, it is dumped after each of them (or somewhat
    later, while another one starts), as guestN.tSECONDS.raw only. Raises BootError; no process and no half-written
    file stays.
    """
    check_tools()
    if vmlinuz is None:
        newest = kernel()
        vmlinuz = lambda _number: newest  # noqa: E731
    moments = [(0.0, {"raw": "raw", "elf": "elf"})]
    if snapshots is not None:
        moments = [(seconds, {f"t{seconds:g}.raw": "raw"}) for seconds in sorted(snapshots)]
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    at_once = len(os.sched_getaffinity(0))
    waiting = list(range(1, guests + 1))
    running: list[Guest] = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".boot-") as name:
        work = Path(name)
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    number = waiting.pop(0)
                    initrd = work / f"initramfs{number}"
                    initrd.write_bytes(gzip.compress(initramfs(more(number)), 1))
                    running.append(
                        start(
                            number,
                            vmlinuz=vmlinuz(number),
                            initrd=initrd,
                            memory_mib=memory_mib,
                            options=options,
                            work=1 if same else number,
                        )
                    )
                    say(f"guest {number} of {guests}: booting")
                for guest in list(running):
                    if guest.ready is None:
                        if not is_ready(guest, timeout):
                            continue
                        greet(guest)
                        guest.ready = time.monotonic()
                    seconds, forms = moments[guest.dumped]
                    if time.monotonic() < guest.ready + seconds:
                        continue
                    guest.ready += dump(guest, forms, memory_mib=memory_mib, folder=folder, work=work)
                    guest.dumped += 1
                    seconds = time.monotonic() - guest.started
                    say(f"guest {guest.number} of {guests}: dumped, {seconds:.0f} s after its start")
                    if guest.dumped == len(moments):
                        end(guest)
                        running.remove(guest)
                time.sleep(0.1)
        finally:
            for guest in running:
                end(guest)


def terminated(_signum: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the dumps")
    parser.add_argument("--guests", type=int, default=2, metavar="N", help="how many (default: 2)")
    parser.add_argument("--same", action="store_true", help="the same work in all: that of guest 1")
    parser.add_argument(
        "--memory", type=int, default=MEMORY_MIB, metavar="MIB", help=f"memory of each (default: {MEMORY_MIB} MiB)"
    )
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT, metavar="S", help=f"for each guest (default: {TIMEOUT:.0f} s)"
    )
    args = parser.parse_args()
    if args.guests < 1:
        parser.error("--guests must be at least 1")
    if not 96 <= args.memory <= MOST_MEMORY_MIB:
        parser.error(f"--memory must be from 96 to {MOST_MEMORY_MIB} MiB")
    signal.signal(signal.SIGTERM, terminated)
    try:
        boot(args.output, guests=args.guests, memory_mib=args.memory, timeout=args.timeout, same=args.same)
    except (BootError, OSError) as error:
        print(f"boot.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    say(f"try: pageshare {'figures 4 --guests' if args.same else 'scan'} {args.output}/*.elf")
    return 0


if __name__ == "__main__":
    sys.exit(main())
