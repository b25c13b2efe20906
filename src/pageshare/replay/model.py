"""A write model: which pages are written when, and what they then hold, drawn from a few numbers (docs/writes.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pageshare.images import printable
from pageshare.replay.contents import Grown
from pageshare.replay.history import Writes, WriteSource
from pageshare.synth.spec import SpecError, check, check_number, check_whole, known, of_toml, parse_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pageshare.replay.contents import Contents
    from pageshare.replay.history import Snapshots
    from pageshare.space import PageSpace

MOST_RATE = 1e7
MOST_POPULAR = 1 << 20
"""Popular contents have the generator's numbers up to here, others those behind."""
BLOCK = 1 << 14
"""How many writes are drawn at a time, about."""
LONGEST = 16.0
"""Seconds at most that are drawn at a time: no more than a few contents are made in vain."""
_FOREVER = 1e12
_ZERO, _COPY, _SAME, _UNIQUE = range(4)


@dataclass(frozen=True)
class Burst:
    """Every ``every`` seconds the rate is ``factor`` times what is said, for ``length`` seconds, the first from 0 on;
    ``rest`` times otherwise."""

    every: float
    length: float
    factor: float = 10.0
    rest: float = 1.0

    def __post_init__(self) -> None:
        check_number("burst.every", self.every, 0.001, _FOREVER)
        check_number("burst.length", self.length, 0, self.every, above=True)
        check_number("burst.factor", self.factor, 0, 1000)
        check_number("burst.rest", self.rest, 0, 1000)


@dataclass(frozen=True)
class Region:
    """Pages that are written in one way; docs/writes.md tells more about each key.

    ``owner`` are the names of owners, none for all; in each of them ``rate`` pages a second are written: those from
    address ``first`` on, ``size`` bytes, or a ``share`` of all that the dump stores, which begins ``at`` a share.
    """

    rate: float = 100.0
    owner: tuple[str, ...] = ()
    first: int | None = None
    size: int | None = None
    share: float | None = None
    at: float | None = None
    pick: str = "uniform"
    exponent: float = 1.0
    burst: Burst | None = None
    phases: tuple[tuple[float, float], ...] = ()
    zero: float = 0.0
    copy: float = 0.0
    same: float = 0.0
    contents: int = 100
    popularity: float = 1.0

    def __post_init__(self) -> None:
        check_number("rate", self.rate, 0, MOST_RATE, above=True)
        if self.first is not None:
            check_whole("first", self.first, 0, (1 << 64) - 1)
        if self.size is not None:
            check_whole("size", self.size, 1, (1 << 64) - 1)
        if self.share is not None:
            check_number("share", self.share, 0, 1, above=True)
            if self.first is not None or self.size is not None:
                raise SpecError("share: leave it out where first or size says which pages there are")
        if self.at is not None:
            check(self.share is not None, "at", "left out without share", self.at)
            check_number("at", self.at, 0, 1)
            check((self.share or 0) + self.at <= 1 + 1e-9, "at", "at most 1 together with share", self.at)
        check(self.pick in ("uniform", "zipf"), "pick", "uniform or zipf", self.pick)
        for key in ("exponent", "popularity"):
            check_number(key, getattr(self, key), 0, 10)
        self._check_phases()
        parts = {key: getattr(self, key) for key in ("zero", "copy", "same")}
        for key, value in parts.items():
            check_number(key, value, 0, 1)
        if sum(parts.values()) > 1 + 1e-9:
            terms = " + ".join(f"{key} {value:g}" for key, value in parts.items() if value)
            raise SpecError(f"{terms} = {sum(parts.values()):g}: must be at most 1 together")
        check_whole("contents", self.contents, 1, MOST_POPULAR)

    def _check_phases(self) -> None:
        allowed = "a list of pairs of seconds, [from, until]"
        check(isinstance(self.phases, (list, tuple)), "phases", allowed, self.phases)
        before = 0.0
        for i, phase in enumerate(self.phases):
            check(isinstance(phase, (list, tuple)) and len(phase) == 2, f"phases[{i}]", allowed, phase)
            begin, end = phase
            check_number(f"phases[{i}][0]", begin, before, _FOREVER)
            check_number(f"phases[{i}][1]", end, begin, _FOREVER, above=True)
            before = end
        object.__setattr__(self, "phases", tuple((float(begin), float(end)) for begin, end in self.phases))

    @classmethod
    def of_table(cls, table: object) -> Region:
        """From keys and values as in a TOML file."""
        values = dict(known(table, cls))
        check("rate" in values, "rate", "there: writes a second", "left out")
        for key in ("first", "size"):
            if isinstance(values.get(key), str):
                values[key] = parse_size(values[key], key)
        owner = values.get("owner", ())
        names = [owner] if isinstance(owner, str) else owner
        holds = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
        check(holds, "owner", 'a name, a list of names, or "all"', owner)
        check("owner" not in values or len(names) > 0, "owner", "one name at least", owner)
        values["owner"] = () if owner == "all" else tuple(names)
        if "burst" in values:
            burst = known(values["burst"], Burst, "burst")
            for key in ("every", "length"):
                check(key in burst, f"burst.{key}", "there: seconds", "left out")
            values["burst"] = Burst(**burst)
        return cls(**values)

    def pieces(self, begin: float, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """An interval, cut where the rate changes: begin, end and rate of each piece in which there is any."""
        edges = [np.array([begin, end])]
        if self.burst:
            every = self.burst.every
            starts = np.arange(np.floor(begin / every), np.ceil(end / every) + 1) * every
            edges += [starts, starts + self.burst.length]
        phases = np.array(self.phases).reshape(-1, 2)
        edges.append(phases.ravel())
        cuts = np.unique(np.clip(np.concatenate(edges), begin, end))
        middles = (cuts[:-1] + cuts[1:]) / 2
        rates = np.full(len(middles), float(self.rate))
        if self.burst:
            within = middles % self.burst.every < self.burst.length
            rates *= np.where(within, self.burst.factor, self.burst.rest)
        if self.phases:
            phase = np.searchsorted(phases[:, 0], middles, side="right") - 1
            rates[(phase < 0) | (middles >= phases[phase, 1])] = 0
        there = rates > 0
        return cuts[:-1][there], cuts[1:][there], rates[there]

    @property
    def peak(self) -> float:
        """The highest rate."""
        return self.rate * max(self.burst.factor, self.burst.rest) if self.burst else self.rate


@dataclass(frozen=True)
class WriteModel:
    """Some regions, and how long they are written to (``duration`` in seconds, None for no end). Raises SpecError.

    >>> WriteModel.of_table({"region": [{"rate": 1000, "zero": 0.1}]}).regions[0].zero
    0.1
    """

    regions: tuple[Region, ...]
    duration: float | None = None
    path: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check(len(self.regions) > 0, "region", "there, at least one: [[region]]", "left out")
        if self.duration is not None:
            check_number("duration", self.duration, 0, _FOREVER, above=True)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> WriteModel:
        """Read a TOML file. Raises OSError, or SpecError with one line: file, key, what is allowed."""
        return replace(of_toml(path, cls.of_table), path=os.fspath(path))

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> WriteModel:
        """From keys and values as in a TOML file."""
        for key in table:
            if key not in ("duration", "region"):
                raise SpecError(f"{printable(str(key))}: no such key; there are duration, region")
        tables = table.get("region", [])
        check(isinstance(tables, (list, tuple)), "region", "a list of tables: [[region]]", tables)
        regions = []
        for i, each in enumerate(tables):
            try:
                regions.append(Region.of_table(each))
            except SpecError as error:
                names_key = str(error).partition(":")[0].isidentifier() or re.match(r"\w+[.\[]", str(error))
                raise SpecError(f"region[{i}]{'.' if names_key else ': '}{str(error).removeprefix(': ')}") from None
        return cls(tuple(regions), table.get("duration"))


@dataclass(frozen=True)
class _Place:
    """A region's pages: for each of its owners the first page's number, how many, and the sharing domain."""

    region: Region
    first: NDArray[np.int64]
    pages: NDArray[np.int64]
    domain: NDArray[np.uint32]


class Churn:
    """The history of one snapshot and a write model.

    ``notes`` are sentences on what the model can't do here. Contents that are made up are the same ones for each seed,
    so that many replays take no more room than the longest.
    """

    def __init__(self, base: Snapshots, model: WriteModel) -> None:
        """Raises SpecError where the model does not fit the dumps, ValueError for a base of several snapshots."""
        if base.changes:
            raise ValueError("a write model needs a base of one snapshot: a series tells itself what was written")
        self.model = model
        self.space: PageSpace = base.space
        self.contents: Contents = base.contents
        self.ids: NDArray[np.uint32] = base.ids
        domains = len(self.space.domains)
        notes = list(base.notes)
        try:
            self.places = tuple(_place(self.space, region, i, notes) for i, region in enumerate(model.regions))
            self.sources = self._sources()
        except SpecError as error:
            raise SpecError(f"{printable(model.path)}: {error}" if model.path else str(error)) from None
        self.notes = tuple(dict.fromkeys(notes))
        rate = sum(place.region.peak * len(place.first) for place in self.places)
        self.block = min(LONGEST, BLOCK / rate)
        self._unique = [Grown(np.uint32) for _ in range(domains)]
        self._popular = [Grown(np.uint32) for _ in range(domains)]

    @property
    def duration(self) -> float | None:
        """As the model has it."""
        return self.model.duration

    def writes(self, seed: int) -> WriteSource:
        """All writes from the start, drawn by ``seed``."""
        return _Source(self, seed)

    def _sources(self) -> list[NDArray[np.uint32]]:
        """For each domain, the pages that copies are taken from: those that are not zero at the start."""
        copying = {
            int(domain): i
            for i, place in enumerate(self.places)
            if place.region.copy
            for domain in place.domain
        }
        if not copying:
            return []
        domains = np.array([owner.domain for owner in self.space.owners], np.uint32)
        first = self.space.owner_first
        of_page = np.repeat(domains, first[1:] - first[:-1])
        nonzero = self.ids >= self.contents.zeros
        sources = [
            np.flatnonzero(nonzero & (of_page == domain)).astype(np.uint32) for domain in range(len(self.space.domains))
        ]
        for domain, i in copying.items():
            if len(sources[domain]) < 2:
                name = printable(self.space.domains[domain])
                raise SpecError(f"region[{i}].copy: domain {name} does not have two pages that are not zero")
        return sources

    def unique(self, domain: int, first: int, end: int) -> NDArray[np.uint32]:
        """Ids of contents that are made up, number ``first`` to ``end`` of a domain."""
        return self._made(self._unique[domain], MOST_POPULAR + 1, first, end)

    def popular(self, domain: int, count: int) -> NDArray[np.uint32]:
        """Ids of the popular contents of a domain, as many as there are in a region."""
        return self._made(self._popular[domain], 1, 0, count)

    def _made(self, made: Grown[np.uint32], number: int, first: int, end: int) -> NDArray[np.uint32]:
        if end > len(made):
            if number + end > 1 << 31:
                raise ValueError("a write model has 2^31 contents that nobody else holds, and no more")
            made.append(self.contents.new(np.arange(number + len(made), number + end)))
        return made.all[first:end]


def churn(base: Snapshots, model: WriteModel) -> Churn:
    """What a write model makes of some dumps. Raises SpecError where it does not fit them."""
    return Churn(base, model)


def _place(space: PageSpace, region: Region, number: int, notes: list[str]) -> _Place:
    names = [owner.name for owner in space.owners]
    for name in region.owner:
        check(name in names, f"region[{number}].owner", f"one of {printable(', '.join(names))}", name)
    chosen = [i for i, name in enumerate(names) if not region.owner or name in region.owner]
    edges = space.owner_first.tolist()
    ranges = []
    for i in chosen:
        first, end = edges[i], edges[i + 1]
        count = end - first
        if region.share is not None:
            low = min(round((region.at or 0) * count), max(0, count - 1))
            high = min(count, max(low + 1, round(((region.at or 0) + region.share) * count)))
        else:
            frames = space.locate(np.arange(first, end, dtype=np.uint32))[1]
            at = region.first or 0
            low = int(np.searchsorted(frames, np.uint64(at // space.page_size)))
            high = count
            if region.size is not None:
                last = min((at + region.size - 1) // space.page_size, (1 << 64) - 1)
                high = int(np.searchsorted(frames, np.uint64(last), side="right"))
        if low < high:
            ranges.append((first + low, high - low, space.owners[i].domain))
    if not ranges:
        raise SpecError(f"region[{number}]: the dumps store no page there")
    if len(ranges) < len(chosen):
        notes.append(f"region[{number}]: {len(chosen) - len(ranges)} of its owners have no page there")
    holes = sum(space.owners[i].coverage.zero + space.owners[i].coverage.zero_inferred for i in chosen)
    if holes:
        notes.append("pages that the dumps do not store, such as holes, are not written to: they stay zero")
    lows, counts, domains = (np.array(each) for each in zip(*ranges, strict=True))
    return _Place(region, lows.astype(np.int64), counts.astype(np.int64), domains.astype(np.uint32))


class _Zipf:
    """Ranks 1..n with weights of 1 / rank**exponent, by rejection-inversion: no table, and a few draws for each.

    W. Hörmann, G. Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions",
    ACM Transactions on Modeling and Computer Simulation 6(3), 1996.
    """

    def __init__(self, exponent: float) -> None:
        self._power = 1 - exponent
        self._exponent = exponent
        self._low = float(self._integral(np.array(1.5))) - 1
        two = self._integral(np.array(2.5)) - 2.0**-exponent
        self._sure = 2 - float(self._inverse(np.array(two)))

    def _integral(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of x**-exponent, from 1 on."""
        logs = np.log(x)
        found: NDArray[np.float64] = np.expm1(self._power * logs) / self._power if abs(self._power) > 1e-9 else logs
        return found

    def _inverse(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        if abs(self._power) > 1e-9:
            found: NDArray[np.float64] = np.exp(np.log1p(np.maximum(self._power * y, -1 + 1e-15)) / self._power)
            return found
        exponential: NDArray[np.float64] = np.exp(y)
        return exponential

    def draw(self, generator: np.random.Generator, most: NDArray[np.int64]) -> NDArray[np.int64]:
        """A rank from 0 on for each of ``most``, and below it."""
        ranks = np.empty(len(most), np.int64)
        left = np.arange(len(most))
        distinct, which = np.unique(most, return_inverse=True)
        highs = self._integral(distinct.astype(np.float64) + 0.5)[which]
        while left.size:
            high = highs[left]
            y = high + generator.random(left.size) * (self._low - high)
            x = self._inverse(y)
            near = np.clip(np.floor(x + 0.5), 1, most[left])
            accepted = near - x <= self._sure
            doubtful = np.flatnonzero(~accepted)
            values = near[doubtful]
            accepted[doubtful] = y[doubtful] >= self._integral(values + 0.5) - values**-self._exponent
            ranks[left[accepted]] = near[accepted].astype(np.int64) - 1
            left = left[~accepted]
        return ranks


@dataclass(frozen=True)
class _Drawn:
    """Writes of a block, before they are given contents: what kind, and for popular ones which."""

    times: NDArray[np.float64]
    pages: NDArray[np.uint32]
    domains: NDArray[np.uint32]
    kinds: NDArray[np.uint8]
    ranks: NDArray[np.int64]

    @classmethod
    def together(cls, parts: Sequence[_Drawn]) -> _Drawn:
        """In order of time."""
        if len(parts) == 1:
            return parts[0]
        # Each part is in order: that makes a stable sort, which merges runs, a quick one.
        order = np.argsort(np.concatenate([part.times for part in parts]), kind="stable")
        return cls(*(np.concatenate([getattr(part, key) for part in parts])[order] for key in cls.__dataclass_fields__))


class _Source:
    """The writes of a churn: drawn a block of time at a time, each block by a seed of its own, so that they do not
    depend on how ``until`` is called."""

    def __init__(self, churn: Churn, seed: int) -> None:
        self._churn, self._seed = churn, seed
        self._next = 0
        self._waiting = Writes.none()
        generator = np.random.default_rng(seed)
        # Which pages are the often written ones: any.
        self._order = [
            np.concatenate([generator.permutation(int(count)).astype(np.uint32) for count in place.pages])
            if place.region.pick == "zipf"
            else None
            for place in churn.places
        ]
        self._offset = [np.cumsum(place.pages) - place.pages for place in churn.places]
        self._rank = [_Zipf(place.region.exponent) for place in churn.places]
        self._popularity = [_Zipf(place.region.popularity) for place in churn.places]
        self._used = [0] * len(churn.space.domains)
        self._now = churn.ids.copy() if churn.sources else None

    def until(self, time: float) -> Writes:
        """Those since the last call."""
        parts = [self._waiting]
        while self._next * self._churn.block <= time:
            parts.append(self._make(self._next))
            self._next += 1
        writes = self._waiting if len(parts) == 1 else Writes.together(parts)
        end = int(np.searchsorted(writes.times, time, side="right"))
        self._waiting = writes.part(end, len(writes))
        return writes.part(0, end)

    def _make(self, block: int) -> Writes:
        generator = np.random.default_rng([self._seed, block])
        begin = block * self._churn.block
        end = (block + 1) * self._churn.block
        drawn = _Drawn.together([self._draw(i, generator, begin, end) for i in range(len(self._churn.places))])
        return Writes(drawn.times, drawn.pages, self._contents(drawn, generator))

    def _draw(self, number: int, generator: np.random.Generator, begin: float, end: float) -> _Drawn:
        """Those of one region."""
        place = self._churn.places[number]
        region, owners = place.region, len(place.first)
        begins, ends, rates = region.pieces(begin, end)
        counts = generator.poisson((ends - begins) * rates * owners)
        count = int(counts.sum())
        times = generator.random(count)
        times *= np.repeat(ends - begins, counts)
        times += np.repeat(begins, counts)
        # Nothing else that is drawn depends on the time, so that only the times need be sorted. In nanoseconds, they
        # are written to a trace with few digits.
        times = np.sort(np.round(times, 9))
        owner = generator.integers(0, owners, count) if owners > 1 else np.zeros(count, np.int64)
        pages = place.pages[owner]
        order = self._order[number]
        if order is None:
            into = np.minimum((generator.random(count) * pages).astype(np.int64), pages - 1)
        else:
            into = order[self._offset[number][owner] + self._rank[number].draw(generator, pages)].astype(np.int64)
        edges = np.cumsum([region.zero, region.copy, region.same])
        kinds = np.zeros(count, np.uint8)
        if edges[-1]:
            chance = generator.random(count)
            for edge in edges:
                kinds += chance >= edge
        else:
            kinds[:] = _UNIQUE
        ranks = np.zeros(count, np.int64)
        same = np.flatnonzero(kinds == _SAME)
        if same.size:
            ranks[same] = self._popularity[number].draw(generator, np.full(same.size, region.contents))
        return _Drawn(times, (place.first[owner] + into).astype(np.uint32), place.domain[owner], kinds, ranks)

    def _contents(self, drawn: _Drawn, generator: np.random.Generator) -> NDArray[np.uint32]:
        """The ids that these writes leave."""
        churn = self._churn
        ids = np.where(drawn.kinds == _ZERO, drawn.domains, np.uint32(0))
        for domain in np.unique(drawn.domains).tolist():
            mine = drawn.domains == domain
            unique = np.flatnonzero(mine & (drawn.kinds == _UNIQUE))
            used = self._used[domain]
            ids[unique] = churn.unique(domain, used, used + unique.size)
            self._used[domain] += unique.size
            same = np.flatnonzero(mine & (drawn.kinds == _SAME))
            if same.size:
                ids[same] = churn.popular(domain, int(drawn.ranks[same].max()) + 1)[drawn.ranks[same]]
        if self._now is not None:
            self._copy(drawn, ids, generator, self._now)
        return ids

    def _copy(
        self, drawn: _Drawn, ids: NDArray[np.uint32], generator: np.random.Generator, now: NDArray[np.uint32]
    ) -> None:
        """Give copies the content that their source page holds just then; ``now`` is what pages hold before."""
        churn = self._churn
        count = len(drawn.pages)
        copies = np.flatnonzero(drawn.kinds == _COPY)
        source = np.empty(copies.size, np.uint32)
        chance = generator.random(copies.size)
        for domain in np.unique(drawn.domains[copies]).tolist():
            mine = drawn.domains[copies] == domain
            pages = churn.sources[domain]
            at = np.minimum((chance[mine] * len(pages)).astype(np.int64), len(pages) - 1)
            itself = pages[at] == drawn.pages[copies[mine]]
            source[mine] = pages[(at + itself) % len(pages)]
        # Which write of this block was the last to each source, if any.
        keys = np.sort(drawn.pages.astype(np.uint64) << np.uint64(32) | np.arange(count, dtype=np.uint64))
        at = np.searchsorted(keys, source.astype(np.uint64) << np.uint64(32) | copies.astype(np.uint64)) - 1
        before = keys[at]
        earlier = (at >= 0) & (before >> np.uint64(32) == source)
        write = (before & np.uint64(0xFFFF_FFFF)).astype(np.int64)
        # A copy of what is no copy, or was there before, has its content from there; a page that is zero by now is
        # copied as it was at the start.
        of_copy = np.zeros(count, np.bool_)
        of_copy[copies] = True
        of_copy_here = earlier & of_copy[write]
        content = np.where(earlier, ids[write], now[source])
        content = np.where(content < churn.contents.zeros, churn.ids[source], content)
        ids[copies] = content
        # A copy of a copy has the content of the first in the row: each goes back twice as far in each turn.
        root = np.arange(count)
        root[copies[of_copy_here]] = write[of_copy_here]
        left = copies[of_copy_here]
        while left.size:
            further = root[root[left]]
            moved = further != root[left]
            root[left] = further
            left = left[moved]
        ids[copies] = ids[root[copies]]
        pages, numbers = keys >> np.uint64(32), keys & np.uint64(0xFFFF_FFFF)
        last = np.flatnonzero(np.append(pages[:-1] != pages[1:], np.ones(min(1, count), np.bool_)))
        now[pages[last].astype(np.int64)] = ids[numbers[last].astype(np.int64)]


__all__ = ["Burst", "Churn", "Region", "WriteModel", "churn"]
