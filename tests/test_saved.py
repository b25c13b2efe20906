"""Saved scans: what is in the file, that all of it comes back, and what becomes of files damaged or made up."""

import hashlib
import json
import random
import stat
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

import pageshare
from damage import damage
from pageshare import limits, saved
from pageshare.answers.ask import Questions, answered
from pageshare.commands import main
from pageshare.core import KIND_NAMES, Control, PageReader, Stopped
from pageshare.limits import Memory
from pageshare.report import in_domains
from pageshare.saved import Key, SavedError, _format
from pageshare.scanner import Options, Reading, answered_by_bytes, scan_space
from pageshare.space import PageSpace
from saved_scans import (
    PAGE,
    ZERO,
    forged,
    memories,
    metadata_of,
    rows_of,
    save,
    saved_scan,
    scanned,
    space_of,
    write_as_it_is,
)


def bare(report):
    """A report without what is answered from the inventory, or from bytes."""
    return replace(report, answers=None)


def same(one, other):
    """Whether two inventories say the same; AssertionError where they don't."""
    assert (one.owners, one.domains, one.domain_names) == (other.owners, other.domains, other.domain_names)
    for name in ("everywhere", "contents"):
        for field in ("classes", "contents", "holdings", "owner_pages", "owner_first"):
            assert np.array_equal(getattr(getattr(one, name), field), getattr(getattr(other, name), field)), field
    pages = np.arange(one.places.pages)
    assert (one.places.pages, one.places.readable) == (other.places.pages, other.places.readable)
    for mine, its in zip(one.places.locate(pages), other.places.locate(pages), strict=True):
        assert np.array_equal(mine, its)
    assert np.array_equal(one.gaps, other.gaps)
    assert np.array_equal(one.numbers(), other.numbers())
    return True


@pytest.fixture(params=[7, 64, 1 << 20])
def rows_in_a_group(request, monkeypatch):
    monkeypatch.setattr("pageshare.saved._format.ROWS", request.param)
    monkeypatch.setattr("pageshare.saved._file.ROWS", request.param)


@pytest.mark.usefixtures("rows_in_a_group")
@pytest.mark.parametrize("owners", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("seed", range(4))
def test_all_comes_back(tmp_path, seed, owners):
    path = tmp_path / "scan.parquet"
    _, report = saved_scan(path, seed, owners)
    scan = saved.read(path)
    assert bare(scan.report) == bare(report)
    assert bare(scan.report).to_dict() == bare(report).to_dict()
    assert same(scan.inventory, report.inventory)
    assert (scan.version, scan.key_id, scan.kinds) == (pageshare.__version__, None, None)


@pytest.mark.usefixtures("rows_in_a_group")
@pytest.mark.parametrize("seed", range(8))
def test_rows_are_what_memory_is(tmp_path, seed):
    """Against the bytes of each page, one by one."""
    path = tmp_path / "scan.parquet"
    named, report = saved_scan(path, seed, 1 + seed)
    held = Counter(page for pages in named.values() for page in pages if not isinstance(page, str))
    number_of, pages_of = {}, defaultdict(list)
    counted = {}
    for row in rows_of(path):
        pages = named[row["owner"]][row["frame"] : row["frame"] + row["pages"]]
        pages_of[row["owner"]] += range(row["frame"], row["frame"] + row["pages"])
        assert len(pages) == row["pages"]
        if row["state"] == "unknown":
            assert set(pages) == {"unknown"}
            assert (row["content"], row["hash"], row["count"]) == (None, None, None)
            continue
        # A file system may have filled a hole, in part or whole, with zeros.
        contents = {ZERO if isinstance(page, str) else page for page in pages}
        (content,) = contents
        assert row["state"] in (("zero", "hole") if content == ZERO else ("data",))
        assert row["state"] != "data" or row["pages"] == 1
        if content not in number_of:
            assert row["content"] == (0 if content == ZERO else 1 + len(number_of.keys() - {ZERO}))
            number_of[content] = row["content"]
            assert row["hash"] == xxhash.xxh3_128_digest(content)
            counted[content] = row["count"]
        else:
            assert (row["content"], row["hash"], row["count"]) == (number_of[content], None, None)
    assert pages_of == {name: list(range(len(pages))) for name, pages in named.items()}
    holes = report.coverage.zero_inferred
    zeros = sum(row["pages"] for row in rows_of(path) if row["state"] in ("zero", "hole"))
    assert counted == {content: zeros if content == ZERO else held[content] for content in number_of}
    assert sum(row["pages"] for row in rows_of(path) if row["state"] == "hole") == holes
    assert report.pages.known == sum(row["count"] or 0 for row in rows_of(path))
    assert report.pages.zero == zeros


@pytest.mark.parametrize("seed", range(20))
def test_checksums_are_those_of_the_bytes(monkeypatch, seed):
    """However the values come, and block by block."""
    draw = random.Random(seed)
    block = draw.choice([256, 1024])
    monkeypatch.setattr("pageshare.saved._format.CHECKED_AT_ONCE", block)
    data, checks, at = draw.randbytes(4 * draw.randrange(2000)), _format.Checks(), 0
    while at < len(data) or not at:
        some = data[at : at + 4 * draw.choice([0, 1, 63, 64, 256, 700])]
        checks.add("frame", np.frombuffer(some, np.uint32))
        at += max(len(some), 1 if not data else 0)
    whole = len(data) // block * block
    expected = hashlib.blake2b(digest_size=16)
    for first in range(0, whole, block):
        expected.update(xxhash.xxh3_128_digest(data[first : first + block])[::-1])
    expected.update(data[whole:])
    assert checks.result() == {"frame": expected.hexdigest()}


@pytest.mark.usefixtures("rows_in_a_group")
def test_digests_and_kinds_come_back_in_order(tmp_path):
    path = tmp_path / "scan.parquet"
    space = space_of(memories(3, 5), tmp_path)
    report = scanned(space)
    digests = saved.digests_of(space, report.inventory, threads=2)
    numbers, first = report.inventory.numbers(), report.inventory.first_pages()
    reader = PageReader(space)
    assert digests[numbers].tolist() == reader.digests(np.arange(space.readable)).tolist()
    saved.write(path, report, space, threads=2)
    scan = saved.read(path)
    assert np.array_equal(scan.digests, digests)
    kinds = np.zeros(len(first), np.uint8)  # that of zeros
    kinds[1:] = reader.kinds(first[1:])
    assert np.array_equal(scan.kinds[0], kinds)
    assert scan.kinds[1] == KIND_NAMES
    told = {row["content"]: row["kind"] for row in rows_of(path) if row["count"] is not None}
    order = {content: number for number, content in enumerate(scan.numbers.tolist())}
    assert told == {content: KIND_NAMES[kinds[order[content]]] for content in told}


def test_nothing_and_no_zeros(tmp_path):
    path = tmp_path / "scan.parquet"
    report = save(path, PageSpace.of({"a": b"x" * PAGE, "b": b"x" * PAGE + b"y" * PAGE}))
    scan = saved.read(path)
    assert bare(scan.report) == bare(report)
    assert scan.digests[0].tolist() == [0] * 16
    assert [bytes(each) for each in scan.digests[1:]] == [
        xxhash.xxh3_128_digest(b"x" * PAGE),
        xxhash.xxh3_128_digest(b"y" * PAGE),
    ]
    empty = save(path, PageSpace.of({"less than a page": b"x"}))
    scan = saved.read(path)
    assert bare(scan.report) == bare(empty)
    assert (scan.report.pages.known, len(scan.digests)) == (0, 1)


NAMES = ["", "x" * 200, "<script>alert(1)</script>", "\N{SNOWMAN}\N{GRINNING FACE}", "two\nlines", "a:b", "'; --", "\0"]


def test_any_name(tmp_path):
    path = tmp_path / "scan.parquet"
    report = save(path, PageSpace.of({name: bytes([1 + i]) * PAGE for i, name in enumerate(NAMES)}))
    assert bare(saved.read(path).report) == bare(report)
    assert [row["owner"] for row in rows_of(path)] == NAMES


def test_names_that_are_no_unicode(tmp_path):
    """Names of files may hold any bytes."""
    path = tmp_path / "scan.parquet"
    name = b"\xff.raw".decode("utf-8", "surrogateescape")
    report = save(path, PageSpace.of({name: b"x" * PAGE}))
    scan = saved.read(path)
    assert [owner.name for owner in scan.report.owners] == [r"\udcff.raw"]
    assert scan.report.pages == report.pages


@pytest.mark.parametrize("page_size", [512, 16384, 2 << 20])
def test_other_page_sizes(tmp_path, page_size):
    path = tmp_path / "scan.parquet"
    data = b"".join(bytes([i]) * page_size for i in (0, 1, 1, 2))
    space = PageSpace.of({"a": data}, page_size=page_size)
    report = save(path, space)
    assert bare(saved.read(path).report) == bare(report)
    hashes = {row["content"]: row["hash"] for row in rows_of(path) if row["hash"]}
    assert hashes == {i: xxhash.xxh3_128_digest(bytes([i]) * page_size) for i in range(3)}


def test_digests_of_files_that_are_read(tmp_path):
    """Not mapped, but read: and a file that shrinks is told."""
    path = tmp_path / "a.raw"
    data = random.Random(1).randbytes(40 * PAGE)
    path.write_bytes(data)
    with pageshare.open_image(path) as image:
        space = PageSpace([("a", [image])])
        space.sources[0].memory = None
        digests = PageReader(space).digests(np.arange(40))
        assert [bytes(each) for each in digests] == [
            xxhash.xxh3_128_digest(data[i : i + PAGE]) for i in range(0, len(data), PAGE)
        ]
        path.write_bytes(data[: 20 * PAGE])
        with pytest.raises(OSError, match="shorter"):
            PageReader(space).digests(np.arange(40))


def test_hashing_stops(tmp_path):
    space = space_of(memories(1, 2), tmp_path)
    report = scanned(space)
    control = Control()
    control.stop()
    for stopped in (
        lambda: saved.digests_of(space, report.inventory, control=control),
        lambda: PageReader(space).digests([0, 1], control),
        lambda: Key(b"k").keyed(np.zeros((2, 16), np.uint8), control),
        lambda: saved.write(tmp_path / "x", report, space, control=control),
    ):
        with pytest.raises(Stopped):
            stopped()
    assert not list(tmp_path.glob("*x*"))
    counted = Control()
    saved.digests_of(space, report.inventory, control=counted)
    assert counted.done == len(report.inventory.first_pages()) - 1


# ---- keys ----


@pytest.mark.parametrize("secret", [b"k", b"x" * 32, bytes(range(64))])
def test_keyed_hashes(tmp_path, secret):
    path = tmp_path / "scan.parquet"
    saved_scan(path, 2, 3)
    plain = {row["content"]: row["hash"] for row in rows_of(path) if row["hash"]}
    saved_scan(path, 2, 3, key=Key(secret))
    keyed = {row["content"]: row["hash"] for row in rows_of(path) if row["hash"]}
    assert keyed == {
        content: hashlib.blake2b(hash, key=secret, digest_size=16).digest() for content, hash in plain.items()
    }
    scan = saved.read(path)
    assert scan.key_id == Key(secret).id
    assert secret not in path.read_bytes() or len(secret) == 1
    scan.key_for(Key(secret))
    for wrong, why in ((None, "keyed"), (Key(b"other"), "another key")):
        with pytest.raises(SavedError, match=why):
            scan.key_for(wrong)


def test_keys_that_are_none():
    for secret in (b"", b"x" * 65):
        with pytest.raises(ValueError, match="1 to 64 bytes"):
            Key(secret)
    assert "secret" not in repr(Key(b"secret"))


# ---- answers ----


@pytest.mark.parametrize("seed", range(8))
def test_a_saved_scan_is_answered_as_the_scan_was(tmp_path, seed):
    path = tmp_path / "scan.parquet"
    named = memories(seed, 1 + seed)
    space = space_of(named, tmp_path, [f"d{number % (1 + seed % 3)}" for number in range(len(named))])
    questions = Questions(hosts=2, page_sizes=True, similar=True, full=True)
    options = Options(questions=questions, seed=seed)
    report, control = scan_space(space, options), Control()
    reading = Reading.of(space, limits.memory())
    for question in questions.of_bytes:
        report = answered_by_bytes(question, report, space, options, reading=reading, control=control)
    saved.write(path, report, space)
    scan = saved.read(path)
    again = answered(scan.report, questions, kinds=scan.page_kinds, digests=scan.digests)
    hashed = [bytes.fromhex(each.hash) for each in again.answers.contents.top]
    top = [replace(each, hash=None) for each in again.answers.contents.top]
    assert top == list(report.answers.contents.top)
    assert {each.kind for each in top} <= set(KIND_NAMES)
    by_place = {
        (owner, 4096 * frame): page for owner, pages in named.items() for frame, page in enumerate(pages)
    }
    for each, digest in zip(again.answers.contents.top, hashed, strict=True):
        page = by_place[each.places[0].owner, each.places[0].address]
        assert digest == xxhash.xxh3_128_digest(ZERO if page == "hole" else page)
    mine, its = ({**vars(each.answers), "contents": None} for each in (again, report))
    assert mine == its


# ---- domains ----


@pytest.mark.parametrize("seed", range(6))
def test_other_domains_are_those_of_another_scan(tmp_path, seed):
    path = tmp_path / "scan.parquet"
    named, report = saved_scan(path, seed, 2 + seed)
    scan = saved.read(path)
    draw = random.Random(seed)
    domains = [f"new{draw.randrange(3)}" for _ in named]
    again = scanned(space_of(named, tmp_path, domains))
    for divided in (in_domains(scan.report, domains), in_domains(report, domains)):
        for field in ("pages", "nonzero", "coverage", "domains", "owners"):
            assert getattr(divided, field) == getattr(again, field)
        assert divided.seconds == report.seconds
        assert same(divided.inventory, again.inventory)
    back = in_domains(in_domains(report, domains), [owner.domain for owner in report.owners])
    assert bare(back) == bare(report)


# ---- the file ----


def test_the_file_appears_whole_and_is_private(tmp_path, monkeypatch):
    path = tmp_path / "scan.parquet"
    saved_scan(path, 1, 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    space = space_of(memories(2, 2), tmp_path)
    report = scanned(space)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pageshare.saved._format.Checks.result", fail)
    with pytest.raises(OSError, match="No space left"):
        saved.write(path, report, space)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if "parquet" in each.name] == ["scan.parquet"]


def test_no_byte_of_a_page(tmp_path):
    path = tmp_path / "scan.parquet"
    named, _ = saved_scan(path, 5, 4)
    data = path.read_bytes()
    for pages in named.values():
        for page in pages:
            if not isinstance(page, str) and any(page):
                assert all(page[at : at + 16] not in data for at in range(0, PAGE, 16))


def test_what_can_not_be_saved(tmp_path):
    space = PageSpace.of({"a": b"x" * PAGE})
    report = pageshare.scan(b"x" * PAGE, policy="sequential")
    with pytest.raises(ValueError, match="by policy"):
        saved.write(tmp_path / "x", report, space)
    with pytest.raises(ValueError, match="by policy"):
        in_domains(report, ["a"])
    image = pageshare.images.image_of_buffer(b"x" * PAGE)
    space = PageSpace([("a", [image]), ("a", [image])])
    with pytest.raises(ValueError, match="owners of one name"):
        save(tmp_path / "x", space)
    assert not list(tmp_path.iterdir())


def test_without_the_packages(tmp_path):
    """The error says what to install."""
    code = (
        "import sys; sys.modules['pyarrow'] = None; import importlib.util as u\n"
        "find = u.find_spec; u.find_spec = lambda name: None if name == 'pyarrow' else find(name)\n"
        "from pageshare.commands import main; sys.exit(main(sys.argv[1:]))"
    )
    (tmp_path / "a.raw").write_bytes(b"x" * PAGE)
    for arguments in (["report", tmp_path / "a.raw"], ["scan", tmp_path / "a.raw", "-o", tmp_path / "x"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "pip install 'pageshare[parquet]'" in done.stderr
        assert done.stderr.count("\n") == 1


QUERIES = {
    "SELECT sum(pages) FROM 'F' WHERE state != 'unknown'": lambda report: report.pages.known,
    "SELECT sum(count) - count(*) FROM 'F' WHERE count > 1 AND content > 0": lambda report: report.nonzero.reclaimed,
    "SELECT count(*) FROM 'F' WHERE count = 1": lambda report: report.pages.unique,
}


def test_duckdb_reads_it(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "scan.parquet"
    _, report = saved_scan(path, 4, 5)
    for query, figure in QUERIES.items():
        text = query.replace("'F'", f"'{path}'")
        assert duckdb.sql(text).fetchall() == [(figure(report),)]


def test_polars_reads_it(tmp_path):
    polars = pytest.importorskip("polars")
    path = tmp_path / "scan.parquet"
    _, report = saved_scan(path, 4, 5)
    frame = polars.read_parquet(path)
    assert frame.filter(polars.col("state") != "unknown")["pages"].sum() == report.pages.known


# ---- what is no saved scan ----


def refused(path, match=None):
    """The one line that says why."""
    with pytest.raises(SavedError, match=match) as error:
        _ = saved.read(path).digests
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "x.parquet"
    for data, why in (
        (b"", "not a saved scan"),
        (b"x" * 100, "not a saved scan"),
        (b"PAR1" + bytes(100), "cut short"),
        (b"PAR1" + b"\xff" * 100 + b"\xff\xff\xff\xffPAR1", "cut short"),
        (b"PAR1" + b"\xff" * 100 + (50).to_bytes(4, "little") + b"PAR1", "damaged"),
    ):
        path.write_bytes(data)
        refused(path, why)
    pq.write_table(pa.table({"x": [1, 2]}), path)
    refused(path, "but not a saved scan")
    with pytest.raises(FileNotFoundError):
        saved.read(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        saved.read(tmp_path)


@pytest.fixture
def some(tmp_path):
    """A saved scan of two owners: a has zeros, contents 1, 2, 2 and a gap; b has 1, a hole and 3."""
    path = tmp_path / "scan.parquet"
    page = {i: bytes([i]) * PAGE for i in range(4)}
    save(path, PageSpace.of({"a": page[0] * 2 + page[1] + page[2] * 2, "b": page[1] + page[0] + page[3]}))
    # rows: a 0+2 zero; a 2: 1; a 3: 2; a 4: 2; b 0: 1; b 1: zero; b 2: 3
    return path


def put(index, value):
    return lambda values: [*values[:index], value, *values[index + 1 :]]


FORGED = {
    "frames overlap": {"frame": put(1, 1)},
    "frames out of order": {"frame": put(3, 2)},
    "a frame beyond all memory": {"frame": put(3, 2**63)},
    "pages beyond all memory": {"pages": put(0, 2**60)},
    "pages that overflow": {"pages": put(0, 2**64 - 1)},
    "no pages": {"pages": put(0, 0)},
    "several pages of one content": {"pages": put(3, 2)},
    "an owner that is not there": {"owner": put(0, "c")},
    "owners out of order": {"owner": put(0, "b")},
    "another state": {"state": put(0, "odd")},
    "known, says the state": {"state": put(1, "unknown")},
    "zeros with a content": {"content": put(0, 1)},
    "data with the content of zeros": {"content": put(1, 0)},
    "a content beyond all": {"content": put(6, 9)},
    "a content that does not begin": {"content": put(3, 1), "count": put(2, None), "hash": put(2, None)},
    "contents that are not dense": {"content": put(6, 4)},
    "no content": {"content": put(1, None)},
    "a count too high": {"count": put(1, 3)},
    "a count too low": {"count": put(0, 2)},
    "a count missing": {"count": put(1, None)},
    "a count too many": {"count": put(3, 1)},
    "a hash missing": {"hash": put(1, None)},
    "a hash too many": {"hash": put(3, bytes(16))},
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_rows(some, name):
    forged(some, **FORGED[name])
    refused(some, "damaged")


def test_a_forgery_that_changes_nothing_is_read(some):
    """Else the others could be refused for anything."""
    report = saved.read(some).report
    forged(some)
    assert bare(saved.read(some).report) == bare(report)
    assert len(saved.read(some).digests) == 4


def changed(*keys, to):
    def change(metadata):
        at = metadata
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = to
        return metadata

    return change


METADATA = {
    "another version": (changed("format", to="pageshare-saved/2"), "this version reads pageshare-saved/1"),
    "no version": (changed("format", to=None), "this version reads"),
    "too many pages": (changed("read", to=2**40), "more pages than can be numbered"),
    "fewer pages": (changed("read", to=2), "damaged"),
    "more pages": (changed("read", to=9), "damaged"),
    "more holes": (changed("holes", to=9), "damaged"),
    "negative": (changed("holes", to=-1), "out of range"),
    "more contents": (changed("contents", to=4), "damaged"),
    "fewer contents": (changed("contents", to=2), "damaged"),
    "text for a number": (changed("read", to="8"), "metadata is not as it must be"),
    "a page size": (changed("report", "page_size", to=17), "metadata is not as it must be"),
    "no page size": (changed("report", "page_size", to=0), "metadata is not as it must be"),
    "coverage": (changed("report", "owners", 0, "coverage", "data", to=4), "not as many"),
    "coverage too high": (changed("report", "owners", 0, "coverage", "data", to=2**70), None),
    "seconds": (changed("report", "seconds", "scan", to=-1), "out of range"),
    "no owners": (changed("report", "owners", to=[]), "damaged"),
    "one owner less": (lambda m: changed("report", "owners", to=m["report"]["owners"][:1])(m), "damaged"),
    "an owner twice": (lambda m: changed("report", "owners", to=m["report"]["owners"][:1] * 2)(m), "damaged"),
    "a domain": (changed("report", "domains", to=["x"]), "domains"),
    "kinds": (changed("kinds", to=["x"]), "columns"),
    "checks": (changed("checks", "frame", to="00"), "not as they were written"),
    "the check of hashes": (changed("checks", "hash", to="00"), "hash"),
    "no checks": (changed("checks", to={}), "not as they were written"),
}


@pytest.mark.parametrize("name", METADATA)
def test_forged_metadata(some, name):
    change, why = METADATA[name]
    forged(some, metadata=change)
    refused(some, why)


ANSWERS = {
    "no page has this size": changed("answers", "page_sizes", "sizes", 2, "size", to=2**31),
    "no size": changed("answers", "page_sizes", "sizes", to=[]),
    "pages of another size": changed("answers", "page_sizes", "page_size", to=8192),
    "blocks of no size": changed("answers", "page_sizes", "breaking", "block_size", to=0),
    "more is known": changed("answers", "page_sizes", "known_bytes", to=2**62),
    "another total": changed("answers", "page_sizes", "sizes", 3, "reclaimed_bytes", to=0),
    "no way": changed("answers", "similar", "ways", to=[]),
    "less is known": changed("answers", "similar", "known", to=1),
    "of other pages": changed("answers", "similar", "page_size", to=512),
    "sharing saves more": changed("answers", "similar", "shared_reclaimed", to=2**40),
    "infinite": changed("answers", "similar", "ways", 5, "patched", "value", to=1e308),
    "a large number": changed("answers", "similar", "nearer", "low", to=2**64),
}


@pytest.fixture(scope="module")
def with_answers(tmp_path_factory):
    """A saved scan that has what only pages tell."""
    folder = tmp_path_factory.mktemp("answers")
    (folder / "a.raw").write_bytes(bytes(2 * PAGE) + b"x" * 2 * PAGE + random.Random(1).randbytes(4 * PAGE))
    arguments = ["scan", str(folder / "a.raw"), "--page-sizes", "--similar", "--full", "-o", str(folder / "a.parquet")]
    assert main([*arguments, "--quiet"]) == 0
    return folder / "a.parquet"


@pytest.mark.parametrize("name", ANSWERS)
def test_forged_answers(with_answers, tmp_path, name):
    path, said = tmp_path / "scan.parquet", metadata_of(with_answers)
    table = pq.read_table(with_answers)
    write_as_it_is(path, table, json.dumps(said).encode())
    assert saved.read(path).report == saved.read(with_answers).report
    write_as_it_is(path, table, json.dumps(ANSWERS[name](said)).encode())
    refused(path, "another memory|out of range")


@pytest.mark.parametrize(
    "text", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"format": "pageshare-saved/1"}'], ids=range(7)
)
def test_metadata_that_is_none(some, text):
    forged(some, text=text)
    refused(some)


def test_columns_of_other_types(some):
    table = pq.read_table(some)
    text = pq.read_metadata(some).metadata[b"pageshare"]
    nullable = table.set_column(0, "owner", pa.array([None, *["a"] * 6], pa.dictionary(pa.int32(), pa.string())))
    others = [
        table.set_column(1, "frame", table.column("frame").cast(pa.float64())),
        table.set_column(0, "owner", table.column("owner").cast(pa.string())),
        table.rename_columns([f"{name}x" for name in table.schema.names]),
        nullable,
        *(table.drop_columns([name]) for name in table.schema.names),
    ]
    for other in others:
        write_as_it_is(some, other, text)
        refused(some, "columns")


def test_more_than_memory_holds(some, monkeypatch):
    monkeypatch.setattr("pageshare.limits.memory", lambda: Memory(1 << 30, 100))
    refused(some, "of memory, of which 0 MiB are free")


def said_by_another_process(path):
    """What it says of a file, and the most mebibytes that it took: pyarrow may end a process."""
    code = (
        "import re, sys; from pageshare import saved\n"
        "try: saved.read(sys.argv[1])\n"
        "except saved.SavedError as error: print(error)\n"
        "print(int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]) >> 10)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    message, mebibytes = done.stdout.splitlines()
    return message, int(mebibytes)


@pytest.mark.parametrize("called", [b"owner", b"ownex"])
def test_what_would_become_much_is_not_decompressed(some, called):
    """A name of 200 MiB takes some kilobytes; whatever its column is called where it says how large it is."""
    name = "x" * (200 << 20)
    table = pq.read_table(some)
    owners = ["a", "b"]
    codes = pa.array([owners.index(owner) for owner in table.column("owner").to_pylist()], pa.int32())
    column = pa.DictionaryArray.from_arrays(codes, pa.array([name, "b"]))
    wanted = saved._format.schema(kinds=False)
    text = pq.read_metadata(some).metadata[b"pageshare"]
    write_as_it_is(some, table.set_column(0, wanted.field("owner"), column).cast(wanted), text, compression="zstd")
    assert some.stat().st_size < 1 << 20
    path = b"\x19\x18\x05"  # a list of one word of five letters
    assert some.read_bytes().count(path + b"owner") == 1
    some.write_bytes(some.read_bytes().replace(path + b"owner", path + called))
    message, mebibytes = said_by_another_process(some)
    assert "more memory than its rows need" in message
    assert mebibytes < 200


def test_encrypted_columns(some):
    """pyarrow ends the process when it is asked where such a column lies."""
    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Keys(encryption.KmsClient):
        def __init__(self, _):
            super().__init__()

        def wrap_key(self, key, _):
            return key

        def unwrap_key(self, key, _):
            return key

    table, text = pq.read_table(some), pq.read_metadata(some).metadata[b"pageshare"]
    for plaintext_footer in (True, False):
        configuration = encryption.EncryptionConfiguration(
            footer_key="k", column_keys={"k": ["frame"]}, plaintext_footer=plaintext_footer
        )
        properties = encryption.CryptoFactory(Keys).file_encryption_properties(
            encryption.KmsConnectionConfig(), configuration
        )
        write_as_it_is(some, table, text, encryption_properties=properties)
        assert "saved scan" in said_by_another_process(some)[0] or "damaged" in said_by_another_process(some)[0]


def test_a_footer_of_many_parts(some):
    """A byte each would take hundreds in pyarrow."""
    many = 1 << 22
    group = b"\x19\xfc\x80\x80\x80\x02" + bytes(many) + b"\x00"
    footer = b"\x15\x02\x19\x1c\x48\x01s\x00\x16\x00\x19\x4c" + group * 4 + b"\x00"
    some.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    message, mebibytes = said_by_another_process(some)
    assert "more parts than any" in message
    assert mebibytes < 300


@pytest.mark.parametrize("at", range(4, 60))
def test_page_headers_that_are_none(some, at):
    """Each byte of the first page's header, and some behind it, put to values that say much."""
    whole = some.read_bytes()
    report = saved.read(some).report
    for value in (0, 15, 127, 128, 255):
        some.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
        try:
            assert saved.read(some).report == report
        except SavedError as error:
            assert "\n" not in str(error)


def test_a_million_owners(some):
    """Are refused, or read: without minutes or gigabytes."""
    owner = metadata_of(some)["report"]["owners"][0]
    owners = [{**owner, "name": str(number)} for number in range(200_000)]
    forged(some, metadata=changed("report", "owners", to=owners))
    refused(some)


def test_damage_is_told(tmp_path):
    """Whatever is damaged: the file is refused, or all of it is as it was."""
    path = tmp_path / "scan.parquet"
    _, report = saved_scan(path, 3, 4)
    digests = saved.read(path).digests.tolist()
    whole = path.read_bytes()
    rng = random.Random(1)
    read = 0
    for _ in range(400):
        path.write_bytes(damage(whole, rng, lambda: rng.randrange(len(whole)), cut=0.1))
        try:
            scan = saved.read(path)
            found = bare(scan.report), scan.digests.tolist()
        except SavedError as error:
            assert "\n" not in str(error)
            continue
        read += 1
        assert found == (bare(report), digests)
    assert read < 200


def test_cut_anywhere(tmp_path):
    path = tmp_path / "scan.parquet"
    saved_scan(path, 3, 2)
    whole = path.read_bytes()
    for length in random.Random(2).sample(range(len(whole)), 100):
        path.write_bytes(whole[:length])
        refused(path)
