"""What each owner has of the contents that several pages hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.core import Contents

BLOCK = 1 << 16
"""Contents at a time: what is worked out of them stays in a cache."""


def blocks(contents: Contents) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The contents, zeros left out, some at a time, and their holdings."""
    for first in range(1, len(contents.contents), BLOCK):
        part = contents.contents[first : first + BLOCK]
        start, end = int(part["start"][0]), int(part["start"][-1]) + int(part["owners"][-1])
        yield part, contents.holdings[start:end]


@dataclass(frozen=True)
class Held:
    """Zeros and contents held once left out; arrays with an entry for each owner.

    ``pages`` (int64) it has of such contents, ``contents`` (int64) of them it holds, ``only`` (int64) are held by
    nobody else; ``kept`` (float64) is its part of their frames: one frame of each, split evenly over all pages that
    hold it.
    """

    pages: NDArray[np.int64]
    contents: NDArray[np.int64]
    only: NDArray[np.int64]
    kept: NDArray[np.float64]

    @classmethod
    def of(cls, contents: Contents) -> Held:
        """Sum up the holdings."""
        owners = len(contents.owner_pages)
        pages, held, only = (np.zeros(owners, np.int64) for _ in range(3))
        kept = np.zeros(owners)
        for part, holdings in blocks(contents):
            start = part["start"][0]
            owner = holdings["owner"].astype(np.intp)
            mine = holdings["pages"].astype(np.float64)
            pages += np.bincount(owner, mine, owners).astype(np.int64)
            held += np.bincount(owner, minlength=owners)
            only += np.bincount(owner[part["start"][part["owners"] == 1] - start], minlength=owners)
            kept += np.bincount(owner, mine * np.repeat(1 / part["pages"], part["owners"]), owners)
        return cls(pages, held, only, kept)
