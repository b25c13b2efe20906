"""The terminal view: one headline, then where it comes from, owner by owner, coverage, and how fast it went; and what
was asked for.

Tables fit 80 columns; sizes are in binary units; what matters most comes first.
"""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console
from rich.text import Text

from pageshare.images import printable
from pageshare.render.console import laid_out, say, titled
from pageshare.render.headline import details, footer, headline
from pageshare.render.sections import ASKED, Section, Short, everything, in_short, keys
from pageshare.render.tables import Table, as_text
from pageshare.report import Report

MOST_ROWS = 40
DEFAULT = ("savings", "owners", "coverage")
"""The sections that are shown if none is asked for; ``owners`` only where there are several."""


def render(report: Report, *, show: Collection[str] = (), colour: bool = False, width: int = 80) -> str:
    """The report as text, for a terminal of ``width`` columns, with ANSI colours if ``colour``."""
    return laid_out(lambda console: write(report, console, show=show), colour=colour, width=width)


def write(report: Report, console: Console, *, show: Collection[str] = ()) -> None:
    """Print the report to a console: the headline, and the sections whose keys ``show`` has ("all": all of them)."""
    console.print(Text("".join(headline(report)), style="bold"), soft_wrap=True)
    for line in details(report):
        say(console, line, indent="  ")
    if not show:
        _short(list(in_short(report, everything(report, ASKED))), console)
    shown = _shown(report, show)
    for section in everything(report, shown):
        console.print()
        _section(section, console, asked=bool(show), detail=section.key in show)
    unanswered = [key for key in show if key != "all" and key not in keys(report)]
    if unanswered:
        console.print()
        say(console, f"Not in this report, since not asked for or not answered: {', '.join(unanswered)}")
    console.print()
    more = [] if show else [key for key in keys(report) if key not in DEFAULT and key != "figures"]
    if more:
        say(console, f"More by --show: {', '.join(more)}, or all; --html FILE makes a page of it")
    for line in footer(report):
        say(console, line)


def _short(answers: list[Short], console: Console) -> None:
    """Print what is asked first, with the answers that there are."""
    answered = [each for each in answers if each.answer]
    if answered:
        console.print()
        say(console, "In short", style="bold")
    for each in answered:
        say(console, printable(f"{each.question} {each.answer}"), indent="  ")


def _shown(report: Report, show: Collection[str]) -> Collection[str]:
    """The keys of the sections to print."""
    if not show:
        return [key for key in DEFAULT if key != "owners" or len(report.owners) > 1]
    return keys(report) if "all" in show else show


def _section(section: Section, console: Console, *, asked: bool, detail: bool) -> None:
    """Print a section; the question that it answers only if it was asked for, tables with ``detail`` only by its
    name."""
    say(console, section.title, style="bold")
    if asked and section.question:
        say(console, section.question)
    for line in section.lines:
        say(console, printable(line), indent="  ")
    for number, table in enumerate(table for table in section.tables if detail or not table.detail):
        if number or section.lines or asked:
            console.print()
        _table(table, console, title="" if table.title == section.title else table.title)
    if section.assumptions:
        console.print()
    for sentence in section.assumptions:
        say(console, printable(f"Assumed: {sentence}"))


def _table(table: Table, console: Console, *, title: str) -> None:
    """Print a table as far as it fits, and say what does not."""
    shown = as_text(table, most=MOST_ROWS, width=console.width)
    if title:
        titled(console, title, shown)
    else:
        console.print(shown)
    left_out = [
        f"{count} more{what}{'s' * (what != '' and count != 1)}"
        for count, what in ((len(table.rows) - MOST_ROWS, ""), (len(table.columns) - len(shown.columns), " column"))
        if count > 0
    ]
    if left_out:
        console.print(f"and {', '.join(left_out)} (--csv DIR has all)")
    if table.note:
        say(console, printable(table.note))
