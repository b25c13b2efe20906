"""``pageshare estimate`` as a user runs it: figures, what goes where, exit status, and how it ends."""

import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from command_line import PAGE, memory, run, run_json, two_dumps
from oracle import census
from pageshare.images.elf import core_header
from pageshare.images.ranges import Kind
from pageshare.render.units import size


@pytest.fixture
def guests(tmp_path):
    return two_dumps(tmp_path)


@pytest.fixture
def many(tmp_path):
    """A dump of 6,000 pages of 512 bytes, more than fit into 64 KiB: 1,000 pairs, the others unique."""
    pages = np.random.default_rng(1).integers(1, 255, (5000, 512), np.uint8)
    path = tmp_path / "many.raw"
    path.write_bytes(pages.tobytes() + pages[:1000].tobytes())
    return path


def estimate(capsys, *arguments):
    return run(capsys, "estimate", *arguments)


def estimate_json(capsys, *arguments, status=0):
    return run_json(capsys, "estimate", *arguments, status=status)


def is_the_truth(document, truth):
    """All fits into memory: every figure is that of the dict, and says that it is exact."""
    assert document["exact"] is True
    assert (document["known"], document["zero"]) == (truth["pages"]["known"], truth["pages"]["zero"])
    for part in ("pages", "nonzero"):
        for name, value in truth[part].items():
            if name not in ("known", "zero"):
                assert document[part][name] == {"estimate": value, "error": 0, "low": value, "high": value}
    return True


KEYS = {
    "": "format page_size hash verified exact known zero zero_inferred coverage pages nonzero reclaimed_share q sampled"
    " evicted memory table_bytes domains owners seed kernel readable seconds assumptions incomplete warnings skipped",
    "pages": "unique shared kept reclaimed",
    "nonzero": "pages contents unique shared kept reclaimed reclaimed_intra reclaimed_inter",
    "seconds": "map scan total",
    "reclaimed_share": "estimate error low high",
}


def test_json_has_the_figures_of_a_dict_and_the_documented_keys(guests, capsys):
    folder, held = guests
    document = estimate_json(capsys, *(folder / name for name in held))
    assert is_the_truth(document, census(held))
    assert list(document) == KEYS[""].split()
    for part in ("pages", "nonzero", "seconds", "reclaimed_share"):
        assert list(document[part]) == KEYS[part].split()
    assert list(document["pages"]["kept"]) == KEYS["reclaimed_share"].split()
    assert document["owners"] == [
        {"name": "web.raw", "domain": "default", "known": 6, "zero": 2},
        {"name": "db.raw", "domain": "default", "known": 3, "zero": 1},
    ]
    assert (document["format"], document["hash"], document["verified"]) == ("pageshare-estimate/1", "xxh3-64", False)
    assert (document["q"], document["evicted"], document["memory"]) == (1, 0, 16 << 20)


def test_names_domains_and_page_sizes(guests, capsys):
    folder, held = guests
    paths = [f"a={folder / 'web.raw'}", f"b={folder / 'db.raw'}"]
    owners = {"a": held["web.raw"], "b": held["db.raw"]}
    apart = estimate_json(capsys, *paths, "--domain", "red=a")
    assert is_the_truth(apart, census(owners, {"a": "red"}))
    assert apart["domains"] == ["red", "default"]
    assert is_the_truth(estimate_json(capsys, *paths, "--domain-per-owner"), census(owners, {"a": "a", "b": "b"}))
    small = {name: [page[i : i + 1024] for page in pages for i in range(0, PAGE, 1024)] for name, pages in held.items()}
    document = estimate_json(capsys, *(folder / name for name in held), "--page-size", "1KiB")
    assert is_the_truth(document, census(small, page_size=1024))


def test_in_little_memory_figures_have_errors(many, capsys):
    arguments = [many, "--page-size", "512", "--memory", "64KiB", "--seed", "7"]
    document = estimate_json(capsys, *arguments)
    assert (document["exact"], document["memory"], document["seed"]) == (False, 65536, 7)
    assert 1 < document["q"] < 4
    assert document["sampled"] <= 65536 // 20 * 3 // 4
    found = document["nonzero"]["reclaimed"]
    assert 0 < found["error"] < 200
    assert abs(found["estimate"] - 1000) < 5 * found["error"]
    again = estimate_json(capsys, *arguments)
    assert all(document[key] == again[key] for key in ("pages", "nonzero", "q", "sampled"))
    assert estimate_json(capsys, *arguments[:-1], "8")["pages"] != document["pages"]


@pytest.mark.parametrize("exact", [True, False])
def test_text_goes_to_stdout_in_80_columns(guests, many, capsys, exact):
    folder, held = guests
    dumps = [folder / name for name in held] if exact else [many, "--page-size=512", "--memory=64KiB"]
    status, out, err = estimate(capsys, *dumps)
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert out.startswith("16.0 KiB of 36.0 KiB can be saved (44.4 %)" if exact else "About ")
    assert ("Exact, by hash." in out) == exact
    assert ("95 % interval:" in out) == (not exact)


def test_text_and_json_have_the_same_numbers(many, capsys):
    arguments = [many, "--page-size=512", "--memory=64KiB", "--seed=3"]
    document = estimate_json(capsys, *arguments)
    rows = [re.split(r"\s{2,}", line.strip()) for line in estimate(capsys, *arguments)[1].splitlines()]
    shown = {row[0]: row[1:5] for row in rows}
    figures = {"reclaimed": document["pages"]["reclaimed"], "unique": document["pages"]["unique"]}
    figures["other content"] = document["nonzero"]["reclaimed"]
    for name, figure in figures.items():
        values = (figure[key] for key in ("estimate", "low", "high", "error"))
        assert shown[name] == [size(round(value * 512)) for value in values]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--memory", "63KiB"],
        ["--memory", "lots"],
        ["--seed", "-1"],
        ["--threads", "0"],
        ["--page-size", "1000"],
        ["--domain", "red"],
        ["--domain", "red=nobody"],
        ["--domain", "red=web.raw", "--domain-per-owner"],
        ["--policy", "random"],
    ],
)
def test_usage_errors(guests, capsys, arguments):
    folder, _ = guests
    status, out, err = estimate(capsys, folder / "web.raw", *arguments)
    assert (status, out) == (2, "")
    assert arguments[0] in err


def test_bad_inputs_are_all_named_and_nothing_is_counted(guests, capsys):
    folder, _ = guests
    (folder / "empty").touch()
    (folder / "broken.elf").write_bytes(b"\x7fELF\x02\x01")
    status, out, err = estimate(capsys, folder / "web.raw", folder / "empty", folder / "broken.elf", folder / "none")
    assert (status, out) == (1, "")
    for name in ("empty", "broken.elf", "none"):
        assert f"{folder / name}:" in err
    document = estimate_json(capsys, folder / "web.raw", folder / "empty", "--skip-bad", status=3)
    assert document["skipped"] == [{"path": str(folder / "empty"), "reason": "the file is empty"}]


def test_a_cut_core_is_status_3_and_the_unknown_is_said(tmp_path, capsys):
    pages = memory(1, 1, 2, 2, 3)
    header = core_header([(0x1000, 5 * PAGE)], kind=Kind.RAM)
    core = tmp_path / "cut.elf"
    core.write_bytes((header + b"".join(pages))[: len(header) + 3 * PAGE + 100])
    status, out, err = estimate(capsys, core)
    assert status == 3
    assert "8.00 KiB are unknown: over all pages the saving lies between 4.00 KiB and 12.0 KiB" in " ".join(out.split())
    assert f"pageshare: incomplete: {core}" in err


CHILD = """
import sys
from pageshare import core
from pageshare.commands import main

whole = core.sample_contents

def again_and_again(*arguments, **options):
    print("sampling", file=sys.stderr, flush=True)
    while True:
        whole(*arguments, **options)

core.sample_contents = again_and_again
sys.exit(main())
"""


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_prints_nothing(guests, signum, status):
    folder, _ = guests
    command = [sys.executable, "-c", CHILD, "estimate", "--json", str(folder / "web.raw")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr.readline() == b"sampling\n"
        sent = time.monotonic()
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - sent
    assert (process.returncode, out, err) == (status, b"", b"")
    assert took < 2  # 0.2 s, and what a loaded machine adds
