"""The loop: opens what is to be scanned, feeds pages to the frame table, keeps time, and makes the report."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare import limits
from pageshare.answers.ask import Questions, answered
from pageshare.core import (
    Census,
    Control,
    FrameTable,
    MediaError,
    OwnerSample,
    OwnerTally,
    Stopped,
    Tally,
    census,
    populate,
    shed,
)
from pageshare.images import Image, check_page_size, image_of_buffer, open_image
from pageshare.inventory import Inventory
from pageshare.limits import Memory
from pageshare.report import Partial, Report, Seconds, count, known_of
from pageshare.space import DEFAULT_DOMAIN, PageSpace

if TYPE_CHECKING:
    from pageshare.policies import Policy

BATCH = 64 << 20
"""Bytes of pages to a call of the core in a scan by policy: some ten milliseconds."""


def batch_pages(space: PageSpace) -> int:
    """How many pages are a batch."""
    return max(1, BATCH // space.page_size)


@dataclass(frozen=True)
class Options:
    """How to scan. ``limit`` is a number of visits, or None for as many as there are pages to read; ``memory`` the
    most bytes that are held of dumps that do not fit into memory, by default a quarter of what is free; ``questions``
    what to answer beyond the counts."""

    page_size: int = 4096
    seed: int | None = None
    threads: int | None = None
    policy: str | None = None
    limit: int | None = None
    kernel: str | None = None
    memory: int | None = None
    questions: Questions = field(default_factory=Questions)


@dataclass(frozen=True)
class Reading:
    """How the pages of a space are come by.

    ``in_files`` bytes at most must be read, those of a file that is given twice once; ``mapped``: all files can be;
    ``streamed``, from end to end of the files since memory can't hold them (or they can't be mapped); ``large``: the
    pages are more than half of memory; ``keep_mapped`` bytes stay mapped; ``hold_bytes`` of contents are held.
    """

    in_files: int
    mapped: bool
    streamed: bool
    large: bool
    keep_mapped: int
    hold_bytes: int

    @classmethod
    def of(cls, space: PageSpace, memory: Memory, hold_bytes: int | None = None) -> Reading:
        """What suits a space and this machine."""
        in_files = shown = 0
        for sources in _by_file(space):
            in_sources = space.page_size * sum(space.sources[each].pages for each in sources)
            shown += in_sources
            in_files += in_sources if len(sources) == 1 else _union(space, sources)
        mapped = all(source.memory is not None for source in space.sources)
        return cls(
            in_files,
            mapped,
            streamed=not mapped or in_files + 16 * space.readable > memory.free,
            large=shown > memory.total // 2,
            # While pages are compared, a third more may be mapped.
            keep_mapped=memory.total * 3 // 8,
            hold_bytes=memory.free // 4 if hold_bytes is None else hold_bytes,
        )

    def most_readings(self, space: PageSpace) -> int:
        """How often files are read from end to end, if every page is held by two: more it can't be."""
        slots = max(1, self.hold_bytes // space.page_size)
        return 1 + max(1, -(-(space.readable // 2) // slots))


def _by_file(space: PageSpace) -> Iterable[list[int]]:
    """The numbers of the sources that show each file's bytes."""
    files: dict[tuple[int, int], list[int]] = {}
    for number, source in enumerate(space.sources):
        if source.fd >= 0:
            stat = os.fstat(source.fd)
            files.setdefault((stat.st_dev, stat.st_ino), []).append(number)
    return files.values()


def _union(space: PageSpace, sources: Sequence[int]) -> int:
    """How many bytes of a file some sources show together."""
    showing = np.flatnonzero(np.isin(space.segments["source"], sources))
    starts = space.segments["offset"][showing].astype(np.int64)
    pages = np.diff(space.segments["first"], append=np.uint32(space.readable))[showing]
    order = np.argsort(starts)
    starts = starts[order]
    ends = starts + pages[order].astype(np.int64) * space.page_size
    before = np.maximum.accumulate(np.append(0, ends))[:-1]
    return int(np.maximum(0, ends - np.maximum(starts, before)).sum())


def scan_space(
    space: PageSpace,
    options: Options,
    *,
    reading: Reading | None = None,
    control: Control | None = None,
    started: float | None = None,
    opening: float | None = None,
    warnings: Sequence[str] = (),
    skipped: Sequence[dict[str, str]] = (),
) -> Report:
    """Scan an opened space, by ``reading`` if that was chosen already.

    ``seconds.total`` counts from ``started``, ``seconds.map`` from ``opening``; both are ``time.perf_counter()`` and
    now by default.

    Raises MediaError where a file shrank or failed, ``Stopped`` if a full scan was stopped; a scan by policy
    that was stopped reports what it found, marked ``interrupted``.
    """
    started = time.perf_counter() if started is None else started
    opening = started if opening is None else opening
    control = Control() if control is None else control
    seed = secrets.randbits(63) if options.seed is None else options.seed
    reading = reading or Reading.of(space, limits.memory(), options.memory)
    scan = _by_policy if options.policy is not None or options.limit is not None else _census
    found = scan(space, replace(options, seed=seed), reading, control)
    counts = count(known_of(space), space.domains, found.tally, complete=found.complete)
    changed = space.changes()
    ended = time.perf_counter()
    report = Report(
        page_size=space.page_size,
        hash="xxh3-64",
        verified=True,
        pages=counts.pages,
        nonzero=counts.nonzero,
        coverage=counts.coverage,
        domains=tuple(space.domains),
        owners=counts.owners,
        seed=seed,
        method=found.method,
        kernel=found.kernel,
        threads=found.threads,
        overlapped=found.overlapped,
        readings=found.readings,
        table_bytes=found.bytes,
        readable=space.readable,
        seconds=Seconds(map=found.mapped - opening, scan=ended - found.mapped, total=ended - started),
        partial=found.partial,
        interrupted=found.interrupted,
        incomplete=tuple(incomplete(space, found.tally.owners)),
        warnings=(*warnings, *space.warnings, *changed),
        skipped=tuple(skipped),
        inventory=found.inventory,
    )
    if found.inventory is None:
        return report
    return _took(ended, answered(report, options.questions, space=space, threads=options.threads, control=control))


def _took(began: float, report: Report) -> Report:
    """The report with what it took since ``began`` in its total."""
    total = report.seconds.total + time.perf_counter() - began
    return replace(report, seconds=replace(report.seconds, total=total))


def steps_of(question: str, report: Report, options: Options) -> tuple[int, int]:
    """How many pages of which size an answer by bytes looks at, about: for progress."""
    from pageshare.answers.page_sizes import SMALLEST
    from pageshare.answers.similar import SAMPLE, steps

    inventory = report.inventory
    assert inventory is not None  # noqa: S101 - of a full scan
    contents = inventory.everywhere
    distinct = len(contents.contents) - 1 + int(contents.owner_pages["unique"].sum())
    if question == "page_sizes":
        return distinct * max(1, report.page_size // SMALLEST), min(SMALLEST, report.page_size)
    return steps(distinct, None if options.questions.full else SAMPLE), report.page_size


def answered_by_bytes(
    question: str, report: Report, space: PageSpace, options: Options, *, reading: Reading, control: Control
) -> Report:
    """The report of a full scan of a space with one more answer: "page_sizes" or "similar". Raises MediaError,
    ValueError, ``Stopped``."""
    inventory = report.inventory
    if inventory is None or report.answers is None:
        raise ValueError("a scan by policy does not say which content is where")
    began, settings = time.perf_counter(), replace(options, seed=report.seed)
    if question == "page_sizes":
        from pageshare.answers.page_sizes import page_sizes

        def recount(part: PageSpace) -> Census:
            return exact(part, settings, Reading.of(part, limits.memory(), reading.hold_bytes), control).census

        answers = replace(
            report.answers,
            page_sizes=page_sizes(
                inventory, space, recount=recount, threads=options.threads, seed=report.seed, control=control
            ),
        )
    else:
        from pageshare.answers.similar import SAMPLE, similar

        sample = None if options.questions.full else SAMPLE
        answers = replace(
            report.answers,
            similar=similar(
                space, inventory, seed=report.seed, sample=sample, threads=options.threads, control=control
            ),
        )
    return _took(began, replace(report, answers=answers))


@dataclass(frozen=True)
class _Found:
    """What a scan leaves to be reported; ``mapped`` is the time when it began to look at pages."""

    method: str
    tally: Tally
    complete: bool
    kernel: str
    threads: int
    bytes: int
    mapped: float
    overlapped: bool = False
    readings: int = 0
    partial: Partial | None = None
    interrupted: bool = False
    inventory: Inventory | None = None


def _map_all(space: PageSpace, control: Control) -> None:
    populate(space, control)
    control.reset()


@dataclass(frozen=True)
class Exact:
    """A census; ``mapped`` is the time when it began to look at pages, ``overlapped`` says that it maps them itself."""

    census: Census
    mapped: float
    overlapped: bool


def exact(space: PageSpace, options: Options, reading: Reading, control: Control) -> Exact:
    """Every page, at once, read as ``reading`` says. Raises MediaError, ``Stopped``."""
    overlapped = bool(reading.in_files) and not reading.streamed and (options.threads != 1 or reading.large)
    if reading.in_files and not reading.streamed and not overlapped:
        _map_all(space, control)
    mapped = time.perf_counter()
    found = census(
        space,
        seed=options.seed,
        threads=options.threads or limits.cpus(),
        kernel=options.kernel,
        map_ahead=overlapped,
        keep_mapped=reading.keep_mapped,
        hold_bytes=reading.hold_bytes if reading.streamed else None,
        control=control,
    )
    return Exact(found, mapped, overlapped)


def _census(space: PageSpace, options: Options, reading: Reading, control: Control) -> _Found:
    done = exact(space.undivided(), options, reading, control)
    found = done.census
    inventory = Inventory.of(space, found, control, threads=options.threads)
    return _Found(
        "streamed-census" if reading.streamed else "census",
        found.tally if len(space.domains) < 2 else inventory.contents.tally(inventory.domains, control),
        complete=True,
        kernel=found.kernel,
        threads=found.stats.threads,
        bytes=max(found.stats.bytes, inventory.bytes),
        mapped=done.mapped,
        overlapped=done.overlapped,
        readings=found.stats.readings,
        inventory=inventory,
    )


def _by_policy(space: PageSpace, options: Options, reading: Reading, control: Control) -> _Found:
    """As many visits as ``options.limit`` says, in the policy's order. A stop cuts them short."""
    from pageshare import policies

    if not reading.large:
        _map_all(space, control)
    mapped = time.perf_counter()
    seed = options.seed or 0
    limit = space.readable if options.limit is None else options.limit
    name = policies.full_name(options.policy or "sequential")
    view = policies.View(space, seed=seed)
    policy = policies.create(name, view)
    table = FrameTable(space, seed=seed, kernel=options.kernel, **getattr(policy, "table_options", {}))
    view.attach(table)
    visits, interrupted = _visit(table, control, policy, limit, reading)
    # What an interrupted scan has found is still counted.
    tally, stats = table.tally(None if interrupted else control), table.stats()
    zero_frames = sum(
        any(mine.zero for owner, mine in zip(space.owners, tally.owners, strict=True) if owner.domain == domain)
        for domain in range(len(space.domains))
    )
    return _Found(
        "frame-table",
        tally,
        complete=stats.hints + stats.members + tally.stale + tally.unreadable == space.readable,
        kernel=table.kernel,
        threads=1,
        bytes=stats.bytes,
        mapped=mapped,
        partial=Partial(
            policy=name,
            seed=seed,
            visits=visits,
            hints=stats.hints,
            shared=tally.shared + tally.zero,
            kept=tally.kept + zero_frames,
            reclaimed=tally.shared - tally.kept + tally.zero - zero_frames,
            zero=tally.zero,
        ),
        interrupted=interrupted,
    )


def _visit(
    table: FrameTable, control: Control, policy: Policy, limit: int, reading: Reading
) -> tuple[int, bool]:
    """How many visits there were, and whether a stop cut them short."""
    visits, most = 0, batch_pages(table.space)
    try:
        while visits < limit and table.space.readable:
            pages = policy.next(min(most, limit - visits))
            result = table.scan(pages, control=control)
            policy.feedback(pages, result.outcomes, result.partners)
            visits += len(pages)
            if reading.large:
                shed(table.space, reading.keep_mapped)
    except Stopped as stopped:
        return visits + stopped.scanned, True
    return visits, False


def incomplete(space: PageSpace, owners: Sequence[OwnerTally | OwnerSample]) -> Iterable[str]:
    """Sentences that say what should be there and is not: of files, and of pages that were ``unreadable``."""
    for owner, mine in zip(space.owners, owners, strict=True):
        for file in owner.files:
            yield from (f"{file.source.path}: {sentence}" for sentence in file.incomplete)
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
    memory: int | None = None,
    holes: str = "zero",
    format: str | None = None,
    base: str | os.PathLike[str] | None = None,
    spool: str | os.PathLike[str] | None = None,
    questions: Questions | None = None,
    control: Control | None = None,
) -> Report:
    """Count identical pages, exactly and byte-verified.

    ``dumps`` is a path, a buffer (bytes, a numpy array of any shape, a mapping) or an ``Image``; a sequence of
    these, each an owner; or a mapping of owner name to one or a sequence of them. Paths are recognised by their
    content unless ``format`` says otherwise; ``holes`` ("zero" or "unknown") says what holes in raw files mean, or
    ``base`` has what lies there; what is decompressed goes to ``spool`` (see ``open_image`` for all of these).
    ``domains`` maps domain names to owners; only pages of one domain are shared. ``policy`` and ``limit`` make
    it a scan of so many visits in that order, as a hypervisor would; without them every page is looked at.
    Dumps that don't fit into memory are read from end to end several times, with at most ``memory`` bytes of their
    contents held (a quarter of what is free, by default). ``questions`` says what else to answer: see
    ``Report.answers``.

    Raises ImageError or OSError for what can't be read, MediaError for a file that shrinks meanwhile.

    >>> import pageshare
    >>> report = pageshare.scan({"a": bytes(4096) + b"same" * 1024, "b": b"same" * 1024})
    >>> report.pages.known, report.pages.shared, report.pages.reclaimed
    (3, 2, 1)
    >>> report.nonzero.reclaimed_inter
    1
    """
    started = time.perf_counter()
    with ExitStack() as stack:
        named = open_dumps(dumps, stack, format=format, holes=holes, page_size=page_size, base=base, spool=spool)
        names = [name for name, _ in named]
        space = PageSpace(
            named, page_size=page_size, domains=domains_of(names, domains, per_owner=domain_per_owner)
        )
        questions = Questions() if questions is None else questions
        questions.check()
        options = Options(page_size, seed, threads, policy, limit, memory=memory, questions=questions)
        warnings = [sentence for _, images in named for each in images for sentence in each.warnings]
        del named  # the space has all of it; their ranges may take more memory
        reading, control = Reading.of(space, limits.memory(), memory), control or Control()
        report = scan_space(
            space, options, reading=reading, control=control, started=started, warnings=warnings
        )
        for question in questions.of_bytes if report.answers else ():
            report = answered_by_bytes(question, report, space, options, reading=reading, control=control)
        return report


def open_dumps(
    dumps: Any,
    stack: ExitStack,
    *,
    format: str | None = None,
    holes: str = "zero",
    page_size: int = 4096,
    base: str | os.PathLike[str] | None = None,
    spool: str | os.PathLike[str] | None = None,
) -> list[tuple[str, list[Image]]]:
    """What a library was given, as owners and their images: see ``scan`` for what that may be.

    Files that are opened are closed by ``stack``, which keeps no image: whoever has it may drop what takes memory.
    Raises ImageError, OSError; TypeError for what is none of these.
    """
    check_page_size(page_size)

    def image(each: Any, name: str) -> Image:
        if isinstance(each, Image):
            return each
        if isinstance(each, (str, Path)):
            found = open_image(each, format=format, holes=holes, page_size=page_size, base=base, spool=spool)
            for source in found.payload:
                stack.enter_context(source)
            return found
        return image_of_buffer(each, name)

    return [
        (name, [image(each, name) for each in (group if isinstance(group, (list, tuple)) else [group])])
        for name, group in _named(dumps)
    ]


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


__all__ = ["Control", "MediaError", "Options", "Reading", "Stopped", "domains_of", "open_dumps", "scan", "scan_space"]
