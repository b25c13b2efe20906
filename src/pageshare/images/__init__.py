"""Memory images: one module per format; which one reads a file is decided by its content.

A format's module has ``NAME``, ``detect(head, size)``, which looks at the first bytes of a file, and
``read(source, how)``, which gives an :class:`Image` or raises :class:`ImageError`.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from pageshare.images import elf, lime, raw
from pageshare.images.foreign import foreign
from pageshare.images.image import How, Image, ImageError, Source, printable

_MODULES: tuple[ModuleType, ...] = (elf, lime, raw)
"""In the order in which they are asked; raw takes everything."""

FORMATS: dict[str, ModuleType] = {module.NAME: module for module in _MODULES}

HEAD_BYTES = 4096
"""How much of a file's beginning ``detect`` is given."""


def open_image(
    path: str | os.PathLike[str], *, format: str | None = None, holes: str = "zero", page_size: int = 4096
) -> Image:
    """Open a memory dump and find out which bytes of memory lie where in it; none of them is read.

    The format is told by the file's content, unless ``format`` (a key of ``FORMATS``) says what to read it as. A
    file with the magic of a format that does not fit the rest is an error, never taken for raw memory. ``holes``
    says what a hole in a raw file means: ``"zero"`` (never touched), or ``"unknown"`` (a diff snapshot's).
    ``page_size`` is in bytes, a power of two from 512 to 2 MiB. Close the image after use; it is a context
    manager.

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
    source = Source(path)
    try:
        head = source.read(0, HEAD_BYTES)
        if format is not None:
            module = FORMATS[format]
        else:
            module = next(module for module in _MODULES if module.detect(head, source.size))
            if module is raw:
                name, remedy = foreign(head)
                if name:
                    raise ImageError(source.path, "", f"{name}, which pageshare does not read", remedy)
        image: Image = module.read(source, How(holes, page_size))
    except BaseException:
        source.close()
        raise
    return image


def image_of_buffer(buffer: Any, name: str = "buffer") -> Image:
    """Memory that is here already, as a raw image: bytes, a numpy array of any dtype, an mmap; not copied.

    Raises ImageError if it is empty or not in one piece, TypeError if it is no buffer.
    """
    return raw.read(Source.of_buffer(buffer, name), How())


def check_page_size(page_size: int) -> None:
    """Raise ValueError unless it is a power of two from 512 bytes to 2 MiB."""
    if not 512 <= page_size <= 1 << 21 or page_size & (page_size - 1):
        raise ValueError(f"page size {page_size}: must be a power of two from 512 to 2097152 bytes")


__all__ = ["FORMATS", "Image", "ImageError", "Source", "check_page_size", "image_of_buffer", "open_image", "printable"]
