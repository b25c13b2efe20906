"""The figures of the paper as text: what was published beside what was found, and which of it was fitted."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from rich.console import Console
from rich.table import Table

from pageshare.figures import FIGURE_4, FITTED, FITTED_TO, PAGE, RATES, Convergence, Figure4, Figure5, Made
from pageshare.images import printable

PAPER = 'Waldspurger, "Memory Resource Management in VMware ESX Server", OSDI 2002'


def write_figure_4(figure: Figure4, console: Console) -> None:
    """Print figure 4 to a console."""
    console.print("Figure 4: what 1 to 10 identical Linux guests of 40 MB share", style="bold")
    console.print(f"paper: {PAPER}\nscan:  images made to a model, then scanned")
    console.print()
    _write_made_guests(figure, console)
    console.print("shared, reclaimed: % of all guests' memory; off: scan - paper")
    console.print()
    console.print(_fit(figure))
    console.print()
    console.print(_model())
    if figure.real:
        console.print()
        console.print(_real_guests(figure))
        for line in wrap(f"the guests, in this order: {printable(', '.join(figure.owners))}", 79):
            console.print(line)
    console.print()
    _write_convergence(figure.convergence, console)


def write_figure_5(figure: Figure5, console: Console) -> None:
    """Print figure 5 to a console."""
    console.print("Figure 5: what three groups of guests in production share", style="bold")
    console.print(f"paper: {PAPER}\nscan:  images made to a specification, then scanned")
    console.print()
    console.print(_workloads(figure.workloads))
    console.print()
    console.print(
        "Set from the paper: the size, and the shared, reclaimed and zero memory. The\n"
        "specification was solved for these, so that they agree predicts nothing.\n"
        "Workload A's zero pages were not published: it is made with none."
    )
    console.print()
    console.print(_predicted(figure.workloads))
    console.print(
        "alone: what guests would save each by itself; between: what only sharing\n"
        "between them saves; MB, without zero pages. Times: until half and nine\n"
        "tenths of the saving are found by random draws, if nobody writes meanwhile.\n"
        "All of it follows from an assumption: copies fall on the guests by chance."
    )
    if figure.page_size != PAGE:
        console.print()
        console.print(
            f"There are as many pages as in the paper, but each is made {figure.page_size} bytes long\n"
            f"and stands for one of {PAGE}: what is shared is the same (--full: whole pages)."
        )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table


def _write_made_guests(figure: Figure4, console: Console) -> None:
    """Three columns for each curve: laid out by hand, for a rich table has no headings over several of them."""
    curves = {"shared": "shared, %", "reclaimed": "reclaimed, %", "zero_mb": "zero, MB"}
    console.print(" " * 6 + "".join(f"{heading:>20}" for heading in curves.values()), style="bold")
    console.print("guests" + f"{'paper':>8}{'scan':>6}{'off':>6}" * len(curves), style="bold")
    for mine, published in zip(figure.points, FIGURE_4, strict=True):
        cells = [f"{mine.count:>6}"]
        for name in curves:
            scan, paper = getattr(mine, name), getattr(published, name)
            cells += [f"{paper:>8.1f}", f"{scan:>6.1f}", f"{_signed(scan - paper):>6}"]
        cells.append("  fitted" if mine.count in FITTED_TO else "  predicted")
        console.print("".join(cells))


def _signed(number: float) -> str:
    text = f"{number:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _fit(figure: Figure4) -> Table:
    table = _table("Largest deviation, in % of all guests' memory", "", "shared", "reclaimed", "zero")
    for what, fitted in (("fitted to", True), ("predicted", False)):
        counts = [point.count for point in figure.points if (point.count in FITTED_TO) is fitted]
        found = figure.deviations(fitted=fitted).values()
        table.add_row(f"{what} {', '.join(map(str, counts))}", *(f"{off:.2f} (at {count})" for off, count in found))
    return table


def _model() -> Table:
    table = _table("The model: six numbers, all fitted, the same for every guest", "", "")
    for value, what in (
        (FITTED.zero, "of a guest's pages are zero"),
        (FITTED.base, "hold what every guest holds, each content once"),
        (FITTED.common, "hold what some guests hold: each content is in a guest"),
        (FITTED.probability, "  with this probability"),
        (FITTED.duplicate, "hold contents drawn at random, the same set for all guests,"),
        (FITTED.contents, "  of as many contents as this part of a guest's pages"),
    ):
        table.add_row(f"{100 * value:5.2f} %", what)
    table.columns[1].justify = "left"
    rest = 1 - FITTED.zero - FITTED.base - FITTED.common - FITTED.duplicate
    table.add_row(f"{100 * rest:5.2f} %", "are left: in no other page")
    table.show_header = False
    return table


def _real_guests(figure: Figure4) -> Table:
    table = _table(
        "The same curve of the dumps that were given",
        *("guests", "MB", "shared %", "paper", "reclaimed %", "paper", "zero %", "paper"),
    )
    for i, mine in enumerate(figure.real):
        published = FIGURE_4[i] if i < len(FIGURE_4) else None
        cells = [str(mine.count), f"{mine.mb:.0f}"]
        for name in ("shared", "reclaimed", "zero"):
            cells += [f"{getattr(mine, name):.1f}", f"{getattr(published, name):.1f}" if published else "-"]
        table.add_row(*cells)
    return table


def _write_convergence(convergence: Convergence, console: Console) -> None:
    slow, fast = RATES
    table = _table(
        "How fast ESX finds it: share of the saving in all ten guests",
        *("visits a page", f"at {slow}/s", f"at {fast:,}/s", "random draws", "random passes"),
    )
    for each in convergence.told():
        table.add_row(
            f"{each.visits:g}",
            *(_time(convergence.minutes(each.visits, rate)) for rate in RATES),
            f"{100 * each.draws:.1f} %",
            f"{100 * each.permutation:.1f} %",
        )
    console.print(table)
    console.print(
        f"{convergence.pages:,} pages, scanned by the frame table; nobody writes meanwhile. Draws:\n"
        "any page each time, ESX's way; passes: each page once a pass.\n"
        f"Rates, for all guests together: {slow} pages a second is the default and {fast:,}\n"
        "the most of ESX 3.0.1; the paper says that the rate is configured."
    )


def _workloads(workloads: Sequence[Made]) -> Table:
    table = _table("", "workload", "", "MB", "shared MB", "%", "reclaimed MB", "%", "zero MB")
    table.title = None
    for made in workloads:
        paper = made.workload
        for source, figures in (("paper", paper), ("scan", made)):
            first = source == "paper"
            table.add_row(
                f"{paper.name}: {paper.guests} {paper.system}" if first else "",
                source,
                f"{figures.mb:,.0f}",
                *(f"{figures.shared:.0f}", f"{figures.shared_percent:.1f}"),
                *(f"{figures.reclaimed:.0f}", f"{figures.reclaimed_percent:.1f}"),
                "-" if figures.zero is None else f"{figures.zero:.0f}",
                style=None if first else "bold",
            )
    return table


def _predicted(workloads: Sequence[Made]) -> Table:
    slow, fast = RATES
    table = _table(
        "What the specification says beyond that",
        *("", "alone", "between", f"at {slow}/s: half", "9/10", f"at {fast:,}/s: half", "9/10"),
    )
    for made in workloads:
        times = [
            _time(made.convergence.minutes(made.convergence.visits_until(share), rate))
            for rate in RATES
            for share in (0.5, 0.9)
        ]
        table.add_row(made.workload.name, f"{made.intra:.0f}", f"{made.inter:.0f}", *times)
    return table


def _time(minutes: float) -> str:
    return f"{60 * minutes:.1f} s" if minutes < 1 else f"{minutes:.{0 if minutes >= 100 else 1}f} min"


__all__ = ["write_figure_4", "write_figure_5"]
