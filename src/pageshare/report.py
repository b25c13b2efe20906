"""The figures of a scan, computed once, as plain frozen dataclasses. ``render/`` shows them.

The words are those of docs/concepts.md: *known* pages are *unique* or *shared*; of the shared ones one a group
is *kept*, the rest is *reclaimed*. ``pages`` figures include zero pages (one frame kept for each sharing domain),
``nonzero`` figures leave them out. Everything is in pages of ``page_size`` bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pageshare.core import Tally
from pageshare.space import Coverage, PageSpace

FORMAT = "pageshare-scan/1"


@dataclass(frozen=True)
class PageCounts:
    """Pages by what they are. ``unique`` is None while a partial scan has not visited every page."""

    known: int
    zero: int
    zero_inferred: int
    unique: int | None
    shared: int
    kept: int
    reclaimed: int
    unknown: int
    partial: int
    device: int


@dataclass(frozen=True)
class NonzeroCounts:
    """The same without zero pages."""

    shared: int
    kept: int
    reclaimed: int


@dataclass(frozen=True)
class NonzeroTotals(NonzeroCounts):
    """With the part that each owner would reclaim alone (intra), and the rest (inter)."""

    reclaimed_intra: int
    reclaimed_inter: int


@dataclass(frozen=True)
class WithOthers:
    """An owner's known pages, zero pages included, classed by the whole scan."""

    shared: int
    unique: int | None


@dataclass(frozen=True)
class FileReport:
    """One file of an owner and the format that it was read as."""

    path: str
    format: str


@dataclass(frozen=True)
class OwnerReport:
    """One owner. ``pages`` and ``nonzero`` are those of a scan of this owner alone."""

    name: str
    domain: str
    files: tuple[FileReport, ...]
    pages: PageCounts
    nonzero: NonzeroCounts
    with_others: WithOthers
    coverage: Coverage


@dataclass(frozen=True)
class Partial:
    """A scan that ended early, or followed a policy: what the visits have found so far, holes left out."""

    policy: str
    seed: int
    visits: int
    hints: int
    shared: int
    kept: int
    reclaimed: int
    zero: int


@dataclass(frozen=True)
class Seconds:
    """Time spent: opening and mapping, from the first page looked at to the last count, and all of it."""

    map: float
    scan: float
    total: float


@dataclass(frozen=True)
class Report:
    """What a scan found. ``to_dict()`` is the documented JSON (docs/json.md)."""

    page_size: int
    hash: str
    verified: bool
    pages: PageCounts
    nonzero: NonzeroTotals
    coverage: Coverage
    domains: tuple[str, ...]
    owners: tuple[OwnerReport, ...]
    seed: int
    kernel: str
    threads: int
    overlapped: bool
    table_bytes: int
    readable: int
    seconds: Seconds
    partial: Partial | None = None
    interrupted: bool = False
    incomplete: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[dict[str, str], ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it: plain dicts, lists, numbers and strings."""
        document = {"format": FORMAT, **asdict(self)}
        if self.partial is None:
            del document["partial"]
        for name in ("domains", "owners", "incomplete", "warnings", "skipped"):
            document[name] = list(document[name])
        for owner in document["owners"]:
            owner["files"] = list(owner["files"])
            owner["coverage"] = _coverage(owner["coverage"])
        document["coverage"] = _coverage(document["coverage"])
        return document


def _coverage(fields: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in fields.items() if name != "partial"}


@dataclass(frozen=True)
class Counts:
    """What ``count`` makes of a tally: the countable part of a report."""

    pages: PageCounts
    nonzero: NonzeroTotals
    coverage: Coverage
    owners: tuple[OwnerReport, ...]


def _page_counts(
    coverage: Coverage, zero: int, unique: int | None, nonzero: NonzeroCounts, zero_groups: Sequence[int]
) -> PageCounts:
    """Zero pages form one group in each domain that has two or more; ``zero_groups`` are the domains' numbers."""
    shared = nonzero.shared + sum(pages for pages in zero_groups if pages > 1)
    kept = nonzero.kept + sum(pages > 1 for pages in zero_groups)
    return PageCounts(
        known=coverage.known,
        zero=zero,
        zero_inferred=coverage.zero_inferred,
        unique=unique,
        shared=shared,
        kept=kept,
        reclaimed=shared - kept,
        unknown=coverage.unknown,
        partial=coverage.partial,
        device=coverage.device,
    )


def count(space: PageSpace, tally: Tally, unreadable: Sequence[int], *, complete: bool) -> Counts:
    """Compose the figures of a whole space from the table's tally and the pages that need no reading.

    ``unreadable`` has, for each owner, the pages whose bytes could not be had: they are lost, not known.
    ``complete`` says that every page was visited; without it ``unique`` is None.
    """
    coverages = [
        replace(owner.coverage, data=owner.coverage.data - lost, lost=owner.coverage.lost + lost)
        for owner, lost in zip(space.owners, unreadable, strict=True)
    ]
    zeros = [
        mine.zero + coverage.zero + coverage.zero_inferred
        for mine, coverage in zip(tally.owners, coverages, strict=True)
    ]
    by_domain = [0] * len(space.domains)
    for owner, zero in zip(space.owners, zeros, strict=True):
        by_domain[owner.domain] += zero

    def unique(nonzero: int, zero_groups: Sequence[int]) -> int | None:
        return nonzero + sum(pages == 1 for pages in zero_groups) if complete else None

    owners = []
    for owner, mine, coverage, zero in zip(space.owners, tally.owners, coverages, zeros, strict=True):
        nonzero = NonzeroCounts(mine.alone_shared, mine.alone_kept, mine.alone_shared - mine.alone_kept)
        zero_is_shared = by_domain[owner.domain] > 1
        owners.append(
            OwnerReport(
                name=owner.name,
                domain=space.domains[owner.domain],
                files=tuple(FileReport(image.source.path, image.format) for image in owner.images),
                pages=_page_counts(coverage, zero, unique(mine.alone_unique, [zero]), nonzero, [zero]),
                nonzero=nonzero,
                with_others=WithOthers(
                    shared=mine.shared + zero * zero_is_shared,
                    unique=mine.unique + zero * (not zero_is_shared) if complete else None,
                ),
                coverage=coverage,
            )
        )
    reclaimed = tally.shared - tally.kept
    intra = sum(owner.nonzero.reclaimed for owner in owners)
    nonzero_totals = NonzeroTotals(tally.shared, tally.kept, reclaimed, intra, reclaimed - intra)
    coverage = sum(coverages, Coverage())
    return Counts(
        pages=_page_counts(
            coverage, sum(zeros), unique(tally.hints + tally.lone, by_domain), nonzero_totals, by_domain
        ),
        nonzero=nonzero_totals,
        coverage=coverage,
        owners=tuple(owners),
    )

