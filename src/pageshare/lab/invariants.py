"""What must hold after every event: no page owned twice, none lost, and no guest sees what it did not write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import NO_PAGE
from pageshare.lab.frames import NO_FRAME, ZEROS, Place
from pageshare.lab.guest import DRIVER, FREE, NOWHERE

if TYPE_CHECKING:
    from pageshare.lab.guest import Guest
    from pageshare.lab.host import Host
    from pageshare.lab.sharing import Sharing


class Broken(AssertionError):
    """Invariants do not hold; ``str()`` names them."""


def check(host: Host) -> None:
    """Raise Broken if any invariant is."""
    found = list(broken(host))
    if found:
        raise Broken(f"at {host.clock.now} us: " + "; ".join(found))


def broken(host: Host) -> Iterator[str]:
    """Each invariant that does not hold, as the sentence that should be true."""
    frames = host.frames
    users = np.zeros(frames.count, np.int64)
    for guest in host.guests:
        pmap = guest.pmap
        mapped = (pmap.place == Place.RESIDENT) | (pmap.place == Place.SHARED)
        users += np.bincount(pmap.frame[mapped], minlength=frames.count)
        alone = pmap.frame[pmap.place == Place.RESIDENT]
        for holds, what in (
            (((pmap.frame != NO_FRAME) == mapped).all(), "a page that is mapped has a frame, no other has"),
            ((pmap.place[pmap.ballooned] == Place.ABSENT).all(), "what is ballooned has no frame"),
            ((frames.users[alone] == 1).all(), "a page that is not shared has a frame of its own"),
            (pmap.resident == np.count_nonzero(pmap.place == Place.RESIDENT), "resident pages are counted"),
            (pmap.shared == np.count_nonzero(pmap.place == Place.SHARED), "shared pages are counted"),
            (pmap.swapped == np.count_nonzero(pmap.place == Place.SWAPPED), "swapped pages are counted"),
        ):
            if not holds:
                yield f"{guest.name}: {what}"
        yield from _guest(guest, host)
    if (users != frames.users).any():
        yield "a frame has the users that it counts"
    if not np.array_equal(np.sort(frames.unused()), np.flatnonzero(users == 0)):
        yield "just the frames that nobody uses are free"
    if host.sharing is not None:
        yield from _sharing(host.sharing, host)


def _guest(guest: Guest, host: Host) -> Iterator[str]:
    free = guest.free_list[: guest.free]
    there = np.flatnonzero(guest.at != NOWHERE)
    own = guest.at[there]
    place = guest.pmap.place[own]
    found = np.where(place == Place.SWAPPED, guest.pmap.stored[own], np.uint64(ZEROS))
    mapped = guest.pmap.frame[own] != NO_FRAME
    found[mapped] = host.frames.content[guest.pmap.frame[own[mapped]]]
    checks = [
        (len(np.unique(free)) == guest.free, "a page is on the free list once"),
        ((guest.holder[free] == FREE).all(), "what is on the free list has no holder"),
        (np.count_nonzero(guest.holder == FREE) == guest.free, "what has no holder is on the free list"),
        ((guest.holder[own] == there).all(), "a program's page is where the guest says"),
        (np.count_nonzero(guest.holder >= 0) == len(there), "what programs hold is theirs"),
        (not guest.pmap.ballooned[own].any(), "no program has what the host thinks ballooned"),
        ((found == guest.held[there]).all(), "a page holds what its program wrote last"),
    ]
    if (driver := guest.driver) is not None:
        pages, told = driver.pages(), driver.told()
        anew = guest.pmap.popped or driver.begins
        foreign = guest.pmap.ballooned.copy()
        foreign[pages] = False
        checks += [
            (len(np.unique(pages)) == len(pages), "the balloon has a page once"),
            ((guest.holder[pages] == DRIVER).all(), "what the balloon has, nobody else has"),
            (np.count_nonzero(guest.holder == DRIVER) == len(pages), "no page of the balloon is lost"),
            (anew or guest.pmap.ballooned[told].all(), "the host knows what the balloon has"),
            (anew or not foreign.any(), "the host knows what the balloon has not"),
        ]
    for holds, what in checks:
        if not holds:
            yield f"{guest.name}: {what}"


def _sharing(sharing: Sharing, host: Host) -> Iterator[str]:
    classes = sharing.table.classes()
    members = 0
    for guest, begin in zip(host.guests, sharing.first[:-1], strict=False):
        shared = np.flatnonzero(guest.pmap.place == Place.SHARED)
        members += len(shared)
        heads = classes[begin + shared]
        if (heads == NO_PAGE).any():
            yield f"{guest.name}: the table has what the host shares"
            continue
        number, own = sharing.whose(heads)
        frame = np.zeros(len(shared), np.int32)
        for other in np.unique(number):
            frame[number == other] = host.guests[other].pmap.frame[own[number == other]]
        if (frame != guest.pmap.frame[shared]).any():
            yield f"{guest.name}: pages that the table has in one frame are in one"
    if members != sharing.table.stats().members:
        yield "the host shares what the table has in frames"
