"""The terminal view of a comparison: policies side by side, best first, with zero pages and without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from pageshare.render.console import say, titled
from pageshare.render.units import clock, percent, size


def write(document: Mapping[str, Any], pace: str, console: Console) -> None:
    """Print a comparison's document (``replay.report.policies_document``); ``pace`` in words."""
    still = document["pace"] is None
    say(console, _headline(document), style="bold")
    for sentence in _settings(document, pace):
        say(console, sentence, indent="  ")
    shown = 0
    for suffix, what in (("", "any pages"), ("_nonzero", "pages that are not zero")):
        if still and not document["possible" + suffix]:
            continue
        shown += 1
        console.print()
        if still:
            title = f"To save {what}: visits in % of pages until 50, 90, 99 % found"
            titled(console, title, _still(document, suffix))
        else:
            titled(console, f"To save {what}, while memory changes", _changing(document, suffix))
    if shown:
        console.print()
        for sentence in _legend(document, still):
            say(console, sentence)


def write_list(sentences: Mapping[str, str], console: Console) -> None:
    """Print each policy's name, and below it the sentence that says what it does."""
    for name, sentence in sentences.items():
        say(console, name, style="bold")
        say(console, sentence, indent="    ")


def ranked(document: Mapping[str, Any], suffix: str) -> list[Mapping[str, Any]]:
    """The policies of a document, best first: by cost until 90 %, or by what was saved over time."""
    if document["pace"] is None:
        return sorted(
            document["policies"],
            key=lambda each: (_rank(each["cost" + suffix]["90"]), -each["area" + suffix]),
        )
    return sorted(document["policies"], key=lambda each: -each["mean_saved" + suffix])


def _headline(document: Mapping[str, Any]) -> str:
    page_size = document["page_size"]
    possible, pages = document["possible"], document["pages"]
    still = document["pace"] is None
    if not pages:
        return "No page that must be read: there is nothing to look for."
    if still and not possible:
        return "No two pages are equal: there is nothing to save."
    return (
        f"{size(possible * page_size)} of {size(pages * page_size)} can be saved{'' if still else ' at the start'}"
        f" ({percent(possible, pages)}), {size(document['possible_nonzero'] * page_size)} of it not zero"
    )


def _settings(document: Mapping[str, Any], pace: str) -> Iterator[str]:
    peek = document["peek"]
    yield (
        f"a peek is charged {peek['price']:g} of a visit; here it costs {peek['measured']['sequential']:.3f} of one in"
        f" address order, {peek['measured']['random']:.3f} anywhere"
    )
    if document["pace"] is not None:
        yield f"{clock(document['duration'])} of virtual time, {pace}"


def _share(number: float | None) -> str:
    return "-" if number is None else f"{100 * number:.1f}"


def _table(name: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(name, overflow="fold")  # options behind a name make it long
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _still(document: Mapping[str, Any], suffix: str) -> Table:
    table = _table("policy", "50 %", "90 %", "99 %", "cost 90", "+-", "CPU s", "area", "bits")
    for each in ranked(document, suffix):
        visits, cpu = each["visits" + suffix], each["cpu_seconds" + suffix]["90"]
        table.add_row(
            each["name"],
            *(_share(visits[share]) for share in ("50", "90", "99")),
            _share(each["cost" + suffix]["90"]),
            _share(each["spread"]["cost" + suffix]["90"]),
            "-" if cpu is None else f"{cpu:.3f}",
            f"{each['area' + suffix]:.3f}",
            f"{each['metadata_bits' + suffix]:.1f}",
        )
    return table


def _rank(number: float | None) -> float:
    return float("inf") if number is None else number


def _changing(document: Mapping[str, Any], suffix: str) -> Table:
    page_size = document["page_size"]
    table = _table("policy", "saved", "of most", "+- %", "merges", "broken", "in 10 s", "CPU s")
    for each in ranked(document, suffix):
        mean, possible = each["mean_saved" + suffix], each["mean_possible" + suffix]
        table.add_row(
            each["name"],
            size(round(mean * page_size)),
            percent(round(mean), round(possible)),
            f"{100 * each['spread']['mean_saved' + suffix] / mean:.1f}" if mean else "-",
            f"{each['merges' + suffix]:,.0f}",
            f"{each['cow_breaks' + suffix]:,.0f}",
            f"{each['cow_breaks_within_10s' + suffix]:,.0f}",
            f"{each['total_cpu_seconds' + suffix]:.2f}",
        )
    return table


def _legend(document: Mapping[str, Any], still: bool) -> Iterator[str]:
    seeds = len(document["seeds"])
    of_saved = "" if still else " in % of saved"
    runs = f"means of {seeds} seeds, +- their standard deviation{of_saved}" if seeds > 1 else "a single seed"
    if still:
        yield f"cost 90: visits and peeks until 90 %, in % of pages; CPU s: until then, at costs measured here; {runs}"
        yield "area: mean share found over a cost of 0 to one visit a page; bits: what the policy keeps for each page"
        yield "-: not within eight visits a page; docs/policies.md says what each policy does"
    else:
        yield f"saved: mean over time; of most: of what could be saved, mean over time; {runs}"
        yield "broken: merges that a write undid (copy-on-write), in 10 s: within ten seconds; CPU s: of all looks"
