"""The last resort: pages that the host writes to its disk itself (Waldspurger, OSDI 2002, sections 3.1 and 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.frames import RESIDENT
from pageshare.lab.thresholds import State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.guest import Guest
    from pageshare.lab.host import Host

TURN = 10_000
"""Microseconds between two clusters."""


class SwapDaemon:
    """Writes out pages of guests that have more than their target, without their help and while they run.

    Victims are drawn at random: a rule of the host's own would clash with the guest's, which may just be about to page
    out the very same pages (section 3.3). In the soft state it takes only where balloons can't: from guests without
    one, those whose driver has not been heard of yet, and those whose balloon has all that it may have. It has one
    cluster on its way at a time: what guests read has its turn, too.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self._awake = False
        self._written_by = 0.0

    def wake(self) -> None:
        """Go on, if there is anything to do."""
        if not self._awake and self._wanted():
            self._awake = True
            self.host.clock.after(TURN, self._turn)

    def _wanted(self) -> list[tuple[int, int]]:
        """Numbers of guests and how many pages each is to give."""
        host = self.host
        if host.state == State.HIGH:
            return []
        soft = host.state == State.SOFT
        wanted = []
        for number, guest in enumerate(host.guests):
            if soft and guest.driver is not None and guest.driver.can_take:
                continue
            if excess := host.excess(number):
                wanted.append((number, excess))
        return wanted

    def _turn(self) -> None:
        self._awake = False
        host = self.host
        wanted = self._wanted()
        if not wanted:
            return
        if self._written_by <= host.clock.now + TURN:
            most = max(1, round(host.disk.bandwidth * TURN / 1e6))
            total = sum(excess for _number, excess in wanted)
            written = 0
            for number, excess in wanted:
                count = min(excess, -(-most * excess // total))
                written += self._write_out(host.guests[number], count, None)
            self._written_by = host.clock.now + host.disk.writes(written)
            host.look()
        self.wake()

    def _write_out(self, guest: Guest, count: int, but: NDArray[np.uint32] | None) -> int:
        pages = self.victims(guest, count, but)
        if host_sharing := self.host.sharing:
            # Every page is tried before it is paged out (section 4.3).
            pages = host_sharing.try_first(guest, pages)
        self.host.swap_out(guest, pages)
        return len(pages)

    def victims(self, guest: Guest, count: int, but: NDArray[np.uint32] | None) -> NDArray[np.uint32]:
        """So many RESIDENT pages of a guest, fewer if it has fewer, drawn at random; none of ``but``."""
        eligible = guest.pmap.place == RESIDENT
        if but is not None:
            eligible[but] = False
        pages: NDArray[np.uint32] = np.flatnonzero(eligible).astype(np.uint32)
        return pages if len(pages) <= count else self.host.rng.choice(pages, count, replace=False)

    def reclaim(self, count: int, guest: Guest, but: NDArray[np.uint32]) -> int:
        """Free so many frames at once, of guests above their targets first, those alike in an order that is drawn; how
        many pages were written out for it. Others can have become free because they turned out to be equal."""
        host = self.host
        drawn: list[int] = host.rng.permutation(len(host.guests)).tolist()
        order = sorted(drawn, key=lambda number: -host.excess(number))
        before, written = host.frames.free, 0
        for number in order:
            left = count - (host.frames.free - before)
            if left <= 0:
                break
            other = host.guests[number]
            written += self._write_out(other, left, but if other is guest else None)
        return written
