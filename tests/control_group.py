"""A control group whose memory is limited: a small machine, for tests of inputs that don't fit into memory."""

import contextlib
import os
from pathlib import Path

import pytest

GROUPS = Path("/sys/fs/cgroup")


def _make(name, limit):
    """A group of version 2 or 1; None if none can be made here."""
    for root, file in (
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
            (group / file).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        return group
    return None


@contextlib.contextmanager
def control_group(limit):
    """Yields what a child process calls before exec to enter a group of ``limit`` bytes; skips where that can't be."""
    group = _make(f"pageshare-test-{os.getpid()}", limit)
    if group is None:
        pytest.skip("no control group with a memory limit can be made here")
    try:
        yield lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        group.rmdir()
