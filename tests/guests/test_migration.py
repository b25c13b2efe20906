"""Real migration streams: the memory of a stopped guest byte for byte, that of a running one as it was sent last."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from guests.boot import QEMU, MissingError, check_tools
from pageshare.images import Image, open_image
from pageshare.images.ranges import Kind, State

pytestmark = pytest.mark.guests

MIB = 1 << 20
# A boot sector that counts in each word from 0x20000 to 0x2ffff, for ever: mov ax, 0x2000; mov es, ax; xor di, di;
# inc word es:[di]; add di, 2; jmp to the inc.
COUNTING = bytes.fromhex("b80020 8ec0 31ff 26ff05 83c702 ebf8").ljust(510, b"\0") + b"\x55\xaa"


class Guest:
    """A QEMU that runs the boot sector, and its monitor."""

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor
        self._answer()
        self.command("qmp_capabilities")

    def _answer(self) -> Any:
        for line in self._monitor:
            message = json.loads(line)
            if "event" not in message:
                return message
        raise AssertionError("QEMU ended")

    def command(self, name: str, **arguments: object) -> Any:
        self._monitor.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._monitor.flush()
        answer = self._answer()
        assert "error" not in answer, answer
        return answer["return"]

    def allow(self, *capabilities: str) -> None:
        known = {each["capability"] for each in self.command("query-migrate-capabilities")}
        for capability in capabilities:
            if capability not in known:
                pytest.skip(f"this QEMU has no {capability}")
        states = [{"capability": capability, "state": True} for capability in capabilities]
        self.command("migrate-set-capabilities", capabilities=states)

    def migrate(self, uri: str) -> None:
        """Returns when it is done; the guest does not run any more."""
        self.command("migrate", uri=uri)
        until = time.monotonic() + 60
        while (status := self.command("query-migrate").get("status")) != "completed":
            assert status not in ("failed", "cancelled")
            assert time.monotonic() < until
            time.sleep(0.05)


@contextmanager
def running(tmp_path: Path, *options: str) -> Iterator[Guest]:
    try:
        check_tools()
    except MissingError as error:
        pytest.skip(str(error))
    disk = tmp_path / "disk"
    disk.write_bytes(COUNTING.ljust(1440 << 10, b"\0"))
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    with ours, theirs:
        process = subprocess.Popen(
            [
                *(QEMU, "-nodefaults", "-accel", "tcg", "-display", "none", *options),
                *("-drive", f"file={disk},format=raw,if=floppy", "-boot", "a"),
                *("-chardev", f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control"),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        monitor = ours.makefile("rw", encoding="utf-8")
    try:
        guest = Guest(monitor)
        until = time.monotonic() + 30
        while not _counts(guest, tmp_path / "look"):
            assert time.monotonic() < until
            time.sleep(0.1)
        yield guest
    finally:
        monitor.close()
        process.kill()
        process.wait()


def _counts(guest: Guest, path: Path) -> bool:
    guest.command("pmemsave", val=0x2FFFE, size=2, filename=str(path))
    return path.read_bytes() != bytes(2)


def equal(image: Image, memory: bytes) -> bool:
    """Whether all RAM of the image is known, and is this."""
    seen = 0
    for address, length, offset, _, state, kind in image.ranges.tolist():
        if kind == Kind.RAM:
            held = image.source.read(offset, length) if state == State.DATA else bytes(length)
            assert state in (State.DATA, State.ZERO)
            assert memory[address : address + length] == held, f"{address:#x}"
            seen += length
    return seen == len(memory)


def sent_last(stream: bytes, blocks: dict[str, int]) -> tuple[bytes, int]:
    """The memory of the blocks, which lie at these addresses, and how many of their pages came more than once.

    One record after the other, as the format's description says, of a stream with pages of 4096 bytes and no sections
    but RAM's before its end.
    """
    at = stream.index(b"\3ram" + struct.pack(">II", 0, 4)) + 12
    left = struct.unpack_from(">Q", stream, at)[0] & ~0xFFF
    at += 8
    size = 0
    while left:
        name = stream[at + 1 : at + 1 + stream[at]].decode()
        length = struct.unpack_from(">Q", stream, at + 1 + stream[at])[0]
        size += length if name in blocks else 0
        at += 9 + stream[at]
        left -= length
    memory, block, seen, again, section = bytearray(size), "", set(), 0, 1
    while True:
        word = struct.unpack_from(">Q", stream, at)[0]
        at += 8
        if word == 0x10:
            assert stream[at] == 0x7E
            if section == 3:
                return bytes(memory), again
            section = stream[at + 5]
            assert section in (2, 3)
            at += 10
            continue
        if not word & 0x20:
            block = stream[at + 1 : at + 1 + stream[at]].decode()
            at += 1 + stream[at]
        page = stream[at : at + 4096] if word & 8 else bytes(4096)
        at += 4096 if word & 8 else 1
        if block in blocks:
            address = blocks[block] + (word & ~0xFFF)
            memory[address : address + 4096] = page
            again += address in seen
            seen.add(address)


MACHINES = {
    "pc": (("-machine", "pc", "-m", "32"), {"pc.ram": 0}),
    "q35": (("-machine", "q35", "-m", "32"), {"pc.ram": 0}),
    "numa": (
        (
            *("-machine", "pc", "-m", "48"),
            *("-object", "memory-backend-ram,id=m0,size=32M", "-object", "memory-backend-ram,id=m1,size=16M"),
            *("-numa", "node,memdev=m0", "-numa", "node,memdev=m1"),
        ),
        {"m0": 0, "m1": 32 * MIB},
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_stopped_guest(tmp_path: Path, machine: str) -> None:
    options, _ = MACHINES[machine]
    with running(tmp_path, *options) as guest:
        guest.command("stop")
        guest.migrate(f"exec:cat > {tmp_path / 'stream'}")
        guest.command("pmemsave", val=0, size=int(options[3]) * MIB, filename=str(tmp_path / "raw"))
    with open_image(tmp_path / "stream") as image:
        assert (image.format, image.incomplete, image.warnings) == ("qemu-migration", (), ())
        assert equal(image, (tmp_path / "raw").read_bytes())


@pytest.mark.parametrize("machine", ["pc", "numa"])
def test_a_guest_that_writes_while_it_is_saved(tmp_path: Path, machine: str) -> None:
    """What it wrote is sent again. (Of what it has in the end, QEMU's own emulation may miss a last write.)"""
    options, blocks = MACHINES[machine]
    with running(tmp_path, *options) as guest:
        guest.command("migrate-set-parameters", **{"max-bandwidth": 300_000})
        guest.migrate(f"exec:cat > {tmp_path / 'stream'}")
    memory, again = sent_last((tmp_path / "stream").read_bytes(), blocks)
    assert again >= 16
    with open_image(tmp_path / "stream") as image:
        assert (image.incomplete, image.warnings) == ((), ())
        assert equal(image, memory)


def test_shared_memory_that_is_left_out(tmp_path: Path) -> None:
    backend = "memory-backend-memfd,id=mem0,size=32M,share=on"
    with running(tmp_path, "-machine", "pc,memory-backend=mem0", "-m", "32", "-object", backend) as guest:
        guest.command("stop")
        guest.allow("x-ignore-shared")
        guest.migrate(f"exec:cat > {tmp_path / 'stream'}")
    with open_image(tmp_path / "stream") as image:
        memory = image.ranges[image.ranges["kind"] == Kind.RAM]
        assert memory[["address", "bytes", "state"]].tolist() == [(0, 32 * MIB, State.EXCLUDED)]
        assert image.incomplete == ()


@pytest.mark.parametrize("others", [(), ("multifd",)])
def test_mapped_ram(tmp_path: Path, others: tuple[str, ...]) -> None:
    with running(tmp_path, "-machine", "pc", "-m", "32") as guest:
        guest.command("stop")
        guest.allow("mapped-ram", *others)
        guest.migrate(f"file:{tmp_path / 'stream'}")
        guest.command("pmemsave", val=0, size=32 * MIB, filename=str(tmp_path / "raw"))
    with open_image(tmp_path / "stream") as image:
        assert (image.details["layout"], image.incomplete, image.warnings) == ("mapped-ram", (), ())
        assert equal(image, (tmp_path / "raw").read_bytes())
