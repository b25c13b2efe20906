"""A scenario as it runs in virtual time, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.lab import invariants
from pageshare.lab.assembly import assemble
from pageshare.lab.memory import SECOND
from pageshare.lab.thresholds import State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.core import Control
    from pageshare.lab.guest import Guest
    from pageshare.lab.scenario import Scenario


@dataclass(frozen=True)
class HostSamples:
    """The host at each sample: arrays of shape (samples,). Pages, but for ``state`` (a State each) and ``queue``,
    seconds that the disk has to do. ``swapped_in``, ``swapped_out``, ``changes`` of the state and ``scanned`` pages are
    counted from the beginning. ``shared``: pages of guests that are shared; ``saved``: frames that this sets free."""

    free: NDArray[np.int64]
    state: NDArray[np.int64]
    shared: NDArray[np.int64]
    saved: NDArray[np.int64]
    swapped_out: NDArray[np.int64]
    swapped_in: NDArray[np.int64]
    changes: NDArray[np.int64]
    scanned: NDArray[np.int64]
    queue: NDArray[np.float64]
    tax: NDArray[np.float64]


@dataclass(frozen=True)
class GuestSamples:
    """A guest at each sample: arrays of shape (samples,).

    Pages: ``allocated`` of the machine's, its part of shared ones included; ``target``; ``ballooned``, held by its
    driver; ``swapped`` by the host; ``shared``; ``free``, on its own free list; ``active``, the truth: touched by its
    own work within 30 s of its time; ``estimate`` of that (nan without an estimator). Counted from the beginning: pages
    ``paged_out``, ``paged_in``, ``dropped`` and ``read`` by itself, and ``out_of_memory``; ``messages`` of its balloon;
    ``ran``, seconds of its own time that have passed; ``stalled`` and ``blocked``, seconds that it has waited;
    ``visits`` and ``faults`` of its estimator, and seconds that its looks took (``looked``), a part of ``stalled``.
    """

    allocated: NDArray[np.float64]
    target: NDArray[np.int64]
    ballooned: NDArray[np.int64]
    swapped: NDArray[np.int64]
    shared: NDArray[np.int64]
    free: NDArray[np.int64]
    active: NDArray[np.float64]
    estimate: NDArray[np.float64]
    paged_out: NDArray[np.int64]
    paged_in: NDArray[np.int64]
    dropped: NDArray[np.int64]
    read: NDArray[np.int64]
    out_of_memory: NDArray[np.int64]
    messages: NDArray[np.int64]
    ran: NDArray[np.float64]
    stalled: NDArray[np.float64]
    blocked: NDArray[np.float64]
    visits: NDArray[np.int64]
    faults: NDArray[np.int64]
    looked: NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """What a run recorded. ``times``: seconds, shape (samples,); ``guests`` in the scenario's order.

    ``counts`` are the host's, in pages; ``states``: seconds spent in each state; ``events`` that happened in all;
    ``resets``: how often the host told each guest's driver to begin anew (RESET); ``checks`` that all invariants hold.
    ``interrupted``: it was stopped before its end.
    """

    scenario: Scenario
    seed: int
    times: NDArray[np.float64]
    host: HostSamples
    guests: tuple[GuestSamples, ...]
    counts: Mapping[str, int]
    states: Mapping[str, float]
    sharing: Mapping[str, float] | None
    resets: tuple[int, ...]
    checks: int
    events: int
    interrupted: bool


class Run:
    """A scenario with one seed. ``control`` stops it; ``check`` looks at each sample whether all invariants hold, not
    only at the end."""

    def __init__(
        self, scenario: Scenario, seed: int = 1, control: Control | None = None, *, check: bool = False
    ) -> None:
        self.scenario, self.seed, self.control, self.check = scenario, seed, control, check
        self.machine = assemble(scenario, seed)
        self._times: list[float] = []
        self._host: list[tuple[float, ...]] = []
        self._guests: list[list[tuple[float, ...]]] = [[] for _ in self.machine.guests]

    @property
    def share_done(self) -> float:
        """Of the virtual time, 0 to 1."""
        return self.machine.clock.now / self.scenario.duration

    def go(self) -> Course:
        """Let all of it happen. Raises SpecError for what goes wrong in a user's class, MemoryError if the host has no
        page left that it could take."""
        clock, scenario = self.machine.clock, self.scenario
        self._sample()
        stopped, checks = False, 0
        while clock.now < scenario.duration and not stopped:
            clock.run(min(scenario.duration, clock.now + scenario.every))
            self._sample()
            stopped = self.control is not None and self.control.stopped
            if self.check or stopped or clock.now >= scenario.duration:
                invariants.check(self.machine)
                checks += 1
        return self._course(checks, interrupted=stopped and clock.now < scenario.duration)

    def _sample(self) -> None:
        host = self.machine
        self._times.append(host.clock.now / SECOND)
        guests = host.guests
        mapped = sum(guest.pmap.resident + guest.pmap.shared for guest in guests)
        self._host.append(
            (
                host.frames.free,
                int(host.state),
                sum(guest.pmap.shared for guest in guests),
                mapped - (host.frames.count - host.frames.free),
                host.counts.swapped_out,
                host.counts.swapped_in,
                host.thresholds.changes,
                host.sharing.counts.scanned if host.sharing else 0,
                max(0.0, host.disk.busy_until - host.clock.now) / SECOND,
                host.tax,
            )
        )
        for number, guest in enumerate(guests):
            self._guests[number].append(_of_guest(guest, host.targets[number]))

    def _course(self, checks: int, *, interrupted: bool) -> Course:
        host = self.machine
        return Course(
            scenario=self.scenario,
            seed=self.seed,
            times=np.array(self._times),
            host=_columns(HostSamples, self._host),
            guests=tuple(_columns(GuestSamples, rows) for rows in self._guests),
            counts=asdict(host.counts),
            states={State(state).name.lower(): time / SECOND for state, time in host.in_state.items()},
            sharing=asdict(host.sharing.counts) if host.sharing else None,
            resets=tuple(guest.driver.resets if guest.driver else 0 for guest in host.guests),
            checks=checks,
            events=host.clock.happened,
            interrupted=interrupted,
        )


def _of_guest(guest: Guest, target: int) -> tuple[float, ...]:
    driver, estimator, counts = guest.driver, guest.estimator, guest.counts
    costs = guest.view.costs if guest.view else None
    return (
        guest.allocated(),
        target,
        driver.held if driver else 0,
        guest.pmap.swapped,
        guest.pmap.shared,
        guest.free,
        guest.memory.active() * guest.pages,
        estimator.active * guest.pages if estimator else float("nan"),
        counts.paged_out,
        counts.paged_in,
        counts.dropped,
        counts.read,
        counts.out_of_memory,
        driver.messages if driver else 0,
        guest.ran() / SECOND,
        counts.stalled / SECOND,
        guest.blocked_for() / SECOND,
        round(costs.visits) if costs else 0,
        round(costs.faults) if costs else 0,
        counts.looked / SECOND,
    )


def _columns(kind: Any, rows: list[tuple[float, ...]]) -> Any:
    """Rows as a dataclass of arrays, each of the type that its field says."""
    types = [np.float64 if "float64" in str(each.type) else np.int64 for each in fields(kind)]
    return kind(*(np.array(column, of) for column, of in zip(zip(*rows, strict=True), types, strict=True)))


def run(scenario: Scenario, seed: int = 1, *, check: bool = False) -> Course:
    """Run a scenario to its end: what the command does, as a call."""
    return Run(scenario, seed, check=check).go()


__all__ = ["Course", "GuestSamples", "HostSamples", "Run", "run"]
