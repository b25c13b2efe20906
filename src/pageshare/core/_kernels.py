"""Hashing, zero tests and comparison of pages, on each instruction set that the processor has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare._core import ffi, lib
from pageshare.space import check_hashable

if TYPE_CHECKING:
    from numpy.typing import NDArray


def kernels() -> list[str]:
    """Names of the hash kernels that this processor runs, slowest first: ``["scalar", "sse2", ...]``."""
    return [
        ffi.string(lib.ps_kernel_name(i)).decode()
        for i in range(lib.ps_kernel_count())
        if lib.ps_kernel_usable(i)
    ]


def kernel_number(name: str | None) -> int:
    """What C knows a kernel by; the best one for None."""
    if name is None:
        return int(lib.ps_kernel_best())
    for i in range(lib.ps_kernel_count()):
        if ffi.string(lib.ps_kernel_name(i)).decode() == name and lib.ps_kernel_usable(i):
            return i
    raise ValueError(f"no hash kernel {name!r} here: this processor runs {', '.join(kernels())}")


def _page_count(view: Any, page_size: int) -> int:
    check_hashable(page_size)
    if len(view) % page_size:
        raise ValueError(f"{len(view)} bytes are not a whole number of pages of {page_size} bytes")
    return len(view) // page_size


def hash_pages(
    buffer: Any, page_size: int = 4096, *, bits: int = 64, seed: int = 0, kernel: str | None = None
) -> NDArray[np.uint64]:
    """XXH3 of each page of a buffer, as the XXH3 specification defines it, with a 64-bit seed.

    Returns uint64 of shape (n,) for ``bits=64``, or (n, 2), low word first, for ``bits=128``.
    Raises ValueError where the buffer is not a whole number of pages.

    >>> import pageshare.core
    >>> hex(pageshare.core.hash_pages(bytes(4096))[0])
    '0x93d76fe148c689ba'
    """
    if bits not in (64, 128):
        raise ValueError(f"{bits} bits: XXH3 has 64 or 128")
    number, view = kernel_number(kernel), ffi.from_buffer("uint8_t[]", buffer)
    count = _page_count(view, page_size)
    hashes = np.empty(count if bits == 64 else (count, 2), np.uint64)
    key = ffi.new("ps_hash_key *")
    lib.ps_hash_key_init(key, seed)
    function = lib.ps_hash64 if bits == 64 else lib.ps_hash128
    function(number, key, view, page_size, count, ffi.from_buffer("uint64_t[]", hashes))
    return hashes


def is_zero(page: Any, *, kernel: str | None = None) -> bool:
    """Whether every byte is zero; the length must be a multiple of 64, and not 0."""
    view = ffi.from_buffer("uint8_t[]", page)
    if not len(view) or len(view) % 64:
        raise ValueError(f"{len(view)} bytes: must be a multiple of 64, and not 0")
    return bool(lib.ps_is_zero(kernel_number(kernel), view, len(view)))


def equal(a: Any, b: Any, *, kernel: str | None = None) -> bool:
    """Whether two buffers of one length, a multiple of 64 and not 0, hold the same bytes."""
    one, other = ffi.from_buffer("uint8_t[]", a), ffi.from_buffer("uint8_t[]", b)
    if len(one) != len(other) or not len(one) or len(one) % 64:
        raise ValueError(f"{len(one)} and {len(other)} bytes: must be equal, a multiple of 64, and not 0")
    return bool(lib.ps_equal(kernel_number(kernel), one, other, len(one)))
