"""The loop: opens what is to be scanned, feeds pages to the frame table, keeps time, and makes the report."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pageshare import policies
from pageshare.core import Control, FrameTable, MediaError, Stopped, Tally, populate, read_in_blocks
from pageshare.images import Image, check_page_size, image_of_buffer, open_image
from pageshare.report import Partial, Report, Seconds, count
from pageshare.space import DEFAULT_DOMAIN, PageSpace

BATCH = 64 << 20
"""Bytes of pages to a call of the core: some ten milliseconds."""


def batch_pages(space: PageSpace) -> int:
    """How many pages are a batch."""
    return max(1, BATCH // space.page_size)


@dataclass(frozen=True)
class Options:
    """How to scan. ``limit`` is a number of visits, or None for as many as there are pages to read."""

    page_size: int = 4096
    seed: int | None = None
    threads: int | None = None
    policy: str | None = None
    limit: int | None = None
    kernel: str | None = None


def half_the_memory() -> int:
    """Bytes; an input below this is mapped as a whole before a scan by one thread begins."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


SAMPLE_BYTES = 32 << 20
SLOW_NS = 150.0
"""Where mapping a 4 KiB page that is in the cache takes longer, reading blocks of the file is the faster way.

It depends on the size of the page cache's folios, which nothing tells: about 5 ns for large ones, 200 to 400 for
single pages, against some 70 that a copy of the page costs.
"""


def _choose_reading(table: FrameTable, control: Control) -> None:
    """Map the beginning of each file, and have those whose pages are slow to map read in blocks instead."""
    segments, page_size = table.space.segments, table.space.page_size
    ends = np.append(segments["first"][1:], table.space.readable)
    _, begin = np.unique(segments["source"], return_index=True)
    for segment in begin.tolist():
        first, number = int(segments["first"][segment]), int(segments["source"][segment])
        pages = min(SAMPLE_BYTES // page_size, int(ends[segment]) - first)
        if table.space.sources[number].fd < 0 or table.space.sources[number].memory is None:
            continue
        before = time.perf_counter_ns()
        populate(table, first, pages, control)
        if time.perf_counter_ns() - before > SLOW_NS * pages * page_size / 4096:
            read_in_blocks(table, number)


def _batches(space: PageSpace) -> Iterator[tuple[int, int]]:
    """All pages to be read, in order, as (first, count)."""
    step = batch_pages(space)
    for first in range(0, space.readable, step):
        yield first, min(step, space.readable - first)


def _map_all(table: FrameTable, control: Control) -> None:
    for first, pages in _batches(table.space):
        populate(table, first, pages, control)
        control.advance(pages)
    control.reset()


def _in_order(table: FrameTable, control: Control, *, ahead: bool) -> None:
    """Every page once, in address order. ``ahead``: a second thread maps the next batch meanwhile."""
    with ThreadPoolExecutor(1) as mapper:

        def map_batch(batch: tuple[int, int] | None) -> Any:
            return mapper.submit(populate, table, *batch, control) if ahead and batch else None

        batches = _batches(table.space)
        batch = next(batches, None)
        mapping = map_batch(batch)
        while batch:
            if mapping:
                mapping.result()
            following = next(batches, None)
            mapping = map_batch(following)
            table.scan(first=batch[0], count=batch[1], control=control)
            batch = following


def _by_policy(table: FrameTable, control: Control, policy: policies.Policy, limit: int) -> tuple[int, bool]:
    """As many visits as ``limit`` says. How many these were, and whether a stop cut them short."""
    visits, most = 0, batch_pages(table.space)
    try:
        while visits < limit and table.space.readable:
            pages = policy.next(min(most, limit - visits))
            result = table.scan(pages, control=control)
            policy.feedback(pages, result.outcomes, result.partners)
            visits += len(pages)
    except Stopped as stopped:
        return visits + stopped.scanned, True
    return visits, False


def scan_space(
    space: PageSpace,
    options: Options,
    *,
    control: Control | None = None,
    started: float | None = None,
    opening: float | None = None,
    warnings: Sequence[str] = (),
    skipped: Sequence[dict[str, str]] = (),
) -> Report:
    """Scan an opened space. ``seconds.total`` counts from ``started``, ``seconds.map`` from ``opening``; both are
    ``time.perf_counter()`` and now by default.

    Raises MediaError where a file shrank or failed, ``Stopped`` if a full scan was stopped; a scan by policy
    that was stopped reports what it found, marked ``interrupted``.
    """
    started = time.perf_counter() if started is None else started
    opening = started if opening is None else opening
    control = Control() if control is None else control
    seed = secrets.randbits(63) if options.seed is None else options.seed
    table = FrameTable(space, seed=seed, kernel=options.kernel)
    threads = min(2, options.threads or os.cpu_count() or 1)
    in_files = sum(source.bytes for source in space.sources if source.fd >= 0)
    by_policy = options.policy is not None or options.limit is not None
    overlapped = bool(in_files) and not by_policy and (threads > 1 or in_files > half_the_memory())
    if overlapped:
        _choose_reading(table, control)
    elif in_files <= half_the_memory():
        _map_all(table, control)
    visits, interrupted = 0, False
    mapped = time.perf_counter()
    if by_policy:
        name = policies.ALIASES.get(options.policy or "sequential", options.policy or "sequential")
        limit = space.readable if options.limit is None else options.limit
        policy = policies.create(name, space.readable, seed)
        visits, interrupted = _by_policy(table, control, policy, limit)
    else:
        _in_order(table, control, ahead=overlapped and threads > 1)
    # What an interrupted scan has found is still counted.
    tally, stats = table.tally(None if interrupted else control), table.stats()
    complete = stats.hints + stats.members + tally.stale + tally.unreadable == space.readable
    counts = count(space, tally, complete=complete)
    changes = [sentence for owner in space.owners for image in owner.images if (sentence := image.source.changed())]
    partial = None
    if by_policy:
        zero_frames = sum(
            any(mine.zero for owner, mine in zip(space.owners, tally.owners, strict=True) if owner.domain == domain)
            for domain in range(len(space.domains))
        )
        partial = Partial(
            policy=name,
            seed=seed,
            visits=visits,
            hints=stats.hints,
            shared=tally.shared + tally.zero,
            kept=tally.kept + zero_frames,
            reclaimed=tally.shared - tally.kept + tally.zero - zero_frames,
            zero=tally.zero,
        )
    ended = time.perf_counter()
    return Report(
        page_size=space.page_size,
        hash="xxh3-64",
        verified=True,
        pages=counts.pages,
        nonzero=counts.nonzero,
        coverage=counts.coverage,
        domains=tuple(space.domains),
        owners=counts.owners,
        seed=seed,
        kernel=table.kernel,
        threads=threads if overlapped else 1,
        overlapped=overlapped,
        table_bytes=stats.bytes,
        readable=space.readable,
        seconds=Seconds(map=mapped - opening, scan=ended - mapped, total=ended - started),
        partial=partial,
        interrupted=interrupted,
        incomplete=tuple(_incomplete(space, tally)),
        warnings=(*warnings, *space.warnings, *changes),
        skipped=tuple(skipped),
    )


def _incomplete(space: PageSpace, tally: Tally) -> Iterable[str]:
    for owner, mine in zip(space.owners, tally.owners, strict=True):
        for image in owner.images:
            yield from (f"{image.source.path}: {sentence}" for sentence in image.incomplete)
        if mine.unreadable:
            yield f"{owner.name}: {mine.unreadable} pages could not be read (I/O error); they count as lost"


def domains_of(
    owners: Sequence[str], domains: Mapping[str, Sequence[str]] | None, *, per_owner: bool
) -> list[str]:
    """The domain of each owner. Raises ValueError for an owner that is not there, or is given two domains."""
    if per_owner:
        if domains:
            raise ValueError("either name sharing domains or make one for each owner, not both")
        return list(owners)
    of: dict[str, str] = {}
    for domain, members in (domains or {}).items():
        for member in members:
            if member not in owners:
                raise ValueError(f"domain {domain}: no owner {member!r}; there are {', '.join(owners)}")
            if of.setdefault(member, domain) != domain:
                raise ValueError(f"owner {member!r} is put into two domains, {of[member]} and {domain}")
    return [of.get(owner, DEFAULT_DOMAIN) for owner in owners]


def scan(
    dumps: Any,
    *,
    page_size: int = 4096,
    domains: Mapping[str, Sequence[str]] | None = None,
    domain_per_owner: bool = False,
    policy: str | None = None,
    limit: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    holes: str = "zero",
    format: str | None = None,
    control: Control | None = None,
) -> Report:
    """Count identical pages, exactly and byte-verified.

    ``dumps`` is a path, a buffer (bytes, a numpy array of any shape, a mapping) or an ``Image``; a sequence of
    these, each an owner; or a mapping of owner name to one or a sequence of them. Paths are recognised by their
    content unless ``format`` says otherwise; ``holes`` ("zero" or "unknown") says what holes in raw files mean.
    ``domains`` maps domain names to owners; only pages of one domain are shared. ``policy`` and ``limit`` make
    it a scan of so many visits in that order, as a hypervisor would; without them every page is looked at.

    Raises ImageError or OSError for what can't be read, MediaError for a file that shrinks meanwhile.

    >>> import pageshare
    >>> report = pageshare.scan({"a": bytes(4096) + b"same" * 1024, "b": b"same" * 1024})
    >>> report.pages.known, report.pages.shared, report.pages.reclaimed
    (3, 2, 1)
    >>> report.nonzero.reclaimed_inter
    1
    """
    started = time.perf_counter()
    check_page_size(page_size)
    opened: list[Image] = []

    def image(each: Any, name: str) -> Image:
        if isinstance(each, Image):
            return each
        if isinstance(each, (str, Path)):
            opened.append(open_image(each, format=format, holes=holes, page_size=page_size))
            return opened[-1]
        return image_of_buffer(each, name)

    try:
        named = [
            (name, [image(each, name) for each in (group if isinstance(group, (list, tuple)) else [group])])
            for name, group in _named(dumps)
        ]
        names = [name for name, _ in named]
        space = PageSpace(
            named, page_size=page_size, domains=domains_of(names, domains, per_owner=domain_per_owner)
        )
        options = Options(page_size, seed, threads, policy, limit)
        warnings = [sentence for _, images in named for each in images for sentence in each.warnings]
        return scan_space(space, options, control=control, started=started, warnings=warnings)
    finally:
        for each in opened:
            each.close()


def _named(dumps: Any) -> list[tuple[str, Any]]:
    """Owners of what ``scan`` was given: by name, or named after their files, or numbered."""
    if isinstance(dumps, Mapping):
        return list(dumps.items())
    group = list(dumps) if isinstance(dumps, (list, tuple)) else [dumps]
    names: list[str] = []
    for i, each in enumerate(group):
        path = each if isinstance(each, (str, Path)) else getattr(getattr(each, "source", None), "path", None)
        name = Path(path).name if path is not None else f"buffer{i}"
        names.append(name if name not in names else f"{name}#{i}")
    return list(zip(names, group, strict=True))


__all__ = ["Control", "MediaError", "Options", "Stopped", "domains_of", "scan", "scan_space"]
