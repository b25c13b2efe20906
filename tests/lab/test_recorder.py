"""What records traces: the plugin for QEMU on a program whose touches are known, and lackey beside it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pageshare.lab.trace import READ, RELEASED, WRITTEN, ZERO

HERE = Path(__file__).parent
TOOLS = HERE.parent.parent / "tools" / "traces"
sys.path.insert(0, str(TOOLS))

import lackey  # noqa: E402 - from where it was put into the path
import raw  # noqa: E402
import record  # noqa: E402

AREA = 16
INTERVAL = 50_000
NONE = 0
"""No interval ends by the clock: the program ends each itself, so that no machine is too busy for what is expected."""

pytestmark = pytest.mark.skipif(bool(record.why_not()), reason=record.why_not())


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    return record.build_plugin(tmp_path_factory.mktemp("plugin"))


def compiled(folder, source, *options):
    made = folder / source.stem
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", *options, "-o", made, source], check=True)
    return made


def recorded(plugin, folder, *command, interval=INTERVAL):
    """What the plugin wrote, and what the program said."""
    out = folder / "raw"
    line = record.command_of(plugin, out, [str(word) for word in command], interval=interval)
    said = subprocess.run(line, check=True, capture_output=True, text=True, timeout=120)
    assert said.stderr == ""
    return raw.read(out), said.stdout


class Known:
    """A trace of touching.c, by area and page in it."""

    def __init__(self, found, said):
        self.found = found
        self.trace = raw.trace_of(found, name="touching", interval=INTERVAL, program="touching", about={})
        self.first = {int(line.split()[0]): int(line.split()[1]) for line in said.splitlines()}
        entries = [e[:, 0] >> np.uint64(8) for one in found.intervals for _, e in one.touches]
        self.numbers = np.unique(np.concatenate(entries))

    def rows(self, area):
        """(interval, page of the area, actor, kind) in order."""
        first = self.first[area]
        begin, end = np.searchsorted(self.numbers, [first, first + AREA])
        found = []
        for number in range(self.trace.intervals):
            touches = self.trace.touches(number)
            for at in np.flatnonzero((touches.pages >= begin) & (touches.pages < end)):
                page, actor = int(self.numbers[touches.pages[at]]) - first, self.trace.actors[touches.actors[at]]
                found.append((number, page, actor, int(touches.kinds[at])))
        return found

    def kinds(self, area):
        """{(page, name, intent): the kinds in each interval in which it has any}."""
        found = {}
        for _, page, actor, kind in self.rows(area):
            found.setdefault((page, actor.name, actor.intent), []).append(kind)
        return found

    def ever(self, area):
        """{(page, name, intent): whether it was read or written at any time}."""
        return {key: int(np.bitwise_or.reduce(kinds)) & (READ | WRITTEN) for key, kinds in self.kinds(area).items()}


@pytest.fixture(scope="module")
def touching(tmp_path_factory):
    """The command that runs touching.c."""
    folder = tmp_path_factory.mktemp("touching")
    (folder / "file").write_bytes(b"x" * 4096 * 5)
    return compiled(folder, HERE / "touching.c"), folder / "file"


@pytest.fixture(scope="module")
def file_of_known(plugin, touching, tmp_path_factory):
    """What the plugin wrote of it, and what the program said."""
    folder = tmp_path_factory.mktemp("known")
    _, said = recorded(plugin, folder, *touching, interval=NONE)
    return folder / "raw", said


@pytest.fixture(scope="module")
def known(file_of_known):
    path, said = file_of_known
    return Known(raw.read(path), said)


def by(pages, kinds, name="touching", intent="work"):
    return {(page, name, intent): kinds for page in pages}


def test_read_and_written(known):
    read, both = by(range(4), [READ]), by([8, 9], [READ | WRITTEN])
    assert known.kinds(0) == read | by(range(4, 8), [WRITTEN]) | both


def test_an_access_over_the_end_of_a_page(known):
    assert known.kinds(1) == by([2, 3], [WRITTEN]) | by([5], [READ])


def test_threads_and_their_intents(known):
    assert known.kinds(2) == by(range(0, AREA, 2), [WRITTEN], "another")
    assert known.kinds(3) == by(range(AREA), [WRITTEN | ZERO], "another", "zero")
    (two,) = {actor.thread for _, _, actor, _ in known.rows(2)}
    (three,) = {actor.thread for _, _, actor, _ in known.rows(3)}
    assert two == three


def test_what_the_kernel_touches_for_a_program(known):
    assert known.kinds(4) == by([1, 2, 3, 6, 8], [WRITTEN]) | by([10], [READ])


def test_unmapped(known):
    assert known.kinds(5) == by(range(AREA // 2), [WRITTEN, RELEASED]) | by(range(AREA // 2, AREA), [WRITTEN])
    assert known.kinds(6) == {}  # of what was never touched, nothing is released


def test_given_back_in_the_interval_of_its_use(known):
    """The state at the end of the interval: what is touched after its release is there."""
    others = [page for page in range(AREA) if page not in (3, 4)]
    given = by(others, [WRITTEN | RELEASED])
    assert known.kinds(7) == given | by([3], [READ | WRITTEN | ZERO]) | by([4], [WRITTEN])


def test_each_thread_is_a_new_one(known):
    rows = known.rows(8)
    assert sorted((page, actor.name) for _, page, actor, _ in rows) == [(i, f"brief{i}") for i in range(3)]
    assert len({actor.thread for _, _, actor, _ in rows}) == 3


def test_a_child_is_another_process(known):
    assert known.kinds(9) == by([0], [WRITTEN])


def test_intents_of_one_thread(known):
    assert known.kinds(10) == by([0, 1], [READ], intent="collect") | by([1, 2], [READ])


def test_what_is_moved_is_released_where_it_was(known):
    assert known.kinds(11) == by(range(AREA // 2), [WRITTEN, RELEASED])


def test_each_step_is_in_its_interval(known):
    """It begins after one end of an interval, and ends 13; what follows the last is an interval too."""
    assert known.trace.intervals == 14
    steps = [{number for number, *_ in known.rows(area)} for area in (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11)]
    assert steps == [{1}, {2}, {3}, {3}, {4}, {5, 6}, {7}, {8}, {9}, {10}, {11, 12}]


def test_by_the_clock(plugin, touching, known, tmp_path):
    """13 waits of 0.25 s, between which the same is touched: in order, whenever an interval happens to end."""
    found, said = recorded(plugin, tmp_path, *touching, 250)
    begins, ends = np.array(found.times, np.int64).T
    assert (begins[1:] == ends[:-1]).all()
    assert ends[-1] - begins[0] >= 13 * 250_000_000
    assert 13 <= len(found.intervals) <= (ends[-1] - begins[0]) // (INTERVAL * 1000) + 1
    timed = Known(found, said)
    assert [timed.ever(area) for area in range(12)] == [known.ever(area) for area in range(12)]
    begins = [timed.rows(area)[0][0] for area in (0, 1, 2, 4, 5, 7, 8, 9, 10, 11)]
    assert begins == sorted(begins)


def test_actors_are_named(known):
    names = {actor.name for actor in known.trace.actors}
    assert {"touching", "another", "brief0", "brief1", "brief2"} <= names
    assert known.trace.actors[0].thread == 0


def test_ranges_say_what_lies_where(known):
    assert {part.what for part in known.trace.ranges} >= {"touching", "anonymous"}
    assert sum(part.pages for part in known.trace.ranges) == known.trace.pages


@pytest.mark.parametrize("together", [2, 5])
def test_intervals_put_together(known, together):
    """Every touch is still there, in the longer interval that it belongs to."""
    fine, coarse = (
        raw.trace_of(known.found, name="", interval=INTERVAL, program="p", about={}, together=many)
        for many in (1, together)
    )
    assert (coarse.pages, coarse.actors, coarse.interval) == (fine.pages, fine.actors, INTERVAL * together)
    for number in range(coarse.intervals):
        expected = {}
        for part in range(number * together, min((number + 1) * together, fine.intervals)):
            some = fine.touches(part)
            for page, actor, kind in zip(some.pages, some.actors, some.kinds, strict=True):
                if kind & (READ | WRITTEN):
                    at = int(page), int(actor)
                    expected[at] = expected.get(at, 0) | int(kind) & (READ | WRITTEN)
        some = coarse.touches(number)
        touched = {
            (int(page), int(actor)): int(kind) & (READ | WRITTEN)
            for page, actor, kind in zip(some.pages, some.actors, some.kinds, strict=True)
            if kind & (READ | WRITTEN)
        }
        assert touched == expected


def test_no_touch_is_lost_between_intervals(plugin, tmp_path):
    """Intervals of a millisecond, and an epoch for every page unmapped: each of 30,000 pages that are touched once is
    noted once, in order; and the page that its thread touched between two of them in an interval that lies between."""
    pages = 10_000
    found, said = recorded(plugin, tmp_path, compiled(tmp_path, HERE / "racing.c"), interval=1000)
    assert len(found.intervals) > 50
    assert sum(len(one.releases) for one in found.intervals) > 1000
    for line in said.splitlines():
        first = int(line.split()[1])
        noted, again = [], []
        for number, one in enumerate(found.intervals):
            for _, entries in one.touches:
                numbers = (entries[:, 0] >> np.uint64(8)).astype(np.int64) - first
                noted += [(int(page), number) for page in numbers if 0 < page <= pages]
                again += [number] * int((numbers == 0).sum())
        assert sorted(page for page, _ in noted) == list(range(1, pages + 1))
        times = np.array([number for _, number in sorted(noted)])
        assert (np.diff(times) >= 0).all()
        assert len(again) == len(set(again))
        later = np.append(times[1:], len(found.intervals))
        at = np.searchsorted(again, times)
        assert (np.array(again)[at] <= later).all()


def test_a_recording_that_was_cut_short(file_of_known, known, tmp_path):
    """A program may be killed: what intervals there are can be read, wherever the file ends."""
    whole, place = file_of_known[0].read_bytes(), tmp_path / "cut"
    all_of_it = len(known.found.intervals)
    for size in range(len(whole) // 2, len(whole), max(8, len(whole) // 300 * 8)):
        place.write_bytes(whole[:size])
        assert 0 < len(raw.read(place).intervals) <= all_of_it
    place.write_bytes(whole[:40])
    with pytest.raises(ValueError, match="no interval"):
        raw.read(place)


@pytest.mark.parametrize("option", ["", ",out=/dev/null,interval=x"])
def test_it_is_refused_without_a_file_or_an_interval(plugin, option):
    line = [record.EMULATOR, "-plugin", f"{plugin}{option}", "/bin/true"]
    said = subprocess.run(line, capture_output=True, text=True, check=False)
    assert said.returncode != 0
    assert "out=FILE" in said.stderr


def test_lackey_lines():
    """An instruction each begins a stretch of two; what is no line of an access is left out."""
    lines = [
        b"==1== Lackey",
        b"I  00401000,3",
        b" L 1ffefff000,8",
        b" S 00500ffe,4",
        b"I  00401ffe,4",
        b"I  00402000,1",
        b" M 00600000,2",
    ]
    assert lackey.intervals(lines, 2) == [
        {0x401: READ, 0x1FFEFFF: READ, 0x500: WRITTEN, 0x501: WRITTEN, 0x402: READ},
        {0x402: READ, 0x600: READ | WRITTEN},
    ]


def test_lackey_sees_the_same(plugin, tmp_path):
    """Both recorders on a program of one thread, linked statically so that both load it at its own addresses: of the
    pages of its file and its static memory, nearly all that one sees the other sees."""
    if lackey.why_not():
        pytest.skip(lackey.why_not())
    program = compiled(tmp_path, HERE / "walking.c", "-static", "-no-pie")
    found, said = recorded(plugin, tmp_path, program)
    first, last = (int(word, 16) // 4096 for word in said.split()[:2])

    def within(pages):
        return {page for page in pages if first <= page <= last}

    of_plugin = {}
    for one in found.intervals:
        for _, entries in one.touches:
            for word in entries[:, 0].tolist():
                of_plugin[word >> 8] = of_plugin.get(word >> 8, 0) | word & (READ | WRITTEN)
    of_lackey = {}
    for one in lackey.touched([str(program)], 1 << 20):
        for page, kind in one.items():
            of_lackey[page] = of_lackey.get(page, 0) | kind
    mine, theirs = within(of_plugin), within(of_lackey)
    assert len(mine) > 200
    assert len(mine & theirs) >= 0.97 * len(mine | theirs)
    same = sum(of_plugin[page] == of_lackey[page] for page in mine & theirs)
    assert same >= 0.97 * len(mine & theirs)


@pytest.mark.parametrize("name", record.programs.NAMES)
def test_programs_say_what_they_are(name):
    module = record.program(name)
    assert len(module.__doc__.split("\n\n")[0]) > 40
    assert module.NEEDS


def test_a_program_from_its_name_to_its_trace():
    """The program with the zeroing thread, for some seconds: workers work, and what they free is cleared."""
    trace = record.record("zeroing", 10)
    assert trace.pages > 5000
    assert {(actor.name, actor.intent) for actor in trace.actors} >= {("worker-1", "work"), ("zero-page", "zero")}
    clearing = np.array([actor.intent == "zero" for actor in trace.actors])
    rows = [trace.touches(number) for number in range(trace.intervals)]
    kinds, by_clearing = np.concatenate([r.kinds for r in rows]), clearing[np.concatenate([r.actors for r in rows])]
    written, zero = kinds & WRITTEN > 0, kinds & ZERO > 0
    assert (zero & by_clearing).sum() > 5000
    assert (zero & by_clearing).sum() > 0.6 * (written & by_clearing).sum()
    assert (zero & ~by_clearing).sum() < 0.2 * (written & ~by_clearing).sum()
    assert trace.about["command"].endswith("zeroing_work 10")
