"""``pageshare lab answer``: an experiment over many seeds, as a page with plots."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pageshare.commands import UsageError
from pageshare.commands._output import check_free
from pageshare.commands._work import run_with_share

SEEDS, FEW = 10, 2
"""Of each case, unless a number is given: usually, and with --quick."""


def run(args: argparse.Namespace) -> int:
    """Run the experiment, write its page; names what was written."""
    from pageshare.core import Control, Stopped
    from pageshare.lab.answers import ANSWERS
    from pageshare.render import lab_answers

    if args.name not in ANSWERS:
        raise UsageError(f"answer {args.name or ''}: name one of {', '.join(ANSWERS)}")
    folder = args.output or Path()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    lab_answers.check()
    for name in lab_answers.files(args.name):
        check_free(folder / name, force=args.force)
    control, done = Control(), [0.0]

    def tell(share: float) -> None:
        done[0] = share
        if control.stopped:
            raise Stopped(0)

    usual = FEW if args.quick else SEEDS
    seeds = args.seeds or usual
    module = importlib.import_module(f"pageshare.lab.answers.{args.name.replace('-', '_')}")
    answer, interrupt = run_with_share(
        lambda: module.answer(seeds, quick=args.quick, tell=tell),
        control,
        label=f"answer {args.name}",
        done=lambda: done[0],
        quiet=args.quiet,
    )
    if interrupt is not None:
        raise interrupt
    command = ["pageshare", "lab", "answer", args.name]
    command += ["--quick"] if args.quick else []
    command += ["--seeds", str(seeds)] if seeds != usual else []
    page = lab_answers.page_of(args.name, answer, shlex.join(command), quick=args.quick)
    written = lab_answers.write(page, args.name, folder)
    if args.json:
        document = {"simulation": lab_answers.SIMULATED, "answer": args.name, **as_json(answer)}
        json.dump(document, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        sys.stdout.writelines(f"{path}\n" for path in written)
    return 0


def as_json(value: Any) -> Any:
    """An answer as JSON has it: what is not known (nan, or without end) is null, and what a figure is of, where that is
    no name, is one: its parts, one after the other."""
    if dataclasses.is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_name(key): as_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _name(key: Any) -> str:
    if dataclasses.is_dataclass(key):
        key = tuple(getattr(key, field.name) for field in dataclasses.fields(key))
    if isinstance(key, tuple):
        return ", ".join(map(_name, key))
    return f"{key:g}" if isinstance(key, float) else str(key)
