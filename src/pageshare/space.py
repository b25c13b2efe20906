"""A page space: all known pages of all images of all owners, numbered.

Pages whose bytes have to be read come first, 0 .. readable-1, owner by owner, by ascending address; then come
the pages that are known to be zero (holes), readable .. pages-1, which nobody ever visits or allocates for.
A page is identified by its number, 32 bits; what it is to its owner is a frame number (address / page size).
"""

from __future__ import annotations

import copy
import mmap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images import Image, ImageError, Source, image_of_buffer
from pageshare.images.blocks import decoded
from pageshare.images.image import Descriptor
from pageshare.images.ranges import (
    EXTENT,
    Kind,
    Paged,
    State,
    Stitch,
    blocks,
    first_wins,
    merge,
    paginate,
    total_bytes,
)
from pageshare.images.raw import data_in
from pageshare.images.spool import Spool
from pageshare.places import Places

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

MOST_PAGES = 2**32 - 2
FINGERPRINT = 8
"""Bytes of a page that stands for another by a hash of it."""
DEFAULT_DOMAIN = "default"
ZEROS = 1 << 18
"""Bytes that are looked at together when memory is copied: if they are zero, they are not."""

STITCHED_IN_MEMORY = 64 << 20
"""Bytes of pages that are put together from several pieces; more of them go into a spool file."""

SEGMENT = np.dtype([("offset", "=u8"), ("first", "=u4"), ("source", "=u4")])
"""A run of pages in a source, as ``ps_segment`` in ``csrc/pageshare.h``."""

GAP = np.dtype([("frame", "=u8"), ("pages", "=u8"), ("owner", "=u4")])
"""Pages of an owner, from a frame number on, that are there but not known: left out by who made the dump, or lost."""


@dataclass(frozen=True)
class Coverage:
    """What an image or an owner holds, in pages; ``partial_bytes`` in bytes.

    data + zero + zero_inferred + excluded + lost are all whole RAM and process pages; the first three are known.
    ``process`` counts those of them that belong to processes. ``device`` and ``partial`` pages are outside.

    >>> import pageshare
    >>> coverage = pageshare.scan(bytes(10_000)).coverage
    >>> coverage.data, coverage.partial_bytes, coverage.known, coverage.unknown
    (2, 1808, 2, 0)
    """

    data: int = 0
    zero: int = 0
    zero_inferred: int = 0
    excluded: int = 0
    lost: int = 0
    partial: int = 0
    partial_bytes: int = 0
    device: int = 0
    process: int = 0

    @property
    def known(self) -> int:
        """Pages whose content is known."""
        return self.data + self.zero + self.zero_inferred

    @property
    def unknown(self) -> int:
        """Pages whose content is not known: excluded by the producer, or lost."""
        return self.excluded + self.lost

    def __add__(self, other: Coverage) -> Coverage:
        """Sum, field by field."""
        return Coverage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def check_hashable(page_size: int) -> None:
    """Raise ValueError for a page size that the core can't hash."""
    if page_size < 256 or page_size % 64:
        raise ValueError(f"page size {page_size}: must be a multiple of 64, and 256 or more")


def coverage_of(paged: Paged) -> Coverage:
    """What the pages of one owner come to."""
    extents = paged.extents
    counted = extents["kind"] != Kind.DEVICE
    stitched = sum(stitch.kind != Kind.DEVICE for stitch in paged.stitches)

    def pages(*states: State) -> int:
        return int(extents["pages"][counted & np.isin(extents["state"], states)].sum())

    return Coverage(
        data=pages(State.DATA) + stitched,
        zero=pages(State.ZERO),
        zero_inferred=pages(State.ZERO_INFERRED),
        excluded=pages(State.EXCLUDED),
        lost=pages(State.LOST),
        partial=paged.partial_pages,
        partial_bytes=paged.partial_bytes,
        device=int(extents["pages"][~counted].sum()) + len(paged.stitches) - stitched,
        process=int(extents["pages"][extents["kind"] == Kind.PROCESS].sum())
        + sum(stitch.kind == Kind.PROCESS for stitch in paged.stitches),
    )


@dataclass
class SpaceSource:
    """One thing that holds pages: a mapped file, a file to be read (``memory`` None), or a buffer (``file`` None).

    ``bytes`` is its size; ``pages``, how many pages of the space lie in it; ``private``: the memory is nobody else's,
    and can be written to.
    """

    path: str
    bytes: int
    file: Descriptor | None
    memory: Any
    owner: int
    domain: int
    pages: int = 0
    private: bool = False

    @property
    def fd(self) -> int:
        """The file's number, -1 for a buffer."""
        return self.file.fd if self.file else -1


@dataclass(frozen=True)
class OwnerFile:
    """What is kept of an image whose pages are numbered: not its ranges, which may take more memory than the pages.

    ``source`` is the file that was named, the first of ``payload``, in which the pages lie.
    """

    source: Source
    payload: tuple[Source, ...]
    format: str
    incomplete: tuple[str, ...]


@dataclass(frozen=True)
class Owner:
    """A guest, process or snapshot: one address space, from one or more files (or buffers)."""

    name: str
    domain: int
    files: tuple[OwnerFile, ...]
    coverage: Coverage


class PageSpace:
    """The pages of some owners; see the module's docstring for how they are numbered.

    ``owners`` are (name, images) in order; ``domains`` gives each one's sharing domain (default: one for all).
    Raises ValueError for more than 2^32 - 2 pages, and a page size that is no multiple of 64 from 256 on. Keeps the
    images' files open and mapped as long as it lives.

    Attributes: ``page_size`` in bytes; ``owners``; ``domains``, their names; ``sources``; ``segments``
    (``SEGMENT`` array); ``readable`` and ``pages``, page counts; ``places``, owner and frame of each page; ``gaps``
    (``GAP`` array), where nothing is known; ``warnings``, sentences.

    >>> import pageshare
    >>> space = pageshare.PageSpace.of({"a": bytes(8192), "b": bytes(4096)})
    >>> space.pages, [owner.name for owner in space.owners]
    (3, ['a', 'b'])
    >>> owners, frames = space.locate([1, 2])
    >>> owners.tolist(), frames.tolist()
    ([0, 1], [1, 0])
    """

    def __init__(
        self,
        owners: Iterable[tuple[str, Sequence[Image]]],
        *,
        page_size: int = 4096,
        domains: Sequence[str] | None = None,
    ) -> None:
        check_hashable(page_size)
        named = list(owners)
        names = [DEFAULT_DOMAIN] * len(named) if domains is None else list(domains)
        self.page_size = page_size
        self.zero_fingerprint = 0
        self.domains = list(dict.fromkeys(names))
        self.sources: list[SpaceSource] = []
        self.owners: list[Owner] = []
        self.warnings: list[str] = []
        data, zeros, gaps = _Runs(), _Runs(), _Growing()
        for (name, images), domain in zip(named, names, strict=True):
            self._add_owner(name, tuple(map(decoded, images)), self.domains.index(domain), data, zeros, gaps=gaps)
            if data.pages + zeros.pages > MOST_PAGES:
                raise ValueError(
                    f"{data.pages + zeros.pages} pages of {page_size} bytes are more than can be numbered"
                    f" ({MOST_PAGES}); scan fewer dumps at a time, or with a larger --page-size"
                )
        self.readable, self.pages = data.pages, data.pages + zeros.pages
        self.segments = data.segments.as_array(SEGMENT)
        data.follow_with(zeros)
        self.places = Places(
            data.first.as_array(np.uint32),
            data.pfn.as_array(np.uint64),
            np.array(data.owner_first, np.uint64),
            self.readable,
            self.pages,
        )
        self.gaps = gaps.as_array(GAP)

    @classmethod
    def of(cls, pages: Any, *, page_size: int = 4096, domains: Sequence[str] | None = None) -> PageSpace:
        """A space over a buffer or array, a sequence of them, or a mapping of owner to buffer (or Image)."""
        if isinstance(pages, Mapping):
            named = dict(pages)
        elif isinstance(pages, (list, tuple)):
            named = {f"buffer{i}": each for i, each in enumerate(pages)}
        else:
            named = {"buffer": pages}
        return cls(
            (
                (name, [each if isinstance(each, Image) else image_of_buffer(each, name)])
                for name, each in named.items()
            ),
            page_size=page_size,
            domains=domains,
        )

    def _add_owner(
        self,
        name: str,
        images: tuple[Image, ...],
        domain: int,
        runs: _Runs,
        zero_runs: _Runs,
        *,
        gaps: _Growing,
    ) -> None:
        payload = [source for image in images for source in image.payload]
        ranges, overlapped = first_wins(
            merge([image.ranges for image in images], [len(image.payload) for image in images])
        )
        if overlapped:
            self.warnings.append(
                f"{name}: {overlapped} bytes of memory lie in its files more than once; they are counted once,"
                " from the first (files that are not parts of one memory need a NAME= each)"
            )
        _check_payload(ranges, payload)
        owner, base = len(self.owners), len(self.sources)
        for source in payload:
            self.sources.append(
                SpaceSource(source.path, source.size, source.file, source.map(), owner, domain)
            )
        held = {number: data_in(source) for number, source in enumerate(payload) if source.spooled}
        runs.begin_owner()
        zero_runs.begin_owner()
        coverage = Coverage()
        stitched = _Stitched(payload, self.page_size, images[0].spool if images else None)
        pages = np.zeros(len(payload) + 1, np.uint64)
        for block in blocks(ranges, self.page_size):
            paged = paginate(block, self.page_size)
            coverage += coverage_of(paged)
            extents = paged.extents[paged.extents["kind"] != Kind.DEVICE]
            known_zero = (extents["state"] == State.ZERO) | (extents["state"] == State.ZERO_INFERRED)
            gaps.append(_gaps(extents, owner))
            data, zeros = _read_as_zero(extents[extents["state"] == State.DATA], held, self.page_size)
            zero_runs.add(_sorted(extents[known_zero], zeros))
            holes = int(zeros["pages"].sum())
            coverage += Coverage(data=-holes, zero=holes)
            stitches = [stitch for stitch in paged.stitches if stitch.kind != Kind.DEVICE]
            if stitches:
                whole = np.zeros(len(stitches), EXTENT)
                whole["pfn"] = [stitch.pfn for stitch in stitches]
                whole["pages"] = 1
                whole["offset"] = (stitched.pages + np.arange(len(stitches))) * self.page_size
                whole["file"] = len(payload)
                data = _sorted(data, whole)
                stitched.add(stitches)
            runs.add_stored(data, base)
            np.add.at(pages, data["file"], data["pages"])
        for each, count in zip(self.sources[base:], pages[:-1].tolist(), strict=True):
            each.pages = count
        if stitched.pages:
            source = stitched.as_source(name)
            self.sources.append(
                SpaceSource(source.path, source.size, source.file, source.map(), owner, domain, stitched.pages)
            )
        files = tuple(OwnerFile(image.source, image.payload, image.format, image.incomplete) for image in images)
        self.owners.append(Owner(name, domain, files, coverage))

    def locate(self, pages: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
        """For an array of page numbers, each one's owner (index into ``owners``) and frame number there."""
        return self.places.locate(pages)

    def find(self, owner: int, frames: NDArray[Any]) -> NDArray[np.uint32]:
        """The inverse of ``locate``: the numbers of an owner's pages at ``frames``, ``2^32 - 1`` where none is
        known."""
        return self.places.find(owner, frames)

    @property
    def owner_first(self) -> NDArray[np.uint32]:
        """The first page number of each owner, and ``readable``: owner i has pages owner_first[i] .. [i + 1] - 1."""
        return self.places.read_first

    def changes(self) -> list[str]:
        """A sentence for each file that was written to since it was opened."""
        payload = (source for owner in self.owners for file in owner.files for source in file.payload)
        return [sentence for source in payload if (sentence := source.changed())]

    def undivided(self) -> PageSpace:
        """The same pages, all in one sharing domain."""
        if len(self.domains) < 2:
            return self
        other = copy.copy(self)
        other.domains = [DEFAULT_DOMAIN]
        other.sources = [replace(source, domain=0) for source in self.sources]
        return other

    def only(self, pages: NDArray[Any], page_size: int) -> PageSpace:
        """Some pages that have to be read, by ascending number, each cut into pages of ``page_size``: a part of this
        space's, numbered anew. Nothing is copied; ``owners`` and their coverage stay those of the whole.

        Memory: 32 bytes for each run of pages, and 40 for each page while it is made. Raises ValueError for more pages
        than can be numbered.

        >>> import numpy as np
        >>> space = PageSpace.of({"a": bytes(8192), "b": bytes(4096)})
        >>> part = space.only(np.array([1, 2]), 2048)
        >>> part.pages, [each.tolist() for each in part.locate([0, 1, 2])]
        (4, [[0, 0, 1], [2, 3, 0]])
        """
        check_hashable(page_size)
        numbers, ratio = np.asarray(pages, np.int64), self.page_size // page_size
        if len(numbers) * ratio > MOST_PAGES:
            raise ValueError(f"{len(numbers) * ratio} pages of {page_size} bytes are more than can be numbered")
        within = np.searchsorted(self.segments["first"], numbers, side="right") - 1
        begins = np.flatnonzero((np.diff(numbers, prepend=-2) != 1) | (np.diff(within, prepend=-1) != 0))
        segment, into = within[begins], numbers[begins] - self.segments["first"][within[begins]]
        other = copy.copy(self)
        other.page_size, other.readable, other.pages = page_size, len(numbers) * ratio, len(numbers) * ratio
        other.segments = np.empty(len(begins), SEGMENT)
        other.segments["first"] = begins * ratio
        other.segments["offset"] = self.segments["offset"][segment] + (into * self.page_size).astype(np.uint64)
        other.segments["source"] = self.segments["source"][segment]
        in_source = np.bincount(self.segments["source"][within], minlength=len(self.sources)) * ratio
        other.sources = [
            replace(source, pages=count) for source, count in zip(self.sources, in_source.tolist(), strict=True)
        ]
        # Segments are the runs of pages that are read.
        frame = (self.places.frame[segment] + into.astype(np.uint64)) * np.uint64(ratio)
        owner_first = np.searchsorted(numbers, self.owner_first[:-1]) * ratio
        other.places = Places(
            other.segments["first"].copy(),
            frame,
            np.append(owner_first, np.full(len(self.owners), other.pages)).astype(np.uint64),
            other.readable,
            other.pages,
        )
        other.gaps = self.gaps[:0]
        return other

    @property
    def writable(self) -> bool:
        """Whether pages may be written to: only those of ``private`` copies."""
        return all(source.private for source in self.sources)

    def private(self) -> PageSpace:
        """The same pages in memory that can be written to, unknown to files and buffers: what is not written to takes
        no memory. Raises OSError where a file can't be mapped."""
        other = copy.copy(self)
        other.sources = [_private(source) for source in self.sources]
        return other

    def as_fingerprints(self, fingerprints: NDArray[np.uint64], zero: int) -> PageSpace:
        """The same pages, owners and domains, but each page is a number of 8 bytes that stands for its content: its
        hash, ``zero`` for zeros. A frame table over it, with the hash's seed, gives the outcomes of one over the
        bytes.

        ``fingerprints`` has ``readable`` numbers; it may change as memory may.
        """
        other, first = copy.copy(self), self.owner_first.tolist()
        other.page_size, other.zero_fingerprint = FINGERPRINT, zero
        holding = [number for number in range(len(self.owners)) if first[number] < first[number + 1]]
        other.sources = [
            SpaceSource(
                self.owners[number].name,
                FINGERPRINT * (first[number + 1] - first[number]),
                None,
                fingerprints[first[number] : first[number + 1]],
                number,
                self.owners[number].domain,
                first[number + 1] - first[number],
                private=True,
            )
            for number in holding
        ]
        other.segments = np.zeros(len(holding), SEGMENT)
        other.segments["first"] = [first[number] for number in holding]
        other.segments["source"] = np.arange(len(holding))
        return other

    @property
    def coverage(self) -> Coverage:
        """Of all owners together."""
        return sum((owner.coverage for owner in self.owners), Coverage())


def _gaps(extents: NDArray[Any], owner: int) -> NDArray[Any]:
    """Those of an owner's extents of which nothing is known, neighbours as one."""
    unknown = extents[(extents["state"] == State.EXCLUDED) | (extents["state"] == State.LOST)]
    end = unknown["pfn"] + unknown["pages"]
    begins = np.append(True, unknown["pfn"][1:] != end[:-1])[: len(unknown)]
    gaps = np.empty(int(begins.sum()), GAP)
    gaps["owner"] = owner
    gaps["frame"] = unknown["pfn"][begins]
    gaps["pages"] = np.add.reduceat(unknown["pages"], np.flatnonzero(begins)) if len(unknown) else 0
    return gaps


def _private(source: SpaceSource) -> SpaceSource:
    if source.file:
        memory: Any = mmap.mmap(
            source.fd, source.bytes, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
    else:
        held = np.frombuffer(source.memory, np.uint8)
        memory = mmap.mmap(-1, len(held), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, len(held), ZEROS):
            # Zeros are left to the kernel: pages that nobody has written yet take no memory.
            if held[at : at + ZEROS].any():
                memory[at : at + ZEROS] = held[at : at + ZEROS].tobytes()
    return replace(source, memory=memory, private=True)


class _Growing:
    """Bytes in memory of their own that grows in place. There may be as many runs as pages: on the heap, which such
    arrays share with what is freed meanwhile, they would take half as much again."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._used = 0

    def append(self, numbers: NDArray[Any]) -> None:
        """Add the bytes of an array."""
        end = self._used + numbers.nbytes
        if end > len(self._memory):
            try:
                self._memory.resize(max(end, 2 * len(self._memory)))
            except OSError as error:
                raise MemoryError("not enough memory to number the pages of so many ranges") from error
        self._memory[self._used : end] = numbers.tobytes()
        self._used = end

    def as_array(self, dtype: DTypeLike) -> NDArray[Any]:
        """All of it. Nothing can be appended as long as this is kept."""
        return np.frombuffer(self._memory, dtype, self._used // np.dtype(dtype).itemsize)


class _Runs:
    """Runs of pages, numbered as they come."""

    def __init__(self) -> None:
        self.pfn, self.first, self.segments = _Growing(), _Growing(), _Growing()
        self.owner_first: list[int] = []
        self.pages = 0

    def begin_owner(self) -> None:
        """What comes now belongs to the next owner."""
        self.owner_first.append(self.pages)

    def add(self, extents: NDArray[Any]) -> NDArray[np.uint32]:
        """Append extents; returns the number of each one's first page."""
        ends = np.uint64(self.pages) + np.cumsum(extents["pages"], dtype=np.uint64)
        first: NDArray[np.uint32] = (ends - extents["pages"]).astype(np.uint32)
        self.pfn.append(extents["pfn"])
        self.first.append(first)
        self.pages += int(extents["pages"].sum())
        return first

    def add_stored(self, extents: NDArray[Any], first_source: int) -> None:
        """Append extents that lie in sources, those of file 0 in ``first_source``."""
        segments = np.empty(len(extents), SEGMENT)
        segments["first"] = self.add(extents)
        segments["offset"] = extents["offset"]
        segments["source"] = extents["file"] + first_source
        self.segments.append(segments)

    def follow_with(self, other: _Runs) -> None:
        """Append those of ``other``, numbered on."""
        self.pfn.append(other.pfn.as_array(np.uint64))
        self.first.append(other.first.as_array(np.uint32) + np.uint32(self.pages))
        self.owner_first += [self.pages + first for first in other.owner_first]
        self.pages += other.pages


def _sorted(extents: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Both, which have no page in common, by ascending address."""
    return np.sort(np.concatenate([extents, others]), order="pfn") if len(others) else extents


def _read_as_zero(
    extents: NDArray[Any], held: Mapping[int, NDArray[Any]], page_size: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Extents that lie in files, without the pages of spool files that are holes there; and these. ``held`` says where
    a spool file, by its number, has data (see ``data_in``).

    A hole takes room once it is read through a mapping: of the page cache, and where the file lies in memory of that
    too, for good and beyond what the folder has.
    """
    kept, zeros = [extents[~np.isin(extents["file"], list(held))]], [extents[:0]]
    for number, data in held.items():
        within = extents[extents["file"] == number]
        begin = within["offset"]
        end = begin + within["pages"].astype(np.int64) * page_size
        first = np.searchsorted(data[:, 1], begin, side="right")
        count = np.searchsorted(data[:, 0], end) - first
        whose = np.repeat(np.arange(len(within)), count)
        run = data[np.arange(len(whose)) - np.repeat(np.cumsum(count) - count - first, count)]
        # The pages that the runs of data touch; a run may begin in the page in which the one before it ends.
        low = np.maximum(run[:, 0] - begin[whose], 0) // page_size
        high = -(-(np.minimum(run[:, 1], end[whose]) - begin[whose]) // page_size)
        follows = np.append(False, whose[1:] == whose[:-1])
        low[1:] = np.where(follows[1:], np.maximum(low[1:], high[:-1]), low[1:])
        heads = np.searchsorted(whose, np.arange(len(within)))
        kept.append(_parts(within[whose], low, high, page_size))
        edges = np.insert(high, heads, 0), np.insert(low, heads + count, within["pages"].astype(np.int64))
        zeros.append(_parts(np.repeat(within, count + 1), *edges, page_size))
    if not held:
        return extents, zeros[0]
    return np.sort(np.concatenate(kept), order="pfn"), np.sort(np.concatenate(zeros), order="pfn")


def _parts(extents: NDArray[Any], low: NDArray[np.int64], high: NDArray[np.int64], page_size: int) -> NDArray[Any]:
    """The pages ``low`` up to ``high`` of each extent, where there are any."""
    extents["pfn"] += low.astype(np.uint64)
    extents["offset"] += low * page_size
    extents["pages"] = np.maximum(high - low, 0)
    return extents[high > low]


def _check_payload(ranges: NDArray[Any], payload: Sequence[Source]) -> None:
    """Refuse a file whose bytes are claimed to be memory at several places: a few damaged or hostile headers would
    make hours and gigabytes of it."""
    claimed = [0] * len(payload)
    for block in blocks(ranges):
        data = block[block["state"] == State.DATA]
        for number in np.flatnonzero(np.bincount(data["file"])).tolist():
            claimed[number] += total_bytes(data[data["file"] == number])
    for each, source in zip(claimed, payload, strict=True):
        if each > source.size:
            raise ImageError(
                source.path,
                "",
                f"its headers claim {each} bytes of memory, the file has {source.size}",
                "it is damaged: take the dump again",
            )


class _Stitched:
    """Pages that several ranges make up, put together: in memory, or if that would be much, in a spool file."""

    def __init__(self, payload: Sequence[Source], page_size: int, folder: str | None) -> None:
        self.pages = 0
        self._payload, self._page_size, self._folder = payload, page_size, folder
        self._memory = bytearray()
        self._spool: Spool | None = None

    def add(self, stitches: Sequence[Stitch]) -> None:
        """Put pages together, behind those before. Raises OSError, ImageError."""
        at_once = max(1, ZEROS // self._page_size)
        for first in range(0, len(stitches), at_once):
            some = stitches[first : first + at_once]
            block = bytearray(len(some) * self._page_size)
            for number, stitch in enumerate(some):
                at = number * self._page_size
                for file, offset, length, state in stitch.pieces:
                    if state == State.DATA:
                        block[at : at + length] = self._piece(self._payload[file], offset, length)
                    at += length
            self._put(block)
            self.pages += len(some)

    def _piece(self, source: Source, offset: int, length: int) -> bytes:
        piece = source.read(offset, length)
        if len(piece) < length:
            raise OSError(f"{source.path}: the file became shorter while it was read")
        return piece

    def _put(self, block: bytearray) -> None:
        if self._spool is None:
            if len(self._memory) + len(block) <= STITCHED_IN_MEMORY:
                self._memory += block
                return
            self._spool = Spool(self._payload[0].path, self._folder)
            self._spool.write(self._memory, 0)
            self._memory = bytearray()
        self._spool.write(block, self.pages * self._page_size)

    def as_source(self, name: str) -> Source:
        """All of them."""
        if self._spool is None:
            return Source.of_buffer(self._memory, name)
        return self._spool.as_source(self.pages * self._page_size, None)
