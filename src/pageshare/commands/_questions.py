"""What may be asked of a scan on the command line, beyond what is always answered."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pageshare.commands import UsageError
from pageshare.commands._numbers import positive, size_in_bytes
from pageshare.commands._work import run_with_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageshare.answers.ask import Questions
    from pageshare.report import Report
    from pageshare.scanner import Options, Reading
    from pageshare.space import PageSpace


def add_question_arguments(parser: argparse.ArgumentParser, *, dumps: bool) -> None:
    """Declare them; those that need the bytes of pages only where there are ``dumps``."""
    group = parser.add_argument_group("questions to answer beyond those that always are (docs/report.md)")
    sizes = "512 bytes to 2 MiB" if dumps else "up to 2 MiB (smaller ones only if the scan was asked for them)"
    group.add_argument(
        "--page-sizes",
        action="store_true",
        help=f"sharing in pages of {sizes}, and which huge pages are worth breaking",
    )
    if dumps:
        group.add_argument(
            "--similar",
            action="store_true",
            help="what patches to similar pages, and compression, would save beyond sharing: on a random sample",
        )
        group.add_argument("--full", action="store_true", help="with --similar: measure all pages (takes long)")
        group.add_argument(
            "--show-contents",
            action="store_true",
            help="show the first bytes of the contents that bring most (there may be secrets in them)",
        )
    group.add_argument(
        "--top", type=positive, metavar="N", help="how many of the contents that bring most to list (default: 50)"
    )
    group.add_argument(
        "--matrix",
        action="store_true",
        help="what each pair of owners has in common: of more than 256 owners only if asked",
    )
    group.add_argument("--hosts", type=positive, metavar="N", help="placement: which owners to put together on N hosts")
    group.add_argument(
        "--host-memory",
        type=size_in_bytes,
        metavar="SIZE",
        help="placement: on hosts of this size; without --hosts, on as few as are enough",
    )
    group.add_argument(
        "--headroom",
        type=_share,
        metavar="P%",
        help="placement: share of a host's memory that is to stay free (default: 0%%)",
    )
    settings = parser.add_argument_group("settings of Linux KSM, by the kernel's names, for what it would do")
    settings.add_argument(
        "--max-page-sharing", type=_setting(2), metavar="N", help="pages that may share one frame (default: 256)"
    )
    settings.add_argument(
        "--pages-to-scan", type=_setting(1), metavar="N", help="pages to look at between two pauses (default: 100)"
    )
    settings.add_argument("--sleep-millisecs", type=_setting(0), metavar="N", help="length of a pause (default: 20)")
    settings.add_argument("--use-zero-pages", action="store_true", help="zero pages share the kernel's own zero page")


def _setting(least: int) -> Callable[[str], int]:
    """What KSM takes for a setting, whose least value this is."""

    def setting(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) < 1 << 32:
            raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from {least} to 2^32 - 1")
        return int(text)

    return setting


def _share(text: str) -> float:
    number = text.removesuffix("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a share from 0% to less than 100%")
    return share


def questions_asked(args: argparse.Namespace) -> Questions:
    """What the arguments ask. Raises UsageError or ValueError, before anything is read, for what makes no sense."""
    from pageshare.answers.ask import Questions

    if args.headroom is not None and args.host_memory is None:
        raise UsageError("--headroom is a share of a host's memory: say --host-memory SIZE too")
    if getattr(args, "full", False) and not args.similar:
        raise UsageError("--full is about --similar: say both")
    if args.host_memory is not None and hasattr(args, "page_size"):  # else a saved scan has it
        from pageshare.answers.placement import host_pages

        try:
            host_pages(args.host_memory, args.headroom or 0.0, args.page_size)
        except ValueError as error:
            raise UsageError(str(error)) from None
    given = {
        "matrix": args.matrix,
        "top": args.top,
        "show_contents": getattr(args, "show_contents", None),
        "page_sizes": args.page_sizes,
        "similar": getattr(args, "similar", None),
        "full": getattr(args, "full", None),
        "hosts": args.hosts,
        "host_bytes": args.host_memory,
        "headroom": args.headroom,
        "max_page_sharing": args.max_page_sharing,
        "pages_to_scan": args.pages_to_scan,
        "sleep_millisecs": args.sleep_millisecs,
        "use_zero_pages": args.use_zero_pages,
    }
    questions = Questions(**{name: value for name, value in given.items() if value is not None})
    by_policy = getattr(args, "policy", None) or getattr(args, "limit", None)
    if by_policy and questions != Questions():
        raise UsageError("a scan of some pages answers no questions: leave out --policy and --limit")
    questions.check()
    return questions


def ask_bytes(report: Report, space: PageSpace, options: Options, reading: Reading, *, quiet: bool) -> Report:
    """The report with answers to what needs the bytes of many pages, one after the other.

    Raises MediaError, ValueError; KeyboardInterrupt or Terminated when told to stop.
    """
    from pageshare.core import Control
    from pageshare.scanner import answered_by_bytes, steps_of

    for question in options.questions.of_bytes:
        control = Control()
        pages, page_size = steps_of(question, report, options)

        def work(question: str = question, control: Control = control, report: Report = report) -> Report:
            return answered_by_bytes(question, report, space, options, reading=reading, control=control)

        report, interrupt = run_with_progress(
            work, control, label=question.replace("_", " "), pages=pages, page_size=page_size, quiet=quiet
        )
        if interrupt is not None:
            raise interrupt
    return report
