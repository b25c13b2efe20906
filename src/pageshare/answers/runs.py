"""How long the stretches of memory are that are the same elsewhere, and what they match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.core import LENGTHS, NO_PAGE, RUN_PAIR, STRETCH, Control
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
    contents, owners = inventory.contents, inventory.owners
    stretches = contents.runs(_begins(inventory), control)
    edges = np.searchsorted(stretches["page"], inventory.places.read_first).tolist()
    lengths, longest = np.zeros((2, 32), LENGTHS), np.zeros(min(most_runs, len(stretches)), STRETCH)
    pairs = []
    for owner, part in enumerate(map(slice, edges[:-1], edges[1:])):
        others, before = np.zeros(len(owners), RUN_PAIR), lengths[1].copy()
        contents.sum_runs(stretches[part], lengths, others, longest, control)
        if len(inventory.places.runs(owner, zeros=True)[0]):
            lengths[1] = before
            _add(lengths[1], _zeros(inventory, owner, stretches[part]))
        for other in np.flatnonzero(others["runs"]).tolist():
            pairs.append(Pair(owners[owner], owners[other], *others[other].tolist()))
    pairs.sort(key=lambda each: -each.pages)
    return Runs(
        runs=int(lengths[0]["runs"].sum()),
        pages=int(lengths[0]["pages"].sum()),
        lengths=_by_length(lengths[0]),
        pairs=tuple(pairs[:most_pairs]),
        more_pairs=len(pairs[most_pairs:]),
        longest=_longest(inventory, longest[longest["pages"] > 0]),
        zero_runs=int(lengths[1]["runs"].sum()),
        zero_pages=int(lengths[1]["pages"].sum()),
        zeros=_by_length(lengths[1]),
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


def _zeros(inventory: Inventory, owner: int, stretches: NDArray[Any]) -> NDArray[np.int64]:
    """How long an owner's stretches of zero pages are, of those that are read and those that need no reading."""
    read = stretches[stretches["matches"] == NO_PAGE]
    frame, _, pages = inventory.places.runs(owner, zeros=True)
    length = pages.view(np.int64)
    if len(read):
        frame = np.concatenate([inventory.places.locate(read["page"])[1], frame])
        length = np.concatenate([read["pages"].astype(np.int64), length])
        order = np.argsort(frame, kind="stable")
        frame, length = frame[order], length[order]
    new = np.append(True, frame[1:] - frame[:-1] != length[:-1].view(np.uint64))
    joined: NDArray[np.int64] = np.add.reduceat(length, np.flatnonzero(new))
    return joined


def _add(lengths: NDArray[Any], found: NDArray[np.int64]) -> None:
    power = np.frexp(found)[1] - 1
    lengths["runs"] += np.bincount(power, minlength=32).astype(np.uint64)
    lengths["pages"] += np.bincount(power, found, 32).astype(np.uint64)  # sums of less than 2^53 are exact


def _by_length(lengths: NDArray[Any]) -> tuple[Lengths, ...]:
    there = np.flatnonzero(lengths["runs"]).tolist()
    return tuple(Lengths(1 << each, (2 << each) - 1, *lengths[each].tolist()) for each in there)


def _longest(inventory: Inventory, runs: NDArray[Any]) -> tuple[Run, ...]:
    owners, frames = inventory.places.locate(runs["page"])
    others, other_frames = inventory.places.locate(runs["matches"])
    columns = (each.tolist() for each in (owners, frames, runs["pages"], others, other_frames))
    return tuple(
        Run(
            inventory.owners[owner],
            frame * inventory.page_size,
            pages,
            inventory.owners[other],
            other_frame * inventory.page_size,
        )
        for owner, frame, pages, other, other_frame in zip(*columns, strict=True)
    )
