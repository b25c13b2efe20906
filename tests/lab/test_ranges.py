"""Options of programs and estimators: one out of its range ends in one line that says which, and what is allowed; one
within it works."""

import inspect
import math
import re

import numpy as np
import pytest

from command_line import run
from pageshare.lab import course, estimation, named, scenario, study
from pageshare.lab.estimators import ESTIMATORS
from pageshare.lab.estimators.bursts import BurstFilter
from pageshare.lab.estimators.filters import SecondTouch, ZeroFilter
from pageshare.lab.estimators.neighbours import NeighbourFilter
from pageshare.lab.memory import SECOND, Memory
from pageshare.lab.programs._rates import Rates, span
from pageshare.lab.programs.steady import Steady
from pageshare.lab.view import View
from pageshare.synth.spec import SpecError

FILTERS = {"bursts": BurstFilter, "neighbours": NeighbourFilter, "second-touch": SecondTouch, "zero": ZeroFilter}
KINDS = {"program": named.programs(), "estimator": ESTIMATORS, "filter": FILTERS}
SMALL = {"toucher": {"sizes": (0.5, 1.0), "background": 0.25}}
"""So that it fits into the few pages here."""


def numeric(kind):
    """Each option of each that is a number, or a list of them."""
    for name, make in KINDS[kind].items():
        for key, each in inspect.signature(make).parameters.items():
            default = each.default
            if isinstance(default, (int, float, tuple)) and not isinstance(default, bool):
                yield name, key, default


def made(kind, name, pages=512, **options):
    rng = np.random.default_rng(1)
    if kind == "program":
        return KINDS[kind][name](rng, **{"pages": pages, **SMALL.get(name, {}), **options})
    if kind == "estimator":
        return KINDS[kind][name](View(Memory(pages)), rng, **options)
    return KINDS[kind][name](8, rng, **options)


def works(kind, name, seconds=5.0, pages=512, **options):
    """A short study with it; a program touches no page twice at a time, nor one that it hasn't."""
    program = made("program", name, pages, **options) if kind == "program" else Steady(RNG(1), pages=pages)
    if kind == "estimator":
        estimators = {name: lambda view, rng: KINDS[kind][name](view, rng, **options)}
    elif kind == "filter":
        through = KINDS[kind][name]
        estimators = {
            "esx": lambda view, rng: ESTIMATORS["esx"](
                view, rng, period=1.0, through=lambda traps, rng: through(traps, rng, **options)
            )
        }
    else:
        estimators = {"esx": ESTIMATORS["esx"]}
        again = made(kind, name, pages, **options)
        for number in range(round(seconds * 10)):
            for touch in again.run(number * SECOND // 10, (number + 1) * SECOND // 10):
                assert int(touch.pages.max(initial=0)) < pages
                assert len(np.unique(touch.pages)) == len(touch.pages)
    ran = study.run(program, estimators, 1, duration=seconds)
    assert ((ran.estimates >= 0) & (ran.estimates <= 1)).all()


RNG = np.random.default_rng
SHARE = "must be a share from 0 to 1"
TIME, PERIOD = "must be a time of at most 400 d", "must be a time from 1 ms to 400 d"
RATE, SPEED = "must be a number from 0 to 1e+09", "must be a number above 0 up to 1e+09"
WRONG = [
    ("program", "steady", {"hot": 1.5}, f"hot is 1.5: {SHARE}"),
    ("program", "steady", {"hot": 2}, f"hot is 2: {SHARE}"),
    ("program", "steady", {"hot": math.nan}, f"hot is nan: {SHARE}"),
    ("program", "steady", {"hot": True}, f"hot is True: {SHARE}"),
    ("program", "steady", {"hot": "a\nb"}, "hot is a\\nb: "),
    ("program", "steady", {"hot": None}, f"hot is None: {SHARE}"),
    ("program", "steady", {"hot": np.float64(1.5)}, f"hot is 1.5: {SHARE}"),
    ("program", "steady", {"hot": 10**400}, "hot is 1000000"),
    ("program", "steady", {"hot": 0.9}, "hot + warm is 1.1: must be at most 1"),
    ("program", "steady", {"zipf": -1}, "zipf is -1: must be a number from 0 to 10"),
    ("program", "steady", {"hot_rate": 1e12}, f"hot_rate is 1000000000000.0: {RATE}"),
    ("program", "steady", {"pages": 0}, "pages is 0: must be a whole number from 1 to 67108864"),
    ("program", "steady", {"pages": 0.5}, "pages is 0.5: must be a whole number from 1"),
    ("program", "steady", {"pages": True}, "pages is True: must be a whole number from 1"),
    ("program", "streaming", {"base": 0.5, "size": 0.6}, "base + size is 1.1: must be at most 1"),
    ("program", "streaming", {"base": -0.5, "size": 0.6}, f"base is -0.5: {SHARE}"),
    ("program", "zero-page-thread", {"base": 0.5}, "base + size is 1.1: must be at most 1"),
    ("program", "zero-page-thread", {"every": 0}, f"every is 0: {PERIOD}"),
    ("program", "own-thread", {"live": 3}, f"live is 3: {SHARE}"),
    ("program", "own-thread", {"every": 0}, f"every is 0: {PERIOD}"),
    ("program", "own-thread", {"lasts": 0.0}, f"lasts is 0.0: {PERIOD}"),
    ("program", "init-on-free", {"size": 3}, f"size is 3: {SHARE}"),
    ("program", "init-on-free", {"every": 0}, f"every is 0: {PERIOD}"),
    ("program", "init-on-free", {"hold": -1}, f"hold is -1: {TIME}"),
    ("program", "init-on-free", {"hold": 100.0}, "hold + idle is 160.0: must be at most every, 150"),
    ("program", "zero-page-thread", {"every": 100.0}, "hold + idle is 105.0: must be at most every, 100"),
    ("program", "ramp", {"hold": 121}, "hold is 121: must be at most every, 120"),
    ("program", "own-thread", {"every": 0.1}, "lasts is 0.5: must be at most every, 0.1"),
    ("program", "full-scan", {"lasts": 61.0}, "lasts is 61.0: must be at most every, 60"),
    ("program", "full-scan", {"writes": 1}, "writes is 1: must be true or false"),
    ("program", "phases", {"sizes": [3]}, f"sizes[0] is 3: {SHARE}"),
    ("program", "phases", {"sizes": [0.5, -1]}, f"sizes[1] is -1: {SHARE}"),
    ("program", "phases", {"sizes": []}, "sizes is []: must be a list of numbers from 0 to 1, one at least"),
    ("program", "phases", {"sizes": 0.5}, "sizes is 0.5: must be a list of numbers"),
    ("program", "phases", {"sizes": "0.5"}, "sizes is 0.5: must be a list of numbers"),
    ("program", "phases", {"sizes": ["x"]}, f"sizes[0] is x: {SHARE}"),
    ("program", "phases", {"length": -1}, f"length is -1: {PERIOD}"),
    ("program", "phases", {"length": 0}, f"length is 0: {PERIOD}"),
    ("program", "phases", {"fill": -1.0}, f"fill is -1.0: {TIME}"),
    ("program", "phases", {"moves": 1}, "moves is 1: must be true or false"),
    ("program", "ramp", {"base": 0.9, "size": 0.8}, "base + size is 1.7: must be at most 1"),
    ("program", "ramp", {"every": 0}, f"every is 0: {PERIOD}"),
    ("program", "ramp", {"rise": 0}, f"rise is 0: {PERIOD}"),
    ("program", "nursery", {"speed": -4}, f"speed is -4: {RATE}"),
    ("program", "nursery", {"live": 0.95}, "nursery + live is 1.05: must be at most 1"),
    ("program", "nursery", {"hot": 0.7}, "hot is 0.7: must be at most live, 0.6"),
    ("program", "semispace", {"half": 0.6}, "half is 0.6: must be a share from 0 to 0.5"),
    ("program", "semispace", {"live": 2.0}, f"live is 2.0: {SHARE}"),
    ("program", "boot", {"speed": 0}, f"speed is 0: {SPEED}"),
    ("program", "boot", {"used": 1.1}, f"used is 1.1: {SHARE}"),
    ("program", "boot", {"system": -1}, "system is -1: must be a whole number from 0 to 16777215"),
    ("program", "system", {"same": 0.95}, "same + zero is 1.05: must be at most 1"),
    ("program", "system", {"written": 2}, f"written is 2: {SHARE}"),
    ("program", "file-cache", {"own": 2}, f"own is 2: {SHARE}"),
    ("program", "file-cache", {"touches": 0}, f"touches is 0: {SPEED}"),
    ("program", "toucher", {"sizes": [5]}, "sizes are up to 5 MiB and background 0.25 MiB: must be at most"),
    ("program", "toucher", {"sizes": [-5]}, "sizes[0] is -5: must be a number from 0 to 262144"),
    ("program", "toucher", {"length": 0}, f"length is 0: {PERIOD}"),
    ("estimator", "esx", {"n": 0}, "n is 0: must be a whole number from 1 to 67108864"),
    ("estimator", "esx", {"n": 1.5}, "n is 1.5: must be a whole number from 1"),
    ("estimator", "esx", {"period": 0}, f"period is 0: {PERIOD}"),
    ("estimator", "esx", {"slow": 9}, "slow is 9: must be a number above 0 up to 1"),
    ("estimator", "esx", {"fast": 0}, "fast is 0: must be a number above 0 up to 1"),
    ("estimator", "esx", {"through": "zero"}, "through is zero: must be what makes a filter"),
    ("estimator", "annotate-30s", {"period": -1}, f"period is -1: {PERIOD}"),
    ("estimator", "guest-statistics", {"period": 0}, f"period is 0: {PERIOD}"),
    ("estimator", "free-page-reporting", {"period": "x"}, f"period is x: {PERIOD}"),
    ("estimator", "generations", {"generations": 0}, "generations is 0: must be a whole number from 2 to 1000"),
    ("estimator", "generations", {"dense": 513}, "dense is 513: must be a whole number from 0 to 512"),
    ("estimator", "panel", {"n": 0}, "n is 0: must be a whole number from 1 to 65536"),
    ("estimator", "panel", {"most": 0}, "most is 0: must be a whole number from 1 to 67108864"),
    ("estimator", "panel", {"fresh": 2}, f"fresh is 2: {SHARE}"),
    ("estimator", "panel", {"memories": [8, 0]}, "memories[1] is 0: must be a number from 1 to 1e+09"),
    ("estimator", "panel", {"memories": ()}, "memories is (): must be a list of numbers"),
    ("estimator", "shards", {"rate": 0}, "rate is 0: must be a share above 0 up to 1"),
    ("estimator", "shards", {"rate": 5}, "rate is 5: must be a share above 0 up to 1"),
    ("estimator", "shards", {"traps": "no"}, "traps is no: must be true or false"),
    ("estimator", "damon", {"sample": 0}, f"sample is 0: {PERIOD}"),
    ("estimator", "damon", {"least": 0}, "least is 0: must be a whole number from 1"),
    ("estimator", "damon", {"most": 5}, "least is 10: must be at most most, 5"),
    ("filter", "zero", {"delay": -1}, f"delay is -1: {TIME}"),
    ("filter", "second-touch", {"delay": math.inf}, f"delay is inf: {TIME}"),
    ("filter", "bursts", {"least": 0}, "least is 0: must be a whole number from 1"),
    ("filter", "bursts", {"most": 2}, f"most is 2: {SHARE}"),
    ("filter", "bursts", {"share": -0.1}, f"share is -0.1: {SHARE}"),
    ("filter", "bursts", {"ratio": math.nan}, "ratio is nan: must be a number from 0 to 1e+09"),
    ("filter", "bursts", {"lasts": -1}, f"lasts is -1: {TIME}"),
    ("filter", "bursts", {"patience": True}, f"patience is True: {TIME}"),
]


@pytest.mark.parametrize(("kind", "name", "options", "words"), WRONG, ids=lambda each: str(each)[:40])
def test_an_option_out_of_its_range_is_one_line(kind, name, options, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        made(kind, name, **options)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("kind", "name", "key", "default"), [(kind, *each) for kind in KINDS for each in numeric(kind)]
)
def test_any_number_is_refused_by_its_option_or_works(kind, name, key, default):
    for value in (math.nan, math.inf, -math.inf, -1, 0, 1, 0.5, 1e-12, 1e9, 1e18, 10**18, 10**400, True, "x"):
        options = {key: [value, value] if isinstance(default, tuple) else value}
        try:
            made(kind, name, **options)
        except ValueError as error:
            assert key in str(error)
            assert str(error).isprintable()
        else:
            works(kind, name, **options)


def test_every_option_that_is_no_number_is_known_here():
    rest = set()
    for kind, makers in KINDS.items():
        known = {(name, key) for name, key, _default in numeric(kind)}
        for name, make in makers.items():
            given = ("traps", "rng") if kind == "filter" else ("view", "rng")
            rest |= {key for key in inspect.signature(make).parameters if (name, key) not in known and key not in given}
    assert rest == {"zeroes", "moves", "apart", "writes", "zeroing", "traps", "through"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_built_in_works_as_it_is(kind):
    for name in KINDS[kind]:
        works(kind, name)


ROUNDED = {
    "boot": ("used", "hot"),
    "file-cache": ("own",),
    "full-scan": ("hot", "size"),
    "init-on-free": ("base", "size"),
    "nursery": ("nursery", "live", "hot"),
    "own-thread": ("live", "hot"),
    "phases": (),
    "ramp": ("base", "size"),
    "semispace": ("half",),
    "steady": ("hot", "warm"),
    "streaming": ("base", "size"),
    "system": ("same", "zero", "hot"),
    "toucher": (),
    "zero-page-thread": ("base", "size"),
}
"""Options that are shares of all pages: the first, and those that take up the rest."""


@pytest.mark.parametrize("pages", [1, 2, 3, 65, 255])
@pytest.mark.parametrize("name", named.PROGRAMS)
def test_a_program_stays_within_few_pages_whatever_its_shares_round_to(name, pages):
    parameters = inspect.signature(named.programs()[name]).parameters
    for one in (0.0, 0.1, 0.3, 0.5) if name == "semispace" else (0.0, 0.1, 0.3, 0.5, 0.9, 1.0):
        options = {key: 1 - one if place else one for place, key in enumerate(ROUNDED[name])}
        options |= {"sizes": [0], "background": pages / 256} if name == "toucher" else {}
        options |= {"sizes": [one], "length": 0.1} if name == "phases" else {}
        options |= {"every": 1.0, "hold": 0.5} if "hold" in parameters else {}
        options |= {"idle": 0.25} if "idle" in parameters else {}
        options |= {"speed": 1e9} if "speed" in parameters else {}
        works("program", name, seconds=2.5, pages=pages, **options)


def test_high_rates_touch_as_many_pages_as_likely():
    """Each page by itself, from eight touches a page on: as many are left out as of touches drawn one by one."""
    pages, steps = 20_000, 20
    for rates in (90.0, np.repeat([30.0, 150.0], pages // 2)):
        dense = Rates(RNG(1), span(0, pages), rates)
        left = sum(pages - len(dense.touch(0, SECOND // 10).pages) for _ in range(steps)) / steps
        expected = float(np.exp(-np.broadcast_to(rates, pages) / 10).sum())
        assert left == pytest.approx(expected, abs=5 * (expected / steps) ** 0.5)


def test_a_study_of_regions_that_can_not_be_as_few_ends():
    works("estimator", "damon", seconds=10, pages=1000, least=600, most=600)


TEXT = """
duration = "20s"
[host]
memory = "4 MiB"
[[guest]]
name = "a"
memory = "2 MiB"
[guest.estimator]
name = "esx"
[[guest.program]]
name = "steady"
"""
STUDY = """
duration = "20s"
[[study.program]]
name = "steady"
pages = "2 MiB"
[[study.program]]
name = "phases"
pages = "2 MiB"
[[study.estimator]]
name = "esx"
"""


@pytest.mark.parametrize(
    ("text", "key", "value", "words"),
    [
        (TEXT, "guest.a.program.hot", 1.5, "guest.a.program.steady: steady: hot is 1.5: must be a share from 0 to 1"),
        (TEXT, "guest.a.program.hot", True, "guest.a.program.steady.hot: must be a number"),
        (TEXT, "guest.a.program.hot", math.nan, "guest.a.program.steady.hot: must be a number"),
        (TEXT, "guest.a.program.hot", 10**400, "guest.a.program.steady.hot: must be a number"),
        (TEXT, "guest.a.program.pages", 0, "guest.a.program.steady.pages: must be a size"),
        (TEXT, "guest.a.estimator.period", "0s", "guest.a.estimator: esx: period is 0.0: must be a time from 1 ms to"),
        (TEXT, "guest.a.estimator.through", "zero", "guest.a.estimator: esx: through is zero: must be what makes"),
        (TEXT, "guest.a.start", 10**400, "guest.a.start: must be a time of at most 400 d"),
        (TEXT, "guest.a.shares", math.nan, "guest.a.shares: must be a number"),
        (STUDY, "study.program.2.length", 0, "study.program.phases: phases: length is 0.0: must be a time from 1 ms"),
        (STUDY, "study.estimator.n", 0, "study.estimator.esx: esx: n is 0: must be a whole number from 1 to 67108864"),
    ],
)
def test_of_a_file_its_place_is_told_with_it(tmp_path, capsys, text, key, value, words):
    path = tmp_path / "it.toml"
    path.write_text(text, encoding="utf-8")
    value = "true" if value is True else value
    status, _out, err = run(capsys, "lab", path, "--set", f"{key}={value}")
    assert status == 1
    assert words in err
    assert err.count("\n") == 1
KEYS = [
    "duration",
    "every",
    *(
        f"host.{key}"
        for key in (
            "memory", "overhead", "swap", "tax", "balance", "fault", "zero", "thresholds.high",
            "thresholds.low", "thresholds.hysteresis", "disk.latency", "disk.bandwidth", "sharing.rate",
            "sharing.visit",
        )
    ),
    *(
        f"guest.a.{key}"
        for key in (
            "memory", "least", "shares", "start", "step", "count", "disk.latency", "program.after",
        )
    ),
    *(
        f"guest.a.balloon.{key}"
        for key in (
            "poll", "phase", "fastest", "latency", "page_time", "rate", "batch", "most",
        )
    ),
    *(f"guest.a.reporting.{key}" for key in ("after", "block")),
    *(f"guest.a.hinting.{key}" for key in ("again", "block")),
]


def test_a_study_runs_nothing_if_an_option_is_out_of_its_range(tmp_path):
    path = tmp_path / "it.toml"
    path.write_text(STUDY, encoding="utf-8")
    for key in ("study.program.2.length", "study.estimator.n"):
        ran = estimation.Study(scenario.read_any(path, [(key, 0)]), [1])
        with pytest.raises(SpecError, match=rf"{key.rpartition('.')[2]} is 0"):
            ran.go()
        assert ran.share_done == 0


def test_any_number_of_a_scenario_is_refused_by_its_key_or_works(tmp_path):
    path = tmp_path / "it.toml"
    path.write_text(TEXT.replace("20s", "1s"), encoding="utf-8")
    for key in KEYS:
        for value in (math.nan, math.inf, -math.inf, -1, 0, 1e18, 10**400, True):
            try:
                found = scenario.read(path, [(key, value)])
            except SpecError as error:
                assert key.rpartition(".")[2] in str(error), (key, value)
                assert str(error).isprintable()
            else:
                course.run(found)
