"""Which content is where: the finished census by owner, frame number and content, without the dumps.

All answers are computed from it. It is made from a census, or read from a saved scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.core import NO_PAGE, UNIQUE_CLASS, ZERO_CLASS, Census, Contents, Control
from pageshare.places import Places
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

ZERO, UNIQUE, INTRA, INTER, UNKNOWN = range(5)
"""What a page is: zero; of a content held once; of one that only its owner holds, twice or more; of one that several
owners hold; not known. The order of ``STATES``."""
STATES = ("zero", "unique", "intra", "inter", "unknown")


@dataclass(frozen=True)
class Inventory:
    """The pages of some owners, and the contents of these pages.

    ``owners`` are names, ``domains`` the number of each one's sharing domain, ``domain_names`` their names. ``places``
    says where pages lie, ``gaps`` (``space.GAP``) where nothing is known. ``everywhere`` are the contents whatever the
    domain, ``contents`` the same where those of different domains are different ones: one object where there is one
    domain. Both are of the pages that are read; those from ``places.readable`` on are zero.

    >>> import pageshare
    >>> from pageshare.inventory import Inventory
    >>> space = pageshare.PageSpace.of({"a": b"x" * 8192, "b": b"x" * 4096 + b"y" * 4096})
    >>> inventory = Inventory.of(space, pageshare.census(space))
    >>> inventory.everywhere.common().tolist()
    [[1, 1], [1, 2]]
    >>> inventory.states().tolist()
    [3, 3, 3, 1]
    """

    page_size: int
    owners: tuple[str, ...]
    domains: tuple[int, ...]
    domain_names: tuple[str, ...]
    places: Places
    gaps: NDArray[Any]
    everywhere: Contents
    contents: Contents

    @classmethod
    def of(
        cls, space: PageSpace, census: Census, control: Control | None = None, *, threads: int | None = None
    ) -> Inventory:
        """Of a census over ``space.undivided()``, whose ``canonical`` is overwritten. Raises ``Stopped``."""
        everywhere = Contents.of(census.canonical, int(census.zeros[0]), space.owner_first, control, threads)
        domains = tuple(owner.domain for owner in space.owners)
        return cls.having(
            everywhere,
            page_size=space.page_size,
            owners=tuple(owner.name for owner in space.owners),
            domains=domains,
            domain_names=tuple(space.domains),
            places=space.places,
            gaps=space.gaps,
            control=control,
            threads=threads,
        )

    @classmethod
    def having(
        cls,
        everywhere: Contents,
        *,
        domains: tuple[int, ...],
        control: Control | None = None,
        threads: int | None = None,
        **others: Any,
    ) -> Inventory:
        """Of contents whatever the domain."""
        contents = everywhere if len(set(domains)) < 2 else everywhere.divided(domains, control, threads)
        return cls(domains=domains, everywhere=everywhere, contents=contents, **others)

    @cached_property
    def zeros(self) -> NDArray[np.int64]:
        """Zero pages of each owner, those that need no reading included."""
        n = len(self.owners)
        edges = np.append(self.places.owner_first, np.uint64(self.places.pages)).astype(np.int64)
        return np.diff(edges[n:]) + self.contents.owner_pages["zero"].astype(np.int64)

    @cached_property
    def known(self) -> NDArray[np.int64]:
        """Known pages of each owner."""
        n = len(self.owners)
        edges = np.append(self.places.owner_first, np.uint64(self.places.pages)).astype(np.int64)
        read = np.diff(edges[: n + 1]) - self.contents.owner_pages["unreadable"].astype(np.int64)
        return read + np.diff(edges[n:])

    @property
    def bytes(self) -> int:
        """Memory that this takes, but for what the space has too."""
        divided = 0 if self.contents is self.everywhere else self.contents.bytes
        return self.everywhere.bytes + divided

    def canonical(self) -> NDArray[np.uint32]:
        """For each page that is read, the lowest one with the same content, whatever the domain; itself where it could
        not be read."""
        classes = self.everywhere.classes
        canonical = np.arange(len(classes), dtype=np.uint32)
        shared = classes < UNIQUE_CLASS
        canonical[shared] = self.everywhere.contents["first"][classes[shared]]
        return canonical

    def numbers(self) -> NDArray[np.uint32]:
        """For each page that is read, the number of its content, whatever the domain: 0 for zeros, then those that are
        held more than once as ``everywhere`` has them, then those held once, by ascending page; NO_PAGE where it could
        not be read."""
        numbers: NDArray[np.uint32] = self.everywhere.classes.copy()
        unique = numbers == UNIQUE_CLASS
        numbers[unique] = len(self.everywhere.contents) + np.arange(np.count_nonzero(unique), dtype=np.uint32)
        return numbers

    def first_pages(self) -> NDArray[np.uint32]:
        """The first page of each content, by ``numbers``; of zeros NO_PAGE, if none of them has to be read."""
        unique = np.flatnonzero(self.everywhere.classes == UNIQUE_CLASS)
        first: NDArray[np.uint32] = np.concatenate(
            [self.everywhere.contents["first"], unique.astype(np.uint32)]
        )
        return first

    def reclaimed(self, domains: Sequence[int] | None = None) -> tuple[int, int]:
        """Pages that sharing within ``domains`` (a number for each owner; by default, the scan's) saves: of other
        content than zeros, and of zeros."""
        of = self.domains if domains is None else domains
        tally = self.everywhere.tally(of)
        by_domain = np.bincount(np.asarray(of, np.int64), self.zeros, minlength=1) if len(of) else np.zeros(1)
        return tally.shared - tally.kept, int(np.maximum(by_domain - 1, 0).sum())

    def states(self) -> NDArray[np.uint8]:
        """What each page is that is read: ZERO, UNIQUE, INTRA, INTER, UNKNOWN."""
        classes = self.contents.classes
        states: NDArray[np.uint8] = np.take(self._state_of, classes, mode="clip")
        if self.contents.owner_pages["unreadable"].any():
            states[classes == NO_PAGE] = UNKNOWN
        return states

    @cached_property
    def _state_of(self) -> NDArray[np.uint8]:
        """The state of pages of each content, and last of those that have no number."""
        state_of = np.where(self.contents.contents["owners"] > 1, np.uint8(INTER), np.uint8(INTRA))
        state_of[ZERO_CLASS] = ZERO
        return np.append(state_of, np.uint8(UNIQUE))
