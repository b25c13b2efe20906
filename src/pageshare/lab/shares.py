"""Who has to give memory: shares, the idle memory tax and min-funding revocation (Waldspurger, OSDI 2002, section 5).

A client pays for a page with shares. Memory is taken from the client that pays least a page, where an idle page costs
k = 1 / (1 - tau) times what an active one does: its adjusted ratio of shares to pages is

    rho = S / (P (f + k (1 - f)))

with S shares, P pages of which the share f is active, and the tax rate tau.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TAX = 0.75
"""The default rate of section 5.2."""


@dataclass(frozen=True)
class Client:
    """One that memory is divided among: ``shares`` > 0, ``least`` and ``most`` pages; ``active`` pages, of which it
    has an estimate."""

    shares: float
    least: int
    most: int
    active: float = 0.0


def idle_cost(tax: float) -> float:
    """k: how many times an active page's price an idle one costs. ValueError unless 0 <= tax < 1."""
    if not 0 <= tax < 1:
        raise ValueError(f"tax rate {tax}: must be from 0 to less than 1")
    return 1 / (1 - tax)


def adjusted_ratio(shares: float, pages: float, active_share: float, tax: float = TAX) -> float:
    """rho: shares a page, idle ones taxed; infinite for a client without pages."""
    price = pages * (active_share + idle_cost(tax) * (1 - active_share))
    return shares / price if price else math.inf


def revoke(clients: Sequence[Client], pages: int, *, tax: float = TAX, step: int = 1) -> NDArray[np.int64]:
    """Min-funding revocation, step by step: pages for each client, int64 of shape (clients,).

    All begin with the most that they may have. While that is more than ``pages`` in all, the client with the lowest
    adjusted ratio gives up ``step`` pages, unless it is left with its least. A client's active pages stay active while
    its idle ones go: f = active / P. If not even the least of all fits, each has its least.

    ``divide`` comes to the same at once; this one is the rule as it is written.
    """
    held = np.array([client.most for client in clients], np.int64)
    excess = int(held.sum()) - pages
    while excess > 0:
        poorest, lowest = -1, math.inf
        for i, client in enumerate(clients):
            if held[i] <= client.least:
                continue
            ratio = adjusted_ratio(client.shares, held[i], min(1.0, client.active / held[i]), tax)
            if ratio < lowest:
                poorest, lowest = i, ratio
        if poorest < 0:
            break
        taken = min(step, excess, int(held[poorest]) - clients[poorest].least)
        held[poorest] -= taken
        excess -= taken
    return held


def divide(clients: Sequence[Client], pages: int, *, tax: float = TAX) -> NDArray[np.int64]:
    """What min-funding revocation leaves each client with, in closed form: pages, int64 of shape (clients,).

    Revocation ends where all that still have something to give pay the same price L a page, adjusted: a client of s
    shares holds P pages with P - tau A = (1 - tau) s / L, of which A are active; one that would hold less than A holds
    s / L. Both are s / L above their tau-reduced part, so pages as a function of 1 / L rise piece by piece, and the L
    at which they add up is found by bisection. Each result is within two pages of ``revoke``'s; they add up to
    ``pages`` where the bounds permit.
    """
    least = np.array([client.least for client in clients], np.int64)
    most = np.array([client.most for client in clients], np.int64)
    if most.sum() <= pages:
        return most
    if least.sum() >= pages:
        return least
    shares = np.array([client.shares for client in clients], np.float64)
    active = np.array([client.active for client in clients], np.float64)
    k = idle_cost(tax)

    def held(price: float) -> NDArray[np.float64]:
        """Pages of each where all pay ``price`` shares a page, active ones, and k times that for idle ones."""
        affordable = shares / price
        idle = np.maximum(affordable - active, 0) / k
        return np.clip(np.minimum(affordable, active) + idle, least, most)

    low, high = 1e-300, 1.0
    while held(high).sum() > pages:
        high *= 2
    for _ in range(1100):
        middle = math.sqrt(low * high) if low < high / 4 else (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if held(middle).sum() > pages else (low, middle)
    exact = held(high)
    result: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    # Whole pages: what is left over goes to those whose fraction was largest.
    rest = pages - int(result.sum())
    for i in np.argsort(result - exact, kind="stable"):
        given = min(rest, 1 if result[i] < most[i] else 0)
        result[i] += given
        rest -= given
    return result
