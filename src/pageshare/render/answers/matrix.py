"""Which owners have the same in their memory: a heat map, the pairs that have most in common, the matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.answers.matrix import ALWAYS, Matrix
from pageshare.render.heat_map import LABELLED, WRITTEN, heat_map
from pageshare.render.names import named
from pageshare.render.sections import Section
from pageshare.render.seriation import seriated
from pageshare.render.tables import Column, Table
from pageshare.render.units import percent, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pageshare.report import Report

ASSUMPTIONS = ("Zero pages are left out; sharing domains play no part.",)


def section(answer: Matrix, report: Report) -> Section:
    """The matrix in every view."""
    common = np.array(answer.common_contents, np.int64).reshape(2 * (len(answer.owners),))
    return Section(
        "matrix",
        "Who has the same as whom",
        "Which owners have the same contents in their memory?",
        tables=[_pairs(answer, common, report.page_size), _matrix(answer, common, report.page_size)],
        charts=[_chart(answer, common, report.page_size)] if 2 <= len(answer.owners) <= ALWAYS else [],
        lines=list(_lines(answer, common, report.page_size)),
        assumptions=ASSUMPTIONS,
    )


def _shares(common: NDArray[np.int64]) -> NDArray[np.float64]:
    """What two hold of what the one holds that has less; 0 where that is nothing."""
    own = np.diagonal(common)
    shares: NDArray[np.float64] = common / np.maximum(np.minimum.outer(own, own), 1)
    return shares


def _order(common: NDArray[np.int64]) -> list[int]:
    """So that groups stand together; beyond what is ever drawn, as given."""
    return seriated(_shares(common)) if len(common) <= ALWAYS else list(range(len(common)))


def _ranked(common: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pairs that have something in common, most first."""
    a, b = np.nonzero(np.triu(common, 1))
    order = np.argsort(-common[a, b], kind="stable")
    return a[order], b[order]


def _pairs(answer: Matrix, common: NDArray[np.int64], page_size: int) -> Table:
    a, b = _ranked(common)
    rows = zip(
        (answer.owners[i] for i in a.tolist()),
        (answer.owners[i] for i in b.tolist()),
        common[a, b].tolist(),
        _shares(common)[a, b].tolist(),
        strict=True,
    )
    columns = (
        Column("owner_a", "owner", "text"),
        Column("owner_b", "and owner", "text"),
        Column("common_contents", "both hold", "pages"),
        Column("share_of_smaller", "of smaller", "share"),
    )
    note = "both hold: distinct contents, once each, without zeros; of smaller: of what the one holds that has less"
    return Table("matrix-pairs", "Pairs that have most in common", columns, list(rows), page_size, note)


def _matrix(answer: Matrix, common: NDArray[np.int64], page_size: int) -> Table:
    """A row and a column for each owner if they are few, else a row for each pair."""
    title, note = "Contents that both hold", "distinct ones, without zeros; "
    order = np.array(_order(common), np.intp)
    names = [answer.owners[i] for i in order.tolist()]
    ordered = common[np.ix_(order, order)]
    if len(order) <= LABELLED:
        columns = [Column("owner", "owner", "text"), *(Column(f"with {name}", name, "pages") for name in names)]
        rows = [(name, *line) for name, line in zip(names, ordered.tolist(), strict=True)]
        note += "with itself: all that the owner holds; ordered so that similar owners stand together"
        return Table("matrix", title, tuple(columns), rows, page_size, note, detail=len(rows) > WRITTEN)
    a, b = np.nonzero(np.triu(ordered))
    long = zip((names[i] for i in a.tolist()), (names[i] for i in b.tolist()), ordered[a, b].tolist(), strict=True)
    columns = [
        Column("owner_a", "owner", "text"),
        Column("owner_b", "and owner", "text"),
        Column("common_contents", "both hold", "pages"),
    ]
    note += "each pair once, those with nothing in common left out; with itself: all that the owner holds"
    note += "; ordered so that similar owners stand together"
    return Table("matrix", title, tuple(columns), list(long), page_size, note, detail=True)


def _chart(answer: Matrix, common: NDArray[np.int64], page_size: int) -> str:
    order = _order(common)
    ordered = common[np.ix_(order, order)]
    texts = [[size(count * page_size) for count in line] for line in ordered.tolist()] if len(order) <= WRITTEN else []
    return heat_map(
        _shares(ordered),
        [answer.owners[i] for i in order],
        texts,
        title=f"Heat map of what {len(order)} owners have in common; the table has its figures",
        scale="0 to 100 % of what the smaller of the two holds",
    )


def _lines(answer: Matrix, common: NDArray[np.int64], page_size: int) -> Iterator[str]:
    count = len(answer.owners)
    if count < 2:
        yield "There is one owner: nobody to have something in common with."
        return
    a, b = _ranked(common)
    if not len(a):
        yield f"No two of {count:,} owners hold the same content, zeros apart."
        return
    first, second, most = int(a[0]), int(b[0]), int(common[a[0], b[0]])
    smaller = int(min(common[first, first], common[second, second]))
    yield (
        f"{named(answer.owners[first])} and {named(answer.owners[second])} have most in common:"
        f" {size(most * page_size)}, {percent(most, smaller)} of what the smaller of them holds"
    )
    pairs = count * (count - 1) // 2
    if pairs > 1:
        shares = _shares(common)[np.triu_indices(count, 1)]
        middle = float(np.median(shares))
        half = f"; half of all pairs have {percent(round(middle * 10**6), 10**6)} of the smaller one or more"
        yield f"{len(a):,} of {pairs:,} pairs have something in common{half if middle else ''}"
