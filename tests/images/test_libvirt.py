"""libvirt's save files: their headers; what is in them is a migration stream."""

import bz2
import gzip
import lzma

import pytest
import zstandard

from dumps import coverage
from migrations import configuration, libvirt_xml, migration, same, save_file
from pageshare.images import ImageError, open_image
from pageshare.space import Coverage

GUEST = """
    block pc.ram 9p
    block pc.bios 1p
    part
    page pc.ram 0 count=4
    zero pc.ram 4p count=5
    page pc.bios 0
    end
    devices
"""
COMPRESSED = {
    1: gzip.compress,
    2: bz2.compress,
    3: lzma.compress,
    5: lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("cookie", [0, 150])
def test_a_save_file(opened, order, cookie):
    stream = migration(GUEST)
    image = opened(save_file(stream.data, order=order, cookie=cookie))
    assert (image.format, image.incomplete, image.warnings) == ("libvirt", (), ())
    assert same(image, stream, memory_first=("pc.ram",))
    assert (image.details["domain"], image.details["compression"]) == ("web1", "raw")


@pytest.mark.parametrize("number", COMPRESSED)
def test_compressed(opened, number):
    stream = migration(GUEST)
    image = opened(save_file(COMPRESSED[number](stream.data), compression=number))
    assert (image.format, image.incomplete) == ("libvirt", ())
    assert same(image, stream, memory_first=("pc.ram",))


def test_compressed_and_cut_off(opened):
    stream = migration("block pc.ram 40p\n part\n page pc.ram 0 count=40\n end\n devices")
    image = opened(save_file(gzip.compress(stream.data)[:-4000], compression=1))
    found = coverage(image)
    assert 0 < found.data < 40
    assert found.lost == 40 - found.data
    assert "gzip stream ends in the middle" in image.incomplete[0]


def test_sparse_is_mapped_ram(opened):
    xml = libvirt_xml()
    head = configuration(capabilities=["mapped-ram"])
    stream = migration(GUEST, head=head, at=92 + len(xml))
    image = opened(save_file(stream.data[92 + len(xml) :], xml=xml, compression=6))
    assert same(image, stream, memory_first=("pc.ram",))
    assert image.details["layout"] == "mapped-ram"


def test_a_file_that_was_not_finished(opened):
    stream = migration(GUEST)
    image = opened(save_file(stream.data, magic=b"LibvirtQemudPart"))
    assert "libvirt did not finish this file" in image.incomplete[0]
    assert coverage(image) == Coverage(data=4, zero=5, device=1)
    cut = opened(save_file(stream.data[:10_000], magic=b"LibvirtQemudPart"))
    assert coverage(cut) == Coverage(data=2, lost=7, device=1)
    assert len(cut.incomplete) == 2


def test_version_1_has_no_compression(opened):
    stream = migration(GUEST)
    assert same(opened(save_file(stream.data, version=1, compression=1)), stream, memory_first=("pc.ram",))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"version": 3}, "version 3, only"),
        ({"version": 0}, "version 0, only"),
        ({"compression": 7}, "compression 7 is not known"),
        ({"compression": 4}, r"lzop.*tail -c \+344 FILE \| lzop -dc"),
        ({"compression": 1}, "it is not gzip's, as the header says"),
        ({"xml": b""}, None),
    ],
)
def test_what_is_refused_says_why(opened, options, said):
    data = save_file(migration(GUEST).data, **options)
    if said is None:
        assert coverage(opened(data)).data == 4
        assert opened(data).details["domain"] == "not told"
        return
    with pytest.raises(ImageError, match=said) as caught:
        opened(data)
    assert "\n" not in str(caught.value)


def test_what_is_inside_must_be_a_stream(opened):
    for compression in (0, 1):
        inside = b"QEMU? " * 1000
        with pytest.raises(ImageError, match="no QEMU migration stream begins here"):
            opened(save_file(gzip.compress(inside) if compression else inside, compression=compression))


def test_truncation_at_every_place_is_an_error_or_counted(tmp_path):
    stream = migration(GUEST)
    xml = libvirt_xml(room=30)
    start = 92 + len(xml)
    whole, path = save_file(stream.data, xml=xml), tmp_path / "cut"
    listed = whole.index((16).to_bytes(8, "big"), start)
    finished = start + stream.marks[-1][0] + 8
    for cut in [*range(16, listed + 20), *(start + end + d for end, _, _ in stream.marks for d in (-1, 0, 1))]:
        path.write_bytes(whole[:cut])
        if cut < listed:
            with pytest.raises(ImageError, match="cut: "):
                open_image(path)
            continue
        with open_image(path) as image:
            assert bool(image.incomplete) == (cut < finished)
            assert coverage(image).known + coverage(image).lost == 9


def test_damage_to_the_header_never_does_harm(tmp_path):
    stream = migration(GUEST)
    whole, path = save_file(stream.data), tmp_path / "damaged"
    for at in range(16, 92):
        for value in (0, 1, 4, 0x7F, 0xFF):
            data = bytearray(whole)
            data[at] = value
            path.write_bytes(data)
            try:
                with open_image(path) as image:
                    assert coverage(image).known == 9
            except ImageError as error:
                assert "\n" not in str(error)
