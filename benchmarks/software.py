"""Guests with software: four of 256 MiB, each with programs of this machine, at other work.

1 keeps a database, 2 serves web pages, 3 has compiled the core, 4 caches sessions. Kernels are at random addresses, as
those of most guests. It takes about a minute.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from guests.boot import boot

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"
WORK = HERE / "guest_work.py"
ROLES = ("database", "web", "compiler", "cache")
MEMORY_MIB = 256
# Files of the modules that are loaded by the work, the ones that wait until they are needed too.
LOADED = """
import encodings.idna, json, sys
sys.path[:0] = sys.argv[1:2]
__import__(sys.argv[2])
print(json.dumps([module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]))
"""


def output(*command: object) -> str:
    """What a command prints."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout


def with_libraries(programs: Iterable[Path]) -> set[Path]:
    """Programs, and what they are linked with."""
    found = set(programs)
    for program in list(found):
        done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
        found |= {Path(path) for path in re.findall(r"(/\S+) \(0x", done.stdout)}
    return found


def interpreter(work: str = WORK.stem) -> tuple[Path, set[Path]]:
    """Python, and the modules that ``guest_work.py`` loads, or another of ours; less our own."""
    python = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    loaded = {Path(path) for path in json.loads(output(python, "-I", "-c", LOADED, HERE, work))}
    modules = {path for path in loaded if path.parent != HERE}
    return python, with_libraries({python, *(path for path in modules if path.suffix == ".so")}) | modules


def compiler() -> set[Path]:
    """The C compiler without its linker, and the headers that the core needs."""
    parts = {Path(output("cc", f"-print-prog-name={name}").strip()) for name in ("cc1", "as")}
    located = {path if path.is_absolute() else Path("/usr/bin") / path for path in parts}
    sources = sorted(CSRC.glob("*.c"))
    needed = output("cc", "-M", "-O1", "-I", CSRC, *sources).split()
    headers = {Path(path).resolve() for path in needed if path.startswith("/")}
    return with_libraries({Path("/usr/bin/cc"), *located}) | {path for path in headers if CSRC not in path.parents}


def files(number: int) -> dict[str, bytes]:
    """What a guest has more than others, by its names there: those of this machine, but for our own files."""
    role = ROLES[number - 1]
    if role == "compiler":
        programs, ours = compiler(), {f"csrc/{path.name}": path for path in CSRC.iterdir()}
        run = 'cd /tmp; for each in /csrc/*.c; do cc -O1 -c "$each" || exit; done; touch done'
    else:
        (python, programs), ours = interpreter(), {WORK.name: WORK}
        run = f"ifconfig lo up; exec {python} /{WORK.name} {role}"
    start = f"#!/bin/busybox sh\nexport PATH=/bin:/usr/bin\n{run}\n"
    paths = {**{str(path)[1:]: path for path in sorted(programs)}, **ours}
    return {"software": start.encode(), **{name: path.read_bytes() for name, path in paths.items()}}


def make(folder: Path, guests: int = len(ROLES)) -> None:
    """Boot them, or the first few, and leave dumps in ``folder``. Raises BootError, OSError, CalledProcessError."""
    boot(folder, guests=guests, memory_mib=MEMORY_MIB, options="kaslr", more=files)
