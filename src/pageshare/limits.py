"""What this process may use of memory and CPUs: what the machine has, or what its control group is allowed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Bytes: ``total`` of the machine or the control group, and what of it is ``free``, page cache included."""

    total: int
    free: int


def memory() -> Memory:
    """As /proc/meminfo has it, or less where a control group (version 1 or 2) of this process is limited.

    >>> memory().total >= memory().free > 0
    True
    """
    meminfo = _table(PROC / "meminfo")
    total = meminfo.get("MemTotal:", 0) * 1024 or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = meminfo.get("MemAvailable:", 0) * 1024 or total // 2
    for limit, used in _limits():
        total, free = min(total, limit), min(free, max(0, limit - used))
    return Memory(total, free)


def cpus() -> int:
    """CPUs that this process may run on, or fewer where a control group has less of their time (cpu.max).

    >>> cpus() >= 1
    True
    """
    count = len(os.sched_getaffinity(0))
    for folder, version in _groups("cpu"):
        if version == 1:
            quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        else:
            quota, period = _quota(folder / "cpu.max")
        if quota is not None and period:
            count = max(1, min(count, -(-quota // period)))
    return count


def _quota(path: Path) -> tuple[int | None, int | None]:
    """Two numbers of a file; None for what is none, such as "max"."""
    try:
        words = path.read_text(encoding="ascii").split()
    except OSError:
        return None, None
    quota, period = (int(word) if word.isdecimal() else None for word in (*words, "", "")[:2])
    return quota, period


def _table(path: Path) -> dict[str, int]:
    """A file of lines that are a word and a number."""
    table: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return table
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[1].isdecimal():
            table[words[0]] = int(words[1])
    return table


def _number(path: Path) -> int | None:
    """The number that is all of a file; None if there is no such file, or it says "max"."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _limits() -> Iterator[tuple[int, int]]:
    """The limit of each control group that this process is in, and what is used of it apart from page cache."""
    for folder, version in _groups("memory"):
        if version == 1:
            names, cache = ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_"
        else:
            names, cache = ("memory.max", "memory.current"), ""
        limit, used = _number(folder / names[0]), _number(folder / names[1])
        if limit is not None and used is not None:
            stat = _table(folder / "memory.stat")
            yield limit, used - sum(stat.get(f"{cache}{name}", 0) for name in ("inactive_file", "active_file"))


def _groups(controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of the control groups that this process is in, and which version they are."""
    try:
        lines = (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            root, version = CGROUP / controller, 1
        elif not controllers:
            root, version = CGROUP / "unified" if (CGROUP / "unified").is_dir() else CGROUP, 2
        else:
            continue
        # Inside a container the path is that of the host, and what is ours lies at the root.
        own = root / path.lstrip("/")
        group = own if own.is_dir() else root
        for folder in (group, *group.parents):
            yield folder, version
            if folder == root:
                break
