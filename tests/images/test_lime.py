"""LiME: ranges that end anywhere, and writes that failed."""

import random

import pytest

import pageshare
from damage import both_happen, damage, scanned
from dumps import PAGE, coverage, lime, lime_compressed, memory, true_to
from oracle import agrees, census
from other_readers import our_pages, volatility_pages
from pageshare.images import ImageError, open_image
from pageshare.images.lime import range_header
from pageshare.images.ranges import Kind, first_wins
from pageshare.space import Coverage

REAL = """
    0x1000-0x9fbff          # ends in the middle of a page, as real ones do
    0x100000-0x1fffff
    0xfeffc000-0xfeffffff   # device memory
    0x100000000-0x10000ffff
"""


def test_a_real_layout(opened):
    image = opened(lime(REAL))
    assert (image.format, image.kind, image.incomplete, image.warnings) == ("lime", Kind.RAM, (), ())
    assert true_to(image)
    assert coverage(image) == Coverage(data=158 + 256 + 16, partial=1, partial_bytes=0xC00, device=4)
    # The header of the second range follows at once.
    assert int(image.ranges["offset"][1]) == 32 + 0x9EC00 + 32


def test_counts_are_those_of_a_dict(opened):
    image = opened(lime("0x1000-0x4fff salt=1\n 0x8000-0xbfff salt=1"))
    pages = [memory(at, PAGE, 1) for at in (*range(0x1000, 0x5000, PAGE), *range(0x8000, 0xC000, PAGE))]
    assert agrees(pageshare.scan({"g": image}).to_dict(), census({"g": pages}))


@pytest.mark.parametrize("edge", [0x1800, 0x17FF, 0x1001, 0x1FFF])
def test_a_page_of_two_ranges_is_one_page(opened, edge):
    image = opened(lime(f"0x1000-{edge - 1:#x}\n {edge:#x}-0x3fff"))
    assert true_to(image)
    assert coverage(image).data == 3
    pages = [memory(at, PAGE) for at in (0x1000, 0x2000, 0x3000)]
    copy = b"".join(pages)
    report = pageshare.scan({"g": image, "copy": copy})
    assert (report.pages.known, report.nonzero.reclaimed_inter) == (6, 3)


def test_ranges_out_of_order_and_overlapping(opened):
    image = opened(lime("0x8000-0x9fff salt=1\n 0x1000-0x1fff salt=1\n 0x9000-0xafff salt=2"))
    ranges, overlapped = first_wins(image.ranges)
    assert overlapped == PAGE
    assert ranges["address"].tolist() == [0x1000, 0x8000, 0xA000]
    assert coverage(image).data == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0x1000-0x1fff version=2", "LiME version 2, only 1 is known"),
        ("0x2000-0x2fff", None),
    ],
)
def test_versions(opened, text, said):
    if said:
        with pytest.raises(ImageError, match=said):
            opened(lime(text))
    else:
        assert coverage(opened(lime(text))).data == 1


def test_a_first_header_that_makes_no_sense(opened):
    data = bytearray(lime("0x2000-0x2fff"))
    data[8:16] = (0x9000).to_bytes(8, "little")
    with pytest.raises(ImageError, match="ends at 0x2fff, before its start 0x9000"):
        opened(bytes(data))


def test_garbage_after_a_range_is_left_out_and_said(opened):
    image = opened(lime("0x1000-0x2fff") + b"\xff" * 100)
    assert coverage(image).data == 2
    assert "100 bytes from there on are left out" in image.incomplete[0]


def test_a_failed_write_ends_a_range_early(opened):
    image = opened(lime("0x1000-0x2fff\n 0x8000-0xbfff kept=5000\n 0x10000-0x11fff"))
    assert coverage(image) == Coverage(data=2 + 1 + 2, lost=3)
    assert "ends early" in image.incomplete[0]
    assert true_to(image)
    later = opened(lime("0x1000-0x2fff kept=100\n 0x8000-0x1ffff"))
    assert coverage(later) == Coverage(data=24, lost=2)
    assert true_to(later)


def test_many_failed_writes_take_no_time(opened):
    image = opened(lime("\n".join(f"{at:#x}-{at + 0xFFFFFF:#x} kept=40" for at in range(0, 10_000 << 24, 1 << 24))))
    assert len(image.ranges) == 20_000
    assert image.incomplete[8:] == ("so it is in 9992 more places",)


def test_a_header_that_memory_holds_is_no_range(opened):
    """Of a dump made before, say: it is looked at only where a range can't be whole, and must lie beyond it."""
    data = lime("0x1000-0x2fff\n 0x8000-0x9fff")
    copy = range_header(0x1000, 0x2FFF)
    image = opened(data[:5000] + copy + data[5000 + len(copy) :])
    assert coverage(image) == Coverage(data=4)
    assert image.incomplete == ()
    image = opened((data[:5000] + copy + data[5000 + len(copy) :])[: -PAGE])
    assert coverage(image) == Coverage(data=3, lost=1)


def test_truncation_at_every_place_is_an_error_or_counted(tmp_path):
    whole = lime("0x1000-0x2fff\n 0x8000-0xafff")
    path = tmp_path / "cut.lime"
    first, second = 32, 32 + 2 * PAGE + 32
    marks = (first, first + PAGE, first + 2 * PAGE, second, second + PAGE, second + 2 * PAGE, len(whole))
    cuts = {*range(1, 40), *(mark + d for mark in marks for d in (-33, -32, -31, -1, 0, 1, 31))}
    for cut in sorted(cut for cut in cuts if 0 < cut <= len(whole)):
        path.write_bytes(whole[:cut])
        if cut < 32:
            with pytest.raises(ImageError, match=r"cut\.lime"):
                open_image(path, format="lime")
            continue
        with open_image(path) as image:
            data = min(2, (cut - first) // PAGE) + max(0, (cut - second) // PAGE)
            # A range that was not begun is not known of: only one that has its header can be lost.
            claimed = 2 + (3 if cut >= second else 0)
            assert coverage(image) == Coverage(data=data, lost=claimed - data), cut
            at_an_end = cut in (first + 2 * PAGE, len(whole))
            assert bool(image.incomplete) == (not at_an_end), cut
            assert true_to(image)


def test_damage_never_does_harm(tmp_path):
    rng, path = random.Random(6), tmp_path / "damaged.lime"
    whole = lime("0x1000-0x2fff\n 0x8000-0x9fff\n 0x20000-0x20fff\n 0x30000-0x30bff")
    heads = [0, 32 + 2 * PAGE, 64 + 4 * PAGE, 96 + 5 * PAGE]
    reports = []
    for _ in range(800):
        path.write_bytes(damage(whole, rng, lambda: rng.choice(heads) + rng.randrange(24)))
        reports.append(scanned(path, "lime"))
    assert both_happen(reports, least=100)


def test_our_own_headers_read_back(opened):
    image = opened(range_header(0x1000, 0x1FFF) + b"\1" * PAGE + range_header(0x5000, 0x6FFF) + b"\2" * 2 * PAGE)
    assert image.ranges["address"].tolist() == [0x1000, 0x5000]
    assert image.incomplete == ()
    with pytest.raises(ValueError, match="no range"):
        range_header(5, 4)


# In ascending order and apart, or volatility3 refuses it.
@pytest.mark.parametrize("text", [REAL, "0x1000-0x17ff\n 0x1800-0x3fff\n 0x8000-0x8fff"])
def test_volatility3_reads_the_same(tmp_path, text):
    path = tmp_path / "dump"
    path.write_bytes(lime(text))
    theirs = volatility_pages(path, "lime.LimeLayer")
    with open_image(path) as image:
        assert our_pages(image) == theirs


def test_compressed_by_lime_itself(opened):
    """compress=1: one zlib stream over the whole."""
    with opened(lime_compressed(REAL)) as image:
        assert image.details["compressed"].startswith("zlib, ")
        assert true_to(image)
        assert coverage(image) == Coverage(data=158 + 256 + 16, partial=1, partial_bytes=0xC00, device=4)
