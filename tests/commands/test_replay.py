"""``pageshare replay`` and ``pageshare policies`` as a user runs them."""

import json
import stat

import numpy as np
import pytest

from pageshare import policies
from pageshare.commands import main

PAGE = 4096


def contents(*numbers):
    """Pages of these contents, 0 for zero."""
    data = np.zeros((len(numbers), PAGE), np.uint8)
    data[:, :2] = np.array(numbers, "<u2").view(np.uint8).reshape(-1, 2)
    return data


@pytest.fixture
def dumps(tmp_path):
    """Two guests at two moments: ``a`` and ``b``, 0 and 1."""
    first = [1, 2, 3, 0, 0, 5, 6, 7]
    second = [1, 2, 3, 0, 8, 9, 10, 11]
    files = {"a0": first, "b0": second, "a1": [1, 20, 3, 0, 0, 5, 6, 8], "b1": [1, 2, 3, 0, 8, 9, 10, 0]}
    for name, numbers in files.items():
        contents(*numbers).tofile(tmp_path / f"{name}.raw")
    return {name: str(tmp_path / f"{name}.raw") for name in files}


def run_json(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_a_replay_of_memory_that_holds_still_finds_all(dumps, capsys):
    found = run_json(capsys, "replay", dumps["a0"], dumps["b0"], "--policy", "random-permutation")
    assert (found["pages"], found["saved"], found["saved_nonzero"]) == (16, 5, 3)
    assert (found["possible"], found["possible_nonzero"]) == (5, 3)
    assert found["pace"] == {"pace": "rate", "pages_per_second": 200.0}
    assert not found["interrupted"]
    assert found["reached"]["99"]["visits"] <= 1


def test_a_series_tells_of_writes(dumps, capsys):
    arguments = ["--at", "0s", dumps["a0"], dumps["b0"], "--at", "60s", dumps["a1"], dumps["b1"]]
    found = run_json(capsys, "replay", *arguments, "--rate", "1000", "--policy", "sequential")
    assert found["seconds"] == pytest.approx(60)
    assert found["writes"] == 3
    assert found["cow_breaks"] == 1
    # 1 twice, 3 twice, 8 twice, four zero pages.
    assert (found["possible"], found["possible_nonzero"]) == (6, 3)
    assert found["saved"] == 6


def test_owners_of_a_series_are_matched_by_name(dumps, capsys):
    arguments = ["--at", "0s", f"x={dumps['a0']}", f"y={dumps['b0']}", "--at", "60s", f"y={dumps['b1']}"]
    assert main(["replay", *arguments]) == 2
    assert "no x" in capsys.readouterr().err
    found = run_json(capsys, "replay", *arguments, f"x={dumps['a1']}", "--rate", "1000")
    assert found["writes"] == 3
    assert found["owners"] == ["x", "y"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name dumps"),
        (["--at", "0s", "a0", "b0", "--at", "60s", "a1"], "must have the same owners"),
        (["--at", "0s", "a0", "--at", "60s", "a1", "b1"], "must have the same owners"),
        (["--at", "60s", "a0", "--at", "0s", "a1"], "times must ascend"),
        (["--at", "soon", "a0"], "must be a time"),
        (["--at", "0s"], "name the dumps"),
        (["a0", "--at", "0s", "b0"], "must stand behind the time"),
        (["--skip-bad", "--at", "0s", "a0"], "needs all of its dumps"),
        (["a0", "--rate", "5", "--cpu", "2%"], "only one of them"),
        (["a0", "--writes", "x", "--trace", "y"], "only one of them"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message, dumps, capsys):
    assert main(["replay", *(dumps.get(each, each) for each in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


@pytest.mark.parametrize("arguments", [["--policy", "best"], ["--rate", "0"], ["--cpu", "200%"], ["--peek-cost", "2"]])
@pytest.mark.parametrize("command", ["replay", "policies"])
def test_values_that_make_no_sense(command, arguments, dumps):
    with pytest.raises(SystemExit) as error:
        main([command, dumps["a0"], *arguments])
    assert error.value.code == 2


def test_a_bad_dump_is_named_and_nothing_printed(dumps, tmp_path, capsys):
    (tmp_path / "empty").touch()
    assert main(["policies", dumps["a0"], str(tmp_path / "empty"), str(tmp_path / "none")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "empty: the file is empty" in err
    assert "none: No such file" in err


def test_a_recorded_series_replays_as_it_was(dumps, tmp_path, capsys):
    series = ["--at", "0s", dumps["a0"], dumps["b0"], "--at", "60s", dumps["a1"], dumps["b1"]]
    options = ["--rate", "7", "--policy", "random-with-replacement"]
    trace = tmp_path / "writes.csv"
    first = run_json(capsys, "replay", *series, *options, "--record", str(trace))
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600
    again = run_json(capsys, "replay", dumps["a0"], dumps["b0"], *options, "--trace", str(trace))
    for key in ("saved", "outcomes", "cow_breaks", "mean_saved", "visits"):
        assert first[key] == again[key]


def test_policies_compares_all(dumps, capsys):
    found = run_json(capsys, "policies", dumps["a0"], dumps["b0"], "--seeds", "2")
    assert found["pages"] == 16
    assert [each["name"] for each in found["policies"]] == list(policies.POLICIES)
    oracle = next(each for each in found["policies"] if each["name"] == "oracle")
    assert oracle["visits"]["99"] == pytest.approx(9 / 16)  # three zero pages, and three pairs
    assert oracle["visits_nonzero"]["99"] == pytest.approx(6 / 16)
    assert found["peek"]["price"] == 0.04
    assert set(found["peek"]["measured"]) == {"sequential", "random"}
    for each in found["policies"]:
        assert set(each["visits"]) == set(each["cost_nonzero"]) == set(each["cpu_seconds"]) == {"50", "90", "99"}


def test_policies_list_names_each(capsys):
    assert main(["policies", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}\n    " in out for name in policies.POLICIES)


def test_policies_writes_a_page_and_drawings(dumps, tmp_path, capsys):
    hostile = f"<script>={dumps['a0']}"
    files = {form: tmp_path / f"out.{form}" for form in ("html", "svg", "png")}
    arguments = [word for form, path in files.items() for word in (f"--{form}", str(path))]
    assert main(["policies", hostile, dumps["b0"], "--policy", "sequential", *arguments]) == 0
    for path in files.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = files["html"].read_text()
    assert "<script>=" not in page
    assert page.count("<script") == 1
    data = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(data)["owners"][0] == "<script>"
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main(["policies", dumps["b0"], *arguments]) == 1
    assert "use --force" in capsys.readouterr().err
    expected = {*(path.name for path in files.values()), *(f"{name}.raw" for name in dumps)}
    assert {path.name for path in tmp_path.iterdir()} == expected


@pytest.mark.parametrize("command", ["replay", "policies"])
def test_text_fits_80_columns_but_for_sentences(command, dumps, capsys):
    assert main([command, dumps["a0"], dumps["b0"]]) == 0
    out = capsys.readouterr().out
    tables = [line for line in out.splitlines() if line.count("  ") > 2]
    assert max(map(len, tables)) <= 80


@pytest.mark.parametrize("pages", [[0, 0], [1], [1, 2, 3]])
def test_memories_with_little_to_find(pages, tmp_path, capsys):
    contents(*pages).tofile(tmp_path / "m.raw")
    for command in ("replay", "policies"):
        assert main([command, str(tmp_path / "m.raw")]) == 0
        assert capsys.readouterr().err == ""


def test_a_memory_of_holes_has_no_page_to_look_at(tmp_path, capsys):
    with (tmp_path / "m.raw").open("wb") as file:
        file.truncate(1 << 20)
    for command in ("replay", "policies"):
        assert main([command, str(tmp_path / "m.raw")]) == 0
        assert capsys.readouterr().err == ""
