"""``pageshare lab answer``: an experiment over many seeds, as a page with plots."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import shlex
import sys
from pathlib import Path

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
        document = {"simulation": lab_answers.SIMULATED, "answer": args.name, **dataclasses.asdict(answer)}
        json.dump(document, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        sys.stdout.writelines(f"{path}\n" for path in written)
    return 0
