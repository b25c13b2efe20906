"""Xen's cores: both lists of pages, entries that are none, cut and damaged; and as other programs read them."""

import random
import struct
import subprocess

import pytest

import pageshare
from damage import both_happen, damage, scanned
from dumps import PAGE, coverage, elf, fields, lines, memory, true_to
from oracle import agrees, census
from other_readers import our_pages, volatility_pages
from pageshare.images import ImageError, open_image
from pageshare.images.ranges import Kind, first_wins
from pageshare.space import Coverage

NO_FRAME = 2**64 - 1


def xen(
    text,
    *,
    p2m=False,
    order="<",
    machine=62,
    page_size=PAGE,
    pages=None,
    format=1,
    gap=0,
    list_first=False,
    header_note=True,
    without=(),
):
    """A core of ``page first= [count=]`` lines, frames of the guest in the order of the file (``nowhere``: ~0), and
    ``gone`` lines, entries of a paravirtualised guest that have no frame of the machine.

    ``pages`` is the number to say instead of the right one, ``format`` the version; ``list_first``: the list of pages
    lies before them, which Xen doesn't do; ``without``: sections to leave out.
    """
    frames, machine_frames = [], []
    for line in lines(text):
        word, values = fields(line)
        for frame in range(values["first"], values["first"] + values.get("count", 1)):
            frames.append(frame)
            machine_frames.append(NO_FRAME if word == "gone" or frame == NO_FRAME else frame + 0x55000)
    payload = b"".join(b"\xee" * page_size if f == NO_FRAME else memory(f * page_size, page_size) for f in frames)
    entries = [n for pair in zip(frames, machine_frames, strict=True) for n in pair] if p2m else frames
    list_name, listed = ".xen_p2m" if p2m else ".xen_pfn", struct.pack(f"{order}{len(entries)}Q", *entries)

    def note(kind, content):
        return struct.pack(order + "III", 4, len(content), kind) + b"Xen\0" + content + bytes(-len(content) % 4)

    count = len(frames) if pages is None else pages
    notes = note(0x2000000, b"")
    if header_note:
        notes += note(0x2000001, struct.pack(order + "4Q", 0xF00FEBED if p2m else 0xF00FEBEE, 1, count, page_size))
    notes += note(0x2000002, bytes(1270)) + note(0x2000003, struct.pack(order + "Q", format))
    parts = {".note.Xen": notes, ".xen_prstatus": bytes(5168), ".xen_pages": payload, list_name: listed}
    parts = {name: part for name, part in parts.items() if name not in without}
    names = b"\0" + b"\0".join(each.encode() for each in (".shstrtab", *parts)) + b"\0"
    at = 64 + 64 * (2 + len(parts))
    table = bytes(64) + struct.pack(order + "IIQQQQIIQQ", 1, 3, 0, 0, at, len(names), 0, 0, 1, 0)
    body = names
    in_file = [name for name in parts if name != list_name]
    if list_name in parts:
        in_file.insert(1 if list_first else len(in_file), list_name)
    places = {}
    for name in in_file:
        if name == ".xen_pages":
            body += bytes(-(at + len(body)) % PAGE + gap)
        places[name] = at + len(body)
        body += parts[name]
    for name, part in parts.items():
        kind = 7 if name == ".note.Xen" else 1
        place = (names.index(name.encode()), kind, 0, 0, places[name], len(part), 0, 0, 0, 0)
        table += struct.pack(order + "IIQQQQIIQQ", *place)
    ident = b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02") + b"\x01"
    header = struct.pack(order + "HHIQQQIHHHHHH", 4, machine, 1, 0, 0, 64, 0, 64, 0, 0, 64, len(parts) + 2, 1)
    return ident.ljust(16, b"\0") + header + table + body


GUEST = """
    page first=0 count=0xa0
    page first=0xc0 count=16
    page first=0xfeffd count=3       # of Xen, in the middle of what PCs keep for devices
    page first=0x100000 count=8
"""
PAGES = 0xA0 + 16 + 3 + 8


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("p2m", [False, True], ids=["pfn", "p2m"])
def test_both_lists_of_pages(opened, p2m, order):
    image = opened(xen(GUEST, p2m=p2m, order=order))
    assert (image.format, image.kind, image.incomplete, image.warnings) == ("xen", Kind.RAM, (), ())
    assert true_to(image)
    assert coverage(image) == Coverage(data=PAGES)
    assert len(image.ranges) == 4
    assert image.details == {
        "guest": "paravirtualised" if p2m else "hardware-virtualised",
        "machine": "x86_64",
        "page size": "4096",
        "entries that are no page": "0",
    }


def test_pages_in_any_order(opened):
    text = "page first=9\n page first=7 count=2\n page first=1\n page first=0xffffffff count=2\n page first=2"
    image = opened(xen(text, gap=100))
    assert true_to(image)
    assert coverage(image) == Coverage(data=7)


@pytest.mark.parametrize("p2m", [False, True], ids=["pfn", "p2m"])
def test_entries_of_64_one_bits_are_no_pages(opened, p2m):
    text = "page first=1 count=2\n page first=nowhere\n page first=3\n page first=nowhere"
    image = opened(xen(text, p2m=p2m))
    assert true_to(image)
    assert coverage(image) == Coverage(data=3)
    assert image.details["entries that are no page"] == "2"
    assert len(image.ranges) == 2  # frame 3 follows frame 2, but not in the file


def test_frames_without_memory_of_a_paravirtualised_guest_are_no_pages(opened):
    image = opened(xen("page first=1 count=2\n gone first=3 count=4\n page first=7", p2m=True))
    assert true_to(image)
    assert coverage(image) == Coverage(data=3)


def test_frames_of_32_one_bits_are_pages_like_others(opened):
    image = opened(xen("page first=0xffffffff"))
    assert image.ranges["address"].tolist() == [0xFFFFFFFF * PAGE]


@pytest.mark.parametrize("size", [16 << 10, 64 << 10])
def test_other_sizes_of_pages(opened, size):
    image = opened(xen("page first=1 count=3", page_size=size, machine=50))
    assert true_to(image)
    assert coverage(image) == Coverage(data=3 * size // PAGE)


def test_lists_longer_than_what_is_read_at_once(opened, monkeypatch):
    monkeypatch.setattr("pageshare.images.xen._BLOCK", 7)
    image = opened(xen(GUEST + "page first=nowhere\n page first=0x5000 count=9", p2m=True))
    assert true_to(image)
    assert coverage(image) == Coverage(data=PAGES + 9)


def test_counts_are_those_of_a_dict(opened):
    image = opened(xen("page first=5 count=3\n page first=nowhere\n page first=1"))
    pages = [memory(frame * PAGE, PAGE) for frame in (1, 5, 6, 7)]
    assert agrees(pageshare.scan({"g": image}).to_dict(), census({"g": pages}))


def test_a_page_that_is_listed_twice_counts_once(opened):
    image = opened(xen("page first=5 count=3\n page first=6"))
    assert first_wins(image.ranges)[1] == PAGE
    assert coverage(image) == Coverage(data=3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (xen(GUEST, without=[".xen_pages"]), "no section .xen_pages"),
        (xen(GUEST, without=[".xen_pfn"]), "neither .xen_pfn nor .xen_p2m"),
        (xen(GUEST, without=[".note.Xen"]), "no note says how many pages"),
        (xen(GUEST, header_note=False), "no note says how many pages"),
        (xen(GUEST, format=1 << 32), "format 1 is not known"),
        (xen("page first=1", page_size=256), "pages of 256 bytes"),
        (xen("page first=1", pages=0), "it lists no page"),
        (xen("page first=nowhere"), "all its entries are no pages"),
        (xen("page first=1")[:-8] + struct.pack("<Q", 1 << 40), "beyond what a machine can"),
        (elf(""), "no program headers; only Xen's cores have none"),
    ],
)
def test_what_is_refused_says_why(opened, data, said):
    with pytest.raises(ImageError, match=said) as caught:
        opened(data)
    assert "\n" not in str(caught.value)


def test_a_count_that_does_not_fit_is_incomplete(opened):
    image = opened(xen("page first=1 count=5", pages=1 << 60))
    assert coverage(image) == Coverage(data=5)
    assert "the header says 1152921504606846976 pages, its sections have room for 5" in image.incomplete[0]
    assert coverage(opened(xen("page first=1 count=5", pages=2))) == Coverage(data=2)


def test_a_list_of_nothing_but_zeros_takes_no_gigabytes(tmp_path, monkeypatch):
    monkeypatch.setattr("pageshare.images.xen._MOST_RUNS", 1 << 19)
    whole = bytearray(xen("page first=1 count=5", pages=1 << 60))
    for number in (4, 5):  # .xen_pages and .xen_pfn
        struct.pack_into("<QQ", whole, 64 + 64 * number + 24, 1 << 20, 1 << 42)
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(whole)
        file.truncate(1 << 42)
    with pytest.raises(ImageError, match="more than 524288 pages that do not follow each other"):
        open_image(path)


@pytest.mark.parametrize("p2m", [False, True], ids=["pfn", "p2m"])
def test_truncation_at_every_place_is_an_error_or_counted(tmp_path, p2m):
    """Xen writes the list behind the pages: without it none has an address."""
    whole = xen("page first=7 count=2\n page first=1 count=3", p2m=p2m)
    entry = 16 if p2m else 8
    listed_at = len(whole) - 5 * entry
    path = tmp_path / "cut.core"
    marks = [64, 64 + 6 * 64, 64 + 6 * 64 + 60, listed_at - 5 * PAGE, *range(listed_at, len(whole) + 1, entry)]
    for cut in sorted({mark + d for mark in marks for d in (-1, 0, 1)} - {len(whole) + 1}):
        path.write_bytes(whole[:cut])
        if cut < listed_at + entry:
            with pytest.raises(ImageError, match=r"cut\.core"):
                open_image(path, format="xen")
            continue
        with open_image(path) as image:
            data = (cut - listed_at) // entry
            assert coverage(image) == Coverage(data=data)
            assert bool(image.incomplete) == (data < 5)
            assert true_to(image)


def test_pages_that_are_cut_off_are_lost_where_the_list_comes_first(tmp_path):
    whole = xen("page first=7 count=2\n page first=1 count=3", list_first=True)
    pages_at = len(whole) - 5 * PAGE
    path = tmp_path / "cut.core"
    for cut in sorted({pages_at + page * PAGE + d for page in range(6) for d in (-1, 0, 1)} - {len(whole) + 1}):
        path.write_bytes(whole[:cut])
        with open_image(path) as image:
            data = max(0, cut - pages_at) // PAGE
            assert coverage(image) == Coverage(data=data, lost=5 - data), cut
            assert bool(image.incomplete) == (cut < len(whole))
            assert true_to(image)


def test_damage_never_does_harm(tmp_path):
    rng, path = random.Random(8), tmp_path / "damaged.core"
    wholes = [xen("page first=7 count=2\n page first=1 count=3", p2m=p2m, list_first=True) for p2m in (False, True)]
    headers = 64 + 64 * 6

    def place():
        return rng.choice([rng.randrange(6, 64), rng.randrange(64, headers), rng.randrange(headers, headers + 300)])

    reports = []
    for _ in range(500):
        path.write_bytes(damage(rng.choice(wholes), rng, place))
        reports.append(scanned(path, "xen"))
    assert both_happen(reports, least=100)


def test_volatility_reads_the_same(opened, tmp_path):
    """Of .xen_pfn; of .xen_p2m it makes an error."""
    # Frame 0 is none to it.
    image = opened(xen(GUEST.replace("first=0 count=0xa0", "first=1 count=0x9f")))
    assert volatility_pages(tmp_path / "dump", "xen.XenCoreDumpLayer") == our_pages(image)


LIBKDUMPFILE = """
import sys, kdumpfile
dump = kdumpfile.kdumpfile(sys.argv[1])
for frame in map(int, sys.argv[2:]):
    sys.stdout.buffer.write(dump.read(kdumpfile.KDUMP_KPHYSADDR, frame * 4096, 4096))
"""


@pytest.mark.parametrize("p2m", [False, True], ids=["pfn", "p2m"])
def test_libkdumpfile_reads_the_same(opened, tmp_path, p2m):
    python = "/usr/bin/python3"  # which has the packages that come from apt
    has_it = subprocess.run([python, "-c", "import kdumpfile"], capture_output=True, check=False).returncode == 0
    if not has_it:
        pytest.skip("no libkdumpfile: apt-get install python3-libkdumpfile")
    ours = our_pages(opened(xen(GUEST, p2m=p2m)))
    run = [python, "-c", LIBKDUMPFILE, str(tmp_path / "dump"), *map(str, ours)]
    assert subprocess.run(run, stdout=subprocess.PIPE, check=True).stdout == b"".join(ours.values())
