"""Which processes to look at: by name, control group, or what they run."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_QEMU = re.compile(r"qemu-system-\w+|qemu-kvm|kvm|qemu")


def find(
    *, names: Sequence[str] = (), cgroups: Sequence[str] = (), qemu: bool = False, everything: bool = False
) -> list[int]:
    """Numbers of the running processes that fit one of these, ascending; never this one, never kernel threads.

    ``names`` are shell patterns for the command (comm) or the file name of the program; ``cgroups`` control groups by
    their paths below /sys/fs/cgroup, or with it, and all below them; ``qemu`` are virtual machines of QEMU.

    >>> import os
    >>> from pageshare.live.find import find
    >>> os.getpid() in find(everything=True)
    False
    """
    groups = [_group_path(path) for path in cgroups]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it has ended since
            arguments = command_line(entry)
            if not arguments:  # a kernel thread, or a process that has ended
                continue
            if (
                everything
                or (names and _fits(entry, arguments, names))
                or (groups and _is_in(entry, groups))
                or (qemu and is_qemu(arguments))
            ):
                found.append(int(entry.name))
    return sorted(found)


def command_line(folder: Path) -> list[str]:
    """The arguments of a process by its folder in /proc; none for a kernel thread."""
    text = os.fsdecode((folder / "cmdline").read_bytes())
    return text.rstrip("\0").split("\0") if text else []


def is_qemu(arguments: Sequence[str]) -> bool:
    """Whether this is the command line of a virtual machine of QEMU."""
    return bool(_QEMU.fullmatch(Path(arguments[0]).name)) and len(arguments) > 1


def control_groups(folder: Path) -> list[str]:
    """The paths of a process's control groups, of any hierarchy (cgroups(7)): without the leading slash."""
    lines = os.fsdecode((folder / "cgroup").read_bytes()).splitlines()
    return [line.split(":", 2)[2].strip("/") for line in lines if line.count(":") >= 2]


def _group_path(path: str) -> str:
    below = path.removeprefix(str(_GROUPS)).strip("/")
    hierarchy, _, rest = below.partition("/")
    # Several hierarchies (version 1) lie side by side, each in a folder that is no group itself.
    several = path.startswith(f"{_GROUPS}/") and not (_GROUPS / "cgroup.procs").exists()
    return rest if several and (_GROUPS / hierarchy / "cgroup.procs").exists() else below


def _is_in(folder: Path, groups: Sequence[str]) -> bool:
    mine = control_groups(folder)
    return any(not group or path == group or path.startswith(group + "/") for path in mine for group in groups)


def _fits(folder: Path, arguments: Sequence[str], names: Sequence[str]) -> bool:
    command = os.fsdecode((folder / "comm").read_bytes().rstrip(b"\n"))
    program = Path(arguments[0]).name
    return any(fnmatch.fnmatchcase(each, name) for name in names for each in (command, program))
