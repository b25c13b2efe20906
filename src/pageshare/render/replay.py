"""The terminal view of a replay: what was saved at the end, the course, what became of visits, the price."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pageshare.render.console import say, titled
from pageshare.render.units import clock, duration, percent, size

ROWS = 12


def write(document: Mapping[str, Any], pace: str, console: Console) -> None:
    """Print a replay's document (``replay.report.replay_document``); ``pace`` in words."""
    page_size = document["page_size"]

    def in_bytes(pages: float) -> str:
        return size(round(pages * page_size))

    for line in _headline(document, in_bytes):
        say(console, line, style="bold")
    say(
        console,
        f"{document['policy']}, {pace}, seed {document['seed']}, set to save {_SET_TO[document['objective']]}"
        + ("; interrupted" if document["interrupted"] else ""),
        indent="  ",
    )
    if document["possible"]:
        say(console, _when(document), indent="  ")
        saved, possible = document["saved_nonzero"], document["possible_nonzero"]
        say(
            console,
            f"without zero pages: {in_bytes(saved)} saved of {in_bytes(possible)} ({percent(saved, possible)})",
            indent="  ",
        )
    if document["course"][-1]["visits"]:
        console.print()
        titled(console, "Course", _course(document, in_bytes))
        say(console, "of possible: of what could be saved at that moment, by a count of all pages")
        console.print()
        titled(console, "What visits met", _outcomes(document))
        console.print()
        for sentence in _footer(document, in_bytes):
            say(console, sentence)


def _when(document: Mapping[str, Any]) -> str:
    """When shares of what the policy is to find were saved first."""
    nonzero = document["objective"] == "nonzero"
    moments, of = [], f"of what could be{' without zero pages' if nonzero else ''} "
    for share, reached in document["reached_nonzero" if nonzero else "reached"].items():
        moments.append(f"{share} % {of}" + ("not" if reached is None else f"after {clock(reached['seconds'])}"))
        of = ""
    return ", ".join(moments)


_SET_TO = {"all": "any pages", "nonzero": "pages that are not zero"}


def _headline(document: Mapping[str, Any], in_bytes: Callable[[float], str]) -> Iterator[str]:
    saved, possible = document["saved"], document["possible"]
    if not document["pages"]:
        yield "No page that must be read: there is nothing to look for."
    elif not possible and not document["visits"]:
        yield "No two pages are equal: there is nothing to save."
    else:
        yield (
            f"{in_bytes(saved)} saved after {clock(document['seconds'])}, of {in_bytes(possible)} that could be"
            f" ({percent(saved, possible)})"
        )


def _course(document: Mapping[str, Any], in_bytes: Callable[[float], str]) -> Table:
    table = Table(box=None, pad_edge=False)
    changing = bool(document["writes"])
    headings = ["time", "visits", "saved", "of possible", "nonzero", "of possible"]
    for heading in [*headings, *(["broken"] if changing else [])]:
        table.add_column(heading, justify="right", no_wrap=True)
    course: Sequence[Mapping[str, Any]] = document["course"]
    picked = sorted({round(i * (len(course) - 1) / ROWS) for i in range(ROWS + 1)})
    for sample in (course[i] for i in picked):
        cells = [
            clock(sample["seconds"]),
            f"{sample['visits']:,}",
            in_bytes(sample["saved"]),
            percent(sample["saved"], sample["possible"]),
            in_bytes(sample["saved_nonzero"]),
            percent(sample["saved_nonzero"], sample["possible_nonzero"]),
        ]
        table.add_row(*cells, *([f"{sample['cow_breaks']:,}"] if changing else []))
    return table


_OUTCOMES = {
    "SHARED_NEW": "found: equal to a hint, now one frame",
    "SHARED": "found: joined a frame",
    "ZERO": "found: zero",
    "HINTED": "seen first, or changed since: a hint",
    "ALREADY_HINTED": "its own hint, unchanged",
    "ALREADY_SHARED": "shared already",
    "STALE_HINT": "its hint's page had changed",
    "FALSE_MATCH": "same hash, other bytes",
    "VOLATILE": "changed since its last visit",
    "PASSED_OVER": "out of this pass' range of hashes",
    "UNREADABLE": "could not be read",
}


def _outcomes(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("pages", justify="right")
    table.add_column("of visits", justify="right")
    for name, words in _OUTCOMES.items():
        count = document["outcomes"][name]
        if count:
            table.add_row(words, f"{count:,}", percent(count, document["visits"]))
    return table


def _footer(document: Mapping[str, Any], in_bytes: Callable[[float], str]) -> Iterator[str]:
    if document["writes"]:
        yield (
            f"{document['writes']:,} writes; {document['cow_breaks']:,} broke a shared page (copy-on-write),"
            f" {document['cow_breaks_within_10s']:,} of them within 10 s of its merge"
        )
    if document["seconds"]:
        yield (
            f"on average over time {in_bytes(document['mean_saved'])} saved, of {in_bytes(document['mean_possible'])}"
        )
    pages, peeks = document["pages"], document["peeks"]
    yield (
        f"{document['visits']:,} visits of {pages:,} {'page' if pages == 1 else 'pages'}"
        + (f", {peeks:,} peeks" if peeks else "")
        + f": {duration(document['cpu_seconds'])} of CPU at costs measured here, and"
        f" {duration(document['policy_seconds'])} for the policy, which keeps"
        f" {document['metadata_bits']:,.1f} bits a page"
    )
