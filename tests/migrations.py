"""QEMU migration streams and libvirt save files from a few lines of text, packed by struct alone.

The layout is that of QEMU's docs/devel/migration and of what its source says beside it. A stream knows what its memory
is in the end, page by page, so that a reader can be held against it: see ``Stream.pages``.
"""

import struct

from dumps import fields, lines, memory

RAM_SECTION = 2
ZERO, PAGE, EOS, CONTINUE = 2, 8, 16, 32


class Stream:
    """``data``, the file; ``blocks``, name to length in order; ``pages``, (name, offset) to the bytes of each page that
    the stream has; ``marks``, where each page's record ends, with its key and content, in the order of the file;
    ``places``, of mapped-ram, name to the offsets of bitmap and pages."""

    def __init__(self):
        self.data = b""
        self.blocks = {}
        self.pages = {}
        self.marks = []
        self.places = {}


def counted(name):
    return bytes([len(name)]) + name.encode()


def content(name, offset, length, salt=0):
    """The memory of a block: each has its own."""
    return memory(offset, length, salt + sum(name.encode()) % 97 * 2)


def configuration(machine="pc-i440fx-7.2", *, page_bits=0, capabilities=(), uuid=False, other=False):
    """The section that QEMU 2.4 and later begin with; subsections only where there is something to say."""
    data = b"\7" + struct.pack(">I", len(machine)) + machine.encode()
    if page_bits:
        data += b"\5" + counted("configuration/target-page-bits") + struct.pack(">II", 1, page_bits)
    if capabilities:
        data += b"\5" + counted("configuration/capabilities") + struct.pack(">II", 1, len(capabilities))
        data += b"".join(map(counted, capabilities))
    if uuid:
        data += b"\5" + counted("configuration/uuid") + struct.pack(">I", 1) + bytes(range(16))
    if other:
        data += b"\5" + counted("configuration/of-tomorrow") + struct.pack(">I", 1) + b"whatever"
    return data


def section(kind, name="ram", number=RAM_SECTION, version=4):
    """How a section begins; only START (1) and FULL (4) have a name."""
    data = bytes([kind]) + struct.pack(">I", number)
    return data + counted(name) + struct.pack(">II", 0, version) if kind in (1, 4) else data


def footer(number=RAM_SECTION):
    return b"\x7e" + struct.pack(">I", number)


DEVICES = section(4, "timer", 0, 2) + bytes(24) + footer(0) + b"\0" + b"\6" + struct.pack(">I", 2) + b"{}"


def migration(text, *, page=4096, head=None, ram_version=4, footers=True, at=0, alignment=4096, version=3):
    """A stream, ``at`` bytes behind the beginning of its file.

    ``block NAME BYTES [own=SIZE] [address=A] [left_out=1]``: ``own`` is the page size that postcopy tells of huge
    pages, ``address`` is what x-ignore-shared tells, and what is ``left_out`` for it has no place with mapped-ram.
    ``part``, ``end``: a section begins, and the one before ends. ``page NAME OFFSET [count=N] [salt=]``, ``zero NAME
    OFFSET [count=N] [fill=0]``; a record goes on with the block of the one before it
    unless ``named=1``. ``hex BYTES`` anything; ``stop`` leaves the section without an end. ``devices`` come at the end.
    If the head tells mapped-ram, pages lie in their places, ``alignment`` bytes aligned, and zeros leave there whatever
    was there.
    """
    stream, data = Stream(), bytearray(at)
    data += b"QEVM" + struct.pack(">I", version) + (configuration() if head is None else head)
    mapped = b"mapped-ram" in data
    listed, rest = [], []
    for line in lines(text):
        (listed if line.startswith("block") else rest).append(line)
    data += section(1, version=ram_version)
    total = 0
    entries = []
    for line in listed:
        _, name, length, *more = line.split()
        values = {"own": 0, "address": -1, "left_out": 0, **fields(" ".join(["x", *more]))[1]}
        length = fields(f"x n={length}")[1]["n"]
        total += length
        stream.blocks[name] = length
        entries.append((name, length, values))
    data += struct.pack(">Q", total | 4)
    for name, length, values in entries:
        data += counted(name) + struct.pack(">Q", length)
        if values["own"]:
            data += struct.pack(">Q", values["own"])
        if values["address"] >= 0:
            data += struct.pack(">Q", values["address"])
        if not mapped:
            continue
        if values["left_out"]:
            data += struct.pack(">IQQQ", 1, page, 0, 0)
            continue
        bitmap_at = len(data) + 28
        bitmap_bytes = -(-(length // page) // 64) * 8  # longs
        pages_at = -(-(bitmap_at + bitmap_bytes) // alignment) * alignment
        data += struct.pack(">IQQQ", 1, page, bitmap_at, pages_at)
        data += bytes(pages_at + length - len(data))
        stream.places[name] = (bitmap_at, pages_at)
        stream.pages |= {(name, offset): bytes(page) for offset in range(0, length, page)}
    data += struct.pack(">Q", EOS) + footer() * footers
    open_ = last = None

    def close():
        nonlocal open_
        if open_:
            data.extend(struct.pack(">Q", EOS) + footer() * footers)
        open_ = None

    for line in rest:
        word, *words = line.split()
        if word in ("part", "end"):
            close()
            data += section({"part": 2, "end": 3}[word])
            open_ = word
        elif word == "hex":
            data += bytes.fromhex("".join(words))
        elif word == "stop":
            open_ = None
        elif word == "devices":
            close()
            data += DEVICES
        else:
            name, offset, *more = words
            values = {"count": 1, "salt": 0, "fill": 0, "named": 0, **fields(" ".join(["x", *more]))[1]}
            first = fields(f"x n={offset}")[1]["n"]
            for offset in range(first, first + values["count"] * page, page):
                held = content(name, offset, page, values["salt"]) if word == "page" else bytes([values["fill"]]) * page
                key = (name, offset)
                stream.pages[key] = held
                if mapped:
                    bitmap_at, pages_at = stream.places[name]
                    number = offset // page
                    data[bitmap_at + number // 8] |= (word == "page") << number % 8
                    if word == "page":
                        data[pages_at + offset : pages_at + offset + page] = held
                    else:
                        data[bitmap_at + number // 8] &= ~(1 << number % 8)
                    continue
                goes_on = last == name and not values["named"]
                flags = (PAGE if word == "page" else ZERO) | (CONTINUE if goes_on else 0)
                data += struct.pack(">Q", offset | flags) + (b"" if goes_on else counted(name))
                data += held if word == "page" else held[:1]
                last = name
                stream.marks.append((len(data), key, held))
    close()
    stream.data = bytes(data)
    return stream


def save_file(stream_data, *, order="<", magic=b"LibvirtQemudSave", version=2, compression=0, xml=None, cookie=0):
    """What ``virsh save`` puts in front; the order is that of the host's CPU."""
    xml = xml if xml is not None else libvirt_xml()
    head = magic + struct.pack(order + "5I", version, len(xml), 1, compression, cookie) + bytes(56)
    return head + xml + stream_data


def libvirt_xml(name="web1", room=200):
    """The domain, and the room that libvirt leaves behind it for changes."""
    return f"<domain type='kvm'>\n  <name>{name}</name>\n</domain>\n".encode() + bytes(1 + room)


def expected_bases(blocks, memory_first=()):
    """Where each block lies: those of ``memory_first`` in that order, then the others, at multiples of 2 MiB."""
    at, bases = 0, {}
    for name in [*memory_first, *(name for name in blocks if name not in memory_first)]:
        bases[name] = at
        at += -(-blocks[name] // (2 << 20)) * (2 << 20)
    return bases


def same(image, stream, *, page=4096, memory_first, pages=None):
    """Whether the image has each page of the stream (or of ``pages``) at its place with its bytes, and nothing else."""
    bases = expected_bases(stream.blocks, memory_first)
    found = {}
    for address, length, offset, file, state, kind in image.ranges.tolist():
        for into in range(0, length, page) if state <= 1 else ():
            key = max((base, name) for name, base in bases.items() if base <= address + into)
            assert (kind == 0) == (key[1] in memory_first)
            held = image.payload[file].read(offset + into, page) if state == 0 else bytes(page)
            assert found.setdefault((key[1], address + into - key[0]), held) is held, "twice"
    expected = stream.pages if pages is None else pages
    assert found.keys() == expected.keys()
    for key, held in found.items():
        assert held == expected[key], key
    claimed = sum(stream.blocks.values())
    assert int(image.ranges["bytes"].sum()) == claimed
    return True
