"""The comparison of policies as one self-contained page."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pageshare.render.units import clock, percent, size


class MissingTemplates(ValueError):
    """jinja2 is not installed; the message says how to get it."""


def check_templates() -> None:
    """Raise MissingTemplates, before anything is computed, if no page could be made."""
    if importlib.util.find_spec("jinja2") is None:
        raise MissingTemplates("pages need jinja2: pip install 'pageshare[plot]'")


def page(document: Mapping[str, Any], pace: str, svg: str) -> str:
    """HTML of a comparison's document (``replay.report.policies_document``), with a drawing in it; ``pace`` in words.
    Escaped, no network."""
    check_templates()
    from jinja2 import Environment, StrictUndefined

    template = Path(__file__).with_name("policies.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(size=lambda pages: size(round(pages * document["page_size"])), share=_share)
    environment.globals.update(percent=percent, clock=clock)
    drawing = svg[svg.index("<svg") :]
    data = json.dumps(document).replace("<", "\\u003c")
    tables = (("", "any pages"), ("_nonzero", "other pages than zero ones"))
    return environment.from_string(template).render(
        document=document, pace=pace, drawing=drawing, data=data, tables=tables
    )


def _share(number: float | None) -> str:
    return "-" if number is None else f"{100 * number:.1f}"
