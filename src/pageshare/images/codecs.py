"""Compressed blocks of memory, by the packages that know how; which of them are extras is said when one is missing.

Nothing here believes what a block says of its own size: it gives ``length`` bytes or an error, and takes no more
memory than that.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

Decode = Callable[[Sequence[Any]], Sequence[Any]]
"""From blocks, bytes or views of some, to buffers, which are good until the next call. Raises some exception, whatever
its package has, if one of them is no such block."""


class Codec(IntEnum):
    """How a block is compressed."""

    ZLIB = 0
    LZO = 1
    SNAPPY = 2
    ZSTD = 3
    SNAPPY_FRAME = 4
    """One chunk of snappy's framing format, its header included: its checksum is looked at."""
    STORED = 5
    """Not compressed: what can't be read in place, in several pieces or claimed twice."""


class MissingCodecError(ValueError):
    """A package is not installed; ``str()`` is what is missing, ``remedy`` the line that adds it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} can't be decoded without another package")
        self.remedy = f"add it: pip install 'pageshare[{extra}]'"


_SNAPPY_START = b"\xff\x06\x00\x00sNaPpY"


def decoder(codec: Codec, length: int) -> Decode:
    """What decodes several blocks that hold ``length`` bytes each. Raises MissingCodecError.

    >>> decoder(Codec.ZLIB, 4096)([zlib.compress(bytes(4096))]) == [bytes(4096)]
    True
    """
    return _DECODERS[codec](length)


def package(name: str, what: str, extra: str = "codecs") -> Any:
    """A package that is an extra. Raises MissingCodecError."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingCodecError(what, extra) from None


def zlib_module() -> Any:
    """The fastest that there is; all have the interface of Python's own."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib


def _zlib(length: int) -> Decode:
    # What a block of so many bytes can come to is bounded by deflate itself: 1032 to 1.
    decompress = zlib_module().decompress
    return lambda blocks: [decompress(block, 15, length) for block in blocks]


def _lzo(length: int) -> Decode:
    decompress = package("lzallright", "LZO", "lzo").LZOCompressor.decompress
    return lambda blocks: [decompress(block, length) for block in blocks]


def _snappy(length: int) -> Decode:
    """Into the same memory again and again, which the CPU has at hand; a block of another size does not fit there."""
    into = package("cramjam", "snappy").snappy.decompress_raw_into
    pages: list[Any] = []

    def decode(blocks: Sequence[Any]) -> Sequence[Any]:
        if len(blocks) > len(pages):
            memory = memoryview(bytearray(len(blocks) * length))
            pages[:] = [memory[at : at + length] for at in range(0, len(memory), length)]
        if list(map(into, blocks, pages)) != [length] * len(blocks):
            raise ValueError("a block of another size")
        return pages[: len(blocks)]

    return decode


def _snappy_frame(length: int) -> Decode:  # noqa: ARG001 - a chunk holds 64 KiB at most, or is refused
    decompress = package("cramjam", "snappy").snappy.decompress
    return lambda chunks: [decompress(_SNAPPY_START + bytes(chunk)) for chunk in chunks]


def _zstd(length: int) -> Decode:
    zstandard = package("zstandard", "zstd")
    decompress, claimed = zstandard.ZstdDecompressor().decompress, zstandard.frame_content_size
    # It takes as much memory as a block claims to hold; -1 is no claim.
    possible = {-1, length}

    def decode(blocks: Sequence[Any]) -> Sequence[Any]:
        if not possible.issuperset(map(claimed, blocks)):
            raise ValueError("a block of another size")
        return [decompress(block, length) for block in blocks]

    return decode


_DECODERS: dict[Codec, Callable[[int], Decode]] = {
    Codec.ZLIB: _zlib,
    Codec.LZO: _lzo,
    Codec.SNAPPY: _snappy,
    Codec.ZSTD: _zstd,
    Codec.SNAPPY_FRAME: _snappy_frame,
    Codec.STORED: lambda _length: lambda blocks: blocks,
}
