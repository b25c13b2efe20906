"""Made for tests of views: reports of random memories, names that would break a view, tables with all units."""

import random

import numpy as np

import pageshare
from pageshare.render.sections import Section
from pageshare.render.tables import Column, Table

PAGE = 512

HOSTILE = (
    "<script>alert(1)</script>",
    "</script></style></title><!--<img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)' x=\"",
    "{{ 7 * 7 }}{% raw %}&amp;&lt;",
    "grin \N{GRINNING FACE}, family \N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}",
    "two\nlines\r\nand a\ttab",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe, \N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET}",
    "\x1b[31mred\x1b[0m\x07",
    "=cmd|'/c calc'!A1",
    "+1-1",
    "@SUM(A1)",
    "-",
    "a,b;c\"d\"",
    "caf\udce9",
    "x" * 200,
    "[bold]rich[/bold]",
    "javascript:alert(1)",
    "",
)


def memory(random_numbers, pages, contents):
    """Some pages with few contents, zeros among them."""
    made = np.zeros((pages, PAGE // 8), np.int64)
    made[:, 1] = random_numbers.integers(0, contents, pages)
    return made


def random_report(*, seed, owners=2, pages=60, names=None, **options):
    """The report of a scan of random memories that share a good deal."""
    numbers = np.random.default_rng(seed)
    names = names or [f"guest-{number:03}" for number in range(owners)]
    held = {name: memory(numbers, int(numbers.integers(1, pages + 1)), pages * len(names) // 3 + 2) for name in names}
    return pageshare.scan(held, page_size=PAGE, **options)


UNITS = ("text", "count", "pages", "bytes", "share", "number", "seconds", "address", "hash")


def random_value(numbers, unit):
    """Of a column with this unit; sometimes not known."""
    if numbers.random() < 0.1:
        return None
    values = {
        "text": lambda: numbers.choice(HOSTILE),
        "count": lambda: numbers.randrange(2**40),
        "pages": lambda: numbers.randrange(2**33),
        "bytes": lambda: numbers.randrange(2**62),
        "share": numbers.random,
        "number": lambda: numbers.gauss(0, 1000),
        "seconds": lambda: numbers.expovariate(0.01),
        "address": lambda: numbers.randrange(2**64),
        "hash": lambda: numbers.randbytes(16),
    }
    return values[unit]()


def random_table(name, *, rows, units=UNITS, seed=1):
    """A table with a column for each of ``units``."""
    numbers = random.Random(seed)
    columns = tuple(Column(f"{unit}_{i}", f"{unit} {i}", unit) for i, unit in enumerate(units))
    made = [tuple(random_value(numbers, unit) for unit in units) for _ in range(rows)]
    return Table(name, f"A table of {name}", columns, made, PAGE, note=f"This is {name}.")


CHART = (
    '<svg viewBox="0 0 600 80" role="img" aria-label="Made up"><title>Made up</title>'
    '<rect x="0" y="10" width="300" height="40" fill="var(--inter)"/>'
    '<rect x="300" y="10" width="200" height="40" fill="var(--intra)"/>'
    '<text x="4" y="70" font-size="13" fill="var(--ink)">0 GiB</text></svg>'
)


def made_up_sections():
    """Sections with pictures, long and wide tables, an empty one, and names that would break a view; as ``answered``
    has them."""
    first = Section(
        "made-up",
        "Made up",
        "Does it hold?",
        tables=[random_table("few", rows=5), random_table("many", rows=60, seed=2)],
        charts=[CHART],
        lines=["What matters most.", *HOSTILE],
        assumptions=["Nothing is real.", *HOSTILE],
    )
    second = Section(
        "wide",
        "Wide, long, empty",
        "",
        tables=[
            random_table("wide", rows=30, units=("text", *["pages"] * 100), seed=3),
            random_table("long", rows=3000, units=("text", "count", "share"), seed=4),
            random_table("none", rows=0),
        ],
    )
    return {section.key: lambda section=section: section for section in (first, second)}
