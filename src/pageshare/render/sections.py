"""A report in sections, which every view shows: a question each, with tables, and pictures for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib import import_module

from pageshare.answers import Answers
from pageshare.render.tables import Table
from pageshare.report import Report

FIRST, LAST = ("savings", "owners"), ("figures", "coverage")
"""Keys of the sections that every report has, before and behind the answers."""
KEYS = (*FIRST, *(field.name for field in fields(Answers)), *LAST)
"""Of all sections that there may be, in the order of the page."""


@dataclass(frozen=True)
class Section:
    """``key`` names it in links and files and for ``--show``; ``question`` is what it answers, in a sentence.

    ``lines`` are what matters most, in sentences; ``charts`` are SVGs; ``assumptions`` what the answer rests on.
    """

    key: str
    title: str
    question: str
    tables: Sequence[Table] = ()
    charts: Sequence[str] = ()
    lines: Sequence[str] = ()
    assumptions: Sequence[str] = ()


def sections(report: Report) -> Iterator[Section]:
    """What a report answers beyond its headline, in the order of ``Answers``: each answer's module in
    ``render.answers`` has ``section(answer, report)``."""
    if report.answers is None:
        return
    for field in fields(report.answers):
        answer = getattr(report.answers, field.name)
        if answer is not None:
            yield import_module(f"pageshare.render.answers.{field.name}").section(answer, report)


def everything(report: Report) -> Iterator[Section]:
    """All that there is to show, in the order of the page: where it comes from, owner by owner, the answers, what was
    looked at."""
    from pageshare.render.headline import first_sections, last_sections

    yield from first_sections(report)
    yield from sections(report)
    yield from last_sections(report)
