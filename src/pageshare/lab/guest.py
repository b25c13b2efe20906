"""A guest: its programs, its operating system's memory, its own paging, and the balloon in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import InFrames
from pageshare.lab.disk import Disk
from pageshare.lab.frames import RESIDENT, SHARED, ZEROS, Pmap
from pageshare.lab.memory import NEVER, SECOND, Memory
from pageshare.lab.programs import READ, RELEASED, WRITTEN, ZERO, Program, Touch
from pageshare.lab.shares import Client

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.balloon import Driver
    from pageshare.lab.estimators import Estimator
    from pageshare.lab.host import Host
    from pageshare.lab.view import View

FREE, DRIVER = -1, -2
"""Who has a page of the guest, where that is not a program."""
NOWHERE = -1
STEP = SECOND // 10
AT_ONCE = 64
"""Pages that a guest makes room for, and brings in, at a time."""
DRAWN = 16
"""A guest that needs memory looks at so many pages for each that it takes, and takes those that were not used for
longest: about what a clock or two lists come to."""
CACHE_AGES = 2.0
"""A page of the page cache is taken as if it had not been used for so many times as long."""


@dataclass
class GuestCounts:
    """What happened in a guest, in pages; ``stalled`` and ``looked`` in microseconds of the host's time, ``ran`` of its
    own."""

    paged_out: int = 0
    paged_in: int = 0
    dropped: int = 0
    """Pages of files that were dropped."""
    read: int = 0
    """Pages of files that were read."""
    out_of_memory: int = 0
    """Touches that found no memory, and were left out: a process would have been killed."""
    ran: int = 0
    stalled: float = 0.0
    looked: float = 0.0
    """Of the time stalled, what looks of its estimator took."""
    blocked: int = 0


class Guest:
    """A guest of ``pages`` on a host.

    It runs in steps. All that its programs do in a step is done at its beginning, one thing after the other; once it
    has waited for longer than a step lasts, the rest comes when that is over, and who asks the disk meanwhile has his
    turn.

    ``shares`` are one a page, unless given; ``least`` is its minimum (half of its size). Of each program's pages those
    from ``file_pages[i]`` on are a file's: clean, dropped for nothing and read again from disk. ``step`` is the time
    for which it runs at a time, in microseconds of its own. A guest that ``halts`` has no time of its own while none
    of its programs does anything. ``scattered``: its free memory is in pieces of a page, as after long use.
    """

    def __init__(
        self,
        host: Host,
        pages: int,
        programs: Sequence[Program] = (),
        *,
        name: str = "",
        shares: float | None = None,
        least: int | None = None,
        step: int = STEP,
        start: int = 0,
        halts: bool = False,
        disk: Disk | None = None,
        deflate_on_oom: bool = False,
        scattered: bool = False,
    ) -> None:
        self.host, self.pages, self.programs = host, pages, list(programs)
        self.shares = float(pages if shares is None else shares)
        self.least = pages // 2 if least is None else least
        self.step, self.halts = step, halts
        self.disk = disk or Disk(host.clock)
        self.memory, self.pmap, self.counts = Memory(pages), Pmap(pages), GuestCounts()
        self.driver: Driver | None = None
        self.estimator: Estimator | None = None
        self.view: View | None = None
        self.deflate_on_oom = deflate_on_oom
        self.blocked = False
        """Whether the host lets nothing of it run, its balloon's driver included."""
        self.most_ballooned = pages * 65 // 100
        self.offsets = np.concatenate([[0], np.cumsum([program.pages for program in self.programs])]).astype(np.int64)
        count = int(self.offsets[-1])
        self.holder = np.full(pages, FREE, np.int32)
        self.at = np.full(count, NOWHERE, np.int32)
        self.file = np.zeros(count, np.bool_)
        for program, offset in zip(self.programs, self.offsets[:-1], strict=True):
            first = getattr(program, "file_pages", program.pages)
            self.file[offset + first : offset + program.pages] = True
        self.paged_out = np.zeros(count, np.bool_)
        self._exempt = np.zeros(pages, np.bool_)
        self.held = np.zeros(count, np.uint64)
        """What each page of a program holds: what the host has to give it back."""
        self.in_frames = InFrames(
            self.memory.native,
            resident=RESIDENT,
            shared=SHARED,
            at=self.at,
            held=self.held,
            place=self.pmap.place,
            frame=self.pmap.frame,
            content=host.frames.content,
        )
        self.free_list = np.arange(pages - 1, -1, -1, dtype=np.uint32)
        """Its first ``free`` are free pages; the last of them is taken next."""
        self.free = pages
        self.number = host.add(self)
        self._fresh = (self.number + 1) << 48
        self.held[self.file] = self._new(int(np.count_nonzero(self.file)))
        self.name = name or f"guest{self.number + 1}"
        self.rng = np.random.default_rng([host.seed, 1, self.number])
        if scattered:
            self.rng.shuffle(self.free_list)
        self._time = self._runs_until = self._blocked_at = 0
        self._left: Iterator[Callable[[float], float]] | None = None
        """What is still to be done of a step that has begun."""
        self._paid = 0.0
        self._started = host.clock.now + start
        host.clock.at(host.clock.now + start, self._run)

    def watch(self, estimator: Estimator, view: View) -> None:
        """Let an estimator look at it, by a view of its memory. There is one processor: while it looks, and while what
        it looks for faults, the guest waits."""
        self.estimator, self.view = estimator, view

    # What the host asks.

    def allocated(self) -> float:
        """Machine pages that it has."""
        return self.pmap.allocated(self.host.frames)

    def saved(self) -> float:
        """Machine pages that it would have beside them if it shared none."""
        return self.pmap.resident + self.pmap.shared - self.allocated()

    def demand(self) -> int:
        """The most that it can make use of, as far as the host can tell: pages that it touched at any time."""
        return int(np.count_nonzero(self.pmap.ever))

    def client(self) -> Client:
        """The guest as one that memory is divided among. Without an estimator all that it has is taken to be in
        use."""
        most = self.demand()
        active = self.estimator.active * self.pages if self.estimator is not None else float(most)
        return Client(self.shares, min(self.least, most), most, min(active, most))

    def waited(self) -> float:
        """Microseconds of the host's time so far in which it did not run, though it would have."""
        return max(0, self.host.clock.now - self._started) - self.ran()

    def ran(self) -> int:
        """Microseconds of its own time so far: of a step that goes on what of it is over."""
        return self.counts.ran - max(0, self._runs_until - self.host.clock.now)

    def blocked_for(self) -> int:
        """Microseconds of the host's time so far in which it was blocked."""
        return self.counts.blocked + (self.host.clock.now - self._blocked_at if self.blocked else 0)

    # Running.

    def _run(self) -> None:
        """As much of a step of all programs as there is time for. What is left, or the next step, follows when it is
        over, waiting included."""
        host, clock = self.host, self.host.clock
        if host.blocks(self.number):
            self.blocked, self._blocked_at = True, clock.now

            def resume() -> None:
                self.counts.blocked = self.blocked_for()
                self.blocked = False
                self._run()
                if self.driver is not None and not self.blocked:
                    self.driver.unblocked()

            host.when_it_may_run(self.number, resume)
            return
        if self._left is None:
            self._left = self._step()
        stall = 0.0
        for part in self._left:
            stall += part(stall)
            if stall > self.step:
                self.counts.stalled += stall
                clock.after(round(stall), self._run)
                return
        self._left = None
        self.counts.ran += self.step
        self._runs_until = clock.now + self.step
        stall += self._look()
        self.counts.stalled += stall
        clock.after(self.step + round(stall), self._run)

    def _step(self) -> Iterator[Callable[[float], float]]:
        """A step of all programs, in parts as ``_parts`` gives them."""
        begin = self._time
        self._time += self.step
        before, busy = self.memory.now, not self.halts
        self.memory.now = before + self.step
        for program, offset in zip(self.programs, self.offsets[:-1], strict=True):
            for touch in program.run(begin, self._time):
                busy = True
                yield from self._parts(touch, int(offset))
        if not busy:
            self.memory.now = before

    def _look(self) -> float:
        """The estimator looks; microseconds that this takes, and all that its looks have taken since it last did."""
        if self.estimator is None or self.view is None:
            return 0.0
        self.estimator.step()
        before, self._paid = self._paid, self.view.costs.microseconds(self.host.prices)
        self.counts.looked += self._paid - before
        return self._paid - before

    def touch(self, touch: Touch, offset: int = 0, after: float = 0.0) -> float:
        """A program, whose pages begin at ``offset``, touches pages, however long that takes; microseconds that it
        waits. It does so ``after`` so many from now: as long as what it touched before made it wait."""
        stall = 0.0
        for part in self._parts(touch, offset):
            stall += part(after + stall)
        return stall

    def _parts(self, touch: Touch, offset: int) -> Iterator[Callable[[float], float]]:
        """A touch of a program's, whose pages begin at ``offset``, in parts that need something, of few pages each:
        what is called to do it, with the microseconds from now that the guest has waited by then, says how many more
        it waits. What needs nothing is done on the way."""
        if self._at_once(touch, offset):
            return
        pages = touch.pages.astype(np.uint32) + np.uint32(offset)
        kinds = touch.kinds if isinstance(touch.kinds, np.ndarray) else np.full(len(pages), touch.kinds, np.uint8)
        released = (kinds & RELEASED) != 0
        # What is left of it is of the guest's pages, and has kinds for each.
        contents = None if touch.contents is None else touch.contents.astype(np.uint64)
        touch = Touch(pages, (kinds & ~np.uint8(RELEASED)).astype(np.uint8), touch.work, touch.thread, contents)
        after = pages[:0]
        if released.any():
            # A page that is cleared where no process has it: the zero page thread clears the guest's free pages.
            cleared = released & ((kinds & (WRITTEN | ZERO)) == (WRITTEN | ZERO)) & (self.at[pages] == NOWHERE)
            cleared &= np.logical_not(touch.work)
            if cleared.any():
                yield partial(self._clear, int(np.count_nonzero(cleared)), touch)
            only = released & (cleared | ((kinds & (READ | WRITTEN)) == 0))
            self._release(pages[only])
            after, touch = pages[released & ~only], _part(touch, ~only)
        for begin in range(0, len(touch.pages), AT_ONCE):
            some = _part(touch, slice(begin, begin + AT_ONCE))
            if not self._at_once(some):
                yield partial(self._bring_in_and_use, some)
        if len(after):
            self._release(after)

    def _at_once(self, touch: Touch, offset: int = 0) -> bool:
        """Touch pages if none of them needs anything: whether they were."""
        used = self.in_frames.use(
            self.memory.now,
            touch.pages,
            touch.kinds,
            touch.work,
            touch.thread,
            offset=offset,
            contents=touch.contents,
            fresh=self._fresh,
        )
        self._fresh += used * len(touch.pages)
        return used

    def _bring_in_and_use(self, touch: Touch, after: float) -> float:
        """Touch pages, that are few enough to have room for."""
        at, stall = self.at[touch.pages], 0.0
        away = at == NOWHERE
        if away.any():
            gone = _part(touch, away)
            stall = self._bring_in(gone.pages, touch.pages, gone.thread, after)
            at = self.at[touch.pages]
            there = at != NOWHERE
            if not there.all():
                self.counts.out_of_memory += int(np.count_nonzero(~there))
                at, touch = at[there], _part(touch, there)
        kinds, contents = np.asarray(touch.kinds), touch.contents
        own, write = at.view(np.uint32), (kinds & WRITTEN) != 0
        held = None
        if write.any():
            held = (self._new(len(own)) if contents is None else contents) * ((kinds & ZERO) == 0)
            self.held[touch.pages[write]] = held[write]
        stall += self.host.touch(self, own, write, held, after + stall)
        self.memory.touch(own, kinds, touch.work, touch.thread)
        return stall

    def _clear(self, count: int, touch: Touch, after: float) -> float:
        """Clear so many of the guest's free pages that are not zero, or all if there are fewer; they stay free."""
        free = self.free_list[: self.free]
        own = free[~self.memory.zero[free]][:count]
        if not len(own):
            return 0.0
        stall = self.host.touch(self, own, np.ones(len(own), np.bool_), np.zeros(len(own), np.uint64), after)
        thread = touch.thread if isinstance(touch.thread, int) else int(touch.thread[0])
        self.memory.touch(own, WRITTEN | ZERO, False, thread)
        self.memory.free[own] = True
        return stall

    def _new(self, count: int) -> NDArray[np.uint64]:
        """So many contents that no other page holds."""
        first, self._fresh = self._fresh, self._fresh + count
        return np.arange(first, self._fresh, dtype=np.uint64)

    # The guest's memory.

    def _bring_in(
        self, pages: NDArray[np.uint32], but: NDArray[np.uint32], thread: NDArray[np.uint16] | int, after: float
    ) -> float:
        """Give programs' pages, which ``thread`` touches, a page of the guest's each, with what they hold, but not one
        of those that ``but`` have; microseconds that it takes."""
        own, stall = self.allocate(len(pages), but=but, after=after)
        pages = pages[: len(own)]
        self.at[pages] = own
        self.holder[own] = pages
        files = self.file[pages]
        paged = self.paged_out[pages]
        self.paged_out[pages] = False
        stall += self.disk.reads(int(np.count_nonzero(files | paged)), after + stall)
        self.counts.read += int(np.count_nonzero(files))
        self.counts.paged_in += int(np.count_nonzero(paged))
        # The kernel writes every page that it hands out: zeros, a file's bytes, or what was paged out.
        contents = self.held[pages]
        stall += self.host.touch(self, own, np.ones(len(own), np.bool_), contents, after + stall)
        threads = thread[: len(own)] if isinstance(thread, np.ndarray) else thread
        # Whether that is the guest's own work is for the touch to say which it is done for.
        kinds = np.where(contents == ZEROS, WRITTEN | ZERO, WRITTEN).astype(np.uint8)
        self.memory.touch(own, kinds, False, threads)
        self.memory.freed[own] = NEVER
        return stall

    def allocate(
        self, count: int, holder: int | None = None, but: NDArray[np.uint32] | None = None, after: float = 0.0
    ) -> tuple[NDArray[np.uint32], float]:
        """Free pages of the guest's, as many as it can make free, and microseconds that it takes; programs' pages
        ``but`` stay in memory. ``holder``, if it is not a program's: its balloon's driver gets no page back from
        itself."""
        stall = 0.0
        while self.free < count:
            if holder is None and self.driver is not None:
                got, waited = self.driver.plead()
                stall += waited
                if got:
                    continue
            got, waited = self._reclaim(count - self.free, but, after + stall)
            stall += waited
            if got:
                continue
            if self.deflate_on_oom and holder is None and self.driver is not None and self.driver.out_of_memory():
                continue
            break
        count = min(count, self.free)
        self.free -= count
        own = self.free_list[self.free : self.free + count].copy()
        self.memory.free[own] = False
        if holder is not None:
            self.holder[own] = holder
        return own, stall

    def give_back(self, own: NDArray[np.uint32]) -> None:
        """Pages of the guest's go on its free list, to be taken first."""
        self.holder[own] = FREE
        self.free_list[self.free : self.free + len(own)] = own
        self.free += len(own)
        self.memory.release(own)

    def _release(self, pages: NDArray[np.uint32]) -> None:
        there = pages[self.at[pages] != NOWHERE]
        own = self.at[there].astype(np.uint32)
        self.at[there] = NOWHERE
        self.held[pages[~self.file[pages]]] = ZEROS
        self.paged_out[pages] = False
        self.give_back(own)

    def _reclaim(self, count: int, but: NDArray[np.uint32] | None, after: float) -> tuple[int, float]:
        """Take pages from programs, at least ``count`` if there are so many: files are dropped, others paged out."""
        count = max(count, AT_ONCE)
        exempt = self._exempt
        there = self.at[but] if but is not None else self.at[:0]
        there = there[there != NOWHERE]
        exempt[there] = True
        drawn = np.sort(self.rng.integers(0, self.pages, DRAWN * count))
        another = np.ones(len(drawn), np.bool_)
        np.not_equal(drawn[1:], drawn[:-1], out=another[1:])
        drawn = drawn[another & (self.holder[drawn] >= 0) & ~exempt[drawn]]
        if len(drawn) < count:
            drawn = np.flatnonzero((self.holder >= 0) & ~exempt)
        exempt[there] = False
        file = self.file[self.holder[drawn]]
        age = (self.memory.now - self.memory.touched[drawn]) * np.where(file, CACHE_AGES, 1.0)
        own = drawn[np.argsort(-age, kind="stable")[:count]].astype(np.uint32)
        if not len(own):
            return 0, 0.0
        pages = self.holder[own].astype(np.int64)
        anonymous = ~self.file[pages]
        out = own[anonymous]
        # To write a page out the guest has to read it: what the host swapped comes back just to go ("double paging",
        # section 3.1).
        stall = self.host.touch(self, out, after=after)
        stall += self.disk.writes(len(out), after + stall)
        self.paged_out[pages[anonymous]] = True
        self.at[pages] = NOWHERE
        self.counts.paged_out += len(out)
        self.counts.dropped += len(own) - len(out)
        self.give_back(own)
        return len(own), stall

    def restart(self, boots: int = 0) -> None:
        """The guest is reset: its programs have nothing any more, and its driver begins anew without a word, ``boots``
        microseconds later. What they were about to do is left out."""
        if self._left is not None:
            self._left = iter(())
        self.at[:] = NOWHERE
        self.held[~self.file] = ZEROS
        self.paged_out[:] = False
        self.holder[:] = FREE
        self.free_list = np.arange(self.pages - 1, -1, -1, dtype=np.uint32)
        self.free = self.pages
        self.memory.release(self.free_list)
        if self.driver is not None:
            self.driver.restart(boots)


def _part(touch: Touch, which: NDArray[np.bool_] | slice) -> Touch:
    """Of a touch some pages; what holds for all is left as it is."""
    work, thread, contents = touch.work, touch.thread, touch.contents
    return Touch(
        touch.pages[which],
        touch.kinds[which] if isinstance(touch.kinds, np.ndarray) else touch.kinds,
        work[which] if isinstance(work, np.ndarray) else work,
        thread[which] if isinstance(thread, np.ndarray) else thread,
        contents[which] if contents is not None else None,
    )
