"""Random owners of few contents, with holes, gaps and domains; and the dumb way to look at them."""

import random
from dataclasses import dataclass

import numpy as np

import pageshare
from pageshare.core import census
from pageshare.inventory import Inventory
from pageshare.scanner import Options, scan_space

PAGE = 4096


@dataclass
class Memory:
    """``pages``: what each owner has at each frame (None: unknown); ``inventory``, ``space`` of the same."""

    space: pageshare.PageSpace
    inventory: Inventory
    domains: list
    pages: list

    def report(self):
        return scan_space(self.space, Options(PAGE, seed=1))

    def numbered(self):
        """(owner, frame, bytes) of the pages that are known, in the order in which contents are met first."""
        return [
            (owner, frame, data)
            for owner, mine in enumerate(self.pages)
            for frame, data in sorted(mine.items())
            if data is not None
        ]

    def groups(self):
        """Which pages, (owner, frame), hold each content: by (domain, bytes), in the order of ``numbered``."""
        found = {}
        for owner, frame, data in self.numbered():
            found.setdefault((self.domains[owner], data), []).append((owner, frame))
        return found


def random_memory(seed, stack, folder):
    """1 to 12 owners, each a sparse file of runs copied from a common pool, some with holes that are unknown."""
    draw = random.Random(seed)
    pool = [bytes(PAGE) if draw.random() < 0.2 else draw.randbytes(8) * (PAGE // 8) for _ in range(60)]
    named, pages = [], []
    count = 1 + seed % 12
    domains = [f"d{draw.randrange(3)}" if seed % 3 else "one" for _ in range(count)]
    for owner in range(count):
        frames = draw.choice([0, 1, 5, 60, 200])
        mine = {}
        frame = 0
        while frame < frames:
            begin, length = draw.randrange(len(pool)), draw.randrange(1, 20)
            if draw.random() < 0.3:
                frame += length  # nothing is written: a hole
            else:
                for data in pool[begin : begin + length]:
                    mine[frame] = draw.randbytes(8) * (PAGE // 8) if draw.random() < 0.05 else data
                    frame += 1
        path = folder / f"{seed}-{owner}.raw"
        with path.open("wb") as file:
            for at, data in mine.items():
                file.seek(at * PAGE)
                file.write(data)
            end = max(frame, 1)
            file.truncate(end * PAGE)
        unknown = draw.random() < 0.3
        pages.append({at: mine.get(at, None if unknown else bytes(PAGE)) for at in range(end)})
        image = stack.enter_context(pageshare.open_image(path, holes="unknown" if unknown else "zero"))
        named.append((f"o{owner}", [image]))
    space = pageshare.PageSpace(named, domains=domains)
    _take_what_is_read(space, pages)
    return Memory(space, Inventory.of(space, census(space.undivided())), domains, pages)


def _take_what_is_read(space, pages):
    """A file system may keep holes as zeros that are there: those are known."""
    owners, frames = space.locate(np.arange(space.readable))
    for owner, frame in zip(owners.tolist(), frames.tolist(), strict=True):
        if pages[owner][frame] is None:
            pages[owner][frame] = bytes(PAGE)
