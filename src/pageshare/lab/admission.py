"""Which guests a host may take in (Waldspurger, OSDI 2002, section 6.2)."""

from __future__ import annotations

from dataclasses import dataclass

OVERHEAD = 8192
"""Pages of machine memory that a guest needs beside its own: 32 MB, of which 4 to 8 MB are its frame buffer."""


@dataclass(frozen=True)
class Admitted:
    """Whether a guest may start, and what it lacks: ``memory`` and ``swap`` in pages, 0 where there is enough."""

    memory: int
    swap: int

    @property
    def fits(self) -> bool:
        """Whether nothing lacks."""
        return not self.memory and not self.swap


def admit(*, least: int, size: int, memory: int, swap: int, overhead: int = OVERHEAD) -> Admitted:
    """Whether a guest of ``size`` pages with a minimum of ``least`` may start where ``memory`` pages of the machine's
    and ``swap`` pages of disk are not reserved: its minimum and its overhead need memory, and what it has above its
    minimum, disk. ValueError unless 0 <= least <= size."""
    if not 0 <= least <= size:
        raise ValueError(f"a minimum of {least} pages for a guest of {size}: must be from 0 to its size")
    return Admitted(max(0, least + overhead - memory), max(0, size - least - swap))
