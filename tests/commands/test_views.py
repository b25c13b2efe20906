"""The views that ``pageshare scan`` writes and prints: what is there, who may read it, and that it is whole or not at
all."""

import csv
import importlib.util
import json
import os
import stat
import subprocess
import sys
from types import SimpleNamespace

import pyarrow.parquet
import pytest

import pageshare
from made_up import made_up_sections, random_report
from pageshare.commands import _views, main
from read_views import Page

PAGE = 4096
BASE = {"savings", "owners", "headline", "coverage"}
"""The tables that every report has."""


@pytest.fixture
def guests(tmp_path):
    """Two dumps."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    for name, numbers in {"web.raw": (0, 0, 1, 1, 2, 3), "db.raw": (0, 1, 4)}.items():
        (folder / name).write_bytes(b"".join(bytes([number]) * PAGE for number in numbers))
    return folder


@pytest.fixture
def made_up(monkeypatch):
    """Sections with all that there may be in one, in every report."""
    monkeypatch.setattr("pageshare.render.sections.answered", lambda _: made_up_sections())


def scan(capsys, *arguments):
    """(exit status, stdout, stderr) of the command."""
    try:
        status = main(["scan", *map(str, arguments)])
    except SystemExit as stopped:
        status = stopped.code
    out, err = capsys.readouterr()
    return status, out, err


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_all_views_in_one_go(guests, tmp_path, capsys):
    page, tables, arrow = tmp_path / "page.html", tmp_path / "new" / "csv", tmp_path / "parquet"
    before = os.umask(0)
    try:
        status, out, err = scan(capsys, guests, "--json", "--html", page, "--csv", tables, "--parquet", arrow)
    finally:
        os.umask(before)
    assert (status, err) == (0, "")
    document = json.loads(out)
    names = {path.stem for path in tables.iterdir()}
    assert names >= BASE
    assert {path.name for path in tables.iterdir()} == {f"{name}.csv" for name in names}
    assert {path.name for path in arrow.iterdir()} == {f"{name}.parquet" for name in names}
    assert {mode(path) for path in (*tables.iterdir(), *arrow.iterdir(), page)} == {0o600}
    assert {mode(folder) for folder in (tables, tables.parent, arrow)} == {0o700}
    with (tables / "owners.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["owner"]: (int(row["known"]), int(row["shared"])) for row in rows} == {
        owner["name"]: (owner["pages"]["known"], owner["with_others"]["shared"]) for owner in document["owners"]
    }
    schema = pyarrow.parquet.read_schema(arrow / "headline.parquet")
    types = {field.name: str(field.type) for field in schema}
    assert types == {"figure": "string", "pages": "int64", "bytes": "int64", "share": "double"}
    assert json.loads(Page(page.read_text()).links()["report.json"]) == document


def test_files_of_the_same_names_are_replaced_and_others_left_alone(guests, tmp_path, capsys):
    tables = tmp_path / "csv"
    tables.mkdir(mode=0o755)
    (tables / "owners.csv").write_text("old")
    (tables / "owners.csv").chmod(0o644)
    (tables / "mine.csv").write_text("mine")
    assert scan(capsys, guests, "--csv", tables, "--quiet")[0] == 0
    assert (tables / "mine.csv").read_text() == "mine"
    assert (tables / "owners.csv").read_text().startswith("owner,")
    assert mode(tables / "owners.csv") == 0o600
    assert mode(tables) == 0o755


def test_whole_or_not_at_all(guests, tmp_path, capsys, monkeypatch):
    """A disk that is full at the last file: old files stay, and neither new ones nor new folders appear."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "owners.csv").write_text("old")
    real, opened = pageshare.files.appearing_whole, []

    def full(path):
        opened.append(path)
        if path.suffix == ".html":
            raise OSError(28, "No space left on device", str(path))
        return real(path)

    monkeypatch.setattr("pageshare.files.appearing_whole", full)
    options = ["--csv", old, "--parquet", tmp_path / "new" / "deep", "--html", tmp_path / "page.html"]
    status, out, err = scan(capsys, guests, *options)
    assert (status, out) == (1, "")
    assert "No space left on device" in err
    assert len(opened) > 2 * len(BASE)
    assert {path.name for path in tmp_path.iterdir()} == {"dumps", "old"}
    assert [(path.name, path.read_text()) for path in old.iterdir()] == [("owners.csv", "old")]


def test_interrupted_it_leaves_nothing(guests, tmp_path, capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pageshare.render.report_page.page", interrupted)
    status, out, _ = scan(capsys, guests, "--csv", tmp_path / "csv", "--html", tmp_path / "page.html")
    assert (status, out) == (130, "")
    assert [path.name for path in tmp_path.iterdir()] == ["dumps"]


@pytest.fixture
def never(monkeypatch):
    """Nothing may be opened."""

    def opened(*_, **__):
        raise AssertionError("a dump was opened")

    monkeypatch.setattr("pageshare.commands.scan.open_inputs", opened)


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("--html FOLDER", 1, "FOLDER is a folder: name a file"),
        ("--html NOWHERE/x.html", 1, "NOWHERE: there is no such folder"),
        ("--csv FOLDER/web.raw", 1, "FOLDER/web.raw is no folder: name another one"),
        ("--parquet FOLDER/web.raw/deep", 1, "FOLDER/web.raw is no folder: name another one"),
        ("--html FOLDER/web.raw", 2, "--html FOLDER/web.raw: is read: name another file"),
        ("--html FOLDER/link", 2, "--html FOLDER/link: is FOLDER/web.raw, which is read: name another file"),
        ("--json --show owners", 2, "--show is for what people read: --json has everything"),
        ("--show nothing", 2, "'nothing': must be one of savings, owners, "),
        ("--show owners,", 2, "'': must be one of savings, owners, "),
    ],
)
def test_what_can_not_be_shown_is_said_before_anything_is_read(guests, capsys, options, status, message):
    (guests / "link").symlink_to("web.raw")
    places = {"FOLDER": str(guests), "NOWHERE": str(guests / "nowhere")}
    for name, place in places.items():
        options, message = options.replace(name, place), message.replace(name, place)
    got, out, err = scan(capsys, guests / "web.raw", *options.split())
    assert (got, out) == (status, "")
    assert message in err
    assert {path.name for path in guests.iterdir()} == {"web.raw", "db.raw", "link"}


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--max-page-sharing 1", "'1': must be a whole number from 2 to 2^32 - 1"),
        ("--pages-to-scan 4294967296", "'4294967296': must be a whole number from 1 to 2^32 - 1"),
        ("--sleep-millisecs -1", "--sleep-millisecs"),
        ("--sleep-millisecs 0.5", "'0.5': must be a whole number from 0 to 2^32 - 1"),
        ("--host-memory 4095", "hosts of 4095 bytes hold no page of 4096"),
        ("--host-memory 1M --headroom 99.9%", "hosts of 1048576 bytes, 99.9 % of them free, hold no page of 4096"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_read(guests, capsys, options, message):
    status, out, err = scan(capsys, guests / "web.raw", *options.split())
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.usefixtures("never")
def test_a_dump_among_the_tables_is_spared(guests, capsys):
    (guests / "owners.csv").write_bytes(bytes(PAGE))
    status, out, err = scan(capsys, guests / "owners.csv", "--csv", guests)
    assert (status, out) == (2, "")
    assert "owners.csv: is read: name another file" in err


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("option", "missing", "message"),
    [
        ("--html", "jinja2", "pages need jinja2: pip install 'pageshare[html]'"),
        ("--parquet", "pyarrow", "Parquet needs pyarrow: pip install 'pageshare[parquet]'"),
    ],
)
def test_what_is_not_installed_is_said_with_the_remedy(guests, tmp_path, capsys, monkeypatch, option, missing, message):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == missing else find(name, *more))
    status, out, err = scan(capsys, guests, option, tmp_path / "x")
    assert (status, out, err) == (1, "", f"pageshare scan: {message}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["dumps"]


def test_folders_that_are_not_ours(guests, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    status, out, err = scan(capsys, guests / "web.raw", "--csv", guests / "csv" / "deep")
    assert (status, out, err) == (1, "", f"pageshare scan: {guests}: nothing can be made in this folder\n")


@pytest.mark.usefixtures("made_up")
def test_sections_that_are_asked_for(guests, capsys):
    everything = scan(capsys, guests, "--show", "all")[1]
    for title in ("Where it comes from", "Owner by owner", "Made up", "The figures", "What was looked at"):
        assert f"\n{title}\n" in everything
    assert "Does it hold?" in everything
    assert "Assumed: Nothing is real." in everything
    some = scan(capsys, guests, "--show", "coverage, figures")[1]
    assert "\nThe figures\n" in some
    assert "\nWhat was looked at\n" in some
    assert "Owner by owner" not in some
    assert "Made up" not in some


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ("--show placement,matrix,similar", "placement, similar"),
        ("--show owners,matrix --limit 3", "matrix"),
        ("--show placement --hosts 1", None),
        ("--show all", None),
    ],
)
def test_a_section_that_is_not_there_is_told(guests, capsys, options, missing):
    status, out, _ = scan(capsys, guests, *options.split())
    assert status == 0
    said = [line.rpartition(": ")[2] for line in out.splitlines() if line.startswith("Not in this report")]
    assert said == ([] if missing is None else [missing])


@pytest.mark.usefixtures("made_up")
def test_the_default_says_what_more_there_is(guests, capsys):
    out = scan(capsys, guests)[1]
    assert "More by --show: made-up, wide, or all; --html FILE makes a page of it\n" in out
    assert "Does it hold?" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_one_owner_alone_is_no_list(guests, capsys):
    assert "Owner by owner" not in scan(capsys, guests / "web.raw")[1]
    assert "Owner by owner" in scan(capsys, guests / "web.raw", "--show", "owners")[1]


def test_a_scan_by_policy_has_every_view(guests, tmp_path, capsys):
    page, tables, arrow = tmp_path / "page.html", tmp_path / "csv", tmp_path / "parquet"
    options = ["--policy", "random", "--limit", "4", "--html", page, "--csv", tables, "--parquet", arrow]
    status, out, err = scan(capsys, guests, *options, "--show", "all")
    assert (status, err) == (0, "")
    assert "saved so far" in out
    assert {path.stem for path in tables.iterdir()} == {path.stem for path in arrow.iterdir()} == BASE
    assert "saved so far" in page.read_text()
    with (tables / "headline.csv").open(newline="") as file:
        unique = {row["figure"]: row["pages"] for row in csv.DictReader(file)}["unique"]
    assert unique == ""


def test_what_was_found_until_then_is_shown_before_the_interrupt(tmp_path, capsys):
    report = random_report(seed=1, owners=2, policy="random", limit=9)
    args = SimpleNamespace(json=False, show=None, csv=tmp_path / "csv", parquet=None, html=tmp_path / "page.html")
    with pytest.raises(KeyboardInterrupt):
        _views.show(report, args, KeyboardInterrupt())
    assert "saved so far" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"csv", "page.html"}


def test_a_page_may_go_to_a_pipe(guests):
    command = [sys.executable, "-m", "pageshare", "scan", guests, "--html", "/dev/stderr"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("<!doctype html>")
    assert "can be saved" in done.stdout


def test_files_are_there_though_nobody_reads_what_is_printed(guests, tmp_path):
    page = tmp_path / "page.html"
    command = f"{sys.executable} -m pageshare scan --json {guests} --html {page} | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert page.read_text().rstrip().endswith("</html>")
