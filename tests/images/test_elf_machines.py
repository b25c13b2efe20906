"""ELF cores of other machines: 32 bits, big-endian, large pages; from text, by QEMU's user emulation, and by gdb.

The second readers are binutils and drgn.
"""

import os
import random
import re
import resource
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

import pageshare
from dumps import PAGE, coverage, elf, memory, true_to
from oracle import agrees, census
from pageshare.images import ImageError, open_image
from pageshare.images.ranges import Kind, State, first_wins
from pageshare.space import Coverage

MACHINES = {
    "s390x": {"bits": 64, "order": ">", "machine": 22},
    "ppc64": {"bits": 64, "order": ">", "machine": 21},
    "mips": {"bits": 32, "order": ">", "machine": 8},
    "ppc": {"bits": 32, "order": ">", "machine": 20},
    "arm": {"bits": 32, "order": "<", "machine": 40},
    "i386": {"bits": 32, "order": "<", "machine": 3},
}
GUEST = """
    note CORE 1
    note QEMU 0
    load address=0x0 bytes=0xa0000
    load address=0xc0000 bytes=64p memory=66p
    load address=0xfd000000 bytes=4p
    load address=0xfffff000 bytes=1p      # up to the last address of 32 bits
"""


@pytest.fixture(params=MACHINES)
def machine(request):
    return request.param


@pytest.mark.parametrize(
    "options",
    [{}, {"gap": 0x501}, {"ehsize": 8, "sections_first": True}, {"phentsize": 72}, {"many": True}],
    ids=["plain", "unaligned", "sections first", "long headers", "many"],
)
def test_guests(opened, machine, options):
    image = opened(elf(GUEST, **MACHINES[machine], **options))
    assert (image.kind, image.incomplete, image.warnings) == (Kind.RAM, (), ())
    assert image.details["machine"] == machine
    bits, order = (MACHINES[machine][key] for key in ("bits", "order"))
    assert image.details["class"] == f"ELF{bits}, {'big' if order == '>' else 'little'}-endian"
    assert true_to(image)
    devices = 5 if machine == "i386" else 0  # nobody else is known to have some there
    assert coverage(image) == Coverage(data=160 + 64 + 5 - devices, excluded=2, device=devices)


def test_processes(opened, machine):
    image = opened(
        elf("note CORE 3\n load address=0 vaddr=0x400000 bytes=2p\n load address=0 vaddr=0xfff00000 bytes=3p",
            **MACHINES[machine])
    )  # fmt: skip
    assert image.kind == Kind.PROCESS
    assert true_to(image)
    assert coverage(image) == Coverage(data=5, process=5)


def test_segments_without_address_or_place_are_left_out(opened, machine):
    text = """
        note QEMU 0
        load address=nowhere bytes=3p
        load address=0x1000 bytes=2p
        load address=0x8000 bytes=2p offset=nowhere
    """
    image = opened(elf(text, **MACHINES[machine]))
    assert coverage(image).data == 2
    assert "2 of them without memory or place" in image.details["segments"]


def test_segments_end_where_the_address_space_does(opened, machine):
    text = "note QEMU 0\n load address=0x1000 bytes=1p\n load address=0xfffff000 bytes=2p"
    if MACHINES[machine]["bits"] == 32:
        with pytest.raises(ImageError, match="program header 2: 8192 bytes at 0xfffff000 pass the end of the 32-bit"):
            opened(elf(text, **MACHINES[machine]))
    else:
        assert coverage(opened(elf(text, **MACHINES[machine]))).data == 3


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
@pytest.mark.parametrize("name", ["ppc64", "mips"])
def test_pages_of_other_sizes_are_counted_as_by_a_dict(opened, name, page_size):
    """Memory of four contents, 64 KiB each, at addresses and places that are no multiple of that."""
    pool = [memory(0, 65536, salt) for salt in (1, 2, 3)] + [bytes(65536)]
    blocks = [pool[n] for n in (0, 1, 0, 3, 2, 3, 0, 2)]
    text = "note QEMU 0\n load address=0x8000 bytes=32p\n load address=0x40000 bytes=64p"
    dump = elf(text, gap=3, **MACHINES[name])
    payload = b"".join(blocks)
    first, second = (0x8000, payload[0x8000 : 0x8000 + 32 * PAGE]), (0x40000, payload[0x40000:])
    image = opened(dump[: -96 * PAGE] + first[1] + second[1])
    held = [
        part[at - start : at - start + page_size]
        for start, part in (first, second)
        for at in range(-(-start // page_size) * page_size, start + len(part) - page_size + 1, page_size)
    ]
    report = pageshare.scan({"g": image}, page_size=page_size)
    assert agrees(report.to_dict(), census({"g": held}, page_size=page_size))
    assert report.coverage.partial_bytes == (2 * 0x8000 if page_size == 65536 else 0)


def test_truncation_at_every_place_is_an_error_or_counted(tmp_path, machine):
    whole = elf("note QEMU 0\n load address=0x1000 bytes=2p\n load address=0x8000 bytes=3p memory=4p",
                gap=77, **MACHINES[machine])  # fmt: skip
    path = tmp_path / "cut.elf"
    payload = len(whole) - 5 * PAGE
    headers = 52 + 3 * 32 if MACHINES[machine]["bits"] == 32 else 64 + 3 * 56
    for cut in sorted({*range(payload + 2), *(payload + n * PAGE + d for n in range(1, 6) for d in (-1, 0, 1))}):
        path.write_bytes(whole[:cut])
        if cut < headers:
            with pytest.raises(ImageError, match="cut.elf"):
                open_image(path, format="elf")
        elif cut <= len(whole):
            with open_image(path) as image:
                known = min(5, max(0, cut - payload) // PAGE)
                assert coverage(image) == Coverage(data=known, lost=5 - known, excluded=1), cut
                assert bool(image.incomplete) == (cut < len(whole))
                assert true_to(image)


def test_damage_never_does_harm(tmp_path, machine):
    rng = random.Random(7)
    whole = elf("note QEMU 0\n load address=0x1000 bytes=2p\n load address=0x8000 bytes=3p", many=True,
                **MACHINES[machine])  # fmt: skip
    path = tmp_path / "damaged.elf"
    word = MACHINES[machine]["bits"] // 8
    refused = read = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(4, len(whole) - 5 * PAGE - word)
            data[at : at + word] = rng.choice([bytes(word), b"\xff" * word, rng.randbytes(word)])
        path.write_bytes(data)
        try:
            with open_image(path) as image:
                held = image.ranges[image.ranges["state"] == State.DATA]
                assert all(int(r["offset"]) >= 0 and int(r["offset"]) + int(r["bytes"]) <= len(data) for r in held)
                report = pageshare.scan(image)
                assert report.pages.known == report.pages.unique + report.pages.shared
                read += 1
        except ImageError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20
    assert read > 20


def segments_by_readelf(path):
    """(virtual address, physical address, offset, bytes in the file, bytes of memory) of each LOAD with memory."""
    if shutil.which("readelf") is None:
        pytest.skip("there is no readelf: apt-get install binutils")
    said = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^ +LOAD +(.*)$", said, re.MULTILINE)
    numbers = [tuple(int(each, 16) for each in row.split()[:5]) for row in rows]
    return [(v, p, offset, filed, held) for offset, v, p, filed, held in numbers if held]


def same_segments(image, path):
    """Whether the image has the memory that readelf names, at the same places of the file; AssertionError if not."""
    expected = []
    for virtual, physical, offset, filed, held in segments_by_readelf(path):
        address = virtual if image.kind == Kind.PROCESS else physical
        expected += [(address, filed, offset)] * (filed > 0) + [(address + filed, held - filed, -1)] * (held > filed)
    found = image.ranges[["address", "bytes", "offset"]].tolist()
    assert len(expected) > 1
    assert found == expected
    return True


def test_readelf_finds_the_same(tmp_path, machine):
    path = tmp_path / "dump"
    process = "note CORE 3\nload address=0 vaddr=0x400000 bytes=2p\nload address=0 vaddr=0xb0000000 bytes=1p memory=4p"
    for text in (GUEST.replace("0xfd000000", "0xd0000000").replace("0xfffff000", "0xdffff000"), process):
        path.write_bytes(elf(text, gap=5, **MACHINES[machine]))
        with open_image(path) as image:
            assert same_segments(image, path)


def test_drgn_reads_the_same(tmp_path, machine):
    drgn = pytest.importorskip("drgn", reason="no drgn: pip install drgn")
    path = tmp_path / "dump"
    process = "note CORE 3\nload address=0 vaddr=0x400000 bytes=2p\nload address=0 vaddr=0xb0000000 bytes=1p memory=4p"
    path.write_bytes(elf(process, gap=5, **MACHINES[machine]))
    program = drgn.Program()
    program.set_core_dump(path)
    with open_image(path) as image:
        held = image.ranges[image.ranges["state"] == State.DATA]
        assert len(held) == 2
        for address, length, offset in held[["address", "bytes", "offset"]].tolist():
            assert program.read(address, length) == image.source.read(offset, length)


CODE_AT, DATA_AT, DATA = 0x10000000, 0x10400000, memory(0x10400000, 5 * PAGE, salt=9)


def program(folder, *, bits, order, machine, flags=0, code=b""):
    """An executable that holds ``DATA``: ``code``, and behind it zeros, which no processor gets far with."""
    word, head, entry = ("I", 52, 32) if bits == 32 else ("Q", 64, 56)
    start = head + 2 * entry

    def load(flags, offset, address, length):
        values = (1, offset, address, address, length, length, flags, PAGE)
        if bits == 64:
            values = (1, flags, offset, address, address, length, length, PAGE)
        return struct.pack(order + ("8I" if bits == 32 else "IIQQQQQQ"), *values)

    text = b"\x7fELF" + bytes([{32: 1, 64: 2}[bits], {"<": 1, ">": 2}[order], 1]) + bytes(9)
    text += struct.pack(
        f"{order}HHI3{word}I6H", 2, machine, 1, CODE_AT + start, head, 0, flags, head, entry, 2, 0, 0, 0
    )
    text += load(5, 0, CODE_AT, PAGE) + load(6, PAGE, DATA_AT, len(DATA))
    path = folder / "program"
    path.write_bytes((text + code).ljust(PAGE, b"\0") + DATA)
    path.chmod(0o755)
    return path


def holds_the_data(image):
    """Whether ``DATA`` is where the program has it, and nothing of it anywhere else."""
    assert (image.kind, image.incomplete, image.warnings) == (Kind.PROCESS, (), ())
    ranges, _ = first_wins(image.ranges)
    held = ranges[(ranges["address"] <= DATA_AT) & (ranges["address"] + ranges["bytes"] >= DATA_AT + len(DATA))]
    assert len(held) == 1
    place = int(held["offset"][0]) + DATA_AT - int(held["address"][0])
    assert image.source.read(place, len(DATA)) == DATA
    report = pageshare.scan({"core": image, "data": DATA})
    assert report.nonzero.reclaimed_inter == len(DATA) // PAGE
    return True


@pytest.mark.parametrize(
    ("name", "flags"), [("s390x", 0), ("ppc", 0), ("mips", 0x70001007), ("arm", 0x05000400), ("i386", 0)]
)
def test_cores_that_qemu_writes_of_programs_that_crash(tmp_path, name, flags):
    qemu = shutil.which(f"qemu-{name}")
    if qemu is None:
        pytest.skip(f"there is no qemu-{name}: apt-get install qemu-user")
    if 0 <= resource.getrlimit(resource.RLIMIT_CORE)[1] < 1 << 20:
        pytest.skip("cores are not allowed here: ulimit -H -c")
    path = program(tmp_path, flags=flags, **MACHINES[name])
    # The kernel may leave a core of QEMU too.
    subprocess.run(
        ["sh", "-c", 'ulimit -c 1024; exec "$0" -s 65536 "$1"', qemu, path], cwd=tmp_path, check=False, timeout=30,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    (core,) = tmp_path.glob("qemu_*.core")
    with open_image(core) as image:
        assert image.details["machine"] == name
        assert same_segments(image, core)
        assert holds_the_data(image)


def test_a_core_that_gdb_takes_of_a_32_bit_program(tmp_path):
    if shutil.which("gcore") is None:
        pytest.skip("gcore needs gdb: apt-get install gdb")
    # mov eax, [DATA_AT]; mov [DATA_AT], eax: gdb leaves out what is as in the file.
    code = struct.pack("<BIBI", 0xA1, DATA_AT, 0xA3, DATA_AT)
    code += bytes.fromhex("b81d000000 cd80 ebf7")  # mov eax, 29 (pause); int 0x80; jmp back
    path = program(tmp_path, code=code, **MACHINES["i386"])
    try:
        process = subprocess.Popen([path])
    except OSError as error:
        pytest.skip(f"this kernel runs no 32-bit programs: {error.strerror}")
    with process:
        try:
            for _ in range(1000):
                if Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "S":  # in pause
                    break
                time.sleep(0.01)
            done = subprocess.run(
                ["gcore", "-o", tmp_path / "core", str(process.pid)], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
                env=os.environ | {"DEBUGINFOD_URLS": ""},
            )  # fmt: skip
        finally:
            process.kill()
    if "ptrace: Operation not permitted" in done.stdout:
        pytest.skip("gdb may not trace processes here: run as root, or set kernel.yama.ptrace_scope to 0")
    core = tmp_path / f"core.{process.pid}"
    assert core.exists(), done.stdout
    with open_image(core) as image:
        assert image.details["class"] == "ELF32, little-endian"
        assert same_segments(image, core)
        assert holds_the_data(image)
