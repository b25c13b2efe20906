"""The balloon: a driver in the guest that takes its pages and gives them to the host, message by message.

The rules are those of ESX (Waldspurger, OSDI 2002, section 3.2) and of its driver in Linux, vmw_balloon:

- The driver asks for its target: so many pages it is to hold. It takes pages from the guest as any driver does, so that
  the guest itself chooses what to give up, and tells the host their numbers (LOCK); the host annotates them and frees
  what lies behind them.
- To give pages back it tells the host first (UNLOCK), and only when the host has answered are they the guest's again.
  Nothing physical comes back: the next touch finds no frame, and gets a zeroed one, as the first touch ever does.
- A touch of a page that the balloon has pops it: a guest that was reset knows of no balloon. The page gets a zeroed
  frame, and the next message of a driver is answered with RESET: it forgets all, and both begin anew (START).

When the driver looks for a new target is one of ``fixed`` polls (the paper's, once a second), ``adaptive`` polls, or a
``doorbell``: the host says that there is one, as virtio's configuration interrupt does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.guest import DRIVER
from pageshare.lab.memory import SECOND

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.guest import Guest

BATCH = 512
"""Pages a message (vmw_balloon's batches; virtio's have 256)."""
REFUSED = SECOND // 10
"""Microseconds until a driver asks again whether the host has memory to spare."""
OOM_PAGES = 256
"""What virtio-balloon gives back at a time to a guest that has no memory left."""


@dataclass(frozen=True)
class Polls:
    """When a driver asks for its target: every ``period`` microseconds, for the first time after ``phase``.

    Adaptive if ``fastest`` is less than the period: it then asks again after half the time if its target had changed,
    down to ``fastest``, and after twice the time if not. With a ``doorbell`` it also asks when the host rings. If it
    ``pleads``, it asks as well when its guest is about to page out or to drop a file: what the host can spare it gets
    back then.
    """

    period: int = SECOND
    phase: int | None = None
    fastest: int | None = None
    doorbell: bool = False
    pleads: bool = False

    def __post_init__(self) -> None:
        if self.period <= 0 or (self.fastest is not None and not 0 < self.fastest <= self.period):
            raise ValueError("polls: 0 < fastest <= period")


@dataclass(frozen=True)
class Safeguards:
    """What keeps the pages safe. Each can be left out, to see what goes wrong without it."""

    tell_first: bool = True
    """No page is used again before the host has answered UNLOCK."""
    reset: bool = True
    """After a pop the host wants a RESET, and forgets what it had annotated."""
    ignore_stale: bool = True
    """A message of before the guest's reset counts for nothing."""


class Driver:
    """The balloon of a guest: attaches itself to it.

    ``latency``: microseconds that a message takes, each way; ``page_time``: that taking a page takes the driver.
    ``rate``: pages a second that it takes at most. Attributes: ``held``, how many pages it has; ``messages``, how many
    were sent, in both directions.
    """

    def __init__(
        self,
        guest: Guest,
        polls: Polls | None = None,
        *,
        latency: int = 20,
        page_time: float = 0.5,
        rate: float | None = None,
        batch: int = BATCH,
        safeguards: Safeguards | None = None,
    ) -> None:
        self.guest, self.host, self.clock = guest, guest.host, guest.host.clock
        self.polls = polls or Polls()
        self.latency, self.page_time, self.rate, self.batch = latency, page_time, rate, batch
        self.safeguards = safeguards or Safeguards()
        self.messages = self.resets = 0
        self._pages = np.zeros(guest.pages, np.uint32)
        self._set_held(0)
        self._on_the_way: NDArray[np.uint32] = np.zeros(0, np.uint32)
        """Pages that were taken or are to be given back, while the host has not answered."""
        self.answers = False
        """Whether the host has heard of it since its guest booted."""
        self._life = 0
        self._busy = self._again = self._missed = False
        self.begins = False
        """Whether host and driver have still to forget what was ballooned: START is on its way."""
        self._target = 0
        self._moved = False
        """Whether the target was another one since the last poll."""
        self._refused = 0
        self._rung_for: int | None = None
        """The target that the host has rung for, until the driver has heard of any."""
        self._period = self.polls.period
        guest.driver = self
        self._next = self.clock.after(self._period if self.polls.phase is None else self.polls.phase, self._poll)
        if self.polls.doorbell:
            self.host.changed.append(self._ring)

    # When.

    def _poll(self) -> None:
        if not self._moved:
            self._period = min(self.polls.period, self._period * 2)
        self._moved = False
        self._next = self.clock.after(self._period, self._poll)
        self.wake()

    def _hurry(self) -> None:
        """The target is another one: the next poll of an adaptive driver comes sooner."""
        if self.polls.fastest is not None and not self._moved:
            self._moved = True
            self._period = max(self.polls.fastest, self._period // 2)
            self._next.cancel()
            self._next = self.clock.after(self._period, self._poll)

    def _ring(self) -> None:
        """The host rings if it wants pages; and if it can give some back, unless the guest pleads when it needs
        them."""
        target = self.host.balloon_target(self.guest.number)
        known = self._target if self._rung_for is None else self._rung_for
        if target != known and (target > self.held or (target < self.held and not self.polls.pleads)):
            self._rung_for = target
            self.messages += 1
            self.clock.after(self.latency, self.wake)

    @property
    def can_take(self) -> bool:
        """Whether the host can have pages by it: it was heard of, and may have more than it has."""
        return self.answers and self.held < self.guest.most_ballooned

    # Messages. Each is on its way for a time in which anything else may happen.

    def _ask(
        self, serve: Callable[[], None], answer: Callable[[], None], delay: float = 0, *, starts: bool = False
    ) -> None:
        """Send a message after ``delay``; the host serves it, and the driver gets the answer: RESET after a pop, if it
        is not the message that ``starts`` anew."""
        life = self._life

        def arrive() -> None:
            if life != self._life and self.safeguards.ignore_stale:
                return
            self.answers = True
            self._heard()
            reset = self.guest.pmap.popped and self.safeguards.reset and not starts
            if not reset:
                serve()
            self.messages += 1
            self.clock.after(self.latency, lambda: back(self._begin_anew if reset else answer))

        def back(go_on: Callable[[], None]) -> None:
            if life == self._life:
                go_on()

        self.messages += 1
        self.clock.after(self.latency + round(delay), arrive)

    def _heard(self) -> None:
        """A message has come, and with it the guest's statistics, where these are what is known of it."""
        ask = getattr(self.guest.estimator, "ask", None)
        if ask is not None and ask():
            self.host.balance()

    def wake(self) -> None:
        """Ask for the target, and do what it takes to get there; when the guest is not blocked any more, if it is."""
        if self.guest.blocked:
            self._missed = True
            return
        if self._busy:
            self._again = True
            return
        self._busy = True
        told: list[int] = []
        self._ask(lambda: told.append(self.host.balloon_target(self.guest.number)), lambda: self._told(told[0]))

    def _told(self, target: int) -> None:
        if target != self._target:
            self._hurry()
        self._target, self._rung_for = target, None
        self._go_on()

    def _rest(self) -> None:
        self._busy = False
        if self._again:
            self._again = False
            self.wake()

    def _told_more(self) -> None:
        """LOCK or UNLOCK was answered, and the answer has the target as it is now."""
        if self._again:
            self._rest()
        else:
            self._target = self.host.balloon_target(self.guest.number)
            self._go_on()

    def _go_on(self) -> None:
        """The next batch towards the target."""
        missing = self._target - self.held
        if self.guest.blocked:
            self._again = True
            self._rest()
        elif missing > 0:
            self._inflate(min(missing, self.batch))
        elif missing < 0:
            self._deflate(min(-missing, self.batch))
        else:
            self._rest()

    def _inflate(self, count: int) -> None:
        pages, waited = self.guest.allocate(count, DRIVER)
        if not len(pages):
            self._rest()
            return
        took = max(waited + len(pages) * self.page_time, len(pages) / self.rate * 1e6 if self.rate else 0)
        self._on_the_way = pages

        def locked() -> None:
            self._pages[self.held : self.held + len(pages)] = pages
            self._set_held(self.held + len(pages))
            self._on_the_way = pages[:0]
            self._told_more()

        self._ask(lambda: self.host.lock(self.guest, pages), locked, took)

    def _set_held(self, held: int) -> None:
        self.held = self.guest.memory.lent = held

    def _pop_off(self, count: int) -> NDArray[np.uint32]:
        self._set_held(self.held - count)
        pages: NDArray[np.uint32] = self._pages[self.held : self.held + count].copy()
        return pages

    def _deflate(self, count: int) -> None:
        pages = self._pop_off(count)
        if self.safeguards.tell_first:
            self._on_the_way = pages
        else:
            self.guest.give_back(pages)

        def unlocked() -> None:
            self._on_the_way = pages[:0]
            if self.safeguards.tell_first:
                self.guest.give_back(pages)
            self._told_more()

        self._ask(lambda: self.host.unlock(self.guest, pages), unlocked)

    def _begin_anew(self) -> None:
        """RESET: all pages are the guest's again without a word about each; then START."""
        self.resets += 1
        pages = self.pages()
        self._set_held(0)
        self._on_the_way = pages[:0]
        if len(pages):
            self.guest.give_back(pages)
        self._start()

    def _start(self, delay: int = 0) -> None:
        self.begins = True

        def started() -> None:
            self.begins = False
            self._rest()

        self._ask(lambda: self.host.reset(self.guest), started, delay, starts=True)

    def pages(self) -> NDArray[np.uint32]:
        """The guest's pages that it has, those on the way included, uint32."""
        pages: NDArray[np.uint32] = np.concatenate([self._pages[: self.held], self._on_the_way])
        return pages

    def told(self) -> NDArray[np.uint32]:
        """Those that the host knows it has."""
        told: NDArray[np.uint32] = self._pages[: self.held].copy()
        return told

    # What else may happen to it.

    def restart(self, boots: int = 0) -> None:
        """The guest was reset: this is another driver, which knows of nothing, and begins ``boots`` microseconds from
        now. What the host annotated stays, until a touch pops it or the new driver's first message tells."""
        self._life += 1
        self.answers = False
        self._set_held(0)
        self._on_the_way = self._on_the_way[:0]
        self._busy = self._again = self.begins = False
        self._target, self._rung_for = 0, None
        if self.guest.pmap.ballooned.any() and self.safeguards.reset:
            self._busy = True
            self._start(boots)

    def plead(self) -> tuple[int, float]:
        """The guest is about to reclaim from itself: an UNLOCK of a batch that the host may refuse, or grant part of;
        how many pages the guest gets back, and microseconds that it waits for them. One that was refused waits before
        it asks again."""
        if not self.polls.pleads or not self.held or self.clock.now < self._refused:
            return 0, 0.0
        self.messages += 2
        self._heard()
        # What it was about to do goes by the new target, too.
        self._target = self.host.balloon_target(self.guest.number)
        count = min(self.held - self._target, self.batch)
        if count <= 0:
            self._refused = self.clock.now + REFUSED
            return 0, 2 * self.latency
        pages = self._pop_off(count)
        self.host.unlock(self.guest, pages)
        self.guest.give_back(pages)
        return count, 2 * self.latency

    def unblocked(self) -> None:
        """The guest runs again, and its driver with it."""
        if self._missed:
            self._missed = False
            self.wake()

    def out_of_memory(self) -> bool:
        """The guest has no memory left: give some back at once, and tell the host of it; whether there was any."""
        count = min(self.held, OOM_PAGES)
        if not count:
            return False
        pages = self._pop_off(count)
        self.messages += 2
        self.host.unlock(self.guest, pages)
        self.guest.give_back(pages)
        return True
