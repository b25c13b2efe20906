"""The loop around the table: every way of scanning gives a plain dict's counts; files that fail name themselves."""

import ctypes
import mmap
import os
import threading

import numpy as np
import pytest

import pageshare
from oracle import agrees, census
from pageshare import limits, scanner
from pageshare.answers.ask import Questions
from pageshare.core import Control, FrameTable, MediaError, Outcome, Stopped
from pageshare.images.image import Descriptor
from pageshare.limits import Memory
from pageshare.space import PageSpace, SpaceSource

PAGE = 4096


def content(number):
    """Zero for 0; else distinct, and alike but for the last bytes."""
    page = np.zeros(PAGE, np.uint8)
    if number:
        page[:64] = 7
        page[-4:] = np.frombuffer(int(number).to_bytes(4, "big"), np.uint8)
    return page


def memory(seed, pages=200, contents=60):
    """Random pages of few contents, a third of them zero."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, contents, pages)
    numbers[rng.random(pages) < 1 / 3] = 0
    return np.stack([content(number) for number in numbers])


def split(buffer):
    return [row.tobytes() for row in buffer]


@pytest.fixture
def guests():
    return {"one": memory(1), "two": memory(2, pages=300), "three": memory(3, pages=1)}


@pytest.fixture
def truth(guests):
    return census({name: split(pages) for name, pages in guests.items()})


@pytest.fixture
def files(guests, tmp_path):
    paths = {}
    for name, pages in guests.items():
        paths[name] = tmp_path / f"{name}.raw"
        paths[name].write_bytes(pages.tobytes())
    return paths


def test_buffers(guests, truth):
    assert agrees(pageshare.scan(guests).to_dict(), truth)


@pytest.fixture
def memory_of(monkeypatch):
    """Makes the scanner believe that there is so much memory, of which so much is free."""

    def believe(total, free):
        monkeypatch.setattr("pageshare.limits.memory", lambda: Memory(total, free))

    return believe


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_files_by_any_number_of_threads(files, truth, threads, monkeypatch):
    monkeypatch.setattr("pageshare.core._census.SMALLEST_SHARE", PAGE)
    report = pageshare.scan(files, threads=threads)
    assert agrees(report.to_dict(), truth)
    assert (report.method, report.threads, report.readings) == ("census", threads, 0)
    assert report.overlapped == (threads > 1)
    assert report.coverage.data == report.pages.known == 501


def test_no_more_threads_than_were_asked_for(files, monkeypatch):
    """All that takes threads by itself asks how many CPUs there are."""
    monkeypatch.setattr(limits, "cpus", lambda: pytest.fail("threads were given"))
    questions = Questions(hosts=2, page_sizes=True, similar=True)
    report = pageshare.scan(files, threads=1, domain_per_owner=True, questions=questions)
    assert report.answers.page_sizes


@pytest.mark.parametrize("threads", [1, 2])
def test_an_input_larger_than_half_the_memory_is_let_go_of_behind_the_scan(files, truth, threads, memory_of):
    memory_of(total=2**21, free=2**30)
    report = pageshare.scan(files, threads=threads)
    assert agrees(report.to_dict(), truth)
    assert report.method == "census"
    assert report.overlapped
    by_policy = pageshare.scan(files, policy="random")
    assert agrees(by_policy.to_dict(), truth)


def test_an_input_larger_than_memory_is_streamed(files, truth, memory_of):
    memory_of(total=2**21, free=2**20)
    reports = [pageshare.scan(files, memory=memory) for memory in (None, 40 * PAGE, 10 * PAGE, 0)]
    for report in reports:
        assert agrees(report.to_dict(), truth)
        assert report.method == "streamed-census"
    readings = [report.readings for report in reports]
    assert readings[0] == 2
    assert readings == sorted(set(readings))


def test_bytes_that_many_pages_show_are_in_memory_once(files, truth, memory_of):
    size = sum(path.stat().st_size for path in files.values())
    memory_of(total=2**30, free=size + 2**18)
    again = {f"{name} {i}": path for i in range(3) for name, path in files.items()}
    report = pageshare.scan(again)
    assert report.method == "census"
    assert report.pages.known == 3 * truth["pages"]["known"]
    assert report.pages.known - report.pages.reclaimed == truth["pages"]["known"] - truth["pages"]["reclaimed"]


def test_files_that_cannot_be_mapped_are_read(files, truth, monkeypatch):
    monkeypatch.setattr("pageshare.images.Source.map", lambda _source: None)
    report = pageshare.scan(files)
    assert agrees(report.to_dict(), truth)
    assert (report.method, report.readings) == ("streamed-census", 2)
    by_policy = pageshare.scan(files, policy="random-permutation")
    assert agrees(by_policy.to_dict(), truth)
    assert (by_policy.method, by_policy.readings) == ("frame-table", 0)


def test_several_files_of_an_owner_are_one_address_space(tmp_path):
    from pageshare.images.lime import range_header

    pages = memory(4, pages=8)
    low, high = tmp_path / "low", tmp_path / "high"
    low.write_bytes(range_header(0x10000, 0x10000 + 4 * PAGE - 1) + pages[:4].tobytes())
    high.write_bytes(range_header(0x10000 + 3 * PAGE, 0x10000 + 8 * PAGE - 1) + pages[3:].tobytes())
    report = pageshare.scan({"guest": [low, high], "copy": pages})
    assert agrees(report.to_dict(), census({"guest": split(pages), "copy": split(pages)}))
    (warning,) = report.warnings
    assert "4096 bytes of memory lie in its files more than once" in warning


def test_domains(guests):
    domains = {"red": ["one"], "blue": ["two", "three"]}
    owners = {name: split(pages) for name, pages in guests.items()}
    report = pageshare.scan(guests, domains=domains)
    assert agrees(report.to_dict(), census(owners, {"one": "red", "two": "blue", "three": "blue"}))
    assert report.domains == ("red", "blue")
    alone = pageshare.scan(guests, domain_per_owner=True)
    assert agrees(alone.to_dict(), census(owners, {name: name for name in owners}))
    assert alone.nonzero.reclaimed_inter == 0


def test_domains_must_name_owners_once(guests):
    with pytest.raises(ValueError, match="no owner 'four'"):
        pageshare.scan(guests, domains={"red": ["four"]})
    with pytest.raises(ValueError, match="two domains"):
        pageshare.scan(guests, domains={"red": ["one"], "blue": ["one"]})
    with pytest.raises(ValueError, match="not both"):
        pageshare.scan(guests, domains={"red": ["one"]}, domain_per_owner=True)


def test_holes_are_zero_and_never_visited(tmp_path):
    sparse = tmp_path / "sparse.raw"
    page = content(1).tobytes()
    with sparse.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(page * 3)
    report = pageshare.scan(sparse)
    assert report.pages.zero_inferred == report.coverage.zero_inferred > 16_000
    assert report.readable == report.coverage.data <= 16
    expected = census({"sparse.raw": [page] * 3 + [bytes(PAGE)] * ((64 << 20) // PAGE - 3)})
    assert agrees(report.to_dict(), expected)
    partial = pageshare.scan(sparse, policy="random", limit=report.readable)
    assert partial.partial.visits == report.readable
    unknown = pageshare.scan(sparse, holes="unknown")
    assert unknown.pages.known == report.readable
    assert unknown.pages.unknown == unknown.coverage.excluded == report.coverage.zero_inferred


@pytest.mark.parametrize("size", [512, 1024, 16384, 65536])
def test_page_sizes(size):
    rng = np.random.default_rng(size)
    pages = rng.integers(0, 3, (120, size // 256), dtype=np.uint8).repeat(256, axis=1)
    pages[::4] = pages[0]
    pages[1::4] = 0
    report = pageshare.scan(pages, page_size=size)
    assert agrees(report.to_dict(), census({"buffer0": split(pages)}, page_size=size))


# ---- partial scans ----


@pytest.mark.parametrize("policy", ["sequential", "random-permutation", "random"])
def test_all_of_a_permutation_is_the_census(guests, truth, policy):
    report = pageshare.scan(guests, policy=policy, seed=5)
    assert agrees(report.to_dict(), truth)
    assert report.partial.policy == ("random-permutation" if policy == "random" else policy)
    assert report.partial.visits == report.partial.hints + report.partial.shared == 501
    assert report.partial.reclaimed == truth["pages"]["reclaimed"]


@pytest.mark.parametrize("limit", [1, 100, 500])
def test_a_part_in_order_finds_what_the_pages_seen_so_far_hold(guests, limit):
    report = pageshare.scan(guests, policy="sequential", limit=limit)
    every = [page for pages in guests.values() for page in split(pages)][:limit]
    seen = census({"seen": every})
    partial = report.partial
    assert (partial.visits, partial.zero) == (limit, seen["pages"]["zero"])
    # A zero page is a frame from the first on, never a hint.
    lone_zero = seen["pages"]["zero"] == 1
    assert partial.hints == seen["pages"]["unique"] - lone_zero
    assert partial.shared == seen["pages"]["shared"] + lone_zero
    assert partial.reclaimed == report.pages.reclaimed == seen["pages"]["reclaimed"]
    assert report.pages.known == 501
    assert report.pages.unique is None
    assert all(owner.pages.unique is None for owner in report.owners)


def test_draws_with_replacement_see_some_pages_twice(guests, truth):
    few = pageshare.scan(guests, policy="random-with-replacement", limit=501, seed=1)
    assert few.partial.visits == 501
    assert few.partial.hints + few.partial.shared < 501
    assert few.pages.unique is None
    many = pageshare.scan(guests, policy="random-with-replacement", limit=20_000, seed=1)
    assert agrees(many.to_dict(), truth)


def test_a_limit_alone_is_in_order(guests):
    assert pageshare.scan(guests, limit=10).partial.policy == "sequential"


def test_the_same_seed_makes_the_same_scan(guests):
    def figures(seed):
        report = pageshare.scan(guests, policy="random", limit=150, seed=seed)
        return report.partial.hints, report.partial.zero, report.partial.shared

    assert figures(3) == figures(3)
    assert len({figures(seed) for seed in range(8)}) > 1


# ---- files that change or fail ----


def test_a_file_that_is_written_meanwhile_gives_a_warning(files):
    images = {name: pageshare.open_image(path) for name, path in files.items()}
    with files["two"].open("r+b") as file:
        file.write(b"changed")
    report = pageshare.scan(images)
    for image in images.values():
        image.close()
    assert report.warnings == (f"{files['two']}: changed while it was read",)
    assert report.pages.known == report.pages.unique + report.pages.shared


def adds_up(report):
    for counts in [report.pages, *(owner.pages for owner in report.owners)]:
        assert counts.unique is not None
        assert counts.known == counts.unique + counts.shared
        assert counts.shared == counts.kept + counts.reclaimed
    for owner in report.owners:
        assert owner.pages.known == owner.with_others.unique + owner.with_others.shared


@pytest.mark.parametrize("policy", ["sequential", "random-permutation", "random-with-replacement"])
def test_a_file_that_is_written_during_a_policy_scan(tmp_path, monkeypatch, policy):
    """Hints go stale during the pass: their pages are still counted, once."""
    pages = 4000
    random = np.random.default_rng(7)
    contents = random.integers(1, 255, (1000, PAGE), np.uint8)
    path = tmp_path / "guest.raw"
    path.write_bytes(contents[random.integers(0, 1000, pages)].tobytes())
    (tmp_path / "other.raw").write_bytes(contents.tobytes())
    scan, stale = FrameTable.scan, []

    def write_and_scan(table, *args, **options):
        for page in random.integers(0, pages, 200):
            memory[page] = contents[random.integers(0, 1000)] if page % 2 else random.integers(1, 255, PAGE, np.uint8)
        result = scan(table, *args, **options)
        stale.append(table.tally().stale)
        return result

    monkeypatch.setattr(scanner, "BATCH", 100 * PAGE)
    monkeypatch.setattr(FrameTable, "scan", write_and_scan)
    memory = np.memmap(path, np.uint8, "r+", shape=(pages, PAGE))
    limit = 100_000 if policy == "random-with-replacement" else None
    found = pageshare.scan([path, tmp_path / "other.raw"], policy=policy, limit=limit, seed=3)
    assert any(stale)
    adds_up(found)


@pytest.mark.parametrize("how", ["in place", "streamed", "streamed in little memory"])
def test_a_file_that_is_written_during_a_census(tmp_path, memory_of, monkeypatch, how):
    """A page may be sampled as one thing, compared as another, and hashed as a third."""
    monkeypatch.setattr("pageshare.core._census.SMALLEST_SHARE", PAGE)
    if how != "in place":
        memory_of(total=2**21, free=2**20)
    pages = 2000
    random = np.random.default_rng(7)
    contents = np.zeros((8, PAGE), np.uint8)
    contents[1:4, 100] = contents[4:, -1] = 1
    contents[:, 200] = np.arange(8) // 2
    path = tmp_path / "guest.raw"
    path.write_bytes(contents[random.integers(0, 8, pages)].tobytes())
    memory = np.memmap(path, np.uint8, "r+", shape=(pages, PAGE))
    done = threading.Event()

    def write():
        while not done.is_set():
            memory[random.integers(0, pages, 50)] = contents[random.integers(0, 8)]

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for seed in range(30):
            memory_limit = 3 * PAGE if how == "streamed in little memory" else None
            adds_up(pageshare.scan(path, threads=2, seed=seed, memory=memory_limit))
    finally:
        done.set()
        writer.join()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("how", ["mapped", "not mapped", "streamed"])
def test_a_file_that_shrinks_before_its_pages_are_read(files, monkeypatch, memory_of, threads, how):
    monkeypatch.setattr("pageshare.core._census.SMALLEST_SHARE", PAGE)
    if how == "streamed":
        memory_of(total=2**21, free=2**20)
    if how == "not mapped":
        monkeypatch.setattr("pageshare.images.Source.map", lambda _source: None)
    images = {name: pageshare.open_image(path) for name, path in files.items()}
    space = PageSpace([(name, [image]) for name, image in images.items()])
    with files["two"].open("r+b") as file:
        file.truncate(200 * PAGE + 100)
    with pytest.raises(MediaError, match=r"two\.raw: the file became shorter while it was read") as caught:
        scanner.scan_space(space, scanner.Options(threads=threads))
    assert str(files["two"]) in str(caught.value)
    for image in images.values():
        image.close()


def test_a_file_that_shrinks_after_its_pages_were_read(files, monkeypatch):
    count = scanner.count

    def shrink(*arguments, **options):
        files["one"].write_bytes(b"")
        return count(*arguments, **options)

    monkeypatch.setattr(scanner, "count", shrink)
    with pytest.raises(OSError, match=r"one\.raw: the file became shorter while it was read"):
        pageshare.scan(files)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_that_shrinks_at_any_time(tmp_path, threads):
    """In a race there are two honest ends: an error that names the file, or the counts of the whole file."""
    path = tmp_path / "guest.raw"
    pages = memory(9, pages=4000)
    truth = census({"guest.raw": split(pages)})
    for delay in (0, 0.0005, 0.002, 0.004, 0.008):
        path.write_bytes(pages.tobytes())

        def shrink():
            with path.open("r+b") as file:
                file.truncate(123 * PAGE + 45)

        timer = threading.Timer(delay, shrink)
        timer.start()
        try:
            report = pageshare.scan(path, threads=threads)
        except OSError as error:
            assert "guest.raw" in str(error)
        else:
            # All was read before, or it was opened after the cut.
            if report.coverage.data == 4000:
                assert agrees(report.to_dict(), truth)
            else:
                assert (report.coverage.data, report.coverage.partial_bytes) == (123, 45)
        finally:
            timer.join()


def take_away(libc, address, size):
    """Let memory be beyond the end of an empty file: to read it fails, and nobody else is given these addresses."""
    empty = os.memfd_create("empty")
    fixed = mmap.MAP_SHARED | 0x10
    assert libc.mmap(ctypes.c_void_p(address), ctypes.c_size_t(size), 3, fixed, empty, ctypes.c_long(0)) == address
    os.close(empty)


def test_a_page_that_can_be_read_no_more_ends_the_scan():
    """What rests on it can't be verified. By /proc/self/mem again: memory that is taken away between two looks."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    for scans in [[[0], [1]], [[0], [0]]]:  # wanted as the partner of an equal page; looked at again
        pages = np.stack([content(1)] * 2)
        address = libc.mmap(None, ctypes.c_size_t(2 * PAGE), 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        ctypes.memmove(address, pages.ctypes.data, pages.nbytes)
        space = PageSpace.of(pages)
        memory = Descriptor("/proc/self/mem", os.O_RDONLY)
        space.sources[0] = SpaceSource("mem", 1 << 62, memory, None, 0, 0)
        space.segments["offset"] = address
        table = FrameTable(space)
        assert table.scan(scans[0]).outcomes.tolist() == [Outcome.HINTED]
        take_away(libc, address, PAGE)
        with pytest.raises(MediaError, match="mem: its disk failed"):
            table.scan(scans[1])
        libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(2 * PAGE))


def test_pages_that_cannot_be_read_are_lost_and_the_rest_counts():
    """/proc/self/mem is a file with holes that give EIO: memory that is taken away."""
    pages = np.stack([content(n) for n in (1, 1, 2, 3, 0, 0, 1, 2)])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(pages.nbytes), 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    ctypes.memmove(address, pages.ctypes.data, pages.nbytes)
    take_away(libc, address + 2 * PAGE, 2 * PAGE)
    space = PageSpace.of(pages)
    space.sources[0] = SpaceSource("mem", 1 << 62, Descriptor("/proc/self/mem", os.O_RDONLY), None, 0, 0)
    space.segments["offset"] = address
    report = scanner.scan_space(space, scanner.Options())
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(pages.nbytes))
    readable = [row for i, row in enumerate(split(pages)) if i not in (2, 3)]
    assert agrees(report.to_dict(), census({"buffer": readable}))
    assert report.coverage.lost == report.pages.unknown == 2
    assert report.incomplete == ("buffer: 2 pages could not be read (I/O error); they count as lost",)


# ---- stopping ----


def test_a_full_scan_that_is_stopped_gives_no_figures(guests):
    control = Control()
    control.stop()
    with pytest.raises(Stopped):
        pageshare.scan(guests, control=control)


def test_a_policy_scan_that_is_stopped_gives_what_it_found(guests, monkeypatch):
    monkeypatch.setattr(scanner, "BATCH", 50 * PAGE)
    control = Control()
    feedback = pageshare.policies.Sequential.feedback
    batches = []

    def stop_after_three(self, pages, outcomes, partners):
        batches.append(len(pages))
        if len(batches) == 3:
            control.stop()
        feedback(self, pages, outcomes, partners)

    monkeypatch.setattr(pageshare.policies.Sequential, "feedback", stop_after_three)
    report = pageshare.scan(guests, policy="sequential", control=control)
    assert report.interrupted
    assert report.partial.visits == 150


def test_a_stop_within_a_batch_leaves_figures_that_agree():
    """All pages of one call: what was done of it before the stop counts as visits too."""
    memory = np.random.default_rng(5).integers(1, 255, (1 << 14, PAGE), np.uint8)
    memory[::3] = memory[0]
    control = Control()

    def stop():
        while control.done < 100:
            pass
        control.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    report = pageshare.scan(memory, policy="sequential", control=control)
    stopper.join()
    found = report.partial
    assert found.visits == found.hints + found.shared + found.zero
    assert report.interrupted == (found.visits < len(memory))


def test_what_cannot_be_scanned_says_so(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(pageshare.ImageError, match=r"/empty: the file is empty"):
        pageshare.scan(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        pageshare.scan(tmp_path / "missing")
    with pytest.raises(ValueError, match="no policy 'best'"):
        pageshare.scan(bytes(PAGE), policy="best")
    with pytest.raises(ValueError, match="page size 1000"):
        pageshare.scan(bytes(PAGE), page_size=1000)
    with pytest.raises(TypeError):
        pageshare.scan(42)
