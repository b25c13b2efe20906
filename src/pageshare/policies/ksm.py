"""Linux KSM's scanner, page for page: mm/ksm.c as it is since Linux 6.11; held against that of 6.18.

What the kernel does, restated from mm/ksm.c:

- *Order.* Address space after address space, each by ascending address; here owner after owner. At the beginning of
  each pass the unstable tree (the table's hints) is dropped.
- *A page that is looked at* (``cmp_and_merge_page``) and is no KSM page: if its checksum is not that of the last time,
  the new one is kept, and that is all. Else, with ``use_zero_pages``, a page of zeros is mapped to the kernel's zero
  page; any other is looked up in the stable tree, then in the unstable tree, and is put into the latter if nothing is
  found. (Before 6.11 the stable tree came first.) So two passes find everything in memory that holds still. This
  is the ``FrameTable``'s part, with ``checksum``, ``max_refs`` and ``zero_ordinary``.
- *KSM pages* are looked at in every pass, and count as scanned, but nothing is done with them.
- *Pages of the zero page* are not anonymous and so are passed by; what KSM had noted of them goes at that time.
- *max_page_sharing.* No more pages than that are mapped to one KSM page. A page that finds full ones only goes to the
  unstable tree, where the next one of its content finds it: these two are a further KSM page of that content. The zero
  page has no limit.
- *Smart scan* (since 6.7). Each page has an age: how often it was passed while it was no KSM page, up to 255; its
  content plays no part, and nothing resets it but the going of the note. Below an age of 3, a page is always looked at.
  From then on each look says how many passes skip the page after it: one at an age of 3, two up to 5, four up to 8,
  else eight. A skipped page is taken out of the trees and does not count as scanned.

A page that is written to leaves its KSM page at once, keeps age and checksum, and is therefore found again two looks
later if its content has changed, and one look later if it has not.

Differences from the kernel, none of which shows in memory that holds still:

- The kernel learns of a write when it next passes the page: until then the page counts as sharing, and takes up one of
  ``max_page_sharing`` places. Here it makes room at once.
- Of several KSM pages with room the kernel takes the first of the chain, every two seconds the fullest; the table the
  one that got room last.
- A page of the zero page whose note is gone, and which is written to without changing (zeros again), is
  looked at twice before it is mapped to the zero page again; here once. A page whose checksum is 0 is taken for calm
  when first met, there and here, but checksums are different ones (xxhash there, the table's here).
- A page in the unstable tree that has changed is found by the kernel under its new content if the way through the tree
  happens to lead there, and may lead others astray; the table drops it.
- The end of a pass ends the kernel's batch of ``pages_to_scan``; here the next pass begins within it.
- What holds zeros without having been written to (holes of a dump) is not there for KSM, and is not visited here.
- A domain takes the place of the NUMA node of ``merge_across_nodes`` = 0, and has nothing else to do with KSM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import NO_PAGE, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.core import FrameTable
    from pageshare.policies.view import View

    Pages = NDArray[np.uint32]

ALWAYS = 3
"""Pages are looked at in every pass as long as they are younger (``should_skip_rmap_item``)."""
OLDEST = 0xFF
"""Ages have 8 bits, and stay there."""
WINDOWS = 256, 65536
"""How many pages the cursor goes past at a time: at least, and at most unless as many are to be looked at."""
SKIPS = (1, 2, 4, 8)
"""How many passes a page may be skipped after a look (``skip_age``): at an age of up to 3, 5, 8, and more."""

# What KSM has noted of a page, and what the page is.
NEW, PLAIN, MERGED, ZEROED, PASSED_BY = range(5)
"""Nothing noted; noted; a KSM page; mapped to the zero page since the last pass; so, and the note is gone."""


def skip_age(ages: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How many passes a page of each age is skipped after a look: mm/ksm.c's function of that name.

    >>> skip_age(np.array([3, 4, 5, 6, 8, 9, 255], np.uint8)).tolist()
    [1, 2, 2, 4, 4, 8, 8]
    """
    times: NDArray[np.uint8] = np.array(SKIPS, np.uint8)[np.searchsorted([3, 5, 8], ages)]
    return times


@dataclass(frozen=True)
class Counters:
    """Linux's counters of the same names in /sys/kernel/mm/ksm, as they stand at the end of a pass.

    ``pages_shared``: KSM pages, those included that are mapped once; ``pages_sharing``: how many more mappings they
    have; ``pages_unshared``: pages in the unstable tree; ``pages_volatile``: others that KSM has noted (changed,
    skipped, or mapped to the zero page in this pass); ``ksm_zero_pages``: pages mapped to the kernel's zero page;
    ``full_scans``, ``pages_scanned``, ``pages_skipped``: since the start.
    """

    pages_shared: int
    pages_sharing: int
    pages_unshared: int
    pages_volatile: int
    ksm_zero_pages: int
    full_scans: int
    pages_scanned: int
    pages_skipped: int


class Ksm:
    """The pages that ksmd looks at, in its order; options are those of /sys/kernel/mm/ksm, with Linux's defaults.

    ``full_scans``, ``pages_scanned`` and ``pages_skipped`` count as the kernel's do. Takes 3 bytes a page.
    """

    draws_nothing = True

    def __init__(
        self, view: View, *, max_page_sharing: int = 256, use_zero_pages: int = 0, smart_scan: int = 1
    ) -> None:
        """Raises ValueError for a value that the kernel does not take."""
        if max_page_sharing < 2 or max_page_sharing != int(max_page_sharing):
            raise ValueError(f"max_page_sharing {max_page_sharing}: must be a whole number, 2 or more")
        for name, value in (("use_zero_pages", use_zero_pages), ("smart_scan", smart_scan)):
            if value not in (0, 1):
                raise ValueError(f"{name} {value}: must be 0 or 1")
        self.table_options = {
            "checksum": True,
            "max_refs": int(max_page_sharing),
            "zero_ordinary": not use_zero_pages,
        }
        self._view = view
        self._smart = bool(smart_scan)
        self._at = 0
        self._notes = np.full(view.pages, NEW, np.uint8)
        self._ages = np.zeros(view.pages, np.uint8)
        self._skips = np.zeros(view.pages, np.uint8)
        self.full_scans = self.pages_scanned = self.pages_skipped = 0

    def next(self, count: int) -> Pages:
        """The next pages to look at, up to the end of the pass.

        Passes in which there is none are gone through at once. Where all of memory is mapped to the zero page there
        will be none until something is written: then one of these pages stands for the look that must be given; it
        costs the table nothing, and is not counted.
        """
        self._learn_of_writes()
        passes = 0
        while passes <= SKIPS[-1]:
            pages = self._until_end_of_pass(count)
            if self._at == self._view.pages:
                self._at = 0
                self.full_scans += 1
                passes += 1
            if len(pages):
                self.pages_scanned += len(pages)
                return pages
        return np.array([0], np.uint32)

    def _until_end_of_pass(self, count: int) -> Pages:
        if self._at == 0:
            self._view.drop_hints()
        found = [np.empty(0, np.uint32)]
        wanted = count
        window, widest = WINDOWS
        while wanted and self._at < self._view.pages:
            looked_at, gone_past = self._step(wanted, max(window, 2 * wanted))
            window = min(2 * window, widest)
            found.append((self._at + looked_at).astype(np.uint32))
            wanted -= len(looked_at)
            self._at += gone_past
        return np.concatenate(found)

    def _step(self, most: int, pages: int) -> tuple[NDArray[np.intp], int]:
        """Move on by ``pages`` pages, or until ``most`` of them are to be looked at: which ones are, and how many pages
        it went past."""
        window = slice(self._at, min(self._at + pages, self._view.pages))
        notes, ages, skips = self._notes[window], self._ages[window], self._skips[window]
        seen = (notes != ZEROED) & (notes != PASSED_BY)
        aging = seen & (notes != MERGED) if self._smart else np.zeros(len(notes), np.bool_)
        may_skip = aging & (ages >= ALWAYS)
        skipped = may_skip & (skips > 0)
        looked_at = np.flatnonzero(seen & ~skipped)
        gone_past = len(notes)
        if len(looked_at) >= most:
            looked_at = looked_at[:most]
            gone_past = int(looked_at[-1]) + 1
        # Slices of slices: what follows is written to the arrays of all pages.
        notes, ages, skips = notes[:gone_past], ages[:gone_past], skips[:gone_past]
        aging, may_skip, skipped = aging[:gone_past], may_skip[:gone_past], skipped[:gone_past]
        renewed = may_skip & ~skipped
        skips[renewed] = skip_age(ages[renewed])
        skips[skipped] -= 1
        ages[aging & (ages < OLDEST)] += 1
        self.pages_skipped += int(np.count_nonzero(skipped))
        gone = notes == ZEROED
        ages[gone] = skips[gone] = 0
        notes[gone] = PASSED_BY
        notes[notes == NEW] = PLAIN
        return looked_at, gone_past

    def _learn_of_writes(self) -> None:
        """Written to, a page is no KSM page any more, nor is it the zero page."""
        pages = self._view.written()
        notes = self._notes[pages]
        self._notes[pages[(notes == MERGED) | (notes == ZEROED)]] = PLAIN
        self._notes[pages[notes == PASSED_BY]] = NEW

    def feedback(self, pages: Pages, outcomes: NDArray[np.uint8], partners: Pages) -> None:
        """Learns which pages were merged."""
        merged = (outcomes == Outcome.SHARED) | (outcomes == Outcome.SHARED_NEW)
        self._notes[pages[merged]] = MERGED
        self._notes[partners[merged]] = MERGED
        zero = outcomes == Outcome.ZERO
        partners = partners[zero]
        self._notes[pages[zero]] = ZEROED
        # A page of the unstable tree that turned zero since: the table joins it to the zero frame with the other.
        joined = partners[partners != NO_PAGE]
        self._notes[joined[self._notes[joined] == PLAIN]] = ZEROED

    def counters(self, table: FrameTable) -> Counters:
        """What /sys/kernel/mm/ksm would show after the pass that has ended, of the table that pages were visited by."""
        stats, zero, zero_frames = table.stats(), 0, 0
        if not self.table_options["zero_ordinary"]:
            tally = table.tally()
            zero, zero_frames = tally.zero, stats.frames - tally.kept - tally.lone
        shared = stats.frames - zero_frames
        sharing = stats.members - zero - shared
        noted = int(np.count_nonzero((self._notes != NEW) & (self._notes != PASSED_BY)))
        return Counters(
            pages_shared=shared,
            pages_sharing=sharing,
            pages_unshared=stats.hints,
            pages_volatile=noted - shared - sharing - stats.hints,
            ksm_zero_pages=zero,
            full_scans=self.full_scans,
            pages_scanned=self.pages_scanned,
            pages_skipped=self.pages_skipped,
        )
