"""What is to be made, checked on construction: every error names the key and what is allowed."""

from __future__ import annotations

import importlib
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pageshare.images import check_page_size, printable

FORMATS = ("raw", "elf", "lime")
MOST_IMAGES = 10_000
MOST_PAGES = (1 << 32) - 1
MOST_CONTENTS = 1 << 26
_ROUNDING = 1e-9
T = TypeVar("T")


class SpecError(ValueError):
    """A spec that makes no sense. ``str()`` is one line: the file, if there is one, the key, what is allowed."""


def check(holds: bool, key: str, allowed: str, value: object) -> None:
    """Raise SpecError unless ``value`` is what is allowed."""
    if not holds:
        raise SpecError(f"{key}: must be {allowed}, not {shown(value)}")


def shown(value: object) -> str:
    """A value as a message has it: one line, not too long."""
    text = value if isinstance(value, str) else repr(value)
    return printable(text if len(text) <= 60 else text[:60] + "...")


def check_whole(key: str, value: object, low: int, high: int) -> None:
    """Raise SpecError for what is no whole number within bounds."""
    holds = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    check(holds, key, f"a whole number from {low} to {high}", value)


def check_number(key: str, value: object, low: float, high: float, *, above: bool = False) -> None:
    """Raise SpecError for what is no number within bounds, or ``above`` the lower one."""
    holds = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    holds = holds and not (above and value == low)
    check(holds, key, f"a number {'above' if above else 'from'} {low:g} {'up ' if above else ''}to {high:g}", value)


@dataclass(frozen=True)
class Zipf:
    """Popularity of duplicates: content number k of ``contents`` is drawn with a weight of 1 / k**exponent.

    ``exponent`` 0 makes all equally popular. Each page is drawn by itself, so some contents come up once or never.
    """

    exponent: float = 1.0
    contents: int = 20_000

    def __post_init__(self) -> None:
        check_number("popularity.exponent", self.exponent, 0, 10)
        check_whole("popularity.contents", self.contents, 1, MOST_CONTENTS)


@dataclass(frozen=True)
class Counts:
    """Popularity of duplicates as given: content i lies on ``counts[i]`` pages of all images together."""

    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        check(isinstance(self.counts, (list, tuple)), "popularity.counts", "a list of whole numbers", self.counts)
        object.__setattr__(self, "counts", tuple(self.counts))
        check(0 < len(self.counts) <= MOST_CONTENTS, "popularity.counts", f"1 to {MOST_CONTENTS} numbers", self.counts)
        for i, count in enumerate(self.counts):
            check_whole(f"popularity.counts[{i}]", count, 0, MOST_PAGES)


@dataclass(frozen=True)
class Common:
    """Contents that a random subset of the images holds, as files that some guests have read.

    They take up ``fraction`` of each image. Each image holds its share of one pool, drawn at random and without
    repetition, so that each content is in each image with ``probability``.
    """

    fraction: float = 0.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_number("common.fraction", self.fraction, 0, 1)
        check_number("common.probability", self.probability, 0, 1, above=True)


@dataclass(frozen=True)
class Runs:
    """Locality: in how long runs the pages of each class lie, in pages on average; 1 places them at random."""

    zero: float = 1.0
    duplicate: float = 1.0
    unique: float = 1.0
    base: float = 1.0
    common: float = 1.0

    def __post_init__(self) -> None:
        for each in fields(self):
            check_number(f"run.{each.name}", getattr(self, each.name), 1, MOST_PAGES)

    @classmethod
    def of(cls, length: float) -> Runs:
        """The same for all classes."""
        check_number("run", length, 1, MOST_PAGES)
        return cls(**{each.name: length for each in fields(cls)})


@dataclass(frozen=True)
class Alike:
    """Contents that begin alike, as real pages do: ``fraction`` of them share their first ``bytes``.

    Each has one of ``beginnings``, the first of which is all zero. The rest of the page differs, always.
    """

    fraction: float = 0.0
    bytes: int = 64
    beginnings: int = 64

    def __post_init__(self) -> None:
        check_number("alike.fraction", self.fraction, 0, 1)
        check_whole("alike.bytes", self.bytes, 8, 1 << 21)
        check(self.bytes % 8 == 0, "alike.bytes", "a multiple of 8", self.bytes)
        check_whole("alike.beginnings", self.beginnings, 1, 65536)


@dataclass(frozen=True)
class Spec:
    """Images to be made; docs/synth.md tells more about each key.

    Fractions are of each image's pages; what they leave is unique. ``size`` and ``page_size`` are in bytes.
    ``duplicate`` is 0.3 if it is None, unless ``popularity`` is ``Counts``, which say how many pages they take.
    ``sparse`` is the share of the zero pages that are holes in the file (raw only). Raises SpecError, a
    ValueError of one line that names the key.

    >>> Spec(zero=0.5, duplicate=0.25).unique
    0.25
    >>> Spec(zero=2)
    Traceback (most recent call last):
    pageshare.synth.spec.SpecError: zero: must be a number from 0 to 1, not 2
    """

    images: int = 2
    size: int = 256 << 20
    page_size: int = 4096
    seed: int = 1
    format: str = "raw"
    zero: float = 0.4
    duplicate: float | None = None
    base: float = 0.0
    sparse: float = 0.0
    popularity: Zipf | Counts = field(default_factory=Zipf)
    common: Common = field(default_factory=Common)
    run: Runs = field(default_factory=Runs)
    alike: Alike = field(default_factory=Alike)

    def __post_init__(self) -> None:
        check_whole("images", self.images, 1, MOST_IMAGES)
        check_whole("page_size", self.page_size, 512, 1 << 21)
        try:
            check_page_size(self.page_size)
        except ValueError:
            raise SpecError(f"page_size: must be a power of two from 512 to 2097152, not {self.page_size}") from None
        check_whole("size", self.size, self.page_size, self.page_size * MOST_PAGES)
        check(self.size % self.page_size == 0, "size", f"a multiple of the page size, {self.page_size}", self.size)
        check_whole("seed", self.seed, 0, (1 << 64) - 1)
        check(self.format in FORMATS, "format", " or ".join(FORMATS), self.format)
        for key in ("zero", "base", "sparse"):
            check_number(key, getattr(self, key), 0, 1)
        for key, kinds in _TABLES.items():
            check(isinstance(getattr(self, key), kinds), key, "a table", getattr(self, key))
        if self.duplicate is not None:
            check_number("duplicate", self.duplicate, 0, 1)
            if isinstance(self.popularity, Counts):
                raise SpecError("duplicate: leave it out where popularity.counts says how many pages there are")
        if self.sparse and self.format != "raw":
            raise SpecError(f"sparse: must be 0 in format {self.format}: only raw files have holes")
        if self.alike.fraction:
            most = self.page_size - 8
            check(
                self.alike.bytes <= most,
                "alike.bytes",
                f"at most {most}, 8 less than the page size",
                self.alike.bytes,
            )
        self._check_sum()

    def _check_sum(self) -> None:
        parts = self._fractions()
        if math.fsum(parts.values()) > 1 + _ROUNDING:
            terms = " + ".join(f"{key} {value:g}" for key, value in parts.items() if value)
            raise SpecError(f"{terms} = {math.fsum(parts.values()):g}: must be at most 1 together")

    def _fractions(self) -> dict[str, float]:
        if isinstance(self.popularity, Counts):
            duplicate = sum(self.popularity.counts) / (self.images * self.pages)
        else:
            duplicate = 0.3 if self.duplicate is None else self.duplicate
        return {"zero": self.zero, "duplicate": duplicate, "base": self.base, "common": self.common.fraction}

    @property
    def pages(self) -> int:
        """Pages of one image."""
        return self.size // self.page_size

    @property
    def duplicates(self) -> float:
        """The fraction of pages with contents drawn by popularity: ``duplicate``, or what the counts make."""
        return self._fractions()["duplicate"]

    @property
    def unique(self) -> float:
        """The fraction that the others leave."""
        return max(0.0, 1 - math.fsum(self._fractions().values()))

    @property
    def names(self) -> tuple[str, ...]:
        """The images' file names, in the order in which a scan of their folder takes them."""
        digits = len(str(self.images))
        return tuple(f"guest{i + 1:0{digits}}.{self.format}" for i in range(self.images))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Spec:
        """Read a TOML file. Raises OSError, or SpecError with one line: file, key, what is allowed."""
        return of_toml(path, cls.of_table)

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> Spec:
        """From keys and values as in a TOML file.

        >>> Spec.of_table({"size": "64MiB", "popularity": {"kind": "zipf", "contents": 100}}).popularity
        Zipf(exponent=1.0, contents=100)
        """
        values = dict(known(table, cls))
        for key in ("size", "page_size"):
            if isinstance(values.get(key), str):
                values[key] = parse_size(values[key], key)
        if "popularity" in values:
            values["popularity"] = _popularity(values["popularity"])
        if isinstance(values.get("run"), (int, float)):
            values["run"] = Runs.of(values["run"])
        for key, kind in (("common", Common), ("run", Runs), ("alike", Alike)):
            if key in values and not isinstance(values[key], kind):
                values[key] = kind(**known(values[key], kind, key))
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Keys and values as in a TOML file, all of them; ``of_table`` takes them back."""
        values = asdict(self)
        if isinstance(self.popularity, Counts):
            values["popularity"]["counts"] = list(self.popularity.counts)
        values["popularity"] = {
            "kind": "counts" if isinstance(self.popularity, Counts) else "zipf",
            **values["popularity"],
        }
        if self.duplicate is None:
            del values["duplicate"]
        return values

    def changed(self, table: Mapping[str, Any]) -> Spec:
        """With the keys and values of ``table``, as in a TOML file, in the place of its own.

        >>> Spec(zero=0.2).changed({"popularity": {"contents": 7}}).popularity.contents
        7
        """
        merged = self.to_dict()
        for key, value in table.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = {**merged[key], **value} if both else value
        return Spec.of_table(merged)


MOST_BYTES = 1 << 20
"""Of a TOML file: nobody writes as much, and a device has no end."""


def toml_table(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A TOML file as it stands. Raises OSError, or SpecError that names the file."""
    # tomllib came with Python 3.11; both have the same face.
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    name = printable(os.fspath(path))
    with Path(path).open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise SpecError(f"{name}: more than 1 MiB: too long for a TOML file of this kind")
    try:
        table: dict[str, Any] = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{name}: not a TOML file: {printable(str(error))}") from None
    return table


def of_toml(path: str | os.PathLike[str], make: Callable[[Mapping[str, Any]], T]) -> T:
    """What ``make`` makes of a TOML file. Raises OSError, or SpecError that names the file."""
    table = toml_table(path)
    try:
        return make(table)
    except SpecError as error:
        raise SpecError(f"{printable(os.fspath(path))}: {error}") from None


_TABLES: dict[str, Any] = {"popularity": (Zipf, Counts), "common": Common, "run": Runs, "alike": Alike}


def known(table: object, kind: Any, prefix: str = "") -> Mapping[str, Any]:
    """``table``, if all its keys are fields of a dataclass."""
    if not isinstance(table, Mapping):
        raise SpecError(f"{prefix}: must be a table, not {shown(table)}")
    allowed = [each.name for each in fields(kind)]
    for key in table:
        if key not in allowed:
            name = f"{prefix}.{key}" if prefix else str(key)
            raise SpecError(f"{printable(name)}: no such key; there are {', '.join(allowed)}")
    return table


def _popularity(table: object) -> Zipf | Counts:
    if isinstance(table, (Zipf, Counts)):
        return table
    if not isinstance(table, Mapping):
        raise SpecError(f"popularity: must be a table, not {shown(table)}")
    values = dict(table)
    kind = values.pop("kind", "counts" if "counts" in values else "zipf")
    if kind == "zipf":
        return Zipf(**known(values, Zipf, "popularity"))
    check(kind == "counts", "popularity.kind", "zipf or counts", kind)
    check("counts" in values, "popularity.counts", "there where kind is counts", "left out")
    return Counts(**known(values, Counts, "popularity"))


def parse_size(text: str, key: str = "size") -> int:
    """Bytes of ``4096``, ``64K``, ``64KiB``, ``1.5GiB``: units are binary. Raises SpecError.

    >>> parse_size("1.5 MiB")
    1572864
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:([KMGTP])?(?:i?B)?|B)", text.strip(), re.I | re.A)
    number, unit = match.groups() if match else ("0.5", None)
    size = float(number) * 1024 ** " KMGTP".index((unit or " ").upper())
    check(size == int(size), key, "a size in bytes, or with K, M, G or T behind (64MiB)", text)
    return int(size)
