"""The page on poll intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pageshare.lab.answers import polls
from pageshare.lab.answers._seeds import Spread
from pageshare.lab.answers.polls import Answer, Case, Form, Row
from pageshare.render.lab_answers import spread, table
from pageshare.render.plot import FAINT

COLOURS = ("#0b62c4", "#1b7f3b", "#b35c00", "#7b3294")


Setting = tuple[bool, str, str]
"""Scattered free memory, the estimator that targets go by, the disk."""
TARGETS = {"guest-statistics": "the guests' own statistics", "esx": "ESX's sample"}
LITTLE = 0.001
"""A share of time waited that is not worth a word."""
GOAL = 0.1
"""The waiting that a balloon may leave, of what the one-second poll leaves, at no more messages."""


def values(answer: Answer) -> dict[str, Any]:
    """What the template puts in."""
    disks = [disk for disk in polls.DISKS if any(row.case.disk == disk for row in answer.periods)]
    cases = [row.case for row in (*answer.periods, *answer.forms)]
    settings = _settings(answer.forms)
    return {
        "periods": {disk: _periods([row for row in answer.periods if row.case.disk == disk]) for disk in disks},
        "forms": {_setting(setting): _forms(rows) for setting, rows in settings.items()},
        "goal": _goal(settings),
        "rises": {disk: _rises(answer, disk) for disk in disks} if answer.rises else {},
        "by_rise": [told for disk in disks for told in _by_rise(answer, disk)],
        "slow": _slow(answer),
        "staggered": _staggered(answer.forms),
        "parts": _parts(settings),
        "hurts": _hurts(answer.periods),
        "knees": _knees(answer.periods),
        "counted": sorted({case.counted for case in cases}),
        "case": cases[0],
        "never_out_of_memory": _never_out_of_memory(settings),
        "esx": any(estimator == "esx" for _scattered, estimator, _disk in settings),
        "polls": polls,
    }


def _settings(forms: list[Row]) -> dict[Setting, list[Row]]:
    found: dict[Setting, list[Row]] = {}
    for row in forms:
        found.setdefault((row.case.scattered, row.case.estimator, row.case.disk), []).append(row)
    return found


def _setting(setting: Setting) -> str:
    scattered, estimator, disk = setting
    return f"{disk}, targets by {TARGETS[estimator]}, free memory {'scattered' if scattered else 'in one piece'}"


def _periods(rows: list[Row]) -> str:
    rises = sorted({row.case.rise for row in rows})
    periods = sorted({_period(row.case) for row in rows})
    found = {(_period(row.case), row.case.rise): row.figures for row in rows}
    lines = []
    for period in periods:
        cells = [f"{period:g} s"]
        for rise in rises:
            figures = found[period, rise]
            cells.append(spread(figures["stalled"], 1, 100))
            cells.append(f"{figures['swapped'].mean:.1f} + {figures['paged'].mean:.1f}")
        cells.append(f"{found[period, rises[0]]['messages'].mean:,.0f}")
        lines.append(cells)
    headings = ["poll every"]
    for rise in rises:
        headings += [f"waits %, {rise:g} s", "MB"]
    return table([*headings, "messages/s"], lines)


def _forms(rows: list[Row]) -> str:
    return table(
        ["balloon", "waits, %", "swapped, MB", "paged, MB", "messages/s", "hard or low, %"],
        [
            [
                row.case.form.name,
                spread(row.figures["stalled"], 2, 100),
                spread(row.figures["swapped"]),
                spread(row.figures["paged"]),
                spread(row.figures["messages"]),
                spread(row.figures["pressed"], 1, 100),
            ]
            for row in rows
        ],
    )


def _at_rises(answer: Answer, disk: str) -> dict[tuple[Form, float], Mapping[str, Spread]]:
    """What was run at all rises: those of 0.1 s are among the forms."""
    rows = [*answer.forms, *answer.rises]
    usual = [row for row in rows if row.case.scattered and row.case.estimator == "guest-statistics"]
    of = {(row.case.form, row.case.rise): row.figures for row in usual if row.case.disk == disk}
    return {key: of[key] for key in of if key[0] in polls.AT_ALL_RISES}


def _rises(answer: Answer, disk: str) -> str:
    found = _at_rises(answer, disk)
    rises = sorted({rise for _form, rise in found})
    headings = ["balloon"]
    for rise in rises:
        headings += [f"waits %, {rise:g} s", "messages/s"]
    lines = []
    for form in dict.fromkeys(form for form, _rise in found):
        cells = [form.name]
        for rise in rises:
            figures = found[form, rise]
            cells += [spread(figures["stalled"], 2, 100), f"{figures['messages'].mean:,.1f}"]
        lines.append(cells)
    return table(headings, lines)


def _by_rise(answer: Answer, disk: str) -> list[str]:
    """Of what was run at all rises, where the one-second poll waits: what waits least, and what does at no more
    messages."""
    found, told = _at_rises(answer, disk), []
    for rise in sorted({rise for _form, rise in found}):
        its = {form: figures for (form, of), figures in found.items() if of == rise}
        second = its[polls.SECOND_POLL]
        if second["stalled"].mean < LITTLE or len(its) < 2:
            continue
        cheap = [form for form in its if its[form]["messages"].mean <= second["messages"].mean]
        best = min(cheap, key=lambda form: its[form]["stalled"].mean)
        waits, least = (100 * each["stalled"].mean for each in (second, its[best]))
        words = f"*{best.name}*, {least:.2f} %, {least / waits:.2f} times the one-second poll's {waits:.2f} %"
        if best == polls.SECOND_POLL:
            words = f"nothing waits less than the one-second poll, {waits:.2f} %"
        told.append(f"{rise:g} s on {disk}: {words}")
    return told


def _slow(answer: Answer) -> str:
    """What adaptive polls and a doorbell alone make of a rise within 10 s on a disk, as a sentence; "" if not run."""
    found = _at_rises(answer, "disk")
    forms = (polls.SECOND_POLL, polls.ADAPTIVE, polls.RUNG)
    if not all((form, 10.0) in found for form in forms):
        return ""
    second, adaptive, rung = (found[form, 10.0] for form in forms)
    if not second["stalled"].mean:
        return ""
    ratios = [its["stalled"].mean / second["stalled"].mean for its in (adaptive, rung)]
    return (
        f"Where need rises within 10 s on a disk, adaptive polls wait {ratios[0]:.1f} times as long as the one-second"
        f" poll, at {adaptive['messages'].mean:,.0f} messages a second instead of {second['messages'].mean:,.0f}, and a"
        f" doorbell alone {ratios[1]:.1f} times."
    )


def _period(case: Case) -> float:
    return case.form.polls.period / 1e6 if case.form.polls is not None else 0.0


def _by_period(rows: list[Row], rise: float, disk: str) -> list[Row]:
    its = [row for row in rows if (row.case.rise, row.case.disk) == (rise, disk)]
    return sorted(its, key=lambda row: _period(row.case))


@dataclass(frozen=True)
class Goal:
    """Whether the goal was met in a setting, and what says so."""

    setting: str
    told: str
    by: tuple[str, ...]


def _goal(settings: Mapping[Setting, list[Row]]) -> dict[str, Any]:
    """Where the goal was met, by what: setting by setting, and by what targets go by."""
    goals = {setting: _met(setting, rows) for setting, rows in settings.items()}
    told = []
    for estimator, name in TARGETS.items():
        its = [goal for (_scattered, by, _disk), goal in goals.items() if by == estimator]
        met = sum(bool(goal.by) for goal in its)
        how = "met" if met == len(its) else "not met" if not met else f"met in {met} of {len(its)} settings"
        told += [f"**{how}** with targets by {name}"] * bool(its)
    by = [goal.by for goal in goals.values() if goal.by]
    always = [name for name in by[0] if all(name in each for each in by)] if by else []
    return {
        "told": ", ".join(told),
        "always": _listed(always) if always else "",
        "settings": list(goals.values()),
    }


def _met(setting: Setting, rows: list[Row]) -> Goal:
    """Beside the one-second poll what waits least at no more messages, and what else waits as little."""
    second = next(row for row in rows if row.case.form == polls.SECOND_POLL)
    others = [row for row in rows if row is not second]
    waits, most = (second.figures[name].mean for name in ("stalled", "messages"))
    cheap = sorted(
        (row for row in others if row.figures["messages"].mean <= most), key=lambda row: row.figures["stalled"].mean
    )
    little = [row for row in others if row.figures["stalled"].mean <= GOAL * waits]
    by = tuple(row.case.form.name for row in cheap if row in little) if waits else ()
    told = [
        f"Under the one-second poll guests wait {spread(second.figures['stalled'], 2, 100)} % of the time, at "
        f"{spread(second.figures['messages'])} messages a second."
    ]
    if not waits:
        told.append("There is no waiting to save.")
    elif not cheap:
        told.append("Nothing else that was run needs no more messages.")
    else:
        best = cheap[0]
        ratio = best.figures["stalled"].mean / waits
        told.append(
            f"Of what needs no more messages, *{best.case.form.name}* waits least: "
            f"{spread(best.figures['stalled'], 2, 100)} %, {ratio:.3f} times as long, at "
            f"{spread(best.figures['messages'])} messages."
        )
    if len(by) > 1:
        told.append(f"{_listed(by[1:])} {'meets' if len(by) == 2 else 'meet'} the goal too.")
    dear = [row for row in little if row not in cheap]
    if waits and dear:
        costs = [f"*{row.case.form.name}* ({row.figures['messages'].mean:,.1f})" for row in dear]
        told.append(f"Waiting as short, but at more messages: {', '.join(costs)}.")
    elif waits and not by:
        told.append("Nothing that was run waits a tenth as long, at any number of messages.")
    return Goal(_setting(setting), " ".join(told), by)


def _listed(names: Sequence[str]) -> str:
    marked = [f"*{name}*" for name in names]
    return " and ".join(filter(None, ["; ".join(marked[:-1]), marked[-1]]))


def _parts(settings: Mapping[Setting, list[Row]]) -> dict[str, Any] | None:
    """What a doorbell, pleading and targets each do for the waiting, as multiples of the one-second poll's; None where
    not all of it was run."""
    forms = (polls.SECOND_POLL, polls.RUNG, polls.PLEADS, polls.BOTH, polls.FAST_POLL)
    for disk in polls.DISKS:
        by = [
            {row.case.form: row.figures for row in settings.get((True, estimator, disk), [])} for estimator in TARGETS
        ]
        if all(form in its and its[polls.SECOND_POLL]["stalled"].mean for its in by for form in forms):
            break
    else:
        return None
    own, sample = (
        {form: its[form]["stalled"].mean / its[polls.SECOND_POLL]["stalled"].mean for form in forms} for its in by
    )
    parts = {"rung": own[polls.RUNG], "pleads": own[polls.PLEADS], "sample": sample[polls.BOTH]}
    return {
        "disk": disk,
        "others": _parts_elsewhere(settings, disk),
        **{name: f"{ratio:.2f}" for name, ratio in parts.items()},
        "both": f"{own[polls.BOTH]:.2f}",
        "fast": f"{own[polls.FAST_POLL]:.2f}",
        "fast_messages": f"{by[0][polls.FAST_POLL]['messages'].mean:,.0f}",
        "fast_sample": f"{sample[polls.FAST_POLL]:.2f}",
        "rung_paged": f"{by[0][polls.RUNG]['paged'].mean:.1f}",
        "paged": f"{by[0][polls.SECOND_POLL]['paged'].mean:.1f}",
        "stale": sample[polls.FAST_POLL] > GOAL,
        "all_needed": own[polls.BOTH] <= GOAL < min(parts.values()),
    }


def _parts_elsewhere(settings: Mapping[Setting, list[Row]], but: str) -> str:
    """The same of other disks, by the guests' own statistics, in a sentence each."""
    told = []
    for disk in polls.DISKS:
        by = {row.case.form: row.figures["stalled"].mean for row in settings.get((True, "guest-statistics", disk), [])}
        forms = (polls.RUNG, polls.PLEADS, polls.BOTH)
        if disk != but and by.get(polls.SECOND_POLL) and all(form in by for form in forms):
            alone, pleads, both = (f"{by[form] / by[polls.SECOND_POLL]:.2f}" for form in forms)
            told.append(f"On {disk}: a doorbell alone {alone}, pleading alone {pleads}, both {both}.")
    return " ".join(told)


def _staggered(forms: list[Row]) -> str:
    """How long staggered polls wait, beside random ones, disk by disk."""
    told = []
    for (_scattered, estimator, disk), rows in _settings([row for row in forms if row.case.scattered]).items():
        by = {row.case.form: row.figures["stalled"] for row in rows}
        if estimator == "guest-statistics" and polls.STAGGERED in by and polls.SECOND_POLL in by:
            one, other = (spread(by[form], 2, 100) for form in (polls.STAGGERED, polls.SECOND_POLL))
            told.append(f"{one} % instead of {other} % on {disk}")
    return " and ".join(told)


def _never_out_of_memory(settings: Mapping[Setting, list[Row]]) -> bool:
    """Whether a balloon that deflates when its guest is out of memory was run, and did as one that does not."""
    found = []
    for rows in settings.values():
        by = {row.case.form: row.figures for row in rows}
        if polls.OUT_OF_MEMORY in by:
            same = ("stalled", "swapped", "paged", "messages")
            one, other = by[polls.OUT_OF_MEMORY], by[polls.SECOND_POLL]
            found.append(all(one[name].mean == other[name].mean for name in same))
    return bool(found) and all(found)


@dataclass(frozen=True)
class Knee:
    """Of polls on a disk, and need that takes ``rise`` seconds: the closed form's period, the first that was run that
    hurts (0: none), and the longest."""

    disk: str
    rise: float
    critical: float
    first: float
    longest: float

    @property
    def told(self) -> str:
        """The first period that hurts."""
        return f"{self.first:g} s" if self.first else f"none up to {self.longest:g} s"


def _found_knees(rows: list[Row]) -> list[Knee]:
    """Where paging begins, beside the closed form: it is avoided while D (W + R / B) < G, for a wait W of up to T."""
    found = []
    for disk in polls.DISKS:
        for rise in sorted({row.case.rise for row in rows}):
            its = _by_period(rows, rise, disk)
            if not its:
                continue
            least = its[0].figures["stalled"].mean
            hurt = [row for row in its if row.figures["stalled"].mean > max(2 * least, least + 0.005)]
            critical = polls.critical_period(its[0].case)
            found.append(Knee(disk, rise, critical, _period(hurt[0].case) if hurt else 0.0, _period(its[-1].case)))
    return found


def _knees(rows: list[Row]) -> str:
    lines = [
        [f"{knee.disk}, {knee.rise:g} s", f"{knee.critical:.2g} s" if knee.critical > 0 else "none", knee.told]
        for knee in _found_knees(rows)
    ]
    return table(["disk, rise", "T*, closed form", "first period that hurts"], lines)


def _hurts(rows: list[Row]) -> str:
    """By how fast need rises, the first period of polls that hurts."""
    return "; ".join(f"{knee.rise:g} s on {knee.disk}: {knee.told}" for knee in _found_knees(rows))


def draw_periods(answer: Answer, canvas: Any) -> None:
    """Time that guests wait, over the period, a line for each rise; a panel for each disk."""
    disks = [disk for disk in polls.DISKS if any(row.case.disk == disk for row in answer.periods)]
    panels = canvas.subplots(1, len(disks), squeeze=False)[0]
    for axes, disk in zip(panels, disks, strict=True):
        rises = sorted({row.case.rise for row in answer.periods if row.case.disk == disk})
        for rise, colour in zip(rises, COLOURS, strict=False):
            rows = _by_period(answer.periods, rise, disk)
            x = [_period(row.case) for row in rows]
            y = [100 * row.figures["stalled"].mean for row in rows]
            error = [100 * row.figures["stalled"].deviation for row in rows]
            axes.errorbar(x, y, error, color=colour, marker="o", markersize=3, capsize=2, label=f"{rise:g} s")
        axes.set_xscale("log")
        axes.axvline(1, color=FAINT, linewidth=0.8, linestyle=":")
        axes.set_title(_disk(disk), loc="left", fontsize=9)
        axes.set_xlabel("seconds between two polls")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("% of the time that guests wait")
    panels[0].legend(title="need rises within", frameon=False, fontsize=8, title_fontsize=8)


def _disk(name: str) -> str:
    latency, bandwidth = polls.DISKS[name]
    return f"{name}: {latency / 1000:g} ms, {bandwidth / polls.MB:g} MB/s"


def draw_forms(answer: Answer, canvas: Any) -> None:
    """Time that guests wait against messages, a point for each form of balloon."""
    settings: Mapping[tuple[str, str], list[Row]] = {}
    settings = {}
    for row in answer.forms:
        if row.case.scattered:
            settings.setdefault((row.case.estimator, row.case.disk), []).append(row)
    panels = canvas.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(row.case.form.name for row in answer.forms))
    markers = "os^Dv<>PX*hd"
    for axes, ((estimator, disk), rows) in zip(panels, settings.items(), strict=True):
        for row in rows:
            number = names.index(row.case.form.name)
            axes.errorbar(
                max(row.figures["messages"].mean, 0.1),
                max(100 * row.figures["stalled"].mean, 0.01),
                100 * row.figures["stalled"].deviation,
                marker=markers[number % len(markers)],
                # There are ten colours: those after them are hollow.
                color=f"C{number % 10}",
                markerfacecolor="white" if number >= 10 else f"C{number % 10}",
                markersize=6,
                capsize=2,
                label=row.case.form.name,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(f"{disk}; targets by {estimator}", loc="left", fontsize=9)
        axes.set_xlabel("messages a second")
    panels[0].set_ylabel("% of the time that guests wait")
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.legend(handles, labels, frameon=False, fontsize=7.5, loc="outside lower center", ncols=3)


PLOTS = (("polls-periods.svg", draw_periods, (9, 3.6)), ("polls-forms.svg", draw_forms, (10, 4.6)))
