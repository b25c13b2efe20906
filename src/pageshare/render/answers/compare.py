"""The view of two scans compared: what was written, where, and what became of sharing."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from pageshare.answers.compare import Comparison, OwnerChanges
from pageshare.images import printable
from pageshare.render.console import say, titled
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table, as_text, cell
from pageshare.render.units import percent, size

FIRST_REGIONS = 10
"""Regions that the sentence about them counts."""


def write(answer: Comparison, console: Console) -> None:
    """Print it to a console."""
    shown = section(answer)
    say(console, printable(shown.title), style="bold")
    for line in shown.lines:
        say(console, printable(line), indent="  ")
    for table in shown.tables:
        console.print()
        titled(console, table.title, as_text(table))
        if table.note:
            say(console, table.note)
    console.print()
    for sentence in shown.assumptions:
        say(console, f"Assumed: {sentence}")


def section(answer: Comparison) -> Section:
    """What changed: in sentences, then pages, owners, states, sharing, regions."""
    return Section(
        key="compare",
        title=f"From {answer.old.name} to {answer.new.name}",
        question="What changed between these two scans?",
        tables=list(_tables(answer)),
        lines=list(_lines(answer)),
        assumptions=answer.assumptions,
    )


def _lines(answer: Comparison) -> Iterator[str]:
    def in_bytes(pages: int) -> str:
        return cell(pages, "pages", answer.page_size)

    pages, sharing = answer.pages, answer.sharing
    if not pages.both:
        yield "No page is known in both scans: there is nothing to compare."
        return
    yield (
        f"{in_bytes(pages.written)} of {in_bytes(pages.both)} known in both were written"
        f" ({percent(pages.written, pages.both)}); sharing would save {in_bytes(answer.new.reclaimed)},"
        f" {in_bytes(answer.old.reclaimed)} before"
    )
    if pages.zeroed or pages.from_elsewhere:
        yield (
            f"Of what was written {in_bytes(pages.zeroed)} became zero, {in_bytes(pages.from_elsewhere)} holds now what"
            " was somewhere else before"
        )
    if sharing.before:
        yield (
            f"Of {in_bytes(sharing.before)} that were shared (zeros apart) {percent(sharing.stayed, sharing.before)}"
            " stayed so"
            + (
                f"; {in_bytes(sharing.broken)} were written: {sharing.broken:,} copies or more, had they been one"
                if sharing.broken
                else ""
            )
        )
    if answer.regions:
        first = answer.regions[:FIRST_REGIONS]
        yield (
            f"What was written lies in {answer.regions_written:,} of {answer.regions_known:,} regions of"
            f" {size(answer.region_bytes)}; {percent(sum(each.written for each in first), pages.written)} of it in the"
            f" first {len(first)}"
        )


def _tables(answer: Comparison) -> Iterator[Table]:
    yield _pages(answer)
    if len(answer.owners) > 1:
        yield _owners(answer)
    yield Table(
        "compare-states",
        "What pages were, and what they are",
        (
            Column("was", "was", "text"),
            *(Column(state, f"{'now ' * (not number)}{state}", "pages") for number, state in enumerate(answer.states)),
        ),
        [(was, *row) for was, row in zip(answer.states, answer.transitions, strict=True) if any(row)],
        answer.page_size,
        "intra: held by its owner alone, twice or more; inter: by several owners",
    )
    yield _sharing(answer)
    yield _sides(answer)
    if answer.regions:
        yield Table(
            "compare-regions",
            f"Where most was written, by {size(answer.region_bytes)} of addresses",
            (
                Column("owner", "owner", "text"),
                Column("address", "address", "address"),
                Column("both", "known in both", "pages"),
                Column("written", "written", "pages"),
                Column("of_both", "of it", "share"),
            ),
            [(each.owner, each.address, each.both, each.written, each.written / each.both) for each in answer.regions],
            answer.page_size,
        )


def _pages(answer: Comparison) -> Table:
    pages = answer.pages
    rows = [
        ("unchanged", pages.unchanged),
        ("written", pages.written),
        ("  zero now", pages.zeroed),
        ("  zero before", pages.filled),
        ("  neither", pages.rewritten),
        ("  holds what was elsewhere", pages.from_elsewhere),
        ("  held what is elsewhere", pages.to_elsewhere),
        ("appeared", pages.appeared),
        ("vanished", pages.vanished),
        ("known now, not before", pages.learnt),
        ("known before, not now", pages.lost),
    ]
    return Table(
        "compare-pages",
        "What became of pages",
        (
            Column("what", "", "text"),
            Column("pages", "pages"),
            Column("size", "size", "pages"),
            Column("of_before", "of known before", "share"),
        ),
        [(what, count, count, count / pages.before if pages.before else None) for what, count in rows],
        answer.page_size,
        "at the same address of the same owner; elsewhere: before, or now, in any page of any owner (but zeros)",
    )


def _owners(answer: Comparison) -> Table:
    return Table(
        "compare-owners",
        "Owner by owner",
        (
            Column("owner", "owner", "text"),
            Column("before", "before", "pages"),
            Column("after", "after", "pages"),
            Column("written", "written", "pages"),
            Column("of_both", "of both", "share"),
            Column("come", "come", "pages"),
            Column("gone", "gone", "pages"),
        ),
        [
            (
                _name(owner),
                owner.pages.before,
                owner.pages.after,
                owner.pages.written,
                owner.pages.written / owner.pages.both if owner.pages.both else None,
                owner.pages.appeared + owner.pages.learnt,
                owner.pages.vanished + owner.pages.lost,
            )
            for owner in sorted(answer.owners, key=lambda each: -each.pages.written)
        ],
        answer.page_size,
        "before, after: known pages; of both: of those known in both scans; come, gone: known in one of them only",
    )


def _name(owner: OwnerChanges) -> str:
    if owner.old is None:
        return f"{owner.new} (new)"
    if owner.new is None:
        return f"{owner.old} (gone)"
    return owner.new if owner.old == owner.new else f"{owner.old} > {owner.new}"


def _sharing(answer: Comparison) -> Table:
    sharing = answer.sharing
    rows = [
        ("shared before", sharing.before, sharing.before),
        ("  stayed shared, not written", sharing.stayed, sharing.before),
        ("  not written, alone now", sharing.lost_partner, sharing.before),
        ("  written", sharing.broken, sharing.before),
        ("  gone, or not known now", sharing.gone, sharing.before),
        ("shared now", sharing.after, sharing.after),
        ("  stayed shared, not written", sharing.stayed, sharing.after),
        ("  not written, alone before", sharing.found_partner, sharing.after),
        ("  by a write", sharing.by_write, sharing.after),
        ("  come, or not known before", sharing.come, sharing.after),
        ("zero pages that were written", sharing.zero_broken, None),
    ]
    return Table(
        "compare-sharing",
        "What became of sharing",
        (
            Column("what", "", "text"),
            Column("pages", "pages"),
            Column("size", "size", "pages"),
            Column("of_shared", "of shared", "share"),
        ),
        [(what, count, count, count / of if of else None) for what, count, of in rows],
        answer.page_size,
        "zeros apart; a shared page that is written is copied first: it costs that, and what sharing had saved",
    )


def _sides(answer: Comparison) -> Table:
    old, new = answer.old, answer.new
    return Table(
        "compare-sides",
        "Each scan",
        (
            Column("scan", "scan", "text"),
            Column("known", "known", "pages"),
            Column("zero", "zero", "pages"),
            Column("reclaimed", "reclaimed", "pages"),
            Column("contents", "contents"),
            Column("elsewhere", "in both"),
        ),
        [(side.name, side.known, side.zero, side.reclaimed, side.contents, side.elsewhere) for side in (old, new)],
        answer.page_size,
        "contents: distinct ones but zeros; in both: those that the other scan has too",
    )
