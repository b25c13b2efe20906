"""How long shared stretches are: tables, and a picture by length."""

from __future__ import annotations

from math import ceil

from pageshare.answers.runs import Lengths, Runs
from pageshare.images import printable
from pageshare.render import svg
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table, shortened
from pageshare.render.units import percent_of, size
from pageshare.report import Report

WIDTH, HEIGHT = 640, 250
BOX = LEFT, TOP, RIGHT, BOTTOM = 64, 28, WIDTH - 8, HEIGHT - 36
STEPS = (0.05, 0.1, 0.2, 0.25)
"""Between lines of the picture."""
LONG = 16
"""Pages from which on a run is called long."""


def section(answer: Runs, report: Report) -> Section:
    """Everything about runs."""
    return Section(
        key="runs",
        title="Runs of shared pages",
        question="How long are the stretches of memory that are the same elsewhere, and what do they match?",
        tables=tables(answer, report.page_size),
        charts=charts(answer, report.page_size),
        lines=_lines(answer, report.page_size),
        assumptions=answer.assumptions,
    )


def tables(answer: Runs, page_size: int) -> list[Table]:
    """By length, by owner and what it matches, the longest, and zeros by length."""
    return [
        _lengths("runs", "Runs by length", answer.lengths, page_size),
        _pairs(answer, page_size),
        _longest(answer, page_size),
        _lengths("runs-zero", "Stretches of zero pages by length", answer.zeros, page_size, detail=True),
    ]


def charts(answer: Runs, page_size: int) -> list[str]:
    """The share of runs, and of stretches of zeros, of each length; none where there is neither."""
    return [_by_length(answer, page_size)] if answer.runs or answer.zero_runs else []


def _lines(answer: Runs, page_size: int) -> list[str]:
    if not answer.runs:
        return ["No page but zero pages is the same as another."]
    long = sum(each.pages for each in answer.lengths if each.shortest >= LONG)
    return [
        f"{size(answer.pages * page_size)} that other pages hold too lie in {answer.runs:,} runs,"
        f" {percent_of(long / answer.pages)} of it in runs of {size(LONG * page_size)} or more."
    ]


def _lengths(
    name: str, title: str, lengths: tuple[Lengths, ...], page_size: int, *, detail: bool = False
) -> Table:
    total = sum(each.pages for each in lengths)
    columns = (
        Column("shortest", "from", "pages"),
        Column("longest", "to", "pages"),
        Column("runs", "runs"),
        Column("pages", "together", "pages"),
        Column("share", "of all", "share"),
    )
    rows = [(each.shortest, each.longest, each.runs, each.pages, each.pages / total) for each in lengths]
    return Table(name, title, columns, rows, page_size, detail=detail)


def _pairs(answer: Runs, page_size: int) -> Table:
    columns = (
        Column("owner", "owner", "text"),
        Column("matches", "matches", "text"),
        Column("pages", "pages", "pages"),
        Column("runs", "runs"),
        Column("longest", "longest", "pages"),
    )
    rows = [(each.owner, each.matches, each.pages, each.runs, each.longest) for each in answer.pairs]
    more = f" {answer.more_pairs:,} more pairs are left out." if answer.more_pairs else ""
    note = f"Each content is matched where it lies first: what c has of both a and b is in its row with a.{more}"
    return Table("runs-pairs", "What they match", columns, rows, page_size, note)


def _longest(answer: Runs, page_size: int) -> Table:
    columns = (
        Column("pages", "length", "pages"),
        Column("owner", "owner", "text"),
        Column("address", "from address", "address"),
        Column("matches", "matches", "text"),
        Column("matches_address", "from address", "address"),
    )
    rows = [(each.pages, each.owner, each.address, each.matches, each.matches_address) for each in answer.longest]
    return Table("runs-longest", "The longest runs", columns, rows, page_size)


def _by_length(answer: Runs, page_size: int) -> str:
    runs, zeros = (
        {each.shortest: each.pages / total for each in lengths}
        for lengths, total in ((answer.lengths, answer.pages), (answer.zeros, answer.zero_pages))
    )
    shortest = [1 << power for power in range(max((*runs, *zeros)).bit_length())]
    most = max(*runs.values(), *zeros.values(), 0)
    step_up = next(each for each in STEPS if 5 * each >= most)
    ticks = [nth * step_up for nth in range(ceil(most / step_up - 1e-9) + 1)]
    most = ticks[-1]
    step = (RIGHT - LEFT) / len(shortest)

    def y(share: float) -> float:
        return BOTTOM - share / most * (BOTTOM - TOP)

    bars = []
    for nth, length in enumerate(shortest):
        for series, (of, colour) in enumerate(((runs, "accent"), (zeros, "zero"))):
            if of.get(length):
                top = min(y(of[length]), BOTTOM - 1)
                bars.append(
                    svg.rectangle(LEFT + (nth + 0.1 + 0.4 * series) * step, top, 0.4 * step, BOTTOM - top, colour)
                )
    every = 1 if len(shortest) <= 10 else 2
    labels = [
        svg.text(LEFT + (nth + 0.5) * step, BOTTOM + 14, _short(length * page_size), "middle")
        for nth, length in enumerate(shortest)
        if nth % every == 0
    ]
    shared, zero = size(answer.pages * page_size), size(answer.zero_pages * page_size)
    return svg.picture(
        f"How much lies in runs of what length: {shared} that are the same elsewhere in {answer.runs:,} runs,"
        f" {zero} of zero pages in {answer.zero_runs:,} stretches"
        + (f"; the longest run is of {shortened(printable(answer.longest[0].owner), 40)}" if answer.longest else ""),
        WIDTH,
        HEIGHT,
        [
            svg.grid(BOX, (), [y(each) for each in ticks]),
            *(svg.text(LEFT - 6, y(each) + 4, f"{100 * each:g} %", "end") for each in ticks),
            *bars,
            *labels,
            svg.text((LEFT + RIGHT) / 2, HEIGHT - 6, "length, from that on to twice as long", "middle"),
            svg.legend(
                LEFT, 14, [("accent", f"of {shared} that are the same elsewhere"), ("zero", f"of {zero} of zeros")]
            ),
        ],
    )


def _short(count: int) -> str:
    """A size that is a round one.

    >>> _short(4096), _short(3 << 20)
    ('4K', '3M')
    """
    power = min(4, (count.bit_length() - 1) // 10)
    return f"{count >> 10 * power}{('', 'K', 'M', 'G', 'T')[power]}"
