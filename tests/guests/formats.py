"""Dump one guest's memory in every format that can be made here: ``python tests/guests/formats.py DIR``.

guest.* are of one moment, at which the guest is stopped; MADE says what each is. The LiME ones are written a little
earlier by LiME's kernel module inside the guest, while it runs. makedumpfile makes the others out of ``vmcore``, which
is guest.elf as it reads it. DIR/left-out.json has the names of those that this machine can't make, and why;
DIR/console.txt is what the guest printed, among it its /proc/iomem.

LiME and its kernel's headers are downloaded by apt-get, and LiME is compiled; kept in $XDG_CACHE_HOME/pageshare like
the kernel, nothing is installed.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from guests.boot import (
    MEMORY_MIB,
    NO_KASLR,
    TIMEOUT,
    BootError,
    Guest,
    MissingError,
    check_tools,
    command,
    end,
    greet,
    initramfs,
    is_ready,
    kernel,
    say,
    start,
)
from guests.modules import module_of_package, own_modules

LIME_PACKAGE = "lime-forensics-dkms"
MODULES = ("virtio_pci", "virtio_console", "qemu_fw_cfg")
"""For the ports that LiME's dumps leave by; and to tell QEMU's vmcoreinfo device where the kernel's note is."""
LIME = {
    "guest.compressed.lime": "format=lime compress=1",
    "guest.padded": "format=padded",
    "guest.lime": "format=lime",
}
"""How LiME is told to write each; the last is the nearest to the moment of the others."""

MAKEDUMPFILE: dict[str, tuple[str, ...]] = {
    "plain.kdump": ("-d", "0"),
    "zlib.kdump": ("-c", "-d", "0"),
    "lzo.kdump": ("-l", "-d", "0"),
    "zstd.kdump": ("-z", "-d", "0"),
    "nonzero.kdump": ("-c", "-d", "1"),
    "kernel.kdump": ("-l", "-d", "31"),
    "flat.kdump": ("-F", "-l", "-d", "31"),
    "kernel.elf": ("-E", "-d", "31"),
    "flat.elf": ("-F", "-E", "-d", "1"),
}
"""Its options for each: -c -l -z compress, -d leaves pages out (1 zero, 2 and 4 cached, 8 of processes, 16 free),
-F is a stream that is to be put in order, -E an ELF file."""

SPLIT = ("split.1.kdump", "split.2.kdump", "split.3.kdump")
"""The parts of one dump."""

MADE = {
    "guest.raw": "pmemsave",
    "guest.elf": "dump-guest-memory",
    "guest.paging.elf": "dump-guest-memory -p",
    "guest.kdump-zlib": "dump-guest-memory -z",
    "guest.kdump-raw-zlib": "dump-guest-memory -z -R",
    "guest.kdump": "makedumpfile -R of guest.kdump-zlib",
    "guest.migration": "migrate",
    "guest.mapped-ram": "migrate, with mapped-ram",
    **{name: f"insmod lime.ko {how}" for name, how in LIME.items()},
    **{name: f"makedumpfile {' '.join(options)}" for name, options in MAKEDUMPFILE.items()},
    **dict.fromkeys(SPLIT, "makedumpfile --split -c -d 0"),
}
"""Every file that there can be, by what it is made."""

# Work that leaves pages of all kinds: files, repeated and random; a process with a heap; free ones.
SOFTWARE = """#!/bin/busybox sh
export PATH=/bin
for module in /modules/*; do insmod $module || reboot -f; done
cat /proc/iomem
head -c 4000000 /dev/urandom >noise
cp noise again
yes "the same over and over" | head -c 8000000 >repeated
awk 'BEGIN {{ for (i = 0; i < 20000; i++) line[i] = i " " rand(); system("touch made; sleep 900") }}' &
while [ ! -e made ]; do sleep 0.1; done
{lime}
touch done
"""
# The host gets what goes into a port; LiME can only write to what is like a file, as a pipe is.
RUN_LIME = """while [ ! -c /dev/vport0p{port} ]; do sleep 0.1; done
mkfifo pipe{port}
cat pipe{port} >/dev/vport0p{port} &
insmod /lime.ko path=/tmp/pipe{port} {how} || reboot -f
wait $!
rmmod lime
"""


def make(folder: Path) -> None:
    """Leave all that can be made in ``folder``. Raises BootError; no process and no half-written file stays."""
    check_tools()
    folder.mkdir(parents=True, exist_ok=True)
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=folder.resolve(), prefix=".formats-") as name:
        work = Path(name)
        _dump(work, left_out)
        _convert(work, left_out)
        made = [work / name for name in (*MADE, "vmcore", "console.txt") if name not in left_out]
        for path in made:
            path.chmod(0o600)
            path.replace(folder / path.name)
    (folder / "left-out.json").write_text(json.dumps(left_out, indent=1) + "\n")


def _dump(work: Path, left_out: dict[str, str]) -> None:
    """Boot the guest, and have LiME and QEMU write its memory."""
    vmlinuz = kernel()
    modules = own_modules(vmlinuz, MODULES)
    try:
        modules["lime.ko"] = module_of_package(vmlinuz, LIME_PACKAGE, "lime")
        lime = LIME
    except (MissingError, OSError) as error:
        lime = {}
        left_out |= dict.fromkeys(LIME, str(error))
    runs = (RUN_LIME.format(port=port, how=how) for port, how in enumerate(lime.values(), start=1))
    software = SOFTWARE.format(lime="".join(runs))
    initrd = work / "initramfs"
    initrd.write_bytes(gzip.compress(initramfs({"software": software.encode(), **modules}), 1))

    def qemu(number: int, ports: Sequence[str], *more: str) -> Guest:
        arguments = ["-device", "vmcoreinfo", "-device", "virtio-serial"]
        for port, backend in enumerate(ports, start=1):
            arguments += ["-chardev", f"{backend},id=port{port}"]
            arguments += ["-device", f"virtserialport,chardev=port{port},nr={port}"]
        return start(
            number,
            vmlinuz=vmlinuz,
            initrd=initrd,
            memory_mib=MEMORY_MIB,
            options=NO_KASLR,
            work=1,
            arguments=[*arguments, *more],
        )

    guest = qemu(1, [f"file,path={work / name}" for name in lime])
    try:
        say("one guest: booting")
        while not is_ready(guest, TIMEOUT):
            time.sleep(0.1)
        greet(guest)
        command(guest.monitor, "stop")
        command(guest.monitor, "pmemsave", val=0, size=MEMORY_MIB << 20, filename=str(work / "guest.raw"))
        _save(guest, work / "guest.elf", format="elf")
        _save(guest, work / "guest.paging.elf", paging=True)
        offered = command(guest.monitor, "query-dump-guest-memory-capability")["formats"]
        _save(guest, work / "guest.kdump-zlib", format="kdump-zlib")
        if "kdump-raw-zlib" in offered:
            _save(guest, work / "guest.kdump-raw-zlib", format="kdump-raw-zlib")
        else:
            left_out["guest.kdump-raw-zlib"] = "this QEMU offers no kdump-raw-zlib"
        stream = work / "guest.migration"
        _migrate(guest, f"exec:cat >{shlex.quote(str(stream))}")
        mapped_ram = "mapped-ram" in str(command(guest.monitor, "query-migrate-capabilities"))
        guest.log.replace(work / "console.txt")
    finally:
        end(guest)
    if mapped_ram:
        # QEMU migrates a stopped guest once. What it wrote is loaded, to be written in the other form.
        guest = qemu(2, ["null"] * len(lime), "-S", "-incoming", f"exec:cat {shlex.quote(str(stream))}")
        try:
            greet(guest)
            while command(guest.monitor, "query-status")["status"] == "inmigrate":
                time.sleep(0.05)
            wanted = {"capability": "mapped-ram", "state": True}
            command(guest.monitor, "migrate-set-capabilities", capabilities=[wanted])
            _migrate(guest, f"file:{work / 'guest.mapped-ram'}")
        finally:
            end(guest)
    else:
        left_out["guest.mapped-ram"] = "this QEMU offers no mapped-ram"
    say("one guest: dumped")


def _save(guest: Guest, path: Path, *, paging: bool = False, **form: str) -> None:
    command(guest.monitor, "dump-guest-memory", paging=paging, protocol=f"file:{path}", **form)


def _migrate(guest: Guest, uri: str) -> None:
    command(guest.monitor, "migrate", uri=uri)
    while (state := command(guest.monitor, "query-migrate"))["status"] != "completed":
        if state["status"] in ("failed", "cancelled"):
            raise BootError(f"QEMU could not migrate to {uri}: {state.get('error-desc', state['status'])}")
        time.sleep(0.05)


def _convert(work: Path, left_out: dict[str, str]) -> None:
    """What makedumpfile makes."""
    of_makedumpfile = (*MAKEDUMPFILE, *SPLIT, "guest.kdump")
    _vmcore(work / "guest.elf", work / "vmcore")
    if shutil.which("makedumpfile") is None:
        reason = "there is no makedumpfile: apt-get install --no-install-recommends makedumpfile"
        left_out |= dict.fromkeys(of_makedumpfile, reason)
        return
    with (work / "guest.kdump-zlib").open("rb") as stream:
        _makedumpfile("-R", work / "guest.kdump", stdin=stream)
    for name, options in MAKEDUMPFILE.items():
        if "-F" in options:
            with (work / name).open("wb") as stream:
                _makedumpfile(*options, work / "vmcore", stdout=stream)
        else:
            said = _makedumpfile(*options, work / "vmcore", work / name)
            # It goes on without compressing.
            if "Try `make USEZSTD=on`" in said:
                left_out[name] = "this makedumpfile has no zstd"
                (work / name).unlink()
    parts = [work / name for name in SPLIT]
    _makedumpfile("--split", "--splitblock-size", "1024", "-c", "-d", "0", work / "vmcore", *parts)


def _makedumpfile(*arguments: str | Path, **streams: Any) -> str:
    """What it said."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **streams}
    done = subprocess.run(["makedumpfile", *arguments], stderr=subprocess.PIPE, check=False, **streams)
    said = (done.stderr + (done.stdout or b"")).decode(errors="replace")
    if done.returncode:
        words = " ".join(str(each) for each in arguments)
        raise BootError(f"makedumpfile {words}: exit status {done.returncode}\n{said[-1000:]}")
    return said


def _vmcore(elf: Path, path: Path) -> None:
    """Copy an ELF core with its program headers right behind the file's header, where makedumpfile takes them to be.
    QEMU writes section headers first."""
    shutil.copyfile(elf, path)
    with path.open("r+b") as file:
        header = bytearray(file.read(64))
        (table,) = struct.unpack_from("<Q", header, 32)
        entry, count = struct.unpack_from("<HH", header, 54)
        file.seek(table)
        segments = file.read(entry * count)
        struct.pack_into("<QQ", header, 32, 64, 0)  # the tables of segments and of sections
        struct.pack_into("<HHHHHH", header, 52, 64, entry, count, 0, 0, 0)
        file.seek(0)
        file.write(header + segments)


def ram(console: str) -> Iterator[tuple[str, int, int]]:
    """(name, first, last byte) of each line of the guest's /proc/iomem."""
    for first, last, name in re.findall(r"^ *([0-9a-f]+)-([0-9a-f]+) : (.+?)\r?$", console, re.MULTILINE):
        yield name, int(first, 16), int(last, 16)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIR")
    try:
        make(Path(sys.argv[1]))
    except (BootError, OSError) as error:
        sys.exit(f"formats.py: {error}")
