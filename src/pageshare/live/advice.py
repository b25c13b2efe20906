"""Why KSM leaves memory alone, and the line that would allow it.

Sources: the kernel's Documentation/admin-guide/mm/ksm.rst, prctl(2) (PR_SET_MEMORY_MERGE), systemd.exec(5)
(MemoryKSM=), qemu(1) (-machine mem-merge, -object memory-backend-ram). The setting of PR_SET_MEMORY_MERGE outlives
execve(2) since Linux 6.7 only (MMF_VM_MERGE_ANY in MMF_INIT_MASK): before, what systemd sets is lost at once.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pageshare.ksm import Ksm
from pageshare.live.find import is_qemu
from pageshare.live.look import Subject
from pageshare.live.mappings import Reach

SWITCH_ON = "echo 1 | sudo tee /sys/kernel/mm/ksm/run"
# A unit by the name of its group (systemd.unit(5)): anybody may make groups of other names, some that a shell or a
# terminal would obey. A service may have groups of its own below.
_UNIT = re.compile(r"(?:^|/)([\w:.\\@-]+\.service)(?:/[^/.]+)*$", re.ASCII)
_USERS = re.compile(r"(?:^|/)user@\d+\.service/")
_OFF = re.compile(r"(?:^|,)(?:mem-merge|merge)=(?:off|no|false)\b")
_SHARE = re.compile(r"(?:^|,)share=(?:on|yes|true)\b")


@dataclass(frozen=True)
class Advice:
    """Why so many pages of a process are not merged, and the line that would change it ("" where nothing does)."""

    reach: Reach
    pages: int
    why: str
    allow: str


def advice_for(subject: Subject, pages: dict[Reach, int]) -> list[Advice]:
    """One for each reach of which there are pages that could be anonymous memory instead, or mergeable. The line takes
    effect when the process is started with it the next time."""
    machine = is_qemu(subject.arguments)
    found = []
    for reach, count in pages.items():
        if count and reach not in (Reach.MERGEABLE, Reach.FILE, Reach.SPECIAL):
            why, allow = (_of_machine if machine else _of_process)(subject, reach)
            found.append(Advice(reach, count, why, allow))
    return found


_NEVER = {
    Reach.SHARED: "shared memory: KSM merges anonymous memory only",
    Reach.HUGETLB: "reserved huge pages (hugetlbfs): KSM never merges them",
    Reach.DROPPABLE: "droppable memory: KSM never merges it",
}


def _of_process(subject: Subject, reach: Reach) -> tuple[str, str]:
    if reach is not Reach.UNASKED:
        return _NEVER[reach], ""
    why = "nobody has asked for it: neither madvise(MADV_MERGEABLE) nor prctl(PR_SET_MEMORY_MERGE)"
    if subject.stat.ksm_merge_any:
        return "mapped in a way that prctl(PR_SET_MEMORY_MERGE) has not reached", "madvise(MADV_MERGEABLE)"
    for group in subject.groups:
        if unit := _UNIT.search(group):
            manager = "systemctl --user" if _USERS.search(group) else "systemctl"
            return why, f"MemoryKSM=yes under [Service] in: {manager} edit {shlex.quote(unit[1])} (Linux 6.7)"
    return why, "systemd-run -p MemoryKSM=yes COMMAND, or prctl(PR_SET_MEMORY_MERGE, 1) in what starts it (Linux 6.7)"


def _of_machine(subject: Subject, reach: Reach) -> tuple[str, str]:
    machine = _values(subject.arguments, "-machine", "--machine", "-M")
    objects = _values(subject.arguments, "-object", "--object")
    if reach is Reach.UNASKED:
        if any(_OFF.search(value) for value in machine):
            return "QEMU runs with mem-merge=off", "-machine mem-merge=on"
        if any(_OFF.search(value) for value in objects):
            return "a memory backend of QEMU has merge=off", "-object memory-backend-ram,merge=on,..."
        return "QEMU asks for its guest's memory (mem-merge=on), and not for its own", _of_process(subject, reach)[1]
    if reach is Reach.SHARED and any(_SHARE.search(value) for value in objects):
        return (
            "the guest's memory is shared (a memory backend with share=on): KSM merges private memory only",
            "-object memory-backend-ram,share=off,... (not with vhost-user or virtiofs devices)",
        )
    if reach is Reach.HUGETLB:
        return _NEVER[reach], "-object memory-backend-ram,... in place of one on hugetlbfs"
    return _NEVER[reach], ""


def _values(arguments: Sequence[str], *options: str) -> list[str]:
    return [_plain(value) for option, value in itertools.pairwise(arguments) if option in options]


def _plain(value: str) -> str:
    """What an option is given, as ``key=value,..`` if it is in JSON, as libvirt writes it."""
    if not value.startswith("{"):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    words = {True: "on", False: "off"}
    return ",".join(f"{key}={words[one] if isinstance(one, bool) else one}" for key, one in found.items())


def switch_on(ksm: Ksm) -> str:
    """What to do so that KSM runs; empty if it does."""
    if not ksm.present:
        return "this kernel has no KSM: it needs CONFIG_KSM=y"
    return "" if ksm.run == 1 else SWITCH_ON
