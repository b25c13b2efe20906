"""What a Linux guest and QEMU do with a balloon, measured: ``python tests/guests/balloon.py -o FILE.json``.

Prints a table and writes all values; ``--markdown FILE`` writes docs/lab/virtio-balloon.md from them (``--from
FILE.json``: from those of an earlier run). Four guests are booted one after the other, which takes about five minutes:
one plain, one whose kernel does not zero what it allocates, one that takes memory back when it runs out
(deflate-on-oom), and one that tells which memory is free (free-page-reporting). QEMU emulates the processor (TCG), so
times are those of no real machine; what counts are orders, counts and ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from guests.boot import QEMU, BootError, kernel, output, say
from guests.modules import configuration, version
from guests.observed import PAGE, PATTERN, Kind, Observed, Pages, State, observed

SIZES = (4096, 16384, 32768)
"""Pages of the balloons that are filled and emptied: 16, 64 and 128 MiB of the guest's 256."""
BLOCK = 512
"""Pages in 2 MiB, which is what free page reporting tells of, and the size of a huge page."""
OPTIONS = ("VIRTIO_BALLOON", "PAGE_REPORTING", "BALLOON_COMPACTION", "INIT_ON_ALLOC_DEFAULT_ON", "LRU_GEN", "DAMON")
OPTIONS += ("LRU_GEN_ENABLED", "IDLE_PAGE_TRACKING", "PSI")
FEATURES = {0: "MUST_TELL_HOST", 1: "STATS_VQ", 2: "DEFLATE_ON_OOM", 3: "FREE_PAGE_HINT", 4: "PAGE_POISON"}
FEATURES |= {5: "REPORTING", 32: "VERSION_1"}
"""Of the balloon, by their bits (virtio 1.2, 5.5.3)."""
REGIONS = ((2000, 100), (2000, 1000), (2000, 4000), (2000, 0))
"""The program whose use of memory is known: (pages, milliseconds in which each is read once; 0 is never again)."""
PERIODS = (250, 500, 1000, 2000, 4000)
"""Milliseconds over which its accessed bits are gathered."""


@dataclass
class Series:
    """One thing that was measured, several times."""

    what: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Results:
    """All that was measured in one guest, by names."""

    series: dict[str, Series] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)
    """Counts and lists that are no repeated measurement."""

    def add(self, name: str, what: str, unit: str, value: float) -> None:
        self.series.setdefault(name, Series(what, unit)).values.append(float(value))


def emptied(guest: Observed, *, frames: bool) -> None:
    """Empty the balloon. With ``frames`` the free memory has frames on the host, as when it has been used; else what was
    in the balloon has none."""
    guest.reach(0)
    if frames:
        guest.hold(max(SIZES) + 2000)
        guest.release()


def inflate(guest: Observed, results: Results, repeats: int) -> None:
    """How long balloons of several sizes take to fill and to empty, and the frames that this costs and frees."""
    for size in SIZES:
        mib = size * PAGE >> 20
        for _ in range(repeats):
            for frames, free in ((True, "has frames"), (False, "has none")):
                emptied(guest, frames=frames)
                faults, before = guest.faults(), guest.frames()
                seconds = guest.reach(size, pause=0.001)
                name = f"inflate.{mib}.{'framed' if frames else 'bare'}"
                results.add(name, f"inflate {mib} MiB, free memory {free}", "pages/s", size / seconds)
                what = f"frames lost by that, of {size} pages"
                results.add(f"{name}.frames", what, "pages", before - guest.frames())
                what = "QEMU's page faults while it inflates, for each page"
                results.add(f"{name}.faults", what, "", (guest.faults() - faults) / size)
            before = guest.frames()
            seconds = guest.reach(0, pause=0.001)
            results.add(f"deflate.{mib}", f"deflate {mib} MiB", "pages/s", size / seconds)
            what = f"frames that come back at deflation, of {size} pages"
            results.add(f"deflate.{mib}.frames", what, "pages", guest.frames() - before)


def order(guest: Observed, results: Results, size: int = 16384) -> None:
    """Which pages go into the balloon and come out of it, in what order, and who is told when."""
    emptied(guest, frames=True)
    free = (guest.states() & State.BUDDY) > 0
    guest.trace(True)
    guest.reach(size)
    events = guest.events()
    into = pages_of(events, Kind.ENQUEUE)
    frame = guest.framed()
    told = starts(events, Kind.TELL)
    acknowledged = starts(events, Kind.ACK)
    results.seen["inflate"] = {
        "pages": len(into),
        "free before": int(free[into].sum()),
        "next is one higher": share(np.diff(into) == 1),
        "next is one lower": share(np.diff(into) == -1),
        "2 MiB blocks taken whole": int(whole_blocks(into)),
        "with a frame": int(frame[into].sum()),
        "marked offline": int(np.isin(into, guest.ballooned()).sum()),
        "messages": len(told),
        "pages of a message": sizes_of_messages(events, Kind.ENQUEUE),
        "share of the time until the host has read": share_waiting(events, told, acknowledged),
    }
    guest.probe("forget")
    guest.reach(0)
    events = guest.events()
    out = pages_of(events, Kind.DEQUEUE)
    position = {page: i for i, page in enumerate(into.tolist())}
    places = np.array([position[page] for page in out.tolist()])
    first_freed = starts(events, Kind.FREED)[0]
    acknowledged = starts(events, Kind.ACK)
    results.seen["deflate"] = {
        "pages": len(out),
        "messages": len(starts(events, Kind.TELL)),
        "pages of a message": sizes_of_messages(events, Kind.DEQUEUE),
        "freed before the host has read of it": freed_too_early(events),
        "first freed after": Kind(int(events["kind"][first_freed - 1])).name,
        "in the order in which they came": bool((np.diff(places) > 0).all()),
        "last come is first out, by messages": share(places[:-1] > places[1:]),
        "with a frame": int(guest.framed()[out].sum()),
        "marked offline": int((guest.states()[out] & State.OFFLINE > 0).sum()),
    }
    guest.trace(False)


def pages_of(events: npt.NDArray[Any], kind: Kind) -> Pages:
    return events["what"][events["kind"] == kind].astype(np.int64)


def starts(events: npt.NDArray[Any], kind: Kind) -> npt.NDArray[np.intp]:
    """Which events are of that kind."""
    return np.flatnonzero(events["kind"] == kind)


def share(which: npt.NDArray[np.bool_]) -> float:
    return float(which.mean())


def whole_blocks(pages: Pages) -> int:
    """How many aligned 2 MiB are among them."""
    return int((np.bincount(pages // BLOCK) == BLOCK).sum())


def sizes_of_messages(events: npt.NDArray[Any], kind: Kind) -> list[int]:
    """The different numbers of pages that were gathered until the host was told."""
    ends = starts(events, Kind.TELL)
    gathered = np.cumsum(events["kind"] == kind)[ends]
    return sorted(set(np.diff(gathered, prepend=0).tolist()))


def share_waiting(
    events: npt.NDArray[Any], told: npt.NDArray[np.intp], acknowledged: npt.NDArray[np.intp]
) -> float:
    """Of the time from the interrupt to the last answer, how much passed between a message and its answer."""
    at = events["cycles"].astype(np.int64)
    waiting = (at[acknowledged] - at[told]).sum()
    return float(waiting / (at[acknowledged[-1]] - at[starts(events, Kind.CHANGED)[0]]))


def freed_too_early(events: npt.NDArray[Any]) -> int:
    """Pages that the guest freed without the host having read the message that they are in."""
    told: set[int] = set()
    gathered: set[int] = set()
    early = 0
    for event in events:
        if event["kind"] == Kind.DEQUEUE:
            gathered.add(int(event["what"]))
        elif event["kind"] == Kind.ACK:
            told, gathered = told | gathered, set()
        elif event["kind"] == Kind.FREED:
            early += int(event["what"]) not in told
    return early


def pop(guest: Observed, results: Results, repeats: int, size: int = 16384, touched: int = 1000) -> None:
    """Touches of pages that the guest has given away, and of the same pages after that; what they read, whether the host
    gives a frame, and what the balloon's accounts say. Then what becomes of these frames."""
    random = np.random.default_rng(1)
    counts: dict[str, int] = {}

    def count(name: str, number: int) -> None:
        counts[name] = counts.get(name, 0) + int(number)

    for repeat in range(repeats):
        emptied(guest, frames=True)
        patterned = guest.hold(max(SIZES))
        guest.release()
        guest.reach(size)
        pages = np.intersect1d(guest.ballooned(), patterned)
        chosen = random.permutation(pages)[: 2 * touched]
        accounts, counters = guest.actual(), guest.counters()
        guest.trace(True)
        count("touched", len(chosen))
        count("had a frame before", guest.framed()[chosen].sum())
        for write, some in ((False, chosen[:touched]), (True, chosen[touched:])):
            access = "write" if write else "read"
            first = guest.touch(some, write=write)
            count("has a frame after", guest.framed()[some].sum())
            count("zero", (first["zero"] == 1).sum() if write else ((first["zero"] == 1) & (first["word"] == 0)).sum())
            count("old content", (first["zero"] == 2).sum())
            again = guest.touch(some, write=write)
            what = f"first {access} of a page in the balloon"
            results.add(f"pop.{access}", what, "cycles", float(np.median(first["cycles"])))
            results.add(f"pop.{access}.most", f"{what}, 99th percentile", "cycles", np.percentile(first["cycles"], 99))
            what = f"second {access} of it"
            results.add(f"pop.{access}.again", what, "cycles", float(np.median(again["cycles"])))
        events = guest.events()
        guest.trace(False)
        after = guest.counters()
        count("messages to the host", len(events))
        count("change of query-balloon", guest.actual() - accounts)
        count("change of the guest's counters", sum(abs(after[n] - counters[n]) for n in after if "balloon" in n))
        count("left the balloon", len(np.setdiff1d(chosen, guest.ballooned())))
        # A resident page whose mapping is as cold: one of its own that nobody has used for a while.
        own = random.permutation(guest.hold(4 * touched))[:touched]
        guest.probe("look")
        results.add(
            "resident.read", "first read of a page with a frame", "cycles", float(np.median(guest.touch(own)["cycles"]))
        )
        guest.release()
        if repeat:
            continue
        fates = {"more is inflated": lambda: guest.reach(size + 1000), "all is deflated": lambda: guest.reach(0)}
        fates["all is inflated again"] = lambda: guest.reach(47000 if guest.meminfo()["MemFree"] > 48000 else 40000)
        for name, change in fates.items():
            change()
            results.seen.setdefault("frames of touched pages", {})[name] = int(guest.framed()[chosen].sum())
            if name == "all is inflated again":
                again_in = np.isin(chosen, guest.ballooned())
                results.seen["frames of touched pages"]["of them in the balloon again"] = int(again_in.sum())
                left = int(guest.framed()[chosen[again_in]].sum())
                results.seen["frames of touched pages"]["of those, with a frame"] = left
    results.seen["pop"] = counts


def give_back(guest: Observed, results: Results, repeats: int, size: int = 16384, touched: int = 1000) -> None:
    """What pages are like that came out of the balloon, before and after the guest uses them."""
    random = np.random.default_rng(2)
    counts = {"pages": 0, "frames after deflation": 0, "frames after the touch": 0, "zero": 0, "touched": 0}
    for _ in range(repeats):
        emptied(guest, frames=True)
        guest.reach(size)
        inside = guest.ballooned()
        guest.reach(0)
        counts["pages"] += len(inside)
        counts["frames after deflation"] += int(guest.framed()[inside].sum())
        free = np.flatnonzero(guest.states() & State.BUDDY)
        bare = np.intersect1d(inside[~guest.framed()[inside]], free)
        chosen = random.permutation(bare)[:touched]
        records = guest.touch(chosen)
        results.add(
            "returned.read", "first read of a page that came back", "cycles", float(np.median(records["cycles"]))
        )
        counts["touched"] += len(chosen)
        counts["zero"] += int(((records["zero"] == 1) & (records["word"] == 0)).sum())
        counts["frames after the touch"] += int(guest.framed()[chosen].sum())
    results.seen["returned"] = counts


def squeeze(guest: Observed, results: Results) -> None:
    """Where the guest takes pages from as the balloon grows: its free memory, its page cache, and then nothing."""
    guest.reach(0)
    guest.run("dd if=/dev/vda of=/dev/null bs=1M 2>&1")
    steps = []
    size = 0
    while True:
        size += 4000
        try:
            seconds = guest.reach(size, timeout=5)
        except BootError:
            seconds = 0.0
        memory, counters = guest.meminfo(), guest.counters()
        steps.append(
            {
                "target": size,
                "balloon": guest.actual(),
                "pages/s": 4000 / seconds if seconds else 0.0,
                "free": memory["MemFree"],
                "cache": memory["Buffers"] + memory["Cached"],
                "total": memory["MemTotal"],
                "scanned by kswapd": counters["pgscan_kswapd"] - steps_before(steps, counters, "pgscan_kswapd"),
                "scanned by the balloon": counters["pgscan_direct"] - steps_before(steps, counters, "pgscan_direct"),
            }
        )
        if not seconds:
            break
    for step in steps:
        step.pop("start", None)
    said = [float(at) for at in re.findall(r"\[ *(\d+\.\d+)\] virtio_balloon .*Out of puff", guest.run("dmesg"))]
    for gap in np.diff(said):
        if gap < 1:
            results.add("puff", "from one attempt that got no page to the next", "ms", gap * 1000)
    results.seen["squeeze"] = steps
    guest.reach(0)


def steps_before(steps: Sequence[dict[str, Any]], counters: dict[str, int], name: str) -> int:
    """That counter when the first step ended."""
    if not steps:
        steps_before.start = dict(counters)  # type: ignore[attr-defined]
    return int(steps_before.start[name])  # type: ignore[attr-defined]


def main() -> int:
    return 0


if __name__ == "__main__":
    sys.exit(main())
