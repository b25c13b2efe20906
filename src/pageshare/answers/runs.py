"""How long the stretches of memory are that are the same elsewhere, and what they match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import NO_PAGE, Control
from pageshare.inventory import Inventory

if TYPE_CHECKING:
    from numpy.typing import NDArray

ASSUMPTIONS = (
    "Of each content the first page stays, in the order of owners and addresses; all others match it. Another order"
    " would make other runs, of the same pages together.",
    "A run ends where the next page, or the page that it would match, is unique, zero, unknown or somewhere else.",
    "Only what is in one sharing domain matches.",
)


@dataclass(frozen=True)
class Lengths:
    """``runs`` of ``shortest`` to ``longest`` pages (powers of two to the next), and their ``pages`` together."""

    shortest: int
    longest: int
    runs: int
    pages: int


@dataclass(frozen=True)
class Pair:
    """The runs of ``owner`` that match memory of ``matches``, which may be the same; ``longest`` in pages."""

    owner: str
    matches: str
    runs: int
    pages: int
    longest: int


@dataclass(frozen=True)
class Run:
    """A stretch of ``pages`` of ``owner``, from ``address`` on, that ``matches`` has from ``matches_address`` on."""

    owner: str
    address: int
    pages: int
    matches: str
    matches_address: int


@dataclass(frozen=True)
class Runs:
    """Runs: a page that is neither zero nor the first of its content (by page number) is a reclaimed one; a run is a
    maximal stretch of such pages at consecutive frames of one owner whose first pages lie at consecutive frames of one
    owner too. So their lengths sum up to ``nonzero.reclaimed``.

    ``lengths`` by powers of two; ``pairs`` by owner and what it matches, most pages first, ``more_pairs`` left out;
    ``longest`` the longest ones. Stretches of zero pages are in ``zeros`` alone, those that need no reading included.

    >>> import pageshare
    >>> from pageshare.answers.runs import runs
    >>> one = b"".join(bytes([i]) * 4096 for i in (1, 2, 3))
    >>> found = runs(pageshare.scan({"a": one, "b": bytes(4096) + one}).inventory)
    >>> found.longest
    (Run(owner='b', address=4096, pages=3, matches='a', matches_address=0),)
    >>> found.runs, found.pages, found.zeros[0].runs
    (1, 3, 1)
    """

    runs: int
    pages: int
    lengths: tuple[Lengths, ...]
    pairs: tuple[Pair, ...]
    more_pairs: int
    longest: tuple[Run, ...]
    zero_runs: int
    zero_pages: int
    zeros: tuple[Lengths, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS


def runs(
    inventory: Inventory, *, most_runs: int = 50, most_pairs: int = 1000, control: Control | None = None
) -> Runs:
    """Find the runs of an inventory; the ``most_runs`` longest are told one by one. Raises ``Stopped``."""
    stretches = inventory.contents.runs(_begins(inventory), control)
    zero = stretches["matches"] == NO_PAGE
    starts, lengths, matched = (stretches[name][~zero].astype(np.int64) for name in ("page", "pages", "matches"))
    zero_lengths = _zeros(inventory, *(stretches[name][zero].astype(np.int64) for name in ("page", "pages")))
    pairs = _pairs(inventory, starts, matched, lengths)
    return Runs(
        runs=len(starts),
        pages=int(lengths.sum()),
        lengths=_by_length(lengths),
        pairs=pairs[:most_pairs],
        more_pairs=len(pairs[most_pairs:]),
        longest=_longest(inventory, starts, matched, lengths, most_runs),
        zero_runs=len(zero_lengths),
        zero_pages=int(zero_lengths.sum()),
        zeros=_by_length(zero_lengths),
    )


def _begins(inventory: Inventory) -> NDArray[np.uint32]:
    """Pages that are read whose frame does not follow that of the page before, in the same owner; ascending."""
    places = inventory.places
    count = int(np.searchsorted(places.first, places.readable))
    first, frame = places.first[:count], places.frame[:count]
    begins = np.ones(count, bool)
    begins[1:] = frame[1:] - frame[:-1] != first[1:] - first[:-1]
    owners = np.searchsorted(first, places.read_first)
    begins[owners[owners < count]] = True
    return first[begins]


def _zeros(inventory: Inventory, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """How long stretches of zero pages are, of those that are read and those that need no reading together."""
    owners, frames = inventory.places.locate(starts)
    edges = np.searchsorted(owners, np.arange(len(inventory.owners) + 1))
    joined = []
    for owner in range(len(inventory.owners)):
        part = slice(edges[owner], edges[owner + 1])
        frame, _, pages = inventory.places.runs(owner, zeros=True)
        length = pages.view(np.int64)
        if edges[owner] < edges[owner + 1]:
            frame, length = np.concatenate([frames[part], frame]), np.concatenate([lengths[part], length])
            order = np.argsort(frame, kind="stable")
            frame, length = frame[order], length[order]
        new = np.append(True, frame[1:] - frame[:-1] != length[:-1].view(np.uint64))[: len(frame)]
        joined.append(np.add.reduceat(length, np.flatnonzero(new)) if len(frame) else length)
    return np.concatenate([np.empty(0, np.int64), *joined])


def _by_length(lengths: NDArray[np.int64]) -> tuple[Lengths, ...]:
    power = np.frexp(lengths)[1] - 1
    runs, pages = np.bincount(power, minlength=0), np.bincount(power, lengths, 0)  # sums of less than 2^53 are exact
    return tuple(
        Lengths(1 << each, (2 << each) - 1, int(runs[each]), int(pages[each]))
        for each in np.flatnonzero(runs).tolist()
    )


def _pairs(
    inventory: Inventory, starts: NDArray[np.int64], matched: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[Pair, ...]:
    """By owner and what it matches, most pages first."""
    first, names = inventory.places.read_first, inventory.owners
    others = np.searchsorted(first, matched, side="right") - 1
    edges = np.searchsorted(starts, first)
    pairs = []
    for owner, name in enumerate(names):
        part = slice(edges[owner], edges[owner + 1])
        runs = np.bincount(others[part], minlength=len(names))
        pages, longest = np.zeros((2, len(names)), np.int64)
        np.add.at(pages, others[part], lengths[part])
        np.maximum.at(longest, others[part], lengths[part])
        for other in np.flatnonzero(runs).tolist():
            pairs.append(Pair(name, names[other], int(runs[other]), int(pages[other]), int(longest[other])))
    return tuple(sorted(pairs, key=lambda each: -each.pages))


def _longest(
    inventory: Inventory,
    starts: NDArray[np.int64],
    matched: NDArray[np.int64],
    lengths: NDArray[np.int64],
    most: int,
) -> tuple[Run, ...]:
    """The longest first; of equal ones, the first."""
    if most < len(lengths):
        # Those that are as long as the last one that is told, too: it is not chance which of them are.
        kept = np.flatnonzero(lengths >= np.partition(lengths, -most)[-most]) if most else np.empty(0, np.int64)
    else:
        kept = np.arange(len(lengths))
    kept = kept[np.lexsort([kept, -lengths[kept]])][:most]
    owners, frames = inventory.places.locate(starts[kept])
    others, other_frames = inventory.places.locate(matched[kept])
    columns = (each.tolist() for each in (owners, frames, lengths[kept], others, other_frames))
    return tuple(
        Run(
            inventory.owners[owner],
            frame * inventory.page_size,
            length,
            inventory.owners[other],
            other_frame * inventory.page_size,
        )
        for owner, frame, length, other, other_frame in zip(*columns, strict=True)
    )
