"""Cores that gdb's gcore takes of running processes: found whole, and counted as a plain dict counts them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import pageshare
from core_pages import core_pages
from known_child import PAGE, KnownChild, content, known_child
from oracle import agrees, census

PAGES = 64


def gcore(child: KnownChild, folder: Path) -> Path:
    """Take a core of a running process."""
    if shutil.which("gcore") is None:
        pytest.skip("gcore needs gdb: apt-get install gdb")
    done = subprocess.run(
        ["gcore", "-o", str(folder / "core"), str(child.pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=os.environ | {"DEBUGINFOD_URLS": ""},
    )
    if "ptrace: Operation not permitted" in done.stdout:
        pytest.skip("gdb may not trace processes here: run as root, or set kernel.yama.ptrace_scope to 0")
    core = folder / f"core.{child.pid}"
    assert core.exists(), done.stdout
    return core


@pytest.fixture
def cores(tmp_path: Path) -> dict[str, Path]:
    """Of two Python processes; each holds the same 64 pages of known content."""
    with known_child(PAGES) as one, known_child(PAGES) as other:
        found = {"one": gcore(one, tmp_path), "other": gcore(other, tmp_path)}
        for child, core in zip((one, other), found.values(), strict=True):
            pages = core_pages(core)
            assert [pages[child.at(page)] for page in range(PAGES)] == [content(page) for page in range(PAGES)]
    return found


def test_counts_are_those_of_a_dict(cores: dict[str, Path]) -> None:
    expected = census({name: list(core_pages(core).values()) for name, core in cores.items()}, page_size=PAGE)
    assert expected["nonzero"]["reclaimed_inter"] >= PAGES
    document = pageshare.scan(cores, page_size=PAGE).to_dict()
    assert agrees(document, expected)
    assert document["coverage"]["process"] == document["coverage"]["data"] == expected["pages"]["known"]
    assert document["pages"]["unknown"] == document["pages"]["device"] == document["pages"]["partial"] == 0
    assert document["warnings"] == document["incomplete"] == []


def test_core_is_told_from_a_guests(cores: dict[str, Path]) -> None:
    with pageshare.open_image(cores["one"]) as image:
        assert image.format == "elf"
        assert image.kind.name == "PROCESS"
