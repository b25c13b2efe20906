"""A disk that pages go to: one queue, a latency and a bandwidth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pageshare.lab.clock import Clock


@dataclass
class Disk:
    """Reads are one after the other, each after a seek; writes are clustered, a seek for each batch.

    ``latency`` in microseconds, ``bandwidth`` in pages a second. The default is a disk of the paper's time: 5 ms, 100
    MB/s. Counts ``read`` and ``written`` are in pages.
    """

    clock: Clock
    latency: float = 5000.0
    bandwidth: float = 25_600.0
    read: int = 0
    written: int = 0
    busy_until: float = 0.0

    def _serve(self, microseconds: float, after: float) -> float:
        """Microseconds that who asks ``after`` so many from now has to wait. Others may ask before that: the disk does
        not stand idle for it."""
        self.busy_until = max(self.busy_until, float(self.clock.now)) + microseconds
        return max(self.busy_until - self.clock.now - after, microseconds)

    def reads(self, pages: int, after: float = 0.0) -> float:
        """Microseconds until so many pages, from anywhere, have been read; waiting in the queue included. ``after``:
        how long who asks has been waiting for other things by then."""
        if not pages:
            return 0.0
        self.read += pages
        return self._serve(pages * (self.latency + 1e6 / self.bandwidth), after)

    def writes(self, pages: int, after: float = 0.0) -> float:
        """Microseconds until so many pages have been written as one cluster."""
        if not pages:
            return 0.0
        self.written += pages
        return self._serve(self.latency + pages * 1e6 / self.bandwidth, after)
