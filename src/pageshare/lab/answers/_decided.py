"""What estimates do to the idle memory tax: memory divided by them, beside what it would be by the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pageshare.lab.answers._watched import MARK, Look, Seen
from pageshare.lab.memory import SECOND
from pageshare.lab.shares import Client, divide

LEAST = 0.25
"""The minimum of each guest, as a share of its size."""
MOVED = 0.01
"""Transfers are judged right or wrong if they are at least so large, as a share of the host's memory."""


@dataclass(frozen=True)
class Mix:
    """Guests, by the names of their programs, on a host with the share ``memory`` of what they have together."""

    programs: tuple[str, ...]
    memory: float


NO_ESTIMATE = Look("no estimate", 0, 0)
"""All memory is taken to be in use."""


def decide(mix: Mix, guests: Sequence[Seen]) -> Iterator[tuple[Look, dict[str, float]]]:
    """What the tax decides every 15 seconds, look by look, ``guests`` in the order of the mix, runs of one seed.

    Guests have shares by size, a minimum of a quarter of it, and the paper's tax of 75 %. Of the host's memory:
    ``misplaced``, what is with another guest than the truth would have it with; ``taken``, what a guest uses and would
    have by the truth, but has not; ``moved``, an hour. ``wrong`` is the share of transfers, of a hundredth of memory or
    more, that went away from what the truth asked for. Means over all times; nan where nothing was moved.
    """
    sizes = np.array([guest.pages for guest in guests])
    pages = round(mix.memory * int(sizes.sum()))
    times = min(len(guest.truth) for guest in guests)
    truth = np.array([guest.truth[:times] for guest in guests], np.float64).T * sizes
    right = divided(truth, sizes, pages)
    yield Look("truth", 0, 0), judged(right, right, truth, pages)
    yield NO_ESTIMATE, judged(divided(np.tile(sizes, (times, 1)), sizes, pages), right, truth, pages)
    places = [{look: place for place, look in enumerate(guest.figures)} for guest in guests]
    for look in guests[0].figures:
        if all(look in its for its in places):
            marks = [guest.marks[its[look], :times] for guest, its in zip(guests, places, strict=True)]
            held = divided(np.array(marks, np.float64).T * sizes, sizes, pages)
            yield look, judged(held, right, truth, pages)


def divided(active: NDArray[np.float64], sizes: NDArray[np.int64], pages: int) -> NDArray[np.int64]:
    """Pages for each guest at each time, by its ``active`` pages: int64 of the same shape, (times, guests)."""
    return np.array(
        [
            divide(
                [
                    Client(float(size), round(LEAST * int(size)), int(size), float(used))
                    for size, used in zip(sizes, row, strict=True)
                ],
                pages,
            )
            for row in active
        ]
    )


def judged(
    held: NDArray[np.int64], right: NDArray[np.int64], used: NDArray[np.float64], pages: int
) -> dict[str, float]:
    """What is told of a division ``held``, of shape (times, guests) like the ``right`` one and the pages ``used``."""
    transfers, wanted = np.diff(held, axis=0), right[1:] - held[:-1]
    large = np.abs(transfers) >= MOVED * pages
    wrong = large & (transfers * wanted < 0)
    hour = 3600 * SECOND / (MARK * max(len(transfers), 1))
    return {
        "misplaced": float(np.abs(held - right).sum(axis=1).mean()) / 2 / pages,
        "taken": float(np.maximum(np.minimum(used, right) - held, 0).sum(axis=1).mean()) / pages,
        "moved": float(np.abs(transfers).sum()) / 2 / pages * hour,
        "wrong": np.count_nonzero(wrong) / np.count_nonzero(large) if large.any() else float("nan"),
    }
