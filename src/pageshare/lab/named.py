"""Programs, estimators and scan policies by name: those that are built in, and a user's own as ``file.py:Class``."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pageshare.images import printable
from pageshare.lab.keys import pages_of, parse_time
from pageshare.lab.memory import SECOND
from pageshare.synth.spec import SpecError, check, shown

PROGRAMS: dict[str, str] = {
    "boot": "boot:Boot",
    "file-cache": "file_cache:FileCache",
    "system": "system:System",
    "steady": "steady:Steady",
    "phases": "phases:Phases",
    "ramp": "ramp:Ramp",
    "streaming": "streaming:Streaming",
    "full-scan": "full_scan:FullScan",
    "toucher": "toucher:Toucher",
    "zero-page-thread": "zero_page_thread:ZeroPageThread",
    "init-on-free": "init_on_free:InitOnFree",
    "nursery": "nursery:Nursery",
    "semispace": "semispace:Semispace",
    "own-thread": "own_thread:OwnThread",
}
"""Module and class of each, in ``lab.programs``; loaded when one is made."""
GIVEN = ("view", "rng", "trace")
"""What the laboratory gives to a class; other parameters are its options."""

MOST = 1e300
"""Of numbers in a file, well below the end of floats."""


@dataclass(frozen=True)
class Named:
    """A class by its name in a scenario, and options for it, checked against what it takes. ``where`` is what messages
    call it; ``own``: a user's."""

    where: str
    name: str
    make: Callable[..., Any]
    options: Mapping[str, Any]
    own: bool = False

    def made(self, **given: Any) -> Any:
        """One of the class. ``given`` are those of GIVEN that it takes. Raises SpecError for whatever goes wrong."""
        taken = inspect.signature(self.make).parameters
        every = any(each.kind is each.VAR_KEYWORD for each in taken.values())
        given = {name: value for name, value in given.items() if name in taken or every}
        with Blamed(self.where, self.name):
            return self.make(**given, **self.options)


class Blamed:
    """What goes wrong within is a SpecError that names who is to blame, and the line, if that is a user's."""

    def __init__(self, where: str, name: str) -> None:
        self.where, self.name = where, name

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if not isinstance(error, (Exception, SystemExit)) or isinstance(error, (SpecError, MemoryError)):
            return
        place = ""
        if own := ":" in self.name:
            ends = self.name.rpartition(":")[0]
            frames = [
                each for each in traceback.extract_tb(error.__traceback__) if each.filename.endswith(Path(ends).name)
            ]
            place = f" in line {frames[-1].lineno}" if frames else ""
        words = str(error) if isinstance(error, ValueError) and not own else f"{type(error).__name__}: {error}"
        raise SpecError(_line(f"{self.where}: {self.name}{place}: {words}")) from None


def _line(text: str) -> str:
    return printable(" ".join(text.split()))[:400]


def programs() -> dict[str, Callable[..., Any]]:
    """All that are built in, by name."""
    return {name: _program(name) for name in PROGRAMS}


def _program(name: str) -> Callable[..., Any]:
    module, _colon, kind = PROGRAMS[name].partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"pageshare.lab.programs.{module}"), kind)
    return found


def scan_policies() -> list[str]:
    """Names of the scan policies that a host can share by: the oracle knows all contents, and is none of them."""
    from pageshare.policies import POLICIES

    return [name for name in POLICIES if name != "oracle"]


def find(kind: str, name: object, where: str, folder: Path) -> tuple[Callable[..., Any], bool]:
    """The class that a scenario calls by ``name``, and whether it is a user's own; ``kind`` is "program" or
    "estimator". Own files are looked for in ``folder``. Raises SpecError, OSError."""
    check(isinstance(name, str) and name != "", where, f"the name of {a(kind)}, or FILE.py:CLASS", name)
    if is_own(str(name)):
        return load(str(name), where, folder), True
    if kind == "program":
        there: Mapping[str, Any] = PROGRAMS
    else:
        from pageshare.lab.estimators import ESTIMATORS

        there = ESTIMATORS
    if name not in there:
        raise SpecError(
            f"{where}: no {kind} {shown(name)}; there are {', '.join(there)}, and your own as FILE.py:CLASS"
        )
    return (_program(str(name)) if kind == "program" else there[str(name)]), False


def a(kind: str) -> str:
    """With its article."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def is_own(name: str) -> bool:
    """Whether a name is that of a user's class: ``file.py:Class``."""
    return re.search(r"\.py:", name) is not None


def load(name: str, where: str, folder: Path) -> Callable[..., Any]:
    """A class from a file. Raises SpecError."""
    file, _colon, kind = name.rpartition(":")
    path = folder / file
    if not path.is_file():
        raise SpecError(f"{where}: {printable(os.fspath(path))}: there is no such file")
    key = f"pageshare_lab_own_{abs(hash(os.path.realpath(path))):x}"
    module = sys.modules.get(key)
    if module is None:
        spec = importlib.util.spec_from_file_location(key, path)
        if spec is None or spec.loader is None:
            raise SpecError(f"{where}: {printable(os.fspath(path))}: can't be loaded as Python")
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module  # dataclasses look for their module there
        try:
            # What it prints does not go where results will.
            with Blamed(where, name), contextlib.redirect_stdout(sys.stderr):
                spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[key]
            if isinstance(error, SystemExit):
                raise SpecError(f"{where}: {printable(name)}: exits when it is loaded") from None
            raise
    found: Callable[..., Any] | None = getattr(module, kind, None)
    if not callable(found):
        there = [
            key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__
        ]
        raise SpecError(f"{where}: {printable(name)}: no such class; there are {', '.join(there) or 'none'}")
    return found


def options_of(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a class can be told, by name."""
    parameters = inspect.signature(make).parameters
    return {
        name: each for name, each in parameters.items() if name not in GIVEN and each.kind is not each.VAR_POSITIONAL
    }


def checked(make: Callable[..., Any], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options as a class takes them: each known, and like its default. ``pages`` may be a size, any number of seconds a
    time as text. Raises SpecError."""
    known = options_of(make)
    every = any(each.kind is each.VAR_KEYWORD for each in known.values())
    values = {}
    for key, value in options.items():
        if key not in known and not every:
            there = f"there are {', '.join(known)}" if known else "it has none"
            raise SpecError(f"{printable(f'{where}.{key}')}: no such option; {there}")
        values[key] = _as(f"{where}.{key}", key, value, known[key].default if key in known else None)
    for key, each in known.items():
        lacking = each.default is each.empty and each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)
        if lacking and key not in values and key != "pages":
            raise SpecError(f"{where}.{key}: is left out")
    return values


def _as(name: str, key: str, value: Any, default: Any) -> Any:
    if key == "pages":
        return pages_of(name, value, 1, 1 << 26)
    if isinstance(default, str):
        check(isinstance(value, str), name, "a text", value)
    elif isinstance(default, bool):
        check(isinstance(value, bool), name, "true or false", value)
    elif isinstance(default, int):
        check(isinstance(value, int) and not isinstance(value, bool), name, "a whole number", value)
        check(abs(value) < 1 << 62, name, "a whole number below 2^62", value)
    elif isinstance(default, float):
        return _number(name, value)
    elif isinstance(default, (list, tuple)):
        check(isinstance(value, list) and 0 < len(value) <= 10_000, name, "a list of numbers", value)
        return [_number(f"{name}[{number}]", each) for number, each in enumerate(value)]
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, str) and (time := parse_time(value)) is not None:
        return time / SECOND
    holds = isinstance(value, (int, float)) and not isinstance(value, bool) and -MOST <= value <= MOST
    check(holds, name, 'a number, or a time such as "15s"', value)
    return float(value)


def sentence(make: Callable[..., Any]) -> str:
    """What a class does: the first sentence of its docstring, on one line; of one with other options, these."""
    if isinstance(make, partial):
        options = (f"{key} = {getattr(value, '__name__', value)}" for key, value in make.keywords.items())
        return f"{make.func.__name__}, with {', '.join(options)}."
    paragraph = " ".join((inspect.getdoc(make) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0].replace("``", "")
