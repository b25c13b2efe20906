from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from guests.boot import MissingError, boot, check_tools, kernel
from guests.parse import elf_pages


@pytest.fixture(scope="session")
def bootable() -> None:
    """Skips, with what to install as the reason, where guests can't be booted."""
    try:
        check_tools()
        kernel()
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Holds guest1.elf, guest1.raw, guest2.elf and guest2.raw; PAGESHARE_GUESTS may name one that is ready."""
    ready = os.environ.get("PAGESHARE_GUESTS")
    if ready:
        yield Path(ready)
        return
    request.getfixturevalue("bootable")
    made = tmp_path_factory.mktemp("guests")
    boot(made)
    yield made
    # Half a gigabyte, which pytest would keep for three sessions.
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def memory(folder: Path) -> dict[str, dict[int, bytes]]:
    """The pages of each guest by number, as the test's own reader finds them in the ELF dumps."""
    return {name: elf_pages(folder / f"{name}.elf") for name in ("guest1", "guest2")}
