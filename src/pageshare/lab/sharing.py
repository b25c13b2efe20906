"""Content-based sharing, which feeds the free memory: pageshare's own frame table and policies (Waldspurger, OSDI 2002,
section 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import NO_PAGE, FrameTable, Outcome
from pageshare.lab.frames import RESIDENT, SHARED
from pageshare.lab.memory import SECOND
from pageshare.policies import Policy, View, create
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.guest import Guest
    from pageshare.lab.host import Host

STANDS_FOR = 256
"""Bytes that stand for a page of 4096, the least that the table takes; a page's content is a number in the first 8."""
GONE = np.uint64(0xFFFF << 48)
"""What a page without a frame seems to hold: nothing that any other page holds."""
TURN = SECOND // 10
VISIT = 1.2
"""Microseconds to read, hash and look up a page of 4096 bytes: the measured cost of a visit by bytes that are not in
any cache (docs/policies-measured.md has others)."""


@dataclass
class SharingCounts:
    """``scanned``, ``merged`` and ``broken`` pages; ``cpu`` in microseconds."""

    scanned: int = 0
    merged: int = 0
    broken: int = 0
    cpu: float = 0.0


class Sharing:
    """Scans the guests that the host has by now, ``rate`` pages a second in the order of a policy (its name, or what
    makes one of a View), and lets equal pages share a frame. Attaches itself to the host."""

    def __init__(
        self,
        host: Host,
        *,
        rate: float = 200.0,
        policy: str | Callable[[View], Policy] = "random-with-replacement",
        visit: float = VISIT,
    ) -> None:
        self.host, self.rate, self.visit = host, rate, visit
        self.counts = SharingCounts()
        self.first = np.concatenate([[0], np.cumsum([guest.pages for guest in host.guests])]).astype(np.int64)
        count = int(self.first[-1])
        self._bytes = np.zeros((count, STANDS_FOR // 8), np.uint64)
        self._bytes[:, 0] = GONE + np.arange(count, dtype=np.uint64)
        parts = {
            str(guest.number): self._bytes[begin:end].view(np.uint8).reshape(-1)
            for guest, begin, end in zip(host.guests, self.first[:-1], self.first[1:], strict=True)
        }
        space = PageSpace.of(parts, page_size=STANDS_FOR)
        view = View(space, seed=host.seed)
        self.policy = create(policy, view) if isinstance(policy, str) else policy(view)
        self.table = FrameTable(space, seed=host.seed, **getattr(self.policy, "table_options", {}))
        view.attach(self.table)
        self._view, self._due = view, 0.0
        for guest in host.guests:
            mapped = np.flatnonzero(guest.pmap.place == RESIDENT).astype(np.uint32)
            self.store(guest, mapped, host.frames.content[guest.pmap.frame[mapped]])
            if (stand_in := self.stand_in(guest)) is not None:
                guest.in_frames.stand_in(stand_in)
        host.sharing = self
        if rate:
            host.clock.every(TURN, self._turn)

    def _turn(self) -> None:
        self._view.now = self.host.clock.now / SECOND
        self._due += self.rate * TURN / SECOND
        while self._due >= 1:
            pages = self.policy.next(int(self._due))
            if not len(pages):
                # It has none to visit now: what it did not use it does not get later.
                self._due = 0.0
                break
            self._due -= len(pages)
            self._scan(pages)
        self.host.look()

    def whose(self, pages: NDArray[np.uint32]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Numbers of the guests that have pages of the space, and which of their own these are."""
        numbers = np.searchsorted(self.first, pages, side="right") - 1
        return numbers, pages.astype(np.int64) - self.first[numbers]

    def _scan(self, pages: NDArray[np.uint32]) -> None:
        """Look at those that have frames, and tell the policy of all."""
        numbers, own = self.whose(pages)
        mapped = np.zeros(len(pages), np.bool_)
        for number in np.flatnonzero(np.bincount(numbers)):
            its = numbers == number
            place = self.host.guests[number].pmap.place[own[its]]
            mapped[its] = (place == RESIDENT) | (place == SHARED)
        outcomes = np.full(len(pages), Outcome.UNREADABLE, np.uint8)
        partners = np.full(len(pages), NO_PAGE, np.uint32)
        scanned = self.table.scan(pages[mapped])
        outcomes[mapped], partners[mapped] = scanned.outcomes, scanned.partners
        self.counts.scanned += int(np.count_nonzero(mapped))
        self.counts.cpu += int(np.count_nonzero(mapped)) * self.visit
        merged = np.flatnonzero(
            (outcomes == Outcome.ZERO) | (outcomes == Outcome.SHARED_NEW) | (outcomes == Outcome.SHARED)
        )
        for i in merged:
            self._merge(int(pages[i]), int(partners[i]))
        self.policy.feedback(pages, outcomes, partners)

    def _merge(self, page: int, partner: int) -> None:
        """A page joins the frame of its partner; the first of a frame (a zero page) makes its own one that others can
        join."""
        frames = self.host.frames
        if partner != NO_PAGE:
            frame = self._share(partner)
            guest, own = self._at(page)
            frames.drop(guest.pmap.frame[own : own + 1])
            frames.users[frame] += 1
            guest.pmap.frame[own] = frame
            self.counts.merged += 1
        self._share(page)

    def _share(self, page: int) -> int:
        """Make a page read-only, if it is not yet; its frame."""
        guest, own = self._at(page)
        pmap = guest.pmap
        if pmap.place[own] == RESIDENT:
            pmap.place[own] = SHARED
            pmap.resident -= 1
            pmap.shared += 1
        return int(pmap.frame[own])

    def _at(self, page: int) -> tuple[Guest, int]:
        number = int(np.searchsorted(self.first, page, side="right")) - 1
        return self.host.guests[number], page - int(self.first[number])

    # What the host tells.

    def _scans(self, guest: Guest) -> bool:
        """Whether it was there when the scanning began."""
        return guest.number < len(self.first) - 1

    def stand_in(self, guest: Guest) -> NDArray[np.uint64] | None:
        """What stands for the bytes of a guest's pages, uint64 of shape (pages, words); None if it is not scanned."""
        if not self._scans(guest):
            return None
        return self._bytes[self.first[guest.number] : self.first[guest.number + 1]]

    def store(self, guest: Guest, pages: NDArray[np.integer], contents: NDArray[np.uint64]) -> None:
        """Pages in frames of their own hold something else now."""
        stand_in = self.stand_in(guest)
        if stand_in is not None:
            stand_in[pages, 0] = contents

    def leave(self, guest: Guest, pages: NDArray[np.uint32]) -> None:
        """Pages are about to leave their frames."""
        if not self._scans(guest):
            return
        numbers = self.first[guest.number] + pages.astype(np.int64)
        broken = self.table.write(numbers.astype(np.uint32))
        self.counts.broken += int(np.count_nonzero(broken))
        self._bytes[numbers, 0] = GONE + numbers.astype(np.uint64)

    def try_first(self, guest: Guest, pages: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Look whether pages that are about to be written out can share a frame instead; those that can't."""
        if not self._scans(guest):
            return pages
        self._scan((self.first[guest.number] + pages.astype(np.int64)).astype(np.uint32))
        left: NDArray[np.uint32] = pages[guest.pmap.place[pages] == RESIDENT]
        return left
