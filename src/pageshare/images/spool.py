"""Where what is decoded lies: files without a name, gone when nobody has them open any more.

Decoded memory has to lie somewhere while it is scanned, and may be more than this machine has. Zeros are not
written: they are holes, which take no space.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images.image import Descriptor, ImageError, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

ZEROS = 4096
"""Bytes that are left out together if they are zero."""
KEPT_FREE = 1 << 28
"""Bytes that are left to others."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MOST_VECTORS = os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in os.sysconf_names else 16


def spool_folder(folder: str | None = None) -> str:
    """``folder``, or $TMPDIR, or /var/tmp, which unlike /tmp does not lie in memory."""
    large = "/var/tmp"  # noqa: S108 - files there have no name
    return folder or os.environ.get("TMPDIR") or (large if os.access(large, os.W_OK) else tempfile.gettempdir())


def check_room(path: str, need: int, folder: str) -> None:
    """Raise ImageError, for the dump ``path``, unless ``need`` bytes more can lie in ``folder``."""
    with _explained(path, folder):
        status = os.statvfs(folder)
    free = max(0, status.f_bavail * status.f_frsize - KEPT_FREE)
    if need > free or not free:
        takes = f"up to {need / 2**20:,.0f} MiB" if need else "more"
        raise ImageError(
            path, "", f"decoded it takes {takes}, and {folder} has {free / 2**20:,.0f} MiB to spare", _ELSEWHERE
        )


_ELSEWHERE = "name a folder with more room: --spool DIR, or the environment variable TMPDIR"


@contextlib.contextmanager
def _explained(path: str, folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = _ELSEWHERE if error.errno in _NO_ROOM else "name another folder: --spool DIR"
        raise ImageError(path, f"writing what is decoded to {folder}", error.strerror or str(error), remedy) from error


class Spool:
    """A file for what is decoded of one dump: written to at any place, zeros left out, then a ``Source``.

    ``path`` is the dump's, for messages. Raises ImageError where the folder has no room, now or later.
    """

    def __init__(self, path: str, folder: str | None = None, *, need: int = 0) -> None:
        self.path, self.folder = path, spool_folder(folder)
        check_room(path, need, self.folder)
        with self.explained(), tempfile.TemporaryFile(dir=self.folder) as file:
            self.file = Descriptor.of(os.dup(file.fileno()))
        self._unchecked = 0

    def explained(self) -> AbstractContextManager[None]:
        """Within it an OSError becomes an ImageError that says what to do."""
        return _explained(self.path, self.folder)

    def write(self, data: Any, offset: int) -> None:
        """Put a buffer at ``offset``."""
        with self.explained():
            self._unchecked += write_nonzero(self.file.fd, data, offset)
        if self._unchecked >= KEPT_FREE // 2:
            self._unchecked = 0
            check_room(self.path, 0, self.folder)

    def as_source(self, size: int, identity: tuple[int, int] | None) -> Source:
        """What was written, ``size`` bytes, zeros where nothing was. ``identity`` is the dump's (see ``Source``)."""
        with self.explained():
            os.ftruncate(self.file.fd, size)
        return Source.of_spool(self.path, self.file, size, identity)


def write_nonzero(fd: int, data: Any, offset: int) -> int:
    """Write a buffer to ``offset``, pages of zeros left out; how many bytes that came to. Raises OSError."""
    block = np.frombuffer(data, np.uint8)
    head = min(-offset % ZEROS, len(block))
    tail = head + (len(block) - head) // ZEROS * ZEROS
    rows = block[head:tail].view(np.uint64).reshape(-1, ZEROS // 8)
    runs = [(head + first * ZEROS, head + end * ZEROS) for first, end in _runs(np.bitwise_or.reduce(rows, axis=1) != 0)]
    runs += [edge for edge in ((0, head), (tail, len(block))) if block[slice(*edge)].any()]
    for first, end in runs:
        write_all(fd, [block[first:end]], offset + first)
    return sum(end - first for first, end in runs)


def write_all(fd: int, parts: Sequence[Any], offset: int) -> None:
    """Write buffers one behind the other from ``offset`` on. Raises OSError."""
    for first in range(0, len(parts), _MOST_VECTORS):
        some = parts[first : first + _MOST_VECTORS]
        wanted = sum(len(part) for part in some)
        written = os.pwritev(fd, some, offset)
        if written < wanted:  # a nearly full disk: the next call says so
            rest = b"".join(some)[written:]
            while rest:
                more = os.pwrite(fd, rest, offset + written)
                rest, written = rest[more:], written + more
        offset += wanted


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, end) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]
