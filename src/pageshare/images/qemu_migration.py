"""QEMU migration streams in a file (``migrate exec:cat>F``, ``file:F``), those with mapped-ram too.

Big-endian: ``QEVM``, u32 3, sections that say their type but not their length. The memory is in the section "ram",
version 4: first a list of RAM blocks, then records that begin with a u64, an offset in a block with flags in its low
bits. With mapped-ram, a page has its place in the file instead, and a bitmap says which pages are there. Layout: QEMU's
docs/devel/migration and migration/ram.c, savevm.c.

A stream does not say where in physical memory a block lies. Here the blocks lie one behind the other, guest memory
first, so that addresses in it are offsets in its blocks.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pageshare.images.image import How, Image, ImageError, Source, printable
from pageshare.images.ranges import RANGE, Kind, State, total_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "qemu-migration"

MAGIC = b"QEVM"
_VERSION = 3
_RAM_START = b"\3ram" + struct.pack(">II", 0, 4)  # name, instance and version as they are in the section's header

# Types of sections.
_EOF, _START, _PART, _END, _FULL, _SUBSECTION, _CONFIGURATION, _COMMAND = 0, 1, 2, 3, 4, 5, 7, 8
_FOOTER = 0x7E

_POSTCOPY_ADVISE = 3
_POSTCOPY_BEGUN = (4, 5, 6, 7)  # listen, run, discard, packaged device state

# What a record is, in the low bits of its first word. Above them is the address.
_ZERO, _BLOCKS, _PAGE, _EOS, _CONTINUE = 0x02, 0x04, 0x08, 0x10, 0x20
_MULTIFD_FLUSH = 0x200
_FLAGS = 0x3FF
_REFUSED = {
    0x40: ("pages are sent as changes (XBZRLE)", "switch the capability xbzrle off"),
    0x80: ("pages went by RDMA, past the stream", "migrate to exec: or file:, with the capability rdma-pin-all off"),
    0x100: ("pages are compressed one by one", "switch the capability compress off"),
    _MULTIFD_FLUSH: (
        "pages went through other channels (multifd)",
        "switch the capability multifd off, or mapped-ram on with it",
    ),
}

_U64 = struct.Struct(">Q")
_MAPPED = struct.Struct(">IQQQ")  # version, page size, offset of the bitmap, offset of the pages
_PAGE_SIZES = (4096, 8192, 16384, 65536, 2048, 1024)  # in the order in which they are tried
_ALIGNED = 1 << 21  # the largest page: no page has parts of two blocks

# Bounds for damaged files.
_MOST_BLOCKS = 1 << 16
_MOST_CAPABILITIES = 1 << 10
_LONGEST_NAME = 1 << 10
_MOST_BITMAP_BYTES = 1 << 31  # of 64 TiB
_FARTHEST = 1 << 26  # to the section ram

_WINDOW = 1 << 22
_BITMAP_PART = 1 << 20
_FEW = 16
_AT_ONCE = 1 << 8
_SHOWN = 6

_RUN = np.dtype([("address", "<u8"), ("pages", "<u8"), ("offset", "<i8"), ("state", "u1")])
"""Pages at adjoining addresses. Those that lie in the file lie there a header apart, the first one at ``offset``."""
_RECORDS = np.dtype([("at", "i8"), ("count", "i8"), ("kind", "u1"), ("head", "i8"), ("block", "i8")])
"""Records of one kind and block that follow each other; a page, or a byte, comes ``head`` bytes behind ``at``."""
_MANY_RUNS = 1 << 20

# What is no guest memory: what firmware is given, and memory of devices, which has a dotted name behind the device's
# path on its bus. Backends have the plain name that the user gave them; virtio-mem's lie behind such a path, and with
# old machine types all behind another.
_DEVICE = re.compile(
    r"/rom@.*|(?!/objects/).*/[^/]*\.[^/]*|(.*[/._-])?(bios|v?rom|flash\d*|vram|vgavram|nvram|tag)",
    re.IGNORECASE | re.DOTALL,
)


def detect(head: bytes, size: int) -> bool:  # noqa: ARG001 - the same for every format
    """Whether it starts with QEMU's magic."""
    return head.startswith(MAGIC)


def read(source: Source, how: How) -> Image:  # noqa: ARG001 - the same for every format
    """The RAM blocks of a stream; see ``read_stream``."""
    found = read_stream(source)
    return Image(source, NAME, found.ranges, Kind.RAM, found.warnings, found.incomplete, found.details)


@dataclass(frozen=True, eq=False)
class Stream:
    """What a stream holds, as in ``Image``; the ranges are sorted by address, and do not overlap."""

    ranges: NDArray[Any]
    warnings: tuple[str, ...]
    incomplete: tuple[str, ...]
    details: dict[str, str]


def read_stream(source: Source, at: int = 0) -> Stream:
    """The stream that begins at offset ``at``.

    Of what was sent several times the last copy counts. Memory that the list of blocks has and the stream does not is
    excluded if the stream is whole, lost if it ends early or makes no sense from some place on. Raises ImageError
    where that is so before the first block is known, and for pages in a form that is not read.
    """
    reader = _Reader(source, at)
    try:
        reader.read()
        problem = ""
    except _EndError as end:
        problem = str(end)
        if not reader.blocks:
            raise ImageError(source.path, f"at {end.at:#x}", end.problem) from None
    return reader.found(problem)


class _EndError(Exception):
    """The stream can't be followed beyond ``at``."""

    def __init__(self, at: int, problem: str) -> None:
        super().__init__(f"at {at:#x}: {problem}")
        self.at, self.problem = at, problem


@dataclass
class _Block:
    """A RAM block; ``base`` is its address here. ``bitmap_at`` and ``pages_at`` are its mapped-ram's, -1 without, 0 if
    it was left out."""

    name: str
    bytes: int
    kind: Kind
    base: int = 0
    bitmap_at: int = -1
    pages_at: int = -1


@dataclass
class _Reader:
    """Follows a stream. What it found is there even where it could not go on."""

    source: Source
    start: int
    blocks: dict[str, _Block] = field(default_factory=dict)
    page_size: int = 0
    machine: str = ""
    capabilities: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._block = -1
        self._numbers: dict[bytes, int] = {}
        self._bases = self._lengths = np.empty(0, np.uint64)
        self._unlisted = 0
        self._postcopy = self._mapped = self._shared_left_out = False
        self._window, self._window_at = b"", 0
        self._rows = bytearray()
        self._settle_at = _MANY_RUNS * _RUN.itemsize

    # Bytes

    def _bytes(self, at: int, count: int) -> bytes:
        into = at - self._window_at
        if into < 0 or into + count > len(self._window):
            self._window, self._window_at, into = self.source.read(at, max(_WINDOW, count)), at, 0
            if len(self._window) < count:
                raise _EndError(self.source.size, "the file ends")
        return self._window[into : into + count]

    def _number(self, at: int, count: int) -> int:
        return int.from_bytes(self._bytes(at, count), "big")

    def _name(self, at: int) -> tuple[str, int]:
        """A name behind its length, and where it ends."""
        end = at + 1 + self._number(at, 1)
        return self._bytes(at + 1, end - at - 1).decode("latin-1"), end

    def _find(self, pattern: bytes, at: int, end: int) -> int:
        """Where ``pattern`` is next before about ``end``, -1 if it is not. Only for what does not tell its length."""
        while at + len(pattern) <= min(end, self.source.size):
            self._bytes(at, len(pattern))
            found = self._window.find(pattern, at - self._window_at)
            if found >= 0:
                return self._window_at + found
            at = self._window_at + len(self._window) - len(pattern) + 1
        return -1

    # Sections

    def read(self) -> None:
        """Follow the stream to the end of its RAM. Raises _EndError, ImageError, OSError."""
        at = self.start
        if self._bytes(at, 4) != MAGIC:
            raise _EndError(at, "no QEMU migration stream begins here")
        version = self._number(at + 4, 4)
        if version != _VERSION:
            raise _EndError(at + 4, f"stream version {version}, only {_VERSION} is known")
        at += 8
        if self._number(at, 1) == _CONFIGURATION:
            at = self._configuration(at + 1)
        at = self._before_ram(at)
        ram = self._number(at + 1, 4)
        at += 5 + len(_RAM_START)
        word = self._number(at, 8)
        if word & _FLAGS != _BLOCKS or word == _BLOCKS:
            raise _EndError(at, "the section ram does not begin with a list of RAM blocks")
        at = self._footer(self._records(self._block_list(at + 8, word - _BLOCKS)), ram)
        begun = False
        while True:
            kind = self._number(at, 1)
            if kind == _COMMAND:
                at = self._command(at)
            elif kind in (_PART, _END) and self._number(at + 1, 4) == ram:
                at, begun = self._records(at + 5), True
                if kind == _END:
                    return
                at = self._footer(at, ram)
            elif kind == _FULL and begun:
                return  # devices come behind all RAM, which in a background snapshot has no end of its own
            elif kind in (_START, _PART, _END, _FULL):
                at = self._other(at)
            else:
                raise _EndError(at, f"no section is of type {kind:#x}")

    def _configuration(self, at: int) -> int:
        length = self._number(at, 4)
        if length > _LONGEST_NAME:
            raise _EndError(at, f"the machine's name has {length} bytes")
        self.machine = self._bytes(at + 4, length).decode("latin-1")
        at += 4 + length
        while self._number(at, 1) == _SUBSECTION:
            name, at = self._name(at + 1)
            at += 4
            if name == "configuration/target-page-bits":
                bits = self._number(at, 4)
                if not 10 <= bits <= 21:
                    raise _EndError(at, f"pages of 2^{bits} bytes")
                self.page_size = 1 << bits
                at += 4
            elif name == "configuration/capabilities":
                count = self._number(at, 4)
                at += 4
                if count > _MOST_CAPABILITIES:
                    raise _EndError(at, f"{count} capabilities")
                for _ in range(count):
                    capability, at = self._name(at)
                    self.capabilities.append(capability)
            elif name == "configuration/uuid":
                at += 16
            else:
                break
        self._mapped = "mapped-ram" in self.capabilities
        self._shared_left_out = "x-ignore-shared" in self.capabilities
        return at

    def _before_ram(self, at: int) -> int:
        """Where the section ram begins. What comes before is passed over."""
        while self._number(at, 1) == _COMMAND:
            at = self._command(at)
        while True:
            name_at = self._find(_RAM_START, at, self.start + _FARTHEST)
            if name_at < 0:
                raise _EndError(at, "no section ram of version 4 follows")
            if name_at - 5 >= at and self._number(name_at - 5, 1) == _START:
                return name_at - 5
            at = name_at + 1

    def _command(self, at: int) -> int:
        command, length = self._number(at + 1, 2), self._number(at + 3, 2)
        if command in _POSTCOPY_BEGUN:
            problem = "the guest went on elsewhere before its memory had been sent (postcopy)"
            self._refuse(at, problem, "switch the capability postcopy-ram off")
        if command == _POSTCOPY_ADVISE and length == 16:
            self._postcopy = True
        return at + 5 + length

    def _refuse(self, at: int, problem: str, remedy: str) -> NoReturn:
        raise ImageError(self.source.path, f"at {at:#x}", problem, f"{remedy}, and save it again")

    def _footer(self, at: int, section: int) -> int:
        """Pass the footer of a section; machines before pc-2.4 write none."""
        if self._number(at, 1) != _FOOTER:
            return at
        found = self._number(at + 1, 4)
        if found != section:
            raise _EndError(at, f"section {section} ends as section {found}")
        return at + 5

    def _other(self, at: int) -> int:
        """Where a section ends that is not RAM's and does not say how long it is: behind the next such footer."""
        footer = bytes([_FOOTER]) + self._bytes(at + 1, 4)
        end = at
        while True:
            end = self._find(footer, end + 1, self.source.size)
            if end < 0:
                raise _EndError(at, "a section that is not of RAM has no end")
            behind = end + len(footer)
            if self._number(behind, 1) in (_EOF, _START, _END, _PART, _FULL, _COMMAND):
                return behind

    # RAM

    def _records(self, at: int) -> int:
        """Take a section's records; where they end."""
        while True:
            word = self._number(at, 8)
            flags = word & _FLAGS
            kind = flags & ~_CONTINUE
            if kind in (_PAGE, _ZERO) and not self._mapped:
                at = self._pages(at, word)
            elif word == _EOS:
                return at + 8
            elif word == _MULTIFD_FLUSH and self._mapped:
                at += 8
            elif kind in _REFUSED:
                self._refuse(at, *_REFUSED[kind])
            else:
                raise _EndError(at, f"no record begins with {word:#018x}")

    def _block_list(self, at: int, total: int) -> int:
        try:
            return self._listed(at, total)
        except _EndError:
            if not self._mapped:
                self.blocks.clear()  # no page has come yet
            raise
        finally:
            self._lay_out()

    def _lay_out(self) -> None:
        """Give each block its address, in the order of the list, largest first: the board's RAM, which is at 0 in most
        machines; backends; memory that can be plugged; at last what is not guest memory."""
        if self.blocks and all(block.kind == Kind.DEVICE for block in self.blocks.values()):
            max(self.blocks.values(), key=lambda block: block.bytes).kind = Kind.RAM
        base = 0
        for block in sorted(self.blocks.values(), key=_place):
            block.base = base
            base += -(-block.bytes // _ALIGNED) * _ALIGNED
        if base >= 1 << 63:
            raise ImageError(self.source.path, "list of RAM blocks", f"they have {base} bytes, more than can be")
        self._numbers = {name.encode("latin-1"): number for number, name in enumerate(self.blocks)}
        self._bases = np.array([block.base for block in self.blocks.values()], np.uint64)
        self._lengths = np.array([block.bytes for block in self.blocks.values()], np.uint64)

    def _listed(self, at: int, total: int) -> int:
        while total > 0:
            self._unlisted = total
            if len(self.blocks) >= _MOST_BLOCKS:
                raise _EndError(at, "more RAM blocks than a machine can have")
            name, end = self._name(at)
            length = self._number(end, 8)
            if not 0 < length <= total or name in self.blocks:
                raise _EndError(at, f"RAM block {printable(name)} of {length} bytes, of {total} that are left")
            at, total = end + 8, total - length
            block = _Block(name, length, Kind.DEVICE if _DEVICE.fullmatch(name) else Kind.RAM)
            if self._postcopy and _is_huge_page(self._number(at, 8)):
                at += 8
            if self._shared_left_out:
                at += 8
            if self._mapped:
                at = self._mapped_block(at, block)
            self.blocks[name] = block
        self._unlisted = 0
        return at

    def _mapped_block(self, at: int, block: _Block) -> int:
        header: tuple[int, int, int, int] = _MAPPED.unpack(self._bytes(at, _MAPPED.size))
        version, page_size, bitmap_at, pages_at = header
        if version != 1:
            raise _EndError(at, f"mapped-ram version {version}, only 1 is known")
        if page_size not in _PAGE_SIZES or self.page_size not in (0, page_size):
            raise _EndError(at, f"pages of {page_size} bytes in the block {printable(block.name)}")
        self.page_size = page_size
        at += _MAPPED.size
        if not (bitmap_at or pages_at):
            block.bitmap_at = block.pages_at = 0  # of x-ignore-shared: nothing is there
            return at
        if _bitmap_bytes(block.bytes, page_size) > _MOST_BITMAP_BYTES:
            raise _EndError(at, f"{block.bytes} bytes of {printable(block.name)} are beyond belief")
        if bitmap_at < at or pages_at < bitmap_at + _bitmap_bytes(block.bytes, page_size):
            raise _EndError(at, f"pages of {printable(block.name)} at {pages_at:#x}, their bitmap at {bitmap_at:#x}")
        block.bitmap_at, block.pages_at = bitmap_at, pages_at
        return pages_at + block.bytes

    def _pages(self, at: int, word: int) -> int:
        """Take all records of pages from ``at`` on, as far as the window goes, one at least; where they end."""
        if not self.page_size:
            self.page_size = self._guess_page_size(at)
        payload = self.page_size if word & _PAGE else 1
        self._bytes(at, 8 + payload if word & _CONTINUE else 9 + self._number(at + 8, 1) + payload)
        found, end = self._walk(at)
        if not len(found):
            self._wrong(at, word)
        which = np.repeat(np.arange(len(found)), found["count"])
        number = np.arange(len(which)) - np.repeat(np.cumsum(found["count"]) - found["count"], found["count"])
        stride = np.where(found["kind"] == _PAGE, self.page_size + 8, 9)
        records = found["at"][which] + number * stride[which]
        self._take(records, found[which])
        return end

    def _wrong(self, at: int, word: int) -> NoReturn:
        """Say what is wrong with a record."""
        if word & (self.page_size - 1) & ~_FLAGS:
            problem = f"no page of {self.page_size} bytes begins at {word & ~_FLAGS:#x}"
        elif word & _CONTINUE:
            problem = "a record goes on with a block, and there is none yet"
        else:
            problem = f"a page of {printable(self._name(at + 8)[0])}, which is not in the list of RAM blocks"
        raise _EndError(at, problem)

    def _walk(self, at: int) -> tuple[NDArray[Any], int]:
        """Runs of equal records, as many as follow each other in the window, a ``_RECORDS`` array; where they end."""
        page, window, base, names = self.page_size, self._window, self._window_at, self._numbers
        sizes = {_PAGE | _CONTINUE: page + 8, _ZERO | _CONTINUE: 9}
        found: list[tuple[int, int, int, int, int]] = []
        into, low, last, block = at - base, page - 1, len(window) - 8, self._block
        while into <= last:
            flags = _U64.unpack_from(window, into)[0] & low
            start, head, count = into, 8, 1
            size = sizes.get(flags, 0) if block >= 0 else 0
            if not size and flags in (_PAGE, _ZERO) and into < last:
                head = 9 + window[into + 8]
                size = head + (page if flags == _PAGE else 1)
                number = names.get(window[into + 9 : into + head])
                if number is None:
                    break
                if into + size <= len(window):
                    block = number
            if not size or into + size > len(window):
                break
            into += size
            if head == 8:
                # Pages and zeros may take turns: up to some records, this is faster than numpy.
                while count < _FEW and into <= last and _U64.unpack_from(window, into)[0] & low == flags:
                    count += 1
                    into += size
                if count == _FEW or into > len(window):
                    count = self._run(base + start, flags, size, page)
                    into = start + count * size
            found.append((base + start, count, flags & ~_CONTINUE, head, block))
        self._block = block
        return np.array(found, _RECORDS), base + into

    def _run(self, at: int, flags: int, size: int, page_size: int) -> int:
        """How many records of one kind and ``size`` follow each other from ``at`` on, as far as the window goes."""
        self._bytes(at, size)
        into = at - self._window_at
        most = (len(self._window) - into) // size
        count = min(4 * _FEW, most)
        while True:
            words: NDArray[Any] = np.ndarray(count, ">u8", self._window, into, (size,))
            fits = (words & np.uint64(page_size - 1)) == flags
            if count == most or not fits.all():
                break
            count = min(8 * count, most)
        return int(fits.argmin()) or count

    def _take(self, records: NDArray[np.int64], of: NDArray[Any]) -> None:
        """Keep pages: where in the window their records begin, and for each what sort it is of."""
        page = self.page_size
        words: NDArray[Any] = np.ndarray(len(self._window) - 7, ">u8", self._window, 0, (1,))
        addresses = words[records - self._window_at].astype(np.uint64) & ~np.uint64(page - 1)
        beyond = addresses >= self._lengths[of["block"]]
        sound = int(beyond.argmax()) if beyond.any() else len(records)
        places = (records + of["head"])[:sound]
        state = np.full(sound, State.DATA, np.uint8)
        zero = of["kind"][:sound] == _ZERO
        # Long ago a page could be told by any byte. Such a page lies nowhere in the file.
        fill = np.frombuffer(self._window, np.uint8)[places[zero] - self._window_at]
        state[zero] = np.where(fill == 0, np.uint8(State.ZERO), np.uint8(State.LOST))
        places[zero] = -1
        starts = (addresses + self._bases[of["block"]])[:sound]
        goes_on = (starts[1:] - starts[:-1] == page) & (state[1:] == state[:-1])
        goes_on &= of["block"][1:sound] == of["block"][: max(0, sound - 1)]
        goes_on &= (places[1:] - places[:-1] == page + 8) | (places[1:] < 0)
        heads = np.flatnonzero(np.concatenate([np.ones(min(sound, 1), np.bool_), ~goes_on]))
        runs = np.zeros(len(heads), _RUN)
        runs["address"], runs["offset"], runs["state"] = starts[heads], places[heads], state[heads]
        runs["pages"] = np.diff(heads, append=sound)
        self._rows += runs.tobytes()
        if len(self._rows) >= self._settle_at:
            self._rows = bytearray(_settled(np.frombuffer(self._rows, _RUN), page, page + 8).tobytes())
            self._settle_at = max(2 * len(self._rows), self._settle_at)
        if sound < len(records):
            where, length = int(addresses[sound]), int(self._lengths[of["block"][sound]])
            raise _EndError(int(records[sound]), f"a page at {where:#x} of a block of {length} bytes")

    def _guess_page_size(self, at: int) -> int:
        """The page size of a machine that has only one, and so does not tell: with it, a record follows a page."""
        try:
            while True:
                word = self._number(at, 8)
                flags = word & _FLAGS
                if flags == _ZERO | _CONTINUE:
                    at += 9 * self._run(at, flags, 9, min(_PAGE_SIZES))
                    continue
                at = at + 8 if flags & _CONTINUE else self._name(at + 8)[1]
                if flags & ~_CONTINUE == _PAGE:
                    return next(size for size in _PAGE_SIZES if self._is_record(at + size, size))
                if flags != _ZERO:
                    break
                at += 1
        except (_EndError, StopIteration):
            pass
        return _PAGE_SIZES[0]

    def _is_record(self, at: int, page_size: int) -> bool:
        word = self._number(at, 8) if at + 8 <= self.source.size else 0
        sort = word & (page_size - 1)
        longest = max(block.bytes for block in self.blocks.values())
        return word == _EOS or (sort & ~_CONTINUE in (_PAGE, _ZERO) and word - sort < longest)

    # What was found

    def found(self, problem: str) -> Stream:
        """All of it, where ``problem`` is why the stream could not be followed to its end."""
        page = self.page_size or _PAGE_SIZES[0]
        runs = np.frombuffer(self._rows, _RUN)
        if self._mapped:
            stride = page
            blocks = sorted(self.blocks.values(), key=lambda block: block.base)
            parts = [self._mapped_runs(block, page, whole=not problem) for block in blocks if block.pages_at > 0]
            runs = np.concatenate([runs, *parts])
        else:
            stride = page + 8
            runs = _settled(runs, page, stride)
        state = State.LOST if problem else State.EXCLUDED
        gaps = [_gaps(runs, block, page, state) for block in self.blocks.values()]
        runs = np.concatenate([runs, *gaps])
        ranges = _ranges(runs[np.argsort(runs["address"], kind="stable")], page, stride)
        for block in self.blocks.values():
            if block.kind == Kind.DEVICE:
                edges = np.array([block.base, block.base + block.bytes], np.uint64)
                first, last = np.searchsorted(ranges["address"], edges)
                ranges["kind"][first:last] = Kind.DEVICE
        memory = ranges[ranges["kind"] == Kind.RAM]
        lost = total_bytes(memory[memory["state"] == State.LOST])
        left_out = total_bytes(memory[memory["state"] == State.EXCLUDED])
        incomplete: tuple[str, ...] = ()
        if problem:
            more = f", {self._unlisted} bytes in blocks that it does not come to" if self._unlisted else ""
            incomplete = (
                f"{problem}, in the middle of the stream: {lost} bytes of memory are lost{more}, and the others may be"
                " of different moments",
            )
        elif lost:
            incomplete = (f"{lost} bytes of memory are told by one byte a page, not zero: they are lost",)
        warnings: tuple[str, ...] = ()
        if left_out:
            warnings = (
                f"{left_out} bytes of its RAM are not in the stream (shared memory with x-ignore-shared, free pages,"
                " memory that is not plugged): not known",
            )
        return Stream(ranges, warnings, incomplete, self._details(page))

    def _details(self, page: int) -> dict[str, str]:
        blocks = sorted(self.blocks.values(), key=lambda block: block.base)

        def listed(kind: Kind) -> str:
            named = [f"{each.name} ({each.bytes} bytes at {each.base:#x})" for each in blocks if each.kind == kind]
            more = f", and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
            return ", ".join(named[:_SHOWN]) + more or "none"

        return {
            "machine": self.machine or "not told",
            "layout": "mapped-ram" if self._mapped else "stream of pages",
            "page size": str(page),
            "RAM blocks": listed(Kind.RAM),
            "devices' blocks": listed(Kind.DEVICE),
            "addresses": "offsets in the RAM blocks, one behind the other, which need not be physical addresses",
        }

    def _mapped_runs(self, block: _Block, page: int, *, whole: bool) -> NDArray[Any]:
        """Pages of a block with mapped-ram, sorted, as far as the file goes.

        The bitmap is written last of all. As long as nothing is set in it, it may not have been written.
        """
        pages = min(-(-block.bytes // page), max(0, self.source.size - block.pages_at) // page)
        parts = []
        for first in range(0, pages, 8 * _BITMAP_PART):
            count = min(8 * _BITMAP_PART, pages - first)
            bitmap = np.frombuffer(self.source.read(block.bitmap_at + first // 8, -(-count // 8)), np.uint8)
            bits = np.unpackbits(bitmap, count=min(count, 8 * len(bitmap)), bitorder="little")
            if not len(bits):
                break
            heads = np.flatnonzero(np.concatenate([[True], bits[1:] != bits[:-1]]))
            runs = np.zeros(len(heads), _RUN)
            runs["address"] = block.base + (first + heads) * page
            runs["pages"] = np.diff(heads, append=len(bits))
            present = bits[heads] == 1
            runs["offset"] = np.where(present, block.pages_at + (first + heads) * page, -1)
            runs["state"] = np.where(present, np.uint8(State.DATA), np.uint8(State.ZERO))
            parts.append(runs)
        found = np.concatenate([np.empty(0, _RUN), *parts])
        return found if whole or (found["state"] == State.DATA).any() else found[:0]


def _place(block: _Block) -> tuple[Kind, bool, bool]:
    if block.kind == Kind.DEVICE:
        return block.kind, False, False
    pluggable = "/" in block.name and not block.name.startswith("/objects/")
    return block.kind, pluggable, not block.name.endswith("ram")


def _is_huge_page(number: int) -> bool:
    """Whether what follows a block's length can be the size of its pages: a next name would have a length first."""
    return 1 << 10 <= number <= 1 << 40 and number & (number - 1) == 0


def _bitmap_bytes(length: int, page_size: int) -> int:
    return -(-length // (8 * page_size))


def _settled(runs: NDArray[Any], page: int, stride: int) -> NDArray[Any]:
    """Runs sorted by address, each address once: of runs that meet, the parts that come last in the array."""
    size = np.uint64(page)
    order = np.argsort(runs["address"], kind="stable")
    ascending = runs[order]
    reach = np.maximum.accumulate(ascending["address"] + ascending["pages"] * size)
    meets = ascending["address"][1:] < reach[:-1]
    if not meets.any():
        return ascending
    crowded = np.concatenate([[False], meets]) | np.concatenate([meets, [False]])
    contested = runs[np.sort(order[crowded])]
    start = contested["address"]
    end = start + contested["pages"] * size
    # Cut each at every place where one begins or ends: then two pieces are of the same pages, or have none in common.
    cuts = np.unique(np.concatenate([start, end]))
    low = np.searchsorted(cuts, start)
    count = np.searchsorted(cuts, end) - low
    whose = np.repeat(np.arange(len(contested)), count)
    piece = np.arange(len(whose)) - np.repeat(np.cumsum(count) - count - low, count)
    by_place = np.argsort(piece, kind="stable")
    lasts = by_place[np.append(piece[by_place][1:] != piece[by_place][:-1], True)]
    piece = piece[lasts]
    won = contested[whose[lasts]]
    skipped = (cuts[piece] - won["address"]) // size
    won["offset"] += np.where(won["offset"] >= 0, skipped.astype(np.int64) * stride, 0)
    won["address"] = cuts[piece]
    won["pages"] = (cuts[piece + 1] - cuts[piece]) // size
    both = np.concatenate([ascending[~crowded], won])
    return both[np.argsort(both["address"], kind="stable")]


def _gaps(runs: NDArray[Any], block: _Block, page: int, state: State) -> NDArray[Any]:
    """What sorted runs leave of a block, as runs of this state."""
    end = block.base + -(-block.bytes // page) * page
    first, last = np.searchsorted(runs["address"], np.array([block.base, end], np.uint64))
    inside = runs[first:last]
    ends = np.append(inside["address"], np.uint64(end))
    starts = np.insert(inside["address"] + inside["pages"] * np.uint64(page), 0, np.uint64(block.base))
    open_ = ends > starts
    gaps = np.zeros(int(open_.sum()), _RUN)
    gaps["address"] = starts[open_]
    gaps["pages"] = (ends - starts)[open_] // np.uint64(page)
    gaps["offset"] = -1
    gaps["state"] = state
    return gaps


def _ranges(runs: NDArray[Any], page: int, stride: int) -> NDArray[Any]:
    """Runs as ranges: one each, or one a page where there is something between the pages."""
    apart = (runs["state"] == State.DATA) & (stride != page)
    count = np.where(apart, runs["pages"].astype(np.int64), 1)
    into = np.concatenate([[0], np.cumsum(count)])
    ranges = np.zeros(int(into[-1]), RANGE)
    ranges["kind"] = Kind.RAM
    # Some at a time: what is computed of them takes many times the memory of what is kept.
    for first in range(0, len(runs), _AT_ONCE):
        some, counts = runs[first : first + _AT_ONCE], count[first : first + _AT_ONCE]
        whose = np.repeat(np.arange(len(some)), counts)
        number = np.arange(len(whose)) - np.repeat(np.cumsum(counts) - counts, counts)
        part = ranges[into[first] : into[first + len(some)]]
        part["address"] = some["address"][whose] + (number * page).astype(np.uint64)
        part["bytes"] = np.where(apart[first : first + _AT_ONCE], np.uint64(1), some["pages"])[whose] * np.uint64(page)
        part["offset"] = some["offset"][whose] + number * stride
        part["state"] = some["state"][whose]
    return ranges
