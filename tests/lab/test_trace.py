"""Traces: what is written comes back, interval by interval, and what is damaged or made up is refused in one line."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import damage
from pageshare.lab import trace as traces
from pageshare.lab._trace_file import CHECK, METADATA
from pageshare.lab.trace import READ, RELEASED, WRITTEN, ZERO, Actor, Range, Runs, Trace, TraceError, of_touches

ACTORS = (Actor("main", 0, "work"), Actor("main", 0, "collect"), Actor("zero", 1, "zero"))


def touches_of(rows):
    """Of {(page, actor): kind}."""
    ordered = sorted(rows)
    return traces.Touches(
        np.array([page for page, _ in ordered], np.uint32),
        np.array([actor for _, actor in ordered], np.uint16),
        np.array([rows[each] for each in ordered], np.uint8),
    )


def rows_of(touches):
    assert touches.pages.dtype == np.uint32
    assert touches.actors.dtype == np.uint16
    assert touches.kinds.dtype == np.uint8
    return list(zip(touches.pages.tolist(), touches.actors.tolist(), touches.kinds.tolist(), strict=True))


def trace_of(intervals, pages=50, **more):
    return of_touches(map(touches_of, intervals), name="made", pages=pages, interval=100_000, actors=ACTORS, **more)


def some_intervals(seed=0, count=200, pages=50):
    """Rows with runs long and short."""
    rng = random.Random(seed)
    now, found = {}, []
    for _ in range(count):
        for _ in range(rng.randrange(4)):
            now.pop((rng.randrange(pages), rng.randrange(3)), None)
            now[rng.randrange(pages), rng.randrange(3)] = rng.randrange(1, 16)
        found.append(dict(now))
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "some.parquet"
    traces.write(path, trace_of(some_intervals(), about={"command": "ü"}, ranges=[Range(3, 4, "heap")]))
    return path


cells = st.tuples(st.integers(0, 5), st.integers(0, 2))
some_kinds = st.sampled_from([READ, READ | WRITTEN, RELEASED, WRITTEN | ZERO])
intervals = st.lists(st.dictionaries(cells, some_kinds), max_size=80)


@settings(max_examples=60, deadline=None)
@given(intervals, st.integers(1, 40))
def test_what_is_written_comes_back(tmp_path_factory, some, repeated):
    """Against the plain rows; an interval repeated makes long runs."""
    some = [rows for rows in some for _ in range(repeated)]
    path = tmp_path_factory.getbasetemp() / "round.parquet"
    made = trace_of(some, pages=6)
    traces.write(path, made)
    back = traces.read(path)
    assert back == made
    assert back.intervals == len(some)
    for number, rows in enumerate(some):
        expected = [(*cell, rows[cell]) for cell in sorted(rows)]
        assert rows_of(back.touches(number)) == rows_of(made.touches(number)) == expected


def test_everything_said_comes_back(written):
    back = traces.read(written)
    assert (back.name, back.pages, back.page_size, back.interval, back.intervals) == ("made", 50, 4096, 100_000, 200)
    assert (back.actors, back.about, back.ranges) == (ACTORS, {"command": "ü"}, (Range(3, 4, "heap"),))


def test_intervals_in_any_order(written):
    back, expected = traces.read(written), some_intervals()
    for number in random.Random(1).choices(range(200), k=300):
        assert rows_of(back.touches(number)) == [(*cell, expected[number][cell]) for cell in sorted(expected[number])]


@pytest.mark.parametrize("number", [-1, 200, 1 << 40])
def test_there_are_no_other_intervals(written, number):
    with pytest.raises(IndexError, match="200 intervals"):
        traces.read(written).touches(number)


def test_runs_are_as_long_as_they_can_be():
    trace = trace_of([{(1, 0): READ}] * 10 + [{}] + [{(1, 0): READ, (1, 1): READ}] * 5)
    assert trace.runs.first.tolist() == [0, 11, 11]
    assert trace.runs.length.tolist() == [10, 5, 5]


def test_many_touches_are_quickly_told():
    """Ten minutes of 100 ms, 5,000 pages touched in each, a tenth of which change: 30 million rows in CPU seconds."""
    rng = np.random.default_rng(0)
    pages, runs = 40_000, 500 * 6000
    first = rng.integers(0, 5990, runs)
    page = rng.integers(0, pages, runs)
    order = np.lexsort((first, page))
    page, first = page[order], first[order]
    # As long as the next one of the page allows, up to 40 intervals.
    gap = np.where(np.append(page[1:] == page[:-1], False), np.append(first[1:], 0) - first, 6000 - first)
    keep = gap > 0
    page, first, length = page[keep], first[keep], np.minimum(gap[keep], 20)
    some = Runs(
        page.astype(np.uint32),
        np.zeros(len(page), np.uint16),
        np.ones(len(page), np.uint8),
        first.astype(np.uint32),
        length.astype(np.uint32),
    )
    trace = Trace("fast", pages, 4096, 100_000, 6000, ACTORS, {}, some)
    traces.check(trace)
    begin = time.process_time()
    rows = sum(len(trace.touches(number).pages) for number in range(6000))
    assert rows == length.sum() > 20_000_000
    assert time.process_time() - begin < 20


BAD = {
    "a page too many": ({"pages": 49}, "page or an actor"),
    "an actor too few": ({"actors": ACTORS[:2]}, "page or an actor"),
    "an interval too few": ({"intervals": 199}, "interval that it has not"),
    "an actor twice": ({"actors": ACTORS + ACTORS[:1]}, "actor twice"),
    "no page size": ({"page_size": 4095}, "page size"),
    "no interval": ({"interval": 0}, "interval or its page size"),
    "fewer pages than none": ({"pages": -1}, "fewer than none"),
    "more pages than any": ({"pages": 1 << 40}, "more pages"),
    "a thread without number": ({"actors": (*ACTORS, Actor("x", -1, "work"))}, "thread"),
    "ranges out of order": ({"ranges": (Range(5, 2, "a"), Range(3, 2, "b"))}, "ranges"),
    "a range outside": ({"ranges": (Range(49, 2, "a"),)}, "ranges"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_can_not_be_is_not_written(tmp_path, what):
    changes, problem = BAD[what]
    trace = trace_of([{(49, 2): READ}] * 200)
    with pytest.raises(TraceError, match=problem):
        traces.write(tmp_path / "none", replace(trace, **changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("first", [[0, 1], [1, 1], [2, 0]])
def test_a_page_is_not_touched_twice_by_one(tmp_path, first):
    one, none = np.ones(2, np.uint8), np.zeros(2, np.uint16)
    runs = Runs(one.astype(np.uint32), none, one, np.array(first, np.uint32), np.array([2, 2], np.uint32))
    with pytest.raises(TraceError, match="out of order, or twice"):
        traces.write(tmp_path / "none", replace(trace_of([{}] * 9), runs=runs))


@pytest.mark.parametrize("rows", [[(1, 0), (0, 0)], [(0, 1), (0, 0)], [(0, 0), (0, 0)]])
def test_touches_have_an_order(rows):
    pages, actors = (np.array(each) for each in zip(*rows, strict=True))
    wrong = traces.Touches(pages.astype(np.uint32), actors.astype(np.uint16), np.ones(len(rows), np.uint8))
    with pytest.raises(TraceError, match="not ordered"):
        of_touches([wrong], name="", pages=50, interval=1, actors=ACTORS)


def forged(path, to, *, rows=None, meta=None):
    """The file at ``path`` with other ``rows`` (a function of the columns) or metadata, all of its checksums right."""
    table = pq.read_table(path)
    columns = {name: table.column(name).to_numpy().copy() for name in table.column_names}
    said = json.loads(pq.read_metadata(path).metadata[METADATA])
    if rows:
        columns = rows(columns)
    digest = hashlib.blake2b(digest_size=16)
    for each in columns.values():
        digest.update(np.ascontiguousarray(each).data)
    said.update(rows=len(columns["page"]), check=digest.hexdigest())
    if meta:
        meta(said)
    text = json.dumps(said).encode()
    check = hashlib.blake2b(text, digest_size=16).hexdigest().encode()
    schema = pa.schema([pa.field(n, pa.from_numpy_dtype(c.dtype), nullable=False) for n, c in columns.items()])
    with pq.ParquetWriter(to, schema) as writer:
        writer.write_table(pa.table(list(columns.values()), schema=schema))
        writer.add_key_value_metadata({METADATA: text, CHECK: check})


def put(name, value):
    def change(columns):
        columns[name][len(columns[name]) // 2] = value
        return columns

    return change


def backwards(columns):
    return {name: np.zeros_like(each) if name == "gap" else each[::-1].copy() for name, each in columns.items()}


FORGED = {
    "a page": ({"rows": put("page", 50)}, "page or an actor"),
    "an actor": ({"rows": put("actor", 3)}, "page or an actor"),
    "a kind": ({"rows": put("kind", 16)}, "of no kind"),
    "no kind": ({"rows": put("kind", 0)}, "of no kind"),
    "a late interval": ({"rows": put("gap", 0xFFFFFFFF)}, "interval that it has not"),
    "a length": ({"rows": put("length", 0xFFFFFFFF)}, "interval that it has not"),
    "no length": ({"rows": put("length", 0)}, "interval that it has not"),
    "rows in another order": ({"rows": backwards}, "out of order, or twice"),
    "a missing column": ({"rows": lambda c: {n: v for n, v in c.items() if n != "kind"}}, "columns"),
    "another type": ({"rows": lambda c: {**c, "kind": c["kind"].astype(np.uint64)}}, "columns"),
    "fewer rows": ({"meta": lambda m: m.update(rows=3)}, "rows that it says"),
    "other rows": ({"meta": lambda m: m.update(check="0" * 32)}, "not as they were written"),
    "another format": ({"meta": lambda m: m.update(format="pageshare-trace/9")}, "this version reads"),
    "a name that is none": ({"meta": lambda m: m.update(name=3)}, "metadata"),
    "no actors": ({"meta": lambda m: m.update(actors=[])}, "page or an actor"),
    "a large number": ({"meta": lambda m: m.update(pages=1 << 70)}, "more pages|metadata"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_is_forged_is_refused(written, tmp_path, what):
    changes, problem = FORGED[what]
    forged(written, tmp_path / "forged", **changes)
    with pytest.raises(TraceError, match=problem) as caught:
        traces.read(tmp_path / "forged")
    assert str(caught.value).startswith(f"{tmp_path}/forged: ")
    assert "\n" not in str(caught.value)


def test_forging_does_not_change_what_is_right(written, tmp_path):
    forged(written, tmp_path / "same")
    assert traces.read(tmp_path / "same") == traces.read(written)


def test_more_than_memory_holds_is_refused(tmp_path):
    """Few bytes in the file may stand for runs that are in very many intervals."""
    trace = trace_of([{(0, 0): READ}])
    count = 1 << 12
    runs = Runs(
        np.arange(count, dtype=np.uint32),
        np.zeros(count, np.uint16),
        np.ones(count, np.uint8),
        np.zeros(count, np.uint32),
        np.full(count, 1 << 22, np.uint32),
    )
    with pytest.raises(TraceError, match="more memory"):
        traces.write(tmp_path / "large", replace(trace, pages=count, intervals=1 << 22, runs=runs))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no trace"),
        (b"PAR1", "no trace"),
        (b"PAR1" + bytes(40), "cut short"),
        (b"PAR1" + b"\xff" * 100 + (50).to_bytes(4, "little") + b"PAR1", "damaged"),
        (b"PAR1" + (4 << 20).to_bytes(4, "little") + b"PAR1", "cut short"),
        (b"no parquet at all, but long enough", "no trace"),
    ],
)
def test_what_is_no_trace(tmp_path, data, problem):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(TraceError, match=problem):
        traces.read(tmp_path / "x")


def test_another_parquet_file(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x")
    with pytest.raises(TraceError, match="but no trace"):
        traces.read(tmp_path / "x")


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(TraceError, match="pipe"):
        traces.read(tmp_path / "x")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        traces.read(tmp_path / "none")


def test_damage_is_told(written, tmp_path):
    """Whatever is damaged: the file is refused in one line, or all of it is as it was."""
    rng, whole, expected = random.Random(3), written.read_bytes(), traces.read(written)
    refused = 0
    for _ in range(400):
        path = tmp_path / "damaged"
        path.write_bytes(damage(whole, rng, lambda: rng.randrange(len(whole)), cut=0.1))
        try:
            found = traces.read(path)
        except TraceError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        assert found == expected
        assert rows_of(found.touches(150)) == rows_of(expected.touches(150))
    assert refused > 200


@pytest.mark.parametrize("package", ["pyarrow", "msgspec"])
def test_a_missing_package_is_named(written, package):
    code = (
        f"import sys, importlib.util; real = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *a: None if name == {package!r} else real(name, *a)\n"
        f"from pageshare.lab import trace\n"
        f"assert {package!r} not in sys.modules\n"
        f"try: trace.read({str(written)!r})\n"
        f"except ValueError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == f"traces need {package}: pip install 'pageshare[parquet]'\n"
