"""Threads that share the work of C calls."""

import gc
import weakref

import numpy as np
import pytest

from pageshare._core import lib
from pageshare.core import Contents, Control, Stopped, again
from pageshare.core._contents import CONTENT, pointer
from pageshare.core._team import PARTS, Team


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 63, 1000])
def test_parts_are_all_there_is(threads, count):
    seen = np.zeros(count, int)

    def call(low, end):
        seen[low:end] += 1
        return 0

    with Team(threads) as team:
        team.part(count, call)
        assert team.size == threads
    assert (seen == 1).all()


def test_the_first_failure_is_raised_and_what_waits_is_left_out():
    called = []

    def call(low, _end):
        called.append(low)
        return lib.PS_NO_MEMORY if low == 0 else lib.PS_OK

    with pytest.raises(MemoryError), Team(1) as team:
        team.part(1000, call)
    assert called[0] == 0
    assert len(called) <= PARTS


@pytest.mark.parametrize(("kind", "dtype"), [("uint32_t", "u4"), ("ps_content", CONTENT), ("uint64_t", "u8")])
def test_a_pointer_keeps_its_array(kind, dtype):
    """Threads may still look there when whoever made it has been interrupted, and is gone."""
    array = np.zeros(3, dtype)
    there, kept = weakref.ref(array), pointer(kind, array)
    del array
    gc.collect()
    assert there() is not None
    assert kept[2] is not None
    del kept
    gc.collect()
    assert there() is None


def test_stopped_by_any_thread():
    control = Control()
    control.stop()
    canonical, owners = np.zeros(5000, np.uint32), np.array([0, 5000], np.uint32)
    for stopped in (
        lambda: Contents.of(canonical.copy(), 0, owners, control, 3),
        lambda: again(np.arange(5000, dtype=np.uint32), control, threads=3),
    ):
        with pytest.raises(Stopped):
            stopped()
