"""Files that appear whole or not at all, for their owner's eyes only: they tell of what is in memory."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def appearing_whole(path: Path) -> Iterator[IO[bytes]]:
    """A private file beside ``path`` that takes its place at the end, or goes if anything went wrong."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # The file is made inside of the try: a signal may come at any moment.
    try:
        with open(unfinished, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
