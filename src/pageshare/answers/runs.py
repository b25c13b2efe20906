"""How long the stretches of memory are that are the same elsewhere, and what they match."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare import limits
from pageshare.core import LENGTHS, STRETCH, Control, RunFinder
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
    inventory: Inventory,
    *,
    most_runs: int = 50,
    most_pairs: int = 1000,
    threads: int | None = None,
    control: Control | None = None,
) -> Runs:
    """Find the runs of an inventory; the ``most_runs`` longest are told one by one. Raises ``Stopped``."""
    places, owners = inventory.places, inventory.owners
    finder = RunFinder(inventory.contents, places.first, places.frame, places.owner_first, places.pages)
    lengths, zeros = np.zeros(32, LENGTHS), np.zeros(32, LENGTHS)
    pairs, longest = [], np.empty(0, STRETCH)
    with ThreadPoolExecutor(threads or limits.cpus()) as pool:
        found_of = pool.map(lambda owner: finder.of(owner, most_runs, control), range(len(owners)))
        for owner, found in zip(owners, found_of, strict=True):
            matched = zip(found.matched.tolist(), found.pairs.tolist(), strict=True)
            pairs += [Pair(owner, owners[other], *pair) for other, pair in matched]
            for column in ("runs", "pages"):
                lengths[column] += found.lengths[column]
                zeros[column] += found.zeros[column]
            longest = np.append(longest, found.longest)
            order = np.argsort(-longest["pages"].astype(np.int64), kind="stable")
            longest = longest[order[:most_runs]]
    pairs.sort(key=lambda each: -each.pages)
    return Runs(
        runs=int(lengths["runs"].sum()),
        pages=int(lengths["pages"].sum()),
        lengths=_by_length(lengths),
        pairs=tuple(pairs[:most_pairs]),
        more_pairs=len(pairs[most_pairs:]),
        longest=_longest(inventory, longest),
        zero_runs=int(zeros["runs"].sum()),
        zero_pages=int(zeros["pages"].sum()),
        zeros=_by_length(zeros),
    )


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
