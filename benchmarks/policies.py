"""The measured answer: every policy on every memory, as tables: ``python benchmarks/policies.py FILE.md``.

Runs ``pageshare policies`` on the memories of memories.py (made if they are not there), on pages shuffled within their
owners, and on a made memory with much churn; still, and while they change at the default paces of ESX and of KSM.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import memories
from pageshare import synth

PACES = {
    "ESX's default, 200 pages/s": ["--rate", "200"],
    "KSM's default, 100 pages and 20 ms": ["--pages-to-scan", "100"],
}
OURS = "peek-runs"
NOTES = {
    "same": "Constants were tuned on it.",
    "different": "Constants were tuned on it.",
    "processes": "No constant was tuned on it, but it was looked at while peek-runs was made.",
    "held-out": "No constant was tuned on it, but it showed that peek-runs must doubt contents.",
    "unseen": "Nothing was chosen by it, neither constants nor ideas: it was made after the last change to a policy.",
}
CHURN = """
[[region]]
owner = "all"
share = 0.5
rate = 2000
zero = 0.3
copy = 0.2

[[region]]
owner = "all"
at = 0.5
share = 0.5
rate = 200
pick = "zipf"
zero = 0.1
copy = 0.5
"""


EVEN = """
[[region]]
rate = 4400
copy = 0.2
zero = 0.1
same = 0.1
"""


def policies(*arguments: object) -> dict[str, Any]:
    """What the command says."""
    command = [sys.executable, "-m", "pageshare", "policies", "--json", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def shuffled(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The same pages of each file in another order."""
    made = []
    for i, path in enumerate(paths):
        pages = np.fromfile(path, np.uint8).reshape(-1, 4096)
        made.append(folder / f"{path.name}.raw")
        pages[np.random.default_rng(i).permutation(len(pages))].tofile(made[-1])
    return made


def share(number: float | None) -> str:
    """In percent."""
    return "-" if number is None else f"{100 * number:.1f}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, rule, *rows)) + "\n"


def gap(document: Mapping[str, Any], name: str, suffix: str) -> float | None:
    """(policy - oracle) / (random permutation - oracle), in cost until 90 %."""
    cost = {each["name"]: each["cost" + suffix]["90"] for each in document["policies"]}
    if None in (cost[name], cost["oracle"], cost["random-permutation"]):
        return None
    return (cost[name] - cost["oracle"]) / (cost["random-permutation"] - cost["oracle"])


def still(document: Mapping[str, Any]) -> Iterator[str]:
    """Tables of a memory that holds still."""
    for suffix, what in (("", "any pages"), ("_nonzero", "other pages than zero ones")):
        yield f"To save {what}:\n"
        rows = []
        for each in sorted(document["policies"], key=lambda each: each["cost" + suffix]["90"] or 99):
            to_90 = gap(document, each["name"], suffix)
            cpu = each["cpu_seconds" + suffix]["90"]
            rows.append(
                [
                    f"**{each['name']}**" if each["name"] == OURS else each["name"],
                    *(share(each["visits" + suffix][at]) for at in ("50", "90", "99")),
                    share(each["cost" + suffix]["90"]),
                    share(each["spread"]["cost" + suffix]["90"]),
                    "-" if to_90 is None else f"{to_90:.2f}",
                    "-" if cpu is None else f"{1e9 * cpu / document['pages']:.0f}",
                    f"{each['area' + suffix]:.3f}",
                    f"{each['metadata_bits' + suffix]:.1f}",
                ]
            )
        headings = ["policy", "visits 50 %", "90 %", "99 %", "cost 90 %", "+-", "gap", "CPU ns", "area", "bits"]
        yield table(headings, rows)


def changing(document: Mapping[str, Any]) -> Iterator[str]:
    """A table of a memory that changes."""
    rows = []
    for each in sorted(document["policies"], key=lambda each: -each["mean_saved"]):
        rows.append(
            [
                f"**{each['name']}**" if each["name"] == OURS else each["name"],
                f"{each['mean_saved']:,.0f}",
                f"{each['mean_saved_nonzero']:,.0f}",
                f"{each['merges']:,.0f}",
                f"{each['cow_breaks']:,.0f}",
                share(each["cow_breaks"] / max(1.0, each["merges"])),
                f"{each['cow_breaks_within_10s']:,.0f}",
            ]
        )
    yield table(["policy", "pages saved", "nonzero", "merges", "broken", "of merges, %", "within 10 s"], rows)


def series(snapshots: Sequence[Sequence[Path]], times: Sequence[float]) -> list[object]:
    """The arguments that name them."""
    return [word for time, paths in zip(times, snapshots, strict=True) for word in ("--at", f"{time:g}s", *paths)]


def page(work: Path) -> Iterator[str]:
    """All of it."""
    yield "# Scan policies, measured\n"
    yield (
        f"Made by `make answer` on {platform.machine()}, {platform.system()} {platform.release()}."
        " [policies.md](policies.md) says what each policy does, and what follows from these tables. Visits and cost in"
        " % of all pages that must be read, means of three seeds, +- their standard deviation; cost: a visit 1, a peek"
        " 0.04; gap: (cost - oracle's) / (random permutation's - oracle's) at 90 %; CPU: nanoseconds a page of memory"
        " until 90 %, at costs measured in the same run; area: mean share found over a cost of 0 to one visit a page;"
        " bits: kept for each page. While memory changes: pages saved in runs set to save any, nonzero in runs set to"
        " save other pages than zero ones. One merge makes a frame of two pages, and each of them can break it.\n"
    )
    for name in memories.NAMES:
        memory = memories.memory(name)
        yield f"## {name}: {memory.words}\n\n{NOTES.get(name, '')}\n"
        document = policies(*memory.snapshots[0])
        peek = document["peek"]["measured"]
        yield (
            f"{document['pages']:,} pages; {share(document['possible'] / document['pages'])} % could be saved,"
            f" {share(document['possible_nonzero'] / document['pages'])} % without zero pages. A peek costs"
            f" {peek['sequential']:.3f} of a visit in address order, {peek['random']:.3f} of one anywhere.\n"
        )
        yield from still(document)
        for words, pace in PACES.items():
            yield f"While it changes, {memory.times[-1]:g} s at {words} (means over time):\n"
            yield from changing(policies(*pace, *series(memory.snapshots, memory.times)))
    yield "## Pages of *same* shuffled within each guest\n"
    yield "What knows places must be as good as random here; what knows contents need not suffer.\n"
    yield from still(policies(*shuffled(memories.memory("same").snapshots[0], work)))
    yield "## churn: made, with many writes\n\nIt was looked at while peek-runs was made.\n"
    spec = synth.Spec(images=4, size=128 << 20, seed=9, run=synth.Runs(zero=64, duplicate=64, unique=64), base=0.1)
    synth.make(spec, work / "churn")
    (work / "churn.toml").write_text(CHURN)
    made = sorted((work / "churn").glob("*.raw"))
    for words, pace in PACES.items():
        yield f"60 s at {words}; 8,800 writes a second, a fifth to a half of them copies of other pages:\n"
        yield from changing(policies(*pace, "--writes", work / "churn.toml", "--duration", "60s", *made))
    yield "## even: made, written to everywhere alike\n\nIt was looked at while peek-runs was made.\n"
    synth.make(synth.Spec(images=2, size=64 << 20), work / "even")
    (work / "even.toml").write_text(EVEN)
    made = sorted((work / "even").glob("*.raw"))
    yield "Three minutes at KSM's default, with one seed; each page is written to every four seconds or so:\n"
    even = ["--pages-to-scan", "100", "--writes", work / "even.toml", "--duration", "3m", "--seeds", "1"]
    yield from changing(policies(*even, *made))


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, metavar="FILE.md")
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as work:
        output.write_text("\n".join(page(Path(work))))


if __name__ == "__main__":
    main()
