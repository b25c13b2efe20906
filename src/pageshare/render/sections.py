"""A report in sections, which every view shows: a question each, with tables, and pictures for the page."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib import import_module

from pageshare.answers import Answers
from pageshare.render.tables import Table
from pageshare.report import Report

FIRST, LAST = ("savings", "owners"), ("figures", "coverage")
"""Keys of the sections that every report has, before and behind the answers."""
KEYS = (*FIRST, *(field.name for field in fields(Answers)), *LAST)
"""Of all sections that there may be, in the order of the page."""
ASKED = {
    "joining": "Who wastes most?",
    "ksm": "Is KSM worth it?",
    "isolation": "What does isolation cost?",
    "page_sizes": "What do huge pages cost?",
    "placement": "Who belongs together?",
    "similar": "Would compressing help?",
    "matrix": "Who is like whom?",
    "contents": "What are these pages?",
}
"""What is asked first, by sections' keys; the first sentence of each section answers it."""
OF_SEVERAL = ("joining", "isolation", "placement", "matrix")
"""Of them, what makes no sense with one owner."""
OPTIONS = {"page_sizes": "--page-sizes", "placement": "--hosts N", "similar": "--similar"}
"""How to ask what is not always answered."""


@dataclass(frozen=True)
class Section:
    """``key`` names it in links and files and for ``--show``; ``question`` is what it answers, in a sentence.

    ``lines`` are what matters most, in sentences, the first of them the answer; ``charts`` are SVGs; ``assumptions``
    what the answer rests on.
    """

    key: str
    title: str
    question: str
    tables: Sequence[Table] = ()
    charts: Sequence[str] = ()
    lines: Sequence[str] = ()
    assumptions: Sequence[str] = ()


@dataclass(frozen=True)
class Short:
    """A question and its answer in a sentence, which the section ``key`` has too; not asked: ``option`` asks it."""

    key: str
    question: str
    answer: str = ""
    option: str = ""


def in_short(report: Report, there: Iterable[Section]) -> Iterator[Short]:
    """What a reader without time wants to know, made of the first sentences of the sections that are there. Nothing of
    a scan by policy, or where nothing is known."""
    if report.answers is None or not report.pages.known:
        return
    lines = {section.key: section.lines for section in there}
    for key, question in ASKED.items():
        if key in OF_SEVERAL and len(report.owners) < 2:
            continue
        if lines.get(key):
            yield Short(key, question, lines[key][0])
        elif key in OPTIONS:
            yield Short(key, question, option=OPTIONS[key])


def answered(report: Report) -> dict[str, Callable[[], Section]]:
    """What a report answers beyond its headline, by key, in the order of ``Answers``; each section is made when it is
    called for: each answer's module in ``render.answers`` has ``section(answer, report)``."""

    def make(name: str) -> Section:
        module = import_module(f"pageshare.render.answers.{name}")
        section: Section = module.section(getattr(report.answers, name), report)
        return replace(section, lines=[line if line.endswith(".") else f"{line}." for line in section.lines])

    names = [] if report.answers is None else [field.name for field in fields(report.answers)]
    return {name: partial(make, name) for name in names if getattr(report.answers, name) is not None}


def keys(report: Report) -> list[str]:
    """Of all sections that there are, in the order of the page."""
    return [*FIRST, *answered(report), *LAST]


def everything(report: Report, wanted: Container[str] | None = None) -> Iterator[Section]:
    """All that there is to show, in the order of the page: where it comes from, owner by owner, the answers, what was
    looked at. Of these only those whose keys are ``wanted``, if that is said: tables of many owners take their time."""
    from pageshare.render.headline import first_sections, last_sections

    yield from (section for section in first_sections(report) if wanted is None or section.key in wanted)
    yield from (make() for key, make in answered(report).items() if wanted is None or key in wanted)
    yield from (section for section in last_sections(report) if wanted is None or section.key in wanted)
