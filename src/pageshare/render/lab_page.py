"""A laboratory run as one self-contained page: what happened, curves, tables, and what it is calibrated against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pageshare._version import __version__
from pageshare.images import printable
from pageshare.render import lab, lab_study
from pageshare.render.pages import templates
from pageshare.render.policies_page import DARK, VARIABLES
from pageshare.render.tables import cell, plain
from pageshare.render.units import unbroken

SHORT = {"count", "pages", "bytes", "share", "number", "seconds"}


def page(document: Mapping[str, Any], drawing: str) -> str:
    """HTML of a run's document (``lab.report.document``); ``drawing`` is the SVG of its course. Escaped, no network."""
    return _page(document, drawing, lab)


def study_page(document: Mapping[str, Any], drawing: str) -> str:
    """The same of a study's document (``lab.estimation.document``)."""
    return _page(document, drawing, lab_study)


def _page(document: Mapping[str, Any], drawing: str, view: Any) -> str:
    """``view`` is the module that has what is shown."""
    rendered = (
        templates()
        .get_template("lab.html")
        .render(
            document=document,
            headline=unbroken(printable(view.headline(document))),
            lines=[unbroken(printable(line)) for line in view.lines(document)],
            settings=unbroken(printable(view.settings(document))),
            tables=view.tables(document),
            drawing=_inline(drawing),
            cell=cell,
            numbers=SHORT,
            version=__version__,
            colours=[(VARIABLES[light], light, dark) for light, dark in DARK.items()],
            data=json.dumps(document, separators=(",", ":")).replace("<", "\\u003c"),
        )
    )
    return plain(rendered)


def _inline(svg: str) -> str:
    """A drawing as a part of the page: in the theme's colours, on its paper."""
    svg = svg[svg.index("<svg") :].replace(": #ffffff", ": none")
    for colour, variable in VARIABLES.items():
        svg = svg.replace(f": {colour}", f": var(--{variable})")
    return svg
