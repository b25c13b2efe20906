"""The same memory in pages of other sizes: what smaller ones add, what huge ones cost, what breaking these brings."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare import limits
from pageshare.answers._breaking import Breaking, breaking
from pageshare.answers._in_order import LARGEST, Blocks, in_order
from pageshare.answers._pieces import counted
from pageshare.core import UNIQUE_CLASS, ZERO_CLASS, Census, Control, census, paired
from pageshare.inventory import Inventory
from pageshare.space import MOST_PAGES, PageSpace

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Recount: TypeAlias = Callable[[PageSpace], Census]

SMALLEST = 512
"""Bytes of the smallest pages."""
SUB_PAGE_BYTES = 21
"""Memory that is taken to tell which of so many pages are equal, for each; a census of all takes 15."""
CONTENT_BYTES = 96
"""Memory that is taken for each content that is cut up, beside that: where it lies, and how many pages hold it."""
LISTED = 1000
"""How many huge pages are listed, those first that are best to be broken."""

ASSUMPTIONS = (
    "Pages of each size are aligned to it by the owner's addresses (guest-physical, or of the process).",
    "Only pages that are wholly known are shared: what lies at an end of a range, or beside an unknown page, stays as"
    " it is in larger pages.",
    "Holes and pages that are known to be zero are zeros, of which one page stays in each sharing domain.",
    "What page tables and the bookkeeping of smaller pages take, and what TLB misses cost, is not counted.",
    "Equal huge pages are shared whole, and broken together. Pages of one that is not broken are shared with nothing"
    " else.",
    "Best first: by each one's part in what breaking all of them brings, where a page that is there m times counts"
    " 1 - 1/m. The curve counts anew what is saved when just these are broken.",
)


@dataclass(frozen=True)
class SizeFigures:
    """Sharing in pages of ``size`` bytes, of which ``whole`` are wholly known; ``partial_bytes`` are known, but not in
    such a page. ``reclaimed_bytes`` = ``zero_bytes`` + ``nonzero_bytes``, saved of zeros and of other content."""

    size: int
    whole: int
    partial_bytes: int
    reclaimed_bytes: int
    zero_bytes: int
    nonzero_bytes: int


@dataclass(frozen=True)
class PageSizes:
    """``sizes``, ascending, are of the same ``known_bytes``. Against pages of ``page_size``, that of the scan, the
    smallest pages add ``sub_page_bytes`` of reclaimed memory (None if these were not looked at), and the largest
    lose ``huge_cost_bytes``. ``breaking`` is about the largest; ``notes`` say what is left out, and why."""

    page_size: int
    known_bytes: int
    sizes: tuple[SizeFigures, ...]
    sub_page_bytes: int | None
    huge_cost_bytes: int
    breaking: Breaking
    notes: tuple[str, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS


def page_sizes(
    inventory: Inventory,
    space: PageSpace | None = None,
    *,
    recount: Recount | None = None,
    threads: int | None = None,
    seed: int | None = None,
    most: int = LISTED,
    control: Control | None = None,
) -> PageSizes:
    """Sharing in pages of 512 bytes to 2 MiB, exactly, within the scan's domains.

    Pages larger than the scan's are equal where all that they consist of is: no byte is read. For smaller ones one page
    of each content is read again, from the ``space`` that the inventory is of, by ``recount`` (by default, ``census``
    with ``threads`` and ``seed``: give one where files must be streamed); without a space they are left out. At most
    ``most`` huge pages are listed.

    Memory: 24 bytes a known page (holes of whole huge pages left out), then, for pages of 512 bytes, eight times 21 and
    96 more for each content but zeros (of 4 KiB); where that is more than three quarters of what is free (a census may
    hold the rest), the smallest are left out.
    Raises MemoryError, MediaError, ``Stopped``.

    >>> import pageshare
    >>> from pageshare.inventory import Inventory
    >>> space = pageshare.PageSpace.of({"a": b"x" * 8192 + b"y" * 4096, "b": b"x" * 4096})
    >>> found = page_sizes(Inventory.of(space, pageshare.census(space)), space)
    >>> [(figures.size, figures.reclaimed_bytes) for figures in found.sizes[:5]]
    [(512, 15360), (1024, 14336), (2048, 12288), (4096, 8192), (8192, 0)]
    """
    control = control or Control()
    seed = secrets.randbits(63) if seed is None else seed
    recount = recount or (lambda part: census(part, threads=threads, seed=seed, control=control))
    blocks = pages = in_order(inventory)
    larger = [_of_blocks(inventory, pages)]
    while blocks.size < LARGEST:
        blocks = blocks.doubled(seed, control)
        larger.append(_of_blocks(inventory, blocks))
    broken = breaking(inventory, pages, blocks, most, control)
    del pages, blocks
    smaller, notes = _smaller(inventory, space, recount, threads=threads, seed=seed, control=control)
    return PageSizes(
        page_size=inventory.page_size,
        known_bytes=int(inventory.known.sum()) * inventory.page_size,
        sizes=(*smaller, *larger),
        sub_page_bytes=smaller[0].reclaimed_bytes - larger[0].reclaimed_bytes if smaller else None,
        huge_cost_bytes=larger[0].reclaimed_bytes - larger[-1].reclaimed_bytes,
        breaking=broken,
        notes=notes,
    )


def _figures(inventory: Inventory, size: int, *, whole: int, zeros: int, domains: int, distinct: int) -> SizeFigures:
    """Of so many pages, of which so many are zeros, in so many domains; ``distinct`` contents are others."""
    known, zero, nonzero = int(inventory.known.sum()) * inventory.page_size, zeros - domains, whole - zeros - distinct
    return SizeFigures(size, whole, known - whole * size, (zero + nonzero) * size, zero * size, nonzero * size)


def _with(counts: NDArray[np.int64], inventory: Inventory) -> set[int]:
    """The domains of owners that have any."""
    return {domain for domain, count in zip(inventory.domains, counts.tolist(), strict=True) if count}


def _of_blocks(inventory: Inventory, blocks: Blocks) -> SizeFigures:
    zeros = blocks.zeros()
    return _figures(
        inventory,
        blocks.size,
        whole=blocks.known,
        zeros=int(zeros.sum()),
        domains=len(_with(zeros, inventory)),
        distinct=blocks.distinct,
    )


def _smaller(
    inventory: Inventory, space: PageSpace | None, recount: Recount, *, threads: int | None, seed: int, control: Control
) -> tuple[list[SizeFigures], tuple[str, ...]]:
    """Sizes below that of the scan, from one page of each content, and notes."""
    page_size, figures = inventory.page_size, list[SizeFigures]()
    if page_size <= SMALLEST:
        return [], ()
    if space is None:
        return [], ("Pages smaller than the scan's need the dumps: a saved scan has no bytes.",)
    pages, copies, domain = _one_of_each(inventory)
    size, notes = _smallest(len(pages), page_size)
    if size == page_size:
        return [], notes
    found = counted(space.only(pages, size), recount, threads, seed, control)
    if found is None:
        return [], ("Pages smaller than the scan's are left out: some could not be read a second time.",)
    classes, kept = found
    del found
    zeros, whole = int(inventory.zeros.sum()), int(inventory.known.sum())
    while True:
        ratio = page_size // size
        holder = np.flatnonzero(classes == ZERO_CLASS) // ratio
        if ratio == 1:
            break
        domains = _with(inventory.zeros, inventory) | set(np.flatnonzero(np.bincount(domain[holder])).tolist())
        figures.append(
            _figures(
                inventory,
                size,
                whole=whole * ratio,
                zeros=zeros * ratio + int(copies[holder].sum()),
                domains=len(domains),
                distinct=int(np.count_nonzero(classes == UNIQUE_CLASS)) + kept,
            )
        )
        blocks = paired(classes, seed=seed, control=control)
        classes, kept, size = blocks.classes, blocks.kept, 2 * size
    if len(holder) or kept:
        # These are the scan's pages again, one of each content.
        notes += ("Pages changed while they were read: what is said of those smaller than the scan's is uncertain.",)
    return figures, notes


def _one_of_each(inventory: Inventory) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The first page of each content but zeros, in ascending order; how many pages hold it; and their domain."""
    contents = inventory.contents
    first = contents.classes == UNIQUE_CLASS
    first[contents.contents["first"][1:]] = True
    pages = np.flatnonzero(first)
    held = contents.classes[pages]
    copies = np.ones(len(pages), np.int64)
    copies[held < UNIQUE_CLASS] = contents.contents["pages"][held[held < UNIQUE_CLASS]]
    owners = np.searchsorted(contents.owner_first, pages, side="right") - 1
    return pages, copies, np.array(inventory.domains, np.int64)[owners]


def _smallest(contents: int, page_size: int) -> tuple[int, tuple[str, ...]]:
    """The smallest size for which there is memory, and numbers, to cut up so many pages; and what is to be said."""
    size, free = SMALLEST, limits.memory().free * 3 // 4
    while size < page_size and not _fits(contents, page_size // size, free):
        size *= 2
    if size == SMALLEST:
        return size, ()
    needed = contents * (2 * page_size // size * SUB_PAGE_BYTES + CONTENT_BYTES)
    return size, (f"Pages smaller than {size} bytes are left out: they take {needed} bytes of memory of {free} free.",)


def _fits(contents: int, ratio: int, free: int) -> bool:
    return contents * ratio <= MOST_PAGES and contents * (ratio * SUB_PAGE_BYTES + CONTENT_BYTES) <= free
