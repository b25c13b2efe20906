"""Draw figures 4 and 5 of the paper on ESX's page sharing (Waldspurger, OSDI 2002) from scans, beside the published.

Figure 4: what 1 to 10 identical guests share, by a model that was fitted to four of the ten counts and predicts the
others; how many minutes ESX takes to find it; and, with --guests, the same curve of real dumps. Figure 5: three
groups of guests in production, by specifications that were solved for what was published. docs/figures.md tells more.

  pageshare figures 4
  pageshare figures 4 --guests guests/same/*.elf    dumps of guests that do the same work (make figures)
  pageshare figures 5 --svg figure5.svg
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pageshare.commands import UsageError
from pageshare.commands._inputs import input_arguments, open_inputs, tell
from pageshare.commands._output import add_output_arguments, outputs
from pageshare.commands._progress import progress_bar
from pageshare.commands._work import run_with_progress

if TYPE_CHECKING:
    from pageshare.figures import Figure4, Figure5, Point

SUMMARY = "figures 4 and 5 of the paper on ESX's page sharing, from scans"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``pageshare figures``."""
    parser.add_argument("figure", choices=["4", "5"], help="4: identical guests; 5: guests in production")
    parser.add_argument(
        "--guests",
        nargs="+",
        default=[],
        metavar="DUMP",
        help="figure 4: the same curve of these dumps, as scan takes them (PATH, NAME=PATH, folder), in this order",
    )
    parser.add_argument(
        "--full", action="store_true", help="figure 5: whole pages, 2.3 GB of memory (default: pages of 512 bytes)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="other images, other draws (default: 1)")
    add_output_arguments(parser, "it")


def run(args: argparse.Namespace) -> int:
    """Make, scan, plot, print."""
    if args.guests and args.figure != "4":
        raise UsageError("--guests belongs to figure 4")
    if args.full and args.figure != "5":
        raise UsageError("--full belongs to figure 5: figure 4 always has whole pages")
    if not 0 <= args.seed < 1 << 63:
        raise UsageError(f"--seed {args.seed}: must be a whole number from 0 to 2^63 - 1")
    plots = outputs(args)
    figure: Figure4 | Figure5
    if args.figure == "4":
        figure, status = _figure_4(args)
    else:
        figure, status = _figure_5(args), 0
    if plots:
        from pageshare.render.figures_plot import draw
        from pageshare.render.plot import save

        save(partial(draw, figure), plots)
    if args.json:
        sys.stdout.write(json.dumps(figure.to_dict(), indent=2) + "\n")
    else:
        _show(figure)
    return status


def _figure_4(args: argparse.Namespace) -> tuple[Figure4, int]:
    from pageshare import figures

    owners, real, status = _real_guests(args) if args.guests else ((), (), 0)
    count = len(figures.FIGURE_4)
    with progress_bar("making guests", count * figures.GUEST_MB * figures.MB, quiet=args.quiet) as progress:
        figure = figures.figure_4(progress, args.seed)
    return replace(figure, real=real, owners=owners), status


def _figure_5(args: argparse.Namespace) -> Figure5:
    from pageshare import figures

    page_size = figures.PAGE if args.full else figures.SMALL_PAGE
    with progress_bar("making guests", figures.figure_5_bytes(page_size), quiet=args.quiet) as progress:
        return figures.figure_5(progress, args.seed, page_size)


def _real_guests(args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[Point, ...], int]:
    """Names of the dumps' owners, the curve of the first, the first two, .. of them, and the exit status."""
    from pageshare.core import Control
    from pageshare.figures import Point
    from pageshare.scanner import scan

    inputs = input_arguments(dumps=args.guests, quiet=args.quiet)
    points: list[Point] = []
    with open_inputs(inputs) as opened:
        owners = {owner.name: owner.images for owner in opened.owners}
        names = list(owners)
        if not args.quiet:
            tell(notes=opened.notes)
        for count in range(1, len(names) + 1):
            control = Control()
            first = {name: owners[name] for name in names[:count]}
            report, interrupt = run_with_progress(
                partial(scan, first, seed=args.seed, control=control),
                control,
                label=f"{count} of {len(names)} guests",
                pages=sum(image.payload_bytes for images in first.values() for image in images) // 4096,
                page_size=4096,
                quiet=args.quiet,
            )
            if interrupt is not None:
                raise interrupt
            points.append(Point.of(report))
        tell(warnings=[*opened.warnings, *report.warnings], incomplete=report.incomplete)
    return tuple(names), tuple(points), 3 if report.incomplete else 0


def _show(figure: Figure4 | Figure5) -> None:
    from pageshare.figures import Figure4
    from pageshare.render import figures
    from pageshare.render.console import show

    if isinstance(figure, Figure4):
        show(lambda console: figures.write_figure_4(figure, console))
    else:
        show(lambda console: figures.write_figure_5(figure, console))
