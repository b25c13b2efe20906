"""One report in all views: the same numbers, whatever the names and the sizes; and what the page may hold."""

import gzip
import io
import json
import math
import random
import re
from dataclasses import replace
from itertools import pairwise

import pyarrow.parquet
import pytest
from rich.cells import cell_len

import pageshare
from made_up import HOSTILE, PAGE, made_up_sections, random_report
from pageshare.render import report_page
from pageshare.render.parquet import as_parquet
from pageshare.render.sections import KEYS, OPTIONS, everything, in_short
from pageshare.render.tables import FORMULAS, as_csv, cell, plain, shortened
from pageshare.render.text import render
from pageshare.render.units import size
from read_views import Page, lines_of, of_csv

REPORTS = {
    "one": {"owners": 1},
    "two": {"owners": 2},
    "domains": {"owners": 3, "domains": {"red": ["guest-000", "guest-002"]}},
    "apart": {"owners": 5, "domain_per_owner": True},
    "twelve": {"owners": 12, "pages": 30},
    "policy": {"owners": 3, "policy": "random", "limit": 50},
    "all-zero": {"owners": 2, "pages": 1},
}


@pytest.fixture(params=REPORTS)
def report(request):
    return random_report(seed=random.Random(request.param).randrange(1000), **REPORTS[request.param])


@pytest.fixture
def made_up(monkeypatch):
    """Sections with all that there may be in one, in every report."""
    monkeypatch.setattr("pageshare.render.sections.answered", lambda _: made_up_sections())


def tables(report):
    return [(section, table) for section in everything(report) for table in section.tables]


def read(value, unit):
    """A CSV's field as the number or the text that it is."""
    if value == "" and unit != "text":
        return None
    if unit == "text":
        return value.removeprefix("'") if value[1:].startswith(FORMULAS) and value[0] == "'" else value
    if unit == "hash":
        return bytes.fromhex(value)
    whole = unit not in ("share", "number", "seconds") and value.lstrip("-").isdecimal()
    return int(value) if whole else float(value)


def shown(value, column):
    """As people see it, blanks apart."""
    return " ".join(cell(value, column.unit, PAGE).split())


def compare(report):
    """Every cell of every table in CSV, Parquet, HTML and on a very wide terminal; returns how many there were."""
    page = Page(report_page.page(report))
    text = render(report, show=("all", *KEYS), width=5000)
    downloads = page.links()
    cells = 0
    for section, table in tables(report):
        keys, *rows = of_csv(as_csv(table))
        assert keys == [column.key for column in table.columns]
        units = [column.unit for column in table.columns]
        values = [[read(value, unit) for value, unit in zip(row, units, strict=True)] for row in rows]
        columns = pyarrow.parquet.read_table(io.BytesIO(as_parquet(table))).to_pydict()
        assert list(columns) == keys
        typed = [list(row) for row in zip(*columns.values(), strict=True)]
        given = [[plain(value) if isinstance(value, str) else value for value in row] for row in table.rows]
        for row in (*values, *given):  # CSV has one field for a text that is empty, and for none
            row[:] = [None if value == "" else value for value in row]
        assert [[None if value == "" else value for value in row] for row in typed] == values == given
        name = f"{table.name}.csv"
        assert name not in downloads or downloads[name].decode() == as_csv(table)
        cells += len(values) * len(keys)
        if not table.rows:
            continue
        people = [list(map(shown, row, table.columns)) for row in table.rows]
        _, *seen = page.rows(table.name)
        assert len(seen) == min(len(people), report_page.MOST_ROWS)
        for mine, row in zip(seen, people, strict=False):
            assert mine.pop(0).replace("(no name)", "").split() == shortened(row[0], report_page.LONGEST).split()
            assert [" ".join(each.split()) for each in mine] == row[1:]
        _, *lines = lines_of(text, "\n".join((table.title, *section_question(section, table))))
        for line, row in zip(lines, people[:40], strict=False):
            assert line.split() == " ".join(row).split()
    return cells


def section_question(section, table):
    """What stands between the title of a section that is its table's too, and the table."""
    return (section.question, "") if table.title == section.title else ()


def test_views_show_the_same_numbers(report):
    assert compare(report) > 30


@pytest.mark.usefixtures("made_up")
def test_views_show_the_same_whatever_there_is():
    found = random_report(seed=9, names=HOSTILE)
    assert compare(found) > 10_000


def figures(document):
    """The tables that every report has, from its JSON, by plain arithmetic."""
    pages, nonzero, size_of = document["pages"], document["nonzero"], document["page_size"]
    known = pages["known"]

    def share(count):
        return None if count is None or not known else count / known

    names = ("known", "zero", "unique", "shared", "kept", "reclaimed", "unknown")
    yield "headline", [
        [name, pages[name], None if pages[name] is None else pages[name] * size_of]
        + [None if name == "unknown" else share(pages[name])]
        + ([] if document["reclaimed_range"] is None else [{"reclaimed": document["reclaimed_range"][1]}.get(name)])
        for name in names
    ]
    zero = {name: pages[name] - nonzero[name] for name in ("shared", "kept", "reclaimed")}
    assert zero["shared"] - zero["kept"] == zero["reclaimed"]
    yield "savings", [
        [name, shared, kept, reclaimed, share(reclaimed)]
        for name, shared, kept, reclaimed in (
            ("zero pages", *zero.values()),
            ("other content", nonzero["shared"], nonzero["kept"], nonzero["reclaimed"]),
            ("  within one owner (intra)", None, None, nonzero["reclaimed_intra"]),
            ("  between owners (inter)", None, None, nonzero["reclaimed_inter"]),
            ("all", pages["shared"], pages["kept"], pages["reclaimed"]),
        )
    ]
    yield "owners", sorted(
        [
            [owner["name"]]
            + ([owner["domain"]] if len(document["domains"]) > 1 else [])
            + [owner["pages"][name] for name in ("known", "zero", "reclaimed")]
            + [owner["with_others"][name] for name in ("shared", "unique")]
            for owner in document["owners"]
        ],
        key=str,
    )
    coverage = {**document["coverage"], "partial": pages["partial"]}
    states = ("data", "zero", "zero_inferred", "excluded", "lost", "device", "partial")
    yield "coverage", [coverage[state] for state in states if state == "data" or coverage[state]]


def compare_with_json(report):
    document = json.loads(json.dumps(report.to_dict()))
    report = replace(report, answers=None)
    found = {table.name: [list(row) for row in table.rows] for _, table in tables(report)}
    found["owners"].sort(key=str)
    found["coverage"] = [row[1] for row in found["coverage"]]
    assert found == dict(figures(document))


def test_views_show_what_json_has(report):
    compare_with_json(report)
    page = report_page.page(report)
    assert json.loads(Page(page).links()["report.json"]) == json.loads(json.dumps(report.to_dict()))


def lacking(report, unknown):
    """The report, if so many pages more were lost."""
    return replace(
        report,
        pages=replace(report.pages, unknown=report.pages.unknown + unknown),
        coverage=replace(report.coverage, lost=report.coverage.lost + unknown),
    )


def test_a_range_in_every_view_where_more_than_5_percent_are_unknown():
    found = random_report(seed=3, owners=2, pages=100)
    known, reclaimed = found.pages.known, found.pages.reclaimed
    most = math.floor(known * 0.05 / 0.95)  # so many are 5 % of all, or just less
    for unknown in (0, most, most + 1, 5 * known):
        report = lacking(found, unknown)
        compare_with_json(report)
        compare(report)
        page, text, document = report_page.page(report), render(report), report.to_dict()
        sentence = f"Between {size(reclaimed * PAGE)} and {size((reclaimed + unknown) * PAGE)}"
        (headline,) = [table for _, table in tables(report) if table.name == "headline"]
        if unknown > most:
            assert document["reclaimed_range"] == [reclaimed, reclaimed + unknown]
            assert text.startswith(sentence)
            assert sentence in page.replace("\N{NO-BREAK SPACE}", " ")
            assert [row[-1] for row in headline.rows if row[0] == "reclaimed"] == [reclaimed + unknown]
        else:
            assert document["reclaimed_range"] is None
            assert "Between" not in text
            assert "Between" not in page
            assert headline.columns[-1].key == "share"


def test_in_short_every_view_has_the_first_sentences_of_sections(report):
    there = list(everything(report))
    found = list(in_short(report, there))
    page, text = Page(report_page.page(report)), " ".join(render(report).split())
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a" and "href" in attributes]
    first = {section.key: section.lines[0] for section in there if section.lines}
    for each in found:
        assert bool(each.answer) != bool(each.option)
        if each.answer:
            assert each.answer == first[each.key]
            assert " ".join(f"{each.question} {each.answer}".split()) in text
            assert links.count(f"#{each.key}") == 2  # the list of sections has one too
        else:
            assert each.key not in first
            assert each.option == OPTIONS[each.key]
    answered = {each.key for each in found if each.answer}
    if report.answers is None:
        assert not found
    else:
        several = {"joining", "isolation", "matrix"} if len(report.owners) > 1 else set()
        assert answered == {"ksm", "contents"} | several
    assert ("In short" in text) == bool(found)


def test_what_is_long_is_folded():
    report = random_report(seed=3, owners=50, pages=20)
    page, brief = Page(report_page.page(report)), render(report, show=("all",))
    kinds = [attributes.get("class") for tag, attributes in page.elements if tag == "details"]
    all_of_them = [table for _, table in tables(report)]
    assert kinds.count("table") == len([table for table in all_of_them if table.detail and table.rows])
    long = [table for table in all_of_them if not table.detail and len(table.rows) > report_page.LONG]
    assert kinds.count("rows") == len(long) > 3
    for section, table in tables(report):
        title = f"\n{table.title}\n"
        assert not table.detail or title not in brief
        assert title in render(report, show=(section.key,))


OUTSIDE = ["html", "head", "meta", "title", "style", "body", "a", "nav", "main", "section", "footer", "div", "span"]
OUTSIDE += ["details", "summary"]
TEXTS = ["p", "ul", "li", "h1", "h2", "h3", "b", "i", "dl", "dt", "dd", "code"]
DRAWN = ["figure", "svg", "g", "path", "rect", "circle", "line", "polyline", "polygon", "text", "tspan", "defs", "use"]
TAGS = {*OUTSIDE, *TEXTS, *DRAWN, "table", "caption", "thead", "tbody", "tr", "th", "td"}
"""What a page is made of: nothing that runs or loads."""


@pytest.mark.parametrize("answers", ["made-up", "real"])
def test_names_become_no_elements(answers, request):
    if answers == "made-up":
        request.getfixturevalue("made_up")
    report = random_report(seed=6, names=HOSTILE)
    left_out = {"path": HOSTILE[1], "reason": HOSTILE[0]}
    report = replace(report, warnings=HOSTILE, incomplete=HOSTILE, skipped=(left_out,))
    text = report_page.page(report)
    page = Page(text)
    assert {tag for tag, _ in page.elements} <= TAGS
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert set(attributes) & {"src", "action", "srcset", "poster", "data", "xlink:href"} == set()
        target = attributes.get("href", "#")
        assert target.startswith("#") or ("download" in attributes and re.match(r"data:[\w/;=-]+;base64,", target))
    assert not re.search(r"url\((?!#)|@import|https?://", text.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    policy = {"http-equiv": "Content-Security-Policy"}
    (content,) = [found["content"] for tag, found in page.elements if tag == "meta" and policy.items() <= found.items()]
    assert content == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    text.encode("utf-8")
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    for _, found in page.elements:
        for reference in (found.get("aria-labelledby"), found.get("href", "").removeprefix("#")):
            assert not reference or reference in ids or reference.startswith("data:")


def test_json_and_csv_keep_names():
    report = random_report(seed=6, names=HOSTILE)
    document = json.loads(json.dumps(report.to_dict()))
    assert [owner["name"] for owner in document["owners"]] == list(HOSTILE)
    (owners,) = [table for _, table in tables(report) if table.name == "owners"]
    _, *rows = of_csv(as_csv(owners))
    expected = {f"'{name}" if name[:1] in tuple("=+-@") and len(name) > 1 else plain(name) for name in HOSTILE}
    assert {row[0] for row in rows} == expected
    assert "'=cmd|'/c calc'!A1" in expected
    assert "-" in expected


@pytest.mark.usefixtures("made_up")
def test_names_cannot_play_with_the_terminal():
    text = render(random_report(seed=6, names=HOSTILE), show=("all",))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "[bold]rich[/bold]" in text
    assert not re.search(r"^(and a|\[31m)", text, re.MULTILINE)


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize("width", [80, 100, 237])
def test_tables_fit_the_terminal_and_no_figure_is_cut(width):
    text = render(random_report(seed=6, names=HOSTILE), show=("all",), width=width)
    # A word that is longer than a line is left whole in a sentence.
    assert max(cell_len(line) for line in text.splitlines()[:-3] if "x" * 200 not in line) <= width
    assert re.search(r"and \d+ more columns \(--csv DIR has all\)", text)
    assert re.search(r"^and 20 more\b", text, re.MULTILINE)
    assert re.search(r"^and 2960 more \(--csv DIR has all\)$", text, re.MULTILINE)


def huge(pages):
    """A report of so many pages, by arithmetic: of each four one is zero, and two are the same."""
    one = random_report(seed=1, owners=2, pages=4)
    zero, shared, kept = pages // 4, pages // 2, pages // 4
    counts = replace(
        one.pages, known=pages, zero=zero, zero_inferred=0, unique=pages - zero - shared,
        shared=zero + shared, kept=kept + bool(zero), reclaimed=zero + shared - kept - bool(zero),
    )  # fmt: skip
    nonzero = replace(
        one.nonzero, shared=shared, kept=kept, reclaimed=shared - kept, reclaimed_intra=0, reclaimed_inter=shared - kept
    )
    coverage = replace(one.coverage, data=pages)
    return replace(one, page_size=4096, pages=counts, nonzero=nonzero, coverage=coverage)


@pytest.mark.parametrize("pages", [0, 1, 2**32 - 2, 2**32, 2**40, 2**52])
def test_sizes_from_nothing_to_more_than_there_is(pages):
    report = huge(pages)
    compare_with_json(report)
    for _, table in tables(report):
        for row in table.rows:
            for value, column in zip(row, table.columns, strict=True):
                assert column.unit == "text" or value is None or value >= 0
        typed = pyarrow.parquet.read_table(io.BytesIO(as_parquet(table)))
        assert [list(row) for row in zip(*typed.to_pydict().values(), strict=True)] == [list(row) for row in table.rows]
    text, page = render(report), report_page.page(report)
    assert max(map(len, text.splitlines()[:-3])) <= 80
    known = {2**52: "16.0 EiB", 2**32: "16.0 TiB", 2**40: "4.00 PiB", 2**32 - 2: "16.0 TiB", 1: "4.00 KiB"}
    expected = known.get(pages)
    if expected:
        assert f" of {expected} can be saved" in text
        assert f"of {expected} can be saved" in page.replace("\N{NO-BREAK SPACE}", " ")
    else:
        assert text.startswith("No page whose content is known")
        assert "No page whose content is known" in page
    assert ("strip" in {found.get("class") for _, found in Page(page).elements}) == (pages > 0)


def test_memory_of_less_than_a_page():
    report = pageshare.scan(b"x")
    assert report.pages.known == 0
    compare_with_json(report)
    assert "No page whose content is known" in report_page.page(report)


def test_the_bar_shows_all_pages(report):
    """unique, kept and what is saved are all that is known; the widths are their pages."""
    elements = Page(report_page.page(report)).elements
    (start,) = [i for i, (_, found) in enumerate(elements) if found.get("class") == "strip"]
    parts = {}
    for tag, found in elements[start + 1 :]:
        if tag != "i":
            break
        parts[found["class"].split()[0]] = int(re.search(r"--part: (\d+)", found["style"])[1])
    pages, nonzero = report.pages, report.nonzero
    assert sum(parts.values()) == pages.known + pages.unknown
    assert parts.get("kept", 0) == pages.kept
    assert parts.get("inter", 0) == nonzero.reclaimed_inter
    assert parts.get("intra", 0) == nonzero.reclaimed_intra
    assert sum(parts.get(kind, 0) for kind in ("inter", "intra", "zero")) == pages.reclaimed


def test_much_data_is_compressed(monkeypatch):
    report = random_report(seed=2, owners=3)
    monkeypatch.setattr(report_page, "MOST_LINK", 100)
    links = Page(report_page.page(report)).links()
    assert json.loads(gzip.decompress(links["report.json.gz"])) == json.loads(json.dumps(report.to_dict()))


@pytest.mark.usefixtures("made_up")
def test_headings_are_in_order():
    page = Page(report_page.page(random_report(seed=6, names=HOSTILE)))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - sooner <= 1 for sooner, later in pairwise(levels))


def test_a_page_of_many_owners_stays_small():
    page = report_page.page(random_report(seed=8, owners=256, pages=20))
    assert len(page.encode()) < 3 << 20
