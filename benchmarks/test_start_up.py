"""What a command takes before it does anything, beside `python -c pass`."""

from __future__ import annotations

import os
import sys

import pytest

from commands import SCAN, output


@pytest.mark.parametrize("command", ["pageshare --version", "import pageshare", "scan of a 64 MiB file"])
@pytest.mark.benchmark(group="start-up")
def test_start_up(beside, command, tmp_path):
    dump = tmp_path / "dump.raw"
    dump.write_bytes(os.urandom(1 << 20) * 64)
    commands = {
        "pageshare --version": (sys.executable, "-m", "pageshare", "--version"),
        "import pageshare": (sys.executable, "-c", "import pageshare"),
        "scan of a 64 MiB file": (*SCAN, dump),
    }
    beside(
        lambda: output(*commands[command]),
        lambda: output(sys.executable, "-c", "pass"),
        rounds=15,
        command=command,
    )
