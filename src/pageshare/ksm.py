"""What the kernel says of KSM: its settings, its counters, and what it does for one process.

Source: the kernel's Documentation/admin-guide/mm/ksm.rst, and Documentation/filesystems/proc.rst (ksm_stat).
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KSM_PAGES, KSM_SLEEP = 100, 0.020
"""pages_to_scan and sleep_millisecs (in seconds), as the kernel sets them."""
MAX_PAGE_SHARING = 256
"""The same of max_page_sharing."""
FOLDER = Path("/sys/kernel/mm/ksm")
RMAP_ITEM = 64
"""Bytes that KSM keeps for each page that it scans: ``struct ksm_rmap_item`` on 64-bit kernels."""
KSMD_RATE = 2**30
"""Bytes a second of a CPU that ksmd gets through in a pass, about, where we measured it: it hashes them, and searches
its trees."""
_CHOSEN = re.compile(r"\[(\S+)\]")


@dataclass(frozen=True)
class Ksm:
    """KSM's settings and counters; None for what this kernel does not have.

    ``pages_sharing`` + ``ksm_zero_pages`` are pages that it saves now, ``general_profit`` bytes.

    >>> from pageshare.ksm import Ksm
    >>> Ksm(run=1, pages_to_scan=100, sleep_millisecs=20).pass_seconds(1000)
    0.2
    """

    run: int | None = None
    pages_to_scan: int | None = None
    sleep_millisecs: int | None = None
    use_zero_pages: int | None = None
    max_page_sharing: int | None = None
    merge_across_nodes: int | None = None
    smart_scan: int | None = None
    advisor_mode: str | None = None
    full_scans: int | None = None
    pages_shared: int | None = None
    pages_sharing: int | None = None
    pages_unshared: int | None = None
    pages_volatile: int | None = None
    ksm_zero_pages: int | None = None
    general_profit: int | None = None

    @property
    def present(self) -> bool:
        """Whether this kernel has KSM."""
        return self.run is not None

    def pass_seconds(self, pages: int) -> float | None:
        """How long a pass over so many pages takes by its settings, at least; None where they are not known."""
        if not self.pages_to_scan or self.sleep_millisecs is None:
            return None
        return pages / self.pages_to_scan * self.sleep_millisecs / 1000


def ksm_now() -> Ksm:
    """What /sys/kernel/mm/ksm says."""
    found: dict[str, int | str | None] = {}
    for name in Ksm.__dataclass_fields__:
        with contextlib.suppress(OSError, ValueError):
            text = (FOLDER / name).read_text(encoding="ascii").strip()
            chosen = _CHOSEN.search(text)
            found[name] = chosen[1] if chosen else int(text)
    return Ksm(**found)  # type: ignore[arg-type]


@dataclass(frozen=True)
class KsmStat:
    """What KSM does for a process (/proc/PID/ksm_stat); None for what this kernel does not say.

    ``ksm_merging_pages`` counts its pages that are merged, retained ones included; ``ksm_merge_any`` says that
    prctl(PR_SET_MEMORY_MERGE) was called for all of its memory.
    """

    ksm_rmap_items: int | None = None
    ksm_zero_pages: int | None = None
    ksm_merging_pages: int | None = None
    ksm_process_profit: int | None = None
    ksm_merge_any: bool | None = None


def parse_ksm_stat(text: bytes) -> KsmStat:
    """The lines of ksm_stat: ``name value``, later ones ``name: yes``."""
    words = dict(re.findall(r"^(\w+):? (\S+)$", text.decode("ascii", "replace"), re.MULTILINE))
    numbers = {
        name: int(words[name])
        for name in ("ksm_rmap_items", "ksm_zero_pages", "ksm_merging_pages", "ksm_process_profit")
        if re.fullmatch(r"-?\d+", words.get(name, ""))
    }
    return KsmStat(**numbers, ksm_merge_any=words["ksm_merge_any"] == "yes" if "ksm_merge_any" in words else None)


def frames_for(pages: NDArray[np.int64], limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of so many pages of each content, how many frames KSM makes with up to ``limit`` mappings each, and how many
    pages (0 or 1) are left over alone.

    >>> frames_for(np.array([0, 1, 2, 256, 257, 258]), 256)
    (array([0, 0, 1, 1, 1, 2]), array([0, 1, 0, 0, 1, 0]))
    """
    frames, alone = (pages >= 2).astype(np.int64), (pages == 1).astype(np.int64)
    many = np.flatnonzero(pages >= limit)  # few are, and a division takes long
    full, rest = np.divmod(pages[many], limit)
    frames[many] = full + (rest >= 2)
    alone[many] = rest == 1
    return frames, alone
