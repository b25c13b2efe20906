"""GNU sort of 1.4 million lines with two threads and a buffer of 64 MiB, as a nightly batch whose input comes in parts.

The lines come through a pipe from the recorder, 220 MiB in three parts, with waits in between, as from jobs that end
one after the other. sort reads until its buffer is full, sorts it in two threads, and writes a temporary file; at the
end it merges these with a small part of the memory that it has. While it waits for lines its buffer is idle.
"""

from __future__ import annotations

import random
from pathlib import Path

from programs import Recorded, ticks

NEEDS = ("sort",)
PARTS, LINES = 3, 3000


def command(folder: Path, seconds: int) -> list[str]:
    """Into a file of the folder, whose disk has room."""
    del seconds
    return ["/usr/bin/sort", "-S", "64M", "--parallel=2", "-T", str(folder), "-o", str(folder / "sorted")]


def drive(recorded: Recorded, folder: Path, seconds: int) -> None:
    """Three times lines for a while, at 1 MiB a second, then nothing for as long."""
    del folder
    rng, pipe = random.Random(1), recorded.process.stdin
    assert pipe is not None  # noqa: S101 - it is a pipe
    for _ in range(PARTS):
        for _ in ticks(seconds * 0.16, 2):
            lines = (b"%016x %s\n" % (rng.getrandbits(64), rng.randbytes(75).hex().encode()) for _ in range(LINES))
            pipe.write(b"".join(lines))
            pipe.flush()
        for _ in ticks(seconds * 0.14, 1):
            pass
    pipe.close()
