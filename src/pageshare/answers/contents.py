"""The contents that bring most: how often they occur, where, and what they are; and what all pages are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.core import UNIQUE_CLASS, ZERO_CLASS, Control, PageKind, PageReader
from pageshare.inventory import Inventory
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE = 4096
SHOWN = 256
"""Bytes of a content that are shown, if they are."""
AT_ONCE = 1 << 18
"""Pages that are looked at together."""
DEVIATIONS = 1.96
"""Of a normal distribution, 95 % lie within so many."""

ASSUMPTIONS = (
    "A content is what pages of one sharing domain have in common, byte by byte; zeros are one in each domain.",
    "What a page is, is guessed from its bytes alone: one that looks like a page table need not be one.",
)


@dataclass(frozen=True)
class Holder:
    """An owner that has ``copies`` of a content."""

    owner: str
    copies: int


@dataclass(frozen=True)
class Place:
    """Where a page lies: an owner and an address in bytes."""

    owner: str
    address: int


@dataclass(frozen=True)
class Content:
    """One content: on ``copies`` pages, of which ``reclaimed`` are saved; ``owners`` hold it, ``holders`` are those
    that have most of it, ``places`` the first pages. ``kind`` is a ``PageKind`` in lower case, None if nobody looked;
    ``hash`` hex, if the scan has it; ``bytes`` (hex) the first ones, if they are to be shown."""

    copies: int
    reclaimed: int
    owners: int
    holders: tuple[Holder, ...]
    places: tuple[Place, ...]
    kind: str | None = None
    hash: str | None = None
    bytes: str | None = None


@dataclass(frozen=True)
class Kind:
    """What looks alike: how many contents, their pages, and what they bring. Estimates, where the errors are not 0:
    with a chance of 95 % the truth is no further away than these."""

    kind: str
    contents: int
    pages: int
    reclaimed: int
    contents_error: int
    pages_error: int
    reclaimed_error: int


@dataclass(frozen=True)
class Contents:
    """The ``top`` contents by what they bring, of ``contents`` in all, and the ``kinds`` of all of them, most pages
    first (empty if nothing is known of the bytes).

    ``classified`` contents were looked at: zeros and the top ones, and of the others a random sample (``seed``), half
    of it shared, half not. Where that is all ``contents``, kinds are exact.

    >>> import pageshare
    >>> from pageshare.answers.contents import contents
    >>> from pageshare.inventory import Inventory
    >>> space = pageshare.PageSpace.of({"a": b"see " * 3072, "b": bytes(4096)})
    >>> found = contents(Inventory.of(space, pageshare.census(space)), space)
    >>> found.top[0].copies, found.top[0].kind, found.top[0].places[0]
    (3, 'repeated_4', Place(owner='a', address=0))
    >>> [(each.kind, each.pages) for each in found.kinds]
    [('repeated_4', 3), ('zero', 1)]
    """

    contents: int
    top: tuple[Content, ...]
    kinds: tuple[Kind, ...]
    classified: int
    seed: int | None
    assumptions: tuple[str, ...] = ASSUMPTIONS


def contents(
    inventory: Inventory,
    space: PageSpace | None = None,
    *,
    most: int = 50,
    holders: int = 5,
    places: int = 5,
    sample: int | None = SAMPLE,
    seed: int = 0,
    show_contents: bool = False,
    kinds: NDArray[np.uint8] | None = None,
    digests: NDArray[Any] | None = None,
    control: Control | None = None,
) -> Contents:
    """Tell the ``most`` contents that bring most, within sharing domains, each with as many ``holders`` and ``places``,
    and of what kinds all pages are.

    What they are is read from ``space``: of ``sample`` contents drawn at random beside the top ones (None: of all of
    them). Or it comes from a saved scan: ``kinds`` (a ``PageKind`` each) and ``digests`` (anything whose bytes are the
    hash) by ``inventory.numbers()``. With neither, nothing is said of kinds. The first ``SHOWN`` bytes of the top
    contents are part of the answer only with ``show_contents``, which needs the space (ValueError).
    Raises MediaError where a page can't be read any more, ``Stopped``.
    """
    if show_contents and space is None:
        raise ValueError("the bytes of contents are not in a saved scan: to show them, scan the dumps")
    reader = None if space is None else PageReader(space)
    numbers = inventory.numbers() if kinds is not None or digests is not None else None
    look = _looking(reader, kinds, numbers, control)
    table, chosen = inventory.contents.contents, _chosen(inventory, most)
    first = table["first"][chosen]
    zeros = _zeros(inventory, holders, places)
    top = [
        _content(inventory, int(number), where, holders)
        for number, where in zip(chosen, _places(inventory, chosen, places, control), strict=True)
    ]
    if digests is not None and numbers is not None:
        zeros = [replace(each, hash=digests[ZERO_CLASS].tobytes().hex()) for each in zeros]
        hashes = [digests[number].tobytes().hex() for number in numbers[first]]
        top = [replace(each, hash=digest) for each, digest in zip(top, hashes, strict=True)]
    if show_contents and reader is not None:
        zeros = [replace(each, bytes=bytes(min(SHOWN, inventory.page_size)).hex()) for each in zeros]
        shown = reader.read(first)[:, :SHOWN]
        top = [replace(each, bytes=held.tobytes().hex()) for each, held in zip(top, shown, strict=True)]
    tally = _Tally()
    if look is not None:
        found = look(first)
        zeros = [replace(each, kind=_name(PageKind.ZERO)) for each in zeros]
        top = [replace(each, kind=_name(kind)) for each, kind in zip(top, found.tolist(), strict=True)]
        for each in zeros:
            tally.add(np.array([PageKind.ZERO], np.uint8), np.array([each.copies]), 1)
        tally.add(found, table["pages"][chosen], len(chosen))
        for pages, copies, count in _others(inventory, chosen, sample if kinds is None else None, seed):
            tally.add(look(pages), copies, count)
    return Contents(
        contents=len(zeros) + len(table) - 1 + int(inventory.contents.owner_pages["unique"].sum()),
        top=tuple(sorted([*zeros, *top], key=lambda each: -each.reclaimed)[:most]),
        kinds=tally.kinds(),
        classified=tally.looked_at,
        seed=seed if tally.looked_at else None,
    )


_Look = Callable[["NDArray[np.uint32]"], "NDArray[np.uint8]"]
"""Of the first pages of some contents, what they are."""


def _looking(
    reader: PageReader | None,
    kinds: NDArray[np.uint8] | None,
    numbers: NDArray[np.uint32] | None,
    control: Control | None,
) -> _Look | None:
    if kinds is not None and numbers is not None:
        return lambda pages: kinds[numbers[pages]]
    if reader is not None:
        return lambda pages: reader.kinds(pages, control)
    return None


def _name(kind: int) -> str:
    """``PageKind`` as JSON has it; of a number that a later version may have, too."""
    return PageKind(kind).name.lower() if kind in PageKind._value2member_map_ else f"kind {kind}"


def _chosen(inventory: Inventory, most: int) -> NDArray[np.int64]:
    """Numbers of the contents that are on most pages; of equal ones, those whose first page is lowest."""
    table = inventory.contents.contents[1:]
    pages = table["pages"].astype(np.int64)
    kept = np.arange(len(table))
    if most < len(table):
        kept = np.flatnonzero(pages >= np.partition(pages, -most)[-most]) if most else kept[:0]
    order = np.lexsort([table["first"][kept], -pages[kept]])
    chosen: NDArray[np.int64] = kept[order][:most] + 1
    return chosen


def _content(inventory: Inventory, number: int, where: tuple[Place, ...], most: int) -> Content:
    _, pages, start, owners = inventory.contents.contents[number].tolist()
    held = inventory.contents.holdings[start : start + owners]
    order = np.lexsort([held["owner"], -held["pages"].astype(np.int64)])[:most]
    holders = tuple(Holder(inventory.owners[owner], copies) for owner, copies in held[order].tolist())
    return Content(pages, pages - 1, owners, holders, where)


def _zeros(inventory: Inventory, most_holders: int, most_places: int) -> list[Content]:
    """Zeros of each domain that has any."""
    found = []
    for domain in range(len(inventory.domain_names)):
        zeros = inventory.zeros.tolist()
        owners = [each for each, of in enumerate(inventory.domains) if of == domain and zeros[each]]
        if owners:
            copies = sum(zeros[each] for each in owners)
            ranked = sorted(owners, key=lambda each: -zeros[each])[:most_holders]
            holders = tuple(Holder(inventory.owners[each], zeros[each]) for each in ranked)
            where = islice((place for each in owners for place in _zeros_of(inventory, each, most_places)), most_places)
            found.append(Content(copies, copies - 1, len(owners), holders, tuple(where)))
    return found


def _zeros_of(inventory: Inventory, owner: int, most: int) -> list[Place]:
    """The first zero pages of an owner, those that need no reading included."""
    first, end = inventory.places.read_first[owner : owner + 2].tolist()
    read: list[int] = []
    for low in range(first, end, AT_ONCE):
        here = np.flatnonzero(inventory.contents.classes[low : min(end, low + AT_ONCE)] == ZERO_CLASS)
        read += (low + here[: most - len(read)]).tolist()
        if len(read) == most:
            break
    frames = inventory.places.locate(np.array(read, np.int64))[1].tolist()
    known, _, pages = (each[:most].tolist() for each in inventory.places.runs(owner, zeros=True))
    for frame, count in zip(known, pages, strict=True):
        frames += range(frame, frame + min(count, most))
    name, size = inventory.owners[owner], inventory.page_size
    return [Place(name, frame * size) for frame in sorted(frames)[:most]]


def _places(
    inventory: Inventory, chosen: NDArray[np.int64], most: int, control: Control | None
) -> list[tuple[Place, ...]]:
    """Where the first pages of some contents lie."""
    classes = inventory.contents.classes
    pages: dict[int, list[int]] = {number: [] for number in chosen.tolist()}
    # Those that have no number are looked up behind the last one.
    wanted = np.zeros(len(inventory.contents.contents) + 1, bool)
    wanted[chosen] = most > 0
    for low in range(0, len(classes), AT_ONCE):
        if control is not None:
            control.check()
        if not wanted.any():
            break
        part = classes[low : low + AT_ONCE]
        here = np.flatnonzero(np.take(wanted, part, mode="clip"))
        here = here[np.argsort(part[here], kind="stable")]
        numbers, starts, counts = np.unique(part[here], return_index=True, return_counts=True)
        for number, start, count in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True):
            found = pages[number]
            found += (low + here[start : start + min(count, most - len(found))]).tolist()
            wanted[number] = len(found) < most
    places = []
    for found in pages.values():
        owners, frames = inventory.places.locate(np.array(found, np.int64))
        rows = zip(owners.tolist(), frames.tolist(), strict=True)
        places.append(tuple(Place(inventory.owners[owner], frame * inventory.page_size) for owner, frame in rows))
    return places


def _others(
    inventory: Inventory, chosen: NDArray[np.int64], sample: int | None, seed: int
) -> Iterator[tuple[NDArray[np.uint32], NDArray[Any], int]]:
    """The contents beside zeros and the chosen ones, those that are shared and those that are not, or random ones of
    each: their first pages, on how many pages they are, and how many there are in all."""
    table, draw = inventory.contents.contents, np.random.default_rng(seed)
    others = np.delete(np.arange(len(table)), [ZERO_CLASS, *chosen])
    unique = int(inventory.contents.owner_pages["unique"].sum())
    of_unique = unique if sample is None else min(unique, max(sample // 2, sample - len(others)))
    of_others = len(others) if sample is None else min(len(others), sample - of_unique)
    some = others if of_others == len(others) else np.sort(draw.choice(others, of_others, replace=False))
    yield table["first"][some], table["pages"][some], len(others)
    ranks = None if of_unique == unique else np.sort(draw.choice(unique, of_unique, replace=False))
    pages = _unique_pages(inventory, ranks)
    yield pages, np.ones(len(pages)), unique


def _unique_pages(inventory: Inventory, ranks: NDArray[np.int64] | None) -> NDArray[np.uint32]:
    """The pages whose contents are held once; of all of them in order, only those at ``ranks`` (ascending)."""
    classes, before, found = inventory.contents.classes, 0, [np.empty(0, np.uint32)]
    for low in range(0, len(classes), AT_ONCE):
        here = low + np.flatnonzero(classes[low : low + AT_ONCE] == UNIQUE_CLASS)
        if ranks is not None:
            within = slice(*np.searchsorted(ranks, [before, before + len(here)]))
            before, here = before + len(here), here[ranks[within] - before]
        found.append(here.astype(np.uint32))
    return np.concatenate(found)


class _Tally:
    """Contents, pages and reclaimed pages by kind: sums over strata, each known whole or by a sample, and variances."""

    def __init__(self) -> None:
        self.looked_at = 0
        self._sums = np.zeros((256, 3))
        self._variances = np.zeros((256, 3))

    def add(self, kinds: NDArray[np.uint8], pages: NDArray[Any], contents: int) -> None:
        """A stratum of so many contents, of which these were drawn: their kinds, and on how many pages each is."""
        drawn = len(kinds)
        self.looked_at += drawn
        for column, value in enumerate((np.ones(drawn), pages.astype(float), pages - 1.0)):
            total = np.bincount(kinds, value, 256)
            scale = contents / max(1, drawn)
            self._sums[:, column] += scale * total
            if 1 < drawn < contents:
                # Cochran, Sampling Techniques, theorem 2.2: without replacement, from a finite population.
                squares = np.bincount(kinds, value * value, 256)
                spread = (squares - total * total / drawn) / (drawn - 1)
                self._variances[:, column] += contents**2 * (1 - drawn / contents) * spread / drawn

    def kinds(self) -> tuple[Kind, ...]:
        """Those that were seen, most pages first."""
        errors = DEVIATIONS * np.sqrt(np.maximum(self._variances, 0))
        there = [kind for kind in range(256) if self._sums[kind, 0]]
        there.sort(key=lambda kind: -self._sums[kind, 1])
        return tuple(
            Kind(_name(kind), *(round(each) for each in (*self._sums[kind], *np.ceil(errors[kind])))) for kind in there
        )
