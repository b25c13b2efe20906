"""The hashes of contents: of one page each, and keyed."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare import limits
from pageshare.core import DIGEST, Control, PageReader, shed
from pageshare.inventory import Inventory
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_KEY = 64
"""Bytes of a key: BLAKE2b takes no more."""
HASHED_AT_ONCE = 16 << 20
"""Bytes of pages that a thread hashes at a time."""


@dataclass(frozen=True)
class Key:
    """What makes saved hashes worthless to those who don't have it: whoever has the plain hash of a page can tell
    whether it was there.

    >>> key = Key(b"secret")
    >>> len(key.keyed(np.zeros((2, 16), np.uint8))), key.id == Key(b"other").id
    (2, False)
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.secret) <= MOST_KEY:
            raise ValueError(
                f"a key has 1 to {MOST_KEY} bytes, not {len(self.secret)}; make one: head -c 32 /dev/urandom > KEY"
            )

    @property
    def id(self) -> str:
        """Tells keys apart, and nothing of what they are."""
        return hashlib.blake2b(key=self.secret, digest_size=8, person=b"pageshare key id").hexdigest()

    def keyed(self, digests: NDArray[np.uint8], control: Control | None = None) -> NDArray[np.uint8]:
        """Keyed BLAKE2b-128 of each of (n, 16) hashes, of the same shape. Raises ``Stopped``.

        hashlib has no call for many: this is a loop, of some 0.6 us a hash.
        """
        begun = hashlib.blake2b(key=self.secret, digest_size=DIGEST)
        plain, step = np.ascontiguousarray(digests).reshape(-1).data, DIGEST << 16

        def one(at: int) -> bytes:
            hashed = begun.copy()
            hashed.update(plain[at : at + DIGEST])
            return hashed.digest()

        blocks = []
        for first in range(0, len(plain), step):
            if control is not None:
                control.check()
            blocks.append(b"".join(map(one, range(first, min(first + step, len(plain)), DIGEST))))
        return np.frombuffer(b"".join(blocks), np.uint8).reshape(-1, DIGEST)


def ordered(inventory: Inventory) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """How the contents of an inventory are numbered in a file: 0 for zeros, then as they appear there.

    Two arrays: the first page of each content but zeros, ascending; and for each number of ``Inventory.numbers()`` that
    in the file.
    """
    firsts = inventory.first_pages()
    is_first = np.zeros(len(inventory.everywhere.classes), bool)
    is_first[firsts[1:]] = True
    pages = np.flatnonzero(is_first).astype(np.uint32)
    numbers = np.zeros(len(firsts), np.uint32)
    numbers[1:] = np.cumsum(is_first, dtype=np.uint32)[firsts[1:]]
    return pages, numbers


class Hasher:
    """Hashes pages and tells what they look like, by some threads, until it is closed.

    With ``keep_mapped`` no more bytes of files, and some, stay mapped.
    """

    def __init__(
        self,
        space: PageSpace,
        *,
        threads: int | None = None,
        keep_mapped: int | None = None,
        control: Control | None = None,
    ) -> None:
        self._space, self._keep_mapped, self._control = space, keep_mapped, control
        self._reader, self._step = PageReader(space), max(1, HASHED_AT_ONCE // space.page_size)
        self._pool = ThreadPoolExecutor(threads or limits.cpus())

    def __enter__(self) -> Hasher:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def of(self, pages: NDArray[np.uint32], *, kinds: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """XXH3-128 of each page, (pages, 16); best by ascending number. ``kinds`` (one a page) becomes the ``PageKind``
        of each, ``control`` counts them. Raises MediaError, ``Stopped``."""
        digests = np.empty((len(pages), DIGEST), np.uint8)

        def work(first: int) -> None:
            some = slice(first, first + self._step)
            of_kind = None if kinds is None else kinds[some]
            digests[some] = self._reader.digests(pages[some], self._control, kinds=of_kind)
            if self._keep_mapped is not None:
                shed(self._space, self._keep_mapped)

        for _ in self._pool.map(work, range(0, len(pages), self._step)):
            pass
        return digests


def digest_of_zeros(page_size: int) -> NDArray[np.uint8]:
    """The hash of a page of zeros, (16,)."""
    digests: NDArray[np.uint8] = PageReader(PageSpace.of(bytes(page_size), page_size=page_size)).digests([0])[0]
    return digests


def digests_of(space: PageSpace, inventory: Inventory, **how: Any) -> NDArray[np.uint8]:
    """XXH3-128 of each content, (contents, 16) in the order of ``inventory.numbers()``; zeros for zeros if no page is.

    One page of each content is read, by ascending number, as ``how`` tells a ``Hasher``. Raises MediaError,
    ``Stopped``.
    """
    pages, numbers = ordered(inventory)
    in_order = np.zeros((len(pages) + 1, DIGEST), np.uint8)
    if inventory.zeros.any():
        in_order[0] = digest_of_zeros(space.page_size)
    with Hasher(space, **how) as hasher:
        in_order[1:] = hasher.of(pages)
    return in_order[numbers]
