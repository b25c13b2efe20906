"""Which files the arguments stand for, whose they are, and what is said of those that can't be read."""

import argparse
import json
import os

import pytest

from pageshare.commands import main
from pageshare.commands._inputs import BadInputs, add_input_arguments, open_inputs, unique_names

PAGE = 4096
PROGRAM = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9) + bytes([2, 0, 62, 0]) + bytes(100)


def dump(path, number=1, pages=2):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(bytes([number]) * PAGE * pages)
    return path


def opened(*arguments):
    """What the arguments give: {owner: [paths]}, and the Inputs."""
    parser = argparse.ArgumentParser()
    add_input_arguments(parser)
    with open_inputs(parser.parse_args([str(argument) for argument in arguments])) as inputs:
        owners = {owner.name: [image.source.path for image in owner.images] for owner in inputs.owners}
    return owners, inputs


def test_each_dump_is_an_owner_named_after_its_file(tmp_path):
    a, b = dump(tmp_path / "a.raw"), dump(tmp_path / "b.raw")
    owners, inputs = opened(a, b)
    assert owners == {"a.raw": [str(a)], "b.raw": [str(b)]}
    assert (inputs.skipped, inputs.warnings, inputs.notes) == ([], [], [])


def test_names_are_given_with_an_equals_sign_and_may_repeat(tmp_path):
    a, b, c = (dump(tmp_path / name) for name in ("a", "b", "c"))
    owners, _ = opened(f"web={a}", f"db={b}", f"web={c}")
    assert owners == {"web": [str(a), str(c)], "db": [str(b)]}


def test_a_path_with_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dump(tmp_path / "a=b")
    assert opened("./a=b")[0] == {"a=b": ["./a=b"]}
    assert opened(tmp_path / "a=b")[0] == {"a=b": [str(tmp_path / "a=b")]}
    with pytest.raises(BadInputs, match=r"^b: No such file or directory; if you mean the file a=b, write \./a=b$"):
        opened("a=b")
    dump(tmp_path / "b")
    assert opened("a=b")[0] == {"a": ["b"]}


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/g.raw", "y/h.raw"], ["g.raw", "h.raw"]),
        (["x/g.raw", "y/g.raw", "z/h"], ["x/g.raw", "y/g.raw", "h"]),
        (["1/x/g", "2/x/g", "2/y/g"], ["1/x/g", "2/x/g", "y/g"]),
        (["g", "x/g"], ["g", "x/g"]),
        (["g", "g"], ["g", "g#2"]),
        (["g", "g", "g#2"], ["g", "g#2", "g#2#2"]),
    ],
)
def test_names_are_made_unique_by_their_folders(paths, names):
    assert unique_names(paths) == names


def test_names_that_were_given_are_kept(tmp_path):
    a, g = dump(tmp_path / "a"), dump(tmp_path / "g")
    assert list(opened(f"g={a}", g)[0]) == ["g", "g#2"]


def test_a_folder_stands_for_the_dumps_in_it(tmp_path):
    b, a = dump(tmp_path / "d" / "b.raw"), dump(tmp_path / "d" / "a.mem")
    (tmp_path / "d" / "notes.txt").write_text("hello")
    (tmp_path / "d" / "sub").mkdir()
    owners, inputs = opened(tmp_path / "d")
    assert owners == {"a.mem": [str(a)], "b.raw": [str(b)]}
    (note,) = inputs.notes
    assert "notes.txt: not known as a dump; passed over" in note
    assert list(opened(f"all={tmp_path / 'd'}")[0]) == ["all"]


def test_damaged_dumps_in_a_folder_are_told_of_in_the_report(tmp_path):
    dump(tmp_path / "d" / "a.raw")
    (tmp_path / "d" / "b.elf").write_bytes(b"\x7fELF")
    owners, inputs = opened(tmp_path / "d")
    assert list(owners) == ["a.raw"]
    (left_out,) = inputs.skipped
    assert left_out["path"] == str(tmp_path / "d" / "b.elf")
    assert left_out["reason"].startswith("ELF header: ")
    assert main(["info", str(tmp_path / "d")]) == 3


def test_programs_and_archives_in_a_folder_are_no_dumps(tmp_path):
    dump(tmp_path / "d" / "a.raw")
    (tmp_path / "d" / "program").write_bytes(PROGRAM)
    (tmp_path / "d" / "more.zip").write_bytes(b"PK\x03\x04" + bytes(PAGE))
    _, inputs = opened(tmp_path / "d")
    assert (inputs.skipped, inputs.warnings, len(inputs.notes)) == ([], [], 2)


@pytest.mark.parametrize("files", [[], ["notes.txt"]])
def test_a_folder_without_a_dump_is_bad(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text("hello")
    with pytest.raises(BadInputs, match=f"^{tmp_path}: there is no dump in this folder$"):
        opened(tmp_path)


def test_all_bad_inputs_are_named_in_one_go(tmp_path):
    good = dump(tmp_path / "good")
    (tmp_path / "empty").touch()
    (tmp_path / "program").write_bytes(PROGRAM)
    os.mkfifo(tmp_path / "pipe")
    names = ["empty", "program", "pipe", "missing"]
    with pytest.raises(BadInputs) as caught:
        opened(good, *(tmp_path / name for name in names))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [str(tmp_path / name) for name in names]
    assert "the file is empty" in lines[0]
    assert "a program" in lines[1]
    assert "pipe" in lines[2]
    assert "No such file" in lines[3]


def test_skip_bad_goes_on_if_anything_is_left(tmp_path):
    good = dump(tmp_path / "good")
    owners, inputs = opened(good, tmp_path / "missing", "--skip-bad")
    assert list(owners) == ["good"]
    assert inputs.skipped == [{"path": str(tmp_path / "missing"), "reason": "No such file or directory"}]
    with pytest.raises(BadInputs):
        opened(tmp_path / "missing", "--skip-bad")


def test_the_same_file_twice_is_a_warning(tmp_path):
    a = dump(tmp_path / "a")
    (tmp_path / "link").symlink_to(a)
    owners, inputs = opened(a, tmp_path / "link")
    assert list(owners) == ["a", "link"]
    (warning,) = inputs.warnings
    assert warning.startswith(f"{tmp_path / 'link'}: the same file as {a}")


def test_more_files_than_the_soft_limit_allows(tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(80):
        dump(tmp_path / f"{number}.raw", number + 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, limits[1]))
    try:
        assert len(opened(tmp_path)[0]) == 80
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("argument", ["", "x="])
def test_an_empty_path_is_no_folder(tmp_path, monkeypatch, argument):
    monkeypatch.chdir(tmp_path)
    dump(tmp_path / "a.raw")
    with pytest.raises(BadInputs, match="No such file"):
        opened(argument)


@pytest.mark.parametrize(("text", "size"), [("4096", 4096), ("4K", 4096), ("16KiB", 16384), ("2M", 2 << 20)])
def test_page_sizes_in_units(text, size):
    parser = argparse.ArgumentParser()
    add_input_arguments(parser)
    assert parser.parse_args(["x", "--page-size", text]).page_size == size


@pytest.mark.parametrize("text", ["0", "256", "4M", "1000", "K", "4X", "-4096", "4.5K", "\N{SUPERSCRIPT TWO}"])
def test_page_sizes_that_are_none(text, capsys):
    parser = argparse.ArgumentParser()
    add_input_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["x", f"--page-size={text}"])
    assert "a power of two from 512 to 2M bytes" in capsys.readouterr().err


def test_names_are_shown_without_what_terminals_obey(tmp_path, capsys):
    path = dump(tmp_path / "a\x1b[31mred\n", pages=1)
    assert main(["info", str(path)]) == 0
    assert main(["scan", str(path), str(path)]) == 0
    assert main(["scan", str(tmp_path / "b\x1b[31m")]) == 1
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert main(["scan", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["owners"][0]["name"] == "a\x1b[31mred\n"


def test_files_of_a_folder_that_are_parts_of_others(tmp_path):
    """A base and its diffs, as they lie in one folder: the base is no guest."""
    (tmp_path / "d").mkdir()
    base = dump(tmp_path / "d" / "base.mem")
    with (tmp_path / "d" / "one.mem").open("wb") as file:
        file.truncate(base.stat().st_size)
    owners, inputs = opened(tmp_path / "d", "--base", base)
    assert owners == {"one.mem": [str(tmp_path / "d" / "one.mem")]}
    assert f"{base}: read as a part of {tmp_path / 'd' / 'one.mem'}" in inputs.notes
