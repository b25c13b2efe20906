"""The terminal view of running processes: what KSM would save, where, at what cost, and why not more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pageshare.images import printable
from pageshare.ksm import KSMD_RATE
from pageshare.live.advice import switch_on
from pageshare.live.mappings import Reach
from pageshare.render.console import say, titled
from pageshare.render.units import clock, percent, size

if TYPE_CHECKING:
    from pageshare.live import Foretold, LiveReport, LookBack, MappingReport, ProcessReport

MOST_PROCESSES = 20
MOST_MAPPINGS = 12
MOST_ADVICE = 6


def write(report: LiveReport, console: Console) -> None:
    """Print the report to a console."""
    console.print(Text(_headline(report), style="bold"), soft_wrap=True)
    for sentence in _detail(report):
        say(console, sentence, indent="  ")
    if report.looks:
        console.print()
        titled(console, f"Look by look, {len(report.looks)} in all", _looks(report))
    console.print()
    titled(console, "What KSM would do", _foretold(report))
    for sentence in _costs(report):
        say(console, sentence)
    console.print()
    titled(console, "Process by process", _processes(report))
    _rest(console, len(report.processes), MOST_PROCESSES)
    say(
        console,
        "shared: mapped elsewhere too; may: mergeable today; would: would be merged if all were allowed; today: of"
        " that, today; alone: what it would save without the other processes",
    )
    mappings = _mappings_ranked(report)
    if mappings:
        console.print()
        titled(console, "Mappings where most would be merged", _mappings(report, mappings))
        _rest(console, len(mappings), MOST_MAPPINGS)
    console.print()
    say(console, "Why not more, and what would allow it", style="bold")
    for sentence, line in _advice(report):
        say(console, sentence)
        if line:
            console.print(Text(f"    {line}"), soft_wrap=True)
    console.print()
    titled(console, "What was looked at", _coverage(report))
    for sentence in _footer(report):
        say(console, sentence)


def look_line(looks: Sequence[LookBack], page_size: int) -> str:
    """One line for the last of several looks, with the change since the one before it."""
    last = looks[-1]
    line = (
        f"{last.seconds:8.1f} s  {size(last.saved * page_size)} could be saved of {size(last.anonymous * page_size)}"
        f" in {last.processes} process{'es' * (last.processes != 1)}, {size(last.saved_today * page_size)} today"
    )
    if len(looks) == 1:
        return line
    change = last.saved - looks[-2].saved
    sign = "-" if change < 0 else "+"
    return f"{line}; {sign}{size(abs(change) * page_size)}, {size(last.volatile * page_size)} changed since"


def _bytes(report: LiveReport, pages: int) -> str:
    return size(pages * report.page_size)


def _headline(report: LiveReport) -> str:
    saved, anonymous = report.allowed.saved, report.pages.anonymous
    if not anonymous:
        return "No anonymous page was seen: nothing for KSM."
    count = len(report.processes)
    return (
        f"KSM could save {_bytes(report, saved)} of {_bytes(report, anonymous)} ({percent(saved, anonymous)})"
        f" of anonymous memory in {count} process{'es' * (count != 1)}"
        + ("; interrupted" if report.looks else ", as far as it was seen: interrupted") * report.interrupted
    )


def _detail(report: LiveReport) -> Iterator[str]:
    allowed, today, kernel = report.allowed, report.today, report.kernel
    if allowed.saved:
        other = allowed.saved - allowed.saved_zero
        yield f"{_bytes(report, allowed.saved_zero)} of it zero pages, {_bytes(report, other)} other content"
    if today.scanned < allowed.scanned:
        yield (
            f"today it may touch {_bytes(report, today.scanned)} of this memory (mergeable), and would save"
            f" {_bytes(report, today.saved)} there"
        )
    if hint := switch_on(kernel):
        yield f"KSM is off: {hint}" if kernel.present else hint
    if kernel.pages_sharing or kernel.ksm_zero_pages:
        now = (kernel.pages_sharing or 0) + (kernel.ksm_zero_pages or 0)
        profit = "" if kernel.general_profit is None else f", a profit of {_signed(kernel.general_profit)}"
        yield f"on this machine it saves {_bytes(report, now)} already{profit}: that is not counted here again"
    if report.already_saved:
        yield f"{_bytes(report, report.already_saved)} are shared already, by fork or by KSM, and in no saving here"
    if report.pages.volatile and report.looks:
        yield f"{_bytes(report, report.pages.volatile)} changed between the last two looks, and are in no saving"


def _signed(count: int) -> str:
    return f"-{size(-count)}" if count < 0 else size(count)


def _table(*columns: str, left: int = 1) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right", no_wrap=True, overflow="ellipsis")
    return table


def _looks(report: LiveReport) -> Table:
    table = _table("after", "processes", "anonymous", "saved", "zero", "today", "changed", left=0)
    for look in report.looks[-MOST_PROCESSES:]:
        table.add_row(
            clock(look.seconds),
            f"{look.processes:,}",
            *(
                _bytes(report, pages)
                for pages in (look.anonymous, look.saved, look.saved_zero, look.saved_today, look.volatile)
            ),
        )
    return table


def _foretold(report: LiveReport) -> Table:
    table = _table("", "scanned", "merged", "saved", "zero", "cost", "profit")

    def row(name: str, one: Foretold, merged: int) -> None:
        table.add_row(
            name,
            *(_bytes(report, pages) for pages in (one.scanned, merged, one.saved, one.saved_zero)),
            size(one.cost_bytes),
            _signed(one.profit_bytes),
        )

    row("today", report.today, report.pages.would_merge_today)
    row("if allowed everywhere", report.allowed, report.pages.would_merge)
    return table


def _costs(report: LiveReport) -> Iterator[str]:
    allowed, kernel, speed = report.allowed, report.kernel, report.speed
    yield "zero: of what is saved; cost: 64 bytes for each page that KSM has not scanned yet; profit: saved less cost"
    if allowed.general_profit_bytes != allowed.profit_bytes:
        yield (
            f"the kernel's general_profit would grow by {_signed(report.today.general_profit_bytes)} today, by"
            f" {_signed(allowed.general_profit_bytes)} if allowed: it takes pages that a fork shares already for saved"
            + (", and zero pages of huge pages, which a split gives back, for none" if allowed.split_zero else "")
        )
    if speed.bytes_per_cpu_second:
        yield (
            f"a pass over all of it takes {clock(speed.pass_cpu_seconds)} of a CPU at this look's rate,"
            f" {size(int(speed.bytes_per_cpu_second))}/s read and hashed (ksmd searches its trees besides: at"
            f" {KSMD_RATE >> 30} GiB/s, {clock(allowed.scanned * report.page_size / KSMD_RATE)})"
        )
    if (long := kernel.pass_seconds(allowed.scanned)) is not None:
        yield (
            f"with pages_to_scan={kernel.pages_to_scan} every {kernel.sleep_millisecs} ms a pass lasts {clock(long)};"
            " pages merge in the second one, or in the first with what KSM has merged already"
        )
    if report.pages.huge:
        yield (
            f"{_bytes(report, report.pages.huge)} lie in transparent huge pages. KSM splits each one in which it merges"
            f" a page: {_bytes(report, allowed.huge)} would be merged out of such"
            f" ({_bytes(report, report.today.huge)} today)"
        )


def _processes(report: LiveReport) -> Table:
    columns = ("anonymous", "shared", "merged", "may", "would", "today", "alone")
    shown = [name for name in columns if name != "merged" or report.pages.merged]
    table = _table("pid", "command", *shown, left=2)
    ranked = sorted(report.processes, key=lambda each: (-each.pages.would_merge, -each.pages.anonymous))
    for each in ranked[:MOST_PROCESSES]:
        own = each.pages
        pages = {
            "anonymous": own.anonymous,
            "shared": own.shared + own.kernel_zero,
            "merged": own.merged,
            "may": each.mergeable,
            "would": own.would_merge,
            "today": own.would_merge_today,
            "alone": each.saved_within,
        }
        table.add_row(str(each.pid), printable(each.command)[:15], *(_bytes(report, pages[name]) for name in shown))
    return table


def _mappings_ranked(report: LiveReport) -> list[tuple[ProcessReport, MappingReport]]:
    found = [(process, each) for process in report.processes for each in process.mappings if each.pages.would_merge]
    return sorted(found, key=lambda pair: -pair[1].pages.would_merge)


def _mappings(report: LiveReport, ranked: Sequence[tuple[ProcessReport, MappingReport]]) -> Table:
    table = _table("pid", "mapping", "anonymous", "would", "huge", "may", left=2)
    for process, each in ranked[:MOST_MAPPINGS]:
        name = printable(each.name) or "[anonymous]"
        name = name if len(name) <= 20 else "\N{HORIZONTAL ELLIPSIS}" + name[-19:]
        table.add_row(
            str(process.pid),
            f"{each.start:x} {name}",
            *(_bytes(report, count) for count in (each.pages.anonymous, each.pages.would_merge, each.pages.huge)),
            "yes" if each.reach is Reach.MERGEABLE else "no",
        )
    return table


def _advice(report: LiveReport) -> Iterator[tuple[str, str]]:
    """Sentences with the line that helps, those for most memory first; processes with the same ones together."""
    together: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for process in report.processes:
        for each in process.advice:
            who = f"{process.pid} ({printable(process.command)})"
            together.setdefault((each.why, each.allow), []).append((each.pages, who))
    ranked = sorted(together.items(), key=lambda item: -sum(pages for pages, _ in item[1]))
    for (why, allow), members in ranked[:MOST_ADVICE]:
        names = [who for _, who in sorted(members, reverse=True)]
        some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield f"- {_bytes(report, sum(pages for pages, _ in members))} in {some}: {why}", allow
    for part in report.out_of_reach:
        if part.reach is Reach.FILE:
            yield (
                f"- {_bytes(report, part.pages)} are pages of files: KSM merges anonymous memory only, and the kernel"
                " keeps a file's page once, whoever maps it" + _identical(report, part.identical)
            ), ""
        elif part.identical:
            yield f"- in {part.reach.value}" + _identical(report, part.identical).replace(";", ":", 1), ""
    if any(each.advice for each in report.processes):
        yield "Such a line takes effect when the program is started with it the next time.", ""


def _identical(report: LiveReport, pages: int | None) -> str:
    return f"; {_bytes(report, pages)} more are the same as others, and stay out of KSM's reach" if pages else ""


def _coverage(report: LiveReport) -> Table:
    pages = report.pages
    table = _table("", "pages", "size")
    rows = [
        ("read: anonymous", pages.anonymous, True),
        ("read: of files and shared memory", pages.file, False),
        ("not read: in swap (--swapped reads them)", pages.swapped, False),
        ("not read: of files (--anonymous)", pages.excluded, False),
        ("not there: never touched, or dropped", pages.untouched, False),
        ("apart: the kernel's and devices'", pages.special, False),
        ("unmapped before they were read", pages.vanished, False),
        ("unreadable", pages.unreadable, False),
    ]
    for name, count, always in rows:
        if count or always:
            table.add_row(name, f"{count:,}", _bytes(report, count))
    return table


def _footer(report: LiveReport) -> Iterator[str]:
    if report.gone:
        yield f"{len(report.gone)} process{'es' * (len(report.gone) > 1)} ended meanwhile"
    if report.refused:
        yield f"{len(report.refused)} process{'es' * (len(report.refused) > 1)} could not be looked at"
    yield (
        f"{report.page_size}-byte pages, told apart by hash ({report.hash}) while the processes ran;"
        f" {size(report.speed.bytes_read)} read in {clock(report.speed.seconds)}"
    )


def _rest(console: Console, count: int, shown: int) -> None:
    if count > shown:
        console.print(f"and {count - shown} more (--json has all)")
