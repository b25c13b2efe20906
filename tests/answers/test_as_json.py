"""Answers are plain numbers: JSON takes them as they are, and gives them back."""

import json
from contextlib import ExitStack

import pytest

from pageshare.answers import Answers
from pageshare.answers.contents import contents
from pageshare.answers.groups import groups
from pageshare.answers.memory_map import memory_map
from pageshare.answers.runs import runs
from random_owners import random_memory


@pytest.mark.parametrize("seed", [0, 5, 11])
def test_answers_are_plain_numbers(seed, tmp_path):
    with ExitStack() as stack:
        memory = random_memory(seed, stack, tmp_path)
        inventory = memory.inventory
        answers = Answers(
            groups=groups(inventory),
            contents=contents(inventory, memory.space, show_contents=True),
            memory_map=memory_map(inventory),
            runs=runs(inventory),
        )
        document = answers.to_dict()
        assert set(document) == {"groups", "contents", "memory_map", "runs"}
        again = json.loads(json.dumps(document))
        assert again["runs"]["pages"] == document["runs"]["pages"] == again["groups"]["reclaimed"]
