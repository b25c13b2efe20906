"""CRIU images: the pages of a process, those that lie in earlier dumps, and everything that can be missing."""

import json
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

import pageshare
from damage import both_happen, scanned
from dumps import PAGE, coverage, criu, memory, true_to
from known_child import content, known_child
from oracle import agrees, census
from pageshare.images import ImageError, open_image
from pageshare.images.ranges import Kind, State, first_wins
from pageshare.space import Coverage

PROCESS = """
    run address=0x400000 pages=2 flags=4
    run address=0x7f0000001000 pages=5 flags=4
    run address=0x7f0000006000 pages=3 flags=2   # lazy: left with the process
    run address=0x7f0000009000 pages=1 flags=6   # lazy, and written all the same
    run address=0x7ffffffde000 pages=33 flags=4
"""


@pytest.fixture
def link(tmp_path):
    """Dumps a, b, c ..., each with the one before it as its parent."""

    def make(*texts, **options):
        path = None
        for letter, text in zip("abcdefgh", texts, strict=False):
            path = criu(tmp_path / letter, text, **options)
            if letter != "a":
                (tmp_path / letter / "parent").symlink_to(f"../{chr(ord(letter) - 1)}")
        return path

    return make


def contents(image):
    """The pages of an image by address, as its ranges have them."""
    pages = {}
    for each in first_wins(image.ranges)[0]:
        if each["state"] == State.DATA:
            held = image.payload[each["file"]].read(int(each["offset"]), int(each["bytes"]))
            pages |= {int(each["address"]) + at: held[at : at + PAGE] for at in range(0, len(held), PAGE)}
    return pages


@pytest.mark.parametrize(
    "options", [{}, {"order": ">"}, {"magics": (0x56084025,)}], ids=["plain", "big-endian", "version 1.0"]
)
def test_a_process(tmp_path, options):
    with open_image(criu(tmp_path, PROCESS, pages_id=7, **options)) as image:
        assert (image.format, image.kind, image.incomplete, image.warnings) == ("criu", Kind.PROCESS, (), ())
        assert true_to(image)
        assert coverage(image) == Coverage(data=41, excluded=3, process=44)
        assert image.details["pages"] == "pages-7.img, 4096 bytes each"
        assert len(contents(image)) == 41


def test_runs_without_flags_are_present_if_they_are_not_in_the_parent(link):
    old = link(
        "run address=0x10000 pages=8 salt=1",
        "run address=0x10000 pages=2 salt=2\n run address=0x12000 pages=3 in_parent=1\n"
        "run address=0x15000 pages=1 salt=2",
    )
    with open_image(old) as image:
        assert [page[7] for page in contents(image).values()] == [2, 2, 1, 1, 1, 2]
        assert coverage(image) == Coverage(data=6, process=6)
        assert image.details["in earlier dumps"] == "12288 bytes"


def test_counts_beyond_32_bits_have_a_field_of_their_own(tmp_path):
    with open_image(criu(tmp_path, "run address=0x10000 pages=6 flags=4 wide=1")) as image:
        assert true_to(image)
        assert coverage(image).data == 6


def test_pages_in_earlier_dumps_are_read_from_there(link):
    path = link(
        "run address=0x10000 pages=16 flags=4 salt=1\n run address=0x80000 pages=2 flags=4 salt=1",
        "run address=0x10000 pages=4 flags=1\n run address=0x14000 pages=4 flags=4 salt=2\n"
        "run address=0x18000 pages=8 flags=1\n run address=0x80000 pages=1 flags=1",
        "run address=0x12000 pages=4 flags=1\n run address=0x16000 pages=1 flags=4 salt=3\n"
        "run address=0x17000 pages=3 flags=1\n run address=0x80000 pages=1 flags=1",
    )
    with open_image(path) as image:
        salts = {address: page[7] for address, page in contents(image).items()}
        assert salts == {
            0x12000: 1, 0x13000: 1, 0x14000: 2, 0x15000: 2, 0x16000: 3, 0x17000: 2, 0x18000: 1, 0x19000: 1, 0x80000: 1
        }  # fmt: skip
        assert all(page == memory(address, PAGE, page[7]) for address, page in contents(image).items())
        assert (image.incomplete, image.warnings) == ((), ())
        assert [Path(each.path).parent.name for each in image.others] == ["a", "b", "c"]
        report = pageshare.scan({"c": image})
        assert agrees(report.to_dict(), census({"c": contents(image).values()}))


def test_each_dump_of_a_chain_is_an_owner_and_all_counts_are_those_of_a_dict(link, tmp_path):
    rng = random.Random(3)
    pages = range(0x1000, 0x1040)
    truth, texts, before = {}, [], {}
    for number, letter in enumerate("abcd"):
        now, text = {}, []
        for page in pages:
            if rng.random() < 0.2:
                continue
            unchanged = page in before and rng.random() < 0.6
            now[page] = before[page] if unchanged else rng.choice([number, 9])
            text.append(f"run address={page * PAGE:#x} pages=1 flags={1 if unchanged else 4} salt={now[page]}")
        before = now
        texts.append("\n".join(text))
        truth[letter] = [memory(page * PAGE, PAGE, salt) for page, salt in now.items()]
    link(*texts)
    report = pageshare.scan({letter: tmp_path / letter / "pagemap-1.img" for letter in "abcd"})
    assert agrees(report.to_dict(), census(truth))
    assert report.incomplete == ()


def test_a_parent_that_is_not_there(link, tmp_path):
    path = link(
        "run address=0x10000 pages=4 flags=4",
        "run address=0x10000 pages=4 flags=1\n run address=0x20000 pages=1 flags=4",
    )
    (tmp_path / "a" / "pages-1.img").unlink()
    with open_image(path) as image:
        assert coverage(image) == Coverage(data=1, lost=4, process=5)
        assert "16384 bytes of memory should be in an earlier dump and are not" in image.incomplete[0]
        assert str(tmp_path / "a" / "pages-1.img") in image.incomplete[0]
    shutil.rmtree(tmp_path / "a")
    with open_image(path) as image:
        assert coverage(image) == Coverage(data=1, lost=4, process=5)
        assert str(tmp_path / "a" / "pagemap-1.img: No such file") in image.incomplete[0]


def test_what_an_earlier_dump_does_not_name_is_lost(link):
    path = link("run address=0x10000 pages=2 flags=4", "run address=0xf000 pages=4 flags=1")
    with open_image(path) as image:
        assert coverage(image) == Coverage(data=2, lost=2, process=4)
        assert "8192 bytes of memory should be in an earlier dump and are not: they are lost" in image.incomplete[0]


def test_parents_in_a_circle(link, tmp_path):
    path = link(*["run address=0x10000 pages=2 flags=1\n run address=0x20000 pages=1 flags=4"] * 3)
    (tmp_path / "a" / "parent").symlink_to("../c")
    with open_image(path) as image:
        assert coverage(image) == Coverage(data=1, lost=2, process=3)
        assert "it is its own parent" in image.incomplete[0]


def test_a_long_chain(tmp_path):
    """More links than the kernel follows in one path."""
    criu(tmp_path / "0", "run address=0x10000 pages=2 flags=4")
    for number in range(1, 60):
        path = criu(tmp_path / str(number), "run address=0x10000 pages=2 flags=1")
        (tmp_path / str(number) / "parent").symlink_to(f"../{number - 1}")
    with open_image(path) as image:
        assert true_to(image)
        assert coverage(image).data == 2
        assert len(image.others) == 1


def test_shared_memory_is_an_owner_of_its_own(tmp_path):
    path = criu(tmp_path, "run address=0 pages=3 flags=4", name="pagemap-shmem-1234.img", pages_id=2)
    with open_image(path) as image:
        assert true_to(image)
        assert coverage(image) == Coverage(data=3, process=3)


def test_a_page_size_is_not_guessed(tmp_path):
    path = criu(tmp_path, "run address=0x10000 pages=2 flags=4\n run address=0x80000 pages=2 flags=4")
    (tmp_path / "pages-1.img").write_bytes(bytes(3 * PAGE))
    with pytest.raises(ImageError, match=r"4 pages should be in .*pages-1\.img, which has 12288 bytes: a"):
        open_image(path)


@pytest.mark.parametrize("page", [16384, 65536])
def test_large_pages_are_told_by_the_size_of_the_file(tmp_path, page):
    text = f"run address={page} pages=2 flags=4\n run address={7 * page} pages=3 flags=4"
    with open_image(criu(tmp_path, text, page=page, order=">")) as image:
        assert true_to(image)
        assert coverage(image) == Coverage(data=5 * page // PAGE, process=5 * page // PAGE)
        assert coverage(image, page).data == 5
        assert image.details["pages"] == f"pages-1.img, {page} bytes each"


def test_a_hole_in_the_pages_is_unknown(tmp_path):
    """criu dedup punches out of a dump what a later one holds anew."""
    path = criu(tmp_path, "run address=0x100000 pages=256 flags=4")
    pages = tmp_path / "pages-1.img"
    held = pages.read_bytes()
    with pages.open("wb") as file:
        file.write(held[: 64 * PAGE])
        file.seek(192 * PAGE)
        file.write(held[192 * PAGE :])
    with open_image(path) as image:
        assert true_to(image)
        assert coverage(image) == Coverage(data=128, excluded=128, process=256)
        assert f"has holes, {128 * PAGE} bytes: unknown" in image.warnings[0]
        assert image.incomplete == ()


def test_a_process_without_pages(tmp_path):
    with open_image(criu(tmp_path, "")) as image:
        assert coverage(image) == Coverage()
        assert image.warnings == ("there is no page in it",)
        assert pageshare.scan(image).pages.known == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:8], "head: it does not say which file the pages are in"),
        (lambda data: data[:10], "head: it does not say"),
        (lambda data: data[:8] + struct.pack("<I", 0) + data[14:], "head: it does not say"),
        (lambda data: data[:8] + b"\0\0\0\x80" + data[12:], "head: it does not say"),
        (lambda data: data[:8] + struct.pack("<I", 100) + bytes(100), "head: it does not say"),
        (lambda data: data[:12] + b"\x08\x85" + data[14:], "head: it does not say"),
        (lambda data: data[:13] + b"\x02" + data[14:], r"its pages should be in .*pages-2\.img, which is empty or"),
    ],
)
def test_what_is_refused_says_why(tmp_path, change, said):
    path = criu(tmp_path, PROCESS)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ImageError, match=said) as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_pagemap_is_refused(tmp_path):
    (tmp_path / "core-1.img").write_bytes(struct.pack("<II", 0x54564319, 0x55053847) + bytes(PAGE))
    with pytest.raises(ImageError, match="does not start with the magic of a CRIU pagemap"):
        open_image(tmp_path / "core-1.img", format="criu")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("address=0x1000 pages=1 flags=4", "the entry at 0x28 of the pagemap is cut or makes no sense;"),
        ("address=0x401000 pages=1 flags=4", "makes no sense"),  # the same again
        ("address=0x500800 pages=1 flags=4", "makes no sense"),
        ("address=0x500000 pages=0 flags=4", "makes no sense"),
        (f"address=0x500000 pages={2**60} wide=1 flags=1", "makes no sense"),
        (f"address={2**64 - PAGE} pages=1 flags=1", "makes no sense"),  # to the very end of the address space
    ],
)
def test_an_entry_that_makes_no_sense_is_the_last(tmp_path, run, said):
    path = criu(tmp_path, f"run address=0x3ff000 pages=2 flags=4\n run address=0x401000 pages=1 flags=4\n run {run}")
    with open_image(path) as image:
        assert coverage(image).data == 3
        assert said in image.incomplete[0]
        assert true_to(image)


def test_fields_that_are_not_known_are_passed_over(tmp_path):
    path = criu(tmp_path, "run address=0x10000 pages=2 flags=4")
    data = path.read_bytes()
    more = b"\x32\x03abc" + b"\x39" + bytes(8) + b"\x45" + bytes(4) + b"\x80\x01\x05"  # fields 6, 7, 8 and 16
    entry = data[14 + 4 :]
    path.write_bytes(data[:14] + struct.pack("<I", len(entry + more)) + entry + more)
    with open_image(path) as image:
        assert true_to(image)
        assert coverage(image).data == 2
        assert image.incomplete == ()


def test_a_pagemap_cut_between_two_entries_shows_in_the_pages(tmp_path):
    path = criu(tmp_path, "run address=0x401000 pages=2 flags=4\n run address=0x500000 pages=3 flags=4")
    data = path.read_bytes()
    path.write_bytes(data[: 14 + (len(data) - 14) // 2])
    with open_image(path) as image:
        assert coverage(image).data == 2
        assert image.incomplete == ("pages-1.img holds 12288 bytes that no page is named for: the pagemap is cut",)


def test_truncation_at_every_place_is_an_error_or_counted(tmp_path):
    path = criu(tmp_path, "run address=0x401000 pages=2 flags=4\n run address=0x500000 pages=3 flags=4")
    pagemap, pages = path.read_bytes(), tmp_path / "pages-1.img"
    entry = (len(pagemap) - 14) // 2
    for cut in range(1, len(pagemap)):
        path.write_bytes(pagemap[:cut])
        if cut < 14 + entry:
            if cut == 14:
                with open_image(path) as image:
                    assert image.warnings == ("there is no page in it",)
                    assert "20480 bytes that no page is named for" in image.incomplete[0]
            elif cut > 14:
                with open_image(path) as image:
                    assert (coverage(image).known, len(image.incomplete)) == (0, 2)
            else:
                with pytest.raises(ImageError, match=r"pagemap-1\.img"):
                    open_image(path, format="criu")
            continue
        with open_image(path) as image:
            assert coverage(image).data == 2
            assert image.incomplete
    path.write_bytes(pagemap)
    whole = pages.read_bytes()
    for cut in sorted({1, *(n * PAGE + d for n in range(1, 6) for d in (-1, 0, 1))}):
        pages.write_bytes(whole[:cut])
        with open_image(path) as image:
            known = min(5, cut // PAGE)
            assert coverage(image) == Coverage(data=known, lost=5 - known, process=5), cut
            assert bool(image.incomplete) == (cut < len(whole))
            assert true_to(image)
            assert pageshare.scan(image).pages.known == known
    pages.write_bytes(b"")
    with pytest.raises(ImageError, match=r"its pages should be in .*pages-1\.img, which is empty or not there"):
        open_image(path)


def test_damage_never_does_harm(link, tmp_path):
    rng = random.Random(8)
    path = link(PROCESS, PROCESS.replace("flags=6", "flags=1"), PROCESS.replace("pages=2 flags=4", "pages=2 flags=1"))
    files = [tmp_path / letter / "pagemap-1.img" for letter in "abc"]
    whole = [file.read_bytes() for file in files]
    reports = []
    for _ in range(200):
        for file, data in zip(files, whole, strict=True):
            damaged = bytearray(data)
            for _ in range(rng.choice([0, 1, 1, 2, 5])):
                at = rng.randrange(4, len(data))
                bad = [b"", b"\0", b"\xff", b"\xff\xff", rng.randbytes(1), rng.randbytes(9)]
                damaged[at : at + 1] = rng.choice(bad)
            file.write_bytes(damaged)
        reports.append(scanned(path, "criu"))
    assert both_happen(reports, least=20)


def crit(*arguments):
    """What CRIU's own image tool says, as text."""
    if shutil.which("crit") is None:
        pytest.skip("there is no crit: apt-get install criu")
    return subprocess.run(["crit", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("magics", [(0x54564319, 0x56084025), (0x56084025,)])
def test_crit_reads_the_same(tmp_path, magics):
    first = PROCESS.partition("run address=0x7f")[0]
    old = "run address=0x500000 pages=4\n run address=0x600000 pages=1 in_parent=1"
    path = criu(tmp_path, f"{first}{old}", pages_id=300, magics=magics)
    head, *entries = json.loads(crit("decode", "-i", str(path)))["entries"]
    assert head == {"pages_id": 300}
    with open_image(path) as image:
        assert image.details["pages"].startswith("pages-300.img")
        found = image.ranges[["address", "bytes", "state"]].tolist()
    assert found == [
        (int(str(each["vaddr"]), 0), each["nr_pages"] * PAGE, State.LOST if each.get("in_parent") else State.DATA)
        for each in entries
    ]


def test_what_crit_writes_is_read(tmp_path):
    path = criu(tmp_path, PROCESS)
    (tmp_path / "text").write_text(crit("decode", "-i", str(path)))
    crit("encode", "-i", str(tmp_path / "text"), "-o", str(path))
    with open_image(path) as image:
        assert true_to(image)
        assert coverage(image) == Coverage(data=41, excluded=3, process=44)


def test_what_criu_dumps_of_a_process_is_read(tmp_path):
    if shutil.which("criu") is None:
        pytest.skip("there is no criu: apt-get install criu")
    if (check := subprocess.run(["criu", "check"], capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"criu does not run here: {(check.stderr.strip() or check.stdout.strip()).splitlines()[-1]}")
    with known_child(8) as child:
        done = subprocess.run(
            ["criu", "dump", "-t", str(child.pid), "-D", tmp_path, "--leave-running", "--shell-job"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"criu could not dump: {done.stderr.strip().splitlines()[-1]}")
        with open_image(tmp_path / f"pagemap-{child.pid}.img") as image:
            pages = contents(image)
            assert [pages[child.at(page)] for page in range(8)] == [content(page) for page in range(8)]
