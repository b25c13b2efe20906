"""What every call into the C library needs: the space as C sees it, control of running loops, errors.

C returns codes; ``check`` is the one place where they become exceptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pageshare._core import ffi, lib
from pageshare.space import PageSpace

MAP_STEP = 8 << 20
"""Bytes that are mapped between two counts."""


class Stopped(Exception):
    """A loop ended early because ``Control.stop`` was called; ``scanned`` pages of this call were done."""

    def __init__(self, scanned: int = 0) -> None:
        super().__init__(scanned)
        self.scanned = scanned


class MediaError(OSError):
    """A file could not be read to its end any more: it shrank, or its disk failed. ``filename`` names it."""


class Control:
    """Shared with running loops: ``done`` counts pages, ``stop()`` ends them within milliseconds."""

    def __init__(self) -> None:
        self._c = ffi.new("ps_control *")

    @property
    def done(self) -> int:
        """Pages looked at so far, by all loops that were given this control."""
        return int(self._c.done)

    def advance(self, pages: int) -> None:
        """Count pages that a loop in Python is through with."""
        self._c.done += pages

    def reset(self) -> None:
        """Count from zero again."""
        self._c.done = 0

    @property
    def reading(self) -> tuple[int, int]:
        """Which time files are being read from end to end, and how many times they will be.

        Both 0 unless a census streams them, the latter until its first reading is done.
        """
        return int(self._c.reading), int(self._c.readings)

    def stop(self) -> None:
        """Make every loop that was given this control raise ``Stopped``."""
        self._c.stop = 1

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return bool(self._c.stop)

    def check(self) -> None:
        """Raise ``Stopped`` if ``stop`` was called: for loops in Python."""
        if self._c.stop:
            raise Stopped


@dataclass(frozen=True)
class Native:
    """A ``ps_space`` and what keeps its memory mapped."""

    pointer: Any
    space: PageSpace
    views: tuple[Any, ...]


def check(status: int, native: Native | None = None) -> None:
    """Raise what a status other than ``PS_OK`` stands for; ``native`` knows which file is to blame."""
    if status == lib.PS_OK:
        return
    if status == lib.PS_STOPPED:
        raise Stopped
    if status == lib.PS_NO_MEMORY:
        raise MemoryError("not enough memory for the page table (16 bytes for each page that is read)")
    if status == lib.PS_GONE:
        raise ProcessLookupError("the process has ended")
    if status == lib.PS_REFUSED:
        raise PermissionError("the kernel does not allow it")
    if native is not None and status in (lib.PS_SHRANK, lib.PS_IO_ERROR):
        path = native.space.sources[lib.ps_space_faulted(native.pointer)].path
        if status == lib.PS_SHRANK:
            raise MediaError(f"{path}: the file became shorter while it was read; scan a copy that stays as it is")
        raise MediaError(f"{path}: its disk failed while it was read; copy what can be read (ddrescue) and scan that")
    raise ValueError("the native core was given arguments out of range; please report this")


def native_space(space: PageSpace) -> Native:
    """What C works on; as long as it is kept, so is the memory."""
    sources = ffi.new("ps_source[]", max(1, len(space.sources)))
    views = []
    for native, source in zip(sources, space.sources, strict=False):
        memory = source.memory
        if memory is not None:
            views.append(ffi.from_buffer("uint8_t[]", memory))
            native.base = views[-1]
        native.bytes = source.bytes
        native.fd = source.fd
        native.owner = source.owner
        native.domain = source.domain
    segments = np.ascontiguousarray(space.segments)
    out = ffi.new("ps_space **")
    status = lib.ps_space_new(
        out,
        ffi.cast("ps_segment *", ffi.from_buffer(segments)) if segments.size else ffi.NULL,
        segments.size,
        sources,
        len(space.sources),
        space.readable,
        space.page_size,
    )
    check(status)
    return Native(ffi.gc(out[0], lib.ps_space_free), space, tuple(views))


def populate(space: PageSpace, control: Control | None = None) -> None:
    """Map all pages of a space that lie in files, so that reading them faults no more; ``control`` counts them."""
    native, step = native_space(space), max(1, MAP_STEP // space.page_size)
    for first in range(0, space.readable, step):
        pages = min(step, space.readable - first)
        status = lib.ps_space_populate(native.pointer, first, pages, ffi.NULL if control is None else control._c)
        check(status, native)
        if control is not None:
            control.advance(pages)


def shed(space: PageSpace, most: int) -> None:
    """Unmap all pages of a space that lie in files, to be mapped again when they are read, if this process has more
    than ``most`` bytes of files mapped."""
    lib.ps_space_shed(native_space(space).pointer, most)
