"""A series of dumps: what its history says, held against dicts of page bytes."""

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import PAGE
from pageshare import synth
from pageshare.core import PageReader, hash_pages
from pageshare.images import image_of_buffer, open_image
from pageshare.images.ranges import RANGE, State
from pageshare.replay.history import history_of
from pageshare.replay.memory import Memory
from small_memories import all_writes, memory, page

SIZE = 512
FRAMES = 8
KNOWN = (State.DATA, State.ZERO, State.ZERO_INFERRED)

# A frame of a dump: absent, or a state and what it holds.
frame = st.one_of(
    st.none(),
    st.tuples(st.just(State.DATA), st.integers(0, 4)),
    st.tuples(st.just(State.DATA), st.integers(0, 4)),
    st.tuples(st.sampled_from([State.ZERO, State.ZERO_INFERRED, State.EXCLUDED, State.LOST]), st.just(0)),
)
dump = st.lists(frame, min_size=FRAMES, max_size=FRAMES)


def image(frames, name):
    """As a reader would give it, one range a frame, out of order."""
    stored = [number for number, each in enumerate(frames) if each and each[0] == State.DATA]
    data = memory([frames[number][1] for number in stored] or [0], SIZE)
    ranges = np.zeros(sum(each is not None for each in frames), RANGE)
    at = 0
    for number, each in enumerate(frames):
        if each is not None:
            offset = stored.index(number) * SIZE if each[0] == State.DATA else -1
            ranges[at] = (number * SIZE, SIZE, offset, 0, each[0], 0)
            at += 1
    return replace(image_of_buffer(data, name), ranges=ranges[::-1].copy())


def bytes_of(each):
    return bytes(page(each[1], SIZE)) if each[0] == State.DATA else bytes(SIZE)


@settings(max_examples=250, deadline=None)
@given(
    series=st.lists(st.lists(dump, min_size=2, max_size=2), min_size=1, max_size=3),
    domains=st.sampled_from([["one", "one"], ["one", "other"]]),
    seed=st.integers(0, 3),
)
def test_a_series_against_dicts(series, domains, seed):
    snapshots = [
        (10.0 * i + 5, [(f"owner{o}", [image(frames, f"owner{o}")]) for o, frames in enumerate(owners)])
        for i, owners in enumerate(series)
    ]
    history = history_of(snapshots, page_size=SIZE, domains=domains, seed=seed)
    # What is known of each page at each time; a page that a dump does not have stays as it was.
    now = {}
    for owner, frames in enumerate(series[0]):
        for number, each in enumerate(frames):
            if each and each[0] in KNOWN:
                now[owner, number] = bytes_of(each)
    times = [dict(now)]
    for owners in series[1:]:
        for owner, number in now:
            each = owners[owner][number]
            if each and each[0] in KNOWN:
                now[owner, number] = bytes_of(each)
        times.append(dict(now))
    stored = {
        (owner, number)
        for owner, number in now
        if series[0][owner][number][0] == State.DATA or any(any(each[owner, number]) for each in times)
    }
    owners, frames = history.space.locate(np.arange(history.space.readable, dtype=np.uint32))
    pages = list(zip(owners.tolist(), frames.tolist(), strict=True))
    assert set(pages) == stored
    assert pages == sorted(pages)

    def same(ids, held):
        """Ids are equal where domain and bytes are, and those of zero pages are their domains."""
        expected = [(domains.index(domains[owner]), held[owner, number]) for owner, number in pages]
        for content, (domain, data) in zip(ids.tolist(), expected, strict=True):
            assert known.setdefault(content, (domain, data)) == (domain, data)
            assert ids_of.setdefault((domain, data), content) == content
            assert (content == domain) == (not any(data))

    known, ids_of = {}, {}
    same(history.ids, times[0])
    assert history.duration == (10.0 * (len(series) - 1) if len(series) > 1 else None)
    by_bytes, by_hash = (Memory(history, seed=seed, by_bytes=each) for each in (True, False))
    reader = PageReader(by_bytes.space, seed=seed)
    numbers = np.arange(len(pages), dtype=np.uint32)
    source = history.writes(seed)
    for i, held in enumerate(times):
        writes = source.until(10.0 * i)
        assert ((writes.times > 10.0 * (i - 1)) & (writes.times <= 10.0 * i)).all()
        changed = {p for p in stored if i and times[i - 1][p] != held[p]}
        assert Counter(pages[number] for number in writes.pages.tolist()) == Counter(changed)
        for each in (by_bytes, by_hash):
            each.advance(10.0 * i)
            same(each.ids, held)
        # Byte for byte, by a hash of all of them.
        expected = np.array([np.frombuffer(held[p], np.uint8) for p in pages]).reshape(-1, SIZE)
        assert (reader.hash(numbers) == hash_pages(expected, SIZE, seed=seed)).all() if pages else True
        assert (by_hash._fingerprints == hash_pages(expected, SIZE, seed=seed)).all() if pages else True


def test_pages_that_later_dumps_have_or_lack_are_told():
    first = [(State.DATA, 1), (State.DATA, 2), (State.DATA, 3), None]
    later = [(State.DATA, 1), (State.EXCLUDED, 0), None, (State.DATA, 9)]
    history = history_of([(0.0, [("a", [image(first, "a")])]), (1.0, [("a", [image(later, "a")])])], page_size=SIZE)
    assert history.notes == (
        "2 pages are missing from later snapshots; they are taken to stay as they were",
        "1 pages of later snapshots are missing from the first one; they are left out",
    )
    assert len(all_writes(history)) == 0


def test_a_page_that_was_cut_off_is_told():
    whole, cut = (image_of_buffer(bytes(size), "a") for size in (2 * SIZE, 2 * SIZE - 1))
    assert history_of([(0.0, [("a@b", [whole])])], page_size=SIZE).notes == ()
    one = history_of([(0.0, [("a@b", [cut])])], page_size=SIZE)
    assert one.notes == ("1 incomplete page at a range's end, in a@b: left out",)
    later = history_of([(0.0, [("a", [cut])]), (5.0, [("a", [cut])])], page_size=SIZE)
    assert later.notes == ("2 incomplete pages at a range's end, in a@0s, a@5s: left out",)
    many = history_of([(0.0, [(f"owner{i}", [cut]) for i in range(12)])], page_size=SIZE)
    assert many.notes[0].startswith("12 incomplete pages at a range's end, in owner0, owner1, ")
    assert many.notes[0].endswith(", owner9 and 2 more: left out")


def raw(path, contents):
    """A sparse file: 0 is a hole."""
    with path.open("wb") as file:
        for content in contents:
            if content:
                file.write(page(content, PAGE).data)
            else:
                file.seek(PAGE, os.SEEK_CUR)
        file.truncate(len(contents) * PAGE)
    return path


def copied(path):
    """Bytes of private copies of a file's pages in this process."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = line.endswith(str(path))
        elif ours and line.startswith("Anonymous:"):
            total += int(line.split()[1]) * 1024
    return total


def test_ten_dumps_by_bytes_take_what_changes(tmp_path):
    generator = np.random.default_rng(1)
    contents = generator.integers(1, 1000, 4096)
    series, written = [], set()
    for i in range(10):
        path = raw(tmp_path / f"{i}.raw", contents.tolist())
        series.append((float(i), [("guest", [open_image(path)])]))
        if i < 9:
            chosen = generator.choice(4096, 20, replace=False)
            contents[chosen] = generator.integers(1, 1000, 20)
            written |= set(chosen.tolist())
    history = history_of(series)
    memory = Memory(history, seed=1, by_bytes=True)
    assert copied(tmp_path / "0.raw") == 0
    for i in range(10):
        memory.advance(float(i))
    expected = hash_pages(np.stack([page(each, PAGE) for each in contents]), PAGE)
    assert (PageReader(memory.space).hash(np.arange(4096)) == expected).all()
    assert 0 < copied(tmp_path / "0.raw") <= len(written) * PAGE


def present(space):
    """How many pages of a space's buffers are there, by /proc/self/pagemap."""
    count = 0
    with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
        for source in space.sources:
            if source.file is None:
                memory = np.frombuffer(source.memory, np.uint8)
                file.seek(memory.ctypes.data // PAGE * 8)
                entries = np.frombuffer(file.read(len(memory) // PAGE * 8), np.uint64)
                count += np.count_nonzero(entries >> np.uint64(63))
    return count


def test_holes_that_are_written_take_memory_only_then(tmp_path):
    later = np.zeros(4096, int)
    later[::2] = 3
    series = [
        (0.0, [("guest", [open_image(raw(tmp_path / "0.raw", [1, *[0] * 4095]))])]),
        (100.0, [("guest", [open_image(raw(tmp_path / "1.raw", later.tolist()))])]),
    ]
    history = history_of(series)
    assert history.space.readable == 2048
    memory = Memory(history, seed=1, by_bytes=True)
    assert present(memory.space) == 0
    memory.advance(100.0)
    assert present(memory.space) == 2047
    assert (PageReader(memory.space).peek(np.arange(2048)) != 0).all()


def test_pages_are_added_to_one_snapshot_only():
    images = [(float(i), [("a", [image([(State.DATA, i)], "a")])]) for i in (0, 1)]
    with pytest.raises(ValueError, match="one snapshot"):
        history_of(images, page_size=SIZE).with_pages([np.zeros(1, np.uint64)])


@pytest.mark.parametrize(
    ("series", "problem"),
    [
        ([(1.0, ["a"]), (1.0, ["a"])], "in order of time"),
        ([(1.0, ["a"]), (2.0, ["a", "b"])], "the same owners"),
    ],
)
def test_series_that_are_none(series, problem):
    snapshots = [(time, [(name, [image([(State.DATA, 1)], name)]) for name in names]) for time, names in series]
    with pytest.raises(ValueError, match=problem):
        history_of(snapshots, page_size=SIZE)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_contents_that_are_made_up_are_in_no_made_image(seed, tmp_path):
    # Made with the same seed, and with as many numbers as are asked for.
    spec = synth.Spec(images=1, size=1 << 20, seed=seed, zero=0.0, duplicate=1.0, popularity=synth.Zipf(contents=10))
    synth.make(spec, tmp_path)
    history = history_of([(0.0, [("guest", [open_image(tmp_path / "guest1.raw")])])], seed=seed)
    contents = history.contents
    made = contents.new(np.arange(1, 2001))
    assert not np.isin(contents.fingerprints(made), contents.fingerprints(history.ids)).any()
    assert not np.isin(contents.line_keys(made, 0), contents.line_keys(history.ids, 0)).any()
