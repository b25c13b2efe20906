"""The write model: rates, picks, bursts, phases, what is left; errors."""

from collections import Counter

import numpy as np
import pytest

from pageshare.images import image_of_buffer
from pageshare.images.ranges import RANGE, State
from pageshare.replay import model
from pageshare.replay.history import history_of
from pageshare.replay.model import Churn, WriteModel, churn
from pageshare.synth.spec import SpecError
from small_memories import all_writes, base, large_base, memory

LARGE = large_base(2, 3000)


def made(base=LARGE, **table):
    table = table if "region" in table else {"region": [table]}
    return churn(base, WriteModel.of_table(table))


def chi_square(found, expected):
    """In standard deviations from its mean."""
    enough = expected >= 5
    found = np.append(found[enough], found[~enough].sum())
    expected = np.append(expected[enough], expected[~enough].sum())
    there = expected > 0
    return (((found - expected)[there] ** 2 / expected[there]).sum() - there.sum()) / np.sqrt(2 * there.sum())


def test_the_rate_is_that_of_each_owner_over_time():
    writes = all_writes(made(rate=400), until=1000)
    assert (np.diff(writes.times) >= 0).all()
    per_owner = np.bincount(writes.pages // 3000)
    assert per_owner == pytest.approx([400_000, 400_000], rel=0.01)
    assert np.histogram(writes.times, 10, (0, 1000))[0] == pytest.approx(np.full(10, 80_000), rel=0.02)


def test_uniform():
    writes = all_writes(made(rate=500), until=400)
    expected = np.full(6000, len(writes) / 6000)
    assert abs(chi_square(np.bincount(writes.pages, minlength=6000), expected)) < 5


@pytest.mark.parametrize("exponent", [0, 0.5, 0.99, 1, 1.01, 1.5, 3, 10])
def test_zipf_ranks(exponent):
    generator = np.random.default_rng(1)
    ranks = model._Zipf(exponent).draw(generator, np.full(300_000, 1000))
    weights = np.arange(1, 1001, dtype=float) ** -exponent
    expected = 300_000 * weights / weights.sum()
    assert abs(chi_square(np.bincount(ranks, minlength=1000), expected)) < 5


def test_zipf_writes_some_pages_often_anywhere():
    history = made(rate=500, pick="zipf", exponent=1.2)
    first, second = (np.bincount(all_writes(history, seed, until=400).pages, minlength=6000) for seed in (1, 2))
    weights = np.arange(1, 3001) ** -1.2
    for counts in (first[:3000], first[3000:], second[:3000]):
        assert counts.max() == pytest.approx(200_000 / weights.sum(), rel=0.05)
        assert sorted(counts)[-10:] == pytest.approx(sorted(200_000 * weights[:10] / weights.sum()), rel=0.1)
    assert first.argmax() != second.argmax()


def test_a_share_or_addresses_bound_the_region():
    assert np.unique(all_writes(made(rate=1000, share=0.01, at=0.5), until=10).pages).tolist() == [
        *range(1500, 1530),
        *range(4500, 4530),
    ]
    by_address = made(rate=1000, first="40K", size="12KiB", owner="guest1")
    assert np.unique(all_writes(by_address, until=10).pages).tolist() == [3010, 3011, 3012]
    last = made(rate=1000, first=2999 * 4096, size=1 << 60)
    assert np.unique(all_writes(last, until=10).pages).tolist() == [2999, 5999]


def test_bursts():
    times = all_writes(made(rate=200, burst={"every": 10, "length": 2, "factor": 10, "rest": 0.5}), until=1000).times
    within = times % 10 < 2
    assert np.count_nonzero(within) == pytest.approx(2 * 200 * 10 * 200, rel=0.01)
    assert np.count_nonzero(~within) == pytest.approx(2 * 200 * 0.5 * 800, rel=0.02)
    only = all_writes(made(rate=200, burst={"every": 3, "length": 1, "factor": 1, "rest": 0}), until=300).times
    assert (only % 3 < 1).all()
    assert len(only) == pytest.approx(40_000, rel=0.02)


def test_phases():
    times = all_writes(made(rate=500, phases=[[10, 20], [20, 25], [90.5, 1e6]]), until=100).times
    assert np.count_nonzero((times >= 10) & (times < 25)) == pytest.approx(15_000, rel=0.03)
    assert np.count_nonzero(times >= 90.5) == pytest.approx(9_500, rel=0.04)
    assert len(times) == np.count_nonzero((times >= 10) & (times < 25)) + np.count_nonzero(times >= 90.5)


def test_shares_of_what_writes_leave():
    history = made(rate=500, zero=0.2, copy=0.3, same=0.4, contents=50)
    writes, contents = all_writes(history, until=200), history.contents
    count = len(writes)
    assert np.count_nonzero(writes.ids < contents.zeros) == pytest.approx(0.2 * count, rel=0.02)
    numbers = contents.numbers(writes.ids[writes.ids >= contents.generated])
    unique, times = np.unique(numbers[numbers > model.MOST_POPULAR], return_counts=True)
    assert len(unique) == pytest.approx(0.1 * count, rel=0.03)
    assert times.max() > 1  # some were copied
    weights = 1 / np.arange(1, 51)
    popular = np.bincount(numbers[numbers <= 50], minlength=51)[1:]
    assert popular.argmax() == 0
    assert popular[0] / popular.sum() == pytest.approx(1 / weights.sum(), rel=0.1)


@pytest.mark.parametrize("domains", [["one", "one"], ["one", "other"]])
def test_a_copy_is_what_another_page_holds_just_then(domains):
    small = base({"a": [1, 2, 3, 0, 0, 1], "b": [1, 5, 6, 7]}, domains=domains)
    history = made(small, rate=500, zero=0.1, copy=0.8)
    writes = all_writes(history, seed=3, until=30)
    start, now, seen = history.ids.tolist(), history.ids.tolist(), set()
    domain_of = [0] * 6 + [domains.index(domains[1])] * 4
    fresh = copied = 0
    for page, content in zip(writes.pages.tolist(), writes.ids.tolist(), strict=True):
        alike = [p for p in range(10) if domain_of[p] == domain_of[page] and p != page]
        # A page that is zero by now is copied as it was at the start.
        if content in {now[p] for p in alike} | {start[p] for p in alike if now[p] < history.contents.zeros}:
            copied += content >= history.contents.zeros
        elif content >= history.contents.generated:
            assert content not in seen
            fresh += 1
        else:
            assert content == domain_of[page]
        seen.add(content)
        now[page] = content
    assert copied == pytest.approx(0.8 * len(writes), rel=0.02)
    assert fresh == pytest.approx(0.1 * len(writes), rel=0.1)


def test_other_contents_are_nobody_elses():
    history = made(rate=500)
    writes = all_writes(history, until=20)
    assert len(np.unique(writes.ids)) == len(writes)
    assert (writes.ids >= history.contents.generated).all()


def same(one, other):
    return all(np.array_equal(getattr(one, key), getattr(other, key)) for key in ("times", "pages", "ids"))


MIXED = {
    "region": [
        {"rate": 300, "pick": "zipf", "zero": 0.1, "copy": 0.3, "same": 0.2},
        {"rate": 100, "owner": "guest1", "burst": {"every": 1, "length": 0.1}},
    ]
}


@pytest.mark.parametrize("step", [0.013, 0.1, 1, 7.3, 100])
def test_writes_do_not_depend_on_how_they_are_asked_for(step):
    history = made(**MIXED)
    assert same(all_writes(history, 5, until=60), all_writes(history, 5, until=60, step=step))


def test_the_seed_says_all():
    history = made(**MIXED)
    assert same(all_writes(history, 5, until=30), all_writes(history, 5, until=30))
    assert not np.array_equal(all_writes(history, 6, until=30).pages, all_writes(history, 5, until=30).pages)
    again = made(large_base(2, 3000), **MIXED)
    assert np.array_equal(all_writes(history, 5, until=30).pages, all_writes(again, 5, until=30).pages)


def test_replays_share_the_contents_that_are_made():
    history = made(**MIXED)
    all_writes(history, 1, until=60)
    before = len(history.contents)
    all_writes(history, 1, until=60)
    assert len(history.contents) == before
    all_writes(history, 2, until=60)
    assert len(history.contents) < before * 1.05


def test_a_first_step_makes_few_contents():
    history = made(rate=10)
    before = len(history.contents)
    history.writes(1).until(0.1)
    assert len(history.contents) - before < 1000


def test_holes_stay_zero_and_it_is_said():
    image = image_of_buffer(memory([1, 2]), "a")
    ranges = np.zeros(2, RANGE)
    ranges["bytes"] = [1024, 512 * 10]
    ranges["address"] = [0, 1024]
    ranges["offset"] = [0, -1]
    ranges["state"] = [State.DATA, State.ZERO_INFERRED]
    sparse = history_of([(0.0, [("a", [type(image)(image.source, "raw", ranges, image.kind)])])], page_size=512)
    history = made(sparse, rate=100)
    assert set(all_writes(history, until=10).pages.tolist()) == {0, 1}
    assert "stay zero" in history.notes[0]


def test_owners_without_such_pages_are_left_out():
    history = made(base({"a": [1, 2, 3, 4], "b": [1]}), rate=100, first=1024)
    assert Counter(all_writes(history, until=10).pages.tolist()).keys() == {2, 3}
    assert history.notes == ("region[0]: 1 of its owners have no page there",)


def toml(tmp_path, text):
    path = tmp_path / "model.toml"
    path.write_text(text)
    return path


def test_from_a_file(tmp_path):
    path = toml(
        tmp_path,
        """
        duration = 60
        [[region]]
        owner = ["guest0", "guest1"]
        rate = 100
        burst = {every = 5, length = 1}
        phases = [[0, 10], [20, 30.5]]
        [[region]]
        rate = 2
        share = 0.5
        """,
    )
    read = WriteModel.from_toml(path)
    assert read.duration == 60
    assert read.regions[0].burst == model.Burst(5, 1)
    assert read.regions[0].phases == ((0, 10), (20, 30.5))
    assert Churn(LARGE, read).duration == 60


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "region: must be there, at least one: [[region]], not left out"),
        ("region = 3", "region: must be a list of tables: [[region]], not 3"),
        ("region = [3]", "region[0]: must be a table, not 3"),
        ("[region]\nrate = 1", "region: must be a list of tables: [[region]], not {'rate': 1}"),
        ("[[region]]", "region[0].rate: must be there: writes a second, not left out"),
        ("speed = 1\n[[region]]\nrate = 1", "speed: no such key; there are duration, region"),
        ("[[region]]\nrate = 1\nzeros = 1", "region[0].zeros: no such key; there are rate, owner, first, size, share"),
        ("[[region]]\nrate = 0", "region[0].rate: must be a number above 0 up to 1e+07, not 0"),
        ("[[region]]\nrate = nan", "region[0].rate: must be a number above 0 up to 1e+07, not nan"),
        ("[[region]]\nrate = true", "region[0].rate: must be a number above 0 up to 1e+07, not True"),
        ("[[region]]\nrate = 1\n[[region]]\nrate = 'x'", "region[1].rate: must be a number above 0 up to 1e+07, not x"),
        ("[[region]]\nrate = 1\nowner = 3", 'region[0].owner: must be a name, a list of names, or "all", not 3'),
        ("[[region]]\nrate = 1\nowner = []", "region[0].owner: must be one name at least, not []"),
        ("[[region]]\nrate = 1\nowner = 'web'", "region[0].owner: must be one of guest0, guest1, not web"),
        ("[[region]]\nrate = 1\nfirst = -1", "region[0].first: must be a whole number from 0 to"),
        ("[[region]]\nrate = 1\nsize = '1X'", "region[0].size: must be a size in bytes, or with K, M, G or T behind"),
        ("[[region]]\nrate = 1\nfirst = '1G'", "region[0]: the dumps store no page there"),
        ("[[region]]\nrate = 1\nshare = 2", "region[0].share: must be a number above 0 up to 1, not 2"),
        ("[[region]]\nrate = 1\nshare = 1\nsize = 1", "region[0].share: leave it out where first or size says"),
        ("[[region]]\nrate = 1\nat = 0.5", "region[0].at: must be left out without share, not 0.5"),
        ("[[region]]\nrate = 1\nat = 0.5\nshare = 0.6", "region[0].at: must be at most 1 together with share, not 0.5"),
        ("[[region]]\nrate = 1\npick = 'all'", "region[0].pick: must be uniform or zipf, not all"),
        ("[[region]]\nrate = 1\npick = []", "region[0].pick: must be uniform or zipf, not []"),
        ("[[region]]\nrate = 1\nexponent = -1", "region[0].exponent: must be a number from 0 to 10, not -1"),
        ("[[region]]\nrate = 1\nburst = 3", "region[0].burst: must be a table, not 3"),
        ("[[region]]\nrate = 1\nburst = {every = 3}", "region[0].burst.length: must be there: seconds, not left out"),
        ("[[region]]\nrate = 1\nburst = {every = 3, length = 4}", "region[0].burst.length: must be a number above 0"),
        ("[[region]]\nrate = 1\nburst = {only = 1}", "region[0].burst.only: no such key; there are every, length"),
        ("[[region]]\nrate = 1\nphases = 3", "region[0].phases: must be a list of pairs of seconds, [from, until]"),
        ("[[region]]\nrate = 1\nphases = [3]", "region[0].phases[0]: must be a list of pairs of seconds"),
        ("[[region]]\nrate = 1\nphases = [[3, 2]]", "region[0].phases[0][1]: must be a number above 3 up to 1e+12"),
        ("[[region]]\nrate = 1\nphases = [[0, 5], [4, 6]]", "region[0].phases[1][0]: must be a number from 5 to"),
        ("[[region]]\nrate = 1\nzero = 0.6\ncopy = 0.6", "region[0]: zero 0.6 + copy 0.6 = 1.2: must be at most 1"),
        ("[[region]]\nrate = 1\ncontents = 0", "region[0].contents: must be a whole number from 1 to 1048576, not 0"),
        ("duration = 0\n[[region]]\nrate = 1", "duration: must be a number above 0 up to 1e+12, not 0"),
        ("rate = = 1", "not a TOML file:"),
    ],
)
def test_errors_are_one_line(tmp_path, text, problem):
    path = toml(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        churn(LARGE, WriteModel.from_toml(path))
    assert str(caught.value).startswith(f"{path}: {problem}")
    assert "\n" not in str(caught.value)


def test_nothing_to_copy():
    with pytest.raises(SpecError, match=r"region\[0\].copy: domain default does not have two pages that are not zero"):
        made(base({"a": [0, 0, 1]}), rate=1, copy=0.5)


def test_a_series_has_its_own_writes():
    images = [(float(i), [("a", [image_of_buffer(memory([1, i]), "a")])]) for i in (0, 1)]
    with pytest.raises(ValueError, match="a write model needs a base of one snapshot"):
        made(history_of(images, page_size=512), rate=1)
