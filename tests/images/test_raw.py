"""Raw memory: every byte is where it lies; holes are found, not read."""

import contextlib
import gzip
import random

import pytest

import pageshare
from dumps import PAGE, coverage, elf, raw, true_to
from oracle import agrees, census
from other_readers import our_pages, volatility_pages
from pageshare.images import ImageError, image_of_buffer, open_image
from pageshare.images.ranges import State
from pageshare.space import Coverage


def test_holes_are_found(tmp_path):
    path = raw(tmp_path / "sparse", "data 16p\n hole 64p\n data 16p\n hole 32p")
    with open_image(path) as image:
        assert true_to(image)
        assert coverage(image) == Coverage(data=32, zero_inferred=96)
        assert image.ranges["state"].tolist() == [State.DATA, State.ZERO_INFERRED] * 2
    with open_image(path, holes="unknown") as image:
        assert coverage(image) == Coverage(data=32, excluded=96)


@pytest.mark.parametrize("text", ["hole 64p", "hole 64p\n data 16p", "data 16p\n hole 64p", "data 16p"])
def test_holes_at_either_end(tmp_path, text):
    with open_image(raw(tmp_path / "sparse", text)) as image:
        assert true_to(image)
        figures = coverage(image)
        assert figures.data == (16 if "data" in text else 0)
        assert figures.zero_inferred == (64 if "hole" in text else 0)


def test_a_page_that_is_data_in_part_is_read_whole(tmp_path):
    """The file system's blocks may be smaller than the pages that are asked for."""
    path = raw(tmp_path / "sparse", "data 16p\n hole 64p\n data 16p\n hole 32p")
    size = 64 * PAGE
    with open_image(path, page_size=size) as image:
        assert coverage(image, size) == Coverage(data=2)
        report = pageshare.scan(path, page_size=size)
        assert (report.pages.known, report.pages.unique) == (2, 2)


@pytest.mark.parametrize("extra", [1, 100, PAGE - 1])
def test_the_end_of_a_page_is_partial(tmp_path, extra):
    path = tmp_path / "cut.raw"
    path.write_bytes(b"\1" * (3 * PAGE + extra))
    with open_image(path) as image:
        assert coverage(image) == Coverage(data=3, partial=1, partial_bytes=extra)
        report = pageshare.scan(image)
    assert (report.pages.known, report.pages.partial, report.coverage.partial_bytes) == (3, 1, extra)


def test_less_than_a_page(tmp_path):
    path = tmp_path / "tiny"
    path.write_bytes(b"\0hell")
    with pytest.raises(ImageError, match="tiny: its 5 bytes are less than one page; .* say --format raw"):
        open_image(path)
    with open_image(path, format="raw") as image:
        assert "less than one page" in image.warnings[0]
        assert coverage(image) == Coverage(partial=1, partial_bytes=5)


def test_volatility3_reads_the_same(tmp_path):
    path = raw(tmp_path / "sparse", "data 16p\n hole 64p\n data 16p\n data 100")
    theirs = volatility_pages(path)
    with open_image(path) as image:
        assert our_pages(image, (State.DATA, State.ZERO_INFERRED)) == theirs


def test_buffers_of_any_sort():
    import array
    import mmap

    import numpy as np

    memory = np.arange(2 * PAGE // 8, dtype=np.uint64)
    with mmap.mmap(-1, 2 * PAGE) as mapped:
        mapped.write(memory.tobytes())
        for buffer in (
            memory,
            memory.reshape(2, -1),
            memory.astype(">u8").view(">f8"),
            memory.tobytes(),
            bytearray(memory.tobytes()),
            memoryview(memory.tobytes()),
            array.array("Q", memory.tolist()),
            mapped,
        ):
            with image_of_buffer(buffer) as image:
                assert image.source.size == 2 * PAGE
                assert pageshare.scan(image).pages.known == 2
            del image, buffer


def test_buffers_that_will_not_do():
    import numpy as np

    with pytest.raises(pageshare.ImageError, match="not C-contiguous"):
        image_of_buffer(np.zeros((64, 128))[:, ::2])
    with pytest.raises(pageshare.ImageError, match="empty"):
        image_of_buffer(b"")
    with pytest.raises(TypeError):
        image_of_buffer("text")  # type: ignore[arg-type]


def over(base, diff):
    """A diff snapshot as the reader gives it, over its base."""
    return open_image(diff, base=base)


def sparse(path, pages):
    """A file of a page's bytes for each of ``pages``, None where a hole is."""
    with path.open("wb") as file:
        for number, page in enumerate(pages):
            if page is not None:
                file.seek(number * PAGE)
                file.write(page)
        file.truncate(len(pages) * PAGE)
    return path


def test_a_hole_in_a_diff_has_what_lies_in_the_base(tmp_path):
    base = raw(tmp_path / "base", "data 32p\n hole 32p\n data 32p")
    diff = raw(tmp_path / "diff", "hole 16p\n data 32p\n hole 48p")
    with over(base, diff) as image:
        assert true_to(image)
        assert coverage(image) == Coverage(data=16 + 32 + 32, zero_inferred=16)
        assert image.ranges[["file", "state"]].tolist() == [(1, 0), (0, 0), (1, 2), (1, 0)]
        assert [each.path for each in image.payload] == [str(diff), str(base)]
        assert image.details == {"holes": f"{64 * PAGE} bytes", "base": str(base), "in the base": f"{48 * PAGE} bytes"}
        assert (image.warnings, image.incomplete) == ((), ())


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_diffs_over_one_base_are_counted_as_by_a_dict(tmp_path, page_size):
    rng = random.Random(page_size)
    contents = [bytes([n]) * PAGE for n in range(4)]

    def some(holes):
        return [None if rng.random() < holes else rng.choice(contents) for _ in range(128)]

    below = some(0.3)
    base = sparse(tmp_path / "base", below)
    guests, dumps = {}, {}
    for name in ("one", "two", "three"):
        own = some(0.7)
        dumps[name] = over(base, sparse(tmp_path / name, own))
        pages = b"".join(up or down or bytes(PAGE) for up, down in zip(own, below, strict=True))
        guests[name] = [pages[at : at + page_size] for at in range(0, len(pages), page_size)]
    with contextlib.ExitStack() as stack:
        for image in dumps.values():
            stack.enter_context(image)
        report = pageshare.scan(dumps, page_size=page_size)
    assert agrees(report.to_dict(), census(guests, page_size=page_size))
    assert report.pages.unknown == 0


@pytest.mark.parametrize("text", ["hole 64p", "data 64p", "hole 32p\n data 32p"])
@pytest.mark.parametrize("below", ["hole 64p", "data 64p", "data 16p\n hole 48p"])
def test_any_diff_over_any_base(tmp_path, text, below):
    with over(raw(tmp_path / "base", below), raw(tmp_path / "diff", text)) as image:
        assert true_to(image)
        figures = coverage(image)
        assert (figures.known, figures.unknown) == (64, 0)
        assert bool(image.warnings) == ("hole" not in text)


def test_the_base_itself_is_read_as_it_stands(tmp_path):
    base = raw(tmp_path / "base", "data 16p\n hole 16p")
    with over(base, base) as image:
        assert coverage(image) == Coverage(data=16, zero_inferred=16)
        assert image.others == ()


def test_a_diff_that_was_copied_without_its_holes_is_suspicious(tmp_path):
    with over(raw(tmp_path / "base", "data 16p"), raw(tmp_path / "diff", "data 16p")) as image:
        assert "no hole in it, so nothing is taken from the base" in image.warnings[0]


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (bytes(17 * PAGE), "diff: it has 65536 bytes, its base .*/base has 69632; a diff snapshot is as large"),
        (bytes(15 * PAGE + 1), "diff: it has 65536 bytes, its base .*/base has 61441"),
        (elf("note QEMU 0\n load address=0 bytes=1p"), "diff: its base .*/base: it is of the format elf; a base is"),
        (b"QEVM" + bytes(16 * PAGE - 4), "diff: its base .*/base: it is of the format qemu-migration"),
        (gzip.compress(bytes(PAGE), mtime=0), "diff: its base .*/base: it is compressed with gzip"),
        (b"", "diff: its base .*/base: the file is empty"),
    ],
)
def test_bases_that_will_not_do(tmp_path, base, said):
    (tmp_path / "base").write_bytes(base)
    with pytest.raises(pageshare.ImageError, match=said) as caught:
        over(tmp_path / "base", raw(tmp_path / "diff", "hole 16p"))
    assert "\n" not in str(caught.value)


def test_a_base_that_is_not_there(tmp_path):
    with pytest.raises(pageshare.ImageError, match="diff: its base .*/nowhere: No such file"):
        over(tmp_path / "nowhere", raw(tmp_path / "diff", "hole 16p"))


def test_a_compressed_diff_has_lost_its_holes(tmp_path):
    diff = tmp_path / "diff.gz"
    diff.write_bytes(gzip.compress(bytes(16 * PAGE)))
    with pytest.raises(pageshare.ImageError, match="a diff has to have its holes, and what is decompressed"):
        over(raw(tmp_path / "base", "data 16p"), diff)
