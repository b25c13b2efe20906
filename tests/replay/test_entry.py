"""``pageshare.replay.run``: what the command reports, by one call; with one's own policies, right and wrong ones."""

import json
from functools import partial

import numpy as np
import pytest

import pageshare
from pageshare import policies
from pageshare.commands import main
from pageshare.core import Control, Outcome, Stopped
from pageshare.replay import PolicyError, SettingError, costs, run
from policy_runs import COSTS
from small_memories import memory

PAGE = 512
PAIRS = memory([i // 2 for i in range(40)])
"""Two pages of each content."""


@pytest.fixture(autouse=True)
def known_costs(monkeypatch):
    """What looks cost takes no time to measure, and is always the same."""
    monkeypatch.setattr(costs, "measure", lambda *_: COSTS)


def numbers(seed, pages=300, most=120):
    return np.random.default_rng(seed).integers(0, most, pages)


@pytest.fixture(scope="module")
def guests(tmp_path_factory):
    """Two guests at two moments: {name: path}."""
    folder = tmp_path_factory.mktemp("guests")
    paths = {}
    for seed, name in enumerate(("web.t0", "db.t0", "web.t1", "db.t1")):
        paths[name] = folder / f"{name}.raw"
        paths[name].write_bytes(memory(numbers(seed)).tobytes())
    return paths


MODEL = {"duration": 20, "region": [{"rate": 40, "same": 0.5, "zero": 0.1}]}
MODEL_TOML = "duration = 20\n[[region]]\nrate = 40\nsame = 0.5\nzero = 0.1\n"


class Backwards:
    """From the last page to the first, and again; notes what it is told."""

    def __init__(self, view, stride=1):
        self.view, self.at, self.stride, self.told = view, view.pages, stride, []

    def next(self, count):
        first = max(0, self.at - count)
        batch = np.arange(first, self.at, dtype=np.uint32)[::-1]
        self.at = first or self.view.pages
        return batch

    def feedback(self, pages, outcomes, partners):
        assert [each.dtype for each in (pages, outcomes, partners)] == [np.uint32, np.uint8, np.uint32]
        assert pages.shape == outcomes.shape == partners.shape == (len(pages),)
        self.told.append((pages.copy(), outcomes.copy()))


def giving(give):
    """What makes a policy, named Mine, that gives ``give(view, count)``."""

    class Mine:
        def __init__(self, view):
            self.view = view

        def next(self, count):
            return give(self.view, count)

        def feedback(self, pages, outcomes, partners):
            pass

    return Mine


# ---- the same as the command ----


def by_command(capsys, *arguments):
    assert main(["replay", "--json", "--page-size", str(PAGE), *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def held_equal(course, document):
    """All that a course has and the command says."""
    for key in ("policy", "seed", "objective", "pages", "page_size", "writes", "cow_breaks", "cow_breaks_nonzero"):
        assert getattr(course, key) == document[key], key
    for key in ("mean_saved", "mean_saved_nonzero", "mean_possible", "mean_possible_nonzero", "metadata_bits"):
        assert getattr(course, key) == document[key], key
    assert course.broken_soon == document["cow_breaks_within_10s"]
    assert list(course.owners) == document["owners"]
    assert dict(course.outcomes) == document["outcomes"]
    assert list(course.warnings) == document["warnings"]
    assert list(course.incomplete) == document["incomplete"]
    assert [vars(sample) for sample in course.samples] == document["course"]
    for reached, told in (
        (course.reached, document["reached"]),
        (course.reached_nonzero, document["reached_nonzero"]),
    ):
        for share, when in reached.items():
            entry = told[f"{100 * share:g}"]
            assert (entry is None) == (when is None)
            if when:
                assert (when.visits / course.pages, when.seconds) == (entry["visits"], entry["seconds"])


@pytest.mark.parametrize(
    ("keywords", "options"),
    [
        ({}, []),
        ({"policy": "random", "seed": 7}, ["--policy", "random", "--seed", 7]),
        ({"objective": "nonzero"}, ["--objective", "nonzero"]),
        ({"policy": "ksm:smart_scan=0", "pages_to_scan": 50}, ["--policy", "ksm:smart_scan=0", "--pages-to-scan", 50]),
        ({"sleep": 0.5, "duration": 9}, ["--sleep", "500ms", "--duration", 9]),
        ({"cpu": 1e-8, "duration": 5.0}, ["--cpu", "0.000001%", "--duration", 5]),
        ({"rate": 100, "rate_per_owner": 30, "duration": 4}, ["--rate", 100, "--rate-per-owner", 30, "--duration", 4]),
        ({"peek_cost": 0.5, "duration": 2}, ["--peek-cost", 0.5, "--duration", 2]),
        ({"domain_per_owner": True}, ["--domain-per-owner"]),
        ({"domains": {"red": ["db.t0.raw"]}}, ["--domain", "red=db.t0.raw"]),
    ],
)
def test_it_is_what_the_command_says(guests, capsys, keywords, options):
    paths = [guests["web.t0"], str(guests["db.t0"])]
    held_equal(run(paths, page_size=PAGE, **keywords), by_command(capsys, *paths, *options))


def test_a_series_is_what_the_command_says(guests, capsys):
    first, later = (["web.t0", "db.t0"], ["web.t1", "db.t1"])
    options = [each for t, names in ((0, first), (30, later)) for each in ("--at", t, *(guests[n] for n in names))]
    document = by_command(capsys, *options, "--rate", 50)
    assert document["writes"] > 300
    moments = [(0, [guests[name] for name in first]), (30.0, [guests[name] for name in later])]
    held_equal(run(moments, page_size=PAGE, rate=50), document)
    held_equal(run(dict(moments), page_size=PAGE, rate=50), document)
    held_equal(run({np.float64(time): each for time, each in moments}, page_size=PAGE, rate=50), document)


def test_owners_of_a_series_go_by_name(guests, capsys):
    named = ["--at", 0, f"w={guests['web.t0']}", f"d={guests['db.t0']}"]
    document = by_command(capsys, *named, "--at", 9, f"w={guests['web.t1']}", f"d={guests['db.t1']}")
    swapped = {
        0: {"w": guests["web.t0"], "d": [guests["db.t0"]]},
        9: {"d": guests["db.t1"], "w": guests["web.t1"]},
    }
    held_equal(run(swapped, page_size=PAGE), document)


def test_writes_are_what_the_command_says(guests, tmp_path, capsys):
    paths, written, recorded = [guests["web.t0"], guests["db.t0"]], tmp_path / "model.toml", tmp_path / "writes.csv"
    written.write_text(MODEL_TOML)
    document = by_command(capsys, *paths, "--writes", written, "--record", recorded)
    assert document["writes"] > 1000
    for writes in (written, str(written), MODEL, pageshare.replay.WriteModel.of_table(MODEL)):
        held_equal(run(paths, page_size=PAGE, writes=writes), document)
    again = run(paths, page_size=PAGE, trace=recorded)
    held_equal(again, by_command(capsys, *paths, "--trace", recorded))
    assert again.last.seconds == 20


def test_what_a_series_does_not_show_is_a_warning(guests):
    course = run([(0, [guests["web.t0"]]), (1, [memory(numbers(0)[:200])])], page_size=PAGE)
    assert course.warnings == ("100 pages are missing from later snapshots; they are taken to stay as they were",)


# ---- what it takes ----


def test_it_takes_what_scan_takes(guests):
    held, path = memory(numbers(0)), guests["web.t0"]
    with pageshare.open_image(path, page_size=PAGE) as image:
        courses = [
            run(dumps, page_size=PAGE, policy="sequential").samples
            for dumps in (path, str(path), held, held.tobytes(), image, [path], {"web": path}, {"web": [held]})
        ]
    assert all(course == courses[0] for course in courses)
    scanned = pageshare.scan(path, page_size=PAGE)
    assert courses[0][-1].saved == scanned.pages.reclaimed
    two = run({"a": held, "b": held}, page_size=PAGE)
    assert (two.owners, two.page_size, two.pages) == (("a", "b"), PAGE, 600)


def test_buffers_stay_as_they_are():
    held = memory(numbers(0))
    before = held.copy()
    assert run(held, page_size=PAGE, writes=MODEL).writes > 100
    assert (held == before).all()


def test_visits_end_it():
    assert run(memory(numbers(0)), page_size=PAGE, visits=77, policy="random").last.visits == 77


def test_how_many_pages_share_a_frame():
    held = memory([5] * 100)
    few = run(held, page_size=PAGE, policy="sequential", max_refs=10)
    assert (few.last.saved, few.last.possible) == (90, 99)
    mine = partial(policies.create, "sequential")
    assert run(held, page_size=PAGE, policy=mine, max_refs=10).last.saved == 90

    class Limited(Backwards):
        table_options = {"max_refs": 20}  # noqa: RUF012

    for options, saved in (({}, 95), ({"max_refs": 10}, 90), ({"max_refs": 0}, 99)):
        assert run(held, page_size=PAGE, policy=Limited, **options).last.saved == saved


def test_costs_are_measured_unless_they_are_given(monkeypatch):
    def fail(*_):
        raise AssertionError("measured")

    monkeypatch.setattr(costs, "measure", fail)
    assert run(memory([1, 1]), page_size=PAGE, costs=COSTS, policy="random").last.cpu_seconds > 0
    with pytest.raises(AssertionError, match="measured"):
        run(memory([1, 1]), page_size=PAGE)


# ---- policies of one's own ----


def test_a_policy_of_ones_own_has_its_own_order():
    made = []
    held = memory(numbers(0))

    def mine(view):
        made.append(Backwards(view))
        return made[-1]

    course = run(held, page_size=PAGE, policy=mine, rate=100, duration=2.5)
    (policy,) = made
    visited = np.concatenate([pages for pages, _ in policy.told])
    assert visited.tolist() == list(range(299, 49, -1))
    assert (course.last.visits, course.last.seconds, course.policy) == (250, 2.5, "mine")
    met = np.concatenate([outcomes for _, outcomes in policy.told])
    assert dict(course.outcomes) == {each.name: int((met == each).sum()) for each in Outcome}
    seen = numbers(0)[50:]
    assert course.last.saved == len(seen) - len(np.unique(seen))


def test_it_is_as_good_as_one_of_the_same_order():
    class Forwards(Backwards):
        def next(self, count):
            return self.view.pages - 1 - super().next(count)

    held = {"a": memory(numbers(0)), "b": memory(numbers(1))}
    ours = run(held, page_size=PAGE, policy=Forwards, writes=MODEL, rate=70)
    theirs = run(held, page_size=PAGE, policy="sequential", writes=MODEL, rate=70)
    for own, their in zip(ours.samples, theirs.samples, strict=True):
        assert (own.visits, own.saved, own.possible, own.cow_breaks) == (
            their.visits,
            their.saved,
            their.possible,
            their.cow_breaks,
        )
    assert ours.policy == "Forwards"


def test_names_of_policies():
    held = memory([1, 1])
    for policy, name in (
        (Backwards, "Backwards"),
        (partial(Backwards, stride=2), "Backwards"),
        ("random", "random-permutation"),
    ):
        assert run(held, page_size=PAGE, policy=policy).policy == name


@pytest.mark.parametrize("rate_per_owner", [None, 50])
@pytest.mark.parametrize(
    ("give", "gave"),
    [
        (lambda view, _: np.array([0, view.pages], np.uint32), "page 40, and pages are 0 to 39"),
        (lambda *_: np.array([3, -1]), "page -1, and pages are 0 to 39"),
        (lambda *_: np.array([2**32], np.int64), "page 4294967296, and"),
        (lambda *_: np.empty(0, np.uint32), "0 pages"),
        (lambda *_: [], "0 pages"),
        (lambda *_: np.zeros(41, np.uint32), "41 pages"),
        (lambda *_: np.array([1.0, 2.0]), "pages of type float64"),
        (lambda *_: np.ones(4, bool), "pages of type bool"),
        (lambda *_: np.array(["1"]), "pages of type <U1"),
        (lambda *_: np.zeros((2, 2), np.uint32), "ndarray of 2 dimensions"),
        (lambda *_: [[1], [2, 3]], "list of 2 dimensions"),
        (lambda *_: None, "None"),
        (lambda *_: 3, "3"),
    ],
)
def test_a_batch_that_is_none_is_told(give, gave, rate_per_owner):
    """At once, and not by going on without end."""
    with pytest.raises(PolicyError) as caught:
        run(PAIRS, page_size=PAGE, policy=giving(give), rate=40, duration=1, rate_per_owner=rate_per_owner)
    said = str(caught.value)
    assert said.startswith("policy Mine: next(")
    assert f" gave {gave}" in said
    assert "it must give page numbers, a uint32 array of shape (n,), 1 <= n <= " in said


def test_a_batch_that_is_empty_later_on_is_told_too():
    batches = iter([np.arange(5, dtype=np.uint32)])
    late = giving(lambda *_: next(batches, np.empty(0, np.uint32)))
    with pytest.raises(PolicyError, match="gave 0 pages"):
        run(PAIRS, page_size=PAGE, policy=late)


@pytest.mark.parametrize("give", [lambda *_: [0, 1, 2], lambda *_: range(3), lambda *_: np.arange(3, dtype=">i8")])
def test_other_whole_numbers_will_do(give):
    course = run(memory([4, 4, 4]), page_size=PAGE, policy=giving(give))
    assert (course.last.saved, course.last.visits) == (2, 3)


@pytest.mark.parametrize("rate_per_owner", [None, 50])
def test_pages_may_come_again(rate_per_owner):
    """The same one without end is never more than it saves, and ends by itself."""
    again = giving(lambda _, count: np.full(count, 3, np.uint32))
    course = run(memory([7] * 40), page_size=PAGE, policy=again, rate_per_owner=rate_per_owner)
    assert (course.last.saved, course.last.possible) == (0, 39)
    assert 320 <= course.last.visits < 320 + 1024
    twice = giving(lambda view, count: np.repeat(np.arange(view.pages, dtype=np.uint32), 2)[:count])
    assert run(memory([7] * 20), page_size=PAGE, policy=twice).last.saved == 19


def test_what_a_policy_raises_comes_through():
    class OurError(Exception):
        pass

    def raising(*_):
        raise OurError("ours")

    class Deaf(Backwards):
        feedback = raising

    held = PAIRS
    for policy in (raising, giving(raising), Deaf):
        with pytest.raises(OurError, match="ours"):
            run(held, page_size=PAGE, policy=policy)
    with pytest.raises(IndexError, match="a page has 8"):
        run(held, page_size=PAGE, policy=giving(lambda view, _: view.peek(np.arange(3), 8)))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (3, "policy 3: must be a name, or what makes a policy of a View"),
        (object(), "must be a name, or what makes a policy of a View, such as its class"),
        (lambda _: object(), "policy <lambda>: what it makes of a View has no method next"),
        (lambda _: iter([1]), "has no method next"),
    ],
)
def test_what_is_no_policy(policy, message):
    with pytest.raises(TypeError, match=message):
        run(memory([1, 1]), page_size=PAGE, policy=policy)


# ---- what can't be done ----


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"policy": "best"}, "no policy 'best': there are sequential, "),
        ({"policy": "ksm:speed=1"}, "policy ksm has no option 'speed': its options are max_page_sharing, "),
        ({"policy": "ksm:smart_scan=x"}, "option 'smart_scan=x': must be NAME=NUMBER"),
        ({"objective": "most"}, "objective 'most': must be all or nonzero"),
        ({"seed": -1}, "seed -1: must be a whole number from 0 to "),
        ({"seed": 1.5}, "seed 1.5: must be a whole number"),
        ({"rate": 0}, "rate 0: must be a number of pages a second above 0"),
        ({"rate": float("inf")}, "rate inf: must be a number of pages a second above 0"),
        ({"rate": "200"}, "rate '200': must be a number"),
        ({"rate_per_owner": -1}, "rate_per_owner -1: must be a number of pages a second above 0"),
        ({"pages_to_scan": 0}, "pages_to_scan 0: must be a whole number from 1"),
        ({"sleep": float("nan")}, "sleep nan: must be a number of seconds from 0"),
        ({"cpu": 2}, "cpu 2: must be a share of a CPU above 0, at most 1"),
        ({"duration": -1}, "duration -1: must be a number of seconds from 0"),
        ({"duration": "1m"}, "duration '1m': must be a number of seconds"),
        ({"visits": -1}, "visits -1: must be a whole number from 0"),
        ({"max_refs": 1}, r"max_refs 1: must be 0 \(no limit\) or a whole number from 2"),
        ({"peek_cost": 2}, "peek_cost 2: must be from 0 to 1"),
        ({"page_size": 1000}, "page size 1000: must be a power of two"),
        ({"domains": {"red": ["nobody"]}}, "domain red: no owner 'nobody'; there are a"),
        ({"writes": {"region": []}}, "region: must be there"),
        ({"writes": {"duration": 1, "region": [{"rate": 1, "owner": "b"}]}}, "one of a, not b"),
    ],
)
def test_arguments_that_make_no_sense(keywords, message):
    with pytest.raises(ValueError, match=message):
        run({"a": memory([1, 1])}, **{"page_size": PAGE, **keywords})


@pytest.mark.parametrize(
    ("dumps", "keywords", "message"),
    [
        ([1], {"rate": 10, "cpu": 0.1}, "rate and cpu: only one of them says how fast pages are looked at"),
        ([1], {"rate": 10, "sleep": 1}, "rate and pages_to_scan: only one of them"),
        ([1], {"writes": MODEL, "trace": "x"}, "writes and trace: only one of them says what is written"),
        ([1], {"writes": {"region": [{"rate": 1}]}}, "writes: the model has no end: say how long, with duration"),
        ({0: [1], 1: [2]}, {"writes": MODEL}, "a series tells what is written already: leave out writes and trace"),
        ([(1, [1]), (0, [2])], {}, "at 0s behind at 1s: times must ascend"),
        ([(1, [1]), (1, [2])], {}, "at 1s behind at 1s: times must ascend"),
        ({0: [1], 1: [1, 2]}, {}, "at 1s: 2 dumps, in the first snapshot 1; every snapshot must have the same owners,"),
        ({0: {"a": 1}, 1: {"b": 1}}, {}, "at 1s: b is not in the first snapshot; every snapshot must have"),
        ({0: {"a": 1, "b": 2}, 1: {"b": 1}}, {}, "at 1s: a is missing; every snapshot must have"),
        ({0: {"a": 1}, 1: [1]}, {}, "at 1s: a is missing; "),
        ({0: {"{at}": 1}, 1: {"{writes}": 1}}, {}, r"at 1s: \{writes\} is not in the first"),
    ],
)
def test_arguments_that_make_no_sense_together(dumps, keywords, message):
    def held(dumps):
        if isinstance(dumps, dict):
            return {key: held(each) for key, each in dumps.items()}
        if isinstance(dumps, (list, tuple)):
            time, rest = (dumps[:1], dumps[1:]) if isinstance(dumps, tuple) else ((), dumps)
            return [*time, *map(held, rest)]
        return memory([dumps])

    with pytest.raises(SettingError, match=message):
        run(held(dumps), page_size=PAGE, **keywords)


@pytest.mark.parametrize("dumps", [[], {}, {0.0: []}, [(0.0, {})]])
def test_no_dumps(dumps):
    with pytest.raises(ValueError, match="there are no dumps"):
        run(dumps)


def test_times_are_finite():
    with pytest.raises(ValueError, match=r"times \[0.0, inf\]: must be numbers of seconds"):
        run([(0.0, [bytes(4096)]), (float("inf"), [bytes(4096)])])


def test_files_that_are_not_there(tmp_path):
    held = memory([1, 1])
    for keywords in ({"writes": tmp_path / "none"}, {"trace": str(tmp_path / "none")}):
        with pytest.raises(FileNotFoundError, match="none: No such file or directory"):
            run(held, page_size=PAGE, **keywords)
    with pytest.raises(FileNotFoundError, match="none"):
        run([tmp_path / "none"])
    (tmp_path / "broken.elf").write_bytes(b"\x7fELF\x02\x01")
    with pytest.raises(pageshare.ImageError, match="broken.elf"):
        run([tmp_path / "broken.elf"])


def test_files_are_closed_again(guests):
    import gc
    from pathlib import Path

    def files():
        gc.collect()
        return sorted(str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink())

    before = files()
    run([guests["web.t0"], guests["db.t0"]], page_size=PAGE)
    with pytest.raises(PolicyError):
        run([guests["web.t0"]], page_size=PAGE, policy=giving(lambda *_: []))
    assert [each for each in files() if ".raw" in each] == [each for each in before if ".raw" in each]


def test_it_can_be_stopped():
    control = Control()
    control.stop()
    with pytest.raises(Stopped):
        run(PAIRS, page_size=PAGE, control=control)
    control = Control()

    class Stops(Backwards):
        def feedback(self, pages, outcomes, partners):
            super().feedback(pages, outcomes, partners)
            control.stop()

    course = run(PAIRS, page_size=PAGE, policy=Stops, rate=10, control=control)
    assert course.interrupted
    assert 0 < course.last.visits < 40


def test_the_command_and_the_call_have_one_default():
    # The command names it by itself, so that asking for help loads nothing.
    from pageshare.commands import replay as command
    from pageshare.replay import entry

    assert command.DEFAULT == entry.DEFAULT_POLICY
