"""The figures of a scan, computed once, as plain frozen dataclasses. ``render/`` shows them.

The words are those of docs/concepts.md: *known* pages are *unique* or *shared*; of the shared ones one a group
is *kept*, the rest is *reclaimed*. ``pages`` figures include zero pages (one frame kept for each sharing domain),
``nonzero`` figures leave them out. Everything is in pages of ``page_size`` bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pageshare.answers import Answers
from pageshare.core import Control, Tally
from pageshare.inventory import Inventory
from pageshare.space import Coverage, PageSpace

FORMAT = "pageshare-scan/1"
UNKNOWN_MATTERS = 0.05
"""More than this share of unknown pages, and what is saved is told as a range."""


@dataclass(frozen=True)
class PageCounts:
    """Pages by what they are; the first three are part of ``known`` = ``unique`` + ``shared``.

    ``known``: content is known; ``zero``: all zero, ``zero_inferred`` of them holes; ``unique``: content held once
    (None while a partial scan has not visited every page); ``shared``: in groups of two or more, of which ``kept``
    frames stay and ``reclaimed`` = shared - kept are saved. Outside: ``unknown``, ``partial``, ``device``.

    >>> import pageshare
    >>> pages = pageshare.scan(bytes(3 * 4096) + b"x" * 4096).pages
    >>> pages.known, pages.zero, pages.unique, pages.shared, pages.kept, pages.reclaimed
    (4, 3, 1, 3, 1, 2)
    """

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
    """Shared, kept and reclaimed pages without zero pages.

    >>> import pageshare
    >>> pageshare.scan(bytes(3 * 4096) + b"x" * 8192).owners[0].nonzero
    NonzeroCounts(shared=2, kept=1, reclaimed=1)
    """

    shared: int
    kept: int
    reclaimed: int


@dataclass(frozen=True)
class NonzeroTotals(NonzeroCounts):
    """With the part of ``reclaimed`` that each owner would reclaim alone (intra), and the rest (inter).

    Per content, inter is the number of owners that hold it - 1.

    >>> import pageshare
    >>> found = pageshare.scan({"a": b"x" * 8192, "b": b"x" * 4096}).nonzero
    >>> found.reclaimed, found.reclaimed_intra, found.reclaimed_inter
    (2, 1, 1)
    """

    reclaimed_intra: int
    reclaimed_inter: int


@dataclass(frozen=True)
class WithOthers:
    """An owner's known pages, zero pages included, classed by the whole scan.

    >>> import pageshare
    >>> pageshare.scan({"a": b"x" * 4096 + b"y" * 4096, "b": b"x" * 4096}).owners[0].with_others
    WithOthers(shared=1, unique=1)
    """

    shared: int
    unique: int | None


@dataclass(frozen=True)
class FileReport:
    """One file of an owner and the format that it was read as.

    >>> import pageshare
    >>> pageshare.scan({"a": bytes(4096)}).owners[0].files
    (FileReport(path='a', format='raw'),)
    """

    path: str
    format: str


@dataclass(frozen=True)
class OwnerReport:
    """One owner. ``pages`` and ``nonzero`` are those of a scan of this owner alone.

    >>> import pageshare
    >>> one = pageshare.scan({"a": bytes(8192), "b": bytes(4096)}).owners[0]
    >>> one.name, one.domain, one.pages.reclaimed
    ('a', 'default', 1)
    """

    name: str
    domain: str
    files: tuple[FileReport, ...]
    pages: PageCounts
    nonzero: NonzeroCounts
    with_others: WithOthers
    coverage: Coverage


@dataclass(frozen=True)
class Partial:
    """A scan that ended early, or followed a policy: what the visits have found so far, holes left out.

    A zero page is a frame from the first one on: a lone one counts as shared and kept.

    >>> import pageshare
    >>> found = pageshare.scan(b"x" * 8192 + b"y" * 4096, policy="sequential", limit=2).partial
    >>> found.visits, found.hints, found.shared, found.kept, found.reclaimed
    (2, 0, 2, 1, 1)
    """

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
    """Seconds: to open and map; from the first page looked at to the last count; all from the start to the last answer.

    Where ``Report.overlapped``, ``map`` ends when the loop begins, and ``scan`` includes the mapping.

    >>> import pageshare
    >>> seconds = pageshare.scan(bytes(4096)).seconds
    >>> seconds.total > seconds.scan > 0
    True
    """

    map: float
    scan: float
    total: float


@dataclass(frozen=True)
class Report:
    """What a scan found; page counts are in pages of ``page_size`` bytes.

    ``method`` is "census" (all pages at once), "streamed-census" (the same by reading the files from end to end
    ``readings`` times, since memory can't hold them), or "frame-table" (page after page, with a policy).
    ``table_bytes`` is the memory that this took. ``answers`` has what was asked beyond these figures, and ``inventory``
    which content is where; both are None for a scan by policy.

    ``to_dict()`` gives the JSON, whose keys docs/json.md explains; they are the fields' names.

    >>> import pageshare
    >>> report = pageshare.scan({"a": bytes(8192), "b": b"x" * 4096})
    >>> report.page_size, report.verified, [owner.name for owner in report.owners]
    (4096, True, ['a', 'b'])
    >>> report.to_dict()["pages"]["reclaimed"]
    1
    """

    page_size: int
    hash: str
    verified: bool
    pages: PageCounts
    nonzero: NonzeroTotals
    coverage: Coverage
    domains: tuple[str, ...]
    owners: tuple[OwnerReport, ...]
    seed: int
    method: str
    kernel: str
    threads: int
    overlapped: bool
    readings: int
    table_bytes: int
    readable: int
    seconds: Seconds
    partial: Partial | None = None
    interrupted: bool = False
    incomplete: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[dict[str, str], ...] = field(default=())
    answers: Answers | None = None
    inventory: Inventory | None = field(default=None, repr=False, compare=False)

    @property
    def reclaimed_range(self) -> tuple[int, int] | None:
        """Where more than 5 % is unknown: how many of all pages are saved at least, if no unknown one is like another,
        and at most, if each of them is; and each that a partial scan has not found to be shared so far, unless it
        visited all. None where one number will do."""
        pages = self.pages
        if pages.unknown <= UNKNOWN_MATTERS * (pages.known + pages.unknown):
            return None
        unfound = pages.known - pages.shared if pages.unique is None else 0
        return pages.reclaimed, pages.reclaimed + unfound + pages.unknown

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it: plain dicts, lists, numbers and strings."""
        document = {"format": FORMAT, **asdict(replace(self, answers=None, inventory=None))}
        del document["answers"], document["inventory"]
        document["reclaimed_range"] = self.reclaimed_range and list(self.reclaimed_range)
        document.update({} if self.answers is None else self.answers.to_dict())
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
class Known:
    """What is known of an owner whose pages are counted: the number of its domain, its files, what they hold."""

    name: str
    domain: int
    files: tuple[FileReport, ...]
    coverage: Coverage


def known_of(space: PageSpace) -> tuple[Known, ...]:
    """Of the owners of a space."""
    return tuple(
        Known(
            owner.name,
            owner.domain,
            tuple(FileReport(file.source.path, file.format) for file in owner.files),
            owner.coverage,
        )
        for owner in space.owners
    )


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


def count(known: Sequence[Known], domains: Sequence[str], tally: Tally, *, complete: bool) -> Counts:
    """Compose the figures of all owners, in ``domains``, from a tally and the pages that need no reading.

    Pages whose bytes could not be had are lost, not known.
    ``complete`` says that every page was visited; without it ``unique`` is None.
    """
    coverages = [
        replace(
            owner.coverage,
            data=owner.coverage.data - mine.unreadable,
            lost=owner.coverage.lost + mine.unreadable,
        )
        for owner, mine in zip(known, tally.owners, strict=True)
    ]
    zeros = [
        mine.zero + coverage.zero + coverage.zero_inferred
        for mine, coverage in zip(tally.owners, coverages, strict=True)
    ]
    by_domain = [0] * len(domains)
    for owner, zero in zip(known, zeros, strict=True):
        by_domain[owner.domain] += zero

    def unique(nonzero: int, zero_groups: Sequence[int]) -> int | None:
        return nonzero + sum(pages == 1 for pages in zero_groups) if complete else None

    owners = []
    for owner, mine, coverage, zero in zip(known, tally.owners, coverages, zeros, strict=True):
        nonzero = NonzeroCounts(mine.alone_shared, mine.alone_kept, mine.alone_shared - mine.alone_kept)
        zero_is_shared = by_domain[owner.domain] > 1
        owners.append(
            OwnerReport(
                name=owner.name,
                domain=domains[owner.domain],
                files=owner.files,
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
            coverage, sum(zeros), unique(tally.hints + tally.lone + tally.stale, by_domain), nonzero_totals, by_domain
        ),
        nonzero=nonzero_totals,
        coverage=coverage,
        owners=tuple(owners),
    )



def in_domains(report: Report, domains: Sequence[str], control: Control | None = None) -> Report:
    """The figures of a full scan if its owners were in these sharing domains, one name for each. What else was asked is
    not answered anew.

    Raises ``Stopped``.

    >>> import pageshare
    >>> found = pageshare.scan({"a": b"x" * 8192, "b": b"x" * 4096})
    >>> in_domains(found, ["red", "blue"]).nonzero
    NonzeroTotals(shared=2, kept=1, reclaimed=1, reclaimed_intra=1, reclaimed_inter=0)
    """
    old = report.inventory
    if old is None:
        raise ValueError("a scan by policy does not say which content is where")
    number = {name: i for i, name in enumerate(dict.fromkeys(domains))}
    names = tuple(number)
    inventory = Inventory.having(
        old.everywhere,
        page_size=old.page_size,
        owners=old.owners,
        domains=tuple(number[name] for name in domains),
        domain_names=names,
        places=old.places,
        gaps=old.gaps,
        control=control,
    )
    known = tuple(
        # Of what could not be read, the tally has none any more: it is a part of what is unknown.
        Known(owner.name, domain, owner.files, owner.coverage)
        for owner, domain in zip(report.owners, inventory.domains, strict=True)
    )
    tally = without_unreadable(inventory.contents.tally(inventory.domains, control))
    counts = count(known, names, tally, complete=True)
    return replace(
        report,
        pages=counts.pages,
        nonzero=counts.nonzero,
        coverage=counts.coverage,
        domains=names,
        owners=counts.owners,
        answers=Answers(),
        inventory=inventory,
    )


def without_unreadable(tally: Tally) -> Tally:
    """A tally of pages of which those that could not be read are counted elsewhere."""
    return replace(tally, unreadable=0, owners=tuple(replace(owner, unreadable=0) for owner in tally.owners))
