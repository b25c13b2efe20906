"""The documentation: links lead somewhere, commands take the options that it shows, JSON has the keys that it tells."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pageshare.answers import Answers
from pageshare.commands import COMMANDS, _parser, main
from pageshare.render.sections import KEYS

TREE = Path(__file__).parents[1]
PAGES = [TREE / "README.md", TREE / "CHANGELOG.md", *sorted((TREE / "docs").rglob("*.md"))]
PAGE = 4096


def prose(path):
    """A page without its blocks of code."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.MULTILINE)


def anchors(path):
    """What links to a page's headings are called, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def sections(path):
    """The text below each heading, with that of the headings below it, by its anchor."""
    found, open_ones = {}, []
    for line in path.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"(#+) (.+)", line):
            open_ones = [(depth, name) for depth, name in open_ones if depth < len(heading[1])]
            open_ones.append((len(heading[1]), re.sub(r"[^\w\- ]", "", heading[2].lower()).replace(" ", "-")))
        for _, name in open_ones:
            found[name] = f"{found.get(name, '')}{line}\n"
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_take_the_options_that_are_shown(page):
    text = re.sub(r"\$\(.*?\)", "", page.read_text(encoding="utf-8"))  # what other programs print
    shown = re.findall(r"^(?: {4}|\$ | {4}\$ )(?:sudo )?pageshare ([a-z]+)\b(.*)$", text, re.MULTILINE)
    for command, rest in shown:
        assert command in COMMANDS
        given = re.split(r"\s#|\s{3,}|[|;]", rest)[0]
        subparsers = _parser(command)._subparsers._group_actions[0]
        known = subparsers.choices[command]._option_string_actions
        for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", given):
            assert option in known, f"pageshare {command}{rest}"


def test_each_section_of_a_report_is_told_of():
    told = (TREE / "docs" / "report.md").read_text(encoding="utf-8")
    assert [key for key in KEYS if f"`{key}`" not in told] == []


# ---- JSON ----


def keys(document):
    """All keys of a document, as paths."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield (key,)
            yield from ((key, *path) for path in keys(value))
    elif isinstance(document, list):
        for value in document:
            yield from keys(value)


def of_command(capsys, *arguments):
    status = main([*map(str, arguments), "--json", "--quiet"])
    assert status in (0, 3)
    return json.loads(capsys.readouterr().out)


def check(document, heading, *, told_elsewhere=()):
    """Each key of a document is in the section below ``heading``, or in those ``told_elsewhere``; what its tables tell
    of is in the document."""
    below = sections(TREE / "docs" / "json.md")
    text = below[heading] + "".join(below[name] for name in told_elsewhere)
    there = set(keys(document))
    names = {path[-1] for path in there}
    assert sorted(name for name in names if not re.search(rf"`(?:\w+\.)?{name}`", text)) == []
    told = re.findall(r"^\| (`.*?) \|", below[heading], re.MULTILINE)
    rows = [name for cell in told for name in re.findall(r"`([\w.]+)`", cell)]
    assert rows
    assert [name for name in rows if name.split(".")[-1] not in names] == []


@pytest.fixture
def guests(tmp_path):
    """Two guests, and something that is no dump."""
    draw = np.random.default_rng(1)
    pages = draw.integers(0, 256, (40, PAGE), np.uint8)
    pages[:8, 64:] = 0
    zero = bytes(3 * PAGE)
    (tmp_path / "a.raw").write_bytes(pages[:30].tobytes() + pages[:5].tobytes() + zero)
    (tmp_path / "b.raw").write_bytes(zero + pages[10:].tobytes())
    (tmp_path / "bad.raw").write_bytes(b"")
    return tmp_path


@pytest.fixture
def scan(guests, capsys):
    """A scan that was asked everything."""
    every = ["--page-sizes", "--similar", "--hosts", 2, "--host-memory", "1GiB", "--show-contents", "--skip-bad"]
    dumps = [guests / "a.raw", guests / "b.raw", guests / "bad.raw"]
    return of_command(capsys, "scan", *dumps, "--domain", "one=a.raw", *every)


ANSWERS = tuple(Answers.__dataclass_fields__)


def test_a_scan(scan, guests, capsys):
    policy = of_command(capsys, "scan", guests / "a.raw", "--policy", "random", "--limit", "50%")
    counts = {key: value for key, value in (scan | policy).items() if key not in ANSWERS}
    assert counts["partial"]
    assert scan["skipped"]
    check(counts | {"skipped": scan["skipped"]}, "pageshare-scan-pageshare-scan1")


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer(scan, name):
    assert scan[name]
    check(scan[name], name)


def test_a_saved_scan_compare_and_find(guests, capsys):
    page = guests / "page"
    page.write_bytes((guests / "a.raw").read_bytes()[:PAGE])
    for name in "ab":
        of_command(capsys, "scan", f"guest={guests / name}.raw", "-o", guests / f"{name}.parquet")
    changed = of_command(capsys, "compare", guests / "a.parquet", guests / "b.parquet")
    assert changed["regions"]
    check(changed, "pageshare-compare-pageshare-compare1")
    at = of_command(capsys, "find", guests / "a.parquet", "--at", "guest:0x0")
    by_hash = of_command(capsys, "find", guests / "a.parquet", "--hash", at["contents"][0]["hash"])
    by_content = of_command(capsys, "find", guests / "a.parquet", "--content", page)
    assert by_hash["contents"]
    assert by_content["contents"]
    check(by_hash | by_content | at | {"contents": by_content["contents"]}, "pageshare-find-pageshare-find1")


def test_an_estimate(guests, capsys):
    told = of_command(capsys, "estimate", guests / "a.raw", guests / "bad.raw", "--skip-bad")
    # Coverage, and what was left out, are "as above".
    check(told, "pageshare-estimate-pageshare-estimate1", told_elsewhere=["pageshare-scan-pageshare-scan1"])


LAB = """
duration = "30s"
every = "1s"
[host]
memory = "2560 KiB"
sharing = true
[[guest]]
name = "a"
memory = "2 MiB"
[[guest.program]]
name = "steady"
[[guest]]
name = "b"
memory = "2 MiB"
[[guest.program]]
name = "steady"
"""
STUDY = """
duration = "2min"
[study]
memory = "1 MiB"
[[study.program]]
name = "steady"
[[study.estimator]]
name = "esx"
"""


def test_a_laboratory_run(tmp_path, capsys):
    for name, text in (("lab", LAB), ("study", STUDY)):
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    told = of_command(capsys, "lab", tmp_path / "lab.toml", "--seeds", 2)
    told["table"] = None  # the scenario's own keys
    check(told, "pageshare-lab-pageshare-lab1")
    study = of_command(capsys, "lab", tmp_path / "study.toml", "--seeds", 2)
    study["table"] = None
    names = {path[-1] for path in keys(study)}
    below = sections(TREE / "docs" / "json.md")["pageshare-lab-pageshare-lab1"]
    assert sorted(name for name in names if f"`{name}`" not in below) == []
