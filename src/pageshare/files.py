"""Files that appear whole or not at all, for their owner's eyes only: they tell of what is in memory."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def appearing_whole(path: Path) -> Iterator[IO[bytes]]:
    """A private file beside ``path`` that takes its place at the end, or goes if anything went wrong.

    A link is followed: what it leads to is replaced. Devices, pipes and what is open already are written to.
    """
    if is_written_to(path):
        with path.open("ab") as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # The file is made inside of the try: a signal may come at any moment.
    try:
        with open(unfinished, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def is_written_to(path: Path) -> bool:
    """Whether what is at ``path`` can't be replaced by a file: a device, a pipe, or a descriptor such as
    /dev/stdout."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return not path.is_dir()
        names = [path, path.readlink()] if path.is_symlink() else [path]
    except OSError:
        return False
    return any(os.path.realpath(name.parent).startswith("/proc/") for name in names)
