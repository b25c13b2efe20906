"""A Java application server with sessions and a product table, under the parallel collector, whose threads collect.

What it does is in Sessions.java. Threads that the virtual machine names for its collector have the intent "collect":
they and the VM thread, which runs collections, touch what the application does not. Compiler and service threads work.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from programs import HERE

NEEDS = ("java", "javac")
INTENTS = ((r"(GC Thread|G1 |ParGC|Parallel GC|VM Thread|Reference Handl|Finalizer).*", "collect"),)


def command(folder: Path, seconds: int) -> list[str]:
    """Two collector threads, and a heap that has room for twice what lives."""
    subprocess.run(["javac", "-d", folder, HERE / "Sessions.java"], check=True)
    java = Path("/usr/bin/java").resolve()
    heap = [
        "-Xms110m",
        "-Xmx110m",
        "-Xmn30m",
        "-XX:+UseParallelGC",
        "-XX:ParallelGCThreads=2",
        "-XX:-UseAdaptiveSizePolicy",
    ]
    small = ["-XX:-UsePerfData", "-XX:CICompilerCount=2", "-XX:ReservedCodeCacheSize=24m", "-Xshare:auto"]
    return [str(java), *heap, *small, "-cp", str(folder), "Sessions", str(seconds)]
