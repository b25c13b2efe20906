"""Pages of running processes, hashed as they are read, and the kernel's tables of page frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare._core import ffi, lib
from pageshare.core._native import Control, check

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAGE_ZERO, PAGE_UNREADABLE = int(lib.PS_PAGE_ZERO), int(lib.PS_PAGE_UNREADABLE)
"""What a page was when it was read; anything else is 0."""


class ProcessPages:
    """Reads pages of processes as they run (process_vm_readv(2)) through a buffer of its own, and hashes them.

    >>> import mmap, os, numpy as np
    >>> from pageshare.core import ProcessPages
    >>> page = mmap.PAGESIZE
    >>> memory = np.zeros(2 * page, np.uint8)
    >>> first = -(-memory.ctypes.data // page)
    >>> hashes, states = ProcessPages(page, seed=1).hash(os.getpid(), np.array([first], np.uint64))
    >>> hashes.shape, states.tolist()
    ((1, 2), [1])
    """

    def __init__(self, page_size: int, *, seed: int, buffer_bytes: int = 256 << 10) -> None:
        """``seed`` (64 bits) is that of the hash; ``buffer_bytes`` is all the memory that pages ever take here."""
        self.page_size, self.seed = page_size, seed
        self._buffer = np.empty(max(buffer_bytes, page_size), np.uint8)

    def hash(
        self,
        pid: int,
        pages: NDArray[np.uint64],
        *,
        shared: NDArray[np.bool_] | None = None,
        mem: int = -1,
        control: Control | None = None,
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
        """XXH3-128 (uint64, shape ``(n, 2)``, low word first) and state (uint8, ``(n,)``) of pages by number
        (address / page size), in ascending order.

        ``mem`` is the open /proc/PID/mem, from which pages without read permission are taken, and those that are
        ``shared`` (bool, ``(n,)``): anonymous ones that are mapped more than once, which the kernel would copy for
        process_vm_readv. Pages that are not there any more have the state ``PAGE_UNREADABLE``. Raises
        ProcessLookupError where the process has ended,
        PermissionError, ``Stopped``.
        """
        begins = np.ones(len(pages), bool)
        begins[1:] = np.diff(pages) != 1
        if shared is not None:
            begins[1:] |= shared[1:] != shared[:-1]
        starts = np.flatnonzero(begins)
        runs = np.zeros((len(starts), 3), np.uint64)
        runs[:, 0] = pages[starts] * np.uint64(self.page_size)
        runs[:, 1] = np.diff(starts, append=len(pages))
        if shared is not None:
            runs[:, 2] = shared[starts]
        hashes, states = np.empty((len(pages), 2), np.uint64), np.empty(len(pages), np.uint8)
        status = lib.ps_process_hash(
            pid,
            mem,
            ffi.cast("ps_run *", ffi.from_buffer(runs)) if len(runs) else ffi.NULL,
            len(runs),
            self.page_size,
            self.seed,
            ffi.from_buffer("uint8_t[]", self._buffer),
            len(self._buffer),
            ffi.from_buffer("uint64_t[]", hashes),
            ffi.from_buffer("uint8_t[]", states),
            ffi.NULL if control is None else control._c,
        )
        check(status)
        return hashes, states


def read_words(fd: int, places: NDArray[np.uint64], control: Control | None = None) -> NDArray[np.uint64]:
    """The 64-bit words number ``places`` (uint64, ascending) of a file such as /proc/kpageflags; 0 beyond its end.

    Raises PermissionError where it can't be read, ``Stopped``.
    """
    places = np.ascontiguousarray(places, np.uint64)
    words = np.empty(len(places), np.uint64)
    status = lib.ps_read_words(
        fd,
        ffi.from_buffer("uint64_t[]", places),
        len(places),
        ffi.from_buffer("uint64_t[]", words),
        ffi.NULL if control is None else control._c,
    )
    check(status)
    return words
