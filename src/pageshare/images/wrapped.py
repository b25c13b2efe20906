"""Dumps inside of compressed files, and dumps that come through a pipe: read through once, into a spool file."""

from __future__ import annotations

import bz2
import contextlib
import lzma
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from pageshare.images.codecs import MissingCodecError, package, zlib_module
from pageshare.images.image import ImageError, Source
from pageshare.images.spool import Spool

Progress = Callable[[int], object]
"""Called with the bytes of the file that have been read so far."""

_READ = 1 << 18
_AT_ONCE = 1 << 20
"""Bytes that are decompressed at a time."""
_FEW_STREAMS, _LEAST_HELD = 1 << 14, 1 << 10
"""Beyond so many streams one behind the other they must hold so many bytes each: each takes time, held or not."""
_ANYWAY, _MOST_RATIO = 1 << 33, 20_000
"""A stream may come to so many bytes whatever its length, and to so many times its length: a terabyte that is nearly
all zeros does not come near it, and what a few kilobytes made to do harm can take has an end."""


class _Stream(Protocol):
    """What bz2 and lzma have, and others are given: at most so many bytes at a time."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Zlib:
    """zlib's and isal's objects with that interface."""

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib_module().decompressobj(window_bits)
        self._more = False

    @property
    def eof(self) -> bool:
        return bool(self._stream.eof)

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail and not self._more

    @property
    def unused_data(self) -> bytes:
        return bytes(self._stream.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        found = bytes(self._stream.decompress(self._stream.unconsumed_tail + data, max_length))
        self._more = len(found) == max_length and not self._stream.eof
        return found


class _Zstd:
    """zstandard's object, which knows no limit, fed so little that 16 MiB can come of it at most."""

    _PIECE = 1 << 9

    def __init__(self) -> None:
        # What zstd --long=31 writes; such a window takes as much memory as comes to lie in it.
        self._stream = package("zstandard", "zstd").ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        self._waiting = b""

    @property
    def eof(self) -> bool:
        return bool(self._stream.eof)

    @property
    def needs_input(self) -> bool:
        return not self._waiting

    @property
    def unused_data(self) -> bytes:
        return bytes(self._stream.unused_data) + self._waiting

    def decompress(self, data: bytes, max_length: int) -> bytes:
        waiting, found, at = self._waiting + data, bytearray(), 0
        while at < len(waiting) and len(found) < max_length and not self._stream.eof:
            found += self._stream.decompress(waiting[at : at + self._PIECE])
            at += self._PIECE
        self._waiting = waiting[at:]
        return bytes(found)


class Wrapper(NamedTuple):
    """A way to compress files: the first bytes of one, what decompresses it, and how what is inside begins if the first
    bytes alone do not say enough."""

    name: str
    magics: tuple[bytes, ...]
    stream: Callable[[], _Stream]
    inside: bytes = b""


# RFC 1950: the method and any window (LiME's is of 2 KiB), and a check of both; alone, two bytes say little.
_ZLIB = tuple(
    bytes([window << 4 | 8, flags])
    for window in range(8)
    for flags in range(256)
    if not (window << 12 | 8 << 8 | flags) % 31
)

WRAPPERS = (
    Wrapper("gzip", (b"\x1f\x8b\x08",), lambda: _Zlib(31)),
    Wrapper("zstd", (b"\x28\xb5\x2f\xfd",), _Zstd),
    Wrapper("lz4", (b"\x04\x22\x4d\x18",), lambda: package("lz4.frame", "lz4").LZ4FrameDecompressor()),
    Wrapper("xz", (b"\xfd7zXZ\0",), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 30)),
    Wrapper("bzip2", (b"BZh",), bz2.BZ2Decompressor),
    # LiME's compress=1.
    Wrapper("zlib", _ZLIB, lambda: _Zlib(15), b"EMiL"),
)


def wrapper(head: bytes) -> Wrapper | None:
    """How a file that begins so is compressed; None if it is not."""
    while _is_skippable(head):  # pzstd begins with such frames
        head = head[8 + int.from_bytes(head[4:8], "little") :]
    for each in WRAPPERS:
        if head.startswith(each.magics) and (not each.inside or _begins_with(each, head)):
            return each
    return None


def _is_skippable(data: bytes) -> bool:
    """Whether a frame comes that says nothing, in zstd's format as in lz4's."""
    return len(data) >= 8 and data[0] & 0xF0 == 0x50 and data[1:4] == b"\x2a\x4d\x18"


def _begins_with(how: Wrapper, head: bytes) -> bool:
    with contextlib.suppress(Exception):  # each codec has its own
        return how.stream().decompress(head, len(how.inside)) == how.inside
    return False


class Unwrapped(NamedTuple):
    """What was inside: a source, how it was compressed, what is missing (sentences) and what is odd."""

    source: Source
    name: str = ""
    incomplete: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def unwrap(source: Source, how: Wrapper, *, folder: str | None, at: int = 0, progress: Progress) -> Unwrapped:
    """Decompress a file, from offset ``at`` on, into a spool file in ``folder``.

    What a stream that was cut off holds is given, and said to be incomplete. Raises ImageError for one that is
    damaged, that decompresses to more than any dump would, or where there is no room; OSError, also if it became
    shorter.
    """
    place = at

    def read() -> bytes:
        nonlocal place
        data = source.read(place, _READ)
        place += len(data)
        progress(place)
        return data

    inside = _unwrap(source.path, read, how, folder=folder, need=source.size - at, identity=source.identity)
    if source.changed():
        return inside._replace(warnings=(*inside.warnings, "changed while it was read"))
    return inside


def from_pipe(fd: int, path: str, *, as_it_is: bool, folder: str | None, progress: Progress) -> Unwrapped:
    """All that comes from an open pipe, decompressed if it is compressed, unless it is to be taken ``as_it_is``.

    Raises as ``unwrap`` does.
    """
    taken = 0
    head = b""

    def read() -> bytes:
        nonlocal taken, head
        data, head = head or os.read(fd, _READ), b""
        taken += len(data)
        progress(taken)
        return data

    # A pipe gives as little as was written at once: enough of it must be there to tell what it is.
    start = bytearray()
    while len(start) < _READ and (data := os.read(fd, _READ)):
        start += data
    if not start:
        raise ImageError(path, "", "nothing came from the pipe")
    head = bytes(start)
    how = None if as_it_is else wrapper(head)
    if how:
        return _unwrap(path, read, how, folder=folder, need=0, identity=None)
    with _spooling(path, folder, 0) as (spool, put):
        while data := read():
            put(data)
    return Unwrapped(spool.as_source(put(b""), None))


class _Put:
    """Takes the bytes of a file as they come, and gives how many they are so far."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._waiting = bytearray()
        self._at = 0

    def __call__(self, data: bytes) -> int:
        self._waiting += data
        if len(self._waiting) >= _AT_ONCE:
            self.flush(len(self._waiting) // _AT_ONCE * _AT_ONCE)
        return self._at + len(self._waiting)

    def flush(self, count: int) -> None:
        self._spool.write(self._waiting[:count], self._at)
        del self._waiting[:count]
        self._at += count


@contextlib.contextmanager
def _spooling(path: str, folder: str | None, need: int) -> Iterator[tuple[Spool, _Put]]:
    spool = Spool(path, folder, need=need)
    put = _Put(spool)
    yield spool, put
    put.flush(put(b"") - put._at)


def _unwrap(
    path: str,
    read: Callable[[], bytes],
    how: Wrapper,
    *,
    folder: str | None,
    need: int,
    identity: tuple[int, int] | None,
) -> Unwrapped:
    incomplete: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    with _spooling(path, folder, need) as (spool, put):
        try:
            stream = how.stream()
        except MissingCodecError as error:
            raise ImageError(path, f"compressed with {how.name}", str(error), error.remedy) from None
        taken = size = 0
        streams = 1
        data = read()
        while True:
            taken += len(data)
            try:
                size = put(stream.decompress(data, _AT_ONCE))
            except ImageError:
                raise
            except Exception as error:  # each codec has its own
                raise ImageError(
                    path,
                    f"{how.name} stream, about {taken} bytes into it",
                    f"it is damaged ({error})",
                    "take the dump again, or decompress by other means what can be had of it",
                ) from error
            if size > _ANYWAY + _MOST_RATIO * taken:
                raise ImageError(
                    path,
                    f"{how.name} stream",
                    f"its first {taken} bytes come to {size}: no memory dump does that",
                    "if it is one all the same, decompress it first",
                )
            if stream.eof:
                # Streams one behind the other are one; zeros may lie between them, and fill up a last block.
                data = (stream.unused_data or b"").lstrip(b"\0")
                while not data and (more := read()):
                    taken += len(more)
                    data = more.lstrip(b"\0")
                if not data:
                    break
                if len(data) < 8:
                    data += read()
                if not data.startswith(how.magics) and not _is_skippable(data):
                    warnings = (f"what follows the end of the {how.name} stream is left out",)
                    break
                taken -= len(data)
                streams += 1
                if streams > _FEW_STREAMS and size < streams * _LEAST_HELD:
                    raise ImageError(
                        path,
                        f"{how.name} stream",
                        f"its first {streams} streams, one behind the other, hold {size} bytes: no dump does that",
                        "if it is one all the same, decompress it first",
                    )
                stream = how.stream()
            elif not stream.needs_input:
                data = b""
            else:
                data = read()
                if not data:
                    incomplete = (
                        f"the {how.name} stream ends in the middle: what comes after the first {size} bytes is missing",
                    )
                    break
    if not size:
        raise ImageError(path, f"{how.name} stream", "there is nothing in it")
    return Unwrapped(spool.as_source(size, identity), f"{how.name}, {taken:,} bytes", incomplete, warnings)
