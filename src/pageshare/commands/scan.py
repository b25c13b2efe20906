"""Count identical pages in memory dumps: exactly, verified byte by byte.

Each dump is an owner, named after its file; name it yourself with NAME=PATH, and
repeat NAME= for a guest whose memory lies in several files. A folder stands for
the dumps in it.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import time
from typing import TYPE_CHECKING

from pageshare.commands import Terminated, UsageError
from pageshare.commands._domains import add_domain_arguments, domains_asked, domains_given
from pageshare.commands._inputs import add_input_arguments, open_inputs, tell
from pageshare.commands._numbers import blind_policy_name, positive, seed_number, size_in_bytes
from pageshare.commands._questions import add_question_arguments, ask_bytes, questions_asked
from pageshare.commands._saving import add_saving_arguments, check_saving, save
from pageshare.commands._views import add_view_arguments, check, show
from pageshare.commands._work import run_with_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pageshare.limits import Memory
    from pageshare.scanner import Options, Reading
    from pageshare.space import PageSpace

SUMMARY = "how much memory do identical pages waste in these dumps?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare scan``."""
    add_input_arguments(parser)
    parser.add_argument("--threads", type=positive, metavar="N", help="threads to use (default: as many as help)")
    parser.add_argument(
        "--memory",
        type=size_in_bytes,
        metavar="SIZE",
        help="of dumps that don't fit into memory, hold no more than this while they are read again and again"
        " (default: a quarter of what is free)",
    )
    parser.add_argument("--seed", type=seed_number, metavar="N", help="fix the hash's seed and every random choice")
    add_domain_arguments(parser)
    add_view_arguments(parser)
    add_saving_arguments(parser)
    add_question_arguments(parser, dumps=True)
    partial = parser.add_argument_group("scan as a hypervisor does: some pages, in some order")
    partial.add_argument(
        "--policy",
        type=blind_policy_name,
        metavar="NAME",
        help="order of visits: sequential, random-permutation (or random), random-with-replacement, and more:"
        " docs/policies.md",
    )
    partial.add_argument(
        "--limit",
        metavar="N|SIZE|P%",
        help="stop after so many visits: 10000, 512MiB, or 25%% of the pages that must be read (default: 100%%)",
    )


_LIMIT = re.compile(r"(\d+(?:\.\d+)?)\s*(%|[KMGT]i?B?|B)?", re.IGNORECASE)


def visits_of(limit: str | None, readable: int, page_size: int) -> int | None:
    """How many visits ``--limit`` stands for, of ``readable`` pages; UsageError if it makes no sense."""
    if limit is None:
        return None
    match = _LIMIT.fullmatch(limit.strip())
    if not match or (match[2] is None and "." in match[1]):
        raise UsageError(f"--limit {limit}: must be visits (10000), a size (512MiB) or a share (25%)")
    number, unit = float(match[1]), match[2]
    if unit is None:
        visits = int(match[1])
    elif unit == "%":
        visits = round(readable * number / 100)
    else:
        power = "bkmgt".index(unit[0].lower())
        visits = int(number * 1024**power) // page_size
    if visits < 1 and readable:
        raise UsageError(f"--limit {limit}: is less than one page")
    return visits


def _plan(space: PageSpace, options: Options, reading: Reading, memory: Memory) -> Iterator[str]:
    """What to know beforehand of a scan of more than fits into memory."""
    from pageshare.render.units import size

    own = f"and {size(16 * space.readable)} for the scan itself " if reading.in_files <= memory.free else ""
    too_much = f"{size(reading.in_files)} {own}are more than the {size(memory.free)} of memory that are free"
    if options.policy or options.limit:
        if (options.limit or space.readable) * space.page_size > memory.free < reading.in_files:
            yield f"{too_much}: pages to compare with come from the disk one by one; a full scan reads files in order"
    elif reading.streamed:
        most = reading.most_readings(space)
        times = "twice" if most == 2 else f"2 to {most} times (how often, is known after the first)"
        why = too_much if reading.mapped else "not all of the files can be mapped"
        yield f"{why}: the files are read {times}, holding {size(reading.hold_bytes)} at most (--memory)"


def run(args: argparse.Namespace) -> int:
    """Scan, print, and say by the exit status whether anything that should be there is not."""
    from pageshare import limits
    from pageshare.core import Control, Stopped
    from pageshare.scanner import Options, Reading, scan_space
    from pageshare.space import PageSpace

    check(args)
    domains_given(args.domain)  # what makes no sense is told before anything is read
    key = check_saving(args)
    questions = questions_asked(args)
    opening = time.perf_counter()
    with open_inputs(args) as inputs:
        space = PageSpace(
            ((owner.name, owner.images) for owner in inputs.owners),
            page_size=args.page_size,
            domains=domains_asked(args, [owner.name for owner in inputs.owners]),
        )
        inputs.owners.clear()  # the space has all of them; their ranges may take more memory
        options = Options(
            page_size=args.page_size,
            seed=args.seed,
            threads=args.threads,
            policy=args.policy,
            limit=visits_of(args.limit, space.readable, args.page_size),
            questions=questions,
        )
        memory = limits.memory()
        if args.memory is not None and args.memory < args.page_size:
            raise UsageError(f"--memory {args.memory}: must hold a page ({args.page_size} bytes) at least")
        reading = Reading.of(space, memory, args.memory)
        if not args.quiet:
            tell(notes=[*inputs.notes, *_plan(space, options, reading, memory)])
        control = Control()
        try:
            report, interrupt = run_with_progress(
                lambda: scan_space(
                    space,
                    options,
                    reading=reading,
                    control=control,
                    started=args.started,
                    opening=opening,
                    warnings=inputs.warnings,
                    skipped=inputs.skipped,
                ),
                control,
                label="scan",
                pages=options.limit or space.readable,
                page_size=args.page_size,
                quiet=args.quiet,
            )
        except (KeyboardInterrupt, Terminated):
            if not args.quiet and not options.policy and not options.limit:
                with contextlib.suppress(OSError):
                    tell(notes=["stopped: a full scan has no figures before its end (with --policy, of its visits)"])
            raise
        except Stopped:  # pragma: no cover - only by somebody else's stop
            raise KeyboardInterrupt from None
        if interrupt is not None and report.answers is not None:
            raise interrupt
        report = ask_bytes(report, space, options, reading, quiet=args.quiet)
        if args.output is not None:
            report = save(args.output, report, space, key, args=args, reading=reading)
    return show(report, args, interrupt)
