"""VMware snapshots (.vmsn) and suspended machines (.vmss): where the memory in the .vmem file, or in theirs, belongs.

Little-endian: u32 magic, 4 bytes, u32 groups; of each group 80 bytes: its name (64), u64 where its tags begin, u64. A
tag is u8 flags, u8 bytes of name, the name, u32 indices (as many as flags bits 6 and 7 say), and a value of as many
bytes as bits 0 to 5 say; 62 and 63 mean a longer one: bytes stored, bytes in memory (u32 each in files of version 0,
u64 in later ones), u16 padding, the padding, the value. Two zero bytes end the tags. The group ``memory`` has regions:
region ``regionSize[i]`` pages long is at page ``regionPageNum[i]`` of the memory and ``regionPPN[i]`` of the machine.
Old ESX has the memory itself as the value of the tag ``Memory``; it is in a file of its own, of the same name, else.

VMware publishes no layout; this follows what the readers of Volatility and Rekall know of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images import raw
from pageshare.images.image import How, Image, ImageError, Source, printable
from pageshare.images.ranges import RANGE, Kind, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "vmware"

_PAGE = 4096  # of the regions' numbers, whatever the machine's are
_HEADER = struct.Struct("<I4xI")
_GROUP = struct.Struct("<64sQ8x")
_MAGICS = (0xBED2BED0, 0xBAD1BAD1, 0xBED2BED2, 0xBED3BED3)
_STARTS = tuple(struct.pack("<I", magic) for magic in _MAGICS)
_LONG = (62, 63)  # in flags: the value's size follows
_LONGEST_TAG = 2 + 255 + 3 * 4 + 2 * 8 + 2  # without its value

_SUFFIXES = (".vmss", ".vmsn")
_LOW_MEMORY = 3 << 30  # memory up to here is at the same place in the file as in the machine

# Bounds for damaged files; real ones have some dozens.
_MOST_GROUPS = 1 << 12
_MOST_TAGS = 1 << 16
_MOST_FRAMES = 1 << 40

_CONVERT = "convert it with VMware's vmss2core, and read what that writes"


@dataclass(frozen=True)
class _Tag:
    """Where the value of a tag lies, with how many bytes, and how many they are in memory (compressed: more)."""

    at: int
    stored: int
    bytes: int


@dataclass(frozen=True)
class _Regions:
    """(address, offset in the memory, bytes) of the regions, none if it is all one; the memory if it is in here."""

    rows: list[tuple[int, int, int]]
    memory: _Tag | None


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it starts as a .vmss or .vmsn."""
    return head[:4] in _STARTS


def read(source: Source, how: How) -> Image:
    """The memory of a .vmss or .vmsn, which lies in it or in the .vmem beside it, at the machine's addresses.

    With ``how.meta`` that is the .vmss or .vmsn, and ``source`` the memory. Holes are what they are in raw files.
    Raises ImageError if the regions are not to be found or do not fit together, or if there is no memory.
    """
    if how.meta is not None:
        with _other(source, how.meta) as state:
            regions = _regions(state, source.path)
        if regions.memory:
            raise ImageError(source.path, how.meta, "it holds the memory itself", "read that file alone")
        return _arranged(raw.read(source, how), regions)
    regions = _regions(source, source.path)
    if regions.memory:
        return _arranged(raw.read(source, how), regions)
    path = Path(source.path).with_suffix(".vmem")
    if not path.exists():
        raise ImageError(
            source.path,
            "",
            f"the memory is not in it, and there is no {printable(path.name)} beside it",
            f"name the file with the memory, and say --meta {printable(source.path)}",
        )
    memory = _other(source, str(path))
    try:
        image = _arranged(raw.read(memory, how), regions)
    except BaseException:
        memory.close()
        raise
    ranges = image.ranges.copy()
    ranges["file"] += 1
    return replace(image, source=source, ranges=ranges, others=image.payload)


def advice(source: Source) -> tuple[str, ...]:
    """What to say of memory that is read as raw although there is a file that knows its addresses."""
    path = Path(source.path)
    if path.suffix == ".vmem" and source.size > _LOW_MEMORY:
        for state in map(path.with_suffix, _SUFFIXES):
            if state.exists():
                return (
                    f"above 3 GiB these are not the machine's addresses: for those say --meta {printable(str(state))}"
                    " (the counts are the same)",
                )
    return ()


def _other(source: Source, path: str) -> Source:
    """Another file that is needed to read ``source``; what is wrong with it is said of that."""
    try:
        return Source(path)
    except OSError as error:
        raise ImageError(source.path, printable(path), error.strerror or str(error)) from error
    except ImageError as error:
        raise ImageError(source.path, printable(path), error.problem, error.remedy) from error


def _regions(state: Source, named: str) -> _Regions:
    """What the group ``memory`` says. Errors are about the file that was ``named``."""
    where = "group memory" if state.path == named else f"{printable(state.path)}: group memory"

    def wrong(problem: str, remedy: str = "") -> ImageError:
        return ImageError(named, where, problem, remedy)

    magic, tags_at = _find_group(state, wrong)
    tags = _Tags(state, tags_at, long_size="<II" if magic & 0xF == 0 else "<QQ")
    count = tags.number("regionsCount", ())
    if not count and not tags.ended and not tags.memory:
        raise wrong(f"the file ends at {state.size:#x}, before it is said which regions there are")
    if count is None and tags.number("regionPPN", (0,)) is not None:
        raise wrong("there are regions, but no regionsCount")
    if len(tags.memory) > 1:
        raise wrong(f"the memory lies in it in {len(tags.memory)} parts, which is not read", _CONVERT)
    for tag in tags.memory:
        if tag.stored != tag.bytes:
            raise wrong(f"the memory in it is compressed ({tag.bytes} bytes to {tag.stored}), not read", _CONVERT)
    rows = []
    for region in range(count or 0):
        place = [tags.number(name, (region,)) for name in ("regionPPN", "regionPageNum", "regionSize")]
        if None in place:
            raise wrong(f"no regionPPN, regionPageNum and regionSize of region {region}, of {count}")
        address, offset, length = (int(each or 0) for each in place)
        if max(address, offset) + length > _MOST_FRAMES:
            raise wrong(f"region {region}, {length} pages at {address:#x}, is beyond what a machine can address")
        rows.append((address * _PAGE, offset * _PAGE, length * _PAGE))
    return _Regions(rows, tags.memory[0] if tags.memory else None)


def _find_group(state: Source, wrong: Callable[..., ImageError]) -> tuple[int, int]:
    """The magic number, and where the tags of the group ``memory`` begin."""
    header = state.read(0, _HEADER.size)
    if not header.startswith(_STARTS):
        raise wrong("it is no .vmss or .vmsn")
    if len(header) < _HEADER.size:
        raise wrong(f"the file ends in its header, after {len(header)} bytes")
    magic, count = _HEADER.unpack(header)
    if count > _MOST_GROUPS:
        raise wrong(f"{count} groups are beyond belief")
    groups = state.read(_HEADER.size, count * _GROUP.size)
    if len(groups) < count * _GROUP.size:
        raise wrong(f"the file ends in the list of its {count} groups")
    for name, tags_at in _GROUP.iter_unpack(groups):
        if name.rstrip(b"\0") == b"memory":
            return int(magic), int(tags_at)
    raise wrong("there is none", "a snapshot that was taken without memory has none: take one with it")


class _Tags:
    """The tags of a group: their values as numbers; ``memory``, those that hold it; ``ended``, if the end was found."""

    def __init__(self, state: Source, at: int, *, long_size: str) -> None:
        self.memory: list[_Tag] = []
        self.ended = False
        self._numbers: dict[tuple[str, tuple[int, ...]], int] = {}
        for _ in range(_MOST_TAGS):
            head = state.read(at, _LONGEST_TAG)
            if head[:2] == b"\0\0":
                self.ended = True
                return
            try:
                flags, name_bytes = head[0], head[1]
                indices = struct.unpack_from(f"<{flags >> 6}I", head, 2 + name_bytes)
                after = 2 + name_bytes + 4 * len(indices)
                stored = size = flags & 0x3F
                if stored in _LONG:
                    stored, size = struct.unpack_from(long_size, head, after)
                    after += struct.calcsize(long_size)
                    after += 2 + struct.unpack_from("<H", head, after)[0]
            except (IndexError, struct.error):
                return
            name = head[2 : 2 + name_bytes].decode("latin-1")
            at += after
            if name == "Memory" and size > 8:
                self.memory.append(_Tag(at, stored, size))
            elif stored <= 8:
                value = state.read(at, stored)
                if len(value) < stored:
                    return
                self._numbers[name, indices] = int.from_bytes(value, "little")
            at += stored

    def number(self, name: str, indices: tuple[int, ...]) -> int | None:
        """The value of a tag, None if there is no such tag."""
        return self._numbers.get((name, indices))


def _arranged(image: Image, regions: _Regions) -> Image:
    """Memory that was read as raw, with its regions at their addresses."""
    source = image.source
    start, size = (regions.memory.at, regions.memory.bytes) if regions.memory else (0, source.size)
    rows = regions.rows or [(0, 0, size)]
    left = max(0, min(size, source.size - start))
    parts = []
    used = missing = 0
    for address, offset, length in rows:
        present = max(0, min(length, left - offset))
        used, missing = used + present, missing + length - present
        if used > left:
            raise ImageError(
                source.path, "group memory", f"its regions claim more than the {left} bytes of memory that there are"
            )
        if present:
            parts.append(_moved(image.ranges, start + offset, present, address))
        if present < length:
            parts.append(np.array([(address + present, length - present, -1, 0, State.LOST, Kind.RAM)], RANGE))
    if not parts:
        raise ImageError(source.path, "group memory", "its regions hold no memory")
    warnings, incomplete = [], []
    if left > used:
        warnings.append(f"{left - used} bytes of the memory belong to no region of the machine's; they are left out")
    if missing:
        incomplete.append(f"there are {left} bytes of memory, its regions go on: {missing} bytes are lost")
    where = "in it" if regions.memory else Path(source.path).name
    details = {"regions": str(len(regions.rows) or 1), "memory": where}
    return replace(
        image,
        format=NAME,
        ranges=np.concatenate(parts),
        warnings=tuple(warnings),
        incomplete=tuple(incomplete),
        details={**image.details, **details},
    )


def _moved(ranges: NDArray[Any], start: int, length: int, address: int) -> NDArray[Any]:
    """What of sorted ranges lies at ``start``, for ``length`` bytes, as it is when that is at ``address``."""
    first, end = np.uint64(start), np.uint64(start + length)
    ends = ranges["address"] + ranges["bytes"]
    part: NDArray[Any] = ranges[np.searchsorted(ends, first, "right") : np.searchsorted(ranges["address"], end)].copy()
    low = np.maximum(part["address"], first)
    high = np.minimum(part["address"] + part["bytes"], end)
    part["offset"] += np.where(part["offset"] >= 0, (low - part["address"]).astype(np.int64), 0)
    part["address"] = low - first + np.uint64(address)
    part["bytes"] = high - low
    return part
