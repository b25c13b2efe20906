"""Figure 4's curve of real guests that do the same work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from guests.boot import boot
from pageshare import scan
from pageshare.commands import main


@pytest.mark.guests
@pytest.mark.usefixtures("bootable")
def test_two_guests_with_the_same_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boot(tmp_path, same=True)
    dumps = [str(tmp_path / f"guest{number}.elf") for number in (1, 2)]
    assert main(["figures", "4", "--json", "--guests", *dumps]) == 0
    alone, both = json.loads(capsys.readouterr().out)["real"]["guests"]
    report = scan(dumps)
    assert both["shared"] == 100 * report.pages.shared / report.pages.known
    # Of two with different work 171 of 224 MiB are shared (docs/first-scan.md); here what they write is the same too.
    assert both["shared"] > 80 > alone["shared"]
    assert both["reclaimed"] > alone["reclaimed"] + 10
    shutil.rmtree(tmp_path)
