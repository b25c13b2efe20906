"""The native core: page hashing, the census and ESX's frame table. The only package that touches the C library.

Everything here takes and gives whole arrays; every C call runs without the GIL.
"""

from pageshare.core._blocks import Paired, again, numbered, paired
from pageshare.core._census import Census, CensusStats, census
from pageshare.core._contents import (
    CONTENT,
    HOLDING,
    OWNER_PAGES,
    OWNER_SHARE,
    UNIQUE_CLASS,
    ZERO_CLASS,
    Contents,
)
from pageshare.core._estimate import MOST_THREADS, ContentSample, OwnerSample, sample_contents
from pageshare.core._frame_table import NO_PAGE, ChainStats, FrameTable, Outcome, Scanned, TableStats
from pageshare.core._kernels import equal, hash_pages, is_zero, kernels
from pageshare.core._kinds import KIND_NAMES, PageKind, kind_of
from pageshare.core._lab import InFrames, Touched, store_pages
from pageshare.core._native import Control, MediaError, Stopped, populate, shed
from pageshare.core._pages import DIGEST, LINE, PageReader
from pageshare.core._process import PAGE_UNREADABLE, PAGE_ZERO, ProcessPages, read_words
from pageshare.core._rows import RowFault, RowMaker, RowReader
from pageshare.core._runs import LENGTHS, RUN_PAIR, STRETCH, OwnerRuns, RunFinder
from pageshare.core._tally import OwnerTally, Tally

__all__ = [
    "CONTENT",
    "DIGEST",
    "HOLDING",
    "KIND_NAMES",
    "LENGTHS",
    "LINE",
    "MOST_THREADS",
    "NO_PAGE",
    "OWNER_PAGES",
    "OWNER_SHARE",
    "PAGE_UNREADABLE",
    "PAGE_ZERO",
    "RUN_PAIR",
    "STRETCH",
    "UNIQUE_CLASS",
    "ZERO_CLASS",
    "Census",
    "CensusStats",
    "ChainStats",
    "ContentSample",
    "Contents",
    "Control",
    "FrameTable",
    "InFrames",
    "MediaError",
    "Outcome",
    "OwnerRuns",
    "OwnerSample",
    "OwnerTally",
    "PageKind",
    "PageReader",
    "Paired",
    "ProcessPages",
    "RowFault",
    "RowMaker",
    "RowReader",
    "RunFinder",
    "Scanned",
    "Stopped",
    "TableStats",
    "Tally",
    "Touched",
    "again",
    "census",
    "equal",
    "hash_pages",
    "is_zero",
    "kernels",
    "kind_of",
    "numbered",
    "paired",
    "populate",
    "read_words",
    "sample_contents",
    "shed",
    "store_pages",
]
