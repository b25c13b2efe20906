"""The command line: one module per command, each with ``SUMMARY``, ``add_arguments(parser)`` and ``run(args)``.

Exit status: 0 done; 1 nothing trustworthy came out; 2 usage; 3 done, but pages that should be there are not;
130 and 143 after SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

from pageshare._version import __version__

COMMANDS = (
    "scan",
    "report",
    "compare",
    "find",
    "estimate",
    "info",
    "replay",
    "policies",
    "figures",
    "lab",
    "demo",
    "synth",
    "capture",
    "live",
)

EPILOG = """\
first steps:
  pageshare demo                         capture and scan the memory of four interpreters
  pageshare scan guest1.elf guest2.raw   how much memory do identical pages waste?
  pageshare scan --html FILE DUMP...     the same as a page, with pictures and more answers
  pageshare scan --json DUMP... | jq     the same for a program
  pageshare policies DUMP...             in which order would that best be found?
  pageshare lab list                     a simulated host: balloons, idle memory tax, swapping
  pageshare live PID...                  what would KSM save in processes as they run?
  pageshare COMMAND --help               everything that a command can do
"""


class Terminated(BaseException):
    """SIGTERM arrived: unwinds like KeyboardInterrupt, so that every ``finally`` runs."""


class UsageError(Exception):
    """Arguments that are well-formed one by one but make no sense together: exit status 2."""


def _terminate(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _needed(first: str) -> tuple[str, ...]:
    """The commands whose modules a command line needs, by its first word: help and mistakes name all of them."""
    if first == "--version":
        return ()
    return (first,) if first in COMMANDS else COMMANDS


def _parser(first: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pageshare",
        description="How much memory do identical pages waste? Exact, byte-verified, at memory speed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pageshare {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    common.add_argument("--quiet", "-q", action="store_true", help="no progress and no notes on stderr")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in _needed(first):
        module = importlib.import_module(f"pageshare.commands.{name}")
        sub = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.__doc__,
            parents=[common],
            epilog=getattr(module, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def _standard_streams() -> bool:
    """See that there are all three: what is closed leads nowhere from here on. False if nothing can be printed.

    A file that is opened would else take the place of one, and be written what is meant for people.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stderr is None:  # print(file=None) would go to stdout
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for as long as the process lives
    return sys.stdout is not None


def _complain(command: str, error: BaseException) -> None:
    """Print what went wrong, in lines that any terminal can show."""
    # Errors of the package are OSError or ValueError with a message for people; see images.ImageError.
    from pageshare.images import printable

    for line in (str(error) or type(error).__name__).split("\n"):
        print(f"pageshare {command}: {printable(line)}", file=sys.stderr)


def _discard_output() -> None:
    """Let what is still in stdout's buffer go nowhere: Python would try once more, and complain, at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status (argparse itself exits with 2 on bad usage)."""
    started = time.perf_counter()
    argv = sys.argv[1:] if argv is None else argv
    if not _standard_streams():
        print("pageshare: standard output is closed: nothing could be printed", file=sys.stderr)
        return 1
    previous = signal.signal(signal.SIGTERM, _terminate)
    # numpy's linear algebra, which nothing here uses, would start a thread for every CPU, to wait busily for work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        args = _parser(argv[0] if argv else "").parse_args(argv)
        args.started, args.given = started, argv
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Names of files may hold what the terminal's encoding does not.
            sys.stdout.reconfigure(errors="backslashreplace")
        status: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated:
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        # Whoever read our output has gone (| head).
        _discard_output()
        return 128 + signal.SIGPIPE
    except UsageError as error:
        _complain(args.command, error)
        return 2
    except (OSError, ValueError, MemoryError) as error:
        try:
            sys.stdout.flush()
        except OSError:  # a full disk
            _discard_output()
        _complain(args.command, error)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    return status
