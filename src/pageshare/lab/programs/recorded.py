"""A recorded trace, run as a program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pageshare.lab.programs import Touch

if TYPE_CHECKING:
    from pageshare.lab.trace import Trace


class Recorded:
    """Touches as a trace has them, in the interval they were recorded in; after its end it begins again, if ``loop``.

    An interval's touches come actor by actor, in the actors' order: the trace doesn't say in which they were. Touches
    whose intent nobody has labelled are taken for work.
    """

    def __init__(self, trace: Trace, *, loop: bool = False) -> None:
        self.trace, self.loop = trace, loop
        self.pages = trace.pages
        self.duration = trace.interval * trace.intervals
        # A trace may number threads as it likes, a guest numbers them from 0 on.
        threads = {thread: place for place, thread in enumerate(sorted({actor.thread for actor in trace.actors}))}
        self.threads = [threads[actor.thread] for actor in trace.actors]

    def run(self, begin: int, end: int) -> Iterator[Touch]:
        """All intervals that begin from ``begin`` until ``end``."""
        interval, intervals = self.trace.interval, self.trace.intervals
        for number in range(-(-begin // interval), -(-end // interval)):
            if number >= intervals and not self.loop:
                return
            touches = self.trace.touches(number % intervals)
            for place in np.unique(touches.actors):
                its = touches.actors == place
                actor = self.trace.actors[place]
                work = actor.intent in {"work", "unlabelled"}
                yield Touch(touches.pages[its], touches.kinds[its], work, self.threads[place])
