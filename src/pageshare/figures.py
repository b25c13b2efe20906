"""Figures 4 and 5 of the paper on page sharing in ESX, by images that are made to a model and then scanned.

The paper is Waldspurger, "Memory Resource Management in VMware ESX Server", OSDI 2002. Names in capitals hold what it
published; everything else is computed. MB are of 2^20 bytes, as in the paper, and percentages are of all memory of
the guests. docs/figures.md tells what is asked and what came out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare import limits, policies
from pageshare.core import FrameTable
from pageshare.report import Report
from pageshare.scanner import batch_pages, scan
from pageshare.space import PageSpace
from pageshare.synth import Common, Contents, Plan, Spec, Zipf

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "pageshare-figures/1"
MB = 1 << 20
PAGE = 4096
_BLOCK = 2 << 20
"""Bytes of an image made at once: they fit into the cache."""

Progress = Callable[[int], None]
"""Takes the bytes of memory made so far."""


@dataclass(frozen=True)
class Point:
    """What ``count`` guests with ``mb`` of memory together share: ``shared`` and ``reclaimed`` are percent of it,
    ``zero_mb`` are MB."""

    count: int
    mb: float
    shared: float
    reclaimed: float
    zero_mb: float

    @classmethod
    def of(cls, report: Report) -> Point:
        """From a full scan, an owner for each guest; their memory are the pages whose content is known.

        >>> Point.of(scan([bytes(1 << 20), bytes(1 << 20)]))
        Point(count=2, mb=2.0, shared=100.0, reclaimed=99.8046875, zero_mb=2.0)
        """
        pages, whole = report.pages, max(1, report.pages.known)
        mb, zero_mb = (count * report.page_size / MB for count in (pages.known, pages.zero))
        return cls(len(report.owners), mb, 100 * pages.shared / whole, 100 * pages.reclaimed / whole, zero_mb)

    @property
    def zero(self) -> float:
        """Zero pages in percent of the memory."""
        return 100 * self.zero_mb / self.mb if self.mb else 0.0


GUEST_MB = 40
FIGURE_4 = tuple(
    Point(count, GUEST_MB * count, *values)
    for count, values in enumerate(
        [
            (16.9, 12.6, 2.7),
            (61.1, 36.4, 5.3),
            (64.8, 45.9, 8.0),
            (66.0, 51.0, 10.3),
            (66.6, 54.3, 13.0),
            (66.8, 55.8, 15.6),
            (66.4, 56.9, 17.2),
            (67.4, 58.6, 19.9),
            (67.0, 59.1, 22.0),
            (67.0, 59.9, 24.4),
        ],
        start=1,
    )
)
"""Figure 4: 1 to 10 Linux guests of 40 MB that do the same work. Read off the curves, so to some tenths only."""

FITTED_TO = (1, 2, 4, 8)
"""The counts of guests that the model was fitted to. At the others it predicts."""

RATES = (200, 10_000)
"""Pages looked at in a second, by all guests together: the default and the most that ESX 3.0.1 can be set to (its
setting Mem.ShareScanTotal). The paper (section 4.3) limits the rate, and leaves it to the configuration."""


@dataclass(frozen=True)
class Model:
    """What the pages of identical guests hold, in fractions of a guest's pages; what they leave is in no other page.

    ``zero``: zero pages. ``base``: contents that all guests hold, each once. ``common``: contents that each guest
    holds with ``probability``, independently of the others. ``duplicate``: pages whose content is drawn from
    ``contents`` (as many as this fraction of a guest's pages), all equally likely, the same ones in all guests: these
    are what a guest shares with itself.
    """

    zero: float
    duplicate: float
    contents: float
    base: float
    common: float
    probability: float

    def spec(self, images: int, size: int, *, page_size: int = PAGE, seed: int = 1) -> Spec:
        """Images of that many bytes each, for synth. The first of them are those of a spec with fewer images.

        >>> FITTED.spec(2, 40 * MB).popularity
        Zipf(exponent=0, contents=1133)
        """
        return Spec(
            images=images,
            size=size,
            page_size=page_size,
            seed=seed,
            zero=self.zero,
            duplicate=self.duplicate,
            base=self.base,
            popularity=Zipf(exponent=0, contents=max(1, round(self.contents * (size // page_size)))),
            common=Common(self.common, self.probability),
        )


# What tools/fit_figure4.py prints; a test fits again and compares.
FITTED = Model(zero=0.0650, duplicate=0.1426, contents=0.1106, base=0.3624, common=0.1036, probability=0.5049)


@dataclass(frozen=True)
class Workload:
    """A row of figure 5: ``guests`` with ``mb`` of memory together, and of it the MB (and percent) that were
    ``shared``, ``reclaimed`` and, of the reclaimed, ``zero``; None where the paper does not say."""

    name: str
    system: str
    guests: int
    mb: int
    shared: int
    shared_percent: float
    reclaimed: int
    reclaimed_percent: float
    zero: int | None

    def model(self) -> Model:
        """The model that is expected to share, reclaim and hold as zero what was published.

        Three numbers make three parameters, so this predicts none of them. Copies of a content are spread over all
        guests as if by chance; published is nothing about that. Where zero pages are not published there are none.
        """
        zero = self.zero or 0
        shared, kept = self.shared - zero, self.shared - self.reclaimed
        draws = _draws_for(shared / kept)
        duplicate = shared / self.mb / (1 - exp(-draws))
        # Of a pool that all guests draw from, in fractions of one guest.
        return Model(zero / self.mb, duplicate, self.guests * duplicate / draws, 0.0, 0.0, 1.0)

    def spec(self, *, page_size: int = PAGE, seed: int = 1) -> Spec:
        """Images for synth with as many pages as the guests had of 4096 bytes, in guests of equal size."""
        pages = round(self.mb * MB / PAGE / self.guests)
        return self.model().spec(self.guests, pages * page_size, page_size=page_size, seed=seed)


FIGURE_5 = (
    Workload("A", "Windows NT", 10, 2048, 880, 42.9, 673, 32.9, None),
    Workload("B", "Linux", 9, 1846, 539, 29.2, 345, 18.7, 70),
    Workload("C", "Linux", 5, 1658, 165, 10.0, 120, 7.2, 25),
)
"""Figure 5: three groups of guests in production."""


def _draws_for(copies: float) -> float:
    """How often each content of a pool is drawn on average, if those drawn at least twice have ``copies`` (> 2).

    The number of draws of a content is Poisson's, nearly, so with a mean of x the contents that are shared have
    x (1 - e^-x) / (1 - e^-x - x e^-x) copies: 2 for a small x, and growing.

    >>> round(_draws_for(3.0), 2)
    2.15
    """
    low, high = 1e-6, copies
    for _ in range(60):
        x = (low + high) / 2
        once, none = x * exp(-x), exp(-x)
        low, high = (x, high) if (x - once) / (1 - none - once) < copies else (low, x)
    return low


@dataclass(frozen=True)
class Found:
    """How much of the saving was found when each page had been looked at so often on average.

    ``visits`` are visits a page; ``draws`` and ``permutation`` fractions of what a full scan finds, where pages are
    drawn at random each time (ESX's way), and where each pass takes every page once, in random order.
    """

    visits: float
    draws: float
    permutation: float


STEPS = tuple(step / 8 for step in range(1, 33))
"""Visits a page at which the share found is counted: so close that lines between them do."""
TOLD = (0.125, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0)
"""Those at which it is told."""


@dataclass(frozen=True)
class Convergence:
    """How fast a scan in random order finds what can be saved of ``pages`` pages; nothing is written meanwhile."""

    pages: int
    found: tuple[Found, ...]

    def minutes(self, visits: float, rate: int) -> float:
        """Minutes that so many visits a page take at ``rate`` pages a second."""
        return visits * self.pages / rate / 60

    def visits_until(self, share: float) -> float:
        """Visits a page until that share of the saving is found by draws; between what was measured, a line."""
        measured = [Found(0, 0, 0), *self.found]
        return float(np.interp(share, [each.draws for each in measured], [each.visits for each in measured]))

    def told(self) -> list[Found]:
        """What was found at the visits of ``TOLD``."""
        return [each for each in self.found if each.visits in TOLD]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "pages": self.pages,
            "rates": list(RATES),
            "found": [
                {**asdict(each), "minutes": [self.minutes(each.visits, rate) for rate in RATES]} for each in self.told()
            ],
        }


def convergence(space: PageSpace, steps: Sequence[float] = STEPS, seed: int = 1) -> Convergence:
    """Scan a space with ESX's frame table in two random orders, and count at each of ``steps`` (ascending, in visits
    a page) what share of its whole saving is found.

    >>> convergence(PageSpace.of({"a": bytes(40960), "b": bytes(40960)}), [1.0]).found[0].permutation
    1.0
    """
    table = FrameTable(space, seed=seed)
    table.scan()
    whole = _reclaimed(table)
    shares = []
    for name in ("random-with-replacement", "random-permutation"):
        table, policy = FrameTable(space, seed=seed), policies.create(name, policies.View(space, seed=seed))
        visited, found = 0, 0
        mine = []
        for visits in steps:
            until = round(visits * space.readable)
            while visited < until and found < whole:
                pages = policy.next(min(until - visited, batch_pages(space)))
                table.scan(pages)
                visited += len(pages)
            found = _reclaimed(table)
            mine.append(found / whole if whole else 1.0)
        shares.append(mine)
    return Convergence(space.readable, tuple(map(Found, steps, *shares)))


def _reclaimed(table: FrameTable) -> int:
    """Pages saved so far. All zero pages are one frame: nothing here has more than one sharing domain."""
    tally = table.tally()
    return tally.shared - tally.kept + max(0, tally.zero - 1)


def _images(spec: Spec, progress: Progress) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The images of a spec in memory, one after the other, with their names."""
    plan, contents = Plan(spec), Contents(spec)
    at_once = max(1, _BLOCK // spec.page_size)
    done = 0
    for i, name in enumerate(spec.names):
        numbers, _ = plan.image(i)
        image = np.empty((spec.pages, spec.page_size), np.uint8)
        for first in range(0, spec.pages, at_once):
            part = slice(first, min(first + at_once, spec.pages))
            contents.pages(numbers[part], image[part])
            progress(done := done + (part.stop - first) * spec.page_size)
        yield name, image


def make(spec: Spec, progress: Progress | None = None) -> dict[str, NDArray[np.uint8]]:
    """The images of a spec in memory, by name. Raises OSError if there is not enough memory for them.

    >>> {name: pages.shape for name, pages in make(Spec(images=2, size=1 << 16)).items()}
    {'guest1.raw': (16, 4096), 'guest2.raw': (16, 4096)}
    """
    needed, free = spec.images * spec.size, limits.memory().free
    if needed + needed // 8 > free:
        raise OSError(f"the images take {needed:,} bytes of memory, {free:,} are free")
    return dict(_images(spec, progress or (lambda _done: None)))


@dataclass(frozen=True)
class Figure4:
    """Figure 4, from 1 to 10 made guests: what scans found, and how fast ESX would find it in all ten.

    ``real`` is the same curve of dumps that somebody gave, ``owners`` are their names.
    """

    spec: Spec
    points: tuple[Point, ...]
    convergence: Convergence
    real: tuple[Point, ...] = ()
    owners: tuple[str, ...] = ()

    def deviations(self, *, fitted: bool) -> dict[str, tuple[float, int]]:
        """The largest deviation of ``shared``, ``reclaimed`` and ``zero`` from what was published, in points (percent
        of the guests' memory), and at which count: of those fitted to, or of those predicted."""
        pairs = [
            (mine, published)
            for mine, published in zip(self.points, FIGURE_4, strict=True)
            if (mine.count in FITTED_TO) is fitted
        ]
        return {
            name: max((abs(getattr(mine, name) - getattr(published, name)), mine.count) for mine, published in pairs)
            for name in ("shared", "reclaimed", "zero")
        }

    def to_dict(self) -> dict[str, Any]:
        """As ``pageshare figures 4 --json`` prints it."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "figure": 4,
            "guest_mb": GUEST_MB,
            "fitted_to": list(FITTED_TO),
            "model": asdict(FITTED),
            "spec": self.spec.to_dict(),
            "guests": [
                {**asdict(mine), "fitted": mine.count in FITTED_TO, "published": _published(published)}
                for mine, published in zip(self.points, FIGURE_4, strict=True)
            ],
            "convergence": self.convergence.to_dict(),
        }
        if self.real:
            document["real"] = {
                "owners": list(self.owners),
                "guests": [asdict(point) for point in self.real],
            }
        return document


def _published(point: Point) -> Mapping[str, float]:
    return {name: value for name, value in asdict(point).items() if name not in ("count", "mb")}


def figure_4(progress: Progress | None = None, seed: int = 1) -> Figure4:
    """Make ten guests by the fitted model, and scan the first, the first two, and so on. Takes about 460 MB."""
    spec = FITTED.spec(len(FIGURE_4), GUEST_MB * MB, seed=seed)
    images = make(spec, progress)
    names = list(images)
    points = [Point.of(scan({name: images[name] for name in names[: i + 1]}, seed=seed)) for i in range(len(names))]
    return Figure4(spec, tuple(points), convergence(PageSpace.of(images), seed=seed))


@dataclass(frozen=True)
class Made:
    """A workload of figure 5 as it was made and scanned.

    In MB of 4096-byte pages: ``mb`` in all, ``shared``, ``reclaimed``, ``zero``; of what is reclaimed and not zero,
    ``intra`` is what guests would reclaim each alone, ``inter`` the rest.
    """

    workload: Workload
    spec: Spec
    mb: float
    shared: float
    reclaimed: float
    zero: float
    intra: float
    inter: float
    convergence: Convergence

    @property
    def shared_percent(self) -> float:
        """Of all memory."""
        return 100 * self.shared / self.mb

    @property
    def reclaimed_percent(self) -> float:
        """Of all memory."""
        return 100 * self.reclaimed / self.mb

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        published = asdict(self.workload)
        names = [published.pop(key) for key in ("name", "system", "guests")]
        return {
            **dict(zip(("name", "system", "guests"), names, strict=True)),
            **{key: getattr(self, key) for key in _FOUND},
            "published": published,
            "model": asdict(self.workload.model()),
            "spec": self.spec.to_dict(),
            "convergence": self.convergence.to_dict(),
        }


_FOUND = ("mb", "shared", "shared_percent", "reclaimed", "reclaimed_percent", "zero", "intra", "inter")


@dataclass(frozen=True)
class Figure5:
    """Figure 5: its three workloads, made with pages of ``page_size`` bytes."""

    page_size: int
    workloads: tuple[Made, ...]

    def to_dict(self) -> dict[str, Any]:
        """As ``pageshare figures 5 --json`` prints it."""
        return {
            "format": FORMAT,
            "figure": 5,
            "page_size": self.page_size,
            "workloads": [each.to_dict() for each in self.workloads],
        }


SMALL_PAGE = 512
"""Bytes of a page that stands for one of 4096: how pages are shared does not depend on how long they are."""


def figure_5(progress: Progress | None = None, seed: int = 1, page_size: int = SMALL_PAGE) -> Figure5:
    """Make and scan the three workloads with all their pages, each of ``page_size`` bytes: 288 MB at a time, or 2.3 GB
    with pages of 4096 bytes."""
    specs = [workload.spec(page_size=page_size, seed=seed) for workload in FIGURE_5]
    made_before = accumulate((spec.images * spec.size for spec in specs), initial=0)
    return Figure5(
        page_size,
        tuple(
            _made(workload, spec, _after(before, progress))
            for workload, spec, before in zip(FIGURE_5, specs, made_before, strict=False)
        ),
    )


def _after(before: int, progress: Progress | None) -> Progress | None:
    """Progress on what is made when ``before`` bytes were made already."""
    return progress and (lambda done: progress(before + done))


def _made(workload: Workload, spec: Spec, progress: Progress | None) -> Made:
    images = make(spec, progress)
    report = scan(images, page_size=spec.page_size, seed=spec.seed)
    pages, nonzero = report.pages, report.nonzero

    def mb(count: int) -> float:
        return count * PAGE / MB

    return Made(
        workload,
        spec,
        mb=mb(pages.known),
        shared=mb(pages.shared),
        reclaimed=mb(pages.reclaimed),
        zero=mb(pages.zero),
        intra=mb(nonzero.reclaimed_intra),
        inter=mb(nonzero.reclaimed_inter),
        convergence=convergence(PageSpace.of(images, page_size=spec.page_size), seed=spec.seed),
    )


def figure_5_bytes(page_size: int) -> int:
    """How many bytes ``figure_5`` makes in all, for a progress bar."""
    return sum(spec.images * spec.size for spec in (each.spec(page_size=page_size) for each in FIGURE_5))
