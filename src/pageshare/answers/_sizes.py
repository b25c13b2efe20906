"""How small pages get: each by itself, and as a patch to another page; here, or by processes that each do a part.

The codecs are called for each page from Python, and take some ten microseconds each time: too few for threads to gain
by it.
"""

from __future__ import annotations

import contextlib
import importlib
import queue
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.core import Control

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODECS = ("lz4", "zstd -1", "zstd -3")
PATCHES = "zstd -1 --patch-from"
"""What makes patches: zstd with the other page as its dictionary. Its match finder and its entropy coder see a page
that is compressed and the page that it resembles alike, so part of what a patch saves is compression."""

_START = "import sys; sys.path[:] = {path!r}; from pageshare.answers._sizes import work; work({page_size})"
_HEAD = struct.Struct("<3Q")

NO_PATCH = 2**32 - 1
"""Size of the patch of a page that has no reference."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Pages to be measured, shape (pages, page_size), and what they may be patched against, shape (references,
    page_size): ``pairs`` (uint32, shape (pairs, 2)) are (reference, page), by ascending reference."""

    pages: NDArray[np.uint8]
    references: NDArray[np.uint8]
    pairs: NDArray[np.uint32]


Measure = Callable[[Batch], "NDArray[np.uint32]"]


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(
            f"similar pages can't be measured without the package {name}: pip install 'pageshare[codecs]'"
        ) from None


def measure_with(page_size: int) -> Measure:
    """What gives the sizes of a batch in bytes: shape (pages, 1 + codecs), the smallest patch of each page first
    (``NO_PATCH`` where there is no reference), then what it takes alone with each of ``CODECS``.

    Frames of zstd are without magic number, checksum and size, blocks of lz4 without size. Raises ValueError where a
    package is missing.
    """
    zstandard, lz4 = _package("zstandard"), _package("lz4.block")

    def settings(level: int, dictionary: int) -> Any:
        return zstandard.ZstdCompressionParameters.from_level(
            level,
            source_size=page_size,
            dict_size=dictionary,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=False,
            write_checksum=False,
            write_dict_id=False,
        )

    patching = settings(1, page_size)
    alone = [
        partial(lz4.compress, store_size=False),
        *(zstandard.ZstdCompressor(compression_params=settings(level, 0)).compress for level in (1, 3)),
    ]

    def against(reference: bytes) -> Any:
        dictionary = zstandard.ZstdCompressionDict(reference, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=patching).compress

    def measure(batch: Batch) -> NDArray[np.uint32]:
        pages = [page.tobytes() for page in batch.pages]
        sizes = np.full((len(pages), 1 + len(alone)), NO_PATCH, np.uint32)
        for codec, compress in enumerate(alone, 1):
            sizes[:, codec] = [len(compress(page)) for page in pages]
        for number, pairs in groupby(batch.pairs.tolist(), key=itemgetter(0)):
            compress = against(batch.references[number].tobytes())
            for _, page in pairs:
                sizes[page, 0] = min(int(sizes[page, 0]), len(compress(pages[page])))
        return sizes

    return measure


def measured(batches: Iterable[Batch], page_size: int, workers: int, control: Control) -> Iterator[NDArray[np.uint32]]:
    """The sizes of each batch, in order, by ``workers`` processes; here, if that is one. Raises ``Stopped``, ValueError
    where a package is missing, OSError where a process ended."""
    measure = measure_with(page_size)
    if workers < 2:
        for batch in batches:
            control.check()
            yield measure(batch)
        return
    free: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def ask(batch: Batch) -> NDArray[np.uint32]:
        worker = free.get()
        try:
            return _ask(worker, batch)
        finally:
            free.put(worker)

    with ThreadPoolExecutor(workers) as pool, contextlib.ExitStack() as stack:
        for _ in range(workers):
            free.put(stack.enter_context(_worker(page_size)))
        asked: deque[Future[NDArray[np.uint32]]] = deque()
        try:
            for batch in batches:
                control.check()
                asked.append(pool.submit(ask, batch))
                if len(asked) > 2 * workers:
                    yield asked.popleft().result()
            while asked:
                control.check()
                yield asked.popleft().result()
        finally:
            for future in asked:
                future.cancel()


@contextlib.contextmanager
def _worker(page_size: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that measures; it ends with us."""
    with subprocess.Popen(
        [sys.executable, "-c", _START.format(path=sys.path, page_size=page_size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # so that Ctrl-C reaches us alone
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # what it has not read
                process.stdin.close()  # type: ignore[union-attr]


def _ask(worker: subprocess.Popen[bytes], batch: Batch) -> NDArray[np.uint32]:
    sizes = np.empty((len(batch.pages), 1 + len(CODECS)), np.uint32)
    got = b""
    with contextlib.suppress(BrokenPipeError):
        if worker.stdin and worker.stdout:
            worker.stdin.write(_HEAD.pack(len(batch.pages), len(batch.references), len(batch.pairs)))
            for array in (batch.pages, batch.references, batch.pairs):
                worker.stdin.write(array.tobytes())
            worker.stdin.flush()
            got = worker.stdout.read(sizes.nbytes)
    if len(got) < sizes.nbytes:
        raise ChildProcessError(f"process {worker.pid}, which measured a part of the pages, ended by itself")
    return np.frombuffer(got, np.uint32).reshape(sizes.shape)


def work(page_size: int) -> None:
    """What such a process does: batches come on stdin, behind their numbers of pages, references and pairs; the sizes
    go out."""
    measure, stdin = measure_with(page_size), sys.stdin.buffer
    while len(head := stdin.read(_HEAD.size)) == _HEAD.size:
        pages, references, pairs = _HEAD.unpack(head)
        sizes = measure(
            Batch(
                _array(stdin.read(pages * page_size), (pages, page_size), np.uint8),
                _array(stdin.read(references * page_size), (references, page_size), np.uint8),
                _array(stdin.read(pairs * 8), (pairs, 2), np.uint32),
            )
        )
        sys.stdout.buffer.write(sizes.tobytes())
        sys.stdout.buffer.flush()


def _array(data: bytes, shape: Sequence[int], kind: type) -> NDArray[Any]:
    return np.frombuffer(data, kind).reshape(shape)
