"""A program with many cyclic objects, in phases: ``python3 cpython_work.py SECONDS``.

120,000 nodes that know their neighbours, in 30 regions, are made (a simulation's model, some 80 MiB). Then a few
regions at a time are simulated, others after a while; for a part of the time the program waits for input and does next
to nothing, but its full collections go on, as those of a server that collects when it has nothing else to do. New nodes
replace old ones, which are garbage in cycles: only the cyclic collector frees them. It visits every container that it
tracks, whether the work needs that or not: those touches are what an estimate of used memory should not count.

The collector runs in the same thread as the work. It calls gc.callbacks when it starts and when it is done; they tell
the recorder by system call 39 (getpid, which ignores arguments) what the thread intends from then on.
"""

import ctypes
import gc
import random
import sys
import time

MAGIC, CALL, WORK, COLLECT = 0x7061676573686172, 39, 0, 2
REGIONS, NODES = 30, 4000
_call = ctypes.CDLL(None).syscall
_call.argtypes = [ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong]


def told(phase: str, _info: object) -> None:
    """What the collector calls."""
    _call(CALL, MAGIC, COLLECT if phase == "start" else WORK)


class Node:
    """Of a region: knows its neighbours, and they know it."""

    def __init__(self, rng: random.Random) -> None:
        self.neighbours: list[Node] = []
        self.state = [rng.random() for _ in range(6)]
        self.log = bytes(150)


def region(rng: random.Random) -> list[Node]:
    """Some nodes, each with two neighbours at random, both ways."""
    nodes = [Node(rng) for _ in range(NODES)]
    for node in nodes:
        for other in rng.sample(nodes, 2):
            node.neighbours.append(other)
            other.neighbours.append(node)
    return nodes


def simulate(nodes: list[Node], rng: random.Random) -> None:
    """A step of some nodes; one in a hundred dies, and a new one takes its place."""
    for at in rng.sample(range(len(nodes)), 200):
        node = nodes[at]
        node.state = [sum(other.state[i] for other in node.neighbours) % 1.0 for i in range(6)]
        if rng.random() < 0.01:
            nodes[at] = Node(rng)
            for other in node.neighbours:
                other.neighbours = [nodes[at] if each is node else each for each in other.neighbours]
                nodes[at].neighbours.append(other)


def spend(seconds: float, regions: list[list[Node]], rng: random.Random, *, every: float) -> None:
    """Work on some regions for a time, ten steps a second, with a full collection now and then."""
    end, collected = time.monotonic() + seconds, time.monotonic()
    while (now := time.monotonic()) < end:
        for nodes in regions:
            simulate(nodes, rng)
        if now - collected > every:
            gc.collect()
            collected = now
        time.sleep(max(0.0, min(now + 0.1, end) - time.monotonic()))


def main(seconds: float) -> None:
    """All phases."""
    rng, part = random.Random(1), seconds / 100
    gc.callbacks.append(told)
    # Young collections as ever; full ones when this program asks for them.
    gc.set_threshold(700, 10, 1 << 30)
    world = [region(rng) for _ in range(REGIONS)]
    gc.collect()
    spend(16 * part, world[:4], rng, every=20 * part)
    spend(18 * part, [], rng, every=9 * part)
    spend(14 * part, world[4:14], rng, every=20 * part)
    del world[20:]
    gc.collect()
    spend(18 * part, [], rng, every=17 * part)
    spend(14 * part, world[::2], rng, every=20 * part)
    world += [region(rng) for _ in range(5)]
    spend(10 * part, world[-3:], rng, every=20 * part)


main(float(sys.argv[1]))
