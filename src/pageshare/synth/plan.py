"""Which content each page gets, as a number.

    0                     zero
    1 ..                  the base, in the order in which it lies in every image
    .. then               the pool of common contents
    .. then               the contents drawn by popularity
    first_unique ..       one for each unique page, image after image
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pageshare.synth import draw
from pageshare.synth.spec import MOST_CONTENTS, MOST_PAGES, Counts, Spec, SpecError, Zipf

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Plan:
    """The contents of all pages of all images of a spec; computed an image at a time, the same every time.

    ``pools`` is how many contents there are that more than one page may hold: numbers from there on are unique.
    ``holes`` is how many pages of each image are holes in its file. Raises SpecError for more contents than 32
    bits can number, and for given counts that do not fit.

    >>> plan = Plan(Spec(images=2, size=8 * 4096, zero=0.5, duplicate=0.25))
    >>> numbers, holes = plan.image(0)
    >>> len(numbers), int((numbers == 0).sum()), int((numbers >= plan.pools).sum()), int(holes.sum())
    (8, 4, 2, 0)
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        fractions = (spec.zero, spec.base, spec.common.fraction, spec.duplicates)
        # Sums are rounded, not parts: the parts never exceed the whole. (sum() is not the same in all Pythons.)
        ends = [min(spec.pages, round(math.fsum(fractions[: i + 1]) * spec.pages)) for i in range(4)]
        self._zeros, self._base, self._common, duplicates = np.diff(ends, prepend=0).tolist()
        self.holes: int = round(spec.sparse * self._zeros)
        self._duplicates = [duplicates] * spec.images
        rest = spec.pages - ends[2]
        if isinstance(spec.popularity, Counts):
            total = sum(spec.popularity.counts)
            dealt = [total * i // spec.images for i in range(spec.images + 1)]
            self._duplicates = np.diff(dealt).tolist()
            if max(self._duplicates) > rest:
                raise SpecError(
                    f"popularity.counts: {max(self._duplicates)} of these pages are to lie in one image, where"
                    f" {rest} are left for them"
                )
        self._uniques = [rest - each for each in self._duplicates]

        self._first_common = 1 + self._base
        self._common_pool = max(self._common, round(self._common / spec.common.probability))
        self._first_duplicate = self._first_common + self._common_pool
        popularity = spec.popularity
        contents = len(popularity.counts) if isinstance(popularity, Counts) else popularity.contents
        self.pools = self._first_duplicate + contents
        if self._common_pool > max(MOST_CONTENTS, spec.pages):
            raise SpecError(f"common.probability: so small a one makes {self._common_pool} contents; that is too many")
        if self.pools + sum(self._uniques) > MOST_PAGES:
            raise SpecError("size: there would be more than 2**32 - 1 different contents")
        if isinstance(popularity, Counts):
            all_drawn = np.repeat(np.arange(contents, dtype=np.uint32), popularity.counts)
            self._dealt = all_drawn[draw.order(self._stream("deal"), len(all_drawn))]
        else:
            self._thresholds = _zipf_thresholds(popularity)

    def _stream(self, *purpose: int | str) -> int:
        return draw.stream(self.spec.seed, *purpose)

    def image(self, number: int) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Content numbers, and which pages are holes, of image ``number`` (from 0): two arrays of ``spec.pages``."""
        run, pages = self.spec.run, self.spec.pages
        uniques, duplicates = self._uniques[number], self._duplicates[number]
        # The base lies at the same place in all images; the others share what it leaves.
        base = _arranged([(self._base, run.base), (pages - self._base, 1)], self._stream("base")) == 0
        other = _arranged(
            [
                (self.holes, run.zero),
                (self._zeros - self.holes, run.zero),
                (duplicates, run.duplicate),
                (self._common, run.common),
                (uniques, run.unique),
            ],
            self._stream("arrange", number),
        )
        numbers_of_others = np.zeros(len(other), np.uint32)
        numbers_of_others[other == 2] = self._first_duplicate + self._drawn(number)
        held = draw.subset(self._stream("common", number), self._common_pool, self._common)
        numbers_of_others[other == 3] = self._first_common + held
        first_unique = self.pools + sum(self._uniques[:number])
        numbers_of_others[other == 4] = np.arange(first_unique, first_unique + uniques)

        numbers = np.empty(pages, np.uint32)
        numbers[base] = np.arange(1, 1 + self._base)
        numbers[~base] = numbers_of_others
        holes = np.zeros(pages, np.bool_)
        holes[~base] = other == 0
        return numbers, holes

    def _drawn(self, number: int) -> NDArray[np.integer]:
        """The duplicates of an image, in page order, counted from 0."""
        count = self._duplicates[number]
        if isinstance(self.spec.popularity, Counts):
            before = sum(self._duplicates[:number])
            return self._dealt[before : before + count]
        drawn = draw.first(self._stream("draw", number), count) >> np.uint64(1)
        found: NDArray[np.integer] = np.searchsorted(self._thresholds, drawn, side="right")
        return found


def _arranged(classes: Sequence[tuple[int, float]], start: int) -> NDArray[np.uint8]:
    """The class of each page: each class has so many pages, in runs of so many on average, in random order.

    Runs of one class that meet by chance make a longer one.
    """
    lengths = [_lengths(pages, run, draw.stream(start, i)) for i, (pages, run) in enumerate(classes)]
    owner = np.repeat(np.arange(len(classes), dtype=np.uint8), [len(each) for each in lengths])
    order = draw.order(start, len(owner))
    return np.repeat(owner[order], np.concatenate(lengths)[order])


def _lengths(pages: int, run: float, start: int) -> NDArray[np.integer]:
    """``pages`` cut at random into runs that are ``run`` long on average."""
    if not pages:
        return np.empty(0, np.int64)
    runs = min(pages, max(1, round(pages / run)))
    cuts = draw.subset(start, pages - 1, runs - 1) + 1
    return np.diff(cuts, prepend=0, append=pages)


def _zipf_thresholds(zipf: Zipf) -> NDArray[np.uint64]:
    """A uniform number of 63 bits stands for the content of the first threshold above it."""
    weights = 1 / _power(np.arange(1, zipf.contents + 1, dtype=np.float64), zipf.exponent)
    edges = np.cumsum(weights)
    thresholds: NDArray[np.uint64] = np.ldexp(edges / edges[-1], 63).astype(np.uint64)
    return thresholds


def _power(base: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """``base ** exponent`` by multiplication and square roots alone.

    IEEE 754 fixes these to the last bit; what pow gives depends on the machine.
    """
    result = np.ones_like(base)
    root, rest = base, exponent
    for _ in range(int(exponent)):
        result *= base
        rest -= 1
    while rest:
        root, rest = np.sqrt(root), rest * 2
        if rest >= 1:
            result *= root
            rest -= 1
    return result
