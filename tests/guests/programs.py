"""A guest's pages as other programs read them: libkdumpfile, drgn, volatility3 and makedumpfile.

libkdumpfile and drgn run in processes of their own: the first is a module of the system's Python, the other writes to
standard error. A function gives the pages by their numbers (guest-physical address / 4096), as `guests.parse` does: RAM
alone, and only what the dump has. It raises Unavailable where the reader is not there, with what to install, or refuses
the dump.
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from guests.parse import DEVICES, elf_pages
from other_readers import volatility_pages

SYSTEM_PYTHON = "/usr/bin/python3"

# What each program begins with. It writes the number of a page and its bytes, for every page.
HEAD = f"""
import struct, sys
path = sys.argv[1]
def put(number, page):
    if number << 12 not in {DEVICES!r}:
        sys.stdout.buffer.write(struct.pack("<Q4096s", number, page))
"""

LIBKDUMPFILE = """
import kdumpfile
dump = kdumpfile.kdumpfile(path)
present, number = dump.attr["file.pagemap"], 0
while True:
    try:
        number = present.find_set(number)
    except kdumpfile.exceptions.NoDataException:
        break
    put(number, dump.read(kdumpfile.KDUMP_MACHPHYSADDR, number << 12, 4096))
    number += 1
"""

# It does not say which pages a dump has.
DRGN = """
import drgn
program = drgn.Program()
program.set_core_dump(path)
for number in range(int(sys.argv[2])):
    try:
        page = program.read(number << 12, 4096, physical=True)
    except drgn.FaultError:
        continue
    put(number, page)
"""

MOST_PAGES = 1 << 16
"""As far as drgn is asked: to 256 MiB."""


class Unavailable(Exception):
    """Not read; the message says why."""


def pages_by_libkdumpfile(*paths: Path) -> dict[int, bytes]:
    """An ELF core, or a kdump that is not flattened; of a split one all parts. Version 0.5."""
    try:
        subprocess.run([SYSTEM_PYTHON, "-c", "import kdumpfile"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(
            f"{SYSTEM_PYTHON} has no kdumpfile: apt-get install --no-install-recommends python3-libkdumpfile"
        ) from error
    pages: dict[int, bytes] = {}
    for path in paths:
        pages |= _pages(SYSTEM_PYTHON, LIBKDUMPFILE, path)
    return pages


def pages_by_drgn(path: Path) -> dict[int, bytes]:
    """An ELF core, or a kdump, of a guest with a vmcoreinfo note. It takes what an ELF core leaves out for zero."""
    if importlib.util.find_spec("drgn") is None:
        raise Unavailable("there is no drgn: pip install drgn")
    return _pages(sys.executable, DRGN, path, MOST_PAGES)


def pages_by_volatility(path: Path, kind: str) -> dict[int, bytes]:
    """A dump that volatility3 has a layer for: ``elf.Elf64Layer``, ``lime.LimeLayer``, ``qemu.QemuSuspendLayer``. In an
    ELF core it takes no segment whose lengths in file and memory differ, and loses pages where segments overlap."""
    try:
        pages = volatility_pages(path, kind)
    except Exception as error:
        # Its own classes can't be named where it is not installed.
        if type(error).__name__ != "LayerException":
            raise
        raise Unavailable(f"volatility3: {error}") from error
    return {number: page for number, page in pages.items() if number << 12 not in DEVICES}


def pages_by_makedumpfile(path: Path) -> dict[int, bytes]:
    """A flattened dump, put in order; what comes of it is read by others."""
    if shutil.which("makedumpfile") is None:
        raise Unavailable("there is no makedumpfile: apt-get install --no-install-recommends makedumpfile")
    with tempfile.TemporaryDirectory(dir=path.parent) as work, path.open("rb") as stream:
        ordered = Path(work, "ordered")
        subprocess.run(["makedumpfile", "-R", ordered], stdin=stream, capture_output=True, check=True)
        with ordered.open("rb") as file:
            is_elf = file.read(4) == b"\x7fELF"
        return elf_pages(ordered) if is_elf else pages_by_libkdumpfile(ordered)


def _pages(python: str, program: str, *arguments: object) -> dict[int, bytes]:
    done = subprocess.run(
        [python, "-c", HEAD + program, *map(str, arguments)], capture_output=True, timeout=300, check=False
    )
    if done.returncode:
        raise Unavailable(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    return dict(struct.iter_unpack("<Q4096s", done.stdout))
