"""redis-server with 96,000 values of 1,000 bytes in four key ranges, under a client's changing load.

The client runs natively, so it is no part of the trace. Its phases are what a database sees in a day, in short: it is
filled; one range is read and written, mostly few of its keys; nothing comes; two other ranges are, with other
favourites; all is saved from the foreground (SAVE: each value is read once and no more for long); nothing comes; the
first range is deleted and filled anew, so that memory is given back; then all ranges are in use, the hottest keys most.
Redis works in one thread, which also wakes ten times a second of its own accord and looks at some keys.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from programs import Recorded, ticks, until

NEEDS = ("redis-server",)
RANGES, KEYS, BYTES, BATCH = 4, 24_000, 1000, 32


def command(folder: Path, seconds: int) -> list[str]:
    """Reached by a socket in the folder."""
    del seconds
    options = ["--port", "0", "--unixsocket", str(folder / "socket"), "--dir", str(folder), "--save", ""]
    return ["/usr/bin/redis-server", *options]


class _Client:
    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")
        self._rng = random.Random(1)

    def ask(self, *commands: tuple[bytes, ...]) -> None:
        """Send some at once, and take the answers."""
        sent = bytearray()
        for each in commands:
            sent += b"*%d\r\n" % len(each)
            for word in each:
                sent += b"$%d\r\n%s\r\n" % (len(word), word)
        self._socket.sendall(sent)
        for _ in commands:
            first = self._file.readline()
            if first[:1] == b"$" and int(first[1:]) >= 0:
                self._file.read(int(first[1:]) + 2)
            elif first[:1] == b"-":
                raise OSError(first.decode())

    def fill(self, which: int) -> None:
        """All keys of a range."""
        for number in range(0, KEYS, BATCH):
            self.ask(*(self._set(which, key) for key in range(number, number + BATCH)))

    def work(self, ranges: list[int], seconds: float, *, skew: float, rate: float) -> None:
        """Reads, and a write in five, at a rate of batches; the larger ``skew``, the fewer keys are asked for."""
        favourites = self._rng.sample(range(KEYS), KEYS)
        for _ in ticks(seconds, rate):
            batch = []
            for _ in range(BATCH):
                which, key = self._rng.choice(ranges), favourites[int(KEYS * self._rng.random() ** skew)]
                reads = self._rng.random() < 0.8
                batch.append((b"GET", b"%d:%d" % (which, key)) if reads else self._set(which, key))
            self.ask(*batch)

    def _set(self, which: int, key: int) -> tuple[bytes, ...]:
        return b"SET", b"%d:%d" % (which, key), self._rng.randbytes(BYTES)

    def delete(self, which: int) -> None:
        """All of a range."""
        for number in range(0, KEYS, BATCH):
            self.ask(*((b"DEL", b"%d:%d" % (which, key)) for key in range(number, number + BATCH)))


def drive(recorded: Recorded, folder: Path, seconds: int) -> None:
    """A day in ``seconds``."""
    until((folder / "socket").exists)
    client, part = _Client(folder / "socket"), seconds / 100
    for which in range(RANGES):
        client.fill(which)
    client.work([0], 18 * part, skew=4, rate=20)
    _idle(15 * part)
    client.work([1, 2], 18 * part, skew=3, rate=20)
    client.ask((b"SAVE",))
    _idle(15 * part)
    client.delete(0)
    client.fill(0)
    client.work([0, 1, 2, 3], 20 * part, skew=8, rate=15)
    _idle(4 * part)
    recorded.stop()


def _idle(seconds: float) -> None:
    for _ in ticks(seconds, 1):
        pass
