"""Many runs in several processes: the same results, and nothing left behind, however it ends."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from pageshare.core import MediaError
from pageshare.images import ImageError
from pageshare.replay import compare
from pageshare.replay.compare import Compared, in_processes, jobs_of, mean, spread
from pageshare.replay.course import Settings
from pageshare.replay.pace import PagesPerSecond
from policy_runs import COSTS, history, like_guests


@pytest.fixture(scope="module")
def guests():
    return history(like_guests(guests=2, pages=512))


def runs(memory, jobs, processes):
    found = {}
    for job, course in compare.compare(memory, jobs, COSTS, processes=processes):
        figures = asdict(course)
        assert figures.pop("policy_seconds") >= 0
        found[job] = figures
    return found


def test_one_process_or_two_give_the_same(guests):
    names = ["random", "peek-runs", "ksm", "sequential", "zero-first"]
    jobs = jobs_of(names, Settings(by_bytes=False), [1, 2])
    one, two = runs(guests, jobs, 1), runs(guests, jobs, 2)
    assert one == two
    assert set(one) == set(jobs)
    assert multiprocessing.active_children() == []


def test_which_runs_there_are():
    still = jobs_of(["random", "sequential", "zero-first"], Settings(), [4, 5])
    assert [(job.policy, job.objective, job.seed) for job in still] == [
        *(("random", "all", seed) for seed in (4, 5)),
        ("sequential", "all", 4),
        *(("zero-first", objective, seed) for objective in ("all", "nonzero") for seed in (4, 5)),
    ]
    # While memory changes, the seed draws when, too.
    assert len(jobs_of(["sequential"], Settings(pace=PagesPerSecond, duration=1.0), [4, 5])) == 2


def test_runs_are_put_together_by_policy(guests):
    names = ["zero-first", "random"]
    done = list(compare.compare(guests, jobs_of(names, Settings(by_bytes=False), [2, 1]), COSTS, processes=2))
    zero_first, random = compare.compared(names, done)
    assert isinstance(zero_first, Compared)
    assert [course.seed for course in random.all] == [1, 2]
    assert random.nonzero is random.all
    assert {course.objective for course in zero_first.nonzero} == {"nonzero"}
    visits = random.reached(0.9, lambda each: each.visits)
    assert mean(visits) == sum(visits) / 2
    assert spread(visits) == pytest.approx(abs(visits[0] - visits[1]) / 2**0.5)
    assert (mean(None), spread(None), spread([3.0])) == (None, None, 0.0)


def test_a_share_that_a_run_never_reached_has_no_mean(guests):
    jobs = jobs_of(["random-with-replacement"], Settings(by_bytes=False, visits=600), [1, 2])
    (found,) = compare.compared(["random-with-replacement"], list(compare.compare(guests, jobs, COSTS, processes=1)))
    assert found.reached(0.99, lambda each: each.cost) is None


@pytest.mark.parametrize(
    ("die", "how"),
    [(lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"), (lambda: os._exit(7), "status 7")],
)
def test_a_process_that_dies_is_told_of(die, how):
    with pytest.raises(ChildProcessError, match=rf"died \({how}\); is there enough memory\? --jobs 1"):
        list(in_processes(lambda item: die() if item == 3 else item, range(8), 2))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("items", [1, 500])
def test_processes_that_die_before_they_have_begun(monkeypatch, items):
    """What was sent to them is never read: the pipe is broken, or reset, at whichever call comes then."""
    monkeypatch.setattr(compare, "_worker", lambda *_: os._exit(3))
    for _ in range(10):
        with pytest.raises(ChildProcessError, match="status 3"):
            list(in_processes(lambda item: item, range(items), 2))
    assert multiprocessing.active_children() == []


def test_an_iterator_closed_early_leaves_no_process():
    running = in_processes(lambda item: (time.sleep(0.01 if item < 2 else 1000), os.getpid())[1], range(10), 2)
    _, pid = next(running)
    assert pid != os.getpid()
    assert len(multiprocessing.active_children()) == 2
    begun = time.monotonic()
    running.close()
    assert time.monotonic() - begun < 1
    assert multiprocessing.active_children() == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no such thing"),
        MemoryError(),
        MediaError(5, "Input/output error", "/a/dump"),
        ImageError("a.elf", "header", "is cut", "copy it again"),
    ],
)
def test_errors_travel(error, capfd):
    def fail(_):
        raise error

    with pytest.raises(type(error)) as caught:
        list(in_processes(fail, range(3), 2))
    assert str(caught.value) == str(error)
    assert multiprocessing.active_children() == []
    assert capfd.readouterr() == ("", "")


def test_mistakes_travel_too_and_say_where(capfd):
    def fail(_):
        return {}["nothing"]

    with pytest.raises(KeyError):
        list(in_processes(fail, [1], 2))
    assert 'return {}["nothing"]' in capfd.readouterr().err

    def odd(_):
        raise Odd(1, 2)

    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(Odd(1, 2)))
    with pytest.raises(RuntimeError, match="^Odd: 1 2$"):
        list(in_processes(odd, [1], 2))


def test_nothing_to_do():
    assert list(in_processes(lambda item: item, [], 4)) == []


KILLED = """
import os, sys, time
from pageshare.replay.compare import in_processes

def work(item):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(1000)

list(in_processes(work, range(4), 2))
"""


def test_killed_its_processes_end_by_themselves():
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as process:
        try:
            pids = [int(process.stdout.readline()) for _ in range(2)]
        finally:
            process.kill()
        process.wait()
        # The pipe's other end is closed when both have gone.
        assert process.stdout.read() == ""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(os.path.exists(f"/proc/{pid}/exe") for pid in pids):  # noqa: PTH110
        time.sleep(0.01)
    assert not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids)  # noqa: PTH110
