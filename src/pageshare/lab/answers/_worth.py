"""What a number of samples is worth: errors and costs in closed form, and where two of them are equal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pageshare.lab.view import Prices


def drawing_error(used: float, n: int, pages: int) -> float:
    """sqrt(f (1 - f) / n), the standard deviation of the share of ``n`` pages, drawn without replacement of ``pages``,
    that are in use if the share ``used`` of all is."""
    return math.sqrt(used * (1 - used) / n * (pages - n) / max(pages - 1, 1))


def needed(drawing: float, floor: float, target: float, pages: float = math.inf) -> float:
    """How many samples bring the root mean square error to ``target``, where ``drawing`` is the mean of f (1 - f) and
    ``floor`` the error that is left when all pages are sampled; infinite where none do, at most ``pages``."""
    left = target**2 - floor**2
    if left <= 0:
        return math.inf
    endless = drawing / left
    return endless if math.isinf(pages) else endless / (1 + (endless - 1) / pages) if endless > 1 else 1.0


def last_point(drawing: float, floor: float, point: float = 0.01) -> float:
    """The number of samples beyond which all the rest together take less than ``point`` off the error."""
    return needed(drawing, floor, floor + point)


def last_doubling(drawing: float, floor: float, point: float = 0.01) -> float:
    """The number of samples beyond which twice as many take less than ``point`` off the error."""
    low, high = 1e-3, 1e9
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        gain = math.sqrt(drawing / middle + floor**2) - math.sqrt(drawing / (2 * middle) + floor**2)
        low, high = (middle, high) if gain >= point else (low, middle)
    return high


def crossing(numbers: Sequence[float], errors: Sequence[float], target: float) -> float:
    """The number of samples at which measured ``errors`` come down to ``target``, between two of ``numbers`` by the
    straight line over their logarithms; the least of them if its error is low enough, nan if none is."""
    for place, error in enumerate(errors):
        if error > target:
            continue
        if not place:
            return float(numbers[0])
        before = errors[place - 1]
        part = math.log(before / target) / math.log(before / error) if before > error else 1.0
        return float(numbers[place - 1] * (numbers[place] / numbers[place - 1]) ** part)
    return math.nan


def at(numbers: Sequence[float], errors: Sequence[float], n: float) -> float:
    """The error at ``n`` samples, by the same lines; at the ends, the nearest one's."""
    if n <= numbers[0]:
        return float(errors[0])
    for place in range(1, len(numbers)):
        if n <= numbers[place]:
            part = math.log(n / numbers[place - 1]) / math.log(numbers[place] / numbers[place - 1])
            return float(errors[place - 1] + part * (errors[place] - errors[place - 1]))
    return float(errors[-1])


def same_visits(pages: float, period: float, scan: float) -> float:
    """How many samples in a ``period`` are as many visits as a scan of all pages each ``scan`` seconds."""
    return pages * period / scan


def same_time(pages: float, period: float, scan: float, touched: float, prices: Prices) -> float:
    """How many samples in a ``period`` take the CPU as long as that scan, if the share ``touched`` of them faults."""
    return same_visits(pages, period, scan) * prices.visit / (prices.visit + touched * prices.fault)


def same_size(n: float, period: float, scan: float, touched: float, prices: Prices) -> float:
    """The pages of a guest whose scan takes the CPU as long as ``n`` samples: larger ones are cheaper to sample."""
    return n * scan / period * (prices.visit + touched * prices.fault) / prices.visit
