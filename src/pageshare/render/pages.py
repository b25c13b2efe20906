"""What all pages have in common: jinja2 (an extra: pip install 'pageshare[html]'), one stylesheet, no network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


class MissingTemplates(ValueError):
    """jinja2 is not installed; the message says how to get it."""


def check_templates(extra: str = "html") -> None:
    """Raise MissingTemplates, before anything is computed, if no page could be made; ``extra`` has what it needs."""
    if importlib.util.find_spec("jinja2") is None:
        raise MissingTemplates(f"pages need jinja2: pip install 'pageshare[{extra}]'")


def templates() -> Environment:
    """The templates beside this file: all that is put into them is escaped, and what is missing is an error."""
    check_templates()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from pageshare.images import printable
    from pageshare.render.tables import shortened

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(printable=printable, shortened=shortened)
    return environment
