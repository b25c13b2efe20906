"""What a full scan of all images must count: from the content numbers, not from the bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.synth.plan import Plan
from pageshare.synth.spec import Spec

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "pageshare-synth/1"


@dataclass(frozen=True)
class Pages:
    """Pages by what they are, zero pages among them."""

    known: int
    zero: int
    zero_inferred: int
    unique: int
    shared: int
    kept: int
    reclaimed: int


@dataclass(frozen=True)
class Nonzero:
    """The same without zero pages."""

    shared: int
    kept: int
    reclaimed: int


@dataclass(frozen=True)
class NonzeroTotals(Nonzero):
    """With what the owners would reclaim each alone (intra), and the rest (inter)."""

    reclaimed_intra: int
    reclaimed_inter: int


@dataclass(frozen=True)
class WithOthers:
    """An owner's pages classed by all images."""

    shared: int
    unique: int


@dataclass(frozen=True)
class Owner:
    """One image; ``pages`` and ``nonzero`` are those of a scan of it alone. ``name`` is its file's."""

    name: str
    pages: Pages
    nonzero: Nonzero
    with_others: WithOthers


@dataclass(frozen=True)
class Truth:
    """The exact counts of a scan of all images in one sharing domain, in pages of ``spec.page_size`` bytes.

    ``paths`` are the image files, empty if none were written.
    """

    spec: Spec
    pages: Pages
    nonzero: NonzeroTotals
    owners: tuple[Owner, ...]
    paths: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As in truth.json; the keys that a scan's JSON has mean the same (docs/json.md)."""
        return {
            "format": FORMAT,
            "page_size": self.spec.page_size,
            "spec": self.spec.to_dict(),
            "pages": asdict(self.pages),
            "nonzero": asdict(self.nonzero),
            "coverage": {
                "data": self.pages.known - self.pages.zero_inferred,
                "zero": 0,
                "zero_inferred": self.pages.zero_inferred,
            },
            "owners": [
                {**asdict(owner), "files": [{"path": owner.name, "format": self.spec.format}]}
                for owner in self.owners
            ],
        }


class Tally:
    """Counts images as they are planned. Memory: three numbers for each content that several pages may hold."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._copies = np.zeros(plan.pools, np.int64)
        self._holder = np.zeros(plan.pools, np.int32)
        self._alone: list[tuple[Pages, Nonzero, int]] = []

    def add(self, numbers: NDArray[np.integer], holes: int) -> None:
        """The next image."""
        pooled = np.bincount(numbers[numbers < self._plan.pools], minlength=self._plan.pools)
        uniques = len(numbers) - int(pooled.sum())
        self._holder[pooled > 0] = len(self._alone)
        self._copies += pooled
        self._alone.append((*_figures(pooled, uniques, holes), uniques))

    def truth(self) -> Truth:
        """Of the images so far."""
        images = len(self._alone)
        uniques = sum(each[2] for each in self._alone)
        pages, nonzero = _figures(self._copies, uniques, sum(each.zero_inferred for each, _, _ in self._alone))
        # A content held once has one holder: it is unique there, among all.
        lone = np.bincount(self._holder[self._copies == 1], minlength=images).tolist()
        names = self._plan.spec.names
        owners = []
        for i, (mine, mine_nonzero, mine_unique) in enumerate(self._alone):
            unique = mine_unique + lone[i]
            owners.append(Owner(names[i], mine, mine_nonzero, WithOthers(mine.known - unique, unique)))
        intra = sum(owner.nonzero.reclaimed for owner in owners)
        totals = NonzeroTotals(
            nonzero.shared, nonzero.kept, nonzero.reclaimed, intra, nonzero.reclaimed - intra
        )
        return Truth(self._plan.spec, pages, totals, tuple(owners))


def _figures(copies: NDArray[np.integer], uniques: int, holes: int) -> tuple[Pages, Nonzero]:
    """``copies`` of each content that may have several, zero first, and ``uniques`` that have one."""
    shared, kept = int(copies[copies > 1].sum()), int((copies > 1).sum())
    zero = int(copies[0])
    nonzero_shared, nonzero_kept = shared - zero * (zero > 1), kept - (zero > 1)
    return (
        Pages(
            known=int(copies.sum()) + uniques,
            zero=zero,
            zero_inferred=holes,
            unique=int((copies == 1).sum()) + uniques,
            shared=shared,
            kept=kept,
            reclaimed=shared - kept,
        ),
        Nonzero(nonzero_shared, nonzero_kept, nonzero_shared - nonzero_kept),
    )


def truth_of(spec: Spec) -> Truth:
    """The truth of a spec without its files. Raises SpecError.

    >>> truth_of(Spec(images=3, size=10 * 4096, zero=0.2, duplicate=0, base=0.5)).nonzero.reclaimed_inter
    10
    """
    plan = Plan(spec)
    tally = Tally(plan)
    for i in range(spec.images):
        numbers, holes = plan.image(i)
        tally.add(numbers, int(holes.sum()))
    return tally.truth()
