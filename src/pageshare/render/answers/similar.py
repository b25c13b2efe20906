"""Sharing, patching and compressing side by side: tables, and bars for the page."""

from __future__ import annotations

from html import escape
from typing import Any

from pageshare.answers._sizes import PATCHES
from pageshare.answers.similar import Estimate, Similar
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table, cell
from pageshare.report import Report

_WAY = (Column("way", "way", "text"), Column("codec", "codec", "text"))


def tables(answer: Similar, page_size: int) -> list[Table]:
    """What each way saves; what becomes of the pages; what the search for near-duplicates found."""
    return [_saved(answer, page_size), _pages(answer, page_size), _found(answer, page_size)]


def _saved(answer: Similar, page_size: int) -> Table:
    known = answer.known * answer.page_size
    shared = answer.shared_reclaimed * answer.page_size
    rows: list[tuple[Any, ...]] = [("share", "", 0, None, None, shared, _share(shared, known))]
    rows += [
        (way.name, way.codec, *_three(way.reclaimed), way.in_all.value, _share(way.in_all.value, known))
        for way in answer.ways
    ]
    return Table(
        "similar",
        "Sharing, patching, compressing",
        (
            *_WAY,
            Column("reclaimed", "saved more", "bytes"),
            Column("reclaimed_low", "from", "bytes"),
            Column("reclaimed_high", "to", "bytes"),
            Column("in_all", "in all", "bytes"),
            Column("in_all_share", "of known", "share"),
        ),
        rows,
        page_size,
        note=f"What each way saves on top of sharing, metadata taken off, and with it. {_basis(answer)}",
    )


def _pages(answer: Similar, page_size: int) -> Table:
    rows = [
        (way.name, way.codec, way.patched.value, way.compressed.value, way.stored.value, way.metadata.value)
        for way in answer.ways
    ]
    return Table(
        "similar-pages",
        "What becomes of the pages",
        (
            *_WAY,
            Column("patched", "patched", "pages"),
            Column("compressed", "compressed", "pages"),
            Column("stored", "stored in", "bytes"),
            Column("metadata", "metadata", "bytes"),
        ),
        rows,
        page_size,
        note=f"Of {cell(answer.distinct, 'pages', page_size)} that sharing leaves; the rest stays as it is.",
        detail=True,
    )


def _found(answer: Similar, page_size: int) -> Table:
    row = (
        answer.distinct,
        answer.sampled,
        answer.references,
        answer.with_candidate.value,
        answer.nearer.value,
        *_three(answer.nearer_bytes),
    )
    return Table(
        "similar-search",
        "Near-duplicates",
        (
            Column("distinct", "distinct", "pages"),
            Column("sampled", "measured", "pages"),
            Column("references", "references", "pages"),
            Column("with_candidate", "have one", "pages"),
            Column("nearer", "nearer", "pages"),
            Column("nearer_bytes", "by", "bytes"),
            Column("nearer_bytes_low", "from", "bytes"),
            Column("nearer_bytes_high", "to", "bytes"),
        ),
        [row],
        page_size,
        note=f"nearer: the patch ({PATCHES}) is smaller than the page compressed alone with zstd -1. What it is smaller"
        " by is what likeness saves, and compressing alone would not.",
    )


def _three(estimate: Estimate) -> tuple[float, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _basis(answer: Similar) -> str:
    if answer.whole:
        return "Every page was measured."
    return (
        f"By {answer.sampled:,} of {answer.distinct:,} distinct pages; from .. to holds the whole in 95 of 100 samples."
    )


def chart(answer: Similar) -> str:
    """A bar for each way: saved by sharing, saved more, left. A line marks the interval."""
    known = answer.known * answer.page_size
    if not known:
        return ""
    left, width, step = 190, 430, 24
    shared = answer.shared_reclaimed * answer.page_size
    bars = [("share", Estimate(shared))]
    bars += [(f"{way.name} {way.codec}".strip(), way.in_all) for way in answer.ways]
    height = step * (len(bars) + 1)
    label = "; ".join(f"{name} {cell(whole.value / known, 'share', answer.page_size)}" for name, whole in bars)
    drawn = []
    for number, (name, whole) in enumerate(bars):
        y = step * number + 4
        ends = [left + width * part / known for part in (0, shared, whole.value, known)]
        for begin, end, colour in zip(ends, ends[1:], ("--faint", "--accent", "--line"), strict=False):
            drawn.append(
                f'<rect x="{begin:.1f}" y="{y}" width="{max(0, end - begin):.1f}" height="{step - 8}"'
                f' fill="var({colour})"/>'
            )
        if whole.low is not None and whole.high is not None:
            low, high = (left + width * part / known for part in (whole.low, whole.high))
            drawn.append(
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + step / 2 - 4}" y2="{y + step / 2 - 4}"'
                ' stroke="var(--ink)" stroke-width="2"/>'
            )
        drawn.append(
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end" font-size="12" fill="var(--ink)">'
            f"{escape(name)}</text>"
            f'<text x="{left + width + 6}" y="{y + 12}" font-size="12" fill="var(--ink)">'
            f"{cell(whole.value / known, 'share', answer.page_size)}</text>"
        )
    y = step * len(bars) + 14
    for at, colour, text in (
        (0, "--faint", "saved by sharing"),
        (130, "--accent", "saved more"),
        (230, "--line", "left"),
    ):
        drawn.append(
            f'<rect x="{left + at}" y="{y - 9}" width="10" height="10" fill="var({colour})"/>'
            f'<text x="{left + at + 15}" y="{y}" font-size="12" fill="var(--faint)">{text}</text>'
        )
    return (
        f'<svg viewBox="0 0 {left + width + 60} {height}" role="img"'
        f' aria-label="Saved of known memory: {escape(label)}">'
        f"<title>Saved of known memory, by way</title>{''.join(drawn)}</svg>"
    )


IN_WORDS = {
    "patch": "Patching ({})",
    "compress": "Compressing ({})",
    "patch, then compress": "Patching, and compressing the rest ({}),",
    "the smaller": "Patching or compressing ({}), whichever is smaller,",
}
"""The ways, with what does it, as a sentence begins with them."""


def section(answer: Similar, report: Report) -> Section:
    """All of it."""
    page_size = report.page_size
    best = max(answer.ways, key=lambda way: way.reclaimed.value)
    patch = answer.ways[0]
    known = answer.known * answer.page_size
    lines = [
        f"{IN_WORDS[best.name].format(best.codec or PATCHES)} would save"
        f" {cell(best.reclaimed.value, 'bytes', page_size)} of the {cell(answer.distinct, 'pages', page_size)} that"
        f" sharing leaves; with sharing {cell(_share(best.in_all.value, known), 'share', page_size)} of known memory."
        if best.reclaimed.value > 0
        else f"No: it would save nothing of the {cell(answer.distinct, 'pages', page_size)} that sharing leaves.",
        f"Patches alone would save {cell(patch.reclaimed.value, 'bytes', page_size)}; all but"
        f" {cell(answer.nearer_bytes.value, 'bytes', page_size)} of that compressing saves as well.",
        _basis(answer),
    ]
    picture = chart(answer)
    return Section(
        key="similar",
        title="Near-duplicates and compression",
        question="What would patching near-duplicates, and compressing, save of what sharing leaves?",
        tables=tables(answer, page_size),
        charts=[picture] if picture else [],
        lines=lines,
        assumptions=answer.assumptions,
    )
