"""Pictures: XML that says what it shows, in the page's colours alone, whatever the owners are called."""

import random
import re
from xml.etree import ElementTree

import pytest

import pageshare
from pageshare.answers.contents import contents
from pageshare.answers.groups import groups
from pageshare.answers.memory_map import memory_map
from pageshare.answers.runs import runs
from pageshare.core import census
from pageshare.inventory import Inventory
from pageshare.render.answers import contents as of_contents
from pageshare.render.answers import groups as of_groups
from pageshare.render.answers import memory_map as of_map
from pageshare.render.answers import runs as of_runs

PAGE = 4096
COLOURS = ("ink", "faint", "line", "accent", "zero", "unique", "intra", "inter", "unknown")


def charts(named):
    space = pageshare.PageSpace.of(named)
    inventory = Inventory.of(space, census(space))
    yield from of_groups.charts(groups(inventory))
    yield from of_contents.charts(contents(inventory, space), PAGE)
    yield from of_map.charts(memory_map(inventory), PAGE)
    yield from of_runs.charts(runs(inventory), PAGE)


def memory(draw, pages):
    pool = [bytes([i]) * PAGE for i in range(200)]
    return b"".join(draw.choice(pool) if draw.random() < 0.7 else draw.randbytes(8) * 512 for _ in range(pages))


@pytest.mark.parametrize("name", ["a", "<script>alert(1)</script>", '"&\'', "x" * 200, "\N{GRINNING FACE}\x1b[1m"])
@pytest.mark.parametrize("pages", [1, 2, 700])
def test_pictures_are_what_a_page_can_show(name, pages):
    draw = random.Random(pages)
    found = list(charts({name: memory(draw, pages), "b": memory(draw, pages)}))
    assert found
    for chart in found:
        root = ElementTree.fromstring(chart)
        assert root.get("role") == "img"
        assert root.get("aria-label") == root.find("{*}title").text
        assert not root.findall(".//{*}script")
        assert len(chart.encode()) <= 20_000
        assert set(re.findall(r'(?:fill|stroke)="([^"]*)"', chart)) <= {
            "none",
            *(f"var(--{each})" for each in COLOURS),
        }


def test_strips_of_many_owners_are_small():
    draw = random.Random(1)
    for chart in charts({f"guest{i}": memory(draw, 400) for i in range(100)}):
        assert len(chart.encode()) <= 6_000
