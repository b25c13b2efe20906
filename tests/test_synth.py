"""Images with a known truth: the truth against a dict of the bytes written, and against a scan."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pageshare
from oracle import agrees, census
from pageshare import synth
from pageshare.synth.spec import FORMATS

MIB = 1 << 20


def payload(path: Path) -> bytes:
    """The memory in a file, found without the readers under test."""
    data = path.read_bytes()
    if data.startswith(b"\x7fELF"):
        table, entry, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
        segments = [struct.unpack_from("<IIQQQQQQ", data, table + i * entry) for i in range(count)]
        return b"".join(data[offset : offset + size] for kind, _, offset, _, _, size, _, _ in segments if kind == 1)
    memory, at = b"", 0
    while data[at : at + 4] == b"EMiL":
        _, _, start, end, _ = struct.unpack_from("<IIQQQ", data, at)
        at += 32
        memory += data[at : at + end + 1 - start]
        at += end + 1 - start
    return memory or data


def pages_of(path: Path, page_size: int = 4096) -> list[bytes]:
    memory = payload(path)
    assert len(memory) % page_size == 0
    return [memory[at : at + page_size] for at in range(0, len(memory), page_size)]


def counted(truth: synth.Truth) -> dict:
    size = truth.spec.page_size
    return census({path.name: pages_of(path, size) for path in truth.paths}, page_size=size)


SPECS = {
    "defaults": {},
    "benchmark in runs": {"zero": 0.4, "duplicate": 0.3, "run": 32, "popularity": {"contents": 50}},
    "flat": {"popularity": {"kind": "zipf", "exponent": 0, "contents": 3}},
    "counts": {"popularity": {"counts": [60, 0, 1, 2, 7]}, "zero": 0.1},
    "base": {"base": 0.5, "zero": 0.25, "duplicate": 0.1, "run": {"base": 16}},
    "common": {"images": 5, "common": {"fraction": 0.3, "probability": 0.4}, "run": {"common": 4}},
    "all zero": {"zero": 1, "duplicate": 0},
    "all unique": {"zero": 0, "duplicate": 0},
    "one zero page": {"images": 1, "zero": 1 / 256, "duplicate": 0},
    "one zero page each": {"zero": 1 / 256, "duplicate": 0},
    "large pages": {"page_size": "64KiB", "size": "4MiB"},
    "small pages": {"page_size": 512, "size": "64KiB"},
    "alike": {"alike": {"fraction": 0.9, "bytes": 4088, "beginnings": 2}},
    "one image of one page": {"images": 1, "size": 4096},
    "many images": {"images": 12, "size": "32KiB"},
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("keys", SPECS.values(), ids=SPECS)
def test_truth_is_what_the_bytes_say_and_what_a_scan_finds(keys: dict, format: str, tmp_path: Path) -> None:
    truth = synth.make(synth.Spec.of_table({"size": MIB, **keys, "format": format}), tmp_path)
    assert len(truth.paths) == truth.spec.images
    assert agrees(truth.to_dict(), counted(truth))
    report = pageshare.scan(list(truth.paths), page_size=truth.spec.page_size).to_dict()
    assert agrees(report, {key: truth.to_dict()[key] for key in ("pages", "nonzero", "owners")})
    assert {key: report["coverage"][key] for key in ("data", "zero", "zero_inferred")} == truth.to_dict()["coverage"]
    assert {image["format"] for owner in report["owners"] for image in owner["files"]} == {format}


tenths = st.integers(0, 10)


@st.composite
def small_specs(draw: st.DrawFn) -> synth.Spec:
    parts = draw(st.lists(tenths, min_size=4, max_size=4))
    whole = max(10, sum(parts))
    zero, duplicate, base, common = (part / whole for part in parts)
    return synth.Spec(
        images=draw(st.integers(1, 4)),
        page_size=512,
        size=512 * draw(st.integers(1, 60)),
        seed=draw(st.integers(0, 2**64 - 1)),
        zero=zero,
        duplicate=duplicate,
        base=base,
        common=synth.Common(common, draw(st.floats(0.01, 1))),
        popularity=synth.Zipf(draw(st.floats(0, 10)), draw(st.integers(1, 30))),
        run=synth.Runs(*draw(st.lists(st.floats(1, 100), min_size=5, max_size=5))),
        alike=synth.Alike(draw(st.floats(0, 1)), 8 * draw(st.integers(1, 63)), draw(st.integers(1, 3))),
    )


@settings(deadline=None)
@given(small_specs())
def test_truth_of_any_spec(spec: synth.Spec) -> None:
    plan, contents = synth.Plan(spec), synth.Contents(spec)
    owners = {
        name: [page.tobytes() for page in contents.pages(plan.image(i)[0])] for i, name in enumerate(spec.names)
    }
    assert agrees(synth.truth_of(spec).to_dict(), census(owners, page_size=512))


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**32 - 1), unique=True, min_size=1), st.booleans())
def test_no_two_contents_are_equal_and_none_is_zero(seed: int, numbers: list[int], alike: bool) -> None:
    spec = synth.Spec(page_size=512, seed=seed, alike=synth.Alike(1.0 if alike else 0.0, 504, 1))
    pages = synth.Contents(spec).pages(np.array(numbers))
    assert len({page.tobytes() for page in pages}) == len(numbers)
    assert [page.any() for page in pages] == [number != 0 for number in numbers]


def test_fractions_are_kept_to_the_page() -> None:
    spec = synth.Spec(images=1, size=1000 * 4096, zero=0.4, duplicate=0.3, base=0.05, common=synth.Common(0.05))
    plan = synth.Plan(spec)
    numbers, _ = plan.image(0)
    assert (numbers == 0).sum() == 400
    assert (numbers >= plan.pools).sum() == 200
    assert spec.unique == pytest.approx(0.2)


@pytest.mark.parametrize("exponent", [0, 0.5, 1, 1.7])
def test_zipf_popularity(exponent: float) -> None:
    contents, pages = 5, 100_000
    spec = synth.Spec(
        images=1, size=pages * 512, page_size=512, zero=0, duplicate=1, popularity=synth.Zipf(exponent, contents)
    )
    numbers, _ = synth.Plan(spec).image(0)
    drawn = np.bincount(numbers, minlength=contents + 1)[1:] / pages
    weights = np.arange(1, contents + 1) ** -float(exponent)
    assert drawn == pytest.approx(weights / weights.sum(), abs=0.01)  # six standard deviations and more


def test_given_counts_are_exact_over_all_images(tmp_path: Path) -> None:
    counts = [9, 0, 1, 5]
    spec = synth.Spec(images=3, size=16 * 4096, zero=0, popularity=synth.Counts(tuple(counts)))
    truth = synth.make(spec, tmp_path)
    copies = Counter(page for path in truth.paths for page in pages_of(path))
    assert sorted(copies.values()) == sorted([9, 1, 5] + [1] * (3 * 16 - 15))


def test_the_base_lies_at_the_same_place_in_all_images() -> None:
    spec = synth.Spec(images=3, size=100 * 4096, zero=0.3, duplicate=0, base=0.4)
    plan = synth.Plan(spec)
    images = [plan.image(i)[0] for i in range(3)]
    same = (images[0] == images[1]) & (images[0] == images[2]) & (images[0] != 0)
    assert same.sum() == 40
    assert len(set(images[0][same].tolist())) == 40


def test_common_contents_are_held_by_a_random_subset_of_the_images() -> None:
    spec = synth.Spec(
        images=8, size=1000 * 4096, zero=0, duplicate=0, common=synth.Common(fraction=0.5, probability=0.25)
    )
    plan = synth.Plan(spec)
    held = [numbers[numbers < plan.pools] for numbers in (plan.image(i)[0] for i in range(8))]
    assert all(len(each) == len(set(each.tolist())) == 500 for each in held)
    holders = np.bincount(np.concatenate(held), minlength=plan.pools)[1:2001]
    assert holders.sum() == 8 * 500
    assert holders.mean() == 2
    assert 1.3 < holders.var() < 1.7  # 1.5, that of 8 draws at a quarter


@pytest.mark.parametrize("length", [1, 8, 50])
def test_runs_are_as_long_as_asked(length: int) -> None:
    # Runs of one class meet by chance: with a thousandth of the pages that is rare.
    plan = synth.Plan(
        synth.Spec(images=1, size=512 * 1_000_000, page_size=512, zero=0.01, duplicate=0, run=synth.Runs(zero=length))
    )
    zero = plan.image(0)[0] == 0
    runs = int(np.count_nonzero(np.diff(zero.astype(np.int8)) == 1)) + int(zero[0])
    assert zero.sum() / runs == pytest.approx(length, rel=0.05)


def test_contents_that_begin_alike() -> None:
    spec = synth.Spec(alike=synth.Alike(fraction=0.5, bytes=128, beginnings=4))
    pages = synth.Contents(spec).pages(np.arange(1, 2001))
    beginnings = Counter(page[:128].tobytes() for page in pages)
    often = [count for count in beginnings.values() if count > 1]
    assert len(often) == 4
    assert bytes(128) in beginnings
    assert 900 < sum(often) < 1100


@pytest.mark.parametrize("format", FORMATS)
def test_same_seed_same_bytes(format: str, tmp_path: Path) -> None:
    spec = synth.Spec(size=MIB, format=format, base=0.1)
    first, again = synth.make(spec, tmp_path / "1"), synth.make(spec, tmp_path / "2")
    other = synth.make(spec.changed({"seed": 2}), tmp_path / "3")
    assert [path.read_bytes() for path in first.paths] == [path.read_bytes() for path in again.paths]
    assert not {path.read_bytes() for path in first.paths} & {path.read_bytes() for path in other.paths}
    assert (tmp_path / "1" / "truth.json").read_bytes() == (tmp_path / "2" / "truth.json").read_bytes()


def test_the_bytes_of_one_spec_for_ever(tmp_path: Path) -> None:
    spec = synth.Spec(
        images=3,
        size=MIB,
        zero=0.25,
        duplicate=0.25,
        base=0.2,
        seed=1234,
        popularity=synth.Zipf(0.9, 40),
        common=synth.Common(0.1, 0.6),
        run=synth.Runs.of(3.5),
        alike=synth.Alike(0.3),
    )
    digest = hashlib.sha256()
    for path in synth.make(spec, tmp_path).paths:
        digest.update(path.read_bytes())
    assert digest.hexdigest() == "4b5741805eefe1d05e4e21c864e3dd43be956dd9e9a0b2275684b6ed8754840f"


@pytest.mark.parametrize("run", [1, 20])
def test_sparse_files_have_holes(run: int, tmp_path: Path) -> None:
    spec = synth.Spec.of_table({"size": 4 * MIB, "zero": 0.5, "sparse": 0.5, "run": run})
    truth = synth.make(spec, tmp_path)
    for path in truth.paths:
        status = path.stat()
        assert status.st_size == 4 * MIB
        # A quarter are holes; the file system may take some blocks for its own account of them.
        assert status.st_blocks * 512 < 3.1 * MIB
    assert agrees(truth.to_dict(), counted(truth))
    assert truth.pages.zero_inferred == 2 * 256
    report = pageshare.scan(list(truth.paths)).to_dict()
    assert agrees(report, {key: truth.to_dict()[key] for key in ("pages", "nonzero", "owners")})
    assert report["coverage"]["zero_inferred"] == truth.to_dict()["coverage"]["zero_inferred"] == 512


def test_an_image_of_one_hole(tmp_path: Path) -> None:
    (path,) = synth.make(synth.Spec(images=1, size=MIB, zero=1, duplicate=0, sparse=1), tmp_path).paths
    assert (path.stat().st_size, path.stat().st_blocks) == (MIB, 0)


def test_holes_smaller_than_the_file_systems_blocks_are_an_error_not_a_wrong_truth(tmp_path: Path) -> None:
    spec = synth.Spec(size=MIB, page_size=512, zero=0.5, sparse=0.5)
    with pytest.raises(OSError, match="does not keep holes of 512 bytes"):
        synth.make(spec, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("format", ["elf", "lime"])
def test_memory_above_the_device_window_goes_on_at_4_gib(format: str) -> None:
    from pageshare.synth.make import _parts

    spec = synth.Spec(images=1, size=(4 << 30) + 4096, format=format)
    (header, start, middle), (second, again, end) = _parts(spec)
    assert (start, middle, again, end) == (0, 0xE0000, 0xE0000, (1 << 20) + 1)
    if format == "lime":
        assert struct.unpack("<IIQQQ", header)[2:4] == (0, 0xDFFF_FFFF)
        assert struct.unpack("<IIQQQ", second)[2:4] == (1 << 32, (1 << 32) + (0x20000 << 12) + 4095)
    else:
        (count,) = struct.unpack_from("<H", header, 56)
        segments = [struct.unpack_from("<IIQQQQQQ", header, 64 + i * 56) for i in range(count)]
        loads = [(offset, address, size) for kind, _, offset, _, address, size, _, _ in segments if kind == 1]
        low = 0xE000_0000
        assert loads == [(len(header), 0, low), (len(header) + low, 1 << 32, spec.size - low)]
        assert second == b""


def test_files_are_private_and_nothing_else_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    truth = synth.make(synth.Spec(size=MIB), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["guest1.raw", "guest2.raw", "truth.json"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert json.loads((folder / "truth.json").read_text()) == truth.to_dict()


def test_what_exists_stays_without_force(tmp_path: Path) -> None:
    (tmp_path / "guest2.raw").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"guest2\.raw exists: choose another folder, or use --force"):
        synth.make(synth.Spec(size=MIB), tmp_path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("guest2.raw", b"mine")]
    synth.make(synth.Spec(size=MIB), tmp_path, force=True)
    assert (tmp_path / "guest2.raw").stat().st_size == MIB


def test_images_of_an_earlier_run_go_with_its_truth(tmp_path: Path) -> None:
    synth.make(synth.Spec(images=3, size=MIB), tmp_path)
    (tmp_path / "guest9.raw").write_bytes(b"not in truth.json")
    with pytest.raises(FileExistsError):
        synth.make(synth.Spec(images=1, size=MIB, format="elf"), tmp_path)
    synth.make(synth.Spec(images=1, size=MIB, format="elf"), tmp_path, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["guest1.elf", "guest9.raw", "truth.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"owners": [{"files": [{"path": "../precious"}]}]}'])
def test_a_truth_json_that_is_not_ours_is_not_believed(content: str, tmp_path: Path) -> None:
    precious, folder = tmp_path / "precious", tmp_path / "made"
    precious.touch()
    folder.mkdir()
    (folder / "truth.json").write_text(content)
    synth.make(synth.Spec(size=MIB), folder, force=True)
    assert precious.exists()


@pytest.mark.parametrize("new", [True, False])
def test_nothing_is_left_after_an_interrupt(new: bool, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    if not new:
        folder.mkdir()

    def interrupt(done: int) -> None:
        if done > 3 * MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synth.make(synth.Spec(size=2 * MIB), folder, interrupt)
    assert folder.exists() is not new
    assert new or not list(folder.iterdir())


def test_nothing_is_left_if_it_fails_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if target.name == "truth.json":
            raise PermissionError(13, "Permission denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(PermissionError):
        synth.make(synth.Spec(size=MIB), tmp_path)
    assert not list(tmp_path.iterdir())


def test_progress_tells_the_bytes_done(tmp_path: Path) -> None:
    told: list[int] = []
    synth.make(synth.Spec(images=2, size=5 * MIB, sparse=1), tmp_path, told.append)
    assert told == sorted(told)
    assert told[-1] == 10 * MIB
    assert len(told) >= 4


def test_no_space_is_known_before(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    size = (free.f_frsize * free.f_blocks // MIB + 1) * MIB
    with pytest.raises(OSError, match=r"the images take [\d,]+ bytes, [\d,]+ are free"):
        synth.make(synth.Spec(images=1, size=size), tmp_path / "new")
    assert not (tmp_path / "new").exists()


BAD = {
    "imagse = 2": "imagse: no such key; there are images, size, page_size, ",
    "images = 0": "images: must be a whole number from 1 to 10000, not 0",
    "images = true": "images: must be a whole number",
    'images = "2"': "images: must be a whole number",
    'size = "1 lightyear"': "size: must be a size in bytes, or with K, M, G or T behind (64MiB), not 1 lightyear",
    "size = 5000": "size: must be a multiple of the page size, 4096, not 5000",
    "size = 0": "size: must be a whole number from 4096",
    "page_size = 1000": "page_size: must be a power of two from 512 to 2097152, not 1000",
    "seed = -1": "seed: must be a whole number from 0 to 18446744073709551615, not -1",
    'format = "vmdk"': "format: must be raw or elf or lime, not vmdk",
    "zero = 1.5": "zero: must be a number from 0 to 1, not 1.5",
    "zero = nan": "zero: must be a number from 0 to 1, not nan",
    "zero = 0.8": "zero 0.8 + duplicate 0.3 = 1.1: must be at most 1 together",
    "base = false": "base: must be a number from 0 to 1, not False",
    "sparse = 2": "sparse: must be a number from 0 to 1, not 2",
    'sparse = 0.5\nformat = "elf"': "sparse: must be 0 in format elf: only raw files have holes",
    'popularity = "zipf"': "popularity: must be a table, not zipf",
    'popularity.kind = "pareto"': "popularity.kind: must be zipf or counts, not pareto",
    "popularity.contents = 0": "popularity.contents: must be a whole number from 1",
    "popularity.exponent = -1": "popularity.exponent: must be a number from 0 to 10, not -1",
    'popularity.kind = "counts"': "popularity.counts: must be there where kind is counts, not left out",
    "popularity.counts = []": "popularity.counts: must be 1 to 67108864 numbers, not ()",
    "popularity.counts = [1, -1]": "popularity.counts[1]: must be a whole number from 0",
    "popularity.counts = [2]\nduplicate = 0.1": "duplicate: leave it out where popularity.counts says",
    "popularity.counts = [2]\npopularity.exponent = 1": "popularity.exponent: no such key; there are counts",
    "common = 0.5": "common: must be a table, not 0.5",
    "common.probability = 0": "common.probability: must be a number above 0 up to 1, not 0",
    "common.part = 1": "common.part: no such key; there are fraction, probability",
    "run = 0.5": "run: must be a number from 1",
    'run = "long"': "run: must be a table, not long",
    "run.zero = 0": "run.zero: must be a number from 1",
    "alike.bytes = 12": "alike.bytes: must be a multiple of 8, not 12",
    "alike.fraction = 1\nalike.bytes = 4096": "alike.bytes: must be at most 4088, 8 less than the page size, not 4096",
    "images = ": "not a TOML file: ",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=BAD)
def test_a_bad_spec_names_file_and_key(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(synth.SpecError) as raised:
        synth.Spec.from_toml(path)
    assert str(raised.value).startswith(f"{path}: {message}")
    assert "\n" not in str(raised.value)


def test_what_has_no_end_is_no_spec() -> None:
    with pytest.raises(synth.SpecError, match="/dev/zero: more than 1 MiB"):
        synth.Spec.from_toml("/dev/zero")


def test_counts_that_do_not_fit_beside_the_rest() -> None:
    # A sum of at most 1 is not enough: pages are dealt in whole ones.
    spec = synth.Spec(images=2, size=3 * 4096, zero=0.5, popularity=synth.Counts((3,)))
    with pytest.raises(synth.SpecError, match=r"popularity\.counts: 2 of these pages .* 1 are left"):
        synth.Plan(spec)


def test_a_spec_goes_to_its_json_and_back(tmp_path: Path) -> None:
    for keys in SPECS.values():
        spec = synth.Spec.of_table(keys)
        assert synth.Spec.of_table(json.loads(json.dumps(spec.to_dict()))) == spec
    path = tmp_path / "all.toml"
    path.write_text('size = "1.5MiB"\nrun = 4\npopularity = {exponent = 0.5}\ncommon.fraction = 0.1\n')
    assert synth.Spec.from_toml(path) == synth.Spec(
        size=3 << 19, run=synth.Runs(4, 4, 4, 4, 4), popularity=synth.Zipf(0.5), common=synth.Common(0.1)
    )
