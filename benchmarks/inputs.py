"""What is measured: made images whose truth is known, and dumps of real guests. Made once, kept in a folder.

The folder is $PAGESHARE_BENCH_DIR, or ~/.cache/pageshare/bench. With PAGESHARE_BENCH=quick inputs are small: they show
that the suite works, not how fast anything is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pageshare import synth

ROOT = Path(__file__).resolve().parents[1]
MIB, GIB = 1 << 20, 1 << 30
QUICK = os.environ.get("PAGESHARE_BENCH") == "quick"


def folder() -> Path:
    """Where inputs are kept."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pageshare" / "bench"
    path = Path(os.environ.get("PAGESHARE_BENCH_DIR") or default) / ("quick" if QUICK else "full")
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass(frozen=True)
class Input:
    """Some dumps: their name, what they are in a few words, their files."""

    name: str
    words: str
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        """The name, for pytest's test names."""
        return self.name


def made(name: str, words: str, images: int, size: int, **spec: object) -> Input:
    """Images by ``pageshare synth``, unless they are there already."""
    into = folder() / name
    wanted = synth.Spec(images=images, size=size, **spec)  # type: ignore[arg-type]
    try:
        there = json.loads((into / "truth.json").read_text())["spec"] == json.loads(json.dumps(wanted.to_dict()))
    except (OSError, KeyError, ValueError):
        there = False
    if not there:
        synth.make(wanted, into, force=True)
    return Input(name, words, tuple(into / image for image in wanted.names))


def hard(gib: int = 2) -> Input:
    """40 % zero, 30 % unique, 30 % duplicates by Zipf over 20,000 contents, placed at random; ``gib`` of up to 16."""
    words = "made: 40 % zero, 30 % unique, 30 % duplicates (Zipf over 20,000 contents), placed at random"
    whole = made("hard", words, 16, 4 * MIB if QUICK else GIB, seed=1)
    return Input(f"hard-{gib}", words, whole.paths[:gib])


def runs(gib: int = 2) -> Input:
    """The same fractions in runs of 64 pages; ``gib`` of up to 8."""
    words = "made: the same, in runs of 64 pages"
    length = synth.Runs(zero=64, duplicate=64, unique=64)
    whole = made("runs", words, 8, 4 * MIB if QUICK else GIB, seed=2, run=length)
    return Input(f"runs-{gib}", words, whole.paths[:gib])


def software(suffix: str) -> Input:
    """Four Linux guests of 256 MiB under QEMU, with this machine's tools: ``raw`` or ``elf``. Raises RuntimeError."""
    from software import ROLES, make

    roles = ROLES[:1] if QUICK else ROLES
    into = folder() / "software"
    paths = tuple(into / f"guest{i + 1}.{suffix}" for i in range(len(roles)))
    if not all(path.exists() for path in paths):
        try:
            make(into, len(roles))
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"no guests with software: {error}") from error
    return Input(f"software-{suffix}", f"Linux guests of 256 MiB, {suffix}: {', '.join(roles)}", paths)


def guests(suffix: str) -> Input:
    """Eight Linux guests of 112 MiB under QEMU, much alike: ``raw`` or ``elf``. Raises RuntimeError."""
    count = 2 if QUICK else 8
    into = folder() / "guests"
    paths = tuple(into / f"guest{i + 1}.{suffix}" for i in range(count))
    if not all(path.exists() for path in paths):
        boot = [sys.executable, str(ROOT / "tests" / "guests" / "boot.py"), "-o", str(into), "--guests", str(count)]
        done = subprocess.run(boot, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return Input(f"guests-{suffix}", f"{count} small Linux guests of 112 MiB, {suffix}, much alike", paths)
