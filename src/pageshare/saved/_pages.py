"""Where the columns of a Parquet file lie, and how large their pages say that they become: told before pyarrow takes
the footer apart, and before any page is decompressed.

Nothing else keeps a few kilobytes from becoming gigabytes, and a footer that contradicts itself may end the process
when pyarrow is asked what it says of a column. Of the format (github.com/apache/parquet-format) this reads, in Thrift's
compact protocol, the places of columns, and of page headers the second and third fields: a page's sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

HEADER = 1 << 16
"""Most bytes of a page's header: some statistics may be in it."""
_BOOLEANS, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = (1, 2), (3, 4, 5, 6), 7, 8, (9, 10), 11, 12
_DEEPEST = 8
MOST_VALUES = 1 << 20
"""Entries of lists in a footer at most: a saved scan has some ten a column of a row group. Each may take pyarrow
hundreds of bytes, and as little as one of the footer."""
_COLUMNS: Mapping[int, Any] = {4: {1: {3: {}}}}
"""Where a footer tells of columns: row groups, their columns, the metadata of each."""
_SIZE, _DATA, _DICTIONARY = 7, 9, 11
"""In that metadata: bytes of all pages with their headers; where those with data begin; and that with the words."""


class _Struct:
    """Takes one apart. IndexError where it ends too early, ValueError where it is none."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at, self._values = data, 0, 0

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

    def fields(self, depth: int = 0, inside: Mapping[int, Any] | None = None) -> dict[int, Any]:
        """The integers of a struct, by their numbers; what else it has is passed over, but for the structs and the
        lists of structs ``inside`` of it, by their numbers."""
        found: dict[int, Any] = {}
        numbers, number, inside = set(), 0, inside or {}
        while (first := self._byte()) != 0:
            kind = first & 15
            number = number + (first >> 4) if first >> 4 else self._number()
            if number in numbers or not 0 < number < 1 << 15:
                raise ValueError("a struct has a field twice, or one that none can have")
            numbers.add(number)
            if kind in _INTEGERS[1:]:
                found[number] = self._number()
            elif kind == _STRUCT and number in inside:
                found[number] = self.fields(depth + 1, inside[number])
            elif kind in _LISTS and number in inside:
                of, count = self._list()
                if of != _STRUCT and count:
                    raise ValueError("a list is not of structs")
                self._count(count)
                found[number] = [self.fields(depth + 1, inside[number]) for _ in range(count)]
            else:
                self._pass(kind, depth, within=False)
        return found

    def _list(self) -> tuple[int, int]:
        """The kind and the number of the entries of a list that begins here."""
        first = self._byte()
        return first & 15, self._varint() if first >> 4 == 15 else first >> 4

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise ValueError("it has more parts than any")

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
            of, count = self._list()
            self._all(count, [of], depth)
        elif kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            self._all(count, [kinds >> 4, kinds & 15], depth)
        elif kind == _STRUCT:
            self.fields(depth + 1)
        else:
            raise ValueError(f"no type has the number {kind}")

    def _all(self, count: int, kinds: list[int], depth: int) -> None:
        self._count(count)
        for _ in range(count):
            for kind in kinds:
                self._pass(kind, depth + 1, within=True)


def column_places(footer: bytes) -> list[list[tuple[int, int]]]:
    """Where each column of each row group begins and ends. ValueError for what is no footer, or has such columns as
    are encrypted."""
    try:
        groups = _Struct(footer).fields(inside=_COLUMNS).get(4, [])
        return [[_place(column[3]) for column in group[1]] for group in groups]
    except (IndexError, KeyError, TypeError):
        raise ValueError("its footer is no footer, or its columns are encrypted") from None


def _place(column: Mapping[int, int]) -> tuple[int, int]:
    start = min(column[_DATA], column.get(_DICTIONARY) or column[_DATA])
    return start, start + column[_SIZE]


def page_sizes(file: IO[bytes], start: int, end: int) -> Iterator[int]:
    """The bytes that each page between two places of a file says to become. ValueError where there are none."""
    while start < end:
        file.seek(start)
        header = _Struct(file.read(min(HEADER, end - start)))
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
