"""Many policies over the same memory and writes, each with several seeds, in as many processes as there are CPUs."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import statistics
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, TypeVar

from pageshare import limits, policies
from pageshare.replay.course import SHARES, Course, Reached, Run, Settings

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from pageshare.replay.costs import Costs
    from pageshare.replay.history import History

T = TypeVar("T")
R = TypeVar("R")

_PR_SET_PDEATHSIG = 1
_TAKEN_BY_PARENT = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Compared:
    """All runs of a policy: ``all`` set to save any pages, ``nonzero`` set to save others than zero ones. A policy that
    knows no difference has the same runs in both."""

    name: str
    all: tuple[Course, ...]
    nonzero: tuple[Course, ...]

    def reached(self, share: float, of: Callable[[Reached], float], *, nonzero: bool = False) -> list[float] | None:
        """``of`` what each run had done when it had saved a share; None if one never had."""
        runs = [each.reached_nonzero[share] for each in self.nonzero]
        if not nonzero:
            runs = [each.reached[share] for each in self.all]
        return None if None in runs else [of(each) for each in runs if each]


def mean(numbers: Sequence[float] | None) -> float | None:
    """Of runs; None stays so."""
    return statistics.fmean(numbers) if numbers else None


def spread(numbers: Sequence[float] | None) -> float | None:
    """Standard deviation between runs; 0 of a single one."""
    if not numbers:
        return None
    return statistics.stdev(numbers) if len(numbers) > 1 else 0.0


def jobs_of(names: Sequence[str], settings: Settings, seeds: Sequence[int]) -> list[Settings]:
    """Every run of these policies."""
    jobs = []
    for name in names:
        chosen = policies.find(name)
        objectives: Sequence[Any] = ("all", "nonzero") if getattr(chosen, "takes_objective", False) else ("all",)
        drawn = seeds[:1] if getattr(chosen, "draws_nothing", False) and not settings.pace else seeds
        jobs += [replace(settings, policy=name, objective=each, seed=seed) for each in objectives for seed in drawn]
    return jobs


def compare(
    history: History, jobs: Sequence[Settings], costs: Costs, *, processes: int | None = None
) -> Iterator[tuple[Settings, Course]]:
    """Run them all, and give each as it ends. To be called by a process without other threads; those that it starts end
    with it, or when the iterator is closed. Raises what a run raises."""
    # Long ones first: what is left at the end is short.
    order = sorted(range(len(jobs)), key=lambda i: str(jobs[i].policy) not in ("random-with-replacement", "ksm"))
    work = [jobs[i] for i in order]
    for number, course in in_processes(lambda job: Run(history, job, costs).go(), work, processes or limits.cpus()):
        yield work[number], course


def compared(names: Sequence[str], runs: Sequence[tuple[Settings, Course]]) -> list[Compared]:
    """Runs, policy by policy, in the order of the names."""
    found = []
    for name in names:
        mine = sorted((course for job, course in runs if job.policy == name), key=lambda course: course.seed)
        every = tuple(course for course in mine if course.objective == "all")
        nonzero = tuple(course for course in mine if course.objective == "nonzero")
        found.append(Compared(name, every, nonzero or every))
    return found


def in_processes(work: Callable[[T], R], items: Sequence[T], processes: int) -> Iterator[tuple[int, R]]:
    """Do ``work`` on each item in forked processes, which see all memory of this one; (number, result) as they come.

    Raises what ``work`` raised, or ChildProcessError where a process died. All are ended before this ends, and end by
    themselves if this process is killed. For the main thread of a process that has no other.
    """
    context = multiprocessing.get_context("fork")
    workers: dict[Connection, BaseProcess] = {}
    todo = iter(enumerate(items))
    parent = os.getpid()

    def give(connection: Connection) -> bool:
        number = next(todo, None)
        _send(connection, None if number is None else number[0])
        return number is not None

    try:
        busy: dict[Connection, BaseProcess] = {}
        for _ in range(min(processes, len(items))):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_worker, args=(work, items, theirs, [*workers, ours], parent), daemon=True
            )
            # No signal between the fork and the line that keeps the process, nor before it ignores them itself.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN_BY_PARENT)
            try:
                process.start()
                workers[ours] = process
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        for connection, process in workers.items():
            with _death_told(process):
                if give(connection):
                    busy[connection] = process
        while busy:
            for ready in wait(list(busy)):
                if not isinstance(ready, Connection):
                    continue
                with _death_told(busy[ready]):
                    number, result, error = _received(ready)
                if error is not None:
                    raise error
                yield number, result
                with _death_told(busy[ready]):
                    if not give(ready):
                        del busy[ready]
    finally:
        for connection, process in workers.items():
            connection.close()
            process.kill()
        for process in workers.values():
            process.join()
            process.close()


def _send(connection: Connection, thing: object) -> None:
    """As ``Connection.send``, which lays the bytes in an ``io.BytesIO`` and keeps a view of it. If a pipe breaks just
    then, the view stays in the error's traceback, and some Pythons (3.12.1) fall when they collect it: CPython
    gh-111049."""
    connection.send_bytes(pickle.dumps(thing))


def _received(connection: Connection) -> Any:
    """What ``_send`` sent, by a process that this one forked, or the other way round."""
    return pickle.loads(connection.recv_bytes())  # noqa: S301


@contextmanager
def _death_told(process: BaseProcess) -> Iterator[None]:
    """What a pipe says when the process at its other end has died, in words."""
    try:
        yield
    except (EOFError, ConnectionError):
        process.join()
        how = f"status {process.exitcode}"
        if process.exitcode is not None and process.exitcode < 0:
            how = signal.Signals(-process.exitcode).name
        raise ChildProcessError(
            f"a process that ran policies died ({how}); is there enough memory? --jobs 1 needs the least"
        ) from None


def _worker(
    work: Callable[[T], R], items: Sequence[T], connection: Connection, others: Sequence[Connection], parent: int
) -> None:
    """In a process of its own, until there is nothing more to do. The one that started it takes the signals."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TAKEN_BY_PARENT)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    for other in others:
        other.close()
    try:
        while (number := _received(connection)) is not None:
            answer: tuple[int, R | None, Exception | None]
            try:
                answer = number, work(items[number]), None
            except Exception as problem:
                answer = number, None, _travelling(problem)
            _send(connection, answer)
    except (EOFError, ConnectionError):  # nobody is there any more
        os._exit(1)


def _travelling(problem: Exception) -> Exception:
    """The same, or what says the same where it can't be sent; with where it happened, for those who look for it."""
    if not isinstance(problem, (OSError, ValueError, MemoryError)):
        sys.stderr.write(traceback.format_exc())
        sys.stderr.flush()
    try:
        pickle.loads(pickle.dumps(problem))  # noqa: S301
    except Exception:
        return RuntimeError(f"{type(problem).__name__}: {problem}")
    return problem


__all__ = ["SHARES", "Compared", "compare", "compared", "in_processes", "jobs_of", "mean", "spread"]
