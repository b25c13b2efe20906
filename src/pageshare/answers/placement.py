"""Which owners to put together on hosts so that they share most.

A host holds each content of its owners once (within their sharing domains), one zero page among them: that is what it
*needs*. Finding the placement that needs least is NP-hard, so it is searched for, and held against random placements
and against a bound that none can pass. Wood et al. (Memory Buddies, VEE 2009) place guests by what they would share;
Sindelar et al. (Sharing-aware algorithms for virtual machine colocation, SPAA 2011) state the problem with hosts of a
size, and with as few hosts as possible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.answers._holder_sets import HolderSets
from pageshare.answers._hosting import Room, drawn, fewest_hosts, first_fit, search
from pageshare.core import Control

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.inventory import Inventory

TRIALS = 100
"""Random placements to compare with."""


@dataclass(frozen=True)
class Host:
    """The owners on one host. Pages: ``known`` to them, ``alone``, what they would need each on a host of its own,
    ``need``, what they need together; ``saved`` = alone - need is what being together saves."""

    owners: tuple[str, ...]
    known: int
    alone: int
    need: int
    saved: int


@dataclass(frozen=True)
class Random:
    """What random placements on as many hosts of the same room need, in pages: mean, standard deviation, the best and
    the worst of the ``fitting`` ones among ``trials``; None where none fits."""

    trials: int
    fitting: int
    mean: float | None
    deviation: float | None
    best: int | None
    worst: int | None


@dataclass(frozen=True)
class Fewest:
    """Hosts of the given size that it takes: ``found`` by search; ``at_least``, whatever the placement; ``alone`` and
    ``known``, for the largest first, each on the first host with room, if owners shared nothing with each other, and if
    nothing was shared at all (None where an owner does not fit)."""

    found: int | None
    at_least: int
    alone: int | None
    known: int | None


@dataclass(frozen=True)
class Placement:
    """Owners on hosts, and what that brings; all in pages but for counts of hosts and owners.

    ``fits``: all owners have found room; else ``placed`` is empty, and ``too_large`` names those that no host of this
    size can hold. ``hosts``, ``host_pages`` (what a host may need, headroom taken off) and ``most_owners`` (for each
    host) are what was asked for, or follows from it; None is no limit. ``known``, ``alone``, ``need``, ``saved``: as
    ``Host`` has them, of all hosts together. ``together``: the need if all were on one host; ``bound``: no placement
    needs less.
    """

    fits: bool
    hosts: int
    host_pages: int | None
    most_owners: int | None
    headroom: float
    placed: tuple[Host, ...]
    too_large: tuple[str, ...]
    known: int
    alone: int
    need: int | None
    saved: int | None
    together: int
    bound: int
    random: Random | None
    fewest: Fewest | None
    seed: int
    assumptions: tuple[str, ...]


def placement(
    inventory: Inventory,
    *,
    hosts: int | None = None,
    host_bytes: int | None = None,
    headroom: float = 0.0,
    seed: int = 0,
    trials: int = TRIALS,
    control: Control | None = None,
) -> Placement:
    """Owners on ``hosts`` hosts, each with ``host_bytes`` of memory, of which a share of ``headroom`` stays free.

    Without ``host_bytes`` hosts take as many owners each: ceil(owners / hosts) at most. Without ``hosts`` as few are
    used as are found to be enough. ``seed`` fixes all that is drawn. Takes some 40 bytes for each owner of a content
    that several hold. Raises ValueError for what makes no sense, ``Stopped``.

    >>> import pageshare
    >>> a, b, c, d = (bytes([n]) * 4096 for n in b"abcd")
    >>> report = pageshare.scan({"one": a + b, "two": c + d, "three": b + a, "four": c + b})
    >>> found = placement(report.inventory, hosts=2)
    >>> [host.owners for host in found.placed], found.alone, found.need, found.bound
    ([('one', 'three'), ('two', 'four')], 8, 5, 5)
    """
    if host_bytes is None and hosts is None:
        raise ValueError("a placement needs a number of hosts, or the size of one")
    if hosts is not None and hosts < 1:
        raise ValueError(f"{hosts} hosts: there must be one at least")
    pages, control = host_pages(host_bytes, headroom, inventory.page_size), control or Control()
    n = len(inventory.owners)
    sets = HolderSets.of(inventory)
    alone = sets.alone
    most_owners = math.ceil(n / hosts) if pages is None and hosts is not None else None
    room = Room(math.inf if pages is None else pages, n if most_owners is None else most_owners)
    too_large = tuple(inventory.owners[owner] for owner in np.flatnonzero(alone > room.pages))
    together = _most_together(sets, room)
    fewest = None
    if pages is not None:
        at_least = max(math.ceil(sets.distinct / pages), math.ceil(n / together) if together else n)
        fewest = Fewest(
            found=None if too_large else fewest_hosts(sets, pages, at_least, seed, control),
            at_least=at_least,
            alone=_hosts_used(first_fit(alone, pages)),
            known=_hosts_used(first_fit(inventory.known, pages)),
        )
    used = (fewest.found if fewest and fewest.found is not None else n) if hosts is None else hosts
    placed: tuple[Host, ...] = ()
    random = None
    fits = not too_large
    if fits:
        # More hosts than owners stay empty, and would only take memory here.
        (over, _), host_of = search(sets, min(used, n), room, seed, control)
        fits = not over
        placed = _hosts(inventory, sets, host_of) if fits else ()
        random = _random(sets, min(used, n), room, seed, trials=trials, control=control)
    need = sum(host.need for host in placed) if fits else None
    return Placement(
        fits=fits,
        hosts=used,
        host_pages=pages,
        most_owners=most_owners,
        headroom=headroom,
        placed=placed,
        too_large=too_large,
        known=int(inventory.known.sum()),
        alone=int(alone.sum()),
        need=need,
        saved=None if need is None else int(alone.sum()) - need,
        together=int(sets.distinct),
        bound=_bound(inventory, sets, together),
        random=random,
        fewest=fewest,
        seed=seed,
        assumptions=tuple(_assumptions(inventory, pages, most_owners, headroom)),
    )


def host_pages(host_bytes: int | None, headroom: float, page_size: int) -> int | None:
    """Pages that a host may need, if a share of ``headroom`` is to stay free; None if hosts have no size.

    Raises ValueError where that is none.

    >>> host_pages(10 * 4096, 0.9, 4096)
    1
    """
    if not 0 <= headroom < 1:
        raise ValueError(f"headroom {headroom:g}: must be a share of a host's memory, 0 or more and less than 1")
    if host_bytes is None:
        return None
    # By the decimal digits: 1 - 0.9 is less than a tenth in binary ones.
    pages = int(host_bytes * (1 - Fraction(repr(float(headroom))))) // page_size
    if pages < 1:
        free = f", {100 * headroom:g} % of them free," if headroom else ""
        raise ValueError(f"hosts of {host_bytes} bytes{free} hold no page of {page_size}")
    return pages


def _hosts(inventory: Inventory, sets: HolderSets, host_of: NDArray[Any]) -> tuple[Host, ...]:
    """Hosts with their owners, in the order scanned; those that save most first. Empty ones are left out."""
    holder_host = host_of[sets.holders]
    alone, found = sets.alone, []
    for host in np.unique(host_of).tolist():
        owners = np.flatnonzero(host_of == host)
        present = np.zeros(len(sets.weights), np.bool_)
        present[np.repeat(np.arange(len(present)), sets.sizes)[holder_host == host]] = True
        need = int(sets.own[owners].sum() + sets.weights[present].sum())
        apart = int(alone[owners].sum())
        names = tuple(inventory.owners[owner] for owner in owners)
        found.append(Host(names, int(inventory.known[owners].sum()), apart, need, apart - need))
    return tuple(sorted(found, key=lambda host: (-host.saved, -host.need)))


def _hosts_used(host_of: list[int] | None) -> int | None:
    return None if host_of is None else len(set(host_of))


def _random(sets: HolderSets, hosts: int, room: Room, seed: int, *, trials: int, control: Control) -> Random:
    draw, needs = np.random.default_rng([seed, 2]), []
    for _ in range(trials):
        control.check()
        if (need := drawn(sets, hosts, room, draw)) is not None:
            needs.append(need)
    if not needs:
        return Random(trials, 0, None, None, None, None)
    return Random(
        trials, len(needs), float(np.mean(needs)), float(np.std(needs)), int(min(needs)), int(max(needs))
    )


def _most_together(sets: HolderSets, room: Room) -> int:
    """The most owners that any host can hold.

    Let an owner's share be its own contents, and 1/k of each content that k owners hold. Of a content with m holders
    on a host the host needs one page, and m/k <= 1: so it needs at least the sum of its owners' shares. The most owners
    are as many of the smallest shares as fit.
    """
    parts = np.repeat(sets.weights / np.maximum(sets.sizes, 1), sets.sizes)
    shares = np.sort(sets.own + np.bincount(sets.holders, parts, len(sets.own)))
    # Shares are fractions: a page more than they come to is allowed for rounding.
    return min(room.owners, int(np.count_nonzero(np.cumsum(shares) <= room.pages + 1)))


def _bound(inventory: Inventory, sets: HolderSets, together: int) -> int:
    """What any placement needs at least, if a host holds ``together`` owners (c) at most.

    Two bounds, of which the better one counts.

    1. A content that k owners hold is on at least ceil(k / c) hosts.
    2. What is saved of a content on a host with m of its holders, m - 1 pages, is theirs in equal parts, (m - 1)/m
       each. An owner's part of all savings is then at most the sum of 1 - 1/min(k, c) over its contents. Since also
       (m - 1)/m <= (m - 1)/2 for each m >= 1, it is at most half of the contents that it has in common with each other
       owner of its host, summed over these: at most c - 1, so at most half the sum of the c - 1 largest numbers of
       contents in common. The smaller of both for each owner, summed, bounds what is saved.
    """
    n, sizes = len(sets.own), sets.sizes
    c = max(1, together)
    copies = float(sets.own.sum() + (sets.weights * np.ceil(sizes / c)).sum())
    parts = np.repeat(sets.weights * (1 - 1 / np.minimum(np.maximum(sizes, 1), c)), sizes)
    by_contents = np.bincount(sets.holders, parts, n)
    common = inventory.contents.common().astype(np.float64)
    domains = np.asarray(inventory.domains)
    holds_zero = inventory.zeros > 0
    common += (domains[:, None] == domains) & holds_zero & holds_zero[:, None]
    np.fill_diagonal(common, 0)
    by_pairs = np.sort(common, axis=1)[:, max(0, n - (c - 1)) :].sum(axis=1) / 2
    saved = math.floor(float(np.minimum(by_contents, by_pairs).sum()) + 0.5)
    return int(max(copies, float(sets.alone.sum()) - saved))


def _assumptions(
    inventory: Inventory, pages: int | None, most_owners: int | None, headroom: float
) -> list[str]:
    said = [
        "A host holds each content of its owners once, zero pages too: what sharing leaves when it has found all;"
        " memory changes, so that it finds less.",
        "What hypervisor and host need for themselves is not counted.",
    ]
    if most_owners is not None:
        said.append(f"Hosts are of any size, and take up to {most_owners} owners each (no size was given).")
    if pages is not None:
        free = f", {100 * headroom:g} % of it left free," if headroom else ""
        said.append(f"An owner fits where the host's memory{free} holds what its owners need together.")
    if len(set(inventory.domains)) > 1:
        said.append("Owners of different sharing domains may be on one host, and share nothing there.")
    if len(inventory.gaps):
        unknown = int(inventory.gaps["pages"].sum())
        said.append(f"{unknown:,} pages of the owners are unknown, and not counted: hosts need room for them too.")
    said.append("The search tries moves and swaps from several starts: a better placement than found may exist.")
    return said
