"""Damaged dumps: how they are made, and what must hold of every one of them."""

import numpy as np

import pageshare
from pageshare.images import open_image
from pageshare.images.ranges import State


def damage(whole, rng, place, *, times=(1, 1, 2, 4), more=(), cut=0.3):
    """``whole`` with some bytes, or 8 at a time, put to others from offsets that ``place()`` gives; ``cut`` off
    somewhere in so many cases. ``more`` are values of 8 bytes to try."""
    data = bytearray(whole)
    for _ in range(rng.choice(times)):
        at = place()
        if rng.random() < 0.5:
            data[at] = rng.randrange(256)
        else:
            data[at : at + 8] = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8), *more])
    if rng.random() < cut:
        del data[rng.randrange(1, len(data)) :]
    return bytes(data)


def scanned(path, format):
    """What a scan says of a damaged dump, None if it is refused: in one line.

    What it takes for data lies within its files, and the sums hold.
    """
    try:
        with open_image(path, format=format) as image:
            there = image.ranges[(image.ranges["state"] == State.DATA) & (image.ranges["file"] < len(image.payload))]
            sizes = np.array([source.size for source in image.payload], np.int64)
            ends = there["offset"] + there["bytes"].astype(np.int64)
            assert (there["offset"] >= 0).all()
            assert (there["bytes"] < 1 << 62).all()
            assert (ends <= sizes[there["file"]]).all()
            report = pageshare.scan(image)
    except ValueError as error:
        assert "\n" not in str(error)
        return None
    assert report.pages.known == report.pages.unique + report.pages.shared == report.coverage.known
    return report


def both_happen(reports, *, least):
    """Whether so many were refused, and so many read: else the damage was too small, or too great, to say much."""
    refused = sum(report is None for report in reports)
    return refused >= least and len(reports) - refused >= least
