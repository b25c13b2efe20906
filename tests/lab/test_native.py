"""What C does for guests, beside the same in Python, page by page."""

from __future__ import annotations

import numpy as np
import pytest

from lab.scripted import Script
from pageshare._core import lib
from pageshare.core._lab import InFrames, store_pages
from pageshare.lab import memory as lab
from pageshare.lab import trace
from pageshare.lab.guest import Guest
from pageshare.lab.host import Host
from pageshare.lab.invariants import check
from pageshare.lab.memory import NEVER, NOBODY, READ, RELEASED, WRITTEN, ZERO, Memory
from pageshare.lab.programs import Touch


def obvious(pages, calls):
    """Each page as a dict, after calls of (now, pages, kinds, work, thread)."""
    all_of = [
        {
            "touched": NEVER,
            "worked": NEVER,
            "written": NEVER,
            "zero": True,
            "free": True,
            "thread": NOBODY,
            "wrote": False,
        }
        for _ in range(pages)
    ]
    for now, numbers, kinds, work, thread in calls:
        for i, number in enumerate(numbers.tolist()):
            of = all_of[number]
            kind, by = int(np.broadcast_to(kinds, numbers.shape)[i]), int(np.broadcast_to(thread, numbers.shape)[i])
            if not kind & (READ | WRITTEN):
                continue
            if of["touched"] < now:
                of |= {"touched": now, "thread": by, "wrote": bool(kind & WRITTEN)}
            of["free"] = False
            if np.broadcast_to(work, numbers.shape)[i]:
                of["worked"] = now
            if kind & WRITTEN:
                of |= {"written": now, "zero": bool(kind & ZERO)}
    return all_of


@pytest.mark.parametrize("seed", range(8))
def test_touches_are_those_of_pages_one_by_one(seed):
    rng = np.random.default_rng(seed)
    memory, calls = Memory(50), []
    for _ in range(40):
        memory.now += int(rng.integers(0, 3))
        count = int(rng.integers(0, 30))
        pages = rng.integers(0, 50, count).astype(rng.choice([np.uint32, np.int64]))

        def one_or_many(values, of, count=count):
            return rng.choice(values, count).astype(of) if rng.random() < 0.5 else of(rng.choice(values)).item()

        calls.append(
            (
                memory.now,
                pages,
                one_or_many([READ, WRITTEN, WRITTEN | ZERO, RELEASED, READ | RELEASED], np.uint8),
                one_or_many([True, False], np.bool_),
                one_or_many([0, 1, 700], np.uint16),
            )
        )
        memory.touch(*calls[-1][1:])
    expected = obvious(50, calls)
    for name in expected[0]:
        assert getattr(memory, name).tolist() == [of[name] for of in expected], name


def test_what_is_out_of_range_is_refused_and_harms_nothing():
    memory = Memory(4)
    memory.now = 1
    with pytest.raises(IndexError, match="page 4 is touched, of 4"):
        memory.touch(np.array([0, 4], np.uint32))
    with pytest.raises(ValueError, match="3 values for 2 pages"):
        memory.touch(np.array([0, 1], np.uint32), np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="1 values for 2 pages"):
        memory.touch(np.array([0, 1], np.uint32), READ, np.zeros(1, np.bool_))


def test_a_program_without_such_a_page_is_left_to_numpy_which_says_so():
    memory = Memory(4)
    frames = InFrames(
        memory.native,
        resident=1,
        shared=2,
        at=np.arange(4, dtype=np.int32),
        held=np.zeros(4, np.uint64),
        place=np.ones(4, np.uint8),
        frame=np.arange(4, dtype=np.int32),
        content=np.zeros(4, np.uint64),
    )
    memory.now = 1
    given = {"contents": None, "fresh": 1}
    assert not frames.use(1, np.array([3, 1], np.uint32), READ, True, 0, offset=1, **given)
    assert (memory.touched == NEVER).all()
    assert frames.use(1, np.array([2, 1], np.uint32), READ, True, 0, offset=1, **given)
    assert (memory.touched == 1).tolist() == [False, False, True, True]


def test_kinds_are_the_same_everywhere():
    in_c = (lib.PS_TOUCH_READ, lib.PS_TOUCH_WRITTEN, lib.PS_TOUCH_ZERO, lib.PS_TOUCH_RELEASED)
    assert in_c == (lab.READ, lab.WRITTEN, lab.ZERO, lab.RELEASED)
    assert in_c == (trace.READ, trace.WRITTEN, trace.ZERO, trace.RELEASED)


@pytest.mark.parametrize("of", [np.uint8, np.int32, np.float64, np.uint64])
def test_contents_of_any_type_are_numbers_of_eight_bytes(of):
    host = Host(100)
    guest = Guest(host, 40, [Script(40)])
    pages = np.arange(20, dtype=np.uint32)
    for _ in range(2):
        # The first time they are brought in, the second time they are there.
        guest.touch(Touch(pages, WRITTEN, contents=np.full(40, 7, of)[::2]))
        assert (host.frames.content[guest.pmap.frame[guest.at[:20]]] == 7).all()
        assert (guest.held[:20] == 7).all()
        check(host)


def test_arrays_of_another_length_are_refused():
    frame, content = np.zeros(4, np.int32), np.zeros(4, np.uint64)
    pages, write = np.zeros(3, np.uint32), np.ones(3, np.bool_)
    for written, contents in ((write, np.zeros(2, np.uint64)), (write[:1], np.zeros(3, np.uint64))):
        with pytest.raises(ValueError, match="values for 3 pages"):
            store_pages(frame, content, pages, written, contents, stand_in=None)
