"""Files that a command draws or writes on request: checked before anything is computed."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from pageshare.commands import UsageError
from pageshare.commands._inputs import same_file, would_be_read
from pageshare.files import is_written_to

FORMS = ("svg", "png", "html")


def add_output_arguments(parser: argparse.ArgumentParser, what: str, *, html: bool = False) -> None:
    """Declare them; ``what`` is drawn."""
    group = parser.add_argument_group("to files (needs matplotlib: pip install 'pageshare[plot]')")
    group.add_argument("--svg", type=Path, metavar="FILE", help=f"draw {what}")
    group.add_argument("--png", type=Path, metavar="FILE", help="the same as pixels")
    if html:
        group.add_argument("--html", type=Path, metavar="FILE", help="one page with tables and drawings")
    group.add_argument("--force", action="store_true", help="replace files that exist")


def outputs(args: argparse.Namespace) -> list[tuple[Path, str]]:
    """The files that were asked for, each with its form. Raises UsageError, OSError, or MissingPlotter for those that
    could not be written."""
    spare_inputs(args, {f"--{name}": getattr(args, name, None) for name in (*FORMS, "record")})
    wanted = [(path, form) for form in FORMS if (path := getattr(args, form, None))]
    if not wanted:
        return []
    from pageshare.render.plot import check_plotter

    check_plotter()
    if any(form == "html" for _, form in wanted):
        from pageshare.render.pages import check_templates

        check_templates("plot")  # its curves need matplotlib too
    if len({os.path.realpath(path) for path, _ in wanted}) < len(wanted):
        raise UsageError("name a file of its own for each of --svg, --png and --html")
    for path, _ in wanted:
        check_free(path, force=args.force)
    return wanted


def spare_inputs(args: argparse.Namespace, written: Mapping[str, Path | None]) -> None:
    """Raise UsageError if a file that is to be written, by its option, is one that is read, by whatever name:
    ``--force`` is meant for old drawings, not for dumps."""
    for option, path in written.items():
        try:
            status = path.stat() if path else None
        except OSError:
            continue  # what is not there is no input
        if status and (read := _read_as(status, args)):
            itself = "is read" if path == Path(read) else f"is {read}, which is read"
            raise UsageError(f"{option} {path}: {itself}: name another file")


def _read_as(status: os.stat_result, args: argparse.Namespace) -> str:
    """By which name a file is read: as a dump, or as what tells the writes; empty if it is not."""
    for name in ("writes", "trace", "base", "meta", "key", "scan"):
        with contextlib.suppress(OSError):  # whatever is wrong with it is said when it is opened
            path = getattr(args, name, None)
            if path and same_file(status, Path(path).stat()):
                return str(path)
    dumps = [*getattr(args, "dumps", ()), *getattr(args, "guests", ())]
    for _, *group in getattr(args, "at", ()):
        dumps += group
    for argument in dumps:
        with contextlib.suppress(OSError, ValueError):
            if read := would_be_read(argument, status, args):
                return read
    return ""


def check_free(path: Path, *, force: bool) -> None:
    """Raise OSError unless a file can appear there, in place of one that exists only with ``force``."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file")
    if is_written_to(path):
        return
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists: choose another name, or use --force")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path.parent}: no file can be made in this folder")
