"""libvirt's save files (``virsh save``, ``managedsave``): a header, the domain's XML, a QEMU migration stream.

The header has 92 bytes, in the byte order of the host that wrote it: 16 of magic, then u32 version, bytes of XML and
padding, whether the guest was running, compression, and 15 more. Layout: libvirt's src/qemu/qemu_saveimage.h.
"""

from __future__ import annotations

import re
import struct

from pageshare.images import qemu_migration
from pageshare.images.image import How, Image, ImageError, Source, printable
from pageshare.images.ranges import Kind
from pageshare.images.wrapped import WRAPPERS, Unwrapped, unwrap

NAME = "libvirt"

_MAGIC = b"LibvirtQemudSave"
_UNFINISHED = b"LibvirtQemudPart"
_HEADER_BYTES = 92
_FIELDS = "4I"  # behind the magic; what follows is of no use here
_VERSION = 2

_COMPRESSIONS = ("raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse")
_PLAIN = ("raw", "sparse")  # sparse is mapped-ram: the stream says so itself
_WRAPPERS = {each.name: each for each in WRAPPERS}

_NAME = re.compile(rb"<domain\b[^>]*>.*?<name>([^<]*)</name>", re.DOTALL)
_MOST_XML = 1 << 16  # of it, that is looked at


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it starts with one of libvirt's two magics."""
    return head.startswith((_MAGIC, _UNFINISHED))


def read(source: Source, how: How) -> Image:
    """The RAM blocks of the stream in a save file; a compressed one is decompressed into a spool file first.

    Raises ImageError for a header that does not fit the file, and as ``qemu_migration.read_stream`` does.
    """
    magic, compression, at = _read_header(source)
    incomplete: tuple[str, ...] = ()
    if magic == _UNFINISHED:
        incomplete = ("libvirt did not finish this file (it begins with LibvirtQemudPart)",)
    details = {"domain": _domain(source, at), "compression": compression}
    inside = Unwrapped(source)
    if compression not in _PLAIN:
        inside = _decompressed(source, how, compression, at)
        at = 0
    try:
        found = qemu_migration.read_stream(inside.source, at)
    except BaseException:
        inside.source.close()
        raise
    if inside.source is not source:
        source.close()
    return Image(
        inside.source,
        NAME,
        found.ranges,
        Kind.RAM,
        warnings=(*inside.warnings, *found.warnings),
        incomplete=(*incomplete, *inside.incomplete, *found.incomplete),
        details={**details, **found.details},
    )


def _read_header(source: Source) -> tuple[bytes, str, int]:
    """(magic, name of the compression, offset of the stream)."""
    where = "libvirt header"
    header = source.read(0, _HEADER_BYTES)
    magic = header[: len(_MAGIC)]
    if magic not in (_MAGIC, _UNFINISHED):
        raise ImageError(source.path, where, "the file does not start with libvirt's magic")
    if len(header) < _HEADER_BYTES:
        raise ImageError(source.path, where, f"the file ends in it, after {len(header)} bytes")
    # In the other order than it was written, a version is a large number.
    version, length, _, number = min(struct.unpack_from(order + _FIELDS, header, len(_MAGIC)) for order in "<>")
    if not 1 <= version <= _VERSION:
        raise ImageError(source.path, where, f"version {version}, only 1 and {_VERSION} are known")
    if version == 1:
        number = 0  # libvirt itself looks at the field from version 2 on
    if number >= len(_COMPRESSIONS):
        raise ImageError(source.path, where, f"compression {number} is not known")
    at = _HEADER_BYTES + length
    if at >= source.size:
        raise ImageError(source.path, where, f"the memory would begin at {at:#x}, where the file has ended")
    return magic, _COMPRESSIONS[number], at


def _domain(source: Source, end: int) -> str:
    name = _NAME.search(source.read(_HEADER_BYTES, min(end - _HEADER_BYTES, _MOST_XML)))
    return printable(name[1].decode("utf-8", "replace")) if name else "not told"


def _decompressed(source: Source, how: How, compression: str, at: int) -> Unwrapped:
    if compression not in _WRAPPERS:
        raise ImageError(
            source.path,
            f"stream at {at:#x}",
            f"it is compressed with {compression}, which pageshare does not read",
            f"decompress it: tail -c +{at + 1} FILE | {compression} -dc > FILE.migration, and scan that",
        )
    wrapper = _WRAPPERS[compression]
    if not source.read(at, 16).startswith(wrapper.magics):
        raise ImageError(source.path, f"stream at {at:#x}", f"it is not {compression}'s, as the header says")
    return unwrap(source, wrapper, folder=how.spool, at=at, progress=lambda _done: None)
