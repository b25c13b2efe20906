"""Small memories made of numbers, and policies run over them."""

import numpy as np

from pageshare import policies
from pageshare.core import FrameTable
from pageshare.images import image_of_buffer
from pageshare.replay.costs import Costs
from pageshare.replay.course import Run, Settings
from pageshare.replay.history import history_of
from pageshare.space import PageSpace

PAGE = 512
COSTS = Costs(read=(2, 4), found=(3, 6), zero=(1, 2), shared=(1, 1), peek=(0.1, 0.3), fault=10)


def page_bytes(numbers):
    """A page for each number, different for different ones: 0 is a zero page; below 0 the first line is zero."""
    numbers = np.asarray(numbers, np.int64)
    pages = np.zeros((len(numbers), PAGE // 8), np.int64)
    pages[:, -8:] = numbers[:, None]
    pages[:, :-8] = np.maximum(numbers, 0)[:, None]
    return pages


def history(*snapshots, seed=3):
    """The history of some owners, each given as numbers; snapshots are ten seconds apart."""
    return history_of(
        [
            (
                10.0 * i,
                [(f"owner {k}", [image_of_buffer(page_bytes(numbers), f"{k}")]) for k, numbers in enumerate(owners)],
            )
            for i, owners in enumerate(snapshots)
        ],
        page_size=PAGE,
        seed=seed,
    )


def ids(owners):
    """What ``View.contents`` says of them."""
    numbers = np.concatenate([np.empty(0, np.int64), *owners]).astype(np.int64)
    nonzero = np.unique(numbers[numbers != 0])
    return np.where(numbers == 0, 0, 1 + np.searchsorted(nonzero, numbers)).astype(np.uint32)


def view_of(owners, *, seed=1, objective="all"):
    """The view of a space with these owners."""
    space = PageSpace.of({f"owner {k}": page_bytes(numbers) for k, numbers in enumerate(owners)}, page_size=PAGE)
    return policies.View(space, seed=seed, objective=objective, contents=lambda: ids(owners))


class Scan:
    """A policy under way: ``visit`` looks at the next batch, with a real table."""

    def __init__(self, name, owners, *, seed=1, objective="all"):
        self.view = view_of(owners, seed=seed, objective=objective)
        self.policy = policies.create(name, self.view)
        self.table = FrameTable(self.view._space, seed=1, **getattr(self.policy, "table_options", {}))
        self.view.attach(self.table)

    def visit(self, count):
        pages = self.policy.next(count)
        assert pages.dtype == np.uint32
        assert 1 <= len(pages) <= count
        result = self.table.scan(pages)
        self.policy.feedback(pages, result.outcomes, result.partners)
        return pages, result.outcomes

    def visit_all(self, total, count):
        """The next ``total`` pages, and their outcomes."""
        batches, have = [], 0
        while have < total:
            batches.append(self.visit(min(count, total - have)))
            have += len(batches[-1][0])
        return tuple(np.concatenate(each) for each in zip(*batches, strict=True))


class Recorder:
    """A policy that keeps what it gave and was told."""

    def __init__(self, policy):
        self._policy = policy
        self.batches = []
        if hasattr(policy, "table_options"):
            self.table_options = policy.table_options

    def next(self, count):
        return self._policy.next(count)

    def feedback(self, pages, outcomes, partners):
        self.batches.append((pages.copy(), outcomes.copy(), partners.copy()))
        self._policy.feedback(pages, outcomes, partners)


def replayed(memory, name, **settings):
    """The course of a policy over a history, and all that it was told."""
    run = Run(memory, Settings(policy=lambda view: Recorder(policies.create(name, view)), **settings), COSTS)
    course = run.go()
    return course, [np.concatenate(each) for each in zip(*run.policy.batches, strict=True)]


def like_guests(seed=1, guests=4, pages=2048):
    """Guests as real ones are: shared runs at different places, zero runs, the rest unique; and some pages that are
    shared alone."""
    generator = np.random.default_rng(seed)
    owners = []
    part = pages // 16
    for guest in range(guests):
        memory = 1_000_000 * (guest + 1) + np.arange(pages)
        places = generator.permutation(16) * part
        for number, place in enumerate(places[:5]):
            memory[place : place + part - 2 * number] = 1000 * number + np.arange(part - 2 * number) + 1
        for place in places[5:8]:
            memory[place : place + part] = 0
        alone = generator.choice(np.flatnonzero(memory >= 1_000_000), part // 2, replace=False)
        memory[alone] = 900_000 + np.arange(part // 2)
        owners.append(memory)
    return owners
