"""Ruby with a catalogue of linked documents, whose collector, in the thread that works, tells when it runs.

What it does is in ruby_work.rb. The interpreter says when its collector begins and stops, marking and sweeping, by
events for extensions (GC_ENTER and GC_EXIT); ruby_work.c passes them on as the intent "collect".
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from programs import HERE

NEEDS = ("ruby", "cc")


def command(folder: Path, seconds: int) -> list[str]:
    """The system's Ruby, without gems; the extension is compiled here."""
    asked = 'print RbConfig::CONFIG.values_at("rubyhdrdir", "rubyarchhdrdir").join("\\n")'
    headers = subprocess.run(["ruby", "-rrbconfig", "-e", asked], capture_output=True, text=True, check=True).stdout
    made = folder / "ruby_work.so"
    include = [f"-I{line}" for line in headers.splitlines()]
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", *include, "-o", made, HERE / "ruby_work.c"], check=True)
    return ["/usr/bin/ruby", "--disable-gems", f"-r{made}", str(HERE / "ruby_work.rb"), str(seconds)]
