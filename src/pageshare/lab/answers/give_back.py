"""How do ballooned pages come back? The protocol message by message, what holds at every step, and what goes wrong
without each of its safeguards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.lab.answers._seeds import Spread, over_seeds
from pageshare.lab.balloon import Driver, Polls, Safeguards
from pageshare.lab.frames import Frames, Place
from pageshare.lab.guest import DRIVER, Guest
from pageshare.lab.host import Host
from pageshare.lab.invariants import broken
from pageshare.lab.memory import SECOND
from pageshare.lab.programs import READ, RELEASED, WRITTEN, ZERO, Touch

if TYPE_CHECKING:
    from numpy.typing import NDArray

MS = 1000
SIZE = 160
"""Pages of each guest: few, so that everything happens to every page."""
SCENES, FEW = 10, 2
"""Random runs for each seed, and where all is to be quick."""
SECONDS = 4
PARTS = ("program", "guest's kernel", "driver", "host")


@dataclass(frozen=True)
class Variant:
    """A protocol: its safeguards, whether a frame is zeroed before it is handed out, and how many microseconds after
    LOCK the host frees the frames (0: at once)."""

    name: str
    safeguards: Safeguards = field(default_factory=Safeguards)
    zeroed: bool = True
    late: int = 0


LATE = 14 * MS
VARIANTS = (
    Variant("all safeguards"),
    Variant("a page is used before UNLOCK is answered", Safeguards(tell_first=False)),
    Variant("no RESET after a pop", Safeguards(reset=False)),
    Variant("messages of before a reset are served", Safeguards(ignore_stale=False)),
    Variant("frames are not zeroed", zeroed=False),
    Variant("all safeguards; the host frees late", late=LATE),
    Variant("a page is used before UNLOCK is answered; the host frees late", Safeguards(tell_first=False), late=LATE),
)
"""The protocol, and without one safeguard each."""
BREAKS = {
    "lost": ("a page holds what its program wrote last",),
    "unzeroed": (),
    "owned": (
        "a page is on the free list once",
        "what is on the free list has no holder",
        "what has no holder is on the free list",
        "a program's page is where the guest says",
        "what programs hold is theirs",
        "what the balloon has, nobody else has",
        "no page of the balloon is lost",
        "the balloon has a page once",
        "just the frames that nobody uses are free",
        "a frame has the users that it counts",
        "a page that is not shared has a frame of its own",
        "a page that is mapped has a frame, no other has",
    ),
    "annotated": (
        "the host knows what the balloon has",
        "the host knows what the balloon has not",
        "no program has what the host thinks ballooned",
    ),
}
"""Kinds of what goes wrong, by the sentences of ``invariants`` that do not hold any more."""


class _Unzeroed(Frames):
    """Frames that are handed out as they are."""

    def take(self, count: int) -> NDArray[np.int32]:
        """What they held before, they hold still."""
        held = self.content.copy()
        taken = super().take(count)
        self.content[taken] = held[taken]
        return taken


class Moody(Host):
    """A host that wants another number of pages of each guest every 80 ms, whatever its memory."""

    def __init__(self, variant: Variant, seed: int) -> None:
        super().__init__(3 * SIZE, seed=seed)
        if not variant.zeroed:
            self.frames = _Unzeroed(3 * SIZE)
        self.late = variant.late
        self.wanted = [0, 0]
        self.clock.every(80 * MS, self._want)

    def _want(self) -> None:
        self.wanted = self.rng.integers(0, SIZE // 2, 2).tolist()

    def balloon_target(self, number: int) -> int:
        """What it wants now."""
        return self.wanted[number]

    def lock(self, guest: Guest, pages: NDArray[np.uint32]) -> None:
        """Frames go at once, or some time after LOCK was answered, if the pages still are annotated then: as in a host
        that unmaps in batches, or in a thread of its own."""
        if not self.late:
            super().lock(guest, pages)
            return
        guest.pmap.ballooned[pages] = True
        self.clock.after(self.late, lambda: self.leave(guest, pages[guest.pmap.ballooned[pages]]))


class _Erratic:
    """Writes, reads and frees pages here and there."""

    pages = SIZE

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """One touch of some pages a step."""
        del begin, end
        pages = self.rng.choice(SIZE, int(self.rng.integers(1, 40)), replace=False).astype(np.uint32)
        kinds = self.rng.choice([READ, WRITTEN, WRITTEN | ZERO, RELEASED], len(pages), p=[0.3, 0.4, 0.05, 0.25])
        yield Touch(pages, kinds.astype(np.uint8))


def scene(variant: Variant, seed: int) -> dict[str, float]:
    """One random run: ``events``, ``pops``, ``resets``; for each kind of BREAKS 1 if it was seen after any event."""
    rng = np.random.default_rng([seed, 8])
    host = Moody(variant, seed)
    for number in range(2):
        program = _Erratic(np.random.default_rng([seed, 9, number]))
        guest = Guest(host, SIZE, [program], least=0, step=10 * MS, start=number * 3 * MS)
        polls = Polls(int(rng.choice([20, 50, 100])) * MS)
        Driver(guest, polls, latency=int(rng.integers(1, 12)) * MS, batch=16, safeguards=variant.safeguards)
        for _ in range(5):
            host.clock.at(int(rng.integers(SECOND // 2, SECONDS * SECOND)), guest.restart)
    seen = dict.fromkeys(BREAKS, 0.0)

    def stray() -> None:
        """The guest's kernel reads pages that nobody uses, the balloon's among them."""
        guest = host.guests[int(rng.integers(2))]
        pages = rng.choice(SIZE, 4, replace=False).astype(np.uint32)
        absent = guest.pmap.place[pages] == Place.ABSENT
        host.touch(guest, pages)
        if host.frames.content[guest.pmap.frame[pages[absent]]].any():
            seen["unzeroed"] = 1.0

    host.clock.every(170 * MS, stray)

    def look() -> None:
        for sentence in broken(host):
            for kind, sentences in BREAKS.items():
                if sentence.partition(": ")[2] in sentences or sentence in sentences:
                    seen[kind] = 1.0

    host.clock.run(SECONDS * SECOND, after_each=look)
    resets = sum(guest.driver.resets for guest in host.guests if guest.driver is not None)
    return {"events": float(host.clock.happened), "pops": float(host.counts.pops), "resets": float(resets), **seen}


def run(variant: Variant, seed: int, scenes: int = SCENES) -> dict[str, float]:
    """Means over so many random runs: of events, pops and resets; of the others the share of runs that have them."""
    found = [scene(variant, SCENES * seed + i) for i in range(scenes)]
    return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


@dataclass(frozen=True)
class Step:
    """A message or an act: ``time`` in microseconds, from and to which of PARTS, and what it says."""

    time: int
    sender: str
    receiver: str
    what: str


def sequence() -> tuple[Step, ...]:
    """What is said and done as a balloon takes 8 pages, gives them back, takes them again, and is popped by a guest
    that was reset: of a run, by the order in which it happened."""
    steps: list[Step] = []

    class Noting(Host):
        wanted = 0

        def balloon_target(self, _number: int) -> int:
            return self.wanted

        def lock(self, guest: Guest, pages: NDArray[np.uint32]) -> None:
            free = self.frames.free
            super().lock(guest, pages)
            steps.append(Step(self.clock.now, "driver", "host", f"LOCK {len(pages)} pages"))
            freed = self.frames.free - free
            steps.append(Step(self.clock.now, "host", "host", f"annotates them, frees {freed} frames"))

        def unlock(self, guest: Guest, pages: NDArray[np.uint32]) -> None:
            free = self.frames.free
            super().unlock(guest, pages)
            steps.append(Step(self.clock.now, "driver", "host", f"UNLOCK {len(pages)} pages"))
            taken = free - self.frames.free
            steps.append(Step(self.clock.now, "host", "host", f"annotations go; {taken} frames needed"))

        def reset(self, guest: Guest) -> None:
            super().reset(guest)
            steps.append(Step(self.clock.now, "driver", "host", "START"))
            steps.append(Step(self.clock.now, "host", "host", "forgets all annotations"))

        def touch(self, guest: Guest, pages: NDArray[np.uint32], *others: Any, **options: Any) -> float:
            before, pops = self.counts.first_touches, self.counts.pops
            stall = super().touch(guest, pages, *others, **options)
            if (given := self.counts.first_touches - before) and steps:
                popped = self.counts.pops - pops
                what = f"touches {given} pages: zeroed frames" + (f"; {popped} pops" if popped else "")
                steps.append(Step(self.clock.now, "program", "host", what))
            return stall

    class Noted(Driver):
        def _told(self, target: int) -> None:
            steps.append(Step(self.clock.now, "host", "driver", f"target: {target} pages"))
            super()._told(target)

        def _begin_anew(self) -> None:
            steps.append(Step(self.clock.now, "host", "driver", "RESET"))
            super()._begin_anew()

    class Noticed(Guest):
        def allocate(
            self, count: int, holder: int | None = None, but: Any = None, after: float = 0.0
        ) -> tuple[NDArray[np.uint32], float]:
            own, waited = super().allocate(count, holder, but, after)
            if holder is not None:
                steps.append(Step(self.host.clock.now, "guest's kernel", "driver", f"gives {len(own)} free pages"))
            return own, waited

        def give_back(self, own: NDArray[np.uint32]) -> None:
            whose = "driver" if (self.holder[own] == DRIVER).all() else "program"
            super().give_back(own)
            if steps:
                steps.append(Step(self.host.clock.now, whose, "guest's kernel", f"frees {len(own)} pages"))

    class Still:
        pages = 16

        def run(self, begin: int, end: int) -> Iterator[Touch]:
            del begin, end
            yield from ()

    host = Noting(64)
    guest = Noticed(host, 16, [Still()], least=0)
    every = np.arange(16, dtype=np.uint32)
    guest.touch(Touch(every, WRITTEN))
    guest.touch(Touch(every[:8], RELEASED))
    driver = Noted(guest, Polls(1 << 40), latency=MS, page_time=0)

    def want(pages: int) -> None:
        host.wanted = pages
        steps.append(Step(host.clock.now, "driver", "host", "target?"))
        driver.wake()
        host.clock.run(host.clock.now + 20 * MS)

    want(8)
    want(0)
    guest.touch(Touch(every[:8], WRITTEN))
    guest.touch(Touch(every[:8], RELEASED))
    want(8)
    steps.append(Step(host.clock.now, "program", "guest's kernel", "guest is reset"))
    guest.restart(boots=10 * MS)
    guest.touch(Touch(every, WRITTEN))
    host.clock.run(host.clock.now + 40 * MS)
    return tuple(steps)


@dataclass(frozen=True)
class Need:
    """A guest that needs pages which its balloon has: how its driver is told, and on which disk it pages."""

    name: str
    polls: Polls
    deflate_on_oom: bool = False


NEEDS = (
    Need("polled each second", Polls()),
    Need("doorbell, rung as the host sees it", Polls(1 << 40, doorbell=True)),
    Need("pleads", Polls(1 << 40, pleads=True)),
)


def waits(need: Need, seed: int) -> dict[str, float]:
    """A guest whose balloon holds half of its memory needs 256 pages more, while the host has plenty: ``milliseconds``
    that it waits for these, and ``paged`` pages that it writes out for them."""
    rng = np.random.default_rng([seed, 10])

    class Generous(Host):
        wanted = 2048

        def balloon_target(self, _number: int) -> int:
            return self.wanted

    class Still:
        pages = 4096

        def run(self, begin: int, end: int) -> Iterator[Touch]:
            del begin, end
            yield from ()

    host = Generous(8192, seed=seed)
    guest = Guest(host, 4096, [Still()], least=0)
    phase = round(rng.uniform() * SECOND)
    Driver(guest, replace(need.polls, phase=0 if need.polls.period > SECOND else phase))
    host.clock.run(3 * SECOND)
    guest.touch(Touch(np.arange(2048, dtype=np.uint32), WRITTEN))
    host.clock.run(host.clock.now + round(rng.uniform() * SECOND))
    host.wanted = 0
    for ring in host.changed:
        ring()
    if need.polls.doorbell:
        host.clock.run(host.clock.now + 5 * MS)
    before = guest.counts.paged_out
    stall = guest.touch(Touch(np.arange(2048, 2304, dtype=np.uint32), WRITTEN))
    return {"milliseconds": stall / MS, "paged": float(guest.counts.paged_out - before)}


@dataclass(frozen=True)
class Row:
    """A variant, or a need, and what came of it."""

    name: str
    figures: dict[str, Spread]


@dataclass(frozen=True)
class Answer:
    """All of it: ``steps`` of the protocol; ``variants`` in random runs; ``needs`` of guests."""

    seeds: int
    scenes: int
    steps: tuple[Step, ...]
    variants: list[Row] = field(repr=False)
    needs: list[Row] = field(repr=False)


def answer(seeds: int = 10, *, quick: bool = False, tell: Callable[[float], None] | None = None) -> Answer:
    """Run everything; ``quick``: a few random runs, in this process."""
    workers, scenes = (0, FEW) if quick else (None, SCENES)
    variants = over_seeds(partial(run, scenes=scenes), VARIANTS, seeds, tell=tell, workers=workers)
    needs = over_seeds(waits, NEEDS, seeds, workers=0)
    return Answer(
        seeds,
        seeds * scenes,
        sequence(),
        [Row(variant.name, found) for variant, found in zip(VARIANTS, variants, strict=True)],
        [Row(need.name, found) for need, found in zip(NEEDS, needs, strict=True)],
    )
