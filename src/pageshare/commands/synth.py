"""Make memory images of any size with an exactly known truth beside them.

Writes guest1.raw, guest2.raw, ... and truth.json, which has what `pageshare scan --json DIR` must print. The same
seed gives the same bytes. What is to be made is told by options, by a TOML file, or by both; options win.

  pageshare synth --images 4 --size 1GiB -o made/      40 % zero, 30 % unique, 30 % duplicates
  pageshare synth --zero 0.2 --base 0.3 --run 64 --format elf -o made/
  pageshare synth SPEC.toml --seed 2 -o made/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pageshare.commands import UsageError
from pageshare.commands._progress import progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from pageshare.synth import Truth

SUMMARY = "make images with an exactly known truth beside them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments. Those of the spec have no default: what is not given is the spec's own."""
    parser.add_argument("spec", nargs="?", type=Path, metavar="SPEC.toml", help="what to make (docs/synth.md)")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder of the images; made if it is not there",
    )
    parser.add_argument("--force", action="store_true", help="replace images that exist, and their truth.json")
    group = parser.add_argument_group("what to make; F is a fraction from 0 to 1 of each image")
    group.add_argument("--images", type=int, metavar="N", help="how many (default: 2)")
    group.add_argument("--size", metavar="SIZE", help="of each, e.g. 1GiB (default: 256MiB)")
    group.add_argument("--zero", type=float, metavar="F", help="zero pages (default: 0.4)")
    group.add_argument("--duplicate", type=float, metavar="F", help="drawn by popularity (default: 0.3)")
    group.add_argument("--contents", type=int, metavar="N", help="how many they are drawn from (default: 20000)")
    group.add_argument("--zipf", type=float, metavar="S", help="exponent of their popularity (default: 1)")
    group.add_argument("--base", type=float, metavar="F", help="same content at the same place in all (default: 0)")
    # args.run is the command's function.
    group.add_argument(
        "--run", dest="run_length", type=float, metavar="PAGES", help="mean length of runs (default: 1, at random)"
    )
    group.add_argument("--sparse", type=float, metavar="SHARE", help="of the zero pages that are holes (default: 0)")
    group.add_argument("--format", choices=["raw", "elf", "lime"], help="of the files (default: raw)")
    group.add_argument("--seed", type=int, metavar="N", help="(default: 1)")
    group.add_argument("--page-size", metavar="SIZE", help="bytes, or 16K, 2M (default: 4096)")


def run(args: argparse.Namespace) -> int:
    """Make them, and say what a scan will find."""
    from pageshare import synth

    spec = synth.Spec.from_toml(args.spec) if args.spec else synth.Spec()
    try:
        spec = spec.changed(_given(args))
        synth.Plan(spec)
    except synth.SpecError as error:
        raise UsageError(str(error)) from None
    with progress_bar("writing images", spec.images * spec.size, quiet=args.quiet) as progress:
        truth = synth.make(spec, args.output, progress, force=args.force)
    if args.json:
        import json

        sys.stdout.write(json.dumps(truth.to_dict(), indent=2) + "\n")
    else:
        from pageshare.render.console import show

        show(lambda console: _write(truth, args.output, console))
    return 0


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, as keys and values of a spec."""
    keys = ("images", "size", "zero", "duplicate", "base", "sparse", "format", "seed", "page_size")
    given = {key: getattr(args, key) for key in keys}
    given["run"] = args.run_length
    popularity = {"contents": args.contents, "exponent": args.zipf}
    given["popularity"] = {key: value for key, value in popularity.items() if value is not None} or None
    return {key: value for key, value in given.items() if value is not None}


def _write(truth: Truth, folder: Path, console: Console) -> None:
    import shlex

    from rich.table import Table

    from pageshare.render.units import percent, size

    spec, pages = truth.spec, truth.pages

    def in_bytes(count: int) -> str:
        return size(count * spec.page_size)

    console.print(
        f"{spec.images} x {size(spec.size)}, {spec.format}, in {folder}: a scan must find that"
        f" {in_bytes(pages.reclaimed)} of {in_bytes(pages.known)} can be saved"
        f" ({percent(pages.reclaimed, pages.known)})",
        style="bold",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("image", "zero", "holes", "shared", "unique", "reclaimed alone"):
        table.add_column(heading, justify="left" if heading == "image" else "right")
    most = 10
    for owner in truth.owners[:most]:
        mine, others = owner.pages, owner.with_others
        counts = (mine.zero, mine.zero_inferred, others.shared, others.unique, mine.reclaimed)
        table.add_row(owner.name, *(f"{each:,}" for each in counts))
    counts = (pages.zero, pages.zero_inferred, pages.shared, pages.unique, pages.reclaimed)
    table.add_row("together", *(f"{each:,}" for each in counts), style="bold")
    console.print()
    console.print(table)
    if spec.images > most:
        console.print(f"and {spec.images - most} more (truth.json has all)")
    console.print(f"in pages of {spec.page_size} bytes; shared and unique: among all; zero pages are among them")
    console.print()
    page_size = "" if spec.page_size == 4096 else f"--page-size {spec.page_size} "
    console.print(f"next: pageshare scan {page_size}{shlex.quote(str(folder))}", soft_wrap=True)
