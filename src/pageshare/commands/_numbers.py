"""Numbers and names that several commands take: for argparse, with messages for people."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1")
    return int(text)


def pid(text: str) -> int:
    """The number of a process."""
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a process number (pgrep finds them by name)")
    return int(text)


def policy_name(text: str, *, answer_known: bool = True) -> str:
    """The name of a scan policy, perhaps with options behind it: tried, so that what is wrong is known before anything
    is read."""
    from pageshare import policies

    try:
        policies.check(text, answer_known=answer_known)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def blind_policy_name(text: str) -> str:
    """The same for a command that knows nothing of the pages beforehand."""
    return policy_name(text, answer_known=False)


def size_in_bytes(text: str) -> int:
    """``512MiB``, ``4G``."""
    from pageshare.synth.spec import SpecError, parse_size

    try:
        return parse_size(text)
    except SpecError:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a size, such as 512MiB or 4G") from None


def seed_number(text: str) -> int:
    """A whole number of 63 bits."""
    try:
        seed = int(text, 0)
    except ValueError:
        seed = -1
    if not 0 <= seed < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 0 to 2^63 - 1")
    return seed
