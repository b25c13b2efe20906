"""Flattened dumps: records in any order, pages that lie across them, and what is missing."""

import functools
import random
import shutil
import struct
import subprocess

import numpy as np
import pytest

import pageshare
from damage import both_happen, damage, scanned
from dumps import PAGE, coverage, elf, flattened, kdump, memory, true_to
from oracle import agrees, census
from pageshare.images import ImageError, open_image
from pageshare.images import flattened as module
from pageshare.images.blocks import decoded
from pageshare.images.ranges import Kind
from pageshare.space import Coverage

DUMP = kdump("pages 0-9 zlib\n zero 10-12\n pages 13-19 plain\n excluded 20-21\n pages 22-25 snappy")
CORE = elf("note QEMU 0\n load address=0x1000 bytes=5p\n load address=0x10000 bytes=3p memory=5p")


@pytest.mark.parametrize("size", [700, 1000, PAGE, 5000, 16384, 1 << 20])
def test_a_kdump(opened, size):
    plain = opened(DUMP)
    image = opened(flattened(DUMP, size=size))
    assert (image.format, image.kind, image.incomplete, image.warnings) == ("flattened", Kind.RAM, (), ())
    assert coverage(image) == coverage(plain) == Coverage(data=21, zero=3, excluded=2)
    assert image.details == {"content": "kdump", **plain.details, "records": str(-(-len(DUMP) // size))}
    with decoded(image) as image:
        assert image.incomplete == ()
        assert true_to(image)
    pages = [memory(pfn * PAGE, PAGE) for pfn in (*range(10), *range(13, 20), *range(22, 26))] + [bytes(PAGE)] * 3
    assert agrees(pageshare.scan({"g": opened(flattened(DUMP, size=size))}).to_dict(), census({"g": pages}))


@pytest.mark.parametrize("size", [700, 1000, PAGE, 1 << 20])
def test_a_core(opened, size):
    plain = coverage(opened(CORE))
    image = opened(flattened(CORE, size=size))
    assert (image.format, image.incomplete) == ("flattened", ())
    assert coverage(image) == plain == Coverage(data=8, excluded=2)
    assert image.details["content"] == "elf"
    assert true_to(image)
    pages = [memory(at, PAGE) for at in (*range(0x1000, 0x6000, PAGE), *range(0x10000, 0x13000, PAGE))]
    assert agrees(pageshare.scan({"g": opened(flattened(CORE, size=size))}).to_dict(), census({"g": pages}))


def test_pages_are_read_where_they_lie_unless_they_lie_across_records(opened):
    data_at = 4 * PAGE + 8 * 24
    whole = kdump("pages 0-7 plain")
    records = [
        (0, whole[:data_at]),
        (data_at, whole[data_at : data_at + 3 * PAGE]),
        (data_at + 3 * PAGE, whole[data_at + 3 * PAGE : data_at + 5 * PAGE + 100]),
        (data_at + 5 * PAGE + 100, whole[data_at + 5 * PAGE + 100 :]),
    ]
    image = opened(flattened(whole, records))
    assert image.ranges[["address", "bytes", "file"]].tolist() == [
        (0, 3 * PAGE, 0), (3 * PAGE, 2 * PAGE, 0), (5 * PAGE, PAGE, 1), (6 * PAGE, 2 * PAGE, 0)
    ]  # fmt: skip
    assert true_to(decoded(image))


def test_later_records_overwrite_earlier_ones(opened):
    """makedumpfile writes headers again at the end, when it knows all."""
    stale = bytearray(DUMP)
    stale[:PAGE] = kdump("pages 0-1 zlib", status=8)[:PAGE]
    stale[4 * PAGE :] = bytes(len(DUMP) - 4 * PAGE)
    records = [(0, bytes(stale)), (4 * PAGE, DUMP[4 * PAGE :]), (0, DUMP[:PAGE])]
    image = opened(flattened(DUMP, records))
    assert image.incomplete == ()
    assert true_to(decoded(image))
    assert coverage(image) == Coverage(data=21, zero=3, excluded=2)


def test_other_processes_decode_it_too(opened, monkeypatch):
    monkeypatch.setattr("pageshare.images.blocks.BATCH", 4)
    with decoded(opened(flattened(DUMP)), workers=2) as image:
        assert image.incomplete == ()
        assert true_to(image)


def test_what_no_record_holds_is_lost_not_zero(opened):
    data_at = 4 * PAGE + 24 * 24
    hole = (data_at + 300, data_at + 2000)
    records = [(0, DUMP[: hole[0]]), (hole[1], DUMP[hole[1] :])]
    with decoded(opened(flattened(DUMP, records))) as image:
        assert "before the data of" in image.incomplete[0]
        found = coverage(image)
        assert found.lost > 0
        assert found.data + found.zero + found.lost == 24
        assert true_to(image)
    records = [(0, CORE[: -3 * PAGE]), (len(CORE) - 2 * PAGE, CORE[-2 * PAGE :])]
    image = opened(flattened(CORE, records))
    assert image.incomplete == (f"{PAGE} bytes of memory lie in none of the records: they are lost",)
    assert coverage(image) == Coverage(data=7, excluded=2, lost=1)
    assert true_to(image)


def test_headers_that_no_record_holds(opened):
    with pytest.raises(ImageError, match="neither a kdump nor an ELF core; the file ends at 0x1000 without"):
        opened(flattened(b"", [], end=False))
    with pytest.raises(ImageError, match="neither a kdump nor an ELF core; it is damaged"):
        opened(flattened(b"", []))
    with pytest.raises(ImageError, match="blocks of bitmap at 0x2000 are not all in the file"):
        opened(flattened(DUMP, [(0, DUMP[: 2 * PAGE + 100]), (4 * PAGE, DUMP[4 * PAGE :])]))


@pytest.mark.parametrize("more", [{"kind": 2}, {"version": 2}])
def test_other_versions(opened, more):
    with pytest.raises(ImageError, match="only 1, 1 is known"):
        opened(flattened(DUMP, **more))


@pytest.mark.parametrize("dump", [DUMP, CORE], ids=["kdump", "elf"])
def test_truncation_at_every_boundary_is_an_error_or_counted(tmp_path, dump):
    size = 5000
    records = [(at, dump[at : at + size]) for at in range(0, len(dump), size)]
    whole = flattened(dump, records)
    path = tmp_path / "cut"
    marks = [16, 32, 4096, *(4096 + number * (size + 16) for number in range(len(records))), len(whole)]
    cuts = {mark + d for mark in marks for d in (-17, -16, -15, -1, 0, 1, 16, 17)} & {*range(14, len(whole) + 1)}
    refused = 0
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        try:
            image = open_image(path)
        except ImageError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        with decoded(image) as image:
            assert bool(image.incomplete) == (cut < len(whole)), cut
            assert coverage(image).known + coverage(image).lost == (24 if dump is DUMP else 8), cut
            assert true_to(image)
    assert refused < len(cuts) * 0.7


@pytest.mark.parametrize(
    ("offset", "length"), [(-2, 100), (-1, 0), (100, -1), (2**62, 5), (2**63 - 1, 2**63 - 1), (5, 2**62)]
)
def test_records_that_make_no_sense_end_the_dump(opened, offset, length):
    data = flattened(DUMP, [(0, DUMP)], end=False) + struct.pack(">qq", offset, length) + bytes(100)
    image = opened(data)
    assert "makes no sense" in image.incomplete[0]
    assert coverage(image).data == 21
    assert true_to(decoded(image))


def test_a_record_far_away_takes_no_memory(opened):
    image = opened(flattened(DUMP, [(0, DUMP), (2**61, b"far")]))
    assert image.incomplete == ()
    assert true_to(decoded(image))
    header = bytearray(DUMP)
    struct.pack_into("<i", header, 432, 65535)
    with pytest.raises(ImageError, match="are not all in the file"):
        opened(flattened(DUMP, [(0, bytes(header)), (2**61, b"far")]))


def test_records_of_a_byte_are_refused(opened, monkeypatch):
    monkeypatch.setattr(module, "_FEW", 100)
    with pytest.raises(ImageError, match="record 101: the records are too short for a dump's"):
        opened(flattened(DUMP[:5000], size=1))


def a_header(rng, records):
    """A place in the header of one of the records, which have 2000 bytes each."""
    return 4096 + rng.randrange(16) + 2016 * rng.randrange(records)


def test_damage_never_does_harm(tmp_path):
    rng, path = random.Random(8), tmp_path / "damaged"
    reports = []
    for number in range(300):
        dump = (DUMP, CORE)[number % 2]
        whole = flattened(dump, size=2000)
        place = functools.partial(a_header, rng, len(dump) // 2000)
        path.write_bytes(damage(whole, rng, place, cut=0.2))
        reports.append(scanned(path, "flattened"))
    assert both_happen(reports, least=30)


def test_a_view_reads_as_the_file_put_together(opened, tmp_path):
    """By makedumpfile, which writes it anew, where there is one."""
    rng = np.random.default_rng(9)
    order = rng.permutation(len(DUMP) // 777 + 1) * 777
    flat = flattened(DUMP, [(at, DUMP[at : at + 777]) for at in order.tolist()])
    whole = opened(flat).compressed.source
    for at, count in [(0, len(DUMP)), (0, 2 * len(DUMP)), (776, 2), (len(DUMP) - 1, 9), (len(DUMP), 1), (2**63, 5)]:
        assert whole.read(at, count) == DUMP[at : at + count]
    if not shutil.which("makedumpfile"):
        pytest.skip("no makedumpfile: apt-get install makedumpfile")
    subprocess.run(["makedumpfile", "-R", tmp_path / "whole"], input=flat, capture_output=True, check=True)
    assert (tmp_path / "whole").read_bytes() == DUMP
