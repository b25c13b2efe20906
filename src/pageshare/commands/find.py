"""Where a content is, in a saved scan (pageshare scan -o FILE): who holds this
page, and where else?

--at names a page by its place, --hash by its hash; --content looks for each page
of a file. That something is found nowhere is an answer too, with exit status 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pageshare.commands import UsageError
from pageshare.commands._inputs import tell
from pageshare.commands._saving import add_key_argument, key_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pageshare.find import Found
    from pageshare.saved import Key, SavedScan

SUMMARY = "which pages of a saved scan hold this content?"

EPILOG = """\
examples:
  pageshare find scan.parquet --at guest1.elf:0x1f4000
  pageshare find scan.parquet --hash 3ee8dc4f9e7ee49593d76fe148c689ba
  pageshare find scan.parquet --content libc.so.6
"""

BLOCK = 16 << 20
"""Bytes of a file that are looked at together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare find``."""
    parser.add_argument("scan", type=Path, metavar="SCAN", help="what pageshare scan -o has saved")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--at", type=_place, metavar="OWNER:ADDRESS", help="the page at this address (in bytes: 4096 or 0x1000)"
    )
    asked.add_argument(
        "--hash",
        type=_hash,
        metavar="HEX",
        help="pages with this hash, as the scan has it, or with --key the XXH3-128 of the page",
    )
    asked.add_argument("--content", metavar="FILE", help="pages equal to those of a file; - for standard input")
    add_key_argument(parser)
    parser.add_argument("--all", action="store_true", help="list all places, not the first 100")


def _place(text: str) -> tuple[str, int]:
    owner, _, address = text.rpartition(":")
    try:
        number = int(address, 0)
    except ValueError:
        number = -1
    if not owner or not 0 <= number < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r}: must be OWNER:ADDRESS, such as guest1.elf:0x1f4000")
    return owner, number


def _hash(text: str) -> bytes:
    try:
        hash = bytes.fromhex(text)
    except ValueError:
        hash = b""
    if len(hash) != 16:
        raise argparse.ArgumentTypeError(f"{text!r}: must be 32 hexadecimal digits, as xxhsum -H128 prints them")
    return hash


def run(args: argparse.Namespace) -> int:
    """Look, and print."""
    from pageshare import find, saved

    key = key_of(args)
    scan = saved.read(args.scan)
    most = None if args.all else find.MOST
    if key is not None or args.content is not None:
        scan.key_for(key)
    if args.at is not None:
        try:
            found = find.at(scan, *args.at, most=most)
        except ValueError as error:
            if isinstance(error, saved.SavedError):
                raise
            raise UsageError(f"--at: {error}") from None
    elif args.hash is not None:
        found = find.by_hash(scan, _keyed(args.hash, key), most=most)
    else:
        found = find.by_content(scan, args.content, _digests(args.content, scan, key), most=most)
    _show(found, args, most)
    return 0


def _keyed(hash: bytes, key: Key | None) -> bytes:
    import numpy as np

    return hash if key is None else key.keyed(np.frombuffer(hash, np.uint8).reshape(1, -1)).tobytes()


def _digests(path: str, scan: SavedScan, key: Key | None) -> NDArray[np.uint8]:
    """The hashes of a file's whole pages. Raises OSError; ValueError if it has none."""
    if path == "-":
        return _of_file(sys.stdin.buffer, "standard input", scan.report.page_size, key)
    with open(path, "rb") as file:  # noqa: PTH123 - a name as it was given
        return _of_file(file, path, scan.report.page_size, key)


def _of_file(file: IO[bytes], name: str, page_size: int, key: Key | None) -> NDArray[np.uint8]:
    import numpy as np

    from pageshare.find import digests_of_pages

    blocks, rest, size = [], b"", 0
    while block := file.read(BLOCK):
        size += len(block)
        data = rest + block
        whole = len(data) - len(data) % page_size
        blocks.append(digests_of_pages(data[:whole], page_size, key))
        rest = data[whole:]
    if size < page_size:
        raise ValueError(
            f"{name}: its {size} bytes are less than a page of {page_size}; if the rest of the page is zero:"
            f" truncate -s {page_size} FILE (a copy)"
        )
    if rest:
        tell(warnings=[f"{name}: its last {len(rest)} bytes are not a whole page, and are not looked for"])
    return np.concatenate(blocks)


def _show(found: Found, args: argparse.Namespace, most: int | None) -> None:
    if args.json:
        json.dump(found.to_dict(), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    from pageshare.render.console import show
    from pageshare.render.find import write

    show(lambda console: write(found, console, most))
