"""ELF cores: each producer's habits, and every way to be cut or damaged."""

import random

import pytest

import pageshare
from damage import both_happen, damage, scanned
from dumps import PAGE, coverage, elf, true_to
from other_readers import our_pages, volatility_pages
from pageshare.images import ImageError, open_image
from pageshare.images.elf import core_header
from pageshare.images.ranges import BLOCK, Kind, first_wins, paginate
from pageshare.space import Coverage, coverage_of

GUEST = """
    note CORE 1
    note QEMU 0
    load address=0x0 bytes=0xa0000
    load address=0xc0000 bytes=64p
    load address=0xfd000000 bytes=4p     # a graphics card
    load address=0xfffc0000 bytes=64p    # the firmware
    load address=0x100000000 bytes=16p
"""


producers = pytest.mark.parametrize(
    "options",
    [
        {},
        {"gap": 0x509 - 0x2A8},  # QEMU's payload starts where it happens to
        {"ehsize": 8, "sections_first": True},  # QEMU 7.2
        {"phentsize": 72},
        {"ident": b"\x7fELF\x02\x01\x00"},  # VirtualBox
    ],
    ids=["plain", "unaligned", "sections first", "long headers", "version 0"],
)


@producers
def test_guests(opened, options):
    image = opened(elf(GUEST, **options))
    assert (image.format, image.kind, image.incomplete, image.warnings) == ("elf", Kind.RAM, (), ())
    assert true_to(image)
    assert coverage(image) == Coverage(data=160 + 64 + 16, device=68)


def test_device_memory_is_that_of_pcs_only(opened):
    assert coverage(opened(elf(GUEST, machine=183))).device == 0


def test_a_segment_across_the_device_window_is_split(opened):
    image = opened(elf("note QEMU 0\n load address=0xdfffe000 bytes=5p\n load address=0xffffe000 bytes=4p"))
    assert true_to(image)
    assert coverage(image) == Coverage(data=2 + 2, device=3 + 2)


def test_more_segments_than_16_bits_count(opened):
    text = "note QEMU 0\n" + "\n".join(f"load address={n * 2 * 512} bytes=512" for n in range(70_000))
    image = opened(elf(text, many=True))
    assert len(image.ranges) == 70_000
    assert true_to(image)
    assert coverage_of(paginate(image.ranges, 512)).data == 70_000


def test_what_is_cut_off_is_counted_over_all_segments(opened):
    count = 3 * BLOCK
    segments = "\n".join(
        f"load address={n * 1024} bytes=512" + (" offset=nowhere" if n % 10 == 5 else "") for n in range(count)
    )
    dump = elf(f"note QEMU 0\n{segments}")
    lost = 512 * (BLOCK + BLOCK // 2)
    image = opened(dump[: len(dump) - lost])
    assert f"{lost} bytes of memory are lost" in image.incomplete[0]
    skipped = len(range(5, count, 10))
    assert image.details["segments"] == f"{count}, {skipped} of them without memory or place"


def test_the_count_in_section_0_must_be_there(opened):
    data = bytearray(elf(GUEST, many=True))
    data[40:48] = bytes(8)  # e_shoff
    with pytest.raises(ImageError, match="no section 0"):
        opened(bytes(data))


def test_memory_without_payload_is_unknown_not_zero(opened):
    image = opened(elf("note QEMU 0\n load address=0x10000 bytes=2p memory=5p"))
    assert coverage(image) == Coverage(data=2, excluded=3)
    report = pageshare.scan(image)
    assert (report.pages.known, report.pages.unknown, report.pages.zero) == (2, 3, 0)


def test_overlapping_segments_count_once_and_the_first_wins(opened):
    image = opened(
        elf("""
            note QEMU 0
            load address=0x4000 bytes=2p salt=1
            load address=0x3000 bytes=4p salt=2
        """)
    )
    ranges, overlapped = first_wins(image.ranges)
    assert overlapped == 2 * PAGE
    assert coverage(image).data == 4
    space = pageshare.PageSpace([("guest", [image])])
    assert any("2 * 4096" in each or "8192 bytes" in each for each in space.warnings)
    firsts = [image.source.read(int(r["offset"]), 8)[7] for r in ranges for _ in range(1)]
    assert [(int(r["address"]), salt) for r, salt in zip(ranges, firsts, strict=True)] == [
        (0x3000, 2),
        (0x4000, 1),
        (0x6000, 2),
    ]


def test_the_same_payload_at_two_places_of_the_table_is_no_warning(opened):
    """dump-guest-memory -p gives a segment for each virtual mapping of the same memory."""
    image = opened(
        elf("""
            note QEMU 0
            load address=0x3000 bytes=4p vaddr=0xffff880000003000
            load address=0x3000 bytes=4p vaddr=0xffffffff80003000 offset=0
        """)
    )
    assert first_wins(image.ranges)[1] == 0
    assert coverage(image).data == 4


def test_segments_without_address_or_place_are_left_out(opened):
    image = opened(
        elf("""
            note QEMU 0
            load address=nowhere bytes=3p
            load address=0x1000 bytes=2p
            load address=0x8000 bytes=2p offset=nowhere
        """)
    )
    assert true_to(image)
    assert coverage(image).data == 2
    assert "2 of them without memory or place" in image.details["segments"]


@pytest.mark.parametrize("note", ["CORE 3", "CORE 6", f"CORE {0x46494C45:#x}"])
def test_a_process_core_is_known_by_its_notes_and_lies_at_virtual_addresses(opened, note):
    image = opened(
        elf(f"""
            note {note}
            load address=0 vaddr=0x400000 bytes=2p
            load address=0 vaddr=0x7ffd00000000 bytes=3p
        """)
    )
    assert image.kind == Kind.PROCESS
    assert true_to(image)
    assert coverage(image) == Coverage(data=5, process=5)
    assert first_wins(image.ranges)[0]["address"].tolist() == [0x400000, 0x7FFD00000000]


@pytest.mark.parametrize("note", ["QEMU 0", "VMCOREINFO 0"])
def test_one_segment_at_0_with_a_guests_note_is_a_guest(opened, note):
    image = opened(elf(f"note CORE 1\n note {note}\n load address=0 vaddr=0 bytes=2p"))
    assert (image.kind, image.warnings) == (Kind.RAM, ())


def test_a_core_without_notes_is_told_by_its_addresses(opened):
    two = opened(elf("load address=0 vaddr=0x1000 bytes=1p\n load address=0 vaddr=0x9000 bytes=1p"))
    assert two.kind == Kind.PROCESS
    assert "taken for a process" in two.warnings[0]


def test_a_dump_marked_incomplete(opened):
    image = opened(elf(GUEST, flags=1))
    assert "incomplete" in image.incomplete[0]
    assert opened(elf(GUEST, flags=1, machine=243)).incomplete == ()  # RISC-V uses the bit for something else


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (elf(GUEST, ident=b"\x7fELF\x02\x01\x07"), "02 01 07"),
        (elf(GUEST, ident=b"\x7fELF\x03\x01\x01"), "03 01 01"),
        (elf(GUEST, ident=b"\x7fELF\x02\x00\x01"), "02 00 01"),
        (elf(GUEST, type=2), "a program, not a core"),
        (elf(GUEST, type=3), "shared library, not a core"),
        (elf(GUEST, phentsize=56)[:54] + b"\x20\0" + elf(GUEST)[56:], "program headers of 32 bytes"),
        (elf(""), "no program headers"),
        (elf("note CORE 1"), "is a LOAD with memory"),
        (elf("load address=nowhere bytes=1p\n note CORE 1"), "no LOAD has both"),
        (elf("load address=0xfffffffffffff000 bytes=2p\n note QEMU 0"), "pass the end of the 64-bit address space"),
    ],
)
def test_what_is_refused_says_why(opened, data, said):
    with pytest.raises(ImageError, match=said) as caught:
        opened(data)
    assert "\n" not in str(caught.value)


def test_huge_sizes_are_only_numbers(opened):
    image = opened(elf(f"note QEMU 0\n load address=0x1000 bytes=1p memory={1 << 60}"))
    assert coverage(image).data == 1
    window = 0x20000000 // PAGE
    assert coverage(image) == Coverage(data=1, excluded=(1 << 60) // PAGE - 1 - window, device=window)


def test_a_payload_that_is_claimed_again_and_again_is_refused(opened):
    """A small file must not become terabytes of memory."""
    text = "note QEMU 0\n load address=0 bytes=100p\n"
    text += "\n".join(f"load address={n * 1024 * PAGE:#x} bytes=100p offset=0" for n in range(1, 500))
    image = opened(elf(text))
    with pytest.raises(ImageError, match="its headers claim 204800000 bytes of memory"):
        pageshare.scan(image)


def test_truncation_at_every_place_is_an_error_or_counted(tmp_path):
    text = "note QEMU 0\n load address=0x1000 bytes=2p\n load address=0x8000 bytes=3p memory=4p"
    whole = elf(text, gap=77)
    path = tmp_path / "cut.elf"
    payload = len(whole) - 5 * PAGE
    cuts = {*range(0, payload + 2), *(payload + n * PAGE + d for n in range(6) for d in (-1, 0, 1))}
    for cut in sorted(cut for cut in cuts if cut <= len(whole)):
        path.write_bytes(whole[:cut])
        headers = 64 + 3 * 56
        if cut < headers:
            with pytest.raises(ImageError, match="cut.elf"):
                open_image(path, format="elf")
            continue
        with open_image(path) as image:
            whole_pages = sum(
                min(pages, max(0, cut - at) // PAGE) for at, pages in ((payload, 2), (payload + 2 * PAGE, 3))
            )
            assert coverage(image) == Coverage(data=whole_pages, lost=5 - whole_pages, excluded=1), cut
            assert bool(image.incomplete) == (cut < len(whole))
            assert true_to(image)
            if whole_pages:
                report = pageshare.scan(image)
                assert (report.pages.known, report.pages.unique) == (whole_pages, whole_pages)


def test_damage_never_does_harm(tmp_path):
    """Any bytes in the headers."""
    rng, path = random.Random(5), tmp_path / "damaged.elf"
    whole = elf(GUEST.replace("64p", "2p").replace("0xa0000", "3p"), many=True, gap=3)
    headers = 64 + 8 * 56 + 64 + 60
    reports = []
    for _ in range(1200):
        path.write_bytes(damage(whole, rng, lambda: rng.randrange(4, headers), times=(1, 1, 2, 4, 16), cut=0))
        reports.append(scanned(path, "elf"))
    assert both_happen(reports, least=100)


@pytest.mark.parametrize("kind", [Kind.RAM, Kind.PROCESS])
@pytest.mark.parametrize("alignment", [1, 4096])
def test_our_own_headers_read_back(opened, kind, alignment):
    loads = [(0x1000, 2 * PAGE), (0x10000, 3 * PAGE)]
    notes = [("CORE", 3, b"x" * 136)] if kind == Kind.PROCESS else []
    header = core_header(loads, kind=kind, payload_alignment=alignment, notes=notes)
    assert len(header) % alignment == 0
    image = opened(header + b"\1" * 5 * PAGE)
    assert (image.kind, image.warnings, image.incomplete) == (kind, (), ())
    assert first_wins(image.ranges)[0]["address"].tolist() == [0x1000, 0x10000]
    assert first_wins(image.ranges)[0]["offset"].tolist() == [len(header), len(header) + 2 * PAGE]


def test_our_own_headers_refuse_what_would_not_read_back():
    with pytest.raises(ValueError, match="needs a CORE note"):
        core_header([(0, PAGE)], kind=Kind.PROCESS)
    with pytest.raises(ValueError, match="not in the 64-bit"):
        core_header([(2**64 - 1, PAGE)], kind=Kind.RAM)


def test_our_own_headers_of_many_segments(opened):
    loads = [(n * 2 * PAGE, PAGE) for n in range(66_000)]
    header = core_header(loads, kind=Kind.RAM)
    image = opened(header + bytes(100))
    assert coverage(image).lost + coverage(image).data == 66_000


@producers
def test_volatility3_reads_the_same(tmp_path, options):
    path = tmp_path / "dump"
    path.write_bytes(elf(GUEST, **options))
    theirs = volatility_pages(path, "elf.Elf64Layer")
    with open_image(path) as image:
        assert our_pages(image) == theirs
