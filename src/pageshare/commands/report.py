"""The report of a saved scan (pageshare scan -o FILE), without the dumps.

Figures are those that the scan printed, and are checked against the pages that
the file lists. Sharing domains may be others than those of the scan.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pageshare.commands._domains import add_domain_arguments, domains_asked
from pageshare.commands._inputs import tell
from pageshare.commands._questions import add_question_arguments, questions_asked
from pageshare.commands._views import add_view_arguments, check, show

if TYPE_CHECKING:
    from pageshare.report import Report
    from pageshare.saved import SavedScan

SUMMARY = "look at a saved scan again, without the dumps"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare report``."""
    parser.add_argument("scan", type=Path, metavar="FILE", help="what pageshare scan -o has saved")
    add_domain_arguments(parser)
    add_view_arguments(parser)
    add_question_arguments(parser, dumps=False)


def run(args: argparse.Namespace) -> int:
    """Read, print, and exit as the scan did."""
    from dataclasses import replace

    from pageshare import saved
    from pageshare.answers.ask import answered
    from pageshare.answers.page_sizes import page_sizes
    from pageshare.report import in_domains

    check(args)
    questions = questions_asked(args)
    scan = saved.read(args.scan)
    report = scan.report
    if args.domain or args.domain_per_owner:
        domains = domains_asked(args, [owner.name for owner in report.owners])
        if domains != [owner.domain for owner in report.owners]:
            report = in_domains(report, domains)
    if not args.quiet:
        tell(notes=_left_out(scan, report, args.show or ()))
    report = answered(report, questions, kinds=scan.page_kinds, digests=scan.digests)
    if questions.page_sizes and report.inventory and report.answers and not report.answers.page_sizes:
        sizes = page_sizes(report.inventory, seed=report.seed)
        report = replace(report, answers=replace(report.answers, page_sizes=sizes))
    return show(report, args, before=f"{_whence(scan)}\n\n")


def _left_out(scan: SavedScan, report: Report, asked: Collection[str]) -> Iterator[str]:
    """What the bytes of pages would tell, and the report does not: asked for, or known of other domains."""
    for name in ("page_sizes", "similar"):
        option = f"--{name.replace('_', '-')}"
        if getattr(scan.report.answers, name) is None:
            if name in asked:
                yield f"{scan.path}: nothing was saved of {name}: scan with {option}"
        elif getattr(report.answers, name) is None:
            yield f"{scan.path}: what it has of {name} is of its own sharing domains, and left out: scan with {option}"


def _whence(scan: SavedScan) -> str:
    """When and of what the scan was made, in a line."""
    from pageshare.images import printable

    files = [printable(file.path) for owner in scan.report.owners for file in owner.files]
    some = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    keyed = "" if scan.key_id is None else f", hashes keyed (key {scan.key_id})"
    return (
        f"Saved scan of {scan.saved[:16].replace('T', ' ')} UTC, by pageshare {printable(scan.version)}{keyed}: {some}"
    )
