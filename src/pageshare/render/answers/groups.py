"""Contents by their number of copies: tables, and two curves."""

from __future__ import annotations

from math import log10

from pageshare.answers.groups import Groups, Multiplicity
from pageshare.render import svg
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table
from pageshare.render.units import percent_of, size
from pageshare.report import Report

WIDTH, HEIGHT = 420, 260
BOX = LEFT, TOP, RIGHT, BOTTOM = 56, 26, WIDTH - 18, HEIGHT - 40


def section(answer: Groups, report: Report) -> Section:
    """Everything about how often contents occur."""
    page_size = report.page_size
    return Section(
        key="groups",
        title="Groups of equal pages",
        question="How many copies are there of the same content, and do few contents bring most of what is reclaimed?",
        tables=tables(answer, page_size),
        charts=charts(answer),
        lines=_lines(answer, page_size),
        assumptions=answer.assumptions,
    )


def tables(answer: Groups, page_size: int) -> list[Table]:
    """By powers of two of copies; what the top contents bring; and, exactly, each number of copies."""
    return [_binned(answer, page_size), _top(answer, page_size), _exact(answer, page_size)]


def charts(answer: Groups) -> list[str]:
    """Contents over copies, and the share that the top ones bring; none where no two pages but zeros are equal."""
    return [_by_copies(answer), _curve(answer)] if answer.reclaimed else []


def _lines(answer: Groups, page_size: int) -> list[str]:
    zero = answer.zero.reclaimed
    lines = [
        f"{answer.shared_contents:,} of {answer.contents:,} contents that are not zero are on two pages or more; that"
        f" brings {size(answer.reclaimed * page_size)}, and zero pages bring {size(zero * page_size)}."
    ]
    for each in answer.top[:-1]:
        if each.contents in (100, 10_000):
            lines.append(f"The {each.contents:,} that bring most bring {percent_of(each.share)} of what is not zero.")
    return lines


def _binned(answer: Groups, page_size: int) -> Table:
    bins: dict[int, Multiplicity] = {}
    for each in answer.multiplicities:
        low = 1 << each.copies.bit_length() - 1
        so_far = bins.get(low, Multiplicity(low, 0, 0, 0))
        bins[low] = Multiplicity(
            low, so_far.contents + each.contents, so_far.pages + each.pages, so_far.reclaimed + each.reclaimed
        )
    total = answer.reclaimed + answer.zero.reclaimed
    rows = [
        (
            "1" if low == 1 else f"{low:,} to {2 * low - 1:,}",
            each.contents,
            each.pages,
            each.reclaimed,
            each.reclaimed / total if total else None,
        )
        for low, each in sorted(bins.items())
    ]
    zero = answer.zero
    rows.append(("zero pages", zero.contents, zero.pages, zero.reclaimed, zero.reclaimed / total if total else None))
    columns = (
        Column("copies", "copies", "text"),
        Column("contents", "contents"),
        Column("pages", "pages", "pages"),
        Column("reclaimed", "reclaimed", "pages"),
        Column("share", "of reclaimed", "share"),
    )
    note = "copies: pages that hold the same bytes; each content keeps one. Zero pages are one content in each domain."
    return Table("groups", "Contents by their number of copies", columns, rows, page_size, note)


def _top(answer: Groups, page_size: int) -> Table:
    columns = (
        Column("contents", "top contents"),
        Column("reclaimed", "bring", "pages"),
        Column("share", "of all but zeros", "share"),
    )
    rows = [(each.contents, each.reclaimed, each.share) for each in answer.top]
    return Table("groups-top", "What the top contents bring together", columns, rows, page_size)


def _exact(answer: Groups, page_size: int) -> Table:
    columns = (
        Column("copies", "copies"),
        Column("contents", "contents"),
        Column("pages", "pages", "pages"),
        Column("reclaimed", "reclaimed", "pages"),
    )
    rows = [(each.copies, each.contents, each.pages, each.reclaimed) for each in answer.multiplicities]
    return Table("groups-exact", "Contents of each number of copies", columns, rows, page_size, detail=True)


def _power(exponent: int) -> str:
    """A power of ten, short."""
    return f"{10 ** (exponent % 3)}{' kMGT'[exponent // 3].strip()}"


def _by_copies(answer: Groups) -> str:
    most_copies = answer.multiplicities[-1].copies
    most = max(each.contents for each in answer.multiplicities)
    decades_x, decades_y = (max(1, len(str(number - 1))) for number in (most_copies, most))

    def x(copies: int) -> float:
        return LEFT + log10(copies) / decades_x * (RIGHT - LEFT)

    def y(contents: int) -> float:
        return BOTTOM - log10(contents) / decades_y * (BOTTOM - TOP)

    xs, ys = [x(10**each) for each in range(decades_x + 1)], [y(10**each) for each in range(decades_y + 1)]
    first = answer.multiplicities[0]
    return svg.picture(
        f"How many contents have how many copies, both on a logarithmic scale: {first.contents:,} have"
        f" {first.copies:,}; the most copies are {most_copies:,}",
        WIDTH,
        HEIGHT,
        [
            svg.grid(BOX, xs, ys),
            *(svg.text(at, BOTTOM + 14, _power(each), "middle") for each, at in enumerate(xs)),
            *(svg.text(LEFT - 6, at + 4, _power(each), "end") for each, at in enumerate(ys)),
            svg.text((LEFT + RIGHT) / 2, HEIGHT - 8, "copies", "middle"),
            svg.text(4, 12, "contents"),
            svg.dots(((x(each.copies), y(each.contents)) for each in answer.multiplicities), "accent"),
        ],
    )


def _curve(answer: Groups) -> str:
    def x(share: float) -> float:
        return LEFT + share * (RIGHT - LEFT)

    def y(share: float) -> float:
        return BOTTOM - share * (BOTTOM - TOP)

    quarters = (0, 0.25, 0.5, 0.75, 1)
    half = next(share for share, brought in answer.curve if brought >= 0.5)
    return svg.picture(
        "What share of the contents that are shared, those that bring most first, brings what share of the pages that"
        f" are reclaimed, zero pages left out: half of these come from {percent_of(half)} of the contents",
        WIDTH,
        HEIGHT,
        [
            svg.grid(BOX, [x(each) for each in quarters], [y(each) for each in quarters]),
            *(svg.text(x(each), BOTTOM + 14, percent_of(each), "middle") for each in quarters),
            *(svg.text(LEFT - 6, y(each) + 4, percent_of(each), "end") for each in quarters),
            svg.text((LEFT + RIGHT) / 2, HEIGHT - 8, "of shared contents, the top ones first", "middle"),
            svg.text(4, 12, "of reclaimed"),
            svg.line([(x(0), y(0)), (x(1), y(1))], "faint"),
            svg.line(((x(one), y(other)) for one, other in answer.curve), "accent"),
        ],
    )
