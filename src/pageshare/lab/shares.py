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
    shares holds s / L pages if that is no more than it uses, and of the pages that it could hold beyond these, the
    k-th part. So the pages of each are a piecewise linear function of 1 / L between its bounds, and the 1 / L at which
    they add up lies between two of the points where some client's line bends. Each result is within two pages of
    ``revoke``'s; they add up to ``pages`` where the bounds permit.
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

    def held(affordable: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pages of each at 1 / L, which is the first axis: shape (.., clients)."""
        could = affordable[:, None] * shares
        return np.clip(np.minimum(could, active) + np.maximum(could - active, 0) / k, least, most)

    def reached(goal: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 / L at which each has ``goal`` pages."""
        return (np.minimum(goal, active) + k * np.maximum(goal - active, 0)) / shares

    bounds = [reached(bound.astype(np.float64)) for bound in (least, most)]
    bends = np.sort(np.concatenate([[0.0], active / shares, *bounds]))
    sums = held(bends).sum(axis=1)
    above = int(np.searchsorted(sums, pages))
    low, high = sums[above - 1], sums[above]
    where = bends[above - 1] + (bends[above] - bends[above - 1]) * (pages - low) / (high - low)
    exact = held(np.array([where]))[0]
    result: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    # Whole pages: what is left over goes to those whose fraction was largest.
    rest = pages - int(result.sum())
    for i in np.argsort(result - exact, kind="stable"):
        given = min(rest, 1 if result[i] < most[i] else 0)
        result[i] += given
        rest -= given
    return result
