"""Sharing in pages of other sizes against dicts of their bytes, on random images."""

import itertools
import random
import time
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest

import pageshare
from pageshare import limits, saved
from pageshare.answers import _in_order, _pieces, page_sizes
from pageshare.answers.page_sizes import LARGEST, SMALLEST
from pageshare.core import NO_PAGE, Control, Stopped, census
from pageshare.images import Source
from pageshare.images.ranges import RANGE, Kind, State
from pageshare.inventory import Inventory
from pageshare.limits import Memory
from pageshare.render.answers.page_sizes import charts, section, tables
from pageshare.render.tables import as_csv
from saved_scans import save

CHUNK = SMALLEST
SIZES = [CHUNK << i for i in range(13)]


class Drawing:
    """Memory of few contents at each size, so that there are equal pages of all of them."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        chunks = [bytes(CHUNK), *(self.draw.randbytes(CHUNK) for _ in range(9))]
        self.pools = {CHUNK: chunks}
        for size in SIZES[1:]:
            small = self.pools[size // 2]
            self.pools[size] = [b"".join(self.draw.choices(small, k=2)) for _ in range(12)]
            self.pools[size].append(bytes(size))

    def content(self, length):
        """So many bytes, of which some are of one large content, others of many small ones."""
        parts, left = [], length
        while left:
            size = self.draw.choice([size for size in SIZES[2:] if size <= left] or [CHUNK])
            parts.append(self.draw.choice(self.pools[size]) if self.draw.random() < 0.9 else self.draw.randbytes(size))
            left -= size
        return b"".join(parts)

    def image(self, most):
        """An image, and its known memory: chunk number -> bytes. Ranges begin and end anywhere; there are holes, zeros,
        gaps, and what is lost."""
        address, data, chunks, rows = self.draw.choice([0, CHUNK, 4096, LARGEST, 3 * LARGEST - 4096]), b"", {}, []
        for _ in range(self.draw.randrange(1, 9)):
            length = self.draw.choice([CHUNK, 4096, 5 * CHUNK, 1 << 16, 3 << 15, 1 << 20, LARGEST, 2 * LARGEST + 4096])
            state = self.draw.choice([State.DATA] * 5 + [State.ZERO, State.ZERO_INFERRED, State.LOST])
            if len(chunks) * CHUNK + length > most:
                continue
            content = self.content(length) if state == State.DATA else bytes(length)
            rows.append((address, length, len(data) if state == State.DATA else -1, 0, state, Kind.RAM))
            if state == State.DATA:
                data += content
            if state != State.LOST:
                for at in range(0, length, CHUNK):
                    chunks[(address + at) // CHUNK] = content[at : at + CHUNK]
            address += length + self.draw.choice([0, 0, 0, CHUNK, 4096, 1 << 16, LARGEST])
        source = Source.of_buffer(data or bytes(CHUNK), "made")
        return pageshare.Image(source, "raw", np.array(rows, RANGE), Kind.RAM), chunks


def pages_of(chunks, page_size):
    """Frame number -> bytes, of wholly known pages."""
    ratio = page_size // CHUNK
    found = {}
    for frame in {number // ratio for number in chunks}:
        parts = [chunks.get(frame * ratio + i) for i in range(ratio)]
        if None not in parts:
            found[frame] = b"".join(parts)
    return found


def blocks_of(pages, page_size, size):
    """Pages of another size that are wholly made of known ones."""
    if size < page_size:
        for data in pages.values():
            for at in range(0, page_size, size):
                yield data[at : at + size]
        return
    ratio = size // page_size
    for number in {frame // ratio for frame in pages}:
        parts = [pages.get(number * ratio + i) for i in range(ratio)]
        if None not in parts:
            yield b"".join(parts)


def truth(owners, domains, page_size, size):
    """How many pages there are, and bytes reclaimed of zeros and of others."""
    held = Counter()
    for pages, domain in zip(owners, domains, strict=True):
        held.update((domain, data) for data in blocks_of(pages, page_size, size))
    zero = sum(count - 1 for (_, data), count in held.items() if not any(data))
    nonzero = sum(count - 1 for (_, data), count in held.items() if any(data))
    return sum(held.values()), zero * size, nonzero * size


def frames_of(owners, domains, page_size):
    """Huge pages, equal ones as one: (owner, address) of the first -> its pages and how many are alike."""
    ratio, same, frames = LARGEST // page_size, {}, {}
    for owner, (pages, domain) in enumerate(zip(owners, domains, strict=True)):
        blocks = defaultdict(list)
        for frame in sorted(pages):
            blocks[frame // ratio].append((domain, pages[frame]))
        for number, held in blocks.items():
            place = (f"o{owner}", number * LARGEST)
            if len(held) == ratio:
                place = same.setdefault((domain, b"".join(data for _, data in held)), place)
            _, alike = frames.get(place, (held, 0))
            frames[place] = (held, alike + 1)
    return frames


def check(found, owners, domains, page_size, smallest=SMALLEST):
    known = sum(map(len, owners)) * page_size
    assert [figures.size for figures in found.sizes] == [size for size in SIZES if size >= smallest]
    assert found.known_bytes == known
    before = None
    for figures in found.sizes:
        expected = truth(owners, domains, page_size, figures.size)
        assert (figures.whole, figures.zero_bytes, figures.nonzero_bytes) == expected, figures.size
        assert figures.reclaimed_bytes == figures.zero_bytes + figures.nonzero_bytes
        assert figures.partial_bytes == known - figures.whole * figures.size
        assert before is None or figures.reclaimed_bytes <= before
        before = figures.reclaimed_bytes
    by_size = {figures.size: figures.reclaimed_bytes for figures in found.sizes}
    assert found.huge_cost_bytes == by_size[page_size] - by_size[LARGEST] == found.breaking.brings_bytes
    if smallest < page_size:
        assert found.sub_page_bytes == by_size[smallest] - by_size[page_size]
    else:
        assert found.sub_page_bytes is None
    check_breaking(found.breaking, owners, domains, page_size)


def check_breaking(found, owners, domains, page_size):
    frames = frames_of(owners, domains, page_size)
    assert (found.blocks, found.frames) == (sum(alike for _, alike in frames.values()), len(frames))
    copies = Counter(page for held, _ in frames.values() for page in held)
    part = {place: sum(1 - Fraction(1, copies[page]) for page in held) for place, (held, _) in frames.items()}
    listed = [(block.owner, block.address) for block in found.best]
    assert set(listed) == {place for place, brings in part.items() if brings}
    assert len(set(listed)) == len(listed)
    for block, place in zip(found.best, listed, strict=True):
        held, alike = frames[place]
        assert (block.known, block.alike) == (len(held), alike)
        assert block.zero == sum(not any(data) for _, data in held)
        assert block.shared == sum(copies[page] > 1 for page in held)
        assert abs(block.brings_bytes - part[place] * page_size) <= 1
    brings = [part[place] for place in listed]
    assert all(one >= other - Fraction(1, 1 << 20) for one, other in itertools.pairwise(brings))
    for point in found.curve:
        assert point.frames == -(-Fraction(str(point.share)) * len(frames) // 1)
        broken = Counter(page for place in listed[: point.frames] for page in frames[place][0])
        assert point.brings_bytes == sum(count - 1 for count in broken.values()) * page_size
        assert point.of_all == (point.brings_bytes / found.brings_bytes if found.brings_bytes else 0)
    assert [point.share for point in found.curve] == ([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1] if frames else [])
    if frames:
        assert found.curve[-1].brings_bytes == found.brings_bytes


def drawn(seed, count, page_size, most, domains=None):
    """A space of random memory, and each owner's known pages."""
    drawing = Drawing(seed)
    images, chunks = zip(*(drawing.image(most) for _ in range(count)), strict=True)
    space = pageshare.PageSpace(
        ((f"o{i}", [image]) for i, image in enumerate(images)), page_size=page_size, domains=domains
    )
    owners = [pages_of(each, page_size) for each in chunks]
    assert sum(map(len, owners)) == space.pages
    return space, owners


@pytest.mark.parametrize(
    ("page_size", "count", "most"),
    [
        (4096, 1, 14 << 20),
        (4096, 2, 7 << 20),
        (4096, 3, 5 << 20),
        (4096, 12, 3 << 20),
        (512, 2, 3 << 20),
        (1024, 3, 5 << 20),
        (16384, 4, 5 << 20),
        (65536, 7, 5 << 20),
        (LARGEST, 3, 9 << 20),
    ],
)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("few", [0, 1])
def test_every_size_on_random_memory(monkeypatch, page_size, count, most, seed, few):
    """Whether pieces that are like no other are picked out first, or all are counted."""
    monkeypatch.setattr(_pieces, "FEW", few)
    space, owners = drawn(seed * 100 + count, count, page_size, most)
    found = page_sizes.page_sizes(Inventory.of(space, census(space)), space, most=10**6)
    assert found.notes == ()
    check(found, owners, [0] * count, page_size)


@pytest.mark.parametrize("seed", range(5))
def test_domains_share_nothing_at_any_size(monkeypatch, seed):
    monkeypatch.setattr(_pieces, "FEW", seed % 2)
    count = 2 + 2 * seed
    names = [f"d{random.Random(seed * 7 + i).randrange(3)}" for i in range(count)]
    space, owners = drawn(seed, count, 4096, 4 << 20, names)
    inventory = Inventory.of(space, census(space.undivided()))
    found = page_sizes.page_sizes(inventory, space, most=10**6)
    check(found, owners, names, 4096)
    undivided, _ = drawn(seed, count, 4096, 4 << 20)
    together = page_sizes.page_sizes(Inventory.of(undivided, census(undivided)), undivided)
    for one, other in zip(found.sizes, together.sizes, strict=True):
        assert one.reclaimed_bytes <= other.reclaimed_bytes


@pytest.mark.parametrize("seed", range(3))
def test_a_saved_scan_has_no_sub_pages(tmp_path, seed):
    space, owners = drawn(seed, 2, 4096, 6 << 20)
    save(tmp_path / "scan.parquet", space)
    found = page_sizes.page_sizes(saved.read(tmp_path / "scan.parquet").inventory, most=10**6)
    assert "dumps" in found.notes[0]
    check(found, owners, [0, 0], 4096, smallest=4096)


@pytest.mark.parametrize("seed", range(6))
def test_pages_that_could_not_be_read_are_not_shared(seed):
    space, owners = drawn(seed, 2, 4096, 8 << 20)
    first = census(space)
    alone = np.flatnonzero(np.bincount(first.canonical, minlength=space.readable) == 1)
    lost = alone[np.random.default_rng(seed).random(len(alone)) < 0.05]
    first.canonical[lost] = NO_PAGE
    for owner, frame in zip(*space.locate(lost), strict=True):
        del owners[owner][int(frame)]
    found = page_sizes.page_sizes(Inventory.of(space, first), space, most=10**6)
    assert found.known_bytes == sum(map(len, owners)) * 4096
    for figures in found.sizes:
        expected = truth(owners, [0, 0], 4096, figures.size)
        assert (figures.whole, figures.zero_bytes, figures.nonzero_bytes) == expected


def test_streamed_files_give_the_same(tmp_path):
    drawing = Drawing(5)
    names = [tmp_path / "a.raw", tmp_path / "b.raw"]
    for name in names:
        name.write_bytes(drawing.content(3 << 20))
    with pageshare.open_image(names[0]) as one, pageshare.open_image(names[1]) as two:
        space = pageshare.PageSpace([("a", [one]), ("b", [two])])
        inventory = Inventory.of(space, census(space))
        expected = page_sizes.page_sizes(inventory, space)
        streamed = page_sizes.page_sizes(inventory, space, recount=lambda part: census(part, hold_bytes=1 << 18))
    assert streamed == expected
    assert expected.sizes[0].size == SMALLEST


@pytest.mark.parametrize("few", [0, 1])
def test_seeds_and_threads_do_not_matter(monkeypatch, few):
    monkeypatch.setattr(_pieces, "FEW", few)
    space, _ = drawn(3, 4, 4096, 12 << 20)
    inventory = Inventory.of(space, census(space))
    one = page_sizes.page_sizes(inventory, space, seed=1, threads=1)
    assert one == page_sizes.page_sizes(inventory, space, seed=2, threads=2)


@pytest.mark.parametrize(
    ("bytes_a_content", "smallest"),
    [(8 * 21 + 96, 512), (8 * 21 + 95, 1024), (4 * 21 + 96, 1024), (4 * 21 + 95, 2048), (2 * 21 + 95, 4096)],
)
def test_with_too_little_memory_the_smallest_are_left_out(monkeypatch, bytes_a_content, smallest):
    data = np.random.default_rng(0).integers(1, 255, 200 * 4096, dtype=np.uint8)
    space = pageshare.PageSpace.of(data)
    inventory = Inventory.of(space, census(space))
    monkeypatch.setattr(limits, "memory", lambda: Memory(1 << 30, -(-200 * bytes_a_content * 4 // 3)))
    found = page_sizes.page_sizes(inventory, space)
    assert found.sizes[0].size == smallest
    assert [f"smaller than {smallest} bytes" in note for note in found.notes] == [True] * (smallest > SMALLEST)
    monkeypatch.setattr(_in_order, "BYTES_A_PAGE", 1 << 20)
    with pytest.raises(MemoryError, match="200 known"):
        page_sizes.page_sizes(inventory, space)


def test_where_few_pieces_are_equal_no_other_is_counted():
    data = np.random.default_rng(0).integers(1, 255, (100, 4096), dtype=np.uint8)
    data[7, 512:1024] = data[90, 3584:]
    data[50, 1024:1536] = 0
    space, counted = pageshare.PageSpace.of(data), []

    def recount(part):
        counted.append(part.readable)
        return census(part)

    found = page_sizes.page_sizes(Inventory.of(space, census(space)), space, recount=recount)
    assert 3 <= counted[0] < 800 * _pieces.FEW
    assert [each.reclaimed_bytes for each in found.sizes[:3]] == [512, 0, 0]
    data[:, 2048:3072] = data[0, 2048:3072]
    page_sizes.page_sizes(Inventory.of(space, census(space)), space, recount=recount)
    assert counted[1:] == [800]


def test_what_is_written_meanwhile_is_said():
    data = np.random.default_rng(0).integers(1, 255, (8, 4096), dtype=np.uint8)
    space = pageshare.PageSpace.of(data)
    inventory = Inventory.of(space, census(space))
    assert page_sizes.page_sizes(inventory, space).notes == ()
    data[3] = data[5]
    assert "changed" in page_sizes.page_sizes(inventory, space).notes[0]
    data[3] = 0
    assert "changed" in page_sizes.page_sizes(inventory, space).notes[0]


def test_a_stop_ends_it():
    space, _ = drawn(1, 2, 4096, 6 << 20)
    inventory = Inventory.of(space, census(space))
    control = Control()
    control.stop()
    with pytest.raises(Stopped):
        page_sizes.page_sizes(inventory, space, control=control)


def test_a_terabyte_of_hole_costs_nothing(tmp_path):
    path = tmp_path / "hole.raw"
    with path.open("wb") as file:
        file.write(b"x" * 4096)
        file.truncate(1 << 40)
    with pageshare.open_image(path) as image:
        space = pageshare.PageSpace([("a", [image])])
        started = time.perf_counter()
        found = page_sizes.page_sizes(Inventory.of(space, census(space)), space)
        assert time.perf_counter() - started < 5
    assert found.known_bytes == 1 << 40
    for figures in found.sizes:
        of_x = max(4096, figures.size)  # what has both x and zeros is one of a kind
        assert figures.whole == (1 << 40) // figures.size
        assert figures.zero_bytes == (1 << 40) - of_x - figures.size
        assert figures.nonzero_bytes == max(0, 4096 - figures.size)
    # A huge page of x and 511 zeros; and one of 512 zeros, which all other blocks hold.
    best = [(block.address, block.alike, block.zero) for block in found.breaking.best]
    assert best == [(LARGEST, (1 << 19) - 1, 512), (0, 1, 511)]
    assert (found.breaking.blocks, found.breaking.frames) == (1 << 19, 2)
    assert found.breaking.brings_bytes == (512 + 511 - 1) * 4096


def test_nothing_at_all():
    for given in ({}, {"a": b"x"}, {"a": bytes(100), "b": bytes(4095)}):
        space = pageshare.PageSpace.of(given)
        found = page_sizes.page_sizes(Inventory.of(space, census(space)), space)
        assert found.known_bytes == 0
        assert {(each.whole, each.reclaimed_bytes, each.partial_bytes) for each in found.sizes} == {(0, 0, 0)}
        assert (found.breaking.frames, found.breaking.best, found.breaking.curve) == (0, (), ())


def test_the_list_is_cut_and_the_curve_is_not():
    draw = random.Random(1)
    page = draw.randbytes(4096)
    data = b"".join(draw.randbytes(LARGEST - 4096 * i) + page * i for i in range(6))
    space = pageshare.PageSpace.of(data)
    found = page_sizes.page_sizes(Inventory.of(space, census(space)), most=2).breaking
    assert [(block.address, block.shared) for block in found.best] == [(5 * LARGEST, 5), (4 * LARGEST, 4)]
    points = [(point.frames, point.brings_bytes // 4096) for point in found.curve]
    assert points == [(1, 4), (1, 4), (1, 4), (1, 4), (2, 8), (3, 11), (6, 14)]


@pytest.mark.parametrize("page_size", [512, 4096, LARGEST])
@pytest.mark.parametrize("seed", range(2))
def test_tables_say_what_was_found(page_size, seed):
    space, _ = drawn(seed, 3, page_size, 9 << 20)
    found = page_sizes.page_sizes(Inventory.of(space, census(space)), space)
    by_size, *breaking = tables(found, page_size)
    columns = [column.key for column in by_size.columns]
    rows = [dict(zip(columns, row, strict=True)) for row in by_size.rows]
    assert [row["size"] for row in rows] == SIZES
    assert all(row["reclaimed_bytes"] == row["zero_bytes"] + row["nonzero_bytes"] for row in rows)
    change = {row["size"]: row["change_bytes"] for row in rows}
    assert change[page_size] == 0
    assert change[LARGEST] == -found.huge_cost_bytes
    assert change[SMALLEST] == (found.sub_page_bytes or 0)
    if page_size == LARGEST:
        assert breaking == []
    else:
        curve, best = breaking
        assert curve.rows[-1] == (1.0, found.breaking.frames, found.breaking.brings_bytes, 1.0)
        assert [row[1] for row in best.rows] == [block.address for block in found.breaking.best]
        assert as_csv(best).count("\n") == 1 + len(found.breaking.best)
    bars = [chart.count("<rect") for chart in charts(found)]
    assert bars == [2 * len(SIZES) + 2] * (found.sizes[0].reclaimed_bytes > 0)


def test_sentences_say_what_matters():
    draw = random.Random(3)
    page = draw.randbytes(4096)
    a, b = page + draw.randbytes(LARGEST - 4096), page + page[:512] + draw.randbytes(LARGEST - 4096 - 512)
    report = pageshare.scan({"a": a, "b": b}, seed=1)
    space = pageshare.PageSpace.of({"a": a, "b": b})
    lines = section(page_sizes.page_sizes(report.inventory, space), report).lines
    assert lines == [
        "Huge pages of 2 MiB would save 0 B instead of 4.00 KiB: they cost 4.00 KiB, 0.1 % of what is known.",
        "Breaking the best 1 of 2 huge pages (10.0 %) brings 0 B, 0 % of what all bring.",
        "Pages of 512 B would save 512 B more than those of 4 KiB: 0.1 % of what is known.",
    ]
    empty = pageshare.scan(b"less than a page")
    nothing = section(page_sizes.page_sizes(empty.inventory), empty)
    assert nothing.charts == []
    assert "need the dumps" in nothing.lines[-1]
