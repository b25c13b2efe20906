"""A balloon in a real guest keeps the rules that the laboratory's is built on, as seen from inside and outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from guests.ballooning import HOG, freed_too_early, pages_of
from guests.boot import MissingError
from guests.observed import PAGE, PATTERN, Kind, Observed, State, observed

pytestmark = pytest.mark.guests

SIZE = 12000
"""Pages in the balloon: 47 MiB of 256."""


def booted(folder: Path, balloon: str = "", *, shared: bool = True) -> Iterator[Observed]:
    """A guest with a balloon, or a skip with the reason."""
    try:
        with observed(folder, balloon=balloon, shared=shared) as guest:
            yield guest
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def plain(bootable: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:  # noqa: ARG001
    yield from booted(tmp_path_factory.mktemp("balloon"))


@pytest.fixture(scope="module")
def obliging(bootable: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:  # noqa: ARG001
    """It says which memory is free, and takes some back when it runs out; and its memory is QEMU's own."""
    options = "deflate-on-oom=on,free-page-reporting=on"
    yield from booted(tmp_path_factory.mktemp("balloon"), options, shared=False)


@pytest.fixture
def guest(plain: Observed) -> Iterator[Observed]:
    """With a balloon of SIZE pages, taken from free memory that was full of the pattern."""
    plain.reach(0)
    plain.hold(3 * SIZE)
    plain.release()
    plain.reach(SIZE)
    yield plain
    plain.trace(False)


def test_the_counts_add_up(guest: Observed) -> None:
    for size in (SIZE, SIZE + 300, 1000, 0):
        guest.reach(size)
        counters = guest.counters()
        assert len(guest.ballooned()) == size
        assert counters["balloon_inflate"] - counters["balloon_deflate"] == size
        assert guest.qmp("query-balloon")["actual"] == guest.size - size * PAGE


def test_memory_is_where_the_file_has_it(guest: Observed) -> None:
    """The patterns that the guest wrote are at their pages' places, so that the two views are of the same pages."""
    pages = guest.hold(100)
    for page in pages:
        assert guest.content(page) == int(PATTERN ^ int(page)).to_bytes(8, "little") * (PAGE // 8)
    assert (guest.touch(pages)["zero"] == 2).all()
    guest.release()


def test_a_page_in_the_balloon_has_no_frame(guest: Observed) -> None:
    framed = guest.framed()
    inside = guest.ballooned()
    assert not framed[inside].any()
    assert framed.sum() == guest.frames() > 10_000
    guest.reach(0)
    guest.hold(3 * SIZE)
    assert guest.framed()[inside].mean() > 0.9  # so they had one, and can have one again
    guest.release()


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_a_touch_gives_a_zero_frame_and_nobody_is_told(guest: Observed, write: bool) -> None:
    chosen = np.random.default_rng(3).permutation(guest.ballooned())[:500]
    guest.trace(True)
    before, counters = guest.frames(), guest.counters()
    records = guest.touch(chosen, write=write)
    assert (records["zero"] == 1).all()
    if not write:
        assert not records["word"].any()
    assert guest.framed()[chosen].all()
    assert guest.frames() - before >= len(chosen)
    assert len(guest.events()) == 0
    assert guest.actual() == SIZE
    after = guest.counters()
    assert {name: after[name] for name in after if "balloon" in name} == {
        name: counters[name] for name in counters if "balloon" in name
    }
    assert np.isin(chosen, guest.ballooned()).all()
    # The frame stays for as long as the page is in the balloon, and for longer.
    guest.reach(SIZE + 300)
    assert guest.framed()[chosen].all()
    guest.reach(0)
    assert guest.framed()[chosen].all()


def test_what_comes_back_has_no_frame_until_it_is_used_and_is_zero(guest: Observed) -> None:
    inside = guest.ballooned()
    guest.reach(0)
    bare = ~guest.framed()[inside]
    assert bare.mean() > 0.99  # the guest may have used a few by now
    returned = inside[bare & (guest.states()[inside] & State.BUDDY > 0)]
    chosen = np.random.default_rng(4).permutation(returned)[:500]
    records = guest.touch(chosen)
    assert (records["zero"] == 1).all()
    assert not records["word"].any()
    assert guest.framed()[chosen].all()


def test_no_page_is_in_the_balloon_and_free(guest: Observed) -> None:
    """At no moment, while it grows and shrinks."""
    sizes = set()
    for target in (30_000, 0, 20_000, 100):
        guest.aim(target)
        for _ in range(15):
            states = guest.states()
            inside = states & State.OFFLINE > 0
            sizes.add(int(inside.sum()))
            assert not (inside & (states & State.BUDDY > 0)).any()
    assert len(sizes) > 5


def test_the_guest_uses_no_page_before_the_host_has_read_of_it(guest: Observed) -> None:
    """Though QEMU does not demand it (VIRTIO_BALLOON_F_MUST_TELL_HOST)."""
    before = guest.ballooned()
    guest.trace(True)
    guest.reach(SIZE - 5000)
    guest.reach(SIZE - 2000)
    events = guest.events()
    assert freed_too_early(events) == 0
    out, into = pages_of(events, Kind.DEQUEUE), pages_of(events, Kind.ENQUEUE)
    assert len(out) == 5000
    assert len(into) == 3000
    assert set(pages_of(events, Kind.FREED)) == set(out) <= set(before)
    assert set(guest.ballooned()) == set(before) - set(out) | set(into)


def test_memory_is_taken_back_when_it_runs_out(obliging: Observed) -> None:
    guest = obliging
    target = guest.meminfo()["MemFree"] - 3000
    guest.reach(target)
    guest.probe("forget")
    guest.run(HOG.format(24))
    given = pages_of(guest.events(), Kind.OOM_DONE)
    assert set(given) == {256}
    assert guest.actual() == target - given.sum()
    guest.reach(0)


def test_free_blocks_lose_their_frames(obliging: Observed) -> None:
    guest = obliging
    guest.reach(0)
    pages = guest.hold(20, 9)
    assert len(pages) == 20 * 512
    assert guest.framed()[pages].all()
    guest.release()
    assert guest.framed()[pages].all()
    guest.run("sleep 4")
    reported = guest.states()[pages] & State.REPORTED > 0
    assert reported.mean() > 0.9
    assert not guest.framed()[pages[reported]].any()
    for write in (False, True):
        some = pages[reported][:500]
        records = guest.touch(some, write=write)
        assert (records["zero"] == 1).all()
        # A page that is only read is the host's zero page, where memory is no file.
        assert (guest.framed()[some] == write).all()
