"""What one would use instead, beside our scan of 2 GiB; each count is checked against ours first."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import inputs
from commands import PEERS, SCAN, SCRIPT, bytes_a_page, output, size_of

NOT_HERE = 77


@dataclass(frozen=True)
class Peer:
    """A command that files are put behind; ``needs`` are the programs and Python packages that it can't do without.

    ``counts`` is false for what only reads: what it prints is not looked at.
    """

    command: tuple[str, ...]
    gives: str
    verified: str
    needs: tuple[str, ...] = ()
    counts: bool = True
    rounds: int = 2


def script(name: str, *arguments: str) -> tuple[str, ...]:
    """The command of a script of this folder."""
    return (sys.executable, str(PEERS / name), *arguments)


TOOLS = {
    "cat": Peer(("cat",), "nothing: the limit of reading", "-", counts=False),
    "xxhsum -H3": Peer(("xxhsum", "-H3"), "nothing: the limit of hashing", "-", ("xxhsum",), counts=False),
    "pageshare scan": Peer(SCAN, "a report, owner by owner", "yes"),
    "Python: hashes into a dict": Peer(SCRIPT, "one total", "no", ("xxhash",)),
    "Python: pages into a dict": Peer(script("bytes_dict.py"), "one total", "exact"),
    "duckdb over hashes": Peer(script("sql_hashes.py", "duckdb"), "any SQL", "no", ("xxhash", "duckdb")),
    "polars over hashes": Peer(script("sql_hashes.py", "polars"), "any SQL", "no", ("xxhash", "polars")),
    "duperemove": Peer(("duperemove", "-q", "-b", "4096"), "equal blocks, file by file", "no", ("duperemove",)),
    "the kernel's KSM": Peer(script("ksm.py"), "totals", "yes", rounds=1),
}


def reclaimed(name: str, out: str, database: Path) -> int | None:
    """Pages that sharing gives back by a tool's count, from what it printed or left; None if it counts nothing."""
    if not TOOLS[name].counts:
        return None
    if TOOLS[name].command == SCAN:
        return int(json.loads(out)["pages"]["reclaimed"])
    if name == "duperemove":
        with sqlite3.connect(database) as connection:
            return int(connection.execute("select count(*) - count(distinct digest) from hashes").fetchone()[0])
    return int(out.split()[1])


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.benchmark(group="peers")
def test_peer(beside, name, tmp_path):
    tool, found = TOOLS[name], inputs.hard(2)
    if missing := [need for need in tool.needs if not (shutil.which(need) or importlib.util.find_spec(need))]:
        pytest.skip(f"{', '.join(missing)}: not installed")
    ours = json.loads(output(*SCAN, *found.paths))["pages"]["reclaimed"]
    database = tmp_path / "hashes"
    command = [*tool.command, f"--hashfile={database}"] if name == "duperemove" else list(tool.command)

    def run(*paths):
        database.unlink(missing_ok=True)
        to = subprocess.PIPE if tool.counts else subprocess.DEVNULL
        done = subprocess.run([*command, *map(str, paths)], stdout=to, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode == NOT_HERE:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        return done.stdout

    count = reclaimed(name, run(*found.paths), database)
    assert count in (None, ours)
    out = beside(
        lambda: run(*found.paths),
        lambda: output(*SCAN, *found.paths),
        rounds=tool.rounds,
        warm_up=False,
        tool=name,
        gives=tool.gives,
        verified=tool.verified,
        count=count,
        bytes=size_of(found.paths),
    )
    pages, where = size_of(found.paths) // 4096, ""
    if count is None:
        each = 0.0
    elif name == "the kernel's KSM":
        each, where = int(out.split()[2]) / pages, "in the kernel"
    elif name == "duperemove":
        each, where = database.stat().st_size / pages, "on disk"
    else:
        each, _ = bytes_a_page(*command, less=found.paths, more=inputs.hard(4).paths)
    beside.benchmark.extra_info.update(bytes_a_page=each, where=where)
