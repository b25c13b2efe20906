"""The frame table's promises, one by one: outcomes, orders, collisions, domains, counts, memory, errors."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from oracle import census
from pageshare.core import NO_PAGE, Control, FrameTable, Outcome, Stopped
from pageshare.space import PageSpace

O = Outcome  # noqa: E741 - read as a table


def page(number, size=4096):
    return np.full(size, number, np.uint8)


def outcomes(table, *pages):
    return [O(o) for o in table.scan(np.array(pages, np.uint32)).outcomes]


@pytest.fixture
def memory():
    """0 and 1 equal, 2 another, 3 and 4 zero, 5 equal to 2."""
    return np.stack([page(n) for n in (1, 1, 2, 0, 0, 2)])


def test_outcomes_and_partners(memory):
    table = FrameTable(memory)
    first = table.scan()
    assert [O(o) for o in first.outcomes] == [O.HINTED, O.SHARED_NEW, O.HINTED, O.ZERO, O.ZERO, O.SHARED_NEW]
    assert first.partners.tolist() == [NO_PAGE, 0, NO_PAGE, NO_PAGE, 3, 2]
    second = table.scan()
    assert {O(o) for o in second.outcomes} == {O.ALREADY_SHARED}
    assert second.partners.tolist() == [1, 0, 5, 4, 3, 2]
    assert table.stats().visits == 6


def test_a_third_page_joins_and_a_lone_page_stays_a_hint():
    table = FrameTable(np.stack([page(1), page(1), page(1), page(2)]))
    assert outcomes(table, 0, 1, 2, 3, 3) == [O.HINTED, O.SHARED_NEW, O.SHARED, O.HINTED, O.ALREADY_HINTED]


def test_stale_hint_is_found_when_it_is_used(memory):
    table = FrameTable(memory)
    assert outcomes(table, 0, 2) == [O.HINTED, O.HINTED]
    memory[0] = 9  # a hint page may change unnoticed
    result = table.scan(np.array([1], np.uint32))
    assert O(result.outcomes[0]) is O.STALE_HINT
    assert result.partners[0] == 0
    assert outcomes(table, 0) == [O.HINTED]
    table.check()


def test_copy_on_write_break_and_a_frame_of_one(memory):
    table = FrameTable(memory)
    table.scan()
    assert table.write([0]).tolist() == [True]
    memory[0] = 7
    table.check()
    assert table.stats().lone_frames == 1
    assert table.tally().lone == 1
    assert outcomes(table, 0, 1) == [O.HINTED, O.ALREADY_SHARED]
    assert table.write([1]).tolist() == [True]  # at 0 the frame goes
    assert table.write([1, 0]).tolist() == [False, False]
    assert table.stats().cow_breaks == 2
    assert outcomes(table, 1) == [O.HINTED]
    table.check()


def test_the_head_of_a_frame_can_be_written_again_and_again():
    memory = np.stack([page(3)] * 500)
    table = FrameTable(memory, seed=4)
    table.scan()
    for number in np.random.default_rng(1).permutation(499):
        assert table.write([number])[0]
        memory[number] = 9
        if number % 50 == 0:
            table.check()
    assert table.stats().members == 1
    assert outcomes(table, 499) == [O.ALREADY_SHARED]


@pytest.mark.parametrize("hash_bits", [0, 1, 3, 64])
def test_counts_do_not_depend_on_hash_order_or_batches(hash_bits):
    rng = np.random.default_rng(hash_bits)
    memory = np.stack([page(n, 512) for n in rng.integers(0, 40, 300)])
    memory[::3, -1] = rng.integers(0, 3, 100)
    truth = census({"buffer": [row.tobytes() for row in memory]}, page_size=512)
    for seed in range(4):
        table = FrameTable(PageSpace.of(memory, page_size=512), hash_bits=hash_bits, seed=seed)
        order = rng.permutation(300).astype(np.uint32)
        for batch in np.array_split(order, rng.integers(1, 40)):
            table.scan(batch)
        table.check()
        tally = table.tally()
        assert (tally.zero, tally.shared, tally.kept) == (
            truth["pages"]["zero"],
            truth["nonzero"]["shared"],
            truth["nonzero"]["kept"],
        )


def test_batches_are_as_one_after_the_other():
    rng = np.random.default_rng(5)
    memory = np.stack([page(n) for n in rng.integers(0, 60, 400)])
    order = rng.integers(0, 400, 3000).astype(np.uint32)
    whole, singly = FrameTable(memory, seed=1), FrameTable(memory, seed=1)
    result = whole.scan(order)
    for i, number in enumerate(order):
        one = singly.scan(np.array([number], np.uint32))
        assert (one.outcomes[0], one.partners[0]) == (result.outcomes[i], result.partners[i])


def test_false_match_is_counted_and_entered():
    memory = np.stack([page(1), page(2), page(2)])
    table = FrameTable(memory, hash_bits=0)
    result = table.scan()
    assert [O(o) for o in result.outcomes] == [O.HINTED, O.FALSE_MATCH, O.SHARED_NEW]
    assert result.partners.tolist() == [NO_PAGE, 0, 1]
    assert table.stats().false_matches == 1


def test_nothing_is_shared_across_domains_even_if_every_hash_is_equal():
    owners = {"a": page(1), "b": page(1), "c": page(0), "d": page(0)}
    space = PageSpace.of(owners, domains=["x", "y", "x", "y"])
    table = FrameTable(space, hash_bits=0)
    table.scan()
    table.check()
    assert table.tally().shared == 0
    assert table.classes().tolist() == [0, 1, 2, 3]


def test_more_than_65535_references_to_a_frame():
    memory = np.zeros((70_002, 512), np.uint8)
    memory[1:, -1] = 1
    table = FrameTable(PageSpace.of(memory, page_size=512))
    table.scan()
    table.check()
    assert table.tally().shared == 70_001
    assert table.write(np.arange(1, 5001, dtype=np.uint32)).all()
    table.check()
    assert table.tally().shared == 65_001
    zeros = FrameTable(PageSpace.of(np.zeros((70_000, 512), np.uint8), page_size=512))
    zeros.scan()
    zeros.check()
    assert zeros.tally().zero == 70_000


def test_cap_opens_another_frame():
    memory = np.stack([page(1)] * 10 + [page(0)] * 5)
    for zero_ordinary, sizes in ((False, [4, 4, 2, 5]), (True, [4, 4, 2, 4, 1])):
        table = FrameTable(memory, max_refs=4, zero_ordinary=zero_ordinary)
        table.scan()
        table.check()
        stats = table.stats()
        assert stats.members + stats.hints == 15
        assert [int(n) for n in np.unique(table.classes(), return_counts=True)[1]] == sizes


def test_zero_pages_may_be_ordinary():
    memory = np.stack([page(0), page(0), page(1)])
    table = FrameTable(memory, zero_ordinary=True)
    assert outcomes(table, 0, 1, 2, 0) == [O.HINTED, O.SHARED_NEW, O.HINTED, O.ALREADY_SHARED]
    assert table.tally().zero == 2


def test_drop_hints_forgets_hints_only(memory):
    table = FrameTable(memory[:3])
    table.scan()
    table.drop_hints()
    table.check()
    assert table.stats().hints == 0
    assert outcomes(table, 2, 0) == [O.HINTED, O.ALREADY_SHARED]


def test_checksum_lets_a_page_in_at_its_second_unchanged_visit(memory):
    table = FrameTable(memory, checksum=True)
    assert outcomes(table, 0, 1) == [O.VOLATILE, O.VOLATILE]
    memory[0] = 5
    assert outcomes(table, 0, 1, 2) == [O.VOLATILE, O.HINTED, O.VOLATILE]
    memory[0] = 1
    assert outcomes(table, 0, 0) == [O.VOLATILE, O.SHARED_NEW]


def test_only_tags_in_a_range_are_looked_up(memory):
    table = FrameTable(memory, seed=1)
    table.accept(0, (1 << 31) - 1)
    low = table.scan().outcomes
    table.drop_hints()
    table.accept(1 << 31)
    high = table.scan().outcomes
    table.accept()
    assert [min(pair) for pair in zip(low, high, strict=True)] == [
        O.HINTED, O.SHARED_NEW, O.HINTED, O.ZERO, O.ZERO, O.SHARED_NEW,
    ]  # fmt: skip
    for number in (0, 2):  # in one pass only; then it is shared
        assert (low[number], high[number]) in [(O.HINTED, O.ALREADY_SHARED), (O.PASSED_OVER, O.HINTED)]
    assert (table.scan().outcomes == O.ALREADY_SHARED).all()
    with pytest.raises(ValueError, match="ascending"):
        table.accept(2, 1)


def test_memory_is_within_16_bytes_a_page():
    memory = np.empty((1 << 16, 4096), np.uint8)  # never touched
    assert FrameTable(memory).stats().bytes <= 16 * len(memory)


def test_chains_are_short_for_distinct_pages():
    memory = np.random.default_rng(0).integers(0, 256, (20_000, 256), dtype=np.uint8)
    table = FrameTable(PageSpace.of(memory, page_size=256))
    table.scan()
    chains = table.chains()
    assert chains.entries == 20_000
    assert sum(i * n for i, n in enumerate(chains.lengths)) == 20_000
    # Poisson with mean 8/7: a chain of 12 has a probability below 1e-8.
    assert chains.longest <= 12


def test_classes_name_the_page_that_stands_for_each(memory):
    table = FrameTable(memory)
    table.scan(np.array([0, 1, 2, 5], np.uint32))
    assert table.classes().tolist() == [0, 0, 2, NO_PAGE, NO_PAGE, 2]


def test_stop_ends_a_scan(memory):
    control = Control()
    control.stop()
    with pytest.raises(Stopped):
        FrameTable(memory).scan(control=control)


def test_progress_is_counted(memory):
    control = Control()
    FrameTable(memory).scan(control=control)
    assert control.done == 6


def test_bad_arguments_are_refused(memory):
    table = FrameTable(memory)
    for bad in ([6], [2**32 - 1]):
        with pytest.raises(IndexError, match="the space has 6"):
            table.scan(np.array(bad, np.uint32))
        with pytest.raises(IndexError, match="the space has 6"):
            table.write(np.array(bad, np.uint32))
    for bad in ([2**32 + 1], [-1], [-(2**32) + 2], -1, 2**32):
        with pytest.raises(IndexError, match="the space has 6"):
            table.scan(bad)
        with pytest.raises(IndexError, match="the space has 6"):
            table.write(bad)
    for bad in ([1.7], ["1"], [True], [2**70]):
        with pytest.raises(TypeError, match="must be integers"):
            table.scan(bad)
    assert table.stats().visits == 0
    with pytest.raises(IndexError):
        table.scan(first=3, count=4)
    with pytest.raises(IndexError):
        table.classes(0, 7)
    for options in ({"max_refs": 1}, {"hash_bits": 65}, {"seed": -1}, {"seed": 2**64}, {"kernel": "mmx"}):
        with pytest.raises(ValueError, match=next(iter(options)).replace("kernel", "no hash kernel")):
            FrameTable(memory, **options)


def test_threads_may_share_a_table():
    memory = np.zeros((4096, 256), np.uint8)
    memory[:, 0] = np.arange(4096) % 200
    table = FrameTable(PageSpace.of(memory, page_size=256))

    def work(seed):
        random = np.random.default_rng(seed)
        for _ in range(30):
            table.scan(random.integers(0, 4096, 2000))
            table.write(random.integers(0, 4096, 500))
            table.tally()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    table.check()


def test_an_empty_space_is_no_error():
    table = FrameTable(PageSpace([]))
    assert table.scan([]).outcomes.size == 0
    assert table.scan().outcomes.size == 0
    assert table.tally().owners == ()
    table.check()


def test_full_frames_are_in_nobodys_way():
    table = FrameTable(PageSpace.of(np.full((1000, 256), 7, np.uint8), page_size=256), max_refs=2)
    table.scan()
    assert (table.stats().frames, table.chains().longest) == (500, 0)
    table.check()
    table.write([3])  # its frame has room again
    assert (table.stats().lone_frames, table.chains().longest) == (1, 1)
    assert outcomes(table, 3) == [O.SHARED]
    assert (table.stats().frames, table.chains().longest) == (500, 0)
    table.write(range(1000))
    assert table.stats().frames == 0
    table.check()
