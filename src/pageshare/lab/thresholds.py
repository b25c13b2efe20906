"""When a host reclaims, and how: four states by how much memory is free (Waldspurger, OSDI 2002, section 6.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """What a host does about its free memory; the lower, the more pressing."""

    LOW = 0
    """Swaps, and blocks guests that have more than their target."""
    HARD = 1
    """Swaps."""
    SOFT = 2
    """Balloons; swaps only where there is no balloon."""
    HIGH = 3
    """Reclaims nothing."""


@dataclass
class Thresholds:
    """Which state a host is in.

    ``high``, ``soft``, ``hard`` and ``low`` are shares of its memory, the marks of section 6.3. When less is free than
    a lower state's mark, the host is in that state; it leaves it for the next higher one "only after significantly
    exceeding the higher threshold". How much is significant is not published: ``hysteresis`` is where that lies between
    the mark below which the host fell (0) and the next higher one (1).
    """

    high: float = 0.06
    soft: float = 0.04
    hard: float = 0.02
    low: float = 0.01
    hysteresis: float = 1.25
    state: State = State.HIGH
    changes: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.hard <= self.soft <= self.high < 1:
            raise ValueError("thresholds: 0 <= low <= hard <= soft <= high < 1")
        if not 0 <= self.hysteresis <= 2:
            raise ValueError(f"hysteresis {self.hysteresis}: must be from 0 to 2")

    @property
    def marks(self) -> tuple[float, float, float, float]:
        """The mark of each state, LOW to HIGH."""
        return (self.low, self.hard, self.soft, self.high)

    def leaves(self, state: State) -> float:
        """The share of free memory at which a host leaves that state for the next higher one."""
        below, above = self.marks[state], self.marks[state + 1]
        return below + self.hysteresis * (above - below)

    def look(self, free: float) -> State:
        """The state with that share of memory free."""
        state = self.state
        while state > State.LOW and free < self.marks[state - 1]:
            state = State(state - 1)
        while state < State.HIGH and free >= self.leaves(state):
            state = State(state + 1)
        self.changes += state != self.state
        self.state = state
        return state
