"""The contents that bring most, and what all pages are: tables, and bars by kind."""

from __future__ import annotations

from pageshare.answers.contents import Content, Contents
from pageshare.images import printable
from pageshare.render import svg
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table
from pageshare.render.units import size
from pageshare.report import Report

WIDTH, ROW, LEFT, RIGHT = 640, 22, 150, 560

MOST_KINDS = 4
"""Kinds that the first sentence names."""

WORDS = {
    "zero": "zero",
    "repeated_byte": "one repeated byte",
    "repeated_2": "2 repeated bytes",
    "repeated_4": "4 repeated bytes",
    "repeated_8": "8 repeated bytes",
    "text": "text",
    "elf": "ELF header",
    "page_table": "like a page table",
    "file_system": "file system",
    "pointers": "pointers",
    "high_entropy": "high entropy",
    "other": "other",
}
"""Kinds before people."""


def section(answer: Contents, report: Report) -> Section:
    """Everything about single contents."""
    return Section(
        key="contents",
        title="What is shared",
        question="Which contents bring most, who holds them and where, and what are these pages?",
        tables=tables(answer, report.page_size),
        charts=charts(answer, report.page_size),
        lines=_lines(answer, report.page_size),
        assumptions=answer.assumptions,
    )


def tables(answer: Contents, page_size: int) -> list[Table]:
    """The top contents, who holds them and where, their bytes if these are shown, and all pages by kind."""
    kinds = [_kinds(answer, page_size)] if answer.kinds else []
    shown = [_bytes(answer, page_size)] if any(each.bytes is not None for each in answer.top) else []
    return [*kinds, _top(answer, page_size), _holders(answer, page_size), _places(answer, page_size), *shown]


def charts(answer: Contents, page_size: int) -> list[str]:
    """Pages by kind, and what of them is reclaimed; none where kinds are not known."""
    return [_bars(answer, page_size)] if answer.kinds else []


def _lines(answer: Contents, page_size: int) -> list[str]:
    if not answer.kinds:
        return ["What the pages are is not known: the scan was saved without kinds."]
    most = sorted(answer.kinds, key=lambda each: -each.reclaimed)[:MOST_KINDS]
    what = ", ".join(f"{_word(each.kind)} {size(round(each.reclaimed * page_size))}" for each in most if each.reclaimed)
    first = [f"Most of what is reclaimed: {what}."] if what else ["Nothing is reclaimed."]
    if answer.classified == answer.contents:
        return [*first, f"All {answer.contents:,} contents were looked at."]
    return [
        *first,
        f"Of {answer.contents:,} contents {answer.classified:,} were looked at: the top ones, and others at random"
        f" (seed {answer.seed}). In 95 of 100 samples the truth is within the errors."
    ]


def _word(kind: str | None) -> str | None:
    return None if kind is None else WORDS.get(kind, kind)


def _top(answer: Contents, page_size: int) -> Table:
    hashes = any(each.hash is not None for each in answer.top)
    columns = (
        Column("rank", "#"),
        Column("reclaimed", "brings", "pages"),
        Column("copies", "copies"),
        Column("owners", "owners"),
        Column("kind", "what it is", "text"),
        Column("owner", "first in", "text"),
        Column("address", "at", "address"),
        *([Column("hash", "hash", "text")] if hashes else []),
    )
    rows = [
        (
            rank,
            each.reclaimed,
            each.copies,
            each.owners,
            _word(each.kind),
            *_first_place(each),
            *([each.hash] if hashes else []),
        )
        for rank, each in enumerate(answer.top, 1)
    ]
    return Table("contents", "The contents that bring most", columns, rows, page_size)


def _first_place(content: Content) -> tuple[str | None, int | None]:
    return (content.places[0].owner, content.places[0].address) if content.places else (None, None)


def _holders(answer: Contents, page_size: int) -> Table:
    columns = (Column("rank", "#"), Column("owner", "held by", "text"), Column("copies", "copies"))
    rows = [
        (rank, holder.owner, holder.copies) for rank, each in enumerate(answer.top, 1) for holder in each.holders
    ]
    return Table("contents-holders", "Who holds most of them", columns, rows, page_size, detail=True)


def _places(answer: Contents, page_size: int) -> Table:
    columns = (Column("rank", "#"), Column("owner", "in", "text"), Column("address", "at", "address"))
    rows = [(rank, place.owner, place.address) for rank, each in enumerate(answer.top, 1) for place in each.places]
    return Table("contents-places", "Where they lie first", columns, rows, page_size, detail=True)


def _bytes(answer: Contents, page_size: int) -> Table:
    """As a hex dump, 16 bytes a row."""
    columns = (
        Column("rank", "#"),
        Column("offset", "offset", "address"),
        Column("hex", "bytes", "text"),
        Column("text", "text", "text"),
    )
    rows = []
    for rank, each in enumerate(answer.top, 1):
        held = bytes.fromhex(each.bytes or "")
        for at in range(0, len(held), 16):
            part = held[at : at + 16]
            rows.append((rank, at, part.hex(), "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)))
    return Table("contents-bytes", "Their first bytes", columns, rows, page_size)


def _kinds(answer: Contents, page_size: int) -> Table:
    exact = answer.classified == answer.contents
    columns = [
        Column("kind", "kind", "text"),
        Column("contents", "contents"),
        Column("pages", "pages", "pages"),
        Column("reclaimed", "reclaimed", "pages"),
        *(
            []
            if exact
            else [
                Column("pages_error", "\N{PLUS-MINUS SIGN} pages", "pages"),
                Column("reclaimed_error", "\N{PLUS-MINUS SIGN} reclaimed", "pages"),
                Column("contents_error", "\N{PLUS-MINUS SIGN} contents", "count"),
            ]
        ),
    ]
    rows = [
        (
            _word(each.kind),
            each.contents,
            each.pages,
            each.reclaimed,
            *([] if exact else [each.pages_error, each.reclaimed_error, each.contents_error]),
        )
        for each in answer.kinds
    ]
    note = "" if exact else "From a random sample, with errors of 95 %; zeros and the top contents are exact."
    return Table("kinds", "What are these pages?", tuple(columns), rows, page_size, note)


def _bars(answer: Contents, page_size: int) -> str:
    most = max(each.pages for each in answer.kinds)
    parts = [svg.legend(LEFT, 12, [("faint", "pages"), ("accent", "reclaimed of them")])]
    for nth, each in enumerate(answer.kinds):
        y = 20 + nth * ROW
        for pages, colour in ((each.pages, "faint"), (each.reclaimed, "accent")):
            if pages > 0:
                parts.append(svg.rectangle(LEFT, y, max(1, pages / most * (RIGHT - LEFT)), ROW - 6, colour))
        parts.append(svg.text(LEFT - 8, y + 12, _word(each.kind) or "", "end"))
        parts.append(svg.text(LEFT + each.pages / most * (RIGHT - LEFT) + 6, y + 12, size(each.pages * page_size)))
    first = answer.kinds[0]
    return svg.picture(
        f"Pages by what they look like: {printable(_word(first.kind) or '')} is the most,"
        f" {size(first.pages * page_size)}",
        WIDTH,
        24 + len(answer.kinds) * ROW,
        parts,
    )
