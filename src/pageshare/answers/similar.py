"""Near-duplicates and compression: what patching and compressing would save of what sharing leaves.

After Difference Engine (Gupta et al., OSDI 2008), which shares identical pages, stores a page that resembles another as
a patch to it, and compresses the rest. What is left after sharing is one page of each distinct content that is not
zero; patches and compressed sizes are measured by running the codecs on a random sample of these, or on all.

Candidates are found by min-wise hashing (Broder, SEQUENCES 1997) of the set of a page's 8-byte words, with an index
over all distinct pages. (Difference Engine hashes blocks of 64 bytes at random offsets; of what the best of all pages
as reference would save, words find several times as much: docs/design.md.) The first page that has one of the
indexed keys, if others have it too, is a reference, and is not patched itself: so no patch needs a second one, and what
is a reference is known of all pages without making a patch. A page's candidates are, for each of its keys, the nearest
references that have it, before and behind: how many pages have a key in common costs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare import limits
from pageshare.answers._sizes import CODECS, NO_PATCH, PATCHES, Batch, measure_with, measured
from pageshare.core import NO_PAGE, UNIQUE_CLASS, Control, PageReader
from pageshare.inventory import Inventory
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE = 20_000
"""Pages that are patched and compressed by default: a few seconds."""
KEYS = 16
"""Keys a page: more find more candidates."""
INDEXED = 4
"""How many of them are looked up among all pages: more make more pages references, and take memory."""
MOST_PATCH = 0.5
"""Share of a page that a patch may take: half, as in Difference Engine."""
MOST_COMPRESSED = 0.75
"""Share of a page that a compressed page may take: zram kept whole what came to more (max_zpage_size), before it asked
its allocator, which says about the same."""
METADATA = 16
"""Bytes that a patched or compressed page costs beside its payload: an entry of zram's table has as many (a handle of 8
bytes; size, flags and lock in 8)."""
FEW = 30
"""With fewer pages than that in the sample the normal distribution is no guide to an interval."""
WORTH = 4000
"""Pages for each process that measures: with fewer, starting it costs more than it brings."""

_NORMAL = 1.959964  # of the standard normal distribution, 95 % lie within this
_BATCH = 128  # pages that are measured together: some 40 ms, between two looks at the stop flag
_LOOK = 1 << 12  # pages whose keys are made together


@dataclass(frozen=True)
class Estimate:
    """A total over all distinct pages. ``low`` to ``high`` is its 95 % interval; both None: it was counted."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Way:
    """What one way of treating the pages that sharing leaves comes to.

    ``patched`` pages become patches, ``compressed`` ones are compressed with ``codec`` ("" where none is), which
    together take ``stored`` bytes, and ``metadata`` bytes beside; ``reclaimed`` bytes are saved on top of sharing,
    metadata taken off, and ``in_all`` with sharing.
    """

    name: str
    codec: str
    patched: Estimate
    compressed: Estimate
    stored: Estimate
    metadata: Estimate
    reclaimed: Estimate
    in_all: Estimate


@dataclass(frozen=True)
class Similar:
    """Sharing, patching and compressing side by side.

    In pages: ``known``; ``shared_reclaimed``, what sharing saves (zero pages included, one kept for each domain);
    ``distinct``, contents that are not zero, one page of each of which is left; ``sampled`` of them were measured;
    ``references`` of them are never patched, since others may be patched against them; ``with_candidate`` others have
    such a reference.
    ``nearer`` are patched pages whose patch is smaller than the page compressed alone by the same codec, and
    ``nearer_bytes`` by how much: what likeness saves that compression would not.
    ``ways``: see ``Way``; the last of them take, page by page, the smaller of a patch and a compressed page.
    The rest are settings: bytes that a patch or a compressed page may take, bytes of metadata for each, keys a page
    and how many of them are in the index.
    ``index_bytes`` is the most that the index took.
    """

    page_size: int
    known: int
    shared_reclaimed: int
    distinct: int
    sampled: int
    references: int
    with_candidate: Estimate
    nearer: Estimate
    nearer_bytes: Estimate
    ways: tuple[Way, ...]
    most_patch: int
    most_compressed: int
    metadata: int
    keys: int
    indexed: int
    seed: int
    index_bytes: int
    assumptions: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every page was measured, not a sample."""
        return self.sampled == self.distinct


def similar(
    space: PageSpace,
    inventory: Inventory,
    *,
    seed: int,
    sample: int | None = SAMPLE,
    keys: int = KEYS,
    indexed: int = INDEXED,
    most_patch: float = MOST_PATCH,
    most_compressed: float = MOST_COMPRESSED,
    metadata: int = METADATA,
    workers: int | None = None,
    threads: int | None = None,
    control: Control | None = None,
) -> Similar:
    """Measure on ``sample`` distinct pages, drawn without replacement, or on all (None).

    ``found`` is the census of this space (its ``canonical`` as it was found), or the inventory; the space is the one
    with its domains, not undivided. ``seed`` draws the sample and chooses the keys; everything
    else follows from the pages. ``most_patch`` and ``most_compressed`` are shares of a page. ``workers`` processes run
    the codecs (default: one for each ``WORTH`` pages, no more than ``threads``, or than there are CPUs; if that is
    one, this one).
    ``control`` counts each distinct page once, and once more each that is measured (``steps``).
    Raises ValueError for settings out of range and where a codec is missing, MediaError, ``Stopped``.

    >>> import numpy as np
    >>> import pageshare
    >>> from pageshare.inventory import Inventory
    >>> page = np.random.default_rng(1).bytes(4096)
    >>> space = pageshare.PageSpace.of(page + page + b"other" + page[5:] + bytes(8192))
    >>> found = similar(space, Inventory.of(space, pageshare.census(space)), seed=1)
    >>> found.distinct, found.shared_reclaimed, found.references, found.ways[0].name, found.ways[0].patched.value
    (2, 2, 1, 'patch', 1.0)
    """
    if sample is not None and sample < 1:
        raise ValueError(f"a sample of {sample} pages: it must be 1 or more")
    if not 1 <= indexed <= keys:
        raise ValueError(f"{indexed} of {keys} keys in the index: there must be 1 or more, and no more than keys")
    for share in (most_patch, most_compressed):
        if not 0 < share <= 1:
            raise ValueError(f"{share} of a page: a share must be more than 0, and 1 at most")
    if not 0 <= metadata < space.page_size:
        raise ValueError(f"{metadata} bytes of metadata: they must be 0 or more, and less than a page")
    measure_with(space.page_size)  # a missing package is told of at once
    control = Control() if control is None else control
    distinct = _left(inventory)
    rng = np.random.default_rng(seed)
    chosen = np.arange(len(distinct))
    if sample is not None and sample < len(distinct):
        chosen = np.sort(rng.choice(len(distinct), sample, replace=False, shuffle=False))
    reader = PageReader(space, seed=int(rng.integers(2**63)))
    index = _Index(reader, distinct, keys, indexed, control)
    if workers is None:
        workers = min(threads or limits.cpus(), len(chosen) // WORTH) if sys.executable else 1
    sizes = np.empty((len(chosen), 1 + len(CODECS)), np.uint32)
    done = 0
    for some in measured(index.batches(chosen), space.page_size, workers, control):
        sizes[done : done + len(some)] = some
        done += len(some)
        control.advance(len(some))
    return _answer(
        sizes,
        index,
        page_size=space.page_size,
        known=int(inventory.known.sum()),
        shared_reclaimed=sum(inventory.reclaimed()),
        distinct=len(distinct),
        most_patch=int(most_patch * space.page_size),
        most_compressed=int(most_compressed * space.page_size),
        metadata=metadata,
        keys=keys,
        indexed=indexed,
        seed=seed,
    )


def steps(distinct: int, sample: int | None = SAMPLE) -> int:
    """What ``control`` has counted when so many distinct pages were looked at.

    >>> steps(100, 10), steps(100, None), steps(100, 200)
    (110, 200, 200)
    """
    return distinct + (distinct if sample is None else min(sample, distinct))


def _left(inventory: Inventory) -> NDArray[np.uint32]:
    """The first page of each distinct content that is not zero; ascending."""
    contents = inventory.contents
    unique = np.flatnonzero(contents.classes == UNIQUE_CLASS).astype(np.uint32)
    left: NDArray[np.uint32] = np.sort(np.concatenate([contents.contents["first"][1:], unique]))
    return left


class _Index:
    """What pages can be patched against: ``references`` (uint32), by ascending page, as numbers of distinct pages.

    Takes 4 * indexed + 16 bytes a distinct page while it is made, and 8 * keys + 8 a reference from then on: ``bytes``
    is the larger one.
    """

    def __init__(
        self, reader: PageReader, distinct: NDArray[np.uint32], keys: int, indexed: int, control: Control
    ) -> None:
        self._reader, self._distinct, self._keys = reader, distinct, keys
        self._is_reference = self._first_of_several(indexed, control)
        self.references = np.flatnonzero(self._is_reference).astype(np.uint32)
        self._by_key = np.empty((keys, len(self.references)), "<u8")
        for at in range(0, len(self.references), _BATCH):
            control.check()
            some = self.references[at : at + _BATCH]
            self._by_key[:, at : at + _BATCH] = _together(reader.sketch(distinct[some], keys).T, some)
        for row in self._by_key:
            control.check()
            row.sort()
        self.bytes = max(len(distinct) * (4 * indexed + 16), len(distinct) + len(self.references) * (8 * keys + 8))

    def _first_of_several(self, indexed: int, control: Control) -> NDArray[np.bool_]:
        """Which pages are the first of those that have one of the first ``indexed`` keys, if others have it too."""
        distinct = self._distinct
        columns = np.empty((indexed, len(distinct)), np.uint32)
        for at in range(0, len(distinct), _LOOK):
            some = self._reader.sketch(distinct[at : at + _LOOK], self._keys, control)
            columns[:, at : at + _LOOK] = some[:, :indexed].T
        is_first = np.zeros(len(distinct), bool)
        for column in columns:
            control.check()
            ordered = _together(column, np.arange(len(distinct), dtype=np.uint32))
            ordered.sort()
            page, key = _parted(ordered)
            followed = key[1:] == key[:-1]
            followed &= key[1:] != 0
            first = followed.copy()
            first[1:] &= ~followed[:-1]
            is_first[page[:-1][first]] = True
        return is_first

    def candidates(self, chosen: NDArray[np.integer[Any]]) -> NDArray[np.uint32]:
        """For each key of each chosen distinct page the nearest references with that key, before and behind: shape
        (chosen, 2 * keys), numbers of distinct pages. NO_PAGE where there is none, and for references."""
        found = np.full((len(chosen), 2 * self._keys), NO_PAGE, np.uint32)
        others = np.flatnonzero(~self._is_reference[chosen])
        wanted = chosen[others].astype(np.uint32)
        sketches = self._reader.sketch(self._distinct[wanted], self._keys)
        for number, (ordered, own) in enumerate(zip(self._by_key, sketches.T, strict=True)):
            page, key = _parted(ordered)
            behind = np.searchsorted(ordered, _together(own, wanted))
            for side, at in enumerate((behind - 1, behind)):
                there = (at >= 0) & (at < len(page)) & (own != 0)
                there[there] = key[at[there]] == own[there]
                found[others[there], 2 * number + side] = page[at[there]]
        _keep_domains_apart(self._reader.space, self._distinct, chosen, found)
        return found

    def batches(self, chosen: NDArray[np.integer[Any]]) -> Iterator[Batch]:
        """The chosen pages, with their candidates."""
        for at in range(0, len(chosen), _BATCH):
            some = chosen[at : at + _BATCH]
            candidates = self.candidates(some)
            there = candidates != NO_PAGE
            references, number = np.unique(candidates[there], return_inverse=True)
            pairs = np.unique(number.reshape(-1) * _BATCH + np.nonzero(there)[0])
            yield Batch(
                self._reader.read(self._distinct[some]),
                self._reader.read(self._distinct[references]),
                np.stack([pairs // _BATCH, pairs % _BATCH], axis=1).astype(np.uint32),
            )


def _together(keys: NDArray[np.uint32], pages: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Both in one number, that sorts by key, then by page."""
    both = keys.astype("<u8")
    both <<= np.uint64(32)
    both |= pages
    return both


def _parted(both: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The pages and the keys of what ``_together`` gave, without a copy."""
    halves = both.view("<u4")
    return halves[::2], halves[1::2]


def _keep_domains_apart(
    space: PageSpace,
    distinct: NDArray[np.uint32],
    chosen: NDArray[np.integer[Any]],
    candidates: NDArray[np.uint32],
) -> None:
    """Drop the candidates that are of another domain: keys of 32 bits meet by chance now and then."""
    if len(space.domains) < 2:
        return
    domain = np.array([owner.domain for owner in space.owners])
    mine = domain[space.locate(distinct[chosen])[0]]
    for column in candidates.T:
        there = np.flatnonzero(column != NO_PAGE)
        theirs = domain[space.locate(distinct[column[there]])[0]]
        column[there[theirs != mine[there]]] = NO_PAGE


def estimate_pages(so: NDArray[np.bool_], pages: int) -> Estimate:
    """How many of ``pages`` pages are so, by a simple random sample of them without replacement.

    The interval is Wilson's (JASA 1927), the sample taken for as much larger as the finite population makes it surer.

    >>> found = estimate_pages(np.arange(100) < 30, 1000)
    >>> found.value, round(found.low), round(found.high)
    (300.0, 223, 391)
    >>> estimate_pages(np.ones(100, bool), 100)
    Estimate(value=100.0, low=None, high=None)
    """
    measured, seen = len(so), int(np.count_nonzero(so))
    if measured == pages:
        return Estimate(float(seen))
    share, weight = seen / measured, _NORMAL**2 * (1 - measured / pages) / measured
    middle = (share + weight / 2) / (1 + weight)
    error = sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    low, high = pages * (middle - error), pages * (middle + error)
    return Estimate(pages * share, max(low, seen), min(high, seen + pages - measured))


def estimate_bytes(values: NDArray[Any], pages: int, most: int) -> Estimate:
    """The total of a figure, 0 to ``most`` a page, over ``pages`` pages, by a simple random sample of them without
    replacement.

    The interval is 1.96 standard errors on either side, with the finite population correction (Cochran, Sampling
    Techniques, 1977, chapter 2). Where fewer than ``FEW`` values are not 0, it goes from what was seen to the upper end
    for the number of such pages, each of them at ``most``.
    """
    measured, total = len(values), float(values.sum(dtype=np.float64))
    if measured == pages:
        return Estimate(total)
    value = pages * total / measured
    if np.count_nonzero(values) < FEW:
        high = most * (estimate_pages(values > 0, pages).high or 0)
        return Estimate(value, total, high)
    error = _NORMAL * pages * sqrt((1 - measured / pages) / measured) * float(np.std(values, ddof=1))
    return Estimate(value, max(value - error, total), min(value + error, total + (pages - measured) * most))


def _plus(amount: int, estimate: Estimate) -> Estimate:
    if estimate.low is None or estimate.high is None:
        return Estimate(amount + estimate.value)
    return Estimate(amount + estimate.value, amount + estimate.low, amount + estimate.high)


def _answer(sizes: NDArray[np.uint32], index: _Index, **figures: Any) -> Similar:
    page_size, pages, metadata = figures["page_size"], figures["distinct"], figures["metadata"]
    shared = figures["shared_reclaimed"] * page_size
    patch, alone = sizes[:, 0].astype(np.int64), sizes[:, 1:].T.astype(np.int64)
    worth = page_size - metadata  # what costs as much as the page is not done
    patched = (patch <= figures["most_patch"]) & (patch < worth)
    compressed = (alone <= figures["most_compressed"]) & (alone < worth)
    nothing = np.zeros(len(sizes), bool)

    def way(name: str, codec: str, patched: NDArray[Any], compressed: NDArray[Any], size: NDArray[Any]) -> Way:
        changed = patched | compressed
        reclaimed = estimate_bytes(np.where(changed, page_size - metadata - size, 0), pages, page_size - metadata)
        return Way(
            name=name,
            codec=codec,
            patched=estimate_pages(patched, pages),
            compressed=estimate_pages(compressed, pages),
            stored=estimate_bytes(np.where(changed, size, 0), pages, page_size),
            metadata=estimate_bytes(changed * metadata, pages, metadata),
            reclaimed=reclaimed,
            in_all=_plus(shared, reclaimed),
        )

    ways = [way("patch", "", patched, nothing, patch)]
    by_codec = list(zip(CODECS, compressed, alone, strict=True))
    ways += [way("compress", codec, nothing, small, size) for codec, small, size in by_codec]
    ways += [
        way("patch, then compress", codec, patched, small & ~patched, np.where(patched, patch, size))
        for codec, small, size in by_codec
    ]
    for codec, small, size in by_codec:
        patch_it = patched & ~(small & (size < patch))
        ways.append(way("the smaller", codec, patch_it, small & ~patch_it, np.where(patch_it, patch, size)))
    same = CODECS.index("zstd -1")
    less = np.where(compressed[same], alone[same], page_size) - patch
    nearer = patched & (less > 0)
    return Similar(
        **figures,
        sampled=len(sizes),
        references=len(index.references),
        with_candidate=estimate_pages(patch != NO_PATCH, pages),
        nearer=estimate_pages(nearer, pages),
        nearer_bytes=estimate_bytes(np.where(nearer, less, 0), pages, page_size),
        ways=tuple(ways),
        index_bytes=index.bytes,
        assumptions=_assumptions(len(sizes), pages, figures),
    )


def _assumptions(measured: int, pages: int, figures: dict[str, Any]) -> tuple[str, ...]:
    if measured == pages:
        basis = "Every distinct page was measured."
    else:
        basis = (
            f"{measured:,} of {pages:,} distinct pages were measured, drawn at random without replacement; the"
            " intervals are of 95 %, and speak of what this search finds, not of what it misses."
        )
    return (
        "Identical pages are shared first; patching and compressing are of what that leaves, one page of each content"
        " that is not zero.",
        basis,
        f"Each page has {figures['keys']} keys. The first page that has one of the first {figures['indexed']} in common"
        " with others is never patched;"
        " others are patched against the best of the nearest such pages with an equal key, so no patch needs another."
        " A page that others are patched against may be compressed: then getting one of them back takes two steps.",
        f"A patch counts if it takes {figures['most_patch']} bytes at most ({PATCHES}), a compressed page if it takes"
        f" {figures['most_compressed']}; each costs {figures['metadata']} bytes more to find it again.",
        "Sizes are those of the codecs: what an allocator leaves unused between them is not counted, nor the time to"
        " get a page back, nor pages that are needed often, which one would not patch or compress.",
    )
