"""AVML: blocks of snappy's framing format, those of zeros left out, ranges that lack their last byte."""

import os
import random

import pytest

import pageshare
from damage import both_happen, damage, scanned
from dumps import PAGE, SNAPPY, avml, coverage, memory, snappy_chunk, true_to
from oracle import agrees, census
from other_readers import our_pages, volatility_pages
from pageshare.images import ImageError, open_image
from pageshare.images.blocks import decoded
from pageshare.images.ranges import Kind, State
from pageshare.space import Coverage

MIB = 1 << 20
FULL = 4096  # pages of a full block

REAL = """
    0x1000-0x9fbfe            # /proc/iomem: 00001000-0009fbff
    0x100000-0x10fffff        # 00100000-0235ffff, two blocks of 16 MiB
    0x1100000-0x20fffff
    0x2100000-0x235fffe       # and what is left
"""
SMALL = """
    0x1000-0x4fff chunk=8192
    0x8000-0xbffe chunk=8192
    0x10800-0x12fff chunk=8192
"""


def test_a_real_layout(opened):
    image = opened(avml(REAL))
    assert (image.format, image.kind, image.incomplete, image.warnings) == ("avml", Kind.RAM, (), ())
    # The last page of a range lacks a byte: it is never taken for whole.
    found = Coverage(data=158 + 2 * FULL + 607, partial=2, partial_bytes=0xBFF + 0xFFF)
    assert coverage(image) == found
    with decoded(image) as whole:
        assert true_to(whole)
        assert coverage(whole) == found
        assert whole.incomplete == ()
    # Blocks of one range lie together, as in memory: no page is in two pieces.
    assert image.ranges["offset"].tolist() == [0, 0x9F000, 0x9F000 + 16 * MIB, 0x9F000 + 32 * MIB]


def test_counts_are_those_of_a_dict(opened):
    image = opened(avml("0x1000-0x8fff zeros=8192\n 0x10000-0x17ffe plain=1"))
    held = (*range(0x3000, 0x9000, PAGE), *range(0x10000, 0x17000, PAGE))
    pages = [bytes(PAGE)] * 2 + [memory(at, PAGE) for at in held]
    copy = b"".join(pages[::-1])
    document = pageshare.scan({"g": image, "copy": copy}).to_dict()
    assert agrees(document, census({"g": pages, "copy": pages}))
    assert document["pages"]["partial"] == 1


def test_blocks_of_zeros_are_left_out(opened):
    """A gap of whole steps behind a full block is of its range; no other gap is."""
    image = opened(
        avml(
            """
            0x1000000-0x1ffffff zeros=0xff0000      # full
            0x4000000-0x43ffffe zeros=0x3f0000      # two steps on
            0x5000000-0x5ffffff zeros=0xff0000      # behind one that is not full
            0x8001000-0x8001ffe                     # no whole steps
            """
        )
    )
    assert coverage(image).zero_inferred == 2 * FULL
    (gap,) = image.ranges[image.ranges["state"] == State.ZERO_INFERRED]
    assert (int(gap["address"]), int(gap["bytes"])) == (0x2000000, 32 * MIB)
    assert image.details["blocks of zeros left out"] == "2"
    assert image.warnings == ()


def test_where_ranges_end_is_not_known_of_a_converted_dump(opened):
    image = opened(avml("0x1000000-0x1ffffff zeros=0xff0000\n 0x4000000-0x4000fff"))
    assert coverage(image).zero_inferred == 2 * FULL
    assert image.warnings[0].startswith("33554432 bytes between blocks count as zeros that were left out;")


def test_a_gap_beside_what_was_lost_is_no_zeros(opened):
    spans = ("0x0-0xffffff", "0x1000000-0x1ffffff", "0x2000000-0x2ffffff")
    data = bytearray(avml("\n".join(f"{span} zeros=0xff0000" for span in spans)))
    second = data.index(data[:8], 8)
    data[second] ^= 1
    image = opened(bytes(data))
    assert coverage(image) == Coverage(data=2 * FULL)
    assert "no AVML header" in image.incomplete[0]


def test_zeros_are_not_stored(opened):
    image = opened(avml("0x1800-0x10017fe zeros=0xff0000\n 0x2000000-0x2ffffff zeros=0xffe800"))
    with decoded(image) as whole:
        assert os.fstat(whole.payload[1].fd).st_blocks * 512 <= 96 << 10
        assert coverage(whole).data == 2 * FULL - 1
        assert our_pages(whole)[0x2FFF] == memory(0x2FFF000, PAGE)


@pytest.mark.parametrize(
    "options",
    ["plain=1", "padding=0", "padding=5000", "identifiers=3", "chunk=4096", "chunk=65535", "chunk=5000 plain=1"],
)
def test_streams_of_any_kind(opened, options):
    with decoded(opened(avml(f"0x1000-0x4fffe {options}\n 0x50800-0x7ffff {options}"))) as image:
        assert image.incomplete == image.warnings == ()
        assert true_to(image)
        assert coverage(image) == Coverage(data=0x4E + 0x2F, partial=2, partial_bytes=0xFFF + 0x800)


def test_memory_that_can_not_be_compressed(opened):
    """Such a block is longer than the memory in it; one well-known reader never comes to its end."""
    content = random.Random(6).randbytes(1 << 18)
    chunks = [snappy_chunk(content[at : at + 65536]) for at in range(0, len(content), 65536)]
    assert {chunk[0] for chunk in chunks} == {1}
    data = avml("0x10000-0x4ffff kept=0")[:32] + SNAPPY + b"".join(chunks)
    data += (len(data) - 32).to_bytes(8, "little")
    assert b"".join(our_pages(opened(data)).values()) == content


def test_one_block_of_any_size(opened):
    """As the first versions wrote a range."""
    with decoded(opened(avml("0x100000-0x20fffff"))) as image:
        assert coverage(image) == Coverage(data=2 * FULL)
        assert true_to(image)


def test_a_page_of_two_blocks(opened):
    with decoded(opened(avml("0x1000-0x27ff\n 0x2800-0x3fff"))) as image:
        assert coverage(image) == Coverage(data=3)
        assert true_to(image)


@pytest.mark.parametrize("size", [16384, 65536])
def test_large_pages(tmp_path, size):
    path = tmp_path / "dump"
    path.write_bytes(avml("0x10000-0x5fffe"))
    with decoded(open_image(path, page_size=size)) as image:
        assert coverage(image, size).data == 5 * 65536 // size - 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0x1000-0x1fff version=1", "header of block 0: AVML version 1, only 2 is known"),
        ("0x1000-0x1fff version=3", "AVML version 3"),
        ("0x0-0xffffffffffffffff", None),
    ],
)
def test_a_first_header_that_makes_no_sense(opened, text, said):
    data = bytearray(avml(text if said else "0x1000-0x1fff"))
    if not said:
        data[8:24], said = bytes(8) + b"\xff" * 8, "the whole 64-bit address space"
    with pytest.raises(ImageError, match=said):
        opened(bytes(data))


def test_a_block_that_ends_early(opened):
    image = opened(avml("0x1000-0x8fff chunk=8192 kept=3\n 0x10000-0x10fff"))
    assert coverage(image) == Coverage(data=7, lost=2)
    assert "the block 0x1000-0x8fff: its stream ends at " in image.incomplete[0]
    assert image.incomplete[0].endswith(": 8192 bytes of memory are lost")


def test_a_wrong_length_behind_a_block_is_odd(opened):
    image = opened(avml("0x1000-0x1fff behind=1\n 0x10000-0x10fff behind=-1"))
    assert coverage(image) == Coverage(data=2)
    assert [sentence.partition(",")[0] for sentence in image.warnings] == [
        "the length behind the block 0x1000-0x1fff is wrong",
        "the length behind the block 0x10000-0x10fff is wrong",
    ]


@pytest.mark.parametrize("behind", [0, 1])
def test_a_block_that_holds_more_than_it_says(opened, behind):
    data = bytearray(avml(f"0x1000-0x8fff chunk=8192 behind={behind}\n 0x10000-0x10fff"))
    data[16:24] = 0x4FFF.to_bytes(8, "little")
    image = opened(bytes(data))
    assert coverage(image) == Coverage(data=4 + (not behind))
    assert "holds more than it says" in image.incomplete[0] or "no further one is found" in image.incomplete[0]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({0: 0x55}, "no snappy stream begins at 0x20"),
        ({0: 0x02}, "no snappy stream begins at 0x20"),
        ({4: 0x53}, "the stream identifier at 0x20 is none"),
        ({1: 0x07}, "the stream identifier at 0x20 is none"),
        ({10: 0x02}, "the chunk at 0x2a (type 0x02, "),
        ({10: 0x7F}, "the chunk at 0x2a (type 0x7f, "),
        ({18: 0xFF, 19: 0xFF, 20: 0x7F}, "the chunk at 0x2a (type 0x00, "),
        ({12: 0x80}, "the file ends at "),
    ],
    ids=str,
)
def test_damaged_streams_are_lost_up_to_the_next_block(opened, damage, said):
    data = bytearray(avml("0x1000-0x8fff chunk=8192\n 0x10000-0x10fff"))
    for at, value in damage.items():
        data[32 + at] = value
    image = opened(bytes(data))
    assert coverage(image) == Coverage(data=1, lost=8)
    assert f"the block 0x1000-0x8fff: {said}" in image.incomplete[0]
    with decoded(image) as whole:
        assert true_to(whole)


@pytest.mark.parametrize("plain", [0, 1])
def test_a_wrong_checksum_is_a_lost_chunk(opened, plain):
    """Of chunks that are not compressed too."""
    data = bytearray(avml(f"0x1000-0x8fff chunk=8192 plain={plain}"))
    data[32 + 10 + 4] ^= 1
    with decoded(opened(bytes(data))) as image:
        assert coverage(image) == Coverage(data=6, lost=2)
        assert "1 compressed blocks are damaged, the first at 0x2a: " in image.incomplete[0]
        assert true_to(image)


def test_a_dump_in_the_memory_is_not_walked_into(opened):
    """Of a machine on which dumps are written: a block that breaks ends where its own length is."""
    inner = avml("0x100000-0x100fff")
    content = inner + bytes(8192 - len(inner))
    data = avml("0x1000-0x2fff kept=0")[:32] + SNAPPY + b"\x02\0\0\0" + snappy_chunk(content, plain=True)
    data += (len(data) - 32).to_bytes(8, "little") + avml("0x200000-0x200fff")
    image = opened(data)
    assert coverage(image) == Coverage(data=1, lost=2)
    assert int(image.ranges["address"][-1]) == 0x200000


def test_garbage_behind_the_last_block(opened):
    image = opened(avml("0x1000-0x2fff") + b"\xff" * 100)
    assert coverage(image) == Coverage(data=2)
    assert "100 bytes from there on are left out" in image.incomplete[0]


def test_chunks_of_nothing_come_to_an_end(opened):
    """Padding alone, or chunks of a byte each, which would take more to list than they hold."""
    for chunk in (b"\xfe\0\0\0", b"\x01\x05\0\0\0\0\0\0A", b"\x00\x0c\0\0\0\0\0\0\x80\x80\x04\0\0\0\0\0"):
        head = avml("0x1000-0x1fff")[:16]
        data = head + ((1 << 60) - 1).to_bytes(8, "little") + bytes(8) + SNAPPY + chunk * 200_000
        image = opened(data)
        assert image.compressed is None or image.compressed.size <= 64
        assert int(image.ranges["bytes"].sum()) == (1 << 60) - 0x1000
        assert "bytes of memory are lost" in image.incomplete[0]


def test_truncation_at_every_place_is_an_error_or_counted(tmp_path):
    whole = avml(SMALL)
    path = tmp_path / "cut.avml"
    heads = [at for at in range(len(whole)) if whole[at : at + 4] == b"AVML"]
    ends = [*heads[1:], len(whole)]
    claims = [4, 4, 3]
    for cut in range(1, len(whole) + 1, 61):
        check_cut(path, whole, cut, heads, ends, claims)
    for cut in {mark + d for mark in (*heads, *ends) for d in (-9, -8, -7, -1, 0, 1, 31, 32, 33, 42, 43)}:
        if 0 < cut <= len(whole):
            check_cut(path, whole, cut, heads, ends, claims)


def check_cut(path, whole, cut, heads, ends, claims):
    path.write_bytes(whole[:cut])
    if cut < 32:
        with pytest.raises(ImageError, match=r"cut\.avml"):
            open_image(path, format="avml")
        return
    with decoded(open_image(path)) as image:
        begun = sum(claim for head, claim in zip(heads, claims, strict=True) if head + 32 <= cut)
        found = coverage(image)
        assert found.known + found.lost + found.partial == begun, cut
        assert bool(image.incomplete) == (cut not in ends), cut
        assert true_to(image)
        # All of a block that is there is found.
        assert found.known >= sum(
            claim - bool(claim == 4 and number) - bool(claim == 3)
            for number, (end, claim) in enumerate(zip(ends, claims, strict=True))
            if end <= cut
        )


def test_damage_never_does_harm(tmp_path):
    rng, path = random.Random(6), tmp_path / "damaged.avml"
    whole = avml(SMALL + "0x20000-0x20fff plain=1")
    heads = [at for at in range(len(whole)) if whole[at : at + 4] == b"AVML"]

    def place():
        return rng.choice(heads) + rng.randrange(60) if rng.random() < 0.6 else rng.randrange(len(whole) - 8)

    reports = []
    for _ in range(500):
        path.write_bytes(damage(whole, rng, place))
        reports.append(scanned(path, "avml"))
    assert both_happen(reports, least=20)


@pytest.mark.parametrize("text", [REAL, SMALL, "0x1000-0x4fffe identifiers=3\n 0x50800-0x7ffff chunk=5000"])
def test_volatility3_reads_the_same(tmp_path, text):
    """But for padding at the end, and blocks that are longer than their memory: of those it never finds the end."""
    path = tmp_path / "dump"
    path.write_bytes(avml(text))
    theirs = volatility_pages(path, "avml.AVMLLayer")
    with open_image(path) as image:
        assert our_pages(image) == theirs
