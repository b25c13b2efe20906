"""Look at processes as they run, and say what the kernel's KSM would save: of which, at what cost, and why not more.

Nothing is stopped and nothing is changed. Contents are told apart by 128-bit hashes. Your own processes need no root;
only root sees which pages the kernel has shared with whom already.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pageshare.commands import Terminated, UsageError
from pageshare.commands._inputs import tell
from pageshare.commands._numbers import pid, positive, seed_number
from pageshare.commands._work import run_with_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pageshare.core import Control
    from pageshare.live import LiveReport, LookBack, Watch

SUMMARY = "what would KSM save in these running processes?"
EPILOG = """\
examples:
  sudo pageshare live --qemu                   the virtual machines of QEMU
  pageshare live $(pgrep -u "$USER" chrome)    your own, without root
  sudo pageshare live --all --anonymous        the whole machine
  sudo pageshare live --qemu --watch 60        what changes within a minute is taken out
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare live``."""
    parser.add_argument("pids", nargs="*", type=pid, metavar="PID", help="number of a running process")
    which = parser.add_argument_group("which processes, if not by their numbers")
    which.add_argument("--name", action="append", default=[], help="by command or program: 'postgres', 'python3*'")
    which.add_argument(
        "--cgroup", action="append", default=[], metavar="PATH", help="in this control group, or below: system.slice"
    )
    which.add_argument("--qemu", action="store_true", help="virtual machines of QEMU")
    which.add_argument("--all", action="store_true", help="all but this one")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--anonymous", action="store_true", help="only pages that no file and no shared memory backs: those of KSM"
    )
    how.add_argument("--swapped", action="store_true", help="read pages in swap too: that brings them back into memory")
    how.add_argument("--watch", type=_seconds, metavar="SECONDS", help="look again and again, so long after each look")
    how.add_argument("--count", type=positive, metavar="N", help="with --watch: so many looks (default: until Ctrl-C)")
    how.add_argument("--seed", type=seed_number, metavar="N", help="fix the hash's seed")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r}: must be seconds, more than 0")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Look, print, and say by the exit status whether anything that was asked for is missing."""
    import secrets

    from pageshare.core import Control
    from pageshare.live import Watch

    if not (args.pids or args.name or args.cgroup or args.qemu or args.all):
        raise UsageError("name processes: PID..., --name, --cgroup, --qemu or --all")
    if args.count and args.watch is None:
        raise UsageError("--count is for --watch SECONDS")
    if not args.json:
        import pageshare.render.live  # noqa: F401 - a look that is interrupted is to be shown at once
    seed = secrets.randbits(64) if args.seed is None else args.seed
    report: LiveReport | None = None
    control, interrupt = Control(), None
    told: set[int] = set()
    with contextlib.closing(
        Watch(seed=seed, anonymous=args.anonymous, swapped=args.swapped, compare=args.watch is not None)
    ) as watch:
        try:
            for number in _turns(args):
                before, (report, interrupt) = report, _look(args, watch, control)
                if interrupt is not None:
                    report = _whole(before, report)
                    break
                if args.watch is not None and not (args.json or args.quiet):
                    _print_look(report.looks, report.page_size)
                _explain(args, report, told, first=number == 1)
        except (KeyboardInterrupt, Terminated) as error:  # between two looks
            if report is None:
                raise
            from dataclasses import replace

            report, interrupt = replace(report, interrupted=True), error
    assert report is not None  # noqa: S101 - there is a first turn
    if not report.processes and interrupt is None:
        if not report.refused and not report.gone:
            raise OSError(f"no running process fits {_asked(args)}")
        return 1
    _show(args, report)
    if interrupt is not None:
        raise interrupt
    return 3 if _misses(args, report) else 0


def _turns(args: argparse.Namespace) -> Iterator[int]:
    """The numbers of the looks, each in its time."""
    number = 1
    yield number
    while args.watch is not None and number != args.count:
        time.sleep(args.watch)
        number += 1
        yield number


def _look(args: argparse.Namespace, watch: Watch, control: Control) -> tuple[LiveReport, BaseException | None]:
    """One look; with what interrupted it."""
    from pageshare.process import PAGE

    pids = _pids(args)
    control.reset()
    return run_with_progress(
        lambda: watch.look(pids, control),
        control,
        label="look",
        pages=_resident(pids),
        page_size=PAGE,
        quiet=args.quiet,
    )


def _pids(args: argparse.Namespace) -> list[int]:
    from pageshare.live import find

    found: list[int] = []
    if args.name or args.cgroup or args.qemu or args.all:
        found = find(names=args.name, cgroups=args.cgroup, qemu=args.qemu, everything=args.all)
    return list(dict.fromkeys([*args.pids, *found]))


def _resident(pids: Sequence[int]) -> int:
    """Pages of processes that are in memory: about as many as will be read."""
    pages = 0
    for each in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages += int(Path(f"/proc/{each}/statm").read_text(encoding="ascii").split()[1])
    return max(1, pages)


def _asked(args: argparse.Namespace) -> str:
    words = [f"--name {name}" for name in args.name] + [f"--cgroup {path}" for path in args.cgroup]
    return ", ".join(words + ["--qemu"] * args.qemu + ["--all"] * args.all)


def _whole(before: LiveReport | None, report: LiveReport) -> LiveReport:
    """What to show of a look that was interrupted: the whole one before it, if there is one."""
    from dataclasses import replace

    return report if before is None else replace(before, interrupted=True)


def _print_look(looks: Sequence[LookBack], page_size: int) -> None:
    from pageshare.render.live import look_line

    print(look_line(looks, page_size), flush=True)


def _misses(args: argparse.Namespace, report: LiveReport) -> bool:
    """Whether something is missing that should be there. A process that was found and has ended since is none of it."""
    named = set(args.pids)
    return bool(report.refused or report.incomplete or any(each["pid"] in named for each in report.gone))


def _explain(args: argparse.Namespace, report: LiveReport, told: set[int], *, first: bool) -> None:
    """Say on stderr which processes are missing: those that were named one by one and once (``told``), the others by
    the reason after the first of several looks."""
    named = set(args.pids)
    together: dict[str, list[str]] = {}
    for each in (*report.refused, *report.gone):
        if each["pid"] in named - told:
            tell(incomplete=[f"process {_who(each)}: {each['reason']}"])
            told.add(each["pid"])
    for each in report.refused:
        if first and each["pid"] not in named:
            together.setdefault(each["reason"], []).append(_who(each))
    for reason, those in together.items():
        some = ", ".join(those[:3]) + (f" and {len(those) - 3} more" if len(those) > 3 else "")
        tell(incomplete=[f"process{'es' * (len(those) > 1)} {some}: {reason}"])


def _who(each: dict[str, Any]) -> str:
    return f"{each['pid']} ({each['command']})" if each["command"] else str(each["pid"])


def _show(args: argparse.Namespace, report: LiveReport) -> None:
    if args.json:
        json.dump(report.to_dict(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from pageshare.render.console import show
        from pageshare.render.live import write

        show(lambda console: write(report, console))
    sys.stdout.flush()
    tell(warnings=report.warnings, incomplete=report.incomplete)
