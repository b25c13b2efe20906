"""The rows of a saved scan, taken in and held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.core import NO_PAGE, UNIQUE_CLASS, ZERO_CLASS, Contents
from pageshare.images import printable
from pageshare.inventory import Inventory
from pageshare.places import Places
from pageshare.saved._file import coded
from pageshare.saved._format import DATA, HOLE, STATES, UNKNOWN, ZEROS, Checks, Metadata, Rows, SavedError
from pageshare.space import GAP

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Runs:
    """Stretches of consecutive frames, of one owner each, from rows that come in order."""

    def __init__(self, numbered: int, owners: int) -> None:
        self.pages = numbered
        self.frame: list[NDArray[np.uint64]] = []
        self.first: list[NDArray[np.uint64]] = []
        self.owner: list[NDArray[np.int32]] = []
        self.by_owner = np.zeros(owners, np.uint64)
        self._last: tuple[int, int] = (-1, 0)

    def add(self, owner: NDArray[np.int32], frame: NDArray[np.uint64], pages: NDArray[np.uint64]) -> None:
        """Some more rows."""
        if not len(owner):
            return
        ends = frame + pages
        starts = (owner != np.append(np.int32(self._last[0]), owner[:-1])) | (
            frame != np.append(np.uint64(self._last[1]), ends[:-1])
        )
        numbers = np.uint64(self.pages) + np.cumsum(pages) - pages
        self.frame.append(frame[starts])
        self.first.append(numbers[starts])
        self.owner.append(owner[starts])
        edges = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
        self.by_owner[owner[edges]] += np.add.reduceat(pages, edges)
        self.pages += int(pages.sum())
        self._last = int(owner[-1]), int(ends[-1])

    def joined(self, dtype: Any) -> tuple[NDArray[np.uint64], NDArray[Any], NDArray[np.int32]]:
        """The frame, the number and the owner of each."""
        return (
            np.concatenate([np.empty(0, np.uint64), *self.frame]),
            np.concatenate([np.empty(0, np.uint64), *self.first]).astype(dtype),
            np.concatenate([np.empty(0, np.int32), *self.owner]),
        )


COLUMNS = ("owner", "frame", "pages", "state", "content", "count")


class Reader:
    """Takes the rows in and checks them against each other and against the metadata."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        self._path, self._metadata = path, metadata
        saved = metadata.report
        self._most_frame = (1 << 64) // saved.page_size
        self._owners = {owner.name: i for i, owner in enumerate(saved.owners)}
        self.checks = Checks()
        self.read = Runs(0, len(saved.owners))
        self.holes = Runs(metadata.read, len(saved.owners))
        self.unknown = Runs(0, len(saved.owners))
        self.content = np.empty(metadata.read, np.uint32)
        self.first_page = np.zeros(metadata.contents + 1, np.uint32)
        self.first_page[0] = NO_PAGE
        self.held = np.zeros(metadata.contents + 1, np.uint32)
        self.contents = 0
        self.zero_at = -1
        """Which of all contents, in file order, zeros are; -1 where there are none."""
        self._last: tuple[int, int] = (-1, 0)

    def fits(self, said: Any, what: str) -> None:
        """Raise SavedError unless it is so."""
        if not said:
            raise SavedError(self._path, f"it is damaged: {what}")

    def group(self, arrays: dict[str, Any]) -> None:
        """The rows of a row group."""
        import pyarrow.compute as pc

        if not len(arrays["owner"]):
            return
        owner = coded(self._path, arrays["owner"], self._owners)
        state = coded(self._path, arrays["state"], {name: i for i, name in enumerate(STATES)}).astype(np.int8)
        for name in ("frame", "pages"):
            self.fits(not arrays[name].null_count, "a row says nothing of where it lies")
        frame, pages = (arrays[name].to_numpy(zero_copy_only=False) for name in ("frame", "pages"))
        is_first = arrays["count"].is_valid().to_numpy(zero_copy_only=False)
        counts = arrays["count"].drop_null().to_numpy(zero_copy_only=False)
        content = pc.fill_null(arrays["content"], NO_PAGE).to_numpy(zero_copy_only=False)
        rows = Rows(owner, frame, pages, state, content, is_first, counts)
        self._places(rows)
        self._contents(rows)
        self.checks.rows(rows)

    def _places(self, rows: Rows) -> None:
        owner, frame, pages = rows.owner, rows.frame, rows.pages
        self.fits(
            (pages >= 1).all() and (frame < self._most_frame).all() and (pages <= self._most_frame - frame).all(),
            "a row lies where no memory can be",
        )
        ends = frame + pages
        before = np.append(np.int32(self._last[0]), owner[:-1])
        behind = np.append(np.uint64(self._last[1]), ends[:-1])
        self.fits(
            (owner >= before).all() and (frame >= behind)[owner == before].all(), "rows overlap, or are out of order"
        )
        self._last = int(owner[-1]), int(ends[-1])
        # Sums of floats can't overflow.
        read, hole = rows.state <= ZEROS, rows.state == HOLE
        self.fits(
            pages[read].sum(dtype=np.float64) + self.read.pages <= self._metadata.read
            and pages[hole].sum(dtype=np.float64) + self.holes.pages <= self._metadata.read + self._metadata.holes
            and pages[~read & ~hole].sum(dtype=np.float64) + self.unknown.pages < 1 << 63,
            "it has more pages than it says",
        )

    def _contents(self, rows: Rows) -> None:
        data, unknown = rows.state == DATA, rows.state == UNKNOWN
        content, is_first = rows.content, rows.first
        self.fits((rows.pages[data] == 1).all(), "a row of several pages has a content")
        self.fits((content[unknown] == NO_PAGE).all() and not is_first[unknown].any(), "an unknown page has a content")
        self.fits((content[~unknown & ~data] == ZERO_CLASS).all(), "zeros have the number of another content")
        begins = data & is_first
        new = np.cumsum(begins) + self.contents
        self.fits(
            ((content[data] >= 1) & (content[data] <= new[data])).all() and (content[begins] == new[begins]).all(),
            "contents are not numbered as they appear",
        )
        self.fits(int(new[-1]) <= self._metadata.contents, "it has more contents than it says")
        zero = np.flatnonzero(content == ZERO_CLASS)
        zero_first = np.flatnonzero(is_first & (content == ZERO_CLASS))
        expected = zero[:1] if self.zero_at < 0 else zero[:0]
        self.fits(np.array_equal(zero_first, expected), "zeros are counted where they do not begin")
        if len(zero_first):
            self.zero_at = self.contents + int(np.count_nonzero(begins[: zero_first[0]]))
        read = rows.state <= ZEROS
        at = self.read.pages + np.cumsum(rows.pages[read]).astype(np.int64) - rows.pages[read].astype(np.int64)
        self.first_page[content[begins]] = at[begins[read]]
        self.held[content[is_first]] = rows.count
        self.contents = int(new[-1])
        repeated = np.repeat(content[read], rows.pages[read].astype(np.int64))
        self.content[self.read.pages : self.read.pages + len(repeated)] = repeated
        if self.first_page[0] == NO_PAGE and len(zeros := np.flatnonzero(repeated == ZERO_CLASS)):
            self.first_page[0] = self.read.pages + zeros[0]
        for runs, which in ((self.read, read), (self.holes, rows.state == HOLE), (self.unknown, unknown)):
            runs.add(rows.owner[which], rows.frame[which], rows.pages[which])

    def inventory(self) -> Inventory:
        """All of it. Raises SavedError where the sums don't fit."""
        metadata, saved = self._metadata, self._metadata.report
        self.fits(
            (self.read.pages, self.holes.pages, self.contents)
            == (metadata.read, metadata.read + metadata.holes, metadata.contents),
            "it has fewer pages, or contents, than it says",
        )
        for i, owner in enumerate(saved.owners):
            coverage = owner.coverage
            self.fits(
                (coverage.known, coverage.unknown)
                == (int(self.read.by_owner[i] + self.holes.by_owner[i]), int(self.unknown.by_owner[i])),
                f"the pages of {printable(owner.name)} are not as many as it says",
            )
        edges = np.append(np.uint64(0), np.cumsum(self.read.by_owner)), np.cumsum(self.holes.by_owner)
        owner_first = np.concatenate([edges[0][:-1], np.append(np.uint64(0), edges[1])[:-1] + np.uint64(metadata.read)])
        read, holes, unknown = self.read.joined(np.uint32), self.holes.joined(np.uint32), self.unknown.joined(np.uint64)
        gaps = np.zeros(len(unknown[0]), GAP)
        gaps["frame"], gaps["owner"] = unknown[0], unknown[2]
        gaps["pages"] = np.diff(unknown[1], append=np.uint64(self.unknown.pages))
        places = Places(
            np.append(read[1], holes[1]),
            np.append(read[0], holes[0]),
            owner_first.astype(np.uint64),
            metadata.read,
            metadata.read + metadata.holes,
        )
        zero, firsts = int(self.first_page[0]), self.first_page
        canonical = firsts[self.content]
        self.content = np.empty(0, np.uint32)
        everywhere = Contents.of(canonical, zero, edges[0].astype(np.uint32))
        inventory = Inventory.having(
            everywhere,
            page_size=saved.page_size,
            owners=tuple(owner.name for owner in saved.owners),
            domains=tuple(saved.domains.index(owner.domain) for owner in saved.owners),
            domain_names=saved.domains,
            places=places,
            gaps=gaps,
        )
        classes = everywhere.classes[firsts[1:]]
        held = np.ones(len(classes), np.uint32)
        shared = classes != UNIQUE_CLASS
        held[shared] = everywhere.contents["pages"][classes[shared]]
        self.fits(
            np.array_equal(held, self.held[1:]) and int(self.held[0]) == inventory.zeros.sum(),
            "a content is not held by as many pages as it says",
        )
        return inventory
