"""Programs that do as they are told, and hosts to run them on."""

from collections.abc import Iterable

import numpy as np

from pageshare.lab.guest import Guest
from pageshare.lab.host import Host
from pageshare.lab.programs import READ, RELEASED, WRITTEN, ZERO, Touch

STEP = 100_000


def pages(*spans):
    """Page numbers: ints, and ranges."""
    numbers = [n for span in spans for n in (span if isinstance(span, Iterable) else [span])]
    return np.array(numbers, np.uint32)


def written(*spans, contents=None):
    held = None if contents is None else np.broadcast_to(np.asarray(contents, np.uint64), pages(*spans).shape).copy()
    return Touch(pages(*spans), WRITTEN, contents=held)


def zeroed(*spans):
    return Touch(pages(*spans), WRITTEN | ZERO)


def read(*spans):
    return Touch(pages(*spans), READ)


def released(*spans):
    return Touch(pages(*spans), RELEASED)


class Script:
    """Touches by the number of the step that they are made in."""

    def __init__(self, pages, *steps, file_pages=None):
        self.pages, self.steps = pages, steps
        if file_pages is not None:
            self.file_pages = file_pages

    def run(self, begin, _end):
        step = begin // STEP
        return self.steps[step] if step < len(self.steps) else []


def at_rest(host: Host, size: int, **options) -> Guest:
    """A guest whose program, as large as it is, never does anything by itself: tests touch for it."""
    return Guest(host, size, [Script(size)], **options)
