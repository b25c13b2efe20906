"""Names of owners that would break a view, and tables that fit a terminal."""

import pytest

import pageshare
from owner_memories import ZEROS
from pageshare.answers.isolation import isolation
from pageshare.answers.joining import joining
from pageshare.answers.ksm import ksm
from pageshare.answers.matrix import matrix
from pageshare.render import answers
from pageshare.render.answers import isolation as isolation_view
from pageshare.render.answers import joining as joining_view
from pageshare.render.answers import ksm as ksm_view
from pageshare.render.answers import matrix as matrix_view
from pageshare.render.console import laid_out
from pageshare.render.tables import as_csv, as_text

NAMES = ("", "x" * 200, "<script>alert(1)</script>", "\N{PILE OF POO}", "two\nlines", "\x1b[31mred", "=1+1")
VIEWS = ((matrix, matrix_view), (joining, joining_view), (isolation, isolation_view), (ksm, ksm_view))


@pytest.mark.parametrize(("answer", "view"), VIEWS, ids=lambda each: getattr(each, "__name__", "").split(".")[-1])
def test_names_break_no_line_and_no_table(answer, view):
    assert view.__name__.startswith(answers.__name__)
    memory = b"x" * 4096 + ZEROS
    for some in (NAMES, *((name, "other") for name in NAMES)):
        report = pageshare.scan({name: memory * (i + 1) for i, name in enumerate(some)})
        shown = view.section(answer(report.inventory), report)
        for line in (*shown.lines, *shown.assumptions):
            assert "\n" not in line
            assert "\x1b" not in line
            assert len(line) < 400
        for table in shown.tables:
            assert as_csv(table).splitlines()[0].split(",")[0] == table.columns[0].key
            assert {len(row) for row in table.rows} <= {len(table.columns)}
            assert len({column.key for column in table.columns}) == len(table.columns)
            text = laid_out(lambda console, table=table: console.print(as_text(table)), colour=False, width=80)
            assert max(map(len, text.splitlines()), default=0) <= 80
        for chart in shown.charts:
            assert "<script" not in chart
            assert "\x1b" not in chart
