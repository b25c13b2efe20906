"""``pageshare find`` against a dict of page bytes."""

import io
import json
import random
import re
from collections import defaultdict

import pytest
import xxhash

import command_line
from pageshare import find, saved
from saved_scans import PAGE, ZERO, memories, save, saved_scan, space_of


def run(capsys, *arguments):
    return command_line.run(capsys, "find", *arguments)


def found(capsys, *arguments):
    status, out, err = run(capsys, "--json", *arguments)
    assert (status, err) == (0, "")
    return json.loads(out)


def content(page):
    return ZERO if page == "hole" else page


def held_by(named):
    """For each content the places, (owner, frame), where it is."""
    places = defaultdict(list)
    for name, pages in named.items():
        for frame, page in enumerate(pages):
            if page != "unknown":
                places[content(page)].append((name, frame))
    return places


def places_of(held):
    """Those that an answer lists, page by page."""
    assert held["copies"] == sum(each["pages"] for each in held["stretches"])
    return [
        (each["owner"], each["address"] // PAGE + number)
        for each in held["stretches"]
        for number in range(each["pages"])
    ]


@pytest.mark.parametrize("seed", range(6))
def test_at_every_address(tmp_path, capsys, seed):
    path = tmp_path / "scan.parquet"
    named, _ = saved_scan(path, seed, 1 + seed)
    places, scan = held_by(named), saved.read(path)
    draw = random.Random(seed)
    for name, pages in named.items():
        for frame, page in enumerate(pages):
            answer = find.at(scan, name, frame * PAGE + draw.randrange(PAGE), most=None).to_dict()
            if page == "unknown":
                assert answer["at"]["state"] in ("unknown", "zero")
                continue
            (held,) = answer["contents"]
            assert places_of(held) == places[content(page)]
            assert (held["by"], held["left_out"]) == ("bytes", 0)
            assert held["hash"] == xxhash.xxh3_128_hexdigest(content(page))
            assert held["state"] == ("data" if any(content(page)) else "zero")
            assert answer["at"]["state"] in ({"data"} if any(content(page)) else {"zero", "hole"})
        beyond = found(capsys, path, "--at", f"{name}:{hex(len(pages) * PAGE)}")
        assert (beyond["at"]["state"], beyond["contents"]) == (None, [])
    assert found(capsys, path, "--at", f"o0:{PAGE}") == {
        **find.at(scan, "o0", PAGE).to_dict(),
        "scan": str(path),
    }


@pytest.mark.parametrize("keyed", [False, True])
def test_by_hash_and_by_content(tmp_path, capsys, keyed):
    path, file, key = tmp_path / "scan.parquet", tmp_path / "wanted", tmp_path / "key"
    key.write_bytes(b"secret")
    key.chmod(0o600)
    named, _ = saved_scan(path, 4, 5, key=saved.Key(b"secret") if keyed else None)
    options = ["--key", key] if keyed else []
    places, draw = held_by(named), random.Random(1)
    for page, where in places.items():
        answer = found(capsys, path, "--hash", xxhash.xxh3_128_hexdigest(page), "--all", *options)
        (held,) = answer["contents"]
        assert (places_of(held), held["by"]) == (where, "hash")
        # As the file has it: without the key.
        assert found(capsys, path, "--hash", held["hash"], "--all")["contents"] == [held]
    wanted = [*draw.choices(list(places), k=30), draw.randbytes(PAGE), ZERO, draw.randbytes(PAGE)]
    draw.shuffle(wanted)
    file.write_bytes(b"".join(wanted))
    answer = found(capsys, path, "--content", file, "--all", *options)
    expected = defaultdict(list)
    for number, page in enumerate(wanted):
        if page in places:
            expected[page].append(number * PAGE)
    assert [held["offsets"] for held in answer["contents"]] == list(expected.values())
    assert [places_of(held) for held in answer["contents"]] == [places[page] for page in expected]
    assert answer["file"] == {
        "path": str(file),
        "pages": len(wanted),
        "found": sum(page in places for page in wanted),
    }


def test_nowhere_is_an_answer(tmp_path, capsys):
    path, file = tmp_path / "scan.parquet", tmp_path / "wanted"
    save(path, space_of({"a": [b"x" * PAGE]}, tmp_path))
    file.write_bytes(ZERO)
    for asked in (["--hash", "00" * 16], ["--content", file], ["--at", "a:0x100000"]):
        status, out, err = run(capsys, path, *asked)
        assert (status, err) == (0, "")
        assert "nowhere" in out
        assert found(capsys, path, *asked)["contents"] == []


def test_text(tmp_path, capsys):
    path = tmp_path / "scan.parquet"
    pages = [bytes([1 + i % 2]) * PAGE for i in range(300)]
    save(path, space_of({"a<b>": pages, "c": [b"\1" * PAGE, ZERO]}, tmp_path))
    _, out, _ = run(capsys, path, "--at", "a<b>:0x2000")
    assert out.startswith("a<b> at 0x2000: data, content 1, 151 copies\nhash ")
    assert "and 51 more stretches (--all)" in out
    assert len(re.findall("^a<b> ", out, re.MULTILINE)) == 101
    _, out, _ = run(capsys, path, "--at", "a<b>:0x2000", "--all")
    assert len(re.findall("^a<b> ", out, re.MULTILINE)) == 151
    _, out, _ = run(capsys, path, "--at", "c:0x1000")
    assert "zero" in out
    assert "held once" in out


def test_no_heading_is_cut(tmp_path, capsys):
    path = tmp_path / "scan.parquet"
    save(path, space_of({"a": [b"\1" * PAGE, ZERO]}, tmp_path))
    (tmp_path / "file").write_bytes(b"\1" * PAGE)
    _, out, _ = run(capsys, path, "--content", tmp_path / "file")
    assert ["offset", "content", "copies", "owner", "first at"] in [line.split("  ") for line in out.splitlines()]


def test_standard_input_and_files_that_are_no_pages(tmp_path, capsys, monkeypatch):
    path, file = tmp_path / "scan.parquet", tmp_path / "wanted"
    named, _ = saved_scan(path, 1, 1)
    page = next(page for page in named["o0"] if isinstance(page, bytes))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(page)))
    assert found(capsys, path, "--content", "-")["file"] == {"path": "-", "pages": 1, "found": 1}
    file.write_bytes(page + b"x")
    monkeypatch.setattr("pageshare.commands.find.BLOCK", 1000)
    status, out, err = run(capsys, "--json", path, "--content", file)
    assert (status, json.loads(out)["file"]["found"]) == (0, 1)
    assert "last 1 bytes are not a whole page" in err
    for short in (b"", b"x" * (PAGE - 1)):
        file.write_bytes(short)
        status, out, err = run(capsys, path, "--content", file)
        assert (status, out) == (1, "")
        assert "less than a page" in err
        assert "truncate" in err


def test_usage(tmp_path, capsys):
    path = tmp_path / "scan.parquet"
    saved_scan(path, 1, 2)
    for asked in (
        [],
        ["--at", "o0"],
        ["--at", ":5"],
        ["--at", "o0:-1"],
        ["--at", f"o0:{2**64}"],
        ["--at", "o0:x"],
        ["--at", "nobody:0"],
        ["--hash", "xyz"],
        ["--hash", "00"],
        ["--at", "o0:0", "--hash", "00" * 16],
    ):
        status, out, err = run(capsys, path, *asked)
        assert (status, out) == (2, ""), asked
        assert err


def test_keys_that_do_not_fit(tmp_path, capsys):
    plain, keyed, key = tmp_path / "plain.parquet", tmp_path / "keyed.parquet", tmp_path / "key"
    saved_scan(plain, 1, 1)
    saved_scan(keyed, 1, 1, key=saved.Key(b"secret"))
    key.write_bytes(b"other")
    key.chmod(0o600)
    page = tmp_path / "page"
    page.write_bytes(ZERO)
    for arguments, why in (
        ([keyed, "--content", page], "give the key"),
        ([keyed, "--content", page, "--key", key], "another key"),
        ([keyed, "--hash", "00" * 16, "--key", key], "another key"),
        ([plain, "--content", page, "--key", key], "without a key"),
    ):
        status, out, err = run(capsys, *arguments)
        assert (status, out) == (1, "")
        assert why in err
        assert err.count("\n") == 1


def test_no_scan(tmp_path, capsys):
    status, out, err = run(capsys, tmp_path / "none", "--at", "a:0")
    assert (status, out) == (1, "")
    assert "No such file" in err


def test_memories_have_what_is_looked_for():
    """Else the tests above say little."""
    states = {"hole": 0, "unknown": 0}
    for seed in range(6):
        for pages in memories(seed, 1 + seed).values():
            for page in pages:
                if isinstance(page, str):
                    states[page] += 1
    assert min(states.values()) > 5
