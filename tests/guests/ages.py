"""How a guest's kernel sees the age of memory, for a program that reads known pages at a known pace: by the accessed
bits (clear_refs and smaps), and by the generations of the LRU lists (lru_gen)."""

from __future__ import annotations

import re

from guests.ballooning import Results
from guests.boot import BootError
from guests.observed import Observed

REGIONS = ((2000, 100), (2000, 1000), (2000, 4000), (2000, 0))
"""The program: (pages, milliseconds in which each of them is read once; 0 is never again)."""
PERIODS = (250, 500, 1000, 2000, 4000)
"""Milliseconds over which accessed bits are gathered."""
GROUP = "/sys/fs/cgroup/cycle"
LRU = "/sys/kernel/debug/lru_gen"


def truth(ms: int) -> list[int]:
    """How many pages of each region the program reads in so many milliseconds."""
    return [round(pages * min(1, ms / cycle)) if cycle else 0 for pages, cycle in REGIONS]


def measure(guest: Observed, results: Results, repeats: int) -> None:
    """Run the program in a control group of its own, so that its pages are told apart, and look in both ways."""
    guest.run(
        f"mkdir -p /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && mkdir {GROUP} && "
        "echo +memory >/sys/fs/cgroup/cgroup.subtree_control"
    )
    regions = " ".join(f"{pages}:{ms}" for pages, ms in REGIONS)
    guest.run(f"sh -c 'echo 0 >{GROUP}/cgroup.procs; exec load cycle {regions}' >cycling & sleep 2")
    said = guest.run("cat cycling")
    places = [int(at, 16) for at in re.findall(r"region (\w+)", said)]
    pid = int(re.findall(r"pid (\d+)", said)[0])
    accessed_bits(guest, results, repeats, pid, places)
    generations(guest, results, repeats)
    guest.run(f"kill {pid}")


def accessed_bits(guest: Observed, results: Results, repeats: int, pid: int, places: list[int]) -> None:
    """What smaps says was referenced since clear_refs, for each region and period."""
    for ms in PERIODS:
        for _ in range(repeats):
            said = guest.run(f"load ages {pid} {ms}")
            referenced = {int(at, 16): int(pages) for at, pages in re.findall(r"referenced (\w+) (\d+)", said)}
            for place, (_, cycle) in zip(places, REGIONS, strict=True):
                what = f"referenced within {ms} ms, read every {cycle} ms" if cycle else f"within {ms} ms, never read"
                results.add(f"referenced.{ms}.{cycle}", what, "pages", referenced[place])
            resident = sum(pages for pages, _ in REGIONS)
            for name, what in (("clear", "clear accessed bits (clear_refs)"), ("read", "read them (smaps)")):
                ns = int(re.findall(rf"{name} (\d+)", said)[0])
                results.add(f"bits.{name}", f"{what}, for each resident page", "ns", ns / resident)


def generations(guest: Observed, results: Results, repeats: int) -> None:
    """How many of the program's pages an aging after a period finds accessed. Left out, with the reason, where
    the kernel has no lru_gen."""
    status, _ = guest.attempt("echo y >/sys/kernel/mm/lru_gen/enabled")
    if status:
        results.seen["lru_gen"] = "this kernel has none"
        return
    results.seen["lru_gen"] = guest.run("cat /sys/kernel/mm/lru_gen/enabled").strip()
    resident = sum(pages for pages, _ in REGIONS)
    for ms in PERIODS:
        for _ in range(repeats):
            group, newest = group_number(guest), max(listed(guest))
            ages = (f"load put {LRU} '+ {group} 0 {number} 1 1'" for number in (newest, newest + 1))
            said = guest.run(f"; usleep {ms * 1000}; ".join(ages))
            for ns in re.findall(r"ns (\d+)", said):
                what = "one aging (lru_gen), for each page of the program"
                results.add("lru.age", what, "ns", int(ns) / resident)
            found = listed(guest)
            # An aging puts what it finds accessed into the generation that was the youngest, and begins another.
            accessed = found[max(found) - 1]
            results.add(f"lru.{ms}", f"in the generation of what was read within {ms} ms", "pages", accessed)
    results.seen["lru generations"] = len(found)


def group_number(guest: Observed) -> int:
    """That of the program's, as lru_gen lists it."""
    found = re.findall(r"memcg +(\d+) +/cycle", guest.run(f"cat {LRU}"))
    if not found:
        raise BootError("lru_gen does not list the program's group")
    return int(found[0])


def listed(guest: Observed) -> dict[int, int]:
    """Anonymous pages of the program's group, by the numbers of their generations."""
    _, _, rest = guest.run(f"cat {LRU}").partition("/cycle")
    block = rest.partition("memcg")[0]
    return {int(number): int(anon) for number, _, anon, _ in re.findall(r"(\d+) +(\d+) +(\d+) +(\d+) *$", block, re.M)}
