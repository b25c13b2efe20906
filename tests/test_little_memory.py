"""Dumps larger than the memory there is, for real: in a control group of a size that they don't fit into."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oracle import agrees
from pageshare import synth

LIMIT = 512 << 20
GROUPS = Path("/sys/fs/cgroup")


def make_group(name):
    """A control group of LIMIT bytes, of version 2 or 1; None if none can be made here."""
    for root, limit in (
        (GROUPS, "memory.max"),
        (GROUPS / "unified", "memory.max"),
        (GROUPS / "memory", "memory.limit_in_bytes"),
    ):
        group = root / name
        if not (root / "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(LIMIT))
        except OSError:
            group.rmdir()
            continue
        return group
    return None


@pytest.fixture
def group():
    group = make_group(f"pageshare-test-{os.getpid()}")
    if group is None:
        pytest.skip("no control group with a memory limit can be made here")
    yield group
    group.rmdir()


def run_within(group, arguments):
    """Status, stdout and stderr of a command in this group."""

    def enter():
        (group / "cgroup.procs").write_text(str(os.getpid()))

    command = [sys.executable, "-m", "pageshare", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, preexec_fn=enter)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_two_gigabytes_in_half_a_one(tmp_path, group):
    synth.make(synth.Spec(images=2, size=1 << 30, seed=3), tmp_path)
    status, out, err = run_within(group, ["scan", "--json", tmp_path])
    assert status == 0, err
    assert "2.00 GiB are more than the" in err
    document = json.loads(out)
    assert document["method"] == "streamed-census"
    assert document["readings"] >= 2
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert agrees(document, truth)

    # What is held is bounded, and so is the process.
    status, out, _ = run_within(group, ["scan", "--json", "--quiet", "--memory", "4MiB", tmp_path])
    document = json.loads(out)
    assert document["readings"] > 2
    assert agrees(document, truth)
