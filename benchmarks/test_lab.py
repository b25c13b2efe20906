"""A simulated host of ten busy guests, beside what its programs take to say which pages they touch."""

from __future__ import annotations

from pathlib import Path

import pytest

from inputs import QUICK
from pageshare.lab.assembly import assemble
from pageshare.lab.memory import SECOND
from pageshare.lab.scenario import of_table

MINUTES = 1 if QUICK else 60
STEP = SECOND // 10
MEMORY = "512 MiB"


def host_with(memory):
    """Ten guests of 512 MiB that touch from 44 to 352 MiB of it, every page once in ten seconds."""
    busy = {
        "name": "busy",
        "count": 10,
        "memory": MEMORY,
        "balloon": {"phase": "random"},
        "program": [
            {
                "name": "phases",
                "pages": "440 MiB",
                "sizes": [0.2, 0.6, 0.1, 0.8, 0.4],
                "length": "2min",
                "rate": 0.1,
                "fill": "30s",
            }
        ],
    }
    table = {"duration": f"{MINUTES}min", "host": {"memory": memory}, "guest": [busy]}
    return assemble(of_table(table, name="busy", folder=Path()), 1)


def touches_alone():
    """What the ten programs say in that time, if nobody waits."""
    programs = [program for guest in host_with("5200 MiB").guests for program in guest.programs]
    for begin in range(0, MINUTES * 60 * SECOND, STEP):
        for program in programs:
            list(program.run(begin, begin + STEP))


@pytest.mark.parametrize("memory", ["4500 MiB", "3 GiB"])
@pytest.mark.benchmark(group="lab")
def test_an_hour_of_ten_busy_guests(beside, memory):
    def run():
        host = host_with(memory)
        host.clock.run(MINUTES * 60 * SECOND)
        return host

    host = beside(run, touches_alone, rounds=2, warm_up=False, memory=memory, minutes=MINUTES)
    assert all(guest.counts.ran for guest in host.guests)
