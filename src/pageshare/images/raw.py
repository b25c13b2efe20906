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

from pageshare.images.image import How, Image, ImageError, Source
from pageshare.images.ranges import RANGE, Kind, State, total_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "raw"

HOLES = {"zero": State.ZERO_INFERRED, "unknown": State.EXCLUDED}


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Always: the last resort."""
    return True


def read(source: Source, how: How) -> Image:
    """The whole file as memory from address 0 on, holes apart (``how.holes``: "zero" or "unknown")."""
    data = data_in(source)
    if how.holes == "zero":
        data = _whole_pages(data, how.page_size, source.size)
    # Between the data lie the holes; an empty one before the first and after the last is dropped again.
    ranges = np.zeros(2 * len(data) + 1, RANGE)
    holding, address = ranges[1::2], ranges["address"]
    address[1:] = data.reshape(-1)
    np.subtract(address[1:], address[:-1], out=ranges["bytes"][:-1])
    ranges["bytes"][-1] = np.uint64(source.size) - address[-1]
    ranges["state"] = HOLES[how.holes]
    ranges["offset"] = -1
    ranges["kind"] = Kind.RAM
    holding["state"] = State.DATA
    holding["offset"] = data[:, 0]
    in_data = total_bytes(holding)
    warnings = () if source.size >= how.page_size else (f"the file holds less than one page of {how.page_size} bytes",)
    return Image(
        source,
        NAME,
        ranges[int(ranges["bytes"][0] == 0) : len(ranges) - int(ranges["bytes"][-1] == 0)],
        Kind.RAM,
        warnings=warnings,
        details={"holes": f"{source.size - in_data} bytes" if in_data < source.size else "none"},
    )


def data_in(source: Source) -> NDArray[Any]:
    """Where the file has data, as an int64 array of (start, end), shape (n, 2), in ascending order."""
    size, fd, seek = source.size, source.fd, os.lseek
    if fd < 0 or source.spooled:
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
