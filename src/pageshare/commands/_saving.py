"""Saved scans on the command line: where one is written, and the key of its hashes."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pageshare.commands import UsageError
from pageshare.commands._inputs import tell
from pageshare.commands._output import check_free, spare_inputs

if TYPE_CHECKING:
    from pageshare.report import Report
    from pageshare.saved import Key
    from pageshare.scanner import Reading
    from pageshare.space import PageSpace


def add_key_argument(parser: argparse._ActionsContainer) -> None:
    """Declare ``--key``."""
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="the secret, of 1 to 64 bytes, with which saved hashes are keyed (docs/saved.md)",
    )


def add_saving_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``-o`` and what belongs to it."""
    group = parser.add_argument_group("save the scan (needs pip install 'pageshare[parquet]')")
    group.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="keep which content is where, as Parquet, for pageshare report, compare and find; no byte of any page",
    )
    add_key_argument(group)
    group.add_argument("--force", action="store_true", help="replace a file that exists")


def check_saving(args: argparse.Namespace) -> Key | None:
    """The key, if there is one. Raises UsageError, OSError or ValueError, before anything is read, if the scan could
    not be saved."""
    if args.output is None:
        if args.key is not None:
            raise UsageError("--key is for saved scans: say -o FILE too")
        return None
    if args.policy or args.limit:
        raise UsageError("only a full scan can be saved: leave out either -o or --policy and --limit")
    from pageshare.saved import check_packages

    check_packages()
    spare_inputs(args, {"-o": args.output})
    check_free(args.output, force=args.force)
    if _is_printed_to(args.output):
        raise UsageError(f"-o {args.output}: what is printed goes there: name a file")
    return key_of(args)


def _is_printed_to(path: Path) -> bool:
    """Whether a path leads to standard output, where what is printed would spoil what is saved."""
    with contextlib.suppress(OSError):  # what is not there is nothing yet
        status = path.stat()
        return not stat.S_ISCHR(status.st_mode) and os.path.samestat(status, os.fstat(1))
    return False


def key_of(args: argparse.Namespace) -> Key | None:
    """What ``--key`` names. Raises OSError, ValueError."""
    if args.key is None:
        return None
    from pageshare.saved import MOST_KEY, Key

    with args.key.open("rb") as file:
        secret = file.read(MOST_KEY + 1)
        mode = os.fstat(file.fileno()).st_mode
    if not 1 <= len(secret) <= MOST_KEY:
        has = "none" if not secret else "more"
        raise ValueError(
            f"{args.key}: a key has 1 to {MOST_KEY} bytes, and this file has {has};"
            " make one: (umask 077; head -c 32 /dev/urandom > KEY)"
        )
    if mode & 0o077:
        tell(warnings=[f"{args.key}: others may read the key: chmod 600 {args.key}"])
    return Key(secret)


def save(
    path: Path, report: Report, space: PageSpace, key: Key | None, *, args: argparse.Namespace, reading: Reading
) -> Report:
    """Save a scan; returns its report, with a warning for each file that was written to since. Raises OSError,
    MediaError; KeyboardInterrupt or Terminated when told to stop."""
    from pageshare import saved
    from pageshare.commands._work import run_with_progress
    from pageshare.core import Control

    inventory = report.inventory
    assert inventory is not None  # noqa: S101 - of a full scan
    control = Control()

    def work() -> Report:
        return saved.write(
            path,
            report,
            space,
            key=key,
            threads=args.threads,
            keep_mapped=reading.keep_mapped if reading.large else None,
            control=control,
        )

    contents = int(len(inventory.everywhere.contents) - 1 + inventory.everywhere.owner_pages["unique"].sum())
    finished, interrupt = run_with_progress(
        work, control, label="hash", pages=contents, page_size=space.page_size, quiet=args.quiet
    )
    if interrupt is not None:
        raise interrupt
    return finished
