"""The modules that a guest loads come in an order in which they can be loaded."""

from __future__ import annotations

import lzma
from pathlib import Path

from guests.modules import in_order


def test_each_comes_after_those_it_depends_on(tmp_path: Path) -> None:
    folder = tmp_path / "lib/modules/6.1/kernel/drivers"
    folder.mkdir(parents=True)
    ring, bus, console, other = (
        f"..\0depends={each}\0..".encode() for each in ("", "ring", "bus,ring,builtin", "ring")
    )
    (folder / "console.ko").write_bytes(console)
    (folder / "bus.ko.xz").write_bytes(lzma.compress(bus))
    (folder / "ring.ko").write_bytes(ring)
    (folder / "other.ko").write_bytes(other)
    assert in_order(tmp_path, ["console", "builtin", "bus"]) == [ring, bus, console]
