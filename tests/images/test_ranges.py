"""Ranges as whole pages, against a model that knows every single byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageshare.images import ranges
from pageshare.images.ranges import (
    RANGE,
    Kind,
    State,
    blocks,
    first_wins,
    merge,
    paginate,
    split_device,
    total_bytes,
)

SIZE = 16
"""Bytes to a page, so that a byte for byte model is quick."""


def ranges_of(rows):
    """RANGE array of (address, bytes, state, kind) in two files; data lies one behind the other, 5 bytes apart."""
    table, offset = np.zeros(len(rows), RANGE), 3
    for i, (address, length, state, kind) in enumerate(rows):
        table[i] = (address, length, offset if state == State.DATA else -1, i % 2, state, kind)
        offset += length + 5
    return table


rows = st.lists(
    st.tuples(
        st.integers(0, 120),
        st.integers(0, 60),
        st.sampled_from(list(State)),
        st.just(Kind.RAM),
    ),
    max_size=8,
)


def model(table):
    """What each byte is: address -> (file, offset or None, state); known beats unknown, else the first wins."""
    held = {}
    for want_known in (True, False):
        for address, length, offset, file, state, _ in table.tolist():
            if (state <= State.ZERO_INFERRED) == want_known:
                for i in range(length):
                    held.setdefault(address + i, (file, offset + i if offset >= 0 else None, state))
    return held


@settings(max_examples=1500, deadline=None)
@given(rows)
def test_each_byte_counts_once(drawn):
    table = ranges_of(drawn)
    ranges, _ = first_wins(table)
    held = {}
    for address, length, offset, file, state, _ in ranges.tolist():
        for i in range(length):
            assert address + i not in held
            held[address + i] = (file, offset + i if offset >= 0 else None, state)
    assert held == model(table)
    assert ranges["address"].tolist() == sorted(ranges["address"].tolist())


@settings(max_examples=1500, deadline=None)
@given(rows, st.sampled_from([1, 2, 1000]))
def test_pages_are_what_their_bytes_are(drawn, block):
    table = ranges_of(drawn)
    held = model(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BLOCK", block)
        parts = [paginate(part, SIZE) for part in blocks(first_wins(table)[0], SIZE)]
    pages = {}
    for pfn, count, offset, file, state, _ in (row for part in parts for row in part.extents.tolist()):
        for i in range(count):
            assert pfn + i not in pages
            pages[pfn + i] = [
                (file, offset + i * SIZE + k if state == State.DATA else None, state) for k in range(SIZE)
            ]
    for stitch in (stitch for part in parts for stitch in part.stitches):
        assert stitch.pfn not in pages
        pages[stitch.pfn] = [
            (file, offset + k if offset >= 0 else None, state)
            for file, offset, length, state in stitch.pieces
            for k in range(length)
        ]
    partial = 0
    for pfn in {address // SIZE for address in held}:
        there = [held[at] for at in range(pfn * SIZE, (pfn + 1) * SIZE) if at in held]
        states = {state for _, _, state in there}
        if len(there) < SIZE:
            assert pfn not in pages
            partial += 1
        elif states & {State.LOST, State.EXCLUDED}:
            worst = State.LOST if State.LOST in states else State.EXCLUDED
            assert {state for _, _, state in pages[pfn]} == {worst}
        elif State.DATA in states:
            # Zeros have no place: which file names them does not matter.
            assert [b if b[2] == State.DATA else b[2] <= 2 for b in pages[pfn]] == [
                b if b[2] == State.DATA else b[2] <= 2 for b in there
            ]
        else:
            assert {state for _, _, state in pages[pfn]} <= {State.ZERO, State.ZERO_INFERRED}
    assert partial == sum(part.partial_pages for part in parts)
    assert len(pages) + partial == len({address // SIZE for address in held})


def test_the_overlap_is_counted_but_not_that_of_the_same_bytes():
    table = np.zeros(3, RANGE)
    table[0] = (0, 100, 1000, 0, State.DATA, Kind.RAM)
    table[1] = (50, 100, 1050, 0, State.DATA, Kind.RAM)  # the same bytes, once more
    table[2] = (140, 100, 5000, 0, State.DATA, Kind.RAM)  # 10 others
    assert first_wins(table)[1] == 10


def test_the_end_of_the_address_space():
    table = np.zeros(1, RANGE)
    table[0] = (2**64 - 4096, 4096, 0, 0, State.DATA, Kind.RAM)
    ranges, _ = first_wins(table)
    paged = paginate(ranges, 4096)
    assert paged.extents["pfn"].tolist() == [2**52 - 1]
    table["bytes"] = 4097
    with pytest.raises(ValueError, match="passes the end"):
        first_wins(table)


def test_many_ranges_take_no_time():
    count = 200_000
    table = np.zeros(count, RANGE)
    table["address"] = np.random.default_rng(0).permutation(count).astype(np.uint64) * 4096
    table["bytes"] = 5000  # each reaches into the next
    table["offset"] = np.arange(count) * 5000
    ranges, overlapped = first_wins(table)
    assert overlapped == 904 * (count - 1)
    assert total_bytes(ranges) == count * 4096 + 904
    assert paginate(ranges, 4096).extents["pages"].sum() + len(paginate(ranges, 4096).stitches) == count


def test_files_are_numbered_in_order():
    one, two = ranges_of([(0, 16, 0, 0)]), ranges_of([(16, 16, 0, 0), (32, 16, 0, 0)])
    assert two["file"].tolist() == [0, 1]
    assert merge([one, two, one], [3, 2, 1])["file"].tolist() == [0, 3, 4, 5]
    assert merge([], []).size == 0


def test_device_memory_is_split_off_in_place():
    table = np.zeros(1, RANGE)
    table[0] = (0xDFFF_F000, 0x2000_3000, 4096, 0, State.DATA, Kind.RAM)
    split = split_device(table)
    assert split["kind"].tolist() == [Kind.RAM, Kind.DEVICE, Kind.RAM]
    assert split["address"].tolist() == [0xDFFF_F000, 0xE000_0000, 0x1_0000_0000]
    assert split["bytes"].tolist() == [0x1000, 0x2000_0000, 0x2000]
    assert split["offset"].tolist() == [4096, 8192, 8192 + 0x2000_0000]
