"""``pageshare compare``: dumps, folders and saved scans, one with another."""

import json
import os
import random
from dataclasses import replace

import pytest

import pageshare
from dumps import elf, lime, memory
from pageshare import saved
from pageshare.answers.compare import Scan, compare
from pageshare.commands import main

PAGE = 4096


@pytest.fixture
def sides(tmp_path):
    """Two folders of the same three guests, who changed: {name: bytes} of each."""
    draw = random.Random(1)
    common = [draw.randbytes(PAGE) for _ in range(10)]

    def page():
        return draw.choice([bytes(PAGE), draw.choice(common), draw.randbytes(PAGE)])

    old = {f"{name}.raw": [page() for _ in range(40)] for name in "abc"}
    new = {name: [each if draw.random() < 0.6 else page() for each in pages] for name, pages in old.items()}
    for folder, named in (("old", old), ("new", new)):
        (tmp_path / folder).mkdir()
        for name, pages in named.items():
            (tmp_path / folder / name).write_bytes(b"".join(pages))
    return tmp_path / "old", tmp_path / "new"


def scanned(folder):
    return pageshare.scan({path.name: path for path in sorted(folder.iterdir())})


def space_of(folder, page_size=4096):
    named = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return pageshare.PageSpace.of(named, page_size=page_size)


def save(folder, path, key=None, **changed):
    """What ``scan -o`` writes."""
    report = replace(scanned(folder), **changed)
    saved.write(path, report, space_of(folder, report.page_size), key=key)
    return path


def figures(*arguments, capsys):
    """The document that a comparison prints."""
    assert main(["compare", "--json", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert not err
    return json.loads(out)


def without_names(document):
    return {key: value for key, value in document.items() if key not in ("old", "new")}


def test_json_is_what_the_library_finds(sides, capsys):
    document = figures(*sides, capsys=capsys)
    assert list(document) == [
        *("format", "page_size", "hash", "verified", "old", "new", "pages", "owners", "states", "transitions"),
        *("written", "sharing", "region_bytes", "regions_known", "regions_written", "regions", "assumptions"),
        *("incomplete", "warnings", "skipped"),
    ]
    scans = []
    for folder in sides:
        report = scanned(folder)
        scans.append(Scan(str(folder), report.inventory, saved.digests_of(space_of(folder), report.inventory)))
    expected = json.loads(json.dumps(compare(*scans).to_dict()))
    assert document == {**expected, "incomplete": [], "warnings": [], "skipped": []}
    changed = sum(
        one != other
        for name in ("a.raw", "b.raw", "c.raw")
        for one, other in zip(*(pages_of(folder / name) for folder in sides), strict=True)
    )
    assert document["format"] == "pageshare-compare/1"
    assert (document["pages"]["written"], document["pages"]["both"]) == (changed, 120)


def pages_of(path):
    data = path.read_bytes()
    return [data[at : at + PAGE] for at in range(0, len(data), PAGE)]


def test_saved_scans_are_as_good_as_dumps(sides, tmp_path, capsys):
    old, new = (save(folder, tmp_path / f"{folder.name}.parquet") for folder in sides)
    by_dumps = without_names(figures(*sides, capsys=capsys))
    for arguments in ((old, new), (sides[0], new), (old, sides[1])):
        assert without_names(figures(*arguments, capsys=capsys)) == by_dumps
    nothing = figures(old, sides[0], capsys=capsys)
    assert nothing["pages"]["unchanged"] == nothing["pages"]["before"] == 120


def test_text(sides, capsys):
    assert main(["compare", *map(str, sides)]) == 0
    out, err = capsys.readouterr()
    assert not err
    document = figures(*sides, capsys=capsys)
    lines = out.splitlines()
    assert all(len(line) <= 80 or str(sides[0].parent) in line for line in lines)
    row = next(line.split() for line in lines if line.startswith("written "))
    assert row[1] == str(document["pages"]["written"])
    for heading in ("What became of pages", "Owner by owner", "What pages were, and what they are", "Each scan"):
        assert heading in lines
    assert any(line.startswith("Where most was written, by 2.00 MiB") for line in lines)
    assert "Assumed: Contents are compared by their 128-bit hashes, not by bytes" in out
    for owner in document["owners"]:
        cells = next(line.split() for line in lines if line.startswith(owner["new"]))
        assert cells[1:3] == ["160", "KiB"]


def test_lone_dumps_of_other_formats(tmp_path, capsys):
    paths = [tmp_path / name for name in ("a.raw", "b.elf", "c.lime")]
    paths[0].write_bytes(memory(0, 32 * PAGE))
    paths[1].write_bytes(elf("load address=0 bytes=32p"))
    paths[2].write_bytes(lime("0x0-0x1ffff"))
    for one in paths:
        for other in paths:
            document = figures(one, other, capsys=capsys)
            assert document["pages"]["unchanged"] == document["pages"]["after"] == 32
            assert document["owners"][0]["old"] == one.name


def test_owners_are_matched(sides, capsys):
    (sides[1] / "a.raw").rename(sides[1] / "z.raw")
    document = figures(*sides, capsys=capsys)
    assert [(each["old"], each["new"]) for each in document["owners"]] == [
        ("b.raw", "b.raw"),
        ("c.raw", "c.raw"),
        (None, "z.raw"),
        ("a.raw", None),
    ]
    document = figures(*sides, "--match", "a.raw=z.raw", capsys=capsys)
    assert ("a.raw", "z.raw") in [(each["old"], each["new"]) for each in document["owners"]]
    assert main(["compare", *map(str, sides), "--match", "a.raw=z.raw"]) == 0
    out = capsys.readouterr().out
    assert "a.raw > z.raw" in out
    for arguments, said in [
        (["--match", "a.raw"], "must be OLDNAME=NEWNAME"),
        (["--match", "a.raw=b.raw", "--match", "a.raw=z.raw"], "a.raw is b.raw already"),
        (["--match", "q.raw=z.raw"], "the old scan has no owner 'q.raw', but a.raw, b.raw, c.raw"),
    ]:
        assert main(["compare", *map(str, sides), *arguments]) == 2
        out, err = capsys.readouterr()
        assert not out
        assert said in err


def test_pages_of_different_size(sides, tmp_path, capsys):
    report = pageshare.scan({path.name: path for path in sorted(sides[0].iterdir())}, page_size=8192)
    saved.write(tmp_path / "large", report, space_of(sides[0], 8192))
    small = save(sides[1], tmp_path / "small")
    assert main(["compare", str(tmp_path / "large"), str(small)]) == 1
    assert "has pages of 8192 bytes" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "large"), str(sides[1])]) == 2
    assert "give --page-size 8192" in capsys.readouterr().err
    assert figures(tmp_path / "large", sides[1], "--page-size", "8192", capsys=capsys)["page_size"] == 8192


def test_keys(sides, tmp_path, capsys):
    key, other = tmp_path / "key", tmp_path / "other"
    key.write_bytes(b"secret")
    other.write_bytes(b"another")
    for each in (key, other):
        each.chmod(0o600)
    plain = save(sides[0], tmp_path / "plain")
    keyed = [save(folder, tmp_path / f"keyed-{folder.name}", saved.Key(b"secret")) for folder in sides]
    by_dumps = without_names(figures(*sides, capsys=capsys))
    assert without_names(figures(*keyed, capsys=capsys)) == by_dumps
    assert without_names(figures(keyed[0], sides[1], "--key", key, capsys=capsys)) == by_dumps
    for arguments, said in [
        ((plain, keyed[1]), "not keyed"),
        ((keyed[0], sides[1]), "--key FILE keys those of a dump"),
        ((keyed[0], sides[1], "--key", other), saved.Key(b"another").id),
    ]:
        assert main(["compare", *map(str, arguments)]) == 1
        out, err = capsys.readouterr()
        assert not out
        assert "hashes can't be compared" in err
        assert said in err


def test_what_is_bad_or_incomplete(sides, tmp_path, capsys):
    assert main(["compare", str(sides[0]), str(tmp_path / "nothing")]) == 1
    assert "nothing" in capsys.readouterr().err
    cut = tmp_path / "cut.elf"
    cut.write_bytes(elf("load address=0 bytes=32p")[: -3 * PAGE])
    assert main(["compare", str(cut), str(cut)]) == 3
    assert "incomplete" in capsys.readouterr().err
    told = save(sides[0], tmp_path / "incomplete", incomplete=("a.raw: cut",))
    assert main(["compare", str(told), str(sides[1])]) == 3
    assert "incomplete: a.raw: cut" in capsys.readouterr().err.replace(f"{told}: ", "")


def test_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compare", "one"])
    assert ended.value.code == 2
    assert "NEW" in capsys.readouterr().err


def test_a_pipe_is_read_from_its_beginning(tmp_path, capsys):
    """What tells a saved scan from a dump must take nothing out of it."""
    data = random.Random(2).randbytes(8 * PAGE)
    (tmp_path / "a.raw").write_bytes(data)
    reading, writing = os.pipe()
    try:
        os.write(writing, data)  # fits
        os.close(writing)
        assert main(["compare", "--json", "--quiet", f"/dev/fd/{reading}", str(tmp_path / "a.raw")]) == 0
    finally:
        os.close(reading)
    document = json.loads(capsys.readouterr().out)
    assert (document["pages"]["both"], document["pages"]["written"]) == (8, 0)


def test_regions_that_are_no_pages(sides, tmp_path, capsys):
    """Told before anything is scanned."""
    save(sides[0], tmp_path / "old.parquet")
    for old in (sides[0], tmp_path / "old.parquet"):
        for region in ("0", "1000", "6K"):
            assert main(["compare", str(old), str(sides[1]), "--region", region]) == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith("pageshare compare: --region ")
            assert err.endswith("must be a whole number of pages of 4096 bytes\n")
