"""A history as it goes by: what every page holds now, under a frame table that is told of each write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.core import FrameTable, PageReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.replay.history import History
    from pageshare.space import PageSpace


@dataclass(frozen=True)
class Written:
    """What was written in a while: ``writes``, how many; the ``pages`` (uint32), each once, in order of the first write
    to each; ``broken`` (bool): it was a copy-on-write break; ``nonzero`` (bool): it held something; ``gone``: how many
    saved pages that took away."""

    writes: int
    pages: NDArray[np.uint32]
    broken: NDArray[np.bool_]
    nonzero: NDArray[np.bool_]
    gone: int


class Possible:
    """The most that could be saved at a moment: pages - contents, kept up to date by every write.

    ``all`` counts zero pages (a domain's zeros are one content), ``nonzero`` does not.
    """

    def __init__(self, ids: NDArray[np.uint32], zeros: int, contents: int) -> None:
        self._zeros = zeros
        self._held = np.bincount(ids, minlength=contents)
        over = np.maximum(self._held - 1, 0)
        self.all = int(over.sum())
        self.nonzero = int(over[zeros:].sum())

    def replace(self, old: NDArray[np.uint32], new: NDArray[np.uint32], contents: int) -> None:
        """So many pages held ``old`` and hold ``new`` now; ``contents`` is how many there are by now."""
        if contents > len(self._held):
            room = contents + contents // 2
            self._held = np.append(self._held, np.zeros(room - len(self._held), int))
        ids, at = np.unique(np.concatenate([old, new]), return_inverse=True)
        change = np.bincount(at, np.repeat([-1.0, 1.0], [len(old), len(new)]), len(ids)).astype(int)
        held = self._held[ids]
        gain = np.maximum(held + change - 1, 0) - np.maximum(held - 1, 0)
        self._held[ids] += change
        self.all += int(gain.sum())
        self.nonzero += int(gain[ids >= self._zeros].sum())


class Memory:
    """The pages of a history at one moment, which moves on with ``advance``.

    ``by_bytes``: pages are the dumps' own, mapped privately, so that only what is written to is copied; else they are
    fingerprints of 8 bytes, under which the table finds the same (``PageSpace.as_fingerprints``). ``ids`` (uint32) are
    the contents of all pages now; ``table`` the frame table; ``possible`` what could be saved; ``saved`` and
    ``saved_nonzero`` what is.
    """

    def __init__(self, history: History, *, seed: int, by_bytes: bool) -> None:
        """``seed`` draws what the history leaves open. Raises OSError where a file can't be mapped."""
        self.contents, self.by_bytes = history.contents, by_bytes
        self.ids = history.ids.copy()
        self._writes = history.writes(seed)
        self.space: PageSpace
        if by_bytes:
            self.space = history.space.private()
        else:
            self._fingerprints = self.contents.fingerprints(self.ids)
            self.space = history.space.as_fingerprints(self._fingerprints, self.contents.zero_fingerprint)
        self._reader = PageReader(self.space, seed=self.contents.seed)
        self.table = FrameTable(self.space, seed=self.contents.seed)
        self.possible = Possible(self.ids, self.contents.zeros, len(self.contents))
        self.saved = self.saved_nonzero = 0

    def use(self, table_options: dict[str, Any]) -> None:
        """Begin with a new table, of these options."""
        self.table = FrameTable(self.space, seed=self.contents.seed, **table_options)
        self.saved = self.saved_nonzero = 0

    def peek(self, pages: NDArray[np.uint32], line: int) -> NDArray[np.uint32]:
        """As ``PageReader.peek``."""
        if self.by_bytes:
            return self._reader.peek(pages, line)
        if not 0 <= line < self.contents.space.page_size // 64:
            raise IndexError(f"line {line}: a page has {self.contents.space.page_size // 64}")
        return self.contents.line_keys(self.ids[pages], line)

    def advance(self, time: float) -> Written:
        """Let all writes up to ``time`` happen."""
        batch = self._writes.until(time)
        if not len(batch):
            return Written(0, batch.pages, np.zeros(0, bool), np.zeros(0, bool), 0)
        # Of several writes to a page the first one may break a frame, the last one leaves what it then holds.
        pages, first = np.unique(batch.pages, return_index=True)
        last = len(batch) - 1 - np.unique(batch.pages[::-1], return_index=True)[1]
        # In order of the first ones: which of several full frames has room first, depends on it.
        order = np.argsort(first)
        pages, ids = pages[order], batch.ids[last[order]]
        old = self.ids[pages]
        nonzero = old >= self.contents.zeros
        broken = np.empty(len(pages), np.bool_)
        gone = [self._write(pages, broken, which) for which in (~nonzero, nonzero)]
        self.saved -= sum(gone)
        self.saved_nonzero -= gone[1]
        self.ids[pages] = ids
        if self.by_bytes:
            self.contents.put(self._reader, pages, ids)
        else:
            self._fingerprints[pages] = self.contents.fingerprints(ids)
        self.possible.replace(old, ids, len(self.contents))
        return Written(len(batch), pages, broken, nonzero, sum(gone))

    def _write(self, pages: NDArray[np.uint32], broken: NDArray[np.bool_], which: NDArray[np.bool_]) -> int:
        """Tell the table of some of these writes; how many pages are not saved any more."""
        before = self.table.stats()
        broken[which] = self.table.write(pages[which])
        after = self.table.stats()
        return (before.members - before.frames) - (after.members - after.frames)
