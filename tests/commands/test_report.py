"""``pageshare scan -o`` and ``pageshare report`` as a user runs them."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from command_line import run
from oracle import agrees, census
from pageshare import saved
from pageshare.limits import Memory

PAGE = 4096


def memory(*numbers):
    return [bytes([number]) * PAGE for number in numbers]


HELD = {"web.raw": memory(0, 0, 1, 1, 2, 3), "db.raw": memory(0, 1, 4)}


@pytest.fixture
def guests(tmp_path):
    """Two dumps."""
    for name, pages in HELD.items():
        (tmp_path / name).write_bytes(b"".join(pages))
    return [tmp_path / name for name in HELD]


def test_report_is_what_scan_printed(guests, capsys, tmp_path):
    file = tmp_path / "scan.parquet"
    status, text, err = run(capsys, "scan", *guests, "-o", file)
    assert (status, err) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for guest in guests:
        guest.unlink()
    status, out, err = run(capsys, "report", file)
    assert (status, err) == (0, "")
    first, empty, rest = out.split("\n", 2)
    assert first.startswith("Saved scan of 20")
    assert "web.raw" in first
    assert (empty, rest) == ("", text)
    document = json.loads(run(capsys, "report", "--json", file)[1])
    assert agrees(document, census(HELD))


def test_json_is_what_scan_printed(guests, capsys, tmp_path):
    file = tmp_path / "scan.parquet"
    _, first, _ = run(capsys, "scan", "--json", *guests, "-o", file, "--domain", "a=web.raw")
    _, again, _ = run(capsys, "report", "--json", file)
    first, again = json.loads(first), json.loads(again)
    for document, hashed in ((first, False), (again, True)):
        # The scan looks at a sample of contents, and hashes none; all of them are in the file, by kind and hash.
        contents = document.pop("contents")
        assert all((each.pop("hash") is not None) == hashed for each in contents["top"])
        document["top"] = contents["top"]
    assert again == first
    assert agrees(again, census(HELD, {"web.raw": "a"}))


def test_other_domains(guests, capsys, tmp_path):
    file = tmp_path / "scan.parquet"
    run(capsys, "scan", *guests, "-o", file)
    for options, domains in (
        (["--domain-per-owner"], {"web.raw": "web.raw", "db.raw": "db.raw"}),
        (["--domain", "x=db.raw"], {"db.raw": "x"}),
        (["--domain", "x=db.raw,web.raw"], {}),
    ):
        document = json.loads(run(capsys, "report", "--json", file, *options)[1])
        assert agrees(document, census(HELD, domains))
    status, out, err = run(capsys, "report", file, "--domain", "x=nobody")
    assert (status, out) == (2, "")
    assert "no owner 'nobody'" in err


def test_what_only_bytes_tell_is_of_the_scans_domains(guests, capsys, tmp_path):
    file, plain = tmp_path / "scan.parquet", tmp_path / "plain.parquet"
    run(capsys, "scan", *guests, "-o", file, "--domain", "x=db.raw", "--page-sizes")
    run(capsys, "scan", *guests, "-o", plain)
    status, out, err = run(capsys, "report", file, "--show", "page_sizes", "--domain", "x=db.raw")
    assert (status, err) == (0, "")
    assert "Page sizes" in out
    status, out, err = run(capsys, "report", file, "--show", "page_sizes", "--domain-per-owner")
    assert status == 0
    assert "Page sizes" not in out
    assert err.startswith(f"pageshare: note: {file}: what it has of page_sizes is of its own sharing domains")
    assert run(capsys, "report", file, "--domain-per-owner", "--quiet")[2] == ""
    assert run(capsys, "report", plain, "--domain-per-owner")[2] == ""
    _, _, err = run(capsys, "report", plain, "--show", "page_sizes,similar")
    assert [line.rsplit(" ", 1)[1] for line in err.splitlines()] == ["--page-sizes", "--similar"]


def test_what_is_incomplete_stays_so(guests, capsys, tmp_path):
    """Exit status and stderr are those of the scan."""
    file = tmp_path / "scan.parquet"
    (tmp_path / "bad.raw").write_bytes(b"")
    first = run(capsys, "scan", "--skip-bad", *guests, tmp_path / "bad.raw", "-o", file)
    assert first[0] == 3
    status, out, err = run(capsys, "report", file)
    assert (status, out.split("\n", 2)[2], err) == first


def test_a_key(guests, capsys, tmp_path):
    file, key = tmp_path / "scan.parquet", tmp_path / "key"
    key.write_bytes(b"secret")
    key.chmod(0o600)
    status, _, err = run(capsys, "scan", *guests, "-o", file, "--key", key)
    assert (status, err) == (0, "")
    assert saved.read(file).key_id == saved.Key(b"secret").id
    assert f"hashes keyed (key {saved.Key(b'secret').id})" in run(capsys, "report", file)[1]
    key.chmod(0o640)
    assert "others may read the key" in run(capsys, "scan", *guests, "-o", tmp_path / "2", "--key", key)[2]
    for secret in (b"", b"x" * 65):
        key.write_bytes(secret)
        status, out, err = run(capsys, "scan", *guests, "-o", tmp_path / "3", "--key", key)
        assert (status, out) == (1, "")
        assert "a key has 1 to 64 bytes" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "3").exists()


def test_usage(guests, capsys, tmp_path):
    """All of it is told before anything is read."""
    file = tmp_path / "x"
    for options in (["--policy", "sequential"], ["--limit", "3"]):
        status, out, err = run(capsys, "scan", *guests, "-o", file, *options)
        assert (status, out) == (2, "")
        assert "only a full scan can be saved" in err
    status, _, err = run(capsys, "scan", *guests, "--key", guests[0])
    assert status == 2
    assert "say -o FILE too" in err
    status, _, err = run(capsys, "scan", *guests, "-o", guests[0], "--force")
    assert status == 2
    assert "is read: name another file" in err
    file.write_bytes(b"kept")
    for options, why in (
        ([file], "use --force"),
        ([tmp_path / "none" / "x"], "no such folder"),
        ([tmp_path], "is a folder"),
        ([tmp_path / "y", "--key", tmp_path / "none"], "No such file"),
    ):
        status, out, err = run(capsys, "scan", "none.raw", "-o", *options)
        assert (status, out) == (1, "")
        assert why in err
        assert "none.raw" not in err
    assert file.read_bytes() == b"kept"
    assert run(capsys, "scan", *guests, "-o", file, "--force")[0] == 0
    assert saved.read(file).report.pages.known == 9
    assert guests[0].read_bytes() == b"".join(HELD["web.raw"])


def test_a_saved_scan_is_no_dump(guests, capsys, tmp_path):
    file = tmp_path / "scan.parquet"
    run(capsys, "scan", *guests, "-o", file)
    status, out, err = run(capsys, "scan", file)
    assert (status, out) == (1, "")
    assert "pageshare report FILE" in err
    # In a folder it is passed over.
    status, _, err = run(capsys, "scan", tmp_path)
    assert status == 0
    assert "scan.parquet: not known as a dump" in err


def test_no_saved_scan(guests, capsys, tmp_path):
    for file, why in (
        (guests[0], "not a saved scan"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        status, out, err = run(capsys, "report", file)
        assert (status, out) == (1, "")
        assert why in err
        assert err.count("\n") == 1


def test_no_view_takes_the_place_of_what_is_saved(guests, capsys, tmp_path):
    file = tmp_path / "x"
    (tmp_path / "link").symlink_to(file)
    for html in (file, tmp_path / "link"):
        status, out, err = run(capsys, "scan", *guests, "-o", file, "--html", html)
        assert (status, out) == (2, "")
        assert "two files can't have this name" in err
        assert not file.exists()
    # Names of tables are told when they are made: what is saved stays.
    status, _, err = run(capsys, "scan", *guests, "-o", tmp_path / "groups.parquet", "--parquet", tmp_path)
    assert status == 2
    assert "groups.parquet: two files can't have this name" in err
    assert saved.read(tmp_path / "groups.parquet").report.pages.known == 9
    assert run(capsys, "scan", *guests, "-o", tmp_path / "y.parquet", "--parquet", tmp_path / "folder")[0] == 0


def test_what_is_printed_does_not_spoil_what_is_saved(guests, tmp_path):
    code = "import sys; from pageshare.commands import main; sys.exit(main(sys.argv[1:]))"
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", code, "scan", *guests, "-o", "/dev/stdout"],
            check=False,
            stdout=out,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 2
    assert done.stderr == b"pageshare scan: -o /dev/stdout: what is printed goes there: name a file\n"
    assert (tmp_path / "out").read_bytes() == b""


def test_pipes_and_devices_are_no_saved_scans(capsys, tmp_path):
    """They are told from one before they are waited for."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        status, out, err = run(capsys, "report", path)
        assert (status, out) == (1, "")
        assert err == f"pageshare report: {path}: it is a pipe or a device: a saved scan is read from a file\n"


def test_files_that_are_read_from_end_to_end(guests, capsys, tmp_path, monkeypatch):
    """Where dumps don't fit into memory."""
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    run(capsys, "scan", *guests, "-o", first)
    monkeypatch.setattr("pageshare.limits.memory", lambda: Memory(1 << 13, 1 << 13))
    status, out, _ = run(capsys, "scan", "--json", *guests, "-o", second)
    assert (status, json.loads(out)["method"]) == (0, "streamed-census")
    monkeypatch.undo()
    assert saved.read(first).digests.tolist() == saved.read(second).digests.tolist()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(tmp_path, number):
    """Whenever that is: while it scans, hashes or writes."""
    with (tmp_path / "a.raw").open("wb") as file:
        for i in range(20_000):
            file.write(i.to_bytes(8, "little") * (PAGE // 8))
    for delay in (0.3, 0.5, 0.7, 0.9):
        process = subprocess.Popen(
            [sys.executable, "-m", "pageshare", "scan", "-q", tmp_path / "a.raw", "-o", tmp_path / "x"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        time.sleep(delay)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert process.returncode in (0, 128 + number, -number)
        if process.returncode == 0 or out:  # it came too late: all was written, perhaps not all printed
            assert saved.read(tmp_path / "x").report.pages.known == 20_000
        (tmp_path / "x").unlink(missing_ok=True)
        assert [each.name for each in tmp_path.iterdir()] == ["a.raw"]
