"""Dumps from a few lines of text, packed by struct alone, so that readers are tested against something else.

Every 8 bytes of memory hold their own address (and a salt in the upper half), so what a reader calls the bytes at an
address can be checked without knowing the layout: see ``true_to``.
"""

import importlib
import struct
import zlib

import cramjam
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
    bits=64,
    order="<",
    ident=None,
    type=4,
    machine=62,
    flags=0,
    ehsize=None,
    phentsize=None,
    gap=0,
    sections_first=False,
    many=False,
):
    """An ELF core of ``load`` and ``note`` lines, of 32 or 64 bits, little-endian (``<``) or big-endian (``>``).

    ``load address= bytes= [memory=] [vaddr=] [offset=] [salt=]``: physical address, payload, p_memsz (payload's if not
    given); ``offset=nowhere`` has no payload, ``offset=N`` that of the N-th load. ``note NAME TYPE``. ``gap`` bytes lie
    before the payload; ``many`` says the count in section 0 (PN_XNUM).
    """
    if ident is None:
        ident = b"\x7fELF" + bytes([{32: 1, 64: 2}[bits], {"<": 1, ">": 2}[order], 1])
    head_bytes, section_format = (52, "10I") if bits == 32 else (64, "IIQQQQIIQQ")
    phentsize = phentsize or (32 if bits == 32 else 56)

    def program_header(type, flags, offset, vaddr, paddr, filesz, memsz, align):
        if bits == 32:  # the flags lie elsewhere
            values = type, offset, vaddr, paddr, filesz, memsz, flags, align
            packed = struct.pack(f"{order}8I", *(value & 0xFFFFFFFF for value in values))
        else:
            packed = struct.pack(f"{order}IIQQQQQQ", type, flags, offset, vaddr, paddr, filesz, memsz, align)
        return packed.ljust(phentsize, b"\xee")

    loads, notes = [], b""
    for line in lines(text):
        word, values = fields(line) if not line.startswith("note") else ("note", {})
        if word == "note":
            _, name, kind = line.split()
            encoded = name.encode() + b"\0"
            notes += struct.pack(f"{order}III", len(encoded), 5, int(kind, 0))
            notes += encoded + bytes(-len(encoded) % 4) + b"notes\0\0\0"
        else:
            loads.append({"memory": values["bytes"], "vaddr": 0, "salt": 0, **values})
    count = len(loads) + bool(notes)
    section = b""
    if many or sections_first:
        section = struct.pack(order + section_format, 0, 0, 0, 0, 0, 1, 0, count, 0, 0)
    sections_at = head_bytes if sections_first else head_bytes + count * phentsize
    table_at = head_bytes + (len(section) if sections_first else 0)
    notes_at = head_bytes + count * phentsize + len(section)
    at = notes_at + len(notes) + gap
    table, payload, places = bytearray(), bytearray(), []
    if notes:
        table += program_header(4, 0, notes_at, 0, 0, len(notes), 0, 4)
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
        table += program_header(1, 6, place, load["vaddr"], load["address"], length, load["memory"], 0)
    header = ident.ljust(16, b"\0") + struct.pack(
        f"{order}HHI3{'I' if bits == 32 else 'Q'}I6H",
        type,
        machine,
        1,
        0,
        table_at,
        sections_at if section else 0,
        flags,
        head_bytes if ehsize is None else ehsize,
        phentsize,
        0xFFFF if many else count,
        struct.calcsize(order + section_format),
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


def compress(codec, page):
    """A block of kdump, and the flag that says how it is compressed."""
    if codec == "zlib":
        return 1, zlib.compress(page)
    if codec == "lzo":
        return 2, importlib.import_module("lzallright").LZOCompressor().compress(page)
    if codec == "snappy":
        return 4, bytes(importlib.import_module("cramjam").snappy.compress_raw(page))
    if codec == "zstd":
        return 0x20, importlib.import_module("zstandard").ZstdCompressor().compress(page)
    return 0, page


def kdump(
    text,
    *,
    signature=b"KDUMP   ",
    version=6,
    order="<",
    bits=64,
    padded=False,
    time_bits=None,
    page=PAGE,
    machine=b"x86_64",
    status=0,
    dump_level=0,
    split=None,
    max_mapnr=None,
    sub_blocks=1,
    bitmaps=2,
    note=b"",
    zero="plain",
):
    """A compressed kdump of lines about pages, each with the first and the last frame number:

    ``pages 1-5 CODEC [salt=]`` with CODEC zlib, lzo, snappy, zstd or plain; ``zero 6-9``: all point to one page of
    zeros, compressed by ``zero``; ``excluded 10-12``: only in the first bitmap; ``unwritten 13-14``: the descriptor's
    offset is 0, as makedumpfile leaves it when the disk is full; ``like 15-16 as=3``: point to the data of page 3.

    ``bits`` and ``order`` are the dumped machine's. On 32 bits 64-bit fields of the sub-header are aligned to 4 bytes
    (i386; QEMU for all) or, ``padded``, to 8 (ARM); the time before ``status`` is a timeval of ``time_bits`` twice.
    ``split`` is (start_pfn, end_pfn) of a part: bitmaps are of the whole dump, descriptors of the part. ``note`` lies
    in the sub-header behind its fields. Before version 6 there are no 64-bit frame numbers in the sub-header.
    """
    time_bits = time_bits or bits
    kinds, salts, likes = {}, {}, {}
    for line in lines(text):
        word, span, *more = line.split()
        first, last = (int(each, 0) for each in span.split("-"))
        options = fields(" ".join(["x", *(each for each in more if "=" in each)]))[1]
        for pfn in range(first, last + 1):
            kinds[pfn] = more[0] if word == "pages" else word
            salts[pfn] = options.get("salt", 0)
            likes[pfn] = options.get("as")
    max_mapnr = max_mapnr or max(kinds) + 1
    first, end = split or (0, max_mapnr)
    half = (max_mapnr + 8 * page - 1) // (8 * page) * page
    both = [bytearray(half), bytearray(half)]
    for pfn, kind in kinds.items():
        both[0][pfn // 8] |= 1 << pfn % 8
        if kind != "excluded":
            both[1][pfn // 8] |= 1 << pfn % 8
    stored = [pfn for pfn in sorted(kinds) if kinds[pfn] != "excluded" and first <= pfn < end]
    bitmap_at = page * (1 + sub_blocks)
    at = bitmap_at + bitmaps * half + 24 * len(stored)
    table, payload, places = b"", b"", {}
    for pfn in stored:
        kind = kinds[pfn]
        if kind == "unwritten":
            table += bytes(24)
            continue
        key = "zero" if kind == "zero" else likes[pfn] if kind == "like" else pfn
        if key not in places:
            content = bytes(page) if kind == "zero" else memory(pfn * page, page, salts[pfn])
            flags, block = compress(zero if kind == "zero" else kind, content)
            places[key] = (at + len(payload), len(block), flags)
            payload += block
        table += struct.pack(f"{order}qIIQ", *places[key], 0)

    long = "Q" if bits == 64 else "I"
    pad = "4x" if padded else ""
    old = [each & 2**bits - 1 for each in split or (0, 0)]
    sub = struct.pack(f"{order}{long}ii{long}{long}", 0, dump_level, split is not None, *old)
    sub += struct.pack(f"{order}{pad}Q{long}{pad}Q{long}{pad}Q{long}{pad}", 0, 0, page + 256, len(note), 0, 0)
    if version >= 6:
        sub += struct.pack(f"{order}QQQ", *(split or (0, 0)), max_mapnr)
    assert len(sub) <= 256
    name = b"".join(each.ljust(65, b"\0") for each in (b"Linux", b"guest", b"6.1", b"#1", machine, b"(none)"))
    header = signature + struct.pack(f"{order}i", version) + name
    header += bytes(-len(header) % min(time_bits // 8, 4 if bits == 32 and not padded else 8))
    header += struct.pack(f"{order}2{'Q' if time_bits == 64 else 'I'}", 1_700_000_000, 999_999)
    header += struct.pack(
        f"{order}IiiIIIIIIi",
        *(status, page, sub_blocks, bitmaps * half // page, min(max_mapnr, 2**32 - 1), 0, 0, 0, 0, 1),
    )
    sub = (sub.ljust(256, b"\0") + note).ljust(page * sub_blocks, b"\0")
    return b"".join([header.ljust(page, b"\0"), sub, *both[:bitmaps], table, payload])


def flattened(data, records=None, *, size=1000, end=True, kind=1, version=1):
    """``data`` as records for a pipe: (offset, bytes) pairs; by default of ``size`` bytes each, every second one
    first."""
    if records is None:
        every = [(at, data[at : at + size]) for at in range(0, len(data), size)]
        records = every[::2] + every[1::2]
    flat = struct.pack(">16sqq", b"makedumpfile", kind, version).ljust(4096, b"\0")
    for offset, part in records:
        flat += struct.pack(">qq", offset, len(part)) + part
    return flat + (struct.pack(">qq", -1, -1) if end else b"")


def lime_compressed(text):
    """LiME with compress=1: one zlib stream over all that ``lime`` writes."""
    return zlib.compress(lime(text))


def avml(text):
    """AVML blocks, a line each: ``0x1000-0x9fbfe [option=number ...]``, the last address inclusive.

    ``plain=1``: chunks that are not compressed. ``chunk``: bytes of memory in each. ``zeros``: so many bytes of it are
    zero, the first ones. ``padding``: a chunk of padding of so many bytes before each, and behind the last.
    ``identifiers``: how many times the stream says what it is. ``kept``: so many chunks are there. ``behind``: added to
    the length behind the stream. Also ``magic``, ``version``, ``salt``.
    """
    dump = bytearray()
    for line in lines(text):
        span, *pairs = line.split()
        start, last = (int(each, 0) for each in span.split("-"))
        options = {"magic": 0x4C4D5641, "version": 2, "salt": 0, "chunk": 1 << 16, "zeros": 0, "identifiers": 1}
        options.update(fields(" ".join(["x", *pairs]))[1])
        held = memory(start, last - start + 1, options["salt"])
        held = bytes(options["zeros"]) + held[options["zeros"] :]
        pieces = [held[at : at + options["chunk"]] for at in range(0, len(held), options["chunk"])]
        padding = b""
        if "padding" in options:
            padding = b"\xfe" + options["padding"].to_bytes(3, "little") + bytes(options["padding"])
        stream = SNAPPY * options["identifiers"]
        for piece in pieces[: options.get("kept", len(pieces))]:
            stream += padding + snappy_chunk(piece, plain=options.get("plain"))
        stream += padding
        dump += struct.pack("<IIQQQ", options["magic"], options["version"], start, last, 0)
        dump += stream + struct.pack("<Q", len(stream) + options.get("behind", 0))
    return bytes(dump)


SNAPPY = b"\xff\x06\x00\x00sNaPpY"


def snappy_chunk(memory, plain=False):
    """One chunk of snappy's framing format: of type 1 if it is ``plain``, or would not become smaller."""
    chunk = bytes(cramjam.snappy.compress(memory))[len(SNAPPY) :]
    checksum = chunk[4:8]
    return b"\x01" + (len(memory) + 4).to_bytes(3, "little") + checksum + memory if plain else chunk


def criu(folder, text, *, name="pagemap-1.img", pages_id=1, order="<", page=PAGE, magics=(0x54564319, 0x56084025)):
    """A CRIU dump's pagemap, and the file of its pages beside it, of ``run`` lines; the path of the pagemap.

    ``run address= pages= [flags=] [in_parent=] [wide=] [salt=]``: the fields of a protobuf message, left out where they
    are not given; ``wide=1`` has the count in 64 bits too (and a compat_nr_pages that is not it). Pages of runs with
    flag 4, and of those with neither flags nor in_parent, are written.
    """

    def varint(number):
        low = []
        while True:
            low.append(number & 0x7F | (0x80 if number > 0x7F else 0))
            number >>= 7
            if not number:
                return bytes(low)

    def message(*fields):
        body = b"".join(varint(field << 3) + varint(value) for field, value in fields if value is not None)
        return struct.pack(f"{order}I", len(body)) + body

    pagemap = bytearray(struct.pack(f"{order}{len(magics)}I", *magics) + message((1, pages_id)))
    pages = bytearray()
    for line in lines(text):
        _, run = fields(line)
        address, count, flags = run["address"], run["pages"], run.get("flags")
        wide = run.get("wide")
        pagemap += message(
            (1, address), (2, 1 if wide else count), (3, run.get("in_parent")), (4, flags), (5, count if wide else None)
        )
        if flags & 4 if flags is not None else not run.get("in_parent"):
            pages += memory(address, count * page, run.get("salt", 0))
    folder.mkdir(exist_ok=True)
    (folder / f"pages-{pages_id}.img").write_bytes(pages)
    (folder / name).write_bytes(pagemap)
    return folder / name


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
            held = image.payload[each["file"]].read(int(each["offset"]), length)


            held = image.payload[int(each["file"])].read(int(each["offset"]), length)
            assert held == memory(address, length, salt), f"{address:#x}"
    return True


def coverage(image, page_size=PAGE):
    """What the image comes to as an owner of its own."""
    return coverage_of(paginate(first_wins(image.ranges)[0], page_size))
