"""The ratios of a run to what each benchmark ran beside; and what got slower since an earlier one, by ratio.

    python benchmarks/compare.py [EARLIER.json] NOW.json

Exit status 1 if a ratio fell by more than a tenth, and by more than both runs' own spread.
"""

from __future__ import annotations

import json
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


def compare(earlier: str, later: str) -> int:
    """Print a line for each benchmark that both runs have; how many got slower decides the status."""
    before, now = ratios(earlier), ratios(later)
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
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(show(sys.argv[1]) if len(sys.argv) == 2 else compare(*sys.argv[1:]))
