"""The loop: a policy, a pace, a memory that goes by; and the course that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare import policies
from pageshare.core import NO_PAGE, Control, Outcome, Stopped
from pageshare.replay import checks
from pageshare.replay.memory import Memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.core import Scanned
    from pageshare.policies.view import Objective
    from pageshare.replay.costs import Costs
    from pageshare.replay.history import History
    from pageshare.replay.pace import Pace

PEEK_PRICE = 0.04
"""What a peek costs, where a visit costs 1."""
SHARES = (0.5, 0.9, 0.99)
"""Of what is possible: when they are reached, is reported."""
SOON = 10.0
"""Seconds: a merge that is broken within them was hardly worth it."""
SAMPLES = 400
"""How many moments of a course are kept."""
MOST_PASSES = 8
"""Where memory holds still, a policy that has not found what there is gives up after so many visits a page."""
BATCH = 1024
"""A policy is asked for that many pages at most, or 1/64 of all if these are more; however many a pace allows."""
MOST_AT_ONCE = 1 << 16
"""More than that it never is, however large memory is: a stop is seen only between two batches."""
PART, LONGEST_PART = 1.5, 64.0
"""A step that takes longer than so many seconds goes by in parts, longer ones while little is written: a stop is seen
between two of them, and nobody holds the writes of hours."""
FEW_WRITES = 1 << 12
"""In a part; if there were no more, the next one is twice as long."""


@dataclass(frozen=True)
class Settings:
    """How to replay.

    ``policy`` is a name (``policies.create``) or what makes a policy of a ``View``. ``pace`` makes a new pace;
    without one time stands still, and so does memory. ``duration`` in seconds; ``visits`` at most. ``per_owner``:
    visits a second of each owner at most, with a ``pace``. ``by_bytes``: on the dumps' own bytes, not on fingerprints
    of them. ``peek_price``: of a peek, where a visit costs 1. ``stop_when_found``: where memory holds still, end when
    everything is found. ``max_refs``: pages of a frame at most, 0 for any number, whatever the policy's
    ``table_options`` say. Raises ValueError.
    """

    policy: str | Callable[[policies.View], policies.Policy] = "random-permutation"
    seed: int = 0
    objective: Objective = "all"
    pace: Callable[[], Pace] | None = None
    duration: float | None = None
    visits: int | None = None
    per_owner: float | None = None
    by_bytes: bool = True
    peek_price: float = PEEK_PRICE
    stop_when_found: bool = True
    max_refs: int | None = None

    def __post_init__(self) -> None:
        if self.objective not in ("all", "nonzero"):
            raise ValueError(f"objective {self.objective!r}: must be all or nonzero")
        checks.whole("seed", self.seed, "a whole number from 0 to 2^63 - 1", lambda seed: 0 <= seed < 1 << 63)
        checks.number("peek_cost", self.peek_price, "from 0 to 1", lambda price: 0 <= price <= 1)
        if self.duration is not None:
            checks.number("duration", self.duration, "a number of seconds from 0", lambda seconds: seconds >= 0)
        if self.visits is not None:
            checks.whole("visits", self.visits, "a whole number from 0", lambda visits: visits >= 0)
        if self.per_owner is not None:
            checks.rate("rate_per_owner", self.per_owner)
        if self.max_refs is not None:
            must = "0 (no limit) or a whole number from 2"
            checks.whole("max_refs", self.max_refs, must, lambda refs: refs == 0 or 2 <= refs < NO_PAGE)

    @property
    def name(self) -> str:
        """The policy's."""
        return name_of(self.policy)


class PolicyError(ValueError):
    """A policy gave what is no batch of pages to look at."""


def name_of(policy: object) -> str:
    """What a policy is called: by its name, an alias by what it stands for, or as its class or function is."""
    if isinstance(policy, str):
        return policies.full_name(policy)
    made_of = getattr(policy, "func", policy)  # of functools.partial, which gives options
    return str(getattr(made_of, "__name__", type(made_of).__name__))


@dataclass(frozen=True)
class Reached:
    """When a share of what is possible was saved: ``visits``, and ``cost`` (visits and peeks by their price),
    ``cpu_seconds`` so far, and at what virtual ``seconds``."""

    visits: int
    cost: float
    cpu_seconds: float
    seconds: float


@dataclass(frozen=True)
class Sample:
    """A moment of a course; counts since the start, pages that are ``saved`` and could be (``possible``) now."""

    seconds: float
    visits: int
    peeks: int
    cost: float
    cpu_seconds: float
    saved: int
    saved_nonzero: int
    possible: int
    possible_nonzero: int
    cow_breaks: int


@dataclass(frozen=True)
class Course:
    """What a replay left.

    ``pages`` are those that must be read. ``reached`` and ``reached_nonzero`` say for each of ``SHARES`` when it was,
    or None. ``area`` and ``area_nonzero`` are the mean share saved of what is possible over a cost of 0 to one visit
    a page; ``mean_saved`` and ``mean_saved_nonzero`` pages, over time (0 where it stands still). ``outcomes`` count
    by name. ``broken_soon`` are the copy-on-write breaks of pages merged up to ten seconds before. ``metadata_bits``
    is what the policy kept at most, in bits a page. ``policy_seconds`` is CPU time that the policy itself took.
    ``page_size`` is in bytes, ``owners`` are their names. ``interrupted``: it was stopped before its end. ``warnings``
    and ``incomplete`` are sentences on the dumps, where ``pageshare.replay.run`` opened them.
    """

    policy: str
    seed: int
    objective: Objective
    pages: int
    page_size: int
    owners: tuple[str, ...]
    samples: tuple[Sample, ...]
    reached: Mapping[float, Reached | None]
    reached_nonzero: Mapping[float, Reached | None]
    area: float
    area_nonzero: float
    mean_saved: float
    mean_saved_nonzero: float
    mean_possible: float
    mean_possible_nonzero: float
    outcomes: Mapping[str, int]
    writes: int
    cow_breaks: int
    broken_soon: int
    cow_breaks_nonzero: int
    metadata_bits: float
    policy_seconds: float
    interrupted: bool = False
    warnings: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()

    @property
    def last(self) -> Sample:
        """The end."""
        return self.samples[-1]


@dataclass
class _Line:
    """One of the two things that are followed: all pages that are saved, or those of them that are not zero."""

    area: float = 0.0
    over_time: float = 0.0
    possible_over_time: float = 0.0
    reached: dict[float, Reached | None] = field(default_factory=lambda: dict.fromkeys(SHARES))

    def complete(self) -> bool:
        return all(self.reached.values())


class Run:
    """A replay under way."""

    def __init__(self, history: History, settings: Settings, costs: Costs, control: Control | None = None) -> None:
        """Raises ValueError for a policy that is not there, and for rates of owners without a pace; TypeError for what
        makes none, and what that itself raises; OSError where a file can't be mapped."""
        if settings.per_owner is not None and settings.pace is None:
            raise ValueError("a rate for each owner says nothing where time stands still: give a pace")
        self.settings, self.costs = settings, costs
        self.control = Control() if control is None else control
        self.memory = memory = Memory(history, seed=settings.seed, by_bytes=settings.by_bytes)
        self.view = policies.View(
            history.space,
            seed=settings.seed,
            objective=settings.objective,
            peek=self._peek,
            contents=lambda: memory.ids,
        )
        begun = time.thread_time()
        made = settings.policy
        self.policy = policies.create(made, self.view) if isinstance(made, str) else made(self.view)
        self.policy_seconds = time.thread_time() - begun
        for needed in ("next", "feedback"):
            if not callable(getattr(self.policy, needed, None)):
                raise TypeError(f"policy {settings.name}: what it makes of a View has no method {needed}")
        options = dict(getattr(self.policy, "table_options", {}))
        if settings.max_refs is not None:
            options["max_refs"] = settings.max_refs
        memory.use(options)
        self.view.attach(memory.table)
        self.pages = history.space.readable
        self.page_size, self.owners = history.space.page_size, tuple(owner.name for owner in history.space.owners)
        self.duration = settings.duration if settings.duration is not None else history.duration
        self.limit = None if settings.per_owner is None else _OwnerLimit(self.view, settings.per_owner, self._next)
        self.seconds = self.cost = self.cpu_seconds = 0.0
        self.visits = self.peeks = self.peeks_in_order = 0
        self.writes = self.cow_breaks = self.broken_soon = self.cow_breaks_nonzero = 0
        self.outcomes = np.zeros(max(Outcome) + 1, np.int64)
        self.all, self.nonzero = _Line(), _Line()
        self.metadata = 0
        self.samples: list[Sample] = []
        self._room, self._counts_peeks, self._next_sample = 0.0, False, 0.0
        self._part = PART
        self._merged = np.full(self.pages, -np.inf, np.float32) if settings.pace else None

    # ---- the loop ----

    def go(self) -> Course:
        """Run to the end, or until ``control`` stops it. Raises MediaError; PolicyError for a policy that keeps no
        rule, and what the policy itself raises."""
        stopped = False
        pace = self.settings.pace() if self.settings.pace else None
        self._counts_peeks = pace is not None and pace.counts_peeks
        still = min(max(64, self.pages // 1024), MOST_AT_ONCE)
        spent = 0.0
        while self.pages and not (stopped := self.control.stopped) and not self._is_over():
            self._sample_now_and_then()
            before = self.cpu_seconds
            if pace is None:
                wanted = still
            else:
                wanted, passed = pace.step(spent)
                until = self.seconds + passed
                if self.duration is not None and until >= self.duration:
                    # The part of a step that is left.
                    wanted = int(wanted * (self.duration - self.seconds) / passed + 1e-6) if passed else wanted
                    until = self.duration
                self._let_pass(until)
            self._look_at(wanted)
            spent = self.cpu_seconds - before
        self._sample()
        return self._course(stopped)

    def _span(self) -> float:
        """How far ``_progress`` goes: seconds, or visits."""
        if self.settings.pace and self.duration is not None:
            return self.duration
        return self.settings.visits or 2 * self.pages

    def _progress(self) -> float:
        return self.seconds if self.settings.pace and self.duration is not None else self.visits

    @property
    def share_done(self) -> float:
        """How far it has come, 0 to 1: of the time, or else of what is to be found, or of the visits."""
        if not self.pages:
            return 1.0
        if self.settings.pace and self.duration is not None:
            return self.seconds / self.duration if self.duration else 1.0
        memory, nonzero = self.memory, self.settings.objective == "nonzero"
        saved, possible = memory.saved, memory.possible.all
        if nonzero:
            saved, possible = memory.saved_nonzero, memory.possible.nonzero
        most = MOST_PASSES * self.pages if self.settings.visits is None else max(1, self.settings.visits)
        return min(1.0, max(saved / possible if possible else 0.0, self.visits / most))

    def _is_over(self) -> bool:
        settings = self.settings
        if settings.visits is not None and self.visits >= settings.visits:
            return True
        if settings.pace and self.duration is not None:
            return self.seconds >= self.duration
        return self._is_found() or (settings.visits is None and self.visits >= MOST_PASSES * self.pages)

    def _is_found(self) -> bool:
        """Whether all is saved that could be, of what the policy is to find."""
        settings, memory = self.settings, self.memory
        found = memory.saved >= memory.possible.all
        if settings.objective == "nonzero":
            found = memory.saved_nonzero >= memory.possible.nonzero
            found = found and (self.all.complete() or not memory.possible.all)
        return settings.stop_when_found and found

    def _let_pass(self, until: float) -> None:
        """Go on to that time, or not as far if ``control`` stops it."""
        while True:
            writes = self._let_part_pass(until if until - self.seconds <= self._part else self.seconds + self._part)
            self._part = min(2 * self._part, LONGEST_PART) if writes <= FEW_WRITES else PART
            if self.seconds >= until or self.control.stopped:
                return

    def _let_part_pass(self, until: float) -> int:
        """How many writes there were."""
        memory, seconds = self.memory, until - self.seconds
        for line, saved, possible in self._lines():
            line.over_time += saved * seconds
            line.possible_over_time += possible * seconds
        self.seconds = until
        self.view.now = self.seconds
        written = memory.advance(self.seconds)
        self.writes += written.writes
        if not written.writes:
            return 0
        self.view.tell_written(written.pages)
        broken = written.pages[written.broken]
        self.cow_breaks += len(broken)
        self.cow_breaks_nonzero += int(np.count_nonzero(written.broken & written.nonzero))
        self.cpu_seconds += len(broken) * self.costs.fault * 1e-9
        if self._merged is not None:
            self.broken_soon += int(np.count_nonzero(self.seconds - self._merged[broken] <= SOON))
        return written.writes

    def _peek(self, pages: NDArray[np.uint32], line: int) -> NDArray[np.uint32]:
        """For the policy, which may go through much memory to choose one batch: a stop ends that, too."""
        self.control.check()
        return self.memory.peek(pages, line)

    def _look_at(self, wanted: int) -> None:
        """Visit so many pages."""
        if self.settings.visits is not None:
            wanted = min(wanted, self.settings.visits - self.visits)
        self._room += wanted
        most = min(max(BATCH, self.pages // 64), MOST_AT_ONCE)
        while self._room >= 1 and not self.control.stopped:
            begun = time.thread_time()
            count = min(int(self._room), most)
            try:
                pages = self.limit.next(count, self.seconds) if self.limit else self._next(count)
            except Stopped:
                return
            self.policy_seconds += time.thread_time() - begun
            price = self._charge_peeks()
            if not len(pages):  # all must wait
                self._room = min(0.0, self._room - (price if self._counts_peeks else 0.0))
                return
            result = self.memory.table.scan(pages)
            self._count(pages, result)
            self.control.advance(len(pages))
            begun = time.thread_time()
            self.policy.feedback(pages, result.outcomes, result.partners)
            self.policy_seconds += time.thread_time() - begun
            self._room -= len(pages)
            if self._counts_peeks:
                self._room -= price
            if self._room >= 1:
                if self.duration is None and self._is_over():
                    return
                self._sample_now_and_then()

    def _next(self, count: int) -> NDArray[np.uint32]:
        """What the policy gives, held to the rules: a batch that is empty would be asked for again for ever, one that
        is too long would break the pace."""
        given = self.policy.next(count)
        wrong = ""
        try:
            pages: NDArray[Any] = np.asarray(given)
        except ValueError:  # lists of different lengths, for example
            pages = np.empty((0, 0))
        if pages.ndim != 1:
            wrong = f"{type(given).__name__} of {pages.ndim} dimensions" if pages.ndim else repr(given)
        elif not 1 <= pages.size <= count:
            wrong = f"{pages.size} pages"
        elif pages.dtype.kind not in "iu":
            wrong = f"pages of type {pages.dtype}"
        elif not 0 <= (first := int(pages.min())) <= (last := int(pages.max())) < self.pages:
            wrong = f"page {first if first < 0 else last}, and pages are 0 to {self.pages - 1}"
        if wrong:
            raise PolicyError(
                f"policy {self.settings.name}: next({count}) gave {wrong}; it must give page numbers, a uint32 array of"
                f" shape (n,), 1 <= n <= {count}"
            )
        return pages.astype(np.uint32, copy=False)

    # ---- the accounts ----

    def _lines(self) -> tuple[tuple[_Line, int, int], tuple[_Line, int, int]]:
        memory = self.memory
        return (
            (self.all, memory.saved, memory.possible.all),
            (self.nonzero, memory.saved_nonzero, memory.possible.nonzero),
        )

    def _charge_peeks(self) -> float:
        peeks, in_order = self.view.peeks - self.peeks, self.view.peeks_in_order - self.peeks_in_order
        self.peeks, self.peeks_in_order = self.view.peeks, self.view.peeks_in_order
        price = peeks * self.settings.peek_price
        if peeks:
            self._add_area(price)
            self.cost += price
            self.cpu_seconds += self.costs.of_peeks(peeks, in_order) * 1e-9
        return price

    def _add_area(self, price: float) -> None:
        within = max(0.0, min(price, self.pages - self.cost))
        for line, saved, possible in self._lines():
            line.area += within * saved / possible if possible else 0

    def _count(self, pages: NDArray[np.uint32], result: Scanned) -> None:
        memory, outcomes = self.memory, result.outcomes
        joined_zero = (outcomes == Outcome.ZERO) & (result.partners != NO_PAGE)
        found = (outcomes == Outcome.SHARED_NEW) | (outcomes == Outcome.SHARED) | joined_zero
        found_nonzero = found & (memory.ids[pages] >= memory.contents.zeros)
        cpu = np.cumsum(self.costs.of_visits(pages, outcomes)) * 1e-9
        within = int(max(0, min(len(pages), self.pages - self.cost)))
        for line, saved, possible, gains in (
            (self.all, memory.saved, memory.possible.all, found),
            (self.nonzero, memory.saved_nonzero, memory.possible.nonzero, found_nonzero),
        ):
            course = saved + np.cumsum(gains)
            if possible:
                line.area += float(course[:within].sum()) / possible
            for share in SHARES:
                if line.reached[share] is None and possible and course[-1] >= share * possible:
                    at = int(np.searchsorted(course, share * possible))
                    line.reached[share] = Reached(
                        self.visits + at + 1, self.cost + at + 1, self.cpu_seconds + float(cpu[at]), self.seconds
                    )
        memory.saved += int(np.count_nonzero(found))
        memory.saved_nonzero += int(np.count_nonzero(found_nonzero))
        self.visits += len(pages)
        self.cost += len(pages)
        self.cpu_seconds += float(cpu[-1])
        self.outcomes += np.bincount(outcomes, minlength=len(self.outcomes))
        if self._merged is not None:
            self._merged[pages[found | (outcomes == Outcome.ZERO)]] = self.seconds
            self._merged[result.partners[outcomes == Outcome.SHARED_NEW]] = self.seconds

    def _sample_now_and_then(self) -> None:
        if self._progress() >= self._next_sample:
            self._sample()
            self._next_sample = self._progress() + self._span() / SAMPLES

    def _sample(self) -> None:
        self.metadata = max(self.metadata, metadata_bytes(self.policy))
        memory = self.memory
        self.samples.append(
            Sample(
                self.seconds,
                self.visits,
                self.peeks,
                self.cost,
                self.cpu_seconds,
                memory.saved,
                memory.saved_nonzero,
                memory.possible.all,
                memory.possible.nonzero,
                self.cow_breaks,
            )
        )

    def _course(self, interrupted: bool) -> Course:
        pages, seconds = max(1, self.pages), self.seconds or 1.0
        for line, saved, possible in self._lines():  # what a run that ended early would have gone on to save
            line.area += max(0.0, self.pages - self.cost) * saved / possible if possible else 0
        return Course(
            policy=self.settings.name,
            seed=self.settings.seed,
            objective=self.settings.objective,
            pages=self.pages,
            page_size=self.page_size,
            owners=self.owners,
            samples=tuple(self.samples),
            reached=self.all.reached,
            reached_nonzero=self.nonzero.reached,
            area=self.all.area / pages,
            area_nonzero=self.nonzero.area / pages,
            mean_saved=self.all.over_time / seconds,
            mean_saved_nonzero=self.nonzero.over_time / seconds,
            mean_possible=self.all.possible_over_time / seconds,
            mean_possible_nonzero=self.nonzero.possible_over_time / seconds,
            outcomes={each.name: int(self.outcomes[each]) for each in Outcome},
            writes=self.writes,
            cow_breaks=self.cow_breaks,
            broken_soon=self.broken_soon,
            cow_breaks_nonzero=self.cow_breaks_nonzero,
            metadata_bits=8 * self.metadata / pages,
            policy_seconds=self.policy_seconds,
            interrupted=interrupted,
        )


class _OwnerLimit:
    """Holds back pages of owners that were looked at often enough: they come first when it is their turn.

    The policy is asked for more as long as all that is at hand must wait, until a quarter of all pages does; an order
    that goes owner by owner then waits for the one that it is at.
    """

    def __init__(self, view: policies.View, rate: float, ask: Callable[[int], NDArray[np.uint32]]) -> None:
        """``ask`` gives a policy's next pages."""
        self._view, self._rate, self._ask = view, rate, ask
        self._given = np.zeros(view.owners, np.int64)
        self._waiting = np.empty(0, np.uint32)
        self._most = max(64, view.pages // 4)

    def next(self, count: int, now: float) -> NDArray[np.uint32]:
        """Up to ``count`` pages, none if all that are at hand must wait."""
        # An owner that had no page to look at makes up for a second of it, not for more.
        due = int(self._rate * now)
        self._given = np.maximum(self._given, due - max(1, int(self._rate)))
        left = due - self._given
        if not left.any():
            return np.empty(0, np.uint32)
        going = self._going(self._waiting, left)
        while np.count_nonzero(going) < count and len(self._waiting) < self._most:
            more = self._ask(min(count, self._most - len(self._waiting)))
            self._waiting = np.concatenate([self._waiting, more])
            going = self._going(self._waiting, left)
            if np.array_equal(np.bincount(self._view.owner[self._waiting[going]], minlength=len(left)), left):
                break
        chosen = np.flatnonzero(going)[:count]
        pages = self._waiting[chosen]
        self._waiting = np.delete(self._waiting, chosen)
        self._given += np.bincount(self._view.owner[pages], minlength=self._view.owners)
        return pages

    def _going(self, pages: NDArray[np.uint32], left: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The first ones of each owner, as many as it has ``left``."""
        owners = self._view.owner[pages]
        order = np.argsort(owners, kind="stable")
        starts = np.searchsorted(owners[order], np.arange(self._view.owners))
        rank = np.empty(len(pages), np.int64)
        rank[order] = np.arange(len(pages)) - starts[owners[order]]
        going: NDArray[np.bool_] = rank < left[owners]
        return going


def metadata_bytes(policy: object) -> int:
    """Bytes of the numpy arrays that a policy keeps, in its attributes, and in lists, dicts and objects there; those
    of the view, which the table has anyway, left out."""
    seen: set[int] = set()

    def size(thing: Any, depth: int) -> int:
        if id(thing) in seen or isinstance(thing, policies.View) or depth > 6:
            return 0
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            base = thing.base
            if isinstance(base, np.ndarray):
                return size(base, depth + 1)
            return thing.nbytes
        if isinstance(thing, Mapping):
            return sum(size(each, depth + 1) for each in thing.values())
        if isinstance(thing, (list, tuple)) or type(thing).__name__ == "deque":
            return sum(size(each, depth + 1) for each in thing)
        attributes = getattr(thing, "__dict__", None)
        return size(attributes, depth + 1) if attributes else 0

    return size(policy, 0)


def replay(history: History, settings: Settings, costs: Costs, control: Control | None = None) -> Course:
    """Run a policy over a history. Raises ValueError for a policy that is not there, OSError, MediaError."""
    return Run(history, settings, costs, control).go()
