"""Compare scan policies over the same memory: how many visits, and what cost, until most of what can be saved is found.

Where memory holds still, outcomes follow from one count of all pages, so that hundreds of runs need not hash again.
Where it changes (a series of dumps, a model, a trace), all policies meet the same writes at the same pace.

  pageshare policies guest1.elf guest2.elf guest3.elf
  pageshare policies --policy ksm --policy ksm:smart_scan=0 --seeds 5 *.elf
  pageshare policies --at 0s a.t0 b.t0 --at 60s a.t1 b.t1 --rate 10000
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pageshare.commands import UsageError
from pageshare.commands._inputs import tell
from pageshare.commands._memory import (
    PACES,
    SERIES,
    add_memory_arguments,
    add_pace_arguments,
    changes,
    open_memory,
    plan_of,
)
from pageshare.commands._numbers import policy_name, positive, seed_number
from pageshare.commands._output import add_output_arguments, outputs
from pageshare.commands._progress import steps_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pageshare.replay.compare import Compared
    from pageshare.replay.costs import Costs
    from pageshare.replay.course import Course, Settings
    from pageshare.replay.history import History

SUMMARY = "scan policies side by side: which finds most for the least work?"
EPILOG = SERIES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare policies``."""
    parser.add_argument("--list", action="store_true", help="name all policies, and what each does")
    parser.add_argument(
        "--policy",
        type=policy_name,
        action="append",
        default=[],
        metavar="NAME",
        help="only this one, perhaps with options (ksm:smart_scan=0); may be given several times (default: all)",
    )
    parser.add_argument(
        "--seeds", type=positive, default=3, metavar="N", help="runs of each, where it draws (default: 3)"
    )
    parser.add_argument("--seed", type=seed_number, default=1, metavar="N", help="the first seed (default: 1)")
    parser.add_argument("--jobs", type=positive, metavar="N", help="processes (default: one a CPU)")
    add_memory_arguments(parser)
    add_pace_arguments(parser)
    add_output_arguments(parser, "the curves together", html=True)


def run(args: argparse.Namespace) -> int:
    """Compare, print, and say by the exit status whether anything that should be there is not."""
    if args.list:
        return _list(args)
    from pageshare import policies
    from pageshare.core import Control
    from pageshare.replay import costs
    from pageshare.replay.compare import compared, jobs_of
    from pageshare.replay.report import policies_document

    names = list(dict.fromkeys(policies.full_name(name) for name in args.policy or policies.POLICIES))
    files = outputs(args)
    plan = plan_of(args, seed=args.seed)
    paced = any(getattr(args, name) is not None for name in PACES)
    if paced and not changes(args) and args.duration is None:
        raise UsageError("memory that holds still is compared by visits: to see it over time, give --duration")
    with open_memory(args, plan, Control()) as opened:
        changing = opened.duration is not None
        measured = costs.measure(args.page_size)
        settings = replace(plan.settings, pace=plan.settings.pace if changing else None, by_bytes=False)
        if not args.quiet:
            tell(notes=opened.notes)
        seeds = list(range(args.seed, args.seed + args.seeds))
        jobs = jobs_of(names, settings, seeds)
        runs = _run(opened.history, jobs, measured, args)
        found = compared(names, runs)
        first = found[0].all[0].samples[0]
        document = policies_document(
            found,
            pages=opened.history.space.readable,
            page_size=args.page_size,
            owners=opened.names,
            possible=first.possible,
            possible_nonzero=first.possible_nonzero,
            pace=plan.pace.document if changing else None,
            duration=opened.duration,
            seeds=seeds,
            peek_price=settings.peek_price,
            costs=measured,
            notes=opened.notes,
            warnings=opened.warnings,
            incomplete=opened.incomplete,
            skipped=opened.skipped,
        )
    _save(document, found, plan.pace.words, files)
    _show(document, plan.pace.words, args)
    tell(skipped=opened.skipped, warnings=opened.warnings, incomplete=opened.incomplete)
    return 3 if opened.incomplete or opened.skipped else 0


def _run(
    history: History, jobs: Sequence[Settings], costs: Costs, args: argparse.Namespace
) -> list[tuple[Settings, Course]]:
    from pageshare.replay.compare import compare

    runs: list[tuple[Settings, Course]] = []
    with steps_bar("policies", len(jobs), quiet=args.quiet) as show:
        for job, course in compare(history, jobs, costs, processes=args.jobs):
            runs.append((job, course))
            show(len(runs), f": {course.policy}")
    return runs


def _list(args: argparse.Namespace) -> int:
    from pageshare import policies

    sentences = {name: policies.sentence(name) for name in policies.POLICIES}
    if args.json:
        json.dump({"format": "pageshare-policy-list/1", "policies": sentences}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from pageshare.render.console import show
        from pageshare.render.policies import write_list

        show(lambda console: write_list(sentences, console))
    return 0


def _save(document: dict[str, Any], found: Sequence[Compared], pace: str, files: Sequence[Any]) -> None:
    if not files:
        return
    from pageshare.render.course_plot import draw_comparison, draw_policies
    from pageshare.render.plot import drawn, save
    from pageshare.render.policies import ranked
    from pageshare.render.policies_page import page

    over_time = document["pace"] is not None
    orders = {suffix: [each["name"] for each in ranked(document, suffix)] for suffix in ("", "_nonzero")}

    def html() -> str:
        drawings = {
            suffix: drawn(
                partial(draw_comparison, found, suffix, over_time=over_time, order=order), "svg", (9, 4.2)
            ).decode()
            for suffix, order in orders.items()
        }
        return page(document, pace, drawings)

    save(partial(draw_policies, found, over_time=over_time, orders=orders), files, size=(10, 8.8), page=html)


def _show(document: dict[str, Any], pace: str, args: argparse.Namespace) -> None:
    if args.json:
        json.dump(document, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from pageshare.render import policies
        from pageshare.render.console import show

        show(lambda console: policies.write(document, pace, console))
    sys.stdout.flush()
