"""The command line in a child that tells on stderr when a table or a census is at work, and can be made slow."""

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys, time
from pageshare import core
from pageshare.commands import main

seconds = float(sys.argv.pop(1))
slow = sys.argv.pop(1)

def again_and_again(name, whole):
    def work(*arguments, **options):
        os.write(2, f"{name}\\n".encode())  # in one piece, whoever else writes
        result, end = whole(*arguments, **options), time.monotonic() + seconds
        while slow == name and time.monotonic() < end:
            result = whole(*arguments, **options)
        return result
    return work

core.FrameTable.scan = again_and_again("scan", core.FrameTable.scan)
core.census = again_and_again("census", core.census)
from pageshare.replay import costs  # and, with it, what takes the census from the core
if slow == "measure":
    costs.measure = again_and_again("measure", costs.measure)
else:
    costs.measure = lambda *_: costs.Costs((100, 200), (150, 250), (50, 80), (10, 20), (5, 15), 1000)
sys.exit(main())
"""


def start(*arguments, slow="", seconds=1000, **options):
    """``pageshare`` with these arguments; each ``slow`` ("census", "measure", "scan") is done over and over for so many
    seconds. What looks cost is made up, which takes no time, unless measuring is the slow part."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(seconds), slow, *map(str, arguments)], **options)


def children_of(pid):
    """The processes that a process has started, and that are there."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def on_a_terminal(*arguments, stream, **options):
    """What comes out of ``stream`` ("stdout", "stderr") if it is a terminal, and out of the other one."""
    leader, follower = pty.openpty()
    seen = b""
    with start(*arguments, **{stream: follower}, **options) as process:
        os.close(follower)
        # EIO: nobody has the other end any more.
        with contextlib.suppress(OSError):
            while part := os.read(leader, 4096):
                seen += part
        other = (process.stderr if stream == "stdout" else process.stdout).read()
    os.close(leader)
    assert process.returncode == 0
    return seen, other
