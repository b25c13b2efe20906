"""Raw memory: byte n of the file is byte n of memory. No magic; every file that is nothing else can be one.

Guest memory files are mostly sparse: a hole is memory that was never touched. It is found with SEEK_DATA and
SEEK_HOLE and never read. What it means is the user's to say: zero, or in a diff snapshot "as in the base".
"""

from __future__ import annotations

import errno
import os
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images.foreign import foreign
from pageshare.images.image import How, Image, ImageError, Source, printable
from pageshare.images.ranges import RANGE, Kind, State, clip, total_bytes
from pageshare.images.wrapped import wrapper

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "raw"

HOLES = {"zero": State.ZERO_INFERRED, "unknown": State.EXCLUDED}

_KEEP_HOLES = "copy it with cp --sparse=auto or tar -S, which leave holes and zeros as they are"


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Always: the last resort."""
    return True


def read(source: Source, how: How) -> Image:
    """The whole file as memory from address 0 on, holes apart (``how.holes``: "zero" or "unknown").

    With ``how.base``, the file of a full snapshot, the file is a diff snapshot: a hole has what lies there in the base.
    The base itself is read as it stands. Raises ImageError for one that is not raw, or of another size.
    """
    if how.base is not None:
        try:
            base = Source(how.base)
        except (OSError, ImageError) as error:
            reason = error.reason if isinstance(error, ImageError) else error.strerror
            raise ImageError(source.path, "", f"its base {printable(how.base)}: {reason}") from None
        try:
            if base.identity != source.identity:
                return _over_base(source, base, how)
        except BaseException:
            base.close()
            raise
        base.close()
    # What was decoded has holes too, where zeros were read.
    data = np.array([[0, source.size]], np.int64) if source.spooled else data_in(source)
    if how.holes == "zero":
        data = _whole_pages(data, how.page_size, source.size)
    ranges = _ranges(data, source.size, HOLES[how.holes])
    in_data = total_bytes(ranges[ranges["state"] == State.DATA])
    warnings = () if source.size >= how.page_size else (f"the file holds less than one page of {how.page_size} bytes",)
    return Image(
        source,
        NAME,
        ranges,
        Kind.RAM,
        warnings=warnings,
        details={"holes": f"{source.size - in_data} bytes" if in_data < source.size else "none"},
    )


def _over_base(source: Source, base: Source, how: How) -> Image:
    """A diff snapshot: its data, and in its holes the base's."""
    if source.fd < 0 or source.spooled:
        raise ImageError(
            source.path, "", "a diff has to have its holes, and what is decompressed or piped has none", _KEEP_HOLES
        )
    _refuse_base(source, base)
    if base.size != source.size:
        raise ImageError(
            source.path,
            "",
            f"it has {source.size} bytes, its base {printable(base.path)} has {base.size}",
            "a diff snapshot is as large as the full one that it belongs to",
        )
    own = _ranges(data_in(source), source.size, State.EXCLUDED)
    below = _ranges(_whole_pages(data_in(base), how.page_size, base.size), base.size, State.ZERO_INFERRED)
    below["file"] = 1
    holes = own[own["state"] != State.DATA]
    taken, _ = clip(below, holes["address"], holes["bytes"])
    ranges = np.concatenate([own[own["state"] == State.DATA], taken])
    dense = f"no hole in it, so nothing is taken from the base; if a copy has lost them: {_KEEP_HOLES}"
    return Image(
        source,
        NAME,
        ranges[np.argsort(ranges["address"], kind="stable")],
        Kind.RAM,
        warnings=() if len(holes) else (dense,),
        details={
            "holes": f"{total_bytes(holes)} bytes" if len(holes) else "none",
            "base": base.path,
            "in the base": f"{total_bytes(taken[taken['state'] == State.DATA])} bytes",
        },
        others=(base,),
    )


def _refuse_base(source: Source, base: Source) -> None:
    """Raise ImageError for a base that is another format, or compressed."""
    from pageshare.images import FORMATS, HEAD_BYTES

    head = base.read(0, HEAD_BYTES)
    name = next(name for name, module in FORMATS.items() if module.detect(head, base.size))
    compressed, (foreigner, *_) = wrapper(head), foreign(head)
    if name != NAME:
        foreigner = f"it is of the format {name}"
    elif compressed:
        foreigner = f"it is compressed with {compressed.name}"
    if foreigner:
        base_is = f"its base {printable(base.path)}: {foreigner}"
        raise ImageError(source.path, "", base_is, "a base is the raw file of a full snapshot")


def _ranges(data: NDArray[Any], size: int, hole: State) -> NDArray[Any]:
    """A file of ``size`` bytes as ranges; between its ``data``, see ``data_in``, lie holes, of that state."""
    # An empty one before the first and after the last is dropped again.
    ranges = np.zeros(2 * len(data) + 1, RANGE)
    holding, address = ranges[1::2], ranges["address"]
    address[1:] = data.reshape(-1)
    np.subtract(address[1:], address[:-1], out=ranges["bytes"][:-1])
    ranges["bytes"][-1] = np.uint64(size) - address[-1]
    ranges["state"] = hole
    ranges["offset"] = -1
    ranges["kind"] = Kind.RAM
    holding["state"] = State.DATA
    holding["offset"] = data[:, 0]
    return ranges[int(ranges["bytes"][0] == 0) : len(ranges) - int(ranges["bytes"][-1] == 0)]


def data_in(source: Source) -> NDArray[Any]:
    """Where the file has data, as an int64 array of (start, end), shape (n, 2), in ascending order."""
    size, fd, seek = source.size, source.fd, os.lseek
    if fd < 0:
        return np.array([[0, size]], np.int64)
    edges = array("q")  # a list of integers takes five times as much
    at = 0
    try:
        while at < size:
            start = seek(fd, at, os.SEEK_DATA)
            at = seek(fd, start, os.SEEK_HOLE)
            edges.append(start)
            edges.append(at)
    except OSError as error:
        if error.errno == errno.ENXIO:
            pass  # nothing but a hole from here on, or the file has been cut there meanwhile
        elif error.errno in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            edges = array("q", (0, size))  # devices, and file systems that don't tell
        else:
            raise OSError(error.errno, error.strerror, source.path) from error
    if edges and edges[-1] > size:
        edges[-1] = size
    if edges and edges[-2] >= size:
        raise ImageError(source.path, "", "the file grew while it was opened")
    return np.frombuffer(edges, np.int64).reshape(-1, 2)


def _whole_pages(data: NDArray[Any], page_size: int, size: int) -> NDArray[Any]:
    """Data widened to whole pages: a hole that is only a part of a page is read with the rest, as zeros."""
    if not data.size:
        return data
    starts = data[:, 0] // page_size * page_size
    ends = np.minimum(-(-data[:, 1] // page_size) * page_size, size)
    first = np.concatenate([[True], starts[1:] > ends[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.column_stack([starts[first], ends[last]])
