"""How many contents there are of each number of copies, and what the top ones bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import ZERO_CLASS
from pageshare.inventory import Inventory

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL = 1 << 16
"""Numbers of copies below this are counted in an array; there are few contents with more copies."""
POINTS = 200
"""Most points of the curve."""

ASSUMPTIONS = (
    "A content is what pages of one sharing domain have in common, byte by byte; the same bytes in two domains are two"
    " contents.",
    "Zero pages are apart: they are one content in each domain, and would hide all others.",
    "Each content keeps one page: a content with n copies brings n - 1.",
)


@dataclass(frozen=True)
class Multiplicity:
    """So many ``contents`` have this number of ``copies``; they are on ``pages`` together, of which ``reclaimed`` are
    saved."""

    copies: int
    contents: int
    pages: int
    reclaimed: int


@dataclass(frozen=True)
class Top:
    """What the ``contents`` that bring most save together: ``reclaimed`` pages, ``share`` of all but zero pages."""

    contents: int
    reclaimed: int
    share: float


@dataclass(frozen=True)
class Zeros:
    """Zero pages: one content in each domain that has any."""

    contents: int
    pages: int
    reclaimed: int


@dataclass(frozen=True)
class Groups:
    """Contents by their number of copies, within sharing domains; zeros are in ``zero`` alone.

    ``multiplicities`` is exact, by ascending number of copies, contents held once included: pages are those of
    ``pages.known`` but zeros, ``reclaimed`` sums up to ``nonzero.reclaimed``. At most sqrt(2 * pages) numbers of copies
    differ. ``top`` is for 1, 10, 100, ... contents, and for all that are shared. ``curve`` (at most ``POINTS`` points)
    is the share of reclaimed pages over the share of shared contents, from those that bring most; between two points it
    is straight, exactly so where there are fewer numbers of copies than points.

    >>> import pageshare
    >>> from pageshare.answers.groups import groups
    >>> found = groups(pageshare.scan(b"".join(bytes([i]) * 4096 for i in (0, 1, 1, 2, 2, 2, 3))).inventory)
    >>> [(each.copies, each.contents, each.pages, each.reclaimed) for each in found.multiplicities]
    [(1, 1, 1, 0), (2, 1, 2, 1), (3, 1, 3, 2)]
    >>> found.top[0].contents, found.top[0].reclaimed, found.zero.pages
    (1, 2, 1)
    """

    contents: int
    shared_contents: int
    reclaimed: int
    zero: Zeros
    multiplicities: tuple[Multiplicity, ...]
    top: tuple[Top, ...]
    curve: tuple[tuple[float, float], ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS


def groups(inventory: Inventory) -> Groups:
    """Count the contents of an inventory, within its sharing domains. One pass over contents, none over pages."""
    counted = inventory.contents
    copies, contents = _histogram(np.delete(counted.contents["pages"], ZERO_CLASS))
    once = int(counted.owner_pages["unique"].sum())
    copies, contents = np.append(1, copies)[not once :], np.append(once, contents)[not once :]
    pages, brings = copies * contents, (copies - 1) * contents
    shared = copies > 1
    return Groups(
        contents=int(contents.sum()),
        shared_contents=int(contents[shared].sum()),
        reclaimed=int(brings.sum()),
        zero=_zeros(inventory),
        multiplicities=tuple(map(Multiplicity, *(each.tolist() for each in (copies, contents, pages, brings)))),
        top=tuple(_top(copies[shared][::-1], contents[shared][::-1])),
        curve=_curve(copies[shared][::-1], contents[shared][::-1]),
    )


def _histogram(pages: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers that occur, ascending, and how often."""
    small = np.bincount(pages[pages < SMALL], minlength=1)
    large, times = np.unique(pages[pages >= SMALL], return_counts=True)
    there = np.flatnonzero(small)
    return np.append(there, large.astype(np.int64)), np.append(small[there], times)


def _zeros(inventory: Inventory) -> Zeros:
    domains = len(inventory.domain_names)
    by_domain = np.bincount(np.asarray(inventory.domains, np.int64), inventory.zeros, minlength=domains)
    pages, contents = int(by_domain.sum()), int(np.count_nonzero(by_domain))
    return Zeros(contents, pages, pages - contents)


def _top(copies: NDArray[np.int64], contents: NDArray[np.int64]) -> list[Top]:
    """By descending number of copies."""
    last = np.cumsum(contents)
    brought = np.cumsum((copies - 1) * contents)
    if not len(last):
        return []
    everything, total = int(last[-1]), int(brought[-1])
    steps = [10**power for power in range(len(str(everything))) if 10**power < everything]
    found = []
    for count in [*steps, everything]:
        at = int(np.searchsorted(last, count))
        reclaimed = int(brought[at] - (last[at] - count) * (copies[at] - 1))
        found.append(Top(count, reclaimed, reclaimed / total))
    return found


def _curve(copies: NDArray[np.int64], contents: NDArray[np.int64]) -> tuple[tuple[float, float], ...]:
    """By descending number of copies: points that lie at about equal steps along the curve."""
    if not len(copies):
        return ()
    x = np.append(0, np.cumsum(contents)) / contents.sum()
    y = np.append(0, np.cumsum((copies - 1) * contents)) / ((copies - 1) * contents).sum()
    if len(x) > POINTS:
        # x + y goes from 0 to 2, and grows wherever the curve does.
        kept = np.searchsorted(x + y, np.linspace(0, 2, POINTS - 1)[:-1])
        kept = np.append(kept[np.append(True, kept[1:] > kept[:-1])], len(x) - 1)
        x, y = x[kept], y[kept]
    return tuple(zip(x.tolist(), y.tolist(), strict=True))
