"""Pages without a table: the key of a line, the hash of the whole, keys that tell similar pages, and their bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare._core import ffi, lib
from pageshare.core._native import Control, Native, check, native_space

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from pageshare.space import PageSpace

    Pages: TypeAlias = NDArray[np.uint32]

LINE = 64
"""Bytes of a line."""
DIGEST = 16
"""Bytes of a hash that stands for a page outside of a scan."""


def page_numbers(space: PageSpace, pages: Any) -> Pages:
    """Page numbers as C takes them; TypeError or IndexError for what is none of the space's."""
    numbers = np.asarray(pages).reshape(-1)
    if numbers.size == 0:
        return np.empty(0, np.uint32)
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"page numbers must be integers, not {numbers.dtype}")
    for number in (int(numbers.min()), int(numbers.max())):
        if not 0 <= number < space.readable:
            raise IndexError(f"page {number}: the space has {space.readable} to be read")
    return np.ascontiguousarray(numbers, np.uint32)


class PageReader:
    """Looks at pages of a space, a batch at a time, without the GIL.

    >>> import numpy as np, pageshare
    >>> reader = pageshare.core.PageReader(pageshare.PageSpace.of(bytes(4096) + b"x" * 8192))
    >>> keys = reader.peek([0, 1, 2])
    >>> int(keys[0]), bool(keys[1] == keys[2])
    (0, True)
    """

    def __init__(self, space: PageSpace, *, seed: int = 0) -> None:
        """``seed`` is that of keys and hashes."""
        self.space, self.seed = space, seed
        self._native = native_space(space)

    def peek(self, pages: Any, line: int = 0) -> NDArray[np.uint32]:
        """A key of 64 bytes of each page, from byte 64 * ``line`` on: 0 if they are all zero, else 32 bits that are
        equal for equal bytes. Raises IndexError for a page or a line that is not there, MediaError."""
        numbers = page_numbers(self.space, pages)
        if not 0 <= line < self.space.page_size // LINE:
            raise IndexError(f"line {line}: a page has {self.space.page_size // LINE}")
        keys = np.empty(numbers.size, np.uint32)
        status = lib.ps_space_peek(
            self._native.pointer,
            ffi.from_buffer("uint32_t[]", numbers),
            numbers.size,
            line,
            self.seed,
            ffi.from_buffer("uint32_t[]", keys),
        )
        check(status, self._native)
        return keys

    def hash(self, pages: Any, control: Control | None = None) -> NDArray[np.uint64]:
        """XXH3-64 of each page, as ``hash_pages`` has it. Raises IndexError, MediaError, ``Stopped``."""
        numbers = page_numbers(self.space, pages)
        hashes = np.empty(numbers.size, np.uint64)
        status = lib.ps_space_hash(
            self._native.pointer,
            ffi.from_buffer("uint32_t[]", numbers),
            numbers.size,
            self.seed,
            ffi.from_buffer("uint64_t[]", hashes),
            ffi.NULL if control is None else control._c,
        )
        check(status, self._native)
        return hashes

    def digests(
        self, pages: Any, control: Control | None = None, *, kinds: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """XXH3-128 of each page, of seed 0, as 16 bytes in the order in which it is written: uint8 of shape (n, 16).

        ``kinds`` (contiguous, one a page) becomes the ``PageKind`` of each. Raises IndexError, ValueError, MediaError,
        ``Stopped``.

        >>> import pageshare
        >>> reader = pageshare.core.PageReader(pageshare.PageSpace.of(bytes(4096)))
        >>> reader.digests([0]).tobytes().hex()
        '3ee8dc4f9e7ee49593d76fe148c689ba'
        """
        numbers = page_numbers(self.space, pages)
        digests = np.empty((numbers.size, DIGEST), np.uint8)
        if kinds is not None and len(kinds) != len(numbers):
            raise ValueError(f"there is room for {len(kinds)} kinds, of {len(numbers)} pages")
        status = lib.ps_space_digest(
            self._native.pointer,
            ffi.from_buffer("uint32_t[]", numbers),
            numbers.size,
            ffi.from_buffer("uint8_t[]", digests),
            ffi.NULL if kinds is None else ffi.from_buffer("uint8_t[]", kinds, require_writable=True),
            ffi.NULL if control is None else control._c,
        )
        check(status, self._native)
        return digests

    def sketch(self, pages: Any, keys: int, control: Control | None = None) -> NDArray[np.uint32]:
        """``keys`` keys (1 to 64) of each page that tell similar pages, shape (pages, keys): min-wise hashes of the set
        of its 8-byte words that are not zero, 0 where there is none.

        Where two pages have J of all the words of both in common, each key is equal with probability J. Pages of
        different domains have different keys. Raises IndexError, ValueError, MediaError, ``Stopped``.
        """
        numbers = page_numbers(self.space, pages)
        if not 1 <= keys <= lib.PS_SKETCH_MAX:
            raise ValueError(f"{keys} keys: there must be 1 to {lib.PS_SKETCH_MAX}")
        sketches = np.empty((numbers.size, keys), np.uint32)
        status = lib.ps_space_sketch(
            self._native.pointer,
            ffi.from_buffer("uint32_t[]", numbers),
            numbers.size,
            keys,
            self.seed,
            ffi.from_buffer("uint32_t[]", sketches),
            ffi.NULL if control is None else control._c,
        )
        check(status, self._native)
        return sketches

    def read(self, pages: Any) -> NDArray[np.uint8]:
        """The bytes of pages, shape (pages, page_size). Raises IndexError, MediaError."""
        numbers = page_numbers(self.space, pages)
        memory = np.empty((numbers.size, self.space.page_size), np.uint8)
        status = lib.ps_space_gather(
            self._native.pointer,
            ffi.from_buffer("uint32_t[]", numbers),
            numbers.size,
            ffi.from_buffer("uint8_t[]", memory),
        )
        check(status, self._native)
        return memory

    def kinds(self, pages: Any, control: Control | None = None) -> NDArray[np.uint8]:
        """The ``PageKind`` of each page. Raises IndexError, MediaError, ``Stopped``."""
        numbers = page_numbers(self.space, pages)
        kinds = np.empty(numbers.size, np.uint8)
        status = lib.ps_space_kinds(
            self._native.pointer,
            ffi.from_buffer("uint32_t[]", numbers),
            numbers.size,
            ffi.from_buffer("uint8_t[]", kinds),
            ffi.NULL if control is None else control._c,
        )
        check(status, self._native)
        return kinds

    def copy_to(self, other: PageReader, to_pages: Any, pages: Any) -> None:
        """Give ``to_pages`` of ``other``, one after the other, the bytes of ``pages`` of this one.

        The other's space must be writable (``PageSpace.private``), its pages of the same size. Raises IndexError,
        ValueError, MediaError.
        """
        numbers, to_numbers = page_numbers(self.space, pages), page_numbers(other.space, to_pages)
        if numbers.size != to_numbers.size or not other.space.writable:
            raise ValueError("pages must be copied one to one, to a space that can be written to")
        status = lib.ps_space_copy(
            other._native.pointer,
            ffi.from_buffer("uint32_t[]", to_numbers),
            self._native.pointer,
            ffi.from_buffer("uint32_t[]", numbers),
            numbers.size,
        )
        blamed: Native = self._native if lib.ps_space_faulted(self._native.pointer) >= 0 else other._native
        check(status, blamed)
