"""Shares, the tax and revocation: worked examples, the closed form against the rule as it is written."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageshare.lab.shares import TAX, Client, adjusted_ratio, divide, idle_cost, revoke

FIGURE_7 = [
    (0.0, (179, 179)),
    (0.25, (156, 202)),
    (0.5, (126, 232)),
    (0.75, (102, 256)),
    (0.9, (102, 256)),
]
"""Two guests of 256 MB with equal shares, 358 MB between them; one has 20 MB in use, the other 240. Where both have
more than they use, that is P_i = tau A_i + s_i (M - tau sum A). At 0.25 and 0.5 the second one has less than the 240 MB
that it uses, none of it idle: so 202 and 232, not 206 and 234."""


@pytest.mark.parametrize(("tax", "expected"), FIGURE_7)
def test_two_guests_as_in_figure_7(tax, expected):
    clients = [Client(1, 0, 256, 20), Client(1, 0, 256, 240)]
    assert tuple(divide(clients, 358, tax=tax)) == pytest.approx(expected, abs=1)
    assert tuple(revoke(clients, 358, tax=tax)) == pytest.approx(expected, abs=2)


def test_where_all_have_idle_pages_the_closed_form_holds():
    for tax in 0.0, 0.3, 0.75:
        clients = [Client(1, 0, 10**6, 1000), Client(3, 0, 10**6, 20_000)]
        left = 100_000 - tax * 21_000
        expected = [tax * 1000 + left / 4, tax * 20_000 + 3 * left / 4]
        assert divide(clients, 100_000, tax=tax) == pytest.approx(expected, abs=1.01)


def test_an_idle_page_costs_k_times_what_an_active_one_does():
    assert TAX == 0.75
    assert idle_cost(0.75) == 4
    assert adjusted_ratio(100, 50, 1.0) == 2
    assert adjusted_ratio(100, 50, 0.0) == 0.5
    assert adjusted_ratio(100, 50, 0.5) == pytest.approx(100 / (50 * 2.5))
    assert adjusted_ratio(100, 0, 0.5) == math.inf
    for tax in -0.1, 1.0:
        with pytest.raises(ValueError, match="tax rate"):
            idle_cost(tax)


def test_without_tax_memory_goes_by_shares_and_what_one_cannot_use_to_the_others():
    clients = [Client(1, 0, 1000), Client(2, 0, 1000), Client(3, 0, 1000)]
    assert divide(clients, 600, tax=0).tolist() == [100, 200, 300]
    assert divide([Client(1, 0, 1000), Client(2, 0, 1000), Client(3, 0, 120)], 600, tax=0).tolist() == [160, 320, 120]
    assert divide([Client(1, 250, 1000), *clients[1:]], 600, tax=0).tolist() == [250, 140, 210]


def test_minimums_hold_even_if_they_do_not_fit():
    clients = [Client(1, 300, 400), Client(9, 200, 400)]
    assert divide(clients, 450).tolist() == revoke(clients, 450).tolist() == [300, 200]
    assert divide(clients, 900).tolist() == revoke(clients, 900).tolist() == [400, 400]


@st.composite
def many(draw):
    clients = []
    for _ in range(draw(st.integers(1, 5))):
        most = draw(st.integers(0, 250))
        least = draw(st.integers(0, most))
        shares = draw(st.one_of(st.integers(1, 1000).map(float), st.floats(1e-3, 1e12)))
        clients.append(Client(shares, least, most, draw(st.floats(0, most))))
    return clients


@settings(max_examples=300, deadline=None)
@given(many(), st.integers(1, 1000), st.sampled_from([0.0, 0.5, 0.75, 0.99]))
def test_the_closed_form_is_revocation(clients, pages, tax):
    quick, slow = divide(clients, pages, tax=tax), revoke(clients, pages, tax=tax)
    least, most = (np.array([getattr(client, name) for client in clients]) for name in ("least", "most"))
    assert (least <= quick).all()
    assert (quick <= most).all()
    assert quick.sum() == slow.sum() == max(least.sum(), min(pages, most.sum()))
    assert np.abs(quick - slow).max() <= 2


@settings(max_examples=100, deadline=None)
@given(many(), st.integers(1, 1000))
def test_more_tax_never_takes_from_who_uses_all_for_who_uses_nothing(clients, pages):
    clients = [Client(7, 0, 200, 0.0), Client(7, 0, 200, 200.0), *clients]
    idle, busy = np.array([divide(clients, pages, tax=tax)[:2] for tax in (0.0, 0.3, 0.6, 0.9)]).T
    assert (np.diff(busy) >= -2).all()
    assert (idle <= busy + 1).all()
