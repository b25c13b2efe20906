"""CPython with a model of cyclic objects, whose collector tells when it runs (gc.callbacks) by the intent "collect".

What it does is in cpython_work.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from programs import HERE

NEEDS = ("/usr/bin/python3",)


def command(folder: Path, seconds: int) -> list[str]:
    """The system's Python, without site packages."""
    del folder
    interpreter = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    return [interpreter, "-I", "-S", str(HERE / "cpython_work.py"), str(seconds)]
