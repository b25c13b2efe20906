"""What is in a guest's free pages is of no use to it: it tells which they are, and the host takes what is behind them.

Without a balloon, so that a guest may use them again at any time; the next touch gets a zeroed frame. In whole blocks
only, so that a guest whose free memory is in pieces has little to tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.memory import SECOND
from pageshare.lab.thresholds import State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.guest import Guest


def _blocks(guest: Guest, free: NDArray[np.bool_], block: int) -> NDArray[np.uint32]:
    """Pages of whole blocks that are ``free`` (bool of shape (pages,)), and behind which there is anything."""
    blocks = guest.pages // block
    whole = free[: blocks * block].reshape(blocks, block).all(axis=1)
    behind = (guest.pmap.frame[: blocks * block] >= 0).reshape(blocks, block).any(axis=1)
    return np.flatnonzero(np.repeat(whole & behind, block)).astype(np.uint32)


class FreePageReporting:
    """The guest tells by itself which of its pages are free; nothing is told when they are used again (virtio's free
    page reporting; Linux, mm/page_reporting.c).

    Whole blocks of ``block`` pages that have been free for ``after`` microseconds, each told once.
    """

    def __init__(self, guest: Guest, *, after: int = 2 * SECOND, block: int = 512) -> None:
        self.guest, self.after, self.block = guest, after, block
        self.messages = 0
        guest.host.clock.every(after, self._report)

    def _report(self) -> None:
        memory = self.guest.memory
        pages = _blocks(self.guest, memory.free & (memory.freed <= memory.now - self.after), self.block)
        if not len(pages):
            return
        # The guest keeps them off its free list until the host has answered (they are "isolated"), so nothing of it
        # can be used in between; here both happen in one moment.
        self.messages += 2
        self.guest.host.free_reported(self.guest, pages)


class FreePageHinting:
    """The host asks which pages are free, once its memory is no longer plentiful, and again while it is not, after
    ``again`` microseconds at the soonest.

    After virtio's free page hints (VIRTIO_BALLOON_F_FREE_PAGE_HINT; Linux, drivers/virtio/virtio_balloon.c): the host
    asks by the number of a command, the guest takes blocks of ``block`` pages off its free list, the largest that it
    has (4 MiB), and tells of each; it says when there are no more, and the host when it is done with them: then they
    are the guest's again. QEMU only leaves such pages out of a migration. Here the host frees what is behind them, as
    it does for those that are reported. A guest that does not run does not answer.
    """

    def __init__(self, guest: Guest, *, again: int = SECOND, block: int = 1024, latency: int = 20) -> None:
        self.guest, self.again, self.block, self.latency = guest, again, block, latency
        self.messages = 0
        self._asked = -again
        guest.host.changed.append(self._look)

    def _look(self) -> None:
        host = self.guest.host
        if host.state != State.HIGH and host.clock.now - self._asked >= self.again:
            self._asked = host.clock.now
            self.messages += 1
            host.clock.after(self.latency, self._answer)

    def _answer(self) -> None:
        guest = self.guest
        if guest.blocked:
            return
        pages = _blocks(guest, guest.memory.free, self.block)
        # Held until the host is done with them, as those that are reported: in one moment here.
        self.messages += len(pages) // self.block + 2
        if len(pages):
            guest.host.free_reported(guest, pages)
