"""A page space: all known pages of all images of all owners, numbered.

Pages whose bytes have to be read come first, 0 .. readable-1, owner by owner, by ascending address; then come
the pages that are known to be zero (holes), readable .. pages-1, which nobody ever visits or allocates for.
A page is identified by its number, 32 bits; what it is to its owner is a frame number (address / page size).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images import Image, ImageError, image_of_buffer
from pageshare.images.image import Descriptor
from pageshare.images.ranges import Kind, Paged, State, Stitch, first_wins, merge, paginate, total_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PAGES = 2**32 - 2
DEFAULT_DOMAIN = "default"

SEGMENT = np.dtype([("offset", "=u8"), ("first", "=u4"), ("source", "=u4")])
"""A run of pages in a source, as ``ps_segment`` in ``csrc/pageshare.h``."""


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
    """One thing that holds pages: a mapped file, a file to be read (``memory`` None), or a buffer (``file`` None)."""

    path: str
    bytes: int
    file: Descriptor | None
    memory: Any
    owner: int
    domain: int

    @property
    def fd(self) -> int:
        """The file's number, -1 for a buffer."""
        return self.file.fd if self.file else -1


@dataclass(frozen=True)
class Owner:
    """A guest, process or snapshot: one address space, from one or more images."""

    name: str
    domain: int
    images: tuple[Image, ...]
    coverage: Coverage


class PageSpace:
    """The pages of some owners; see the module's docstring for how they are numbered.

    ``owners`` are (name, images) in order; ``domains`` gives each one's sharing domain (default: one for all).
    Raises ValueError for more than 2^32 - 1 pages, and a page size that is no multiple of 64 from 256 on. Keeps the
    images' files open and mapped as long as it lives.

    Attributes: ``page_size`` in bytes; ``owners``; ``domains``, their names; ``sources``; ``segments``
    (``SEGMENT`` array); ``readable`` and ``pages``, page counts; ``warnings``, sentences.

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
        self.domains = list(dict.fromkeys(names))
        self.sources: list[SpaceSource] = []
        self.owners: list[Owner] = []
        self.warnings: list[str] = []
        data: list[NDArray[Any]] = []
        zeros: list[NDArray[Any]] = []
        for (name, images), domain in zip(named, names, strict=True):
            readable, known_zero = self._add_owner(name, tuple(images), self.domains.index(domain))
            data.append(readable)
            zeros.append(known_zero)
        self._number(np.concatenate([_no_runs(), *data, *zeros]), sum(len(runs) for runs in data))

    @classmethod
    def of(cls, pages: Any, *, page_size: int = 4096) -> PageSpace:
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
        )

    def _add_owner(self, name: str, images: tuple[Image, ...], domain: int) -> tuple[NDArray[Any], NDArray[Any]]:
        ranges, overlapped = first_wins(merge([image.ranges for image in images]))
        if overlapped:
            self.warnings.append(
                f"{name}: {overlapped} bytes of memory lie in its files more than once; they are counted once,"
                " from the first (files that are not parts of one memory need a NAME= each)"
            )
        _check_payload(ranges, images)
        paged = paginate(ranges, self.page_size)
        owner, base = len(self.owners), len(self.sources)
        for image in images:
            source = image.source
            self.sources.append(
                SpaceSource(source.path, source.size, source.file, source.map(), owner, domain)
            )
        extents = paged.extents
        counted = extents["kind"] != Kind.DEVICE
        is_data = counted & (extents["state"] == State.DATA)
        is_zero = counted & ((extents["state"] == State.ZERO) | (extents["state"] == State.ZERO_INFERRED))
        data, zeros = _runs(extents[is_data], base), _runs(extents[is_zero], base)
        stitches = [stitch for stitch in paged.stitches if stitch.kind != Kind.DEVICE]
        if stitches:
            stitched = np.zeros(len(stitches), _RUN)
            stitched["pfn"] = [stitch.pfn for stitch in stitches]
            stitched["pages"] = 1
            stitched["offset"] = np.arange(len(stitches), dtype=np.uint64) * self.page_size
            stitched["source"] = len(self.sources)
            memory = _stitch(stitches, images, self.page_size)
            self.sources.append(SpaceSource(name, memory.nbytes, None, memory, owner, domain))
            data = np.sort(np.concatenate([data, stitched]), order="pfn")

        self.owners.append(Owner(name, domain, images, coverage_of(paged)))
        return data, zeros

    def _number(self, runs: NDArray[Any], data_runs: int) -> None:
        ends = np.cumsum(runs["pages"], dtype=np.uint64)
        self.pages = int(ends[-1]) if len(runs) else 0
        self.readable = int(ends[data_runs - 1]) if data_runs else 0
        if self.pages > MOST_PAGES:
            raise ValueError(
                f"{self.pages} pages of {self.page_size} bytes are more than can be numbered ({MOST_PAGES});"
                " scan fewer dumps at a time, or with a larger --page-size"
            )
        self.segments = np.zeros(data_runs, SEGMENT)
        self.segments["offset"] = runs["offset"][:data_runs]
        self.segments["source"] = runs["source"][:data_runs]
        firsts = ends - runs["pages"]
        self.segments["first"] = firsts[:data_runs]
        self._run_first = firsts.astype(np.uint32)
        self._run_pfn = runs["pfn"].copy()
        self._run_source = runs["source"].astype(np.uint32)

    def locate(self, pages: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
        """For an array of page numbers, each one's owner (index into ``owners``) and frame number there."""
        numbers = np.asarray(pages, np.uint64)
        runs = np.searchsorted(self._run_first, numbers, side="right") - 1
        owner_of_source = np.array([source.owner for source in self.sources] or [0], np.uint32)
        return owner_of_source[self._run_source[runs]], self._run_pfn[runs] + (numbers - self._run_first[runs])

    @property
    def coverage(self) -> Coverage:
        """Of all owners together."""
        return sum((owner.coverage for owner in self.owners), Coverage())


_RUN = np.dtype([("pfn", "=u8"), ("pages", "=u8"), ("offset", "=u8"), ("source", "=u4")])


def _check_payload(ranges: NDArray[Any], images: Sequence[Image]) -> None:
    """Refuse a file whose bytes are claimed to be memory at several places: a few damaged or hostile headers would
    make hours and gigabytes of it."""
    data = ranges[ranges["state"] == State.DATA]
    for number, image in enumerate(images):
        claimed = total_bytes(data[data["file"] == number])
        if claimed > image.source.size:
            raise ImageError(
                image.source.path,
                "",
                f"its headers claim {claimed} bytes of memory, the file has {image.source.size}",
                "it is damaged: take the dump again",
            )


def _no_runs() -> NDArray[Any]:
    return np.empty(0, _RUN)


def _runs(extents: NDArray[Any], first_source: int) -> NDArray[Any]:
    """Extents of one owner as runs; a known zero extent lies nowhere, but still names a source for its owner."""
    runs = np.empty(len(extents), _RUN)
    runs["pfn"] = extents["pfn"]
    runs["pages"] = extents["pages"]
    runs["offset"] = np.maximum(extents["offset"], 0)
    runs["source"] = extents["file"] + first_source
    return runs


def _stitch(stitches: Sequence[Stitch], images: Sequence[Image], page_size: int) -> NDArray[np.uint8]:
    """The bytes of pages that several ranges make up, put together: uint8 of shape (pages, page_size)."""
    memory = np.zeros((len(stitches), page_size), np.uint8)
    for row, stitch in zip(memory, stitches, strict=True):
        at = 0
        for file, offset, length, state in stitch.pieces:
            if state == State.DATA:
                source = images[file].source
                piece = source.read(offset, length)
                if len(piece) < length:
                    raise OSError(f"{source.path}: the file became shorter while it was read")
                row[at : at + length] = np.frombuffer(piece, np.uint8)
            at += length
    return memory
