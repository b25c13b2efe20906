"""Numbering of pages: what must be read first, owner by owner, then what is known to be zero."""

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import pageshare
from dumps import elf, lime, raw
from pageshare.core import FrameTable
from pageshare.images import Source
from pageshare.images.lime import range_header
from pageshare.images.ranges import RANGE, Kind, State
from pageshare.space import Coverage, PageSpace

PAGE = 4096


def page(number):
    return bytes([number]) * PAGE


@pytest.fixture
def sparse(tmp_path):
    """Data in pages 0, 16 and 17 of 64."""
    path = tmp_path / "sparse.raw"
    with path.open("wb") as file:
        file.write(page(1))
        file.seek(16 * PAGE)
        file.write(page(2) + page(3))
        file.truncate(64 * PAGE)
    with pageshare.open_image(path) as image:
        yield image


def test_pages_to_be_read_come_first_then_holes(sparse):
    lone = pageshare.images.image_of_buffer(page(9) * 2, "two")
    space = PageSpace([("one", [sparse]), ("two", [lone])])
    data = space.owners[0].coverage.data
    assert space.readable == data + 2
    assert space.pages == 64 + 2
    owners, frames = space.locate(np.arange(space.pages))
    assert owners.tolist() == [0] * data + [1, 1] + [0] * (64 - data)
    assert sorted(frames[owners == 0].tolist()) == list(range(64))
    assert frames[owners == 1].tolist() == [0, 1]
    assert frames[:data].tolist() == sorted(frames[:data].tolist())
    assert {0, 16, 17} <= set(frames[:data].tolist())


def test_classes_lead_back_to_owner_and_address(sparse):
    copy = pageshare.images.image_of_buffer(page(4) + page(3), "copy")
    space = PageSpace([("one", [sparse]), ("copy", [copy])])
    table = pageshare.FrameTable(space)
    table.scan()
    last = space.readable - 1
    owners, frames = space.locate(table.classes()[[last]])
    assert (owners.tolist(), frames.tolist()) == ([0], [17])


def test_coverage_adds_up():
    a, b = Coverage(data=3, zero=1, lost=2), Coverage(data=1, excluded=5, process=6)
    both = a + b
    assert both == Coverage(data=4, zero=1, excluded=5, lost=2, process=6)
    assert (both.known, both.unknown) == (5, 7)


def test_a_page_of_two_ranges_is_put_together(tmp_path):
    path = tmp_path / "guest.lime"
    bytes_of = np.random.default_rng(0).integers(1, 255, 3 * PAGE, dtype=np.uint8).tobytes()
    with path.open("wb") as file:
        file.write(range_header(0x1000, 0x1000 + 5999) + bytes_of[:6000])
        file.write(range_header(0x1000 + 6000, 0x4000 - 1) + bytes_of[6000:])
    with pageshare.open_image(path) as image:
        report = pageshare.scan({"lime": image, "same": bytes_of})
    assert report.pages.known == 6
    assert report.nonzero.reclaimed_inter == 3


def test_too_many_pages_are_an_error_and_not_a_wrong_count(tmp_path):
    path = tmp_path / "huge.raw"
    with path.open("wb") as file:
        file.truncate(1 << 43)
    too_many = pytest.raises(ValueError, match="more than can be numbered")
    with pageshare.open_image(path, page_size=512) as image, too_many:
        PageSpace([("huge", [image])], page_size=512)


RUNS = 20_000
FRAGMENTED = {
    "raw": lambda path: raw(path, "data 1p\n hole 1p\n" * RUNS),
    "elf": lambda path: path.write_bytes(
        elf("note QEMU 0\n" + "\n".join(f"load address={i * 1024} bytes=512" for i in range(RUNS)))
    ),
    "lime": lambda path: path.write_bytes(
        lime("\n".join(f"{i * 1024:#x}-{i * 1024 + 511:#x}" for i in range(RUNS)))
    ),
    # From the last byte of a page to the first of the next but one: no range begins where a page does.
    "not aligned": lambda path: path.write_bytes(
        lime("\n".join(f"{i * 2048 + 511:#x}-{i * 2048 + 1024:#x}" for i in range(RUNS)))
    ),
}


@pytest.mark.parametrize("form", FRAGMENTED)
def test_a_dump_of_as_many_runs_as_pages_takes_little_memory(tmp_path, form):
    path, page_size = tmp_path / "dump", PAGE if form == "raw" else 512
    FRAGMENTED[form](path)
    PageSpace([("imports what is needed", [pageshare.open_image(path, page_size=page_size)])], page_size=page_size)
    tracemalloc.start()
    try:
        image = pageshare.open_image(path, page_size=page_size)
        space = PageSpace([("guest", [image])], page_size=page_size)
        _, most = tracemalloc.get_traced_memory()
        image.close()
        del image
        still, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert space.readable == RUNS
    owners, frames = space.locate(np.arange(RUNS))
    assert not owners.any()
    first, step = (1, 4) if form == "not aligned" else (0, 2)
    assert np.array_equal(frames, np.arange(RUNS) * step + first)
    # What is kept lies in mappings, which are not traced.
    kept = sum(each.nbytes for each in vars(space).values() if isinstance(each, np.ndarray))
    # Of each run and the hole behind it; a block of ranges is in it.
    assert kept < 41 * RUNS
    assert still < 5 * RUNS
    assert most < 160 * RUNS


@pytest.mark.parametrize("base", [0, 1 << 53, 1 << 63, 0xFFFF_8880_0000_0000])
def test_pages_of_two_ranges_are_whole_wherever_blocks_end(tmp_path, base):
    path, pages = tmp_path / "dump", 3000
    halves = [f"{base + at:#x}-{base + at + 255:#x}" for at in range(0, pages * 512, 256)]
    path.write_bytes(lime("\n".join([f"{base + pages * 512:#x}-{base + pages * 512 + 511:#x}", *halves])))
    with pageshare.open_image(path) as image:
        coverage = PageSpace([("guest", [image])], page_size=512).owners[0].coverage
    assert (coverage.data, coverage.partial) == (pages + 1, 0)


def test_so_many_owners_that_their_pages_pass_64_bits():
    ranges = np.zeros(1, RANGE)
    ranges[0] = (0, 1 << 63, -1, 0, State.ZERO, Kind.RAM)
    image = pageshare.Image(Source.of_buffer(page(1), "large"), "raw", ranges, Kind.RAM)
    with pytest.raises(ValueError, match="more than can be numbered"):
        PageSpace([(f"guest{i}", [image]) for i in range(1100)], page_size=512)


def test_a_terabyte_of_hole_costs_nothing(tmp_path):
    path = tmp_path / "hole.raw"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    report = pageshare.scan(path)
    assert report.pages.zero == report.pages.zero_inferred == 1 << 28
    assert report.pages.reclaimed == (1 << 28) - 1
    assert report.table_bytes < 1 << 16


@pytest.mark.parametrize("page_size", [512, 2048, PAGE])
@pytest.mark.parametrize("seed", range(4))
def test_a_part_of_a_space_has_the_bytes_of_its_pages(sparse, seed, page_size):
    draw = np.random.default_rng(seed)
    buffers = {f"o{i}": draw.integers(0, 3, draw.integers(1, 40) * PAGE, dtype=np.uint8) for i in range(5)}
    named = [(name, [pageshare.images.image_of_buffer(each, name)]) for name, each in buffers.items()]
    space = PageSpace([("sparse", [sparse]), *named])
    whole = [page(1), page(2), page(3)] + [
        each.tobytes()[at : at + PAGE] for each in buffers.values() for at in range(0, len(each), PAGE)
    ]
    chosen = np.flatnonzero(draw.random(space.readable) < 0.4)
    part = space.only(chosen, page_size)
    cut = [whole[number][at : at + page_size] for number in chosen for at in range(0, PAGE, page_size)]
    assert part.readable == part.pages == len(cut)
    assert pageshare.census(part).canonical.tolist() == [cut.index(each) for each in cut]
    assert sum(source.pages for source in part.sources) == len(cut)
    owners, frames = part.locate(np.arange(part.pages))
    expected_owners, expected_frames = space.locate(np.repeat(chosen, PAGE // page_size))
    assert owners.tolist() == expected_owners.tolist()
    assert (frames // (PAGE // page_size)).tolist() == expected_frames.tolist()
    assert (frames % (PAGE // page_size)).tolist() == list(range(PAGE // page_size)) * len(chosen)
    assert np.diff(part.owner_first.astype(int)).tolist() == np.bincount(owners, minlength=6).tolist()


def test_the_mapping_lives_as_long_as_the_table(sparse):
    table = pageshare.FrameTable(PageSpace([("one", [sparse])]))
    sparse.close()
    table.scan()
    table.check()
    assert table.stats().hints == 3


@pytest.mark.parametrize("how", ["mapped", "not mapped"])
def test_a_space_reads_its_own_files_whoever_closes_them(tmp_path, monkeypatch, how):
    if how == "not mapped":
        monkeypatch.setattr("pageshare.images.Source.map", lambda _source: None)
    path, other = tmp_path / "guest.raw", tmp_path / "other.raw"
    path.write_bytes(np.random.default_rng(1).bytes(8 * PAGE))
    other.write_bytes(b"x" * 8 * PAGE)
    with pageshare.open_image(path) as image:
        space = PageSpace([("a", [image])])
    with other.open("rb"):  # it gets the number of the file that was closed
        table = FrameTable(space)
        table.scan()
        assert table.stats().hints == 8


def test_nothing_is_left_open_or_mapped(tmp_path):
    path = tmp_path / "guest.raw"
    path.write_bytes(b"x" * 8 * PAGE)

    def uses():
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return links.count(path) + Path("/proc/self/maps").read_text().count(str(path))

    image = pageshare.open_image(path)
    space = PageSpace([("a", [image])])
    table = FrameTable(space)
    image.close()
    del image
    assert uses() > 0
    del space
    table.scan()
    del table
    assert uses() == 0


def test_a_closed_image_and_a_page_size_of_no_use_are_refused(tmp_path):
    path = tmp_path / "guest.raw"
    path.write_bytes(b"x" * 8 * PAGE)
    image = pageshare.open_image(path)
    image.close()
    with pytest.raises(ValueError, match="guest.raw: the image was closed before it was scanned"):
        pageshare.scan(image)
    for page_size in (0, 100, 1000):
        with pytest.raises(ValueError, match=f"page size {page_size}: must be a multiple of 64"):
            PageSpace.of(bytes(PAGE), page_size=page_size)


def test_a_space_may_be_part_of_a_cycle():
    """Garbage is cleared in any order: a view of memory must not be lost before who looks at it."""
    for _ in range(20):
        space = PageSpace.of(np.ones((4, 4096), np.uint8))
        private = space.private()
        holder = {"space": space, "table": FrameTable(space), "other": private, "its": FrameTable(private)}
        holder["itself"] = holder
        del holder, private, space
        gc.collect()
