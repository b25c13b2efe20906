"""From dumps to a course, in one call.

The commands go the same way, with progress and signals between its steps:

    plan(...)        all that was asked for, checked before anything is read
    arranged(...)    opened dumps of each moment, their owners matched
    Arranged.count   the base: every page numbered by its content
    Changes.over     the history: the base, and what is written to it
    course.Run       the replay
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pageshare import policies
from pageshare.core import Control
from pageshare.replay import costs as measuring
from pageshare.replay import history, model
from pageshare.replay import trace as recording
from pageshare.replay.checks import SettingError
from pageshare.replay.course import PEEK_PRICE, Course, Run, Settings
from pageshare.replay.pace import Paced, paced
from pageshare.scanner import domains_of, open_dumps

if TYPE_CHECKING:
    from typing import TypeAlias

    from pageshare.images import Image
    from pageshare.policies.view import Objective
    from pageshare.replay.costs import Costs

    Policy: TypeAlias = str | Callable[[policies.View], policies.Policy]
    Writes: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | model.WriteModel

T = TypeVar("T")

DEFAULT_POLICY = "peek-runs"
DEFAULT_SEED = 1
MATCHED = "every snapshot must have the same owners, by {named} or else in the same order"


# ---- what was asked for ----


@dataclass(frozen=True)
class Changes:
    """What is written to dumps of one moment: by a ``model``, or as a ``trace`` has it; or nothing."""

    model: model.WriteModel | None = None
    trace: Path | None = None

    @classmethod
    def of(cls, writes: Writes | None, recorded: str | os.PathLike[str] | None, duration: float | None) -> Changes:
        """Read the model; see that the trace is there. Raises SettingError, SpecError, OSError of one line."""
        if writes is not None and recorded is not None:
            raise SettingError("{writes} and {trace}: only one of them says what is written")
        if recorded is not None:
            path = Path(recorded)
            _named(path, lambda path: path.open("rb").close())
            return cls(trace=path)
        if writes is None:
            return cls()
        if isinstance(writes, model.WriteModel):
            made = writes
        elif isinstance(writes, Mapping):
            made = model.WriteModel.of_table(writes)
        else:
            made = _named(Path(writes), model.WriteModel.from_toml)
        if made.duration is None and duration is None:
            raise SettingError("{writes}: the model has no end: say how long, with {duration}")
        return cls(model=made)

    def over(self, base: history.Snapshots) -> history.History:
        """What that makes of the dumps. Raises SpecError or TraceError where it does not fit them, OSError."""
        if self.model is not None:
            return model.churn(base, self.model)
        if self.trace is not None:
            return recording.read(self.trace, base)
        return base


def _named(path: Path, read: Callable[[Path], T]) -> T:
    """What ``read`` makes of a file; where it can't be read, an OSError of one line."""
    try:
        return read(path)
    except OSError as error:
        raise type(error)(f"{path}: {error.strerror or error}") from None


@dataclass(frozen=True)
class Plan:
    """How to replay: settings, the pace in words too, and what is written."""

    settings: Settings
    pace: Paced
    changes: Changes

    def duration(self, past: history.History) -> float | None:
        """How long it lasts, in seconds; None: until all is found."""
        return past.duration if self.settings.duration is None else self.settings.duration


def plan(
    *,
    policy: Policy = DEFAULT_POLICY,
    objective: Objective = "all",
    seed: int = DEFAULT_SEED,
    rate: float | None = None,
    pages_to_scan: int | None = None,
    sleep: float | None = None,
    cpu: float | None = None,
    rate_per_owner: float | None = None,
    duration: float | None = None,
    visits: int | None = None,
    max_refs: int | None = None,
    peek_cost: float | None = None,
    writes: Writes | None = None,
    recorded: str | os.PathLike[str] | None = None,
) -> Plan:
    """All of it, checked; see ``run``, whose ``trace`` is ``recorded``."""
    if isinstance(policy, str):
        policies.check(policy)
    elif not callable(policy):
        raise TypeError(f"policy {policy!r}: must be a name, or what makes a policy of a View, such as its class")
    pace = paced(rate, pages_to_scan, sleep, cpu)
    settings = Settings(
        policy=policy,
        seed=seed,
        objective=objective,
        pace=pace.make,
        duration=duration,
        visits=visits,
        per_owner=rate_per_owner,
        peek_price=PEEK_PRICE if peek_cost is None else peek_cost,
        max_refs=max_refs,
    )
    return Plan(settings, pace, Changes.of(writes, recorded, duration))


# ---- dumps ----


class Given(Protocol):
    """An owner as somebody gave it, with the images that make up its memory; ``named``: it is known by its name."""

    @property
    def name(self) -> str:
        """Its own, or that of its file."""
        ...

    @property
    def named(self) -> bool:
        """Whether somebody gave it its name."""
        ...

    @property
    def images(self) -> Sequence[Image]:
        """The images."""
        ...


class _Given(NamedTuple):
    name: str
    named: bool
    images: Sequence[Image]


@dataclass(frozen=True)
class Arranged:
    """Opened dumps: the same owners, in the same order, at each moment; the sharing domain of each."""

    snapshots: Sequence[tuple[float, Sequence[tuple[str, Sequence[Image]]]]]
    domains: Sequence[str]
    page_size: int

    @property
    def names(self) -> list[str]:
        """The owners'."""
        return [name for name, _ in self.snapshots[0][1]]

    @property
    def images(self) -> Iterator[Image]:
        """All images, of all moments."""
        return (image for _, owners in self.snapshots for _, images in owners for image in images)

    @property
    def incomplete(self) -> list[str]:
        """What should be in the dumps, and is not."""
        return [f"{image.source.path}: {sentence}" for image in self.images for sentence in image.incomplete]

    def count(
        self, seed: int, *, threads: int | None = None, memory: int | None = None, control: Control | None = None
    ) -> history.Snapshots:
        """Look at every page. Raises ValueError, MediaError, ``Stopped``."""
        return history.history_of(
            self.snapshots,
            page_size=self.page_size,
            domains=self.domains,
            seed=seed,
            threads=threads,
            memory=memory,
            control=control,
        )


def check_series(times: Sequence[float], *, changes: bool) -> None:
    """Raise SettingError unless times ascend, and nothing else tells what is written."""
    if changes:
        raise SettingError("{series} tells what is written already: leave out {writes} and {trace}")
    for earlier, later in pairwise(times):
        if later <= earlier:
            behind = "{at} {later:g}s behind {at} {earlier:g}s: times must ascend"
            raise SettingError(behind, later=later, earlier=earlier)


def arranged(
    moments: Sequence[tuple[float, Sequence[Given]]],
    *,
    page_size: int,
    domains: Mapping[str, Sequence[str]] | None = None,
    domain_per_owner: bool = False,
) -> Arranged:
    """The owners of each moment in the order of the first: by their names, or else in turn.

    Raises SettingError where they are not the same, ValueError for domains of owners that are not there.
    """
    first = moments[0][1]
    names = [owner.name for owner in first]
    snapshots = [
        (time, [(name, owner.images) for name, owner in zip(names, _matched(first, owners, time), strict=True)])
        for time, owners in moments
    ]
    return Arranged(snapshots, domains_of(names, domains, per_owner=domain_per_owner), page_size)


def _matched(first: Sequence[Given], later: Sequence[Given], time: float) -> list[Given]:
    at = "{at} {time:g}s"
    by_name = {owner.name: owner for owner in later if owner.named}
    in_turn = [owner for owner in later if not owner.named]
    expected = [owner.name for owner in first if owner.named]
    for name in by_name:
        if name not in expected:
            raise SettingError(f"{at}: {{owner}} is not in the first snapshot; {MATCHED}", time=time, owner=name)
    for name in expected:
        if name not in by_name:
            raise SettingError(f"{at}: {{owner}} is missing; {MATCHED}", time=time, owner=name)
    there = len(first) - len(expected)
    if len(in_turn) != there:
        without = " without {named}" if by_name else ""
        raise SettingError(
            f"{at}: {{dumps}}{without}, in the first snapshot {{there}}; {MATCHED}",
            time=time,
            dumps="1 dump" if len(in_turn) == 1 else f"{len(in_turn)} dumps",
            there=there,
        )
    turn = iter(in_turn)
    return [by_name[owner.name] if owner.named else next(turn) for owner in first]


def _moments(dumps: Any) -> tuple[list[tuple[float, Any]], bool]:
    """The dumps of each moment, and whether they were given as a series."""
    if isinstance(dumps, Mapping):
        series = bool(dumps) and all(map(_is_time, dumps))
        moments = list(dumps.items())
    else:
        moments = list(dumps) if isinstance(dumps, (list, tuple)) else []
        series = bool(moments) and all(
            isinstance(each, (list, tuple)) and len(each) == 2 and _is_time(each[0]) for each in moments
        )
    return ([(float(time), each) for time, each in moments], True) if series else ([(0.0, dumps)], False)


def _is_time(thing: Any) -> bool:
    """Whether it is a number, numpy's included."""
    return not isinstance(thing, bool) and hasattr(thing, "__float__") and not hasattr(thing, "__len__")


@dataclass(frozen=True)
class _Opened:
    """A history, and what is to be said of the dumps that it came from."""

    history: history.History
    warnings: tuple[str, ...]
    incomplete: tuple[str, ...]


@dataclass(frozen=True)
class _Opening:
    """How dumps are read, as ``scan`` and ``run`` take it."""

    page_size: int = 4096
    domains: Mapping[str, Sequence[str]] | None = None
    domain_per_owner: bool = False
    holes: str = "zero"
    format: str | None = None
    threads: int | None = None
    memory: int | None = None


@contextmanager
def _opened(dumps: Any, how: _Opening, asked: Plan, control: Control) -> Iterator[_Opened]:
    """Open and count what a library was given."""
    moments, series = _moments(dumps)
    if series:
        times = [time for time, _ in moments]
        if not all(map(math.isfinite, times)):
            raise ValueError(f"times {times}: must be numbers of seconds")
        check_series(times, changes=asked.changes != Changes())
    with ExitStack() as stack:
        given = []
        for time, each in moments:
            owners = open_dumps(each, stack, format=how.format, holes=how.holes, page_size=how.page_size)
            given.append((time, [_Given(name, isinstance(each, Mapping), images) for name, images in owners]))
        if not given[0][1]:
            raise ValueError("there are no dumps")
        opened = arranged(
            given, page_size=how.page_size, domains=how.domains, domain_per_owner=how.domain_per_owner
        )
        base = opened.count(asked.settings.seed, threads=how.threads, memory=how.memory, control=control)
        control.reset()
        past = asked.changes.over(base)
        odd = [sentence for image in opened.images for sentence in image.warnings]
        yield _Opened(past, (*odd, *past.notes), tuple(opened.incomplete))


# ---- one call ----


def run(
    dumps: Any,
    *,
    policy: Policy = DEFAULT_POLICY,
    objective: Objective = "all",
    seed: int = DEFAULT_SEED,
    rate: float | None = None,
    pages_to_scan: int | None = None,
    sleep: float | None = None,
    cpu: float | None = None,
    rate_per_owner: float | None = None,
    duration: float | None = None,
    visits: int | None = None,
    max_refs: int | None = None,
    peek_cost: float | None = None,
    writes: Writes | None = None,
    trace: str | os.PathLike[str] | None = None,
    page_size: int = 4096,
    domains: Mapping[str, Sequence[str]] | None = None,
    domain_per_owner: bool = False,
    holes: str = "zero",
    format: str | None = None,
    threads: int | None = None,
    memory: int | None = None,
    costs: Costs | None = None,
    control: Control | None = None,
) -> Course:
    """Replay a scan policy over memory in virtual time, and say what it saved, when, and at what price.

    ``dumps`` is what ``pageshare.scan`` takes: a path, a buffer or an ``Image``, a sequence of these, each an owner,
    or a mapping of owner name to one or several of them. A series, memory that changes, is a mapping of times to dumps,
    or a list of (time, dumps); times ascend, in seconds, and owners are the same each time, by the names of a mapping
    or else in the same order. Dumps of one moment may be written to by a model (``writes``: a TOML file, its table or a
    ``WriteModel``) or as recorded (``trace``: a file); docs/writes.md describes both.

    ``policy`` is a name, perhaps with options ("ksm:smart_scan=0"), or what makes a policy of a ``View``: a class, or
    ``functools.partial`` of one with options. Its ``next(count)`` gives page numbers (uint32 of shape (n,), 1 <= n <=
    count; a page may come several times), its ``feedback(pages, outcomes, partners)`` is told of them (uint32, uint8,
    uint32, all of shape (n,)); docs/policies.md has the rules. ``objective`` is what it is set to save, "all" pages or
    "nonzero" ones.

    One of these says how fast pages are looked at: ``rate``, pages a second (200, ESX's, if none is given);
    ``pages_to_scan`` (100) at a time and then ``sleep`` seconds (0.02), as KSM does; ``cpu``, a share of one CPU from
    0 to 1, at the cost of each look. ``rate_per_owner`` besides limits the pages a second of each owner. A peek takes
    ``peek_cost`` (0.04) of a page from what the pace allows.

    It lasts ``duration`` seconds: by default as long as the series, the model or the trace, and where memory holds
    still until all is found, or after eight visits a page. ``visits`` ends it earlier. ``max_refs`` is how many pages
    share a frame at most (0: any number), whatever the policy's ``table_options`` say. ``seed`` decides all that is
    drawn. ``costs`` are what looks cost, measured if they are not given, which takes a second or two:
    ``pageshare.replay.measure()`` gives them for many replays. The rest is as for ``pageshare.scan``.

    Counts of the ``Course`` are in pages of ``page_size`` bytes, times in seconds. It is what ``pageshare replay``
    reports with the same arguments.

    Raises ValueError for arguments that make no sense, alone or together (SettingError), a model or a trace that can't
    be (SpecError, TraceError), and a policy that gives no pages or such as there are not (PolicyError); ImageError,
    OSError or MediaError for what can't be read; ``Stopped`` if ``control`` stops it while pages are counted. Stopped
    later, the course is marked ``interrupted``. What a policy raises comes through as it is.

    >>> import numpy as np, pageshare
    >>> class Backwards:
    ...     def __init__(self, view):
    ...         self.pages = self.at = view.pages
    ...     def next(self, count):
    ...         self.at = self.at or self.pages
    ...         batch = np.arange(max(0, self.at - count), self.at, dtype=np.uint32)[::-1]
    ...         self.at -= len(batch)
    ...         return batch
    ...     def feedback(self, pages, outcomes, partners):
    ...         pass
    >>> course = pageshare.replay.run({"a": b"same" * 1024, "b": b"same" * 3072}, policy=Backwards, rate=200)
    >>> course.policy, course.last.saved, course.last.possible, course.last.visits
    ('Backwards', 3, 3, 4)
    """
    asked = plan(
        policy=policy,
        objective=objective,
        seed=seed,
        rate=rate,
        pages_to_scan=pages_to_scan,
        sleep=sleep,
        cpu=cpu,
        rate_per_owner=rate_per_owner,
        duration=duration,
        visits=visits,
        max_refs=max_refs,
        peek_cost=peek_cost,
        writes=writes,
        recorded=trace,
    )
    how = _Opening(page_size, domains, domain_per_owner, holes, format, threads, memory)
    control = Control() if control is None else control
    with _opened(dumps, how, asked, control) as opened:
        measured = measuring.measure(page_size) if costs is None else costs
        course = Run(opened.history, asked.settings, measured, control).go()
        return replace(course, warnings=opened.warnings, incomplete=opened.incomplete)
