"""What looks cost, measured."""

import signal
import time

import numpy as np
import pytest

from pageshare.core import Outcome
from pageshare.replay import costs
from pageshare.replay.costs import Costs

KNOWN = Costs(read=(1, 2), found=(3, 4), zero=(5, 6), shared=(7, 8), peek=(0.25, 0.5), fault=9)


@pytest.mark.parametrize("page_size", [4096, 512, 2 << 20])
def test_measured_costs_are_in_a_sane_order(page_size, monkeypatch):
    monkeypatch.setattr(costs, "BYTES", 24 << 20)
    measured = costs.measure(page_size, rounds=2)
    for name in ("read", "found", "zero", "shared", "peek"):
        assert all(0 < each < 1e9 for each in getattr(measured, name)), name
    assert 0 < measured.fault < 1e6
    for where in (0, 1):
        assert measured.peek[where] < measured.read[where] < 1.5 * measured.found[where]
        assert measured.shared[where] < measured.found[where]


def test_a_signal_is_taken_soon_at_any_moment_of_measuring():
    """By CPU time, which others on this machine don't make longer: no call into C takes long."""
    taken = [time.process_time()]
    before = signal.signal(signal.SIGPROF, lambda *_: taken.append(time.process_time()))
    signal.setitimer(signal.ITIMER_PROF, 0.005, 0.005)
    try:
        costs.measure(rounds=1)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert len(taken) > 10
    assert np.diff(taken).max() < 0.15


def test_by_outcome():
    table = KNOWN.by_outcome()
    assert table.shape == (max(Outcome) + 1, 2)
    for outcome, (in_order, anywhere) in {
        Outcome.HINTED: KNOWN.read,
        Outcome.ALREADY_HINTED: KNOWN.read,
        Outcome.VOLATILE: KNOWN.read,
        Outcome.PASSED_OVER: KNOWN.read,
        Outcome.SHARED_NEW: KNOWN.found,
        Outcome.SHARED: KNOWN.found,
        Outcome.STALE_HINT: KNOWN.found,
        Outcome.FALSE_MATCH: KNOWN.found,
        Outcome.ZERO: KNOWN.zero,
        Outcome.ALREADY_SHARED: KNOWN.shared,
    }.items():
        assert table[outcome].tolist() == [anywhere, in_order]


def test_visits_in_address_order_cost_what_these_do():
    pages = np.array([5, 6, 7, 3, 4, 4, 0], np.uint32)
    outcomes = np.full(7, Outcome.HINTED, np.uint8)
    outcomes[2] = Outcome.ZERO
    assert KNOWN.of_visits(pages, outcomes).tolist() == [2, 1, 5, 2, 1, 2, 2]
    assert KNOWN.of_peeks(10, 4) == 6 * 0.5 + 4 * 0.25
