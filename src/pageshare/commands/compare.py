"""Compare two scans of the same owners: what was written, what appeared,
what became of sharing.

OLD and NEW are saved scans (pageshare scan -o FILE), or dumps, which are scanned
first: one, or a folder of them; of any formats. Pages are compared where they
lie, by owner and address; contents by their 128-bit hashes.
"""

from __future__ import annotations

import argparse
import json
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pageshare.commands import UsageError
from pageshare.commands._inputs import Inputs, add_reading_arguments, open_groups, tell
from pageshare.commands._numbers import positive, size_in_bytes
from pageshare.commands._saving import add_key_argument, key_of
from pageshare.commands._work import run_with_progress

if TYPE_CHECKING:
    from pageshare.answers.compare import Comparison, Scan
    from pageshare.saved import Key

SUMMARY = "what changed between two scans, or two dumps, of the same memory?"

EPILOG = """\
examples:
  pageshare compare monday.parquet friday.parquet
  pageshare compare guest.t0.elf guest.t60.lime
  pageshare compare before/ after/ --match guest1.elf=guest1-after.elf
"""

_PARQUET = b"PAR1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare compare``."""
    for name, which in (("old", "the scan, the dump or the folder of dumps"), ("new", "what it is compared with")):
        parser.add_argument(name, metavar=name.upper(), help=f"{which}: FILE, NAME=FILE or a folder")
    parser.add_argument(
        "--match",
        action="append",
        default=[],
        metavar="OLDNAME=NEWNAME",
        help="an owner that has another name now; may be given several times (default: owners of one name are the same;"
        " so are two that are alone on their sides)",
    )
    parser.add_argument(
        "--region",
        type=size_in_bytes,
        default=2 << 20,
        metavar="SIZE",
        help="where most was written is told by stretches of so many bytes of addresses (default: 2MiB)",
    )
    add_key_argument(parser)
    parser.add_argument("--threads", type=positive, metavar="N", help="threads to use (default: as many as help)")
    parser.add_argument(
        "--memory",
        type=size_in_bytes,
        metavar="SIZE",
        help="of dumps that don't fit into memory, hold no more than this (default: a quarter of what is free)",
    )
    add_reading_arguments(parser)


@dataclass
class _Told:
    """What is to be said of both sides beside the figures."""

    incomplete: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)


def run(args: argparse.Namespace) -> int:
    """Read or scan both, compare, print, and say by the exit status whether pages that should be there are not."""
    from pageshare.answers.compare import compare, matched

    match = _matches(args.match)
    key = key_of(args)
    told = _Told()
    old, new = _scans([args.old, args.new], args, key, told)
    try:
        matched(old.inventory.owners, new.inventory.owners, match)
    except ValueError as error:
        raise UsageError(f"--{error}" if str(error).startswith("match") else str(error)) from None
    found = compare(old, new, match=match, region=args.region)
    _show(found, told, args)
    return 3 if told.incomplete or told.skipped else 0


def _matches(arguments: Sequence[str]) -> dict[str, str]:
    match: dict[str, str] = {}
    for argument in arguments:
        old, equals, new = argument.partition("=")
        if not old or not equals or not new:
            raise UsageError(f"--match {argument}: must be OLDNAME=NEWNAME")
        if match.setdefault(old, new) != new:
            raise UsageError(f"--match {argument}: {old} is {match[old]} already")
    return match


def _is_saved(argument: str) -> bool:
    """Whether it is a Parquet file. OSError is left to those who open it; a pipe can be read only once, by them."""
    try:
        if not stat.S_ISREG(Path(argument).stat().st_mode):
            return False
        with Path(argument).open("rb") as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except OSError:
        return False


def _scans(arguments: Sequence[str], args: argparse.Namespace, key: Key | None, told: _Told) -> Iterator[Scan]:
    """Both sides, in order. All dumps are opened before any is scanned."""
    from pageshare import saved
    from pageshare.answers.compare import Scan

    read = {number: saved.read(argument) for number, argument in enumerate(arguments) if _is_saved(argument)}
    ids = [read[number].key_id if number in read else key and key.id for number in range(len(arguments))]
    if ids[0] != ids[1]:
        said = [f"keyed with key {each}" if each else "not keyed" for each in ids]
        remedy = "" if len(read) == len(arguments) else " (--key FILE keys those of a dump)"
        raise ValueError(
            f"hashes can't be compared: those of {arguments[0]} are {said[0]}, those of {arguments[1]}"
            f" {said[1]}{remedy}"
        )
    dumps = [argument for number, argument in enumerate(arguments) if number not in read]
    for number, scan in read.items():
        if dumps and scan.inventory.page_size != args.page_size:
            raise UsageError(
                f"{arguments[number]} has pages of {scan.inventory.page_size} bytes: give"
                f" --page-size {scan.inventory.page_size}"
            )
    for page_size in {scan.inventory.page_size for scan in read.values()} or {args.page_size}:
        if args.region < 1 or args.region % page_size:
            raise UsageError(f"--region {args.region}: must be a whole number of pages of {page_size} bytes")
    with ExitStack() as stack:
        opened = iter(stack.enter_context(open_groups(args, [[each] for each in dumps])) if dumps else [])
        for number, argument in enumerate(arguments):
            if number in read:
                report = read[number].report
                told.warnings += [f"{argument}: {sentence}" for sentence in report.warnings]
                told.incomplete += [f"{argument}: {sentence}" for sentence in report.incomplete]
                told.skipped += report.skipped
                yield Scan(argument, read[number].inventory, read[number].digests)
            else:
                yield _scanned(argument, next(opened), args, key, told)


def _scanned(name: str, inputs: Inputs, args: argparse.Namespace, key: Key | None, told: _Told) -> Scan:
    """A dump, or a folder of them, scanned and hashed."""
    from pageshare import limits, saved
    from pageshare.answers.compare import Scan
    from pageshare.core import Control
    from pageshare.scanner import Options, Reading, scan_space
    from pageshare.space import PageSpace

    space = PageSpace(((owner.name, owner.images) for owner in inputs.owners), page_size=args.page_size)
    inputs.owners.clear()  # the space has all of them; their ranges may take more memory
    reading = Reading.of(space, limits.memory(), args.memory)
    if not args.quiet:
        tell(notes=inputs.notes)
    control = Control()

    def work() -> Scan:
        report = scan_space(
            space,
            Options(page_size=args.page_size, threads=args.threads),
            reading=reading,
            control=control,
            warnings=inputs.warnings,
            skipped=inputs.skipped,
        )
        inventory = report.inventory
        assert inventory is not None  # noqa: S101 - of a full scan
        keep = reading.keep_mapped if reading.large else None
        digests = saved.digests_of(space, inventory, threads=args.threads, keep_mapped=keep, control=control)
        told.warnings += report.warnings
        told.incomplete += report.incomplete
        told.skipped += report.skipped
        return Scan(name, inventory, digests if key is None else key.keyed(digests, control))

    scan, interrupt = run_with_progress(
        work, control, label=f"scan {name}", pages=space.readable, page_size=args.page_size, quiet=args.quiet
    )
    if interrupt is not None:
        raise interrupt
    return scan


def _show(found: Comparison, told: _Told, args: argparse.Namespace) -> None:
    if args.json:
        document = {
            **found.to_dict(),
            "incomplete": told.incomplete,
            "warnings": told.warnings,
            "skipped": told.skipped,
        }
        json.dump(document, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from pageshare.render.answers.compare import write
        from pageshare.render.console import show

        show(lambda console: write(found, console))
    sys.stdout.flush()
    tell(skipped=told.skipped, warnings=told.warnings, incomplete=told.incomplete)
