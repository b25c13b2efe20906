"""What changed between two scans of the same owners: which pages were written, appeared, vanished, and what became of
sharing.

Contents of two scans are compared by their 128-bit hashes, since their bytes are not there any more. Pages are compared
where they lie: by owner and frame number, whatever files or formats they came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.answers._holder_sets import spread
from pageshare.core import NO_PAGE, ZERO_CLASS
from pageshare.inventory import INTER, INTRA, STATES, UNIQUE, UNKNOWN, ZERO, Inventory

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "pageshare-compare/1"

ABSENT = len(STATES)
"""What a page is in a scan that does not have it."""
BEFORE_AND_AFTER = (*STATES, "absent")

REGION = 2 << 20
"""Bytes of a region of addresses."""
MOST_REGIONS = 100
"""Regions that are named: those in which most was written."""
STEP = 1 << 20
"""Pages that are compared together."""


@dataclass(frozen=True)
class Changes:
    """Pages of an owner, or of all, by what became of them.

    ``before`` and ``after``: known in the one scan and in the other. ``both`` = ``unchanged`` + ``written``: known in
    both, at the same address. Of the written ones ``zeroed`` became zero, ``filled`` were zero, ``rewritten`` neither;
    ``from_elsewhere`` hold now what a page of any owner held before, ``to_elsewhere`` held what a page of any owner
    holds now (zeros left out). ``appeared``, ``vanished``: known in one scan, not there at all in the other;
    ``learnt``, ``lost``: there in both, but known in one only.
    """

    before: int = 0
    after: int = 0
    both: int = 0
    unchanged: int = 0
    written: int = 0
    zeroed: int = 0
    filled: int = 0
    rewritten: int = 0
    from_elsewhere: int = 0
    to_elsewhere: int = 0
    appeared: int = 0
    vanished: int = 0
    learnt: int = 0
    lost: int = 0

    def __add__(self, other: Changes) -> Changes:
        """Sum, field by field."""
        return Changes(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True)
class OwnerChanges:
    """One owner, with its name in either scan: None where it is not there: all its pages appeared, or vanished."""

    old: str | None
    new: str | None
    pages: Changes


@dataclass(frozen=True)
class Sharing:
    """What became of shared pages (intra and inter; zeros apart).

    ``before`` = ``stayed`` + ``lost_partner`` (not written, but the only one with its content now) + ``broken``
    (written: as if shared, each would have been copied) + ``gone`` (vanished or lost). ``after`` = ``stayed`` +
    ``found_partner`` + ``by_write`` + ``come``. ``zero_broken``: zero pages that were written.
    """

    before: int
    after: int
    stayed: int
    lost_partner: int
    broken: int
    gone: int
    found_partner: int
    by_write: int
    come: int
    zero_broken: int


@dataclass(frozen=True)
class Region:
    """Addresses of an owner (its name in the new scan), ``address`` the first of them: pages known in ``both`` scans,
    and how many of these were ``written``."""

    owner: str
    address: int
    both: int
    written: int


@dataclass(frozen=True)
class Side:
    """One of the scans, in pages: known, zero, reclaimed; ``contents``: distinct ones but zeros, ``elsewhere`` of them
    in the other scan too."""

    name: str
    known: int
    zero: int
    reclaimed: int
    contents: int
    elsewhere: int


@dataclass(frozen=True)
class Comparison:
    """What changed from ``old`` to ``new``, in pages of ``page_size`` bytes.

    ``transitions[i][j]``: pages that were ``states[i]`` and are ``states[j]``; ``written[i][j]``: those of them that
    are known in both scans and hold another content. ``regions`` are those of ``region_bytes`` in which most was
    written, at most ``MOST_REGIONS`` of ``regions_written`` in which anything was, of ``regions_known`` with pages
    known in both. ``hash``: contents were compared by it; ``verified`` is False, for it was not by bytes.
    """

    page_size: int
    hash: str
    verified: bool
    old: Side
    new: Side
    pages: Changes
    owners: tuple[OwnerChanges, ...]
    states: tuple[str, ...]
    transitions: tuple[tuple[int, ...], ...]
    written: tuple[tuple[int, ...], ...]
    sharing: Sharing
    region_bytes: int
    regions_known: int
    regions_written: int
    regions: tuple[Region, ...]
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: docs/json.md explains the keys, which are the fields' names."""
        return {"format": FORMAT, **asdict(self)}


@dataclass(frozen=True)
class Scan:
    """A scan to compare: ``digests`` (uint8, (contents, 16)) has the hash of each content by ``inventory.numbers()``;
    that of zeros is not looked at."""

    name: str
    inventory: Inventory
    digests: NDArray[np.uint8]


def compare(
    old: Scan, new: Scan, *, match: Mapping[str, str] | None = None, hash: str = "xxh3-128", region: int = REGION
) -> Comparison:
    """What changed between two scans.

    Owners are the same if they have the same name, or as ``match`` says (a name in ``old`` to one in ``new``), or if
    each scan has one only. ``region`` is in bytes, a whole number of pages. Takes some 5 bytes for each page and 20 for
    each content of both scans, and 100 MiB. Raises ValueError for pages of different size, for a match with owners that
    are not there, and for owners of one scan with the same name.
    """
    if old.inventory.page_size != new.inventory.page_size:
        raise ValueError(
            f"{old.name} has pages of {old.inventory.page_size} bytes, {new.name} of {new.inventory.page_size}:"
            " scan both with the same --page-size"
        )
    page_size = new.inventory.page_size
    if region < page_size or region % page_size:
        raise ValueError(f"regions of {region} bytes: must be a whole number of {page_size}-byte pages")
    pairs = matched(old.inventory.owners, new.inventory.owners, match or {})
    in_new, in_old = _in_both(old.digests, new.digests)
    before, after = _Pages.of(old, in_new), _Pages.of(new, in_old)
    n = len(BEFORE_AND_AFTER)
    transitions, written = np.zeros((n, n), np.int64), np.zeros((n, n), np.int64)
    owners, regions = [], []
    for i, j in pairs:
        found = _owner(before, i, after, j, region // page_size)
        transitions += found.transitions
        written += found.written
        old_name = None if i is None else old.inventory.owners[i]
        new_name = None if j is None else new.inventory.owners[j]
        owners.append(OwnerChanges(old_name, new_name, _changes(found)))
        regions.append((str(new_name if old_name is None or new_name is not None else old_name), found))
    shown = _top([(name, each.regions) for name, each in regions], region)
    return Comparison(
        page_size=page_size,
        hash=hash,
        verified=False,
        old=_side(old, in_new),
        new=_side(new, in_old),
        pages=sum((owner.pages for owner in owners), Changes()),
        owners=tuple(owners),
        states=BEFORE_AND_AFTER,
        transitions=tuple(map(tuple, transitions.tolist())),
        written=tuple(map(tuple, written.tolist())),
        sharing=_sharing(transitions, written),
        region_bytes=region,
        regions_known=sum(len(each.regions[0]) for _, each in regions),
        regions_written=sum(int(np.count_nonzero(each.regions[2])) for _, each in regions),
        regions=shown,
        assumptions=tuple(_assumptions(old, new, owners)),
    )


def matched(
    old: Sequence[str], new: Sequence[str], match: Mapping[str, str]
) -> list[tuple[int | None, int | None]]:
    """Which owner is which: the old one's number and the new one's, in the order of ``new``, then those that are gone.

    >>> matched(["a", "b.t0", "c"], ["b.t60", "a", "d"], {"b.t0": "b.t60"})
    [(1, 0), (0, 1), (None, 2), (2, None)]
    """
    for one, other in match.items():
        for name, names, which in ((one, old, "old"), (other, new, "new")):
            if name not in names:
                raise ValueError(f"match {one}={other}: the {which} scan has no owner {name!r}, but {', '.join(names)}")
    if len(set(match.values())) < len(match):
        raise ValueError("match: two owners of the old scan can't be one of the new scan")
    for names, which in ((old, "old"), (new, "new")):
        if len(set(names)) < len(names):
            raise ValueError(f"two owners of the {which} scan have the same name, and can't be told apart")
    if len(old) == len(new) == 1:
        return [(0, 0)]
    taken = set(match.values())
    of_new = {match.get(name, name): number for number, name in enumerate(old) if name in match or name not in taken}
    pairs = [(of_new.get(name), number) for number, name in enumerate(new)]
    found = {number for number, _ in pairs}
    return [*pairs, *((number, None) for number in range(len(old)) if number not in found)]


@dataclass(frozen=True)
class _Pages:
    """A scan's pages by number: ``state`` (uint8) and ``content`` (uint32, by ``Inventory.numbers()``) of those that
    are read; ``elsewhere`` (bool, one a content) says which the other scan has too; ``digests`` (uint64,
    (contents, 2))."""

    inventory: Inventory
    state: NDArray[np.uint8]
    content: NDArray[np.uint32]
    elsewhere: NDArray[np.bool_]
    digests: NDArray[np.uint64]

    @classmethod
    def of(cls, scan: Scan, elsewhere: NDArray[np.bool_]) -> _Pages:
        inventory = scan.inventory
        return cls(inventory, inventory.states(), inventory.numbers(), elsewhere, _words(scan.digests))

    def runs(self, owner: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Stretches of an owner, known or not, by ascending frame: the frame, the number of pages, and the number of
        the first page; instead of that -1 - ZERO or -1 - UNKNOWN where all are that."""
        empty = np.empty(0, np.int64)
        if owner is None:
            return empty, empty, empty
        places, gaps = self.inventory.places, self.inventory.gaps
        parts = [tuple(each.astype(np.int64) for each in places.runs(owner, zeros=zeros)) for zeros in (False, True)]
        mine = gaps[gaps["owner"] == owner]
        frame = np.concatenate([parts[0][0], parts[1][0], mine["frame"].astype(np.int64)])
        pages = np.concatenate([parts[0][2], parts[1][2], mine["pages"].astype(np.int64)])
        first = np.concatenate(
            [parts[0][1], np.full(len(parts[1][0]), -1 - ZERO), np.full(len(mine), -1 - UNKNOWN)]
        )
        order = np.argsort(frame, kind="stable")
        return frame[order], pages[order], first[order]

    def look(
        self, first: NDArray[np.int64], pages: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """State and content (NO_PAGE: none) of some stretches, page by page: ``first`` as in ``runs``, -1 - ABSENT
        where this scan has nothing."""
        whole = np.repeat(first, pages)
        state = np.where(whole < 0, -1 - whole, 0).astype(np.uint8)
        content = np.where(whole == -1 - ZERO, np.uint32(ZERO_CLASS), np.uint32(NO_PAGE))
        read = first >= 0
        numbers, at = spread(first[read], pages[read]), whole >= 0
        state[at] = self.state[numbers]
        content[at] = self.content[numbers]
        return state, content


@dataclass(frozen=True)
class _Found:
    """What became of an owner's pages: as ``Comparison`` has it; ``elsewhere``: written pages whose content the old
    scan had, and those whose old content the new scan has; ``regions``: their numbers, pages known in both, pages
    written."""

    transitions: NDArray[np.int64]
    written: NDArray[np.int64]
    elsewhere: tuple[int, int]
    regions: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _owner(old: _Pages, i: int | None, new: _Pages, j: int | None, region: int) -> _Found:
    n = len(BEFORE_AND_AFTER)
    transitions, written = np.zeros(n * n, np.int64), np.zeros(n * n, np.int64)
    from_elsewhere = to_elsewhere = 0
    frame, pages, old_first, new_first = _stretches(old.runs(i), new.runs(j))
    # What neither scan has to be read for may be long, and is not gone through page by page.
    plain = (old_first < 0) & (new_first < 0)
    np.add.at(transitions, (-1 - old_first[plain]) * n + (-1 - new_first[plain]), pages[plain])
    zeros = plain & (old_first == -1 - ZERO) & (new_first == -1 - ZERO)
    regions = [_by_region(frame[zeros], pages[zeros], region)]
    read = ~plain
    for first, length, was_first, now_first in _steps(frame[read], pages[read], old_first[read], new_first[read]):
        was, old_content = old.look(was_first, length)
        now, new_content = new.look(now_first, length)
        codes = was * np.uint8(n) + now
        transitions += np.bincount(codes, minlength=n * n)
        known = np.flatnonzero((was < UNKNOWN) & (now < UNKNOWN))
        one, other = old_content[known], new_content[known]
        differ = (one == ZERO_CLASS) != (other == ZERO_CLASS)
        filled = np.flatnonzero((one != ZERO_CLASS) & (other != ZERO_CLASS))
        differ[filled] = (old.digests[one[filled]] != new.digests[other[filled]]).any(axis=1)
        written += np.bincount(codes[known[differ]], minlength=n * n)
        from_elsewhere += int(np.count_nonzero(new.elsewhere[other[differ]]))
        to_elsewhere += int(np.count_nonzero(old.elsewhere[one[differ]]))
        if len(known):
            block = spread(first, length)[known] // region
            starts = np.flatnonzero(np.append(True, block[1:] != block[:-1]))
            both = np.diff(starts, append=len(block))
            regions.append((block[starts], both, np.add.reduceat(differ, starts, dtype=np.int64)))
    # A region may be in several steps.
    numbers, *counts = (np.concatenate(each) for each in zip(*regions, strict=True))
    distinct, which = np.unique(numbers, return_inverse=True)
    both, changed = (np.bincount(which, each, len(distinct)).astype(np.int64) for each in counts)
    return _Found(
        transitions.reshape(n, n), written.reshape(n, n), (from_elsewhere, to_elsewhere), (distinct, both, changed)
    )


def _by_region(
    frame: NDArray[np.int64], pages: NDArray[np.int64], region: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pages of stretches in which nothing was written, by the region they are in: its number, pages, and 0."""
    first, last = frame // region, (frame + pages - 1) // region
    numbers, ends = spread(first, last - first + 1), frame + pages
    sizes = last - first + 1
    starts = np.maximum(np.repeat(frame, sizes), numbers * region)
    inside = np.minimum(np.repeat(ends, sizes), (numbers + 1) * region) - starts
    return numbers, inside, np.zeros_like(numbers)


def _stretches(
    old: tuple[NDArray[np.int64], ...], new: tuple[NDArray[np.int64], ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All that is in one of two lists of runs (``_Pages.runs``), cut where either begins or ends: frame, pages, and
    what each list has there."""
    edges = np.unique(np.concatenate([each for frame, pages, _ in (old, new) for each in (frame, frame + pages)]))
    frame, pages = edges[:-1], np.diff(edges)
    firsts = []
    for at, length, first in (old, new):
        run = np.searchsorted(at, frame, side="right") - 1
        if not len(at):
            firsts.append(np.full(len(frame), -1 - ABSENT))
            continue
        into = frame - at[run]
        there = (run >= 0) & (into < length[run])
        firsts.append(np.where(there, first[run] + np.where(first[run] >= 0, into, 0), -1 - ABSENT))
    anything = (firsts[0] != -1 - ABSENT) | (firsts[1] != -1 - ABSENT)
    frame, pages = frame[anything], pages[anything]
    one, other = (first[anything] for first in firsts)
    return frame, pages, one, other


def _steps(
    frame: NDArray[np.int64], pages: NDArray[np.int64], *firsts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """The same stretches, some ``STEP`` pages together."""
    ends = np.cumsum(pages)
    for low in range(0, int(pages.sum()), STEP):
        high = min(low + STEP, int(ends[-1]))
        begin, end = np.searchsorted(ends, low, side="right"), np.searchsorted(ends, high - 1, side="right") + 1
        part = slice(int(begin), int(end))
        starts = ends[part] - pages[part]
        skipped = np.maximum(0, low - starts)
        length = np.minimum(ends[part], high) - np.maximum(starts, low)
        yield (
            frame[part] + skipped,
            length,
            *(np.where(first[part] >= 0, first[part] + skipped, first[part]) for first in firsts),
        )


def _words(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes as two words each."""
    return np.ascontiguousarray(digests, np.uint8).view(np.uint64).reshape(-1, 2)


def _in_both(old: NDArray[np.uint8], new: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each content but zeros, by number, whether the other scan has one of the same hash.

    Both are sorted by their first words; candidates that agree there, and in the second word do not, are as many as
    somebody has made: those behind them are tried, one after the other.
    """
    one, other = _words(old)[1:], _words(new)[1:]
    found_one, found_other = np.zeros(len(old), np.bool_), np.zeros(len(new), np.bool_)
    order, order_other = np.argsort(one[:, 0]), np.argsort(other[:, 0])
    wanted, there = one[order, 0], other[order_other, 0]
    at = np.searchsorted(there, wanted)
    left = np.arange(len(wanted))
    while len(left := left[at[left] < len(there)]) and len(left := left[there[at[left]] == wanted[left]]):
        mine, candidate = order[left], order_other[at[left]]
        same = one[mine, 1] == other[candidate, 1]
        found_one[1 + mine[same]] = True
        found_other[1 + candidate[same]] = True
        left = left[~same]
        at[left] += 1
    return found_one, found_other


def _changes(found: _Found) -> Changes:
    all_pages, written = found.transitions, found.written
    known = slice(0, UNKNOWN)
    both = int(all_pages[known, known].sum())
    changed = int(written.sum())
    zeroed, filled = int(written[:, ZERO].sum()), int(written[ZERO].sum())
    return Changes(
        before=int(all_pages[known].sum()),
        after=int(all_pages[:, known].sum()),
        both=both,
        unchanged=both - changed,
        written=changed,
        zeroed=zeroed,
        filled=filled,
        rewritten=changed - zeroed - filled,
        from_elsewhere=found.elsewhere[0],
        to_elsewhere=found.elsewhere[1],
        appeared=int(all_pages[ABSENT, known].sum()),
        vanished=int(all_pages[known, ABSENT].sum()),
        learnt=int(all_pages[UNKNOWN, known].sum()),
        lost=int(all_pages[known, UNKNOWN].sum()),
    )


def _sharing(all_pages: NDArray[np.int64], written: NDArray[np.int64]) -> Sharing:
    unwritten, shared, elsewhere = all_pages - written, [INTRA, INTER], [UNKNOWN, ABSENT]
    return Sharing(
        before=int(all_pages[shared].sum()),
        after=int(all_pages[:, shared].sum()),
        stayed=int(unwritten[np.ix_(shared, shared)].sum()),
        lost_partner=int(unwritten[shared, UNIQUE].sum()),
        broken=int(written[shared].sum()),
        gone=int(all_pages[np.ix_(shared, elsewhere)].sum()),
        found_partner=int(unwritten[UNIQUE, shared].sum()),
        by_write=int(written[:, shared].sum()),
        come=int(all_pages[np.ix_(elsewhere, shared)].sum()),
        zero_broken=int(written[ZERO].sum()),
    )


def _side(scan: Scan, elsewhere: NDArray[np.bool_]) -> Side:
    inventory = scan.inventory
    return Side(
        name=scan.name,
        known=int(inventory.known.sum()),
        zero=int(inventory.zeros.sum()),
        reclaimed=sum(inventory.reclaimed()),
        contents=len(elsewhere) - 1,
        elsewhere=int(np.count_nonzero(elsewhere)),
    )


def _top(owners: Sequence[tuple[str, tuple[NDArray[np.int64], ...]]], region: int) -> tuple[Region, ...]:
    """Where most was written."""
    found = []
    for name, (number, both, written) in owners:
        most = np.argsort(-written, kind="stable")[:MOST_REGIONS]
        rows: Any = zip(number[most].tolist(), both[most].tolist(), written[most].tolist(), strict=True)
        found += [Region(name, at * region, known, changed) for at, known, changed in rows if changed]
    found.sort(key=lambda each: -each.written)
    return tuple(found[:MOST_REGIONS])


def _assumptions(old: Scan, new: Scan, owners: Sequence[OwnerChanges]) -> Iterator[str]:
    yield "Contents are compared by their 128-bit hashes, not by bytes: equal ones that differ are not to be expected"
    yield (
        "A page counts as written once, however often it was; not at all if it holds again what it held at first:"
        " a scan sees memory as it is at one moment"
    )
    if any(len(set(scan.inventory.domains)) > 1 for scan in (old, new)):
        yield "States are within the sharing domains of each scan; contents are found elsewhere in any domain"
    if all(owner.old is None or owner.new is None for owner in owners):
        yield "no owner has the same name in both scans (--match OLDNAME=NEWNAME says which is which)"
