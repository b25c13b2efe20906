"""The views of a laboratory run: its tables, and what a terminal shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from pageshare.images import printable
from pageshare.lab.report import states
from pageshare.render.console import say, titled
from pageshare.render.names import named
from pageshare.render.tables import Column, Table, Unit, as_text, cell
from pageshare.render.units import clock, percent_of

MOST_NAMED = 4
"""Guests that sentences name one by one."""
CALIBRATION = "What it is calibrated against"
ROWS = 12


def headline(document: Mapping[str, Any]) -> str:
    """What happened, in a sentence."""
    swapped, guests = document["host"]["swapped_out"], document["guests"]
    page = document["page_size"]
    elapsed = sum(guest["elapsed"] for guest in guests)
    waited = sum(guest["waited"] for guest in guests)
    what = "The host swapped nothing" if not swapped else f"The host swapped {_size(swapped, page)}"
    share = percent_of(waited / elapsed) if elapsed else "-"
    return f"{what}; guests waited {share} of the time."


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Who got how much, and why."""
    page, guests = document["page_size"], document["guests"]
    if len(guests) <= MOST_NAMED:
        for guest in guests:
            yield (
                f"{named(guest['name'])} has {_size(guest['allocated_at_end'], page)} of its"
                f" {_size(guest['memory'], page)} at the end, {_size(guest['allocated'], page)} on average;"
                f" it ran {_share(guest['ran'], guest['elapsed'])} of the time"
            )
    else:
        held = sorted(guests, key=lambda guest: float(guest["allocated"]))
        low, high = held[0], held[-1]
        yield (
            f"{len(guests)} guests have from {_size(low['allocated'], page)} ({named(low['name'])}) to"
            f" {_size(high['allocated'], page)} ({named(high['name'])}) on average"
        )
    if unlabelled := [named(guest["name"]) for guest in guests if not guest["labelled"]]:
        names = ", ".join(unlabelled)
        yield f"active is what anybody touched, not work alone, in {names}: nobody has labelled its trace"
    host = document["host"]
    ballooned = sum(guest["ballooned"] for guest in guests)
    yield (
        f"balloons hold {_size(ballooned, page)} on average; {_size(host['free'], page)} of"
        f" {_size(host['for_guests'], page)} are free, {_size(host['least_free'], page)} at least"
    )
    if host["saved"]:
        yield f"sharing saves {_size(host['saved'], page)} on average, {_size(host['most_saved'], page)} at most"
    if host["pops"]:
        yield f"{host['pops']:,.0f} pages of balloons were touched, and had to be given anew"
    if host["pops"] or host["checks"] > 1:
        when = "at the end" if host["checks"] <= 1 else f"at each of {host['checks']:,.0f} samples"
        yield f"every page is accounted for {when}: none lost, none owned twice, and each holds what was written to it"
    lost = sum(guest["out_of_memory"] for guest in guests)
    if lost:
        yield f"{lost:,.0f} touches found no memory in their guest: a real one would have killed a process"
    if beyond := document["beyond_end"]:
        first, end = f"{clock(beyond[0]['at'])} ({beyond[0]['change']})", clock(document["duration"])
        if len(beyond) == 1:
            yield f"the change at {first} lies beyond the end, {end}: it did not happen"
        else:
            yield f"{len(beyond)} changes, from {first} on, lie beyond the end, {end}: they did not happen"


def settings(document: Mapping[str, Any]) -> str:
    """What ran."""
    seeds = document["seeds"]
    words = f"{document['scenario']}: {clock(document['seconds'])} of virtual time, "
    words += f"seed {seeds[0]}" if len(seeds) == 1 else f"means of {len(seeds)} seeds, from {seeds[0]} on"
    return words + ("; interrupted" if document["interrupted"] else "")


def tables(document: Mapping[str, Any]) -> list[Table]:
    """All tables for people, the most important first."""
    found = [_guests(document)]
    if len(document["stretches"]) > 1:
        found.append(_stretches(document))
    found += [_course(document), _paging(document), _host(document)]
    if document["spread"] is not None:
        found.append(_spread(document))
    found.append(_calibration(document))
    return found


def data_tables(document: Mapping[str, Any]) -> list[Table]:
    """What CSV and Parquet have: all samples, of the host and of the guests, and the tables for people."""
    page, recorded = document["page_size"], document["samples"]
    note = document["simulation"]
    host = [
        Column("seconds", "time", "seconds"),
        *(Column(key, key, _HOST.get(key, "pages")) for key in recorded["host"]),
    ]
    rows = list(zip(recorded["seconds"], *recorded["host"].values(), strict=True))
    found = [Table("host-samples", "The host over time", tuple(host), rows, page, note)]
    columns: list[Column] = []
    rows = []
    for guest in recorded["guests"]:
        keys = [key for key in guest if key != "name"]
        columns = [Column("guest", "guest", "text"), Column("seconds", "time", "seconds")]
        columns += [Column(key, key, _GUEST.get(key, "pages")) for key in keys]
        names = [guest["name"]] * len(recorded["seconds"])
        rows += list(zip(names, recorded["seconds"], *(guest[key] for key in keys), strict=True))
    found.append(Table("guest-samples", "Guests over time", tuple(columns), rows, page, note))
    its = (_host_data(document) if each.name == "host" else each for each in tables(document))
    return [*found, *(said_so(each, document) for each in its)]


_HOST: Mapping[str, Any] = {"state": "count", "changes": "count", "queue": "seconds", "tax": "share"}
_GUEST: Mapping[str, Any] = {
    "messages": "count",
    "visits": "count",
    "faults": "count",
    "looked": "seconds",
    "ran": "seconds",
    "stalled": "seconds",
    "blocked": "seconds",
}


def _size(pages: float, page: int) -> str:
    return cell(pages, "pages", page)


def _share(part: float, whole: float) -> str:
    return percent_of(min(1.0, part / whole)) if whole else "-"


def _guests(document: Mapping[str, Any]) -> Table:
    columns = (
        Column("guest", "guest", "text"),
        Column("memory", "size", "pages"),
        Column("allocated", "has, mean", "pages"),
        Column("allocated_at_end", "at end", "pages"),
        Column("active", "active", "pages"),
        Column("estimated", "estimated", "pages"),
        Column("ran_share", "ran", "share"),
        Column("ballooned", "balloon", "pages"),
        Column("swapped", "swapped", "pages"),
        Column("shares", "shares", "count"),
        Column("least", "minimum", "pages"),
        Column("target_at_end", "target at end", "pages"),
        Column("estimate_rmse", "error of estimate", "pages"),
    )
    rows = [
        tuple(
            guest["name"]
            if column.key == "guest"
            else _of(guest["ran"], guest["elapsed"])
            if column.key == "ran_share"
            else _whole(guest["shares"])
            if column.key == "shares"
            else guest[column.key]
            for column in columns
        )
        for guest in document["guests"]
    ]
    return Table("guests", "Guests", columns, rows, document["page_size"], caption("guests", columns))


def _whole(number: float) -> float:
    return round(number) if number == round(number) else number


def _of(part: float, whole: float) -> float | None:
    return min(1.0, part / whole) if whole else None


def _stretches(document: Mapping[str, Any]) -> Table:
    columns = (
        Column("begin", "from", "seconds"),
        Column("change", "change", "text"),
        Column("guest", "guest", "text"),
        Column("allocated", "has", "pages"),
        Column("active", "active", "pages"),
        Column("ran_share", "ran", "share"),
        Column("against_first", "to first", "share"),
    )
    rows = []
    first = {guest["name"]: guest["ran_share"] for guest in document["stretches"][0]["guests"]}
    for stretch in document["stretches"]:
        for guest in stretch["guests"]:
            ran, before = guest["ran_share"], first[guest["name"]]
            rows.append(
                (
                    stretch["begin"],
                    stretch["change"],
                    guest["name"],
                    guest["allocated"],
                    guest["active"],
                    None if ran is None else min(1.0, ran),
                    None if ran is None or not before else ran / before,
                )
            )
    note = caption("changes", columns)
    return Table("changes", "Before and after changes", columns, rows, document["page_size"], note)


def _course(document: Mapping[str, Any]) -> Table:
    recorded = document["samples"]
    guests = recorded["guests"]
    shown = guests[:MOST_NAMED]
    columns = [
        Column("seconds", "time", "seconds"),
        Column("state", "state", "text"),
        Column("free", "free", "pages"),
        Column("swapped_out", "swapped out", "pages"),
        Column("saved", "shared", "pages"),
        *(Column(f"allocated {guest['name']}", guest["name"], "pages") for guest in shown),
    ]
    names = states()[::-1]
    count = len(recorded["seconds"])
    host = recorded["host"]
    rows = [
        (
            recorded["seconds"][i],
            names[host["state"][i]],
            host["free"][i],
            host["swapped_out"][i],
            host["saved"][i],
            *(guest["allocated"][i] for guest in shown),
        )
        for i in _picked(count)
    ]
    return Table("course", "Course", tuple(columns), rows, document["page_size"], caption("course", columns))


def _picked(count: int) -> list[int]:
    return sorted({round(i * (count - 1) / ROWS) for i in range(ROWS + 1)})


def _paging(document: Mapping[str, Any]) -> Table:
    columns = (
        Column("guest", "guest", "text"),
        Column("waited", "waited", "seconds"),
        Column("blocked", "blocked", "seconds"),
        Column("paged_out", "paged out", "pages"),
        Column("paged_in", "paged in", "pages"),
        Column("dropped", "dropped", "pages"),
        Column("read", "read", "pages"),
        Column("most_swapped", "most swapped", "pages"),
        Column("most_ballooned", "most balloon", "pages"),
        Column("messages", "messages"),
        Column("resets", "RESETs"),
        Column("visits", "visits"),
        Column("faults", "faults"),
        Column("looked", "looks", "seconds"),
        Column("out_of_memory", "no memory"),
    )
    rows = [
        tuple(
            guest["name"]
            if column.key == "guest"
            else round(guest[column.key])
            if column.unit == "count"
            else guest[column.key]
            for column in columns
        )
        for guest in document["guests"]
    ]
    title, note = "What guests waited for, and did themselves", caption("paging", columns)
    return Table("paging", title, columns, rows, document["page_size"], note)


def _host(document: Mapping[str, Any]) -> Table:
    page = document["page_size"]
    rows = [(what, _amount(value, unit, page)) for what, value, unit in _host_rows(document)]
    columns = (Column("what", "", "text"), Column("value", "value", "text"))
    return Table("host", "Host", columns, rows, page)


def _amount(value: float, unit: Unit, page: int) -> str:
    return f"{value:,.0f}" if unit == "count" else cell(value, unit, page)


def _host_data(document: Mapping[str, Any]) -> Table:
    """The same as numbers, each with its unit."""
    columns = (Column("what", "", "text"), Column("value", "value", "number"), Column("unit", "unit", "text"))
    return Table("host", "Host", columns, list(_host_rows(document)), document["page_size"])


def _host_rows(document: Mapping[str, Any]) -> Iterator[tuple[str, float, Unit]]:
    """What the host did: what it is, how much, and in which unit."""
    host = document["host"]
    for name in states():
        yield f"time in state {name}", host["states"][name], "seconds"
    yield "changes of state", host["state_changes"], "count"
    yield "memory for guests", host["for_guests"], "pages"
    yield "free, mean", host["free"], "pages"
    yield "free, least", host["least_free"], "pages"
    yield "swapped out", host["swapped_out"], "pages"
    yield "swapped in", host["swapped_in"], "pages"
    yield "written out while a guest waited for it", host["waited_for_frames"], "pages"
    yield "pages given at first touch", host["first_touches"], "pages"
    yield "pages of balloons that were touched", host["pops"], "count"
    yield "checks of every page's owner and contents", host["checks"], "count"
    if (sharing := host["sharing"]) is not None:
        yield "saved by sharing, mean", host["saved"], "pages"
        yield "saved by sharing, most", host["most_saved"], "pages"
        yield "pages scanned", sharing["scanned"], "count"
        yield "merged", sharing["merged"], "count"
        yield "copied on write", host["copied"], "count"
        yield "CPU time of scanning", sharing["cpu_seconds"], "seconds"


_SPREAD = ("allocated", "allocated_at_end", "estimated", "ballooned", "swapped")


def _spread(document: Mapping[str, Any]) -> Table:
    columns = (
        Column("guest", "guest", "text"),
        *(
            Column(f"{key}{suffix}", heading, "pages")
            for key, words in zip(_SPREAD, ("has, mean", "at end", "estimated", "balloon", "swapped"), strict=True)
            for suffix, heading in (("", words), ("_sd", "+-"))
        ),
        Column("ran", "ran", "seconds"),
        Column("ran_sd", "+-", "seconds"),
    )
    rows = []
    for guest, spread in zip(document["guests"], document["spread"]["guests"], strict=True):
        values: list[Any] = [guest["name"]]
        for key in (*_SPREAD, "ran"):
            values += [guest[key], spread[key]]
        rows.append(tuple(values))
    note = f"Means over {len(document['seeds'])} seeds, +- their standard deviation. Curves and course: of the first."
    return Table("spread", "Seeds", columns, rows, document["page_size"], note)


def caption(name: str, columns: Sequence[Column]) -> str:
    """How to read a table that has these columns: what is said of others is left out."""
    there = [column.key for column in columns]
    sentences = []
    for headings, text in CAPTIONS[name]:
        shown = [heading for key, heading in headings if any(each.startswith(key) for each in there)]
        if shown or not headings:
            words = ", ".join(dict.fromkeys(shown))
            sentences.append(f"{words[0].upper()}{words[1:]}: {text}" if words else text)
    return " ".join(sentences)


CAPTIONS: Mapping[str, Sequence[tuple[Sequence[tuple[str, str]], str]]] = {
    "guests": (
        ((), "Means over time."),
        (
            (("active", "active"),),
            "touched by its own work within 30 s of its time, and since then perhaps swapped, paged out or shared: it"
            " may be more than the guest has; the host only has the estimate.",
        ),
        ((("ran_share", "ran"),), "the part of the time in which it did not wait for disks, or for memory."),
    ),
    "changes": (
        ((), "Means of the last half of each stretch."),
        ((("ran_share", "ran"),), "in that half, not since the guest began, as in the table of guests."),
        ((("against_first", "to first"),), "what it got done, to what it did in the first stretch."),
    ),
    "course": (
        ((("saved", "shared"),), "what sharing saves."),
        ((("allocated", "columns with guests' names"),), "what each has."),
    ),
    "paging": (
        ((("paged", "paged"),), "by the guest itself, to its own disk."),
        ((("dropped", "dropped"), ("read", "read")), "pages of files."),
        ((("messages", "messages"),), "of its balloon, both ways."),
        (
            (("resets", "RESETs"),),
            "how often the host told its driver to begin anew; one of a guest that is reset does so unasked.",
        ),
        ((("visits", "visits"), ("faults", "faults")), "of its estimator."),
        ((("looked", "looks"),), "what these take, and the guest waits for."),
    ),
    "misses": (
        ((), "Shares of touches, as they were seen, that find no page in so much of the guest's memory."),
    ),
    "program": (
        ((("rmse", "error"),), "root mean square, in shares of the guest's pages."),
        ((("lag", "lag"),), "by how much the truth has to be put off to fit best."),
        ((("visits", "visits"), ("faults", "faults"), ("microseconds", "CPU")), "each 30 s."),
    ),
}
"""Of each table what is said of columns, by the beginning of their keys, with what they are called; or of all of it."""


def captioned(table: Table, name: str, console: Console) -> str:
    """Print a table; the caption of what fitted into the terminal."""
    text = as_text(table, width=console.width)
    titled(console, table.title, text)
    return caption(name, table.columns[: len(text.columns)]) if name in CAPTIONS else table.note


def _calibration(document: Mapping[str, Any]) -> Table:
    columns = (Column("what", "", "text"), Column("value", "value", "text"), Column("source", "from", "text"))
    rows = [(each["what"], each["value"], each["source"]) for each in document["calibration"]]
    return Table("calibration", CALIBRATION, columns, rows, document["page_size"])


def said_so(table: Table, document: Mapping[str, Any]) -> Table:
    """A table of data: what all rests on begins with what it is, for CSV has no other place for that."""
    if table.name != "calibration":
        return table
    return replace(table, rows=[("what this is", document["simulation"], ""), *table.rows])


def write(document: Mapping[str, Any], console: Console) -> None:
    """Print a run's document (``lab.report.document``)."""
    say(console, headline(document), style="bold")
    for line in lines(document):
        say(console, printable(line), indent="  ")
    say(console, printable(settings(document)), indent="  ")
    if document["about"]:
        say(console, printable(document["about"]), indent="  ")
    console.print()
    say(console, document["simulation"])
    for table in tables(document)[:-1]:
        console.print()
        unshared = table.name == "course" and not document["host"]["most_saved"]
        shown = _without(table, "saved") if unshared else table
        if note := captioned(shown, shown.name, console):
            say(console, note)
    console.print()
    say(console, CALIBRATION, style="bold")
    for each in document["calibration"]:
        told = f"{each['value']} ({each['source']})" if each["value"] else each["source"]
        say(console, printable(f"{each['what']}: {told}"), indent="  ")


def _without(table: Table, key: str) -> Table:
    kept = [number for number, column in enumerate(table.columns) if column.key != key]
    rows = [tuple(row[number] for number in kept) for row in table.rows]
    return Table(table.name, table.title, tuple(table.columns[i] for i in kept), rows, table.page_size, table.note)


def write_list(sections: Mapping[str, Mapping[str, str]], console: Console) -> None:
    """Print names, and what each is, in sections."""
    for number, (title, names) in enumerate(sections.items()):
        if number:
            console.print()
        if len(sections) > 1:
            say(console, title, style="bold")
        for name, about in names.items():
            say(
                console,
                printable(name),
                style="" if len(sections) > 1 else "bold",
                indent="  " if len(sections) > 1 else "",
            )
            say(console, printable(about), indent="      ")
