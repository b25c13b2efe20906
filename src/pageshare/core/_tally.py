"""Pages counted by what they are: what a frame table and a census come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class OwnerTally:
    """One owner's pages in a table. All but ``zero`` leave zero pages out; ``alone_*`` ignore other owners.

    ``unreadable`` are pages that could not be read, in none of the others.
    """

    zero: int
    unique: int
    shared: int
    alone_unique: int
    alone_shared: int
    alone_kept: int
    unreadable: int


@dataclass(frozen=True)
class Tally:
    """All pages in a table, by what they are; zero pages only in ``zero``.

    ``stale`` pages have no entry: their hint was found stale, and they were not looked at since. They differed from
    what they fitted, and are taken to be unique.
    """

    zero: int
    hints: int
    shared: int
    kept: int
    lone: int
    stale: int
    unreadable: int
    owners: tuple[OwnerTally, ...]


def fields_of(struct: Any, names: Sequence[str]) -> dict[str, int]:
    """Fields of a struct of C, by their names."""
    return {name: int(getattr(struct, name)) for name in names}


def tally_of(owners: Any, count: int, total: Any) -> Tally:
    """``ps_tally`` and as many ``ps_owner_tally`` as there are owners."""
    names = list(OwnerTally.__dataclass_fields__)
    return Tally(
        owners=tuple(OwnerTally(**fields_of(owners[i], names)) for i in range(count)),
        **fields_of(total, ["zero", "hints", "shared", "kept", "lone", "stale", "unreadable"]),
    )
