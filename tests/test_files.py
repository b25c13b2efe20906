"""Files that appear whole or not at all; what is no file is written to, never replaced."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pageshare.files import appearing_whole, is_written_to

WRITER = """
import sys
from pathlib import Path
from pageshare.files import appearing_whole
print("before", flush=True)
with appearing_whole(Path(sys.argv[1])) as file:
    file.write(b"drawn\\n")
print("after")
"""


def test_a_file_is_private_and_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    with appearing_whole(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="negative|Invalid"), appearing_whole(path) as file:
        file.seek(-1)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.svg", b"old")]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.svg"
    link.symlink_to("folder/a.svg")
    with appearing_whole(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "folder" / "a.svg").read_bytes() == b"new"


def test_a_pipe_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    with appearing_whole(path) as file:
        file.write(b"drawn")
    reader.join(10)
    assert read == [b"drawn"]
    assert path.is_fifo()


def test_a_full_device_is_an_error_and_stays() -> None:
    named = "^/dev/full: No space left on device$"
    with pytest.raises(OSError, match=named), appearing_whole(Path("/dev/full")) as file:
        file.write(b"drawn")
    assert Path("/dev/full").is_char_device()


def test_a_file_that_cannot_be_is_named_as_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="^/proc/a.svg: No such file or directory$"):
        appearing_whole(Path("/proc/a.svg")).__enter__()
    link = tmp_path / "link.svg"
    link.symlink_to("none/a.svg")
    with pytest.raises(FileNotFoundError, match=f"^{link}: No such file or directory$"):
        appearing_whole(link).__enter__()


def test_a_file_that_has_no_room_is_named_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_bytes(b"old")
    command = ["bash", "-c", 'ulimit -f 0; exec "$@"', "bash", sys.executable, "-c", WRITER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.stderr.splitlines()[-1] == f"OSError: {path}: File too large"
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.svg", b"old")]


def test_what_fails_elsewhere_meanwhile_is_not_said_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"), appearing_whole(tmp_path / "a.svg"):
        (tmp_path / "none").read_bytes()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_stays_what_it_is(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, name]
    piped = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert piped.stdout == "before\ndrawn\nafter\n"
    path = tmp_path / "out"
    with path.open("ab") as out:
        subprocess.run(command, stdout=out, check=True, timeout=30)
    assert path.read_text() == "before\ndrawn\nafter\n"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_folders_and_names_that_are_free_are_not_written_to(tmp_path: Path) -> None:
    assert not is_written_to(tmp_path)
    assert not is_written_to(tmp_path / "none")
    assert not is_written_to(tmp_path / "none" / "none")
