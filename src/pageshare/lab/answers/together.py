"""Sharing, ballooning and swapping together: what scan rate is worth its CPU at a given pressure?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.answers._seeds import Spread, over_seeds
from pageshare.lab.balloon import Driver, Polls
from pageshare.lab.disk import Disk
from pageshare.lab.estimators.esx import Esx
from pageshare.lab.guest import Guest
from pageshare.lab.host import Host
from pageshare.lab.memory import SECOND
from pageshare.lab.programs import READ, WRITTEN, Touch
from pageshare.lab.sharing import VISIT, Sharing
from pageshare.lab.view import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

MB = 256
GUESTS = 4
MEGABYTES = 128
PER_GIB = 1024 / MEGABYTES
"""Rates of scanning, and costs, are given for a GiB of the host, so that they say something of other sizes: of hosts
with as many guests of this size for each GiB."""
WARM, WARM_UP = 10_000.0, 100
"""Pages a second for each GiB, and for how many seconds from the boot all scan as fast. A slow scan takes an hour to
find what it can keep: it begins where a fast one ends."""
COUNTED = 300
"""Seconds for which things are counted, after twice as many at the rate that is asked about."""
DISKS = {"disk": (5000.0, 100 * MB), "flash": (100.0, 2000 * MB)}


@dataclass(frozen=True)
class Mix:
    """What a guest's pages hold, in shares of its size: zeros; what all guests have alike, a page of each in each; the
    rest is in no other page. ``written``: the share of touches that write, whichever pages they are of; the next touch
    of such a page puts back what was there, so that as much is equal after an hour as at first."""

    name: str
    zero: float
    common: float
    written: float

    def saves(self) -> float:
        """The share of all guests' memory that sharing would save, if nothing were ever written."""
        return self.zero + self.common * (GUESTS - 1) / GUESTS


MIXES = (
    Mix("a tenth", zero=0.04, common=0.08, written=0.02),
    Mix("a third", zero=0.10, common=0.30, written=0.02),
)
"""How much sharing can save: about what production workloads C and A of the paper's figure 5 have."""


@dataclass(frozen=True)
class Case:
    """``pressure``: guests' memory that is in use, as a multiple of what the host has above its reserve; ``rate``:
    pages scanned a second for each GiB of the host; ``policy``: in which order."""

    mix: Mix
    pressure: float
    rate: float
    policy: str = "random-with-replacement"
    disk: str = "flash"
    seconds: int = COUNTED


class Mixed:
    """Fills all its pages with a mix of contents within 20 s, then touches them: the hot fifth 0.5 times a second each,
    the rest once in 200 s, some of it written."""

    def __init__(self, rng: np.random.Generator, pages: int, mix: Mix, seed: int) -> None:
        self.rng, self.pages, self.mix = rng, pages, mix
        kind = rng.permutation(pages)
        first = int(rng.integers(1, 1 << 40)) << 20
        self.contents: NDArray[np.uint64] = np.arange(first, first + pages, dtype=np.uint64)
        zero, common = round(mix.zero * pages), round(mix.common * pages)
        self.contents[kind[:zero]] = 0
        # The same for all guests of a seed, each with it in other places.
        alike = (0xFE << 56) + (seed << 32)
        self.contents[kind[zero : zero + common]] = np.arange(alike, alike + common, dtype=np.uint64)
        self.hot = pages // 5
        self.filled = 0
        self.away = np.zeros(pages, np.bool_)
        """Which hold something else than they did at first."""
        self.fresh = int(rng.integers(1, 1 << 40)) << 20

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """Filling goes on with touching."""
        seconds = (end - begin) / SECOND
        if self.filled < self.pages:
            last = min(self.pages, self.filled + round(self.pages * seconds / 20))
            pages = np.arange(self.filled, last, dtype=np.uint32)
            yield Touch(pages, WRITTEN, contents=self.contents[self.filled : last])
            self.filled = last
            return
        hot = self.rng.integers(0, self.hot, self.rng.poisson(self.hot * 0.5 * seconds))
        cold = self.rng.integers(self.hot, self.pages, self.rng.poisson((self.pages - self.hot) / 200 * seconds))
        pages = np.unique(np.concatenate([hot, cold])).astype(np.uint32)
        back = self.away[pages]
        written = self.rng.random(len(pages)) < self.mix.written
        self.away[pages] = written & ~back
        new = np.arange(self.fresh, self.fresh + len(pages), dtype=np.uint64)
        self.fresh += len(pages)
        contents = np.where(back, self.contents[pages], new)
        yield Touch(pages, np.where(written | back, WRITTEN, READ).astype(np.uint8), contents=contents)


def run(case: Case, seed: int) -> dict[str, float]:
    """What happens in ``case.seconds``: ``waits``, the share of time that a guest waits for memory,
    and of a CPU for each GiB of the host ``lost``, what its guests lose by that, ``cpu``, what scanning takes, and
    ``cost``, both together; ``saved`` MB at the end; ``swapped`` and ``paged`` MB a minute; ``broken`` merges a
    second."""
    host = Host(MEGABYTES * MB, seed=seed)
    host.disk.latency, host.disk.bandwidth = DISKS[case.disk]
    size = round(MEGABYTES * MB * (1 - host.thresholds.leaves(host.thresholds.state.SOFT)) * case.pressure / GUESTS)
    guests = []
    for number in range(GUESTS):
        rng = np.random.default_rng([seed, 5, number])
        guest = Guest(
            host,
            size,
            [Mixed(rng, round(size * 0.95), case.mix, seed)],
            least=size // 2,
            step=SECOND // 2,
            start=round(rng.uniform(0, 5) * SECOND),
            disk=Disk(host.clock, *DISKS[case.disk]),
        )
        Driver(guest, Polls(phase=round(rng.uniform() * SECOND)))
        view = View(guest.memory)
        guest.watch(Esx(view, np.random.default_rng([seed, 6, number])), view)
        guests.append(guest)
    sharing = Sharing(host, rate=WARM / PER_GIB, policy=case.policy) if case.rate else None
    host.clock.run(WARM_UP * SECOND)
    if sharing is not None:
        sharing.rate = case.rate / PER_GIB
    begin = WARM_UP + 2 * case.seconds
    host.clock.run(begin * SECOND)

    def totals() -> NDArray[np.float64]:
        counts = sharing.counts if sharing is not None else None
        return np.array(
            [
                sum(guest.waited() - guest.counts.looked for guest in guests),
                counts.cpu if counts is not None else 0,
                host.counts.swapped_out,
                sum(guest.counts.paged_out for guest in guests),
                counts.broken if counts is not None else 0,
            ],
            np.float64,
        )

    before = totals()
    host.clock.run((begin + case.seconds) * SECOND)
    waits, cpu, swapped, paged, broken = (totals() - before).tolist()
    # Guests wait whole microseconds, looks are taken off at their whole cost.
    waits = max(0.0, waits)
    time = case.seconds * SECOND
    mapped = sum(guest.pmap.resident + guest.pmap.shared for guest in guests)
    return {
        "waits": waits / (GUESTS * time),
        "lost": waits / time * PER_GIB,
        "cpu": cpu / time * PER_GIB,
        "saved": (mapped - (host.frames.count - host.frames.free)) / MB,
        "swapped": swapped / MB / case.seconds * 60,
        "paged": paged / MB / case.seconds * 60,
        "broken": broken / case.seconds,
        "cost": (waits + cpu) / time * PER_GIB,
    }


PRESSURES = (0.9, 1.1, 1.4, 2.0)
RATES = (0.0, 100.0, 1000.0, 10_000.0)
POLICIES = ("random-with-replacement", "random-permutation", "sequential", "zero-first", "peek-runs", "ksm")


@dataclass(frozen=True)
class Row:
    """A case and what came of it."""

    case: Case
    figures: dict[str, Spread]


@dataclass(frozen=True)
class Answer:
    """All runs: ``rates`` of ESX's order at each pressure; ``policies`` at one rate, where it matters most."""

    seeds: int
    visit: float
    rates: list[Row] = field(repr=False)
    policies: list[Row] = field(repr=False)


def answer(seeds: int = 10, *, quick: bool = False, tell: Callable[[float], None] | None = None) -> Answer:
    """Run everything; ``quick``: a few cases, shortly, to see that it works."""
    rates = [
        Case(mix, pressure, rate, disk=disk)
        for disk in DISKS
        for mix in MIXES
        for pressure in PRESSURES
        for rate in RATES
    ]
    policies = [Case(MIXES[1], 1.4, 1000.0, policy, "disk") for policy in POLICIES]
    if quick:
        rates = [case for case in rates if case.disk == "flash" and case.pressure == 1.4 and case.rate in (0, 1000)]
        policies = policies[-2:]
    cases = [replace(case, seconds=40) if quick else case for case in (*rates, *policies)]
    figures = over_seeds(run, cases, seeds, tell=tell, workers=0 if quick else None)
    rows = [Row(case, found) for case, found in zip(cases, figures, strict=True)]
    return Answer(seeds, VISIT, rows[: len(rates)], rows[len(rates) :])
