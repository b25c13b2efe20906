"""Show what pageshare does, on real memory, in a few seconds.

Starts four Python interpreters that do different work on the same text, captures the memory of each, scans the
cores, and says what to try next. Leaves nothing behind, unless asked to with --keep.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pageshare.commands import UsageError, scan

if TYPE_CHECKING:
    from pageshare.capture import Capture

SUMMARY = "capture and scan the memory of four interpreters"


class _Work(NamedTuple):
    does: str
    code: str


# The text is the standard library's source, so that it is the same in all four, and real.
_BEGIN = """
import os, pathlib, sys
text = b"".join(file.read_bytes() for file in sorted(pathlib.Path(os.__file__).parent.glob("*.py")))
"""
# It ends when our end of its standard input is closed, even if we are killed.
_END = """
print("ready", flush=True)
sys.stdin.read()
"""
WORKS = {
    "sort": _Work("sorts the words of a text", "words = sorted(text.split())"),
    "dict": _Work(
        "notes for each word the lines it is on",
        """
lines = {}
for number, line in enumerate(text.splitlines()):
    for word in line.split():
        lines.setdefault(word, []).append(number)
""",
    ),
    "json": _Work(
        "writes the text as JSON and parses it",
        """
import json
document = json.dumps([line.decode("utf-8", "replace").split(" ") for line in text.splitlines()])
tree = json.loads(document)
""",
    ),
    "zeros": _Work(
        "has 24 buffers of 1 MiB, with text in every fourth",
        """
buffers = [bytearray(1 << 20) for _ in range(24)]
for buffer in buffers[::4]:
    buffer[:] = text[:len(buffer)].ljust(len(buffer))
""",
    ),
}

_ENDING = (signal.SIGINT, signal.SIGTERM)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare demo``."""
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the cores in this new or empty folder")


def run(args: argparse.Namespace) -> int:
    """Start, capture, end them; scan; print."""
    talks = not (args.json or args.quiet)
    with _folder(args.keep) as folder:
        captures = _capture_all(folder)
        if talks:
            print(_what_was_done({name: done for name, (_, done) in captures.items()}), flush=True)
        status = scan.run(_scan_arguments(args, {name: path for name, (path, _) in captures.items()}))
        if talks:
            print(_what_to_try(args.keep))
    return status


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """A private folder for the cores: temporary, or ``keep``, which stays if there is something in it."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="pageshare-demo-") as folder:
            yield Path(folder)
        return
    made = not keep.exists()
    keep.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise UsageError(f"--keep {keep}: the folder is not empty: name a new one")
    try:
        yield keep
    finally:
        if made and not any(keep.iterdir()):
            keep.rmdir()


def _capture_all(folder: Path) -> dict[str, tuple[Path, Capture]]:
    """The four cores in ``folder``, each with what became of its capture; all of them, or none."""
    from pageshare.capture import capture

    captures = {}
    try:
        with _interpreters() as interpreters:
            for name, interpreter in interpreters.items():
                done = capture(interpreter.pid, folder, stop=True, anonymous=True)
                captures[name] = done.path.rename(folder / _core(name)), done
    except BaseException:
        for core in folder.iterdir():
            core.unlink()
        raise
    return captures


def _core(name: str) -> str:
    return f"{name}.core"


@contextmanager
def _interpreters() -> Iterator[Mapping[str, subprocess.Popen[str]]]:
    """One for each of ``WORKS``, their work done; ended and waited for at the end."""
    interpreters = {}
    with ExitStack() as stack:
        with _undisturbed():
            for name, work in WORKS.items():
                interpreters[name] = stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-I", "-S", "-c", _BEGIN + work.code + _END],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                        start_new_session=True,  # so that Ctrl-C reaches us alone
                    )
                )
                stack.callback(interpreters[name].kill)
        for name, interpreter in interpreters.items():
            if not interpreter.stdout or interpreter.stdout.readline() != "ready\n":
                raise ChildProcessError(f"the interpreter for {name!r} ended before its work was done")
        yield interpreters


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals that end us wait: none may come between the start of a process and the note that it is to be ended.

    To block them would not do: another thread, such as numpy's libraries start, would take them.
    """
    came: list[int] = []
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in _ENDING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    for number in came[:1]:
        signal.raise_signal(number)


def _scan_arguments(args: argparse.Namespace, cores: Mapping[str, Path]) -> argparse.Namespace:
    """As if typed: ``pageshare scan NAME=CORE...``, with our own --json and --quiet."""
    parser = argparse.ArgumentParser()
    scan.add_arguments(parser)
    return parser.parse_args([f"{name}={path}" for name, path in cores.items()], args)


def _what_was_done(captures: Mapping[str, Capture]) -> str:
    version = ".".join(map(str, sys.version_info[:2]))
    lines = [f"Started four Python {version} interpreters, and captured the memory of each while it was held:"]
    for name, done in captures.items():
        lines.append(f"  {name:<6} {WORKS[name].does:<51}{done.pages.captured:>7,} pages")
    lines.append("Pages of files are left out: the kernel keeps those once anyway. Then scanned the four cores:")
    return "\n".join(lines) + "\n"


def _what_to_try(keep: Path | None) -> str:
    import shlex

    if keep is None:
        tries = [("pageshare demo --keep DIR", "the same, and the cores stay")]
        end = []
    else:
        folder = shlex.quote(str(keep))
        tries = [
            (f"pageshare info {folder}", "what is in them"),
            (
                f"pageshare scan {folder} --policy random --limit 25%",
                "what a hypervisor finds in a quarter of the time",
            ),
        ]
        end = [f"The cores are in {folder}: {', '.join(map(_core, WORKS))}"]
    tries += [
        ('pageshare capture --stop -o mine $(pgrep -u "$USER" NAME)', "your own processes"),
        ("pageshare scan mine", "how much they could share"),
        ("pageshare scan mine --html report.html", "the same as a page, with pictures"),
        ("pageshare scan --json mine | jq .nonzero", "the same for programs"),
        ("pageshare scan web=web.elf db=db.raw", "dumps of two guests"),
    ]
    return "\n".join(["", "What to try next:", *(f"  {what:<58}  # {why}" for what, why in tries), *end])
