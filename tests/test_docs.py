"""The documentation: links lead somewhere, commands take the options that it shows, JSON has the keys that it tells."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pageshare.answers import Answers
from pageshare.commands import COMMANDS, _parser, main
from pageshare.lab import named, scenario
from pageshare.lab.balloon import Safeguards
from pageshare.lab.thresholds import Thresholds
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


# ---- what the laboratory takes where a key is left out ----

SCENARIO = """
duration = "20s"
TOP
[host]
memory = "4 MiB"
HOST
[[guest]]
memory = "2 MiB"
GUEST
[[guest.program]]
name = "steady"
PROGRAM
BALLOON
"""
IN_WORDS = {
    "a thousandth": '"20ms"',
    "half": '"1 MiB"',
    "one a page": "512",
}
"""Defaults that depend on something else, as they are in this scenario."""
NONE = {"needed", "no bounds", "no limit", ""}


def made(folder, **lines):
    """This scenario with lines in one of its tables, all that stands for its defaults spelt out."""
    if "BALLOON" in lines:
        lines["BALLOON"] = f"[guest.balloon]\n{lines['BALLOON']}"
    text = re.sub(r"^[A-Z]+$", lambda place: lines.get(place[0], ""), SCENARIO, flags=re.MULTILINE)
    (folder / "x.toml").write_text(text, encoding="utf-8")
    found = scenario.read(folder / "x.toml")
    (guest,) = found.guests
    options = {name: each.default for name, each in named.options_of(guest.estimator.make).items()}
    estimator = replace(guest.estimator, where="", options=options | dict(guest.estimator.options))
    programs = [replace(each, program=replace(each.program, where="")) for each in guest.programs]
    if guest.balloon:
        balloon = replace(guest.balloon, safeguards=vars(Safeguards(**guest.balloon.safeguards)))
        guest = replace(guest, balloon=balloon)
    guest = replace(guest, estimator=estimator, programs=programs, where="")
    host = replace(found.host, thresholds=vars(Thresholds(**found.host.thresholds)))
    return replace(found, host=host, guests=(guest,), table={})


def told_defaults():
    """Of keys in docs/lab.md: the place of each in the scenario above, its name and its default."""
    text = sections(TREE / "docs" / "lab.md")["a-scenario"]
    parts = re.split(r"^\*\*`(\S+)`\*\*", text, flags=re.MULTILINE)
    places = {"": "TOP", "[host]": "HOST", "[[guest]]": "GUEST", "[guest.balloon]": "BALLOON"}
    places["[[guest.program]]"] = "PROGRAM"
    for heading, part in zip(["", *parts[1::2]], parts[::2], strict=True):
        place = places.get(heading)
        rows = re.findall(r"^\| (`.*?`) \| (.*?) ?\|", part, re.MULTILINE) if place else []
        for names, told in rows:
            keys, values = re.findall(r"`(\w+)`", names), [told] if told.startswith("`{") else told.split(", ")
            yield from ((place, key, value.strip("`")) for key, value in zip(keys, values * len(keys), strict=False))
        if place in ("BALLOON", "PROGRAM"):
            yield from ((place, *each) for each in re.findall(r"`(\w+)` \(([^)]*)\)", re.sub(r"\s", " ", part)))


def test_the_laboratorys_defaults(tmp_path):
    usual = made(tmp_path)
    told = {(place, key): value for place, key, value in told_defaults()}
    tried = {where: IN_WORDS.get(value, value) for where, value in told.items() if value not in NONE}
    del tried["PROGRAM", "loop"]  # of a trace
    assert len(tried) > 30
    for (place, key), value in tried.items():
        literal = value if re.match(r'[\d.]+$|true$|false$|["{]', value) else f'"{value}"'
        assert made(tmp_path, **{place: f"{key} = {literal}"}) == usual, key
    assert (usual.host.swap, usual.guests[0].balloon.rate) == (None, None)
    assert (told["HOST", "swap"], told["BALLOON", "rate"]) == ("no bounds", "no limit")


@pytest.mark.parametrize(("place", "key"), [("HOST", "sharing"), ("GUEST", "reporting"), ("GUEST", "hinting")])
def test_what_true_stands_for_in_the_laboratory(tmp_path, place, key):
    text = sections(TREE / "docs" / "lab.md")["a-scenario"]
    table = re.search(rf"^\| `{key}` \| false \| .*true, or `(\{{.*?\}})`", text, re.MULTILINE)[1]
    on = made(tmp_path, **{place: f"{key} = true"})
    assert on == made(tmp_path, **{place: f"{key} = {table}"})
    assert on != made(tmp_path)


def test_the_laboratorys_estimator(tmp_path):
    table = re.search(r"a name, or `(\{name = .*?\})`", (TREE / "docs" / "lab.md").read_text(encoding="utf-8"))[1]
    assert made(tmp_path, GUEST=f"estimator = {table}") == made(tmp_path)


@pytest.mark.parametrize("place", ["TOP", "HOST", "GUEST", "BALLOON"])
def test_each_key_of_the_laboratory_is_told_of(tmp_path, place):
    with pytest.raises(scenario.ScenarioError, match="no_such_key: no such key; there are ") as error:
        made(tmp_path, **{place: "no_such_key = 1"})
    keys = str(error.value).partition("there are ")[2].split(", ")
    assert len(keys) > 5
    text = sections(TREE / "docs" / "lab.md")["a-scenario"]
    assert [key for key in keys if not re.search(rf"[`.\[]{key}\b", text)] == []
