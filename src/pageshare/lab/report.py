"""What runs of a scenario come to, as a document of plain values: what JSON has, and what the other views show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.lab.host import BALANCE
from pageshare.lab.keys import PAGE, spoken
from pageshare.lab.memory import SECOND
from pageshare.lab.shares import TAX
from pageshare.lab.sharing import VISIT
from pageshare.lab.thresholds import State, Thresholds
from pageshare.lab.view import Prices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.lab.course import Course, GuestSamples
    from pageshare.lab.scenario import GuestSpec, Scenario
    from pageshare.lab.trace import Trace

FORMAT = "pageshare-lab/1"
SIMULATION = (
    "This is a simulation in virtual time, by the rules of ESX as published and costs named below. It is no measurement"
    " of any machine."
)
"""On every output."""
PAPER = "Waldspurger, OSDI 2002"
ASSUMED = "assumed"
GIVEN = "given by the scenario"


def document(courses: Sequence[Course]) -> dict[str, Any]:
    """Runs of one scenario, a seed each; samples are the first one's, other figures the mean of all of them.

    Sizes are pages, times seconds.
    """
    first = courses[0]
    scenario = first.scenario
    runs = [_figures(course) for course in courses]
    return {
        "format": FORMAT,
        "simulation": SIMULATION,
        "calibration": [dict(zip(("what", "value", "source"), each, strict=True)) for each in calibration(scenario)],
        "scenario": scenario.name,
        "about": scenario.about,
        "page_size": PAGE,
        "duration": scenario.duration / SECOND,
        "seconds": float(first.times[-1]),
        "seeds": [course.seed for course in courses],
        "interrupted": any(course.interrupted for course in courses),
        "beyond_end": [
            {"at": change.at / SECOND, "change": change.words}
            for change in scenario.changes
            if change.at > scenario.duration
        ],
        **_over(runs, fmean),
        "spread": _over(runs, stdev) if len(runs) > 1 else None,
        "samples": samples(first),
        "table": plain_table(scenario.table),
    }


def plain_table(value: Any) -> Any:
    """A TOML value as JSON can have it."""
    if isinstance(value, Mapping):
        return {str(key): plain_table(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_table(each) for each in value]
    finite = not isinstance(value, float) or value - value == 0
    return value if value is None or (isinstance(value, (str, int, float)) and finite) else str(value)


def samples(course: Course) -> dict[str, Any]:
    """All that was recorded, column by column; what is not known is None."""
    return {
        "seconds": _listed(course.times),
        "host": {each.name: _listed(getattr(course.host, each.name)) for each in fields(course.host)},
        "guests": [
            {"name": spec.name, **{each.name: _listed(getattr(guest, each.name)) for each in fields(guest)}}
            for spec, guest in zip(course.scenario.guests, course.guests, strict=True)
        ],
    }


def _listed(values: NDArray[Any]) -> list[Any]:
    if values.dtype.kind != "f":
        return list(values.tolist())
    return [None if math.isnan(value) else round(value, 6) for value in values.tolist()]


def _figures(course: Course) -> dict[str, Any]:
    """What one run comes to."""
    host, scenario = course.host, course.scenario
    guests = [_of_guest(course, spec, each) for spec, each in zip(scenario.guests, course.guests, strict=True)]
    for number, resets in enumerate(course.resets):
        guests[number]["resets"] = resets
    sharing = course.sharing
    return {
        "host": {
            "memory": scenario.host.memory,
            "for_guests": scenario.frames,
            "free": _mean(host.free),
            "least_free": int(host.free.min()),
            "states": dict(course.states),
            "state_changes": int(host.changes[-1]),
            "checks": course.checks,
            **course.counts,
            "saved": _mean(host.saved),
            "most_saved": int(host.saved.max()),
            "sharing": None
            if sharing is None
            else {
                **{key: sharing[key] for key in ("scanned", "merged", "broken")},
                "cpu_seconds": sharing["cpu"] / 1e6,
            },
        },
        "guests": guests,
        "stretches": list(_stretches(course)),
    }


def _of_guest(course: Course, spec: GuestSpec, guest: GuestSamples) -> dict[str, Any]:
    elapsed = max(0.0, float(course.times[-1]) - spec.start / SECOND)
    error = guest.estimate - guest.active
    known = ~np.isnan(error) & (course.times >= spec.start / SECOND + 60)
    known &= all(program.labelled for program in spec.programs)
    return {
        "name": spec.name,
        "memory": spec.memory,
        "least": spec.least,
        "shares": spec.shares,
        "programs": [program.name for program in spec.programs],
        "labelled": all(program.labelled for program in spec.programs),
        "allocated": _mean(guest.allocated),
        "allocated_at_end": float(guest.allocated[-1]),
        "target_at_end": int(guest.target[-1]),
        "ballooned": _mean(guest.ballooned),
        "most_ballooned": int(guest.ballooned.max()),
        "swapped": _mean(guest.swapped),
        "most_swapped": int(guest.swapped.max()),
        "active": _mean(guest.active),
        "estimated": None if spec.estimator is None else _mean(guest.estimate),
        "estimate_rmse": float(np.sqrt((error[known] ** 2).mean())) if known.any() else None,
        "elapsed": elapsed,
        "ran": float(guest.ran[-1]),
        "waited": max(0.0, elapsed - float(guest.ran[-1])),
        "blocked": float(guest.blocked[-1]),
        "looked": float(guest.looked[-1]),
        **{
            name: int(getattr(guest, name)[-1])
            for name in ("paged_out", "paged_in", "dropped", "read", "out_of_memory", "messages", "visits", "faults")
        },
    }


def _stretches(course: Course) -> Iterator[dict[str, Any]]:
    """What lies between changes: means of the last half of each stretch, in which the host has settled, and what was
    swapped in all of it."""
    end = float(course.times[-1])
    changes: dict[float, list[str]] = {0.0: []}
    for change in course.scenario.changes:
        if change.at / SECOND < end:
            changes.setdefault(change.at / SECOND, []).append(change.words)
    edges = [*changes, end]
    for (begin, words), until in zip(changes.items(), edges[1:], strict=True):
        first, half, last = (int(np.searchsorted(course.times, time)) for time in (begin, (begin + until) / 2, until))
        half = min(half, last - 1) if last else 0
        settled = slice(half, last + 1)
        lasted = float(course.times[last] - course.times[half])
        yield {
            "begin": begin,
            "end": until,
            "change": ", ".join(words),
            "swapped_out": int(course.host.swapped_out[last] - course.host.swapped_out[first]),
            "swapped_in": int(course.host.swapped_in[last] - course.host.swapped_in[first]),
            "free": _mean(course.host.free[settled]),
            "guests": [
                {
                    "name": spec.name,
                    "allocated": _mean(guest.allocated[settled]),
                    "active": _mean(guest.active[settled]),
                    "ran_share": float(guest.ran[last] - guest.ran[half]) / lasted if lasted else None,
                }
                for spec, guest in zip(course.scenario.guests, course.guests, strict=True)
            ],
        }


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _over(runs: Sequence[Any], combine: Any) -> Any:
    """Documents of one shape as one: numbers combined, all else the first one's."""
    first = runs[0]
    if isinstance(first, Mapping):
        return {key: _over([run[key] for run in runs], combine) for key in first}
    if isinstance(first, list):
        return [_over(list(each), combine) for each in zip(*runs, strict=False)]
    if isinstance(first, bool) or not isinstance(first, (int, float)):
        return first
    numbers = [run for run in runs if run is not None]
    if len(numbers) < 2 and combine is stdev:
        return 0.0
    whole = all(isinstance(number, int) for number in numbers) and len(set(numbers)) == 1
    return numbers[0] if whole and combine is fmean else float(combine(numbers))


# What it rests on.


def calibration(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Each rule and number that results depend on: what it is, its value, and where it comes from."""
    host = scenario.host
    usual, marks = Thresholds(), Thresholds(**host.thresholds)
    taken = f"{PAPER}, section "
    yield (
        "states of free memory",
        " / ".join(f"{100 * mark:g} %" for mark in reversed(marks.marks)),
        f"{taken}6.3" if marks.marks == usual.marks else GIVEN,
    )
    yield (
        "hysteresis of states",
        f"{marks.hysteresis:g} of the way to the next mark",
        f"{ASSUMED}: not published" if marks.hysteresis == usual.hysteresis else GIVEN,
    )
    yield "idle memory tax", f"{100 * host.tax:g} %", f"{taken}5.2" if host.tax == TAX else GIVEN
    yield (
        "targets are worked out",
        f"each {spoken(host.balance)}, and at changes",
        "ESX 2.x manual" if host.balance == BALANCE else GIVEN,
    )
    yield from _of_guests(scenario)
    yield "victims of swapping", "drawn at random", f"{taken}3.3"
    disks = {spec.disk or host.disk for spec in scenario.guests} | {host.disk}
    for disk in sorted(disks, key=lambda each: each.latency):
        yield (
            "disk",
            f"{spoken(disk.latency)} a seek, {disk.bandwidth / 256:g} MiB/s",
            f"{ASSUMED}: about a disk of 2002" if disk.latency == 5000 else GIVEN,
        )
    usual_times = (host.fault, host.zero) == (3.0, 0.5)
    yield "a fault, clearing a page", f"{host.fault:g} us, {host.zero:g} us", ASSUMED if usual_times else GIVEN
    if host.sharing is not None:
        yield (
            "sharing scans",
            f"{host.sharing.rate:g} pages a second",
            f"{taken}4" if host.sharing.rate == 200 else GIVEN,
        )
        measured = "measured: docs/policies-measured.md" if host.sharing.visit == VISIT else GIVEN
        yield "a visit of sharing", f"{host.sharing.visit:g} us", measured
    yield from _of_programs(scenario)
    if scenario.calibration:
        yield "the scenario's own figures", "", scenario.calibration


def prices(fault: float) -> tuple[str, str, str]:
    """What a look is taken to cost."""
    of = Prices(fault=fault)
    words = f"visit {of.visit:g}, fault {of.fault:g}, test {of.test:g}, message {of.hypercall:g} us"
    return "prices of looks", words, ASSUMED


def _of_guests(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    estimators = {spec.estimator.name: spec.estimator for spec in scenario.guests if spec.estimator}
    for name, estimator in estimators.items():
        if name == "esx":
            n, period = estimator.options.get("n", 100), estimator.options.get("period", 30.0)
            yield (
                "idle memory, esx",
                f"{n} pages each {period:g} s of a guest's time",
                f"{PAPER}, section 5.3; gains of averages {ASSUMED}: not published",
            )
        else:
            yield "idle memory", name, "a user's own class" if estimator.own else "docs/lab.md"
    if estimators:
        yield prices(scenario.host.fault)
    polls = {spec.balloon.poll for spec in scenario.guests if spec.balloon}
    for poll in sorted(polls):
        yield "balloons ask", f"each {spoken(poll)}", f"{PAPER}, section 3.2" if poll == SECOND else GIVEN


def _of_programs(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    seen = set()
    for spec in scenario.guests:
        for program in spec.programs:
            if program.name in seen:
                continue
            seen.add(program.name)
            if program.trace is not None:
                yield "load", program.name, recorded(program.trace)
            else:
                own = program.program is not None and program.program.own
                yield "load", program.name, "a user's own class" if own else "made up"


def recorded(trace: Trace) -> str:
    """Where a recorded load comes from, by what its trace says."""
    about = trace.about
    made = about.get("program", "") or "; ".join(about.values())
    told = f"recorded: {made.rstrip('.')[:300]}" + (f"; {about['clock'][:60]}" if "clock" in about else "")
    return told if trace.labelled else f"{told}; unlabelled: whatever is touched is taken for in use, nothing is judged"


def states() -> list[str]:
    """Names of the states, from the one with most free memory."""
    return [state.name.lower() for state in reversed(State)]


__all__ = ["FORMAT", "SIMULATION", "calibration", "document", "recorded", "samples", "states"]
