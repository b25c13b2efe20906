"""What KSM would do, as tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pageshare.answers.ksm import PASSES, Ksm
from pageshare.ksm import KSMD_RATE
from pageshare.render.names import named
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table
from pageshare.render.units import clock, percent, percent_of, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pageshare.report import Report

HARDLY = 0.02
"""A profit of less than this share of what is scanned is hardly worth it."""
MOST_NAMES = 5


def section(answer: Ksm, report: Report) -> Section:
    """What it wins, what it costs, who should be left out, how long it takes, what to set."""
    tables = [_variants(answer, report), _counters(answer, report), _guests(answer, report), _paces(answer, report)]
    if answer.suggested:
        tables.append(_settings(answer, report))
    return Section(
        "ksm",
        "What KSM would do",
        "Is it worth it: if these owners were guests, what would KSM save, at what cost, and how soon?",
        tables=tables,
        lines=[_verdict(answer, report), *_lines(answer, report)],
        assumptions=answer.assumptions,
    )


def _signed(count: int) -> str:
    return f"-{size(-count)}" if count < 0 else size(count)


def _verdict(answer: Ksm, report: Report) -> str:
    """Is it worth it? In a sentence."""
    counters, page = answer.counters, report.page_size
    scanned = counters.scanned * page
    if counters.profit <= 0:
        return (
            f"No: it would save {size(counters.reclaimed * page)} of {size(scanned)}, and take"
            f" {size(counters.cost_bytes + counters.node_bytes)} for its own records"
        )
    won = (
        f"it would save {size(counters.profit)} of {size(scanned)} ({percent(counters.profit, scanned)}), its own"
        f" {size(counters.cost_bytes + counters.node_bytes)} taken off, for {clock(answer.pass_cpu_seconds)} of a CPU"
        " a pass"
    )
    if counters.profit < HARDLY * scanned:
        return f"Hardly: {won}"
    files = report.coverage.process  # of processes: KSM leaves their pages of files alone
    return f"Yes, if memory is short{', holds still and is not of files' if files else ' and holds still'}: {won}"


def _lines(answer: Ksm, report: Report) -> Iterator[str]:
    counters, page = answer.counters, report.page_size

    def shown(pages: int) -> str:
        return size(pages * page)

    if counters.reclaimed:
        other = counters.reclaimed - counters.reclaimed_zero
        yield (
            f"Of {shown(counters.reclaimed)} reclaimed, {shown(counters.reclaimed_zero)} are zero pages,"
            f" {shown(other)} other content"
        )
    if answer.extra_frames:
        yield (
            f"{shown(answer.extra_frames)} more would be reclaimed without max_page_sharing={answer.max_page_sharing}:"
            " what has more copies keeps several frames"
        )
    if answer.leave_out:
        names = ", ".join(named(name) for name in answer.leave_out[:MOST_NAMES])
        more = len(answer.leave_out) - MOST_NAMES
        yield (
            f"Leave out {names}{f' and {more} more' if more > 0 else ''}: they cost more than they bring; the profit is"
            f" {_signed(answer.profit_without)} then"
        )
    asked = answer.paces[0]
    best = next((pace for pace in answer.paces if "suggested" in pace.name), asked)
    if counters.scanned:
        yield (
            f"With pages_to_scan={asked.pages_to_scan} every {asked.sleep_millisecs} ms it takes"
            f" {clock(asked.seconds)} to find ({PASSES} passes), at {percent_of(asked.cpu_share)} of a CPU"
            + (
                ""
                if best is asked
                else f"; with {best.pages_to_scan}, {clock(best.seconds)}, at {percent_of(best.cpu_share)}"
            )
        )
    yield from _cautions(answer, report)


def _cautions(answer: Ksm, report: Report) -> Iterator[str]:
    """What may make it otherwise."""
    coverage, page = report.coverage, report.page_size
    if holes := sum(guest.holes for guest in answer.guests):
        yield f"{size(holes * page)} are holes in the files, taken to be no memory; the table has them as memory too"
    if coverage.unknown:
        yield f"{size(coverage.unknown * page)} are unknown: KSM would scan them too, and may find more"
    if coverage.process:
        yield (
            f"{size(coverage.process * page)} are pages of processes: what of them is pages of files, KSM leaves alone"
            " (pageshare live tells them apart)"
        )
    if len(report.domains) > 1:
        yield "KSM knows no sharing domains: this is across those that were given"


def _which(answer: Ksm) -> list[Column]:
    """The settings that variants differ in; there are several of each where the dumps have holes."""
    holes = [Column("holes", "holes", "text")] if len(answer.variants) > 2 else []
    return [Column("use_zero_pages", "use_zero_pages", "text"), *holes]


def _of_variants(answer: Ksm, columns: Sequence[Column]) -> Iterator[tuple[Any, ...]]:
    for each in answer.variants:
        words = {"use_zero_pages": str(int(each.use_zero_pages)), "holes": "memory" if each.holes else "no memory"}
        yield tuple(words[key] if key in words else getattr(each, key) for key in (column.key for column in columns))


def _variants(answer: Ksm, report: Report) -> Table:
    columns = (
        *_which(answer),
        Column("scanned", "scanned", "pages"),
        Column("reclaimed", "reclaimed", "pages"),
        Column("cost_bytes", "cost", "bytes"),
        Column("node_bytes", "nodes", "bytes"),
        Column("profit", "profit", "bytes"),
        Column("reclaimed_zero", "zero", "pages"),
    )
    note = (
        "cost: 64 bytes a scanned page, but for zero pages that are the kernel's own; nodes: 64 bytes a frame; profit:"
        " reclaimed less both; zero: of what is reclaimed"
    )
    rows = list(_of_variants(answer, columns))
    return Table("ksm", "What it wins and costs", columns, rows, report.page_size, note)


def _counters(answer: Ksm, report: Report) -> Table:
    columns = (
        *_which(answer),
        Column("pages_shared", "pages_shared"),
        Column("pages_sharing", "_sharing"),
        Column("pages_unshared", "_unshared"),
        Column("ksm_zero_pages", "ksm_zero_pages"),
        Column("rmap_items", "rmap_items"),
        Column("general_profit", "general_profit", "bytes"),
    )
    note = "general_profit: as the kernel has it, without nodes; rmap_items: of 64 bytes each"
    rows = list(_of_variants(answer, columns))
    return Table("ksm-counters", "The kernel's counters", columns, rows, report.page_size, note, detail=True)


def _guests(answer: Ksm, report: Report) -> Table:
    columns = (
        Column("owner", "owner", "text"),
        Column("scanned", "scanned", "pages"),
        Column("part", "part", "pages"),
        Column("adds", "adds", "pages"),
        Column("cost_bytes", "cost", "bytes"),
        Column("profit", "profit", "bytes"),
        Column("zero", "zero", "pages"),
        Column("holes", "holes", "pages"),
        Column("process_profit", "process_profit", "bytes"),
        Column("merging", "merging", "pages"),
    )
    keys = [column.key for column in columns[1:]]
    ranked = sorted(answer.guests, key=lambda guest: -guest.profit)
    rows = [(guest.name, *(getattr(guest, key) for key in keys)) for guest in ranked]
    note = (
        "part: its part of what is reclaimed; adds: what would not be reclaimed without it; profit: by how much that of"
        " all would fall without it; process_profit: as the kernel computes it, which takes kept frames for saved ones"
    )
    return Table("ksm-guests", "Guest by guest", columns, rows, report.page_size, note)


def _paces(answer: Ksm, report: Report) -> Table:
    columns = (
        Column("pages_to_scan", "pages_to_scan"),
        Column("sleep_millisecs", "sleep ms"),
        Column("pass_seconds", "a pass", "seconds"),
        Column("seconds", "two", "seconds"),
        Column("most_seconds", "three", "seconds"),
        Column("cpu_share", "CPU", "share"),
        Column("name", "", "text"),
    )
    keys = [column.key for column in columns]
    rows = [tuple(getattr(pace, key) for key in keys) for pace in answer.paces]
    note = (
        "Two passes find what holds still; a third one what was written during the first. CPU: of one CPU, while ksmd"
        f" looks at pages, at {size(KSMD_RATE)}/s"
    )
    return Table("ksm-paces", "How long it takes", columns, rows, report.page_size, note)


def _settings(answer: Ksm, report: Report) -> Table:
    columns = (Column("setting", "setting", "text"), Column("value", "value", "text"))
    rows = [(each.name, each.value) for each in answer.suggested]
    note = "; ".join(f"{each.name}: {each.why}" for each in answer.suggested)
    return Table("ksm-settings", "Suggested settings, in /sys/kernel/mm/ksm", columns, rows, report.page_size, note)
