"""How much memory a replay takes: what changes is copied, and nothing else is."""

import json
import subprocess
import sys

import numpy as np
import pytest

PAGE = 4096
SNAPSHOTS, PAGES, CHANGED = 10, 8192, 100

CHILD = """
import json, sys, threading, time
from pageshare.images import open_image
from pageshare.replay import course
from pageshare.replay.costs import Costs
from pageshare.replay.history import history_of
from pageshare.replay.pace import PagesPerSecond

policy, by_bytes, *paths = sys.argv[1:]

def anonymous():
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("RssAnon:"))

samples, done = [], threading.Event()

def watch():
    while not done.wait(0.001):
        samples.append(anonymous())

copied = []

class Copying(course.Run):
    def __init__(self, *arguments):
        copied.extend(open(path, "rb").read() for path in paths[:{copies}])
        super().__init__(*arguments)

before = anonymous()
watcher = threading.Thread(target=watch)
watcher.start()
history = history_of([(10.0 * i, [("guest", [open_image(path)])]) for i, path in enumerate(paths)])
settings = course.Settings(policy=policy, pace=lambda: PagesPerSecond(500.0), by_bytes=by_bytes == "bytes")
found = Copying(history, settings, Costs((1, 1), (1, 1), (1, 1), (1, 1), (1, 1), 1)).go()
samples.append(anonymous())
done.set()
watcher.join()
print(json.dumps({"grown": max(samples) - before, "writes": found.writes, "visits": found.last.visits,
                  "saved": found.last.saved, "possible": found.last.possible}))
"""


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    """Ten dumps of 32 MiB, a little of which changes from each to the next."""
    folder, generator = tmp_path_factory.mktemp("snapshots"), np.random.default_rng(1)
    memory = np.frombuffer(generator.bytes(PAGES * PAGE), np.uint8).reshape(PAGES, PAGE).copy()
    memory[PAGES // 2 :] = memory[: PAGES // 2]
    paths = []
    for number in range(SNAPSHOTS):
        if number:
            memory[generator.choice(PAGES, CHANGED, replace=False), :8] = generator.integers(0, 256, 8, np.uint8)
        paths.append(folder / f"{number}.raw")
        memory.tofile(paths[-1])
    yield paths
    for path in paths:
        path.unlink()


def run(paths, policy, by_bytes, copies=0):
    """What the child says of a replay; ``copies`` of the dumps are in its memory, too."""
    command = [sys.executable, "-c", CHILD.replace("{copies}", str(copies)), policy, by_bytes, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


# A page that changes is a copy. For each page of each snapshot, there are the count and the contents' numbers; a policy
# and the table keep some bits of each. One snapshot more than that would be too much.
MOST = PAGE * (SNAPSHOTS - 1) * CHANGED + 150 * SNAPSHOTS * PAGES + (6 << 20)


@pytest.mark.parametrize(("policy", "by_bytes"), [("random", "bytes"), ("peek-runs", "bytes"), ("random", "hashes")])
def test_ten_snapshots_take_as_much_memory_as_changes(snapshots, policy, by_bytes):
    found = run(snapshots, policy, by_bytes)
    assert found["writes"] == (SNAPSHOTS - 1) * CHANGED
    assert found["visits"] > 2 * PAGES
    assert 0 < found["saved"] <= found["possible"]
    assert found["grown"] < MOST < PAGE * PAGES


def test_a_snapshot_that_is_copied_would_be_seen(snapshots):
    assert run(snapshots, "random", "bytes", copies=1)["grown"] > MOST
