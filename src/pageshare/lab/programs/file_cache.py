"""Work on files whose speed is that of the page cache, as dbench's is: what is not in memory has to be read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pageshare.lab import _ranges
from pageshare.lab.programs import WRITTEN, Touch
from pageshare.lab.programs._rates import Rates, flat, span


class FileCache:
    """Touches pages of files, ``touches`` a second in all, beside ``own`` (share of all pages) of its own, each of
    which it touches ``rate`` times a second. The file of rank r is as popular as r^-zipf; 0 makes all equally popular.

    Files are clean: the guest drops pages of them for nothing, and a page that is not there is read from its disk, for
    which the guest waits. So the work done in a second of the host's time falls with the memory that the guest has.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        pages: int = 1 << 16,
        own: float = 0.1,
        touches: float = 4000.0,
        zipf: float = 0.6,
        rate: float = 0.5,
    ) -> None:
        _ranges.pages(pages)
        _ranges.shares(own=own)
        _ranges.rates(touches=touches, above=True)
        _ranges.rates(rate=rate)
        _ranges.number("zipf", zipf, 0, 10)
        self.pages = pages
        # One page at least is a file's.
        self.file_pages = min(round(own * pages), pages - 1)
        count = pages - self.file_pages
        weights = np.arange(1, count + 1) ** -float(zipf)
        self.files = Rates(rng, span(self.file_pages, pages), weights / weights.sum() * touches, written=0.0)
        self.own = flat(rng, span(0, self.file_pages), rate)

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """Its own pages are written at time 0; the cache fills as files are read."""
        if begin == 0:
            yield Touch(span(0, self.file_pages), WRITTEN)
        yield self.own.touch(begin, end)
        yield self.files.touch(begin, end)
