"""Runs: page after page of one place that equals page after page of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pageshare.core import Outcome
from pageshare.policies._pending import NONE, Bits, first_of_each
from pageshare.policies._regions import ramps

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from pageshare.policies._pending import Pages, Pass
    from pageshare.policies.view import View

RUN = np.dtype(
    [
        ("page", np.uint32),  # the pair that the run has come to
        ("partner", np.uint32),
        ("room", np.uint32),  # how many pairs there are beyond it, up to the end of an owner
        ("step", np.uint8),  # how many pairs are looked at next
        ("ahead", np.uint8),  # how many are being looked at now
        ("missed", np.uint8),  # how many of the last ones were not found to be shared
        ("back", np.bool_),  # to lower addresses
    ]
)
ROUNDS = 4
"""How often a batch is filled up with pages of runs, before others are taken."""
LONGEST = 64
"""The most pairs of a run in a batch."""


class Runs:
    """Follows finds: page p was found to equal q, so p + 1 and q + 1 are looked at, p + 2 and q + 2, .. and p - 1 and
    q - 1, .. until more than ``slack`` pairs one behind the other were not found to be shared.

    Many runs go on side by side, those that wait longest first. A run begins with one pair a batch and doubles that
    each time that all of them were found. A pair is found when both pages are known to be shared, with whomever; where
    that is known already nothing is visited. A zero page is followed by itself, its partner being any zero page.
    """

    def __init__(self, view: View, slack: int) -> None:
        if not 0 <= slack < 128 or slack != int(slack):
            raise ValueError(f"slack {slack}: must be a whole number from 0 to 127")
        self._slack, self._with_zero = slack, view.objective == "all"
        self._owner_first = view.owner_first
        self._missed = 0  # what a run begins with
        self._found = Bits(view.pages)
        self.begin()

    def begin(self) -> None:
        """Another pass."""
        self._found.clear()
        self._runs: NDArray[Any] = np.empty(0, RUN)
        self.ready = NONE  # pages that there was no room for
        self._open = NONE  # pages, these included, whose outcomes are not known yet

    def next(self, count: int, where: Pass, zero: bool | None = None) -> Pages:
        """Up to ``count`` pages that ``where`` has not given yet, which runs come to next; with ``zero`` only runs of
        zero pages, or only the others, begin to go on."""
        batch, self.ready = self.ready[:count], self.ready[count:]
        for _ in range(ROUNDS):
            room = count - len(batch)
            waits = self._runs["ahead"] == 0
            if zero is not None:
                waits &= (self._runs["page"] == self._runs["partner"]) == zero
            waiting = np.flatnonzero(waits)
            if not room or not len(waiting):
                break
            fresh = self._go_ahead(waiting, room, where)
            batch, self.ready = np.concatenate([batch, fresh[:room]]), fresh[room:]
        return batch

    def _go_ahead(self, waiting: NDArray[np.intp], room: int, where: Pass) -> Pages:
        """Let some of the waiting runs go on; the pages to be visited for that."""
        step = np.minimum(self._runs["step"], self._runs["room"])[waiting]
        step = np.minimum(step, max(1, room // 2))
        # Much of what runs come to was visited before: more of them go on than there would be room for.
        going = np.cumsum(step, dtype=np.int64) <= 2 * room
        going[0] = True
        chosen = waiting[going]
        self._runs["ahead"][chosen] = step[going]
        ended = self._look_ahead(chosen)
        chosen = chosen[~ended]
        if not len(chosen):
            self._runs = np.delete(self._runs, waiting[going])
            return NONE
        pages, partners, rows = self._pairs(self._runs[chosen])
        # Run by run, each in address order: the partners become hints, if they are none yet; the pages find them.
        rows = np.concatenate([rows, rows])
        order = np.argsort(rows, kind="stable")
        pages, rows = np.concatenate([partners, pages])[order], rows[order]
        new = np.flatnonzero(~where.given.has(pages))
        new = new[first_of_each(pages[new])]
        counts = np.bincount(rows[new], minlength=len(chosen))
        fits = np.cumsum(counts) <= room
        if not fits.all():
            fits[: np.argmax(counts > 0) + 1] = True
        self._runs["ahead"][chosen[~fits]] = 0
        # Where everything was visited before, another run is under way, or was.
        idle = chosen[fits & (counts == 0)]
        fresh = where.take(pages[new[fits[rows[new]]]])
        self._runs = np.delete(self._runs, np.concatenate([idle, waiting[going][ended]]))
        self._open = np.concatenate([self._open, fresh])
        return fresh

    def _look_ahead(self, chosen: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether these runs, which are about to go on, have come to their end after all."""
        return np.zeros(len(chosen), np.bool_)

    def _pairs(self, runs: NDArray[Any]) -> tuple[Pages, Pages, NDArray[np.intp]]:
        """The pairs that are being looked at, run by run: pages, partners, and the place of the run."""
        rows = np.repeat(np.arange(len(runs)), runs["ahead"])
        offset = (ramps(runs["ahead"]) + 1) * np.where(runs["back"], -1, 1)[rows]
        page, partner = ((runs[side][rows] + offset).astype(np.uint32) for side in ("page", "partner"))
        return page, partner, rows

    def feedback(
        self, pages: Pages, outcomes: NDArray[np.uint8], partners: Pages, where: Pass
    ) -> None:
        """Go on with runs, or end them; begin new ones from finds."""
        # As a rule a batch comes back as it was given, runs first; but whoever scans may hold pages back.
        if np.array_equal(pages[: len(self._open)], self._open):
            self._open = NONE
        else:
            self._open = self._open[~np.isin(self._open, pages)]
        new = (outcomes == Outcome.SHARED_NEW) | (outcomes == Outcome.SHARED)
        shared = new | (outcomes == Outcome.ALREADY_SHARED)
        if self._with_zero:
            zero = outcomes == Outcome.ZERO
            shared |= zero
            partners = np.where(zero, pages, partners)
            new |= zero
        self._found.add(pages[shared])
        self._found.add(partners[new])
        self._judge()
        self._spawn(pages[new], partners[new], where)

    def _judge(self) -> None:
        """See what became of the pairs that were looked at."""
        going = np.flatnonzero(self._runs["ahead"])
        if len(self._open):
            pages, partners, rows = self._pairs(self._runs[going])
            unknown = np.isin(pages, self._open) | np.isin(partners, self._open)
            going = np.delete(going, rows[unknown])
        if not len(going):
            return
        runs = self._runs[going]
        pages, partners, _ = self._pairs(runs)
        hit = self._found.has(pages) & self._found.has(partners)
        ahead = runs["ahead"].astype(np.int64)
        begins = np.cumsum(ahead) - ahead
        last = np.maximum.reduceat(np.where(hit, ramps(ahead) + 1, 0), begins)
        all_hit = np.logical_and.reduceat(hit, begins)
        missed = np.where(last > 0, ahead - last, runs["missed"] + ahead)
        moved = np.where(runs["back"], -ahead, ahead)
        for side in ("page", "partner"):
            runs[side] = (runs[side] + moved).astype(np.uint32)
        runs["room"] -= ahead.astype(np.uint32)
        runs["step"] = np.where(all_hit, np.minimum(2 * ahead, LONGEST), 1)
        runs["missed"] = np.minimum(missed, 255)
        runs["ahead"] = 0
        alive = (missed <= self._slack) & (runs["room"] > 0) & self._is_worth(ahead, np.add.reduceat(hit, begins))
        self._runs = np.concatenate([np.delete(self._runs, going), runs[alive]])

    def _is_worth(self, ahead: NDArray[np.int64], hits: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether runs should go on in which so many of the pairs that were looked at were found."""
        return np.ones(np.broadcast(ahead, hits).shape, np.bool_)

    def _spawn(self, pages: Pages, partners: Pages, where: Pass) -> None:
        """Begin runs in both directions from these pairs, where there is anything to be visited beside them."""
        parts = [self._runs]
        for back in (False, True):
            room = np.minimum(self._room(pages, back), self._room(partners, back))
            step = (room > 0).astype(np.int64) * (-1 if back else 1)
            fresh = (step != 0) & ~(where.given.has(pages + step) & where.given.has(partners + step))
            if not fresh.any():
                continue
            runs = np.zeros(int(fresh.sum()), RUN)
            runs["page"], runs["partner"], runs["room"] = pages[fresh], partners[fresh], room[fresh]
            runs["step"], runs["back"], runs["missed"] = 1, back, self._missed
            known = self._runs[self._runs["back"] == back]
            parts.append(runs[~np.isin(_pair(runs), _pair(known))])
        if len(parts) > 1:
            self._runs = np.concatenate(parts)

    def forget(self, pages: Pages) -> None:
        """These may not be shared any more."""
        self._found.remove(pages)

    def _room(self, pages: Pages, back: bool) -> NDArray[np.uint32]:
        """How many pages of the same owner lie on one side of each page."""
        owner = np.searchsorted(self._owner_first, pages, side="right")
        return pages - self._owner_first[owner - 1] if back else self._owner_first[owner] - pages - np.uint32(1)


def _pair(runs: NDArray[Any]) -> NDArray[np.uint64]:
    """A number for each pair of pages."""
    numbers: NDArray[np.uint64] = runs["page"].astype(np.uint64) << np.uint64(32) | runs["partner"]
    return numbers
