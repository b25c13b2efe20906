"""All that is always answered: side by side, and ended together."""

from functools import partial

import numpy as np
import pytest

import pageshare
from pageshare.answers import ask
from pageshare.answers.ask import Questions, answered
from pageshare.answers.placement import placement
from pageshare.core import Control, Stopped


@pytest.fixture(scope="module")
def report():
    draw = np.random.default_rng(1)
    pages = draw.integers(0, 40, (6, 50, 1), dtype=np.uint64).repeat(512, axis=2)
    return pageshare.scan({f"o{number}": owner for number, owner in enumerate(pages)})


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_answer_the_same(report, threads):
    questions = Questions(hosts=2)
    assert answered(report, questions, threads=threads).answers == answered(report, questions).answers


@pytest.fixture
def begun(monkeypatch):
    """The answers that have begun, by name."""
    names = []

    def noted(name, answer, *arguments, **options):
        names.append(name)
        return answer(*arguments, **options)

    for name in ("runs", "contents", "memory_map", "ksm", "groups", "isolation", "joining", "matrix"):
        monkeypatch.setattr(ask, name, partial(noted, name, getattr(ask, name)))
    return names


def test_a_question_without_sense_is_told_before_the_rest_is_answered(report, begun):
    control = Control()
    with pytest.raises(ValueError, match="one at least"):
        answered(report, Questions(hosts=0), threads=1, control=control)
    assert len(begun) <= 1  # one may have begun before it was known
    control.check()


def test_a_stop_ends_all(report, begun):
    control = Control()
    control.stop()
    with pytest.raises(Stopped):
        answered(report, Questions(hosts=2), threads=1, control=control)
    assert len(begun) <= 1
    with pytest.raises(Stopped):
        placement(report.inventory, hosts=2, control=control)
    with pytest.raises(Stopped):
        placement(report.inventory, host_bytes=60 * 4096, control=control)


def test_who_is_interrupted_stops_what_runs(report, begun, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ask, "_placement", interrupted)
    control = Control()
    with pytest.raises(KeyboardInterrupt):
        answered(report, Questions(), threads=1, control=control)
    assert len(begun) <= 1
    with pytest.raises(Stopped):
        control.check()
