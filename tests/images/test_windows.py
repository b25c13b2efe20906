"""Windows crash dumps: of both widths, of each sort, cut and damaged; and as other programs read them."""

import random
import struct

import numpy as np
import pytest

import pageshare
from damage import both_happen, damage, scanned
from dumps import PAGE, coverage, fields, lines, memory, true_to
from oracle import agrees, census
from other_readers import our_pages, volatility_pages
from pageshare.images import ImageError, open_image
from pageshare.images.ranges import Kind
from pageshare.images.windows import _difference
from pageshare.space import Coverage

FILL = b"PAGE"


def windows(text, *, bits=64, type=1, machine=None, runs=None, total=None, summary=b"SDMPDUMP", gap=0, payload_at=None):
    """A crash dump of ``run`` lines, the machine's memory as the header lists it, and ``has`` lines, what the dump
    holds of it (a complete one: the runs).

    Both are ``first= pages=``, page frames. A header is full of PAGE where nothing was set. ``runs`` and ``total`` are
    the counts to say instead of the right ones; ``gap`` bytes lie before the pages, which begin at ``payload_at``.
    """
    found = [fields(line) for line in lines(text)]
    listed = [(each["first"], each["pages"]) for word, each in found if word == "run"]
    held = [(each["first"], each["pages"]) for word, each in found if word == "has"] or listed
    header = bytearray(FILL * (0x800 if bits == 64 else 0x400))
    header[4:8] = b"DU64" if bits == 64 else b"DUMP"
    put = [(8, "<II", (15, 19041))]
    count = len(listed) if runs is None else runs
    pages = sum(pages for _, pages in listed) if total is None else total
    if bits == 64:
        put += [(0x30, "<I", (machine or 0x8664,)), (0xF98, "<I", (type,))]
        if count:
            put += [(0x88, "<I4xQ", (count, pages))]
        put += [(0x98 + 16 * n, "<QQ", run) for n, run in enumerate(listed)]
    else:
        put += [(0x20, "<I", (machine or 0x14C,)), (0x5C, "<B", (1,)), (0xF88, "<I", (type,))]
        if count:
            put += [(0x64, "<II", (count, pages))]
        put += [(0x6C + 8 * n, "<II", run) for n, run in enumerate(listed)]
    for at, form, values in put:
        struct.pack_into(form, header, at, *values)
    second = b""
    if type in (2, 5, 6):
        bitmap_bits = max(first + pages for first, pages in held) + 3
        bitmap = np.zeros(-(-bitmap_bits // 8) * 8, np.uint8)
        for first, pages in held:
            bitmap[first : first + pages] = 1
        held.sort()
        packed = np.packbits(bitmap, bitorder="little").tobytes()
        size = -(-(0x38 + len(packed)) // PAGE) * PAGE + gap
        start = len(header) + size if payload_at is None else payload_at
        count = sum(pages for _, pages in held) if total is None else total
        second = (summary + FILL * 6 + struct.pack("<QQQ", start, count, bitmap_bits) + packed).ljust(size, b"\0")
    elif type in (8, 9, 10):
        table = b"".join(struct.pack("<QQ", *run) for run in held) + bytes(16) + b"\xee" * gap
        start = 0x2030 + len(table)
        count = sum(pages for _, pages in held) if total is None else total
        second = struct.pack("<I8sIQQ", 0x40, b"RDMPDUMP", 0, start - 0x2020, start)
        second += struct.pack("<IHHQ", len(held), 0, 0, count) + table
    return bytes(header) + second + b"".join(memory(first * PAGE, pages * PAGE) for first, pages in held)


COMPLETE = """
    run first=0x1 pages=0x9e
    run first=0x100 pages=20
    run first=0x100000 pages=7      # above 4 GiB: the numbers are 64 bits, or the system uses PAE
"""
PARTS = """
    run first=0x1 pages=0x9e
    run first=0x100 pages=20
    has first=0x2 pages=5
    has first=0x90 pages=0xf
    has first=0x102 pages=3
"""
HELD = 5 + 15 + 3
LEFT_OUT = 0x9E + 20 - HELD


@pytest.mark.parametrize("bits", [64, 32])
def test_complete_dumps(opened, bits):
    image = opened(windows(COMPLETE, bits=bits))
    assert (image.format, image.kind, image.incomplete, image.warnings) == ("windows", Kind.RAM, (), ())
    assert true_to(image)
    assert coverage(image) == Coverage(data=0x9E + 20 + 7)
    assert image.details == {
        "dump type": "complete (1)",
        "machine": "x86_64" if bits == 64 else "i386",
        "build": "19041",
        "runs": "3",
        "memory of the machine": f"{0x9E + 20 + 7} pages",
    }


SORTS = [
    pytest.param({"type": 2, "bits": 64}, id="kernel"),
    pytest.param({"type": 5, "bits": 64, "summary": b"FDMPDUMP"}, id="bitmap"),
    pytest.param({"type": 6, "bits": 64}, id="live kernel"),
    pytest.param({"type": 5, "bits": 32}, id="32-bit bitmap"),
    pytest.param({"type": 5, "bits": 64, "gap": 2 * PAGE + 100}, id="pages begin anywhere"),
    pytest.param({"type": 8, "bits": 64}, id="kernel ranges"),
    pytest.param({"type": 9, "bits": 64, "gap": 32}, id="kernel and user ranges"),
    pytest.param({"type": 10, "bits": 64}, id="complete ranges"),
]


@pytest.mark.parametrize("options", SORTS)
def test_what_kernel_dumps_leave_out_is_excluded(opened, options):
    image = opened(windows(PARTS, **options))
    assert (image.incomplete, image.warnings) == ((), ())
    assert true_to(image)
    assert coverage(image) == Coverage(data=HELD, excluded=LEFT_OUT)
    report = pageshare.scan(image)
    assert (report.pages.known, report.pages.unique, report.pages.unknown) == (HELD, HELD, LEFT_OUT)


@pytest.mark.parametrize("options", SORTS)
@pytest.mark.parametrize("count", [0, 0x45474150, 5000], ids=["no runs", "filled with PAGE", "too many"])
def test_nothing_is_made_up_where_the_header_has_no_runs(opened, options, count):
    image = opened(windows(PARTS, **options, runs=count))
    assert coverage(image) == Coverage(data=HELD)
    assert "in no count" in image.warnings[0]
    assert image.details["memory of the machine"] == "not said"
    assert true_to(image)


def test_pages_that_the_header_does_not_list_are_memory_all_the_same(opened):
    image = opened(windows("run first=0x10 pages=4\n has first=0x12 pages=9", type=5))
    assert coverage(image) == Coverage(data=9, excluded=2)


def test_ranges_in_any_order(opened):
    image = opened(windows("run first=1 pages=99\n has first=50 pages=3\n has first=7 pages=2", type=8))
    assert true_to(image)
    assert coverage(image) == Coverage(data=5, excluded=94)


def test_a_bitmap_longer_than_what_is_read_at_once(opened, monkeypatch):
    monkeypatch.setattr("pageshare.images.windows._BLOCK_BYTES", 16)
    text = "run first=0 pages=400\n has first=30 pages=5\n has first=63 pages=2\n has first=96 pages=64\n"
    for type in (5, 9):
        image = opened(windows(text + " has first=300 pages=1", type=type))
        assert true_to(image)
        assert coverage(image) == Coverage(data=72, excluded=328)


def test_devices_are_apart_on_pcs_only(opened):
    text = "run first=0xdfffe pages=4"
    assert coverage(opened(windows(text))) == Coverage(data=2, device=2)
    assert coverage(opened(windows(text, machine=0xAA64))) == Coverage(data=4)


@pytest.mark.parametrize("size", [16 << 10, 64 << 10])
def test_larger_pages_are_cut_by_address(opened, size):
    image = opened(windows("run first=0x1 pages=0x5f"))
    whole = 0x60 * PAGE // size - 1
    assert coverage(image, size) == Coverage(data=whole, partial=1, partial_bytes=size - PAGE)


def test_counts_are_those_of_a_dict(opened):
    image = opened(windows(PARTS, type=6))
    held = [*range(2, 7), *range(0x90, 0x9F), *range(0x102, 0x105)]
    assert agrees(pageshare.scan({"g": image}).to_dict(), census({"g": [memory(at * PAGE, PAGE) for at in held]}))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (windows(COMPLETE, type=3), r"a dump of type 3 \(header only\) is not read; take a complete"),
        (windows(COMPLETE, type=4), r"a dump of type 4 \(small \(triage\)\) is not read; take a complete"),
        (windows(COMPLETE, type=0x45474150), r"of type 1162297680 \(unknown\)"),
        (windows(COMPLETE, type=9, bits=32)[:0x9000], "a dump of type 9"),
        (windows(COMPLETE, runs=0), "needs runs of memory, and the header does not list"),
        (windows(COMPLETE, runs=43), "43 runs of memory, which is more than it has room for"),
        (windows(COMPLETE, bits=32, runs=87), "87 runs of memory, which is more than"),
        (windows(COMPLETE, machine=0x200), "Itanium"),
        (windows(PARTS, type=5, summary=b"SDMPDUMB"), "neither SDMPDUMP nor FDMPDUMP"),
        (windows(PARTS, type=2, total=9), "bitmap header: 9 pages, but 23 bits are set; take a complete"),
        (windows(PARTS, type=5, payload_at=0x2038), "pages should begin at 0x2038, the bitmap ends at 0x2059"),
        (windows(PARTS, type=5, payload_at=2**64 - 4096), "pages should begin at"),
    ],
)
def test_what_is_refused_says_why(opened, data, said):
    with pytest.raises(ImageError, match=said) as caught:
        opened(data)
    assert "\n" not in str(caught.value)


def test_frames_that_no_processor_can_address_are_refused(opened):
    whole = windows("run first=0xfffffffff0 pages=16")
    assert coverage(opened(whole)) == Coverage(data=16)
    for first, pages in ((0xFFFFFFFFF1, 16), (0, 2**40 + 1), (2**63, 2**63), (5, 2**64 - 1)):
        data = bytearray(whole)
        struct.pack_into("<QQ", data, 0x98, first, pages)
        with pytest.raises(ImageError, match="runs of memory that no processor can address"):
            opened(bytes(data))
        data = bytearray(windows("has first=2 pages=16", type=9))
        struct.pack_into("<QQ", data, 0x2030, first or 1, pages)
        with pytest.raises(ImageError, match="list of pages"):
            opened(bytes(data))


def test_huge_sizes_are_only_numbers(opened, tmp_path):
    data = bytearray(windows("run first=1 pages=3"))
    struct.pack_into("<QQ", data, 0x98, 1, 2**39)
    image = opened(bytes(data))
    window = 0x20000000 // PAGE
    assert coverage(image) == Coverage(data=3, lost=2**39 - 3 - window, device=window)
    path = tmp_path / "sparse"
    data = bytearray(windows(PARTS, type=5))
    struct.pack_into("<QQQ", data, 0x2020, 1 << 41, HELD, 1 << 42)
    with path.open("wb") as file:
        file.write(data)
        file.truncate(1 << 42)
    with pytest.raises(ImageError, match="a bitmap of 4398046511104 bits is beyond belief"):
        open_image(path)


def test_a_bitmap_of_nothing_but_gaps_takes_no_gigabytes(tmp_path, monkeypatch):
    monkeypatch.setattr("pageshare.images.windows._SPARE_RUNS", 100)
    data = bytearray(windows("has first=0 pages=4000", type=5))
    data[0x2038 : 0x2038 + 500] = b"\x55" * 500
    path = tmp_path / "gaps"
    path.write_bytes(data[:0x3000])
    with pytest.raises(ImageError, match="far more pages than the file can hold"):
        open_image(path)


def test_a_sum_that_does_not_fit_is_odd(opened):
    image = opened(windows(COMPLETE, total=999))
    assert image.warnings == ("the header says 999 pages, those that it lists are 185",)
    image = opened(windows(PARTS, type=5, total=7))
    assert "7 pages, those that it lists are 23" in image.warnings[0]
    # Of complete dumps with ranges the number of pages ends the table.
    image = opened(windows(PARTS, type=10, total=20))
    assert coverage(image) == Coverage(data=20, excluded=LEFT_OUT + 3)


def difference(memory, frames):
    return _difference(np.array(memory, np.uint64).reshape(-1, 2), np.array(frames, np.uint64).reshape(-1, 2))


@pytest.mark.parametrize("seed", range(100))
def test_a_difference_is_that_of_sets(seed):
    rng = random.Random(seed)
    one, other = ([(rng.randrange(40), rng.randrange(12)) for _ in range(rng.randrange(6))] for _ in range(2))

    def frames(runs):
        return {frame for first, pages in runs for frame in range(first, first + pages)}
    found = difference(one, other).tolist()
    assert frames(found) == frames(one) - frames(other)
    assert sum(pages for _, pages in found) == len(frames(found))


@pytest.mark.parametrize("options", [{"type": 1}, *SORTS])
def test_truncation_at_every_place_is_an_error_or_counted(tmp_path, options):
    text = "run first=1 pages=3\n run first=7 pages=4"
    if options["type"] != 1:
        text += "\n has first=2 pages=2\n has first=8 pages=3"
    whole = windows(text, **options)
    held = 7 if options["type"] == 1 else 5
    payload = len(whole) - held * PAGE
    marks = [8, 0x88, 0xF98, 0x1000, 0x1020, 0x1038, 0x2000, 0x2008, 0x2020, 0x2030, 0x2038, 0x2040, payload]
    marks += [payload + page * PAGE for page in range(1, held + 1)]
    path = tmp_path / "cut.dmp"
    for cut in sorted({mark + d for mark in marks for d in (-1, 0, 1)}):
        if not 0 < cut <= len(whole):
            continue
        path.write_bytes(whole[:cut])
        try:
            image = open_image(path, format="windows")
        except ImageError as error:
            assert cut < payload, cut
            assert str(error).startswith(f"{path}: ")
            continue
        with image:
            data = max(0, cut - payload) // PAGE
            assert coverage(image) == Coverage(data=data, lost=held - data, excluded=7 - held), cut
            assert bool(image.incomplete) == (cut < len(whole))
            assert true_to(image)


def test_damage_never_does_harm(tmp_path):
    rng, path = random.Random(7), tmp_path / "damaged.dmp"
    wholes = [
        (windows(PARTS, **options), [0, 8, 0x20, 0x30, 0x64, 0x6C, 0x88, 0x98, 0xF88, 0xF98, *places])
        for options, places in (
            ({"type": 1}, []),
            ({"type": 1, "bits": 32}, []),
            ({"type": 5}, range(0x2000, 0x2060, 4)),
            ({"type": 5, "bits": 32}, range(0x1000, 0x1060, 4)),
            ({"type": 9}, range(0x2000, 0x2080, 4)),
            ({"type": 10}, range(0x2000, 0x2080, 4)),
        )
    ]
    reports = []
    for _ in range(500):
        whole, places = rng.choice(wholes)
        more = [struct.pack("<Q", 1 << 40)]
        path.write_bytes(damage(whole, rng, lambda at=places: rng.choice(at) + rng.randrange(8), more=more))
        reports.append(scanned(path, "windows"))
    assert both_happen(reports, least=100)


@pytest.mark.parametrize("options", [{"type": 1}, {"type": 1, "bits": 32}, {"type": 5}, {"type": 5, "bits": 32}])
def test_volatility_reads_the_same(opened, tmp_path, options):
    image = opened(windows(COMPLETE if options["type"] == 1 else PARTS, **options))
    kind = f"crash.WindowsCrashDump{options.get('bits', 64)}Layer"
    assert volatility_pages(tmp_path / "dump", kind) == our_pages(image)


@pytest.mark.parametrize("type", [1, 5, 6, 8, 9, 10])
def test_kdmp_parser_reads_the_same(opened, tmp_path, type):
    kdmp = pytest.importorskip("kdmp_parser", reason="no kdmp_parser: pip install kdmp-parser")
    image = opened(windows(COMPLETE if type == 1 else PARTS, type=type))
    dump = kdmp.KernelDumpParser(tmp_path / "dump")
    ours = our_pages(image)
    assert {frame: bytes(dump.read_physical_page(frame * PAGE)) for frame in ours} == ours
    absent = set(range(0x200)) - set(ours)
    assert not any(dump.read_physical_page(frame * PAGE) for frame in absent)
