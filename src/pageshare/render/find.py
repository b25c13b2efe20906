"""What ``find`` says on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from pageshare.find import Found, Held
from pageshare.images import printable
from pageshare.render.console import say
from pageshare.render.tables import Column, Table, as_text

_PLACES = (Column("owner", "owner", "text"), Column("address", "address", "address"), Column("pages", "pages"))
_PAGES = (
    Column("offset", "offset", "address"),
    Column("content", "content"),
    Column("copies", "copies"),
    Column("owner", "owner", "text"),
    Column("address", "first at", "address"),
)


def write(found: Found, console: Console, most: int | None) -> None:
    """Print it; ``most`` lines of a table, or all."""
    for sentence in _sentences(found):
        say(console, sentence)
    if found.file is not None:
        _pages(found, console, most)
    else:
        for held in found.contents:
            _stretches(held, found.page_size, console)


def _sentences(found: Found) -> Iterator[str]:
    if found.at is not None:
        where = f"{printable(found.at.owner)} at {found.at.address:#x}"
        if found.at.state is None:
            yield f"{where}: nowhere: the scan has no memory of this owner there"
        elif found.at.state == "unknown":
            yield f"{where}: not known (left out of the dump, or lost)"
        else:
            (held,) = found.contents
            what = "zero (a hole, or so by the format)" if found.at.state == "hole" else held.state
            yield f"{where}: {what}, {_content(held)}"
            yield _hash(held.hash, found)
    elif found.file is not None:
        yield (
            f"{printable(found.file.path)}: of {found.file.pages:,} pages of {found.page_size} bytes"
            f" {found.file.found:,} are in the scan (by hash)" + ("" if found.file.found else ": nowhere")
        )
    else:
        for held in found.contents:
            yield f"by hash: {held.state}, {_content(held)}"
        if not found.contents:
            yield "nowhere: no page of the scan has this hash"
        yield _hash(found.hash or "", found)


def _content(held: Held) -> str:
    return f"content {held.content}, " + ("held once" if held.copies == 1 else f"{held.copies:,} copies")


def _hash(hash: str, found: Found) -> str:
    return f"hash {hash}" + ("" if found.key_id is None else f", keyed (key {found.key_id})")


def _stretches(held: Held, page_size: int, console: Console) -> None:
    rows = [(each.owner, each.address, each.pages) for each in held.stretches]
    console.print()
    console.print(as_text(Table("places", "", _PLACES, rows, page_size), most=len(rows)))
    if held.left_out:
        console.print(f"and {held.left_out:,} more stretches (--all)")


def _pages(found: Found, console: Console, most: int | None) -> None:
    rows = sorted(
        (offset, held.content, held.copies, held.stretches[0].owner, held.stretches[0].address)
        for held in found.contents
        for offset in held.offsets
    )[:most]
    if not rows:
        return
    console.print()
    console.print(as_text(Table("pages", "", _PAGES, rows, found.page_size), most=len(rows)))
    total = found.file.found if found.file else 0
    if total > len(rows):
        console.print(f"and {total - len(rows):,} more (--all)")
