"""Formats that are recognised so as not to be taken for raw memory, and what to do with each."""

from __future__ import annotations

import struct
from typing import NamedTuple


class _Magic(NamedTuple):
    at: int
    magic: bytes
    name: str
    remedy: str
    memory: bool = True
    """Whether such a file may be a dump itself."""


_AS_RAW = "if it is raw memory all the same, say --format raw"
_HIBR2BIN = "Hibr2Bin /PLATFORM X64 /MAJOR 10 /MINOR 0 /INPUT hiberfil.sys /OUTPUT FILE (of Windows 10 and 11)"
_FROM_SNAPSHOT = (
    "if memory is among them (qemu-img snapshot -l FILE), start QEMU as it was, with -S -loadvm NAME, and say"
    " dump-guest-memory FILE.elf to its monitor"
)

_QCOW2 = b"QFI\xfb"
_QCOW2_SNAPSHOTS = struct.Struct(">60xI")

_MAGICS = (
    _Magic(0, b"MDMP", "a Windows minidump of a process", "save the machine's memory instead"),
    _Magic(0, _QCOW2, "a qcow2 disk image", "save guest memory with pmemsave or dump-guest-memory"),
    _Magic(
        0,
        b"\x7fVirtualBox SavedState ",
        "a VirtualBox saved state",
        "resume that machine and save its memory: VBoxManage debugvm NAME dumpvmcore --filename=FILE",
    ),
    _Magic(
        0,
        struct.pack("<I", 0x0128_2014),
        "a Hyper-V file (.vmrs, .vmcx)",
        "mount a .vmrs with MemProcFS, on Windows: MemProcFS -device hvsavedstate://FILE.vmrs; scan its memory.pmem",
    ),
    *(
        _Magic(0, magic, "a Windows hibernation file", f"decompress it: {_HIBR2BIN}")
        for magic in (b"hibr", b"HIBR", b"wake", b"WAKE")
    ),
    _Magic(
        0, b"ZDMP", "a compressed Windows crash dump (zdmp)", "decompress it: z2dmp FILE.zdmp FILE.dmp"
    ),
    *(
        _Magic(0, struct.pack(">Q", magic), "an s390 dump", "convert it: zgetdump -f elf FILE > FILE.elf")
        for magic in (0xA819_0173_618F_23FD, 0xA819_0173_618F_23FE)
    ),
    *(
        _Magic(
            0,
            struct.pack("<I", magic),
            "a CRIU image without memory",
            "scan its folder, or a pagemap-*.img in it",
            memory=False,
        )
        for magic in (0x54564319, 0x55105940)
    ),
    _Magic(0, b"\x02\x21\x4c\x18", "compressed in lz4's legacy format", "decompress it: lz4 -d FILE"),
    _Magic(0, b"\x89LZO\0\r\n\x1a\n", "compressed with lzop", "decompress it: lzop -d FILE"),
    _Magic(0, b"LZIP\1", "compressed with lzip", "decompress it: lzip -d FILE"),
    _Magic(
        0,
        b"PAR1",
        "a Parquet file, such as a saved scan",
        "a saved scan is read by pageshare report FILE",
        memory=False,
    ),
    _Magic(0, b"PK\x03\x04", "a zip archive", "unpack it first", memory=False),
    _Magic(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first", memory=False),
    _Magic(257, b"ustar", "a tar archive", "unpack it first", memory=False),
)


def foreign(head: bytes) -> tuple[str, str, bool]:
    """What the first bytes of a file say it is, the remedy, and whether it may hold memory; two empty strings if they
    say nothing known."""
    if head.startswith(_QCOW2) and len(head) >= _QCOW2_SNAPSHOTS.size:
        (snapshots,) = _QCOW2_SNAPSHOTS.unpack_from(head)
        if snapshots:
            name = f"it is a qcow2 disk image with internal snapshots ({snapshots})"
            return name, f"{_FROM_SNAPSHOT} ({_AS_RAW})", True
    for magic in _MAGICS:
        if head.startswith(magic.magic, magic.at):
            return f"it is {magic.name}", f"{magic.remedy} ({_AS_RAW})", magic.memory
    return "", "", True


def is_text(head: bytes) -> bool:
    """Whether the beginning of a file is what people write and programs log: UTF-8 without control characters.

    >>> is_text(b"two lines" + bytes([10]) + b"of a log"), is_text(bytes(4096))
    (True, False)
    """
    text = head.decode("utf-8", "ignore")
    # The head may end within a character.
    return (
        len(text.encode()) + 3 >= len(head)
        and "\n" in text.strip()[:512]
        and all(char.isprintable() or char in "\t\n\r\f" for char in text)
    )
