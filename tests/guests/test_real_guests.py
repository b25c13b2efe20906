"""Dumps of real guests: the scan's counts are those of a plain dict of page bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pageshare
from guests.parse import DEVICES, elf_loads, elf_pages, raw_pages
from oracle import agrees, census
from pageshare.commands import main
from pageshare.space import PageSpace

pytestmark = pytest.mark.guests

Memory = dict[str, dict[int, bytes]]


def contents(memory: Memory) -> dict[str, list[bytes]]:
    return {name: list(pages.values()) for name, pages in memory.items()}


def named(folder: Path, form: str) -> list[str]:
    return [f"{name}={folder / name}.{form}" for name in ("guest1", "guest2")]


@pytest.fixture
def scan(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``pageshare scan --json``; gives the document, exit status 0 and no word beside it required."""

    def run(*arguments: str) -> Any:
        status = main(["scan", "--json", *arguments])
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return json.loads(out)

    return run


@pytest.fixture(scope="session")
def truth(memory: Memory) -> Any:
    return census(contents(memory))


def test_the_guests_have_what_the_other_tests_need(truth: Any) -> None:
    """Or equal counts would say little."""
    assert truth["pages"]["zero"] > 1000
    assert truth["pages"]["unique"] > 1000
    assert truth["nonzero"]["reclaimed_intra"] > 1000
    assert truth["nonzero"]["reclaimed_inter"] > 1000
    assert all(owner["with_others"]["unique"] > 1000 for owner in truth["owners"])


def test_elf_counts_are_those_of_a_dict(folder: Path, truth: Any, scan: Any) -> None:
    document = scan(*named(folder, "elf"))
    assert agrees(document, truth)
    device = sum(
        length // 4096
        for name in ("guest1", "guest2")
        for address, _, length in elf_loads(folder / f"{name}.elf")
        if address in DEVICES
    )
    assert device > 0
    assert document["pages"]["device"] == document["coverage"]["device"] == device
    assert document["coverage"]["data"] == truth["pages"]["known"]
    assert document["pages"]["unknown"] == document["pages"]["partial"] == 0
    assert {file["format"] for owner in document["owners"] for file in owner["files"]} == {"elf"}


def test_raw_counts_are_those_of_a_dict(folder: Path, scan: Any) -> None:
    expected = census({name: list(raw_pages(folder / f"{name}.raw").values()) for name in ("guest1", "guest2")})
    document = scan(*named(folder, "raw"))
    assert agrees(document, expected)
    assert document["pages"]["device"] == document["pages"]["unknown"] == 0
    assert {file["format"] for owner in document["owners"] for file in owner["files"]} == {"raw"}


@pytest.mark.parametrize(
    "options",
    [
        ["--threads", "1"],
        ["--policy", "sequential"],
        ["--policy", "random-permutation", "--limit", "100%"],
        ["--policy", "random", "--seed", "7"],
    ],
    ids=" ".join,
)
def test_every_order_finds_the_same(options: list[str], folder: Path, truth: Any, scan: Any) -> None:
    document = scan(*options, *named(folder, "elf"))
    assert agrees(document, truth)
    if "--policy" in options:
        assert document["partial"]["visits"] == truth["pages"]["known"]
        assert document["partial"]["reclaimed"] == truth["pages"]["reclaimed"]


def test_a_quarter_of_the_visits_finds_a_part(folder: Path, truth: Any, scan: Any) -> None:
    document = scan("--policy", "random", "--limit", "25%", *named(folder, "elf"))
    known = truth["pages"]["known"]
    assert document["partial"]["visits"] == round(known / 4)
    assert document["pages"]["known"] == known
    assert document["pages"]["unique"] is None
    assert 0 < document["pages"]["reclaimed"] < truth["pages"]["reclaimed"]
    assert 0 < document["nonzero"]["reclaimed"] < truth["nonzero"]["reclaimed"]


def test_a_domain_for_each_guest_leaves_nothing_between_them(folder: Path, memory: Memory, scan: Any) -> None:
    expected = census(contents(memory), domains={name: name for name in memory})
    document = scan("--domain-per-owner", *named(folder, "elf"))
    assert agrees(document, expected)
    assert document["nonzero"]["reclaimed_inter"] == 0


@pytest.mark.parametrize("page_size", [1024, 16384, 65536])
def test_other_page_sizes(page_size: int, folder: Path, scan: Any) -> None:
    pages = {name: list(elf_pages(folder / f"{name}.elf", page_size).values()) for name in ("guest1", "guest2")}
    document = scan("--page-size", str(page_size), *named(folder, "elf"))
    assert document["page_size"] == page_size
    assert agrees(document, census(pages, page_size=page_size))


@pytest.mark.parametrize("name", ["guest1", "guest2"])
def test_both_formats_hold_the_same_pages(name: str, folder: Path, memory: Memory) -> None:
    elf, raw = memory[name], raw_pages(folder / f"{name}.raw")
    assert elf.keys() <= raw.keys()
    assert [number for number in elf if elf[number] != raw[number]] == []
    # What is in the raw dump alone is the window to the video memory, below the first MiB.
    assert raw.keys() - elf.keys() == set(range(0xA0, 0xC0))

    with pageshare.open_image(folder / f"{name}.elf") as first, pageshare.open_image(folder / f"{name}.raw") as other:
        table = pageshare.FrameTable(PageSpace([("elf", [first]), ("raw", [other])]))
        table.scan()
        classes = table.classes()
    # Page numbers of the space: of each owner by address, one owner after the other.
    contents = [*(elf[number] for number in sorted(elf)), *(raw[number] for number in sorted(raw))]
    assert len(classes) == len(contents)
    assert all(contents[each] == contents[page] for page, each in enumerate(classes.tolist()))
    of_elf, of_raw = classes[: len(elf)], classes[len(elf) :]
    assert np.array_equal(of_elf, of_raw[np.isin(sorted(raw), sorted(elf))])


@pytest.mark.parametrize("name", ["guest1", "guest2"])
def test_every_page_in_both_formats_is_shared(name: str, folder: Path, memory: Memory, scan: Any) -> None:
    elf, raw = memory[name], raw_pages(folder / f"{name}.raw")
    document = scan(f"elf={folder / name}.elf", f"raw={folder / name}.raw")
    assert agrees(document, census({"elf": list(elf.values()), "raw": list(raw.values())}))
    first, other = document["owners"]
    assert first["with_others"] == {"shared": len(elf), "unique": 0}
    assert other["with_others"]["shared"] >= len(elf)


def test_both_dumps_as_one_owner_count_each_page_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", "--json", f"guest={folder / 'guest1.elf'}", f"guest={folder / 'guest1.raw'}"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert agrees(document, census({"guest": list(raw_pages(folder / "guest1.raw").values())}))
    (warning,) = document["warnings"]
    assert "more than once" in warning
    assert warning in err


def test_a_truncated_dump_counts_what_is_lost(
    folder: Path, tmp_path: Path, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = folder / "guest1.elf", tmp_path / "cut.elf"
    size = whole.stat().st_size // 3 + 1  # in the middle of RAM, and of a page
    with whole.open("rb") as source, cut.open("wb") as target:
        target.write(source.read(size))
    pages = {"cut": list(elf_pages(cut).values()), "guest2": list(memory["guest2"].values())}
    lost = len(memory["guest1"]) - len(pages["cut"])
    assert lost > 1000

    assert main(["scan", "--json", f"cut={cut}", f"guest2={folder / 'guest2.elf'}"]) == 3
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert agrees(document, census(pages))
    assert document["coverage"]["lost"] == document["pages"]["unknown"] == lost
    assert document["coverage"]["data"] + lost == len(memory["guest1"]) + len(memory["guest2"])
    assert str(cut) in err
