"""Policies beside a random permutation: on no kind of memory does the default cost much more; on shuffled memory none
gains by places."""

import numpy as np
import pytest

from pageshare.images import image_of_buffer
from pageshare.replay.course import SHARES, Run, Settings
from pageshare.replay.history import history_of
from policy_runs import COSTS, history, like_guests

PAGE, LINES, OWNERS, PAGES = 512, 8, 3, 512
ALL = OWNERS * PAGES
UNIQUE = 10_000_000 + np.arange(ALL)
OBJECTIVES = ("all", "nonzero")
MOST = 1.1
"""What the default may cost where a random permutation costs 1."""


def lines_of(contents, *, first=None, middle=None):
    """Pages by owner, line by line: a number for each page's lines, 0 for zeros; the first and the middle line hold
    other numbers where these are given."""
    lines = np.repeat(np.reshape(contents, -1).astype(np.int64)[:, None], LINES, axis=1)
    if first is not None:
        lines[:, 0] = first
    if middle is not None:
        lines[:, LINES // 2] = middle
    return lines.reshape(OWNERS, PAGES, LINES)


def places(share, generator):
    return generator.permutation(ALL)[: round(ALL * share) // 2 * 2]


def some(share, numbers, generator):
    """Contents, a share of which are any of these numbers, while all others are alone."""
    contents, where = UNIQUE.copy(), places(share, generator)
    contents[where] = generator.choice(numbers, len(where))
    return contents


def pairs(share, generator):
    """Contents, a share of which are held twice, while all others are alone."""
    contents, where = UNIQUE.copy(), places(share, generator)
    contents[where[::2]] = contents[where[1::2]]
    return contents


def runs(length, share, generator):
    """Contents, a share of which are one run, copied to many places."""
    contents = UNIQUE.copy().reshape(-1, length)
    chosen = generator.permutation(len(contents))[: round(share * len(contents))]
    contents[chosen] = 1 + np.arange(length)
    return contents


def in_owners(change):
    """Contents or lines of all owners, to which ``change`` was done."""
    contents = lines_of(UNIQUE)
    change(contents)
    return contents


def like_guests_of(generator):
    guests = np.maximum(like_guests(guests=OWNERS, pages=PAGES), 0)
    return guests if generator is None else [generator.permutation(guest) for guest in guests]


def first_lines_in_runs(lines):
    """Owners begin alike, page by page; of what follows an eighth is equal."""
    lines[:, :, 0] = lines[0, :, 0]
    lines[1, ::4] = lines[0, ::4]


def two_lines_in_runs(lines):
    first_lines_in_runs(lines)
    lines[:, :, LINES // 2] = lines[0, :, 0]


def posts(lines):
    """Pages 32 apart are equal in all owners, and the next three begin alike; a fifth of all others are pairs."""
    lines[:, ::32] = lines[0, ::32]
    for after in (1, 2, 3):
        lines[:, after::32, 0] = lines[0, after::32, 0]
    for page in range(4, PAGES, 5):
        if page % 32 > 3:
            lines[1, page] = lines[2, (7 * page + 3) % PAGES]


def turned_round(lines, zeros):
    """The first half begins with zeros and is alone, the second half is the same, in reverse order, in two owners."""
    lines[:, : PAGES // 2, zeros] = 0
    lines[1, PAGES // 2 :] = lines[0, PAGES // 2 :][::-1]


def half_pairs(generator):
    return pairs(0.5, generator)


def kinds(contents, count=16):
    """Few numbers, the same for equal contents."""
    return 1 + contents * 2654435761 % count


def zero_lines(contents, every):
    """Zero in one of so many contents."""
    return np.where(contents % every == 0, 0, contents)


def fifth_zero(generator):
    contents = half_pairs(generator)
    contents[places(0.2, generator)] = 0
    return contents


def of_half_pairs(first, middle=None, contents=half_pairs):
    """What makes a memory half of which are pairs, of which ``first`` and ``middle`` say what lines hold."""

    def make(generator):
        numbers = contents(generator)
        return lines_of(
            numbers,
            first=first(numbers) if callable(first) else first,
            middle=middle(numbers) if callable(middle) else middle,
        )

    return make


ZIPF = 1 + (np.arange(1, 3000) ** -1.0 * 1000).astype(int)

MEMORIES = {
    "runs": lambda _: lines_of(like_guests_of(None)),
    "runs, shuffled within owners": lambda g: lines_of(like_guests_of(g)),
    "runs, shuffled": lambda g: lines_of(g.permutation(np.concatenate(like_guests_of(None)))),
    "all zero": lambda _: lines_of(np.zeros(ALL)),
    "all equal": lambda _: lines_of(np.ones(ALL)),
    "first half zero": lambda _: lines_of(np.where(np.arange(ALL) < ALL // 2, 0, UNIQUE)),
    "every other page zero": lambda _: lines_of(np.where(np.arange(ALL) % 2, 0, UNIQUE)),
    **{f"zeros, {s:.0%}": lambda g, s=s: lines_of(some(s, [0], g)) for s in (0.02, 0.2, 0.5)},
    **{f"pairs, {s:.0%}": lambda g, s=s: lines_of(pairs(s, g)) for s in (0.02, 0.1, 0.5, 1.0)},
    **{f"20 contents, {s:.0%}": lambda g, s=s: lines_of(some(s, 1 + np.arange(20), g)) for s in (0.02, 0.2, 0.5)},
    "few contents often, many rarely": lambda g: lines_of(some(0.5, ZIPF, g)),
    "runs of 64": lambda g: lines_of(runs(64, 0.33, g)),
    "runs of 8": lambda g: lines_of(runs(8, 0.33, g)),
    "runs of 3": lambda g: lines_of(runs(3, 0.33, g)),
    "two owners equal": lambda _: in_owners(lambda lines: np.copyto(lines[1], lines[0])),
    "two owners equal, one shuffled": lambda g: in_owners(lambda lines: np.copyto(lines[1], g.permutation(lines[0]))),
    "every other page of owners equal": lambda _: in_owners(lambda lines: np.copyto(lines[:, ::2], lines[0, ::2])),
    "runs of first lines": lambda _: in_owners(first_lines_in_runs),
    "runs of two lines": lambda _: in_owners(two_lines_in_runs),
    "posts of a run that is none": lambda _: in_owners(posts),
    "zeros first, and a run turned round": lambda _: in_owners(lambda lines: turned_round(lines, [0])),
    "zeros in two lines, and a run turned round": lambda _: in_owners(lambda lines: turned_round(lines, [0, 4])),
    "all begin with zeros": of_half_pairs(0),
    "all begin alike": of_half_pairs(5),
    "all alike in two lines": of_half_pairs(5, 5),
    "16 beginnings": of_half_pairs(kinds),
    "16 kinds of two lines": of_half_pairs(kinds, kinds),
    "zeros in two lines": of_half_pairs(0, 0),
    "half begin with zeros": of_half_pairs(lambda c: zero_lines(c, 2)),
    "half have zeros in two lines": of_half_pairs(lambda c: zero_lines(c, 2), lambda c: zero_lines(c, 2)),
    "a fifth zero, a third begin so": of_half_pairs(lambda c: zero_lines(c, 3), contents=fifth_zero),
    "a fifth zero, a third in two lines": of_half_pairs(
        lambda c: zero_lines(c, 3), lambda c: zero_lines(c, 3), contents=fifth_zero
    ),
}


def history_of_lines(owners):
    """The history of one moment, of owners' pages that are given line by line."""
    images = []
    for number, lines in enumerate(owners):
        data = np.repeat(lines, PAGE // LINES // 8, axis=1).view(np.uint8).reshape(-1, PAGE)
        images.append((f"owner {number}", [image_of_buffer(data, f"{number}")]))
    return history_of([(0.0, images)], page_size=PAGE, seed=3)


def costs_of(memory, name, objective, seeds, shares=SHARES):
    """Visits, and peeks by their price, until shares of what is possible are saved: means over seeds."""
    costs = []
    for seed in seeds:
        settings = Settings(policy=name, objective=objective, seed=seed, by_bytes=False)
        course = Run(memory, settings, COSTS).go()
        reached = course.reached if objective == "all" else course.reached_nonzero
        costs.append([reached[share].cost for share in shares])
    return np.mean(costs, axis=0)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", MEMORIES)
def test_the_default_costs_little_more_than_a_random_order_at_worst(name, objective):
    memory = history_of_lines(MEMORIES[name](np.random.default_rng(7)))
    possible = Run(memory, Settings(by_bytes=False), COSTS).memory.possible
    if objective == "nonzero" and not possible.nonzero:
        return  # nothing to be found: what a whole pass costs is another test
    random = costs_of(memory, "random-permutation", objective, range(8))
    ours = costs_of(memory, "peek-runs", objective, range(4))
    assert (ours / random).max() <= MOST


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("contents", [UNIQUE, np.zeros(ALL), pairs(0.02, np.random.default_rng(1))])
def test_a_whole_pass_costs_little_more_than_its_visits(contents, objective):
    settings = Settings(
        policy="peek-runs", objective=objective, by_bytes=False, visits=ALL, stop_when_found=False
    )
    course = Run(history_of_lines(lines_of(contents)), settings, COSTS).go()
    assert course.last.visits == ALL
    assert course.last.cost <= MOST * ALL


# ---- shuffled pages ----

# What goes by places: neighbours, regions, the same address in other owners.
PLACES = [
    "sequential-interleaved",
    "stratified",
    "same-frame",
    "region-ladder",
    "region-bandit",
    "run-following",
    "region-runs",
]


@pytest.fixture(scope="module")
def shuffled():
    """Memory like guests', the pages of each owner in random order; and what a random permutation costs on it."""
    generator = np.random.default_rng(1)
    memory = history([generator.permutation(each) for each in like_guests(pages=2048)])
    return memory, {objective: costs_of(memory, "random-permutation", objective, range(8)) for objective in OBJECTIVES}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", PLACES)
def test_on_shuffled_memory_places_are_as_good_as_a_random_order(shuffled, name, objective):
    memory, random = shuffled
    assert np.abs(costs_of(memory, name, objective, range(4)) / random[objective] - 1).max() < 0.04


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_on_shuffled_memory_contents_are_better_than_a_random_order(shuffled, objective):
    memory, random = shuffled
    assert (costs_of(memory, "peek-runs", objective, range(2)) < 0.8 * random[objective]).all()
