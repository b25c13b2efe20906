"""What is made of what a guest with a balloon showed: no guest is needed for that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from guests import ages, balloon, ballooning
from guests.observed import EVENT, Kind

DOCS = Path(__file__).parents[2] / "docs/lab"


def events(*those: tuple[Kind, int]) -> np.ndarray:
    """One each cycle."""
    return np.array([(cycle, kind, what, 0) for cycle, (kind, what) in enumerate(those)], EVENT)


def test_a_page_that_is_freed_before_the_host_has_read_of_it_is_counted() -> None:
    told = [(Kind.TELL, 1), (Kind.ACK, 1)]
    taken = [(Kind.DEQUEUE, 7), (Kind.DEQUEUE, 8)]
    assert ballooning.freed_too_early(events(*taken, *told, (Kind.FREED, 7), (Kind.FREED, 8))) == 0
    assert ballooning.freed_too_early(events(*taken, (Kind.FREED, 8), *told, (Kind.FREED, 7))) == 1
    assert ballooning.freed_too_early(events(*taken, told[0], (Kind.FREED, 7), (Kind.FREED, 8), told[1])) == 2


def test_messages_have_what_was_gathered_since_the_last_one() -> None:
    page, tell = (Kind.ENQUEUE, 1), (Kind.TELL, 0)
    assert ballooning.sizes_of_messages(events(page, page, tell, page, page, tell, page, tell), Kind.ENQUEUE) == [1, 2]


def test_the_share_of_waiting() -> None:
    # Two messages; one cycle, and two, until the answer; seven in all.
    those = events(
        *((Kind.CHANGED, 0), (Kind.ENQUEUE, 1), (Kind.TELL, 0), (Kind.ACK, 0)),
        *((Kind.ENQUEUE, 2), (Kind.TELL, 0), (Kind.STATS, 0), (Kind.ACK, 0)),
    )
    tell, ack = (ballooning.starts(those, kind) for kind in (Kind.TELL, Kind.ACK))
    assert ballooning.share_waiting(those, tell, ack) == pytest.approx(3 / 7)


def test_whole_blocks_are_aligned() -> None:
    assert ballooning.whole_blocks(np.arange(512, 1024)) == 1
    assert ballooning.whole_blocks(np.arange(500, 1500)) == 1
    assert ballooning.whole_blocks(np.arange(513, 1025)) == 0


def test_what_the_program_reads() -> None:
    assert ages.truth(1000) == [2000, 2000, 500, 0]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.0126, "0.0126"), (12.34, "12.3"), (999.6, "1,000"), (5012.4, "5,012"), (123_456, "123,500")],
)
def test_figures(value: float, shown: str) -> None:
    assert balloon.figure(value) == shown


def test_a_median_stands_with_its_range() -> None:
    assert balloon.spread({"values": [3, 1, 2.5]}) == "2.5 (1 to 3)"
    assert balloon.spread({"values": [2, 2]}) == "2"
    assert balloon.ratio({"what": "", "unit": "", "values": [30]}, {"what": "", "unit": "", "values": [2]}) == "15"
    assert balloon.ratios({"values": [6, 9, 8]}, {"values": [2, 1, 2]}) == "4 (3 to 9)"


def test_the_page_is_what_its_values_make() -> None:
    document = json.loads((DOCS / "virtio-balloon.json").read_text())
    assert balloon.markdown(document) == (DOCS / "virtio-balloon.md").read_text()
