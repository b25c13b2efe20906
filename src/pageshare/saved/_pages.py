"""How large the pages of a Parquet file say that they become: told before any is decompressed.

Nothing else keeps a few kilobytes from becoming gigabytes. Of the format (github.com/apache/parquet-format) this reads
page headers alone: structs in Thrift's compact protocol, whose second and third fields are a page's sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

HEADER = 1 << 16
"""Most bytes of a page's header: some statistics may be in it."""
_BOOLEANS, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = (1, 2), (3, 4, 5, 6), 7, 8, (9, 10), 11, 12
_DEEPEST = 8


class _Header:
    """Takes one apart. IndexError where it ends too early, ValueError where it is none."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def fields(self, depth: int = 0) -> dict[int, int]:
        """The integers of a struct, by their numbers; what else it has is passed over."""
        found, number = {}, 0
        while (first := self._byte()) != 0:
            kind = first & 15
            number = number + (first >> 4) if first >> 4 else self._number()
            if kind in _INTEGERS[1:]:
                found[number] = self._number()
            else:
                self._pass(kind, depth, within=False)
        return found

    def _number(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _pass(self, kind: int, depth: int, *, within: bool) -> None:
        """Over a value, ``within`` a list or a field of its own."""
        if depth > _DEEPEST:
            raise ValueError("a struct in structs in structs")
        if kind in _BOOLEANS:
            self.at += within
        elif kind == _INTEGERS[0]:
            self.at += 1
        elif kind in _INTEGERS:
            self._varint()
        elif kind == _DOUBLE:
            self.at += 8
        elif kind == _BINARY:
            length = self._varint()
            self.at += length
        elif kind in _LISTS:
            first = self._byte()
            count = self._varint() if first >> 4 == 15 else first >> 4
            self._all(count, [first & 15], depth)
        elif kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            self._all(count, [kinds >> 4, kinds & 15], depth)
        elif kind == _STRUCT:
            self.fields(depth + 1)
        else:
            raise ValueError(f"no type has the number {kind}")

    def _all(self, count: int, kinds: list[int], depth: int) -> None:
        if count > len(self._data):
            raise IndexError(count)
        for _ in range(count):
            for kind in kinds:
                self._pass(kind, depth + 1, within=True)


def page_sizes(file: IO[bytes], start: int, end: int) -> Iterator[int]:
    """The bytes that each page between two places of a file says to become. ValueError where there are none."""
    while start < end:
        file.seek(start)
        header = _Header(file.read(min(HEADER, end - start)))
        try:
            fields = header.fields()
        except IndexError:
            raise ValueError("the header of a page is cut short") from None
        large, small = fields.get(2, -1), fields.get(3, -1)
        if large < 0 or small < 0:
            raise ValueError("a page has no size")
        yield large
        start += header.at + small
    if start != end:
        raise ValueError("a page is longer than its column")
