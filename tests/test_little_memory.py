"""Dumps larger than the memory there is, for real: in a control group of a size that they don't fit into."""

import json
import subprocess
import sys

import pytest

from control_group import control_group
from oracle import agrees
from pageshare import synth


@pytest.fixture
def enter():
    with control_group(512 << 20) as enter:
        yield enter


def run_within(enter, arguments):
    """Status, stdout and stderr of a command in this group."""
    command = [sys.executable, "-m", "pageshare", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, preexec_fn=enter)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_two_gigabytes_in_half_a_one(tmp_path, enter):
    synth.make(synth.Spec(images=2, size=1 << 30, seed=3), tmp_path)
    status, out, err = run_within(enter, ["scan", "--json", tmp_path])
    assert status == 0, err
    assert "2.00 GiB are more than the" in err
    document = json.loads(out)
    assert document["method"] == "streamed-census"
    assert document["readings"] >= 2
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert agrees(document, truth)

    # What is held is bounded, and so is the process.
    status, out, err = run_within(enter, ["scan", "--json", "--memory", "4MiB", tmp_path])
    document = json.loads(out)
    assert document["readings"] > 2
    assert err.endswith(f"pageshare: note: the files are read {document['readings']} times in all\n")
    assert agrees(document, truth)
