"""Compressed blocks of a dump, decoded into a spool file: here, or by processes that each do a part of them.

The one place where Python is called for each page. Codecs give back a page in two to fifteen microseconds, too few for
threads to gain by it: with the lock of the interpreter they take as long as one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pageshare import limits
from pageshare.images.codecs import Codec, Decode, MissingCodecError, decoder
from pageshare.images.image import Image, ImageError, Source
from pageshare.images.ranges import RANGE, State
from pageshare.images.rearranged import Rearranged, read_pieces
from pageshare.images.spool import ZEROS, Spool, spool_folder, write_all, write_nonzero

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = np.dtype(
    [
        ("offset", "<u8"),
        ("into", "<u8"),
        ("bytes", "<u4"),
        ("length", "<u4"),
        ("codec", "u1"),
    ]
)
"""A compressed block: ``bytes`` at ``offset`` of the dump hold ``length`` bytes of memory, which go to ``into`` in the
spool. Of blocks of one page it is a multiple of 4096; longer ones best lie there as they do in memory."""

BATCH = 1 << 12
"""How many blocks a process is given at a time."""
LONGEST = 1 << 24
"""Bytes of a block, compressed or not: no format has larger ones."""
FEW = 256 << 20
"""Up to so many decoded bytes other processes would not be worth their start."""

_TOGETHER = 1 << 18  # bytes of memory that are read, decoded and written together
_MUCH = 16  # what is compressed so well may be zeros
_COUNT = struct.Struct("<Q")

Progress = Callable[[int], object]
"""Called with the decoded bytes so far."""


@dataclass(frozen=True, eq=False)
class Compressed:
    """What of a dump has to be decoded before it can be looked at.

    ``batches()`` gives ``BLOCK`` arrays of any length, anew each time it is called; ``size`` is what they come to in
    the spool, bytes, which lies in ``folder`` (see ``How.spool``); ``codecs`` are those that occur.
    """

    source: Source
    batches: Callable[[], Iterator[NDArray[Any]]]
    size: int
    codecs: Sequence[Codec]
    folder: str | None = None

    def check_codecs(self) -> None:
        """Raise ImageError if a package is missing, with the line that adds it."""
        for codec in self.codecs:
            try:
                decoder(codec, 4096)
            except MissingCodecError as error:
                raise ImageError(self.source.path, "", str(error), error.remedy) from None


@dataclass(frozen=True, eq=False)
class Failed:
    """Blocks that could not be decoded, a ``BLOCK`` array, and why the first of them was not."""

    blocks: NDArray[Any]
    why: str = ""


def decoded(
    image: Image, *, workers: int | None = None, progress: Progress = lambda _done: None
) -> Image:
    """The image with everything decoded into a spool file, which is one more file of its payload.

    What was sound already is given back as it is. ``workers`` processes do it, this one among them (default: as many as
    there are CPUs, or one for a small dump). Blocks that are not sound are lost. Raises ImageError where there is no
    room or a codec is missing, OSError where the dump can't be read.
    """
    if image.compressed is None:
        return image
    source, failed = decode(image.compressed, workers=workers, progress=progress)
    ranges, incomplete = image.ranges, image.incomplete
    if len(failed.blocks):
        ranges = _without(ranges, len(image.payload), failed.blocks)
        lost = int(failed.blocks["length"].sum())
        incomplete += (
            f"{len(failed.blocks)} compressed blocks are damaged, the first {failed.why}:"
            f" {lost} bytes of memory are lost",
        )
    others = (*image.others, source)
    return replace(image, ranges=ranges, incomplete=incomplete, others=others, compressed=None)


def _without(ranges: NDArray[Any], file: int, blocks: NDArray[Any]) -> NDArray[Any]:
    """The ranges, those of ``file`` cut where ``blocks`` should have gone, and these as lost."""
    blocks = blocks[np.argsort(blocks["into"])]
    lost_from, lost_to = blocks["into"].astype(np.int64), (blocks["into"] + blocks["length"]).astype(np.int64)
    spooled = (ranges["file"] == file) & (ranges["state"] == State.DATA)
    numbers = np.flatnonzero(spooled)
    numbers = numbers[np.argsort(ranges["offset"][numbers], kind="stable")]
    starts = ranges["offset"][numbers]
    ends = starts + ranges["bytes"][numbers].astype(np.int64)
    # Each edge begins a piece; the last one that begins at or before it says what range, and whether it is lost.
    edges = np.unique(np.concatenate([starts, ends, lost_from, lost_to]))
    of = np.searchsorted(starts, edges, side="right") - 1
    inside = (of >= 0) & (edges < ends[of])
    at = np.searchsorted(lost_from, edges, side="right") - 1
    lost = (at >= 0) & (edges < lost_to[at])
    pieces = ranges[numbers[of]][:-1]
    skipped = edges[:-1] - pieces["offset"]
    pieces["address"] += skipped.astype(np.uint64)
    pieces["bytes"] = np.diff(edges)
    pieces["offset"] = np.where(lost[:-1], -1, edges[:-1])
    pieces["state"] = np.where(lost[:-1], State.LOST, State.DATA)
    pieces["file"] = np.where(lost[:-1], 0, file)
    inside = inside[:-1]
    order = np.concatenate([np.flatnonzero(~spooled), numbers[of[:-1][inside]]])
    return np.concatenate([ranges[~spooled], pieces[inside]])[np.argsort(order, kind="stable")]


def decode(compressed: Compressed, *, workers: int | None, progress: Progress) -> tuple[Source, Failed]:
    """Decode all blocks into a spool file; that file, and the blocks that were not sound. See ``decoded``."""
    compressed.check_codecs()
    spool = Spool(compressed.source.path, compressed.folder, need=compressed.size)
    if workers is None:
        workers = limits.cpus() if compressed.size > FEW and sys.executable else 1
    try:
        failed = _run(compressed, spool, workers, progress)
    except WriteError as error:
        with spool.explained():
            raise OSError(error.errno, error.strerror) from None
    return spool.as_source(compressed.size, None), failed


class WriteError(OSError):
    """The spool could not be written to."""


def _batches(compressed: Compressed) -> Iterator[NDArray[Any]]:
    for blocks in compressed.batches():
        for first in range(0, len(blocks), BATCH):
            yield blocks[first : first + BATCH]


def _together(parts: Sequence[tuple[NDArray[Any], str]]) -> Failed:
    found = sorted((part for part in parts if len(part[0])), key=lambda part: int(part[0]["into"][0]))
    if not found:
        return Failed(np.empty(0, BLOCK))
    return Failed(np.concatenate([blocks for blocks, _ in found]), found[0][1])


Read = Callable[[int, int], bytes]
"""So many bytes of a dump from an offset on, fewer at its end. Raises OSError."""


def decode_blocks(read: Read, spool: int, blocks: NDArray[Any]) -> tuple[list[int], str]:
    """Decode from a dump into an open file; the numbers of the blocks that could not be, and why the first.

    Raises OSError.
    """
    failed: list[int] = []
    why = ""
    # Each codec and length by itself: that leaves a loop of nothing but calls of the codec.
    kinds = blocks["codec"].astype(np.uint64) << np.uint64(32) | blocks["length"]
    for kind in np.unique(kinds).tolist():
        codec, length = Codec(kind >> 32), kind & 0xFFFF_FFFF
        members = np.flatnonzero(kinds == kind)
        some = blocks[members]
        decode = decoder(codec, length)
        for group, compressed in _read(read, some, length):
            try:
                memory = decode(compressed)
                sound = set(map(len, memory)) == {length}
            except Exception:
                sound = False
            if sound and group.in_a_row:
                _write_in_a_row(spool, memory, group.into)
                continue
            these = some[group.first : group.last]
            if not sound:
                memory, wrong, reason = _one_by_one(decode, compressed, length)
                if wrong:
                    why = why or f"at {int(these['offset'][wrong[0]]):#x}: {reason}"
                    failed += members[group.first : group.last][wrong].tolist()
                    kept = np.delete(np.arange(len(these)), wrong)
                    these, memory = these[kept], [memory[each] for each in kept.tolist()]
            _write(spool, these, memory, length)
    return failed, why


def _one_by_one(decode: Decode, compressed: Sequence[Any], length: int) -> tuple[list[Any], list[int], str]:
    """The decoded blocks, which of them are none, and why the first of those."""
    memory: list[Any] = []
    wrong: list[int] = []
    why = ""
    for number, block in enumerate(compressed):
        page: Any = b""
        try:
            page = bytes(decode([block])[0])
            reason = f"{len(page)} bytes instead of {length}"
        except Exception as error:  # each codec has its own
            reason = str(error) or type(error).__name__
        if len(page) != length:
            wrong.append(number)
            why = why or reason
        memory.append(page)
    return memory, wrong, why


class _Group(NamedTuple):
    """Blocks that are read, decoded and written together: those from ``first`` to ``last``.

    ``in_a_row``: they lie so in the spool too, from ``into`` on, and are pages of which none is so short that it may be
    zeros.
    """

    first: int
    last: int
    into: int
    in_a_row: bool


def _read(read: Read, blocks: NDArray[Any], length: int) -> Iterator[tuple[_Group, list[Any]]]:
    """The compressed bytes of blocks of one length, some at a time: few enough to stay in the CPU's caches.

    Read with one call where they lie close together, as they do. Short at the file's end.
    """
    count = max(1, _TOGETHER // max(1, length))
    first = np.arange(0, len(blocks), count)
    starts = blocks["offset"]
    ends = starts + blocks["bytes"]
    low, high = np.minimum.reduceat(starts, first), np.maximum.reduceat(ends, first)
    held = np.add.reduceat(blocks["bytes"].astype(np.uint64), first)
    close = high - low <= 2 * held + np.uint64(_TOGETHER)
    follows = np.append(np.diff(blocks["into"]) == length, True)
    follows[first[1:] - 1] = True  # the last of a group is followed by none
    pages = (blocks["bytes"] > length // _MUCH) & (length <= ZEROS)
    in_a_row = np.logical_and.reduceat(follows & pages, first)
    within = np.repeat(low, np.diff(first, append=len(blocks)))
    # Python's numbers once for all: numpy's cost more than a codec does.
    slices = list(map(slice, (starts - within).tolist(), (ends - within).tolist()))
    groups = zip(
        *(each.tolist() for each in (first, blocks["into"][first], in_a_row, low, high, close)), strict=True
    )
    for number, into, row, start, end, together in groups:
        last = min(number + count, len(blocks))
        if together:
            data = memoryview(read(start, end - start))
            compressed: list[Any] = [data[each] for each in slices[number:last]]
        else:
            compressed = [read(start + each.start, each.stop - each.start) for each in slices[number:last]]
        yield _Group(number, last, into, row), compressed


def _write(fd: int, blocks: NDArray[Any], memory: Sequence[Any], length: int) -> None:
    """Put decoded blocks where they belong, zeros left out."""
    try:
        if length > ZEROS:
            for first, last in _neighbours(blocks["into"], length):
                write_nonzero(fd, b"".join(memory[first:last]), int(blocks["into"][first]))
        else:
            _write_pages(fd, blocks, memory, length)
    except OSError as error:
        raise WriteError(error.errno, error.strerror) from error


def _write_in_a_row(fd: int, memory: Sequence[Any], into: int) -> None:
    try:
        write_all(fd, memory, into)
    except OSError as error:
        raise WriteError(error.errno, error.strerror) from error


def _write_pages(fd: int, blocks: NDArray[Any], memory: Sequence[Any], length: int) -> None:
    """Neighbours together; only what compresses best is looked at for zeros."""
    zeros = bytes(length)
    short = np.flatnonzero(blocks["bytes"] <= length // _MUCH).tolist()
    zero = [number for number in short if bytes(memory[number]) == zeros]
    into = blocks["into"]
    if zero:
        kept = np.delete(np.arange(len(memory)), zero)
        into, memory = into[kept], [memory[number] for number in kept.tolist()]
    for first, last in _neighbours(into, length):
        write_all(fd, memory[first:last], int(into[first]))


def _neighbours(into: NDArray[np.uint64], length: int) -> Iterator[tuple[int, int]]:
    """(first, end) of each run of blocks that lie one behind the other."""
    edges = (np.flatnonzero(np.diff(into) != length) + 1).tolist()
    return pairwise([0, *edges, len(into)]) if len(into) else iter(())


def _run(compressed: Compressed, spool: Spool, workers: int, progress: Progress) -> Failed:
    """Decode here, and in other processes, each of which is fed by a thread."""
    batches = _batches(compressed)
    lock, over = threading.Lock(), threading.Event()
    parts: list[tuple[NDArray[Any], str]] = []
    errors: list[BaseException] = []
    done = 0

    def take() -> NDArray[Any] | None:
        with lock:
            return None if over.is_set() else next(batches, None)

    def keep(blocks: NDArray[Any], failed: list[int], why: str) -> None:
        nonlocal done
        with lock:
            parts.append((blocks[failed], why))
            done += int(blocks["length"].sum())

    def feed(worker: subprocess.Popen[bytes], ended: threading.Event) -> None:
        try:
            while (blocks := take()) is not None:
                keep(blocks, *_ask(worker, blocks))
        except BaseException as error:
            errors.append(error)
            over.set()
        finally:
            ended.set()

    with contextlib.ExitStack() as stack:
        table = stack.enter_context(_table(compressed.source)) if workers > 1 else None
        started = [
            stack.enter_context(_worker(compressed.source.fd, spool.file.fd, table)) for _ in range(workers - 1)
        ]
        ends = [threading.Event() for _ in started]
        threads = [
            threading.Thread(target=feed, args=each, daemon=True) for each in zip(started, ends, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            while (blocks := take()) is not None:
                keep(blocks, *decode_blocks(compressed.source.read, spool.file.fd, blocks))
                progress(done)
            for end in ends:
                while not end.wait(0.1):
                    progress(done)
        finally:
            over.set()
            for worker in started:
                worker.kill()
            for thread in threads:
                thread.join()
    if errors:
        raise errors[0]
    progress(done)
    return _together(parts)


_START = "import sys; sys.path[:] = {path!r}; from pageshare.images.blocks import work; work{files}"


@contextlib.contextmanager
def _table(source: Source) -> Iterator[int | None]:
    """An open file with the table by which a dump is put together, None for one that lies in a row."""
    if not isinstance(source, Rearranged):
        yield None
        return
    with tempfile.TemporaryFile(dir=spool_folder()) as file:
        file.write(source.table.tobytes())
        file.flush()
        yield file.fileno()


@contextlib.contextmanager
def _worker(dump: int, spool: int, table: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that decodes from one open file into the other; it ends with us."""
    with subprocess.Popen(
        [sys.executable, "-c", _START.format(path=sys.path, files=(dump, spool, table))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[fd for fd in (dump, spool, table) if fd is not None],
        start_new_session=True,  # so that Ctrl-C reaches us alone
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            # What it did not take any more is still in the buffer: that it can't be written is no news.
            with contextlib.suppress(BrokenPipeError):
                if process.stdin:
                    process.stdin.close()


def _ask(worker: subprocess.Popen[bytes], blocks: NDArray[Any]) -> tuple[list[int], str]:
    """Have a worker decode some blocks. Raises OSError, also where it ended."""
    line = b""
    with contextlib.suppress(BrokenPipeError):
        if worker.stdin and worker.stdout:
            worker.stdin.write(_COUNT.pack(len(blocks)) + blocks.tobytes())
            worker.stdin.flush()
            line = worker.stdout.readline()
    if not line:
        raise ChildProcessError(f"process {worker.pid}, which decoded a part of the dump, ended by itself")
    answer = json.loads(line)
    if "errno" in answer:
        raise (WriteError if answer["writing"] else OSError)(answer["errno"], answer["why"])
    return answer["failed"], answer["why"]


def work(dump: int, spool: int, table: int | None = None) -> None:
    """What such a process does: blocks come on stdin, behind their number; for each such batch a line goes out."""

    def read(at: int, count: int) -> bytes:
        return os.pread(dump, count, at)

    if table is not None:
        read = functools.partial(read_pieces, np.memmap(os.fdopen(table, "rb"), RANGE, "r"), read)
    while len(count := sys.stdin.buffer.read(_COUNT.size)) == _COUNT.size:
        blocks = np.frombuffer(sys.stdin.buffer.read(_COUNT.unpack(count)[0] * BLOCK.itemsize), BLOCK)
        try:
            failed, why = decode_blocks(read, spool, blocks)
            answer: dict[str, object] = {"failed": failed, "why": why}
        except OSError as error:
            answer = {"errno": error.errno, "why": error.strerror, "writing": isinstance(error, WriteError)}
        print(json.dumps(answer), flush=True)
