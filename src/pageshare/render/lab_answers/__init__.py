"""The answers of the laboratory as pages: Markdown with numbers put in, and plots beside it."""

from __future__ import annotations

import importlib
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pageshare.files import appearing_whole
from pageshare.render.pages import check_templates
from pageshare.render.plot import check_plotter, drawn

SIMULATED = (
    "This is a simulation in virtual time. Its rules are those that the paper publishes (Waldspurger, OSDI 2002) or\n"
    "that are named below; its costs are stated, and are no measurement of any machine."
)


@dataclass(frozen=True)
class Page:
    """A page: ``text`` is Markdown, ``plots`` what draws each on a matplotlib figure, by the file's name, with its size
    in inches."""

    text: str
    plots: dict[str, tuple[Callable[[Any], None], tuple[float, float]]]


def check() -> None:
    """Raise, before anything is computed, if no page could be made."""
    check_templates("lab")
    check_plotter()


def page_of(name: str, answer: Any, command: str, *, quick: bool = False) -> Page:
    """The page of an answer; ``command`` is what made it; ``quick``: with less than its question takes."""
    module = importlib.import_module(f"pageshare.render.lab_answers.{name.replace('-', '_')}")
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - Markdown, of numbers and names that are ours
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    seeds = "one seed" if answer.seeds == 1 else f"means of {answer.seeds} seeds ± their standard deviation"
    if quick:
        seeds += ". **A quick run of a few cases, shortly: it shows what the page looks like, and answers nothing**"
    values = {"answer": answer, "command": command, "simulated": SIMULATED, "over_seeds": seeds}
    values |= {"table": table, "spread": spread}
    text = environment.get_template(f"{name}.md").render(**values, **module.values(answer))
    return Page(wrapped(text), {file: (partial(draw, answer), size) for file, draw, size in module.PLOTS})


def files(name: str) -> list[str]:
    """Names of the files that the page of an answer comes to."""
    module = importlib.import_module(f"pageshare.render.lab_answers.{name.replace('-', '_')}")
    return [f"{name}.md", *(file for file, _draw, _size in module.PLOTS)]


def write(page: Page, name: str, folder: Path) -> list[Path]:
    """Put the page and its plots into a folder, each whole and private (0600); the files."""
    plots = {folder / file: drawn(draw, "svg", size) for file, (draw, size) in page.plots.items()}
    data = {folder / f"{name}.md": page.text.encode(), **plots}
    for path, content in data.items():
        with appearing_whole(path) as file:
            file.write(content)
    return list(data)


_ALONE = re.compile(r"#|\||!\[|```|<|>| {4}|---")
"""How lines begin that are no prose."""
_ITEM = re.compile(r"(?:[-*+]|\d+[.)]) ")
_MARK = re.compile(r" (?=(?:[-*+#>|=]+|\d+[.)])(?: |$))", re.MULTILINE)
"""A space before what would begin a list, a heading or a quotation, if it came first in a line."""
_UNIT = re.compile(r"(?<=\d) (?=%|[um]?s\b|[KMGT]i?B\b)| (?=± )|(?<=±) ")
"""A space within a figure."""
WIDTH = 124


def wrapped(text: str) -> str:
    """Markdown with its paragraphs and list items in lines of WIDTH at most, where words allow that; one empty line
    between two blocks. Tables, headings, images and code stay as they are, and code within a line in one line."""
    blocks, code = [], False
    for block in re.split(r"\n(?:[ \t]*\n)+", text.strip("\n")):
        fences = block.count("```")
        lines = block.rstrip().split("\n")
        if code or fences or any(_ALONE.match(line) for line in lines):
            blocks.append(block.rstrip())
        else:
            items: list[list[str]] = []
            for line in lines:
                if not items or _ITEM.match(line):
                    items.append([])
                items[-1].append(line.strip())
            blocks.append("\n".join(_filled(" ".join(item)) for item in items))
        code ^= fences % 2 == 1
    return "\n\n".join(blocks) + "\n"


def _filled(text: str) -> str:
    item = _ITEM.match(text)
    lead = item[0] if item else ""
    kept = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), text[len(lead) :])
    kept = _UNIT.sub("\0", _MARK.sub("\0", kept))
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    lines = textwrap.wrap(kept, WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead), **options)
    return "\n".join(lines).replace("\0", " ")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, all but its first column to the right."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, rule, *rows)) + "\n"


def number(value: float, digits: int) -> str:
    """A figure as text: what is a hair below zero is zero."""
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def spread(value: Any, digits: int = 1, scale: float = 1.0) -> str:
    """A mean over seeds and its standard deviation, as text."""
    mean, deviation = scale * value.mean, scale * value.deviation
    text = number(mean, digits)
    return text if math.isnan(deviation) else f"{text} ± {deviation:,.{digits}f}"


def seconds(lag: float) -> str:
    """Whole seconds, as text; none where there is no lag to tell."""
    return "" if math.isnan(lag) else f"{lag:.0f}"
