"""The comparison of policies as one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pageshare.render.course_plot import curve_id
from pageshare.render.pages import templates
from pageshare.render.plot import FAINT, INK, OTHERS
from pageshare.render.policies import ranked
from pageshare.render.tables import plain
from pageshare.render.units import clock, percent, size
from pageshare.replay.entry import DEFAULT_POLICY

BOUND = "oracle"
"""The policy that knows the answer."""
DARK = {
    "#0b62c4": "#6db3ff",
    "#1b7f3b": "#6fd08c",
    "#b35c00": "#ffab5c",
    "#7b3294": "#c79bf2",
    "#c2185b": "#ff7fb0",
    "#00808a": "#4fd0d0",
    "#7a7400": "#d6cf5a",
    "#b3261e": "#ff8a80",
    "#5a7fa8": "#9cc3ea",
    "#8d6e63": "#c9a99c",
}
"""Colours of curves, each with the one that stands for it on dark paper."""
VARIABLES = {
    INK: "ink",
    OTHERS: "others",
    FAINT: "faint",
    **{colour: f"curve-{number}" for number, colour in enumerate(DARK)},
}
"""Colours of a drawing, and the page's variables that take their places."""


def page(document: Mapping[str, Any], pace: str, drawings: Mapping[str, str]) -> str:
    """HTML of a comparison's document (``replay.report.policies_document``); ``drawings`` are SVGs of its curves, by
    the suffix of what was to be saved; ``pace`` in words. Escaped, no network."""
    environment = templates()
    environment.filters.update(size=lambda pages: size(round(pages * document["page_size"])), share=_share)
    environment.globals.update(percent=percent, clock=clock, ranked=ranked, default=DEFAULT_POLICY, bound=BOUND)
    names = [each["name"] for each in document["policies"]]
    shown = {
        suffix: what
        for suffix, what in (("", "any pages"), ("_nonzero", "other pages than zero ones"))
        if document["pace"] is not None or document["possible" + suffix]
    }
    rendered = environment.get_template("policies.html").render(
        document=document,
        pace=pace,
        drawings={suffix: _inline(svg, suffix, names) for suffix, svg in drawings.items()},
        data=json.dumps(document).replace("<", "\\u003c"),
        tables=shown,
        names=names,
        best={suffix: _best(document, suffix) for suffix in shown},
        colours=[(VARIABLES[light], light, dark) for light, dark in DARK.items()],
    )
    return plain(rendered)


def _inline(svg: str, suffix: str, names: Sequence[str]) -> str:
    """A drawing as a part of the page: in the theme's colours, on its paper, each curve with its name to be shown."""
    svg = svg[svg.index("<svg") :].replace(": #ffffff", ": none")
    for colour, variable in VARIABLES.items():
        svg = svg.replace(f": {colour}", f": var(--{variable})")
    for number, name in enumerate(names):
        group = f'<g id="{curve_id(suffix, number)}">'
        svg = svg.replace(group, f'{group[:-1]} class="curve"><title>{escape(name)}</title>')
    return svg


def _best(document: Mapping[str, Any], suffix: str) -> str:
    """The best policy but for the one that knows the answer."""
    return next((str(each["name"]) for each in ranked(document, suffix) if each["name"] != BOUND), "")


def _share(number: float | None) -> str:
    return "-" if number is None else f"{100 * number:.1f}"
