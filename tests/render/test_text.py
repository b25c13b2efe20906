"""What people read: the figures in it are those of the report, and it fits a terminal."""

import re
from dataclasses import replace

import numpy as np
import pytest

import pageshare
from pageshare.render.text import render
from pageshare.render.units import size

PAGE = 4096


def pages(*numbers):
    return np.stack([np.full(PAGE, n, np.uint8) for n in numbers])


@pytest.fixture
def report():
    return pageshare.scan({"web": pages(0, 0, 1, 1, 2), "db": pages(0, 1, 3)})


def test_headline_and_parts(report):
    lines = render(report).splitlines()
    assert lines[0] == "16.0 KiB of 32.0 KiB can be saved (50.0 %) by sharing identical pages"
    assert lines[1] == "  8.00 KiB of it zero pages, 8.00 KiB other content"
    text = "\n".join(lines)
    assert "within one owner (intra)" in text
    assert "between owners (inter)" in text
    (web,) = [line for line in lines if line.startswith("web ")]
    # Known, zero, alone; its part: two pages of three of each content, of which two are reclaimed; adds: db alone has
    # nothing to reclaim; shared.
    assert web.split()[1::2] == ["20.0", "8.00", "8.00", "10.7", "16.0", "16.0"]
    assert "every match compared byte by byte" in text


def test_it_fits_80_columns_and_has_no_colour_unless_asked(report):
    plain = render(report)
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 80
    assert max(map(len, render(report, show=["all"]).splitlines())) <= 80
    assert "\x1b" in render(report, colour=True)


def test_many_owners_with_long_names():
    names = [f"a-very-long-name-of-a-guest-that-nobody-wants-to-read-{i}" for i in range(60)]
    text = render(pageshare.scan({name: pages(1, i + 2) for i, name in enumerate(names)}, domain_per_owner=True))
    assert "and 20 more (--csv DIR has all)" in text
    assert re.search(r"^a-very\S*\N{HORIZONTAL ELLIPSIS}\S*-11 ", text, re.MULTILINE)
    table = text.split("Owner by owner")[1].split("What was looked at")[0]
    assert max(len(line) for line in table.splitlines()) <= 80


def test_partial_and_interrupted_say_so():
    report = pageshare.scan({"a": pages(*range(10))}, policy="random", limit=5)
    text = render(report)
    assert "can be saved so far" in text
    assert "after 5 visits in random-permutation order (50.0 % of the pages to be read)" in text


def test_a_range_is_given_where_much_is_unknown(tmp_path):
    path = tmp_path / "diff.raw"
    with path.open("wb") as file:
        file.write(bytes(range(1, 255)) * 1000)
        file.truncate(16 << 20)
    report = pageshare.scan(path, holes="unknown")
    low, high = report.reclaimed_range
    assert (low, high) == (report.pages.reclaimed, report.pages.reclaimed + report.pages.unknown)
    text = render(report)
    assert text.startswith(f"Between {size(low * PAGE)} and {size(high * PAGE)} of 16.0 MiB can be saved (0 % to 98")
    assert f"what is known saves {size(low * PAGE)} of {size(report.pages.known * PAGE)}" in " ".join(text.split())
    assert "unknown: left out by who made the dump" in text


@pytest.mark.parametrize("limit", [1, 300, 700, 1000])
def test_the_range_of_a_partial_scan_holds_what_a_full_one_finds(tmp_path, limit):
    path = tmp_path / "diff.raw"
    with path.open("wb") as file:
        file.write(np.repeat(np.arange(1000) % 40, PAGE).astype(np.uint8).tobytes())
        file.truncate(1100 * PAGE)
    found = pageshare.scan(path, holes="unknown").pages.reclaimed
    report = pageshare.scan(path, holes="unknown", policy="sequential", limit=limit)
    low, high = report.reclaimed_range
    assert low <= found
    assert high <= report.pages.known + report.pages.unknown
    assert found + report.pages.unknown <= high
    assert (low == found) == (limit == 1000)
    text = render(report)
    assert text.startswith(f"Between {size(low * PAGE)} and {size(high * PAGE)} of {size(1100 * PAGE)} can be saved (")


def test_names_cannot_play_with_the_terminal():
    text = render(pageshare.scan({"\x1b[31mred": pages(1), "[bold]b": pages(1)}))
    assert "\x1b" not in text
    assert "[bold]b" in text


def test_nothing_known(tmp_path):
    path = tmp_path / "hole.raw"
    with path.open("wb") as file:
        file.truncate(1 << 20)
    text = render(pageshare.scan(path, holes="unknown"))
    assert text.startswith("Between 0 B and 1.00 MiB of 1.00 MiB can be saved (0 % to 100 %)")
    assert "1.00 MiB are unknown, and may be like other pages or not; no page is known" in text


def test_nothing_there():
    report = pageshare.scan(pages(1))
    nothing = replace(report.pages, known=0, unique=0, partial=1)
    assert render(replace(report, pages=nothing)).startswith("No page whose content is known: nothing to share.")
