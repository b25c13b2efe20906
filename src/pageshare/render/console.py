"""One way to lay out text for people: rich tables and lines, as a string without trailing blanks."""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pageshare.render.units import NO_BREAK, unbroken


def laid_out(write: Callable[[Console], None], *, colour: bool = False, width: int = 80) -> str:
    """What ``write`` prints to the console that it is given, at least 80 columns wide."""
    out = io.StringIO()
    write(
        Console(
            file=out,
            width=max(width, 80),
            force_terminal=colour,
            no_color=not colour,
            color_system="standard" if colour else None,
            highlight=False,
            emoji=False,
            markup=False,
            soft_wrap=False,
        )
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def say(console: Console, sentence: str, *, indent: str = "", style: str = "") -> None:
    """Print a sentence in lines of 80 columns, each behind ``indent``; words are not broken, nor numbers from units."""
    lines = textwrap.wrap(
        unbroken(sentence),
        80,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        console.print(Text(line.replace(NO_BREAK, " "), style=style), soft_wrap=True)


def titled(console: Console, title: str, table: Table) -> None:
    """Print a table under its title, which may be wider."""
    say(console, title, style="bold")
    console.print(table)


def show(write: Callable[[Console], None]) -> None:
    """Print to stdout what ``write`` prints, in the colours and the width that stdout has."""
    terminal = sys.stdout.isatty()
    colour = terminal and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size().columns if terminal else 80
    sys.stdout.write(laid_out(write, colour=bool(colour), width=width))
