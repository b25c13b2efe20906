"""Memory over time: the pages at the start, and every write since, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pageshare import limits
from pageshare.core import NO_PAGE, Control
from pageshare.images import image_of_buffer
from pageshare.images.ranges import RANGE, State
from pageshare.replay.contents import Contents
from pageshare.scanner import Options, Reading, exact
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.images import Image

    Owners = Sequence[tuple[str, Sequence[Image]]]


@dataclass(frozen=True)
class Writes:
    """Writes in order of time: ``times`` (float64) in seconds, ``pages`` (uint32), and the ``ids`` (uint32) of the
    contents that they leave. Arrays of one length."""

    times: NDArray[np.float64]
    pages: NDArray[np.uint32]
    ids: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.times)

    def part(self, first: int, end: int) -> Writes:
        """Some of them."""
        return Writes(self.times[first:end], self.pages[first:end], self.ids[first:end])

    @classmethod
    def together(cls, parts: Sequence[Writes]) -> Writes:
        """One after the other."""
        return cls(
            np.concatenate([each.times for each in parts]),
            np.concatenate([each.pages for each in parts]),
            np.concatenate([each.ids for each in parts]),
        )

    @classmethod
    def none(cls) -> Writes:
        """No writes."""
        return cls(np.empty(0), np.empty(0, np.uint32), np.empty(0, np.uint32))


class WriteSource(Protocol):
    """Where writes come from."""

    def until(self, time: float) -> Writes:
        """Those since the last call, up to ``time``, in seconds from the start."""
        ...


class Recorded:
    """Writes that are known beforehand."""

    def __init__(self, writes: Writes) -> None:
        self._writes, self._at = writes, 0

    def until(self, time: float) -> Writes:
        """Those since the last call."""
        end = int(np.searchsorted(self._writes.times, time, side="right"))
        part = self._writes.part(self._at, end)
        self._at = max(self._at, end)
        return part


class History(Protocol):
    """Pages at the start, and what is written to them; see ``Snapshots``."""

    @property
    def space(self) -> PageSpace:
        """The pages."""
        ...

    @property
    def contents(self) -> Contents:
        """All contents."""
        ...

    @property
    def ids(self) -> NDArray[np.uint32]:
        """What the pages hold at the start."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Sentences on what it does not tell."""
        ...

    @property
    def duration(self) -> float | None:
        """Seconds from the first snapshot to the last, or of the trace; None if writes have no end."""
        ...

    def writes(self, seed: int) -> WriteSource:
        """All writes from the start; ``seed`` draws what the history leaves open."""
        ...


@dataclass(frozen=True)
class Snapshots:
    """The history that dumps tell: pages that differ from one to the next were written once in between.

    ``space`` has the pages whose content is known at the start, and is not zero by the format in all snapshots; ``ids``
    (uint32) are their contents then. ``changes`` are, for each interval, its begin and end in seconds, and the pages
    that were written, with what they then hold. ``notes`` are sentences on what could not be seen. ``grow`` makes the
    space again with more pages that can be written, given as frame numbers of each owner; see ``with_pages``.
    """

    space: PageSpace
    contents: Contents
    ids: NDArray[np.uint32]
    changes: tuple[tuple[float, float, NDArray[np.uint32], NDArray[np.uint32]], ...] = ()
    notes: tuple[str, ...] = ()
    grow: Callable[[Sequence[NDArray[np.uint64]]], PageSpace] | None = field(default=None, repr=False, compare=False)

    def with_pages(self, frames: Sequence[NDArray[np.uint64]]) -> Snapshots:
        """The same, where these pages of each owner, which are zero by the format, can be written too. For one
        snapshot."""
        if self.grow is None or self.changes:
            raise ValueError("pages can be added to one snapshot of dumps only")
        space = self.grow(frames)
        owners, at = space.locate(np.arange(space.readable, dtype=np.uint32))
        ids = np.empty(space.readable, np.uint32)
        for number, owner in enumerate(space.owners):
            mine = owners == number
            before = self.space.find(number, at[mine])
            there = before < self.space.readable
            ids[mine] = np.where(there, self.ids[np.where(there, before, 0)], np.uint32(owner.domain))
        return replace(self, space=space, ids=ids)

    @property
    def duration(self) -> float | None:
        """Seconds from the first to the last."""
        return self.changes[-1][1] if self.changes else None

    def writes(self, seed: int) -> WriteSource:
        """Each at a time drawn uniformly from its interval."""
        generator = np.random.default_rng(seed)
        parts = [Writes.none()]
        for begin, end, pages, ids in self.changes:
            # Up to the end, which is when the next snapshot was taken.
            times = end - generator.random(len(pages)) * (end - begin)
            order = np.argsort(times)
            parts.append(Writes(times[order], pages[order], ids[order]))
        return Recorded(Writes.together(parts))


def history_of(
    snapshots: Sequence[tuple[float, Owners]],
    *,
    page_size: int = 4096,
    domains: Sequence[str] | None = None,
    seed: int = 0,
    threads: int | None = None,
    memory: int | None = None,
    control: Control | None = None,
) -> Snapshots:
    """The history of some owners, of which there are snapshots at ascending times (in seconds); the first is the start.

    Each snapshot has the owners in the same order, as (name, images). ``domains`` gives each owner's sharing domain;
    ``seed`` is that of fingerprints; the rest is as for ``scan``. Raises ValueError, MediaError, ``Stopped``.
    """
    times = [time for time, _ in snapshots]
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError("snapshots must be in order of time, no two at the same")
    count = len(snapshots[0][1])
    if any(len(owners) != count for _, owners in snapshots):
        raise ValueError("every snapshot must have the same owners")
    whole = PageSpace(
        [(f"{name}@{time:g}s", images) for time, owners in snapshots for name, images in owners],
        page_size=page_size,
        domains=None if domains is None else list(domains) * len(snapshots),
    )
    options = Options(page_size, seed, threads, memory=memory)
    control = Control() if control is None else control
    census = exact(whole, options, Reading.of(whole, limits.memory(), memory), control).census
    contents = Contents(whole, census, seed=seed, control=control)
    late = [_late(whole, contents, owner, count) for owner in range(count)]

    def grow(frames: Sequence[NDArray[np.uint64]]) -> PageSpace:
        return _space(snapshots[0][1], frames, page_size, domains)

    space = grow(late)
    frames = space.locate(np.arange(space.readable, dtype=np.uint32))[1]
    edges = space.owner_first.tolist()

    def held(snapshot: int) -> NDArray[np.uint32]:
        """What the pages hold in a snapshot: ids, ``NO_PAGE`` where that is not known."""
        control.check()
        ids = np.full(space.readable, NO_PAGE, np.uint32)
        for owner in range(count):
            mine = slice(edges[owner], edges[owner + 1])
            numbers = whole.find(snapshot * count + owner, frames[mine])
            read = numbers < whole.readable
            ids[mine][read] = contents.ids[numbers[read]]
            ids[mine][~read & (numbers != NO_PAGE)] = whole.owners[owner].domain
        return ids

    start = now = held(0)
    changes, unseen = [], 0
    for number in range(1, len(snapshots)):
        then = held(number)
        unknown = then == NO_PAGE
        unseen += int(np.count_nonzero(unknown))
        then[unknown] = now[unknown]
        pages = np.flatnonzero(then != now).astype(np.uint32)
        changes.append((times[number - 1] - times[0], times[number] - times[0], pages, then[pages]))
        now = then
    notes = [*_cut_off(whole, len(times))]
    if unseen:
        notes.append(f"{unseen} pages are missing from later snapshots; they are taken to stay as they were")
    appeared = _appeared(whole, count, len(snapshots))
    if appeared:
        notes.append(f"{appeared} pages of later snapshots are missing from the first one; they are left out")
    return Snapshots(space, contents, start, tuple(changes), tuple(notes), grow)


def _cut_off(whole: PageSpace, snapshots: int) -> Iterator[str]:
    """A sentence, if pages are there in part only, as the last one of a file that was cut off."""
    # Their names in the whole have the time; where there is one moment it says nothing.
    cut = {
        owner.name if snapshots > 1 else owner.name.rpartition("@")[0]: owner.coverage.partial
        for owner in whole.owners
        if owner.coverage.partial
    }
    if cut:
        count, names = sum(cut.values()), list(cut)
        some = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        pages = "1 incomplete page" if count == 1 else f"{count} incomplete pages"
        yield f"{pages} at a range's end, in {some}: left out"


def _frames(whole: PageSpace, owner: int) -> NDArray[np.uint64]:
    first, end = whole.owner_first[owner : owner + 2].tolist()
    return whole.locate(np.arange(first, end, dtype=np.uint32))[1]


def _late(whole: PageSpace, contents: Contents, owner: int, count: int) -> NDArray[np.uint64]:
    """The frames that are zero by the format in an owner's first snapshot, holes for example, and hold something in a
    later one."""
    late = [np.empty(0, np.uint64)]
    for number in range(owner + count, len(whole.owners), count):
        frames = _frames(whole, number)
        before = whole.find(owner, frames)
        first, end = whole.owner_first[number : number + 2].tolist()
        held = contents.ids[first:end] >= contents.zeros
        late.append(frames[(before >= whole.readable) & (before != NO_PAGE) & held])
    return np.unique(np.concatenate(late))


def _appeared(whole: PageSpace, count: int, snapshots: int) -> int:
    """How many pages are in a later snapshot and not in the first, in pages of all snapshots together."""
    return sum(
        int(np.count_nonzero(whole.find(owner, _frames(whole, number * count + owner)) == NO_PAGE))
        for number in range(1, snapshots)
        for owner in range(count)
    )


def _space(
    owners: Owners, late: Sequence[NDArray[np.uint64]], page_size: int, domains: Sequence[str] | None
) -> PageSpace:
    """The first snapshot, with the pages that become data later as data already: zeros in memory of their own."""
    together = []
    for (name, images), frames in zip(owners, late, strict=True):
        if frames.size:
            image = image_of_buffer(np.zeros(frames.size * page_size, np.uint8), name)
            ranges = np.zeros(frames.size, RANGE)
            ranges["address"] = frames * np.uint64(page_size)
            ranges["bytes"] = page_size
            ranges["offset"] = np.arange(frames.size) * page_size
            ranges["state"] = State.DATA
            ranges["kind"] = images[0].kind
            together.append((name, [replace(image, ranges=ranges, kind=images[0].kind), *images]))
        else:
            together.append((name, list(images)))
    return PageSpace(together, page_size=page_size, domains=domains)


__all__ = ["History", "Recorded", "Snapshots", "WriteSource", "Writes", "history_of"]
