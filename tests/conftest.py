"""Under CI (the environment variable) a test may be skipped only as tests/expected-skips.txt says.

With pytest-xdist (``-n 2``) a module is one worker's: what it makes for several tests is made once. All modules of the
machine are one worker's together: two of their tests at once would see each other.
"""

from __future__ import annotations

import functools
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

_OF_THE_MACHINE = re.compile(r"\b(kernel_ksm|control_group|mark\.guests|guests\.(boot|observed|ballooning))\b")
"""What a module has in it whose tests use the kernel's KSM, or guests, whose memory it may merge, or control groups."""

_unexpected = pytest.StashKey[list[str]]()


def _pattern(text: str) -> re.Pattern[str]:
    """Only * is special: the brackets of test ids are not to be read as a set of characters."""
    return re.compile(".*".join(map(re.escape, text.strip().split("*"))), re.DOTALL)


def _expected_skips() -> Iterator[tuple[re.Pattern[str], re.Pattern[str]]]:
    for line in Path(__file__).with_name("expected-skips.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            test, separator, reason = line.partition(": ")
            assert separator, f"expected-skips.txt: not 'TEST: REASON': {line}"
            yield _pattern(test), _pattern(reason)


class _SkipPolice:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._expected = list(_expected_skips())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._judge(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._judge(report)

    def _judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        why = why.removeprefix("Skipped: ")
        test_id = report.nodeid
        if not any(test.fullmatch(test_id) and reason.fullmatch(why) for test, reason in self._expected):
            self._config.stash[_unexpected].append(f"{test_id}: {why}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._config.stash[_unexpected] and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if unexpected := self._config.stash[_unexpected]:
            terminalreporter.section("skipped, and not listed in tests/expected-skips.txt", red=True)
            terminalreporter.write_line("\n".join(unexpected))


def pytest_configure(config: pytest.Config) -> None:
    # In the background of a shell SIGINT is ignored, and would be in all that tests start and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_unexpected] = []
    # With pytest-xdist the workers' reports reach the controller, which judges.
    if os.environ.get("CI") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_SkipPolice(config))


@functools.cache
def _scope(module: Path) -> str:
    of_the_machine = _OF_THE_MACHINE.search(module.read_text(encoding="utf-8"))
    return "the machine" if of_the_machine else str(module)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # what keeps one worker busy longest begins first
        items.sort(key=lambda item: _scope(item.path) != "the machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    # Not by xdist_group: from pytest 9.2 on pytest-xdist 3.8 knows no groups, and does not say so.
    from xdist.scheduler import LoadScopeScheduling

    class Modules(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(config.rootpath / nodeid.partition("::")[0])

    config.option.loadscopereorder = False
    return Modules(config, log)
