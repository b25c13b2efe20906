"""What each owner brings: alone, as its part of the whole, and by being there at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pageshare.core import Control
    from pageshare.inventory import Inventory

ASSUMPTIONS = (
    "Owners share within their sharing domain only.",
    "An owner's part is what is saved of each content, split evenly over all pages that hold it; the parts add up to"
    " all that is reclaimed.",
    "What an owner adds holds if just that one were not there: what two add together is not the sum.",
)


@dataclass(frozen=True)
class Joined:
    """What one owner brings, in pages reclaimed, zero pages included; ``*_zero`` is what zero pages have in it.

    ``alone``: by a scan of it alone. ``part``: its fair part of what all reclaim, a sum of fractions. ``adds``: what
    all reclaim, less what all but it would.
    """

    name: str
    domain: str
    known: int
    alone: int
    alone_zero: int
    part: float
    part_zero: float
    adds: int
    adds_zero: int


@dataclass(frozen=True)
class Joining:
    """Owners in the order in which they were given; ``reclaimed`` by all of them, ``reclaimed_zero`` of it zero
    pages."""

    owners: tuple[Joined, ...]
    reclaimed: int
    reclaimed_zero: int
    assumptions: tuple[str, ...] = ASSUMPTIONS


def joining(inventory: Inventory, control: Control | None = None) -> Joining:
    """Sum up what each owner holds. Raises ``Stopped``.

    >>> import pageshare
    >>> from pageshare.answers.joining import joining
    >>> report = pageshare.scan({"a": b"x" * 8192, "b": b"x" * 4096})
    >>> [(owner.alone, round(owner.part, 3), owner.adds) for owner in joining(report.inventory).owners]
    [(1, 1.333, 2), (0, 0.667, 1)]
    """
    held = inventory.contents.shares(control)
    pages, contents, only = (held[name].astype(np.int64) for name in ("pages", "contents", "only"))
    zeros = inventory.zeros
    domains = np.asarray(inventory.domains, np.int64)
    together = np.bincount(domains, zeros, len(inventory.domain_names)).astype(np.int64)
    reclaimed_zero = int(np.maximum(together - 1, 0).sum())
    all_zeros = together[domains]
    alone_zero = np.maximum(zeros - 1, 0)
    part_zero = zeros * (1 - 1 / np.maximum(all_zeros, 1))
    adds_zero = np.maximum(all_zeros - 1, 0) - np.maximum(all_zeros - zeros - 1, 0)
    columns = zip(
        inventory.owners,
        (inventory.domain_names[domain] for domain in inventory.domains),
        inventory.known.tolist(),
        (pages - contents + alone_zero).tolist(),
        alone_zero.tolist(),
        (pages - held["kept"] + part_zero).tolist(),
        part_zero.tolist(),
        (pages - only + adds_zero).tolist(),
        adds_zero.tolist(),
        strict=True,
    )
    tally = inventory.contents.contents[1:]
    nonzero = int(tally["pages"].sum(dtype=np.int64)) - len(tally)
    return Joining(
        owners=tuple(Joined(*each) for each in columns),
        reclaimed=nonzero + reclaimed_zero,
        reclaimed_zero=reclaimed_zero,
    )
