"""An order in which what is similar stands together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def seriated(similarity: NDArray[np.float64]) -> list[int]:
    """Numbers 0 .. n-1 in such an order; ``similarity`` is (n, n), symmetric, and finite.

    Clusters are joined by average linkage, the two most similar ones first (of equal ones the first); of the four ways
    to put two rows one behind the other, the one whose neighbours at the joint are most similar. Takes n^3 steps.

    >>> seriated(np.array([[1, 0, 0.9], [0, 1, 0.1], [0.9, 0.1, 1]]))
    [0, 2, 1]
    """
    count = len(similarity)
    rows: list[list[int]] = [[i] for i in range(count)]
    between = np.array(similarity, np.float64)
    np.fill_diagonal(between, -np.inf)
    for _ in range(count - 1):
        a, b = divmod(int(np.argmax(between)), count)
        left, right = len(rows[a]), len(rows[b])
        average = (left * between[a] + right * between[b]) / (left + right)
        rows[a] = _joined(rows[a], rows[b], similarity)
        between[a] = between[:, a] = average
        between[b] = between[:, b] = -np.inf
        between[a, a] = -np.inf
        rows[b] = []
    return max(rows, key=len, default=[])


def _joined(left: list[int], right: list[int], similarity: NDArray[np.float64]) -> list[int]:
    ways = [
        (one, other)
        for one, other in ((left, right), (left, right[::-1]), (left[::-1], right), (left[::-1], right[::-1]))
    ]
    one, other = max(ways, key=lambda way: similarity[way[0][-1], way[1][0]])
    return one + other
