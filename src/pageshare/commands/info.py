"""Say what dumps are, without reading what they hold: format, ranges of memory, kinds, coverage.

Takes the same arguments as scan. Pages are cut by address, as scan cuts them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pageshare.commands._inputs import add_input_arguments, open_inputs, tell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pageshare.images import Image
    from pageshare.space import Coverage

SUMMARY = "what is in these dumps: format, ranges of memory, coverage"
FORMAT = "pageshare-info/1"
MOST_EXTENTS = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pageshare info``."""
    add_input_arguments(parser)
    parser.add_argument("--all", action="store_true", help=f"list every extent, not just {MOST_EXTENTS}")


def run(args: argparse.Namespace) -> int:
    """Print what is known of each dump from its headers."""
    with open_inputs(args, decode=False) as inputs:
        described = [
            _describe(owner.name, image, args.page_size) for owner in inputs.owners for image in owner.images
        ]
        incomplete = [
            f"{image.source.path}: {sentence}"
            for owner in inputs.owners
            for image in owner.images
            for sentence in image.incomplete
        ]
        if args.json:
            _print_json(described, args.page_size, inputs.warnings, incomplete, inputs.skipped)
        else:
            from pageshare.render.console import show

            show(lambda console: _write(console, described, args.page_size, everything=args.all))
        notes = [] if args.quiet else inputs.notes
        tell(notes=notes, skipped=inputs.skipped, warnings=inputs.warnings, incomplete=incomplete)
        return 3 if incomplete or inputs.skipped else 0


def _describe(owner: str, image: Image, page_size: int) -> dict[str, Any]:
    """One dump as the JSON has it, with every extent; ``coverage`` is the object, not yet a dict."""
    from pageshare.images.ranges import Kind, State, first_wins, paginate
    from pageshare.space import coverage_of

    paged = paginate(first_wins(image.ranges)[0], page_size)
    files = [source.path for source in image.payload]

    def described(extent: tuple[int, ...]) -> dict[str, Any]:
        pfn, pages, offset, file, state, kind = extent
        # What is compressed has its place in a file that is not there yet.
        in_file = offset >= 0 and file < len(files)
        return {
            "address": pfn * page_size,
            "pages": pages,
            "offset": offset if in_file else None,
            "file": files[file] if in_file else None,
            "compressed": offset >= 0 and not in_file,
            "state": State(state).name.lower(),
            "kind": Kind(kind).name.lower(),
        }

    extents = [described(each) for each in paged.extents.tolist()]
    extents += [described((each.pfn, 1, -1, 0, State.DATA, each.kind)) for each in paged.stitches]
    return {
        "owner": owner,
        "path": image.source.path,
        "format": image.format,
        "kind": image.kind.name.lower(),
        "bytes": image.source.size,
        "details": dict(image.details),
        "coverage": coverage_of(paged),
        "extents": sorted(extents, key=lambda extent: extent["address"]),
    }


def _print_json(
    described: list[dict[str, Any]],
    page_size: int,
    warnings: list[str],
    incomplete: list[str],
    skipped: list[dict[str, str]],
) -> None:
    import json
    from dataclasses import asdict

    for dump in described:
        dump["coverage"] = asdict(dump["coverage"])
    document = {
        "format": FORMAT,
        "page_size": page_size,
        "dumps": described,
        "incomplete": incomplete,
        "warnings": warnings,
        "skipped": skipped,
    }
    print(json.dumps(document, indent=2))


def _write(console: Console, described: list[dict[str, Any]], page_size: int, *, everything: bool) -> None:
    from rich.text import Text

    from pageshare.images import printable
    from pageshare.render.units import size

    for number, dump in enumerate(described):
        if number:
            console.print()
        console.print(Text(printable(dump["path"]), style="bold"), soft_wrap=True)
        whose = {"ram": "memory of a machine", "process": "memory of a process"}[dump["kind"]]
        console.print(f"  format: {dump['format']}, {whose}")
        console.print(f"  size: {size(dump['bytes'])} ({dump['bytes']:,} bytes)")
        for name, value in dump["details"].items():
            console.print(f"  {name}: {printable(value)}", soft_wrap=True)
        console.print()
        shown = dump["extents"] if everything else dump["extents"][:MOST_EXTENTS]
        console.print(_extents(shown, page_size, dump["path"]))
        if len(dump["extents"]) > len(shown):
            console.print(f"  and {len(dump['extents']) - len(shown):,} more extents (--all lists them)")
        console.print()
        console.print(_coverage(dump["coverage"], page_size))


_CONTENT = {"data": "in the file", "zero_inferred": "zero (hole)"}


def _columns(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i in (1, 2) else "left", no_wrap=True)
    return table


def _extents(extents: list[dict[str, Any]], page_size: int, path: str) -> Table:
    from pageshare.images import printable
    from pageshare.render.units import size

    table = _columns("  address", "pages", "size", "content", "kind", "at offset")
    for extent in extents:
        pages = extent["pages"]
        place = "-" if extent["offset"] is None else f"{extent['offset']:#x}"
        if extent["file"] not in (None, path):
            place += f" of {printable(Path(extent['file']).name)}"
        table.add_row(
            f"  {extent['address']:#x}",
            f"{pages:,}",
            size(pages * page_size),
            "compressed" if extent["compressed"] else _CONTENT.get(extent["state"], extent["state"]),
            extent["kind"],
            place,
        )
    return table


def _coverage(coverage: Coverage, page_size: int) -> Table:
    from pageshare.render.units import size

    table = _columns(f"  {page_size}-byte pages", "pages", "size")
    for name, pages in _rows(coverage):
        table.add_row(f"  {name}", f"{pages:,}", size(pages * page_size))
    return table


def _rows(coverage: Coverage) -> Iterator[tuple[str, int]]:
    yield "known: data in the file", coverage.data
    for name, pages in (
        ("known: zero by the format", coverage.zero),
        ("known: zero, holes in the file", coverage.zero_inferred),
        ("unknown: left out by who made the dump", coverage.excluded),
        ("unknown: lost", coverage.lost),
        ("apart: device memory", coverage.device),
        ("apart: incomplete pages at a range's end", coverage.partial),
    ):
        if pages:
            yield name, pages
