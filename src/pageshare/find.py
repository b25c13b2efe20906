"""Where a content is, in a saved scan: of a page that is named by its place, by its hash, or by its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pageshare.core import DIGEST, UNIQUE_CLASS, ZERO_CLASS, hash_pages
from pageshare.inventory import Inventory
from pageshare.places import NOWHERE
from pageshare.saved import Key, SavedScan

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "pageshare-find/1"
MOST = 100
"""Stretches, or pages of a file, that are told of unless all are asked for."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive pages of an owner; ``address`` is in bytes."""

    owner: str
    address: int
    pages: int


@dataclass(frozen=True)
class Held:
    """A content and where it is: ``copies`` pages hold it, in ``stretches``, of which ``left_out`` more are not listed.

    ``content`` is its number in the saved file, ``state`` "data" or "zero". ``by`` says what tells that these pages are
    what was asked for: "bytes", which were compared when the scan was made, or "hash". ``offsets`` are those of pages
    with this content in the file that was asked for, in bytes.
    """

    content: int
    state: Literal["data", "zero"]
    hash: str
    copies: int
    by: Literal["bytes", "hash"]
    stretches: tuple[Stretch, ...]
    left_out: int
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True)
class At:
    """The place that was asked for; ``state`` of the page there is that of the saved file ("data", "zero", "hole",
    "unknown"), or None where the owner has no memory that counts."""

    owner: str
    address: int
    state: str | None


@dataclass(frozen=True)
class OfFile:
    """The file whose pages were asked for: how many it has, and how many of them are in the scan."""

    path: str
    pages: int
    found: int


@dataclass(frozen=True)
class Found:
    """The answer: ``at``, ``hash`` (hexadecimal) or ``file`` is what was asked for, ``contents`` what was found."""

    scan: str
    page_size: int
    key_id: str | None
    contents: tuple[Held, ...]
    at: At | None = None
    hash: str | None = None
    file: OfFile | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; docs/json.md explains it."""
        document: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        for name in ("at", "hash", "file"):
            if document[name] is None:
                del document[name]
        document["contents"] = [
            {**each, "stretches": list(each["stretches"]), "offsets": list(each["offsets"])}
            for each in document["contents"]
        ]
        if self.file is None:
            for each in document["contents"]:
                del each["offsets"]
        return document


def at(scan: SavedScan, owner: str, address: int, *, most: int | None = MOST) -> Found:
    """What is at an address, in bytes, of an owner, and where else. ValueError if there is no such owner."""
    inventory = scan.inventory
    if owner not in inventory.owners:
        names = ", ".join(inventory.owners[:10]) + (", ..." if len(inventory.owners) > 10 else "")
        raise ValueError(f"no owner {owner!r}; there are {names}")
    number = inventory.owners.index(owner)
    frame = address // inventory.page_size
    page = int(inventory.places.find(number, np.array([frame], np.uint64))[0])
    if page == NOWHERE:
        gaps = inventory.gaps
        unknown = (gaps["owner"] == number) & (gaps["frame"] <= frame) & (frame - gaps["frame"] < gaps["pages"])
        return _found(scan, (), at=At(owner, address, "unknown" if unknown.any() else None))
    is_hole = page >= inventory.places.readable
    content = ZERO_CLASS if is_hole else int(inventory.numbers()[page])
    state = "hole" if is_hole else "zero" if content == ZERO_CLASS else "data"
    return _found(scan, (held(scan, content, by="bytes", most=most),), at=At(owner, address, state))


def by_hash(scan: SavedScan, hash: bytes, *, most: int | None = MOST) -> Found:
    """Which pages have a hash, as it is saved (keyed, if the scan's are). ValueError if it isn't one."""
    if len(hash) != DIGEST:
        raise ValueError(f"a hash has {2 * DIGEST} hexadecimal digits, as xxhsum -H128 prints it, not {2 * len(hash)}")
    (number,) = numbers_of(scan, np.frombuffer(hash, np.uint8).reshape(1, DIGEST)).tolist()
    contents = () if number < 0 else (held(scan, number, by="hash", most=most),)
    return _found(scan, contents, hash=hash.hex())


def by_content(scan: SavedScan, path: str, digests: NDArray[np.uint8], *, most: int | None = MOST) -> Found:
    """Which pages hold what the pages of a file hold, whose hashes these are, (pages, 16), as they would be saved."""
    numbers = numbers_of(scan, digests)
    found = np.flatnonzero(numbers >= 0)
    distinct, first = np.unique(numbers[found], return_index=True)
    in_order = distinct[np.argsort(first)]
    order = np.argsort(numbers[found], kind="stable")
    edges = np.searchsorted(numbers[found][order], np.stack([in_order, in_order + 1]))
    contents = tuple(
        held(scan, number, by="hash", most=most, offsets=(found[order[low:high]] * scan.report.page_size).tolist())
        for number, low, high in zip(in_order.tolist()[:most], *edges.tolist(), strict=False)
    )
    return _found(scan, contents, file=OfFile(path, len(digests), len(found)))


def digests_of_pages(data: Any, page_size: int, key: Key | None = None) -> NDArray[np.uint8]:
    """The hashes of pages one behind the other, as they would be saved: (pages, 16)."""
    low_first = hash_pages(data, page_size, bits=128)
    digests = np.ascontiguousarray(low_first[:, ::-1]).astype(">u8").view(np.uint8).reshape(-1, DIGEST)
    return digests if key is None else key.keyed(digests)


def numbers_of(scan: SavedScan, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each of (n, 16) hashes, the number of the content that has it, as in ``Inventory.numbers()``; -1: none."""
    saved = scan.digests
    wanted, which = np.unique(digests, axis=0, return_inverse=True)
    # What can't be among the wanted ones by its first 8 bytes goes first. np.unique sorts bytes, as big-endian numbers.
    heads = np.ascontiguousarray(wanted).view(">u8")[:, 0].astype(np.uint64)
    saved_heads = np.ascontiguousarray(saved).view(">u8")[:, 0].astype(np.uint64)
    at = np.searchsorted(heads, saved_heads)
    maybe = np.flatnonzero((at < len(heads)) & (heads[np.minimum(at, max(0, len(heads) - 1))] == saved_heads))
    if not scan.inventory.zeros.any():
        maybe = maybe[maybe != ZERO_CLASS]
    number = {saved[each].tobytes(): each for each in maybe.tolist()}
    numbers = np.array([number.get(each.tobytes(), -1) for each in wanted], np.int64)
    return numbers[which.reshape(-1)] if len(wanted) else np.empty(0, np.int64)


def held(
    scan: SavedScan,
    number: int,
    *,
    by: Literal["bytes", "hash"],
    most: int | None = MOST,
    offsets: Sequence[int] = (),
) -> Held:
    """A content by its number in ``Inventory.numbers()``."""
    inventory = scan.inventory
    owner, frame, pages = stretches(inventory, number)
    some = slice(most)
    return Held(
        content=int(scan.numbers[number]),
        state="zero" if number == ZERO_CLASS else "data",
        hash=scan.digests[number].tobytes().hex(),
        copies=int(pages.sum()),
        by=by,
        stretches=tuple(
            Stretch(inventory.owners[o], f * inventory.page_size, p)
            for o, f, p in zip(owner[some].tolist(), frame[some].tolist(), pages[some].tolist(), strict=True)
        ),
        left_out=max(0, len(owner) - (len(owner) if most is None else most)),
        offsets=tuple(offsets),
    )


def stretches(inventory: Inventory, number: int) -> tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.uint64]]:
    """Where a content is: owner, frame and number of pages of each stretch, by owner and frame."""
    contents, places = inventory.everywhere, inventory.places
    if number < len(contents.contents):
        numbers = np.flatnonzero(contents.classes == number)
    else:
        numbers = np.flatnonzero(contents.classes == UNIQUE_CLASS)[[number - len(contents.contents)]]
    owner, frame = places.locate(numbers)
    pages = np.ones(len(owner), np.uint64)
    if number == ZERO_CLASS:
        holes = places.first >= places.readable
        first = places.first[holes].astype(np.uint64)
        owner = np.append(owner, places.locate(first)[0])
        frame = np.append(frame, places.frame[holes])
        pages = np.append(pages, np.diff(first, append=np.uint64(places.pages)))
        order = np.lexsort((frame, owner))
        owner, frame, pages = owner[order], frame[order], pages[order]
    ends = frame + pages
    begins = np.flatnonzero(np.append(True, (owner[1:] != owner[:-1]) | (frame[1:] != ends[:-1]))[: len(owner)])
    return owner[begins], frame[begins], np.add.reduceat(pages, begins) if len(begins) else pages


def _found(scan: SavedScan, contents: tuple[Held, ...], **asked: Any) -> Found:
    return Found(str(scan.path), scan.report.page_size, scan.key_id, contents, **asked)
