"""Dumps from a few lines of text, packed by struct alone, so that readers are tested against something else.

Every 8 bytes of memory hold their own address (and a salt in the upper half), so what a reader calls the bytes at an
address can be checked without knowing the layout: see ``true_to``.
"""

import struct

import numpy as np

from pageshare.images.ranges import first_wins, paginate
from pageshare.space import coverage_of

PAGE = 4096
NOWHERE = 2**64 - 1


def memory(address, length, salt=0):
    """``length`` bytes as they are at ``address``."""
    first, last = address // 8, (address + length + 7) // 8
    words = np.arange(first, last, dtype=np.uint64) * 8 + (salt << 56)
    skip = address % 8
    return words.astype("<u8").tobytes()[skip : skip + length]


def fields(line):
    """``load address=0x1000 bytes=2p`` as ("load", {"address": 0x1000, "bytes": 8192})."""
    word, *pairs = line.split()
    return word, {key: number(value) for key, value in (pair.split("=") for pair in pairs)}


def number(text):
    """In any base, ``p`` behind it for pages; or ``nowhere``."""
    if text == "nowhere":
        return NOWHERE
    return int(text[:-1], 0) * PAGE if text.endswith("p") else int(text, 0)


def lines(text):
    return [line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()]


def elf(
    text,
    *,
    ident=b"\x7fELF\x02\x01\x01",
    type=4,
    machine=62,
    flags=0,
    ehsize=64,
    phentsize=56,
    gap=0,
    sections_first=False,
    many=False,
):
    """An ELF core of ``load`` and ``note`` lines.

    ``load address= bytes= [memory=] [vaddr=] [offset=] [salt=]``: physical address, payload, p_memsz (payload's if not
    given); ``offset=nowhere`` has no payload, ``offset=N`` that of the N-th load. ``note NAME TYPE``. ``gap`` bytes lie
    before the payload; ``many`` says the count in section 0 (PN_XNUM).
    """
    loads, notes = [], b""
    for line in lines(text):
        word, values = fields(line) if not line.startswith("note") else ("note", {})
        if word == "note":
            _, name, kind = line.split()
            encoded = name.encode() + b"\0"
            notes += struct.pack("<III", len(encoded), 5, int(kind, 0))
            notes += encoded + bytes(-len(encoded) % 4) + b"notes\0\0\0"
        else:
            loads.append({"memory": values["bytes"], "vaddr": 0, "salt": 0, **values})
    count = len(loads) + bool(notes)
    section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 1, 0, count, 0, 0) if many or sections_first else b""
    sections_at = 64 if sections_first else 64 + count * phentsize
    table_at = 64 + (len(section) if sections_first else 0)
    notes_at = 64 + count * phentsize + len(section)
    at = notes_at + len(notes) + gap
    table, payload, places = bytearray(), bytearray(), []
    if notes:
        table += struct.pack("<IIQQQQQQ", 4, 0, notes_at, 0, 0, len(notes), 0, 4).ljust(phentsize, b"\xee")
    for load in loads:
        length = load["bytes"]
        if load.get("offset") == NOWHERE:
            place = NOWHERE
        elif "offset" in load:
            place = places[load["offset"]]
        else:
            place = at + len(payload)
            address = load["vaddr"] if load["vaddr"] and not load["address"] else load["address"]
            payload += memory(0 if address == NOWHERE else address, length, load["salt"])
        places.append(place)
        entry = (1, 6, place, load["vaddr"], load["address"], length, load["memory"], 0)
        table += struct.pack("<IIQQQQQQ", *entry).ljust(phentsize, b"\xee")
    header = ident.ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH",
        type,
        machine,
        1,
        0,
        table_at,
        sections_at if section else 0,
        flags,
        ehsize,
        phentsize,
        0xFFFF if many else count,
        64,
        1 if section else 0,
        0,
    )
    parts = [header, section, table] if sections_first else [header, table, section]
    return b"".join([*parts, notes, bytes(gap), payload])


def lime(text):
    """LiME ranges, a line each: ``0x1000-0x9fbff [salt=] [kept=] [magic=] [version=]``, the end inclusive.

    ``kept`` bytes of the payload were written before a write failed.
    """
    dump = bytearray()
    for line in lines(text):
        span, *pairs = line.split()
        start, end = (int(each, 0) for each in span.split("-"))
        options = {"magic": 0x4C694D45, "version": 1, "salt": 0, "kept": end - start + 1}
        options.update(fields(" ".join(["x", *pairs]))[1])
        dump += struct.pack("<IIQQQ", options["magic"], options["version"], start, end, 0)
        dump += memory(start, options["kept"], options["salt"])
    return bytes(dump)


def raw(path, text):
    """A sparse file of ``data N`` and ``hole N`` lines, N in bytes or pages (``3p``)."""
    at = 0
    with path.open("wb") as file:
        for line in lines(text):
            word, length = line.split()
            if word == "data":
                file.seek(at)
                file.write(memory(at, number(length)))
            at += number(length)
        file.truncate(at)
    return path


def true_to(image, salt=0):
    """Whether each byte that the image calls data is the one that memory has at that address."""
    for each in image.ranges:
        if each["state"] == 0:
            length, address = int(each["bytes"]), int(each["address"])
            held = image.source.read(int(each["offset"]), length)
            assert held == memory(address, length, salt), f"{address:#x}"
    return True


def coverage(image, page_size=PAGE):
    """What the image comes to as an owner of its own."""
    return coverage_of(paginate(first_wins(image.ranges)[0], page_size))
