"""The traces that come with the package: they can be read, they are what the document says, and they are worth it."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pageshare.lab import trace as traces
from pageshare.lab.trace import WRITTEN, ZERO

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "traces"))

import describe  # noqa: E402 - from where it was put into the path
import programs  # noqa: E402


@pytest.fixture(scope="module", params=programs.NAMES)
def kept(request):
    return traces.read(traces.kept()[request.param])


def test_all_programs_are_kept_and_no_others():
    assert sorted(traces.kept()) == sorted(programs.NAMES)
    assert 3 << 20 < sum(path.stat().st_size for path in traces.kept().values()) < 6 << 20


def test_they_are_as_large_and_long_as_is_said(kept):
    assert 30 <= kept.pages * kept.page_size / 2**20 <= 150
    assert 6 <= kept.intervals * kept.interval / 60e6 <= 10
    assert {actor.intent for actor in kept.actors} <= {"work", "zero", "collect", "unlabelled"}
    assert sum(part.pages for part in kept.ranges) == kept.pages


def test_use_changes_over_time(kept):
    work = describe.shares(kept).work
    assert max(work) > 0.3
    assert min(work) < 0.12
    assert np.std(work) > 0.08


def test_every_page_is_touched_at_some_time(kept):
    touched = np.zeros(kept.pages, np.bool_)
    begin = time.process_time()
    for number in range(kept.intervals):
        some = kept.touches(number)
        touched[some.pages] = True
        assert not (some.kinds[some.kinds & ZERO > 0] & WRITTEN == 0).any()
    assert touched.all()
    assert time.process_time() - begin < 10


@pytest.mark.parametrize(
    ("name", "intent", "most"),
    [("java", "collect", 0.3), ("cpython", "collect", 0.5), ("ruby", "collect", 0.5), ("zeroing", "zero", 0.3)],
)
def test_some_touches_are_not_use(name, intent, most):
    """At some time, a large part of the pages is touched by such actors alone."""
    trace = traces.read(traces.kept()[name])
    assert intent in {actor.intent for actor in trace.actors}
    found = describe.shares(trace)
    assert max(np.subtract(found.everybody, found.work)) > most


def test_the_document_has_what_they_show():
    document = (ROOT / "docs" / "lab" / "traces.md").read_text(encoding="utf-8")
    assert describe.written_into(document) == document


def test_shares_are_counted_as_is_said():
    """Against plain sets, of a trace made up: a second an interval, pages touched at known times."""
    actors = [traces.Actor("a", 0, "work"), traces.Actor("a", 0, "collect")]
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(100):
        cells = np.unique(rng.integers(0, 40, 3))
        kinds = rng.choice([1, 2, 3, 6, 8, 9], len(cells)).astype(np.uint8)
        rows.append(traces.Touches((cells // 2).astype(np.uint32), (cells % 2).astype(np.uint16), kinds))
    trace = traces.of_touches(rows, name="", pages=20, interval=1_000_000, actors=actors)
    found = describe.shares(trace)
    for at, second in enumerate(range(29, 100, 10)):
        used = {who: set() for who in ("everybody", "work")}
        for number in range(second + 1):
            for page, actor, kind in zip(rows[number].pages, rows[number].actors, rows[number].kinds, strict=True):
                if kind & 3 and number > second - 30:
                    used["everybody"].add(page)
                    if actor == 0:
                        used["work"].add(page)
        assert (found.everybody[at], found.work[at]) == (len(used["everybody"]) / 20, len(used["work"]) / 20)
