"""The files: images and truth.json, all of them or none."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from pageshare.images import raw
from pageshare.images.elf import core_header
from pageshare.images.image import How, Source
from pageshare.images.lime import range_header
from pageshare.images.ranges import DEVICE_WINDOW, Kind, State
from pageshare.synth.content import Contents
from pageshare.synth.plan import Plan
from pageshare.synth.spec import Spec
from pageshare.synth.truth import Tally, Truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRUTH = "truth.json"
BLOCK = 2 << 20
"""Bytes made at once: they stay in the cache until they are written."""
_HEADERS = 4096
"""Bytes an image at most besides its pages."""


def make(
    spec: Spec,
    folder: str | os.PathLike[str],
    progress: Callable[[int], None] | None = None,
    force: bool = False,
) -> Truth:
    """Write the images of ``spec`` and truth.json to ``folder``, and return the truth with the images' paths.

    ``folder`` is made if it is not there. The same spec gives the same bytes, on every machine. Files are private
    (0600) and appear when all are whole; if anything goes wrong, none is left. Those that exist are only replaced
    with ``force=True``; what the folder's truth.json names from an earlier run goes with them. ``progress`` is
    called with the bytes of memory done so far, of ``spec.images * spec.size``.

    Raises FileExistsError, OSError (no space; no holes in this file system), SpecError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     truth = make(Spec(images=3, size=1 << 20, format="lime"), folder)
    ...     [path.name for path in truth.paths]
    ['guest1.lime', 'guest2.lime', 'guest3.lime']
    """
    folder = Path(folder)
    plan = Plan(spec)
    made = not folder.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        earlier = _earlier(folder, [*spec.names, TRUTH], force)
        _check_space(plan, folder)
        with tempfile.TemporaryDirectory(prefix=".synth-", dir=folder) as staging:
            truth = _write_all(plan, Path(staging), progress or (lambda _done: None))
            _publish(Path(staging), folder, [*spec.names, TRUTH], earlier)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):  # somebody put something there
                folder.rmdir()
        raise
    return replace(truth, paths=tuple(folder / name for name in spec.names))


def _earlier(folder: Path, names: Sequence[str], force: bool) -> list[Path]:
    """Files of an earlier run that are not to stay. Raises FileExistsError for any file in the way."""
    there = {folder / name for name in names if (folder / name).exists()}
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # not ours, then
        document = json.loads((folder / TRUTH).read_text())
        named = [Path(file["path"]) for owner in document["owners"] for file in owner["files"]]
        there |= {folder / path for path in named if path.name == str(path) and (folder / path).is_file()}
    if there and not force:
        raise FileExistsError(f"{min(there)} exists: choose another folder, or use --force")
    return [path for path in there if path.name not in names]


def _check_space(plan: Plan, folder: Path) -> None:
    spec = plan.spec
    needed = spec.images * (spec.size - plan.holes * spec.page_size + _HEADERS)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"{folder}: the images take {needed:,} bytes, {free:,} are free; choose a smaller size")


def _publish(staging: Path, folder: Path, names: Sequence[str], earlier: Sequence[Path]) -> None:
    published: list[Path] = []
    try:
        for path in earlier:
            path.unlink()
        for name in names:
            published.append(folder / name)
            (staging / name).replace(folder / name)
    except BaseException:
        for path in published:
            path.unlink(missing_ok=True)
        raise


def _write_all(plan: Plan, staging: Path, progress: Callable[[int], None]) -> Truth:
    spec, tally, contents = plan.spec, Tally(plan), Contents(plan.spec)
    done = 0
    for i, name in enumerate(spec.names):
        numbers, holes = plan.image(i)
        with _named_after(staging.parent / name), _new_file(staging / name) as file:
            for written in _write_image(file, spec, contents, numbers, holes):
                progress(done := done + written)
        if plan.holes:
            _check_holes(staging / name, staging.parent / name, spec, holes)
        tally.add(numbers, plan.holes)
    truth = tally.truth()
    with _new_file(staging / TRUTH) as file:
        file.write(json.dumps(truth.to_dict(), indent=2).encode() + b"\n")
    return truth


@contextlib.contextmanager
def _named_after(path: Path) -> Iterator[None]:
    """An error while it is written names the file that was to be, and its kind in words."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _new_file(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _write_image(
    file: IO[bytes],
    spec: Spec,
    contents: Contents,
    numbers: NDArray[np.uint32],
    holes: NDArray[np.bool_],
) -> Iterator[int]:
    """Write one image; yields the bytes of memory of each block that is done."""
    at_once = max(1, BLOCK // spec.page_size)
    block = np.empty((at_once, spec.page_size), np.uint8)
    for before, start, end in _parts(spec):
        file.write(before)
        for first in range(start, end, at_once):
            last = min(first + at_once, end)
            pages = contents.pages(numbers[first:last], block[: last - first])
            _write_pages(file, pages, holes[first:last])
            yield (last - first) * spec.page_size
    file.truncate(file.tell())  # a hole at the end


def _write_pages(file: IO[bytes], pages: NDArray[np.uint8], holes: NDArray[np.bool_]) -> None:
    """Append pages, holes by seeking over them."""
    edges = [0, *(np.flatnonzero(np.diff(holes)) + 1).tolist(), len(pages)]
    for start, end in pairwise(edges):
        if holes[start]:
            file.seek((end - start) * pages.shape[1], os.SEEK_CUR)
        else:
            file.write(pages[start:end].data)


def _parts(spec: Spec) -> list[tuple[bytes, int, int]]:
    """What a file is made of: (header, first page, page behind the last), in order.

    As in a PC, memory that does not fit below the window of the devices goes on at 4 GiB.
    """
    if spec.format == "raw":
        return [(b"", 0, spec.pages)]
    low = min(spec.size, DEVICE_WINDOW[0])
    ranges = [(0, low)] + [(1 << 32, spec.size - low)] * (spec.size > low)
    if spec.format == "elf":
        headers = [core_header(ranges, kind=Kind.RAM), *[b""] * (len(ranges) - 1)]
    else:
        headers = [range_header(address, address + length - 1) for address, length in ranges]
    split = low // spec.page_size
    return [(header, split * i, spec.pages if i else split) for i, header in enumerate(headers)]


def _check_holes(path: Path, target: Path, spec: Spec, holes: NDArray[np.bool_]) -> None:
    """Whether a reader will find the holes that were planned: not every file system keeps such small ones."""
    source = Source(path)
    try:
        ranges = raw.read(source, How(page_size=spec.page_size)).ranges
    finally:
        source.close()
    found = np.repeat(ranges["state"] == State.ZERO_INFERRED, (ranges["bytes"] // spec.page_size).astype(np.int64))
    if not np.array_equal(found, holes):
        raise OSError(
            errno.ENOTSUP,
            f"this file system does not keep holes of {spec.page_size} bytes as they are: leave out sparse",
            str(target),
        )
