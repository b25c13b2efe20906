"""Peek at few pages, foresee runs, visit what is foreseen, and learn where that was wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import NO_PAGE, Outcome
from pageshare.policies._keys import KeyTable
from pageshare.policies._pending import NONE, Bits, Pass, Rest, once

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from pageshare.policies.view import View

    Pages: TypeAlias = NDArray[np.uint32]
    Flags: TypeAlias = NDArray[np.bool_]

ZERO = NO_PAGE - 1
"""What a page is foreseen to equal: a zero page."""
SURVEY = 256
"""Pages between those that a survey looks at."""
REGION = 64
"""Pages, over which it is learnt whether what was foreseen is right."""
HOT_REGION = 512
"""Pages, over which writes are taken to come together."""
BAND = 2048
"""Pages of each owner that are peeked at in turn."""
LONG = 8
"""Zero pages in a row that need no second look."""
WIDTH = 4
"""Of pages about which nothing is foreseen, every so many are peeked at."""
PROVEN = 4
"""Pages that agreed with another in two lines: what agrees in one with it then is believed."""
PROBE = 16
"""Of what is foreseen, one in so many is visited first, to learn where that is right."""
ENOUGH = 16
"""Pages met before that tell whether there are runs."""
MANY_ZEROS = 1 / 8
"""If so many pages of a block begin with zeros, these are zero pages."""


class PeekRuns:
    """Peeks at a few pages of every block, and at more of them only where these foresee nothing; visits what is
    foreseen, zero pages and large groups of equal ones first; learns where what it foresees is wrong.

    Equal pages lie in runs, zero pages too: if two pages ``stride`` apart begin like two others that lie as far apart,
    or are zero, so will those between. Where pages that begin alike have neighbours that don't, there are no runs, and
    all are peeked at. The sweep is ``ahead`` times as fast as the visits. Measured here. Each page once a pass. In
    memory that changes, regions written to in the last ``cool`` seconds come last, and pages left alone for ``calm``
    seconds after a write are peeked at again. Needs 90 to 170 bits a page, as measured. Fails where writes are
    everywhere, so that every region is hot: then it comes to what is foreseen late.
    """

    takes_objective = True

    def __init__(self, view: View, *, stride: int = 32, ahead: int = 4, calm: float = 5.0, cool: float = 20.0) -> None:
        self._view, self._stride, self._ahead, self._calm, self._cool = view, stride, ahead, calm, cool
        pages = view.pages
        self._second_line = view.lines // 2
        self._pass, self._rest = Pass(pages), Rest(pages, view.seed)
        self._keys = KeyTable()
        self._foreseen = np.full(pages, NO_PAGE, np.uint32)  # the page that each is expected to equal
        self._copies = np.zeros(pages, np.uint16)  # how many are expected to equal this one
        self._tried, self._found = (np.zeros((2, pages // REGION + 1), np.uint16) for _ in range(2))
        self._blocks = self._all_blocks()
        self._sweeping = pages > 0
        self._peeked = Bits(pages)
        self._met = self._met_in_runs = 0.0
        self._fine = False
        self._owed = 0
        # Best first.
        self._zero_probes, self._zeros, self._probes = _Queue(), _Queue(), _Queue()
        self._many, self._few, self._edges = _Queue(), _Queue(), _Queue()
        self._lone_zeros, self._doubtful, self._hot = _Queue(), _Queue(), _Queue()
        self._written_at = np.full(pages // HOT_REGION + 1, -np.inf, np.float32)
        self._changed: deque[tuple[float, Pages]] = deque()
        self._stamp: NDArray[np.float32] | None = None

    # ---- the sweep ----

    def _all_blocks(self) -> Iterator[tuple[int, int]]:
        """Bands of all owners in turn, so that what lies at like places in several is met early; before them those
        that a survey finds to be rich."""
        blocks = self._bands()
        if not self._fine and len(blocks) > 1:
            yield from blocks[self._survey(blocks)].tolist()
        else:
            yield from blocks.tolist()

    def _bands(self) -> NDArray[np.int64]:
        edges = self._view.owner_first.astype(np.int64)
        at = np.arange(0, np.diff(edges).max(initial=0), BAND)
        first = (edges[:-1] + at[:, None]).reshape(-1)
        end = np.minimum(first + BAND, np.tile(edges[1:], len(at)))
        return np.stack([first, end], axis=1)[first < end]

    def _survey(self, blocks: NDArray[np.int64]) -> NDArray[np.intp]:
        """An order of the blocks, by a look at a few pages of each: first those full of zeros, if these are wanted,
        and of contents that lie everywhere."""
        places = (blocks[:, :1] + np.arange(0, BAND, SURVEY)).clip(max=blocks[:, 1:] - 1)
        keys = self._view.peek(places.reshape(-1).astype(np.uint32))
        _, at, counts = np.unique(keys, return_inverse=True, return_counts=True)
        rich = (counts[at] >= 4) & ((keys != 0) | (self._view.objective == "all"))
        share = rich.reshape(places.shape).mean(axis=1)
        return np.argsort(-np.where(share >= 0.5, share, 0), kind="stable")

    def _sweep(self, pages: int) -> None:
        """Go on with the sweep for so many pages; at its end sort what is foreseen, largest groups first."""
        self._owed += pages
        while self._sweeping and self._owed > 0:
            block = next(self._blocks, None)
            if block is None:
                self._sweeping = False
                self._sort()
                return
            self._owed -= block[1] - block[0]
            if self._fine:
                self._foresee_rest(*block)
            else:
                self._foresee(*block)

    def _foresee_rest(self, first: int, end: int) -> None:
        """Peek at the pages of a block that nothing is known of."""
        block = _Block(first, end)
        pages = block.numbers
        todo = ~self._peeked.has(pages) & ~self._pass.given.has(pages) & (self._foreseen[pages] == NO_PAGE)
        self._peek(block, np.flatnonzero(todo))
        self._match(block)

    def _foresee(self, first: int, end: int) -> None:
        """Peek at some of a block of pages, and work out what each will be found to equal."""
        block = _Block(first, end)
        size, stride = block.size, self._stride
        posts = np.append(np.arange(0, size - 1, stride), size - 1)
        self._peek(block, posts)
        # Of what was met before every fourth page at least was peeked at: one of four in a row has its equal there.
        near = posts[block.keys[posts] != 0][:, None] + np.arange(1, WIDTH)
        self._peek(block, near[(near < size) & ~block.peeked[np.minimum(near, size - 1)]])
        if not self._has_runs(block):
            self._peek(block, np.flatnonzero(~block.peeked))
            block.dense = True
            if np.mean(block.keys == 0) < MANY_ZEROS:
                self._second_look(block)
            self._match(block)
            return
        between = np.minimum(np.arange(size) // stride, max(0, len(posts) - 2))
        ends = np.minimum(posts[:, None] + np.arange(WIDTH), size - 1)
        block.fill(_agreed(block.shift[ends]), _agreed(block.partner[ends]), block.keys[posts] == 0, between)
        unknown = ~block.peeked & (block.kind == _UNKNOWN)
        fourth = np.flatnonzero(unknown & (block.numbers % WIDTH == 0))
        self._peek(block, fourth)
        self._refine(block)
        self._second_look(block)
        self._match(block)

    def _has_runs(self, block: _Block) -> bool:
        """Whether of late a page beside one that was met before mostly was met beside that."""
        met = block.peeked[1:] & block.peeked[:-1] & (block.shift[:-1] != 0)
        alike = (block.shift[1:] == block.shift[:-1]) | (block.partner[1:] == block.partner[:-1])
        self._met = self._met / 2 + np.count_nonzero(met)
        self._met_in_runs = self._met_in_runs / 2 + np.count_nonzero(met & alike)
        return bool(self._met < ENOUGH or self._met_in_runs >= self._met / 4)

    def _match(self, block: _Block) -> None:
        """Pages that begin alike are foreseen to be equal, if more speaks for it."""
        known = np.flatnonzero(block.peeked & (block.keys != 0))
        found = self._keys.put(block.keys[known], block.numbers[known].astype(np.uint32)).astype(np.int64)
        block.equal[known] = np.where(found == block.numbers[known], NO_PAGE, found)
        self._confirm(block)
        self._note(block)

    def _peek(self, block: _Block, places: NDArray[np.intp]) -> None:
        """Look at the first line of pages of a block, and which page was seen to begin like each."""
        if places.size:
            pages = block.numbers[places]
            keys = self._view.peek(pages.astype(np.uint32))
            block.peeked[places], block.keys[places] = True, keys
            partner = self._keys.find(keys).astype(np.int64)
            block.partner[places] = partner
            block.shift[places] = np.where(partner == NO_PAGE, 0, pages - partner)

    def _refine(self, block: _Block) -> None:
        """Between pages four apart: what both foresee, or if only one does, a look at each."""
        todo = np.flatnonzero(~block.peeked & (block.kind == _UNKNOWN))
        left = todo - block.numbers[todo] % WIDTH
        inside = (left >= 0) & (left + WIDTH < block.size)
        todo, left = todo[inside], left[inside]
        right = left + WIDTH
        zero = (block.keys == 0) & block.peeked
        both_zero = zero[left] & zero[right]
        same_shift = (block.shift[left] != 0) & (block.shift[left] == block.shift[right])
        same_partner = (block.partner[left] != NO_PAGE) & (block.partner[left] == block.partner[right])
        block.kind[todo[both_zero]] = _ZERO
        block.kind[todo[same_shift]] = _RUN
        block.equal[todo[same_shift]] = block.numbers[todo[same_shift]] - block.shift[left[same_shift]]
        block.kind[todo[same_partner]] = _RUN
        block.equal[todo[same_partner]] = block.partner[left[same_partner]]
        one = (zero[left] ^ zero[right]) | ((block.shift[left] != 0) ^ (block.shift[right] != 0))
        self._peek(block, todo[one & ~(both_zero | same_shift | same_partner)])

    def _second_look(self, block: _Block) -> None:
        """Zero lines in few pages may begin pages that are not zero: their key is that of another line, then."""
        zeros = block.zeros()
        unsure = np.flatnonzero((_run_lengths(zeros) < LONG) & zeros & block.peeked)
        if unsure.size:
            others = self._view.peek(block.numbers[unsure].astype(np.uint32), self._second_line)
            block.keys[unsure] = np.where(others == 0, 0, np.maximum(others ^ np.uint32(0x5BD1E995), 1))

    def _confirm(self, block: _Block) -> None:
        """A page that agrees with another, while no neighbour does with the neighbour, must agree in a second line,
        unless others did so before."""
        equal = block.equal
        shifts = np.where(equal == NO_PAGE, 0, block.numbers - equal)
        alike = (shifts[1:] == shifts[:-1]) & (shifts[1:] != 0)
        sure = block.kind == _RUN
        sure[1:] |= alike
        sure[:-1] |= alike
        unsure = np.flatnonzero((equal != NO_PAGE) & ~sure)
        unsure = unsure[self._copies[equal[unsure]] < PROVEN]
        if unsure.size:
            partners, at = np.unique(equal[unsure], return_inverse=True)
            mine = self._view.peek(block.numbers[unsure].astype(np.uint32), self._second_line)
            theirs = self._view.peek(partners.astype(np.uint32), self._second_line)[at]
            equal[unsure[mine != theirs]] = NO_PAGE

    def _note(self, block: _Block) -> None:
        """Keep what was foreseen, and queue it."""
        numbers, equal, zeros = block.numbers, block.equal, block.zeros()
        self._peeked.add(numbers[block.peeked])
        self._foreseen[numbers[zeros]] = ZERO
        long = block.dense | (_run_lengths(zeros)[zeros] >= LONG)
        zero_pages = numbers[zeros].astype(np.uint32)
        probe = zero_pages % PROBE == 0
        self._zero_probes.put(zero_pages[long & probe])
        self._zeros.put(zero_pages[long & ~probe])
        self._lone_zeros.put(zero_pages[~long])
        members = np.flatnonzero(equal != NO_PAGE)
        pages, roots = self._expect(numbers[members].astype(np.uint32), equal[members].astype(np.uint32))
        probe = roots % PROBE == 0
        for queue, which in (
            (self._probes, probe),
            (self._many, ~probe & (self._copies[roots] > 1)),
            (self._few, ~probe & (self._copies[roots] == 1)),
        ):
            queue.put(self._in_groups(pages[which], roots[which]))

    def _in_groups(self, pages: Pages, roots: Pages) -> Pages:
        """Pages and those that they equal, group by group, so that each is compared with what was read just before."""
        first = once(roots)
        both, equal = np.concatenate([first, pages]), np.concatenate([first, roots])
        return both[np.lexsort((both, both != equal, equal))]

    def _expect(self, pages: Pages, equal: Pages) -> tuple[Pages, Pages]:
        """Foresee that pages equal others, or what these are foreseen to equal; which do, and what."""
        further = self._foreseen[equal]
        roots = np.where(further < ZERO, further, equal)
        other = roots != pages
        pages, roots = pages[other], roots[other]
        self._foreseen[pages] = roots
        grown, more = np.unique(roots, return_counts=True)
        self._copies[grown] = np.minimum(self._copies[grown] + more, 0xFFFF)
        return pages, roots

    def _sort(self) -> None:
        """What is foreseen and was not given yet, group by group, the largest first, the first page before its
        copies."""
        foreseen = (self._foreseen < ZERO) | (self._copies > 0)
        pages = np.flatnonzero(foreseen).astype(np.uint32)
        pages = pages[~self._pass.given.has(pages)]
        roots = np.where(self._foreseen[pages] < ZERO, self._foreseen[pages], pages)
        order = np.lexsort((pages, pages != roots, roots, -self._copies[roots].astype(np.int32)))
        self._many, self._few = _Queue(), _Queue()
        self._probes.put_first(pages[order][roots[order] % PROBE == 0])
        self._many.put(pages[order])

    # ---- what is given ----

    def next(self, count: int) -> Pages:
        """The best that is foreseen; when nothing is left, the others in random order."""
        self._notice_writes()
        self._sweep(count * self._ahead)
        while True:
            parts: list[Pages] = []
            for queue, sure in self._queues():
                while count and queue.pages:
                    pages = self._take(queue, count, sure)
                    count -= len(pages)
                    parts.append(pages)
            if count and not self._sweeping and self._look_again():
                if not parts:
                    continue
            elif count and not self._sweeping and not self._fine:
                self._fine, self._sweeping, self._blocks = True, True, self._all_blocks()
                if not parts:
                    self._sweep(count * self._ahead)
                    continue
            elif count and not self._sweeping:
                pages = self._pass.take(self._rest.next(count, self._pass.given))
                parts.append(pages)
                if not len(pages) or not self._pass.left:
                    self._pass.begin()
                    self._rest.begin()
            given = np.concatenate([NONE, *parts])
            if len(given):
                return given
            self._sweep(BAND)

    def _queues(self) -> list[tuple[_Queue, bool]]:
        """Best first, and whether what turned out to be doubtful or hot is to be put off."""
        zeros = [(self._zero_probes, True), (self._zeros, True)] if self._view.objective == "all" else []
        groups = [(self._probes, True), (self._many, True)]
        if self._sweeping and not self._fine:
            # There is better to be had: what a visit finds for sure, each time.
            return zeros or groups
        lone = [(self._lone_zeros, True)] if zeros else []
        return [
            *zeros,
            *groups,
            (self._few, True),
            (self._edges, True),
            *lone,
            (self._doubtful, False),
            (self._hot, False),
        ]

    def _take(self, queue: _Queue, count: int, sure: bool) -> Pages:
        pages = queue.take(count)
        if sure:
            hot = self._written_at[pages // HOT_REGION] > self._view.now - self._cool
            self._hot.put(pages[hot])
            pages = pages[~hot]
            kind, region = self._regions(pages)
            tried, found = self._tried[kind, region], self._found[kind, region]
            doubtful = (tried >= 2) & (found.astype(np.int32) * 2 < tried)
            self._doubtful.put(pages[doubtful])
            pages = pages[~doubtful]
        return self._pass.take(pages)

    def _regions(self, pages: Pages) -> tuple[NDArray[np.intp], Pages]:
        """Where it is learnt whether what is foreseen of these pages is right: for zero pages where they lie, for
        others where the pages lie that they equal."""
        foreseen = self._foreseen[pages]
        is_group = (foreseen != ZERO).astype(np.intp)
        return is_group, np.where(foreseen < ZERO, foreseen, pages) // np.uint32(REGION)

    def feedback(self, pages: Pages, outcomes: NDArray[np.uint8], partners: Pages) -> None:
        """Learns where what was foreseen is right."""
        del partners
        tried = self._foreseen[pages] <= ZERO
        pages, outcomes = pages[tried], outcomes[tried]
        kind, region = self._regions(pages)
        zero = outcomes == Outcome.ZERO
        found = np.where(
            kind == 0,
            zero,
            zero | np.isin(outcomes, (Outcome.SHARED_NEW, Outcome.SHARED, Outcome.ALREADY_SHARED)),
        )
        np.add.at(self._tried, (kind, region), 1)
        np.add.at(self._found, (kind, region), found.astype(np.uint16))

        self._follow(pages[found & (kind == 1)])

    def _follow(self, pages: Pages) -> None:
        """What equals another page goes on beside it, as far as nothing is foreseen there: worth a visit later."""
        roots = self._foreseen[pages]
        pages, roots = pages[roots < ZERO].astype(np.int64), roots[roots < ZERO].astype(np.int64)
        for step in (1, -1):
            beside, equal = pages + step, roots + step
            there = (np.minimum(beside, equal) >= 0) & (np.maximum(beside, equal) < self._view.pages)
            beside, equal = beside[there].astype(np.uint32), equal[there].astype(np.uint32)
            new = (self._foreseen[beside] == NO_PAGE) & (self._copies[beside] == 0) & ~self._pass.given.has(beside)
            new &= self._foreseen[equal] != ZERO
            beside, equal = beside[new], equal[new]
            pages_there, equal = self._expect(beside, equal)
            self._edges.put(once(equal))
            self._edges.put(once(pages_there))

    # ---- memory that changes ----

    def _notice_writes(self) -> None:
        """Pages that were written to are looked at again when they have been left alone for a while."""
        view = self._view
        written = view.written()
        if len(written):
            if self._stamp is None:
                self._stamp = np.full(view.pages, -np.inf, np.float32)
            self._stamp[written] = view.now
            self._written_at[written // HOT_REGION] = view.now
            self._changed.append((view.now, np.unique(written)))
            self._foreseen[written] = NO_PAGE

    def _look_again(self) -> bool:
        """Peek at pages that were written to, and left alone since; whether there were any."""
        if not self._changed or self._changed[0][0] > self._view.now - self._calm or self._stamp is None:
            return False
        time, pages = self._changed.popleft()
        pages = pages[self._stamp[pages] == np.float32(time)]
        self._pass.give_back(pages)
        keys = self._view.peek(pages)
        found = np.full(len(pages), NO_PAGE, np.uint32)
        found[keys != 0] = self._keys.put(keys[keys != 0], pages[keys != 0])
        equal = (found != NO_PAGE) & (found != pages)
        self._foreseen[pages[keys == 0]] = ZERO
        self._zeros.put(pages[keys == 0])
        self._probes.put(self._expect(pages[equal], found[equal])[0])
        return True


_UNKNOWN, _ZERO, _RUN = 0, 1, 2


class _Block:
    """What is found out about some pages one behind the other: arrays of one for each."""

    def __init__(self, first: int, end: int) -> None:
        self.size = size = end - first
        self.dense = False  # all were peeked at, for there are no runs
        self.numbers = np.arange(first, end, dtype=np.int64)
        self.peeked, self.keys = np.zeros(size, np.bool_), np.zeros(size, np.uint32)
        self.partner = np.full(size, NO_PAGE, np.int64)  # the first page that begins like it
        self.shift = np.zeros(size, np.int64)  # how far behind that it lies
        self.kind = np.zeros(size, np.uint8)  # what lies between pages that were peeked at
        self.equal = np.full(size, NO_PAGE, np.int64)  # what is foreseen

    def zeros(self) -> Flags:
        """Which pages are foreseen to be zero."""
        zeros: Flags = (self.kind == _ZERO) | (self.peeked & (self.keys == 0))
        return zeros

    def fill(
        self,
        shift: NDArray[np.int64],
        partner: NDArray[np.int64],
        zero: Flags,
        between: NDArray[np.intp],
    ) -> None:
        """Foresee the pages between posts which agree; page i lies behind post ``between[i]``."""
        if len(zero) < 2:
            return
        same_shift = (shift[1:] == shift[:-1]) & (shift[1:] != 0)
        same_partner = (partner[1:] == partner[:-1]) & (partner[1:] != 0)
        kind = np.where(zero[1:] & zero[:-1], _ZERO, np.where(same_shift | same_partner, _RUN, _UNKNOWN))
        self.kind = kind.astype(np.uint8)[between]
        self.kind[self.peeked & (self.kind == _RUN)] = _UNKNOWN
        runs = np.flatnonzero(self.kind == _RUN)
        at = between[runs]
        self.equal[runs] = np.where(same_partner[at], partner[at], self.numbers[runs] - shift[at])


def _agreed(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each row, what all agree on that say anything, 0 if they don't: shifts, 0 for none, or partners."""
    said = np.where(values == NO_PAGE, 0, values)
    most = said.max(axis=1)
    least = np.where(said == 0, np.iinfo(np.int64).max, said).min(axis=1)
    lowest = said.min(axis=1)
    value = np.where(lowest < 0, lowest, most)
    agreed = np.where(lowest < 0, (most <= 0) & (least == lowest), least == most)
    return np.where(agreed, value, 0)


class _Queue:
    """Pages in batches, first in, first out."""

    def __init__(self) -> None:
        self._parts: deque[Pages] = deque()
        self.pages = 0

    def put(self, pages: Pages) -> None:
        if len(pages):
            self._parts.append(pages)
            self.pages += len(pages)

    def put_first(self, pages: Pages) -> None:
        if len(pages):
            self._parts.appendleft(pages)
            self.pages += len(pages)

    def take(self, count: int) -> Pages:
        part = self._parts.popleft()
        if len(part) > count:
            self._parts.appendleft(part[count:])
            part = part[:count]
        self.pages -= len(part)
        return part


def _run_lengths(flags: Flags) -> NDArray[np.intp]:
    """For each place, how long the run is that it lies in."""
    edges = np.flatnonzero(np.diff(flags.view(np.int8))) + 1
    lengths = np.diff(edges, prepend=0, append=len(flags))
    return np.repeat(lengths, lengths)
