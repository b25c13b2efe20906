"""Virtual time: what happens when, in microseconds."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Event:
    """Something that will happen, unless it is cancelled."""

    def __init__(self, time: int, call: Callable[[], None]) -> None:
        self.time, self.call, self.cancelled = time, call, False

    def cancel(self) -> None:
        """Let it not happen."""
        self.cancelled = True


class Clock:
    """Events in the order of their times; those of one moment in the order in which they were asked for, so that a run
    depends on nothing but its seed."""

    def __init__(self) -> None:
        self.now = 0
        self.happened = 0
        """Events so far."""
        self._coming: list[tuple[int, int, Event]] = []
        self._asked = 0

    def at(self, time: int, call: Callable[[], None]) -> Event:
        """Call it at that time; ValueError if that is past."""
        if time < self.now:
            raise ValueError(f"{time} us is past: it is {self.now} us")
        event = Event(time, call)
        heapq.heappush(self._coming, (time, self._asked, event))
        self._asked += 1
        return event

    def after(self, delay: int, call: Callable[[], None]) -> Event:
        """Call it so many microseconds from now."""
        return self.at(self.now + delay, call)

    def every(self, period: int, call: Callable[[], None], *, first: int | None = None) -> Event:
        """Call it again and again, for the first time after ``first`` microseconds (a period, if not given).
        Cancelling the event ends it."""
        if period <= 0:
            raise ValueError(f"a period of {period} us: must be positive")

        def again() -> None:
            call()
            if not event.cancelled:
                event.time = self.now + period
                heapq.heappush(self._coming, (event.time, self._asked, event))
                self._asked += 1

        event = self.at(self.now + (period if first is None else first), again)
        return event

    def run(self, until: int, *, after_each: Callable[[], None] | None = None) -> None:
        """Let happen what is due until that time, itself included. ``after_each`` is called after each event: tests
        look there whether all is well."""
        while self._coming and self._coming[0][0] <= until:
            time, _asked, event = heapq.heappop(self._coming)
            if event.cancelled:
                continue
            self.now = time
            event.call()
            self.happened += 1
            if after_each is not None:
                after_each()
        self.now = max(self.now, until)
