"""QEMU's migration streams: what is sent twice, what is sent otherwise, and streams that end anywhere."""

import random
import struct
import tracemalloc

import pytest

import pageshare
from damage import both_happen, damage, scanned
from dumps import PAGE, coverage
from migrations import DEVICES, configuration, content, counted, footer, migration, same, section
from oracle import agrees, census
from pageshare.images import ImageError, open_image, qemu_migration
from pageshare.images.ranges import Kind, State
from pageshare.space import Coverage

PC = """
    block pc.ram 64p
    block 0000:00:02.0/vga.vram 16p
    block /rom@etc/acpi/tables 4p
    block pc.bios 2p
"""
GUEST = f"""
    {PC}
    part
    page pc.ram 0
    zero pc.ram 1p count=5
    page pc.ram 6p count=20
    zero pc.ram 26p
    page pc.ram 27p
    zero pc.ram 28p count=36
    part
    zero 0000:00:02.0/vga.vram 0 count=16
    page /rom@etc/acpi/tables 0 count=4
    page pc.bios 0 count=2
    page pc.ram 3p salt=1          # it was zero before
    zero pc.ram 10p                # and it had other content
    end
    page pc.ram 10p salt=2
    page pc.ram 11p salt=2
    devices
"""


def only(name):
    return {"memory_first": (name,)}


def test_a_guest(opened):
    stream = migration(GUEST)
    image = opened(stream.data)
    assert (image.format, image.kind, image.incomplete, image.warnings) == ("qemu-migration", Kind.RAM, (), ())
    assert same(image, stream, **only("pc.ram"))
    assert coverage(image) == Coverage(data=1 + 20 + 1 + 1, zero=64 - 23, device=16 + 4 + 2)
    assert image.details["machine"] == "pc-i440fx-7.2"
    assert "pc.ram (262144 bytes at 0x0)" in image.details["RAM blocks"]


def test_counts_are_those_of_a_dict(opened):
    stream = migration("block m 9p\n part\n page m 0 count=4\n page m 4p salt=1 count=2\n zero m 6p count=3\n end")
    image = opened(stream.data)
    report = pageshare.scan({"g": image, "again": b"".join(stream.pages.values())})
    assert agrees(report.to_dict(), census({name: list(stream.pages.values()) for name in ("g", "again")}))


@pytest.mark.parametrize("window", [5000, 9000, 1 << 14])
@pytest.mark.parametrize("many", [1, 1 << 20])
def test_whatever_is_sent_again_the_last_copy_counts(opened, monkeypatch, window, many):
    monkeypatch.setattr(qemu_migration, "_WINDOW", window)
    monkeypatch.setattr(qemu_migration, "_MANY_RUNS", many)
    monkeypatch.setattr(qemu_migration, "_AT_ONCE", 3)
    rng = random.Random(window)
    text = ["block m0 300p", "block m1 80p", "part"]
    for name, pages in (("m0", 300), ("m1", 80)):
        at = 0
        while at < pages:
            count = min(pages - at, rng.choice([1, 1, 2, 17, 60]))
            text.append(f"{rng.choice(['page', 'zero'])} {name} {at}p count={count}")
            at += count
    for salt in range(1, 8):
        text.append("part")
        for _ in range(rng.choice([0, 5, 30])):
            name, pages = rng.choice([("m0", 300), ("m1", 80)])
            count = rng.choice([1, 1, 3, 40])
            at = rng.randrange(pages - count)
            text.append(f"{rng.choice(['page', 'zero'])} {name} {at}p count={count} salt={salt} named={at % 2}")
    stream = migration("\n".join([*text, "end", "devices"]))
    image = opened(stream.data)
    assert same(image, stream, memory_first=("m0", "m1"))
    assert (image.incomplete, image.warnings) == ((), ())


@pytest.mark.parametrize(
    ("page", "head"),
    [
        (16384, configuration("virt-9.0", page_bits=14)),
        (65536, configuration("virt-9.0", page_bits=16, uuid=True)),
        (1024, configuration("virt-9.0", page_bits=10)),
        (8192, None),  # sparc64 and alpha do not tell
        (16384, None),
    ],
)
@pytest.mark.parametrize("first", ["page", "zero"])
def test_page_sizes_of_other_machines(opened, page, head, first):
    stream = migration(
        f"block mach-virt.ram {40 * page}\n part\n {first} mach-virt.ram 0\n zero mach-virt.ram {page} count=3\n"
        f" page mach-virt.ram {4 * page} count=36\n end\n devices",
        page=page,
        head=head,
    )
    image = opened(stream.data)
    assert same(image, stream, page=page, **only("mach-virt.ram"))
    assert image.details["page size"] == str(page)
    assert pageshare.scan(image, page_size=page).pages.known == 40


def test_a_page_size_that_nothing_tells_is_4_kib(opened):
    for tail in ("zero pc.ram 0 count=5", "page pc.ram 0"):
        image = opened(migration(f"block pc.ram 9p\n part\n {tail}\n stop").data)
        assert coverage(image).known == (5 if "zero" in tail else 1)
        assert image.details["page size"] == "4096"


def test_old_machines_have_neither_configuration_nor_footers(opened):
    stream = migration(GUEST, head=b"", footers=False)
    assert same(opened(stream.data), stream, **only("pc.ram"))


@pytest.mark.parametrize(
    "head",
    [
        configuration(uuid=True),
        configuration(other=True),  # a part that is not known: the section ram is looked for
        configuration() + b"\x08" + struct.pack(">HHI", 2, 4, 0),  # a command: ping
        configuration() + section(4, "virtio-mem-early", 7, 1) + b"\1ram\3ram" + bytes(30) + footer(7),
        configuration() + section(1, "block", 1) + bytes(10) + footer(1),  # another live section, set up before
    ],
)
def test_what_may_come_before_ram(opened, head):
    stream = migration(GUEST, head=head)
    assert same(opened(stream.data), stream, **only("pc.ram"))


def test_other_live_sections_are_passed_over(opened):
    dirty = section(1, "dirty-bitmap", 9, 1) + b"\x7e\0\0\0\x08 and more" + footer(9)
    more = section(2, number=9) + b"\x02\0\0\0\x02" + footer(9) + section(3, number=9) + footer(9)
    stream = migration(GUEST.replace("    part", f"    hex {(dirty + more).hex()}\n    part", 1))
    assert same(opened(stream.data), stream, **only("pc.ram"))


def test_a_background_snapshot_has_no_end_of_ram(opened):
    text = "block pc.ram 3p\n part\n page pc.ram 0 count=3\n devices"
    image = opened(migration(text).data)
    assert (coverage(image), image.incomplete) == (Coverage(data=3), ())


def test_zeros_behind_a_stream_that_was_not_finished_are_no_end(opened):
    image = opened(migration("block pc.ram 3p\n part\n page pc.ram 0").data + bytes(1000))
    assert coverage(image) == Coverage(data=1, lost=2)
    assert "no section is of type 0x0" in image.incomplete[0]


@pytest.mark.parametrize(
    ("name", "device"),
    [
        *((name, False) for name in ("pc.ram", "m0", "ram-node0", "/objects/mem0", "/objects/a.b", "mach-virt.ram")),
        *((name, False) for name in ("0000:00:02.0/vm0", "memdimm1", "vrama", "romulus")),  # a virtio-mem, a DIMM
        *((name, True) for name in ("/rom@etc/table-loader", "0000:00:02.0/vga.vram", "0000:00:03.0/e1000.rom")),
        *((name, True) for name in ("pc.bios", "pc.rom", "system.flash0", "vga.vram", "mach-virt.tag")),
    ],
)
def test_which_blocks_are_devices(opened, name, device):
    image = opened(migration(f"block ram 3p\n block {name} 1p\n part\n page {name} 0\n page ram 0 count=3\n end").data)
    assert coverage(image) == (Coverage(data=3, device=1) if device else Coverage(data=4))


def test_the_largest_block_is_memory_where_none_seems_to_be(opened):
    image = opened(migration("block a.rom 1p\n block b.rom 3p\n part\n page b.rom 0 count=3\n page a.rom 0\n end").data)
    assert coverage(image) == Coverage(data=3, device=1)


def test_the_boards_ram_comes_first(opened):
    blocks = ("0000:00:02.0/vm0", "dimm0", "pc.ram", "pc.bios")
    text = "\n".join(f"block {name} 2p" for name in blocks) + "\n part\n"
    text += "\n".join(f"page {name} 0 count=2" for name in blocks) + "\n end"
    stream = migration(text)
    assert same(opened(stream.data), stream, memory_first=("pc.ram", "dimm0", "0000:00:02.0/vm0"))


def test_shared_memory_that_is_left_out_is_not_known(opened):
    stream = migration(
        "block mem0 8p address=0\n block pc.bios 1p address=0xfffc0000\n part\n page pc.bios 0\n end\n devices",
        head=configuration(capabilities=["x-ignore-shared"]),
    )
    image = opened(stream.data)
    assert same(image, stream, **only("mem0"))
    assert coverage(image) == Coverage(excluded=8, device=1)
    assert f"{8 * PAGE} bytes of its RAM are not in the stream" in image.warnings[0]
    assert image.incomplete == ()


@pytest.mark.parametrize("own", [0, 1 << 21, 1 << 30])
def test_postcopy_that_was_only_allowed(opened, own):
    advice = b"\x08" + struct.pack(">HHQQ", 3, 16, 4096 | own, 4096)
    huge = f"own={own}" if own else ""
    stream = migration(
        f"block mem0 8p {huge}\n block pc.bios 1p\n block last 2p {huge}\n part\n page mem0 0 count=8\n page last 0"
        " count=2\n page pc.bios 0\n end\n devices",
        head=configuration() + advice,
    )
    assert same(opened(stream.data), stream, memory_first=("mem0", "last"))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (struct.pack(">Q", 0x1060) + b"\1\0\4abcd", "XBZRLE.*the capability xbzrle off"),
        (struct.pack(">Q", 0x1120) + struct.pack(">I", 40), "compressed.*the capability compress off"),
        (struct.pack(">Q", 0x200), "multifd.*the capability multifd off"),
        (struct.pack(">Q", 0x80), "RDMA.*rdma-pin-all"),
    ],
)
def test_other_forms_of_pages_are_refused_by_name(opened, record, said):
    with pytest.raises(ImageError, match=said) as caught:
        opened(migration(f"block pc.ram 3p\n part\n page pc.ram 0\n hex {record.hex()}\n end").data)
    assert "\n" not in str(caught.value)


def test_postcopy_is_refused(opened):
    listen = (b"\x08" + struct.pack(">HH", 4, 0)).hex()
    with pytest.raises(ImageError, match="postcopy.*the capability postcopy-ram off"):
        opened(migration(f"block pc.ram 3p\n part\n page pc.ram 0\n hex {bytes(7).hex()}10{footer().hex()}\n stop\n"
                         f" hex {listen}").data)


def test_pages_of_one_byte_over_and_over_are_lost_unless_it_is_zero(opened):
    """QEMU wrote such before 1.6."""
    image = opened(migration("block pc.ram 9p\n part\n zero pc.ram 0 count=4\n zero pc.ram 4p fill=7 count=3\n"
                             " zero pc.ram 7p\n page pc.ram 8p\n end").data)
    assert coverage(image) == Coverage(data=1, zero=5, lost=3)
    assert f"{3 * PAGE} bytes of memory are told by one byte a page" in image.incomplete[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (migration("block a 1p", version=2).data, "stream version 2, only 3 is known"),
        (migration("block a 1p", ram_version=3).data, "no section ram of version 4"),
        (b"QEVM\0\0\0\3" + section(1) + struct.pack(">Q", 16), "does not begin with a list"),
        (b"QEVM\0\0\0\3" + section(1) + struct.pack(">Q", 8) + counted("a") + bytes(PAGE), "not begin with a list"),
        (b"QEVM\0\0\0\3" + section(1) + struct.pack(">Q", 4), "does not begin with a list"),
        (b"QEVM\0\0\0\3" + section(1) + struct.pack(">QBQ", 4096 | 4, 0, 8192), "of 8192 bytes, of 4096 that are left"),
        (b"QEVM\0\0\0\3" + section(1) + struct.pack(">QBQ", 4096 | 4, 0, 0), "of 0 bytes"),
        (b"QEVM\0\0\0\3\7\xff\xff\xff\xff", "the machine's name has 4294967295 bytes"),
        (migration("block a 1p", head=configuration(page_bits=60)).data, r"pages of 2\^60 bytes"),
        (migration(f"block a {1 << 62}\n block b {1 << 62}").data, "more than can be"),
    ],
)
def test_what_is_refused_says_why(opened, data, said):
    with pytest.raises(ImageError, match=said) as caught:
        opened(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (struct.pack(">Q", 3 * PAGE | 0x28) + bytes(PAGE), "a page at 0x3000 of a block of 12288 bytes"),
        (struct.pack(">Q", 0x28 | 1 << 60) + bytes(PAGE), "a page at 0x1000000000000000 of a block"),
        (struct.pack(">Q", 8) + counted("b") + bytes(PAGE), "a page of b, which is not in the list"),
        (struct.pack(">Q", 0x428) + bytes(PAGE), "no page of 4096 bytes begins at 0x400"),
        (bytes(8), "no record begins with 0x0"),
        (struct.pack(">Q", PAGE | 4) + counted("b") + struct.pack(">Q", PAGE), "no record begins with"),
        (struct.pack(">Q", 16) + footer(77), "section 2 ends as section 77"),
    ],
)
def test_a_stream_that_makes_no_sense_from_some_place_on(opened, record, said):
    image = opened(migration(f"block a 3p\n part\n page a 0 count=2\n hex {record.hex()}\n page a 2p\n end").data)
    assert coverage(image) == Coverage(data=2, lost=1)
    assert said in image.incomplete[0]
    assert f"{PAGE} bytes of memory are lost" in image.incomplete[0]


def test_a_first_record_that_goes_on_with_nothing(opened):
    record = struct.pack(">Q", 0x28) + bytes(PAGE)
    image = opened(migration(f"block a 3p\n part\n hex {record.hex()}\n end").data)
    assert coverage(image) == Coverage(lost=3)
    assert "there is none yet" in image.incomplete[0]


def test_truncation_at_every_place_is_an_error_or_counted(tmp_path):
    stream = migration(
        "block m 9p\n block pc.bios 1p\n part\n page m 0 count=2\n zero m 2p count=2\n part\n page m 4p count=4\n"
        " page pc.bios 0\n end\n page m 0 salt=1\n zero m 8p\n devices"
    )
    whole, path = stream.data, tmp_path / "cut"
    listed = whole.index(struct.pack(">Q", 16))  # the end of the list of blocks
    finished = stream.marks[-1][0] + 8
    cuts = {*range(4, listed + 30), *(end + d for end, _, _ in stream.marks for d in range(-10, 11)), len(whole) - 1}
    for cut in sorted(cut for cut in cuts if cut <= len(whole)):
        path.write_bytes(whole[:cut])
        if cut < listed:
            with pytest.raises(ImageError, match="cut: "):
                open_image(path)
            continue
        with open_image(path) as image:
            seen = {key: held for end, key, held in stream.marks if end <= cut}
            assert same(image, stream, pages=seen, **only("m")), cut
            assert bool(image.incomplete) == (cut < finished), cut
            found = coverage(image)
            assert found.known == sum(key[0] == "m" for key in seen)
            assert (found.excluded, found.lost) == ((0, 9 - found.known) if cut < finished else (0, 0)), cut


def of_damaged_streams(path, whole, places, rng, count):
    """What scans say of so many."""

    def place():
        at = rng.choice(places) if rng.random() < 0.9 else rng.randrange(len(whole) - 8)
        return max(4, min(len(whole) - 9, at + rng.randrange(24)))

    for _ in range(count):
        path.write_bytes(damage(whole, rng, place, more=[struct.pack(">Q", 1 << 40)], cut=0.2))
        yield scanned(path, "qemu-migration")


def test_damage_never_does_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(qemu_migration, "_WINDOW", 1 << 15)
    rng = random.Random(6)
    stream = migration(
        "block m 9p address=0\n block pc.bios 1p address=0\n part\n page m 0 count=2\n zero m 2p count=2\n part\n"
        " page m 4p count=4\n page pc.bios 0\n end\n page m 0 salt=1\n zero m 8p\n devices",
        head=configuration(page_bits=12, capabilities=["x-ignore-shared"]),
    )
    places = [*range(0, 260, 8), *(end - 24 for end, _, _ in stream.marks), *(end for end, _, _ in stream.marks)]
    assert both_happen([*of_damaged_streams(tmp_path / "damaged", stream.data, places, rng, 600)], least=100)


def test_huge_claims_are_only_numbers(opened):
    data = migration(f"block pc.ram {1 << 60}\n part\n page pc.ram 0\n zero pc.ram {1 << 59} count=3\n stop").data
    tracemalloc.start()
    image = opened(data)
    found = coverage(image)
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()
    assert found == Coverage(data=1, zero=3, lost=(1 << 48) - 4)


def test_more_blocks_than_a_machine_has(opened):
    many = (1 << 16) + 2
    data = b"QEVM\0\0\0\3" + section(1) + struct.pack(">Q", many * PAGE | 4)
    data += b"".join(counted(f"{n:x}") + struct.pack(">Q", PAGE) for n in range(many))
    with pytest.raises(ImageError, match="more RAM blocks than a machine can have"):
        opened(data)


# mapped-ram

MAPPED = configuration("pc-q35-9.1", capabilities=["mapped-ram"])
MAPPED_GUEST = f"""
    {PC}
    part
    page pc.ram 0 count=9
    page pc.ram 20p
    page pc.ram 60p count=4
    page pc.ram 30p
    zero pc.ram 30p                # it was cleared since: the file still has it
    page pc.bios 1p
    end
    devices
"""


@pytest.mark.parametrize("alignment", [4096, 1 << 20])
def test_pages_in_their_places(opened, alignment):
    stream = migration(MAPPED_GUEST, head=MAPPED, alignment=alignment)
    image = opened(stream.data)
    assert same(image, stream, **only("pc.ram"))
    assert (image.incomplete, image.warnings) == ((), ())
    assert coverage(image) == Coverage(data=14, zero=50, device=22)
    assert image.details["layout"] == "mapped-ram"


def test_mapped_pages_of_64_kib_and_long_bitmaps(opened, monkeypatch):
    monkeypatch.setattr(qemu_migration, "_BITMAP_PART", 2)
    pages = "\n".join(f"page ram {number << 16}" for number in range(100) if number % 7 > 2)
    stream = migration(f"block ram {100 << 16}\n part\n {pages}\n end", head=MAPPED, page=1 << 16)
    assert same(opened(stream.data), stream, page=1 << 16, **only("ram"))


def test_mapped_pages_may_be_written_by_several_threads(opened):
    flush = struct.pack(">Q", 0x200).hex()
    stream = migration(MAPPED_GUEST.replace("    part", f"    part\n    hex {flush}"), head=MAPPED)
    assert same(opened(stream.data), stream, **only("pc.ram"))


def test_mapped_shared_memory_that_is_left_out(opened):
    head = configuration(capabilities=["x-ignore-shared", "mapped-ram"])
    stream = migration(
        "block mem0 8p address=0 left_out=1\n block pc.bios 2p address=0\n part\n page pc.bios 0\n end", head=head
    )
    image = opened(stream.data)
    assert same(image, stream, **only("mem0"))
    assert coverage(image) == Coverage(excluded=8, device=2)


def test_a_bitmap_that_was_never_written_says_nothing(opened):
    """It is written last of all."""
    stream = migration(f"{PC}\n part\n stop", head=MAPPED)
    image = opened(stream.data)
    assert coverage(image) == Coverage(lost=64, device=22)
    assert image.incomplete
    finished = migration(f"{PC}\n part\n end", head=MAPPED)
    assert coverage(opened(finished.data)) == Coverage(zero=64, device=22)


def test_truncation_of_places(tmp_path):
    stream = migration("block pc.ram 24p\n block pc.bios 2p\n part\n page pc.ram 3p count=9\n page pc.ram 20p\n"
                       " page pc.bios 0\n end\n devices", head=MAPPED)
    whole, path = stream.data, tmp_path / "cut"
    bitmap_at, pages_at = stream.places["pc.ram"]
    finished = whole.rindex(struct.pack(">Q", 16)) + 8
    edges = (pages_at + number * PAGE + d for number in range(26) for d in (-1, 0, 1))
    cuts = {*range(4, bitmap_at + 5), *edges, *range(finished - 40, len(whole))}
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        if cut < bitmap_at:
            with pytest.raises(ImageError, match="cut: "):
                open_image(path)
            continue
        with open_image(path) as image:
            found = coverage(image)
            assert found.known + found.lost == 24, cut
            assert bool(image.incomplete) == (cut < finished), cut
            reached = max(0, min(24, (cut - pages_at) // PAGE))
            # Only a bitmap with something set in it is known to have been written.
            assert found.known == (24 if cut >= finished else reached if reached > 3 else 0), cut
            for address, length, offset, _, state, kind in image.ranges.tolist():
                if state == State.DATA and kind == Kind.RAM:
                    assert image.source.read(offset, length) == content("pc.ram", address, length)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ((2, PAGE, 200, 8192), "mapped-ram version 2"),
        ((1, 3000, 200, 8192), "pages of 3000 bytes"),
        ((1, 1 << 40, 200, 8192), "pages of 1099511627776 bytes"),
        ((1, PAGE, 8, 8192), "their bitmap at 0x8"),
        ((1, PAGE, 1 << 63, 8192), "their bitmap at 0x8000000000000000"),
        ((1, PAGE, 200, 200), "pages of a at 0xc8"),
    ],
)
def test_mapped_headers_that_make_no_sense(opened, header, said):
    start = b"QEVM\0\0\0\3" + MAPPED + section(1) + struct.pack(">Q", 8 * PAGE | 4) + counted("a")
    data = start + struct.pack(">QIQQQ", 8 * PAGE, *header) + bytes(PAGE)
    with pytest.raises(ImageError, match=said):
        opened(data)


def test_mapped_claims_are_only_numbers(opened):
    start = b"QEVM\0\0\0\3" + MAPPED + section(1)
    for length, said in ((1 << 60, "beyond belief"), (1 << 45, None)):
        head = struct.pack(">Q", length | 4) + counted("a") + struct.pack(">QIQQQ", length, 1, PAGE, 200, 1 << 34)
        data = start + head + bytes(PAGE)
        tracemalloc.start()
        if said:
            with pytest.raises(ImageError, match=said):
                opened(data)
        else:
            assert coverage(opened(data)) == Coverage(lost=length // PAGE)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
        tracemalloc.stop()


def test_damage_to_places_never_does_harm(tmp_path):
    rng = random.Random(7)
    stream = migration(MAPPED_GUEST, head=MAPPED)
    at = stream.data.index(b"\6pc.ram")
    bitmaps = [bitmap_at for bitmap_at, _ in stream.places.values()]
    places = [*range(0, at + 60, 4), *bitmaps, len(stream.data) - len(DEVICES) - 40]
    assert both_happen([*of_damaged_streams(tmp_path / "damaged", stream.data, places, rng, 400)], least=20)
