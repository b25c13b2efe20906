"""Owners on hosts: what each host needs, what every move and swap would change, and the search for what is better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.answers._holder_sets import HolderSets
from pageshare.core import Control

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANDOM_STARTS = 3
"""Random placements that the search starts from, beside those that are built with care."""


@dataclass(frozen=True)
class Room:
    """What a host holds at most: distinct contents (pages), and owners."""

    pages: float
    owners: int

    def over(self, need: Any) -> Any:
        """By how much needs are more than that."""
        return np.maximum(need - self.pages, 0.0)


class Hosting:
    """Owners on hosts, one after the other put there and taken away; what that changes is kept up to date.

    ``host`` (one an owner, -1: nowhere), ``need`` (one a host: distinct contents of its owners together). Of the
    contents with several holders: ``enter[i, h]``, how many host h would have to take in for owner i; ``only[i, j]``,
    how many of those that i, and nobody else on its host, holds, j holds too (``only[i, i]``: that would go with i).
    A step costs as much as the sets have holders whose count on the host comes to or from 0 or 1.
    """

    def __init__(self, sets: HolderSets, hosts: int) -> None:
        n = len(sets.own)
        self.sets = sets
        self.host: NDArray[np.int64] = np.full(n, -1)
        self.need = np.zeros(hosts)
        self.owners = np.zeros(hosts, np.int64)
        self.enter = np.repeat((sets.alone - sets.own)[:, None], hosts, axis=1)
        self.only = np.zeros((n, n))
        self._count = np.zeros((hosts, len(sets.weights)), np.uint16 if n < 1 << 16 else np.uint32)

    def put(self, owner: int, host: int) -> None:
        """Put an owner that is nowhere on a host."""
        mine = self.sets.of_owner(owner)
        before = self._count[host, mine]
        self._count[host, mine] = before + 1
        self.need[host] += self.sets.own[owner] + self.enter[owner, host]
        self.owners[host] += 1
        new = self._holding(mine[before == 0])
        self.enter[:, host] -= new
        self.only[owner] = new
        self.only -= self._shared_with_only_one(mine[before == 1], host)
        self.host[owner] = host

    def take(self, owner: int) -> None:
        """Take an owner off its host."""
        host = int(self.host[owner])
        mine = self.sets.of_owner(owner)
        before = self._count[host, mine]
        self._count[host, mine] = before - 1
        self.need[host] -= self.sets.own[owner] + self.only[owner, owner]
        self.owners[host] -= 1
        self.host[owner] = -1
        self.enter[:, host] += self._holding(mine[before == 1])
        self.only[owner] = 0
        self.only += self._shared_with_only_one(mine[before == 2], host)

    def _holding(self, sets: NDArray[Any]) -> NDArray[Any]:
        """How many contents of some sets each owner holds."""
        holders, sizes = self.sets.holders_of(sets)
        return np.bincount(holders, np.repeat(self.sets.weights[sets], sizes), len(self.host))

    def _shared_with_only_one(self, sets: NDArray[Any], host: int) -> NDArray[Any]:
        """Of sets with one holder on a host: how many contents of that one's each owner holds, (owners, owners)."""
        n = len(self.host)
        holders, sizes = self.sets.holders_of(sets)
        there = holders[self.host[holders] == host].astype(np.int64)
        cells = np.repeat(there * n, sizes) + holders
        return np.bincount(cells, np.repeat(self.sets.weights[sets], sizes), n * n).reshape(n, n)

    def fits(self, owner: int, room: Room) -> NDArray[np.bool_]:
        """On which hosts an owner that is nowhere would fit."""
        need = self.need + self.sets.own[owner] + self.enter[owner]
        fitting: NDArray[np.bool_] = (need <= room.pages) & (self.owners < room.owners)
        return fitting

    def cost(self, room: Room) -> tuple[float, float]:
        """By how much hosts are too small, and what all need: the less, the better, in that order."""
        return float(room.over(self.need).sum()), float(self.need.sum())

    def improve(self, room: Room) -> bool:
        """Make the one move, or swap of two owners, that brings most; False if none brings anything."""
        move, by_move = self._best(*self._moves(room))
        swap, by_swap = self._best(*self._swaps(room))
        if min(by_move, by_swap) >= (0, 0):
            return False
        if by_move <= by_swap:
            owner, host = divmod(move, len(self.need))
            self.take(owner)
            self.put(owner, host)
        else:
            one, other = divmod(swap, len(self.host))
            hosts = int(self.host[one]), int(self.host[other])
            self.take(one)
            self.take(other)
            self.put(one, hosts[1])
            self.put(other, hosts[0])
        return True

    def _moves(self, room: Room) -> tuple[NDArray[Any], NDArray[Any]]:
        """What each owner's move to each host changes: by how much hosts are too small, and what they need."""
        at, own, goes = self.host, self.sets.own, np.diagonal(self.only)
        come = self.need + own[:, None] + self.enter
        left: NDArray[Any] = self.need[at] - own - goes
        over = room.over(come) - room.over(self.need) + (room.over(left) - room.over(self.need[at]))[:, None]
        need = self.enter - goes[:, None]
        barred = np.broadcast_to(self.owners >= room.owners, need.shape).copy()
        barred[np.arange(len(at)), at] = True
        need[barred] = np.inf
        over[barred] = np.inf
        return over, need

    def _swaps(self, room: Room) -> tuple[NDArray[Any], NDArray[Any]]:
        """The same for two owners that change places. Contents that both hold stay on both hosts."""
        at, own, goes = self.host, self.sets.own, np.diagonal(self.only)
        change = (own + self.enter[:, at].T) - (own + goes)[:, None] + self.only
        before = self.need[at][:, None]
        over = room.over(before + change) - room.over(before)
        over, need = over + over.T, change + change.T
        barred = at[:, None] == at
        need[barred] = np.inf
        over[barred] = np.inf
        return over, need

    @staticmethod
    def _best(over: NDArray[Any], need: NDArray[Any]) -> tuple[int, tuple[float, float]]:
        """Where the least ``over`` is, of these the least ``need``, and both."""
        if not over.size:
            return -1, (0, 0)
        least = over.min()
        best = int(np.where(over == least, need, np.inf).argmin())
        return best, (float(least), float(need.flat[best]))


def search(
    sets: HolderSets, hosts: int, room: Room, seed: int, control: Control
) -> tuple[tuple[float, float], NDArray[Any]]:
    """The best placement that is found, and what it costs (``Hosting.cost``): from each of some starts, the best step
    is made as long as there is one that brings something. Raises ``Stopped``."""
    found = []
    for start in _starts(sets, hosts, room, seed, control):
        while start.improve(room):
            control.check()
        found.append((start.cost(room), start.host))
    return min(found, key=lambda each: each[0])


def _starts(sets: HolderSets, hosts: int, room: Room, seed: int, control: Control) -> Iterator[Hosting]:
    control.check()
    yield _filled(Hosting(sets, hosts), room)
    yield _inserted(Hosting(sets, hosts), room, np.argsort(-sets.alone, kind="stable"))
    packed = first_fit(sets.alone, room.pages)
    if room.owners >= len(sets.own) and packed is not None and max(packed, default=0) < hosts:
        start = Hosting(sets, hosts)
        for owner, host in enumerate(packed):
            start.put(owner, host)
        yield start
    draw = np.random.default_rng([seed, 1])
    for _ in range(RANDOM_STARTS):
        control.check()
        start = Hosting(sets, hosts)
        for owner in draw.permutation(len(sets.own)).tolist():
            fitting = np.flatnonzero(start.fits(owner, room))
            start.put(owner, int(draw.choice(fitting)) if len(fitting) else _least_over(start, owner, room))
        yield start


def _filled(start: Hosting, room: Room) -> Hosting:
    """Host after host: the largest owner, then always the one that saves most there, while any fits."""
    alone = start.sets.alone
    shared = alone - start.sets.own
    for host in range(len(start.need)):
        while True:
            saved = shared - start.enter[:, host]
            need = start.need[host] + alone - saved
            fitting = np.flatnonzero((start.host < 0) & (need <= room.pages))
            if not len(fitting) or start.owners[host] >= room.owners:
                break
            # As long as the host is empty nothing is saved: the largest one begins.
            rank = saved[fitting] if start.owners[host] else alone[fitting]
            start.put(int(fitting[rank.argmax()]), host)
    return _inserted(start, room, np.flatnonzero(start.host < 0))


def _inserted(start: Hosting, room: Room, order: NDArray[Any]) -> Hosting:
    """Each owner where it saves most, of hosts as good the emptiest; where it fits nowhere, the least too small one."""
    for owner in order.tolist():
        fitting = np.flatnonzero(start.fits(owner, room))
        if len(fitting):
            best = np.lexsort((start.need[fitting], start.enter[owner, fitting]))[0]
            start.put(owner, int(fitting[best]))
        else:
            start.put(owner, _least_over(start, owner, room))
    return start


def _least_over(start: Hosting, owner: int, room: Room) -> int:
    """The host that has room for one owner more, and is too small for it by the least."""
    over = room.over(start.need + start.sets.own[owner] + start.enter[owner])
    return int(np.where(start.owners < room.owners, over, np.inf).argmin())


def drawn(sets: HolderSets, hosts: int, room: Room, draw: np.random.Generator) -> float | None:
    """What a random placement needs: owners in random order, each on any host where it fits; None if one fits
    nowhere."""
    present = np.zeros((hosts, len(sets.weights)), np.bool_)
    need, owners = np.zeros(hosts), np.zeros(hosts, np.int64)
    for owner in draw.permutation(len(sets.own)).tolist():
        mine = sets.of_owner(owner)
        weights = sets.weights[mine]
        for host in draw.permutation(hosts).tolist():
            if owners[host] >= room.owners:
                continue
            more = sets.own[owner] + float(weights[~present[host, mine]].sum())
            if need[host] + more <= room.pages:
                present[host, mine] = True
                need[host] += more
                owners[host] += 1
                break
        else:
            return None
    return float(need.sum())


def first_fit(sizes: NDArray[Any], pages: float) -> list[int] | None:
    """The host of each owner if the largest comes first, each goes to the first host with room, and nothing is shared
    between owners; None if one fits nowhere."""
    hosts = [0] * len(sizes)
    left: list[float] = []
    for owner in np.argsort(-sizes, kind="stable").tolist():
        size = float(sizes[owner])
        if size > pages:
            return None
        host = next((host for host, room in enumerate(left) if size <= room), len(left))
        if host == len(left):
            left.append(pages)
        left[host] -= size
        hosts[owner] = host
    return hosts


def fewest_hosts(sets: HolderSets, pages: float, least: int, seed: int, control: Control) -> int:
    """The fewest hosts of a size on which ``search`` finds a placement. Each owner must fit on one; ``least`` are
    needed in any case. Hosts are filled one by one; then one less is searched, as long as that goes well. Raises
    ``Stopped``."""
    room = Room(pages, len(sets.own))
    hosts = len(set(first_fit(sets.alone, pages) or ()))
    start = _filled(Hosting(sets, hosts), room)
    if not start.cost(room)[0]:
        hosts = int(np.count_nonzero(start.owners))
    while hosts > least:
        starts = _starts(sets, hosts - 1, room, seed, control)
        if not any(_made_to_fit(start, room, control) for start in starts):
            break
        hosts -= 1
    return hosts


def _made_to_fit(start: Hosting, room: Room, control: Control) -> bool:
    """Make the best steps until no host is too small; False if they end before."""
    while start.cost(room)[0]:
        control.check()
        if not start.improve(room):
            return False
    return True
