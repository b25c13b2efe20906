"""Sharing feeds the free memory, and nobody sees what another wrote."""

import numpy as np
import pytest

from lab.scripted import STEP, Script, at_rest, read, released, written, zeroed
from pageshare.lab.frames import Place
from pageshare.lab.guest import Guest
from pageshare.lab.host import Host
from pageshare.lab.invariants import check
from pageshare.lab.memory import SECOND
from pageshare.lab.sharing import Sharing
from pageshare.policies import POLICIES


def places(guest, program_pages):
    return guest.pmap.place[guest.at[program_pages]].tolist()


def test_equal_pages_share_a_frame_and_a_write_gets_a_copy():
    host = Host(400)
    one, two = at_rest(host, 100), at_rest(host, 100)
    sharing = Sharing(host, policy="sequential")
    for guest in one, two:
        guest.touch(written(range(10), contents=range(7, 17)))
    host.clock.run(5_000_000)
    assert host.frames.free == 400 - 10
    assert one.allocated() == two.allocated() == 5
    stalled = one.touch(written(3, contents=99))
    assert stalled == 3.5
    assert (host.counts.copied, sharing.counts.broken, host.frames.free) == (1, 1, 400 - 11)
    check(host)


def test_a_victim_may_turn_out_equal_to_a_page_that_is_just_being_written():
    """The host is full; its guest writes page 0, and page 1, which is on disk. To make room for that, all others are
    candidates, and each holds what page 0 holds: they share its frame, and it needs a copy before it is written."""
    host = Host(200)
    guest = at_rest(host, 300)
    Sharing(host, rate=0)
    guest.touch(written(range(200), contents=[5] * 200))
    host.swap_out(guest, guest.at[[1]].astype(np.uint32))
    guest.touch(written(200))
    host.sharing._scan(guest.at[[0]].astype(np.uint32))  # the table knows of page 0
    assert host.frames.free == 0
    guest.touch(written(0, 1, contents=[6, 7]))
    assert host.sharing.counts.merged > 0
    check(host)
    assert host.counts.copied == 1


def test_pages_that_share_instead_of_being_written_out_cost_no_writing():
    host = Host(200)
    guest = at_rest(host, 300)
    Sharing(host, rate=0)
    guest.touch(zeroed(range(200)))
    stalled = guest.touch(written(200))
    assert host.counts.swapped_out == host.disk.written == host.counts.waited_for_frames == 0
    assert stalled == pytest.approx(2 * 3.5, abs=4)
    assert places(guest, [200]) == [Place.RESIDENT]
    check(host)


def test_a_guest_that_came_later_is_not_scanned():
    host = Host(400)
    one = at_rest(host, 100)
    sharing = Sharing(host, policy="sequential")
    two = at_rest(host, 100)
    for guest in one, two:
        guest.touch(zeroed(range(50)))
    host.clock.run(5_000_000)
    assert (one.pmap.shared, two.pmap.shared) == (50, 0)
    host.swap_out(two, two.at[:5].astype(np.uint32))
    assert sharing.try_first(two, two.at[5:8].astype(np.uint32)).tolist() == two.at[5:8].tolist()
    two.touch(released(range(50)))
    check(host)


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "oracle"])
def test_policies_bear_what_they_did_not_ask_for(policy):
    """Share-before-swap tells a policy of pages that it did not give."""
    host = Host(300)
    steps = [[written(range(i, i + 20), contents=np.arange(20) % 7)] for i in range(0, 200, 10)]
    guests = [Guest(host, 250, [Script(220, *steps, [read(range(220))])]) for _ in range(2)]
    Sharing(host, rate=2000, policy=policy)
    host.clock.run(30 * STEP, after_each=lambda: check(host))
    assert host.sharing.counts.merged > 50
    assert sum(guest.counts.ran for guest in guests) > 30 * STEP


def test_a_policy_that_has_nothing_to_visit_holds_nothing_up():
    class Shy:
        """Has pages every other time that it is asked."""

        def __init__(self, _view):
            self.asked = []

        def next(self, most):
            self.asked.append(most)
            return np.arange(most if len(self.asked) % 2 else 0, dtype=np.uint32)

        def feedback(self, pages, outcomes, partners):
            pass

    host = Host(400)
    guest = at_rest(host, 100)
    sharing = Sharing(host, rate=20, policy=Shy)
    guest.touch(zeroed(range(100)))
    host.clock.run(10 * SECOND)
    # What was due when it had none it does not get later.
    assert sharing.policy.asked == [2] * 100
    assert sharing.counts.scanned == 100
