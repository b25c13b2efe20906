"""Compressed blocks: what is decoded is what was compressed, wherever it is decoded; what is damaged is lost."""

import os
import subprocess
import zlib
from pathlib import Path

import cramjam
import numpy as np
import pytest
import zstandard

from dumps import PAGE, memory
from pageshare.images import ImageError, Source
from pageshare.images import blocks as module
from pageshare.images.blocks import BLOCK, Compressed, decoded
from pageshare.images.codecs import Codec
from pageshare.images.image import Image
from pageshare.images.ranges import RANGE, Kind, State

COMPRESS = {
    Codec.ZLIB: zlib.compress,
    Codec.LZO: lambda page: pytest.importorskip("lzallright").LZOCompressor().compress(page),
    Codec.SNAPPY: lambda page: bytes(cramjam.snappy.compress_raw(page)),
    Codec.ZSTD: lambda page: zstandard.ZstdCompressor().compress(page),
    Codec.SNAPPY_FRAME: lambda page: bytes(cramjam.snappy.compress(page))[10:],
    Codec.STORED: bytes,
}


def an_image(path, pages, codecs, *, folder=None, damage=()):
    """An image of so many pages at address 0 on, each compressed by the next codec; odd ones are zeros."""
    table, payload = np.zeros(pages, BLOCK), b""
    for page in range(pages):
        content = bytes(PAGE) if page % 2 else memory(page * PAGE, PAGE)
        codec = codecs[page % len(codecs)]
        block = COMPRESS[codec](content)
        if page in damage:
            block = block[: len(block) // 2]
        table[page] = (len(payload), page * PAGE, len(block), PAGE, codec)
        payload += block
    path.write_bytes(payload)
    source = Source(path)
    ranges = np.zeros(1, RANGE)
    ranges[0] = (0, pages * PAGE, 0, 1, State.DATA, Kind.RAM)
    compressed = Compressed(source, lambda: iter([table[:100], table[100:]]), pages * PAGE, codecs, folder)
    return Image(source, "made up", ranges, Kind.RAM, compressed=compressed)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("codecs", [*([each] for each in Codec), list(Codec)], ids=str)
def test_what_was_compressed_comes_back(tmp_path, monkeypatch, codecs, workers):
    monkeypatch.setattr(module, "BATCH", 64)
    seen = []
    with decoded(an_image(tmp_path / "dump", 301, codecs), workers=workers, progress=seen.append) as image:
        assert image.compressed is None
        assert image.incomplete == ()
        held = image.payload[1].read(0, 302 * PAGE)
    for page in range(301):
        assert held[page * PAGE : (page + 1) * PAGE] == (bytes(PAGE) if page % 2 else memory(page * PAGE, PAGE)), page
    assert len(held) == seen[-1] == 301 * PAGE


def test_zeros_take_no_space_and_the_file_has_no_name(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    with decoded(an_image(tmp_path / "dump", 300, [Codec.ZLIB], folder=str(folder))) as image:
        status = os.fstat(image.payload[1].fd)
        assert list(folder.iterdir()) == []
        assert status.st_nlink == 0
        assert status.st_mode & 0o777 == 0o600
        assert status.st_blocks * 512 <= 151 * PAGE


@pytest.mark.parametrize("into", [0, 0x800, 1])
def test_zeros_within_long_blocks_take_no_space(tmp_path, into):
    path = tmp_path / "dump"
    content = memory(into, PAGE) + bytes(14 * PAGE) + memory(into, PAGE)
    block = COMPRESS[Codec.SNAPPY_FRAME](content)
    path.write_bytes(block)
    table = np.array([(0, into, len(block), len(content), Codec.SNAPPY_FRAME)], BLOCK)
    ranges = np.array([(into, len(content), into, 1, State.DATA, Kind.RAM)], RANGE)
    source = Source(path)
    compressed = Compressed(source, lambda: iter([table]), into + len(content), [Codec.SNAPPY_FRAME])
    with decoded(Image(source, "made up", ranges, Kind.RAM, compressed=compressed)) as image:
        assert image.payload[1].read(into, len(content)) == content
        assert os.fstat(image.payload[1].fd).st_blocks * 512 <= (2 if into == 0 else 4) * PAGE


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("codec", Codec)
def test_damaged_blocks_are_lost_alone(tmp_path, codec, workers):
    image = decoded(an_image(tmp_path / "dump", 300, [codec], damage=(0, 7, 8, 299)), workers=workers)
    lost = image.ranges["state"] == State.LOST
    pages = [
        page
        for address, length in image.ranges[lost][["address", "bytes"]].tolist()
        for page in range(address // PAGE, (address + length) // PAGE)
    ]
    assert pages == [0, 7, 8, 299]
    assert int(image.ranges["bytes"].sum()) == 300 * PAGE
    (sentence,) = image.incomplete
    assert sentence.startswith("4 compressed blocks are damaged, the first at 0x0: ")
    assert sentence.endswith(f": {4 * PAGE} bytes of memory are lost")
    for address, length, offset in image.ranges[~lost][["address", "bytes", "offset"]].tolist():
        assert address == offset
        assert len(image.payload[1].read(offset, length)) == length


@pytest.mark.parametrize("codec", Codec)
def test_blocks_that_are_larger_than_they_should_be_are_lost(tmp_path, codec):
    """And take no memory: a bomb may claim gigabytes."""
    path = tmp_path / "bomb"
    bomb = COMPRESS[codec](bytes(1 << 16))
    if codec == Codec.SNAPPY:
        bomb = b"\xff\xff\xff\xff\x0f" + bomb
    path.write_bytes(bomb)
    table = np.array([(0, 0, len(bomb), PAGE, codec)], BLOCK)
    ranges = np.array([(0, PAGE, 0, 1, State.DATA, Kind.RAM)], RANGE)
    source = Source(path)
    compressed = Compressed(source, lambda: iter([table]), PAGE, [codec])
    image = decoded(Image(source, "made up", ranges, Kind.RAM, compressed=compressed))
    assert image.ranges["state"].tolist() == [State.LOST]


def test_no_room_is_said_beforehand(tmp_path):
    image = an_image(tmp_path / "dump", 2, [Codec.ZLIB], folder=str(tmp_path))
    object.__setattr__(image.compressed, "size", 1 << 60)
    with pytest.raises(ImageError, match=r"dump: decoded it takes up to 1,099,511,627,776 MiB, and .* --spool DIR"):
        decoded(image)


def test_a_folder_that_is_not_there(tmp_path):
    image = an_image(tmp_path / "dump", 2, [Codec.ZLIB], folder=str(tmp_path / "none"))
    with pytest.raises(ImageError, match=r"none: No such file or directory; name another folder: --spool DIR"):
        decoded(image)


@pytest.mark.parametrize("codec", [Codec.LZO, Codec.SNAPPY, Codec.ZSTD])
def test_a_missing_codec_names_the_line_that_adds_it(tmp_path, monkeypatch, codec):
    def no_module(name):
        raise ImportError(name)

    image = an_image(tmp_path / "dump", 2, [codec])
    monkeypatch.setattr("importlib.import_module", no_module)
    with pytest.raises(ImageError, match=r"dump: \w+ can't be decoded .*: pip install 'pageshare\[\w+\]'"):
        decoded(image)


def test_what_a_worker_that_ended_did_not_take_is_no_error_of_its_own(monkeypatch):
    monkeypatch.setattr(module, "_START", "")

    def send(file):
        with module._worker(file.fileno(), file.fileno(), None) as worker:
            worker.stdin.write(b"blocks")
            worker.wait()
            raise ChildProcessError("ended by itself")

    with Path(os.devnull).open() as nothing, pytest.raises(ChildProcessError, match="ended by itself"):
        send(nothing)


def test_a_worker_that_ends_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_START", "")
    before = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, check=False).stdout
    with pytest.raises(OSError, match="ended by itself"):
        decoded(an_image(tmp_path / "dump", 300, [Codec.ZLIB]), workers=2)
    assert subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, check=False).stdout == before
