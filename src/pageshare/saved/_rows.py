"""The rows of a saved scan, taken in and held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pageshare.core import NO_PAGE, UNIQUE_CLASS, Contents, RowFault, RowReader
from pageshare.images import printable
from pageshare.inventory import Inventory
from pageshare.places import Places
from pageshare.saved._file import coded
from pageshare.saved._format import STATES, Checks, Metadata, Rows, SavedError
from pageshare.space import GAP

COLUMNS = ("owner", "frame", "pages", "state", "content", "count")


class Reader:
    """Takes the rows in and checks them against each other and against the metadata."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        self._path, self._metadata = path, metadata
        saved = metadata.report
        self._owners = {owner.name: i for i, owner in enumerate(saved.owners)}
        self.checks = Checks()
        self._rows = RowReader(
            len(saved.owners),
            read=metadata.read,
            holes=metadata.holes,
            contents=metadata.contents,
            most_frame=(1 << 64) // saved.page_size,
        )

    @property
    def zero_at(self) -> int:
        """Which of all contents, in file order, zeros are; -1 where there are none."""
        return self._rows.zero_at

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
        try:
            self._rows.take(vars(rows), counts)
        except RowFault as fault:
            self.fits(False, str(fault))
        self.checks.rows(rows)

    def inventory(self) -> Inventory:
        """All of it. Raises SavedError where the sums don't fit."""
        metadata, saved = self._metadata, self._metadata.report
        rows = self._rows
        read_pages, hole_pages, unknown_pages = rows.pages
        self.fits(
            (read_pages, hole_pages, rows.contents) == (metadata.read, metadata.holes, metadata.contents),
            "it has fewer pages, or contents, than it says",
        )
        by_owner = rows.by_owner[:, : len(saved.owners)]
        for owner, (read, holes, unknown) in zip(saved.owners, by_owner.T.tolist(), strict=True):
            self.fits(
                (owner.coverage.known, owner.coverage.unknown) == (read + holes, unknown),
                f"the pages of {printable(owner.name)} are not as many as it says",
            )
        edges = np.append(np.uint64(0), np.cumsum(by_owner[:2]))
        (read_frame, read_first, _), (hole_frame, hole_first, _) = rows.runs(0), rows.runs(1)
        gaps_frame, gaps_first, gaps_owner = rows.runs(2)
        gaps = np.zeros(len(gaps_frame), GAP)
        gaps["frame"], gaps["owner"] = gaps_frame, gaps_owner
        gaps["pages"] = np.diff(gaps_first, append=np.uint64(unknown_pages))
        places = Places(
            np.append(read_first, hole_first + np.uint64(metadata.read)).astype(np.uint32),
            np.append(read_frame, hole_frame),
            edges[:-1],
            metadata.read,
            metadata.read + metadata.holes,
        )
        firsts = rows.first_page
        canonical = firsts[rows.content]
        rows.content = np.empty(0, np.uint32)
        everywhere = Contents.of(canonical, int(firsts[0]), edges[: len(saved.owners) + 1].astype(np.uint32))
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
            np.array_equal(held, rows.held[1:]) and int(rows.held[0]) == inventory.zeros.sum(),
            "a content is not held by as many pages as it says",
        )
        return inventory
