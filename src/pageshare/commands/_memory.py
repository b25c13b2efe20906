"""Memory over time, as ``replay`` and ``policies`` are given it: dumps, a series of them, a write model, a trace."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pageshare.commands import UsageError
from pageshare.commands._domains import domains_given
from pageshare.commands._inputs import add_input_arguments, open_groups
from pageshare.commands._numbers import positive, seed_number, size_in_bytes
from pageshare.commands._work import run_with_progress

if TYPE_CHECKING:
    from pageshare.core import Control
    from pageshare.replay.entry import Plan
    from pageshare.replay.history import History

SERIES = """
memory that changes:
  --at 0s a.t0 b.t0 --at 60s a.t1 b.t1   dumps of the same guests, in order of time
  --writes MODEL.toml DUMP...            dumps, and writes made up by a model (docs/writes.md)
  --trace FILE DUMP...                   dumps, and writes that were recorded (docs/writes.md)
"""


PACES = ("rate", "pages_to_scan", "sleep", "cpu", "rate_per_owner")
"""The options that ``add_pace_arguments`` declares."""


def changes(args: argparse.Namespace) -> bool:
    """Whether memory changes, by what was asked for."""
    return bool(args.writes or args.trace or len(args.at) > 1)


def add_memory_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what memory there is, what is written to it, and what a look costs."""
    add_input_arguments(parser, optional=True)
    parser.add_argument("--threads", type=positive, metavar="N", help="of the count beforehand (default: one a CPU)")
    parser.add_argument(
        "--memory", type=size_in_bytes, metavar="SIZE", help="most to hold, in the count, of dumps larger than memory"
    )
    parser.add_argument(
        "--domain",
        action="append",
        default=[],
        metavar="NAME=OWNER[,OWNER...]",
        help="these share among themselves only; may be given several times",
    )
    parser.add_argument("--domain-per-owner", action="store_true", help="no sharing between owners")
    change = parser.add_argument_group("memory that changes")
    change.add_argument(
        "--at",
        nargs="+",
        action="append",
        default=[],
        metavar=("TIME", "DUMP"),
        help="a series: the dumps at this time; the same owners each time, by NAME= or else in the same order",
    )
    change.add_argument("--writes", type=Path, metavar="MODEL.toml", help="a model of writes (docs/writes.md)")
    change.add_argument("--trace", type=Path, metavar="FILE", help="recorded writes (docs/writes.md)")
    change.add_argument(
        "--duration",
        type=seconds,
        metavar="TIME",
        help="of virtual time, such as 90s, 10m or 1h (default: to the end of the series, the model or the trace; where"
        " memory holds still, until all is found)",
    )
    parser.add_argument(
        "--peek-cost",
        type=_price,
        metavar="P",
        help="what a peek at one line of a page takes of the pace, where a visit takes 1 (default: 0.04)",
    )


def add_pace_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how fast pages are looked at."""
    pace = parser.add_argument_group("how fast, in virtual time; one of")
    pace.add_argument("--rate", type=_rate, metavar="N", help="pages a second (default: 200, as ESX)")
    pace.add_argument(
        "--pages-to-scan", type=positive, metavar="N", help="pages at a time, then a sleep, as KSM (with --sleep: 100)"
    )
    pace.add_argument("--sleep", type=seconds, metavar="TIME", help="between them (with --pages-to-scan: 20ms)")
    pace.add_argument("--cpu", type=_share, metavar="P%", help="share of a CPU, at the measured cost of each look")
    pace.add_argument(
        "--rate-per-owner",
        type=_rate,
        metavar="N",
        help="besides, pages a second of each owner at most (default: no limit)",
    )


_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|)")


def seconds(text: str) -> float:
    """``60``, ``60s``, ``200ms``, ``1.5m``, ``2h``."""
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a time, such as 60s, 200ms, 5m or 1h")
    return float(match[1]) * {"ms": 0.001, "s": 1, "": 1, "m": 60, "min": 60, "h": 3600}[match[2]]


def _rate(text: str) -> float:
    try:
        rate = float(text.replace("_", "").replace(",", ""))
    except ValueError:
        rate = 0
    if not 0 < rate < 1e12:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of pages a second above 0")
    return rate


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if not match or not 0 < float(match[1]) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a share of a CPU, such as 2%")
    return float(match[1]) / 100


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1
    if not 0 <= price <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be from 0 to 1")
    return price


_SPELLED = {"series": "--at", "named": "NAME="}


def option(keyword: str) -> str:
    """How the library's keyword for what was asked is spelled here."""
    return _SPELLED.get(keyword, f"--{keyword.replace('_', '-')}")


@contextmanager
def usage_errors() -> Iterator[None]:
    """What makes no sense together, in terms of options. Raises UsageError."""
    from pageshare.replay.checks import SettingError

    try:
        yield
    except SettingError as error:
        raise UsageError(error.told(option)) from None


def plan_of(args: argparse.Namespace, **more: Any) -> Plan:
    """What ``add_memory_arguments`` and ``add_pace_arguments`` declared, and ``more``, checked before anything is read.

    Raises UsageError, and what is wrong with a model.
    """
    from pageshare.replay.entry import plan

    with usage_errors():
        return plan(
            rate=args.rate,
            pages_to_scan=args.pages_to_scan,
            sleep=args.sleep,
            cpu=args.cpu,
            rate_per_owner=args.rate_per_owner,
            duration=args.duration,
            peek_cost=args.peek_cost,
            writes=args.writes,
            recorded=args.trace,
            **more,
        )


@dataclass
class Opened:
    """A history, and what to tell about the dumps that it came from."""

    history: History
    names: list[str]
    duration: float | None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)


def _groups(args: argparse.Namespace) -> list[tuple[float, list[str]]]:
    """The dumps by time. Raises UsageError."""
    from pageshare.replay.entry import check_series

    if not args.at:
        if not args.dumps:
            raise UsageError("name dumps, or a series: --at 0s DUMP... --at 60s DUMP...")
        return [(0.0, args.dumps)]
    if args.dumps:
        raise UsageError(f"{args.dumps[0]}: with --at, every dump must stand behind the time that it was taken at")
    if args.skip_bad:
        raise UsageError("--skip-bad: a series needs all of its dumps")
    groups = []
    for time, *dumps in args.at:
        try:
            groups.append((seconds(time), dumps))
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"--at {error}") from None
        if not dumps:
            raise UsageError(f"--at {time}: name the dumps that were taken then")
    with usage_errors():
        check_series([time for time, _ in groups], changes=bool(args.writes or args.trace))
    return groups


@contextmanager
def open_memory(args: argparse.Namespace, plan: Plan, control: Control) -> Iterator[Opened]:
    """Open all that ``add_memory_arguments`` declared, and count it. Raises UsageError, BadInputs, and what reading
    raises."""
    from pageshare.replay.entry import arranged

    groups = _groups(args)
    with open_groups(args, [dumps for _, dumps in groups]) as inputs:
        moments = [(time, each.owners) for (time, _), each in zip(groups, inputs, strict=True)]
        domains = domains_given(args.domain)
        try:
            with usage_errors():
                dumps = arranged(
                    moments, page_size=args.page_size, domains=domains, domain_per_owner=args.domain_per_owner
                )
        except ValueError as error:
            raise UsageError(f"--domain: {error}") from None
        base, interrupt = run_with_progress(
            lambda: dumps.count(plan.settings.seed, threads=args.threads, memory=args.memory, control=control),
            control,
            label="census",
            pages=sum(image.payload_bytes for image in dumps.images) // args.page_size,
            page_size=args.page_size,
            quiet=args.quiet,
        )
        if interrupt is not None:
            raise interrupt
        control.reset()
        history = plan.changes.over(base)
        yield Opened(
            history,
            dumps.names,
            plan.duration(history),
            notes=[note for each in inputs for note in each.notes],
            warnings=[*(w for each in inputs for w in each.warnings), *history.notes],
            skipped=[left for each in inputs for left in each.skipped],
            incomplete=dumps.incomplete,
        )


__all__ = [
    "PACES",
    "SERIES",
    "Opened",
    "add_memory_arguments",
    "add_pace_arguments",
    "changes",
    "open_memory",
    "plan_of",
    "seconds",
    "seed_number",
]
