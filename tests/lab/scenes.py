"""Random hosts with random guests, small ones in which much goes on."""

import numpy as np

from lab.scripted import STEP
from pageshare.lab.balloon import Driver, Polls
from pageshare.lab.clock import Clock
from pageshare.lab.disk import Disk
from pageshare.lab.estimators.esx import Esx
from pageshare.lab.free_pages import FreePageHinting, FreePageReporting
from pageshare.lab.guest import Guest
from pageshare.lab.host import Host
from pageshare.lab.programs import READ, RELEASED, WRITTEN, ZERO, Touch
from pageshare.lab.sharing import Sharing
from pageshare.lab.thresholds import Thresholds
from pageshare.lab.view import View

PLAIN = ["random-with-replacement", "sequential", "random-permutation"]
OTHERS = ["ksm", "peek-runs", "region-bandit", "zero-first", "hash-ranges"]


KINDS = [READ, WRITTEN, WRITTEN | ZERO, RELEASED]
KINDS += [READ | RELEASED, WRITTEN | RELEASED, WRITTEN | ZERO | RELEASED, ZERO | RELEASED]


class Erratic:
    """Reads, writes, zeroes and frees whatever pages; some contents are held by others too."""

    def __init__(self, rng, pages, *, file_pages=None):
        self.rng, self.pages = rng, pages
        self.busy, self.often = rng.uniform(0.3, 1.1), rng.dirichlet([4, 8, 1.0, 0.3, 0.2, 0.2, 0.1, 0.1])
        self.common = rng.uniform() < 0.7
        if file_pages is not None:
            self.file_pages = file_pages

    def run(self, _begin, _end):
        rng = self.rng
        while rng.uniform() < self.busy * 0.7:
            most = min(self.pages, 400 if rng.uniform() < 0.05 else 60)
            count = int(rng.integers(1, most + 1))
            if rng.uniform() < 0.5:
                pages = (rng.integers(self.pages) + np.arange(count)) % self.pages
            else:
                pages = rng.choice(self.pages, count, replace=False)
            kinds = rng.choice(KINDS, count, p=self.often).astype(np.uint8)
            work = rng.uniform(size=count) < 0.5 if rng.uniform() < 0.3 else True
            contents = rng.integers(0, 12, count).astype(np.uint64) if self.common else None
            yield Touch(pages.astype(np.uint32), kinds, work, int(rng.integers(3)), contents)


def stray(guest, pages):
    """The guest's kernel reads whatever pages, free ones and the balloon's too."""
    guest.host.touch(guest, np.unique(pages).astype(np.uint32))


def scene(seed):
    """A host that is ready to run, what else is in it, and whether its table finds all that is equal."""
    rng = np.random.default_rng(seed)
    sizes = [int(rng.integers(100, 500)) for _ in range(rng.integers(2, 5))]
    clock = Clock()
    fast = Disk(clock, latency=float(rng.choice([50, 1000, 5000])), bandwidth=float(rng.choice([2000, 25_600])))
    marks = np.sort(rng.uniform(0, 0.2, 4)) if rng.uniform() < 0.5 else np.array([0.01, 0.02, 0.04, 0.06])
    host = Host(
        max(180, int(sum(sizes) * rng.uniform(0.3, 0.8))),
        seed=seed,
        clock=clock,
        disk=fast,
        tax=float(rng.choice([0, 0.5, 0.75, 0.95])),
        balance=int(rng.choice([STEP, 10 * STEP])),
        thresholds=Thresholds(*marks[::-1].tolist(), hysteresis=float(rng.choice([0.5, 1.0, 1.25, 1.6]))),
    )
    for size in sizes:
        programs = []
        for _ in range(rng.integers(1, 3)):
            pages = int(rng.integers(size // 2, size + 20))
            files = int(rng.integers(pages)) if rng.uniform() < 0.3 else None
            programs.append(Erratic(rng, pages, file_pages=files))
        guest = Guest(
            host,
            size,
            programs,
            least=int(rng.integers(size // 2)),
            shares=float(rng.choice([size, 100, 1])),
            start=int(rng.integers(STEP)),
            halts=bool(rng.integers(2)),
            disk=Disk(clock, latency=float(rng.choice([50, 5000]))),
            deflate_on_oom=bool(rng.integers(2)),
        )
        if rng.uniform() < 0.7:
            period = int(rng.choice([STEP // 7, STEP, 3 * STEP]))
            polls = Polls(
                period,
                phase=int(rng.integers(period)),
                fastest=period // 4 if rng.uniform() < 0.3 else None,
                doorbell=bool(rng.uniform() < 0.4),
                pleads=bool(rng.uniform() < 0.3),
            )
            Driver(
                guest,
                polls,
                latency=int(rng.choice([20, 30_000, 150_000, 300_000])),
                rate=2000.0 if rng.uniform() < 0.2 else None,
                batch=int(rng.choice([16, 512])),
            )
        if rng.uniform() < 0.3:
            FreePageReporting(guest, after=4 * STEP, block=16)
        if seed % 4 == 1:
            FreePageHinting(guest, again=2 * STEP, block=16)
        if rng.uniform() < 0.5:
            view = View(guest.memory)
            guest.watch(Esx(view, rng, n=20, period=1.0), view)
        while rng.uniform() < 0.4:
            clock.at(int(rng.integers(4 * STEP, 20 * STEP)), lambda guest=guest: guest.restart())
        while rng.uniform() < 0.3:
            read = rng.integers(size, size=int(rng.integers(1, 30)))
            clock.at(int(rng.integers(20 * STEP)), lambda guest=guest, read=read: stray(guest, read))
    plain = True
    if rng.uniform() < 0.5:
        plain = bool(rng.uniform() < 0.7)
        Sharing(host, rate=float(rng.choice([100, 1000, 5000])), policy=str(rng.choice(PLAIN if plain else OTHERS)))
    return host, plain
