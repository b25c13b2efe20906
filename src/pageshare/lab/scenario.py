"""A scenario: a host, its guests, what they run and what changes, from a TOML file; checked before anything runs.

docs/lab.md tells of each key. Sizes are pages here, times microseconds.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pageshare.images import printable
from pageshare.lab import named
from pageshare.lab.balloon import BATCH
from pageshare.lab.host import BALANCE
from pageshare.lab.keys import Keys, Required
from pageshare.lab.memory import SECOND
from pageshare.lab.named import Named
from pageshare.lab.shares import TAX
from pageshare.lab.sharing import VISIT
from pageshare.synth.spec import SpecError, check, shown, toml_table

if TYPE_CHECKING:
    from pageshare.lab.estimation import StudySpec

T = TypeVar("T")
BUILT_IN = Path(__file__).parent / "scenarios"
ESTIMATOR = "esx"
"""Of a guest that names none."""
TABLES_OF_GUESTS = ("program", "balloon", "reporting", "hinting", "estimator", "disk")
"""Keys of a guest that have keys of their own."""
MOST_GUESTS, MOST_PROGRAMS, MOST_CHANGES = 200, 20, 1000
MOST_PAGES = 1 << 26
"""Of the host (256 GiB), and of all guests together."""
MOST_FIGURES = 10_000_000
"""Samples times guests."""


class ScenarioError(SpecError):
    """A scenario that can't be run: ``str()`` is one line that names the file, the key, and what is allowed."""


@dataclass(frozen=True)
class DiskSpec:
    """``latency`` in microseconds, ``bandwidth`` in pages a second."""

    latency: float = 5000.0
    bandwidth: float = 25_600.0


@dataclass(frozen=True)
class SharingSpec:
    """``rate`` pages a second, ``visit`` microseconds each; ``policy`` is a name, or a user's class."""

    rate: float = 200.0
    policy: str | Named = "random-with-replacement"
    visit: float = VISIT


@dataclass(frozen=True)
class HostSpec:
    """``overhead`` pages are taken from ``memory`` for each guest; ``swap`` is None where it has no bounds."""

    memory: int
    overhead: int = 0
    swap: int | None = None
    admission: bool = True
    tax: float = TAX
    balance: int = BALANCE
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    disk: DiskSpec = DiskSpec()
    sharing: SharingSpec | None = None
    fault: float = 3.0
    zero: float = 0.5


@dataclass(frozen=True)
class BalloonSpec:
    """As ``balloon.Polls``, ``Safeguards`` and ``Driver`` take it. ``phase`` is a time, "spread" or "random";
    ``most``: the share of its guest that it may take."""

    poll: int = SECOND
    phase: int | str | None = None
    fastest: int | None = None
    doorbell: bool = False
    pleads: bool = False
    latency: int = 20
    page_time: float = 0.5
    rate: float | None = None
    batch: int = BATCH
    most: float = 0.65
    safeguards: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportingSpec:
    """Free page reporting: blocks of ``block`` pages that have been free for ``after`` microseconds."""

    after: int = 2 * SECOND
    block: int = 512


@dataclass(frozen=True)
class HintingSpec:
    """Free page hinting: blocks of ``block`` pages, asked for every ``again`` microseconds at most."""

    again: int = SECOND
    block: int = 1024


@dataclass(frozen=True)
class ProgramSpec:
    """A program: a class with options, or a recorded trace; it begins ``after`` so long of its guest's time. ``label``
    is shown instead of its name, if it has one."""

    program: Named | None = None
    trace: Any = None
    trace_name: str = ""
    loop: bool = False
    after: int = 0
    label: str = ""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.label or (self.program.name if self.program else f"trace {self.trace_name}")

    @property
    def labelled(self) -> bool:
        """Whether it says what its touches are for: what is not a trace does."""
        return self.trace is None or self.trace.labelled


@dataclass(frozen=True)
class GuestSpec:
    """One guest; ``disk`` is None for the host's."""

    name: str
    where: str
    memory: int
    least: int
    shares: float
    programs: tuple[ProgramSpec, ...]
    start: int = 0
    step: int = SECOND // 10
    halts: bool = False
    deflate_on_oom: bool = False
    disk: DiskSpec | None = DiskSpec()
    balloon: BalloonSpec | None = BalloonSpec()
    reporting: ReportingSpec | None = None
    hinting: HintingSpec | None = None
    estimator: Named | None = None
    place: tuple[int, int] = (0, 1)
    """Which of how many alike it is."""


@dataclass(frozen=True)
class Change:
    """What is changed ``at`` a time: the host's ``tax``; or of the ``guests`` shares and least, or they are reset.

    ``words`` say so.
    """

    at: int
    words: str
    tax: float | None = None
    guests: tuple[int, ...] = ()
    shares: float | None = None
    least: int | None = None
    restart: bool = False
    boots: int = 0
    """How long after a reset the balloon's driver begins."""


@dataclass(frozen=True)
class Scenario:
    """All of it. ``table`` is the TOML table that it was made of, ``calibration`` what its own numbers come from."""

    name: str
    about: str
    calibration: str
    duration: int
    every: int
    host: HostSpec
    guests: tuple[GuestSpec, ...]
    changes: tuple[Change, ...]
    table: Mapping[str, Any] = field(repr=False)

    @property
    def frames(self) -> int:
        """Machine pages that guests may have."""
        return self.host.memory - self.host.overhead * len(self.guests)


# Files.


def built_in() -> dict[str, str]:
    """What each scenario that comes along is about, by name."""
    return {path.stem: str(table_of(path).get("about", "")) for path in sorted(BUILT_IN.glob("*.toml"))}


def path_of(text: str) -> Path:
    """The file that a command line names: a built-in scenario, or a path. Raises ScenarioError."""
    if text.endswith(".toml") or "/" in text:
        return Path(text)
    path = BUILT_IN / f"{text}.toml"
    if not all(each.isalnum() or each in "-_" for each in text) or not path.is_file():
        names = ", ".join(sorted(path.stem for path in BUILT_IN.glob("*.toml")))
        raise ScenarioError(f"no scenario {shown(text)}: there are {names}, and files, FILE.toml")
    return path


def table_of(path: Path) -> dict[str, Any]:
    """A TOML file as it stands. Raises OSError, or ScenarioError."""
    name = printable(os.fspath(path))
    come_along = "`pageshare lab list` names the scenarios that come along"
    if path.is_dir():
        files = ", ".join(printable(each.name) for each in sorted(path.glob("*.toml"))[:20])
        raise ScenarioError(f"{name}: is a folder; {f'in it are {files}' if files else come_along}")
    try:
        return toml_table(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{name}: there is no such file; {come_along}") from None
    except SpecError as error:
        raise ScenarioError(str(error)) from None


def read(path: Path, changed: Sequence[tuple[str, Any]] = ()) -> Scenario:
    """The scenario in a file, with some keys set to other values. Raises OSError, or ScenarioError."""
    return _read(path, changed, of_table)


def read_any(path: Path, changed: Sequence[tuple[str, Any]] = ()) -> Scenario | StudySpec:
    """The same, or the study of estimators, if that is what the file has. Raises OSError, or ScenarioError."""

    def make(table: Mapping[str, Any], *, name: str, folder: Path) -> Scenario | StudySpec:
        if "study" not in table:
            return of_table(table, name=name, folder=folder)
        from pageshare.lab import estimation

        return estimation.of_table(table, name=name, folder=folder)

    return _read(path, changed, make)


def _read(path: Path, changed: Sequence[tuple[str, Any]], make: Callable[..., T]) -> T:
    table = table_of(path)
    try:
        for key, value in changed:
            override(table, key, value)
        return make(table, name=path.stem, folder=path.parent)
    except SpecError as error:
        raise ScenarioError(f"{printable(os.fspath(path))}: {error}") from None


def override(table: dict[str, Any], key: str, value: Any) -> None:
    """Set a key, ``host.tax`` or ``guest.web.memory``. Of a list of tables a name or a number (from 1) picks one;
    without it all of them are meant. True in a table's place means an empty one, and an estimator's name one of it.
    Raises SpecError."""
    parts = key.split(".")
    places: list[Any] = [table]
    for number, part in enumerate(parts[:-1], 1):
        found: list[Any] = []
        for place in places:
            if not isinstance(place, list) or _known(place, part):
                found += _below(place, part)
        lists = [place for place in places if isinstance(place, list)]
        if not found and lists:
            names = dict.fromkeys(str(_named(each) or i) for place in lists for i, each in enumerate(place, 1))
            there = printable(f"no {parts[number - 2]} {part}; there are {', '.join([*names][:20]) or 'none'}")
            raise SpecError(f"{printable(key)}: there is {there}")
        if not found:
            raise SpecError(f"{printable(key)}: there is no {printable(part)}")
        if any(each is False for each in found):
            raise SpecError(f"{printable(key)}: {printable('.'.join(parts[:number]))} is false, and has no keys")
        places = found
    tables = [each for place in places for each in (place if isinstance(place, list) else [place])]
    for each in tables:
        if not isinstance(each, dict):
            raise SpecError(f"{printable(key)}: {printable('.'.join(parts[:-1]))} is no table")
        each[parts[-1]] = value


def _known(tables: list[Any], part: str) -> bool:
    """Whether a name, a number or a key picks something of a list of tables, or below each of them."""
    for number, each in enumerate(tables, 1):
        if part == str(number) or _named(each) == part or (isinstance(each, dict) and part in each):
            return True
    return part in TABLES_OF_GUESTS


def _below(place: Any, part: str) -> list[Any]:
    if isinstance(place, list):
        picked = [each for number, each in enumerate(place, 1) if part == str(number) or _named(each) == part]
        return picked or [below for each in place for below in _below(each, part)]
    if not isinstance(place, dict):
        return []
    if place.get(part) is True or (part not in place and part not in ("guest", "program", "study")):
        place[part] = {"name": ESTIMATOR} if part == "estimator" else {}
    if part == "estimator" and isinstance(place.get(part), str):
        place[part] = {"name": place[part]}
    return [place[part]] if part in place else []


def _named(table: Any) -> Any:
    return table.get("name") if isinstance(table, dict) else None


# Checks.


def of_table(table: Mapping[str, Any], *, name: str, folder: Path) -> Scenario:
    """A scenario of a TOML table; files that it names are looked for in ``folder``. Raises SpecError, OSError."""
    keys = Keys(table)
    about, calibration = keys.text("about"), keys.text("calibration")
    duration = round(keys.time("duration", Required, 1000))
    every = keys.every(max(duration / 1000, 1000), duration)
    host = _host(Keys(keys.get("host", Required), "host"), folder)
    guests: list[GuestSpec] = []
    for where, each in keys.tables("guest", MOST_GUESTS):
        guests += _guests(Keys(each, where), folder, len(guests))
        check(len(guests) <= MOST_GUESTS, f"{where}.count", f"at most {MOST_GUESTS} guests in all", len(guests))
    check(len(guests) > 0, "guest", "there: one at least, [[guest]]", "left out")
    names = [guest.name for guest in guests]
    for guest in guests:
        check(names.count(guest.name) == 1, f"{guest.where}.name", "a name of its own", guest.name)
    changes = tuple(_changes(keys, guests))
    keys.end()
    scenario = Scenario(name, about, calibration, duration, every, host, tuple(guests), changes, table)
    _fits(scenario)
    return scenario


def _fits(scenario: Scenario) -> None:
    """Raise SpecError for more than can be simulated, or more than the host would take in."""
    from pageshare.lab.admission import admit

    host, guests = scenario.host, scenario.guests
    total = sum(guest.memory for guest in guests)
    check(total <= MOST_PAGES, "guest", "of at most 256 GiB together", f"{total / 2**18:.1f} GiB")
    samples = scenario.duration // scenario.every * len(guests)
    check(
        samples <= MOST_FIGURES,
        "every",
        f"longer: there are {samples:,} samples of guests, {MOST_FIGURES:,} at most",
        scenario.every,
    )
    if scenario.frames < 1:
        raise SpecError(f"host.overhead: leaves nothing of host.memory with {len(guests)} guests")
    memory, swap = host.memory, MOST_PAGES if host.swap is None else host.swap
    for guest in guests:
        lacks = admit(least=guest.least, size=guest.memory, memory=memory, swap=swap, overhead=host.overhead)
        if host.admission and not lacks.fits:
            what = (
                f"{lacks.memory / 256:g} MiB of memory" if lacks.memory else f"{lacks.swap / 256:g} MiB of swap space"
            )
            raise SpecError(
                f"{guest.where}: {guest.name} is not admitted: {what} are lacking for its minimum"
                f"{'' if lacks.memory else ' and what is above it'} (host.admission = false takes it in)"
            )
        memory, swap = memory - guest.least - host.overhead, swap - (guest.memory - guest.least)


def _host(keys: Keys, folder: Path) -> HostSpec:
    memory = keys.pages("memory", Required, 64, MOST_PAGES)
    thresholds = keys.inner("thresholds")
    marks: dict[str, Any] = {}
    for mark in ("high", "soft", "hard", "low"):
        if (value := thresholds.share(mark, None, below_one=True)) is not None:
            marks[mark] = value
    if (value := thresholds.number("hysteresis", None, 0, 2)) is not None:
        marks["hysteresis"] = value
    thresholds.end()
    from pageshare.lab.thresholds import Thresholds

    try:
        Thresholds(**marks)
    except ValueError as error:
        raise SpecError(f"host.{error}") from None
    spec = HostSpec(
        memory=memory,
        overhead=keys.pages("overhead", 0),
        swap=keys.pages("swap", None),
        admission=keys.flag("admission", True),
        tax=keys.share("tax", TAX, below_one=True),
        balance=round(keys.time("balance", BALANCE, 10_000)),
        thresholds=marks,
        disk=_disk(keys.inner("disk")),
        sharing=_sharing(keys, folder),
        fault=keys.time("fault", 3.0, high=SECOND),
        zero=keys.time("zero", 0.5, high=SECOND),
    )
    keys.end()
    return spec


def _disk(keys: Keys) -> DiskSpec:
    spec = DiskSpec(keys.time("latency", 5000.0, high=10 * SECOND), keys.rate("bandwidth", 25_600.0))
    keys.end()
    return spec


def _sharing(keys: Keys, folder: Path) -> SharingSpec | None:
    value = keys.get("sharing", False)
    if isinstance(value, bool):
        return SharingSpec() if value else None
    inner = Keys(value, keys.name("sharing"))
    rate = inner.number("rate", 200.0, 0, 1e7)
    visit = inner.time("visit", VISIT, high=SECOND)
    policy = inner.text("policy", "random-with-replacement")
    inner.end()
    where = inner.name("policy")
    if named.is_own(policy):
        return SharingSpec(rate, Named(where, policy, named.load(policy, where, folder), {}, own=True), visit)
    from pageshare import policies

    base = policy.partition(":")[0]
    if base not in policies.POLICIES and base not in policies.ALIASES:
        there = f"there are {', '.join(named.scan_policies())}, and your own as FILE.py:CLASS"
        raise SpecError(f"{where}: no policy {shown(base)}; {there}")
    try:
        policies.check(policy, answer_known=False)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from None
    return SharingSpec(rate, policy, visit)


def _guests(keys: Keys, folder: Path, before: int) -> list[GuestSpec]:
    """One guest, or several alike; so many come before."""
    name = keys.text("name", None)
    if name is not None:
        allowed = "a name of 1 to 40 characters, no spaces at its ends"
        check(0 < len(name) <= 40 and name == name.strip() and name.isprintable(), keys.name("name"), allowed, name)
    count = keys.whole("count", 1, 1, MOST_GUESTS)
    memory = keys.pages("memory", Required, 64, MOST_PAGES)
    least = keys.pages("least", memory // 2, 0, memory)
    programs = tuple(
        program_of(Keys(each, where), folder, memory) for where, each in keys.tables("program", MOST_PROGRAMS)
    )
    check(len(programs) > 0, keys.name("program"), "there: one at least, [[guest.program]]", "left out")
    disk = keys.get("disk", {})
    allowed = 'a table, {latency = "5ms", bandwidth = "100 MB/s"}, or "host": the host\'s own'
    check(disk == "host" or isinstance(disk, Mapping), keys.name("disk"), allowed, disk)
    given = {
        "memory": memory,
        "least": least,
        "shares": float(keys.number("shares", memory, 0, 1e12, above=True)),
        "programs": programs,
        "start": round(keys.time("start", 0)),
        "step": round(keys.time("step", SECOND // 10, 1000, 60 * SECOND)),
        "halts": keys.flag("halts", False),
        "deflate_on_oom": keys.flag("deflate_on_oom", False),
        "disk": None if disk == "host" else _disk(Keys(disk, keys.name("disk"))),
        "balloon": _balloon(keys),
        "reporting": _reporting(keys),
        "hinting": _hinting(keys),
        "estimator": _estimator(keys, folder),
    }
    keys.end()
    first = name or f"guest{before + 1}"
    return [
        GuestSpec(
            name=first if count == 1 else f"{name or 'guest'}{before + 1 + i if not name else f'-{i + 1}'}",
            where=keys.where,
            place=(i, count),
            **given,
        )
        for i in range(count)
    ]


def _balloon(keys: Keys) -> BalloonSpec | None:
    value = keys.get("balloon", True)
    if isinstance(value, bool):
        return BalloonSpec() if value else None
    inner = Keys(value, keys.name("balloon"))
    poll = round(inner.time("poll", SECOND, 100))
    phase: int | str | None = None
    if isinstance(inner.get("phase"), str) and inner.get("phase") in ("spread", "random"):
        phase = inner.get("phase")
    elif (time := inner.time("phase", None)) is not None:
        phase = round(time)
    fastest = inner.time("fastest", None, 100, poll)
    guards = inner.inner("safeguards")
    safeguards = {key: guards.flag(key, True) for key in ("tell_first", "reset", "ignore_stale")}
    guards.end()
    spec = BalloonSpec(
        poll=poll,
        phase=phase,
        fastest=None if fastest is None else round(fastest),
        doorbell=inner.flag("doorbell", False),
        pleads=inner.flag("pleads", False),
        latency=round(inner.time("latency", 20, 1, 10 * SECOND)),
        page_time=inner.time("page_time", 0.5, high=SECOND),
        rate=inner.rate("rate", None),
        batch=inner.whole("batch", BATCH, 1, 1 << 20),
        most=inner.share("most", 0.65),
        safeguards=safeguards,
    )
    inner.end()
    return spec


def _reporting(keys: Keys) -> ReportingSpec | None:
    value = keys.get("reporting", False)
    if isinstance(value, bool):
        return ReportingSpec() if value else None
    inner = Keys(value, keys.name("reporting"))
    spec = ReportingSpec(round(inner.time("after", 2 * SECOND, 1000)), inner.whole("block", 512, 1, 1 << 18))
    inner.end()
    return spec


def _hinting(keys: Keys) -> HintingSpec | None:
    value = keys.get("hinting", False)
    if isinstance(value, bool):
        return HintingSpec() if value else None
    inner = Keys(value, keys.name("hinting"))
    spec = HintingSpec(round(inner.time("again", SECOND, 1000)), inner.whole("block", 1024, 1, 1 << 18))
    inner.end()
    return spec


def _estimator(keys: Keys, folder: Path) -> Named | None:
    value = keys.get("estimator", ESTIMATOR)
    if value is False:
        return None
    return estimator_of(keys.name("estimator"), value, folder)


def estimator_of(where: str, value: Any, folder: Path) -> Named:
    """An estimator by its name, or of a table with options. Raises SpecError."""
    table = value if isinstance(value, Mapping) else {"name": value}
    options = {key: each for key, each in table.items() if key != "name"}
    check("name" in table, f"{where}.name", "the name of an estimator, or FILE.py:CLASS", "left out")
    make, own = named.find("estimator", table["name"], f"{where}.name" if table is value else where, folder)
    return Named(where, str(table["name"]), make, named.checked(make, options, where), own)


def program_of(keys: Keys, folder: Path, memory: int) -> ProgramSpec:
    """A program of its table, for a guest of so many pages. Raises SpecError, OSError."""
    after = round(keys.time("after", 0))
    if keys.given("trace"):
        text = keys.text("trace")
        loop = keys.flag("loop", False)
        keys.end()
        return ProgramSpec(trace=_trace(keys.name("trace"), text, folder), trace_name=text, loop=loop, after=after)
    check(keys.given("name"), keys.name("name"), "there, or trace: the name of a program, or FILE.py:CLASS", "left out")
    name = keys.get("name")
    make, own = named.find("program", name, keys.name("name"), folder)
    options = {key: value for key, value in keys.table.items() if key not in ("name", "after")}
    values = named.checked(make, options, keys.where)
    if "pages" in named.options_of(make):
        values.setdefault("pages", memory)
    return ProgramSpec(Named(keys.where, str(name), make, values, own), after=after)


def traces() -> dict[str, Path]:
    """The traces that come along, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "traces").glob("*.parquet"))}


def trace_sentence(path: Path) -> str:
    """What program a trace's file says that it is of; all else in it is left unread."""
    if importlib.util.find_spec("pyarrow") is None:
        return "a recorded trace"
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(path).metadata or {}
        program = json.loads(metadata[b"pageshare-trace"])["about"]["program"]
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException):
        return "a recorded trace"
    return str(program)


def _trace(where: str, text: str, folder: Path) -> Any:
    from pageshare.lab import trace

    path = traces().get(text)
    if path is None:
        if "/" not in text and not text.endswith(".parquet"):
            there = ", ".join(traces()) or "none"
            raise SpecError(f"{where}: no trace {shown(text)} is kept; there are {there}, and files, FILE.parquet")
        path = folder / text
    try:
        found = trace.read(path)
    except SpecError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        come_along = "`pageshare lab list --traces` names those that come along"
        raise SpecError(f"{where}: {printable(os.fspath(path))}: there is no such file; {come_along}") from None
    except (ValueError, OSError) as error:
        raise SpecError(f"{where}: {error}") from None
    check(found.page_size == 4096, where, "a trace of pages of 4 KiB", found.page_size)
    check(found.pages > 0, where, "a trace of some pages", "an empty one")
    return found


def _changes(keys: Keys, guests: Sequence[GuestSpec]) -> list[Change]:
    found = []
    for where, table in keys.tables("change", MOST_CHANGES):
        inner = Keys(table, where)
        at = round(inner.time("at", Required))
        tax = inner.share("tax", None, below_one=True)
        name = inner.text("guest", None)
        shares = inner.number("shares", None, 0, 1e12, above=True)
        least = inner.pages("least", None)
        restart = inner.flag("restart", False)
        boots = round(inner.time("boots", 0))
        check(restart or not boots, f"{where}.boots", "left out without restart", boots)
        inner.end()
        numbers: tuple[int, ...] = ()
        of_guest = shares is not None or least is not None or restart
        check(tax is not None or of_guest, where, "of tax, shares, least or restart", "of nothing")
        if of_guest:
            check(name is not None, f"{where}.guest", "there: whose shares or least, or who is reset", "left out")
            numbers = tuple(i for i, guest in enumerate(guests) if guest.name == name or guest.where == f"guest.{name}")
            check(len(numbers) > 0, f"{where}.guest", f"one of {', '.join(g.name for g in guests[:20])}", name)
            for number in numbers:
                if least is not None:
                    check(
                        least <= guests[number].memory, f"{where}.least", "no more than the guest has", table["least"]
                    )
        else:
            check(name is None, f"{where}.guest", "left out where only the tax changes", name)
        words = [f"tax {100 * tax:g} %"] if tax is not None else []
        words += [f"{name}: {shares:g} shares"] if shares is not None else []
        words += [f"{name}: minimum {least / 256:g} MiB"] if least is not None else []
        words += [f"{name} is reset"] if restart else []
        found.append(Change(at, ", ".join(words), tax, numbers, shares, least, restart, boots))
    return sorted(found, key=lambda change: change.at)


__all__ = ["Scenario", "ScenarioError", "built_in", "override", "path_of", "read"]
