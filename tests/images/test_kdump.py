"""Compressed kdumps: every layout of the headers, every codec, what is left out, cut off or made up."""

import importlib
import random
import struct
import subprocess

import pytest

import pageshare
from damage import both_happen, damage, scanned
from dumps import PAGE, coverage, flattened, kdump, memory, true_to
from oracle import agrees, census
from pageshare.images import ImageError, open_image
from pageshare.images import kdump as module
from pageshare.images.blocks import decoded
from pageshare.images.ranges import Kind, State
from pageshare.space import Coverage

CODECS = ["zlib", "lzo", "snappy", "zstd", "plain"]
ALL = """
    pages 0-3 zlib
    zero 4-9
    pages 16-17 plain
    pages 18-19 zstd
    zero 20-20
    excluded 24-30
    pages 31-31 snappy
    pages 0x100-0x102 plain
"""


def held(image):
    """Frame numbers of the pages that are data, zero, excluded and lost."""
    found = {state: [] for state in State}
    for each in image.ranges:
        found[each["state"]] += range(int(each["address"]) // PAGE, int(each["address"] + each["bytes"]) // PAGE)
    return found


def test_all_sorts_of_pages(opened):
    image = opened(kdump(ALL))
    assert (image.format, image.kind, image.incomplete, image.warnings) == ("kdump", Kind.RAM, (), ())
    assert coverage(image) == Coverage(data=12, zero=7, excluded=7)
    found = held(image)
    assert found[State.ZERO] == [*range(4, 10), 20]
    assert found[State.EXCLUDED] == [*range(24, 31)]
    # Plain pages are read in place, the others from the spool.
    assert image.ranges["file"][image.ranges["state"] == State.DATA].tolist() == [1, 0, 1, 1, 0]
    assert image.compressed.size == 7 * PAGE
    assert image.details == {
        "version": "KDUMP 6",
        "machine": "x86_64",
        "layout": "64-bit, little-endian",
        "page size": "4096",
        "compression": "none, zlib, snappy, zstd",
        "dump level": "0",
    }
    with decoded(image) as image:
        assert true_to(image)
        assert image.incomplete == ()


@pytest.mark.parametrize("codec", CODECS)
def test_each_codec(opened, codec):
    if codec == "lzo":
        pytest.importorskip("lzallright")
    image = opened(kdump(f"pages 1-300 {codec}\n zero 301-310\n pages 400-410 {codec}", zero=codec))
    assert coverage(image) == Coverage(data=311, zero=10)
    assert (image.compressed is None) == (codec == "plain")
    assert true_to(decoded(image))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(
    ("machine", "layout"),
    {
        "x86_64": {},
        "i686": {"bits": 32},
        "i586": {"bits": 32, "time_bits": 64},
        "armv7l": {"bits": 32, "padded": True},
        "armv8l": {"bits": 32, "padded": True, "time_bits": 64},
        "aarch64": {"page": 65536},
        "ppc64": {"page": 16384},
        "s390x": {"sub_blocks": 3},
    }.items(),
    ids=str,
)
def test_layouts_of_the_headers(opened, order, version, machine, layout):
    # Before version 6 nothing tells ARM's header with a time of 64 bits from a 64-bit one.
    split = (3, 70) if version >= (6 if machine == "armv8l" else 2) else None
    text = "zero 0-2\n pages 3-8 plain\n zero 9-11\n pages 64-69 zlib\n excluded 12-13\n pages 70-72 zlib"
    image = opened(kdump(text, order=order, version=version, machine=machine.encode(), split=split, **layout))
    page = layout.get("page", PAGE)
    whole = Coverage(data=15, zero=6, excluded=2)
    assert coverage(image, page) == (Coverage(data=12, zero=3, excluded=8) if split else whole)
    assert image.incomplete == ()
    assert true_to(decoded(image))
    words = "32-bit" if layout.get("bits") == 32 and (machine != "armv8l" or version >= 6) else "64-bit"
    assert image.details["layout"] == f"{words}, {'little' if order == '<' else 'big'}-endian"
    assert image.details["page size"] == str(page)
    assert image.details.get("split") == ("pages 0x3 to 0x46" if split else None)


def test_frame_numbers_beyond_32_bits_of_bytes(opened):
    image = opened(kdump("pages 0x123456-0x123457 zlib", max_mapnr=0x200000))
    assert image.ranges["address"].tolist() == [0x123456 << 12]
    assert true_to(decoded(image))


@pytest.mark.parametrize("chunk", [8, 64])
def test_chunks(opened, monkeypatch, chunk):
    whole = opened(kdump(ALL))
    monkeypatch.setattr(module, "_CHUNK", chunk)
    image = opened(kdump(ALL))
    assert coverage(image) == coverage(whole)
    assert true_to(decoded(image))


def test_the_parts_of_a_split_dump_are_one_memory(tmp_path):
    text = "pages 0-9 zlib\n zero 10-19\n pages 20-39 snappy salt=0\n excluded 40-41\n pages 42-42 plain"
    parts = [tmp_path / f"part{number}" for number in range(3)]
    for part, split in zip(parts, [(0, 13), (13, 30), (30, 43)], strict=True):
        part.write_bytes(kdump(text, split=split))
    with open_image(parts[1]) as image:
        assert coverage(image) == Coverage(data=10, zero=7, excluded=13 + 13)
    report = pageshare.scan({"guest": parts})
    pages = [memory(pfn * PAGE, PAGE) for pfn in (*range(10), *range(20, 40), 42)] + [bytes(PAGE)] * 10
    assert agrees(report.to_dict(), census({"guest": pages}))
    assert report.coverage == Coverage(data=31, zero=10, excluded=2)
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("dump_level", "status", "expected"),
    [
        (0, 0, State.EXCLUDED),
        (1, 0, State.ZERO),
        (1, 0x10, State.EXCLUDED),  # pages of the memory map are left out too
        (31, 0, State.EXCLUDED),
    ],
)
def test_excluded_pages_are_zero_only_if_there_was_no_other_reason(opened, dump_level, status, expected):
    image = opened(kdump("pages 0-1 zlib\n excluded 2-4", dump_level=dump_level, status=status))
    assert held(image)[expected] == [2, 3, 4]
    # Before version 1 there is no such field.
    image = opened(kdump("pages 0-1 zlib\n excluded 2-4", dump_level=dump_level, status=status, version=0))
    assert held(image)[State.EXCLUDED] == [2, 3, 4]


def test_an_incomplete_dump(opened):
    image = opened(kdump("pages 0-1 zlib\n unwritten 2-4", status=8))
    assert coverage(image) == Coverage(data=2, lost=3)
    assert image.incomplete == ("it is marked as incomplete (no room on the disk?): 3 pages were not written",)
    image = opened(kdump("pages 0-1 zlib\n unwritten 2-4"))
    assert coverage(image) == Coverage(data=2, lost=3)
    assert image.incomplete == ("3 pages have no place in the file: they are lost",)


def test_diskdump(opened):
    text = "pages 0-1 zlib\n pages 7-7 plain\n zero 8-9"
    image = opened(kdump(text, signature=b"DISKDUMP", version=1, bits=32, machine=b"i686", bitmaps=1, status=8))
    assert coverage(image) == Coverage(data=3, zero=2)
    assert image.incomplete == ()
    assert image.details["version"] == "DISKDUMP 1"
    assert "dump level" not in image.details
    assert true_to(decoded(image))
    image = opened(kdump(text, signature=b"DISKDUMP", version=1, status=1))
    assert "marked as incomplete" in image.incomplete[0]


def test_counts_are_those_of_a_dict(opened):
    image = opened(kdump("pages 0-4 zlib\n pages 5-9 plain\n zero 10-11\n like 12-13 as=2\n like 14-20 as=6"))
    pages = [memory(pfn * PAGE, PAGE) for pfn in (*range(10), 2, 2, *[6] * 7)] + [bytes(PAGE)] * 2
    assert agrees(pageshare.scan({"g": image}).to_dict(), census({"g": pages}))


def test_shared_data_is_claimed_once_in_place(opened):
    """Many pages that point to one: more memory than the file has bytes."""
    image = opened(kdump("pages 0-1 plain\n like 2-999 as=1\n pages 1000-1001 plain"))
    assert image.ranges["file"].tolist() == [0, 1, 0]
    report = pageshare.scan({"g": image})
    assert (report.pages.known, report.pages.shared, report.pages.kept) == (1002, 999, 1)


@pytest.mark.parametrize("codec", [each for each in CODECS if each != "lzo"])
def test_zeros_are_told_by_their_shared_descriptor(opened, monkeypatch, codec):
    text = "pages 0-4 plain\n zero 5-30\n pages 31-40 zlib\n zero 41-60"
    assert held(opened(kdump(text, zero=codec)))[State.ZERO] == [*range(5, 31), *range(41, 61)]
    first = "zero 0-30\n pages 31-40 zlib\n zero 41-60"
    assert held(opened(kdump(first, zero=codec)))[State.ZERO] == [*range(31), *range(41, 61)]
    monkeypatch.setattr(module, "_CHUNK", 8)
    image = opened(kdump(first, zero=codec))
    assert held(image)[State.ZERO] == [*range(31), *range(41, 61)]
    report = pageshare.scan({"g": image})
    assert (report.pages.known, report.pages.zero) == (61, 51)


def test_without_a_codec_all_is_known_but_the_content(opened, monkeypatch):
    def no_module(name):
        raise ImportError(name)

    data = kdump("pages 0-4 snappy\n zero 5-30", zero="snappy")
    monkeypatch.setattr(importlib, "import_module", no_module)
    image = opened(data)
    assert coverage(image) == Coverage(data=31)
    with pytest.raises(ImageError, match="snappy can't be decoded .*: pip install 'pageshare"):
        pageshare.scan({"g": image})


def test_devices_of_a_pc(opened):
    text = "pages 0-1 plain\n pages 0xdffff-0xe0001 plain"

    def devices(**more):
        return coverage(opened(kdump(text, **more))).device

    prstatus = struct.pack("<III", 5, 336, 1) + b"CORE\0\0\0\0"
    other = struct.pack("<III", 5, 392, 1) + b"CORE\0\0\0\0"
    assert devices() == devices(note=prstatus) == devices(machine=b"i686", bits=32) == 2
    # QEMU calls every guest x86_64; the size of its CPU's state says that it is none.
    assert devices(machine=b"Unknown", note=prstatus) == 2
    assert devices(machine=b"Unknown") == devices(machine=b"Unknown", note=other) == 0
    assert devices(note=other) == devices(machine=b"aarch64") == devices(order=">") == 0


def test_truncation_at_every_boundary_is_an_error_or_counted(tmp_path):
    whole = kdump("pages 0-3 zlib\n zero 4-5\n pages 6-7 plain\n excluded 8-9\n pages 10-11 zlib")
    path = tmp_path / "cut"
    descriptors = 4 * PAGE
    data = descriptors + 10 * 24
    places = [struct.unpack_from("<qI", whole, descriptors + 24 * number) for number in range(10)]
    ends = sorted({offset + length for offset, length in places})
    marks = (1, 8, 512, PAGE, 2 * PAGE, 3 * PAGE, descriptors, descriptors + 24, descriptors + 120, data, *ends)
    for cut in sorted({mark + d for mark in marks for d in (-1, 0, 1)} & {*range(8, len(whole) + 1)}):
        path.write_bytes(whole[:cut])
        if cut < descriptors:
            with pytest.raises(ImageError, match=r"cut: "):
                open_image(path)
            continue
        there = sum(
            offset + length <= cut and descriptors + 24 * (number + 1) <= cut
            for number, (offset, length) in enumerate(places)
        )
        if not there:
            with pytest.raises(ImageError, match="none of the 10 is sound"):
                open_image(path)
            continue
        with decoded(open_image(path)) as image:
            found = coverage(image)
            assert found.data + found.zero == there, cut
            assert (found.lost, found.excluded) == (10 - there, 2), cut
            assert bool(image.incomplete) == (cut < len(whole)), cut
            assert true_to(image)


def test_a_damaged_block_is_lost_alone(opened):
    data = bytearray(kdump("pages 0-3 zlib\n pages 4-5 plain"))
    offset, length = struct.unpack_from("<qI", data, 4 * PAGE + 24)
    data[offset : offset + length] = b"\xff" * length
    with decoded(opened(bytes(data))) as image:
        assert held(image)[State.LOST] == [1]
        assert "1 compressed blocks are damaged" in image.incomplete[0]
        assert true_to(image)


HEADER = {"version": 8, "status": 424, "block_size": 428, "sub_hdr_size": 432, "bitmap_blocks": 436, "max_mapnr": 440}


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (HEADER["block_size"], 0, "no byte order and no width make sense"),
        (HEADER["block_size"], 4097, "no byte order and no width make sense"),
        (HEADER["block_size"], 1 << 30, "no byte order and no width make sense"),
        (HEADER["sub_hdr_size"], 0, "no byte order and no width make sense"),
        (HEADER["sub_hdr_size"], 2**31 - 1, "no byte order and no width make sense"),
        (HEADER["sub_hdr_size"], 60000, "blocks of bitmap at 0xea61000 are not all in the file"),
        (HEADER["bitmap_blocks"], 2**32 - 1, "4294967295 blocks of bitmap at 0x2000 are not all in the file"),
        (HEADER["bitmap_blocks"], 0, "no byte order and no width make sense"),
        (HEADER["max_mapnr"], 2**32 - 2, "does not have the header's 4294967294 pages"),
        (PAGE + 96, 2**40, "does not have the header's 12 pages"),
        (HEADER["version"], 5 | 2**31, "no byte order and no width make sense"),
    ],
)
def test_headers_that_make_no_sense(opened, at, value, said):
    data = bytearray(kdump("pages 0-3 zlib\n pages 4-11 plain"))
    struct.pack_into("<Q" if at > PAGE else "<I", data, at, value)
    with pytest.raises(ImageError, match=said):
        opened(bytes(data))


def test_more_pages_than_the_bitmap_has_bits(opened):
    data = bytearray(kdump("pages 0-3 zlib"))
    struct.pack_into("<I", data, HEADER["max_mapnr"], 1_000_000)
    struct.pack_into("<Q", data, PAGE + 96, 1_000_000)
    with pytest.raises(ImageError, match="2 blocks of bitmap are too few for 1000000 pages"):
        opened(bytes(data))


@pytest.mark.parametrize("split", [(5, 3), (0, 100)])
def test_a_part_that_is_none(opened, split):
    with pytest.raises(ImageError, match=f"its part of the dump is pages {split[0]} to {split[1]} of 12"):
        opened(kdump("pages 0-11 zlib", split=split))


def test_no_pages(opened):
    with pytest.raises(ImageError, match="there is no page in them"):
        opened(kdump("pages 0-11 zlib", split=(12, 12)))


@pytest.mark.parametrize(
    ("offset", "size", "flags", "said"),
    [
        (-1, 100, 1, "make no sense, the first at 0x4018"),
        (1, 100, 1, "make no sense"),
        (PAGE * 4, 0, 1, "make no sense"),
        (PAGE * 4, PAGE + 1, 1, "make no sense"),
        (PAGE * 4, 100, 0, "make no sense"),
        (PAGE * 4, 100, 3, "make no sense"),
        (2**62, 100, 1, "before the data of 1 pages"),
        (2**63 - 1, 2**12, 1, "before the data of 1 pages"),
    ],
)
def test_descriptors_that_make_no_sense_lose_their_pages_alone(opened, offset, size, flags, said):
    data = bytearray(kdump("pages 0-3 zlib\n pages 4-11 plain"))
    struct.pack_into("<qII", data, PAGE * 4 + 24, offset, size, flags)
    image = opened(bytes(data))
    assert held(image)[State.LOST] == [1]
    assert said in image.incomplete[0]
    assert true_to(decoded(image))


def test_bitmaps_full_of_pieces(opened, monkeypatch):
    """Every second page of so many, and no descriptors: ranges would take far more memory than the file."""
    monkeypatch.setattr(module, "_SPARE_RANGES", 1000)
    data = bytearray(kdump("pages 0-0 zlib", max_mapnr=1 << 20))
    half = (1 << 20) // 8
    data[2 * PAGE : 2 * PAGE + half] = b"\x55" * half
    with pytest.raises(ImageError, match="more pieces than the file has page descriptors for"):
        opened(bytes(data))


def test_damage_never_does_harm(tmp_path):
    rng, path = random.Random(7), tmp_path / "damaged"
    dumps = [kdump(ALL), kdump(ALL, order=">", bits=32, dump_level=1), kdump(ALL, split=(3, 0x101))]
    parts = [400, PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE]
    reports = []
    for number in range(300):
        path.write_bytes(damage(dumps[number % 3], rng, lambda: rng.choice(parts) + rng.randrange(100), cut=0.2))
        reports.append(scanned(path, "kdump"))
    assert both_happen(reports, least=30)
    assert sum(report.coverage.lost > 0 for report in reports if report) > 10


LIBKDUMPFILE = """
import sys, kdumpfile
from kdumpfile.exceptions import NoDataException
context = kdumpfile.kdumpfile(sys.argv[1])
size = context.attr["arch.page_size"]
for pfn in map(int, sys.argv[2:]):
    try:
        page = context.read(kdumpfile.KDUMP_MACHPHYSADDR, pfn * size, size)
    except NoDataException:
        page = b""
    sys.stdout.buffer.write(len(page).to_bytes(4, "little") + bytes(page))
"""


@pytest.mark.parametrize(
    ("codec", "more"),
    [
        *((codec, {}) for codec in ("zlib", "lzo", "snappy", "plain")),
        ("zlib", {"bits": 32, "machine": b"i686"}),
        ("zlib", {"order": ">", "machine": b"ppc64"}),
        ("plain", {"order": ">", "machine": b"s390x"}),
        ("zlib", {"page": 65536, "machine": b"aarch64"}),
        ("zlib", {"bits": 32, "machine": b"armv7l"}),
        ("zlib", {"version": 5}),
    ],
    ids=str,
)
def test_libkdumpfile_reads_the_same(tmp_path, codec, more):
    """So the dumps that tests are made with are dumps."""
    python = "/usr/bin/python3"
    if subprocess.run([python, "-c", "import kdumpfile"], capture_output=True, check=False).returncode:
        pytest.skip("no libkdumpfile: apt-get install python3-libkdumpfile")
    if codec == "lzo":
        pytest.importorskip("lzallright")
    path = tmp_path / "dump"
    path.write_bytes(kdump(f"pages 0-9 {codec}\n zero 10-12\n pages 64-70 {codec}\n excluded 71-80", **more))
    page = more.get("page", PAGE)
    wanted = [*range(13), *range(64, 71), 71, 80]
    done = subprocess.run([python, "-c", LIBKDUMPFILE, path, *map(str, wanted)], capture_output=True, check=False)
    if b"NotImplementedException" in done.stderr:
        pytest.skip(f"this libkdumpfile does not read {codec}")
    assert done.returncode == 0, done.stderr.decode()
    theirs, at = {}, 0
    for pfn in wanted:
        length = int.from_bytes(done.stdout[at : at + 4], "little")
        theirs[pfn] = done.stdout[at + 4 : at + 4 + length]
        at += 4 + length
    with decoded(open_image(path)) as image:
        for each in image.ranges:
            for address in range(int(each["address"]), int(each["address"] + each["bytes"]), page):
                if each["state"] == State.DATA:
                    ours = image.payload[each["file"]].read(int(each["offset"]) + address - int(each["address"]), page)
                else:
                    ours = bytes(page) if each["state"] == State.ZERO else b""
                # What is excluded it takes for zeros, or refuses, as it is told.
                if each["state"] != State.EXCLUDED:
                    assert theirs[address // page] == ours, address


@pytest.mark.parametrize("far", [None, 1 << 50])
def test_a_block_that_most_pages_point_to_is_not_decoded_again_and_again(tmp_path, far):
    """24 bytes of descriptor would make 64 KiB each of it, which no one who writes dumps does but with zeros."""
    pages = "pages 1-1 zlib\nlike 2-8000 as=1"
    data = kdump(pages, page=1 << 16, machine=b"aarch64")
    if far:
        data = flattened(b"", [(0, data), (far, b"more")])
    path = tmp_path / "dump"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="page descriptors: they claim .* bytes of compressed pages, the file has"):
        open_image(path)
