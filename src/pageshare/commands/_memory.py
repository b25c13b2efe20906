"""Memory over time, as ``replay`` and ``policies`` are given it: dumps, a series of them, a write model, a trace."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pageshare.commands import UsageError
from pageshare.commands._inputs import OwnerImages, add_input_arguments, open_groups
from pageshare.commands._numbers import domains_given, positive, seed_number, size_in_bytes
from pageshare.commands._work import run_with_progress

if TYPE_CHECKING:
    from pageshare.core import Control
    from pageshare.replay.history import History
    from pageshare.replay.pace import Pace

T = TypeVar("T")

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


@dataclass(frozen=True)
class Paced:
    """How fast: what makes a pace, and what it is in words and as JSON has it."""

    make: Callable[[], Pace]
    words: str
    document: dict[str, float | str]


def pace_of(args: argparse.Namespace) -> Paced:
    """The pace that was asked for. Raises UsageError for two of them."""
    from pageshare.replay.pace import ESX_RATE, KSM_PAGES, KSM_SLEEP, CpuShare, PagesPerSecond, WakeAndSleep

    ksm = args.pages_to_scan is not None or args.sleep is not None
    given = [name for name, there in (("--rate", args.rate), ("--pages-to-scan", ksm), ("--cpu", args.cpu)) if there]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: only one of them says how fast pages are looked at")
    if args.cpu is not None:
        share = args.cpu
        return Paced(lambda: CpuShare(share), f"{100 * share:g} % of a CPU", {"pace": "cpu", "share": share})
    if ksm:
        pages = KSM_PAGES if args.pages_to_scan is None else args.pages_to_scan
        sleep = KSM_SLEEP if args.sleep is None else args.sleep
        return Paced(
            lambda: WakeAndSleep(pages, sleep),
            f"{pages:,} pages, then {1000 * sleep:g} ms of sleep",
            {"pace": "ksm", "pages_to_scan": pages, "sleep_seconds": sleep},
        )
    rate = ESX_RATE if args.rate is None else args.rate
    return Paced(lambda: PagesPerSecond(rate), f"{rate:,.10g} pages/s", {"pace": "rate", "pages_per_second": rate})


@dataclass
class Opened:
    """A history, and what to tell about the dumps that it came from."""

    history: History
    names: list[str]
    page_size: int
    duration: float | None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)


def _groups(args: argparse.Namespace) -> list[tuple[float, list[str]]]:
    """The dumps by time. Raises UsageError."""
    if not args.at:
        if not args.dumps:
            raise UsageError("name dumps, or a series: --at 0s DUMP... --at 60s DUMP...")
        return [(0.0, args.dumps)]
    if args.dumps:
        raise UsageError(f"{args.dumps[0]}: with --at, every dump must stand behind the time that it was taken at")
    if args.writes or args.trace:
        raise UsageError("--at tells what is written already: leave out --writes and --trace")
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
    for (earlier, _), (later, _) in pairwise(groups):
        if later <= earlier:
            raise UsageError(f"--at {later:g}s behind --at {earlier:g}s: times must ascend")
    return groups


def _matched(first: list[OwnerImages], later: list[OwnerImages], time: float) -> list[OwnerImages]:
    """The owners of a later snapshot in the order of the first: by their names, or else in turn."""
    by_name = {owner.name: owner for owner in later if owner.named}
    in_turn = [owner for owner in later if not owner.named]
    remedy = "every snapshot must have the same owners, by NAME= or else in the same order"
    for name in by_name:
        if name not in [owner.name for owner in first if owner.named]:
            raise UsageError(f"--at {time:g}s: {name}= is not in the first snapshot; {remedy}")
    for owner in first:
        if owner.named and owner.name not in by_name:
            raise UsageError(f"--at {time:g}s: {owner.name}= is missing; {remedy}")
    there = sum(not owner.named for owner in first)
    if len(in_turn) != there:
        names = " without NAME=" if by_name else ""
        raise UsageError(f"--at {time:g}s: {_dumps(len(in_turn))}{names}, in the first snapshot {there}; {remedy}")
    turn = iter(in_turn)
    return [by_name[owner.name] if owner.named else next(turn) for owner in first]


def _dumps(count: int) -> str:
    return "1 dump" if count == 1 else f"{count} dumps"


def _named(path: Path, read: Callable[[Path], T]) -> T:
    """What ``read`` makes of a file; where it can't be read, OSError of one line."""
    try:
        return read(path)
    except OSError as error:
        raise OSError(f"{path}: {error.strerror or error}") from None


@contextmanager
def open_memory(args: argparse.Namespace, control: Control) -> Iterator[Opened]:
    """Open all that ``add_memory_arguments`` declared, and count it. Raises UsageError, BadInputs, and what reading
    raises."""
    from pageshare.replay.history import history_of
    from pageshare.scanner import domains_of

    if args.writes and args.trace:
        raise UsageError("--writes and --trace: only one of them says what is written")
    groups = _groups(args)
    write_model = None
    if args.writes:  # what is wrong with it is said before anything is counted
        from pageshare.replay import model

        write_model = _named(args.writes, model.WriteModel.from_toml)
        if write_model.duration is None and args.duration is None:
            raise UsageError("--writes: the model has no end: say how long, with --duration")
    elif args.trace:
        _named(args.trace, lambda path: path.open("rb").close())
    with open_groups(args, [dumps for _, dumps in groups]) as inputs:
        owners = [inputs[0].owners]
        owners += [
            _matched(inputs[0].owners, each.owners, time)
            for (time, _), each in zip(groups[1:], inputs[1:], strict=True)
        ]
        names = [owner.name for owner in owners[0]]
        try:
            domains = domains_of(names, domains_given(args.domain), per_owner=args.domain_per_owner)
        except ValueError as error:
            raise UsageError(f"--domain: {error}") from None
        snapshots = [
            (time, [(name, owner.images) for name, owner in zip(names, each, strict=True)])
            for (time, _), each in zip(groups, owners, strict=True)
        ]
        images = [image for each in owners for owner in each for image in owner.images]
        base, interrupt = run_with_progress(
            lambda: history_of(
                snapshots,
                page_size=args.page_size,
                domains=domains,
                seed=args.seed or 0,
                threads=args.threads,
                memory=args.memory,
                control=control,
            ),
            control,
            label="census",
            pages=sum(image.source.size for image in images) // args.page_size,
            page_size=args.page_size,
            quiet=args.quiet,
        )
        if interrupt is not None:
            raise interrupt
        control.reset()
        history: History = base
        if write_model is not None:
            history = model.churn(base, write_model)
        elif args.trace:
            from pageshare.replay import trace

            history = trace.read(args.trace, base)
        yield Opened(
            history,
            names,
            args.page_size,
            args.duration if args.duration is not None else history.duration,
            notes=[note for each in inputs for note in each.notes],
            warnings=[*(w for each in inputs for w in each.warnings), *history.notes],
            skipped=[left for each in inputs for left in each.skipped],
            incomplete=[f"{image.source.path}: {sentence}" for image in images for sentence in image.incomplete],
        )


__all__ = [
    "PACES",
    "SERIES",
    "Opened",
    "Paced",
    "add_memory_arguments",
    "add_pace_arguments",
    "changes",
    "open_memory",
    "pace_of",
    "seconds",
    "seed_number",
]
