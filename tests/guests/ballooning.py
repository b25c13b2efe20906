"""What is measured of a balloon, in a guest that `observed` has booted: each function does one thing several times, and
leaves what it saw in `Results`."""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from guests.boot import BootError
from guests.observed import PAGE, Kind, Observed, Pages, State

SIZES = (4096, 16384, 32768)
"""Pages of the balloons that are filled and emptied: 16, 64 and 128 MiB of the guest's 256."""
BLOCK = 512
"""Pages in 2 MiB, which is what free page reporting tells of, and the size of a huge page."""


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
    """Empty the balloon. With ``frames`` the free memory has frames on the host, as when it has been used; else what
    was in the balloon has none."""
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
                faults, before, cpu = guest.faults(), guest.frames(), guest.cpu_ns()
                seconds = guest.reach(size, pause=0.001)
                cpu = guest.cpu_ns() - cpu
                name = f"inflate.{mib}.{'framed' if frames else 'bare'}"
                results.add(name, f"inflate {mib} MiB, free memory {free}", "pages/s", size / seconds)
                what = f"frames lost by that, of {size} pages"
                results.add(f"{name}.frames", what, "pages", before - guest.frames())
                results.add(f"{name}.cpu", "QEMU's processor time for that, for each page", "us", cpu / size / 1000)
                what = "QEMU's page faults while it inflates, for each page"
                results.add(f"{name}.faults", what, "", (guest.faults() - faults) / size)
            before, cpu = guest.frames(), guest.cpu_ns()
            seconds = guest.reach(0, pause=0.001)
            cpu = guest.cpu_ns() - cpu
            results.add(f"deflate.{mib}", f"deflate {mib} MiB", "pages/s", size / seconds)
            results.add(f"deflate.{mib}.cpu", "QEMU's processor time for that, for each page", "us", cpu / size / 1000)
            what = f"frames that come back at deflation, of {size} pages"
            results.add(f"deflate.{mib}.frames", what, "pages", guest.frames() - before)


def order(guest: Observed, results: Results, size: int = 12288) -> None:
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
        "marked offline": int((guest.states()[out] & State.OFFLINE > 0).sum()),
        "free and with a frame": int((guest.framed()[out] & (guest.states()[out] & State.BUDDY > 0)).sum()),
    }
    guest.trace(False)


def pages_of(events: npt.NDArray[Any], kind: Kind) -> Pages:
    pages: Pages = events["what"][events["kind"] == kind].astype(np.int64)
    return pages


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


def share_waiting(events: npt.NDArray[Any], told: npt.NDArray[np.intp], acknowledged: npt.NDArray[np.intp]) -> float:
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
    """Touches of pages that the guest has given away, and of the same pages after that; what they read, whether the
    host gives a frame, and what the balloon's accounts say. Then what becomes of these frames."""
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
            count(f"has a frame after the {access}", guest.framed()[some].sum())
            count("zero", (first["zero"] == 1).sum() if write else ((first["zero"] == 1) & (first["word"] == 0)).sum())
            count("old content", (first["zero"] == 2).sum())
            again = guest.touch(some, write=write)
            what = f"first {access} of a page in the balloon"
            results.add(f"pop.{access}", what, "ns", typical_ns(guest, first))
            results.add(f"pop.{access}.most", f"{what}, 99th percentile", "ns", typical_ns(guest, first, 99))
            what = f"second {access} of it"
            results.add(f"pop.{access}.again", what, "ns", typical_ns(guest, again))
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
        results.add("resident.read", "first read of a page with a frame", "ns", typical_ns(guest, guest.touch(own)))
        guest.release()
        if repeat:
            continue
        results.seen["frames of touched pages"] = fates(guest, chosen, size)
    results.seen["pop"] = counts


def fates(guest: Observed, touched: Pages, size: int) -> dict[str, int]:
    """How many of the pages that were touched in the balloon have a frame, as the balloon changes."""
    found = {}
    guest.reach(size + 1000)
    found["more is inflated"] = int(guest.framed()[touched].sum())
    guest.reach(0)
    found["all is deflated"] = int(guest.framed()[touched].sum())
    guest.reach(guest.meminfo()["MemFree"] - 3000)
    again = touched[np.isin(touched, guest.ballooned())]
    found["again in the balloon"] = len(again)
    found["of those, with a frame"] = int(guest.framed()[again].sum())
    return found


def typical_ns(guest: Observed, records: npt.NDArray[Any], percentile: float = 50) -> float:
    """How long one of these accesses took."""
    return float(np.percentile(records["cycles"], percentile) / guest.cycles_per_ns())


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
        results.add("returned.read", "first read of a page that came back", "ns", typical_ns(guest, records))
        counts["touched"] += len(chosen)
        counts["zero"] += int(((records["zero"] == 1) & (records["word"] == 0)).sum())
        counts["frames after the touch"] += int(guest.framed()[chosen].sum())
    results.seen["returned"] = counts


def collapse(guest: Observed, results: Results, size: int = 16384, seconds: int = 150) -> None:
    """Whether the host gives frames to pages in the balloon though nobody touches them: its kernel may make a huge page
    of 512 places of which most are empty (khugepaged, max_ptes_none)."""
    guest.reach(0)
    guest.hold(guest.meminfo()["MemFree"] - 4000)
    guest.release(2)  # so that the balloon gets every other page
    guest.reach(size)
    inside = guest.ballooned()
    begun = time.monotonic()
    seen = [(0.0, int(guest.framed()[inside].sum()))]
    while seen[-1][0] < seconds:
        time.sleep(5)
        seen.append((round(time.monotonic() - begun, 1), int(guest.framed()[inside].sum())))
    results.seen["collapse"] = {"pages": len(inside), "frames": seen, "query-balloon": guest.actual()}
    guest.release()
    guest.reach(0)


def squeeze(guest: Observed, results: Results) -> None:
    """Where the guest takes pages from as the balloon grows: its free memory, its page cache, and then nothing."""
    guest.reach(0)
    guest.run("dd if=/dev/vda of=/dev/null bs=1M 2>&1")
    start = guest.counters()
    steps: list[dict[str, float]] = []

    def note(target: int, seconds: float) -> None:
        memory, counters = guest.meminfo(), guest.counters()
        step = {"target": target, "balloon": guest.actual(), "pages/s": 4000 / seconds}
        step |= {"free": memory["MemFree"], "cache": memory["Buffers"], "total": memory["MemTotal"]}
        step |= {name: counters[name] - start[name] for name in ("pgscan_kswapd", "pgscan_direct", "pgsteal_kswapd")}
        steps.append(step | {"pgsteal_direct": counters["pgsteal_direct"] - start["pgsteal_direct"]})

    size = 0
    while True:
        size += 4000
        try:
            seconds = guest.reach(size, timeout=4)
        except BootError:
            break
        note(size, seconds)
    # It has no page to spare: what it says of itself comes from its kernel, by the queue for statistics.
    guest.qmp("qom-set", path=DEVICE, property="guest-stats-polling-interval", value=1)
    time.sleep(2.5)
    told = guest.qmp("qom-get", path=DEVICE, property="guest-stats")["stats"]
    guest.qmp("qom-set", path=DEVICE, property="guest-stats-polling-interval", value=0)
    results.seen["squeeze"] = {
        "steps": steps,
        "most": guest.actual(),
        "free then": told["stat-free-memory"] // PAGE,
        "total then": told["stat-total-memory"] // PAGE,
    }
    guest.reach(max(0, guest.actual() - 8000))
    said = [float(at) for at in re.findall(r"\[ *(\d+\.\d+)\] virtio_balloon .*Out of puff", guest.run("dmesg"))]
    for gap in np.diff(said):
        if gap < 1:  # the kernel leaves some messages out
            results.add("puff", "from one attempt that gets no page to the next", "ms", gap * 1000)
    guest.reach(0)


DEVICE = "/machine/peripheral/balloon"
HOG = "sh -c 'echo 1000 >/proc/self/oom_score_adj; exec load hog {}'"


def run_out(guest: Observed, results: Results, repeats: int, mib: int = 32, left: int = 3000) -> None:
    """A program that needs more memory than the balloon leaves: whether it gets it, how, and what that takes."""
    guest.reach(0)
    for _ in range(repeats):
        said = guest.run(HOG.format(mib))
        results.add("hog.free", f"a program writes to {mib} MiB, no balloon", "ms", total_ms(said))
    target = guest.meminfo()["MemFree"] - left
    counts: list[dict[str, Any]] = []
    for _ in range(repeats):
        guest.reach(target)
        guest.probe("forget")
        faults = guest.faults()
        begun = time.monotonic()
        status, said = guest.attempt(HOG.format(mib))
        seconds = time.monotonic() - begun
        faults = guest.faults() - faults
        events = guest.events()
        held = guest.actual()
        at = events["cycles"].astype(np.int64)
        begin, done = starts(events, Kind.OOM), starts(events, Kind.OOM_DONE)
        for before, after in zip(begin, done, strict=True):
            ms = (at[after] - at[before]) / guest.cycles_per_ns() / 1e6
            results.add("oom", "the balloon's turn when memory runs out", "ms", ms)
            if events["what"][after]:
                results.add("oom.pages", "pages that it gives back", "pages", events["what"][after])
        if status == 0:
            results.add("hog.balloon", f"the same, {left} pages left by the balloon", "ms", total_ms(said))
        else:
            results.add("hog.killed", "until the program is killed", "ms", seconds * 1000)
        killed = re.findall(r"Out of memory: Killed process \d+ \((\w+)\)", guest.run("dmesg -c"))
        time.sleep(1.5)
        later = guest.actual()
        guest.aim(target)
        time.sleep(0.5)
        counts.append(
            {
                "exit status": status,
                "killed": killed,
                "times": len(begin),
                "target": target,
                "balloon after it": held,
                "and 1.5 s later": later,
                "and when the same target is set again": guest.actual(),
            }
        )
    results.seen["run out"] = counts
    guest.reach(0)


def total_ms(said: str) -> float:
    return int(re.findall(r"total (\d+)", said)[0]) / 1e6


def report(guest: Observed, results: Results, repeats: int, blocks: int = 40) -> None:
    """Free page reporting: when the host hears of free blocks, and what a use of them costs after that."""
    guest.reach(0)
    counts: list[dict[str, int]] = []
    for _ in range(repeats):
        pages = guest.hold(blocks, 9)
        held = int(guest.framed()[pages].sum())
        time.sleep(3)  # what else is free has been reported
        guest.trace(True)
        guest.compare_clocks()
        released = time.monotonic_ns()
        guest.release()
        lost = watch_frames(guest, 5)
        guest.compare_clocks()
        events = guest.events()
        guest.trace(False)
        reports = events[events["kind"] == Kind.REPORT]
        at = (guest.host_ns(reports["cycles"]) - released) / 1e6
        results.add("report.first", "from the free to the first report", "ms", at.min())
        results.add("report.last", "from the free to the last report", "ms", at.max())
        results.add("report.frames.half", "from the free until half of the frames are gone", "ms", lost)
        states = guest.states()
        gone = ~guest.framed()[pages]
        reported = (states[pages] & State.REPORTED) > 0
        counts.append(
            {
                "pages": len(pages),
                "with a frame before": held,
                "without one after": int(gone.sum()),
                "marked as reported": int(reported.sum()),
                "both": int((gone & reported).sum()),
                "reports": len(reports),
                "blocks": int(reports["what"].sum()),
                "bytes of a block": int(reports["more"].sum() // reports["what"].sum()),
                "free pages in all": int(((states & State.BUDDY) > 0).sum()),
                "free pages with a frame": int((((states & State.BUDDY) > 0) & guest.framed()).sum()),
            }
        )
        some = pages[gone & reported][:1000]
        records = guest.touch(some)
        results.add("reported.read", "first read of a page that was reported", "ns", typical_ns(guest, records))
        counts[-1]["read"] = len(some)
        counts[-1]["zero"] = int(((records["zero"] == 1) & (records["word"] == 0)).sum())
        counts[-1]["has a frame after"] = int(guest.framed()[some].sum())
        # The allocator takes small free blocks first, which have kept their frames; so it takes many.
        for name, what in (
            ("reported.hold", "allocate and fill 24,000 pages, of free memory that was reported"),
            ("framed.hold", "the same again at once"),
        ):
            faults, begun = guest.faults(), time.monotonic_ns()
            guest.hold(24_000)
            results.add(name, what, "ms", since_ms(begun))
            results.add(f"{name}.faults", f"QEMU's page faults: {what}", "", guest.faults() - faults)
            guest.release()
    results.seen["reports"] = counts
    # Every other page of memory is free, so that no block of 2 MiB is.
    time.sleep(3)
    pages = guest.hold(16000)
    guest.release(2)
    time.sleep(4.5)
    free = pages[::2]
    results.seen["scattered"] = {
        "pages": len(free),
        "with a frame 4.5 s later": int(guest.framed()[free].sum()),
        "free then": int(((guest.states()[free] & State.BUDDY) > 0).sum()),
    }
    guest.release()


def since_ms(begun: int) -> float:
    return (time.monotonic_ns() - begun) / 1e6


def watch_frames(guest: Observed, seconds: float) -> float:
    """When half of the frames that the guest loses in so many seconds were gone: in ms."""
    begun = time.monotonic_ns()
    seen = []
    while since_ms(begun) < seconds * 1000:
        seen.append((since_ms(begun), guest.frames()))
        time.sleep(0.02)
    half = (seen[0][1] + min(frames for _, frames in seen)) / 2
    return next(at for at, frames in seen if frames <= half)


def interrupt(guest: Observed, results: Results, repeats: int) -> None:
    """How soon the guest knows that its target has changed, idle and busy; and how it is asked for statistics."""
    for busy in (False, True):
        if busy:
            guest.run("load spin & echo $! >spinning")
        guest.trace(True)
        for repeat in range(repeats):
            size = 4096 + 256 * ((repeat + 1) % 2)
            guest.reach(4096 + 256 * (repeat % 2))
            guest.compare_clocks()
            guest.probe("forget")
            sent = guest.aim(size)
            time.sleep(0.1)
            guest.compare_clocks()
            events = guest.events()
            at = (guest.host_ns(events["cycles"]) - sent) / 1e3
            error = guest.host_ns_error(events["cycles"]).max() / 1e3
            results.add("clock", "error of these latencies", "us", error)
            name = "busy" if busy else "idle"
            changed = starts(events, Kind.CHANGED)
            moved = np.flatnonzero(np.isin(events["kind"], (Kind.ENQUEUE, Kind.DEQUEUE)))
            told, acknowledged = starts(events, Kind.TELL), starts(events, Kind.ACK)
            if not (len(changed) and len(moved) and len(acknowledged)):
                raise BootError("the guest did not hear of a new target within 0.1 s")
            for key, which, what in (
                ("heard", changed, "the interrupt"),
                ("page", moved, "the first page in or out"),
                ("message", told, "the first message"),
                ("answer", acknowledged, "its answer"),
            ):
                results.add(
                    f"interrupt.{name}.{key}", f"from QMP's command to {what}, {name} guest", "us", at[which[0]]
                )
        guest.trace(False)
        if busy:
            guest.run("kill $(cat spinning)")
    guest.trace(True)
    guest.qmp("qom-set", path=DEVICE, property="guest-stats-polling-interval", value=1)
    time.sleep(repeats + 1.5)
    guest.qmp("qom-set", path=DEVICE, property="guest-stats-polling-interval", value=0)
    events = guest.events()
    guest.trace(False)
    asked = events["cycles"][events["kind"] == Kind.STATS].astype(np.int64)
    for gap in np.diff(asked) / guest.cycles_per_ns() / 1e6:
        results.add("stats", "between two requests for statistics, interval 1 s", "ms", gap)
    guest.reach(0)
