"""The ratios of a run to what each benchmark ran beside; and what got slower since an earlier one, by ratio.

    python benchmarks/compare.py [EARLIER.json | FOLDER] NOW.json

Of a folder, the newest run of another commit on the same CPU. Exit status 1 if a ratio fell by more than a tenth, and
below all that the earlier run had in the later one.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

TOLERANCE = 0.9


def ratios(path: str) -> dict[str, dict[str, Any]]:
    """The benchmarks of a run that have a ratio, by name."""
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    return {each["fullname"]: each["extra_info"] for each in document["benchmarks"] if "ratio" in each["extra_info"]}


def slower(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a ratio fell: further than noise would take it."""
    return bool(now["ratio"] < TOLERANCE * before["ratio"] and now["ratio_most"] < before["ratio"])


def show(run: str) -> int:
    """Print the ratio of each benchmark, with the least and the most."""
    for name, row in sorted(ratios(run).items()):
        print(f"{row['ratio']:7.2f} ({row['ratio_least']:.2f}-{row['ratio_most']:.2f})  {name}")
    return 0


def machine(path: Path) -> tuple[Any, ...]:
    """What must be the same for two runs to be compared."""
    about = json.loads(path.read_text(encoding="utf-8"))["pageshare"]
    return about["cpu"], about["cpus"], about["quick"]


def commit(path: Path) -> str:
    """Of the code that ran."""
    return str(json.loads(path.read_text(encoding="utf-8"))["commit_info"]["id"])


def earlier_in(folder: Path, later: Path) -> Path | None:
    """The newest run of a folder that a later one can be compared with."""
    others = [each for each in folder.glob("*.json") if machine(each) == machine(later)]
    others = [each for each in others if commit(each) != commit(later)]
    return max(others, key=lambda each: each.stat().st_mtime, default=None)


def compare(earlier: str, later: str) -> int:
    """Print a line for each benchmark that both runs have; how many got slower decides the status."""
    found = earlier_in(Path(earlier), Path(later)) if Path(earlier).is_dir() else Path(earlier)
    if found is None:
        print(f"no run of another commit on this CPU in {earlier}: nothing to compare with")
        return 0
    if machine(found) != machine(Path(later)):
        print(f"{found} ran on {machine(found)}, {later} on {machine(Path(later))}: ratios differ for that alone")
    print(f"{commit(found)[:10]} -> {commit(Path(later))[:10]}")
    before, now = ratios(str(found)), ratios(later)
    fell = 0
    for name in sorted(before.keys() & now.keys()):
        is_slower = slower(before[name], now[name])
        fell += is_slower
        sign = "SLOWER" if is_slower else "      "
        print(f"{sign} {before[name]['ratio']:7.2f} -> {now[name]['ratio']:7.2f}  {name}")
    for name in sorted(before.keys() ^ now.keys()):
        print(f"only {'before' if name in before else 'now'}: {name}")
    print(f"{fell} of {len(before.keys() & now.keys())} got slower by more than {1 - TOLERANCE:.0%}")
    return 1 if fell else 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(show(sys.argv[1]) if len(sys.argv) == 2 else compare(*sys.argv[1:]))
