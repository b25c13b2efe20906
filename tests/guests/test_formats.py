"""Dumps of one stopped guest in every format that can be made here: they hold the same pages, and the counts are those
of a plain dict of them.

The dict comes from this folder's own readers, or from other programs where the pages are compressed; those are held
against each other.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from guests import formats
from guests.boot import MissingError
from guests.parse import elf_pages, lime_pages, lime_ranges, migration_pages, raw_pages
from guests.programs import (
    Unavailable,
    pages_by_drgn,
    pages_by_libkdumpfile,
    pages_by_makedumpfile,
    pages_by_volatility,
)
from oracle import agrees, census
from pageshare.commands import main

pytestmark = pytest.mark.guests

Pages = dict[int, bytes]

VIDEO = set(range(0xA0, 0xC0))
"""The window to the video memory. Behind it lies RAM that nobody can see, and that only a migration has."""


@dataclass(frozen=True)
class Dump:
    """One dump: its files, a reader that shares nothing with the package's, and whether it has all of RAM."""

    names: tuple[str, ...]
    read: Callable[..., Pages]
    whole: bool = True

    def __str__(self) -> str:
        return self.names[0]

    def paths(self, folder: Path) -> list[Path]:
        """Where its files are; skips, with the reason, if they could not be made."""
        left_out = json.loads((folder / "left-out.json").read_text())
        for name in self.names:
            if name in left_out:
                pytest.skip(left_out[name])
        return [folder / name for name in self.names]


def or_skip(read: Callable[[], Pages]) -> Pages:
    try:
        return read()
    except Unavailable as error:
        pytest.skip(str(error))


MIGRATIONS = (
    Dump(("guest.migration",), migration_pages),
    Dump(("guest.mapped-ram",), migration_pages),
)
SAME_MOMENT = (
    Dump(("guest.raw",), raw_pages),
    Dump(("guest.elf",), elf_pages),
    # Only what the kernel has mapped, which is all but the tables of the firmware at the end.
    Dump(("guest.paging.elf",), elf_pages, whole=False),
    Dump(("guest.kdump-zlib",), pages_by_makedumpfile),
    Dump(("guest.kdump-raw-zlib",), pages_by_libkdumpfile),
    Dump(("guest.kdump",), pages_by_libkdumpfile),
    *MIGRATIONS,
    Dump(("plain.kdump",), pages_by_libkdumpfile),
    Dump(("zlib.kdump",), pages_by_libkdumpfile),
    Dump(("lzo.kdump",), pages_by_libkdumpfile),
    Dump(("zstd.kdump",), pages_by_drgn),
    # Zero pages are not left out: all of them have one place in the file.
    Dump(("nonzero.kdump",), pages_by_libkdumpfile),
    Dump(("kernel.kdump",), pages_by_libkdumpfile, whole=False),
    Dump(("flat.kdump",), pages_by_makedumpfile, whole=False),
    Dump(formats.SPLIT, pages_by_libkdumpfile),
    # An ELF file has no zero pages if it is told to leave them out.
    Dump(("kernel.elf",), elf_pages, whole=False),
    Dump(("flat.elf",), pages_by_makedumpfile, whole=False),
)
WHILE_IT_RAN = (
    Dump(("guest.lime",), lime_pages),
    Dump(("guest.compressed.lime",), lime_pages),
    Dump(("guest.padded",), raw_pages),
)
EVERY = (*SAME_MOMENT, *WHILE_IT_RAN)


@pytest.fixture(scope="session")
def dumps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that formats.py fills; PAGESHARE_FORMATS may name one that is ready."""
    ready = os.environ.get("PAGESHARE_FORMATS")
    if ready:
        yield Path(ready)
        return
    request.getfixturevalue("bootable")
    made = tmp_path_factory.mktemp("formats")
    try:
        formats.make(made)
    except MissingError as error:
        pytest.skip(str(error))
    yield made
    shutil.rmtree(made)  # more than a gigabyte


@pytest.fixture(scope="session")
def moment(dumps: Path) -> Pages:
    return raw_pages(dumps / "guest.raw")


@pytest.fixture(scope="session")
def pages(dumps: Path, moment: Pages) -> Callable[[Dump], Pages]:
    """Gives what is in a dump; those pages that are as in the raw dump are in memory once."""
    read: dict[Dump, Pages] = {}

    def of(dump: Dump) -> Pages:
        paths = dump.paths(dumps)
        if dump not in read:
            found = or_skip(lambda: dump.read(*paths))
            read[dump] = {
                number: moment[number] if page == moment.get(number) else page for number, page in found.items()
            }
        return read[dump]

    return of


@pytest.mark.parametrize("dump", SAME_MOMENT, ids=str)
def test_every_page_that_it_has_is_that_of_the_moment(
    dump: Dump, pages: Callable[[Dump], Pages], moment: Pages
) -> None:
    found = pages(dump)
    hidden = VIDEO if dump in MIGRATIONS else set()
    assert {number for number, page in found.items() if page != moment[number]} == hidden
    if dump.whole:
        assert moment.keys() - found.keys() <= VIDEO
    else:
        assert 5000 < len(found) < len(moment) - len(VIDEO)


@pytest.mark.parametrize("dump", EVERY, ids=str)
def test_counts_are_those_of_a_dict(
    dump: Dump, dumps: Path, pages: Callable[[Dump], Pages], moment: Pages, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it shares with the raw dump what it should."""
    found = pages(dump)
    named = [f"dump={path}" for path in dump.paths(dumps)]
    assert main(["scan", "--json", *named, f"raw={dumps / 'guest.raw'}"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert agrees(document, census({"dump": list(found.values()), "raw": list(moment.values())}))


def iomem(dumps: Path, name: str) -> list[tuple[int, int]]:
    """(first, last byte) of what the guest's kernel calls by that name."""
    console = (dumps / "console.txt").read_text(errors="replace")
    return [(first, last) for each, first, last in formats.ram(console) if each == name]


@pytest.mark.parametrize("dump", WHILE_IT_RAN, ids=str)
def test_lime_has_the_guests_memory(dump: Dump, dumps: Path, pages: Callable[[Dump], Pages], moment: Pages) -> None:
    """Most of which stays the same until the guest is stopped, and its code does."""
    ram = iomem(dumps, "System RAM")
    found = pages(dump)
    (path,) = dump.paths(dumps)
    if dump.read is lime_pages:
        assert [(first, first + len(memory) - 1) for first, memory in lime_ranges(path)] == ram
    else:
        assert path.stat().st_size == ram[-1][1] + 1
    in_ram = {number for first, last in ram for number in range(-(-first // 4096), (last + 1) // 4096)}
    assert in_ram <= found.keys()
    changed = {number for number in in_ram if found[number] != moment[number]}
    assert 0 < len(changed) < len(in_ram) / 10
    ((first, last),) = iomem(dumps, "Kernel code")
    assert not changed & set(range(first // 4096, (last + 1) // 4096))


def by_volatility(kind: str) -> Callable[[Path], Pages]:
    def by_volatility(path: Path) -> Pages:
        return pages_by_volatility(path, kind)

    return by_volatility


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("guest.elf", pages_by_libkdumpfile),
        ("guest.elf", pages_by_drgn),
        ("guest.elf", by_volatility("elf.Elf64Layer")),
        ("guest.paging.elf", pages_by_libkdumpfile),
        ("guest.lime", by_volatility("lime.LimeLayer")),
        ("guest.migration", by_volatility("qemu.QemuSuspendLayer")),
        ("zlib.kdump", pages_by_drgn),
        ("lzo.kdump", pages_by_drgn),
        ("flat.kdump", pages_by_drgn),
        ("kernel.elf", pages_by_libkdumpfile),
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__.removeprefix("pages_"),
)
def test_other_programs_find_the_same(
    name: str, other: Callable[[Path], Pages], dumps: Path, pages: Callable[[Dump], Pages]
) -> None:
    """Where two readers take a dump."""
    (dump,) = (each for each in EVERY if each.names == (name,))
    (path,) = dump.paths(dumps)
    assert or_skip(lambda: other(path)) == pages(dump)
