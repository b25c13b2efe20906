"""Dumps inside of compressed files, and from pipes: what is counted is what was compressed, or it is said."""

import bz2
import gzip
import lzma
import os
import re
import struct
import subprocess
import sys
import threading
import zlib

import lz4.frame
import pytest
import zstandard

import pageshare
from dumps import PAGE, coverage, elf, lime, memory, true_to
from oracle import agrees, census
from pageshare.images import ImageError, NoDumpError, open_image
from pageshare.images import wrapped as module
from pageshare.space import Coverage

COMPRESS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_content_size=False).compress,
    "lz4": lz4.frame.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
QUICKLY = {"gzip": lambda data: gzip.compress(data, 1), "xz": lambda data: lzma.compress(data, preset=0)}
SKIPPED = struct.pack("<II", 0x184D2A55, 5) + b"hello"

each = pytest.mark.parametrize("name", COMPRESS)


@pytest.fixture
def write(tmp_path):
    def write(data):
        path = tmp_path / "dump"
        path.write_bytes(data)
        return path

    return write


@each
@pytest.mark.parametrize("form", ["elf", "lime", "raw"])
def test_what_was_compressed_is_counted(write, name, form):
    pages = [memory(at, PAGE) if at % (3 * PAGE) else bytes(PAGE) for at in range(0, 700 * PAGE, PAGE)]
    data = {
        "raw": b"".join(pages),
        "elf": elf("load address=0 bytes=700p\nnote QEMU 0")[: -700 * PAGE] + b"".join(pages),
        "lime": lime(f"0x0-{700 * PAGE - 1:#x}")[:32] + b"".join(pages),
    }[form]
    path = write(COMPRESS[name](data))
    with open_image(path) as image:
        assert image.format == form
        assert image.details["compressed"] == f"{name}, {path.stat().st_size:,} bytes"
        assert (image.incomplete, image.warnings) == ((), ())
        assert coverage(image) == Coverage(data=700)
        report = pageshare.scan({"g": image, "again": b"".join(pages)})
    assert agrees(report.to_dict(), census({"g": pages, "again": pages}))


@pytest.mark.parametrize("page_size", [512, PAGE, 1 << 14])
@pytest.mark.parametrize("form", ["raw", "elf", "lime"])
def test_zeros_that_were_decompressed_are_not_read_again(write, form, page_size):
    """Through a mapping the holes of a spool file take memory; in a tmpfs, more than it may have."""
    size = max(page_size, PAGE)
    there = [number % 5 in (1, 2) or number > 190 for number in range(200)]
    pages = [memory(number * size, size) if held else bytes(size) for number, held in enumerate(there)]
    data = {
        "raw": b"",
        "elf": elf(f"load address=0 bytes={len(pages) * size}\nnote QEMU 0")[: -len(pages) * size],
        "lime": lime(f"0x0-{len(pages) * size - 1:#x}")[:32],
    }[form] + b"".join(pages)
    pages = [b"".join(pages)[at : at + page_size] for at in range(0, len(pages) * size, page_size)]
    with open_image(write(gzip.compress(data, 1))) as image:
        space = pageshare.PageSpace.of({"g": image}, page_size=page_size)
        report = pageshare.scan({"g": image, "again": b"".join(pages)}, page_size=page_size)
    zero = sum(page == bytes(page_size) for page in pages)
    # Payload that does not begin at a multiple of 4096 has an end of each run of zeros beside data.
    most = 0 if form == "raw" else 2 * sum(there) * max(1, PAGE // page_size)
    assert len(pages) - zero <= space.readable <= len(pages) - zero + most
    assert space.readable < len(pages)
    assert agrees(report.to_dict(), census({"g": pages, "again": pages}, page_size=page_size))


@each
def test_streams_one_behind_the_other_are_one(write, name):
    halves = [memory(at, 10 * PAGE) for at in (0, 10 * PAGE)]
    padding = bytes(1024) if name in ("gzip", "xz") else b""
    with open_image(write(b"".join(COMPRESS[name](half) + padding for half in halves))) as image:
        assert coverage(image) == Coverage(data=20)
        assert image.warnings == ()
        assert true_to(image)


@pytest.mark.parametrize("places", [[0], [1], [0, 1, 2]])
def test_frames_that_say_nothing(write, places):
    """pzstd writes such frames, first of all."""
    parts = [COMPRESS["zstd"](memory(0, 10 * PAGE)), COMPRESS["zstd"](memory(10 * PAGE, 10 * PAGE))]
    for place in reversed(places):
        parts.insert(place, SKIPPED)
    with open_image(write(b"".join(parts))) as image:
        assert coverage(image) == Coverage(data=20)
        assert true_to(image)


@each
def test_more_than_one_reading_at_a_time(write, monkeypatch, name):
    monkeypatch.setattr(module, "_READ", 100)
    monkeypatch.setattr(module, "_AT_ONCE", 5000)
    data = memory(0, 50 * PAGE) + bytes(50 * PAGE) + memory(100 * PAGE, 50 * PAGE)
    path = write(COMPRESS[name](data) * 2)
    seen = []
    with open_image(path, progress=lambda done, size: seen.append((done, size))) as image:
        assert image.source.read(0, 1 << 30) == data * 2
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert len(seen) > 10


@each
def test_truncation_at_any_place_is_an_error_or_said(write, name):
    data = os.urandom(70 * PAGE) + memory(70 * PAGE, 5 * PAGE) + bytes(2 * PAGE)
    whole = COMPRESS[name](data)
    known = set()
    for cut in {*range(1, 40), *range(40, len(whole), 9973), *range(len(whole) - 12, len(whole))}:
        path = write(whole[:cut])
        try:
            image = open_image(path)
        except ImageError as error:
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)
            continue
        with image:
            (sentence,) = image.incomplete
            assert sentence.startswith(f"the {name} stream ends in the middle: what comes after the first ")
            held = image.source.read(0, 1 << 20)
            assert data.startswith(held)
            known.add(len(held))
    assert max(known) > 5 * PAGE or name == "bzip2"


@each
def test_damage_is_an_error_or_seen_by_the_checksum(write, name):
    import random

    rng = random.Random(3)
    data = rng.randbytes(PAGE) + memory(PAGE, 9 * PAGE)
    whole = lz4.frame.compress(data, content_checksum=True) if name == "lz4" else COMPRESS[name](data)
    if name == "zstd":
        whole = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        at = rng.randrange(6, len(whole))
        damaged[at] ^= 1 << rng.randrange(8)
        try:
            image = open_image(write(bytes(damaged)))
        except ImageError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        with image:
            assert image.source.read(0, 1 << 20) == data or image.incomplete or image.warnings
    assert refused > 100


@pytest.mark.parametrize("size", [None, 1 << 21, 1 << 20])
def test_what_is_written_to_meanwhile_is_said(write, size):
    data = gzip.compress(os.urandom(1 << 21), 0)
    path = write(data)

    def change(_done, _size):
        if size:
            os.truncate(path, size)
        else:
            path.write_bytes(data)

    if size:
        with pytest.raises(OSError, match="dump: the file became shorter while it was read"):
            open_image(path, progress=change)
    else:
        with open_image(path, progress=change) as image:
            assert "changed while it was read" in image.warnings


def test_what_follows_is_left_out_and_said(write):
    with open_image(write(COMPRESS["gzip"](memory(0, 2 * PAGE)) + b"signature")) as image:
        assert coverage(image) == Coverage(data=2)
        assert image.warnings == ("what follows the end of the gzip stream is left out",)


def test_bombs_are_given_up(write, monkeypatch):
    monkeypatch.setattr(module, "_ANYWAY", 1 << 22)
    bomb = bz2.compress(bytes(1 << 26))
    with pytest.raises(ImageError, match=r"its first \d+ bytes come to \d+: no memory dump does that; .* decompress"):
        open_image(write(bomb))


@each
def test_bombs_take_no_memory(write, name):
    """512 MiB of zeros: in steps, and none of them stored."""
    path = write({**COMPRESS, **QUICKLY}[name](bytes(1 << 29)))
    code = (
        "import re, sys, os, pageshare.images as images\n"
        "def most(): return int(re.search('VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = most()\n"
        "image = images.open_image(sys.argv[1])\n"
        "assert image.source.size == 1 << 29\n"
        "assert os.fstat(image.source.fd).st_blocks == 0\n"
        "print(most() - before)\n"
    )
    grown = int(subprocess.check_output([sys.executable, "-c", code, str(path)]))
    assert grown < 128 << 10


@pytest.mark.parametrize("bits", [28, 31])
def test_zstd_with_a_long_window(write, bits):
    settings = zstandard.ZstdCompressionParameters(window_log=bits, write_content_size=0)
    stream = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    with open_image(write(stream.compress(memory(0, 10 * PAGE)) + stream.flush())) as image:
        assert coverage(image) == Coverage(data=10)
        assert true_to(image)


@pytest.mark.parametrize(
    "nothing", [COMPRESS["gzip"](b""), COMPRESS["zstd"](b""), SKIPPED], ids=["gzip", "zstd", "skipped"]
)
def test_streams_without_number_that_hold_nothing_are_given_up(write, nothing):
    start = COMPRESS["gzip" if nothing.startswith(b"\x1f") else "zstd"](memory(0, 10 * PAGE))
    with pytest.raises(ImageError, match=r"its first 16385 streams, .*, hold 40960 bytes"):
        open_image(write(start + nothing * (1 << 15)))
    with open_image(write(start + nothing * 1000)) as image:
        assert coverage(image) == Coverage(data=10)


def test_twice_compressed(write):
    data = lime("0x1000-0x2fff")
    with open_image(write(COMPRESS["xz"](COMPRESS["gzip"](data)))) as image:
        assert image.format == "lime"
        assert re.fullmatch(r"xz, [\d,]+ bytes; gzip, [\d,]+ bytes", image.details["compressed"])
        assert coverage(image) == Coverage(data=2)


def test_what_is_inside_must_be_a_dump(write):
    with pytest.raises(NoDumpError, match="it is text, no dump"):
        open_image(write(gzip.compress(b"a line of a log\n" * 1000)))
    with pytest.raises(ImageError, match="there is nothing in it"):
        open_image(write(gzip.compress(b"")))


def test_raw_means_the_bytes_as_they_are(write):
    path = write(gzip.compress(os.urandom(3 * PAGE)))
    with open_image(path, format="raw") as image:
        assert image.source.size == path.stat().st_size


@pytest.mark.parametrize(("level", "window"), [(1, 15), (6, 15), (9, 15), (6, 11)])  # LiME's window has 11 bits
def test_a_zlib_stream_is_one_of_lime_or_memory(write, level, window):
    stream = zlib.compressobj(level, wbits=window)
    with open_image(write(stream.compress(lime("0x1000-0x3fff")) + stream.flush())) as image:
        assert image.format == "lime"
        assert image.details["compressed"].startswith("zlib, ")
        assert true_to(image)
    data = zlib.compress(os.urandom(3 * PAGE))
    with open_image(write(data)) as image:
        assert (image.format, image.source.size) == ("raw", len(data))


@pytest.mark.parametrize(("name", "package"), [("zstd", "zstandard"), ("lz4", "lz4.frame")])
def test_a_missing_package_is_named_with_the_line_that_adds_it(write, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImageError, match=rf"compressed with {name}: .*pip install 'pageshare\[codecs\]'"):
        open_image(write(COMPRESS[name](bytes(2 * PAGE))))


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_pipe_is_read_through(compress):
    data = compress(lime("0x1000-0x2fff\n 0x8000-0x1ffff"))
    read_end, write_end = os.pipe()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=write_end) as cat:
        os.close(write_end)
        feeder = threading.Thread(target=cat.communicate, args=(data,))
        feeder.start()
        with open_image(f"/dev/fd/{read_end}") as image:
            assert image.format == "lime"
            assert true_to(image)
            assert coverage(image) == Coverage(data=26)
        feeder.join()
    os.close(read_end)


def test_from_standard_input():
    data = memory(0, 5 * PAGE) + bytes(5 * PAGE)
    command = [sys.executable, "-m", "pageshare", "scan", "--quiet", "--json", "vm=-"]
    done = subprocess.run(command, input=gzip.compress(data), capture_output=True, check=True)
    assert b'"known": 10' in done.stdout
    assert done.stderr == b""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == b"pageshare scan: -: nothing came from the pipe\n"
