"""What a policy sees of the memory that it scans, and may ask of the table."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from pageshare.core import LINE, NO_PAGE, FrameTable, PageReader

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from pageshare.space import PageSpace

    Pages: TypeAlias = NDArray[np.uint32]
    Objective: TypeAlias = Literal["all", "nonzero"]

GOLDEN = 0x9E3779B1


class View:
    """The pages 0 .. pages-1 of a space as a hypervisor knows them: whose they are and where, not what they hold.

    Attributes: ``pages``, how many; ``lines`` of 64 bytes of each; ``owners``; ``owner_first`` (uint32): owner i has
    the pages owner_first[i] .. owner_first[i + 1] - 1, by ascending frame number; ``seed`` for random choices;
    ``objective``, "all" to save as many pages as can be, "nonzero" to save other pages than zero ones; ``now``,
    seconds of virtual time; ``peeks`` and ``peeks_in_order``, how many lines were looked at so far, and how many of
    them lay in the page behind the one before.

    >>> import pageshare
    >>> from pageshare.policies import View
    >>> view = View(pageshare.PageSpace.of({"a": bytes(8192), "b": b"x" * 4096}))
    >>> view.pages, view.owner_first.tolist(), int(view.peek([0, 2])[0]), view.peeks
    (3, [0, 2, 3], 0, 2)
    """

    def __init__(
        self,
        space: PageSpace,
        *,
        seed: int = 0,
        objective: Objective = "all",
        peek: Callable[[Pages, int], NDArray[np.uint32]] | None = None,
        contents: Callable[[], NDArray[np.uint32]] | None = None,
    ) -> None:
        """``peek`` looks at a line of pages, by default where they lie; ``contents`` tells what only an oracle
        knows."""
        self._space = space
        self._peek = peek or PageReader(space, seed=seed).peek
        self._contents = contents
        self._table: FrameTable | None = None
        self._written: list[Pages] = []
        self.pages = space.readable
        self.lines = space.page_size // LINE
        self.owners = len(space.owners)
        self.owner_first = space.owner_first
        self.seed = seed
        self.objective: Objective = objective
        self.now = 0.0
        self.peeks = self.peeks_in_order = 0

    def attach(self, table: FrameTable) -> None:
        """Name the table that pages are visited by: for whoever runs a policy, before its first batch."""
        self._table = table

    def tell_written(self, pages: Pages) -> None:
        """Say that pages were written to, in this order: for whoever runs a policy."""
        self._written.append(pages)

    @cached_property
    def owner(self) -> NDArray[np.uint16]:
        """The owner of each page (uint16; more than 65,535 owners are taken for the last of these)."""
        numbers = np.minimum(np.arange(self.owners), 0xFFFF).astype(np.uint16)
        return np.repeat(numbers, self.owner_first[1:] - self.owner_first[:-1])

    @cached_property
    def frame(self) -> NDArray[np.uint64]:
        """The frame number of each page in its owner's memory (uint64)."""
        frames: NDArray[np.uint64] = self._space.locate(np.arange(self.pages, dtype=np.uint32))[1]
        return frames

    def page_of(self, owner: int, frames: NDArray[np.uint64]) -> Pages:
        """The numbers of an owner's pages at ``frames``; ``NO_PAGE`` where it has none that is read."""
        found = self._space.find(owner, frames)
        found[found >= self.pages] = NO_PAGE
        return found

    def peek(self, pages: Pages, line: int = 0) -> NDArray[np.uint32]:
        """A key (uint32) of the 64 bytes from 64 * ``line`` on of each page: 0 if they are zero, else the same for the
        same bytes in the same sharing domain. It costs a peek for each page."""
        numbers = np.asarray(pages, np.uint32)
        self.peeks += numbers.size
        self.peeks_in_order += int(np.count_nonzero(np.diff(numbers.astype(np.int64)) == 1))
        keys = self._peek(numbers, line)
        if len(self._space.domains) > 1:
            salt = np.array([owner.domain for owner in self._space.owners], np.uint32) * np.uint32(GOLDEN)
            salted = np.maximum(keys ^ salt[self.owner[numbers]], 1)
            keys = np.where(keys == 0, keys, salted)
        return keys

    def written(self) -> Pages:
        """The pages written to since this was last asked, in order; a page may be there several times."""
        pages = np.concatenate([np.empty(0, np.uint32), *self._written])
        self._written.clear()
        return pages

    def drop_hints(self) -> None:
        """Make the table forget every hint."""
        if self._table is not None:
            self._table.drop_hints()

    def accept(self, first: int = 0, last: int = NO_PAGE) -> None:
        """Let the table look up only pages with a tag (32 bits of their hash) in this range."""
        if self._table is not None:
            self._table.accept(first, last)

    def contents(self) -> NDArray[np.uint32]:
        """A number for each page, equal for equal contents in one domain, and below ``zeros`` for zero pages: what no
        hypervisor knows beforehand. Raises ValueError where nobody has counted."""
        if self._contents is None:
            raise ValueError("only pageshare replay and pageshare policies know the answer beforehand")
        return self._contents()

    @property
    def zeros(self) -> int:
        """The numbers of ``contents`` that stand for zero pages, one a domain, are those below this one."""
        return len(self._space.domains)
