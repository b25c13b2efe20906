"""A C program with a thread that clears freed pages in the background, as Windows' zero page thread does.

What it does is in zeroing_work.c. The clearing thread says that its intent is "zero".
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from programs import HERE

NEEDS = ("cc",)


def command(folder: Path, seconds: int) -> list[str]:
    """Compiled here."""
    made = folder / "zeroing_work"
    subprocess.run(["cc", "-O2", "-pthread", "-o", made, HERE / "zeroing_work.c"], check=True)
    return [str(made), str(seconds)]
