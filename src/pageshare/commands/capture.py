"""Write the memory of running processes to ELF cores, without a debugger.

One core a process, DIR/COMMAND-PID.core, with the pages that are in memory or in swap; never-touched pages
are left out. Your own processes need no root. The processes run on; with --stop each is held (SIGSTOP,
SIGCONT) while it is captured, so that its core is its memory at one moment.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pageshare.commands._numbers import pid
from pageshare.commands._progress import progress_bar

if TYPE_CHECKING:
    from pageshare.capture import Capture
    from pageshare.process import ProcessError

SUMMARY = "write the memory of running processes to ELF cores, without a debugger"
FORMAT = "pageshare-capture/1"

# Columns that are shown always; the others where they are not all zero.
_ALWAYS = ("captured", "anonymous", "file", "untouched")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pids", nargs="+", type=pid, metavar="PID", help="number of a running process")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder of the cores; made if it is not there",
    )
    parser.add_argument("--stop", action="store_true", help="hold each process while it is captured")
    parser.add_argument(
        "--anonymous",
        action="store_true",
        help="only pages that no file and no shared memory backs: what KSM could merge",
    )
    parser.add_argument("--force", action="store_true", help="replace cores that exist")


def run(args: argparse.Namespace) -> int:
    """Capture them one after the other; those that cannot be are named on stderr, the others go on."""
    from pageshare.capture import capture
    from pageshare.process import ProcessError

    made = not args.output.exists()
    args.output.mkdir(mode=0o700, parents=True, exist_ok=True)
    progress = functools.partial(progress_bar, quiet=args.quiet)
    captured: list[Capture] = []
    refused: list[ProcessError] = []
    try:
        for pid in dict.fromkeys(args.pids):
            try:
                one = capture(
                    pid,
                    args.output,
                    stop=args.stop,
                    anonymous=args.anonymous,
                    force=args.force,
                    progress=progress,
                )
            except ProcessError as error:
                refused.append(error)
                print(f"pageshare capture: {error}", file=sys.stderr)
            else:
                captured.append(one)
                for sentence in _warnings(one):
                    print(f"pageshare capture: {sentence}", file=sys.stderr)
    finally:
        if made and not captured:
            with contextlib.suppress(OSError):  # somebody put something there
                args.output.rmdir()
    if not captured:
        return 1
    if args.json:
        _print_json(captured, refused)
    else:
        _print_table(captured, args.output)
    return 3 if refused or any(one.pages.unreadable for one in captured) else 0


def _warnings(one: Capture) -> list[str]:
    if not one.pages.unreadable:
        return []
    return [
        f"process {one.pid} ({one.command}): {one.pages.unreadable} pages are there but could not be read; "
        "they are not in its core"
    ]


def _counts(one: Capture) -> dict[str, int]:
    from dataclasses import asdict

    return {"captured": one.pages.captured, **asdict(one.pages)}


def _print_json(captured: list[Capture], refused: list[ProcessError]) -> None:
    import json

    document: dict[str, Any] = {
        "format": FORMAT,
        "page_size": captured[0].page_size,
        "captured": [
            {
                "pid": one.pid,
                "command": one.command,
                "path": str(one.path),
                "held": one.held,
                "pages": _counts(one),
            }
            for one in captured
        ],
        "refused": [{"pid": error.pid, "command": error.command, "reason": error.reason} for error in refused],
        "warnings": [sentence for one in captured for sentence in _warnings(one)],
    }
    print(json.dumps(document, indent=2))


def _print_table(captured: list[Capture], folder: Path) -> None:
    import shlex
    import shutil

    from rich.table import Table

    from pageshare.render.console import laid_out

    counts = [_counts(one) for one in captured]
    shown = [name for name in counts[0] if name in _ALWAYS or any(each[name] for each in counts)]
    table = Table(box=None, pad_edge=False)
    table.add_column("core", overflow="fold")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for one, each in zip(captured, counts, strict=True):
        table.add_row(one.path.name, *(f"{each[name]:,}" for name in shown))
    # Nothing is cut off where no person looks on, nor where the terminal is narrow.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
    sys.stdout.write(laid_out(lambda console: console.print(table), width=width))
    total = sum(one.pages.captured for one in captured) * captured[0].page_size
    print(f"\nin pages of {captured[0].page_size} bytes; {total / 2**20:,.1f} MiB in all")
    print(f"next: pageshare scan {shlex.quote(str(folder))}")
