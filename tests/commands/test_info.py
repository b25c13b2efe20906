"""``pageshare info``: what a dump is, by its headers alone."""

import json

import pytest

from dumps import kdump, memory, raw
from pageshare.commands import main
from pageshare.images import Source
from pageshare.images.elf import core_header
from pageshare.images.lime import range_header
from pageshare.images.ranges import Kind

PAGE = 4096


@pytest.fixture
def core(tmp_path):
    """Eight pages of RAM at 1 MiB, four of a device."""
    path = tmp_path / "guest.elf"
    loads = [(0x100000, 8 * PAGE), (0xFD000000, 4 * PAGE)]
    path.write_bytes(core_header(loads, kind=Kind.RAM) + b"\1" * 12 * PAGE)
    return path


@pytest.fixture
def lime(tmp_path):
    """A range that ends in the middle of a page."""
    path = tmp_path / "guest.lime"
    path.write_bytes(range_header(0x1000, 0x9FBFF) + b"\2" * 0x9EC00)
    return path


def test_text(core, lime, capsys):
    assert main(["info", str(core), str(lime)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [line.split() for line in out.splitlines()]
    payload = f"{core.stat().st_size - 12 * PAGE:#x}"
    assert ["0x100000", "8", "32.0", "KiB", "in", "the", "file", "ram", payload] in lines
    assert ["apart:", "device", "memory", "4", "16.0", "KiB"] in lines
    assert ["known:", "data", "in", "the", "file", "158", "632", "KiB"] in lines
    assert ["apart:", "incomplete", "pages", "at", "a", "range's", "end", "1", "4.00", "KiB"] in lines
    assert out.splitlines()[1] == "  format: elf, memory of a machine"
    assert all(line == line.rstrip() and len(line) <= 100 for line in out.splitlines() if str(core.parent) not in line)


def test_json(core, lime, capsys):
    assert main(["info", "--json", f"a={core}", str(lime)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["format", "page_size", "dumps", "incomplete", "warnings", "skipped"]
    assert (document["format"], document["page_size"]) == ("pageshare-info/1", PAGE)
    elf, other = document["dumps"]
    assert list(elf) == ["owner", "path", "format", "kind", "bytes", "details", "coverage", "extents"]
    assert (elf["owner"], elf["path"], elf["format"], elf["kind"]) == ("a", str(core), "elf", "ram")
    payload = core.stat().st_size - 12 * PAGE
    here = {"file": str(core), "compressed": False, "state": "data"}
    assert elf["extents"] == [
        {"address": 0x100000, "pages": 8, "offset": payload, **here, "kind": "ram"},
        {"address": 0xFD000000, "pages": 4, "offset": payload + 8 * PAGE, **here, "kind": "device"},
    ]
    assert (elf["coverage"]["data"], elf["coverage"]["device"]) == (8, 4)
    assert (other["coverage"]["partial"], other["coverage"]["partial_bytes"]) == (1, 0xC00)


def test_many_extents_are_cut_unless_asked_for(tmp_path, capsys):
    path = tmp_path / "many.elf"
    loads = [(n * 2 * PAGE, PAGE) for n in range(100)]
    path.write_bytes(core_header(loads, kind=Kind.RAM) + b"\1" * 100 * PAGE)
    assert main(["info", str(path)]) == 0
    short = capsys.readouterr().out
    assert "and 76 more extents (--all lists them)" in short
    assert main(["info", "--all", str(path)]) == 0
    assert capsys.readouterr().out.count(" ram ") == 100


def test_a_cut_dump_is_status_3(core, capsys):
    with core.open("r+b") as file:
        file.truncate(core.stat().st_size - 5 * PAGE)
    assert main(["info", str(core)]) == 3
    out, err = capsys.readouterr()
    assert "unknown: lost" in out
    assert err.startswith(f"pageshare: incomplete: {core}: the file ends at")


def test_contents_are_not_read(core, lime, monkeypatch, capsys):
    read = []
    real = Source.read
    monkeypatch.setattr(Source, "read", lambda self, at, count: read.append(count) or real(self, at, count))
    monkeypatch.setattr(Source, "map", lambda _source: pytest.fail("info maps a dump"))
    assert main(["info", str(core), str(lime)]) == 0
    assert max(read) <= PAGE
    capsys.readouterr()


def test_what_lies_in_another_file_or_is_compressed(tmp_path, capsys):
    (tmp_path / "base.raw").write_bytes(memory(0, 4 * PAGE))
    raw(tmp_path / "diff.raw", "data 1p\n hole 3p")
    assert main(["info", "--base", str(tmp_path / "base.raw"), str(tmp_path / "diff.raw")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["0x1000", "3", "12.0", "KiB", "in", "the", "file", "ram", "0x1000", "of", "base.raw"] in lines
    (tmp_path / "kdump").write_bytes(kdump("pages 0-0 zlib"))
    assert main(["info", "--json", str(tmp_path / "kdump")]) == 0
    (extent,) = json.loads(capsys.readouterr().out)["dumps"][0]["extents"]
    assert (extent["file"], extent["offset"], extent["compressed"], extent["state"]) == (None, None, True, "data")
