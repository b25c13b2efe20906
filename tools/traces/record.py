"""Records which pages programs touch, as traces for the laboratory: ``python tools/traces/record.py NAME -o FILE``.

A program runs under QEMU's user-mode emulator (Debian's qemu-user) with the plugin touches.c, which needs neither root
nor a kernel of any kind. ``--lackey`` records with valgrind instead: for programs of one thread that take all of their
work from the command line. docs/lab/traces.md says what the traces mean.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import lackey
import programs
import raw

from pageshare.lab import trace as traces
from pageshare.lab.trace import Trace

HERE = Path(__file__).parent
INTERVAL = 100_000
"""Microseconds of an interval as the plugin records it."""
TOGETHER = 2
"""Of those, so many are one interval of the trace."""
SECONDS = 480
EMULATOR = "qemu-x86_64"


def why_not() -> str:
    """What is missing to record here; empty if nothing is."""
    if platform.machine() != "x86_64":
        return "traces are recorded on x86-64"
    if shutil.which("cc") is None:
        return "there is no cc: apt-get install gcc"
    if shutil.which(EMULATOR) is None:
        return f"there is no {EMULATOR}: apt-get install qemu-user"
    help_text = subprocess.run([EMULATOR, "-h"], capture_output=True, text=True, check=False).stdout
    # From QEMU 9 on the interface has another number.
    number = re.search(r"version (\d+)", version())
    if "-plugin" not in help_text or number is None or int(number[1]) >= 9:
        return f"this {EMULATOR} does not take such plugins: {version()}"
    return ""


def build_plugin(folder: Path) -> Path:
    """Compile the plugin into a folder."""
    made = folder / "touches.so"
    options = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-fvisibility=hidden"]
    subprocess.run(["cc", *options, "-o", made, HERE / "touches.c"], check=True)
    return made


def command_of(
    plugin: Path,
    out: Path,
    command: Sequence[str],
    *,
    interval: int = INTERVAL,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """The command line that records another one, with so much in its environment."""
    given = [word for name, value in (environment or {}).items() for word in ("-E", f"{name}={value}")]
    return [EMULATOR, *given, "-plugin", f"{plugin},out={out},interval={interval}", *command]


def version() -> str:
    """Of the emulator."""
    said = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0]


def program(name: str) -> Any:
    """The module of a program to record."""
    return importlib.import_module(f"programs.{name}")


def record(name: str, seconds: int, *, together: int = TOGETHER, keep: Path | None = None) -> Trace:
    """A named program's trace. Raises subprocess.CalledProcessError if it fails."""
    module = program(name)
    if missing := [need for need in module.NEEDS if shutil.which(need) is None]:
        raise SystemExit(f"record.py: {name} needs {' '.join(missing)}: sh tools/need.sh traces")
    with tempfile.TemporaryDirectory(prefix="pageshare-trace-") as place:
        folder, out = Path(place) / "work", Path(place) / "raw"
        folder.mkdir()
        command = module.command(folder, seconds)
        line = command_of(build_plugin(Path(place)), out, command, environment=getattr(module, "ENVIRONMENT", {}))
        log = keep.with_suffix(".log") if keep else Path(place) / "log"
        with log.open("wb") as said:
            answers = subprocess.PIPE if getattr(module, "ANSWERS", False) else said
            with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=answers, stderr=said, cwd=folder) as process:
                hang = threading.Timer(seconds * 2 + 120, process.kill)
                hang.start()
                try:
                    if hasattr(module, "drive"):
                        module.drive(programs.Recorded(process), folder, seconds)
                    process.wait()
                finally:
                    hang.cancel()
                    process.kill()
        if process.returncode != 0:
            print(log.read_text(errors="replace")[-2000:], file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, command)
        if keep:
            shutil.copy(out, keep)
        about = {
            "command": shlex.join(command).replace(str(folder), "FOLDER").replace(str(HERE.parent.parent), "PAGESHARE"),
            "program": " ".join((module.__doc__ or "").split("\n\n")[0].split()),
            "source": f"{version()}, plugin tools/traces/touches.c",
            "clock": "real time while emulated",
        }
        return raw.trace_of(
            raw.read(out),
            name=name,
            interval=INTERVAL,
            program=Path(command[0]).name,
            about=about,
            intents=getattr(module, "INTENTS", ()),
            together=together,
        )


def main() -> None:
    """As the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=programs.NAMES, metavar="NAME")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"how long it is to work ({SECONDS})")
    parser.add_argument("--together", type=int, default=TOGETHER, help="intervals of 100 ms that are one of the trace")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep what the plugin wrote")
    parser.add_argument("--lackey", nargs=argparse.REMAINDER, metavar="COMMAND", help="record a command with valgrind")
    given = parser.parse_args()
    if given.list:
        for name in programs.NAMES:
            doc = (program(name).__doc__ or "").split("\n\n")[0]
            print(f"{name:10}{' '.join(doc.split())}")
        return
    if given.output is None or (given.name is None) == (given.lackey is None):
        parser.error("say what is to be recorded: NAME -o FILE, or -o FILE --lackey COMMAND")
    if given.lackey:
        traces.write(given.output, lackey.record(given.lackey))
        return
    if problem := why_not():
        raise SystemExit(f"record.py: {problem}")
    traces.write(given.output, record(given.name, given.seconds, together=given.together, keep=given.keep))


if __name__ == "__main__":
    main()
