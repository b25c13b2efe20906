"""The estimate against a dict of page bytes: exact with memory enough, and over a thousand seeds as good as it says."""

import ctypes
import itertools
import json
import mmap
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import astuple, fields

import numpy as np
import pytest

import pageshare
from oracle import census
from pageshare import core
from pageshare.core import Control, MediaError, Stopped
from pageshare.estimation import LEAST_MEMORY, NonzeroEstimates, estimate_space
from pageshare.images.elf import core_header
from pageshare.images.image import Descriptor
from pageshare.images.ranges import Kind
from pageshare.render.estimation import headline, tables
from pageshare.space import PageSpace, SpaceSource

FIGURES = [field.name for field in fields(NonzeroEstimates) if field.name != "pages"]


def truth(owners, domains=None):
    """The figures of ``NonzeroEstimates`` by a dict: ``owners`` are sequences of contents (0: zero), in ``domains``."""
    pages, holders = Counter(), Counter()
    for owner, domain in zip(owners, domains or [0] * len(owners), strict=True):
        held = Counter((domain, content) for content in owner if content)
        pages.update(held)
        holders.update(held.keys())
    known, contents = pages.total(), len(pages)
    unique = sum(count == 1 for count in pages.values())
    return {
        "contents": contents,
        "unique": unique,
        "shared": known - unique,
        "kept": sum(count > 1 for count in pages.values()),
        "reclaimed": sum(count - 1 for count in pages.values()),
        "reclaimed_intra": sum(pages[key] - holders[key] for key in pages),
        "reclaimed_inter": sum(count - 1 for count in holders.values()),
    }


def page_of(number, page_size):
    """Zero for 0; else distinct, and alike but for a few bytes."""
    if not number:
        return bytes(page_size)
    return (int(number).to_bytes(8, "big") + b"\7" * page_size)[:page_size]


def is_exactly(figure, value):
    return astuple(figure) == (value, 0, value, value)


# ---- exact, where memory is enough ----


@pytest.mark.parametrize("count", range(1, 13))
@pytest.mark.parametrize("holes", ["zero", "unknown"])
def test_with_memory_enough_it_is_a_dicts_count(tmp_path, count, holes):
    """Files with holes, of 1 to 12 owners, in one domain, in some, in one each."""
    rng = np.random.default_rng(count)
    page_size = int(rng.choice([512, 1024, 4096, 16384]))
    block = max(page_size, 4096)  # of the file system: holes are whole ones
    held, paths = {}, {}
    for number in range(count):
        name = f"owner{number}"
        paths[name] = tmp_path / name
        pages = []
        with paths[name].open("wb") as file:
            file.truncate(24 * block)
            for at in range(0, 24 * block, block):
                if rng.random() < 0.3:
                    pages += [bytes(page_size)] * (block // page_size) if holes == "zero" else []
                    continue
                some = [page_of(content, page_size) for content in rng.integers(0, 60, block // page_size)]
                os.pwrite(file.fileno(), b"".join(some), at)
                pages += some
        held[name] = pages
    named = {name: f"red{i % 3}" for i, name in enumerate(held) if i % 2}
    grouped = {domain: [name for name in named if named[name] == domain] for domain in set(named.values())}
    options = [({}, None), ({"domains": grouped}, named), ({"domain_per_owner": True}, {name: name for name in held})]
    before = None
    for arguments, domains in options:
        found = pageshare.estimate(paths, page_size=page_size, holes=holes, format="raw", **arguments)
        expected = census(held, domains, page_size)
        assert (found.exact, found.q, found.evicted, found.verified) == (True, 1, 0, False)
        assert (found.known, found.zero) == (expected["pages"]["known"], expected["pages"]["zero"])
        assert found.known + found.coverage.unknown == count * 24 * block // page_size
        for part in ("pages", "nonzero"):
            for name, value in expected[part].items():
                if name not in ("known", "zero"):
                    assert is_exactly(getattr(getattr(found, part), name), value), (part, name)
        assert found.nonzero.pages == found.known - found.zero
        assert is_exactly(found.nonzero.contents, found.sampled)
        assert found.reclaimed_share.estimate == pytest.approx(expected["pages"]["reclaimed"] / found.known)
        assert [(owner.name, owner.known, owner.zero) for owner in found.owners] == [
            (name, len(pages), sum(not any(page) for page in pages)) for name, pages in held.items()
        ]
        # Domains only lose.
        assert before is None or found.pages.reclaimed.estimate <= before or domains is None
        before = found.pages.reclaimed.estimate if before is None else before


def test_nothing_at_all():
    found = pageshare.estimate([])
    assert (found.known, found.exact, found.sampled) == (0, True, 0)
    assert is_exactly(found.pages.reclaimed, 0)
    assert is_exactly(found.reclaimed_share, 0)
    assert headline(found) == "No page whose content is known: nothing to share."
    for table in tables(found, 4096):
        assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize("name", core.kernels())
def test_every_kernel_draws_the_same_sample(name):
    pages = np.random.default_rng(2).integers(0, 4, (9000, 256), np.uint8)
    space = PageSpace.of(pages, page_size=256)
    one = core.sample_contents(space, memory=1 << 16, seed=3, kernel=name)
    assert one.share < 1
    assert one.kernel == name
    other = core.sample_contents(space, memory=1 << 16, seed=3)
    assert {**vars(one), "kernel": ""} == {**vars(other), "kernel": ""}


@pytest.mark.parametrize("threads", range(2, 6))
def test_any_number_of_threads_draws_the_same_sample(monkeypatch, tmp_path, threads):
    """From a file, of owners that take turns in blocks, so that there is always one to wait for."""
    monkeypatch.setattr("pageshare.core._estimate.SMALLEST_SHARE", 1)
    pages = np.random.default_rng(threads).integers(0, 2, (20_000, 512), np.uint8)
    pages[:, 20:] = 0
    (tmp_path / "a").write_bytes(pages.tobytes())
    (tmp_path / "b").write_bytes(pages[:9999].tobytes())
    images = {name: [pageshare.open_image(tmp_path / name, format="raw", page_size=512)] for name in "ab"}
    space = PageSpace(images.items(), page_size=512)
    one = core.sample_contents(space, memory=1 << 15, seed=1, threads=1)
    assert one.evicted > 0
    for _ in range(5):
        other = core.sample_contents(space, memory=1 << 15, seed=1, threads=threads)
        assert {**vars(other), "bytes": 0} == {**vars(one), "bytes": 0}
        assert other.bytes > one.bytes


# ---- the sample: all contents below the threshold, with their counts ----

WORD = 2**64 - 1


def mix(number):
    """The finaliser of splitmix64."""
    number = (number + 0x9E3779B97F4A7C15) & WORD
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) & WORD
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) & WORD
    return number ^ number >> 31


@pytest.mark.parametrize("seed", range(12))
def test_the_sample_has_every_content_below_the_threshold(seed):
    rng = np.random.default_rng(seed)
    owners, page_size = [], 256
    for _ in range(seed + 1):
        numbers = rng.integers(0, 3000, int(rng.integers(1, 2000))) * rng.integers(0, 2)
        whole = b"".join(page_of(number, page_size) for number in numbers)
        owners.append(np.frombuffer(whole, np.uint8).reshape(-1, page_size))
    domains = rng.integers(0, 2, len(owners)).tolist()
    domains = [list(dict.fromkeys(domains)).index(domain) for domain in domains]
    space = PageSpace.of(owners, page_size=page_size, domains=[str(domain) for domain in domains])
    memory = int(rng.choice([1024, 5000, 20_000, 1 << 20]))
    found = core.sample_contents(space, memory=memory, seed=seed)

    pages, holders, zeros = Counter(), Counter(), []
    for owner, domain in zip(owners, domains, strict=True):
        keys = Counter(
            mix(int(each) ^ mix(seed ^ domain << 32))
            for each, page in zip(core.hash_pages(owner, page_size, seed=seed), owner, strict=True)
            if page.any()
        )
        zeros.append(len(owner) - keys.total())
        pages.update(keys)
        holders.update(keys.keys())
    threshold = found.share * 2**64
    kept = [key for key in pages if key < threshold]
    assert found.contents == len(kept)
    assert found.unique == sum(pages[key] == 1 for key in kept)
    assert found.pages == sum(pages[key] for key in kept)
    assert found.owners == sum(holders[key] for key in kept)
    assert found.owners_squared == sum(holders[key] ** 2 for key in kept)
    assert [each.zero for each in found.by_owner] == zeros
    slots = memory // 20
    assert found.contents <= slots * 3 // 4
    assert (found.share == 1) == (len(pages) <= slots * 3 // 4) == (found.evicted == 0)
    # It falls to three quarters at a time, and no further than it must.
    steps = round(np.log(found.share) / np.log(0.75))
    assert found.share == pytest.approx(0.75**steps)
    if steps:
        assert sum(key < threshold / 0.75 for key in pages) > slots * 3 // 4


def test_the_seed_chooses_the_sample():
    pages = np.random.default_rng(1).integers(0, 256, (9000, 256), np.uint8)
    space = PageSpace.of(pages, page_size=256)
    one, again, other = (estimate_space(space, memory=LEAST_MEMORY, seed=seed) for seed in (1, 1, 2))
    assert not one.exact
    assert (one.pages, one.q, one.sampled) == (again.pages, again.q, again.sampled)
    assert one.pages != other.pages
    assert estimate_space(space, memory=LEAST_MEMORY).seed != estimate_space(space, memory=LEAST_MEMORY).seed


# ---- a thousand seeds ----


def fingerprints(owners):
    """A space whose pages are contents as numbers of 64 bits, so that a reading takes next to no time."""
    blank = {str(i): np.zeros(256 * len(owner), np.uint8) for i, owner in enumerate(owners)}
    return PageSpace.of(blank, page_size=256).as_fingerprints(np.concatenate(owners).astype(np.uint64), 0)


def shuffled(contents, owners, seed=1):
    return np.array_split(np.random.default_rng(seed).permutation(contents), owners)


POPULATIONS = {
    "all unique": shuffled(np.arange(1, 20_001), 3),
    "nearly all unique": shuffled(np.r_[1:20_001, 1:41], 2),
    "pairs": shuffled(np.repeat(np.arange(1, 10_001), 2), 4),
    "Zipf": shuffled(np.random.default_rng(2).zipf(1.1, 30_000).clip(1, 2**62), 5),
    "one content is 30 %": shuffled(np.r_[np.full(9000, 1), 2:15_002, np.repeat(np.arange(20_000, 23_000), 2)], 5),
    "one content is 30 %, first": [np.full(9000, 1), np.arange(2, 15_002), np.arange(9000, 12_000)],
    "twelve of a kind": [np.r_[np.arange(1, 3001), np.zeros(500)]] * 12,
    "twelve with a kernel": [
        np.r_[np.arange(1, 800), np.full(300, 5), np.arange(1000 * i, 1000 * i + 1000), np.zeros(99)]
        for i in range(10, 22)
    ],
    "one owner": [np.r_[1:15_002, np.repeat(np.arange(20_000, 23_000), 3)]],
}
TRIALS = 1000


def judge(found, value, name):
    """Of estimates with different seeds: unbiased, with an error as they say, and an interval that holds the truth."""
    estimates = np.array([each.estimate for each in found])
    inside = np.mean([each.low <= value <= each.high for each in found])
    if not estimates.std():
        # Exact: there is none of it, or it is all that there is.
        assert estimates[0] == value, name
        assert inside >= 0.93, name
        return
    spread = estimates.std(ddof=1)
    assert abs(estimates.mean() - value) < 3 * spread / np.sqrt(len(found)), name
    said = np.sqrt(np.mean([each.error**2 for each in found]))
    assert said == pytest.approx(spread, rel=3 / np.sqrt(len(found))), name
    # Of a handful of contents a few are met or none: their interval holds them more often than it must.
    assert 0.93 <= inside <= (0.97 if value == 0 or value > 100 else 1), name


@pytest.mark.parametrize("population", POPULATIONS)
def test_the_interval_holds_the_truth_in_95_of_100_samples(population):
    owners = POPULATIONS[population]
    space, expected = fingerprints(owners), truth(owners)
    found = [estimate_space(space, memory=LEAST_MEMORY, seed=seed) for seed in range(TRIALS)]
    assert all(4 < each.q < 20 for each in found) or population == "twelve of a kind"
    assert {each.zero for each in found} == {sum(int((owner == 0).sum()) for owner in owners)}
    for name in FIGURES:
        judge([getattr(each.nonzero, name) for each in found], expected[name], name)


@pytest.mark.parametrize("owners", [1, 3])
def test_the_same_from_files(tmp_path, owners):
    """End to end: files of small pages, read and hashed for every seed."""
    rng = np.random.default_rng(owners)
    numbers = np.array_split(rng.permutation(np.r_[1:5001, 1:1501, np.full(700, 7), np.zeros(300, int)]), owners)
    for number, contents in enumerate(numbers):
        (tmp_path / str(number)).write_bytes(b"".join(page_of(content, 512) for content in contents))
    paths, expected = [tmp_path / str(number) for number in range(owners)], truth(numbers)
    found = [
        pageshare.estimate(paths, page_size=512, format="raw", memory=LEAST_MEMORY, seed=seed) for seed in range(200)
    ]
    for name in FIGURES:
        values = [getattr(each.nonzero, name) for each in found]
        inside = np.mean([each.low <= expected[name] <= each.high for each in values])
        estimates = np.array([each.estimate for each in values])
        assert abs(estimates.mean() - expected[name]) <= 3 * estimates.std() / np.sqrt(200), name
        assert 0.91 <= inside <= 1, name  # three standard errors of 200 trials
    assert {each.zero for each in found} == {300}


def test_figures_of_one_estimate_agree():
    for population, seed in itertools.product(POPULATIONS, range(3)):
        found = estimate_space(fingerprints(POPULATIONS[population]), memory=LEAST_MEMORY, seed=seed)
        for part in (found.pages, found.nonzero):
            known = found.known if part is found.pages else found.nonzero.pages
            assert part.unique.estimate + part.shared.estimate == pytest.approx(known)
            assert part.shared.estimate - part.kept.estimate == pytest.approx(part.reclaimed.estimate)
        nonzero = found.nonzero
        both = nonzero.reclaimed_intra.estimate + nonzero.reclaimed_inter.estimate
        assert both == pytest.approx(nonzero.reclaimed.estimate)
        for figure in (getattr(nonzero, name) for name in FIGURES):
            assert figure.low <= figure.high
            assert figure.error >= 0


def test_more_memory_is_less_error():
    space = fingerprints([np.random.default_rng(3).integers(1, 2**62, 60_000)])
    errors = [estimate_space(space, memory=memory, seed=1).nonzero.reclaimed.error for memory in (1 << 16, 1 << 18)]
    assert 1.6 < errors[0] / errors[1] < 3


# ---- memory, time, and what goes wrong ----

PEAK = """
import re, sys, pageshare
found = pageshare.estimate(sys.argv[1:], memory=1 << 20)
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(found.sampled, found.table_bytes, int(peak) * 1024)
"""


def test_it_takes_no_more_memory_than_it_is_given(tmp_path):
    """Files of 192 MiB, which would count if they were mapped."""
    rng = np.random.default_rng(4)
    (tmp_path / "small.raw").write_bytes(bytes(4096))
    pages = rng.integers(0, 2**63, (48 << 10, 512), np.int64)
    for name in ("a.raw", "b.raw"):
        (tmp_path / name).write_bytes(pages[: 24 << 10].tobytes() if name == "a.raw" else pages[24 << 10 :].tobytes())

    def peak(*names):
        command = [sys.executable, "-c", PEAK, *(tmp_path / name for name in names)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return [int(word) for word in done.stdout.split()]

    sampled, table, most = peak("a.raw", "b.raw")
    assert 25_000 < sampled <= (1 << 20) // 20 * 3 // 4
    blocks = min(len(os.sched_getaffinity(0)), 8) * (256 << 10)
    assert table <= (1 << 20) + blocks + 4096  # contents; a block for each thread; the space
    assert most - peak("small.raw")[2] < 6 << 20


def test_too_little_memory_is_refused():
    with pytest.raises(ValueError, match="65535 bytes of memory are too little"):
        pageshare.estimate(bytes(4096), memory=65_535)
    with pytest.raises(ValueError, match="1023 bytes of memory"):
        core.sample_contents(bytes(4096), memory=1023)


def test_pages_that_cannot_be_read_are_lost_and_the_rest_counts(tmp_path):
    """/proc/self/mem is a file that gives EIO where a mapping has no file behind it any more."""
    page, numbers = 4096, [1, 1, 2, 3, 0, 0, 1, 2]
    whole = b"".join(page_of(number, page) for number in numbers)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(len(whole)), 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    ctypes.memmove(address, whole, len(whole))
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb+") as empty:
        over = ctypes.c_void_p(address + 2 * page)
        libc.mmap(over, ctypes.c_size_t(2 * page), 3, mmap.MAP_SHARED | 0x10, empty.fileno(), ctypes.c_long(0))
    space = PageSpace.of(whole)
    space.sources[0] = SpaceSource("mem", 1 << 62, Descriptor("/proc/self/mem", os.O_RDONLY), None, 0, 0)
    space.segments["offset"] = address
    found = estimate_space(space)
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(len(whole)))
    expected = census({"buffer": [page_of(number, page) for number in [1, 1, 0, 0, 1, 2]]})
    assert (found.known, found.zero, found.coverage.lost) == (6, 2, 2)
    for name in ("unique", "shared", "kept", "reclaimed"):
        assert is_exactly(getattr(found.pages, name), expected["pages"][name])
    assert found.incomplete == ("buffer: 2 pages could not be read (I/O error); they count as lost",)


def test_a_file_that_became_shorter_ends_it(tmp_path):
    path = tmp_path / "dump.raw"
    path.write_bytes(b"x" * (64 << 12))
    image = pageshare.open_image(path)
    space = PageSpace([("dump", [image])])
    os.truncate(path, 10 << 12)
    with pytest.raises(MediaError, match=r"dump\.raw: the file became shorter while it was read"):
        estimate_space(space)


def test_what_format_leaves_out_is_unknown(tmp_path):
    pages = [page_of(number, 4096) for number in (1, 1, 2, 2, 3)]
    header = core_header([(0x1000, 5 * 4096)], kind=Kind.RAM)
    (tmp_path / "cut.elf").write_bytes((header + b"".join(pages))[: len(header) + 3 * 4096 + 100])
    found = pageshare.estimate(tmp_path / "cut.elf")
    assert (found.known, found.coverage.lost) == (3, 2)
    assert is_exactly(found.pages.reclaimed, 1)
    assert found.incomplete


def test_it_stops_when_told_to():
    control = Control()
    control.stop()
    with pytest.raises(Stopped):
        pageshare.estimate(b"x" * 8192, control=control)

    space, control = fingerprints([np.random.default_rng(1).integers(1, 2**62, 4 << 20)]), Control()
    stopped = []

    def work():
        try:
            while True:
                estimate_space(space, memory=32 << 20, control=control)
        except Stopped:
            stopped.append(time.monotonic())

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.3)
    told = time.monotonic()
    control.stop()
    worker.join(timeout=60)
    assert stopped[0] - told < 1  # 50 ms, and what a loaded machine adds
    assert control.done > 0


# ---- views ----


def test_the_document_is_plain_and_the_tables_have_its_numbers():
    owners = POPULATIONS["twelve with a kernel"]
    found = estimate_space(fingerprints(owners), memory=LEAST_MEMORY, seed=1)
    document = json.loads(json.dumps(found.to_dict()))
    assert document == found.to_dict()
    assert document["format"] == "pageshare-estimate/1"
    figures, sample, each = tables(found, found.page_size)
    by_name = {row[0].strip(): row for row in figures.rows}
    pages, nonzero = document["pages"], document["nonzero"]
    keys = ("estimate", "low", "high", "error")
    assert by_name["reclaimed"][1:5] == tuple(pages["reclaimed"][key] for key in keys)
    assert by_name["between owners (inter)"][1:5] == tuple(nonzero["reclaimed_inter"][key] for key in keys)
    zero = pages["reclaimed"]["estimate"] - nonzero["reclaimed"]["estimate"]
    assert by_name["zero pages"][1:] == pytest.approx((zero, zero, zero, 0, 0))
    assert sample.rows[0][:3] == (document["q"], document["sampled"], document["evicted"])
    assert sorted(row[0] for row in each.rows) == sorted(owner["name"] for owner in document["owners"])
    assert re.match(r"About \S+ \w+ of \S+ KiB can be saved \(\S+ %\)", headline(found))
