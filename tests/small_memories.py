"""Small memories for replays: a base of given contents, and histories by hand."""

from dataclasses import dataclass

import numpy as np

from pageshare.images import image_of_buffer
from pageshare.replay.contents import Contents
from pageshare.replay.costs import Costs
from pageshare.replay.history import Recorded, Writes, history_of
from pageshare.space import PageSpace

COSTS = Costs((1, 1), (1, 1), (1, 1), (1, 1), (1, 1), 1)


def page(number, size=512):
    """Few contents that agree in most of their bytes; 0 is the zero page."""
    data = np.full(size, 0xCC if number else 0, np.uint8)
    data[-4:] = np.frombuffer(int(number).to_bytes(4, "big"), np.uint8)
    return data


def memory(numbers, size=512):
    return np.stack([page(number, size) for number in numbers])


def base(owners, *, domains=None, size=512, seed=0):
    """One snapshot: the contents of each owner's pages by name."""
    images = [(name, [image_of_buffer(memory(numbers, size), name)]) for name, numbers in owners.items()]
    return history_of([(0.0, images)], page_size=size, domains=domains, seed=seed)


def large_base(owners, pages, *, size=4096, seed=0, zero=0.25, names=None):
    """One snapshot of owners that have some zero pages, some that are held several times, and others."""
    generator = np.random.default_rng(seed)
    memories = {}
    for owner in range(owners):
        numbers = generator.integers(1, 1 << 31, pages)
        numbers[generator.random(pages) < 0.3] = 7
        numbers[generator.random(pages) < zero] = 0
        data = np.zeros((pages, size), np.uint8)
        data[:, -4:] = numbers.astype(">u4")[:, None].view(np.uint8)
        memories[names[owner] if names else f"guest{owner}"] = data
    images = [(name, [image_of_buffer(data, name)]) for name, data in memories.items()]
    return history_of([(0.0, images)], page_size=size, seed=seed)


@dataclass
class Scripted:
    """A history by hand."""

    space: PageSpace
    contents: Contents
    ids: np.ndarray
    script: Writes
    duration: float | None

    def writes(self, _seed):
        return Recorded(self.script)


def all_writes(history, seed=0, until=None, step=None):
    """What a history does until then, asked in steps."""
    until = history.duration if until is None else until
    source = history.writes(seed)
    times = [until] if step is None else [*np.arange(step, until, step), until]
    return Writes.together([Writes.none(), *(source.until(time) for time in times)])
