"""What a process has mapped, and whether KSM may merge pages there, as /proc/PID/smaps has it.

Sources: proc(5) and the kernel's Documentation/filesystems/proc.rst (VmFlags); ``vma_ksm_compatible`` in mm/ksm.c.
"""

from __future__ import annotations

import os
import re
from enum import Enum
from typing import NamedTuple

from pageshare.process import is_special


class Reach(str, Enum):
    """Whether KSM can merge the anonymous pages of a mapping."""

    MERGEABLE = "mergeable"
    """Today: somebody asked for it by madvise or prctl."""
    UNASKED = "unasked"
    """It could, but nobody has asked for it."""
    SHARED = "shared memory"
    """Never: the mapping is shared (memfd, /dev/shm, System V, a memory backend with share=on)."""
    FILE = "file"
    """Never: pages of a file, which the kernel keeps once anyway; changed ones of a private mapping are anonymous."""
    HUGETLB = "hugetlbfs"
    """Never: reserved huge pages."""
    DROPPABLE = "droppable"
    """Never: memory that the kernel may drop (MAP_DROPPABLE)."""
    SPECIAL = "special"
    """The kernel's, a device's, or secret (memfd_secret): it is not read."""


class LiveMapping(NamedTuple):
    """A mapping of a process: addresses, name ("" for anonymous memory), what KSM may do there, whether it is locked
    into memory.

    ``resident`` are the bytes that lie in memory or in swap; ``ksm`` those in pages that KSM has merged (0 where the
    kernel does not say).
    """

    start: int
    end: int
    name: str
    reach: Reach
    locked: bool
    resident: int
    ksm: int


_ENTRY = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) \S{4} [0-9a-f]+ \S+ \d+ *(.*)\n((?:[A-Z]\w+:.*\n)+)",
    re.MULTILINE,
)
_SIZES = re.compile(rb"^(Rss|Swap|KSM|Private_Hugetlb|Shared_Hugetlb): +(\d+) kB$", re.MULTILINE)
_FLAGS = re.compile(rb"^VmFlags:(.*)$", re.MULTILINE)

_OWN_ONLY = "/secretmem (deleted)"  # memfd_secret(2): nobody but its process may read it
# VM_SPECIAL: VM_IO, VM_PFNMAP, VM_MIXEDMAP; VM_DONTEXPAND is part of it too, but such memory may well be read.
_DEVICE = frozenset((b"io", b"pf", b"mm"))


def reach_of(name: str, flags: frozenset[bytes]) -> Reach:
    """What KSM may do in a mapping with these VmFlags."""
    if is_special(name) or flags & _DEVICE or (name == _OWN_ONLY and b"lo" in flags):
        return Reach.SPECIAL
    if b"ht" in flags:
        return Reach.HUGETLB
    if flags & {b"sh", b"ms"}:
        return Reach.SHARED if is_shared_memory(name) else Reach.FILE
    if b"dp" in flags:
        return Reach.DROPPABLE
    if b"de" in flags:
        return Reach.SPECIAL
    return Reach.MERGEABLE if b"mg" in flags else Reach.UNASKED


def is_shared_memory(name: str) -> bool:
    """Whether a file of this name in /proc/PID/maps is memory only: it has no disk."""
    return not name or name.startswith(("/memfd:", "/dev/shm/", "/SYSV", "/dev/zero", "[anon_shmem"))  # noqa: S108


def parse_smaps(smaps: bytes) -> list[LiveMapping]:
    """The mappings of /proc/PID/smaps, ascending, never overlapping even if they changed while it was read."""
    mappings: list[LiveMapping] = []
    last = 0
    for match in _ENTRY.finditer(smaps):
        start, end = max(int(match[1], 16), last), int(match[2], 16)
        if start >= end:
            continue
        last = end
        name = os.fsdecode(match[3])
        sizes = {key: int(kib) << 10 for key, kib in _SIZES.findall(match[4])}
        found = _FLAGS.search(match[4])
        flags = frozenset(found[1].split()) if found else frozenset()
        ksm = sizes.pop(b"KSM", 0)
        mappings.append(LiveMapping(start, end, name, reach_of(name, flags), b"lo" in flags, sum(sizes.values()), ksm))
    return mappings
