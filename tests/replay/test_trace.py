"""Recorded writes: what is read, what is written, that both are the same; and what is refused."""

import gzip
import re
import stat
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pageshare.images import image_of_buffer
from pageshare.images.ranges import RANGE, State
from pageshare.replay import trace
from pageshare.replay.course import Settings, replay
from pageshare.replay.history import history_of
from pageshare.replay.model import WriteModel, churn
from pageshare.replay.pace import PagesPerSecond
from small_memories import COSTS, all_writes, base, large_base, memory

SMALL = base({"web1": [1, 2, 0, 1], "web2": [3, 1]})
SIZE = 512


def read(tmp_path, text, base=SMALL, name="writes.csv"):
    path = tmp_path / name
    content = text.encode("utf-8", "surrogateescape")
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return trace.read(path, base)


def rows(history):
    """(time, page, id) of each write, ids of contents that are made up as their numbers."""
    writes = history.recorded
    return list(zip(writes.times.tolist(), writes.pages.tolist(), writes.ids.tolist(), strict=True))


EXAMPLE = """time,owner,page,content
# what a guest did
0.5,web1,0,
0.5,web2,0x1,0

1e0,web1,3,77
1.25,web2,0,@1@web1
2,web1,2,@0
2.0,web2,1,77
3.5,web1,1,
60,,,
"""


@pytest.mark.parametrize("name", ["writes.csv", "writes.csv.gz"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_an_example(tmp_path, name, ends):
    history = read(tmp_path, EXAMPLE.replace("\n", ends), name=name)
    ids, found = SMALL.ids.tolist(), rows(history)
    assert [each[:2] for each in found] == [(0.5, 0), (0.5, 5), (1, 3), (1.25, 4), (2, 2), (2, 5), (3.5, 1)]
    nobodys, zero, first, held, own, second, other = [each[2] for each in found]
    assert (zero, held, own) == (0, ids[1], ids[0])
    assert first == second
    assert len({nobodys, first, other, *ids}) == 3 + len(set(ids))
    numbers = history.contents.numbers(np.array([nobodys, first, other], np.uint32))
    assert numbers.tolist() == [1 << 31, 77, (1 << 31) + 1]
    assert history.duration == 60
    assert history.notes == ()


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    text = "\ufefftime,owner,page,content\n1,web1,0,5\n"
    assert read(tmp_path, text).duration == 1
    assert read(tmp_path, "\ufeff# made by a spreadsheet\r\n" + text[1:]).duration == 1
    with pytest.raises(trace.TraceError, match="line 2: "):  # it stands in the first line only
        read(tmp_path, "#\n" + text)


def test_what_lasts_longer_than_a_trace_can_is_not_recorded(tmp_path):
    path = tmp_path / "writes.csv"
    path.write_text("time,owner,page,content\n1,web1,0,5\n")
    with pytest.raises(ValueError, match="more than a trace can have, 1e"):
        trace.write(tmp_path / "again.csv", trace.read(path, SMALL), seed=1, duration=2e9)
    assert list(tmp_path.iterdir()) == [path]


def test_the_last_write_is_the_end_unless_there_is_one(tmp_path):
    assert read(tmp_path, "time,owner,page,content\n1,web1,0,\n7.5,web1,0,").duration == 7.5
    assert read(tmp_path, "time,owner,page,content\n").duration is None
    assert len(read(tmp_path, "time,owner,page,content\n").recorded) == 0
    assert read(tmp_path, "time,owner,page,content\n9,,,\n# done").duration == 9


def slowly(monkeypatch, *args):
    """Read line by line, which defines what is read; quickly only what nothing is unusual about."""
    with monkeypatch.context() as patch:
        patch.setattr(trace._Reader, "quickly", lambda *_: None)
        return rows(read(*args))


def assert_same(one, other):
    """Rows are, but for the numbers that contents have."""
    assert [each[:2] for each in one] == [each[:2] for each in other]
    pairs = {(mine[2], theirs[2]) for mine, theirs in zip(one, other, strict=True)}
    assert len({mine for mine, _ in pairs}) == len({theirs for _, theirs in pairs}) == len(pairs)


@pytest.mark.parametrize("page", ["{}", "0x{:x}"])
@pytest.mark.parametrize("time", ["{}", "{:.9f}", "{:.17g}", "{:e}", "{:.0f}"])
def test_slowly_and_quickly_are_the_same(tmp_path, monkeypatch, page, time):
    text = "time,owner,page,content\n" + "".join(
        f"{time.format(i / 7)},web{1 + i % 2},{page.format(i % 2)},{['', '0', '@1@web1', '5', '@0'][i % 5]}\n"
        for i in range(200)
    )
    with monkeypatch.context() as patch:
        patch.setattr(trace._Reader, "one_by_one", None)
        quick = rows(read(tmp_path, text))
    assert [each[0] for each in quick] == [float(time.format(i / 7)) for i in range(200)]
    assert_same(quick, slowly(monkeypatch, tmp_path, text))


def test_contents_are_those_of_a_sharing_domain(tmp_path):
    apart = base({"web1": [1, 1], "web2": [1]}, domains=["red", "blue"])
    history = read(tmp_path, "time,owner,page,content\n1,web1,0,5\n1,web2,0,5\n2,web1,1,0\n2,web2,0,0\n", apart)
    one, other, red, blue = [each[2] for each in rows(history)]
    assert one != other
    assert (red, blue) == (0, 1)
    assert history.contents.fingerprints(np.array([one, other], np.uint32)).tolist()[0] == int(
        history.contents.fingerprints(np.array([other], np.uint32))[0]
    )


def test_pages_that_no_dump_has_are_left_out_and_counted(tmp_path):
    history = read(tmp_path, "time,owner,page,content\n1,web1,0,\n2,web1,4,\n3,web2,0x1000000,0\n")
    assert [each[:2] for each in rows(history)] == [(1, 0)]
    assert history.notes == ("2 of 3 writes are to pages that no dump has: they are left out",)
    with pytest.raises(trace.TraceError, match="the dumps have none of the pages that are written"):
        read(tmp_path, "time,owner,page,content\n2,web1,4,\n")


def test_names_of_any_kind(tmp_path):
    names = ['a,b', 'say "x"', "two\nlines", "caf\xe9 \u2028", "not utf-8 \udcff", "#7", "\x85"]
    odd = base({name: [i, 9] for i, name in enumerate(names)})
    history = churn(odd, WriteModel.of_table({"region": [{"rate": 20, "copy": 0.5}], "duration": 5}))
    trace.write(tmp_path / "odd.csv", history, 1)
    again = trace.read(tmp_path / "odd.csv", odd)
    assert np.array_equal(again.recorded.pages, all_writes(history, 1).pages)
    text = 'time,owner,page,content\n1,"two\nlines",0,\n2,nobody,0,\n'
    with pytest.raises(trace.TraceError, match="line 4: owner nobody: must be one of"):
        read(tmp_path, text, odd)


HOSTILE = [
    ("", "there is nothing in it: the first line must be time,owner,page,content"),
    ("# nothing\n\n", "there is nothing in it: the first line must be"),
    ("1,web1,0,\n", "line 1: 1,web1,0,: the first line must be time,owner,page,content"),
    ("time,owner,page\n1,web1,0\n", "line 1: time,owner,page: the first line must be"),
    ("\x7fELF\0\0", r"line 1: \x7fELF\x00\x00: the first line must be"),
    ("H\n1,web1,0\n", "line 2: 1,web1,0: must be time,owner,page,content, 4 fields"),
    ("H\n1,web1,0,,\n", "line 2: 1,web1,0,,: must be time,owner,page,content, 4 fields"),
    ("H\n1,web1,0,\n\n#\nx,web1,0,\n", "line 5: time x: must be a number of seconds, from 0 on"),
    ("H\n,web1,0,\n", "line 2: time (nothing): must be a number"),
    ("H\n-1,web1,0,\n", "line 2: time -1: must be a number of seconds, from 0 on"),
    ("H\nnan,web1,0,\n", "line 2: time nan: must be a number"),
    ("H\n1e999,web1,0,\n", "line 2: time 1e999: must be a number"),
    ("H\n1e9,web1,0,\n1000000000.1,web1,0,\n", "line 3: time 1000000000.1: must be seconds since the dumps were taken"),
    ("H\n1,web1,0,\n1e10,,,\n", "line 3: time 1e10: must be seconds since the dumps were taken, 1e9 (30 years) at"),
    ("H\n1700000000,web1,0,\n", "line 2: time 1700000000: must be seconds since"),
    ("H\n1_0,web1,0,\n", "line 2: time 1_0: must be a number"),
    ("H\n1e,web1,0,\n", "line 2: time 1e: must be a number"),
    ("H\n \n", "line 2:  : must be time,owner,page,content, 4 fields"),
    ("H\n2,web1,0,\n1.5,web1,0,\n", "line 3: time 1.5: must not be before that of the line above, 2.0"),
    ("H\n1,web3,0,\n", "line 2: owner web3: must be one of the dumps' owners, web1, web2"),
    ("H\n1, web1,0,\n", "line 2: owner  web1: must be one of"),
    ("H\n1,,0,\n", "line 2: owner (nothing): must be one of"),
    ("H\n1,\udcff\x1b[2J,0,\n", r"line 2: owner \xff\x1b[2J: must be one of"),
    ("\udcff\udcfe" + 90 * "\0", r"line 1: \xff\xfe" + 13 * r"\x00" + "...: the first line must be"),
    ('H\n1\r,"web1",0,\n', "line 2: not a line of a CSV file: new-line character seen in unquoted field"),
    ("H\n1,web1,,\n", "line 2: page (nothing): must be a frame number (address / page size), as 26 or 0x1a"),
    ("H\n1,web1,-1,\n", "line 2: page -1: must be a frame number"),
    ("H\n1,web1,1a,\n", "line 2: page 1a: must be a frame number"),
    ("H\n1,web1,0x,\n", "line 2: page 0x: must be a frame number"),
    ("H\n1,web1,1.0,\n", "line 2: page 1.0: must be a frame number"),
    ("H\n1,web1,\u0661,\n", "line 2: page \u0661: must be a frame number"),
    (f"H\n1,web1,{'9' * 5000},\n", f"line 2: page {'9' * 60}...: must be a frame number"),
    (f"H\n1,web1,{1 << 53},\n", f"line 2: page {1 << 53}: must be a frame number"),
    (f"H\n1,web1,0x{'f' * 16},\n", f"line 2: page 0x{'f' * 16}: must be a frame number"),
    ("H\n1,web1,0,-1\n", "line 2: content -1: must be a number below 2^31 (0 for zeros), @PAGE, @PAGE@OWNER, or"),
    (f"H\n1,web1,0,{1 << 31}\n", f"line 2: content {1 << 31}: must be a number below 2^31"),
    (f"H\n1,web1,0,{'9' * 5000}\n", f"line 2: content {'9' * 60}...: must be a number"),
    ("H\n1,web1,0,@1\n1,web1,0,+5\n", "line 3: content +5: must be a number"),
    ("H\n1,web1,0,@1\n1,web1,0,1_0\n", "line 3: content 1_0: must be a number"),
    ("H\n1,web1,0,zero\n", "line 2: content zero: must be a number"),
    ("H\n1,web1,0,@\n", "line 2: content, page (nothing): must be a frame number"),
    ("H\n1,web1,0,@x\n", "line 2: content, page x: must be a frame number"),
    ("H\n1,web1,0,@4\n", "line 2: content @4: the dumps do not have this page"),
    ("H\n1,web1,0,@0@web3\n", "line 2: content @0@web3: no dump has an owner web3"),
    ("H\n1,web1,0,@0@other\n", "line 2: content @0@other: the two owners are in different sharing domains"),
    ("H\n5,,,\n6,web1,0,\n", "line 3: the trace has ended: line 2 has a time alone"),
    ("H\n5,,,\n6,,,\n", "line 3: the trace has ended: line 2 has a time alone"),
    ("H\n6,web1,0,\n5,,,\n", "line 3: time 5: must not be before"),
    ('H\n1,"web1,0,\n', "line 2: not a line of a CSV file: unexpected end of data"),
    ('H\n1,"web1"x,0,\n', "line 2: not a line of a CSV file:"),
    ("H\n" + 40000 * "1,web1,0,\n" + "1,web1,0\n", "line 40002: 1,web1,0: must be time,owner,page,content"),
    ("H\n1,web1,0," + 100_000 * "7", "line 2: more than 65536 bytes: this is no trace of writes"),
    ("H\n1,web1,0,\n" + 2_000_000 * "7", "line 3: more than 65536 bytes: this is no trace of writes"),
    ('H\n1,"' + 20_000 * "1234567\n", "line "),
]


@pytest.mark.parametrize(("text", "problem"), HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, problem):
    three = base({"web1": [1, 2, 0, 1], "web2": [3, 1], "other": [1]}, domains=["a", "a", "b"])
    text = text.replace("H\n", "time,owner,page,content\n", 1)
    with pytest.raises(trace.TraceError) as caught:
        read(tmp_path, text, three if "@0@other" in text else SMALL)
    assert str(caught.value).startswith(f"{tmp_path / 'writes.csv'}: {problem}")
    assert str(caught.value).isprintable()


def test_packed_files_that_are_none(tmp_path):
    path = tmp_path / "writes.csv.gz"
    whole = gzip.compress(("time,owner,page,content\n" + 1000 * "1,web1,0,\n").encode())
    for content in (b"time,owner", whole[:-9], whole[:20] + bytes(9) + whole[29:], whole[:-8] + bytes(8)):
        path.write_bytes(content)
        with pytest.raises(trace.TraceError) as caught:
            trace.read(path, SMALL)
        assert "not a whole gzip file" in str(caught.value) or "line" in str(caught.value)


tokens = st.sampled_from([*"120", *",,,\n\n@x-e.#_+ \r\0", '"', "0x", "web1", "web2"])
lines = st.tuples(
    st.sampled_from(["1", "2", "1.5", "2.", ".5", "1e0", "+1", "-1", "0.000000001", "x", ""]),
    st.sampled_from(["web1", "web2", "web", "web1\0", ""]),
    st.sampled_from(["0", "1", "0x1", "00", "9", "-1", "1_0", ""]),
    st.sampled_from(["", "0", "5", "05", "@0", "@1@web2", "@0x1", "@", "@9", "@0@", "+5", "2147483648"]),
).map(lambda fields: ",".join(fields) + "\n")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.lists(tokens, max_size=40), st.lists(lines, min_size=1, max_size=3)).map("".join))
def test_any_text_is_read_or_refused(text, tmp_path, monkeypatch):
    text = "time,owner,page,content\n" + text
    try:
        expected = slowly(monkeypatch, tmp_path, text)
    except trace.TraceError as error:
        assert str(error).isprintable()
        with pytest.raises(trace.TraceError) as caught:
            read(tmp_path, text)
        assert str(caught.value) == str(error)
    else:
        assert_same(rows(read(tmp_path, text)), expected)


def course(history, policy, by_bytes, duration=None):
    made = replay(
        history,
        Settings(policy, seed=4, pace=lambda: PagesPerSecond(300), by_bytes=by_bytes, duration=duration),
        COSTS,
    )
    found = asdict(made)
    del found["policy_seconds"]
    return found


POLICIES = ["sequential", "random-permutation"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["writes.csv", "writes.csv.gz"])
def test_a_model_recorded_is_the_same_replay(tmp_path, policy, name):
    large = large_base(2, 600)
    table = {
        "duration": 30,
        "region": [
            {"rate": 50, "pick": "zipf", "zero": 0.2, "copy": 0.3, "same": 0.3, "contents": 5},
            {"rate": 20, "share": 0.1},
        ],
    }
    history = churn(large, WriteModel.of_table(table))
    count = trace.write(tmp_path / name, history, 4)
    again = trace.read(tmp_path / name, large)
    assert count == len(again.recorded) > 1000
    assert np.array_equal(all_writes(history, 4).times, again.recorded.times)
    expected = course(history, policy, by_bytes=False)
    assert expected["cow_breaks"] > 100
    assert course(again, policy, by_bytes=False) == expected
    assert course(again, policy, by_bytes=True) == expected
    # Once more, from the trace itself.
    trace.write(tmp_path / "twice.csv", again, 0)
    assert course(trace.read(tmp_path / "twice.csv", large), policy, by_bytes=False) == expected


def series():
    """Dumps of two owners with holes that become data and data that become holes; the first one alone; domains."""
    generator = np.random.default_rng(5)
    snapshots = []
    for time in (0.0, 10.0, 20.0):
        owners = []
        for name in ("a", "b"):
            numbers = generator.integers(0, 40, 200) if not snapshots else snapshots[-1][1][name].copy()
            chosen = generator.choice(200, 60, replace=False)
            numbers[chosen] = generator.integers(0, 50, 60)
            owners.append((name, numbers))
        snapshots.append((time, dict(owners)))
    return [(time, [(name, [sparse(numbers, name)]) for name, numbers in owners.items()]) for time, owners in snapshots]


def sparse(numbers, name):
    image = image_of_buffer(memory(numbers, SIZE), name)
    ranges = np.zeros(len(numbers), RANGE)
    ranges["address"] = np.arange(len(numbers)) * SIZE
    ranges["offset"] = np.where(numbers, np.arange(len(numbers)) * SIZE, -1)
    ranges["bytes"] = SIZE
    ranges["state"] = np.where(numbers, State.DATA, State.ZERO_INFERRED)
    return type(image)(image.source, "raw", ranges, image.kind)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("domains", [["one", "one"], ["one", "other"]])
def test_a_series_recorded_is_the_same_replay_of_the_first_dumps(tmp_path, policy, domains):
    dumps = series()
    whole = history_of(dumps, page_size=SIZE, domains=domains)
    first = history_of(dumps[:1], page_size=SIZE, domains=domains)
    assert whole.space.readable > first.space.readable
    trace.write(tmp_path / "series.csv", whole, 4)
    again = trace.read(tmp_path / "series.csv", first)
    assert again.space.readable == whole.space.readable
    assert again.duration == whole.duration
    expected = course(whole, policy, by_bytes=False)
    assert course(again, policy, by_bytes=False) == expected
    assert course(again, policy, by_bytes=True) == course(whole, policy, by_bytes=True) == expected


def test_files_are_private_and_whole_or_not_there(tmp_path, monkeypatch):
    history = churn(SMALL, WriteModel.of_table({"region": [{"rate": 10}]}))
    path = tmp_path / "writes.csv"
    with pytest.raises(ValueError, match="no end: say for how long"):
        trace.write(path, history, 1)
    assert trace.write(path, history, 1, duration=5) > 50
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert trace.read(path, SMALL).duration == 5
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(trace._Writer, "lines", fail)
    with pytest.raises(OSError, match="no space"):
        trace.write(path, history, 2, duration=5)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["writes.csv"]


def test_a_series_has_its_own_writes(tmp_path):
    with pytest.raises(ValueError, match="a trace needs a base of one snapshot"):
        read(tmp_path, "time,owner,page,content\n", history_of(series(), page_size=SIZE))


def test_the_examples_of_the_manual(tmp_path):
    """docs/writes.md: its model and its trace fit the guests that it makes, smaller ones here."""
    text = (Path(__file__).parents[2] / "docs" / "writes.md").read_text()
    guests = large_base(2, 1 << 14, names=("guest1.raw", "guest2.raw"), size=512)
    for name, kind in (("model.toml", "toml"), ("writes.csv", "csv")):
        (tmp_path / name).write_text(re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1])
    history = churn(guests, WriteModel.from_toml(tmp_path / "model.toml"))
    assert history.duration == 600
    assert all_writes(history, until=60, step=1.0).times[-1] > 59
    history = trace.read(tmp_path / "writes.csv", guests)
    assert history.duration == 60
    assert history.recorded.ids[-1] == guests.ids[27]
