"""Skips under CI: listed ones pass, others fail the run. Tests that one worker has to run."""

import re
from pathlib import Path

import pytest

SKIPPING = """
    import pytest

    @pytest.mark.parametrize("size", [1, 2])
    def test_one(size):
        if size == 2:
            pytest.skip("no qemu-none")

    @pytest.mark.xfail
    def test_two():
        assert False
"""


WORKERS = "-n2"


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs pytest over SKIPPING, with this folder's conftest.py and the given list."""

    def run(listed, *options, ci="1", module=SKIPPING):
        monkeypatch.setenv("CI", ci)
        pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text(encoding="utf-8"))
        pytester.path.joinpath("expected-skips.txt").write_text(listed, encoding="utf-8")
        pytester.makepyfile(test_some=module)
        without = [f"-pno:{plugin}" for plugin in ("cacheprovider", "benchmark", "hypothesispytest")]
        return pytester.runpytest_inprocess(*without, *options)

    return run


@pytest.mark.parametrize(
    "listed",
    ["", "test_some.py::test_one[2]: no gdb", "test_some.py::test_one[1]: no qemu-none", "*::test_two: *"],
)
def test_a_skip_that_is_not_listed_with_its_reason_fails_the_run(run, listed):
    result = run(listed)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(["*not listed*", "test_some.py::test_one[[]2]: no qemu-none"])


@pytest.mark.parametrize("listed", ["# why\n\ntest_some.py::test_one[2]: no qemu-none\n", "test_*[2]: no qemu-*"])
def test_a_listed_skip_passes(run, listed):
    result = run(listed)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*not listed*")


def test_a_module_skipped_as_a_whole_counts(run):
    result = run("", module="import pytest\npytest.importorskip('no_such_module')")
    result.stdout.fnmatch_lines(["test_some.py: could not import 'no_such_module'*"])
    # Without any test collected pytest fails by itself.
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_outside_ci_anything_may_be_skipped(run):
    assert run("", ci="").ret == pytest.ExitCode.OK


def test_with_workers(run):
    assert run("", WORKERS).ret == pytest.ExitCode.TESTS_FAILED
    assert run("test_some.py::test_one[2]: *", WORKERS).ret == pytest.ExitCode.OK


NOTING = """
    import os
    import pytest
    {}

    @pytest.mark.parametrize("number", range(10))
    def test_one(number, record_property):
        record_property("process", os.getpid())
"""


@pytest.mark.parametrize(
    ("line", "processes"),
    [
        ("", 2),
        ("from guests import parse", 2),
        ("from kernel_ksm import kernel_ksm", 1),
        ("from control_group import control_group", 1),
        ("from guests.boot import boot", 1),
        ("pytestmark = pytest.mark.guests", 1),
    ],
)
def test_a_worker_has_whole_modules_and_one_has_all_of_the_machine(run, pytester, line, processes):
    pytester.makeini("[pytest]\nmarkers = guests")
    pytester.makepyfile(test_other=NOTING.format(line))
    assert run("", WORKERS, "--junitxml=done.xml", module=NOTING.format(line)).ret == pytest.ExitCode.OK
    done = pytester.path.joinpath("done.xml").read_text(encoding="utf-8")
    found = re.findall(r'classname="(\w+)".*?name="process" value="(\d+)"', done)
    assert len(found) == 20
    assert len(set(found)) == 2
    assert len({process for _, process in found}) == processes
