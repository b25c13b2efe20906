"""Files that appear whole or not at all, for their owner's eyes only: they tell of what is in memory."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def appearing_whole(path: Path) -> Iterator[IO[bytes]]:
    """A private file beside ``path`` that takes its place at the end, or goes if anything went wrong.

    A link is followed: what it leads to is replaced. Devices, pipes and what is open already are written to. Where
    there is no room, or no such file can be, the OSError is a line that names ``path``.
    """
    if is_written_to(path):
        with _naming(path, path), path.open("ab") as file:
            yield file
        return
    place = Path(os.path.realpath(path))
    unfinished = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    # The file is made inside of the try: a signal may come at any moment.
    try:
        with _naming(path, unfinished):
            with open(unfinished, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                yield file
            unfinished.replace(place)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _naming(given: Path, opened: Path) -> Iterator[None]:
    """Errors of a file that was opened, by the name that it was given. What fails elsewhere meanwhile is left alone."""
    try:
        yield
    except OSError as error:
        if error.filename == str(opened) or (error.filename is None and error.errno in _NO_ROOM):
            raise type(error)(f"{given}: {error.strerror}") from None
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
