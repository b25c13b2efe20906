"""Memory images: one module per format; which one reads a file is decided by its content.

A format's module has ``NAME``, ``detect(head, size)``, which looks at the first bytes of a file, and
``read(source, how)``, which gives an :class:`Image` or raises :class:`ImageError`.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pageshare.images import (
    avml,
    criu,
    elf,
    flattened,
    kdump,
    libvirt,
    lime,
    qemu_migration,
    raw,
    vmware,
    windows,
    xen,
)
from pageshare.images.foreign import foreign, is_text
from pageshare.images.image import How, Image, ImageError, NoDumpError, Source, printable
from pageshare.images.wrapped import Unwrapped, from_pipe, unwrap, wrapper

_MODULES: tuple[ModuleType, ...] = (
    xen,
    elf,
    lime,
    avml,
    kdump,
    flattened,
    windows,
    vmware,
    criu,
    qemu_migration,
    libvirt,
    raw,
)
"""In the order in which they are asked; raw takes everything."""

FORMATS: dict[str, ModuleType] = {module.NAME: module for module in _MODULES}

HEAD_BYTES = 4096
"""How much of a file's beginning ``detect`` is given."""

_AS_RAW = "if it is memory all the same, say --format raw"

MOST_WRAPPERS = 3
"""How often a file may be compressed."""


def open_image(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    holes: str = "zero",
    page_size: int = 4096,
    base: str | os.PathLike[str] | None = None,
    meta: str | os.PathLike[str] | None = None,
    spool: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] = lambda _done, _size: None,
) -> Image:
    """Open a memory dump and find out which bytes of memory lie where in it; none of them is read.

    The format is told by the file's content, unless ``format`` (a key of ``FORMATS``) says what to read it as. A
    file with the magic of a format that does not fit the rest is an error, never taken for raw memory; nor is one
    that is less than a page, or text. ``holes`` says what a hole in a raw file means: ``"zero"`` (never touched), or
    ``"unknown"`` (a diff snapshot's); with ``base``, the path of a raw file, what lies there in it. ``meta`` is the
    path of the file that says where the memory in this one belongs (VMware's .vmss or .vmsn). ``page_size`` is in
    bytes, a power of two from 512 to 2 MiB. Close the image after use; it is a context manager.

    Compressed files, pipes, and "-", the standard input, are read once from end to end, and what is decompressed lies
    in a file without a name in the folder ``spool`` (by default $TMPDIR, or /var/tmp); meanwhile ``progress`` is
    called with the bytes read and those that there are, 0 for a pipe. With ``format="raw"`` nothing is decompressed.

    Raises OSError for a file that can't be opened or read, ImageError (a ValueError) for one that can't be
    understood; both name it in one line.

    >>> import pageshare, tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(bytes(range(256)) * 64)
    ...     file.flush()
    ...     with pageshare.open_image(file.name) as image:
    ...         image.format, image.ranges["bytes"].tolist()
    ('raw', [16384])
    """
    check_page_size(page_size)
    if format is not None and format not in FORMATS:
        raise ValueError(f"no format {format!r}: there are {', '.join(FORMATS)}")
    if holes not in raw.HOLES:
        raise ValueError(f"holes are {' or '.join(raw.HOLES)}, not {holes!r}")
    if base is not None and holes != "zero":
        raise ValueError("holes are what lies there in the base, or unknown: not both")
    how = How(holes, page_size, *(None if each is None else os.fspath(each) for each in (base, meta, spool)))
    opened = _open(os.fspath(path), as_it_is=format == "raw", folder=how.spool, progress=progress)
    source = opened.source
    try:
        module = _module(source, format, page_size)
        if how.meta is not None:
            if module is not raw:
                raise ImageError(source.path, "", f"it is {module.NAME}; --meta is for raw memory, such as a .vmem")
            module = vmware
        image: Image = module.read(source, how)
        if module is raw:
            image = replace(image, warnings=(*image.warnings, *vmware.advice(source)))
        elif how.base is not None:
            unused = f"it is of the format {module.NAME}: the base is for raw files, and is not used"
            image = replace(image, warnings=(*image.warnings, unused))
    except BaseException:
        source.close()
        raise
    if not opened.name:
        return replace(image, spool=how.spool)
    return replace(
        image,
        spool=how.spool,
        incomplete=(*opened.incomplete, *image.incomplete),
        warnings=(*opened.warnings, *image.warnings),
        details={"compressed": opened.name, **image.details},
    )


def _module(source: Source, format: str | None, page_size: int) -> ModuleType:
    """The reader for a file. Raises ImageError for what is no dump, or one of another format."""
    if format is not None:
        return FORMATS[format]
    head = source.read(0, HEAD_BYTES)
    module = next(module for module in _MODULES if module.detect(head, source.size))
    if module is raw:
        name, remedy, memory = foreign(head)
        if name:
            kind = ImageError if memory else NoDumpError
            raise kind(source.path, "", f"{name}, which pageshare does not read", remedy)
        if source.size < min(page_size, 4096):
            raise NoDumpError(source.path, "", f"its {source.size} bytes are less than one page", _AS_RAW)
        if is_text(head):
            raise NoDumpError(source.path, "", "it is text, no dump", _AS_RAW)
    return module


def _open(path: str, *, as_it_is: bool, folder: str | None, progress: Callable[[int, int], object]) -> Unwrapped:
    """The file, or what is inside of it, or what comes from a pipe."""
    pipe = -1
    try:
        pipe = os.dup(0) if path == "-" else _open_pipe(path)
        if pipe >= 0:
            opened = from_pipe(
                pipe, path, as_it_is=as_it_is, folder=folder, progress=lambda done: progress(done, 0)
            )
        else:
            opened = Unwrapped(Source(path))
    finally:
        if pipe >= 0:
            os.close(pipe)
    for times in itertools.count():
        source = opened.source
        found = None if as_it_is else wrapper(source.read(0, HEAD_BYTES))
        if not found:
            break
        if times == MOST_WRAPPERS:
            source.close()
            raise ImageError(path, "", f"it is compressed more than {times} times", "decompress it first")
        with source:
            inside = unwrap(source, found, folder=folder, progress=lambda done: progress(done, source.size))  # noqa: B023
        opened = Unwrapped(
            inside.source,
            f"{opened.name}; {inside.name}" if opened.name else inside.name,
            (*opened.incomplete, *inside.incomplete),
            (*opened.warnings, *inside.warnings),
        )
    return opened


def _open_pipe(path: str) -> int:
    """The pipe at ``path``, open, or -1 where there is none."""
    if not stat.S_ISFIFO(Path(path).stat().st_mode):
        return -1
    # Without O_NONBLOCK this would wait for somebody to write; a pipe without any is empty.
    pipe = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(pipe, True)
    return pipe


def image_of_buffer(buffer: Any, name: str = "buffer") -> Image:
    """Memory that is here already, as a raw image: bytes, a numpy array of any dtype, an mmap; not copied.

    Raises ImageError if it is empty or not in one piece, TypeError if it is no buffer.
    """
    return raw.read(Source.of_buffer(buffer, name), How())


def check_page_size(page_size: int) -> None:
    """Raise ValueError unless it is a power of two from 512 bytes to 2 MiB."""
    if not 512 <= page_size <= 1 << 21 or page_size & (page_size - 1):
        raise ValueError(f"page size {page_size}: must be a power of two from 512 to 2097152 bytes")


__all__ = [
    "FORMATS",
    "Image",
    "ImageError",
    "NoDumpError",
    "Source",
    "check_page_size",
    "image_of_buffer",
    "open_image",
    "printable",
]
