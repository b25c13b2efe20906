"""How much would sharing save, told from one reading of the dumps and a few megabytes of memory?

Zero pages are counted. Of all other contents those are kept whose hash lies in a fixed part of hash space, 1/q of it,
with exact counts: a content is in the sample with probability 1/q, however many pages hold it. (Samples of pages can't
tell: of a pair, both halves must be drawn.) The part shrinks when memory is full, by a rule that looks at nothing but
how full it is: adaptive sampling (Wegman; Flajolet, "On adaptive sampling", Computing 43, 1990; Gibbons, "Distinct
sampling", VLDB 2001).

**The estimator.** For a figure that is a sum of x over contents, q times the sum over the sample (Horvitz and
Thompson, 1952) is unbiased, even though q grows while pages are read: when the part shrinks to 3/4, each content stays
with probability 3/4 and counts 4/3 times as much, and a new one enters with probability 1/q and counts q times, so that
at any moment the expectation is the truth so far. By the same argument q (q - 1) times the sum of x^2 is an unbiased
estimate of its variance.

**Which sums.** N, the number of known pages that are not zero, is known. Every figure is made of N and of sums whose x
no content can make large, whatever number of pages hold it:

- contents: x = 1. nonzero.reclaimed = N - contents. Its error is that of the number of contents,
  sqrt((q - 1) contents), whether much or little is reclaimed; so it is quoted in points of the known memory.
- unique: x = 1 where one page holds the content. shared = N - unique. kept = contents - unique, as one sum.
- holders: x = the number of owners that hold the content. reclaimed_intra = N - holders. reclaimed_inter =
  holders - contents, as one sum.

So no figure depends on whether the one content that fills a third of memory is in the sample. Sums over pages would
(x = pages - 1, summed directly), and so would a regression on the number of pages, which N would allow: where nearly
all contents are unique either has a smaller error, but how large that is can't be told from a sample in which the few
others are missing.

**The interval** is that of Wilson's score (1927), for a number of events that each weigh sum x^2 / sum x, with half an
event of continuity correction at its low end: where few contents of a kind are in the sample it is wider above than
below, and of none it says how many there may be. What can't be is cut off (a saving below zero), unless nothing would
be left. In 95 of 100 samples the truth lies in it, or in more, where it is a handful of contents; tests hold
93 to 97 over 1,000.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any

from pageshare import limits
from pageshare.core import MOST_THREADS, ContentSample, Control, sample_contents
from pageshare.report import Seconds
from pageshare.scanner import domains_of, incomplete, open_dumps
from pageshare.space import Coverage, PageSpace

FORMAT = "pageshare-estimate/1"
MEMORY = 16 << 20
"""Bytes for contents, unless told otherwise: some 600,000 of them."""
LEAST_MEMORY = 64 << 10
"""With less the errors would be too large to be of use: this is some 2,000 contents."""
Z = NormalDist().inv_cdf(0.975)

ASSUMPTIONS = (
    "Contents are told apart by a 64-bit hash (XXH3), not compared byte by byte.",
    "Every known page of a sharing domain can be shared with any other; unknown and device pages are left out.",
    "The error is that of the sample: another seed draws another one. It tells nothing of pages that changed while they"
    " were read.",
)


@dataclass(frozen=True)
class Estimated:
    """A figure in pages (or contents): unbiased ``estimate``, its standard ``error``, the ends of its 95 % interval.

    ``estimate`` may lie beyond what is possible, by chance. Where ``error`` is 0 and the ends are equal, it is exact.

    >>> import pageshare
    >>> pageshare.estimate(b"x" * 8192).nonzero.reclaimed
    Estimated(estimate=1.0, error=0.0, low=1.0, high=1.0)
    """

    estimate: float
    error: float
    low: float
    high: float

    def __add__(self, pages: int) -> Estimated:
        """The figure with so many more pages, exactly known."""
        return Estimated(self.estimate + pages, self.error, self.low + pages, self.high + pages)

    def __truediv__(self, whole: int) -> Estimated:
        """The figure as a share of ``whole``."""
        if not whole:
            return Estimated(0.0, 0.0, 0.0, 0.0)
        return Estimated(self.estimate / whole, self.error / whole, self.low / whole, self.high / whole)


@dataclass(frozen=True)
class PageEstimates:
    """Pages by what they are, zero pages included, as ``PageCounts`` has them: known = unique + shared.

    >>> import pageshare
    >>> pages = pageshare.estimate(bytes(8192) + b"x" * 4096).pages
    >>> pages.unique.estimate, pages.shared.estimate, pages.kept.estimate, pages.reclaimed.estimate
    (1.0, 2.0, 1.0, 1.0)
    """

    unique: Estimated
    shared: Estimated
    kept: Estimated
    reclaimed: Estimated


@dataclass(frozen=True)
class NonzeroEstimates:
    """The same without zero pages. ``pages`` of them are known (exact); ``contents`` is how many different ones they
    hold, domain by domain.

    >>> import pageshare
    >>> found = pageshare.estimate({"a": b"x" * 8192, "b": b"x" * 4096}).nonzero
    >>> found.pages, found.contents.estimate, found.reclaimed_intra.estimate, found.reclaimed_inter.estimate
    (3, 1.0, 1.0, 1.0)
    """

    pages: int
    contents: Estimated
    unique: Estimated
    shared: Estimated
    kept: Estimated
    reclaimed: Estimated
    reclaimed_intra: Estimated
    reclaimed_inter: Estimated


@dataclass(frozen=True)
class OwnerCounts:
    """What is exact of an owner, in pages.

    >>> import pageshare
    >>> pageshare.estimate({"a": bytes(8192) + b"x" * 4096}).owners
    (OwnerCounts(name='a', domain='default', known=3, zero=2),)
    """

    name: str
    domain: str
    known: int
    zero: int


@dataclass(frozen=True)
class Estimate:
    """What one reading in bounded memory tells; page counts are in pages of ``page_size`` bytes.

    Exact: ``known``, ``zero``, ``zero_inferred`` (of zero: holes) and ``coverage``. Estimated: ``pages``, ``nonzero``,
    and ``reclaimed_share``, which is pages.reclaimed as a share of known. ``exact``: no content had to be left out, so
    that all figures are, by hash.
    ``q``: 1/q of hash space was kept in the end, in which ``sampled`` contents were found; ``evicted`` ones had been
    kept until q grew. ``memory`` is the most bytes that contents may take, ``table_bytes`` what all of it took.

    >>> import pageshare
    >>> found = pageshare.estimate({"a": bytes(8192) + b"x" * 4096, "b": b"x" * 4096})
    >>> found.known, found.zero, found.exact, found.q, found.sampled, found.pages.reclaimed.estimate
    (4, 2, True, 1.0, 1, 2.0)
    """

    page_size: int
    hash: str
    verified: bool
    exact: bool
    known: int
    zero: int
    zero_inferred: int
    coverage: Coverage
    pages: PageEstimates
    nonzero: NonzeroEstimates
    reclaimed_share: Estimated
    q: float
    sampled: int
    evicted: int
    memory: int
    table_bytes: int
    domains: tuple[str, ...]
    owners: tuple[OwnerCounts, ...]
    seed: int
    kernel: str
    readable: int
    seconds: Seconds
    assumptions: tuple[str, ...] = ASSUMPTIONS
    incomplete: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[dict[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it (docs/json.md): plain dicts, lists, numbers and strings."""
        document = {"format": FORMAT, **asdict(self)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}


def _cut(low: float, high: float, least: float, most: float) -> tuple[float, float]:
    """An interval without what can't be; as it is, if nothing else is in it: it is one of those that miss the truth."""
    if high < least or low > most:
        return low, high
    return max(low, least), min(high, most)


def _total(x: int, x_squared: int, share: float, least: int, most: int) -> Estimated:
    """The sum of x over all contents, from that over the sample, and that of x^2. The truth is known to lie in
    [least, most]."""
    rest = 1 - share
    weight = x_squared / x if x else 1.0
    fewer, half = max(0.0, x - weight * rest / 2), weight * Z * Z * rest / 2
    low = fewer + half - Z * math.sqrt(weight * rest * (fewer + half / 2)) if fewer else 0.0
    high = x + half + Z * math.sqrt(weight * rest * (x + half / 2))
    ends = _cut(low / share, high / share, least, most)
    return Estimated(x / share, math.sqrt(rest * x_squared) / share, *ends)


def _of_known(pages: int, part: Estimated) -> Estimated:
    """What is left of an exact number."""
    return Estimated(pages - part.estimate, part.error, pages - part.high, pages - part.low)


def nonzero_estimates(sample: ContentSample, pages: int, most_owners: int) -> NonzeroEstimates:
    """The figures of ``pages`` known pages that are not zero, of which the sample was drawn; no content is held by more
    than ``most_owners``.

    >>> from pageshare.core import ContentSample
    >>> half = ContentSample(0.5, 100, 50, 80, 150, 120, 160, 0, (), "")
    >>> nonzero_estimates(half, 320, 2).contents.estimate
    200.0
    """
    share, unseen = sample.share, pages - sample.pages
    shared, further = sample.contents - sample.unique, sample.owners - sample.contents
    contents = _total(sample.contents, sample.contents, share, sample.contents, unseen + sample.contents)
    unique = _total(sample.unique, sample.unique, share, sample.unique, unseen + sample.unique)
    holders = _total(sample.owners, sample.owners_squared, share, sample.owners, unseen + sample.owners)
    return NonzeroEstimates(
        pages,
        contents,
        unique,
        shared=_of_known(pages, unique),
        kept=_total(shared, shared, share, shared, shared + unseen // 2),
        reclaimed=_of_known(pages, contents),
        reclaimed_intra=_of_known(pages, holders),
        reclaimed_inter=_total(
            further,
            sample.owners_squared - 2 * sample.owners + sample.contents,
            share,
            further,
            further + unseen * (most_owners - 1) // most_owners if most_owners else 0,
        ),
    )


def estimate_space(
    space: PageSpace,
    *,
    memory: int = MEMORY,
    seed: int | None = None,
    threads: int | None = None,
    control: Control | None = None,
    started: float | None = None,
    opening: float | None = None,
    warnings: Sequence[str] = (),
    skipped: Sequence[dict[str, str]] = (),
) -> Estimate:
    """Estimate the figures of an opened space; ``started`` and ``opening`` as for ``scan_space``.

    Raises ValueError for too little ``memory``, MediaError where a file shrank, ``Stopped``.
    """
    if memory < LEAST_MEMORY:
        raise ValueError(f"{memory} bytes of memory are too little for an estimate: {LEAST_MEMORY} at least")
    began = time.perf_counter()
    started = began if started is None else started
    seed = secrets.randbits(63) if seed is None else seed
    threads = threads or min(limits.cpus(), MOST_THREADS)
    sample = sample_contents(space, memory=memory, seed=seed, threads=threads, control=control)
    coverages, owners = [], []
    zeros, members = Counter[int](), Counter[int]()  # by domain
    for owner, mine in zip(space.owners, sample.by_owner, strict=True):
        coverage = replace(
            owner.coverage,
            data=owner.coverage.data - mine.unreadable,
            lost=owner.coverage.lost + mine.unreadable,
        )
        zero = mine.zero + coverage.zero + coverage.zero_inferred
        coverages.append(coverage)
        owners.append(OwnerCounts(owner.name, space.domains[owner.domain], coverage.known, zero))
        zeros[owner.domain] += zero
        members[owner.domain] += 1
    total = sum(coverages, Coverage())
    nonzero = nonzero_estimates(sample, total.known - zeros.total(), max(members.values(), default=0))
    alone = sum(zero == 1 for zero in zeros.values())
    kept = sum(zero > 1 for zero in zeros.values())
    pages = PageEstimates(
        unique=nonzero.unique + alone,
        shared=nonzero.shared + (zeros.total() - alone),
        kept=nonzero.kept + kept,
        reclaimed=nonzero.reclaimed + (zeros.total() - alone - kept),
    )
    ended = time.perf_counter()
    return Estimate(
        page_size=space.page_size,
        hash="xxh3-64",
        verified=False,
        exact=sample.share == 1,
        known=total.known,
        zero=zeros.total(),
        zero_inferred=total.zero_inferred,
        coverage=total,
        pages=pages,
        nonzero=nonzero,
        reclaimed_share=pages.reclaimed / total.known,
        q=1 / sample.share,
        sampled=sample.contents,
        evicted=sample.evicted,
        memory=memory,
        table_bytes=sample.bytes,
        domains=tuple(space.domains),
        owners=tuple(owners),
        seed=seed,
        kernel=sample.kernel,
        readable=space.readable,
        seconds=Seconds(map=began - (began if opening is None else opening), scan=ended - began, total=ended - started),
        incomplete=tuple(incomplete(space, sample.by_owner)),
        warnings=(*warnings, *space.warnings, *space.changes()),
        skipped=tuple(skipped),
    )


def estimate(
    dumps: Any,
    *,
    memory: int = MEMORY,
    page_size: int = 4096,
    domains: Mapping[str, Sequence[str]] | None = None,
    domain_per_owner: bool = False,
    seed: int | None = None,
    threads: int | None = None,
    holes: str = "zero",
    format: str | None = None,
    base: str | os.PathLike[str] | None = None,
    spool: str | os.PathLike[str] | None = None,
    control: Control | None = None,
) -> Estimate:
    """Estimate what sharing would save, from one reading and ``memory`` bytes (64 KiB or more) for contents.

    Zero pages are counted exactly, the rest from as large a part of hash space as fits: all of it if there is room
    (20 bytes and a third for each content that is not zero). ``seed`` chooses the part; all else is as for ``scan``.

    Raises ImageError or OSError for what can't be read, MediaError for a file that shrinks meanwhile, ValueError.

    >>> import pageshare
    >>> found = pageshare.estimate({"a": bytes(4096) + b"same" * 1024, "b": b"same" * 1024})
    >>> found.known, found.zero, found.exact
    (3, 1, True)
    >>> found.nonzero.reclaimed
    Estimated(estimate=1.0, error=0.0, low=1.0, high=1.0)
    """
    started = time.perf_counter()
    with ExitStack() as stack:
        named = open_dumps(dumps, stack, format=format, holes=holes, page_size=page_size, base=base, spool=spool)
        names = [name for name, _ in named]
        space = PageSpace(named, page_size=page_size, domains=domains_of(names, domains, per_owner=domain_per_owner))
        warnings = [sentence for _, images in named for each in images for sentence in each.warnings]
        del named  # the space has all of it; their ranges may take more memory
        return estimate_space(
            space,
            memory=memory,
            seed=seed,
            threads=threads,
            control=control,
            started=started,
            opening=started,
            warnings=warnings,
        )
