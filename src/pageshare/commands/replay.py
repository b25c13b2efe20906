"""Replay a scan policy over memory, in virtual time: how much is saved when, of what could be, and at what price.

Pages are looked at as ESX does it (hints, shared frames, copy-on-write), in the policy's order, at the pace that is
asked for, while the memory changes as dumps, a model or a trace say. Nothing is written anywhere but to a private copy.
docs/replay.md shows how to read what comes out.

  pageshare replay guest1.elf guest2.elf            peek-runs, at ESX's rate, 200 pages a second
  pageshare replay --policy random-with-replacement --duration 1h *.elf     ESX, as it comes
  pageshare replay --policy ksm --pages-to-scan 100 --sleep 20ms *.elf      Linux KSM, as it comes
  pageshare replay --at 0s a.t0 b.t0 --at 60s a.t1 b.t1 --rate 10000        while the guests work
  pageshare replay --writes model.toml --duration 10m *.elf                 while a model writes
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pageshare.commands import UsageError
from pageshare.commands._inputs import tell
from pageshare.commands._memory import SERIES, add_memory_arguments, add_pace_arguments, changes, open_memory, plan_of
from pageshare.commands._numbers import policy_name, seed_number
from pageshare.commands._output import add_output_arguments, check_free, outputs
from pageshare.commands._work import run_with_share

DEFAULT = "peek-runs"
SUMMARY = "a scan policy in virtual time: what is saved when, while memory changes"
EPILOG = SERIES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare replay``."""
    parser.add_argument(
        "--policy",
        type=policy_name,
        default=DEFAULT,
        metavar="NAME",
        help="which pages to look at next, perhaps with options (ksm:smart_scan=0); `pageshare policies --list` names"
        f" all (default: {DEFAULT})",
    )
    parser.add_argument(
        "--objective",
        choices=["all", "nonzero"],
        default="all",
        help="save any pages (default), or others than zero ones",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=1, metavar="N", help="of all that is drawn at random (default: 1)"
    )
    add_memory_arguments(parser)
    add_pace_arguments(parser)
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="record all writes to a trace, for --trace (docs/writes.md)"
    )
    add_output_arguments(parser, "the course")


def run(args: argparse.Namespace) -> int:
    """Replay, print, and say by the exit status whether anything that should be there is not."""
    from pageshare.core import Control
    from pageshare.replay import costs
    from pageshare.replay.course import Run
    from pageshare.replay.report import replay_document

    files = outputs(args)
    if args.record:
        if not changes(args):
            raise UsageError("--record: nothing is written to memory that holds still: give --at, --writes or --trace")
        if any(os.path.realpath(args.record) == os.path.realpath(path) for path, _ in files):
            raise UsageError("name a file of its own for each of --record, --svg and --png")
        check_free(args.record, force=args.force)
    plan = plan_of(args, policy=args.policy, objective=args.objective, seed=args.seed)
    control = Control()
    with open_memory(args, plan, control) as opened:
        measured = costs.measure(args.page_size)
        if not args.quiet:
            tell(notes=opened.notes)
        if args.record:
            from pageshare.replay import trace

            trace.write(args.record, opened.history, args.seed, duration=opened.duration)
        replay = Run(opened.history, plan.settings, measured, control)
        course, interrupt = run_with_share(
            replay.go,
            control,
            label="replay",
            done=lambda: replay.share_done,
            quiet=args.quiet,
        )
        document = replay_document(
            course,
            page_size=args.page_size,
            owners=opened.names,
            pace=plan.pace.document,
            duration=opened.duration,
            peek_price=plan.settings.peek_price,
            costs=measured,
            notes=opened.notes,
            warnings=opened.warnings,
            incomplete=opened.incomplete,
            skipped=opened.skipped,
        )
        if files and interrupt is None:
            from pageshare.render.course_plot import draw_course
            from pageshare.render.plot import save

            save(partial(draw_course, course, args.page_size), files)
        _show(document, plan.pace.words, args)
        tell(skipped=opened.skipped, warnings=opened.warnings, incomplete=opened.incomplete)
        if interrupt is not None:
            raise interrupt
        return 3 if opened.incomplete or opened.skipped else 0


def _show(document: dict[str, Any], pace: str, args: argparse.Namespace) -> None:
    if args.json:
        json.dump(document, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from pageshare.render import replay
        from pageshare.render.console import show

        show(lambda console: replay.write(document, pace, console))
    sys.stdout.flush()
