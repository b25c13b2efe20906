"""The engine against a model of it, page by page, after each event of random runs; and its invariants beside it."""

import pytest

from lab.model import Model
from lab.scenes import scene
from lab.scripted import STEP
from pageshare.lab.invariants import check

SCENES = 50
GROUPS = 10


def follow(seed, *, steps=20):
    """A random run, of which the model knows every consequence; both, when it is over."""
    host, plain = scene(seed)
    model = Model(host, whole_scans=plain)

    def after_each():
        model.check()
        check(host)
        if host.clock.happened % 16 == 0:
            model.check_all()

    host.clock.run(steps * STEP, after_each=after_each)
    model.check_all()
    return host, model


@pytest.mark.parametrize("group", range(GROUPS))
def test_the_engine_does_what_the_model_foresees(group):
    for seed in range(group, SCENES, GROUPS):
        follow(seed)
