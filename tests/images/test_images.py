"""Which reader takes a file: by what is in it, never by its name, and never raw where a magic says otherwise."""

import os

import pytest

from dumps import PAGE, elf, lime, memory
from pageshare.images import FORMATS, ImageError, Source, open_image


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("x.raw", elf("note QEMU 0\n load address=0 bytes=1p"), "elf"),
        ("x.elf", lime("0x1000-0x1fff"), "lime"),
        ("x.lime", memory(0, PAGE), "raw"),
        ("no-suffix", elf("note QEMU 0\n load address=0 bytes=1p"), "elf"),
    ],
)
def test_content_decides(tmp_path, name, data, expected):
    path = tmp_path / name
    path.write_bytes(data)
    with open_image(path) as image:
        assert image.format == expected


MAGICS = (
    b"\x7fELF",
    b"EMiL",
    b"AVML",
    b"KDUMP   ",
    b"makedumpfile\0",
    b"PAGEDU64",
    b"PAGEDUMP",
    b"QEVM",
    b"LibvirtQemudSave",
    b"\xd2\xbe\xd2\xbe",
    b"\x19\x43\x56\x54\x25\x40\x08\x56",  # CRIU's
)


@pytest.mark.parametrize("magic", MAGICS)
def test_a_magic_over_a_body_that_does_not_fit_is_never_raw(tmp_path, magic):
    path = tmp_path / "x.raw"
    path.write_bytes(magic + b"\xaa" * 10 * PAGE)
    with pytest.raises(ImageError, match=r"x\.raw: "):
        open_image(path)
    with open_image(path, format="raw") as image:
        assert image.format == "raw"


@pytest.mark.parametrize(
    ("head", "name", "remedy"),
    [
        (b"VMLA\x02\0\0\0", None, None),
        (b"AVML"[::-1] + b"\x02\0\0\0", None, None),
        (b"\x02\x21\x4c\x18\0\0\x80\0", "compressed in lz4's legacy format", "lz4 -d FILE"),
        (b"\x89LZO\0\r\n\x1a\n\x10\x30", "compressed with lzop", "lzop -d FILE"),
        (b"LZIP\1\x0c", "compressed with lzip", "lzip -d FILE"),
        (b"MDMP\x93\xa7", "a Windows minidump of a process", "the machine's memory"),
        (b"QFI\xfb", "a qcow2 disk image, which", "dump-guest-memory"),
        (b"QFI\xfb" + bytes(56) + b"\0\0\0\2", "a qcow2 disk image with internal snapshots (2)", "-S -loadvm NAME"),
        (b"\x7fVirtualBox SavedState V2.0\n", "a VirtualBox saved state", "VBoxManage debugvm NAME dumpvmcore"),
        (b"\x14\x20\x28\x01", "a Hyper-V file", "-device hvsavedstate://FILE.vmrs"),
        (b"HIBR", "a Windows hibernation file", "Hibr2Bin /PLATFORM X64"),
        (b"hibr", "a Windows hibernation file", "Hibr2Bin /PLATFORM X64"),
        (b"WAKE", "a Windows hibernation file", "Hibr2Bin /PLATFORM X64"),
        (b"wake", "a Windows hibernation file", "Hibr2Bin /PLATFORM X64"),
        (b"ZDMP\0\1\0\0", "a compressed Windows crash dump (zdmp)", "z2dmp FILE.zdmp FILE.dmp"),
        (bytes.fromhex("a8190173618f23fd"), "an s390 dump", "zgetdump -f elf FILE > FILE.elf"),
        (bytes.fromhex("a8190173618f23fe"), "an s390 dump", "zgetdump -f elf FILE > FILE.elf"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path, head, name, remedy):
    path = tmp_path / "x"
    path.write_bytes(head + bytes(2 * PAGE))
    if name is None:
        with open_image(path) as image:
            assert image.format == "raw"
        return
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert name in str(caught.value)
    assert remedy in str(caught.value)
    assert "--format raw" in str(caught.value)
    with open_image(path, format="raw") as image:
        assert image.format == "raw"


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="nothing came from the pipe"):
        open_image(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        open_image(tmp_path)
    with pytest.raises(ImageError, match="neither a regular file nor a block device"):
        open_image("/dev/null")
    (tmp_path / "empty").touch()
    with pytest.raises(ImageError, match="the file is empty"):
        open_image(tmp_path / "empty")


def test_arguments_are_checked(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(PAGE))
    with pytest.raises(ValueError, match=f"no format 'qcow': there are {', '.join(FORMATS)}"):
        open_image(path, format="qcow")
    with pytest.raises(ValueError, match="holes are zero or unknown"):
        open_image(path, holes="maybe")
    with pytest.raises(ValueError, match="page size 1000"):
        open_image(path, page_size=1000)


def test_a_source_can_be_closed_while_its_memory_is_in_use(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 5000)
    source = Source(path)
    view = memoryview(source.map())
    source.close()
    source.close()
    assert bytes(view[:3]) == b"abc"


def test_changes_are_noticed(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(PAGE))
    with Source(path) as source:
        assert source.changed() is None
        with path.open("ab") as file:
            file.write(b"more")
        assert source.changed() == f"{path}: changed while it was read"
        with path.open("wb") as file:
            file.write(b"less")
        with pytest.raises(OSError, match="the file became shorter"):
            source.changed()
