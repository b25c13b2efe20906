"""What isolation costs: what stays of the saving where only owners of one sharing domain share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pageshare.core import Control
    from pageshare.inventory import Inventory

ASSUMPTIONS = (
    "A page is shared within its sharing domain (a tenant, a salt, a NUMA node) and never across.",
    "Each domain keeps a frame of its own for each content that is shared in it, the zero page too.",
    "Linux's KSM knows no domains but NUMA nodes (merge_across_nodes=0): separate tenants there by leaving them out.",
)


@dataclass(frozen=True)
class Division:
    """One way to divide the owners into ``domains``: pages ``reclaimed``, and ``lost`` against one domain; ``*_zero``
    is the part of zero pages. ``name`` is "one", "given", or "each": one for each owner."""

    name: str
    domains: int
    reclaimed: int
    reclaimed_zero: int
    lost: int
    lost_zero: int


@dataclass(frozen=True)
class DomainShare:
    """A domain that was given: how many ``owners`` it has, its ``known`` pages, and those ``reclaimed`` in it."""

    name: str
    owners: int
    known: int
    reclaimed: int
    reclaimed_zero: int


@dataclass(frozen=True)
class Isolated:
    """What is lost, in pages, if this owner alone is taken out of the one domain into a domain of its own."""

    name: str
    lost: int
    lost_zero: int


@dataclass(frozen=True)
class Isolation:
    """The two ends and, if domains were given, what lies between: most reclaimed first. ``domains`` are those that were
    given (none if it is one), ``owners`` in the order in which they were."""

    divisions: tuple[Division, ...]
    domains: tuple[DomainShare, ...]
    owners: tuple[Isolated, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS


def isolation(inventory: Inventory, control: Control | None = None) -> Isolation:
    """Count for each division. Raises ``Stopped``.

    >>> import pageshare
    >>> from pageshare.answers.isolation import isolation
    >>> report = pageshare.scan({"a": b"x" * 8192, "b": b"x" * 4096 + bytes(4096), "c": bytes(4096)})
    >>> [(each.name, each.reclaimed, each.lost, each.lost_zero) for each in isolation(report.inventory).divisions]
    [('one', 3, 0, 0), ('each', 1, 2, 1)]
    """
    count = len(inventory.owners)
    ways: list[tuple[str, Sequence[int]]] = [("one", [0] * count)]
    if len(set(inventory.domains)) > 1:
        ways.append(("given", inventory.domains))
    ways.append(("each", range(count)))
    reclaimed = [inventory.reclaimed(way) for _, way in ways]
    best, best_zero = reclaimed[0]
    return Isolation(
        divisions=tuple(
            Division(name, len(set(way)), nonzero + zero, zero, best + best_zero - nonzero - zero, best_zero - zero)
            for (name, way), (nonzero, zero) in zip(ways, reclaimed, strict=True)
        ),
        domains=tuple(_domains(inventory)) if len(ways) > 2 else (),
        owners=tuple(_owners(inventory, control)),
    )


def _domains(inventory: Inventory) -> list[DomainShare]:
    domains, count = np.asarray(inventory.domains, np.int64), len(inventory.domain_names)
    contents, holdings = inventory.contents.contents[1:], inventory.contents.holdings
    of_content = domains[holdings["owner"][contents["start"]]]
    nonzero = np.bincount(of_content, contents["pages"].astype(np.int64) - 1, count).astype(np.int64)
    zero = np.maximum(np.bincount(domains, inventory.zeros, count).astype(np.int64) - 1, 0)
    columns = zip(
        inventory.domain_names,
        np.bincount(domains, minlength=count).tolist(),
        np.bincount(domains, inventory.known, count).astype(np.int64).tolist(),
        (nonzero + zero).tolist(),
        zero.tolist(),
        strict=True,
    )
    return [DomainShare(*each) for each in columns]


def _owners(inventory: Inventory, control: Control | None) -> list[Isolated]:
    """Of each content that others hold too, one more frame is kept."""
    held = inventory.everywhere.shares(control)
    zeros = inventory.zeros
    zero = (zeros > 0) & (zeros < zeros.sum())
    lost = held["contents"].astype(np.int64) - held["only"].astype(np.int64) + zero
    columns = zip(inventory.owners, lost.tolist(), zero.astype(np.int64).tolist(), strict=True)
    return [Isolated(*each) for each in columns]
