"""What pages look like: pages of files as they lie about, random ones, and tables as Linux makes them."""

import gzip
import random
import struct
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import pageshare
from pageshare.core import Control, PageKind, PageReader, Stopped, kind_of

PAGE = 4096


def kinds(data):
    """Of each page, the last one filled up with zeros."""
    data = bytes(data) + bytes(-len(data) % PAGE)
    space = pageshare.PageSpace.of(data)
    found = PageReader(space).kinds(np.arange(space.readable))
    assert found.tolist() == [kind_of(data[i : i + PAGE]) for i in range(0, len(data), PAGE)]
    return [PageKind(kind) for kind in found]


def words(*of):
    return struct.pack(f"<{len(of)}Q", *of).ljust(PAGE, b"\0")


def sources():
    root = Path(pageshare.__file__).parent
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py")))


def test_numbers_stay_as_they_are():
    """Saved scans have them."""
    assert {kind.name: kind.value for kind in PageKind} == {
        "ZERO": 0,
        "REPEATED_BYTE": 1,
        "REPEATED_2": 2,
        "REPEATED_4": 3,
        "REPEATED_8": 4,
        "TEXT": 5,
        "ELF": 6,
        "PAGE_TABLE": 7,
        "FILE_SYSTEM": 8,
        "POINTERS": 9,
        "HIGH_ENTROPY": 10,
        "OTHER": 11,
    }


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_repeated_words(width):
    pattern = bytes(range(1, width + 1))
    kind = {1: "REPEATED_BYTE", 2: "REPEATED_2", 4: "REPEATED_4", 8: "REPEATED_8"}[width]
    assert kind_of(pattern * (PAGE // width)).name == kind
    for at in (0, 7, 8, 2048, PAGE - 1):
        page = bytearray(pattern * (PAGE // width))
        page[at] ^= 0x80
        assert kind_of(page).name not in (kind, "ZERO")
    assert kind_of(bytes(PAGE)) == PageKind.ZERO


def test_a_period_of_other_length_is_no_word():
    assert kind_of((b"\1\2\3" * PAGE)[:PAGE]) == PageKind.OTHER


def test_source_text_is_text():
    found = Counter(kinds(sources().encode()))
    assert set(found) == {PageKind.TEXT}
    assert found[PageKind.TEXT] > 100


def test_text_in_other_scripts():
    """A page may begin and end within a character."""
    text = "Всё на свете — Gemeinsamkeiten, 共有, ページ 😀.\n" * 400
    assert set(kinds(text.encode()[1:])) == {PageKind.TEXT}
    assert PageKind.TEXT not in kinds(text.encode("utf-16-le")[: 2 * PAGE])


def test_an_executable_begins_with_a_header_and_has_other_pages():
    data = Path(sys.executable).resolve().read_bytes()[: 200 * PAGE]
    found = kinds(data)
    assert found[0] == PageKind.ELF
    assert PageKind.ELF not in found[1:]
    assert Counter(found)[PageKind.HIGH_ENTROPY] <= len(found) / 50


@pytest.mark.parametrize("change", [0, 4, 5, 6, 16, 52])
def test_a_damaged_header_is_none(change):
    page = bytearray(Path(sys.executable).resolve().read_bytes()[:PAGE])
    assert kind_of(page) == PageKind.ELF
    page[change] = 0xEE
    assert kind_of(page) != PageKind.ELF


def test_random_pages_are_dense_and_nothing_else():
    """Of 20,000 pages all: below 195 of 512 bytes would be six deviations."""
    assert set(kinds(np.random.default_rng(1).bytes(20_000 * PAGE))) == {PageKind.HIGH_ENTROPY}


def test_compressed_pages_are_dense():
    draw = random.Random(1)
    vocabulary = sources().split()
    text = " ".join(draw.choice(vocabulary) + str(draw.random()) for _ in range(100_000))
    found = Counter(kinds(gzip.compress(text.encode())[PAGE : 200 * PAGE]))
    assert found[PageKind.HIGH_ENTROPY] >= 0.98 * found.total()


def test_random_bytes_of_fewer_values_are_not_dense():
    draw = np.random.default_rng(1)
    assert PageKind.HIGH_ENTROPY not in kinds(draw.integers(0, 160, 1000 * PAGE, np.uint8).tobytes())


def test_page_tables():
    table, user, nothing = 0x067, 0x8000000000000865, 0
    assert kind_of(words(0x1234000 | table)) == PageKind.PAGE_TABLE
    assert kind_of(words(*(0x8000000007A00163 + i * PAGE for i in range(512)))) == PageKind.PAGE_TABLE
    assert kind_of(words(*((0x55000000 + i * 7 * PAGE) | user for i in range(60)))) == PageKind.PAGE_TABLE
    swapped = [0x7FFFFFF0000000 << 1 if i % 9 == 0 else (0x200000 + i * PAGE) | user for i in range(512)]
    assert kind_of(words(*swapped)) == PageKind.PAGE_TABLE
    reserved = [0x1234000 | table | 1 << bit for bit in (*range(42, 57), *range(59, 63))]
    for entry in reserved:
        assert kind_of(words(*[nothing] * 100, entry)) != PageKind.PAGE_TABLE
    for other in (
        [2 * i + 1 for i in range(512)],  # odd numbers
        [0x555555000000 + 8 * i for i in range(512)],  # pointers
        [0x356600002441 + 20 * i for i in range(512)],  # tagged ones, of a browser
        [(0x200000 + i * PAGE) | 1 for i in range(512)],  # never accessed
        [(0x10000000 + i * 0x12345) | 1 for i in range(512)],  # attributes of all sorts
    ):
        assert kind_of(words(*other)) != PageKind.PAGE_TABLE


def ext4_inode(mode, *, links=1, extra=32, magic=0xF30A):
    inode = bytearray(256)
    struct.pack_into("<H", inode, 0, mode)
    struct.pack_into("<H", inode, 26, links)
    struct.pack_into("<I", inode, 32, 0x80000)
    struct.pack_into("<H", inode, 40, magic)
    struct.pack_into("<H", inode, 128, extra)
    return bytes(inode)


def ext4_entry(inode, length, name, kind=1):
    return struct.pack("<IHBB", inode, length, len(name), kind) + name.ljust(length - 8, b"\0")


def test_file_system_metadata():
    file, folder, free = ext4_inode(0o100644), ext4_inode(0o40755, links=2), bytes(256)
    assert kind_of((file + folder + free) * 5 + file) == PageKind.FILE_SYSTEM
    assert kind_of(free * 15 + folder) == PageKind.FILE_SYSTEM
    for bad in (ext4_inode(0o30644), ext4_inode(0o100644, links=0), ext4_inode(0o100644, extra=5)):
        assert kind_of(file * 15 + bad) != PageKind.FILE_SYSTEM
    assert kind_of(file * 15 + ext4_inode(0o100644, magic=1)) != PageKind.FILE_SYSTEM
    directory = ext4_entry(2, 12, b".", 2) + ext4_entry(2, 12, b"..", 2) + ext4_entry(11, PAGE - 24, b"lost+found", 2)
    assert kind_of(directory) == PageKind.FILE_SYSTEM
    assert kind_of(directory[:24] + ext4_entry(11, PAGE - 28, b"lost+found", 2) + bytes(4)) != PageKind.FILE_SYSTEM
    assert kind_of(directory[:24] + ext4_entry(11, PAGE - 24, b"lost/found", 2)) != PageKind.FILE_SYSTEM
    assert kind_of((b"IN\x81\xa4\x03\x02" + b"\1" * 506) * 8) == PageKind.FILE_SYSTEM
    assert kind_of((b"IN\x81\xa4\x03\x02" + b"\1" * 506) * 7 + bytes(512)) != PageKind.FILE_SYSTEM


def test_pointers():
    draw = random.Random(1)

    def structures(pointer, share):
        return words(*(pointer() if draw.random() < share else draw.randrange(1000) for _ in range(512)))

    for pointer in (
        lambda: 0xFFFF888000000000 + draw.randrange(1 << 34),
        lambda: 0xFFFFFFFF81000000 + draw.randrange(1 << 24),
        lambda: 0x7F0000000000 + draw.randrange(1 << 40),
        lambda: 0x555555000000 + draw.randrange(1 << 24),
    ):
        assert kind_of(structures(pointer, 0.6)) == PageKind.POINTERS
        assert kind_of(structures(pointer, 0.02)) == PageKind.OTHER
    assert kind_of(structures(lambda: 2**64 - draw.randrange(1, 200), 0.6)) == PageKind.OTHER


def test_pages_that_are_not_there():
    reader = PageReader(pageshare.PageSpace.of(bytes(PAGE)))
    with pytest.raises(IndexError):
        reader.kinds([1])
    assert reader.kinds([]).tolist() == []
    with pytest.raises(ValueError, match="page size 100"):
        kind_of(bytes(100))


def test_a_stop_ends_it():
    control = Control()
    control.stop()
    with pytest.raises(Stopped):
        PageReader(pageshare.PageSpace.of(bytes(PAGE))).kinds([0], control)
