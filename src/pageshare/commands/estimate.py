"""Estimate what sharing would save, from one reading of the dumps and little
memory.

Zero pages are counted exactly; of other contents as large a part of hash space
is kept as fits into --memory, and each figure comes with its error and a 95 %
interval. If all fits, the figures are exact (by hash).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from pageshare.commands import UsageError
from pageshare.commands._domains import add_domain_arguments, domains_asked, domains_given
from pageshare.commands._inputs import add_input_arguments, open_inputs, tell
from pageshare.commands._numbers import positive, seed_number, size_in_bytes
from pageshare.commands._work import run_with_progress

if TYPE_CHECKING:
    from rich.console import Console

    from pageshare.estimation import Estimate

SUMMARY = "the same as scan, about: one reading, a few megabytes, each figure with its error"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare estimate``."""
    add_input_arguments(parser)
    parser.add_argument(
        "--memory",
        type=size_in_bytes,
        metavar="SIZE",
        help="most memory for contents, from 64KiB (default: 16MiB); four times as much halves the error",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="threads to use (default: as many as help)")
    parser.add_argument("--seed", type=seed_number, metavar="N", help="fix the hash's seed, and so the sample")
    add_domain_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Estimate, print, and say by the exit status whether anything that should be there is not."""
    from pageshare.core import Control, Stopped
    from pageshare.estimation import LEAST_MEMORY, MEMORY, estimate_space
    from pageshare.space import PageSpace

    memory = MEMORY if args.memory is None else args.memory
    if memory < LEAST_MEMORY:
        raise UsageError(f"--memory {memory}: must be 64KiB at least")
    domains_given(args.domain)  # what makes no sense is told before anything is read
    opening = time.perf_counter()
    with open_inputs(args) as inputs:
        space = PageSpace(
            ((owner.name, owner.images) for owner in inputs.owners),
            page_size=args.page_size,
            domains=domains_asked(args, [owner.name for owner in inputs.owners]),
        )
        inputs.owners.clear()  # the space has all of them; their ranges may take more memory
        if not args.quiet:
            tell(notes=inputs.notes)
        control = Control()
        try:
            answer, interrupt = run_with_progress(
                lambda: estimate_space(
                    space,
                    memory=memory,
                    seed=args.seed,
                    threads=args.threads,
                    control=control,
                    started=args.started,
                    opening=opening,
                    warnings=inputs.warnings,
                    skipped=inputs.skipped,
                ),
                control,
                label="estimate",
                pages=space.readable,
                page_size=args.page_size,
                quiet=args.quiet,
            )
        except Stopped:  # pragma: no cover - only by somebody else's stop
            raise KeyboardInterrupt from None
    show(answer, args)
    if interrupt is not None:
        raise interrupt
    return 3 if answer.incomplete or answer.skipped else 0


def show(answer: Estimate, args: argparse.Namespace) -> None:
    """Print an answer as the arguments ask."""
    if args.json:
        json.dump(answer.to_dict(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from pageshare.render.console import show as show_text

        show_text(lambda console: write(answer, console))
    sys.stdout.flush()
    tell(skipped=answer.skipped, warnings=answer.warnings, incomplete=answer.incomplete)


def write(answer: Estimate, console: Console) -> None:
    """Print the answer to a console, in 80 columns."""
    from pageshare.render.console import say, titled
    from pageshare.render.estimation import details, footer, headline, tables
    from pageshare.render.tables import as_text

    say(console, headline(answer), style="bold")
    for sentence in details(answer):
        say(console, sentence, indent="  ")
    for table in tables(answer, answer.page_size):
        console.print()
        titled(console, table.title, as_text(table))
        if table.note:
            say(console, table.note)
    console.print()
    for sentence in (*answer.assumptions, *footer(answer)):
        say(console, sentence)
