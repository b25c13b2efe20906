"""The views of a report that a command offers: the terminal's, JSON, CSV, Parquet, and a page.

All that goes to files is checked before anything is read, made before anything is written, and appears whole or not
at all; what is printed comes last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pageshare.commands import UsageError
from pageshare.commands._inputs import tell
from pageshare.commands._output import check_free, spare_inputs

if TYPE_CHECKING:
    from pageshare.report import Report


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them; ``--json`` is every command's."""
    group = parser.add_argument_group("views of the result (docs/report.md)")
    group.add_argument(
        "--show",
        type=_sections,
        metavar="SECTION[,SECTION...]",
        help="print these sections, or all (default: the first few, and the names of the others)",
    )
    group.add_argument("--html", type=Path, metavar="FILE", help="write one page with tables, pictures and the data")
    group.add_argument("--csv", type=Path, metavar="DIR", help="write every table as a CSV file into this folder")
    group.add_argument("--parquet", type=Path, metavar="DIR", help="the same as Parquet, for duckdb, polars or pandas")


def _sections(text: str) -> tuple[str, ...]:
    from pageshare.render.sections import KEYS

    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in (*KEYS, "all"):
            raise argparse.ArgumentTypeError(f"{name!r}: must be one of {', '.join(KEYS)}, or all")
    return names


def check(args: argparse.Namespace) -> None:
    """Raise, before anything is read, UsageError, OSError or ValueError for a view that could not be made."""
    if args.show and args.json:
        raise UsageError("--show is for what people read: --json has everything")
    spare_inputs(args, {"--html": args.html})
    _check_apart(args, [args.html] if args.html else [])
    if args.html:
        from pageshare.render.pages import check_templates

        check_templates()
        check_free(args.html, force=True)
    if args.parquet:
        from pageshare.render.parquet import check_arrow

        check_arrow()
    for form in ("csv", "parquet"):
        if folder := getattr(args, form):
            check_folder(folder)
            for path in folder.glob(f"*.{form}"):
                spare_inputs(args, {f"--{form}": path})


def _check_apart(args: argparse.Namespace, paths: Sequence[Path]) -> None:
    """Raise UsageError if one of the files of views would take the place of another, or of the scan that is saved."""
    from pageshare.files import is_written_to

    saved = getattr(args, "output", None)
    taken = {os.path.realpath(saved)} if saved else set()
    for path in paths:
        place = os.path.realpath(path)
        if place in taken and not is_written_to(path):
            raise UsageError(f"{path}: two files can't have this name: choose another one for -o or --html")
        taken.add(place)


def check_folder(folder: Path) -> None:
    """Raise OSError unless files can be made in it, or it itself with those above it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is no folder: name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{there}: nothing can be made in this folder")


def show(
    report: Report, args: argparse.Namespace, interrupt: BaseException | None = None, *, before: str = ""
) -> int:
    """Write and print a report as the arguments ask, what people read after ``before``; returns the exit status, or
    raises ``interrupt`` at the end."""
    files = list(_files(report, args))
    _check_apart(args, [path for path, _ in files])  # names of tables are known only now
    write_files(files)
    if args.json:
        json.dump(report.to_dict(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from pageshare.render.console import show as show_text
        from pageshare.render.text import write

        sys.stdout.write(before)
        show_text(lambda console: write(report, console, show=args.show or ()))
    sys.stdout.flush()
    tell(skipped=report.skipped, warnings=report.warnings, incomplete=report.incomplete)
    if interrupt is not None:
        raise interrupt
    return 3 if report.incomplete or report.skipped else 0


def _files(report: Report, args: argparse.Namespace) -> Iterator[tuple[Path, bytes]]:
    """All files that were asked for, with what is to be in them."""
    from pageshare.render.sections import everything

    if args.csv or args.parquet:
        for section in everything(report):
            for table in section.tables:
                if args.csv:
                    from pageshare.render.tables import as_csv

                    yield args.csv / f"{table.name}.csv", as_csv(table).encode()
                if args.parquet:
                    from pageshare.render.parquet import as_parquet

                    yield args.parquet / f"{table.name}.parquet", as_parquet(table)
    if args.html:
        from pageshare.render.report_page import page

        yield args.html, page(report).encode()


def write_files(files: list[tuple[Path, bytes]]) -> None:
    """Write all of them, or none; folders that are missing are made, for their owner alone."""
    from pageshare.files import appearing_whole

    made = []
    try:
        with contextlib.ExitStack() as stack:
            for path, data in files:
                made += _make_folder(path.parent)
                file = stack.enter_context(appearing_whole(path))
                file.write(data)
                file.flush()  # a full disk is known before the first of them takes its place
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _make_folder(folder: Path) -> list[Path]:
    """Make it, and those above it that are missing; returns those that were made."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    for path in missing:
        path.mkdir(mode=0o700)
    return missing
