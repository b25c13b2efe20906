"""Scan policies: which pages to look at next. One file each; this one names them and states the protocol."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pageshare.policies.generational import Generational
from pageshare.policies.hash_ranges import HashRanges
from pageshare.policies.io_hints import IoHints
from pageshare.policies.ksm import Ksm
from pageshare.policies.not_recently_written import NotRecentlyWritten
from pageshare.policies.oracle import Oracle
from pageshare.policies.peek_first import PeekFirst
from pageshare.policies.peek_runs import PeekRuns
from pageshare.policies.random_permutation import RandomPermutation
from pageshare.policies.random_with_replacement import RandomWithReplacement
from pageshare.policies.region_bandit import RegionBandit
from pageshare.policies.region_ladder import RegionLadder
from pageshare.policies.region_runs import RegionRuns
from pageshare.policies.run_following import RunFollowing
from pageshare.policies.same_frame import SameFrame
from pageshare.policies.sequential import Sequential
from pageshare.policies.sequential_interleaved import SequentialInterleaved
from pageshare.policies.stratified import Stratified
from pageshare.policies.view import View
from pageshare.policies.zero_first import ZeroFirst
from pageshare.space import PageSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Policy(Protocol):
    """An order in which to look at the pages of a ``View``, without end: pass follows pass.

    Made of a view, and of options by keyword. If it has an attribute ``table_options``, a dict, these are given to the
    ``FrameTable``. ``next`` is called when all pages that it gave before were looked at, and ``feedback`` was told.
    """

    def next(self, count: int) -> NDArray[np.uint32]:
        """Page numbers, uint32 of shape (n,), to look at next; 1 <= n <= count."""
        ...

    def feedback(
        self, pages: NDArray[np.uint32], outcomes: NDArray[np.uint8], partners: NDArray[np.uint32]
    ) -> None:
        """What became of a batch: arrays of one length, as ``FrameTable.scan`` takes and gives them."""
        ...


POLICIES: dict[str, Callable[..., Policy]] = {
    "sequential": Sequential,
    "sequential-interleaved": SequentialInterleaved,
    "random-permutation": RandomPermutation,
    "random-with-replacement": RandomWithReplacement,
    "ksm": Ksm,
    "stratified": Stratified,
    "same-frame": SameFrame,
    "zero-first": ZeroFirst,
    "not-recently-written": NotRecentlyWritten,
    "region-ladder": RegionLadder,
    "io-hints": IoHints,
    "hash-ranges": HashRanges,
    "generational": Generational,
    "run-following": RunFollowing,
    "region-bandit": RegionBandit,
    "region-runs": RegionRuns,
    "peek-first": PeekFirst,
    "peek-runs": PeekRuns,
    "oracle": Oracle,
}
ALIASES = {"random": "random-permutation"}


def find(name: str) -> Callable[..., Policy]:
    """What makes the policy of that name, or alias; options behind it are left aside. ValueError if there is none."""
    base = name.partition(":")[0]
    policy = POLICIES.get(ALIASES.get(base, base))
    if policy is None:
        raise ValueError(f"no policy {base!r}: there are {', '.join([*POLICIES, *ALIASES])}")
    return policy


def full_name(name: str) -> str:
    """The same for each way to write a policy's name: no alias, and no colon without options behind it.

    >>> full_name("random"), full_name("peek-runs:"), full_name("ksm:smart_scan=0")
    ('random-permutation', 'peek-runs', 'ksm:smart_scan=0')
    """
    base, _colon, options = name.partition(":")
    given = ",".join(filter(None, options.split(",")))
    return ALIASES.get(base, base) + (f":{given}" if given else "")


def sentence(name: str) -> str:
    """What the policy of that name does: the first sentence of its docstring, on one line, classes by their names here.

    >>> from pageshare import policies
    >>> policies.sentence("sequential")
    'Page numbers 0, 1, .. pages-1, and again.'
    """
    names = {getattr(policy, "__name__", ""): name for name, policy in POLICIES.items()}
    paragraph = " ".join((inspect.getdoc(find(name)) or "").partition("\n\n")[0].split())
    first = re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0]
    return re.sub(r"``(\w+)``", lambda quoted: names.get(quoted[1], quoted[1]), first)


def create(name: str, view: View) -> Policy:
    """The policy of that name, or alias, perhaps with options: ``ksm:smart_scan=0,max_page_sharing=2``.

    Raises ValueError if there is none, or if it has no such option.
    """
    policy = find(name)
    try:
        return policy(view, **_options(name.partition(":")[2]))
    except TypeError as error:
        raise ValueError(f"policy {name}: {error}") from None


def check(name: str, *, answer_known: bool = True) -> None:
    """Try a policy's name and the options behind it on a page, so that what is wrong is known before anything is read.

    ``answer_known``: for who counts all pages first, and so can run a policy that needs to know what they hold. Raises
    ValueError.
    """
    known = [*inspect.signature(find(name)).parameters][1:]
    base, _colon, options = name.partition(":")
    for option in filter(None, options.split(",")):
        if option.partition("=")[0] not in known:
            there = f"its options are {', '.join(known)}" if known else "it has none"
            raise ValueError(f"policy {base} has no option {option.partition('=')[0]!r}: {there}")
    contents = (lambda: np.zeros(1, np.uint32)) if answer_known else None
    view = View(PageSpace.of(bytes(4096)), contents=contents)
    try:
        create(name, view).next(1)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"policy {name}: an option makes no sense ({error})") from None


def _options(given: str) -> dict[str, Any]:
    """Options as they are written behind a name: NAME=NUMBER, with commas between."""
    options: dict[str, Any] = {}
    for option in filter(None, given.split(",")):
        key, _equals, value = option.partition("=")
        try:
            options[key] = (float if "." in value else int)(value)
        except ValueError:
            raise ValueError(f"option {option!r}: must be NAME=NUMBER") from None
    return options


__all__ = [
    "ALIASES",
    "POLICIES",
    "Generational",
    "HashRanges",
    "IoHints",
    "Ksm",
    "NotRecentlyWritten",
    "Oracle",
    "PeekFirst",
    "PeekRuns",
    "Policy",
    "RandomPermutation",
    "RandomWithReplacement",
    "RegionBandit",
    "RegionLadder",
    "RegionRuns",
    "RunFollowing",
    "SameFrame",
    "Sequential",
    "SequentialInterleaved",
    "Stratified",
    "View",
    "ZeroFirst",
    "check",
    "create",
    "find",
    "full_name",
    "sentence",
]
