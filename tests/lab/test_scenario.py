"""Scenarios: what is in a file is what is built, and a bad file is one line that says where and what is allowed."""

import numpy as np
import pytest

from pageshare.lab import course, named, scenario
from pageshare.lab.keys import parse_time
from pageshare.lab.memory import SECOND
from pageshare.synth.spec import SpecError

SMALL = """
duration = "20s"
[host]
memory = "3 MiB"
[[guest]]
name = "a"
memory = "2 MiB"
[[guest.program]]
name = "steady"
[[guest]]
name = "b"
memory = "2 MiB"
[[guest.program]]
name = "steady"
pages = "1 MiB"
"""
EVERYTHING = """
about = "all keys"
calibration = "nothing"
duration = "10s"
every = "100ms"
[host]
memory = "32 MiB"
overhead = "1 MiB"
swap = "1 GiB"
admission = true
tax = "50 %"
balance = "5s"
thresholds = { high = 0.1, soft = 0.08, hard = 0.04, low = "2 %", hysteresis = 1 }
disk = { latency = "1ms", bandwidth = "200 MB/s" }
sharing = { rate = 1000, policy = "ksm:smart_scan=0", visit = "2us" }
fault = "2us"
zero = 0.000001
[[guest]]
name = "web"
count = 3
memory = "8 MiB"
least = "2 MiB"
shares = 100
start = "1s"
step = "50ms"
halts = true
deflate_on_oom = true
disk = "host"
reporting = { after = "1s", block = 256 }
hinting = { again = "2s", block = 512 }
estimator = { name = "esx", n = 50, period = "5s" }
[guest.balloon]
poll = "500ms"
phase = "spread"
fastest = "10ms"
doorbell = true
pleads = true
latency = "30us"
page_time = "1us"
rate = "40 MB/s"
batch = 256
most = 0.5
safeguards = { tell_first = true, reset = true, ignore_stale = true }
[[guest.program]]
name = "steady"
after = "2s"
pages = "4 MiB"
hot = 0.5
[[guest]]
memory = "4 MiB"
balloon = false
estimator = false
disk = { latency = "2ms" }
[[guest.program]]
name = "phases"
sizes = [0.5, 0.25]
length = "2s"
[[change]]
at = "5s"
tax = 0.25
guest = "web-2"
shares = 200
least = "1 MiB"
[[change]]
at = "6s"
guest = "web"
restart = true
boots = "1s"
"""


def made(text, folder, **changed):
    (folder / "x.toml").write_text(text, encoding="utf-8")
    return scenario.read(folder / "x.toml", list(changed.items()))


def test_every_key_reaches_what_is_built(tmp_path):
    from pageshare.lab.assembly import assemble

    found = made(EVERYTHING, tmp_path)
    host = assemble(found, 7)
    assert (found.duration, found.every) == (10 * SECOND, SECOND // 10)
    assert host.frames.count == (32 - 4) * 256
    assert (host.tax, host.seed, host.times.fault, host.times.zero) == (0.5, 7, 2.0, 1.0)
    assert host.thresholds.marks == (0.02, 0.04, 0.08, 0.1)
    assert (host.disk.latency, host.disk.bandwidth) == (1000, 200 * 256)
    assert (host.sharing.rate, host.sharing.visit, type(host.sharing.policy).__name__) == (1000, 2.0, "Ksm")
    names = [guest.name for guest in host.guests]
    assert names == ["web-1", "web-2", "web-3", "guest4"]
    web, last = host.guests[1], host.guests[3]
    assert (web.pages, web.least, web.shares, web.step, web.halts) == (2048, 512, 100, 50_000, True)
    assert (web.deflate_on_oom, web.disk, web.most_ballooned) == (True, host.disk, 1024)
    driver = web.driver
    assert [guest.driver.polls.phase for guest in host.guests[:3]] == [166_666, 333_333, 500_000]
    assert (driver.polls.period, driver.polls.fastest, driver.polls.doorbell, driver.polls.pleads) == (
        500_000,
        10_000,
        True,
        True,
    )
    assert (driver.latency, driver.page_time, driver.rate, driver.batch) == (30, 1.0, 40 * 256, 256)
    assert (web.estimator.estimator.n, web.estimator.estimator.period) == (50, 5 * SECOND)
    assert web.programs[0].pages == 1024
    assert (last.driver, last.estimator, last.disk.latency, last.programs[0].pages) == (None, None, 2000, 1024)
    ran = course.run(found, 7, check=True)
    assert [float(ran.host.tax[i]) for i in (10, -1)] == [0.5, 0.25]
    assert [change.guests for change in found.changes] == [(1,), (0, 1, 2)]


def test_a_program_begins_when_it_is_to(tmp_path):
    ran = course.run(made(EVERYTHING, tmp_path))
    web = ran.guests[0]
    assert web.allocated[ran.times < 3].max() == 0
    assert web.allocated[ran.times > 3.2].max() > 0


@pytest.mark.parametrize(
    ("key", "value", "holds"),
    [
        ("host.memory", "4 MiB", lambda found: found.host.memory == 1024),
        ("host.disk.latency", "2ms", lambda found: found.host.disk.latency == 2000),
        ("guest.memory", "1 MiB", lambda found: [guest.memory for guest in found.guests] == [256, 256]),
        ("guest.b.memory", "1 MiB", lambda found: [guest.memory for guest in found.guests] == [512, 256]),
        ("guest.1.memory", "1 MiB", lambda found: [guest.memory for guest in found.guests] == [256, 512]),
        ("guest.b.program.hot", 0.5, lambda found: found.guests[1].programs[0].program.options["hot"] == 0.5),
        ("guest.program.phases.length", "3s", lambda found: found.guests[1].programs[0].program.options["length"] == 3),
        ("guest.balloon", False, lambda found: all(guest.balloon is None for guest in found.guests)),
        ("duration", 5, lambda found: found.duration == 5 * SECOND),
    ],
)
def test_a_key_is_set_to_another_value(tmp_path, key, value, holds):
    text = SMALL.replace('"steady"\npages', '"phases"\npages') if "phases" in key else SMALL
    assert holds(made(text, tmp_path, **{key: value}))


@pytest.mark.parametrize("given", ["", 'estimator = "esx"', 'estimator = {name = "esx", period = "5s"}'])
def test_an_estimators_name_stands_for_a_table(tmp_path, given):
    text = SMALL.replace('name = "a"', f'name = "a"\n{given}')
    a, b = made(text, tmp_path, **{"guest.a.estimator.n": 5}).guests
    assert (a.estimator.name, a.estimator.options["n"], b.estimator.options) == ("esx", 5, {})
    assert a.estimator.options.get("period") == (5 if "period" in given else None)
    both = made(text, tmp_path, **{"guest.estimator": "panel", "guest.estimator.n": 7}).guests
    assert [(guest.estimator.name, guest.estimator.options["n"]) for guest in both] == [("panel", 7)] * 2
    with pytest.raises(SpecError, match=r"guest.a.estimator.n: guest.a.estimator is false, and has no keys$"):
        made(SMALL.replace('name = "a"', 'name = "a"\nestimator = false'), tmp_path, **{"guest.a.estimator.n": 5})


BAD = {
    "no TOML": ("duration = ", "not a TOML file"),
    "nothing": ("", "duration: is left out"),
    "a key": (SMALL.replace("duration", "colour = 1\nduration"), "colour: no such key; there are about"),
    "a key of a guest": (SMALL + "size = 1", "size: no such option"),
    "a time": (SMALL.replace("20s", "soon"), "duration: must be a time"),
    "a time below zero": (SMALL.replace('"20s"', "-1"), "duration: must be a time"),
    "a time that is none": (SMALL.replace('"20s"', "nan"), "duration: must be a time"),
    "endless": (SMALL.replace('"20s"', "inf"), "duration: must be a time"),
    "samples": (SMALL.replace('"20s"', '"100d"\nevery = "1ms"'), "every: must be a time with at most"),
    "one sample": (SMALL.replace('"20s"', '"20s"\nevery = "1h"'), "every: must be no longer than duration, 20 s"),
    "a size": (SMALL.replace("3 MiB", "much"), "host.memory: must be a size"),
    "a size that is a list": (SMALL.replace('"3 MiB"', "[]"), "host.memory: must be a size"),
    "part of a page": (SMALL.replace('"3 MiB"', "1000000"), "host.memory: must be a size"),
    "too much": (SMALL.replace("3 MiB", "3 TiB"), "host.memory: must be a size"),
    "a host that is none": ('duration = 1\nhost = 3\n[[guest]]\nmemory = "1 MiB"', "host: must be a table"),
    "no guest": ('duration = 1\n[host]\nmemory = "1 MiB"', "guest: must be there"),
    "guests that are none": ('duration = 1\nguest = 1\n[host]\nmemory = "1 MiB"', "guest: must be a list of tables"),
    "a guest that is none": ('duration = 1\nguest = [1]\n[host]\nmemory = "1 MiB"', "guest[1]: must be a table"),
    "no program": ('duration = 1\n[host]\nmemory = "1 MiB"\n[[guest]]\nmemory = "1 MiB"', "guest[1].program: must be"),
    "names": (SMALL.replace('"b"', '"a"'), "name: must be a name of its own"),
    "a tax": (SMALL.replace("[host]", "[host]\ntax = 1"), "host.tax: must be a share from 0 to less than 1"),
    "marks": (SMALL.replace("[host]", "[host]\nthresholds = {low = 0.5}"), "host.thresholds: 0 <= low"),
    "a bandwidth": (SMALL.replace("[host]", '[host]\ndisk = {bandwidth = "9"}'), "host.disk.bandwidth: must be"),
    "a policy": (SMALL.replace("[host]", '[host]\nsharing = {policy = "x"}'), "host.sharing.policy: no policy x;"),
    "who knows all": (SMALL.replace("[host]", '[host]\nsharing = {policy = "oracle"}'), "host.sharing.policy"),
    "a disk": (SMALL.replace('"b"', '"b"\ndisk = "nope"'), 'or "host": the host\'s own, not nope'),
    "a disk that is a number": (SMALL.replace('"b"', '"b"\ndisk = 3'), "guest.b.disk: must be a table, {latency"),
    "a poll": (SMALL + "[guest.balloon]\npoll = 0", "guest.b.balloon.poll: must be a time"),
    "a phase": (SMALL + "[guest.balloon]\nphase = 'never'", "guest.b.balloon.phase: must be a time"),
    "a program": (SMALL.replace('"steady"', '"stead"'), "guest.a.program.stead.name: no program stead; there are boot"),
    "an option": (SMALL + "cold = 1", "cold: no such option; there are pages, hot"),
    "an option's kind": (SMALL + "hot = 'much'", "hot: must be a number"),
    "an option's value": (SMALL + "hot_rate = -1", "guest.b.program.steady: steady: "),
    "a program's size": (SMALL.replace('pages = "1 MiB"', "pages = 0"), "pages: must be a size"),
    "an estimator": (SMALL + "[guest.estimator]\nname = 'x'", "guest.b.estimator.name: no estimator x; there are esx"),
    "no estimator's name": (SMALL + "[guest.estimator]\nn = 3", "guest.b.estimator.name: must be"),
    "an estimator's option": (SMALL + "[guest.estimator]\nname = 'esx'\nm = 3", "guest.b.estimator.m: no such option"),
    "an estimator that draws nothing": (SMALL + "[guest.estimator]\nname = 'esx'\nn = 0", "guest.b.estimator: esx: "),
    "a file that is not there": (SMALL.replace('"steady"', '"no.py:It"'), "no.py: there is no such file"),
    "a trace": (SMALL.replace('name = "steady"', 'trace = "x"'), "no trace x is kept"),
    "a trace's file": (SMALL.replace('name = "steady"', 'trace = "x.parquet"'), "x.parquet"),
    "a change of nothing": (SMALL + "[[change]]\nat = 1", "change[1]: must be of tax, shares, least or restart"),
    "a change of nobody": (SMALL + "[[change]]\nat = 1\nshares = 1", "change[1].guest: must be there"),
    "a change of another": (SMALL + "[[change]]\nat=1\nshares=1\nguest='z'", "change[1].guest: must be one of a, b"),
    "admission": (SMALL.replace('"3 MiB"', '"1536 KiB"'), "b is not admitted: 0.5 MiB of memory are lacking"),
    "swap": (SMALL.replace("[host]", "[host]\nswap = 0"), "a is not admitted: 1 MiB of swap space are lacking"),
    "overhead": (SMALL.replace("[host]", '[host]\noverhead = "2 MiB"'), "host.overhead: leaves nothing"),
    "control characters": (SMALL.replace('"b"', '"\\u001b[2J"'), "name: must be a name of 1 to 40 characters"),
    "depth": ("a = " + "[" * 5000, "not a TOML file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(tmp_path, name):
    text, words = BAD[name]
    with pytest.raises(SpecError) as error:
        course.run(made(text, tmp_path))
    message = str(error.value)
    assert words in message
    assert "\n" not in message
    assert message.isprintable()


def test_a_name_that_is_no_scenario():
    with pytest.raises(SpecError, match=r"no scenario nothing: there are balloon-poll, estimators, .* and files"):
        scenario.path_of("nothing")


@pytest.mark.parametrize("path", sorted(scenario.BUILT_IN.glob("*.toml")), ids=lambda path: path.stem)
def test_what_comes_along_says_what_it_is_and_rests_on(path):
    found = scenario.read_any(path)
    assert found.about.endswith(("?", ".", "true", "false"))
    assert "made up" in found.calibration or "OSDI" in found.calibration


def test_each_program_is_made_and_says_what_it_does():
    for name, make in named.programs().items():
        program = make(np.random.default_rng(1))
        touches = [touch for i in range(5) for touch in program.run(i * SECOND // 10, (i + 1) * SECOND // 10)]
        assert sum(len(touch.pages) for touch in touches) > 0, name
        assert all(int(touch.pages.max(initial=0)) < program.pages for touch in touches), name
        assert len(named.sentence(make)) > 20


# ---- classes of a user's own ----

OWN = """
import numpy as np
from pageshare.lab.programs import Touch

class Once:
    def __init__(self, *, pages=10, wrong=""):
        self.pages, self.wrong = pages, wrong

    def run(self, begin, end):
        if self.wrong == "raise":
            raise KeyError("oh")
        pages = {"far": [self.pages], "twice": [1, 1], "text": "no"}.get(self.wrong, [0, 1])
        more = {
            "kinds": {"kinds": np.full(2, 300)},
            "share": {"kinds": np.full(2, 1.5)},
            "thread": {"thread": 70000},
            "threads": {"thread": np.full(2, 1 << 16)},
            "content": {"contents": 7},
            "contents": {"contents": np.full(2, 7.5)},
            "fewer": {"contents": np.full(1, 7)},
        }.get(self.wrong, {})
        if self.wrong == "end":
            raise SystemExit
        yield Touch(np.array(pages, np.uint32) if self.wrong != "text" else pages, **{"kinds": 2, **more})

class Half:
    def __init__(self, view, rng, *, active=0.5):
        self.view, self.active, self.calls = view, active, 0

    def step(self):
        self.calls += 1

class Backwards:
    def __init__(self, view):
        self.pages, self.at = view.pages, 0

    def next(self, count):
        self.at += 1
        return np.array([(self.pages - self.at) % self.pages], np.uint32)

    def feedback(self, pages, outcomes, partners):
        pass

class Wrong(Backwards):
    def next(self, count):
        return np.array([self.pages])

class Below(Backwards):
    def next(self, count):
        return np.array([-1])

class Listed(Backwards):
    def next(self, count):
        return [0]

class Many(Backwards):
    def next(self, count):
        return np.zeros(count + 1, int)

class Fails(Backwards):
    def feedback(self, pages, outcomes, partners):
        raise KeyError("oh")
"""


def own(folder, text=SMALL, **changed):
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    return made(text, folder, **changed)


def test_ones_own_classes(tmp_path):
    changed = {
        "guest.a.program.name": "own.py:Once",
        "guest.b.estimator": {"name": "own.py:Half", "active": 0.25},
        "host.sharing": {"policy": "own.py:Backwards"},
    }
    found = own(tmp_path, **changed)
    run = course.Run(found, check=True)
    ran = run.go()
    assert ran.guests[0].allocated[-1] == 2
    assert set(ran.guests[1].estimate.tolist()) == {0.25 * 512}
    assert run.machine.guests[1].estimator.estimator.calls == 200
    assert ran.sharing["scanned"] > 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"guest.a.program": [{"name": "own.py:Nothing"}]},
            "own.py:Nothing: no such class; there are Once, Half, Back",
        ),
        ({"guest.a.program": [{"name": "own.py:Once", "colour": 1}]}, "colour: no such option; there are pages, wrong"),
        ({"guest.a.program": [{"name": "own.py:Once", "wrong": "raise"}]}, "own.py:Once in line 11: KeyError: 'oh'"),
        ({"guest.a.program": [{"name": "own.py:Once", "wrong": "far"}]}, "touches page 512, and has 512"),
        ({"guest.a.program": [{"name": "own.py:Once", "wrong": "twice"}]}, "touches a page twice"),
        ({"guest.a.program": [{"name": "own.py:Once", "wrong": "text"}]}, "touches no array of page numbers"),
        *(
            ({"guest.a.program": [{"name": "own.py:Once", "wrong": wrong}]}, words)
            for wrong, words in (
                ("kinds", "gives kinds that are no numbers from 0 to 15"),
                ("share", "gives kinds that are no numbers from 0 to 15"),
                ("thread", "gives thread that are no numbers from 0 to 65534"),
                ("threads", "gives thread that are no numbers from 0 to 65534"),
                ("content", "gives contents that are no array"),
                ("contents", "gives contents that are no numbers"),
                ("fewer", "gives contents for other than 2 pages"),
                ("end", "own.py:Once in line 23: SystemExit"),
            )
        ),
        *(
            ({"host.sharing": {"policy": f"own.py:{policy}"}}, f"own.py:{policy}{words}")
            for policy, words in (
                ("Wrong", ": ValueError: next() gives page 1024, of 1024"),
                ("Below", ": ValueError: next() gives page -1, of 1024"),
                ("Listed", ": ValueError: next() gives no array of page numbers"),
                ("Many", ": ValueError: next() gives "),
                ("Fails", " in line 62: KeyError: 'oh'"),
            )
        ),
        ({"guest.b.estimator": {"name": "own.py:Half", "active": 1.5}}, "own.py:Half: ValueError: estimates 1.5"),
        ({"guest.b.estimator": {"name": "own.py:Half", "active": "x"}}, "active: must be a number"),
    ],
)
def test_what_is_wrong_with_ones_own_class_is_one_line(tmp_path, changed, words):
    with pytest.raises(SpecError) as error:
        course.run(own(tmp_path, **changed))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["import nothing_there", "1 +", "raise SystemExit", "x = 1 / 0"])
def test_a_file_that_is_no_module_is_one_line(tmp_path, text):
    (tmp_path / "bad.py").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=r"guest\.a\.program.*bad\.py:It"):
        made(SMALL, tmp_path, **{"guest.a.program": [{"name": "bad.py:It"}]})


# ---- runs ----


def test_a_seed_says_it_all(tmp_path):
    found = made(EVERYTHING, tmp_path)
    one, same, other = (course.run(found, seed) for seed in (1, 1, 2))
    for a, b in zip(one.guests, same.guests, strict=True):
        assert (a.allocated == b.allocated).all()
        assert (a.estimate == b.estimate).tolist() == (~np.isnan(a.estimate)).tolist()
    assert one.events == same.events
    assert (one.guests[0].estimate != other.guests[0].estimate).any()


def test_samples_are_what_the_machine_has_at_the_end(tmp_path):
    run = course.Run(made(SMALL, tmp_path), check=True)
    ran = run.go()
    host = run.machine
    assert ran.times[-1] == 20
    assert ran.host.free[-1] == host.frames.free
    assert ran.host.swapped_out[-1] == ran.counts["swapped_out"] == host.counts.swapped_out > 0
    assert sum(ran.states.values()) == pytest.approx(20)
    for guest, samples in zip(host.guests, ran.guests, strict=True):
        assert samples.allocated[-1] == guest.allocated()
        assert samples.ballooned[-1] == guest.driver.held
        assert samples.swapped[-1] == guest.pmap.swapped
        assert samples.active[-1] == guest.memory.active() * guest.pages
    used = sum(samples.allocated for samples in ran.guests)
    assert used + ran.host.free == pytest.approx(host.frames.count)


def test_a_control_stops_it(tmp_path):
    from pageshare.core import Control

    control = Control()
    run = course.Run(made(SMALL, tmp_path), control=control)
    control.stop()
    ran = run.go()
    assert ran.interrupted
    assert ran.times[-1] < 1


def test_more_may_be_active_than_a_guest_has(tmp_path):
    """What was touched is so for 30 s of the guest's time, though the host has swapped it out since."""
    text = SMALL.replace("[host]", "[host]\nadmission = false").replace("3 MiB", "1 MiB")
    ran = course.run(made(text, tmp_path, **{"guest.balloon": False}))
    assert any((guest.active > guest.allocated + 20).any() for guest in ran.guests)


def test_a_reset_pops_what_the_balloon_had(tmp_path):
    text = SMALL + '[[change]]\nat = "40s"\nguest = "a"\nrestart = true\nboots = "1s"'
    changed = {"host.memory": "2560 KiB", "guest.least": "512 KiB", "duration": "60s", "every": "1s"}
    ran = course.run(made(text, tmp_path, **changed), check=True)
    held = ran.guests[0].ballooned
    assert held[39] == ran.counts["pops"] > 0  # it touches all of its memory at its beginning
    assert held[41] == 0


def test_times():
    assert [parse_time(text) for text in ("2s", "1.5 ms", "3us", "2min", "1m", "1h", "1d")] == [
        2e6, 1500, 3, 120e6, 60e6, 3600e6, 86400e6,
    ]  # fmt: skip
    assert [parse_time(text) for text in ("", "s", "-1s", "1 parsec", "1e3s", "٣s")] == [None] * 6


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("guest.balloon.poll", "100ms", lambda made: made.guests[1].balloon.poll == SECOND // 10),
        ("guest.a.balloon.safeguards.reset", False, lambda made: not made.guests[0].balloon.safeguards["reset"]),
        ("host.sharing.rate", 300, lambda made: made.host.sharing.rate == 300),
        ("guest.reporting.after", "1s", lambda made: made.guests[1].reporting.after == SECOND),
        ("guest.hinting.again", "3s", lambda made: made.guests[1].hinting.again == 3 * SECOND),
    ],
)
def test_true_is_a_table_whose_keys_can_be_set(tmp_path, key, value, found):
    text = SMALL.replace("[host]", "[host]\nsharing = true")
    text = text.replace("[[guest]]", "[[guest]]\nballoon = true\nreporting = true\nhinting = true")
    made_of = made(text, tmp_path, **{key: value})
    assert found(made_of)
    assert made_of.guests[1].reporting is not None
    where = ".".join(key.split(".")[: 3 if ".a." in key else 2])
    with pytest.raises(SpecError, match=f"{key}: {where} is false, and has no keys$"):
        made(text.replace("true", "false"), tmp_path, **{key: value})
