"""VMware: memory beside its snapshot or in it, at the machine's addresses; and as another program reads it."""

import os
import random
import struct

import pytest

import pageshare
from damage import both_happen, damage, scanned
from dumps import PAGE, coverage, fields, lines, memory
from oracle import agrees, census
from other_readers import our_pages, volatility_pages
from pageshare.images import ImageError, open_image
from pageshare.images.ranges import Kind
from pageshare.space import Coverage

MAGICS = (0xBED2BED0, 0xBAD1BAD1, 0xBED2BED2, 0xBED3BED3)


def tag(name, value, indices=(), size=4):
    """A short tag."""
    head = struct.pack("<BB", len(indices) << 6 | size, len(name)) + name.encode()
    return head + struct.pack(f"<{len(indices)}I", *indices) + value.to_bytes(size, "little")


def vmss(text, *, magic=0xBED2BED2, size=4, count=None, embedded=None, pad=0, code=63, in_memory=None, groups=None):
    """A snapshot's state of ``region ppn= page= pages=`` lines: frame of the machine, page of the memory, pages.

    The numbers have ``size`` bytes. ``count`` is the number of regions to say. ``embedded`` is the memory as the value
    of a tag, at a place that ``pad`` bytes lead to, of the length ``code``, and ``in_memory`` bytes long once it is
    decompressed. Groups of other names lie before and behind.
    """
    regions = [fields(line)[1] for line in lines(text)]
    found = len(regions) if count is None else count
    tags = tag("align_mask", 0xFFFF) + (b"" if found < 0 else tag("regionsCount", found))
    for number, region in enumerate(regions):
        tags += tag("regionPageNum", region["page"], (number,), size)
        tags += tag("regionPPN", region["ppn"], (number,), size)
        tags += tag("regionSize", region["pages"], (number,), size)
    # A long value that is none of ours, with two indices.
    sizes = "<II" if magic & 0xF == 0 else "<QQ"
    tags += struct.pack("<BB", 2 << 6 | 62, 4) + b"busy" + struct.pack("<II", 0, 7) + struct.pack(sizes, 5, 5)
    tags += struct.pack("<H", 3) + b"pad" + b"value"
    names = ["Checkpoint", "memory", "cpu"] if groups is None else groups
    at = 12 + 80 * len(names) + 10
    if embedded is not None:
        long = struct.pack("<BB", 2 << 6 | code, 6) + b"Memory" + struct.pack("<II", 0, 0)
        long += struct.pack(sizes, len(embedded), len(embedded) if in_memory is None else in_memory)
        room = -(at + len(tags) + len(long) + 2) % PAGE + pad if pad is not None else 0
        tags += long + struct.pack("<H", room) + b"\xdd" * room + embedded
    tags += tag("last", 1) + b"\0\0"
    head = struct.pack("<III", magic, 8, len(names))
    for name in names:
        place = at if name == "memory" else at + len(tags)
        head += name.encode().ljust(64, b"\0") + struct.pack("<QQ", place, len(tags))
    return head + b"\xcc" * 10 + tags + tag("CR", 5, (0, 3)) + b"\0\0"


REGIONS = """
    region ppn=0 page=0 pages=12
    region ppn=0x100000 page=12 pages=20     # the memory above 3 GiB, from 4 GiB on
"""
FRAMES = [*range(12), *range(0x100000, 0x100014)]
VMEM = b"".join(memory(frame * PAGE, PAGE) for frame in FRAMES)


@pytest.fixture
def machine(tmp_path):
    """A function that writes a .vmem and a .vmss or .vmsn of one name, and opens one of them."""
    images = []

    def write(text=REGIONS, *, vmem=VMEM, suffix=".vmss", named=None, meta=None, **options):
        state = tmp_path / f"guest{suffix}"
        state.write_bytes(vmss(text, **options))
        if vmem is not None:
            (tmp_path / "guest.vmem").write_bytes(vmem)
        image = open_image(tmp_path / (named or state.name), meta=meta and tmp_path / meta)
        images.append(image)
        return image

    yield write
    for image in images:
        image.close()


TRUTH = {frame: memory(frame * PAGE, PAGE) for frame in FRAMES}


@pytest.mark.parametrize("suffix", [".vmss", ".vmsn"])
@pytest.mark.parametrize("magic", MAGICS, ids=hex)
def test_the_memory_beside_it(machine, tmp_path, magic, suffix):
    image = machine(magic=magic, suffix=suffix)
    assert (image.format, image.kind, image.incomplete, image.warnings) == ("vmware", Kind.RAM, (), ())
    assert [source.path for source in image.payload] == [str(tmp_path / f"guest{suffix}"), str(tmp_path / "guest.vmem")]
    assert our_pages(image) == TRUTH
    assert coverage(image) == Coverage(data=32)
    assert (image.details["regions"], image.details["memory"]) == ("2", "guest.vmem")


@pytest.mark.parametrize("size", [4, 8])
def test_the_state_that_is_named_for_a_memory(machine, tmp_path, size):
    machine(size=size)
    (tmp_path / "guest.vmem").rename(tmp_path / "other")
    with open_image(tmp_path / "other", meta=tmp_path / "guest.vmss") as image:
        assert (image.format, image.incomplete, image.warnings, image.others) == ("vmware", (), (), ())
        assert our_pages(image) == TRUTH


def test_counts_are_those_of_a_dict_and_of_the_memory_alone(machine, tmp_path):
    image = machine()
    truth = census({"guest": list(TRUTH.values())})
    assert agrees(pageshare.scan({"guest": image}).to_dict(), truth)
    assert agrees(pageshare.scan({"guest": tmp_path / "guest.vmem"}).to_dict(), truth)


def test_memory_that_is_all_one_has_no_regions(machine):
    for count in (0, -1):  # of the tag, or no tag
        image = machine("", vmem=VMEM[: 12 * PAGE], count=count)
        assert our_pages(image) == {frame: TRUTH[frame] for frame in range(12)}
        assert image.details["regions"] == "1"


@pytest.mark.parametrize("pad", [None, 0, 100], ids=["no padding", "aligned", "unaligned"])
@pytest.mark.parametrize("magic", MAGICS, ids=hex)
@pytest.mark.parametrize("code", [62, 63])
def test_memory_in_the_state_itself(machine, magic, pad, code):
    image = machine(vmem=None, embedded=VMEM, magic=magic, pad=pad, code=code)
    assert (image.incomplete, image.warnings, image.others) == ((), (), ())
    assert our_pages(image) == TRUTH
    image = machine("", vmem=None, embedded=VMEM[: 12 * PAGE], magic=magic, pad=pad, code=code)
    assert our_pages(image) == {frame: TRUTH[frame] for frame in range(12)}


def test_holes_are_zeros_as_in_raw_memory(machine, tmp_path):
    hole = 16 * PAGE
    text = "region ppn=0 page=0 pages=24\n region ppn=0x100000 page=24 pages=24"
    machine(text)
    path = tmp_path / "guest.vmem"
    with path.open("wb") as file:
        file.write(VMEM[:hole])
        file.seek(2 * hole)
        file.write(VMEM[:hole])
        file.truncate(2 * hole + 8 * PAGE)
        file.truncate(2 * hole + hole)
    with open_image(tmp_path / "guest.vmss") as image, open_image(path) as alone:
        assert coverage(image) == coverage(alone)
        assert coverage(alone).zero_inferred > 0
        with open_image(tmp_path / "guest.vmss", holes="unknown") as unknown:
            assert coverage(unknown).excluded == coverage(image).zero_inferred


def test_a_memory_that_is_shorter_is_lost_from_there_on(machine):
    for cut in range(1, len(VMEM), 3 * PAGE // 4):
        image = machine(vmem=VMEM[:cut])
        data = cut // PAGE
        assert coverage(image) == Coverage(data=data, lost=32 - data), cut
        assert f"{len(VMEM) - cut} bytes are lost" in image.incomplete[0]
        assert our_pages(image) == dict(list(TRUTH.items())[:data])


def test_a_memory_that_goes_on_is_odd(machine):
    image = machine(vmem=VMEM + bytes(3 * PAGE))
    assert coverage(image) == Coverage(data=32)
    said = f"{3 * PAGE} bytes of the memory belong to no region of the machine's; they are left out"
    assert image.warnings == (said,)


def test_no_memory_says_what_to_do(machine, tmp_path):
    state = tmp_path / "guest.vmss"
    said = rf"there is no guest\.vmem beside it; name the file with the memory, and say --meta {state}"
    with pytest.raises(ImageError, match=said):
        machine(vmem=None)
    with pytest.raises(ImageError, match=rf"^{state}: {tmp_path}/guest\.vmem: the file is empty"):
        machine(vmem=b"")
    (tmp_path / "guest.vmem").unlink()
    (tmp_path / "guest.vmem").mkdir()
    with pytest.raises(ImageError, match="Is a directory"):
        machine(vmem=None)


def test_wrong_metas_are_said_of_the_file_that_was_named(machine, tmp_path):
    machine(vmem=VMEM)
    vmem, state = tmp_path / "guest.vmem", tmp_path / "guest.vmss"
    with pytest.raises(ImageError, match=rf"^{vmem}: {tmp_path}/none: No such file"):
        open_image(vmem, meta=tmp_path / "none")
    with pytest.raises(ImageError, match=rf"^{vmem}: group memory: it is no \.vmss or \.vmsn"):
        open_image(vmem, meta=vmem)
    with pytest.raises(ImageError, match=rf"^{state}: it is vmware; --meta is for raw memory"):
        open_image(state, meta=state)
    with pytest.raises(ImageError, match=r"guest\.vmss: it holds the memory itself; read that file alone"):
        machine(embedded=VMEM, named="guest.vmem", meta="guest.vmss")


@pytest.mark.parametrize(("gigabytes", "advised"), [(2, False), (4, True)])
@pytest.mark.parametrize("suffix", [".vmss", ".vmsn"])
def test_large_memory_alone_is_raw_with_advice(tmp_path, gigabytes, advised, suffix):
    path = tmp_path / "guest.vmem"
    path.touch()
    os.truncate(path, gigabytes << 30)
    with open_image(path) as image:
        assert (image.format, image.warnings) == ("raw", ())
    (tmp_path / f"guest{suffix}").write_bytes(vmss(REGIONS))
    with open_image(path) as image:
        assert image.format == "raw"
        said = f"say --meta {tmp_path}/guest{suffix} (the counts"
        assert [said in each for each in image.warnings] == [True] * advised


def cut_tags(name):
    data = vmss(REGIONS)
    return data[: data.index(name)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (vmss(REGIONS, groups=["cpu"]), "there is none; a snapshot that was taken without memory"),
        (vmss(REGIONS, count=3), "no regionPPN, regionPageNum and regionSize of region 2, of 3"),
        (vmss(REGIONS, count=2**32 - 1), "of region 2, of 4294967295"),
        (vmss("region ppn=0xffffffffff page=0 pages=2", size=8), "region 0, 2 pages at 0xffffffffff, is beyond"),
        (vmss("region ppn=0 page=0 pages=0"), "its regions hold no memory"),
        (vmss("region ppn=0 page=0 pages=30\n region ppn=99 page=1 pages=30"), "claim more than the 131072 bytes"),
        (vmss(REGIONS, embedded=VMEM, in_memory=len(VMEM) + 1), "compressed .* not read; convert it with VMware"),
        (vmss("", embedded=VMEM).replace(b"\x04last", b"\x3flast"), None),
        (cut_tags(b"regionsCount"), "before it is said which regions there are"),
        (cut_tags(b"regionSize"), "of region 0, of 2"),
        (vmss(REGIONS).replace(b"regionsCount", b"regionsC0unt"), "there are regions, but no regionsCount"),
        (struct.pack("<III", MAGICS[0], 8, 1 << 31), "2147483648 groups are beyond belief"),
        (struct.pack("<III", MAGICS[0], 8, 5) + bytes(100), "the file ends in the list of its 5 groups"),
        (struct.pack("<II", MAGICS[0], 8), "the file ends in its header"),
    ],
)
def test_what_is_refused_says_why(tmp_path, data, said):
    (tmp_path / "guest.vmem").write_bytes(VMEM)
    state = tmp_path / "guest.vmss"
    state.write_bytes(data)
    if said is None:
        open_image(state).close()
        return
    with pytest.raises(ImageError, match=said) as caught:
        open_image(state, format="vmware")
    assert "\n" not in str(caught.value)


def test_memory_in_several_parts_is_refused(tmp_path):
    data = vmss(REGIONS, embedded=VMEM, pad=None)
    at = data.index(b"Memory") - 2
    part = data[at : at + 2 + 6 + 8 + 16 + 2 + len(VMEM)]
    (tmp_path / "guest.vmss").write_bytes(data[:at] + part + data[at:])
    with pytest.raises(ImageError, match="lies in it in 2 parts"):
        open_image(tmp_path / "guest.vmss")


def test_truncation_at_every_place_is_an_error_or_counted(tmp_path):
    path = tmp_path / "guest.vmss"
    (tmp_path / "guest.vmem").write_bytes(VMEM)
    whole = vmss(REGIONS)
    needed = whole.rindex(b"regionSize") + len("regionSize") + 8
    for cut in sorted({*range(1, len(whole), 5), *range(needed - 9, needed + 2)}):
        path.write_bytes(whole[:cut])
        if cut < needed:
            with pytest.raises(ImageError):
                open_image(path, format="vmware")
        else:
            with open_image(path) as image:
                assert our_pages(image) == TRUTH
    (tmp_path / "guest.vmem").unlink()
    whole = vmss(REGIONS, embedded=VMEM)
    payload = whole.index(VMEM)
    pages = [payload + page * PAGE + d for page in range(33) for d in (-1, 0, 1)]
    for cut in [*range(needed, payload, 101), *pages]:
        path.write_bytes(whole[:cut])
        try:
            image = open_image(path)
        except ImageError:
            assert cut < payload
            continue
        with image:
            data = min(32, max(0, cut - payload) // PAGE)
            assert coverage(image) == Coverage(data=data, lost=32 - data), cut
            assert bool(image.incomplete) == (data < 32)


def test_damage_never_does_harm(tmp_path):
    rng, path = random.Random(9), tmp_path / "guest.vmss"
    (tmp_path / "guest.vmem").write_bytes(VMEM)
    wholes = [vmss(REGIONS), vmss(REGIONS, magic=MAGICS[0], size=8), vmss(REGIONS, embedded=VMEM, pad=None)]
    reports = []
    for _ in range(500):
        whole = rng.choice(wholes)
        groups, tags = (4, 12 + 80 * 3), (262, min(len(whole), 640))
        places = [groups, tags, tags]
        path.write_bytes(damage(whole, rng, lambda at=places: rng.randrange(*rng.choice(at)), cut=0.2))
        reports.append(scanned(path, "vmware"))
    assert both_happen(reports, least=100)


@pytest.mark.parametrize("magic", MAGICS, ids=hex)
def test_volatility_reads_the_same(machine, tmp_path, magic):
    """Of memory beside its state; it does not know padding, so that there must be none."""
    image = machine(magic=magic)
    state = tmp_path / "guest.vmss"
    state.write_bytes(state.read_bytes().replace(b"\x03\0padvalue", b"\0\0value"))
    assert volatility_pages(tmp_path / "guest.vmem", "vmware.VmwareLayer", meta=state) == our_pages(image)
