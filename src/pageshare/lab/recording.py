"""A guest's touches as a trace: what its programs do, in the guest's own time, whoever else there is on the host."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.assembly import Restartable
from pageshare.lab.programs import READ, RELEASED, WRITTEN, ZERO, Touch
from pageshare.lab.trace import Actor, Touches, Trace, of_touches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.guest import Guest

_Row = tuple["NDArray[np.uint32]", "NDArray[np.uint16]", "NDArray[np.uint8]"]


class Recording:
    """Listens to all programs of a guest. The trace's pages are theirs, program after program; an interval is a step of
    the guest. What is released is told of pages that were there: all of them when the guest is reset."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.actors: dict[Actor, int] = {}
        self._steps: list[list[_Row]] = []
        self._there = np.zeros(int(guest.offsets[-1]), np.bool_)
        for number, (program, offset) in enumerate(zip(guest.programs, guest.offsets[:-1], strict=True)):
            if isinstance(program, Restartable):
                program.heard = partial(self._hear, number=number, offset=int(offset), name=program.name)

    def _hear(self, begin: int, _end: int, touches: list[Touch], *, number: int, offset: int, name: str) -> None:
        step = begin // self.guest.step
        self._steps += [[] for _ in range(step + 1 - len(self._steps))]
        for touch in touches:
            pages = touch.pages.astype(np.uint32) + np.uint32(offset)
            kinds = np.broadcast_to(np.asarray(touch.kinds, np.uint8), pages.shape).copy()
            touched, released = (kinds & (READ | WRITTEN)) != 0, (kinds & RELEASED) != 0
            told = touched | (released & self._there[pages])
            self._there[pages[touched]] = True
            self._there[pages[released]] = False
            if not told.any():
                continue
            work = np.broadcast_to(np.asarray(touch.work, np.bool_), pages.shape)[told]
            thread = np.broadcast_to(np.asarray(touch.thread, np.int64), pages.shape)[told]
            pages, kinds = pages[told], kinds[told]
            intents = np.where(work, 0, np.where((kinds & ZERO) != 0, 1, 2))
            actors = np.zeros(pages.shape, np.uint16)
            for key in np.unique(thread * 3 + intents):
                of, intent = int(key) // 3, ("work", "zero", "collect")[int(key) % 3]
                actor = Actor(name, number << 16 | of, intent)
                actors[thread * 3 + intents == key] = self.actors.setdefault(actor, len(self.actors))
            self._steps[-1].append((pages, actors, kinds))

    def trace(self, name: str, about: dict[str, str]) -> Trace:
        """All that was heard so far. Raises TraceError for more than a trace may have."""
        return of_touches(
            map(_together, self._steps),
            name=name,
            pages=int(self.guest.offsets[-1]),
            interval=self.guest.step,
            actors=list(self.actors),
            about=about,
        )


def _together(rows: list[_Row]) -> Touches:
    """Touches of an interval, in order, as a trace has them: of each page and actor one."""
    if not rows:
        none = np.zeros(0, np.uint32)
        return Touches(none, none.astype(np.uint16), none.astype(np.uint8))
    pages, actors, kinds = (np.concatenate(part) for part in zip(*rows, strict=True))
    keys = pages.astype(np.uint64) << np.uint64(16) | actors.astype(np.uint64)
    order = np.argsort(keys, kind="stable")
    kinds = kinds[order]
    unique, first = np.unique(keys[order], return_index=True)
    done = np.bitwise_or.reduceat(kinds & (READ | WRITTEN), first)
    last = np.append(first[1:], len(kinds)) - 1
    done |= kinds[last] & RELEASED
    # All zero at the end, if the last write of it was: place of that in order, 0 for none.
    writes = np.where((kinds & WRITTEN) != 0, np.arange(1, len(kinds) + 1), 0)
    newest = np.maximum.reduceat(writes, first)
    done |= np.where((newest > 0) & ((kinds[newest - 1] & ZERO) != 0), ZERO, 0).astype(np.uint8)
    return Touches((unique >> np.uint64(16)).astype(np.uint32), unique.astype(np.uint16), done.astype(np.uint8))
