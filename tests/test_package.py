"""What is installed: light to import, typed, one abi3 extension, a command, docstrings whose examples hold."""

import doctest
import importlib
import importlib.metadata
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from cffi import FFI

import pageshare
from pageshare import commands

ROOT = Path(__file__).parents[1]
PACKAGE = Path(pageshare.__file__).parent
COMMAND = Path(sys.executable).with_name("pageshare")
# Importing these does something: the one runs the command, the other reads csrc/ in the working directory.
NOT_TO_IMPORT = {"pageshare.__main__", "pageshare._build_core"}
MODULES = [
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], "pageshare.")
    if module.name not in NOT_TO_IMPORT
]


def modules_loaded_by(statement):
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    return set(
        json.loads(subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE).stdout)
    )


@pytest.mark.parametrize("statement", ["import pageshare", "import pageshare.commands as c; c._parser('')"])
def test_import_is_light(statement):
    loaded = modules_loaded_by(statement)
    assert "pageshare" in loaded
    assert not loaded & {"numpy", "rich", "cffi", "_cffi_backend", "pageshare._core", "pageshare.core"}


@pytest.mark.parametrize(
    ("first", "needed"), [("--version", set()), ("info", {"info"}), ("--help", set(commands.COMMANDS))]
)
def test_only_the_commands_that_are_needed_are_loaded(first, needed):
    loaded = modules_loaded_by(f"import pageshare.commands as c; c._parser({first!r})")
    assert {name for name in commands.COMMANDS if f"pageshare.commands.{name}" in loaded} == needed


def test_every_public_name_is_there_and_documented():
    assert sorted(dir(pageshare)) == sorted(pageshare.__all__)
    for name in pageshare.__all__:
        assert getattr(pageshare, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pageshare.nothing


def test_version_and_types():
    assert pageshare.__version__ == importlib.metadata.version("pageshare")
    assert (PACKAGE / "py.typed").is_file()


def test_one_abi3_extension():
    assert [path.name for path in PACKAGE.rglob("*.so")] == ["_core.abi3.so"]


@pytest.mark.parametrize("command", [[COMMAND], [sys.executable, "-m", "pageshare"]])
def test_command(command):
    done = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"pageshare {pageshare.__version__}\n"
    assert subprocess.run(command, check=False, capture_output=True).returncode == 2


def test_what_cffi_reads_of_the_header_is_whole():
    """Every function that the header declares can be called from Python."""
    header = (ROOT / "csrc/pageshare.h").read_text(encoding="utf-8")
    before, begin, rest = header.partition("/* cdef: begin */")
    cdef, end, after = rest.partition("/* cdef: end */")
    assert begin
    assert end
    assert "ps_" not in before.partition("*/")[2] + after
    FFI().cdef(cdef)
    from pageshare._core import lib

    declared = {word.split("(")[0].lstrip("*") for word in cdef.split() if "(" in word}
    functions = {name for name in declared if name.startswith("ps_")}
    assert len(functions) > 20
    assert functions <= set(dir(lib))


@pytest.mark.parametrize("name", ["pageshare", *MODULES])
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_interrupted_while_it_starts(monkeypatch, capsys):
    def interrupted(_first):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_parser", interrupted)
    assert commands.main(["scan", "x"]) == 130
    assert capsys.readouterr().err == ""
