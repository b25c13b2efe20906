"""A host with its guests, as a scenario has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.lab.balloon import Driver, Polls, Safeguards
from pageshare.lab.clock import Clock
from pageshare.lab.disk import Disk
from pageshare.lab.free_pages import FreePageHinting, FreePageReporting
from pageshare.lab.guest import Guest
from pageshare.lab.host import Host, Times
from pageshare.lab.named import Blamed, Named
from pageshare.lab.programs import RELEASED, Touch
from pageshare.lab.programs.recorded import Recorded
from pageshare.lab.sharing import Sharing
from pageshare.lab.thresholds import Thresholds
from pageshare.lab.view import Costs, View
from pageshare.synth.spec import SpecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.estimators import Estimator
    from pageshare.lab.programs import Program
    from pageshare.lab.scenario import BalloonSpec, Change, DiskSpec, GuestSpec, ProgramSpec, Scenario
    from pageshare.policies import Policy
    from pageshare.policies import View as ScanView

MOST_LOOKS = 1 << 53
"""No run comes to as many."""
HEARD = Callable[[int, int, list["Touch"]], None]
"""Is told what a program touched from, and until, a time of its guest's."""


class Restartable:
    """A program that a guest runs, and begins anew when the guest is reset.

    ``make`` makes it, given which life it is. What goes wrong in it is a SpecError; what a user's own touches is
    checked.
    """

    def __init__(self, make: Callable[[int], Program], spec: ProgramSpec, where: str) -> None:
        self._make, self._life, self._since = make, 0, 0
        self._anew, self._after = False, spec.after
        self.name, self._where = spec.name, where
        self._own = spec.program is not None and spec.program.own
        self.heard: HEARD | None = None
        self.program = make(0)
        with Blamed(where, self.name):
            self.pages = int(self.program.pages)
            self.file_pages = int(getattr(self.program, "file_pages", self.pages))
        if not 0 < self.pages <= 1 << 26 or not 0 <= self.file_pages <= self.pages:
            raise SpecError(f"{where}: {self.name}: has {self.pages} pages, of files from {self.file_pages} on")

    def restart(self) -> None:
        """From the next step on it is another one."""
        self._anew = True

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """What it touches."""
        now = begin
        if self._anew:
            self._anew, self._since, self._life = False, begin, self._life + 1
            self.program = self._make(self._life)
            if self.heard is not None:
                self.heard(now, now, [Touch(np.arange(self.pages, dtype=np.uint32), RELEASED)])
        begin, end = begin - self._since - self._after, end - self._since - self._after
        if end <= 0:
            return
        with Blamed(self._where, self.name):
            touches = list(self.program.run(max(0, begin), end))
            for touch in touches:
                if self._own:
                    self._check(touch)
                if len(touch.pages) and int(touch.pages.max()) >= self.pages:
                    raise ValueError(f"touches page {int(touch.pages.max())}, and has {self.pages}")
        if self.heard is not None:
            self.heard(now, end, touches)
        yield from touches

    def _check(self, touch: Touch) -> None:
        pages = touch.pages
        if not isinstance(pages, np.ndarray) or pages.ndim != 1 or pages.dtype.kind not in "ui":
            raise ValueError("touches no array of page numbers")
        if len(pages) and int(pages.min()) < 0:
            raise ValueError(f"touches page {int(pages.min())}")
        if len(np.unique(pages)) < len(pages):
            raise ValueError("touches a page twice in one Touch")
        for name, most in (("kinds", 15), ("work", 1), ("thread", 0xFFFE), ("contents", (1 << 64) - 1)):
            value = getattr(touch, name)
            if isinstance(value, np.ndarray):
                if value.shape != pages.shape:
                    raise ValueError(f"gives {name} for other than {len(pages)} pages")
            elif name == "contents":
                if value is not None:
                    raise ValueError("gives contents that are no array")
                continue
            value = np.asarray(value)
            if value.dtype.kind not in "uib" or (value.size and not 0 <= int(value.min()) <= int(value.max()) <= most):
                raise ValueError(f"gives {name} that are no numbers from 0 to {most}")


class Watched:
    """An estimator, what goes wrong in which is a SpecError. ``costs`` are its looks."""

    def __init__(self, estimator: Estimator, spec: Named, view: View) -> None:
        self.estimator, self._spec, self.view = estimator, spec, view
        self.active, self._paid = 1.0, Costs()
        with Blamed(spec.where, spec.name):
            for name in ("ask", "misses"):
                has = getattr(estimator, name, None)
                if has is not None and not callable(has):
                    raise ValueError(f"has {name}, which is no method: see docs/lab.md, or call it something else")
        self._take()

    def step(self) -> None:
        """Let it look, and take over what it says."""
        with Blamed(self._spec.where, self._spec.name):
            self.estimator.step()
        self._take()

    def ask(self) -> bool:
        """A message of the guest's has come: whether the estimator, if it can be asked, says anything else now."""
        ask = getattr(self.estimator, "ask", None)
        if ask is None:
            return False
        with Blamed(self._spec.where, self._spec.name):
            changed = bool(ask())
        self._take()
        return changed

    def misses(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The estimator's curve of misses, if it makes one."""
        make = getattr(self.estimator, "misses", None)
        if make is None:
            return None
        with Blamed(self._spec.where, self._spec.name):
            found = make()
            if found is None:
                return None
            sizes, shares = (np.asarray(each, np.float64) for each in found)
            if sizes.ndim != 1 or sizes.shape != shares.shape or not len(sizes):
                raise ValueError("misses() gives no sizes, and a share for each")
            if not (sizes[0] >= 0 and np.isfinite(sizes).all() and (np.diff(sizes) > 0).all()):
                raise ValueError("misses() gives sizes that are less than none, or don't rise")
            if not ((shares >= 0) & (shares <= 1)).all():
                raise ValueError("misses() gives shares that are not from 0 to 1")
        return sizes, shares

    def _take(self) -> None:
        with Blamed(self._spec.where, self._spec.name):
            active = float(self.estimator.active)
            if not 0 <= active <= 1:
                raise ValueError(f"estimates {active}: must be from 0 to 1")
            for name, before in vars(self._paid).items():
                number = getattr(self.view.costs, name)
                if not before <= number < MOST_LOOKS:
                    raise ValueError(f"has {number} {name} after {before}: looks can't be taken back, or be that many")
            self._paid = replace(self.view.costs)
        self.active = active


class Scanned:
    """A scan policy of a user's own, what goes wrong in which is a SpecError."""

    def __init__(self, policy: Policy, spec: Named, view: ScanView) -> None:
        self.policy, self._spec, self._pages = policy, spec, view.pages
        self.table_options = getattr(policy, "table_options", {})

    def next(self, count: int) -> NDArray[np.uint32]:
        """The pages that it wants to visit, ``count`` at most."""
        with Blamed(self._spec.where, self._spec.name):
            pages = self.policy.next(count)
            if not isinstance(pages, np.ndarray) or pages.ndim != 1 or pages.dtype.kind not in "ui":
                raise ValueError("next() gives no array of page numbers")
            if len(pages) > count:
                raise ValueError(f"next() gives {len(pages)} pages, of {count} that it was asked for")
            if len(pages) and not 0 <= int(pages.min()) <= int(pages.max()) < self._pages:
                far = int(pages.max()) if int(pages.min()) >= 0 else int(pages.min())
                raise ValueError(f"next() gives page {far}, of {self._pages}")
            return pages.astype(np.uint32)

    def feedback(self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]) -> None:
        """What came of pages."""
        with Blamed(self._spec.where, self._spec.name):
            self.policy.feedback(pages, outcomes, partners)


def _disk(spec: DiskSpec, clock: Clock) -> Disk:
    return Disk(clock, latency=spec.latency, bandwidth=spec.bandwidth)


def assemble(scenario: Scenario, seed: int) -> Host:
    """The host, with nothing run yet. Raises SpecError for options that a class won't take."""
    spec, clock = scenario.host, Clock()
    host = Host(
        scenario.frames,
        seed=seed,
        clock=clock,
        thresholds=Thresholds(**spec.thresholds),
        disk=_disk(spec.disk, clock),
        tax=spec.tax,
        balance=spec.balance,
        times=Times(spec.fault, spec.zero),
    )
    for number, each in enumerate(scenario.guests):
        _guest(host, each, number, seed)
    if spec.sharing is not None:
        policy = spec.sharing.policy
        made = (lambda view: Scanned(policy.made(view=view), policy, view)) if isinstance(policy, Named) else policy
        Sharing(host, rate=spec.sharing.rate, policy=made, visit=spec.sharing.visit)
    for change in scenario.changes:
        clock.at(change.at, lambda change=change: _apply(host, change))  # type: ignore[misc]
    return host


def _guest(host: Host, spec: GuestSpec, number: int, seed: int) -> None:
    guest = Guest(
        host,
        spec.memory,
        [_program(each, spec, [seed, 2, number, i]) for i, each in enumerate(spec.programs)],
        name=spec.name,
        shares=spec.shares,
        least=spec.least,
        step=spec.step,
        start=spec.start,
        halts=spec.halts,
        disk=host.disk if spec.disk is None else _disk(spec.disk, host.clock),
        deflate_on_oom=spec.deflate_on_oom,
    )
    if spec.estimator is not None:
        view = View(guest.memory)
        rng = np.random.default_rng([seed, 3, number])
        guest.watch(Watched(spec.estimator.made(view=view, rng=rng), spec.estimator, view), view)
    if spec.balloon is not None:
        guest.most_ballooned = round(spec.balloon.most * guest.pages)
        _driver(guest, spec.balloon, spec, np.random.default_rng([seed, 4, number]))
    if spec.reporting is not None:
        FreePageReporting(guest, after=spec.reporting.after, block=spec.reporting.block)
    if spec.hinting is not None:
        FreePageHinting(guest, again=spec.hinting.again, block=spec.hinting.block)


def _driver(guest: Guest, spec: BalloonSpec, of: GuestSpec, rng: np.random.Generator) -> None:
    phase = spec.phase
    if phase == "spread":
        which, alike = of.place
        phase = spec.poll * (which + 1) // alike
    elif phase == "random":
        phase = int(rng.integers(spec.poll)) + 1
    polls = Polls(spec.poll, None if phase is None else int(phase), spec.fastest, spec.doorbell, spec.pleads)
    Driver(
        guest,
        polls,
        latency=spec.latency,
        page_time=spec.page_time,
        rate=spec.rate,
        batch=spec.batch,
        safeguards=Safeguards(**spec.safeguards),
    )


def _program(spec: ProgramSpec, guest: GuestSpec, entropy: list[int]) -> Restartable:
    def make(life: int) -> Any:
        if spec.program is None:
            return Recorded(spec.trace, loop=spec.loop)
        return spec.program.made(rng=np.random.default_rng([*entropy, life]))

    return Restartable(make, spec, spec.program.where if spec.program else guest.where)


def _apply(host: Host, change: Change) -> None:
    """A change takes place: targets follow at once, as after any change of parameters (section 6.3)."""
    if change.tax is not None:
        host.tax = change.tax
    for number in change.guests:
        guest = host.guests[number]
        guest.shares = guest.shares if change.shares is None else change.shares
        guest.least = guest.least if change.least is None else change.least
        if change.restart:
            guest.restart(change.boots)
            for program in guest.programs:
                if isinstance(program, Restartable):
                    program.restart()
    host.balance()
