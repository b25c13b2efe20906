"""What ``replay`` and ``policies`` report, as plain JSON-able figures; ``render/`` shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pageshare.replay.compare import Compared, mean, spread
from pageshare.replay.course import SHARES, Course, Reached

if TYPE_CHECKING:
    from collections.abc import Callable

    from pageshare.replay.costs import Costs

REPLAY_FORMAT = "pageshare-replay/1"
POLICIES_FORMAT = "pageshare-policies/1"


def share_name(share: float) -> str:
    """How a share is named as a key: ``"90"``.

    >>> share_name(0.9)
    '90'
    """
    return f"{100 * share:g}"


def peek_of(price: float, costs: Costs) -> dict[str, Any]:
    """The price charged for a peek, and what it is on this machine beside a visit: each in address order (of a visit in
    address order), and anywhere (of one anywhere)."""
    return {
        "price": price,
        "measured": {
            "sequential": costs.peek[0] / costs.read[0],
            "random": costs.peek[1] / costs.read[1],
        },
    }


def costs_of(costs: Costs) -> dict[str, Any]:
    """Measured costs in nanoseconds."""
    pairs = {
        name: dict(zip(("sequential", "random"), pair, strict=True))
        for name, pair in asdict(costs).items()
        if name != "fault"
    }
    return {"unit": "nanoseconds", **pairs, "copy_on_write_fault": costs.fault}


def _reached(reached: Mapping[float, Reached | None], pages: int) -> dict[str, Any]:
    def entry(found: Reached | None) -> dict[str, float] | None:
        if found is None:
            return None
        return {
            "visits": found.visits / pages,
            "cost": found.cost / pages,
            "cpu_seconds": found.cpu_seconds,
            "seconds": found.seconds,
        }

    return {share_name(share): entry(reached[share]) for share in SHARES}


def replay_document(
    course: Course,
    *,
    page_size: int,
    owners: Sequence[str],
    pace: Mapping[str, Any],
    duration: float | None,
    peek_price: float,
    costs: Costs,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    incomplete: Sequence[str] = (),
    skipped: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """One replay. Counts are in pages of ``page_size`` bytes."""
    last = course.last
    return {
        "format": REPLAY_FORMAT,
        "policy": course.policy,
        "seed": course.seed,
        "objective": course.objective,
        "page_size": page_size,
        "pages": course.pages,
        "owners": list(owners),
        "pace": dict(pace),
        "duration": duration,
        "seconds": last.seconds,
        "saved": last.saved,
        "saved_nonzero": last.saved_nonzero,
        "possible": last.possible,
        "possible_nonzero": last.possible_nonzero,
        "mean_saved": course.mean_saved,
        "mean_saved_nonzero": course.mean_saved_nonzero,
        "mean_possible": course.mean_possible,
        "mean_possible_nonzero": course.mean_possible_nonzero,
        "visits": last.visits,
        "peeks": last.peeks,
        "cpu_seconds": last.cpu_seconds,
        "policy_seconds": course.policy_seconds,
        "metadata_bits": course.metadata_bits,
        "reached": _reached(course.reached, max(1, course.pages)),
        "reached_nonzero": _reached(course.reached_nonzero, max(1, course.pages)),
        "outcomes": dict(course.outcomes),
        "writes": course.writes,
        "cow_breaks": course.cow_breaks,
        "cow_breaks_nonzero": course.cow_breaks_nonzero,
        "cow_breaks_within_10s": course.broken_soon,
        "peek": peek_of(peek_price, costs),
        "costs": costs_of(costs),
        "course": [asdict(sample) for sample in course.samples],
        "interrupted": course.interrupted,
        "notes": list(notes),
        "warnings": list(warnings),
        "incomplete": list(incomplete),
        "skipped": [dict(each) for each in skipped],
    }


def _shares(
    policy: Compared, of: Callable[[Reached], float], *, nonzero: bool, scale: float = 1.0
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Mean and spread over runs, for each share."""
    means, spreads = {}, {}
    for share in SHARES:
        numbers = policy.reached(share, of, nonzero=nonzero)
        scaled = None if numbers is None else [number * scale for number in numbers]
        means[share_name(share)], spreads[share_name(share)] = mean(scaled), spread(scaled)
    return means, spreads


def _policy(policy: Compared, pages: int, *, still: bool) -> dict[str, Any]:
    """Means and spreads; ``still``: no time went by, so that what is said of it is None."""
    entry: dict[str, Any] = {"name": policy.name, "runs": len(policy.all), "spread": {}}
    measures: tuple[tuple[str, Callable[[Reached], float], float], ...] = (
        ("visits", lambda each: each.visits, 1 / max(1, pages)),
        ("cost", lambda each: each.cost, 1 / max(1, pages)),
        ("cpu_seconds", lambda each: each.cpu_seconds, 1.0),
        ("seconds", lambda each: each.seconds, 1.0),
    )
    for suffix, nonzero in (("", False), ("_nonzero", True)):
        for key, of, scale in measures:
            means, spreads = _shares(policy, of, nonzero=nonzero, scale=scale)
            if still and key == "seconds":
                means, spreads = dict.fromkeys(means), dict.fromkeys(spreads)
            entry[key + suffix], entry["spread"][key + suffix] = means, spreads
        runs = policy.nonzero if nonzero else policy.all
        for key in ("area", "mean_saved", "mean_possible"):
            timeless = still and key != "area"
            numbers = None if timeless else [getattr(course, key + suffix) for course in runs]
            entry[key + suffix], entry["spread"][key + suffix] = mean(numbers), spread(numbers)
        entry["found" + suffix] = mean(
            [
                course.last.saved_nonzero / max(1, course.last.possible_nonzero)
                if nonzero
                else course.last.saved / max(1, course.last.possible)
                for course in runs
            ]
        )
        for key in ("writes", "cow_breaks", "broken_soon", "metadata_bits", "policy_seconds"):
            name = "cow_breaks_within_10s" if key == "broken_soon" else key
            entry[name + suffix] = mean([getattr(course, key) for course in runs])
        entry["total_cpu_seconds" + suffix] = mean([course.last.cpu_seconds for course in runs])
        merges = [sum(course.outcomes[name] for name in ("SHARED_NEW", "SHARED", "ZERO")) for course in runs]
        entry["merges" + suffix] = mean(merges)
    return entry


def policies_document(
    found: Sequence[Compared],
    *,
    pages: int,
    page_size: int,
    owners: Sequence[str],
    possible: int,
    possible_nonzero: int,
    pace: Mapping[str, Any] | None,
    duration: float | None,
    seeds: Sequence[int],
    peek_price: float,
    costs: Costs,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    incomplete: Sequence[str] = (),
    skipped: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """All policies over one memory; ``visits`` and ``cost`` are shares of ``pages``, means over seeds."""
    return {
        "format": POLICIES_FORMAT,
        "pages": pages,
        "page_size": page_size,
        "owners": list(owners),
        "possible": possible,
        "possible_nonzero": possible_nonzero,
        "pace": None if pace is None else dict(pace),
        "duration": duration,
        "seeds": list(seeds),
        "peek": peek_of(peek_price, costs),
        "costs": costs_of(costs),
        "policies": [_policy(each, pages, still=pace is None) for each in found],
        "notes": list(notes),
        "warnings": list(warnings),
        "incomplete": list(incomplete),
        "skipped": [dict(each) for each in skipped],
    }
