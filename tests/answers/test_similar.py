"""Near-duplicates and compression, held against plain loops with the same codecs, and against what was planted."""

import csv
import io
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import asdict
from math import sqrt
from types import SimpleNamespace
from xml.etree import ElementTree

import lz4.block
import numpy as np
import pytest
import zstandard
from rich.console import Console

import pageshare
from pageshare.answers import _sizes
from pageshare.answers.similar import (
    CODECS,
    INDEXED,
    KEYS,
    METADATA,
    _Index,
    _keep_domains_apart,
    _left,
    estimate_bytes,
    estimate_pages,
    similar,
    steps,
)
from pageshare.core import NO_PAGE, Control, MediaError, PageReader, Stopped
from pageshare.inventory import Inventory
from pageshare.render.answers import similar as render
from pageshare.render.tables import as_csv, as_text
from pageshare.space import PageSpace

PAGE = 4096


def inventory_of(space):
    return Inventory.of(space, pageshare.census(space.undivided()))


def level(number, dictionary=None):
    parameters = zstandard.ZstdCompressionParameters.from_level(
        number,
        source_size=PAGE,
        dict_size=PAGE if dictionary else 0,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    if dictionary:
        dictionary = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary)


COMPRESS = {
    "lz4": lambda page: len(lz4.block.compress(page, store_size=False)),
    "zstd -1": lambda page: len(level(1).compress(page)),
    "zstd -3": lambda page: len(level(3).compress(page)),
}


def patch_size(page, reference):
    return len(level(1, reference).compress(page))


def images(rng, owners, pages=40):
    """Owners with zero pages, pages of each other's, near-duplicates, text and noise."""
    bases = [rng.bytes(PAGE) for _ in range(3)] + [(b"%d words, " % i * 600)[:PAGE] for i in range(3)]
    made = {}
    for owner in range(owners):
        mine = []
        for _ in range(int(rng.integers(1, pages))):
            page = bytearray(bases[rng.integers(len(bases))])
            kind = rng.integers(7)
            if kind == 0:
                page = bytearray(PAGE)
            elif kind == 1:
                page = bytearray(rng.bytes(PAGE))
            elif kind == 2:
                page[: 8 * 100] = bytes(8 * 100)
            elif kind == 3:  # one of few words, and little else
                page = bytearray(rng.integers(1, 9, dtype=np.uint64).tobytes() + rng.bytes(8) + bytes(PAGE - 16))
            elif kind > 4:
                for at in rng.integers(0, PAGE, rng.choice([1, 8, 60, 400])):
                    page[at] = rng.integers(256)
            mine.append(bytes(page))
        made[f"vm{owner}"] = mine
    return made


def expected(made, domains, candidates, *, half=PAGE // 2, most=PAGE * 3 // 4):
    """Everything a whole measurement must say, by a dict of contents; ``candidates`` (content -> contents that it may
    be patched against) are looked up in the index, whose choice the tests of the index check."""
    counts = Counter((domains[name], page) for name, pages in made.items() for page in pages)
    left = [content for content in counts if any(content[1])]
    rows = Counter()
    for content in left:
        patch = min((patch_size(content[1], other[1]) for other in candidates[content]), default=PAGE)
        for codec, compress in COMPRESS.items():
            small = min(compress(content[1]), PAGE)
            for name in ("patch", "compress", "patch, then compress", "the smaller"):
                may_patch = name != "compress" and patch <= half
                may_compress = name != "patch" and small <= most
                if may_patch and may_compress and name == "the smaller" and small < patch:
                    may_patch = False
                size = patch if may_patch else small if may_compress else None
                if size is not None:
                    key = name, "" if name == "patch" else codec
                    rows[key, "patched"] += may_patch
                    rows[key, "compressed"] += not may_patch
                    rows[key, "stored"] += size
                    rows[key, "metadata"] += METADATA
                    rows[key, "reclaimed"] += PAGE - size - METADATA
                elif name == "patch":
                    continue
            if codec == "zstd -1" and patch <= half:
                alone = small if small <= most else PAGE
                rows["nearer"] += patch < alone
                rows["nearer_bytes"] += max(0, alone - patch)
    for figure in ("patched", "compressed", "stored", "metadata", "reclaimed"):
        rows[("patch", ""), figure] //= len(COMPRESS)
    return left, sum(counts.values()) - len(counts), rows


def looked_up(space, found, seed):
    """For each content, by domain, its candidates' contents, as the index has them."""
    distinct = _left(found)
    rng = np.random.default_rng(seed)
    reader = PageReader(space, seed=int(rng.integers(2**63)))
    index = _Index(reader, distinct, KEYS, INDEXED, Control())
    owners = space.locate(distinct)[0].tolist()
    contents = [
        (space.domains[space.owners[owner].domain], page.tobytes())
        for owner, page in zip(owners, reader.read(distinct), strict=True)
    ]
    return {
        content: {contents[number] for number in row if number != NO_PAGE}
        for content, row in zip(contents, index.candidates(np.arange(len(distinct))).tolist(), strict=True)
    }, index


def space_of(made, domains=None):
    names = None if domains is None else [domains[name] for name in made]
    return PageSpace.of({name: b"".join(pages) for name, pages in made.items()}, domains=names)


@pytest.mark.parametrize("owners", range(1, 13))
def test_all_figures_by_plain_loops(owners):
    rng = np.random.default_rng(owners)
    made = images(rng, owners)
    domains = {name: f"d{int(rng.integers(3)) if owners % 3 == 0 else 0}" for name in made}
    space = space_of(made, domains)
    found = inventory_of(space)
    answer = similar(space, found, seed=owners, sample=None)
    candidates, index = looked_up(space, found, owners)
    left, reclaimed, rows = expected(made, domains, candidates)
    assert set(candidates) == set(left)
    assert (answer.distinct, answer.sampled, answer.whole) == (len(left), len(left), True)
    assert answer.known == sum(map(len, made.values()))
    assert answer.shared_reclaimed == reclaimed
    assert answer.references == len(index.references)
    assert answer.with_candidate.value == sum(bool(each) for each in candidates.values())
    assert (answer.nearer.value, answer.nearer_bytes.value) == (rows["nearer"], rows["nearer_bytes"])
    assert len(answer.ways) == 1 + 3 * len(CODECS)
    for way in answer.ways:
        for figure in ("patched", "compressed", "stored", "metadata", "reclaimed"):
            one = getattr(way, figure)
            assert one.value == rows[(way.name, way.codec), figure], (way.name, way.codec, figure)
            assert (one.low, one.high) == (None, None)
        assert way.in_all.value == way.reclaimed.value + PAGE * reclaimed


@pytest.mark.parametrize("seed", range(6))
def test_candidates_by_plain_loops(seed):
    """What is a reference, and whose candidate, by a dict of keys."""
    rng = np.random.default_rng(seed)
    made = images(rng, 4, pages=120)
    space = space_of(made)
    distinct = _left(inventory_of(space))
    reader = PageReader(space, seed=seed)
    chosen = np.sort(rng.choice(len(distinct), len(distinct) // 2, replace=False))
    index = _Index(reader, distinct, 3, 2, Control())
    keys = reader.sketch(distinct, 3).tolist()  # of which two are indexed
    holders = [{}, {}, {}]
    for number, row in enumerate(keys):
        for column, key in zip(holders, row, strict=True):
            if key:
                column.setdefault(key, []).append(number)
    references = {some[0] for column in holders[:2] for some in column.values() if len(some) > 1}
    assert index.references.tolist() == sorted(references)
    assert references
    for number, row in zip(chosen.tolist(), index.candidates(chosen).tolist(), strict=True):
        wanted = set()
        if number not in references:
            for column, key in zip(holders, keys[number], strict=True):
                same = [each for each in column.get(key, []) if each in references]
                wanted |= {max((each for each in same if each < number), default=NO_PAGE)}
                wanted |= {min((each for each in same if each > number), default=NO_PAGE)}
        assert set(row) - {NO_PAGE} == wanted - {NO_PAGE}


def test_keys_by_plain_loops():
    """A key is that of one word, and all pages with a part's smallest word have the same one."""
    rng = np.random.default_rng(5)
    words = rng.integers(1, 2**63, 40).tolist()
    sets = [sorted(rng.choice(words, int(rng.integers(0, 12)), replace=False).tolist()) for _ in range(300)]
    pages = [np.array(each + [0] * (512 - len(each)), np.uint64).tobytes() for each in sets]
    reader = PageReader(PageSpace.of(b"".join(pages)), seed=9)
    sketches = reader.sketch(np.arange(300), 4)
    single = PageReader(
        PageSpace.of(b"".join(np.array([word] + [0] * 511, np.uint64).tobytes() for word in words)), seed=9
    ).sketch(np.arange(40), 4)
    of = {word: row.tolist() for word, row in zip(words, single, strict=True)}
    part = {word: next(j for j, key in enumerate(row) if key) for word, row in of.items()}
    assert all(sum(key > 0 for key in row) == 1 for row in of.values())
    before = {}  # (a, b): a hashes less than b
    for each, row in zip(sets, sketches.tolist(), strict=True):
        for j, key in enumerate(row):
            mine = [word for word in each if part[word] == j]
            assert (key == 0) == (not mine)
            if mine:
                (least,) = (word for word in mine if of[word][j] == key)
                before.update({(least, other): True for other in mine if other != least})
    assert before
    assert not any((b, a) in before for a, b in before)


@pytest.mark.parametrize("changed", [1, 8, 40, 150, 300])
def test_planted_near_duplicates_are_found_as_often_as_foretold(changed):
    """Pairs of pages that differ in one byte of so many of 512 words: a key is equal with probability J = same / all,
    one of the four indexed ones with 1 - (1 - J)^4."""
    rng = np.random.default_rng(changed)
    pairs = 1000
    firsts = rng.integers(1, 256, (pairs, PAGE), np.uint8)
    seconds = firsts.copy()
    for page in seconds:
        page[8 * rng.choice(512, changed, replace=False) + rng.integers(8, size=changed)] ^= rng.integers(
            1, 256, changed, np.uint8
        )
    space = PageSpace.of(np.concatenate([firsts, seconds]).tobytes())
    distinct = _left(inventory_of(space))
    index = _Index(PageReader(space, seed=1), distinct, KEYS, INDEXED, Control())
    found = (index.candidates(np.arange(pairs, 2 * pairs)) == np.arange(pairs)[:, None]).any(axis=1).sum()
    alike = (512 - changed) / (512 + changed)
    foretold = 1 - (1 - alike) ** 4
    assert abs(found - pairs * foretold) <= 4 * sqrt(pairs * foretold * (1 - foretold)) + 1
    assert len(index.references) >= found


def test_most_of_what_all_pairs_would_save_is_found():
    """Families of pages with some words changed and some moved, against every earlier page that is whole as a
    reference, the best of which is taken."""
    rng = np.random.default_rng(8)
    pages = []
    for _ in range(30):
        base = rng.integers(1, 2**63, 512, dtype=np.uint64)
        for changed in rng.integers(1, 120, 5).tolist():
            page = np.roll(base, int(rng.integers(512)))
            page[rng.choice(512, changed, replace=False)] = rng.integers(1, 2**63, changed, dtype=np.uint64)
            pages.append(page.tobytes())
    rng.shuffle(pages)
    possible, whole = 0, []
    for page in pages:
        best = min((patch_size(page, other) for other in whole), default=PAGE)
        if best <= PAGE // 2:
            possible += PAGE - METADATA - best
        else:
            whole.append(page)
    space = PageSpace.of(b"".join(pages))
    found = similar(space, inventory_of(space), seed=1, sample=None).ways[0]
    assert len(whole) == 30
    assert 0.8 < found.reclaimed.value / possible <= 1.05


def test_planted_near_duplicates_become_patches():
    rng = np.random.default_rng(3)
    firsts = rng.integers(0, 256, (50, PAGE), np.uint8)
    seconds = firsts.copy()
    seconds[:, [100, 2000]] ^= 7
    space = PageSpace.of({"a": firsts.tobytes(), "b": seconds.tobytes(), "c": rng.bytes(20 * PAGE)})
    answer = similar(space, inventory_of(space), seed=1, sample=None)
    patch, lz4_, zstd = answer.ways[0], answer.ways[1], answer.ways[2]
    assert (answer.references, patch.patched.value, answer.nearer.value) == (50, 50, 50)
    assert 50 * (PAGE - 64) < patch.reclaimed.value < 50 * PAGE
    assert lz4_.compressed.value == zstd.compressed.value == 0


def test_pages_of_other_domains_are_no_references():
    rng = np.random.default_rng(3)
    base = rng.bytes(PAGE)
    near = base[:-1] + b"x"
    for domains, patched in ((["one", "one"], 1), (["one", "two"], 0)):
        space = PageSpace.of({"a": base, "b": near}, domains=domains)
        answer = similar(space, inventory_of(space), seed=1)
        assert (answer.ways[0].patched.value, answer.references) == (patched, patched)


def test_keys_that_meet_by_chance_lead_to_no_other_domain():
    space = PageSpace.of({"a": b"a" * PAGE, "b": b"b" * PAGE + b"c" * PAGE}, domains=["one", "two"])
    candidates = np.array([[1, NO_PAGE], [2, 0]], np.uint32)
    _keep_domains_apart(space, np.arange(3, dtype=np.uint32), np.array([0, 1]), candidates)
    assert candidates.tolist() == [[NO_PAGE, NO_PAGE], [2, NO_PAGE]]


def test_pages_that_are_almost_zero_are_no_near_duplicates_of_each_other():
    rng = np.random.default_rng(4)
    pages = np.zeros((500, 512), np.uint64)
    pages[:, 3] = rng.integers(1, 2**63, 500)
    space = PageSpace.of(pages.tobytes() + bytes(10 * PAGE))
    answer = similar(space, inventory_of(space), seed=1, sample=None)
    assert (answer.distinct, answer.references, answer.with_candidate.value) == (500, 0, 0)


@pytest.mark.parametrize(
    ("data", "distinct"),
    [(b"", 0), (bytes(PAGE), 0), (bytes(40 * PAGE), 0), (b"x" * PAGE, 1), (os.urandom(PAGE), 1)],
)
@pytest.mark.parametrize("sample", [None, 1, 20_000])
def test_little_memory(data, distinct, sample):
    space = PageSpace.of(data) if data else PageSpace([])
    answer = similar(space, inventory_of(space), seed=1, sample=sample)
    assert (answer.distinct, answer.sampled, answer.whole) == (distinct, distinct, True)
    assert answer.shared_reclaimed == max(0, len(data) // PAGE - 1)
    for way in answer.ways:
        assert way.patched.value == 0
        assert way.reclaimed.value == (
            0 if way.name == "patch" or data[:1] != b"x" else PAGE - METADATA - COMPRESS[way.codec](data)
        )


def test_a_seed_gives_the_same_answer():
    space = space_of(images(np.random.default_rng(1), 6, pages=200))
    found = inventory_of(space)
    one, same, other = (similar(space, found, seed=seed, sample=60) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_the_sample_estimates_the_whole():
    """Intervals hold the whole value in 93 to 97 % of draws (1,000 draws: 95 % +- 3 standard errors)."""
    rng = np.random.default_rng(2)
    pages = [rng.bytes(size) + bytes(PAGE - size) for size in rng.integers(8, PAGE, 1500).tolist()]
    near = [page[:16] + rng.bytes(4) + page[20:] for page in pages[:500]]
    space = PageSpace.of(b"".join(pages + near))
    found = inventory_of(space)
    distinct = _left(found)
    # Each page by itself is as costly in a sample as in the whole: they are measured once.
    index = _Index(PageReader(space, seed=1), distinct, KEYS, INDEXED, Control())
    has = (index.candidates(np.arange(len(distinct))) != NO_PAGE).any(axis=1)
    sizes = np.array([COMPRESS["lz4"](page) for page in pages + near])
    saved = np.where(sizes <= PAGE * 3 // 4, PAGE - METADATA - sizes, 0)
    whole = similar(space, found, seed=1, sample=None)
    assert whole.ways[1].reclaimed.value == saved.sum()
    hits, draws = Counter(), 1000
    for _ in range(draws):
        chosen = rng.choice(len(saved), 800, replace=False)
        by_bytes = estimate_bytes(saved[chosen], len(saved), PAGE - METADATA)
        by_pages = estimate_pages(has[chosen], len(saved))
        hits["bytes"] += by_bytes.low <= saved.sum() <= by_bytes.high
        hits["pages"] += by_pages.low <= has.sum() <= by_pages.high
    assert all(0.93 * draws <= hit <= 0.97 * draws for hit in hits.values()), hits
    # And end to end, where the keys are those of the seed: the whole by the same seed.
    held = total = 0
    for seed in range(12):
        some = similar(space, found, seed=seed, sample=300)
        whole = similar(space, found, seed=seed, sample=None)
        for one, all_of_it in zip(some.ways, whole.ways, strict=True):
            for figure in ("patched", "compressed", "stored", "metadata", "reclaimed", "in_all"):
                estimate, truth = getattr(one, figure), getattr(all_of_it, figure)
                held += estimate.low <= truth.value <= estimate.high
                total += 1
    assert held / total > 0.85


def test_intervals_where_little_was_seen():
    nothing = estimate_bytes(np.zeros(100), 10_000, PAGE)
    assert (nothing.value, nothing.low) == (0, 0)
    assert nothing.high == PAGE * estimate_pages(np.zeros(100, bool), 10_000).high > PAGE * 300
    one = estimate_pages(np.array([True]), 2)
    assert (one.value, one.low, one.high) == (2, 1, 2)


def test_workers_agree_and_count(monkeypatch):
    space = space_of(images(np.random.default_rng(1), 6, pages=200))
    found = inventory_of(space)
    control = Control()
    here = similar(space, found, seed=1, sample=None, control=control)
    assert control.done == steps(here.distinct, None) == 2 * here.distinct
    assert similar(space, found, seed=1, sample=None, workers=2) == here
    monkeypatch.setattr(_sizes, "_START", "import sys; sys.stdin.buffer.read(9)  # {path} {page_size}")
    with pytest.raises(ChildProcessError, match="ended by itself"):
        similar(space, found, seed=1, sample=None, workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_stop(workers):
    space = space_of(images(np.random.default_rng(1), 6, pages=200))
    found = inventory_of(space)
    control = Control()
    control.stop()
    with pytest.raises(Stopped):
        similar(space, found, seed=1, workers=workers, control=control)


@pytest.mark.parametrize("workers", [1, 2])
def test_stop_while_pages_are_measured(workers, monkeypatch):
    space = space_of(images(np.random.default_rng(1), 6, pages=400))
    found, control = inventory_of(space), Control()
    batches = _Index.batches

    def stopping(self, chosen):
        for number, batch in enumerate(batches(self, chosen)):
            if number == 1:
                control.stop()
            yield batch

    monkeypatch.setattr(_Index, "batches", stopping)
    with pytest.raises(Stopped):
        similar(space, found, seed=1, sample=None, workers=workers, control=control)
    distinct = len(_left(found))
    assert distinct <= control.done < steps(distinct, None)


def test_settings_out_of_range():
    space = PageSpace.of(b"x" * PAGE)
    found = inventory_of(space)
    for wrong in (
        {"sample": 0},
        {"keys": 0},
        {"keys": 65},
        {"indexed": 17},
        {"indexed": 0},
        {"most_patch": 0},
        {"most_compressed": 1.5},
    ):
        with pytest.raises(ValueError, match="must be"):
            similar(space, found, seed=1, **wrong)


def test_bounds_are_kept():
    space = space_of(images(np.random.default_rng(1), 6, pages=100))
    found = inventory_of(space)
    tight = similar(space, found, seed=1, sample=None, most_patch=0.01, most_compressed=0.1, metadata=0)
    usual = similar(space, found, seed=1, sample=None)
    for few, many in zip(tight.ways, usual.ways, strict=True):
        changed = few.patched.value + few.compressed.value
        assert 0 < changed < many.patched.value + many.compressed.value
        assert few.stored.value <= few.patched.value * 40 + few.compressed.value * 409
        assert few.metadata.value == 0
        assert few.reclaimed.value == changed * PAGE - few.stored.value


def test_a_missing_codec_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    space = PageSpace.of(b"x" * PAGE)
    with pytest.raises(ValueError, match=r"pip install 'pageshare\[codecs\]'"):
        similar(space, inventory_of(space), seed=1)


def test_other_page_sizes():
    rng = np.random.default_rng(1)
    data = rng.bytes(65536)
    space = PageSpace.of(data + data[:-1] + b"x" + bytes(65536), page_size=65536)
    answer = similar(space, inventory_of(space), seed=1)
    assert (answer.page_size, answer.most_patch, answer.ways[0].patched.value) == (65536, 32768, 1)


def test_files_that_are_read(tmp_path):
    """Not mapped; and one that is shorter than it was."""
    made = images(np.random.default_rng(1), 1, pages=200)
    path = tmp_path / "vm"
    path.write_bytes(b"".join(made["vm0"]))
    mapped = PageSpace([("vm0", [pageshare.open_image(path)])])
    found = inventory_of(mapped)
    read = PageSpace([("vm0", [pageshare.open_image(path)])])
    for source in read.sources:
        source.memory = None
    assert similar(read, found, seed=1, sample=50) == similar(mapped, found, seed=1, sample=50)
    os.truncate(path, PAGE)
    with pytest.raises(MediaError, match="became shorter"):
        similar(read, found, seed=1, sample=50)


def test_memory_of_the_index():
    """What is promised for a page, measured."""
    pages = 40_000
    rng = np.random.default_rng(1)
    data = np.zeros((pages, 32), np.uint64)
    data[:, :4] = rng.integers(1, 5000, (pages, 4))
    space = PageSpace.of(data.tobytes(), page_size=256)
    distinct = _left(inventory_of(space))
    assert len(distinct) > 0.9 * pages
    reader = PageReader(space)
    tracemalloc.start()
    index = _Index(reader, distinct, KEYS, INDEXED, Control())
    for at in range(0, len(distinct), 256):
        index.candidates(np.arange(at, min(at + 256, len(distinct))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < index.bytes + (1 << 20)
    assert index.bytes <= max(32 * len(distinct), len(distinct) + 72 * len(index.references))


def report_of(space):
    return SimpleNamespace(page_size=space.page_size)


def test_tables_say_what_the_answer_says():
    space = space_of(images(np.random.default_rng(1), 4, pages=100))
    answer = similar(space, inventory_of(space), seed=1, sample=50)
    shown = render.section(answer, report_of(space))
    saved, pages, searched = (list(csv.DictReader(io.StringIO(as_csv(table)))) for table in shown.tables)
    assert saved[0]["way"] == "share"
    assert float(saved[0]["in_all"]) == answer.shared_reclaimed * PAGE
    for row, kinds, way in zip(saved[1:], pages, answer.ways, strict=True):
        assert (row["way"], row["codec"]) == (kinds["way"], kinds["codec"]) == (way.name, way.codec)
        figures = [float(row[name]) for name in ("reclaimed", "reclaimed_low", "reclaimed_high", "in_all")]
        assert figures == [way.reclaimed.value, way.reclaimed.low, way.reclaimed.high, way.in_all.value]
        assert float(row["in_all_share"]) == way.in_all.value / (answer.known * PAGE)
        for name in ("patched", "compressed", "stored", "metadata"):
            assert float(kinds[name]) == getattr(way, name).value
    assert float(searched[0]["nearer_bytes_high"]) == answer.nearer_bytes.high
    assert shown.assumptions == answer.assumptions
    for table in shown.tables:
        console = Console(file=io.StringIO(), width=80)
        console.print(as_text(table))
        drawn = console.file.getvalue().splitlines()
        assert len(drawn) == 1 + len(table.rows)
        assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in drawn)


@pytest.mark.parametrize("sample", [None, 50])
def test_bars_are_as_long_as_the_figures(sample):
    space = space_of(images(np.random.default_rng(1), 4, pages=100))
    answer = similar(space, inventory_of(space), seed=1, sample=sample)
    svg = ElementTree.fromstring(render.chart(answer))
    assert svg.get("role") == "img"
    assert svg.find("title").text
    accents = [each for each in svg.iter("rect") if each.get("fill") == "var(--accent)" and each.get("height") != "10"]
    for bar, way in zip(accents[1:], answer.ways, strict=True):  # the first is that of sharing alone
        assert abs(float(bar.get("width")) / 430 - way.reclaimed.value / (answer.known * PAGE)) < 0.001
    assert len(list(svg.iter("line"))) == (0 if sample is None else len(answer.ways))


def test_views_of_no_memory():
    for space in (PageSpace([]), PageSpace.of(bytes(3 * PAGE))):
        answer = similar(space, inventory_of(space), seed=1)
        shown = render.section(answer, report_of(space))
        assert all(as_csv(table) for table in shown.tables)
        assert all(ElementTree.fromstring(each) is not None for each in shown.charts)


def test_as_json():
    space = space_of(images(np.random.default_rng(1), 2))
    document = asdict(similar(space, inventory_of(space), seed=1))
    assert set(document) >= {"ways", "assumptions", "sampled", "distinct"}
    assert {type(each) for each in document["assumptions"]} == {str}


def test_worker_ends_with_its_input():
    line = _sizes._START.format(path=sys.path, page_size=PAGE)
    subprocess.run([sys.executable, "-c", line], stdin=subprocess.DEVNULL, timeout=60, check=True)
