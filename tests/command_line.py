"""Commands as a user runs them, within this process; and two small dumps for them."""

import json
import re

from pageshare.commands import main

PAGE = 4096


def run(capsys, *arguments):
    """(exit status, stdout, stderr) of ``pageshare`` with these arguments."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        status = stopped.code
    out, err = capsys.readouterr()
    return status, out, err


def run_json(capsys, command, *arguments, status=0):
    """What it prints with ``--json``; AssertionError for another exit status."""
    got, out, err = run(capsys, command, "--json", *arguments)
    assert got == status, err
    return json.loads(out)


def flat(text):
    """In one line."""
    return re.sub(r"\s+", " ", text)


def memory(*numbers):
    """A page of each number, which fills it."""
    return [bytes([number]) * PAGE for number in numbers]


def two_dumps(folder):
    """The folder, and for each dump in it the pages; owners are named after their files."""
    held = {"web.raw": memory(0, 0, 1, 1, 2, 3), "db.raw": memory(0, 1, 4)}
    for name, pages in held.items():
        (folder / name).write_bytes(b"".join(pages))
    return folder, held
