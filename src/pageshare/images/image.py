"""What every reader gives (:class:`Image`), reads from (:class:`Source`) and raises (:class:`ImageError`)."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.images.blocks import Compressed
    from pageshare.images.ranges import Kind


def printable(text: str) -> str:
    """``text`` on one line that any terminal can show: what is not printable as a backslash escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


class ImageError(ValueError):
    """A file that can't be read as a memory image. ``str()`` is one line: file, place, problem, remedy."""

    def __init__(self, path: str, where: str, problem: str, remedy: str = "") -> None:
        super().__init__(path, where, problem, remedy)
        self.path = path
        self.where = where
        self.problem = problem
        self.remedy = remedy

    @property
    def reason(self) -> str:
        """The line without the path."""
        place = f"{self.where}: " if self.where else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{place}{self.problem}{remedy}"

    def __str__(self) -> str:
        """The one line for people."""
        return f"{printable(self.path)}: {self.reason}"


class NoDumpError(ImageError):
    """A file that nothing says to be a dump, and that is not like raw memory either."""


class Descriptor:
    """An open file, ``fd``, that is closed when the last one who holds this lets go of it.

    A space reads from the files of its images for as long as it lives, whoever closes an image meanwhile: a mere
    number would by then stand for another file.
    """

    def __init__(self, path: str, flags: int) -> None:
        self.fd = -1
        self.fd = os.open(path, flags)

    @classmethod
    def of(cls, fd: int) -> Descriptor:
        """Of a file that is open already; it is closed with this."""
        self = cls.__new__(cls)
        self.fd = fd
        return self

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        """Close the file."""
        if self.fd >= 0:
            close(self.fd)


class Source:
    """An open file, or a buffer, to read from. A context manager that closes it.

    Attributes: ``path``, for a buffer its name; ``file``, a ``Descriptor``, None for a buffer; ``size`` in bytes
    when it was opened; ``identity``, (device, inode), None for a buffer; ``spooled``: it holds what was decoded, so
    that its holes are zeros that were read, not memory that was never touched.
    """

    spooled = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a regular file or a block device. Raises OSError, or ImageError for what can't be a dump."""
        self.path = os.fspath(path)
        self._map: Any = None
        self._mapped = self._closed = False
        # O_NONBLOCK: a pipe that nobody writes to must be refused, not waited for.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        self.file: Descriptor | None = Descriptor(self.path, flags)
        status = os.fstat(self.fd)
        self._refuse(status.st_mode)
        self.size = self._size(status)
        if self.size == 0:
            raise ImageError(self.path, "", "the file is empty")
        self.identity: tuple[int, int] | None = (status.st_dev, status.st_ino)
        self._modified = status.st_mtime_ns

    @classmethod
    def of_spool(cls, path: str, file: Descriptor, size: int, identity: tuple[int, int] | None) -> Source:
        """What was decoded of the dump ``path``, which has this identity; nobody else can write to ``file``."""
        self = cls.__new__(cls)
        self.path, self.file, self.size, self.identity = path, file, size, identity
        self._map = None
        self._mapped = self._closed = False
        self._modified = os.fstat(file.fd).st_mtime_ns
        self.spooled = True
        return self

    @classmethod
    def of_buffer(cls, buffer: Any, name: str) -> Source:
        """Anything that has the buffer interface and lies in one piece; it is not copied.

        Raises ImageError if it is empty, or an array that is not C-contiguous; TypeError if it is no buffer.
        """
        with memoryview(buffer) as view:
            if not view.c_contiguous:
                raise ImageError(name, "", "the array is not C-contiguous", "pass a copy: numpy.ascontiguousarray")
            if view.nbytes == 0:
                raise ImageError(name, "", "the buffer is empty")
        self = cls.__new__(cls)
        self.path = name
        self.file = None
        self._closed = False
        self.identity = None
        # numpy turns any element type into bytes, memoryview.cast only the native ones.
        self._map = np.frombuffer(buffer, np.uint8)
        # Not a memoryview of it: one that is part of a cycle takes the memory away from those who look at it.
        self._map.flags.writeable = False
        self._mapped = True
        self.size = self._map.nbytes
        return self

    @property
    def fd(self) -> int:
        """The file's number, -1 for a buffer or after ``close``."""
        return self.file.fd if self.file else -1

    def _refuse(self, mode: int) -> None:
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            return
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        if stat.S_ISFIFO(mode):
            raise ImageError(self.path, "", "a pipe can't be read at any place", "save it to a file first")
        raise ImageError(self.path, "", "neither a regular file nor a block device")

    def _size(self, status: os.stat_result) -> int:
        return os.lseek(self.fd, 0, os.SEEK_END) if stat.S_ISBLK(status.st_mode) else status.st_size

    @property
    def held(self) -> int:
        """How many bytes of it there are: all of ``size``, if it is no file that is put together of pieces."""
        return self.size

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, fewer at the end of the file. Raises OSError that names the file."""
        if self.fd < 0:
            found: bytes = self._map[offset : offset + count].tobytes()
            return found
        parts = []
        # A place beyond the end may be any number that a damaged header holds, too large for the system call.
        count = min(count, self.size - offset)
        while count > 0:
            try:
                part = os.pread(self.fd, min(count, 1 << 30), offset)
            except OSError as error:
                raise OSError(error.errno, f"{error.strerror} at offset {offset:#x}", self.path) from error
            if not part:
                break
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pieces(self, offsets: NDArray[np.uint64], lengths: NDArray[Any]) -> NDArray[np.uint32]:
        """In how many pieces each of these runs of bytes lies: 1, or 0 if they are not all there."""
        size = np.uint64(self.size)
        there = (offsets <= size) & (lengths.astype(np.uint64) <= size - np.minimum(offsets, size))
        return np.asarray(there, np.uint32)

    def map(self) -> Any:
        """The whole as read-only memory: a shared mapping of the file, or the buffer itself.

        None where the file can't be mapped (some devices and file systems, no address space): read it then.
        Raises ValueError after ``close``.
        """
        if self._closed:
            raise ValueError(f"{printable(self.path)}: the image was closed before it was scanned")
        if not self._mapped:
            self._mapped = True
            try:
                self._map = mmap.mmap(self.fd, self.size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
            except (OSError, ValueError, OverflowError):
                # ValueError: the file has shrunk since; reading it will say so.
                self._map = None
        return self._map

    def changed(self) -> str | None:
        """A sentence if the file was written to since it was opened. Raises OSError if it became shorter."""
        if self.fd < 0:
            return None
        status = os.fstat(self.fd)
        size = self._size(status)
        if size < self.size:
            raise OSError(
                f"{printable(self.path)}: the file became shorter while it was read"
                f" (from {self.size} to {size} bytes); scan a copy, or when nothing writes to it"
            )
        if size != self.size or status.st_mtime_ns != self._modified:
            return f"{printable(self.path)}: changed while it was read"
        return None

    def close(self) -> None:
        """Close file and mapping; for a space that was made of them, they stay as long as it does."""
        self._map, self.file, self._closed = None, None, True

    def __enter__(self) -> Source:
        """The source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


@dataclass(frozen=True)
class How:
    """What the user says of dumps that their content does not: see :func:`pageshare.open_image`."""

    holes: str = "zero"
    page_size: int = 4096
    base: str | None = None
    meta: str | None = None
    spool: str | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """One dump as its reader found it.

    ``ranges`` is an array of :data:`pageshare.images.ranges.RANGE`: which bytes of memory lie where, in the order
    of the file; each one's ``file`` is an index into ``payload``, which is ``source``, the file that was named, and
    then ``others``: files that hold memory too, such as a base. ``kind`` is RAM or PROCESS. ``incomplete`` has a
    sentence for each thing that should be there and is not, ``warnings`` one for what else is odd; neither names the
    file. ``details`` are facts about the dump by name, for ``pageshare info``. ``compressed`` is what has to be
    decoded first; the ranges have it in one more file, behind those of ``payload``: see
    :func:`pageshare.images.blocks.decoded`. ``spool`` is the folder for what else has to be put together.
    """

    source: Source
    format: str
    ranges: NDArray[Any]
    kind: Kind
    warnings: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()
    details: dict[str, str] = field(default_factory=dict)
    others: tuple[Source, ...] = ()
    compressed: Compressed | None = None
    spool: str | None = None

    @property
    def payload(self) -> tuple[Source, ...]:
        """The files in which the bytes of ``ranges`` lie."""
        return (self.source, *self.others)

    @property
    def payload_bytes(self) -> int:
        """The size of these files together."""
        return sum(source.size for source in self.payload)

    def close(self) -> None:
        """Close the files."""
        for source in self.payload:
            source.close()

    def __enter__(self) -> Image:
        """The image itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()
