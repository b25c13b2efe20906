"""The oracle itself, against figures counted by hand."""

import pytest

from oracle import agrees, census

A, B, C, Z = (bytes([n]) * 64 for n in (1, 2, 3, 0))


def test_counted_by_hand():
    truth = census({"one": [A, A, B, Z], "two": [A, B, C, Z, Z]}, page_size=64)
    assert truth["pages"] == {"known": 9, "zero": 3, "unique": 1, "shared": 8, "kept": 3, "reclaimed": 5}
    # A three times in two owners, B twice: 3 reclaimed, of which the second A of "one" is intra.
    assert truth["nonzero"] == {
        "shared": 5,
        "kept": 2,
        "reclaimed": 3,
        "reclaimed_intra": 1,
        "reclaimed_inter": 2,
    }
    one, two = truth["owners"]
    assert one["pages"] == {"known": 4, "zero": 1, "unique": 2, "shared": 2, "kept": 1, "reclaimed": 1}
    assert one["with_others"] == {"shared": 4, "unique": 0}
    assert two["nonzero"] == {"shared": 0, "kept": 0, "reclaimed": 0}
    assert two["with_others"] == {"shared": 4, "unique": 1}


def test_domains_share_nothing():
    truth = census({"one": [A, Z], "two": [A, Z]}, domains={"one": "red"}, page_size=64)
    assert truth["pages"] == {"known": 4, "zero": 2, "unique": 4, "shared": 0, "kept": 0, "reclaimed": 0}


def test_agreement_can_fail():
    truth = census({"one": [A, A]}, page_size=64)
    assert agrees(truth, truth)
    for part, key in (("pages", "shared"), ("nonzero", "kept")):
        wrong = census({"one": [A, A]}, page_size=64)
        wrong[part][key] += 1
        with pytest.raises(AssertionError):
            agrees(wrong, truth)
