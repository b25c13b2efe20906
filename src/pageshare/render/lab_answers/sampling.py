"""The page on sampling and annotation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pageshare.lab.answers import sampling
from pageshare.lab.answers._decided import LEAST, MOVED, NO_ESTIMATE
from pageshare.lab.answers._seeds import Spread, median_of_known
from pageshare.lab.answers._watched import ALL, ANNOTATE, COUNTED, LARGEST, PHASE, RAW, SOME, SYNTHETIC, Look
from pageshare.lab.answers._worth import last_doubling, last_point
from pageshare.lab.answers.sampling import Answer, BreakEven, Decided, Watched
from pageshare.lab.memory import SECOND
from pageshare.lab.study import LONGEST_LAG
from pageshare.render.lab_answers import seconds, spread, table
from pageshare.render.plot import FAINT, INK

COLOURS = {LARGEST: "#0b62c4", RAW: "#5aa9e6", ANNOTATE: "#b35c00", SOME: "#1b7f3b"}
MARKS = {5.0: "v", 30.0: "o", 120.0: "^"}
CLEAN = 0.05
"""Programs of which all pages each second are wrong by less: nearly all touches are their own work."""


def values(answer: Answer) -> dict[str, Any]:
    """What the template puts in."""
    evens = {scan: [sampling.break_even(one, scan, answer.prices) for one in answer.watched] for scan in sampling.SCANS}
    return {
        "errors": _errors(answer),
        "lags": _lags(answer),
        "formula": _formula(answer),
        "floors": _floors(answer),
        "evens": _evens(evens),
        "sizes": _sizes(answer),
        "costs": _costs(answer),
        "misplaced": _decisions(answer, "misplaced"),
        "taken": _decisions(answer, "taken"),
        "wrong": _decisions(answer, "wrong", 0),
        "moves": _decisions(answer, "moved", 1, 1),
        "reach": _reach(answer),
        "enough": _enough(answer),
        "largest": _largest(answer),
        "gains": _gains(answer),
        "details": _details(answer),
        "short": _short(answer, evens),
        "says": _says(answer, evens),
        "longest_lag": min(LONGEST_LAG // SECOND, answer.seconds // 2),
        "smallest": min(one.pages for one in answer.watched) // 256,
        "largest_pages": max(one.pages for one in answer.watched) // 256,
        "least": 100 * LEAST,
        "moved": 100 * MOVED,
        "counted": COUNTED,
        "phase": PHASE,
        "synthetic": [one.program for one in answer.watched if one.program in SYNTHETIC],
        "sampling": sampling,
    }


def _traces(answer: Answer) -> list[Watched]:
    return [one for one in answer.watched if one.program not in SYNTHETIC]


def _usual(answer: Answer) -> int:
    """The paper's number of samples."""
    return min(answer.numbers, key=lambda n: abs(n - 100))


def _range(values: Sequence[float], digits: int = 1, scale: float = 100) -> str:
    """From the least to the greatest, nan left out."""
    known = sorted(scale * value for value in values if not math.isnan(value))
    if not known:
        return "none"
    low, high = f"{known[0]:,.{digits}f}", f"{known[-1]:,.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _count(n: float, most: float = math.inf) -> str:
    """A number of samples or visits, to two digits; "none" where there is none, "all" where it is ``most`` or more."""
    if n >= most:
        return "all"
    if not math.isfinite(n):
        return "none"
    digits = max(0, len(str(int(n))) - 2)
    return f"{round(n, -digits):,.0f}"


def _clean(answer: Answer) -> list[Watched]:
    """Traces of programs all of whose touches are work."""
    return [one for one in _traces(answer) if one.figures[Look(ANNOTATE, 0, 1.0)]["rmse"].mean < CLEAN]


def _says(answer: Answer, evens: dict[float, list[BreakEven]]) -> dict[str, Any]:
    """Which of the page's conclusions hold of these runs, for each program that they are about."""
    clean, usual, last = _clean(answer), _usual(answer), answer.numbers[-1]
    by = {scan: {each.program: each for each in its} for scan, its in evens.items()}
    panel, scanned = Look(SOME, usual, sampling.PANELS[0]), Look(ANNOTATE, 0, sampling.PANELS[0])

    def every(holds: Callable[[Watched], bool], its: Sequence[Watched] = clean) -> bool:
        return bool(its) and all(holds(one) for one in its)

    def error(one: Watched, look: Look) -> float:
        return one.figures[look]["rmse"].mean

    def lag(look: Look) -> float:
        return median_of_known([one.lags[look] for one in clean])

    def extra(one: Watched, n: int) -> float:
        """What the largest of three adds to the raw share."""
        esx, raw = (one.figures[Look(kind, n, 30.0)]["bias"].mean for kind in (LARGEST, RAW))
        return esx - raw

    lags = [lag(Look(LARGEST, usual, period)) for period in sorted(sampling.PERIODS)]
    few, many = (Look(LARGEST, n, 30.0) for n in (usual, last))
    least = answer.numbers[0]
    # A large number of samples may be more than a small guest has pages.
    much = max(n for n in answer.numbers if all(Look(LARGEST, n, 30.0) in one.figures for one in answer.watched))
    return {
        "little": every(lambda one: error(one, few) - error(one, many) < 0.01),
        "not_worth": every(
            lambda one: all(by[scan][one.program].fewest < by[scan][one.program].visits for scan in (30.0, 120.0))
        ),
        "past": every(
            lambda one: by[30.0][one.program].same_time > last_point(one.drawing(30.0), one.floor(30.0))
        ),
        "frequent": every(lambda one: error(one, scanned) < by[scanned.period][one.program].at_visits),
        "never": every(lambda one: math.isnan(by[scanned.period][one.program].fewest)),
        "some": every(lambda one: error(one, panel) < by[scanned.period][one.program].at_visits),
        "by_period": lags == sorted(lags)
        and lags[0] < lags[-1]
        and abs(lag(few) - lag(many)) < 5,
        "floor_larger": every(lambda one: one.drawing(30.0) / usual < one.floor(30.0) ** 2, _traces(answer)),
        "decides_more": any(
            turn.kind == RAW and turn.enough("misplaced") > turn.enough("error") for turn in _turns(answer)
        ),
        "noise": every(lambda one: extra(one, much) < extra(one, least) / 4, _named(answer, "steady")),
        "remembers": every(lambda one: extra(one, much) > extra(one, least) / 2, _traces(answer)),
    }


def _named(answer: Answer, program: str) -> list[Watched]:
    return [one for one in answer.watched if one.program == program]


def _short(answer: Answer, evens: dict[float, list[BreakEven]]) -> dict[str, Any]:
    """Ranges over the traces, for the beginning: those of programs all of whose touches are work, and of the others."""
    second, clean = Look(ANNOTATE, 0, 1.0), _clean(answer)
    others = [one for one in _traces(answer) if one not in clean]
    names = {one.program for one in clean}
    usual, numbers = _usual(answer), (answer.numbers[0], _usual(answer), answer.numbers[-1])
    panel, scanned = Look(SOME, usual, sampling.PANELS[0]), Look(ANNOTATE, 0, sampling.PANELS[0])

    def of(look: Look, name: str = "rmse", its: Sequence[Watched] = clean) -> str:
        return _range([one.figures[look][name].mean for one in its])

    def even(scan: float) -> list[BreakEven]:
        return [each for each in evens[scan] if each.program in names]

    def misplaced(look: Look, *, of_clean: bool = True) -> str:
        its = [one for one in answer.decided if (set(one.mix.programs) <= names) == of_clean]
        its = [one for one in its if not set(one.mix.programs) & set(SYNTHETIC)] or answer.decided
        return _range([one.figures[look]["misplaced"].mean for one in its])

    return {
        "clean": clean,
        "others": others,
        "usual": usual,
        "numbers": numbers,
        "esx": {n: of(Look(LARGEST, n, 30.0)) for n in numbers},
        "raw": {n: of(Look(RAW, n, 30.0)) for n in numbers},
        "off_formula": _off_formula(answer),
        "floors": _range([one.floor(30.0) for one in clean]),
        "last": _range([last_point(one.drawing(30.0), one.floor(30.0)) for one in clean], 0, 1),
        "doubling": _range([last_doubling(one.drawing(30.0), one.floor(30.0)) for one in clean], 0, 1),
        "annotated": {scan: of(Look(ANNOTATE, 0, scan)) for scan in sampling.SCANS},
        "lag": {scan: _range([one.lags[Look(ANNOTATE, 0, scan)] for one in clean], 0, 1) for scan in sampling.SCANS},
        "lag_esx": _range([one.lags[Look(LARGEST, usual, 30.0)] for one in clean], 0, 1),
        "reached": {scan: sum(math.isfinite(each.fewest) for each in even(scan)) for scan in sampling.SCANS},
        "fewest": {scan: _range([each.fewest for each in even(scan)], 0, 1) for scan in sampling.SCANS},
        "visits": {scan: _range([each.visits for each in even(scan)], 0, 1) for scan in sampling.SCANS},
        "same_time": {scan: _range([each.same_time for each in even(scan)], 0, 1) for scan in sampling.SCANS},
        "at_visits": {scan: _range([each.at_visits for each in even(scan)]) for scan in sampling.SCANS},
        "panel": of(panel),
        "panel_visits": f"{clean[0].figures[panel]['visits'].mean:,.0f}",
        "near": _range([one.figures[panel]["rmse"].mean - one.figures[scanned]["rmse"].mean for one in clean]),
        "others_second": of(second, its=others),
        "others_anybody": of(second, "anybody", its=_traces(answer)),
        "others_esx": of(Look(LARGEST, usual, 30.0), its=others),
        "misplaced": {n: misplaced(Look(LARGEST, n, 30.0)) for n in numbers},
        "misplaced_raw": {n: misplaced(Look(RAW, n, 30.0)) for n in numbers},
        "misplaced_panel": misplaced(panel),
        "misplaced_scan": {scan: misplaced(Look(ANNOTATE, 0, scan)) for scan in sampling.SCANS},
        "misplaced_none": misplaced(NO_ESTIMATE),
        "misplaced_others": misplaced(Look(ANNOTATE, 0, 1.0), of_clean=False),
    }


def _errors(answer: Answer) -> str:
    numbers = [n for n in answer.numbers if n in (10, 100, 1000, 10_000)]
    usual = _usual(answer)
    looks = [
        *(Look(LARGEST, n, 30.0) for n in numbers),
        Look(RAW, usual, 30.0),
        Look(SOME, usual, sampling.PANELS[0]),
        *(Look(ANNOTATE, 0, scan) for scan in sampling.SCANS),
    ]
    headings = [
        "program",
        *(f"ESX, {n:,}" for n in numbers),
        f"raw, {usual}",
        f"{usual} pages each {sampling.PANELS[0]:g} s",
        *(f"all, {scan:g} s" for scan in sampling.SCANS),
    ]
    rows = [[one.program, *(spread(one.figures[look]["rmse"], 1, 100) for look in looks)] for one in answer.watched]
    return table(headings, rows)


def _lags(answer: Answer) -> str:
    usual = _usual(answer)
    looks = [
        *(Look(LARGEST, usual, period) for period in sampling.PERIODS),
        Look(LARGEST, answer.numbers[-1], 30.0),
        Look(RAW, usual, 30.0),
        Look(SOME, usual, sampling.PANELS[0]),
        *(Look(ANNOTATE, 0, scan) for scan in sampling.SCANS),
    ]
    headings = [
        "program",
        *(f"ESX, {usual} in {period:g} s" for period in sampling.PERIODS),
        f"ESX, {answer.numbers[-1]:,} in 30 s",
        f"raw, {usual} in 30 s",
        f"{usual} pages each {sampling.PANELS[0]:g} s",
        *(f"all, {scan:g} s" for scan in sampling.SCANS),
    ]
    rows = [
        [one.program, *(seconds(one.lags[look]) for look in looks)]
        for one in answer.watched
        if not math.isnan(one.lags[looks[0]])
    ]
    return table(headings, rows)


def _drawn(answer: Answer, n: int, period: float) -> tuple[float, float]:
    """The root mean square error by drawing alone, of all programs together: measured, and by the formula."""
    its = [one.figures[Look(RAW, n, period)] for one in answer.watched if Look(RAW, n, period) in one.figures]
    drawn, foretold = (math.sqrt(math.fsum(one[name].mean for one in its) / len(its)) for name in ("drawn", "formula"))
    return drawn, foretold


def _off_formula(answer: Answer) -> str:
    """By how much of it the measured error is off at most, in percent."""
    found = [_drawn(answer, n, period) for n in answer.numbers for period in sampling.PERIODS]
    return f"{100 * max(abs(drawn / foretold - 1) for drawn, foretold in found if foretold):.0f}"


def _formula(answer: Answer) -> str:
    """The error by drawing alone, at periods' ends, of all programs together, beside the formula."""
    rows = []
    for n in answer.numbers:
        cells = [f"{n:,}"]
        for period in sampling.PERIODS:
            drawn, foretold = _drawn(answer, n, period)
            cells += [f"{100 * drawn:.2f}", f"{100 * foretold:.2f}", f"{drawn / foretold:.2f}" if foretold else ""]
        rows.append(cells)
    headings = ["samples"]
    for period in sampling.PERIODS:
        headings += [f"measured, {period:g} s", "formula", "ratio"]
    return table(headings, rows)


def _floors(answer: Answer) -> str:
    rows = []
    for one in answer.watched:
        drawing, floor = one.drawing(30.0), one.floor(30.0)
        rows.append(
            [
                one.program,
                *(f"{100 * one.floor(period):.1f}" for period in sampling.PERIODS),
                f"{100 * math.sqrt(drawing / _usual(answer)):.1f}",
                _count(drawing / floor**2 if floor else math.inf, one.pages),
                _count(last_doubling(drawing, floor), one.pages),
                _count(last_point(drawing, floor), one.pages),
            ]
        )
    return table(
        [
            "program",
            *(f"floor, {period:g} s" for period in sampling.PERIODS),
            f"by drawing {_usual(answer)}",
            "n: drawing = floor",
            "n: twice as many gain a point",
            "n: all others gain a point",
        ],
        rows,
    )


def _evens(evens: dict[float, list[BreakEven]]) -> str:
    rows = []
    for place, one in enumerate(evens[sampling.SCANS[0]]):
        for scan in sampling.SCANS:
            each = evens[scan][place]
            rows.append(
                [
                    f"{one.program}, {scan:g} s",
                    f"{100 * each.error:.1f}",
                    _count(each.raw),
                    _count(each.largest),
                    _count(each.fewest),
                    _count(each.same_visits),
                    _count(each.same_time),
                    f"{100 * each.at_visits:.1f}",
                    f"{100 * each.at_time:.1f}",
                    f"{100 * each.some:.1f}",
                ]
            )
    return table(
        [
            "program, scan each",
            "its error",
            "n: as good, raw",
            "ESX",
            "visits",
            "n: same visits",
            "same time",
            "sampling's error at its visits",
            "at its time",
            "some pages'",
        ],
        rows,
    )


def _measured(answer: Answer) -> tuple[float, float]:
    """The mean over traces of f (1 - f), and of faults for each visit, of sampling each 30 s."""
    traces = _traces(answer)
    drawing = math.fsum(one.drawing(30.0) for one in traces) / len(traces)
    return drawing, math.fsum(one.touched(30.0) for one in traces) / len(traces)


def _costs(answer: Answer) -> dict[str, float]:
    drawing, touched = _measured(answer)
    return {
        "drawing": drawing,
        "touched": touched,
        "sample": answer.prices.visit + touched * answer.prices.fault,
        "visit": answer.prices.visit,
        "fault": answer.prices.fault,
    }


def _sizes(answer: Answer) -> str:
    drawing, touched = _measured(answer)
    rows = []
    for size in sampling.by_size(drawing, touched, answer.prices):
        rows.append(
            [
                f"{100 * size.target:g}",
                _count(size.n),
                *(_memory(size.above[scan]) for scan in (30.0, 120.0)),
                *(f"{_time(size.sampling[gib])} / {_time(size.scanning[gib])}" for gib in sampling.SIZES),
            ]
        )
    return table(
        [
            "error by drawing, points",
            "samples",
            "cheaper above (scan each 30 s)",
            "each 120 s",
            *(_memory(gib) for gib in sampling.SIZES),
        ],
        rows,
    )


def _reach(answer: Answer) -> str:
    rows = []
    for one in _traces(answer):
        for target in (0.2, 0.1, 0.05):
            its = sampling.reach(one, target, answer.prices)
            rows.append(
                [
                    f"{one.program}, {100 * target:g}",
                    _told(its.look) if its.look.n else "none",
                    _time(its.sampling) if its.look.n else "",
                    _count(its.n),
                    _time(its.some) if math.isfinite(its.n) else "",
                    f"{its.scan:g} s" if math.isfinite(its.scan) else "none",
                    *(_time(time) if math.isfinite(its.scan) else "" for time in its.all.values()),
                ]
            )
    own = "its size"
    return table(
        [
            "program, points",
            "sampling",
            "time",
            f"pages each {sampling.PANELS[0]:g} s",
            "time",
            "all pages each",
            *(f"time, {_memory(gib) if gib else own}" for gib in (0, *sampling.SIZES)),
        ],
        rows,
    )


def _memory(gib: float) -> str:
    for unit, each in (("TiB", 1024.0), ("GiB", 1.0), ("MiB", 1 / 1024)):
        if gib >= each:
            return f"{gib / each:,.3g} {unit}"
    return f"{gib * 1024 * 1024:,.3g} KiB"


def _time(microseconds: float) -> str:
    for unit, each in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= each:
            return (
                f"{microseconds / each:,.2g} {unit}"
                if microseconds < 100 * each
                else f"{microseconds / each:,.0f} {unit}"
            )
    return f"{microseconds:,.2g} us" if microseconds < 100 else f"{microseconds:,.0f} us"


def _mix(decided: Decided) -> str:
    return f"{', '.join(decided.mix.programs)}, {100 * decided.mix.memory:g} %"


def _told(look: Look) -> str:
    """A look in words."""
    if look.kind in {LARGEST, RAW}:
        return f"{'ESX' if look.kind == LARGEST else 'raw'}, {look.n:,} in {look.period:g} s"
    if look.kind == SOME:
        return f"{look.n:,} pages, each {look.period:g} s"
    if look.kind in {ANNOTATE, ALL}:
        return f"{'all pages' if look.kind == ANNOTATE else 'raw, all pages'}, each {look.period:g} s"
    return look.kind


def _decisions(answer: Answer, name: str, digits: int = 1, scale: float = 100) -> str:
    """One figure of the decisions, by look and mix."""
    usual = _usual(answer)
    looks = [
        Look("truth", 0, 0),
        NO_ESTIMATE,
        *(Look(LARGEST, n, 30.0) for n in answer.numbers),
        *(Look(LARGEST, usual, period) for period in sampling.PERIODS if period != 30.0),
        Look(RAW, usual, 30.0),
        *(Look(SOME, n, sampling.PANELS[0]) for n in answer.numbers if n <= 1000),
        *(Look(ANNOTATE, 0, scan) for scan in sampling.SCANS),
    ]
    rows = []
    for look in looks:
        its = [one.figures[look][name] if look in one.figures else None for one in answer.decided]
        if any(its) and not (look.kind == "truth" and name != "moved"):
            rows.append([_told(look), *(_cell(each, digits, scale) for each in its)])
    return table(["by", *(_mix(one) for one in answer.decided)], rows)


def _cell(value: Spread | None, digits: int, scale: float) -> str:
    return "" if value is None or math.isnan(value.mean) else spread(value, digits, scale)


@dataclass(frozen=True)
class Turn:
    """A mix and an estimate, and what comes of it by ``numbers`` of samples: ``error``, of the mix's programs together,
    ``misplaced`` and ``taken``."""

    decided: Decided
    kind: str
    numbers: list[int]
    columns: dict[str, list[float]]

    def enough(self, name: str) -> int:
        """From how many samples on more do not matter to a figure."""
        return sampling.enough(self.numbers, self.columns[name])


def _turns(answer: Answer) -> list[Turn]:
    found = []
    for decided in answer.decided:
        for kind, period in ((LARGEST, 30.0), (RAW, 30.0), (SOME, sampling.PANELS[0])):
            numbers = [n for n in answer.numbers if Look(kind, n, period) in decided.figures]
            programs = [answer.of(name) for name in decided.mix.programs]
            squares = [
                math.fsum(one.figures[Look(kind, n, period)]["rmse"].mean ** 2 for one in programs) for n in numbers
            ]
            columns = {"error": [math.sqrt(square / len(programs)) for square in squares]}
            for name in ("misplaced", "taken"):
                columns[name] = [decided.figures[Look(kind, n, period)][name].mean for n in numbers]
            found.append(Turn(decided, kind, numbers, columns))
    return found


def _enough(answer: Answer) -> str:
    """From how many samples on more do not matter, to the estimate and to the decision."""
    rows = []
    for turn in _turns(answer):
        cells = [f"{_mix(turn.decided)}: {_kind(turn.kind)}"]
        for name, column in turn.columns.items():
            cells += [f"{100 * column[0]:.1f}", f"{100 * column[-1]:.1f}", f"{turn.enough(name):,}"]
        rows.append(cells)
    first, last = answer.numbers[0], answer.numbers[-1]
    headings = ["mix, estimate"]
    for what in ("error", "misplaced", "taken"):
        headings += [f"{what}, {first}", f"{last:,}", "enough"]
    return table(headings, rows)


def _kind(kind: str) -> str:
    return {LARGEST: "ESX", RAW: "raw", SOME: f"pages each {sampling.PANELS[0]:g} s"}[kind]


def _largest(answer: Answer) -> str:
    """What the largest of three adds to the raw share's mean."""
    rows = []
    for one in answer.watched:
        cells = [one.program]
        for n in answer.numbers:
            esx, raw = (one.figures.get(Look(kind, n, 30.0)) for kind in (LARGEST, RAW))
            cells.append(f"{100 * (esx['bias'].mean - raw['bias'].mean):+.1f}" if esx and raw else "")
        rows.append(cells)
    return table(["program", *(f"{n:,}" for n in answer.numbers)], rows)


def _gains(answer: Answer) -> str:
    rows = []
    steady = next((one for one in answer.watched if one.program == "steady"), None)
    changing = _traces(answer)
    for gains in sampling.GAINS:
        its = [one.gains[gains] for one in changing]

        def mean(name: str, its: Sequence[Any] = its) -> float:
            known = [each[name].mean for each in its if not math.isnan(each[name].mean)]
            return math.fsum(known) / len(known) if known else math.nan

        rows.append(
            [
                f"{gains[0]:g}, {gains[1]:g}",
                spread(steady.gains[gains]["bias"], 2, 100) if steady else "",
                f"{100 * sampling.bias_by_drawing(_used(steady), COUNTED[0], gains):.2f}" if steady else "",
                spread(steady.gains[gains]["rmse"], 2, 100) if steady else "",
                *(f"{100 * mean(name):.1f}" for name in ("bias", "rmse", "over", "short")),
                f"{mean('lag'):.0f}",
            ]
        )
    return table(
        [
            "gains: slow, fast",
            "steady: bias",
            "by draws",
            "error",
            "traces: bias",
            "error",
            "too much",
            "too little",
            "lag, s",
        ],
        rows,
    )


def _used(watched: Watched) -> float:
    """The share in use of a program that is steady, by the mean of f (1 - f)."""
    return (1 - math.sqrt(max(0.0, 1 - 4 * watched.drawing(30.0)))) / 2


def _details(answer: Answer) -> str:
    numbers = [n for n in answer.numbers if n in (10, 100, 1000, 10_000)]
    usual = _usual(answer)
    looks = [
        *(Look(LARGEST, n, 30.0) for n in numbers),
        Look(LARGEST, usual, 5.0),
        Look(LARGEST, usual, 120.0),
        Look(RAW, usual, 30.0),
        Look(SOME, usual, sampling.PANELS[0]),
        *(Look(ANNOTATE, 0, scan) for scan in sampling.SCANS),
    ]
    rows = []
    for one in answer.watched:
        for look in looks:
            if look not in one.figures:
                continue
            its = one.figures[look]
            rows.append(
                [
                    f"{one.program}: {_told(look)}",
                    spread(its["bias"], 1, 100),
                    spread(its["rmse"], 1, 100),
                    spread(its["mae"], 1, 100),
                    seconds(one.lags[look]),
                    f"{its['visits'].mean:,.0f}",
                    f"{its['faults'].mean:,.0f}",
                    f"{its['microseconds'].mean:,.0f}",
                ]
            )
    return table(
        ["program, look", "bias", "RMSE", "MAE", "lag, s", "visits in 30 s", "faults in 30 s", "us of CPU in 30 s"],
        rows,
    )


def draw_errors(answer: Answer, canvas: Any) -> None:
    """Error over visits, a panel for each program."""
    across = min(4, len(answer.watched))
    down = -(-len(answer.watched) // across)
    panels = canvas.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(answer.watched) :]:
        axes.set_axis_off()
    for axes, one in zip(panels.flat, answer.watched, strict=False):
        for kind, period in _curves(one):
            its = [look for look in one.figures if look.kind == kind and period in {look.period, 0.0}]
            its.sort(key=lambda look: one.figures[look]["visits"].mean)
            axes.errorbar(
                [one.figures[look]["visits"].mean for look in its],
                [100 * one.figures[look]["rmse"].mean for look in its],
                [100 * one.figures[look]["rmse"].deviation for look in its],
                color=COLOURS[kind],
                marker=MARKS.get(period, "s"),
                linestyle="-" if period else ":",
                markersize=3,
                linewidth=1,
                elinewidth=0.6,
                label=_series(kind, period),
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_ylim(0.3, 100)
        axes.set_title(one.program, loc="left", fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("RMSE, points")
    for place, axes in enumerate(panels.flat):
        if place + across >= len(answer.watched):
            axes.set_xlabel("visits in 30 s")
            axes.tick_params(labelbottom=True)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    canvas.legend(handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=3)


def _curves(watched: Watched) -> list[tuple[str, float]]:
    """What is drawn of a program: kinds of looks and their periods, 0 for any."""
    some = sorted({look.period for look in watched.figures if look.kind == SOME})
    return [
        *((LARGEST, period) for period in sampling.PERIODS),
        (RAW, 30.0),
        *((SOME, period) for period in some),
        (ANNOTATE, 0.0),
    ]


def _series(kind: str, period: float) -> str:
    if kind == ANNOTATE:
        return "all pages' bits, each 120, 30, 5, 1 s"
    if kind == SOME:
        return f"bits of n pages, each {period:g} s"
    return f"{'ESX' if kind == LARGEST else 'raw share'}, n in {period:g} s"


def draw_formula(answer: Answer, canvas: Any) -> None:
    """Measured error of the raw share over n, with what the formula foretells; a panel for each period."""
    panels = canvas.subplots(1, len(sampling.PERIODS), sharey=True, squeeze=False)[0]
    for axes, period in zip(panels, sampling.PERIODS, strict=True):
        for place, one in enumerate(answer.watched):
            numbers = one.numbers(RAW, period)
            its = [one.figures[Look(RAW, n, period)] for n in numbers]
            colour = f"C{place % 10}" if place < 10 else INK
            axes.errorbar(
                numbers,
                [100 * each["rmse"].mean for each in its],
                [100 * each["rmse"].deviation for each in its],
                color=colour,
                marker="o" if one.program not in SYNTHETIC else "s",
                markersize=3.5,
                linestyle="none",
                elinewidth=0.6,
                label=one.program,
            )
            axes.plot(numbers, [100 * math.sqrt(each["foretold"].mean) for each in its], color=colour, linewidth=0.9)
        worst = [50 / math.sqrt(n) for n in answer.numbers]
        axes.plot(answer.numbers, worst, color=FAINT, linewidth=0.8, linestyle=":", label="50 / sqrt(n)")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_title(f"periods of {period:g} s", loc="left", fontsize=9)
        axes.set_xlabel("samples in a period")
    panels[0].set_ylabel("RMSE of the raw share, points")
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.legend(handles, labels, frameon=False, fontsize=8, loc="outside right center")


def draw_decisions(answer: Answer, canvas: Any) -> None:
    """Memory that is misplaced, over the number of samples; a panel for each mix."""
    across = min(4, len(answer.decided))
    panels = canvas.subplots(-(-len(answer.decided) // across), across, sharex=True, sharey=True, squeeze=False)
    for axes, decided in zip(panels.flat, answer.decided, strict=False):
        for kind, period in [(LARGEST, period) for period in sampling.PERIODS] + [
            (RAW, 30.0),
            (SOME, sampling.PANELS[0]),
        ]:
            numbers = [n for n in answer.numbers if Look(kind, n, period) in decided.figures]
            its = [decided.figures[Look(kind, n, period)]["misplaced"] for n in numbers]
            axes.errorbar(
                numbers,
                [100 * each.mean for each in its],
                [100 * each.deviation for each in its],
                color=COLOURS[kind],
                marker=MARKS.get(period, "o"),
                markersize=3.5,
                linewidth=1,
                elinewidth=0.6,
                label=_series(kind, period),
            )
        for scan, style in zip((30.0, 5.0), ("--", ":"), strict=True):
            level = 100 * decided.figures[Look(ANNOTATE, 0, scan)]["misplaced"].mean
            axes.axhline(
                level, color=COLOURS[ANNOTATE], linewidth=0.9, linestyle=style, label=f"all pages, each {scan:g} s"
            )
        level = 100 * decided.figures[NO_ESTIMATE]["misplaced"].mean
        axes.axhline(level, color=FAINT, linewidth=0.9, linestyle="-.", label="no estimate")
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_title(_mix(decided), loc="left", fontsize=8)
    panels.flat[0].set_ylim(bottom=0)
    for axes in panels[-1]:
        axes.set_xlabel("samples, or pages")
    for axes in panels[:, 0]:
        axes.set_ylabel("% of memory misplaced")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    canvas.legend(handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=4)


PLOTS = (
    ("sampling-errors.svg", draw_errors, (10, 7.5)),
    ("sampling-formula.svg", draw_formula, (10, 4)),
    ("sampling-decisions.svg", draw_decisions, (10, 6)),
)
