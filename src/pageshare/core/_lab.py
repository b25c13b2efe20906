"""What the guests of the laboratory do page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare._core import ffi, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray

# To look up a type by its name takes longer than a few hundred pages do.
_U8, _U16, _U32, _I32, _U64, _I64 = (
    ffi.typeof(f"{name}[]") for name in ("uint8_t", "uint16_t", "uint32_t", "int32_t", "uint64_t", "int64_t")
)
_KINDS = {
    np.dtype(of): kind
    for of, kind in (
        (np.bool_, _U8),
        (np.uint8, _U8),
        (np.uint16, _U16),
        (np.int32, _I32),
        (np.uint64, _U64),
        (np.int64, _I64),
    )
}


def _struct(name: str, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> tuple[Any, Any]:
    """A struct that points to arrays, and what keeps these."""
    kept = {name: ffi.from_buffer(_KINDS[array.dtype], array) for name, array in arrays.items()}
    return ffi.new(f"{name} *", {**kept, **values}), kept


class _Touches:
    """How pages are touched, as ``ps_lab_touches``: one for all, or an array as long as there are pages."""

    def __init__(self) -> None:
        self.struct = ffi.new("ps_lab_touches *")
        self._flags, self._thread = ffi.new("uint8_t[2]"), ffi.new("uint16_t[1]")

    def set(
        self,
        count: int,
        kinds: NDArray[np.uint8] | int,
        work: NDArray[np.bool_] | bool,
        thread: NDArray[np.uint16] | int,
    ) -> Any:
        """What has to be kept until it was used. Raises ValueError for arrays of another length."""
        how, flags, kept = self.struct, self._flags, [None, None, None]
        if isinstance(kinds, np.ndarray):
            kept[0] = how.kinds = _pointer(_U8, kinds, np.uint8, count)
        else:
            flags[0], how.kinds = kinds, flags
        if isinstance(work, np.ndarray):
            kept[1] = how.work = _pointer(_U8, work, np.bool_, count)
        else:
            flags[1], how.work = work, flags + 1
        if isinstance(thread, np.ndarray):
            kept[2] = how.thread = _pointer(_U16, thread, np.uint16, count)
        else:
            self._thread[0], how.thread = thread, self._thread
        how.kinds_step, how.work_step, how.thread_step = (each is not None for each in kept)
        return kept


def _pointer(kind: Any, array: NDArray[Any], of: type[np.generic], length: int) -> Any:
    if len(array) != length:
        raise ValueError(f"{len(array)} values for {length} pages")
    return ffi.from_buffer(kind, np.ascontiguousarray(array, of))


class Touched:
    """A guest's memory, as ``ps_lab_memory``: arrays of int64 ``touched``, ``worked`` and ``written``, of bool
    ``zero``, ``free`` and ``wrote``, of uint16 ``thread``. They are kept, and changed in place."""

    def __init__(self, **arrays: NDArray[Any]) -> None:
        self.struct, self._kept = _struct("ps_lab_memory", {"pages": len(arrays["touched"])}, arrays)
        self._how = _Touches()

    def touch(
        self,
        now: int,
        pages: NDArray[np.integer],
        kinds: NDArray[np.uint8] | int,
        work: NDArray[np.bool_] | bool,
        thread: NDArray[np.uint16] | int,
    ) -> None:
        """Pages are touched ``now``. ``kinds``, ``work`` and ``thread`` are one for all or an array as long as
        ``pages``. IndexError for a page that there is not, ValueError for arrays of another length."""
        pages = np.ascontiguousarray(pages, np.uint32)
        kept = self._how.set(len(pages), kinds, work, thread)
        if lib.ps_lab_touch(self.struct, now, ffi.from_buffer(_U32, pages), len(pages), self._how.struct) != lib.PS_OK:
            raise IndexError(f"page {pages.max()} is touched, of {self.struct.pages}")
        del kept


class InFrames:
    """A guest's pages that are in frames, as ``ps_lab_guest``: of its ``memory``; with arrays of int32 ``at`` and
    uint64 ``held`` of its programs' pages, of uint8 ``place`` and int32 ``frame`` of its own, of uint64 ``content`` of
    frames. Of the places, ``resident`` is that of pages in frames of their own, ``shared`` that of others in frames."""

    def __init__(self, memory: Touched, *, resident: int, shared: int, **arrays: NDArray[Any]) -> None:
        self._places, self._place = (resident, shared), ffi.from_buffer(_U8, arrays["place"])
        values = {"memory": memory.struct, "places": self._places, "count": len(arrays["at"])}
        self._struct, self._kept = _struct("ps_lab_guest", values, arrays)
        self._memory, self._how = memory, _Touches()
        self._stand_in: Any = None

    def stand_in(self, words: NDArray[np.uint64]) -> None:
        """From now on the first of each page's ``words`` (shape (pages, words)) stands for what it holds."""
        self._stand_in = self._struct.stand_in = ffi.from_buffer(_U64, words)
        self._struct.words = words.shape[1]

    def use(
        self,
        now: int,
        pages: NDArray[np.integer],
        kinds: NDArray[np.uint8] | int,
        work: NDArray[np.bool_] | bool,
        thread: NDArray[np.uint16] | int,
        *,
        offset: int,
        contents: NDArray[np.uint64] | None,
        fresh: int,
    ) -> bool:
        """Programs' pages, numbered from ``offset`` on, are touched ``now`` if none of them needs anything, and none is
        released; else nothing is done: whether they were. Those that are written get ``contents``, numbers from
        ``fresh`` on if there are none."""
        pages = np.ascontiguousarray(pages, np.uint32)
        count, how = len(pages), self._how
        kept = how.set(count, kinds, work, thread)
        held = ffi.NULL if contents is None else _pointer(_U64, contents, np.uint64, count)
        used = lib.ps_lab_use(self._struct, now, ffi.from_buffer(_U32, pages), count, offset, how.struct, held, fresh)
        del kept
        return bool(used)

    def ready(self, pages: NDArray[np.integer], write: NDArray[np.bool_] | None) -> bool:
        """Whether none of the guest's own pages needs anything to be touched, and written where ``write``: those in
        frames of their own, and shared ones that are not written."""
        pages = np.ascontiguousarray(pages, np.uint32)
        written = ffi.NULL if write is None else _pointer(_U8, write, np.bool_, len(pages))
        return bool(lib.ps_lab_ready(self._place, self._places, ffi.from_buffer(_U32, pages), len(pages), written))


def store_pages(
    frame: NDArray[np.int32],
    content: NDArray[np.uint64],
    pages: NDArray[np.integer],
    write: NDArray[np.bool_],
    contents: NDArray[np.uint64],
    *,
    stand_in: NDArray[np.uint64] | None,
) -> None:
    """The frames of pages, where they are written, get ``contents``; so does the first word of each page's
    ``stand_in`` (shape (pages, words)), if there are any. Every page that is written has a frame. Raises ValueError
    for arrays of another length."""
    words, count = 0 if stand_in is None else stand_in.shape[1], len(pages)
    lib.ps_lab_store(
        ffi.from_buffer(_I32, frame),
        ffi.from_buffer(_U64, content),
        ffi.NULL if stand_in is None else ffi.from_buffer(_U64, stand_in),
        words,
        _pointer(_U32, pages, np.uint32, count),
        count,
        _pointer(_U8, write, np.bool_, count),
        _pointer(_U64, contents, np.uint64, count),
    )
